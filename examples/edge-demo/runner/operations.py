"""Rows on what happens while services run: keys rotate, the Redis goes and comes back."""

from __future__ import annotations

import asyncio
import time

from .calls import Calls, Tally
from .row import Outcome, Row

_HEALED_SECONDS = 15.0


def rows() -> list[Row]:
    """In order."""
    both = "edge and wallets"
    return [
        Row("identical-jwks", "GET jwks.json", "this runner", "identical", _same_keys),
        Row("rotation", "all this, keys rotate", both, "0 failed", _rotate, slow=True),
        Row("redis-killed", "all this, Redis down", both, "0 failed", _redis_down, slow=True),
        Row("redis-back", "all this, Redis back", both, "0 failed", _redis_back, slow=True),
    ]


async def _same_keys(calls: Calls) -> Outcome:
    """Both replicas of a service publish the same keys, to the byte."""
    start = time.perf_counter()
    for name in ("edge", "wallets"):
        deadline = time.monotonic() + _HEALED_SECONDS
        # a rotation just now reaches the other replica within the replica lag, half a second here
        while len(set(await calls.documents(name))) != 1:
            if time.monotonic() > deadline:
                return Outcome("different", f"at the replicas of {name}")
            await asyncio.sleep(0.1)
    return Outcome("identical", "2 x edge, 2 x wallets", (time.perf_counter() - start) * 1000)


def _tallied(tally: Tally, remark: str) -> Outcome:
    return Outcome(
        f"{len(tally.failures)} failed" if tally.calls else "no calls",
        f"{tally.calls} calls, {remark}",
        tally.milliseconds / max(tally.calls, 1),
        "; ".join(sorted(set(tally.failures))),
    )


async def _rotate(calls: Calls) -> Outcome:
    rotated_at: float | None = None

    def one_second_after(tally: Tally) -> bool:
        nonlocal rotated_at
        if rotated_at is None and all(len(tally.kids.get(name, ())) > 1 for name in ("edge", "wallets")):
            rotated_at = time.monotonic()
        return rotated_at is not None and time.monotonic() > rotated_at + 1

    tally = await calls.traffic(one_second_after, at_most=20)
    if rotated_at is None:
        return Outcome("no rotation", f"{tally.calls} calls in 20 s")
    return _tallied(tally, " -> ".join(kid[:5] for kid in tally.kids["edge"]))


async def _redis_down(calls: Calls) -> Outcome:
    await calls.fleet.store.down()
    tally = await calls.traffic(lambda _: False, at_most=4)
    return _tallied(tally, calls.fleet.store.went)


async def _redis_back(calls: Calls) -> Outcome:
    fleet = calls.fleet
    issuers = [fleet.ids[name] for name in ("edge", "wallets")]
    traffic = asyncio.ensure_future(calls.traffic(lambda _: False, at_most=3))
    await fleet.store.up()
    tally = await traffic
    held, deadline = False, time.monotonic() + _HEALED_SECONDS
    while not held and time.monotonic() < deadline:
        held = await asyncio.to_thread(lambda: all(fleet.store.holds_any([issuer]) for issuer in issuers))
    same = await _same_keys(calls)
    if not held or same.verdict != "identical":
        return Outcome("not healed", f"rings in the Redis: {held}, JWKS {same.verdict}")
    return _tallied(tally, fleet.store.came_back)
