"""Evidence of users through the door: bound, verified again, of the same user; or the request is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from s2s_mesh import evidence
from s2s_mesh.deny_list import DenyList, DenyRule
from s2s_mesh.errors import Forbidden, Reason
from s2s_mesh.jws import token_hash

from .carrying import (
    DOMAIN,
    LOGIN,
    OTHER_LOGIN,
    PROVEN,
    TXN,
    TXN_FIELD,
    USER_FIELD,
    CarryingReceiver,
    carrying,
    in_transaction,
    lines,
    proven,
    txn_token,
)
from .hostile import rows
from .identity_provider import ALICE, idp_key, user_token
from .tokens import ABSENT, EDGE, LEDGER, NOW, WALLETS, frozen, good, key

R = Reason
Lines = list[tuple[bytes, bytes]]
EVIL = "https://evil.org"
INTRUDER = key("RS256", "intruder")


@pytest.fixture(scope="module")
def wallets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CarryingReceiver]:
    with frozen():
        made = CarryingReceiver(tmp_path_factory.mktemp("carrying"), key_store=None)
        yield made
        made.close()


def twice(request: Lines) -> Lines:
    """The same with its last field line twice."""
    return [*request, request[-1]]


def without(request: Lines, name: bytes) -> Lines:
    return [line for line in request if line[0] != name]


def renamed(request: Lines, name: bytes) -> Lines:
    return [*request[:-1], (name, request[-1][1])]


def forged() -> bytes:
    """A user's token that somebody else signed, under the provider's kid."""
    return user_token(LOGIN, INTRUDER, {"kid": idp_key().kid})


PROVEN_TABLE: list[tuple[str, Callable[[], Lines], int, Reason | None]] = [
    ("bound and good", proven, 200, None),
    ("spaces around it", lambda: proven(field=b"  " + user_token(LOGIN) + b" "), 200, None),
    ("without typ", lambda: proven(user_token(LOGIN, head={"typ": ABSENT})), 200, None),
    ("naming edge in may_act", lambda: proven(user_token(LOGIN, may_act={"sub": EDGE})), 200, None),
    ("bound to a key of the user's", lambda: proven(user_token(LOGIN, cnf={"jkt": "x"})), 200, None),
    # whether there is evidence, and for this request
    ("no user (U8)", lambda: lines(good()), 403, R.USER_REQUIRED),
    ("a user whom nobody proves", lambda: lines(carrying()), 403, R.USER_UNPROVEN),
    ("evidence announced, and missing", lambda: without(proven(), USER_FIELD), 403, R.USER_UNPROVEN),
    ("evidence twice", lambda: twice(proven()), 400, R.PROOF_FIELDS),
    ("a false name (row 71)", lambda: renamed(proven(), b"s2s_user_token"), 400, R.PROOF_FIELDS),
    ("evidence that is not bound", lambda: proven(oth=ABSENT), 403, R.USER_UNPROVEN),
    ("bound to another token", lambda: proven(field=user_token(LOGIN, jti="2")), 403, R.USER_UNPROVEN),
    ("bound by the hash alone", lambda: proven(oth=token_hash(user_token(LOGIN))), 403, R.USER_UNPROVEN),
    (
        "bound to a field that nobody understands as well",
        lambda: proven(oth={"s2s-user-token": token_hash(user_token(LOGIN)), "x-other": "y"}),
        403,
        R.USER_UNPROVEN,
    ),
    (
        "a transaction token in its place",
        lambda: in_transaction(),
        403,
        R.USER_UNPROVEN,
    ),
    ("a transaction token as a user's", lambda: proven(txn_token()), 403, R.BAD_USER_TOKEN),
    ("the service token itself", lambda: proven(good()), 403, R.BAD_USER_TOKEN),
    ("no token", lambda: proven(b"alice"), 403, R.BAD_USER_TOKEN),
    ("nothing", lambda: proven(b""), 403, R.BAD_USER_TOKEN),
    ("a long one", lambda: proven(b"a" * 9000), 403, R.BAD_USER_TOKEN),
    # whether it is the provider's
    (
        "a provider that nobody knows",
        lambda: proven(user_token(EVIL)),
        403,
        R.BAD_USER_TOKEN,
    ),
    ("no provider", lambda: proven(user_token(LOGIN, iss=ABSENT)), 403, R.BAD_USER_TOKEN),
    ("a list of providers", lambda: proven(user_token(LOGIN, iss=[LOGIN])), 403, R.BAD_USER_TOKEN),
    ("a service as provider", lambda: proven(user_token(EDGE, key())), 403, R.BAD_USER_TOKEN),
    ("forged", lambda: proven(forged()), 403, R.BAD_USER_TOKEN),
    ("a key nobody knows", lambda: proven(user_token(LOGIN, INTRUDER)), 403, R.BAD_USER_TOKEN),
    ("another provider's key", lambda: proven(user_token(LOGIN, idp_key("other"))), 403, R.BAD_USER_TOKEN),
    ("edge's key", lambda: proven(user_token(LOGIN, key())), 403, R.BAD_USER_TOKEN),
    ("no signature", lambda: proven(user_token(LOGIN, head={"alg": "none"})), 403, R.BAD_USER_TOKEN),
    ("another algorithm", lambda: proven(user_token(LOGIN, head={"alg": "PS256"})), 403, R.BAD_USER_TOKEN),
    ("another type", lambda: proven(user_token(LOGIN, head={"typ": "wit+jwt"})), 403, R.BAD_USER_TOKEN),
    # whether it holds
    ("expired", lambda: proven(user_token(LOGIN, iat=NOW - 99, exp=NOW - 31)), 403, R.BAD_USER_TOKEN),
    ("for another service", lambda: proven(user_token(LOGIN, aud=LEDGER)), 403, R.BAD_USER_TOKEN),
    ("for us", lambda: proven(user_token(LOGIN, aud=WALLETS)), 403, R.BAD_USER_TOKEN),
    (
        "others may act (U5)",
        lambda: proven(user_token(LOGIN, may_act={"sub": LEDGER})),
        403,
        R.BAD_USER_TOKEN,
    ),
    # whether it is of the same user
    ("another user's", lambda: proven(user_token(LOGIN, sub="bob")), 403, R.USER_MISMATCH),
    ("another user is asserted", lambda: proven(sub="bob", sub_id=_sub_id("bob")), 403, R.USER_MISMATCH),
    (
        "a namesake at another provider",
        lambda: proven(user_token(OTHER_LOGIN, idp_key("other"))),
        403,
        R.USER_MISMATCH,
    ),
    ("a service as a user (row 39)", lambda: proven(user_token(LOGIN, sub=EDGE)), 403, R.BAD_USER_TOKEN),
]


def _sub_id(subject: str, issuer: str = LOGIN) -> dict[str, str]:
    return {"format": "iss_sub", "iss": issuer, "sub": subject}


TXN_TABLE: list[tuple[str, Callable[[], Lines], int, Reason | None]] = [
    ("bound and good", in_transaction, 200, None),
    ("the transaction is named", lambda: in_transaction(txn="txn-1"), 200, None),
    ("with contexts", lambda: in_transaction(txn_token(tctx={"card": "c"}, rctx={})), 200, None),
    # whether there is evidence, and for this request
    ("no user (U8)", lambda: lines(good()), 403, R.USER_REQUIRED),
    ("a user whom nobody proves", lambda: lines(carrying()), 403, R.USER_UNPROVEN),
    ("a user's token in its place", proven, 403, R.USER_UNPROVEN),
    ("evidence twice (row 71)", lambda: twice(in_transaction()), 400, R.PROOF_FIELDS),
    ("a false name", lambda: renamed(in_transaction(), b"txn_token"), 400, R.PROOF_FIELDS),
    ("not bound", lambda: in_transaction(tth=ABSENT), 403, R.USER_UNPROVEN),
    ("bound to another", lambda: in_transaction(field=txn_token(txn="txn-2")), 403, R.USER_UNPROVEN),
    (
        "bound by something else",
        lambda: in_transaction(tth=[token_hash(txn_token())]),
        403,
        R.USER_UNPROVEN,
    ),
    # a kind of its own (U7)
    ("as a bearer token", lambda: lines(txn_token()), 401, R.BAD_TYPE),
    ("as a bearer token, disguised", lambda: lines(txn_token(aud=WALLETS)), 401, R.BAD_TYPE),
    ("alone", lambda: in_transaction()[1:], 401, R.NO_CREDENTIAL),
    ("a service token as one", lambda: in_transaction(good()), 403, R.BAD_TXN_TOKEN),
    ("one without typ", lambda: in_transaction(txn_token(head={"typ": ABSENT})), 403, R.BAD_TXN_TOKEN),
    ("a user's token as one", lambda: in_transaction(user_token(LOGIN)), 403, R.BAD_TXN_TOKEN),
    ("nothing", lambda: in_transaction(b""), 403, R.BAD_TXN_TOKEN),
    # who mints, and for whom
    ("minted by nobody", lambda: in_transaction(txn_token(iss=ABSENT)), 403, R.BAD_TXN_TOKEN),
    (
        "minted by a stranger",
        lambda: in_transaction(txn_token(iss=EVIL)),
        403,
        R.BAD_TXN_TOKEN,
    ),
    (
        "minted by a caller that may not",
        lambda: in_transaction(txn_token(key(name="ledger"), iss=LEDGER, req_wl=LEDGER)),
        403,
        R.BAD_TXN_TOKEN,
    ),
    (
        "of a trust domain that is another's",
        lambda: in_transaction(txn_token(aud="https://example.net")),
        403,
        R.BAD_TXN_TOKEN,
    ),
    (
        "of a trust domain that knows us by another name",
        lambda: in_transaction(txn_token(aud="https://example.org")),
        403,
        R.BAD_TXN_TOKEN,
    ),
    (
        "for a list of domains",
        lambda: in_transaction(txn_token(aud=[DOMAIN])),
        403,
        R.BAD_TXN_TOKEN,
    ),
    ("forged", lambda: in_transaction(txn_token(key(name="x"), {"kid": key().kid})), 403, R.BAD_TXN_TOKEN),
    ("a key nobody knows", lambda: in_transaction(txn_token(key(name="x"))), 403, R.BAD_TXN_TOKEN),
    ("another algorithm", lambda: in_transaction(txn_token(head={"alg": "PS256"})), 403, R.BAD_TXN_TOKEN),
    # whether it holds
    ("expired", lambda: in_transaction(txn_token(iat=NOW - 99, exp=NOW - 31)), 403, R.BAD_TXN_TOKEN),
    ("for too long", lambda: in_transaction(txn_token(exp=NOW + 3600)), 403, R.BAD_TXN_TOKEN),
    ("no scope", lambda: in_transaction(txn_token(scope=ABSENT)), 403, R.BAD_TXN_TOKEN),
    # whether it is of the same user, and for this
    (
        "another user's",
        lambda: in_transaction(txn_token(sub="bob", sub_id=_sub_id("bob"))),
        403,
        R.USER_MISMATCH,
    ),
    (
        "a namesake at another provider",
        lambda: in_transaction(txn_token(sub_id=_sub_id(ALICE, OTHER_LOGIN))),
        403,
        R.USER_MISMATCH,
    ),
    ("another transaction is named", lambda: in_transaction(txn="txn-2"), 403, R.USER_MISMATCH),
    (
        "for something else (U4)",
        lambda: in_transaction(txn_token(scope="cards:read")),
        403,
        R.MISSING_SCOPE,
    ),
    ("the caller may not", lambda: in_transaction(scope="cards:read"), 403, R.MISSING_SCOPE),
]


@pytest.mark.parametrize(("request_", "status", "reason"), rows(PROVEN_TABLE))
def test_a_route_that_wants_the_users_own_token(
    wallets: CarryingReceiver, request_: Callable[[], Lines], status: int, reason: Reason | None
) -> None:
    """It is there once, bound to the service token, verified at its provider's keys, and of the same user."""
    assert wallets.get(PROVEN, request_()) == (status, reason and reason.value)


