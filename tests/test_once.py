"""Routes with `replay = "once"`: a token opens them once, whichever process is asked, or nobody can tell."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2s_mesh import ConfigError, Service
from s2s_mesh.errors import Reason

from .hostile import rows
from .receiver import Receiver
from .receiving_fleet import ReceivingFleet, statuses
from .servers import RedisServer
from .tokens import EDGE, LEDGER, NOW, WALLETS, claims, frozen, good, header, key, sign

ROUNDS = int(os.environ.get("S2S_MESH_TEST_ROUNDS", "10"))
ROUTES = f"""
[[route]]
audience = "{WALLETS}"
path = "/write"
methods = ["PUT"]
scopes = ["cards:write"]
replay = "once"
[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["GET"]
"""


@pytest.fixture
def wallets(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver that is one process, with its memory of used tokens in it."""
    with frozen():
        made = Receiver(
            tmp_path,
            edge_keys=[key()],
            ledger_keys=[key(name="ledger")],
            trust=ROUTES,
            key_store="memory://",
        )
        yield made
        made.close()


def put(receiver: Receiver, token: bytes) -> tuple[int, str | None]:
    answer = receiver.call(token, method="PUT", path="/write")
    return answer.status, answer.reason


def test_a_token_is_good_for_one_request(wallets: Receiver) -> None:
    """The second one is refused as any bad token is; the log says why."""
    token = good()
    assert put(wallets, token) == (200, None)
    assert put(wallets, token) == (401, Reason.REPLAYED.value)
    assert put(wallets, good(jti="another")) == (200, None)


def test_another_spelling_of_the_same_token_is_the_same_token(wallets: Receiver) -> None:
    """What counts is who made it and its jti: a token with the same id, signed anew, is a replay."""
    token = good()
    assert put(wallets, token) == (200, None)
    assert put(wallets, good()) == (401, Reason.REPLAYED.value)


def test_routes_that_do_not_ask_for_it_take_a_token_again(wallets: Receiver) -> None:
    """And using it there does not use it up, nor does a memory of verified tokens open the other route."""
    token = good()
    for _ in range(2):
        assert wallets.call(token).status == 200
    assert put(wallets, token) == (200, None)
    assert put(wallets, token) == (401, Reason.REPLAYED.value)
    assert wallets.call(token).status == 200


def test_a_request_that_is_refused_anyway_does_not_use_its_token_up(wallets: Receiver) -> None:
    """Nobody can burn a token with a request that fails another check."""
    poor = good(scope="cards:read")
    assert put(wallets, poor) == (403, Reason.MISSING_SCOPE.value)
    assert put(wallets, good()) == (200, None)
    forged = sign(header(key()), claims(jti="victim"), key(name="somebody else"))
    assert put(wallets, forged) == (401, Reason.BAD_SIGNATURE.value)
    assert put(wallets, good(jti="victim")) == (200, None)


def test_the_same_id_from_another_issuer_is_another_token(wallets: Receiver) -> None:
    """No caller can burn another caller's ids."""
    other = key(name="ledger")
    token = sign(header(other), claims(iss=LEDGER, sub=LEDGER, client_id=LEDGER), other)
    assert put(wallets, good()) == (200, None)
    assert put(wallets, token)[1] != Reason.REPLAYED.value


def test_an_id_is_remembered_for_as_long_as_its_token_could_be_sent(tmp_path: Path) -> None:
    """Until it has expired for every clock; after that it is refused for its age."""
    with RedisServer() as server, frozen() as clock:
        receiver = Receiver(
            tmp_path, edge_keys=[key()], trust=ROUTES, key_store=server.url, allow_unsealed_key_store=True
        )
        token = good()
        assert put(receiver, token) == (200, None)
        ((_, pattern),) = [("KEYS", f"s2s-mesh:{WALLETS}:jti:*")]
        name = server.command("KEYS", pattern).decode().split("\r\n")[2]
        assert int(server.command("TTL", name)[1:]) >= 120 + 30
        clock.move_to(time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOW + 149)))
        assert put(receiver, token) == (401, Reason.REPLAYED.value)
        clock.tick(2)
        assert put(receiver, token) == (401, Reason.EXPIRED.value)
        receiver.close()


