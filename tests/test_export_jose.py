"""An exported module decides as we do: real Node, npm `jose`, and the requests that Envoy is asked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from s2s_mesh.export_jose import jose
from s2s_mesh.export_plan import plan
from s2s_mesh.trust import TrustConfig

from .exporting import Door, Receiver, compare, keys_published, requests, trust_text
from .interop.node import HERE, node, node_modules
from .servers import free_port
from .tokens import WALLETS


class Stand(NamedTuple):
    """Node with an exported module, and our own receiver over the same trust file."""

    door: Door
    receiver: Receiver


@contextmanager
def stand(folder: Path, *, routed: bool) -> Iterator[Stand]:
    """Both, for the length of the block."""
    with keys_published() as places:
        trust = TrustConfig.parse(trust_text(places, routed=routed))
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
    print(tally)
    assert tally.different == [], str(tally)
    assert tally.share >= 0.2
