"""An exported module decides as we do: real Node, npm `jose`, and the requests that Envoy is asked."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from s2s_mesh.export_jose import jose
from s2s_mesh.export_plan import plan
from s2s_mesh.trust import TrustConfig

from .command_line import PATIENCE
from .exporting import (
    SIZES,
    Door,
    Receiver,
    Request,
    compare,
    keys_published,
    requests,
    sized,
    trust_text,
    verdict,
)
from .interop.node import HERE, MODULES, node, node_modules
from .jwks_servers import JWKSServer, answer
from .servers import free_port, missing, wait_until
from .tokens import EDGE, WALLETS, encode, good, key


class Stand(NamedTuple):
    """Node with an exported module, and our own receiver over the same trust file."""

    door: Door
    receiver: Receiver


@contextmanager
def stand(folder: Path, *, routed: bool) -> Iterator[Stand]:
    """Both, for the length of the block."""
    with keys_published() as places, served(folder, trust_text(places, routed=routed)) as both:
        yield both


@contextmanager
def served(folder: Path, text: str) -> Iterator[Stand]:
    """The same for a trust file of the test's own."""
    trust = TrustConfig.parse(text)
    module = folder / "trust.mjs"
    module.write_text(jose(plan(trust, WALLETS, source="trust.toml", digest="0" * 64)), encoding="utf-8")
    (folder / "node_modules").symlink_to(node_modules())
    port = free_port()
    receiver, door = Receiver(trust), Door(port)
    with (
        (folder / "node.stderr").open("w") as errors,
        subprocess.Popen(
            [node(), str(HERE / "export_door.mjs"), str(module), str(port)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", (folder / "node.stderr").read_text()
            yield Stand(door, receiver)
            assert (folder / "node.stderr").read_text() == ""
        finally:
            process.terminate()
            door.close()
            receiver.client.close()


@pytest.mark.parametrize(("routed", "count"), [(True, 2000), (False, 1000)])
def test_the_same_requests(tmp_path: Path, routed: bool, count: int) -> None:
    """No verdict differs, with routes and without."""
    with stand(tmp_path, routed=routed) as both:
        tally = compare(both.door, both.receiver, requests(seed=7, count=count))
    assert tally.different == [], str(tally)
    assert tally.share >= 0.2


def test_sizes(tmp_path: Path) -> None:
    """A byte more is refused by both."""
    with stand(tmp_path, routed=True) as both:
        for what, (_, good_one) in SIZES.items():
            request = sized(what)
            assert (verdict(both.receiver.judge(request)) == "admitted") is good_one, what
            assert both.door.ask(request)[0] == (200 if good_one else 401), what


def test_reasons_repeat_nothing(tmp_path: Path) -> None:
    """What somebody sent could be a line of its own in the log."""
    (tmp_path / "node_modules").symlink_to(node_modules())
    trust = TrustConfig.parse(ed25519(f"{EDGE}/keys.json"))
    made = jose(plan(trust, WALLETS, source="trust.toml", digest="0" * 64))
    made += "const said = (why) => console.log(why.message);\n"
    made += "for (const token of process.argv.slice(2)) await verifyToken(token).catch(said);\n"
    (tmp_path / "trust.mjs").write_text(made, encoding="utf-8")
    tokens = [f"{encode(header_text).decode()}.e30.AAAA" for header_text in (b"a\nb", b"\xff", b"{}")]
    command = [node(), str(tmp_path / "trust.mjs"), *tokens]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.splitlines() == [
        "not a token: SyntaxError",
        "not a token: TypeError",
        "the header's members",
    ]


def ed25519(place: str) -> str:
    """A trust file with one caller."""
    return (
        f'version = 1\n[defaults]\nallow_loopback_http = true\n[issuers."{EDGE}"]\njwks_uri = "{place}"\n'
        f'algorithms = ["Ed25519"]\n[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
    )


def test_ed25519(tmp_path: Path) -> None:
    """The name of RFC 9864, which jose knows as well."""
    signer, now = key("Ed25519"), int(time.time())
    token = good(signer, iat=now, exp=now + 600).decode()
    request = Request("", "GET", "/", [("Authorization", f"Bearer {token}")])
    with (
        JWKSServer(time.time) as keys,
        served(tmp_path, ed25519(keys.endpoint("edge.json", signer).url)) as both,
    ):
        assert both.door.ask(request)[0] == 200


@pytest.mark.parametrize("instead", [answer(status="500 Oops"), answer(b"<html>"), b""])
def test_keys_that_cannot_be_had(tmp_path: Path, instead: bytes) -> None:
    """503: the caller did nothing wrong."""
    now = int(time.time())
    token = good(key("Ed25519"), iat=now, exp=now + 600).decode()
    with JWKSServer(time.time) as keys:
        endpoint = keys.endpoint("edge.json")
        endpoint.instead = instead
        with served(tmp_path, ed25519(endpoint.url)) as both:
            request = Request("", "GET", "/", [("Authorization", f"Bearer {token}")])
            assert both.door.ask(request)[0] == 503


@contextmanager
def worker(folder: Path, text: str) -> Iterator[Stand]:
    """workerd with an exported module, and our own receiver over the same trust file."""
    program = node_modules() / "@cloudflare" / "workerd-linux-64" / "bin" / "workerd"
    if not program.is_file():
        missing("workerd: npm install @cloudflare/workerd-linux-64 (Linux on x86-64)")
    trust, port = TrustConfig.parse(text), free_port()
    (folder / "trust.mjs").write_text(
        jose(plan(trust, WALLETS, source="trust.toml", digest="0" * 64)), encoding="utf-8"
    )
    shutil.copy(HERE / "export_worker.mjs", folder)
    library = MODULES / "jose" / "dist" / "webapi"
    shutil.copytree(library, folder, dirs_exist_ok=True)
    # what a bundler would make one of
    modules = {name: name for name in ("export_worker.mjs", "trust.mjs")} | {"jose": "index.js"}
    modules |= {
        path: path for file in library.rglob("*.js") if (path := file.relative_to(library).as_posix())
    }
    listed = [f'(name = "{name}", esModule = embed "{path}")' for name, path in modules.items()]
    (folder / "config.capnp").write_text(
        'using Workerd = import "/workerd/workerd.capnp";\n'
        "const config :Workerd.Config = (\n"
        '  services = [(name = "internet", network = (allow = ["local"])), '
        '(name = "main", worker = .main)],\n'
        f'  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")]\n'
        ");\n"
        "const main :Workerd.Worker = (\n"
        f'  modules = [{", ".join(listed)}], compatibilityDate = "2026-11-01"\n'
        ");\n"
    )
    receiver, door = Receiver(trust), Door(port)
    with (
        (folder / "workerd.output").open("w") as output,
        subprocess.Popen(
            [program, "serve", "config.capnp"], cwd=folder, stdout=output, stderr=output
        ) as process,
    ):
        try:
            wait_until(door.answers, what="workerd to answer")
            yield Stand(door, receiver)
        finally:
            process.terminate()
            door.close()
            receiver.client.close()


def test_in_a_worker(tmp_path: Path) -> None:
    """The same verdicts, but for paths, which the runtime has tidied up before anybody sees them."""
    with keys_published() as places, worker(tmp_path, trust_text(places)) as both:
        tally = compare(
            both.door, both.receiver, (one for one in requests(seed=7, count=800) if one.kind != "path")
        )
    assert tally.different == [], str(tally)
    assert tally.share >= 0.2
