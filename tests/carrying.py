"""A receiver of users, and requests that carry them, made by hand: good and forged ones, signed for real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import token_hash
from s2s_mesh.keys import SigningKey

from .identity_provider import ALICE, idp_key, user_token
from .receiver import Receiver, Verdict
from .tokens import ABSENT, EDGE, LEDGER, NOW, WALLETS, good, key, sign

LOGIN = "https://login.example.com/"
OTHER_LOGIN = "https://id.example.org"
DOMAIN = "https://example.com"
ALIAS = "https://cards.example.com"  # another name of wallets
PROVEN, TXN = "/proven", "/txn"
USER_FIELD, TXN_FIELD = b"s2s-user-token", b"txn-token"
TRUST = f"""
[user_issuers."{LOGIN}"]
audiences = ["{EDGE}"]
jwks_file = "login.jwks.json"

[user_issuers."{OTHER_LOGIN}"]
audiences = ["{EDGE}"]
jwks_file = "other.jwks.json"

[[txn]]
trust_domain = "{DOMAIN}"
issuer = "{EDGE}"
audience = "{WALLETS}"

[[txn]]
trust_domain = "https://example.net"
issuer = "{EDGE}"
audience = "{LEDGER}"

[[txn]]
trust_domain = "https://example.org"
issuer = "{EDGE}"
audience = "{ALIAS}"

[[route]]
audience = "{WALLETS}"
path = "{PROVEN}"
methods = ["GET"]
user = "proven"

[[route]]
audience = "{WALLETS}"
path = "{TXN}"
methods = ["GET"]
scopes = ["cards:write"]
user = "txn"

[[route]]
audience = "{WALLETS}"
path = "/asserted"
methods = ["GET"]
user = "asserted"

[[route]]
audience = "{WALLETS}"
path = "/none"
methods = ["GET"]
"""


class CarryingReceiver(Receiver):
    """`wallets`, to which `edge` may carry users of two identity providers, whose keys are pinned.

    Args:
        folder: for the files.
        trust: text appended to the trust file.
        options: for `Service`.
    """

    def __init__(self, folder: Path, *, trust: str = "", **options: Any) -> None:
        for name, signer in (("login", idp_key()), ("other", idp_key("other"))):
            (folder / f"{name}.jwks.json").write_bytes(JWKSet([signer.public]).to_bytes())
        super().__init__(
            folder,
            edge_keys=[key()],
            ledger_keys=[key(name="ledger")],
            may_act_for=[LOGIN, OTHER_LOGIN],
            trust=TRUST + trust,
            audiences=[ALIAS],
            **options,
        )
        self.app = Starlette(
            routes=[Route(path, who, methods=["GET"]) for path in (PROVEN, TXN, "/asserted", "/none")],
            middleware=[self.service.middleware],
        )

    def get(self, path: str, lines: Sequence[tuple[bytes, bytes]]) -> tuple[int, str | None]:
        """Status and reason of one request."""
        verdict = self.ask(path, lines)
        return verdict.status, verdict.reason

    def ask(self, path: str, lines: Sequence[tuple[bytes, bytes]]) -> Verdict:
        """One request."""
        return self.call(path=path, headers=lines)


async def who(request: Request) -> JSONResponse:
    """The caller, and the user as the application sees it."""
    user = request.user.user
    facts = ("issuer", "subject", "mode", "carried_by", "expires_at", "auth_time", "txn")
    return JSONResponse(
        {
            "caller": request.user.issuer,
            "scopes": sorted(request.user.scopes),
            "user": None if user is None else {name: getattr(user, name) for name in facts},
            "holds": []
            if user is None
            else [name for name in ("user_token", "txn_token") if getattr(user, name) is not None],
        }
    )


def carrying(subject: str = ALICE, issuer: str = LOGIN, **changes: Any) -> bytes:
    """Edge's token for wallets on behalf of a user."""
    members = {
        "sub": subject,
        "sub_id": {"format": "iss_sub", "iss": issuer, "sub": subject},
        "act": {"iss": EDGE, "sub": EDGE},
        **changes,
    }
    return good(**members)


def lines(access: bytes, *beside: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The field lines of a request."""
    return [(b"authorization", b"Bearer " + access), *beside]


def proven(
    evidence: bytes | None = None, *, field: bytes | None = None, **changes: Any
) -> list[tuple[bytes, bytes]]:
    """A request with a user's token, bound to it; `field` is sent in its place."""
    evidence = user_token(LOGIN) if evidence is None else evidence
    bound = {"oth": {"s2s-user-token": token_hash(evidence)}, **changes}
    return lines(carrying(**bound), (USER_FIELD, evidence if field is None else field))


def txn_claims(**changes: Any) -> dict[str, Any]:
    """Good claims of a transaction token that edge mints for Alice."""
    members = {
        "iss": EDGE,
        "aud": DOMAIN,
        "iat": NOW,
        "exp": NOW + 300,
        "txn": "txn-1",
        "sub": ALICE,
        "sub_id": {"format": "iss_sub", "iss": LOGIN, "sub": ALICE},
        "scope": "cards:write entries:write",
        "req_wl": EDGE,
        **changes,
    }
    return {name: value for name, value in members.items() if value is not ABSENT}


def txn_token(signer: SigningKey | None = None, head: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A transaction token of edge."""
    signer = signer or key()
    header = {"alg": signer.alg, "kid": signer.kid, "typ": "txntoken+jwt", **(head or {})}
    members = {name: value for name, value in header.items() if value is not ABSENT}
    return sign(members, txn_claims(**changes), signer)


def in_transaction(
    evidence: bytes | None = None, *, field: bytes | None = None, **changes: Any
) -> list[tuple[bytes, bytes]]:
    """A request with a transaction token, bound to it; `field` is sent in its place."""
    evidence = txn_token() if evidence is None else evidence
    access = carrying(**{"tth": token_hash(evidence), **changes})
    return lines(access, (TXN_FIELD, evidence if field is None else field))
