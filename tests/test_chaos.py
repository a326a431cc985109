"""Chaos in half a minute, and the parts of it that could hide a failure."""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from s2s_mesh import Service
from s2s_mesh.jws import b64url_decode
from s2s_mesh.keys import PRIVATE_MEMBERS
from s2s_mesh.store import generate_key_encryption_key

from .chaos import dumps
from .chaos.__main__ import main, plan
from .chaos.__main__ import parse as parse_options
from .chaos.plan import FULL, SHORT
from .chaos.relay import HOST, Relay
from .chaos.tally import Failure, Tally
from .chaos.timeline import Timeline
from .chaos.verdict import PURGE, Line, Pardon, block, rotations, told
from .programs import ROOT, environment
from .servers import RedisServer, server_program
from .tokens import key

ISSUER = "http://127.0.0.1:8101"
TIMEOUT = 300.0  # seconds, for machines that have a lot else to do


def failure(**changes: object) -> Failure:
    """A call of edge-b that failed between 100 and 101 s."""
    facts: dict[str, object] = {
        "caller": "edge-b",
        "audience": "http://127.0.0.1:8102",
        "began": 100.0,
        "ended": 101.0,
        "kid": "signed-with-this",
        "status": 401,
        "problem": "",
        "request_id": "42",
        **changes,
    }
    return Failure(**facts)  # type: ignore[arg-type]


# --- the run


def test_no_call_fails_and_none_is_let_in_that_must_not_be() -> None:
    """The shortened run: every trouble, real processes, and a verdict of zeros."""
    server_program()
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^ok {3}(\S.*?) {2,}(\S.*?)(?:  .*)?$", done.stdout, re.MULTILINE))
    assert int(figures.pop("calls made").replace(",", "")) >= SHORT.calls
    assert int(figures.pop("rotations")) >= SHORT.rotations
    assert figures == {
        "valid calls failed": "0",
        "calls that had to be refused and were accepted": "0",
        "rings at the end": "1 per issuer",
        "private keys readable in a Redis dump": "0",
        "troubles that did not heal": "0",
    }


def test_the_full_run_is_what_was_promised() -> None:
    """At least a minute and 20,000 calls; --seconds asks for more."""
    assert (FULL.seconds, FULL.calls) == (60, 20_000)
    assert plan(parse_options([])) == FULL
    assert plan(parse_options(["--short"])) == SHORT
    longer = plan(parse_options(["--seconds", "600"]))
    assert (longer.seconds, longer.at_most, longer.rotations) == (600, 1200, 60)


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what happens, what counts as a failure, and what the exit codes mean."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for taught in ("FLUSHALL", "Sentinel failover", "A valid call has failed if", "exit codes:"):
        assert taught in text


