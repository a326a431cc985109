"""What a user's own token must say: every claim that decides something, as identity providers write it."""

from __future__ import annotations

from typing import Any

import pytest

from s2s_mesh.errors import Reason, TokenRejected
from s2s_mesh.identity import EndUser
from s2s_mesh.jws import decode
from s2s_mesh.trust import UserIssuer
from s2s_mesh.user_token import check_bound, check_may_act, validate

from .hostile import rows
from .identity_provider import ALICE, idp_key, user_claims, user_header
from .tokens import ABSENT, EDGE, LEDGER, NOW, WALLETS, sign

R = Reason
LOGIN = "https://login.example.com/"
RULES = UserIssuer(issuer=LOGIN, audiences=frozenset({EDGE}))
PORTAL = "https://portal.example.com"


def user_of(changes: dict[str, Any], *, several: bool = False) -> EndUser:
    """The user that good claims name, changed where told."""
    rules = UserIssuer(issuer=LOGIN, audiences=RULES.audiences, multi_aud=several)
    said = validate(
        user_claims(LOGIN, **changes), rules, NOW, audiences={EDGE}, services={EDGE, WALLETS, LEDGER}
    )
    return said.user


TABLE: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("as most providers write it", {}, None),
    ("times in fractions", {"iat": NOW - 0.5, "exp": NOW + 60.75, "nbf": NOW - 0.25}, None),
    (
        "no jti, no scope, no login facts",
        dict.fromkeys(("jti", "scope", "acr", "amr", "auth_time"), ABSENT),
        None,
    ),
    ("a transaction of the provider's own", {"txn": {"any": "thing"}}, None),
    ("a list of one audience", {"aud": [EDGE]}, None),
    ("expired just now, within the leeway", {"iat": NOW - 60, "exp": NOW - 29}, None),
    ("another provider", {"iss": "https://login.example.org/"}, R.UNKNOWN_ISSUER),
    ("the provider without its slash", {"iss": LOGIN[:-1]}, R.UNKNOWN_ISSUER),
    ("no provider", {"iss": ABSENT}, R.UNKNOWN_ISSUER),
    ("for another service", {"aud": PORTAL}, R.WRONG_AUDIENCE),
    ("for us, who are not who it is made for", {"aud": WALLETS}, R.WRONG_AUDIENCE),
    ("for nobody", {"aud": ABSENT}, R.WRONG_AUDIENCE),
    ("for an empty list", {"aud": []}, R.WRONG_AUDIENCE),
    ("for two, where one is allowed", {"aud": [EDGE, PORTAL]}, R.WRONG_AUDIENCE),
    ("for an object", {"aud": {EDGE: EDGE}}, R.WRONG_AUDIENCE),
    ("for the audience with a slash", {"aud": f"{EDGE}/"}, R.WRONG_AUDIENCE),
    ("expired", {"iat": NOW - 600, "exp": NOW - 30}, R.EXPIRED),
    ("expired, a fraction ago", {"iat": NOW - 600, "exp": NOW - 29.5}, R.EXPIRED),
    ("not yet valid", {"nbf": NOW + 31}, R.NOT_YET_VALID),
    ("not yet valid, for a fraction", {"nbf": NOW + 30.5}, R.NOT_YET_VALID),
    ("from the future", {"iat": NOW + 31, "exp": NOW + 90}, R.NOT_YET_VALID),
    ("for a day", {"exp": NOW + 86400}, R.LIFE_TOO_LONG),
    ("for ever", {"exp": ABSENT}, R.BAD_TIME_CLAIM),
    ("never issued", {"iat": ABSENT}, R.BAD_TIME_CLAIM),
    ("times as texts", {"exp": str(NOW + 60)}, R.BAD_TIME_CLAIM),
    ("times as truths", {"iat": True}, R.BAD_TIME_CLAIM),
    ("beyond all calendars", {"exp": 1e300}, R.BAD_TIME_CLAIM),
    ("milliseconds", {"iat": NOW * 1000, "exp": (NOW + 60) * 1000}, R.LIFE_TOO_LONG),
    ("nobody", {"sub": ABSENT}, R.BAD_USER),
    ("an empty name", {"sub": ""}, R.BAD_USER),
    ("a number", {"sub": 248289761001}, R.BAD_USER),
    ("a long name", {"sub": "x" * 601}, R.BAD_USER),
    ("a line break", {"sub": "alice\nbob"}, R.BAD_USER),
    ("a service's id (row 39)", {"sub": EDGE}, R.BAD_USER),
    ("ours", {"sub": WALLETS}, R.BAD_USER),
    ("somebody who acts for the user", {"act": {"sub": "https://bot.example.com"}}, R.BAD_USER),
    ("a login time that is a text", {"auth_time": "now"}, R.BAD_USER),
    ("a login time before all times", {"auth_time": -1}, R.BAD_USER),
    ("acr that is a list", {"acr": ["a"]}, R.BAD_USER),
    ("amr that is a text", {"amr": "pwd"}, R.BAD_USER),
    ("amr of numbers", {"amr": [1]}, R.BAD_USER),
]


@pytest.mark.parametrize(("changes", "reason"), rows(TABLE))
def test_claims(changes: dict[str, Any], reason: Reason | None) -> None:
    """Good claims name a user; each change to them is refused for what it changes."""
    if reason is None:
        assert user_of(changes).subject == ALICE
        return
    with pytest.raises(TokenRejected) as refusal:
        user_of(changes)
    assert refusal.value.reason is reason


def test_what_is_known_of_the_user() -> None:
    """Whose user, until when, and how it logged in; never the token, and no other claim."""
    assert user_of({"exp": NOW + 60.9, "auth_time": NOW - 5.5, "email": "alice@example.com"}) == EndUser(
        issuer=LOGIN,
        subject=ALICE,
        expires_at=NOW + 60,
        auth_time=NOW - 6,
        acr="urn:example:loa:2",
        amr=("pwd", "otp"),
    )


