"""What verifiers do to an issuer's endpoint, and what they suffer from it, in four situations."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import statistics
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from .contestants import OURS
from .endpoint import Endpoint
from .flood import Flood, measure_flood
from .jwks_peers import ALG, KINDS, LIFETIME, Kind, Peer, server_tls
from .material import Material, material
from .report import Report, Table

_LATENCY_MS = 50
_METHOD = f"""The endpoint is on loopback, in the process that verifies, and answers after {_LATENCY_MS}
ms with max-age=300. Libraries as they come; only where a set must be seen to end its lifetime is
shortened, as the last column says (our clock is moved instead). PyJWKClient and atlassian-jwt-auth, which
block, run in 200 threads; fastapi-jwks runs on the event loop, as its own dependency does. Each situation
begins with an empty memory and an endpoint of its own. Calls at once are timed from the moment when the
first of them came."""


class Plan(NamedTuple):
    """How much to do.

    Attributes:
        cold: verifications at once with nothing in memory.
        flood: unknown kids.
        flood_seconds: in this time.
        patience: seconds after which a call or a rotation is given up.
        own_flood: what we alone are put through.
    """

    cold: int = 200
    flood: int = 1000
    flood_seconds: float = 2.0
    patience: float = 40.0
    own_flood: Flood = Flood()

    @classmethod
    def quick(cls) -> Plan:
        """Enough to see the differences."""
        return cls(flood=300, flood_seconds=1.0, patience=5.0, own_flood=Flood(kids=1000, seconds=1.0))


class _Scene(NamedTuple):
    endpoint: Endpoint
    peer: Peer
    old: Material
    new: Material


def measure(plan: Plan) -> Report:
    """Measure and report."""
    report = Report("jwks", "Fetching keys in four situations", _METHOD)
    warnings.filterwarnings("ignore", "Unverified HTTPS request")
    logging.disable()  # several speak at length of an endpoint that is down
    try:
        report.tables.append(asyncio.run(_measure(plan)))
        table, checks = asyncio.run(measure_flood(plan.own_flood))
        report.tables.append(table)
        report.checks += checks
    finally:
        logging.disable(logging.NOTSET)
    return report


async def _measure(plan: Plan) -> Table:
    head = (
        "verifier",
        f"{plan.cold} cold at once: fetches (p50 / max ms)",
        f"{plan.flood} unknown kids in {plan.flood_seconds:g} s: fetches; slowest good token",
        "set expired, endpoint refuses: 3 calls",
        "set expired, endpoint hangs: 3 calls",
        "new key: its tokens verify after",
        "where a set must end",
    )
    rows: list[Sequence[str]] = []
    # rotations mostly wait, so they run at once; the one memory that fastapi-jwks has serves one endpoint
    rotations = await asyncio.gather(*(_cell(kind, _rotation, plan) for kind in KINDS))
    for kind, rotation in zip(KINDS, rotations, strict=True):
        cells = [
            await _cell(kind, _cold, plan),
            await _cell(kind, _flood, plan),
            await _cell(kind, _refused, plan),
            await _cell(kind, _hanging, plan),
        ]
        rows.append((f"**{kind.name}**" if kind.name == OURS else kind.name, *cells, rotation, kind.note))
    return Table(f"{ALG}", head, rows)


_Situation = Callable[[_Scene, Plan], Coroutine[Any, Any, str]]


async def _cell(kind: Kind, situation: _Situation, plan: Plan) -> str:
    try:
        async with _scene(kind, short=situation in (_refused, _hanging)) as scene:
            return await situation(scene, plan)
    except ImportError:
        return "not installed"


@contextlib.asynccontextmanager
async def _scene(kind: Kind, *, short: bool) -> AsyncIterator[_Scene]:
    old, new = material(ALG), material(ALG, "second")
    control = f"max-age={LIFETIME if short else 300:g}"
    tls = server_tls() if kind.tls else None
    with Endpoint(old, latency=_LATENCY_MS / 1000, cache_control=control, tls=tls) as endpoint:
        peer = kind.make(endpoint, short)
        try:
            yield _Scene(endpoint, peer, old, new)
        finally:
            await asyncio.to_thread(endpoint.close)
            await peer.close()


async def _cold(scene: _Scene, plan: Plan) -> str:
    tokens = [scene.peer.token(scene.old) for _ in range(plan.cold)]
    start = time.perf_counter()
    calls = await asyncio.gather(*(_call(scene.peer, token, plan.patience, start=start) for token in tokens))
    times = sorted(call.milliseconds for call in calls)
    failed = sum(not call.good for call in calls)
    return (
        f"{scene.endpoint.fetches} ({statistics.median(times):.0f} / {times[-1]:.0f})"
        f"{f', {failed} failed' if failed else ''}"
    )


async def _flood(scene: _Scene, plan: Plan) -> str:
    good = scene.peer.token(scene.old)
    await scene.peer.verify(good)
    before = scene.endpoint.fetches
    unknown = [scene.peer.token(scene.old, kid=f"edge/unknown-{number}") for number in range(plan.flood)]
    pause = plan.flood_seconds / plan.flood
    flooding = asyncio.gather(
        *(
            _call(scene.peer, token, plan.patience, after=number * pause)
            for number, token in enumerate(unknown)
        )
    )
    goods: list[_Call] = []
    end = time.monotonic() + plan.flood_seconds
    while time.monotonic() < end:
        goods.append(await _call(scene.peer, good, plan.patience))
        await asyncio.sleep(0.02)
    await flooding
    failed = sum(not call.good for call in goods)
    slowest = max(call.milliseconds for call in goods)
    refused = f", {failed} of {len(goods)} failed" if failed else ""
    return f"{scene.endpoint.fetches - before}; {slowest:.1f} ms{refused}"


async def _refused(scene: _Scene, plan: Plan) -> str:
    return await _expired(scene, plan, scene.endpoint.refuse)


async def _hanging(scene: _Scene, plan: Plan) -> str:
    return await _expired(scene, plan, scene.endpoint.hang)


async def _expired(scene: _Scene, plan: Plan, trouble: Callable[[], None]) -> str:
    await scene.peer.verify(scene.peer.token(scene.old))
    trouble()
    await scene.peer.expire()
    tokens = [scene.peer.token(scene.old) for _ in range(3)]
    start, patience = time.perf_counter(), min(plan.patience, 20.0)
    calls = await asyncio.gather(*(_call(scene.peer, token, patience, start=start) for token in tokens))
    verdict = "verify" if all(call.good for call in calls) else "**fail**"
    return f"{verdict}, {' / '.join(_duration(call) for call in sorted(calls, key=lambda c: c.milliseconds))}"


async def _rotation(scene: _Scene, plan: Plan) -> str:
    await scene.peer.verify(scene.peer.token(scene.old))
    scene.endpoint.publish(scene.old, scene.new)
    start = time.monotonic()
    tries = 0
    while time.monotonic() - start < plan.patience:
        tries += 1
        if (await _call(scene.peer, scene.peer.token(scene.new), plan.patience)).good:
            return f"{time.monotonic() - start:.2f} s{' (the first token)' if tries == 1 else ''}"
        await asyncio.sleep(0.1)
    return f"more than {plan.patience:g} s"


class _Call(NamedTuple):
    good: bool
    milliseconds: float
    given_up: bool = False


async def _call(
    peer: Peer, token: str, patience: float, *, after: float = 0.0, start: float | None = None
) -> _Call:
    if after:
        await asyncio.sleep(after)
    if start is None:
        start = time.perf_counter()
    given_up = False
    try:
        await asyncio.wait_for(peer.verify(token), patience)
    except asyncio.TimeoutError:
        good, given_up = False, True
    except Exception:  # noqa: BLE001 - whatever a library raises is its way to refuse
        good = False
    else:
        good = True
    return _Call(good, (time.perf_counter() - start) * 1000, given_up)


def _duration(call: _Call) -> str:
    figure = f"{call.milliseconds:.1f} ms" if call.milliseconds < 100 else f"{call.milliseconds / 1000:.1f} s"
    return f"> {figure}" if call.given_up else figure
