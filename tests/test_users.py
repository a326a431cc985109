"""The end user in a service token: rules U1 to U4 and U8 through the door, and how such tokens are built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from s2s_mesh import ConfigError, EndUser, NoUser, Reason, UserExpired, users
from s2s_mesh import claims as claims_
from s2s_mesh.identity import Actor
from s2s_mesh.jws import token_hash

from .hostile import rows
from .receiver import Receiver
from .tokens import (
    ABSENT,
    CARRIED,
    EDGE,
    LEDGER,
    LOGIN,
    NOW,
    WALLETS,
    actors,
    carrying,
    frozen,
    good,
    key,
    sub_id,
)

R = Reason
OTHER = "https://other.example.com"
USER = EndUser(issuer=LOGIN, subject="248289761001", expires_at=NOW + 3600, auth_time=NOW - 60, amr=("mfa",))
ROUTES = "".join(
    f'[[route]]\naudience = "{WALLETS}"\npath = "{path}"\nmethods = ["GET"]\nuser = "{user}"\n'
    for path, user in (("/user", "asserted"), ("/read", "none"), ("/proven", "proven"), ("/txn", "txn"))
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with frozen():
        made = Receiver(
            tmp_path_factory.mktemp("users"),
            edge_keys=[key()],
            ledger_keys=[key(name="second")],
            may_act_for=[LOGIN],
            trust=ROUTES,
        )
        yield made
        made.close()


AS_LEDGER = {"iss": LEDGER, "client_id": LEDGER, "act": actors(LEDGER)}
BAD_MEMBERS: dict[str, list[Any]] = {
    "auth_time": ["1", True, -1, 1.5, [NOW]],
    "acr": [7, "", ["a"], "x" * 257, "a\n"],
    "amr": ["mfa", None, [7], [[]], {"a": 1}, ["x"] * 17],
    "txn": [7, "", ["a"], "x" * 257],
}
ROWS: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("a good token", {}, None),
    # U1: whose users this caller may carry
    ("of another identity provider", {"sub_id": sub_id(iss=OTHER)}, R.USER_NOT_GRANTED),
    ("issuer without its slash", {"sub_id": sub_id(iss=LOGIN[:-1])}, R.USER_NOT_GRANTED),
    ("issuer in upper case", {"sub_id": sub_id(iss=LOGIN.upper())}, R.USER_NOT_GRANTED),
    ("issuer: the caller", {"sub_id": sub_id(iss=EDGE)}, R.USER_NOT_GRANTED),
    # U2: who acts
    ("act.iss left out", {"act": {"sub": EDGE}}, None),
    ("act of another service", {"act": actors(LEDGER)}, R.BAD_USER),
    ("act.sub of another service", {"act": {"iss": EDGE, "sub": LEDGER}}, R.BAD_USER),
    ("act.iss of another service", {"act": {"iss": LEDGER, "sub": EDGE}}, R.BAD_USER),
    ("act.iss null", {"act": {"iss": None, "sub": EDGE}}, R.BAD_USER),
    ("act.sub missing", {"act": {"iss": EDGE}}, R.BAD_USER),
    ("act.sub a number", {"act": {"iss": EDGE, "sub": 7}}, R.BAD_USER),
    ("act.sub a list", {"act": {"iss": EDGE, "sub": [EDGE]}}, R.BAD_USER),
    ("act empty", {"act": {}}, R.BAD_USER),
    ("act a list", {"act": [actors(EDGE)]}, R.BAD_USER),
    ("act a text", {"act": EDGE}, R.BAD_USER),
    ("act null", {"act": None}, R.BAD_USER),
    ("no act", {"act": ABSENT}, R.BAD_USER),
    ("no act, no sub_id", {"act": ABSENT, "sub_id": ABSENT}, R.BAD_SUBJECT),
    ("client_id of another service", {"client_id": LEDGER}, R.BAD_USER),
    ("no client_id", {"client_id": ABSENT}, R.BAD_USER),
    ("client_id: the user", {"client_id": "248289761001"}, R.BAD_USER),
    *[
        (f"a user called {service}", {"sub": service, "sub_id": sub_id(sub=service)}, R.BAD_USER)
        for service in (EDGE, WALLETS, LEDGER)
    ],
    # U3: who acted before
    ("one before", {"act": actors(EDGE, "https://a.example.com")}, None),
    ("a privileged one before", {"act": actors(EDGE, LEDGER)}, None),
    ("four in all", {"act": actors(EDGE, "a", "b", "c")}, None),
    ("five in all", {"act": actors(EDGE, "a", "b", "c", "d")}, R.BAD_USER),
    ("six, the last nothing", {"act": actors(EDGE, "a", "b", "c", "d", "")}, R.BAD_USER),
    ("a circle", {"act": actors(EDGE, "a", EDGE)}, R.BAD_USER),
    ("a circle, iss left out", {"act": {"sub": EDGE, "act": {"sub": EDGE}}}, R.BAD_USER),
    ("a circle further in", {"act": actors(EDGE, "a", "a")}, R.BAD_USER),
    ("exp in act", {"act": {**actors(EDGE), "exp": NOW + 60}}, R.BAD_USER),
    ("aud in act", {"act": {**actors(EDGE), "aud": WALLETS}}, R.BAD_USER),
    ("nbf in the act before", {"act": {"sub": EDGE, "act": {"sub": "a", "nbf": 1}}}, R.BAD_USER),
    ("an act before that is null", {"act": {"sub": EDGE, "act": None}}, R.BAD_USER),
    ("an act before that is empty", {"act": {"sub": EDGE, "act": {}}}, R.BAD_USER),
    ("one before of 513 characters", {"act": actors(EDGE, "x" * 513)}, R.BAD_USER),
    # sub_id (RFC 9493 section 3.2.4)
    ("no sub_id", {"sub_id": ABSENT}, R.BAD_USER),
    ("sub_id null", {"sub_id": None}, R.BAD_USER),
    ("sub_id a text", {"sub_id": "248289761001"}, R.BAD_USER),
    ("sub_id a list", {"sub_id": [sub_id()]}, R.BAD_USER),
    ("another format", {"sub_id": {"format": "opaque", "id": "248289761001"}}, R.BAD_USER),
    ("another format, same members", {"sub_id": sub_id(format="opaque")}, R.BAD_USER),
    ("format in upper case", {"sub_id": sub_id(format="ISS_SUB")}, R.BAD_USER),
    ("sub_id without iss", {"sub_id": sub_id(iss=ABSENT)}, R.BAD_USER),
    ("sub_id without sub", {"sub_id": sub_id(sub=ABSENT)}, R.BAD_USER),
    ("sub_id with more", {"sub_id": sub_id(email="a@example.com")}, R.BAD_USER),
    ("sub_id.iss a list", {"sub_id": sub_id(iss=[LOGIN])}, R.BAD_USER),
    ("sub_id.iss empty", {"sub_id": sub_id(iss="")}, R.BAD_USER),
    ("sub_id of another user", {"sub_id": sub_id(sub="2")}, R.BAD_USER),
    ("sub of another user", {"sub": "2"}, R.BAD_USER),
    # the user
    *[
        (f"sub {str(sub)[:20]!r}", {"sub": sub, "sub_id": sub_id(sub=sub)}, R.BAD_USER)
        for sub in ("", None, 7, True, ["u1"], {"sub": "u1"}, "x" * 601, "u1\n", "u1\0", "u1\u202e")
    ],
    ("sub of 600 characters", {"sub": "x" * 600, "sub_id": sub_id(sub="x" * 600)}, None),
    ("sub with an accent", {"sub": "é", "sub_id": sub_id(sub="é")}, None),
    ("sub missing", {"sub": ABSENT}, R.BAD_USER),
    ("auth_time, acr, amr, txn", {"auth_time": NOW, "acr": "urn:x", "amr": ["mfa", "otp"], "txn": "t"}, None),
    *[
        (f"{name} {value!r:.20}", {name: value}, R.BAD_USER)
        for name, values in BAD_MEMBERS.items()
        for value in values
    ],
    ("bound to a key, without its proof", {"cnf": {"jkt": "x"}}, R.PROOF_MISSING),
    ("expired", {"iat": NOW - 200, "exp": NOW - 60}, R.EXPIRED),
]


@pytest.mark.parametrize(("changes", "reason"), rows(ROWS))
def test_a_user_is_let_in_only_as_every_rule_says(
    door: Receiver, changes: dict[str, Any], reason: Reason | None
) -> None:
    """Each row is accepted, or refused with 401 and, in the log only, its one reason."""
    verdict = door.call(carrying(**changes), path="/user")
    assert (verdict.status, verdict.reason) == ((200, None) if reason is None else (401, reason.value))


def test_a_caller_without_may_act_for_carries_nobody(door: Receiver) -> None:
    """Ledger may call, but its grant names no identity provider."""
    verdict = door.call(good(key(name="second"), **{**CARRIED, **AS_LEDGER}), path="/user")
    assert (verdict.status, verdict.reason) == (401, R.USER_NOT_GRANTED.value)


def test_the_application_sees_the_user_and_the_caller_apart(door: Receiver) -> None:
    """Who calls is the issuer, for whom is the user; who carried the user before is only said to be so."""
    body = door.call(
        carrying(act=actors(EDGE, "https://a.example.com"), auth_time=NOW, acr="urn:x", amr=["mfa"], txn="t"),
        path="/user",
    ).body
    assert body == {
        "caller": EDGE,
        "user": {
            "issuer": LOGIN,
            "subject": "248289761001",
            "expires_at": NOW + 120,
            "auth_time": NOW,
            "acr": "urn:x",
            "amr": ["mfa"],
            "txn": "t",
            "mode": "asserted",
            "carried_by": EDGE,
            "unverified_history": [{"issuer": "https://a.example.com", "subject": "https://a.example.com"}],
            "user_token": None,
            "txn_token": None,
        },
    }


SERVICE, WITH_USER = good(), carrying()
AT_ROUTES: list[tuple[str, str, bytes, Reason | None]] = [
    ("a user where one is wanted", "/user", WITH_USER, None),
    ("none where one is wanted", "/user", SERVICE, R.USER_REQUIRED),
    ("none where none is wanted", "/read", SERVICE, None),
    ("a user where none is wanted", "/read", WITH_USER, R.USER_NOT_ACCEPTED),
    ("an asserted one where proof is wanted", "/proven", WITH_USER, R.USER_UNPROVEN),
    ("none where proof is wanted", "/proven", SERVICE, R.USER_REQUIRED),
    ("an asserted one where a transaction is wanted", "/txn", WITH_USER, R.USER_UNPROVEN),
    ("none where a transaction is wanted", "/txn", SERVICE, R.USER_REQUIRED),
]


@pytest.mark.parametrize(("path", "token", "reason"), rows(AT_ROUTES))
def test_each_route_names_whether_it_wants_a_user(
    door: Receiver, path: str, token: bytes, reason: Reason | None
) -> None:
    """U8: 403 for the wrong kind, never an anonymous user; also where the token was verified before."""
    for _ in range(2):
        verdict = door.call(token, path=path)
        assert (verdict.status, verdict.reason) == ((200, None) if reason is None else (403, reason.value))


def test_without_route_rules_a_granted_user_is_let_in(tmp_path: Any) -> None:
    """An audience without any [[route]] row has nothing but may_act_for to go by."""
    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key()], may_act_for=[LOGIN])
        assert receiver.call(carrying(), path="/user").body["user"]["subject"] == "248289761001"
        assert receiver.call(good(), path="/user").body["user"] is None
        receiver.close()


def test_a_token_for_a_user_has_exactly_the_members_of_the_profile() -> None:
    """RFC 8693's delegation shape; what the identity provider said is copied as it is."""
    user = msgspec.structs.replace(USER, acr="urn:x", txn="97053963")
    built = claims_.build(issuer=EDGE, audience=WALLETS, scopes=["a"], now=NOW, life=120, user=user)
    assert built == {
        "iss": EDGE,
        "client_id": EDGE,
        "aud": WALLETS,
        "iat": NOW,
        "exp": NOW + 120,
        "jti": built["jti"],
        "scope": "a",
        "sub": "248289761001",
        "sub_id": {"format": "iss_sub", "iss": LOGIN, "sub": "248289761001"},
        "act": {"iss": EDGE, "sub": EDGE},
        "auth_time": NOW - 60,
        "acr": "urn:x",
        "amr": ["mfa"],
        "txn": "97053963",
    }


