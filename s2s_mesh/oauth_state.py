"""The token that is held for one request, as a state: usable, due for renewal, or not to be had just now.

Pure: the keeper (`oauth_tokens.py`) holds a lock around changes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .oauth_answer import Granted

# renewed somewhere in this share of its life, so that replicas do not renew at once
RENEW_FROM, RENEW_TO = 0.6, 0.8
_MARGIN = 5.0  # seconds before its end from which a token is not sent any more; a tenth of a short life
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0  # seconds between two attempts; doubles
_YOUNG = 5.0  # seconds; a new token that is refused is not helped by a newer one


class Held(msgspec.Struct, frozen=True):
    """A token that was given out.

    Attributes:
        token: never shown.
        since: when it was asked for (Unix seconds).
        renew_at: from when on a new one is asked for.
        until: from when on it is not sent any more.
    """

    token: str
    since: float
    renew_at: float
    until: float

    def __repr__(self) -> str:
        return f"Held(until={self.until})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """msgspec's own would show the token in a rich traceback."""
        return [("until", self.until)]


class TokenState:
    """What is known for one request.

    Attributes:
        error: why the last attempt brought nothing; None if it did.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._held: Held | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._retry_at = 0.0

    def usable(self, now: float) -> str | None:
        """A token that may be sent at `now`, or None. After a clock went back, nobody can tell."""
        held = self._held
        return held.token if held is not None and held.since <= now < held.until else None

    def may_ask(self, now: float) -> bool:
        """Whether a token is wanted, and the last failure is long enough ago."""
        held = self._held
        fresh = held is not None and held.since <= now < held.renew_at
        return not fresh and not self._failed_at <= now < self._retry_at

    def granted(self, granted: Granted, began: float, share: float) -> None:
        """Hold a new token.

        Args:
            granted: what came.
            began: when it was asked for (Unix seconds), from which its life is counted.
            share: of its life after which it is renewed.
        """
        margin = min(_MARGIN, granted.life / 10)
        self._held = Held(granted.token, began, began + share * granted.life, began + granted.life - margin)
        self.error, self._failures, self._retry_at = None, 0, 0.0

    def failed(self, error: Exception, now: float) -> None:
        """Nothing came; the token at hand stays."""
        self.error = error
        self._failed_at = now
        self._retry_at = now + min(_FIRST_RETRY * 2 ** min(self._failures, 10), _LAST_RETRY)
        self._failures += 1

    def forget(self, token: str, now: float) -> bool:
        """Do not send this token again: a receiver refused it. Returns whether another one may help.

        Whoever was sent the one before, while a new one is held already, tries that one.
        """
        held = self._held
        if held is None or held.token != token:
            return True
        if held.since <= now < held.since + _YOUNG:
            return False
        self._held = None
        return True
