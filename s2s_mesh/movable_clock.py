"""A clock for tests: real until it is moved or stopped."""

from __future__ import annotations

from . import clock
from .errors import ConfigError


class MovableClock:
    """Unix seconds: the real clock (or freezegun's), until a test moves or stops it."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._stopped_at: float | None = None

    def __call__(self) -> float:
        """The time."""
        return (clock.now() if self._stopped_at is None else self._stopped_at) + self._ahead

    def forward(self, seconds: float) -> None:
        """Let `seconds` pass at once.

        Raises:
            ConfigError: time does not run backwards here.
        """
        if not seconds >= 0:
            raise ConfigError(f"a clock moves forward; {seconds!r} is not a number of seconds, 0 or more")
        self._ahead += seconds

    def freeze(self, at: float | None = None) -> None:
        """Stop the clock, now or at another time (Unix seconds); `forward` goes on from there."""
        self._stopped_at, self._ahead = (self() if at is None else at), 0.0
