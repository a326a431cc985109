"""Token ids that were used: each is accepted once, by one of all the replicas that share the store."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..errors import ConfigError, KeyStoreError, StoreReason
from .redis_address import REDIS_SCHEMES, RedisAddress

if TYPE_CHECKING:
    from .redis_client import RedisClient

_MAX_REMEMBERED = 100_000
_REST = 1.0  # seconds that a store which failed is left alone, so that it cannot make every request wait


class ReplayStore(Protocol):
    """Remembers what was used. Thread-safe; may block for the time-outs of a network."""

    def use(self, issuer: str, jti: str, seconds: float) -> bool:
        """Whether this is the first use of a token id.

        Args:
            issuer: who made the token; ids of different issuers are different (RFC 9449 section 11.1).
            jti: the id.
            seconds: how long it has to be remembered: until the token has expired for every clock.

        Raises:
            KeyStoreError: nobody can tell just now.
        """

    def close(self) -> None:
        """Release sockets and the like; may be called twice."""


def open_replay_store(url: str, *, audience: str) -> ReplayStore:
    """Return the store that `url` describes, inert until used.

    Args:
        url: `redis://` or one of its relatives, or `memory://` for a service that runs as one process.
        audience: the service that remembers.

    Raises:
        ConfigError: what `url` describes cannot be shared by replicas.
    """
    scheme = url.partition("://")[0].lower()
    if scheme == "memory":
        return MemoryReplays()
    if scheme not in REDIS_SCHEMES:
        raise ConfigError(
            'replay = "once" and proof = "wpt" need a key store that every replica can ask in an instant: '
            f"redis:// or one of its relatives (memory:// for a service that runs as one process), not {scheme}://"
        )
    return RedisReplays(RedisAddress.parse(url), audience=audience)


def _digest(issuer: str, jti: str) -> str:
    # a hash, because ids are foreign text of up to 256 characters; NUL is in neither of the two
    return hashlib.sha256(f"{issuer}\0{jti}".encode()).hexdigest()


class MemoryReplays:
    """For one process: other replicas, and this one after a restart, know nothing of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()
        self._clock = clock

    def use(self, issuer: str, jti: str, seconds: float) -> bool:
        """See `ReplayStore.use`; full of ids that still count, it refuses to tell."""
        key, now = _digest(issuer, jti), self._clock()
        with self._lock:
            if self._used.get(key, now) > now:
                return False
            if len(self._used) >= _MAX_REMEMBERED:
                self._used = {known: until for known, until in self._used.items() if until > now}
            if len(self._used) >= _MAX_REMEMBERED:
                raise KeyStoreError(
                    StoreReason.UNREACHABLE,
                    f"{_MAX_REMEMBERED} token ids are remembered already; use redis:// for this much traffic",
                )
            self._used[key] = now + seconds
            return True

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class RedisReplays:
    """One small key per token id, in slots all over a cluster (design: keyring.md, "Redis")."""

    def __init__(self, address: RedisAddress, *, audience: str) -> None:
        self._address = address
        self._audience = audience
        # by process: a parent's sockets are not its children's to use
        self._clients: dict[int, RedisClient] = {}
        self._lock = threading.Lock()
        self._failed: KeyStoreError | None = None
        self._rests_until = 0.0

    def __repr__(self) -> str:
        return f"<RedisReplays {self._address}>"

    def use(self, issuer: str, jti: str, seconds: float) -> bool:
        """See `ReplayStore.use`. One round trip; after a failure it fails at once for a second."""
        from .redis_client import REDIS_ERRORS
        from .redis_errors import to_key_store_error

        if self._failed is not None and time.monotonic() < self._rests_until:
            raise KeyStoreError(self._failed.reason, str(self._failed))
        key = f"s2s-mesh:{self._audience}:jti:{_digest(issuer, jti)}"
        try:
            answer = self._client().on_key("SET", key, "1", "NX", "PX", max(int(seconds * 1000), 1))
        except REDIS_ERRORS as error:
            self._failed = to_key_store_error(error, self._address, self._audience)
            self._rests_until = time.monotonic() + _REST
            self.close()
            raise self._failed from None
        self._failed = None
        return bool(answer)

    def _client(self) -> RedisClient:
        from .redis_client import connect

        client = self._clients.get(os.getpid())
        if client is None:
            with self._lock:
                client = self._clients.get(os.getpid()) or connect(self._address)
                self._clients[os.getpid()] = client
        return client

    def close(self) -> None:
        """Close all connections; a later use opens them again."""
        with self._lock:
            client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()
