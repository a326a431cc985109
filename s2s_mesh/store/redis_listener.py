"""Messages from other replicas: one thread that subscribes, and subscribes again for as long as it lives."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from ..jitter import between
from .redis_client import REDIS_ERRORS, REPLY_TIMEOUT, RedisClient

RESUBSCRIBED = "resubscribed"
MAX_BACKOFF = 5.0  # seconds
_MIN_BACKOFF = 0.1  # seconds
_POLL = 0.1  # seconds; how soon a stop is noticed, which every short job waits for at its end
SILENCE = 10.0  # seconds without a message after which the server is asked whether it is there

log: logging.Logger = logging.getLogger("s2s_mesh.store")


class RedisListener:
    """Hands the messages of one channel to a function, from a daemon thread of its own."""

    def __init__(
        self,
        connect: Callable[[], RedisClient],
        *,
        key: str,
        channel: str,
        on_message: Callable[[str], None],
        silence: float = SILENCE,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            connect: makes a client that belongs to the listener alone.
            key: the document's key; a cluster is listened to at the node that holds it.
            channel: name of the channel.
            on_message: called with each message, and with `RESUBSCRIBED` after each subscription.
            silence: seconds without a message after which the connection is checked. A connection that a
                firewall forgot looks like a quiet one.
        """
        self._connect = connect
        self._key = key
        self._channel = channel
        self._on_message = on_message
        self._silence = silence
        self._stop = threading.Event()
        self._backoff = _MIN_BACKOFF
        self._thread = threading.Thread(target=self._run, name="s2s-mesh-listener", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and wait for the thread, unless called from it."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with (
                    contextlib.closing(self._connect()) as client,
                    contextlib.closing(client.pubsub(self._key)) as pubsub,
                ):
                    self._listen(pubsub)
            except REDIS_ERRORS as error:
                log.debug(
                    "listening on %s failed, trying again: %s: %s", self._channel, type(error).__name__, error
                )
            # jitter, or all replicas come back in the same instant after a failover
            self._stop.wait(self._backoff * between(0.5, 1.0))
            self._backoff = min(self._backoff * 2, MAX_BACKOFF)

    def _listen(self, pubsub: Any) -> None:
        """Pass messages on until stopped.

        Raises:
            RedisError: the connection is lost.
        """
        pubsub.subscribe(self._channel)
        heard = time.monotonic()
        asked = False
        while not self._stop.is_set():
            message = pubsub.get_message(timeout=_POLL)
            if message is not None:
                heard, asked = time.monotonic(), False
                self._pass_on(message)
                continue
            quiet = time.monotonic() - heard
            if asked and quiet > self._silence + REPLY_TIMEOUT:
                raise redis.ConnectionError("no answer to PING")
            if not asked and quiet > self._silence:
                pubsub.ping()
                asked = True

    def _pass_on(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._backoff = _MIN_BACKOFF
            text = RESUBSCRIBED
        elif message["type"] == "message":
            text = message["data"].decode("utf-8", errors="replace")
        else:
            return
        try:
            self._on_message(text)
        except Exception:
            # one bad message must not end listening
            log.exception("a listener on %s failed", self._channel)
