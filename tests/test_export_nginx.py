"""An exported nginx configuration and the gateway that it asks decide as we do: real nginx, real requests."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from s2s_mesh.export_nginx import nginx
from s2s_mesh.export_plan import plan
from s2s_mesh.trust import TrustConfig

from .command_line import PATIENCE, Terminal
from .exporting import Door, Receiver, asked, compare, keys_published, requests, trust_text
from .fronts import nginx_command, nginx_in, node_app
from .servers import free_port, wait_until
from .tokens import EDGE, WALLETS


class Stand(NamedTuple):
    """nginx with an exported configuration, and our own receiver over the same trust file."""

    door: Door
    receiver: Receiver


@contextmanager
def stand(folder: Path, *, routed: bool, gateway_routed: bool) -> Iterator[Stand]:
    """Both, with gateway and application behind nginx; the gateway may have another trust file."""
    ports = {"8080": free_port(), "9000": free_port(), "3000": free_port()}
    terminal = Terminal(folder)
    terminal.environment = {
        "S2S_MESH_ISSUER": WALLETS,
        "S2S_MESH_KEY_STORE": "memory://",
        "S2S_MESH_ALLOW_MEMORY_STORE": "1",
        "S2S_MESH_TRUST_FILE": "gateway.toml",
    }
    with keys_published() as places, node_app(folder, ports["3000"]):
        trust = TrustConfig.parse(trust_text(places, routed=routed))
        (folder / "gateway.toml").write_text(trust_text(places, routed=gateway_routed), encoding="utf-8")
        exported = nginx_in(nginx(plan(trust, WALLETS, source="trust.toml", digest="0" * 64)))
        for usual, port in ports.items():
            exported = exported.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
        (folder / "nginx.conf").write_text(exported, encoding="utf-8")
        command = nginx_command(folder, folder / "nginx.conf")
        tested = subprocess.run(
            [*command, "-t"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE
        )
        assert tested.returncode == 0, tested.stderr
        receiver, door = Receiver(trust), Door(ports["8080"])
        with (
            terminal.server("gateway", "--front", "nginx", "--port", str(ports["9000"])),
            (folder / "nginx.output").open("w") as output,
            subprocess.Popen(command, cwd=folder, stdout=output, stderr=output) as process,
        ):
            try:
                wait_until(door.answers, timeout=PATIENCE, what="nginx to answer")
                yield Stand(door, receiver)
            finally:
                process.terminate()
                door.close()
                receiver.client.close()


def test_the_same_requests(tmp_path: Path) -> None:
    """No verdict differs."""
    with stand(tmp_path, routed=True, gateway_routed=True) as both:
        tally = compare(both.door, both.receiver, requests(seed=9, count=1000))
    assert tally.different == [], str(tally)
    assert tally.share >= 0.2


def test_without_routes(tmp_path: Path) -> None:
    """Every path is open, but for those that nginx itself refuses: broken escapes, and the octet zero."""
    with stand(tmp_path, routed=False, gateway_routed=False) as both:
        tally = compare(both.door, both.receiver, requests(seed=9, count=600))
    own = [line for line in tally.different if re.search(r"theirs 400.*%(00|z|4?($|\?| ))", line)]
    assert own
    assert tally.different == own


def test_a_gateway_with_another_trust_file(tmp_path: Path) -> None:
    """Where it lets in what the exported file does not name, nginx does not: 502 says that the two differ."""
    with stand(tmp_path, routed=True, gateway_routed=False) as both:
        for method, path, status in (
            ("GET", "/wallets/42", 200),
            ("HEAD", "/wallets/42", 200),
            ("GET", "/w%61llets/42", 200),
            ("PUT", "/wallets/42", 502),
            ("GET", "/unknown", 502),
            ("GET", "/wallets/42/", 502),
            ("GET", "/wallets//42", 502),
            ("GET", "/reports", 200),
            ("GET", "/reports%0A", 502),
            ("GET", "/slash/%0a", 502),
            ("GET", "/caf%C3%A9/1/men%C3%BC", 200),
            ("GET", "/files/aXb+c(1)[x]", 502),
        ):
            assert both.door.ask(asked(EDGE, method, path))[0] == status, path
