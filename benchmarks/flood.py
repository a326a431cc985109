"""Ourselves under a flood of made-up key ids: what it costs the issuer, and callers with good tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from .contestants import OURS
from .endpoint import Endpoint
from .jwks_peers import ALG, KINDS, Peer
from .material import material
from .report import Check, Table

_LATENCY = 0.05  # seconds of the endpoint
_PAUSE = 0.01  # seconds between two good tokens


class Flood(NamedTuple):
    """How much of it.

    Attributes:
        kids: made-up key ids.
        seconds: in this time.
    """

    kids: int = 10_000
    seconds: float = 10.0


async def measure_flood(flood: Flood) -> tuple[Table, list[Check]]:
    """A quiet run, the flood with a rotation in the middle of it, and the promises about both."""
    old, new = material(ALG), material(ALG, "second")
    ours = next(kind for kind in KINDS if kind.name == OURS)
    with Endpoint(old, latency=_LATENCY, cache_control="max-age=300") as endpoint:
        peer = ours.make(endpoint, False)
        count = round(flood.seconds / _PAUSE)
        good = [peer.token(old) for _ in range(2 * count)]
        unknown = [peer.token(old, kid=f"made-up-{number}") for number in range(flood.kids)]
        rotated = peer.token(new)
        await peer.verify(peer.token(old))

        async def verify_all(tokens: Sequence[str]) -> list[float]:
            taken = []
            for token in tokens:
                begun = time.perf_counter()
                await peer.verify(token)
                taken.append((time.perf_counter() - begun) * 1000)
                await asyncio.sleep(_PAUSE)
            return taken

        async def refuse_all() -> None:
            begun = time.monotonic()
            waiting = []
            for number, token in enumerate(unknown):
                behind = begun + number * flood.seconds / flood.kids - time.monotonic()
                if behind > 0:
                    await asyncio.sleep(behind)
                waiting.append(asyncio.ensure_future(_refused(peer, token)))
            await asyncio.gather(*waiting)

        async def rotate() -> float:
            await asyncio.sleep(flood.seconds / 2)
            endpoint.publish(old, new)
            begun = time.monotonic()
            while await _refused(peer, rotated):  # noqa: ASYNC110 - it is the verifier that is asked
                await asyncio.sleep(0.05)
            return time.monotonic() - begun

        try:
            quiet = await verify_all(good[:count])
            before = endpoint.fetches
            flooding = asyncio.ensure_future(refuse_all())
            rotation = asyncio.ensure_future(rotate())
            busy = await verify_all(good[count:])
            await flooding
            fetches = endpoint.fetches - before
            rotated_after = await rotation
        finally:
            await asyncio.to_thread(endpoint.close)
            await peer.close()
    percentiles = [_percentile(run, share) for run in (quiet, busy) for share in (0.5, 0.99)]
    table = Table(
        f"{flood.kids:,} made-up key ids in {flood.seconds:g} s, a rotation in the middle",
        ("", "quiet p50 ms", "quiet p99 ms", "flood p50 ms", "flood p99 ms", "fetches", "new key after"),
        [
            (
                "good tokens",
                *(f"{figure:.3f}" for figure in percentiles),
                f"{fetches}",
                f"{rotated_after:.2f} s",
            )
        ],
    )
    slower = percentiles[3] / percentiles[1]
    return table, [
        Check.at_most("flood: fetches, one of which brings the new key", float(fetches), 3, ""),
        Check.at_most("flood: p99 of good tokens, of the quiet run's", slower, 2, "x"),
        Check.at_most("flood: a new key verifies after", rotated_after, 10, "s"),
    ]


async def _refused(peer: Peer, token: str) -> bool:
    try:
        await peer.verify(token)
    except Exception:  # noqa: BLE001 - refusing is what it is for
        return True
    return False


def _percentile(figures: Sequence[float], share: float) -> float:
    return sorted(figures)[min(int(len(figures) * share), len(figures) - 1)]
