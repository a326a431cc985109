"""What is done to the mesh, one trouble after another. Each returns a remark, or raises `ChaosError`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx

from s2s_mesh import RotationSchedule
from s2s_mesh.keyrecord import KeyRecord
from s2s_mesh.keyring import KeyRing
from tests.servers import RedisServer

from . import ChaosError
from .fleet import ISSUER_REPLICAS, Fleet
from .hostile import Hostile, Stolen, present
from .relay import HOST
from .rings import Rings
from .stores import Stores
from .verdict import Pardon

SCHEDULE = RotationSchedule.FAST_FOR_TESTS
# the bound of the standard: R + max(M, E) + G
DISTRUST = SCHEDULE.replica_lag + max(SCHEDULE.served_max_age, SCHEDULE.foreign_cache) + SCHEDULE.stale_grace
_HEAL_SECONDS = 10.0
_MARGIN = 4.0  # seconds for noticing that a store is back, and for machines that have a lot else to do


@dataclass
class Scene:
    """What a trouble has at hand.

    Attributes:
        hold: seconds for which something is stopped or frozen.
        down: seconds for which a killed Redis stays away.
        settle: seconds of calls after each trouble.
        revocations: kid and time (Unix seconds) of each.
        stalls: when the machine stood still.
    """

    fleet: Fleet
    stores: Stores
    rings: Rings
    hostile: Hostile
    hold: float
    down: float
    settle: float
    revocations: list[tuple[str, float]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)

    @property
    def pardon(self) -> Pardon:
        """Which failed calls are not the mesh's fault, as far as things have gone."""
        replicas = [replica for replicas in self.fleet.replicas.values() for replica in replicas]
        freezes = {r.name: r.freezes for r in replicas}
        return Pardon(freezes=freezes, revocations=self.revocations, stalls=self.stalls)


class Trouble(NamedTuple):
    """One of them: whose, what, and how."""

    issuer: str
    what: str
    play: Callable[[Scene], Awaitable[str]]


async def _killed_and_kept(scene: Scene) -> str:
    server = scene.stores.edge
    server.kill()
    await asyncio.sleep(scene.down)
    await _start(server)
    ring = await _ring_back(scene, "edge")
    return f"{scene.down:g} s away, came back with version {ring.version}"


async def _killed_and_lost(scene: Scene) -> str:
    server = scene.stores.orders
    held = _latest(scene, "orders")
    server.kill()
    await asyncio.sleep(scene.down)
    await _start(server)
    return f"{scene.down:g} s away, came back empty, {await _written_back(scene, 'orders', held)}"


async def _flushed(scene: Scene) -> str:
    held = _latest(scene, "orders")
    scene.stores.orders.flushall()
    return await _written_back(scene, "orders", held)


async def _failover(scene: Scene) -> str:
    setup = scene.stores.payroll
    new = str(setup.replica.port).encode()
    held = _latest(scene, "payroll")
    setup.primary.kill()
    try:
        seconds = await scene.fleet.until(
            lambda: new in setup.sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", setup.service),
            20,
            "the Sentinel names no new primary",
        )
        healed = await _written_back(scene, "payroll", held)
    finally:
        await _start(setup.primary)
    # a Sentinel would do that too, but in its own time
    setup.primary.command("REPLICAOF", HOST, new.decode())
    return f"new primary after {seconds:.1f} s, {healed}"


async def _stopped(scene: Scene) -> str:
    server = scene.stores.edge
    await _coverage(scene, "edge")
    server.pause()
    try:
        await asyncio.sleep(scene.hold)
    finally:
        server.resume()
    await _ring_back(scene, "edge")
    return f"{scene.hold:g} s without an answer"


async def _frozen(scene: Scene) -> str:
    fleet = scene.fleet
    replica = fleet.replicas["edge"][1]
    await _coverage(scene, "edge")
    replica.freeze()
    try:
        await asyncio.sleep(scene.hold)
    finally:
        replica.thaw()

    async def agreed() -> bool:
        return len(set(await fleet.documents("edge"))) == 1

    seconds = await fleet.until(
        agreed, _HEAL_SECONDS, f"{replica.name} does not serve the keys of the others"
    )
    return f"{replica.name} frozen {scene.hold:g} s, serves the same keys {seconds:.1f} s after"


async def _revoked(scene: Scene) -> str:
    fleet, issuer = scene.fleet, scene.fleet.ids["orders"]
    record = await _young_key(scene, "orders")
    assert record.private is not None
    audience = fleet.ids["ledger"]
    token = scene.hostile.held_token(issuer, record.private, audience)
    for replica in fleet.replicas["ledger"]:
        answer = await present(fleet.http, replica.url, token)
        if not answer.is_success:
            raise ChaosError(f"{replica.name} refuses a token whose key is not yet revoked")
    await fleet.command("orders", "keys", "revoke", record.kid, "--yes")
    revoked = (await _ring_back(scene, "orders")).records[record.kid].revoked_at
    if revoked is None:
        raise ChaosError(f"{record.kid} is not revoked")
    scene.revocations.append((record.kid, revoked))
    scene.hostile.stolen.append(Stolen(issuer, record.private, token, audience, revoked + DISTRUST))
    refused_after = await asyncio.gather(
        *(_refused(scene, replica.url, token, revoked) for replica in fleet.replicas["ledger"])
    )
    await asyncio.sleep(max(revoked + DISTRUST - time.time(), 0))
    return f"its tokens were refused after {max(refused_after):.1f} s, at most {DISTRUST:g} s are allowed"