@pytest.mark.parametrize(("request_", "status", "reason"), rows(TXN_TABLE))
def test_a_route_that_wants_a_transaction_token(
    wallets: CarryingReceiver, request_: Callable[[], Lines], status: int, reason: Reason | None
) -> None:
    """It is there once, bound to the service token, minted by who may, of the same user, for what is done."""
    assert wallets.get(TXN, request_()) == (status, reason and reason.value)


def test_what_the_application_sees_of_a_proven_user(wallets: CarryingReceiver) -> None:
    """The user as the provider says, good for as long as its token, and the evidence to carry on."""
    assert wallets.ask(PROVEN, proven(auth_time=1)).body == {
        "caller": EDGE,
        "scopes": ["cards:read", "cards:write"],
        "user": {
            "issuer": LOGIN,
            "subject": ALICE,
            "mode": "proven",
            "carried_by": EDGE,
            "expires_at": NOW + 1800,
            "auth_time": NOW - 60,
            "txn": None,
        },
        "holds": ["user_token"],
    }


def test_what_the_application_sees_of_a_transaction(wallets: CarryingReceiver) -> None:
    """The caller may do what it is granted and the transaction is for, and nothing else (U4)."""
    assert wallets.ask(TXN, in_transaction()).body == {
        "caller": EDGE,
        "scopes": ["cards:write"],
        "user": {
            "issuer": LOGIN,
            "subject": ALICE,
            "mode": "txn",
            "carried_by": EDGE,
            "expires_at": NOW + 300,
            "auth_time": None,
            "txn": "txn-1",
        },
        "holds": ["txn_token"],
    }