def test_a_token_is_bound_to_the_evidence_that_travels_beside_it() -> None:
    """By hash; the tokens themselves are in no claim (U6) and in no repr."""
    user = msgspec.structs.replace(USER, user_token="u.s.er", txn_token="t.x.n")
    claims = users.claims_of(user, EDGE)
    assert claims["oth"] == {"s2s-user-token": token_hash(b"u.s.er")}
    assert claims["tth"] == token_hash(b"t.x.n")
    assert "u.s.er" not in f"{claims}{user!r}{user}"
    assert "user_token='***', txn_token='***'" in repr(user)
    assert users.claims_of(users.without_evidence(user), EDGE) == users.claims_of(USER, EDGE)


CHAINS: list[tuple[str, str | None, list[str], list[str]]] = [
    ("met here", None, [], [WALLETS]),
    ("from the edge", EDGE, [], [WALLETS, EDGE]),
    ("from far", LEDGER, [EDGE, "a"], [WALLETS, LEDGER, EDGE, "a"]),
]


@pytest.mark.parametrize(("_name", "caller", "before", "expected"), CHAINS)
def test_who_hands_a_user_on_appends_itself(
    _name: str, caller: str | None, before: list[str], expected: list[str]
) -> None:
    """The caller comes right behind; what it said of others behind that, unchanged."""
    history = tuple(Actor(name, name) for name in before)
    user = msgspec.structs.replace(USER, carried_by=caller, unverified_history=history)
    assert users.claims_of(user, WALLETS)["act"] == actors(*expected)


