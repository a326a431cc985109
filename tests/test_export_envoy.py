"""An exported Envoy configuration decides as we do: real Envoy, real tokens, thousands of requests."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from s2s_mesh.export_envoy import envoy
from s2s_mesh.export_plan import plan
from s2s_mesh.trust import TrustConfig
from s2s_mesh.wellknown import DOCUMENTS, JWKS

from .command_line import PATIENCE, ROOT
from .exporting import (
    BEYOND,
    SHARES,
    SIZES,
    Door,
    Receiver,
    Request,
    asked,
    beyond,
    compare,
    keys_published,
    requests,
    sized,
    trust_text,
    verdict,
)
from .fronts import envoy_program, node_app
from .servers import free_port, wait_until
from .tokens import EDGE, WALLETS


class Stand(NamedTuple):
    """Envoy with an exported configuration, and our own receiver over the same trust file."""

    door: Door
    receiver: Receiver


@contextmanager
def stand(folder: Path, *, routed: bool, program: str = "") -> Iterator[Stand]:
    """Both, for the length of the block; `program` is put before what the Lua program does."""
    port, app = free_port(), free_port()
    with keys_published() as places, node_app(folder, app):
        text = trust_text(places, routed=routed)
        trust = TrustConfig.parse(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        exported = envoy(plan(trust, WALLETS, source="trust.toml", digest=digest))
        for usual, own in ((8080, port), (3000, app)):
            exported = exported.replace(f"port_value: {usual}\n", f"port_value: {own}\n")
        start = "function envoy_on_request(handle)"
        assert start in exported
        exported = exported.replace(start, f"{start} {program}")
        (folder / "envoy.yaml").write_text(exported, encoding="utf-8")
        options = ["--concurrency", "1", "--log-level", "warning", "--use-dynamic-base-id"]
        command = [envoy_program(), "-c", str(folder / "envoy.yaml"), *options]
        receiver, door = Receiver(trust), Door(port)
        with (
            (folder / "envoy.output").open("w") as output,
            subprocess.Popen(command, stdout=output, stderr=output) as process,
        ):
            try:
                wait_until(door.answers, timeout=PATIENCE, what="Envoy to answer")
                yield Stand(door, receiver)
                assert process.poll() is None, (folder / "envoy.output").read_text()
            finally:
                process.terminate()
                door.close()
                receiver.client.close()


@pytest.fixture(scope="module")
def pathless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A trust file without routes."""
    with stand(tmp_path_factory.mktemp("open"), routed=False) as both:
        yield both


def test_two_thousand_requests(tmp_path: Path) -> None:
    """No verdict differs, and the application is told the same caller."""
    with stand(tmp_path, routed=True) as both:
        tally = compare(both.door, both.receiver, requests(seed=7, count=2000))
    assert tally.different == [], str(tally)
    assert tally.total.total() == 2000
    assert tally.total.keys() == SHARES.keys()
    docs = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    assert f"{tally.admitted.total()} were admitted, by both; no verdict differed" in docs
    assert tally.share >= 0.2


def test_without_routes(pathless: Stand) -> None:
    """Where an audience has no route rules every path is open, however it is written."""
    tally = compare(pathless.door, pathless.receiver, requests(seed=8, count=1000))
    assert tally.different == [], str(tally)
    assert tally.share >= 0.4


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", path, 200) for path in DOCUMENTS),
        ("HEAD", JWKS, 200),
        ("POST", JWKS, 401),
        ("GET", f"{JWKS}/", 401),
        ("GET", f"{JWKS}x", 401),
        ("GET", f"/x/..{JWKS}", 401),
        ("GET", f"/{JWKS}", 401),
        ("GET", JWKS.replace("w", "%77", 1), 401),
    ],
)
def test_its_own_documents(pathless: Stand, method: str, path: str, status: int) -> None:
    """Everybody may have them, exactly as they are spelled; nothing else is public."""
    assert pathless.door.ask(Request("", method, path, []))[0] == status


@pytest.mark.parametrize("routed", [True, False])
def test_a_program_that_fails(tmp_path: Path, routed: bool) -> None:
    """Envoy goes on where a Lua program ends by an error; nobody is let in for that."""
    with stand(tmp_path, routed=routed, program="error('out of order')") as both:
        assert both.door.ask(asked(EDGE, "GET", "/wallets/42"))[0] == 403


@pytest.mark.parametrize("what", BEYOND)
def test_what_it_refuses_by_nature(pathless: Stand, what: str) -> None:
    """Envoy reads JSON numbers as doubles and refuses what they cannot hold, and what is no HTTP to it."""
    request = beyond(what)
    assert verdict(pathless.receiver.judge(request)) == "admitted"
    assert pathless.door.ask(request)[0] in (400, 401)


@pytest.mark.parametrize("what", SIZES)
def test_sizes(pathless: Stand, what: str) -> None:
    """A byte more is refused by both."""
    request = sized(what)
    assert (verdict(pathless.receiver.judge(request)) == "admitted") is SIZES[what][1]
    assert pathless.door.ask(request)[0] == (200 if SIZES[what][1] else 401)