@pytest.mark.parametrize(
    "request_", [proven, in_transaction, lambda: proven(forged()), lambda: proven(field=b"x")]
)
def test_where_nobody_asks_for_evidence_nobody_looks_at_it(
    wallets: CarryingReceiver, request_: Callable[[], Lines]
) -> None:
    """Good or bad, it proves nothing there: the user is as asserted, and holds no evidence to carry on."""
    said = wallets.ask("/asserted", request_()).body
    assert (said["user"]["mode"], said["holds"]) == ("asserted", [])
    assert wallets.get("/none", request_()) == (403, R.USER_NOT_ACCEPTED.value)


def test_both_kinds_of_evidence(wallets: CarryingReceiver) -> None:
    """A request may carry both; each route uses the one that it asks for."""
    user, txn = user_token(LOGIN), txn_token()
    access = carrying(oth={"s2s-user-token": token_hash(user)}, tth=token_hash(txn))
    request = lines(access, (USER_FIELD, user), (TXN_FIELD, txn))
    assert wallets.ask(PROVEN, request).body["holds"] == ["user_token"]
    assert wallets.ask(TXN, request).body["holds"] == ["txn_token"]


def test_a_token_that_was_verified_before_proves_no_user(wallets: CarryingReceiver) -> None:
    """The memory of verified tokens never stands in for evidence (design: never cached)."""
    request = proven()
    assert wallets.get("/asserted", request) == (200, None)
    assert wallets.service.running().verifier.cached(request[0][1].removeprefix(b"Bearer "), NOW) is not None
    assert wallets.get(PROVEN, request) == (200, None)
    assert wallets.get(PROVEN, request[:1]) == (403, R.USER_UNPROVEN.value)
    assert wallets.get(PROVEN, [request[0], (USER_FIELD, forged())]) == (403, R.USER_UNPROVEN.value)


