"""Tokens of foreign issuers: what is accepted, what each relaxation changes, and for whom they vouch."""

from __future__ import annotations

from typing import Any

import pytest

from s2s_mesh import foreign_token
from s2s_mesh.drivers import drive
from s2s_mesh.errors import Reason, TokenRejected
from s2s_mesh.identity import Principal
from s2s_mesh.jwks import JWKSet
from s2s_mesh.resolver import JWKSCacheLimits, KeyResolver
from s2s_mesh.trust import TrustConfig
from s2s_mesh.verifier import Verifier

from . import tokens
from .hostile import rows
from .tokens import ABSENT, NOW, WALLETS

ACCOUNTS = "https://accounts.example.com/"
SETTLEMENT = "https://settlement.example.com"
BATCH = "https://batch.example.com"
SUB = "payments-settlement"

FILE = """
version = 1
[foreign_issuers."https://accounts.example.com/"]
jwks_uri = "https://accounts.example.com/keys"
{relaxed}
[[subject]]
issuer = "https://accounts.example.com/"
subject = "payments-settlement"
service = "https://settlement.example.com"
{condition}
[[subject]]
issuer = "https://accounts.example.com/"
subject = "nightly"
service = "https://batch.example.com"
[[allow]]
issuer = "https://settlement.example.com"
audience = "https://wallets.example.com"
scopes = ["cards:read", "cards:write"]
[[route]]
audience = "https://wallets.example.com"
path = "/"
methods = ["GET"]
scopes = ["cards:read", "cards:write"]
"""


def trust(relaxed: str = "", condition: str = "") -> TrustConfig:
    return TrustConfig.parse(FILE.format(relaxed=relaxed, condition=condition)).for_audiences([WALLETS])


def claims(**changes: Any) -> dict[str, Any]:
    """What an authorization server says about a client; `ABSENT` removes a member."""
    changes = {"iss": ACCOUNTS, "sub": SUB, "client_id": SUB, "scope": ABSENT, "exp": NOW + 600, **changes}
    return tokens.claims(**changes)


def accept(
    config: TrustConfig, payload: dict[str, Any], *, head: dict[str, Any] | None = None, alg: str = "ES256"
) -> Principal:
    """What a receiver says that has fetched the issuer's keys."""
    signer = tokens.key(alg, "accounts")
    resolver = KeyResolver(JWKSCacheLimits())
    resolver.succeeded(ACCOUNTS, JWKSet([signer.public]), NOW)
    verifier = Verifier(audiences=[WALLETS], trust=config, resolver=resolver)
    token = tokens.sign(tokens.header(signer, **(head or {})), payload, signer)
    principal = drive(verifier.verify(token, NOW), _Nobody(), lambda: NOW)
    assert verifier.cached(token, NOW) is principal
    return principal


class _Nobody:
    """Nothing is asked of anybody here."""

    wait_seconds = 0.0

    def begin(self, _effect: object) -> None:
        return None


def test_the_caller_is_the_service_for_which_the_issuer_vouches() -> None:
    """The principal's issuer is the service; who signed for it stands beside."""
    caller = accept(trust(), claims())
    assert (caller.issuer, caller.vouched_by, caller.subject) == (SETTLEMENT, ACCOUNTS, SUB)
    assert caller.scopes == {"cards:read", "cards:write"}
    assert foreign_token.find({"iss": ACCOUNTS}, trust().foreign_issuers) is not None


STRICT = ""
HOSTILE: list[tuple[str, str, dict[str, Any], dict[str, Any], Reason | None]] = [
    ("a client's token", STRICT, {}, {}, None),
    ("iss without its slash", STRICT, {"iss": ACCOUNTS.rstrip("/")}, {}, Reason.UNKNOWN_ISSUER),
    ("another sub", STRICT, {"sub": "somebody"}, {}, Reason.BAD_SUBJECT),
    ("no sub", STRICT, {"sub": ABSENT}, {}, Reason.BAD_SUBJECT),
    ("a service without a grant", STRICT, {"sub": "nightly"}, {}, Reason.BAD_SUBJECT),
    ("for another audience", STRICT, {"aud": "https://ledger.example.com"}, {}, Reason.WRONG_AUDIENCE),
    ("for us by another name", STRICT, {"aud": "wallets"}, {}, Reason.WRONG_AUDIENCE),
    ("for others as well", STRICT, {"aud": [WALLETS, "userinfo"]}, {}, Reason.WRONG_AUDIENCE),
    ("no jti", STRICT, {"jti": ABSENT}, {}, Reason.BAD_JTI),
    ("an hour", STRICT, {"exp": NOW + 3600}, {}, Reason.LIFE_TOO_LONG),
    ("expired", STRICT, {"iat": NOW - 700, "exp": NOW - 100}, {}, Reason.EXPIRED),
    ("bound to a key", STRICT, {"cnf": {"jkt": "x"}}, {}, Reason.PROOF_MISSING),
    ("on behalf of a user", STRICT, {"act": {"sub": SUB}}, {}, Reason.BAD_USER),
    ("typ JWT", STRICT, {}, {"typ": "JWT"}, Reason.BAD_TYPE),
    ("no typ", STRICT, {}, {"typ": ABSENT}, Reason.BAD_TYPE),
    ("scope as a list", STRICT, {"scope": ["cards:read"]}, {}, Reason.BAD_SCOPE),
]


@pytest.mark.parametrize(("relaxed", "changes", "head", "reason"), rows(HOSTILE))
def test_everything_that_is_not_named_is_refused(
    relaxed: str, changes: dict[str, Any], head: dict[str, Any], reason: Reason | None
) -> None:
    """Each row changes one thing of a good token of a foreign issuer."""
    if reason is None:
        accept(trust(relaxed), claims(**changes), head=head)
        return
    with pytest.raises(TokenRejected) as refused:
        accept(trust(relaxed), claims(**changes), head=head)
    assert refused.value.reason is reason
