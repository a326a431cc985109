"""Key managers for tests: one replica each, on whatever store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s2s_mesh import RotationSchedule
from s2s_mesh.manager import KeyManager
from s2s_mesh.store import KeyStore, SealedStore, Sealer

from .tokens import EDGE, Clock


def manager(
    store: KeyStore,
    clock: Callable[[], float] | None = None,
    *,
    may_create: bool = True,
    keks: Sequence[bytes] = (),
    schedule: RotationSchedule = RotationSchedule.DEFAULT,
    issuer: str = EDGE,
    algorithm: str = "ES256",
) -> KeyManager:
    """The manager of one replica; without `keks` nothing is sealed."""
    return KeyManager(
        SealedStore(store, Sealer(keks, issuer=issuer) if keks else None),
        issuer=issuer,
        schedule=schedule,
        algorithm=algorithm,
        may_create=lambda: may_create,
        clock=clock or Clock(),
    )