def test_evidence_is_verified_again_each_time(tmp_path: Any) -> None:
    """What held a moment ago is refused once the provider's key, the row or the user is gone."""
    with frozen() as clock:
        receiver = CarryingReceiver(tmp_path, key_store=None)
        try:
            assert receiver.get(PROVEN, proven(exp=NOW + 600)) == (200, None)
            assert receiver.get(TXN, in_transaction(exp=NOW + 600)) == (200, None)
            running = receiver.service.running()
            running.verifier.deny = DenyList([DenyRule(id="r1", why="stolen", added_at=NOW, jti="login-1")])
            assert receiver.get(PROVEN, proven(exp=NOW + 600)) == (403, R.DENIED.value)
            running.verifier.deny = DenyList([DenyRule(id="r1", why="stopped", added_at=NOW, jti="txn-1")])
            assert receiver.get(TXN, in_transaction(exp=NOW + 600)) == (403, R.DENIED.value)
            running.verifier.deny = DenyList([DenyRule(id="r1", why="gone", added_at=NOW, user_sub=ALICE)])
            assert receiver.get(PROVEN, proven(exp=NOW + 600)) == (401, R.DENIED.value)
            running.verifier.deny = DenyList()
            (tmp_path / "login.jwks.json").write_text('{"keys": []}')
            text = (tmp_path / "trust.toml").read_text()
            (tmp_path / "trust.toml").write_text(
                text.replace('trust_domain = "https://example.com"', 'trust_domain = "https://example.org"')
            )
            clock.tick(500)
            running.reload_trust()
            running.client.refresh_due()
            if (under_way := running.client.request(LOGIN, "whatever")) is not None:
                under_way.result(60)
            late = txn_token(iat=NOW + 400, exp=NOW + 700)
            assert receiver.get(PROVEN, proven(iat=NOW + 500, exp=NOW + 600)) == (403, R.BAD_USER_TOKEN.value)
            assert receiver.get(TXN, in_transaction(late, iat=NOW + 500, exp=NOW + 600)) == (
                403,
                R.BAD_TXN_TOKEN.value,
            )
        finally:
            receiver.close()


