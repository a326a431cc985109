"""Checking passwords against argon2id hashes, off the event loop and a few at a time.

One check takes tens of milliseconds and megabytes, and anybody can send a wrong password. So:

- at most `WORKERS` checks run at once, and at most `MAX_WAITING` of one user wait or run; all users that do
  not exist count as one. Whoever comes beyond that is told to try again (503).
- the password that was right for a user is remembered, as an HMAC under a key of this process, while it keeps
  being used. Callers that are known therefore pay no argon2 and wait for nobody, flood or not.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

from .effects import CheckPassword
from .errors import ConfigError

WORKERS = 2
MAX_WAITING = 4
REMEMBERED = 600.0  # seconds since the last use


def need_argon2() -> None:
    """Make sure that passwords can be checked.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        import argon2  # noqa: F401
    except ImportError:
        raise ConfigError(
            "a [[legacy]] row of this service has password_argon2, which needs argon2-cffi; run: "
            "pip install 's2s-mesh[legacy]'"
        ) from None


class PasswordChecks:
    """Checks passwords for one process; starts no thread before the first one."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self._key = secrets.token_bytes(32)
        # by hash: only one password can be the right one, so there are no more of these than rows
        self._right: dict[str, tuple[bytes, float]] = {}

    def begin(self, check: CheckPassword) -> Future[bool] | None:
        """Begin to find out; None if too many of this user are being checked. Never blocks."""
        digest, now = hmac.digest(self._key, check.password, "sha256"), time.monotonic()
        with self._lock:
            right = self._right.get(check.stored)
            if right is not None and now - right[1] < REMEMBERED and hmac.compare_digest(right[0], digest):
                self._right[check.stored] = digest, now
                known: Future[bool] = Future()
                known.set_result(True)
                return known
            if self._waiting[check.stored] >= MAX_WAITING:
                return None
            if self._pool is None:
                self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="s2s-mesh-password")
            try:
                future = self._pool.submit(self._check, check, digest)
            except RuntimeError:  # the interpreter ends, or the machine has no thread to give
                return None
            self._waiting[check.stored] += 1
        future.add_done_callback(lambda _: self._done(check.stored))
        return future

    def close(self) -> None:
        """End what waits."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _check(self, check: CheckPassword, digest: bytes) -> bool:
        from argon2.exceptions import VerifyMismatchError
        from argon2.low_level import Type, verify_secret

        try:
            verify_secret(check.stored.encode(), check.password, Type.ID)
        except VerifyMismatchError:
            return False
        self._right[check.stored] = digest, time.monotonic()
        return True

    def _done(self, stored: str) -> None:
        with self._lock:
            self._waiting[stored] -= 1
            if not self._waiting[stored]:
                del self._waiting[stored]