@pytest.mark.parametrize(
    ("before", "problem"),
    [(["a", "b", "c"], "names 4 at most"), ([WALLETS], "came through https://wallets.example.com already")],
)
def test_a_chain_that_no_receiver_would_accept_is_not_built(before: list[str], problem: str) -> None:
    """Five services, or the same one twice."""
    history = tuple(Actor(name, name) for name in before)
    user = msgspec.structs.replace(USER, carried_by=EDGE, unverified_history=history)
    with pytest.raises(ConfigError, match=problem):
        users.claims_of(user, WALLETS)


EXPIRIES: list[tuple[float, float, int | None]] = [
    (NOW, NOW + 3600, NOW + 120),
    (NOW, NOW + 121, NOW + 120),
    (NOW, NOW + 60, NOW + 60),
    (NOW + 0.9, NOW + 60.9, NOW + 60),
    (NOW, float("inf"), NOW + 120),
    (NOW, NOW + 1, NOW + 1),
    (NOW + 0.5, NOW + 0.9, None),
    (NOW, NOW, None),
    (NOW, NOW - 1, None),
    (NOW, float("nan"), None),
]


@pytest.mark.parametrize(("now", "expires_at", "expected"), EXPIRIES)
def test_no_token_outlives_its_user(now: float, expires_at: float, expected: int | None) -> None:
    """U4: the earlier of both ends, in whole seconds; none for a user that has expired."""
    user = msgspec.structs.replace(USER, expires_at=expires_at)
    if expected is None:
        with pytest.raises(UserExpired):
            users.check(user, now)
        return
    users.check(user, now)
    built = claims_.build(issuer=EDGE, audience=WALLETS, scopes=None, now=now, life=120, user=user)
    assert (built["iat"], built["exp"]) == (NOW, expected)