def test_without_a_server_it_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and one line."""
    monkeypatch.setenv("S2S_MESH_TEST_SERVER", "/nonexistent/server")
    assert main(["--short"]) == 2
    assert capsys.readouterr().err.startswith("chaos: ")


# --- what counts as a failure


def test_only_calls_of_a_frozen_process_are_pardoned() -> None:
    """Those that were under way while their own process was frozen, and no others."""
    pardon = Pardon(freezes={"edge-b": [(90.0, 100.0)], "edge-a": []}, revocations=[])
    assert pardon.reason(failure(began=100.0)) == "caller frozen meanwhile"
    assert pardon.reason(failure(began=89.0, ended=90.0)) == "caller frozen meanwhile"
    assert pardon.reason(failure(began=100.1)) is None
    assert pardon.reason(failure(began=88.0, ended=89.9)) is None
    assert pardon.reason(failure(caller="edge-a", began=95.0)) is None
    assert pardon.reason(failure(caller="edge-c", began=95.0)) is None


def test_only_calls_while_the_machine_stood_still_are_pardoned() -> None:
    """Whoever makes them, and a second later, when all have caught up, no more."""
    pardon = Pardon(freezes={}, revocations=[], stalls=[(90.0, 92.0)])
    assert pardon.reason(failure(began=93.0)) == "machine stood still"
    assert pardon.reason(failure(began=89.0, ended=90.0)) == "machine stood still"
    assert pardon.reason(failure(began=93.1)) is None
    assert pardon.reason(failure(began=88.0, ended=89.9)) is None


def test_a_machine_that_stands_still_is_noticed() -> None:
    """For more than a second, that is: a busy one is not one that stands still."""
    times = iter([100.0, 100.1, 101.1, 101.2, 102.4, 102.5])

    def clock() -> float:
        try:
            return next(times)
        except StopIteration:
            raise TimeoutError from None

    timeline = Timeline()
    with pytest.raises(TimeoutError):
        asyncio.run(timeline.watch(clock, tick=0))
    assert timeline.stalls == [(101.2, 102.4)]


def test_only_calls_with_a_key_just_revoked_are_pardoned() -> None:
    """Until every replica has heard of it, which takes a second at most."""
    pardon = Pardon(freezes={}, revocations=[("signed-with-this", 100.5)])
    assert pardon.reason(failure()) == "key just revoked"
    assert pardon.reason(failure(ended=100.5 + PURGE)) == "key just revoked"
    assert pardon.reason(failure(ended=100.6 + PURGE)) is None
    assert pardon.reason(failure(ended=100.4)) is None
    assert pardon.reason(failure(kid="another")) is None


def test_a_failed_call_is_told_with_the_reason_in_the_receivers_log() -> None:
    """When, during what, who, what came back, and why."""
    line = told(failure(), "FLUSHALL", {"42": "unknown_kid: no such key"})
    assert line == (
        "100.000 during FLUSHALL: edge-b -> http://127.0.0.1:8102 after 1.00 s, status 401, key signed-w: "
        "unknown_kid: no such key"
    )
    assert told(failure(status=0, problem="ReadTimeout", request_id=""), "calm", {}).endswith(": ReadTimeout")


def test_overlapping_troubles_are_both_named() -> None:
    """What was going on when a call began."""
    timeline = Timeline()
    with timeline.during("FLUSHALL"), timeline.during("failover"):
        assert timeline.at(time.time()) == "FLUSHALL + failover"
    assert timeline.at(0.0) == "nothing"


def test_rotations_are_counted_by_issuer() -> None:
    """What signed for any replica counts once; one key is no rotation."""
    tallies = {
        "edge-a": Tally(kids=["1", "2"]),
        "edge-b": Tally(kids=["2", "3"]),
        "orders-a": Tally(kids=["9"]),
    }
    assert [rotations(tallies, name) for name in ("edge", "orders", "payroll")] == [2, 0, 0]


def test_what_is_not_good_stands_out() -> None:
    """The verdict says FAIL beside the figure."""
    shown = block([Line("calls made", "7", True, "in 1 s"), Line("valid calls failed", "3", False)])
    assert shown.splitlines() == ["ok   calls made          7  in 1 s", "FAIL valid calls failed  3  "]


# --- private keys in a dump


@pytest.mark.parametrize("alg", ["ES256", "RS256", "Ed25519"])
def test_every_private_member_is_found_in_whatever_form(alg: str) -> None:
    """As text, as bytes, as hexadecimal digits, and inside encoded text at any offset."""
    planted, other = key(alg), key(alg, "second")
    for name, text in planted.private_members().items():
        assert name in PRIVATE_MEMBERS
        raw = b64url_decode(text.encode())
        for form in (text.encode(), raw, raw.hex().upper().encode(), *map(encoded_after(raw), range(3))):
            assert dumps.readable([other, planted], b"\x00letters" + form + b"\xff") == [planted.kid], name
    assert dumps.readable([planted], planted.public.material) == []


def encoded_after(raw: bytes) -> Callable[[int], bytes]:
    """A function that encodes `raw` after as many other bytes as it is told."""
    return lambda number: base64.urlsafe_b64encode(b"x" * number + raw + b"tail")


@pytest.mark.parametrize("sealed", [True, False])
def test_a_ring_that_is_not_sealed_is_found_in_a_real_dump(tmp_path: Path, sealed: bool) -> None:
    """The same service with and without a key-encryption key: the search tells them apart."""
    (tmp_path / "trust.toml").write_text("version = 1\n[defaults]\nallow_loopback_http = true\n")
    with RedisServer("--rdbcompression", "no", persistent=True) as server:
        service = Service(
            issuer=ISSUER,
            trust=tmp_path / "trust.toml",
            key_store=server.url,
            key_encryption_key=generate_key_encryption_key() if sealed else None,
        )
        assert service.routes
        with service:
            ring = service.running().load_ring()
        dump = dumps.take(server)
    keys = [record.private for record in ring.records.values() if record.private is not None]
    assert len(keys) == 2
    assert dumps.readable(keys, dump) == ([] if sealed else [key.kid for key in keys])
    assert bool(dumps.sealed_documents(dump)) is sealed


# --- the relay


class Target:
    """A server that answers every connection with its name, unless it is mute."""

    def __init__(self, name: bytes, *, mute: bool = False) -> None:
        self._name = name
        self._mute = mute
        self._server: asyncio.Server | None = None
        self.heard: list[bytes] = []

    async def start(self) -> int:
        """Begin; returns the port."""
        self._server = await asyncio.start_server(self._answer, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        """Refuse connections from now on."""
        assert self._server is not None
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.read(100))
        if self._mute:
            await reader.read()  # until the caller gives up
        else:
            writer.write(self._name)
        writer.close()


async def ask(relay: Relay) -> bytes:
    """What comes back through a relay."""
    port = int(relay.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"hello")
    answer = await reader.read(100)
    writer.close()
    return answer


def with_relay(
    patience: float | None, *targets: Target
) -> Callable[[Callable[[Relay], Awaitable[None]]], None]:
    """Run a check with a relay before targets."""

    def run(check: Callable[[Relay], Awaitable[None]]) -> None:
        async def scene() -> None:
            relay = Relay(patience)
            await relay.start([await target.start() for target in targets])
            await check(relay)
            await relay.stop()
            for target in targets:
                target.stop()

        asyncio.run(scene())

    return run


@pytest.mark.parametrize("patience", [None, 5.0])
def test_connections_go_to_every_replica_in_turn(patience: float | None) -> None:
    """Two answers of each of two."""

    async def check(relay: Relay) -> None:
        assert sorted([await ask(relay) for _ in range(4)]) == [b"a", b"a", b"b", b"b"]

    with_relay(patience, Target(b"a"), Target(b"b"))(check)


@pytest.mark.parametrize("patience", [None, 5.0])
def test_a_replica_that_refuses_is_passed_over(patience: float | None) -> None:
    """The caller does not notice."""
    gone = Target(b"a")

    async def check(relay: Relay) -> None:
        gone.stop()
        assert [await ask(relay) for _ in range(4)] == [b"b"] * 4

    with_relay(patience, gone, Target(b"b"))(check)


def test_a_replica_that_takes_connections_and_is_silent_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one gets the same request; the silent one then rests."""
    monkeypatch.setattr("tests.chaos.relay.REST", 60.0)
    frozen, well = Target(b"a", mute=True), Target(b"b")

    async def check(relay: Relay) -> None:
        assert [await ask(relay) for _ in range(4)] == [b"b"] * 4
        assert frozen.heard == [b"hello"]
        assert well.heard == [b"hello"] * 4

    with_relay(0.5, frozen, well)(check)


def test_without_any_replica_the_connection_just_ends() -> None:
    """No answer is invented."""
    gone = Target(b"a")

    async def check(relay: Relay) -> None:
        gone.stop()
        assert await ask(relay) == b""

    with_relay(None, gone)(check)