async def _algorithm_changed(scene: Scene) -> str:
    rotate = ("keys", "rotate", "--algorithm", "RS256", "--yes")
    deadline = time.monotonic() + _HEAL_SECONDS
    while True:
        try:
            await scene.fleet.command("payroll", *rotate)
            break
        except ChaosError as failed:
            # while Sentinel still fails over it may name the old primary, which came back empty; the command
            # then changes nothing, and its operator tries again
            if "no_ring" not in str(failed) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)
    seconds = await scene.fleet.until(
        lambda: _every_replica_signs(scene, "payroll", "RS256"),
        SCHEDULE.lead + SCHEDULE.period + _MARGIN,
        "payroll does not sign RS256",
        pause=0.5,
    )
    return f"every replica signs RS256 {seconds:.1f} s later"


TROUBLES = (
    Trouble("edge", "Redis killed, restarted with its data", _killed_and_kept),
    Trouble("orders", "Redis killed, restarted empty", _killed_and_lost),
    Trouble("orders", "key revoked", _revoked),
    Trouble("orders", "FLUSHALL", _flushed),
    Trouble("payroll", "Sentinel failover", _failover),
    Trouble("edge", "Redis stopped (SIGSTOP)", _stopped),
    Trouble("edge", "replica frozen and thawed", _frozen),
    Trouble("payroll", "algorithm changed to RS256", _algorithm_changed),
)


async def _coverage(scene: Scene, name: str) -> None:
    """Before what lasts longer than the keys at hand may: wait until every replica has the next key.

    Just before a rotation the ring in memory signs for one period more, just after it for two. Nobody can do
    without a store for longer, so what stops one for more than a period (8 s here, 30 days by default) has to
    begin in time.
    """
    if scene.hold + _MARGIN > SCHEDULE.period:
        kid = (await scene.rings.until_rotation(name)).encode()

        async def everywhere() -> bool:
            return all(kid in document for document in await scene.fleet.documents(name))

        await scene.fleet.until(everywhere, _HEAL_SECONDS, f"not every replica of {name} has the next key")


async def _young_key(scene: Scene, name: str) -> KeyRecord:
    """The key that signs, once it is one that goes on signing for a while."""
    while True:
        ring = await _ring_back(scene, name)
        record = ring.signing_record(time.time())
        if record is None or record.private is None:
            raise ChaosError(f"{name} has no key that signs")
        if record.sign_until > time.time() + SCHEDULE.period / 2:
            return record
        await asyncio.sleep(0.1)


async def _start(server: RedisServer) -> None:
    port = server.port
    await asyncio.to_thread(server.start)
    if server.port != port:
        raise ChaosError(f"port {port} was taken while its Redis was away; run it again")


def _latest(scene: Scene, name: str) -> KeyRing:
    return scene.rings.latest[name]


async def _ring_back(scene: Scene, name: str) -> KeyRing:
    async def there() -> bool:
        return await scene.rings.look(name) is not None

    await scene.fleet.until(there, _HEAL_SECONDS, f"there is no ring of {name}")
    return _latest(scene, name)


async def _written_back(scene: Scene, name: str, held: KeyRing) -> str:
    """Wait for the ring, and see that it is the one that there was."""
    signing = held.signing_record(time.time())
    start = time.monotonic()
    ring = await _ring_back(scene, name)
    if signing is None or signing.kid not in ring.records:
        raise ChaosError(f"the ring of {name} was not written back but made anew")
    for kid, _ in scene.revocations:
        if kid in ring.records and ring.records[kid].revoked_at is None:
            raise ChaosError(f"key {kid} is no longer revoked")
    return f"ring of before there after {time.monotonic() - start:.1f} s, version {ring.version}"


async def _refused(scene: Scene, url: str, token: bytes, since: float) -> float:
    """Seconds after `since` at which a replica no longer lets a token in."""

    sent = 0.0

    async def refused() -> bool:
        nonlocal sent
        sent = time.time()
        with suppress(httpx.TransportError):
            return not (await present(scene.fleet.http, url, token)).is_success
        return False

    await scene.fleet.until(refused, since + DISTRUST - time.time(), "a token of a revoked key is let in")
    return max(sent - since, 0)


async def _every_replica_signs(scene: Scene, name: str, alg: str) -> bool:
    await scene.rings.look(name)
    tallies = await scene.fleet.tallies([name])
    kids = {kid for kid, key in scene.rings.private.items() if key.alg == alg}
    return sum(bool(kids & set(tallies[r.name].kids)) for r in scene.fleet.replicas[name]) == ISSUER_REPLICAS