def test_nobody_is_not_taken_for_the_service_itself() -> None:
    """None is what a request without a user has: an error, so that nothing is done in the wrong name."""
    with pytest.raises(NoUser, match="on_behalf_of is None"):
        users.given(None)


@pytest.mark.parametrize("other", ["a.b.c", 7, {"issuer": LOGIN, "subject": "u1"}, object()])
def test_only_an_end_user_can_be_called_for(other: object) -> None:
    """Not a token, not a principal, not a mapping."""
    with pytest.raises(ConfigError, match=f"of type {type(other).__name__}; expected an EndUser"):
        users.given(other)


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": ""},
        {"issuer": None},
        {"subject": ""},
        {"subject": "a\n"},
        {"subject": 7},
        {"expires_at": None},
        {"expires_at": "1800000000"},
        {"expires_at": True},
        {"amr": ["mfa"]},
        {"auth_time": 1.5},
        {"user_token": "opaque"},
        {"user_token": "a.b.c\r\nX: y"},
        {"txn_token": b"a.b.c"},
        {"txn_token": ""},
    ],
    ids=str,
)
def test_a_user_that_no_token_could_carry_is_not_made(change: dict[str, Any]) -> None:
    """By hand or from a token: the same checks."""
    with pytest.raises(ConfigError, match=rf"^{next(iter(change))} of a user must be "):
        msgspec.structs.replace(USER, **change)


def test_a_context_hash_tells_users_and_contexts_apart() -> None:
    """Every member of a user counts; it is what tokens are kept by."""
    different: dict[str, Any] = {
        "issuer": OTHER,
        "subject": "2",
        "expires_at": NOW + 60,
        "auth_time": NOW,
        "acr": "urn:x",
        "amr": ("mfa", "otp"),
        "txn": "t",
        "mode": "proven",
        "carried_by": LEDGER,
        "unverified_history": (Actor(EDGE, EDGE),),
        "user_token": "a.b.c",
        "txn_token": "a.b.c",
    }
    assert different.keys() == set(EndUser.__struct_fields__)
    changed = [msgspec.structs.replace(USER, **{name: value}) for name, value in different.items()]
    hashes = {users.context_hash(user) for user in (USER, *changed)}
    assert len(hashes) == len(different) + 1
    assert users.context_hash(msgspec.structs.replace(USER)) == users.context_hash(USER)
