"""The rings in the stores, looked at over and over, private halves included."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from s2s_mesh import settings, settings_env
from s2s_mesh.clock import now
from s2s_mesh.errors import KeyStoreError
from s2s_mesh.keyring import KeyRing
from s2s_mesh.keys import SigningKey
from s2s_mesh.manager import KeyManager, key_manager

_PAUSE = 0.5  # seconds


class Rings:
    """What somebody would see who has every store and every key-encryption key.

    Args:
        environments: of each issuer, by name.

    Attributes:
        latest: the last ring that was seen, by issuer.
        private: every private key that was ever seen, by kid.
        order: the kids of each issuer, in the order in which they appeared.
    """

    def __init__(self, environments: Mapping[str, Mapping[str, str]]) -> None:
        self._managers = {name: _manager(environ) for name, environ in environments.items()}
        self.latest: dict[str, KeyRing] = {}
        self.private: dict[str, SigningKey] = {}
        self.order: dict[str, list[str]] = {name: [] for name in environments}

    async def watch(self) -> None:
        """Look at all of them until cancelled."""
        await asyncio.gather(*map(self._watch, self._managers))

    async def look(self, name: str) -> KeyRing | None:
        """The ring in the store now; None where there is none, or the store does not answer."""
        try:
            ring = await asyncio.to_thread(self._managers[name].peek)
        except KeyStoreError:
            return None
        if ring is not None:
            self.latest[name] = ring
            for record in sorted(ring.records.values(), key=lambda record: record.publish_at):
                if record.kid not in self.order[name]:
                    self.order[name].append(record.kid)
                if record.private is not None:
                    self.private[record.kid] = record.private
        return ring

    async def until_rotation(self, name: str) -> str:
        """Wait until the next key has taken over; the kid of its own successor, published just now."""
        known = len(self.order[name])
        while len(self.order[name]) == known:
            await asyncio.sleep(0.1)
            await self.look(name)
        return self.order[name][-1]

    async def _watch(self, name: str) -> None:
        while True:
            await self.look(name)
            await asyncio.sleep(_PAUSE)

    def close(self) -> None:
        """Let go of the stores."""
        for manager in self._managers.values():
            manager.close()


def _manager(environ: Mapping[str, str]) -> KeyManager:
    built = settings.build(**settings_env.from_env(environ, {}))
    store = built.open_key_store()
    assert store is not None
    return key_manager(built, store, may_create=lambda: False, clock=now)