USES: list[tuple[str, int, bool, Reason | None]] = [
    ("the first use", 0, True, None),
    ("the second use", 1, True, Reason.REPLAYED),
    ("the tenth use", 9, True, Reason.REPLAYED),
    ("the store is down", 0, False, Reason.REPLAY_STORE_UNAVAILABLE),
    ("used, and the store is down", 1, False, Reason.REPLAY_STORE_UNAVAILABLE),
]


@pytest.mark.parametrize(("before", "up", "reason"), rows(USES))
def test_uses_of_a_token(tmp_path: Path, before: int, up: bool, reason: Reason | None) -> None:
    """Only the first one, and only where somebody can tell that it is the first."""
    with RedisServer() as server, frozen():
        receiver = Receiver(
            tmp_path, edge_keys=[key()], trust=ROUTES, key_store=server.url, allow_unsealed_key_store=True
        )
        token = good()
        receiver.call(good(jti="warm"))  # the deny list is loaded
        for _ in range(before):
            put(receiver, token)
        if not up:
            server.kill()
        status = 200 if reason is None else 503 if reason is Reason.REPLAY_STORE_UNAVAILABLE else 401
        assert put(receiver, token) == (status, None if reason is None else reason.value)
        receiver.close()


def test_after_an_outage_of_the_store_the_route_recovers_by_itself(tmp_path: Path) -> None:
    """Meanwhile 503 with Retry-After; other routes go on."""
    with RedisServer() as server:
        receiver = Receiver(
            tmp_path, edge_keys=[key()], trust=ROUTES, key_store=server.url, allow_unsealed_key_store=True
        )
        receiver.service.clock = lambda: float(NOW)
        assert put(receiver, good()) == (200, None)
        server.kill()
        answer = receiver.call(good(jti="one"), method="PUT", path="/write")
        assert (answer.status, answer.reason) == (503, Reason.REPLAY_STORE_UNAVAILABLE.value)
        assert int(answer.headers["retry-after"]) > 0
        assert receiver.call(good()).status == 200
        server.start()
        deadline = time.monotonic() + 60
        while put(receiver, good(jti="two"))[0] == 503:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        receiver.close()


@pytest.mark.parametrize("wanted", ['replay = "once"', 'proof = "wpt"'])
@pytest.mark.parametrize("store", [None, "file:///tmp/keys"])
def test_a_store_that_cannot_tell_in_an_instant_is_refused_at_the_start(
    tmp_path: Path, store: str | None, wanted: str
) -> None:
    """With what is expected; a service that could not enforce the route does not start."""
    routes = ROUTES.replace('replay = "once"', wanted)
    (tmp_path / "trust.toml").write_text(
        f'version = 1\n[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n{routes}'
    )
    service = Service(
        issuer=WALLETS, trust=tmp_path / "trust.toml", key_store=store, allow_unsealed_key_store=True
    )
    with pytest.raises(ConfigError, match="redis:// or one of its relatives"), service:
        raise AssertionError("it started")


def test_a_changed_trust_file_that_asks_for_what_cannot_be_is_not_taken_over(tmp_path: Path) -> None:
    """The last good one stays in force."""
    with frozen() as clock:
        receiver = Receiver(tmp_path, edge_keys=[key()])
        assert receiver.call(good()).status == 200
        receiver.write_trust(ROUTES)
        clock.tick(5)
        receiver.service.running().reload_trust()
        assert receiver.call(good(iat=NOW + 5), path="/open").status == 200
        receiver.close()


def test_of_fifty_presentations_to_four_processes_one_is_accepted(tmp_path: Path) -> None:
    """In every round, however they meet."""
    with RedisServer() as server, ReceivingFleet(tmp_path, server.url).running(4) as urls:
        everywhere = [urls[number % 4] for number in range(50)]
        for _ in range(ROUNDS):
            at = int(time.time())
            token = good(iat=at, exp=at + 120, jti=os.urandom(16).hex())
            answers = statuses(everywhere, token, method="POST", path="/once")
            assert sorted(answers) == [200] + [401] * 49