def test_a_provider_that_cannot_be_asked(tmp_path: Any) -> None:
    """Nobody can tell: 503, never a way in, and never the user's fault."""
    with frozen():
        receiver = CarryingReceiver(tmp_path, key_store=None)
        (tmp_path / "login.jwks.json").unlink()
        verdict = receiver.ask(PROVEN, proven())
        assert (verdict.status, verdict.reason) == (503, R.JWKS_UNAVAILABLE.value)
        assert verdict.headers["retry-after"]
        receiver.close()


def test_the_answer_never_says_why(wallets: CarryingReceiver, caplog: pytest.LogCaptureFixture) -> None:
    """One answer for every fault of the evidence; the log says which, and holds no token."""
    with caplog.at_level(logging.DEBUG):
        bodies = []
        for request in (proven(forged()), proven(user_token(LOGIN, sub="bob")), proven(oth=ABSENT)):
            verdict = wallets.ask(PROVEN, request)
            verdict.body.pop("instance")
            bodies.append(verdict.body)
            signature = request[-1][1].rpartition(b".")[2].decode()
            assert signature not in caplog.text
    assert bodies[0] == bodies[1] == bodies[2] == {"title": "Forbidden", "status": 403}
    assert "the user's token: bad_signature" in caplog.text


def test_verify_with_a_request_line_has_no_fields(wallets: CarryingReceiver) -> None:
    """`service.verify(token, request=...)` sees no fields beside the token, so it proves no user."""
    token = proven()[0][1].removeprefix(b"Bearer ")
    with pytest.raises(Forbidden) as refusal:
        wallets.service.verify(token, request=("GET", PROVEN))
    assert refusal.value.reason is Reason.USER_UNPROVEN


def test_no_evidence_makes_a_user_whom_nobody_carries(wallets: CarryingReceiver) -> None:
    """Evidence confirms the word of a caller, and never stands in for it."""
    running = wallets.service.running()
    rule = next(rule for rule in running.verifier.trust.routes if rule.user == "proven")
    caller = wallets.service.verify(good())
    with pytest.raises(Forbidden) as refusal:
        next(evidence.verify(running.verifier, rule, fields=proven()[1:], principal=caller, now=float(NOW)))
    assert refusal.value.reason is Reason.USER_REQUIRED
