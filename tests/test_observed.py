"""What observers hear of a real service behind its real door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from s2s_mesh import Decision, Forbidden, PolicyFacts, Principal, Reason, TokenRejected, require
from s2s_mesh.observer import (
    UNKNOWN,
    CoolingDown,
    JWKSFetched,
    Kept,
    Minted,
    Recalled,
    StaleServed,
    Verified,
)

from .observing import Listener
from .receiver import Receiver
from .test_service import service
from .tokens import EDGE, NOW, WALLETS, frozen, good, key

ROUTES = """
[[route]]
audience = "https://wallets.example.com"
path = "/read"
methods = ["GET"]
scopes = []
"""


class Wallets:
    """A receiver with a listener."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.heard = Listener()
        self.receiver = Receiver(folder, edge_keys=[key()], observers=[self.heard], **options)
        self.call = self.receiver.call
        self.token = good()  # signatures of ES256 differ each time

    def warm(self) -> Wallets:
        """After the first call, with nothing heard of it."""
        self.call(self.token)
        self.heard.take()
        return self


@pytest.fixture
def wallets(tmp_path: Path) -> Iterator[Wallets]:
    with frozen():
        made = Wallets(tmp_path)
        yield made
        made.receiver.close()


def refused(reason: Reason, issuer: str = EDGE, *, cached: bool = False) -> tuple[str, ...]:
    return issuer, reason.value, "true" if cached else "false"


def test_a_token_is_verified_once_and_recalled_after_that(wallets: Wallets) -> None:
    """The first call fetches and verifies, with the time that takes; the second is answered from memory."""
    assert wallets.call(wallets.token).status == 200
    (fetched,) = [event for event in wallets.heard.of(JWKSFetched) if event.issuer == EDGE]
    assert (fetched.result, fetched.at) == ("fetched", NOW)
    (verified,) = wallets.heard.of(Verified)
    assert (verified.issuer, verified.at) == (EDGE, NOW)
    wallets.heard.take()
    assert wallets.call(wallets.token).status == 200
    assert wallets.heard.decisions() == [Recalled(EDGE).labels]


def test_what_takes_time_says_how_long(tmp_path: Path) -> None:
    """Seconds that really passed, by a clock that nobody sets."""
    heard = Listener()
    now = int(time.time())
    receiver = Receiver(tmp_path, edge_keys=[key()], observers=[heard])
    assert receiver.call(good(iat=now, exp=now + 120)).status == 200
    receiver.close()
    (verified,) = heard.of(Verified)
    assert 0 < verified.seconds < 60
    assert all(0 < event.seconds < 60 for event in heard.of(JWKSFetched))


@pytest.mark.parametrize(
    ("token", "labels"),
    [
        (good(exp=NOW - 100, iat=NOW - 200), refused(Reason.EXPIRED)),
        (good(iss="https://stranger.example.com"), refused(Reason.UNKNOWN_ISSUER, UNKNOWN)),
        (b"rubbish", refused(Reason.NOT_A_COMPACT_JWS, UNKNOWN)),
        (None, refused(Reason.NO_CREDENTIAL, UNKNOWN)),
    ],
    ids=["expired", "stranger", "rubbish", "none"],
)
def test_a_refusal_counts_by_issuer_and_reason(
    wallets: Wallets, token: bytes | None, labels: tuple[str, ...]
) -> None:
    """Whoever the trust file does not list is unknown, whatever it claims to be."""
    wallets.warm().call(token)
    assert wallets.heard.decisions() == [labels]


def test_a_scope_that_the_application_misses(wallets: Wallets) -> None:
    """The call was verified, and then refused by the application's own decorator: both are heard."""
    wallets.warm().call(wallets.token, path="/admin")
    heard = wallets.heard.decisions()
    assert heard == [Recalled(EDGE).labels, refused(Reason.MISSING_SCOPE, cached=True)]


def test_a_door_cannot_name_whom_the_trust_file_does_not(wallets: Wallets) -> None:
    """Whatever a door refuses for, the issuers that are counted are those of the trust file."""
    why = Forbidden(Reason.MISSING_SCOPE)
    for caller in ("https://stranger.example.com", None, EDGE):
        wallets.receiver.service.running().inbound.refused(why, caller=caller)
    assert [issuer for issuer, *_ in wallets.heard.decisions()] == [UNKNOWN, UNKNOWN, EDGE]


def test_an_anonymous_caller_of_a_public_path_is_no_verification(tmp_path: Path) -> None:
    """Nothing was shown, so nothing was verified."""
    with frozen():
        wallets = Wallets(tmp_path, public_paths=["/read"]).warm()
        assert wallets.call(None).status == 200
        assert wallets.heard.decisions() == []
        wallets.receiver.close()


def test_an_application_that_wants_somebody_on_a_public_path(tmp_path: Path) -> None:
    """Nobody came, and was refused by the application's own decorator or dependency."""
    with frozen():
        wallets = Wallets(tmp_path, public_paths=["/for-somebody"]).warm()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            caller = require()
            try:
                caller(HTTPConnection(scope))
            except HTTPException as refused:
                await send({"type": "http.response.start", "status": refused.status_code, "headers": []})
                await send({"type": "http.response.body"})

        wallets.receiver.app = wallets.receiver.service.wrap(app)  # type: ignore[assignment]
        assert wallets.call(None, path="/for-somebody").status == 401
        assert wallets.heard.decisions() == [refused(Reason.NO_CREDENTIAL, UNKNOWN, cached=True)]
        wallets.receiver.close()


