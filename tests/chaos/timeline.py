"""What was going on when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timeline:
    """Remembers from when to when something was done; things may overlap."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float, str]] = []

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """The length of the block."""
        position, began = len(self._spans), time.time()
        self._spans.append((began, float("inf"), what))
        try:
            yield
        finally:
            self._spans[position] = (began, time.time(), what)

    def at(self, moment: float) -> str:
        """All that was going on at `moment`, in Unix seconds."""
        return " + ".join(what for began, ended, what in self._spans if began <= moment <= ended) or "nothing"
