"""`redis://` and its relatives: the document is one key, so that all replicas of a service hold one ring."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from redis import exceptions as says
from redis.sentinel import MasterNotFoundError

from ..errors import StoreConflict
from .redis_address import RedisAddress
from .redis_client import REDIS_ERRORS, RedisClient, connect
from .redis_errors import to_key_store_error
from .redis_listener import RedisListener

ACKNOWLEDGEMENTS = 1  # replicas
ACKNOWLEDGEMENT_WAIT = 500  # milliseconds

# Whole documents are compared: equal bytes are equal digests, a few thousand of them cost nothing, and Redis
# has SHA-1 only. Run by EVAL, not EVALSHA: a swap is rare, and there is no unknown digest to recover from.
_SWAP = """
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then
  if held ~= (ARGV[2] or false) then return 0 end
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1
"""

log: logging.Logger = logging.getLogger("s2s_mesh.store")
_T = TypeVar("_T")


class RedisStore:
    """A document under one key, and a channel beside it. Reads go to the primary only."""

    shared = True

    def __init__(self, address: RedisAddress, *, issuer: str, name: str = "ring") -> None:
        """Remember the place; nothing is connected before first use.

        Args:
            address: where the Redis is.
            issuer: whose document. It stands in braces, a cluster's hash tag: whatever belongs to one
                issuer is in one slot.
            name: which document.
        """
        self._address = address
        self._issuer = issuer
        self._key = f"s2s-mesh:{{{issuer}}}:{name}"
        self._channel = f"s2s-mesh:{{{issuer}}}:changes"
        self._sessions: dict[int, _Session] = {}
        if address.tls and not address.verify_certificate:
            log.warning(
                "%s: ssl_cert_reqs=none, so anybody on the way can pose as this Redis; documents stay sealed,"
                " but can be withheld or replaced by older ones",
                address,
            )

    def __repr__(self) -> str:
        return f"<RedisStore {self._address} {self._key}>"

    def load(self) -> bytes | None:
        """Return the document, or None. See `KeyStore.load`."""
        document: bytes | None = self._call(lambda client: client.on_key("GET", self._key))
        return document

    def swap(self, expected: bytes | None, new: bytes) -> None:
        """Store `new` if `expected` is still held. See `KeyStore.swap`.

        Where the server has replicas, waits until one of them has the document too; if none does in time,
        that is a warning in the log.
        """
        arguments = (new,) if expected is None else (new, expected)
        if not self._call(lambda client: self._swap(client, *arguments)):
            raise StoreConflict

    def close(self) -> None:
        """Close all connections. A later call opens them again."""
        session = self._session()
        with session.lock:
            session.drop()

    def publish(self, message: str) -> None:
        """Send `message` on the issuer's channel. See `Notifier.publish`."""
        session = self._session()
        with session.lock:
            try:
                session.open(self._address).beside_key(self._key, "PUBLISH", self._channel, message)
            except REDIS_ERRORS as error:
                session.drop()
                log.debug("publishing on %s failed: %s: %s", self._channel, type(error).__name__, error)

    def listen(self, on_message: Callable[[str], None]) -> Callable[[], None]:
        """Call `on_message` for each message on the issuer's channel. See `Notifier.listen`."""
        listener = RedisListener(
            lambda: connect(self._address), key=self._key, channel=self._channel, on_message=on_message
        )
        listener.start()
        return listener.stop

    def server_facts(self) -> Mapping[str, str]:
        """What the primary says about its memory and persistence, for `s2s-mesh doctor`.

        Returns:
            members of INFO; and `save` of CONFIG, which is missing where that may not be asked.

        Raises:
            KeyStoreError: as `load`; a user with the rights that a service needs may not ask.
        """

        def ask(client: RedisClient) -> dict[str, str]:
            facts: dict[str, Any] = {}
            for section in ("memory", "persistence"):
                facts |= client.beside_key(self._key, "INFO", section)
            with suppress(says.ResponseError):
                facts |= client.beside_key(self._key, "CONFIG GET", "save")
            return {name: str(value) for name, value in facts.items()}

        return self._call(ask)

    def _session(self) -> _Session:
        # By process: after a fork the parent's sockets are not the child's to use, and its lock may be held
        # for ever by a thread that does not exist here.
        return self._sessions.setdefault(os.getpid(), _Session())

    def _call(self, command: Callable[[RedisClient], _T]) -> _T:
        """Run `command`, reconnecting once where a connection turns out to be dead.

        Raises:
            KeyStoreError: it failed.
        """
        session = self._session()
        with session.lock:
            reused = session.client is not None
            try:
                return command(session.open(self._address))
            except REDIS_ERRORS as error:
                session.drop()
                if not (reused and _is_dead_connection(error)):
                    raise to_key_store_error(error, self._address, self._issuer) from None
            # A restarted server or an idle timeout closes connections that lie in the pool, and that is
            # noticed by using them. Repeating is safe: `load` reads, and a `swap` that went through before
            # finds its own document. A new connection that fails is not tried again.
            try:
                return command(session.open(self._address))
            except REDIS_ERRORS as error:
                session.drop()
                raise to_key_store_error(error, self._address, self._issuer) from None

    def _swap(self, client: RedisClient, *documents: bytes) -> bool:
        # WAIT answers for the writes of its own connection. The session's lock lets one command run at a
        # time, so the pool holds one connection and all three commands use it.
        # WAIT 0 returns at once with the number of replicas that have this connection's last write. One that
        # is stuck since then does not count any more, so the largest number seen is kept.
        session = self._session()
        session.replicas = max(session.replicas, self._wait(client, 0, 1))
        swapped = bool(client.on_key("EVAL", _SWAP, 1, self._key, *documents))
        if swapped and session.replicas:
            try:
                acknowledged = self._wait(client, ACKNOWLEDGEMENTS, ACKNOWLEDGEMENT_WAIT)
            except REDIS_ERRORS:
                acknowledged = 0  # the write itself has been answered
            if acknowledged < ACKNOWLEDGEMENTS:
                log.warning(
                    "%s: none of %d Redis replicas acknowledged %s within %d ms; a failover now would lose"
                    " this write, until a process that holds the document writes it back",
                    self._address,
                    session.replicas,
                    self._key,
                    ACKNOWLEDGEMENT_WAIT,
                )
        return swapped

    def _wait(self, client: RedisClient, replicas: int, milliseconds: int) -> int:
        """Return how many replicas have all writes; 0 where WAIT is unknown or not permitted."""
        try:
            return int(client.beside_key(self._key, "WAIT", replicas, milliseconds))
        except says.ResponseError:
            return 0


class _Session:
    """The client of one process, and the lock that lets one thread use it at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.client: RedisClient | None = None
        self.replicas = 0  # of the server, as far as seen by `client`

    def open(self, address: RedisAddress) -> RedisClient:
        if self.client is None:
            self.client = connect(address)
        return self.client

    def drop(self) -> None:
        client, self.client, self.replicas = self.client, None, 0
        if client is not None:
            client.close()


def _is_dead_connection(error: Exception) -> bool:
    if isinstance(error, (says.AuthenticationError, says.BusyLoadingError, MasterNotFoundError)):
        return False
    # ReadOnlyError: after a failover behind a host name, a pooled connection leads to the former primary
    return isinstance(error, (says.ConnectionError, says.ReadOnlyError))