def test_a_known_caller_on_a_route_without_a_rule(tmp_path: Path) -> None:
    """It counts once, as refused, and as found in memory."""
    with frozen():
        wallets = Wallets(tmp_path, trust=ROUTES).warm()
        assert wallets.call(wallets.token, path="/open").status == 403
        assert wallets.heard.decisions() == [refused(Reason.NO_ROUTE_RULE, cached=True)]
        wallets.receiver.close()


class Never:
    """A policy that denies writing, asynchronously."""

    async def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
        return Decision(facts.raw_path == "/read", "read only")


def test_a_policy_is_asked_about_a_known_caller(tmp_path: Path) -> None:
    """However long it takes to answer, the token was found in memory."""
    with frozen():
        wallets = Wallets(tmp_path, policy=Never()).warm()
        assert wallets.call(wallets.token).status == 200
        assert wallets.call(wallets.token, path="/open").status == 403
        assert wallets.heard.decisions() == [
            Recalled(EDGE).labels,
            refused(Reason.POLICY_DENIED, cached=True),
        ]
        wallets.receiver.close()


def test_verifying_without_a_request(wallets: Wallets) -> None:
    """`Service.verify` and `verify_async` count as requests do."""
    made = wallets.receiver.service
    made.verify(wallets.token)
    assert len(wallets.heard.of(Verified)) == 1
    wallets.heard.take()
    asyncio.run(made.verify_async(wallets.token))
    with pytest.raises(TokenRejected):
        made.verify(good(exp=NOW - 100, iat=NOW - 200))
    assert wallets.heard.decisions() == [
        Recalled(EDGE).labels,
        refused(Reason.EXPIRED),
    ]


def test_verifying_with_a_method_and_a_path(tmp_path: Path) -> None:
    """A token from memory stays one where a route rule is asked as well."""
    with frozen():
        wallets = Wallets(tmp_path, trust=ROUTES).warm()
        wallets.receiver.service.verify(wallets.token, request=("GET", "/read"))
        with pytest.raises(Forbidden):
            wallets.receiver.service.verify(wallets.token, request=("GET", "/open"))
        assert wallets.heard.decisions() == [
            Recalled(EDGE).labels,
            refused(Reason.NO_ROUTE_RULE, cached=True),
        ]
        wallets.receiver.close()


def test_no_keys_at_all(wallets: Wallets) -> None:
    """The failed fetch, the pause after it, and the refusal name the issuer."""
    (wallets.receiver.folder / "edge.jwks.json").unlink()
    assert wallets.call(wallets.token).status == 503
    assert refused(Reason.JWKS_UNAVAILABLE) in wallets.heard.counts()
    assert {event.result for event in wallets.heard.of(JWKSFetched) if event.issuer == EDGE} == {"failed"}
    wallets.heard.take()
    assert wallets.call(wallets.token).status == 503
    assert wallets.heard.of(CoolingDown) == [CoolingDown(issuer=EDGE, why="cold")] * 2


def test_an_unknown_key_id_cools_down(wallets: Wallets) -> None:
    """The issuer is asked once, and after that the wish for the key is counted instead."""
    stranger = good(key(name="nobody's"))
    for _ in range(2):
        wallets.call(stranger)
    wallets.heard.take()
    wallets.call(stranger)
    assert CoolingDown(issuer=EDGE, why="unknown_kid") in wallets.heard.take()


def test_stale_keys_are_counted_as_they_serve(tmp_path: Path) -> None:
    """From the end of the fresh time on, each accepted token counts, from memory or not."""
    with frozen() as clock:
        wallets = Wallets(tmp_path).warm()
        (wallets.receiver.folder / "edge.jwks.json").unlink()
        clock.tick(100)  # pinned files are fresh for a minute
        token = good(iat=NOW + 90, exp=NOW + 200)
        for _ in range(2):
            assert wallets.call(token).status == 200
        assert wallets.heard.of(StaleServed) == [StaleServed(EDGE)] * 2
        wallets.receiver.close()


def test_tokens_of_our_own() -> None:
    """The first is minted, the next one is the same; one for a single request is minted each time."""
    heard = Listener()
    with service(observers=[heard]) as made:
        made.token(WALLETS)
        (minted,) = heard.of(Minted)
        assert (minted.kind, minted.audience) == ("at+jwt", WALLETS)
        assert minted.seconds > 0
        made.token(WALLETS)
        assert heard.of(Kept) == [Kept("at+jwt")]
        made.token(WALLETS, once=True)
        assert len(heard.of(Minted)) == 2


def test_proofs_need_an_identity_too() -> None:
    """A Workload Identity Token is minted once, for nobody in particular."""
    heard = Listener()
    with service(observers=[heard]) as made:
        runtime = made.running()
        for _ in range(2):
            runtime.prove(made.settings.check_audience(WALLETS), None, "GET", b"/")
    assert sorted((event.kind, event.audience) for event in heard.of(Minted)) == [
        ("at+jwt", WALLETS),
        ("wit+jwt", ""),
    ]


def test_an_observer_that_fails_lets_calls_through(tmp_path: Path) -> None:
    """A broken gauge is no reason to refuse anybody."""

    class Broken(Listener):
        def observe(self, event: Any) -> None:
            raise ValueError("full")

    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key()], observers=[Broken()])
        assert [receiver.call(good()).status for _ in range(2)] == [200, 200]
        receiver.close()