SEVERAL: list[tuple[str, Any, Reason | None]] = [
    ("we and another", [EDGE, f"{LOGIN}userinfo"], None),
    ("another and we", [f"{LOGIN}userinfo", EDGE], None),
    ("we alone", EDGE, None),
    ("two others", [PORTAL, WALLETS], R.WRONG_AUDIENCE),
    ("we and a number", [EDGE, 1], R.WRONG_AUDIENCE),
    ("we and ten others", [EDGE, *(f"https://{n}.example.com" for n in range(10))], R.WRONG_AUDIENCE),
]


@pytest.mark.parametrize(("aud", "reason"), rows(SEVERAL))
def test_several_audiences(aud: Any, reason: Reason | None) -> None:
    """With `multi_aud = true` the others do not matter, as long as all are texts."""
    if reason is None:
        assert user_of({"aud": aud}, several=True).subject == ALICE
        return
    with pytest.raises(TokenRejected) as refusal:
        user_of({"aud": aud}, several=True)
    assert refusal.value.reason is reason


MAY_ACT: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("nobody is named", {}, None),
    ("the caller", {"may_act": {"sub": EDGE}}, None),
    ("the caller in full", {"may_act": {"iss": EDGE, "sub": EDGE, "client_id": "x"}}, None),
    ("another", {"may_act": {"sub": LEDGER}}, R.BAD_USER),
    ("the caller, as somebody's", {"may_act": {"iss": LOGIN, "sub": EDGE}}, R.BAD_USER),
    ("no name", {"may_act": {}}, R.BAD_USER),
    ("null", {"may_act": None}, R.BAD_USER),
    ("a text", {"may_act": EDGE}, R.BAD_USER),
    ("several", {"may_act": [{"sub": EDGE}]}, R.BAD_USER),
]


@pytest.mark.parametrize(("claims", "reason"), rows(MAY_ACT))
def test_who_may_act(claims: dict[str, Any], reason: Reason | None) -> None:
    """A token that says who may act for its user is evidence for that caller and nobody else."""
    if reason is None:
        check_may_act(claims, EDGE)
        return
    with pytest.raises(TokenRejected) as refusal:
        check_may_act(claims, EDGE)
    assert refusal.value.reason is reason


BOUND: list[tuple[str, dict[str, Any], str | None, Reason | None]] = [
    ("a plain bearer", {}, None, None),
    ("the key that was proved", {"cnf": {"jkt": "key-1"}}, "key-1", None),
    ("a bound token alone (row 42)", {"cnf": {"jkt": "key-1"}}, None, R.PROOF_MISSING),
    ("another key", {"cnf": {"jkt": "key-2"}}, "key-1", R.PROOF_MISMATCH),
    ("a binding that is not known", {"cnf": {"x5t#S256": "key-1"}}, "key-1", R.PROOF_MISMATCH),
    ("two bindings", {"cnf": {"jkt": "key-1", "x5t#S256": "x"}}, "key-1", R.PROOF_MISMATCH),
    ("null", {"cnf": None}, None, R.PROOF_MISSING),
    ("a proof for a plain bearer", {}, "key-1", R.PROOF_MISMATCH),
]


@pytest.mark.parametrize(("claims", "proved", "reason"), rows(BOUND))
def test_tokens_that_are_bound_to_a_key(
    claims: dict[str, Any], proved: str | None, reason: Reason | None
) -> None:
    """A bound token is a credential only with a proof of its key; a plain one never has a proof."""
    if reason is None:
        check_bound(claims, proved)
        return
    with pytest.raises(TokenRejected) as refusal:
        check_bound(claims, proved)
    assert refusal.value.reason is reason


HEADERS: list[tuple[str, dict[str, Any], str, Reason | None]] = [
    ("JWT", {}, "jwt", None),
    ("an access token", {"typ": "application/AT+JWT"}, "at+jwt", None),
    ("no typ, as many providers have it", {"typ": ABSENT}, "", None),
    ("typ that is no text", {"typ": None}, "", R.BAD_TYPE),
    ("no kid", {"kid": ABSENT}, "", R.BAD_KID),
    ("no alg", {"alg": ABSENT}, "", R.BAD_ALGORITHM),
    ("a certificate's hash", {"x5t": "x"}, "", R.HEADER_MEMBER),
    ("a key of its own", {"jwk": {}}, "", R.HEADER_MEMBER),
    ("a key elsewhere", {"jku": "https://evil.example.org/keys"}, "", R.HEADER_MEMBER),
    ("critical members", {"crit": ["exp"]}, "", R.HEADER_MEMBER),
]


@pytest.mark.parametrize(("changes", "typ", "reason"), rows(HEADERS))
def test_headers(changes: dict[str, Any], typ: str, reason: Reason | None) -> None:
    """`typ` may be missing, and everything else is as strict as for our own tokens: `kid` is required."""
    token = sign(user_header(idp_key(), **changes), user_claims(LOGIN), idp_key())
    if reason is None:
        assert decode(token, typ_required=False).header.typ == typ
        return
    with pytest.raises(TokenRejected) as refusal:
        decode(token, typ_required=False)
    assert refusal.value.reason is reason


def test_our_own_tokens_always_have_a_type() -> None:
    """What is read for a provider's token is not remembered for one of ours."""
    token = sign(user_header(idp_key(), typ=ABSENT), user_claims(LOGIN), idp_key())
    decode(token, typ_required=False)
    with pytest.raises(TokenRejected) as refusal:
        decode(token)
    assert refusal.value.reason is Reason.BAD_TYPE
