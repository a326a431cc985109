"""The claims of a transaction token: what we write, and what every receiver insists on."""

from __future__ import annotations

from typing import Any

import pytest

from s2s_mesh.errors import Reason, TokenRejected
from s2s_mesh.identity import EndUser, ServiceId
from s2s_mesh.trust import IssuerTrust
from s2s_mesh.txn_token import MAX_LIFE, build, validate

from .hostile import rows
from .tokens import ABSENT, EDGE, LEDGER, NOW, WALLETS

R = Reason
LOGIN = "https://login.example.com/"
DOMAIN = "https://example.com"
RULES = IssuerTrust(issuer=ServiceId(EDGE))
ALICE = EndUser(
    issuer=LOGIN,
    subject="248289761001",
    expires_at=NOW + 1800,
    auth_time=NOW - 60,
    acr="urn:example:loa:2",
    amr=("pwd", "otp"),
    user_token="the.users.token",
)


def built(user: EndUser = ALICE, *, life: int = 300) -> dict[str, Any]:
    return build(
        issuer=EDGE,
        trust_domain=DOMAIN,
        user=user,
        scopes=["cards:write", "cards:read"],
        now=NOW + 0.5,
        life=life,
        tctx={"card": "c-1"},
        rctx={"req_ip": "192.0.2.1"},
    )


def test_what_is_written() -> None:
    """All required claims of the draft, whose user it is and how it logged in, and nothing of its token."""
    claims = built()
    assert len(claims.pop("txn")) == 22
    assert claims == {
        "iss": EDGE,
        "aud": DOMAIN,
        "iat": NOW,
        "exp": NOW + 300,
        "sub": ALICE.subject,
        "sub_id": {"format": "iss_sub", "iss": LOGIN, "sub": ALICE.subject},
        "scope": "cards:read cards:write",
        "req_wl": EDGE,
        "auth_time": NOW - 60,
        "acr": "urn:example:loa:2",
        "amr": ["pwd", "otp"],
        "tctx": {"card": "c-1"},
        "rctx": {"req_ip": "192.0.2.1"},
    }


def test_it_never_outlives_the_user() -> None:
    """What is known of the user until half a minute from now says nothing about later (U4)."""
    short = EndUser(issuer=LOGIN, subject="bob", expires_at=NOW + 30.9)
    claims = build(issuer=EDGE, trust_domain=DOMAIN, user=short, scopes=["a"], now=NOW)
    assert claims["exp"] == NOW + 30
    assert claims.keys().isdisjoint({"tctx", "rctx", "acr", "amr", "auth_time"})


def test_every_transaction_has_an_id_of_its_own() -> None:
    """Two transactions of one user can be told apart in every log."""
    assert built()["txn"] != built()["txn"]


TABLE: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("as we write it", {}, None),
    ("without contexts", {"tctx": ABSENT, "rctx": ABSENT}, None),
    ("with a claim that nobody knows", {"x": 1}, None),
    ("another minter", {"iss": LEDGER}, R.UNKNOWN_ISSUER),
    ("no minter", {"iss": ABSENT}, R.UNKNOWN_ISSUER),
    ("another trust domain", {"aud": "https://example.org"}, R.WRONG_AUDIENCE),
    ("for us, as an access token is", {"aud": WALLETS}, R.WRONG_AUDIENCE),
    ("a list of trust domains", {"aud": [DOMAIN]}, R.WRONG_AUDIENCE),
    ("no trust domain", {"aud": ABSENT}, R.WRONG_AUDIENCE),
    ("expired", {"iat": NOW - 300, "exp": NOW - 30}, R.EXPIRED),
    ("for an hour", {"exp": NOW + MAX_LIFE + 1}, R.LIFE_TOO_LONG),
    ("for ever", {"exp": ABSENT}, R.BAD_TIME_CLAIM),
    ("never issued", {"iat": ABSENT}, R.BAD_TIME_CLAIM),
    ("fractions, which no service writes", {"exp": NOW + 60.5}, R.BAD_TIME_CLAIM),
    ("from the future", {"iat": NOW + 31, "exp": NOW + 60}, R.NOT_YET_VALID),
    ("no transaction", {"txn": ABSENT}, R.BAD_USER),
    ("a transaction that is a number", {"txn": 1}, R.BAD_USER),
    ("a transaction of 300 characters", {"txn": "t" * 300}, R.BAD_USER),
    ("nobody", {"sub": ABSENT}, R.BAD_USER),
    ("nobody's user", {"sub_id": ABSENT}, R.BAD_USER),
    ("two users", {"sub": "bob"}, R.BAD_USER),
    ("another form of identifier", {"sub_id": {"format": "email", "email": "a@example.com"}}, R.BAD_USER),
    (
        "a service (row 39)",
        {"sub": LEDGER, "sub_id": {"format": "iss_sub", "iss": LOGIN, "sub": LEDGER}},
        R.BAD_USER,
    ),
    ("no scope: not everything", {"scope": ABSENT}, R.BAD_SCOPE),
    ("an empty scope", {"scope": ""}, R.BAD_SCOPE),
    ("scopes in a list", {"scope": ["cards:write"]}, R.BAD_SCOPE),
    ("nobody asked for it", {"req_wl": ABSENT}, R.BAD_USER),
    ("asked for by another", {"req_wl": LEDGER}, R.BAD_USER),
    ("context that is no object", {"tctx": "x"}, R.BAD_USER),
    ("circumstances that are no object", {"rctx": []}, R.BAD_USER),
    ("bound to a key", {"cnf": {"jkt": "x"}}, R.BAD_USER),
    ("an actor", {"act": {"sub": EDGE}}, R.BAD_USER),
]


@pytest.mark.parametrize(("changes", "reason"), rows(TABLE))
def test_claims(changes: dict[str, Any], reason: Reason | None) -> None:
    """What we write is accepted; each change to it is refused for what it changes."""
    claims = {name: value for name, value in {**built(), **changes}.items() if value is not ABSENT}
    if reason is None:
        said = validate(claims, RULES, DOMAIN, {EDGE, LEDGER}, NOW)
        assert said.scopes == {"cards:read", "cards:write"}
        assert (said.user.issuer, said.user.subject, said.user.txn) == (LOGIN, ALICE.subject, claims["txn"])
        assert (said.user.expires_at, said.user.amr) == (NOW + 300, ("pwd", "otp"))
        return
    with pytest.raises(TokenRejected) as refusal:
        validate(claims, RULES, DOMAIN, {EDGE, LEDGER}, NOW)
    assert refusal.value.reason is reason
