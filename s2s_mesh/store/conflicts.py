"""Writing where others write too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import StoreConflict
from ..jitter import between

_ATTEMPTS = 20
_LONGEST_PAUSE = 0.05  # seconds
_T = TypeVar("_T")


def despite_conflicts(attempt: Callable[[], _T], wait: Callable[[float], object]) -> _T:
    """Repeat `attempt`, which loads and swaps, while other writers are first.

    Args:
        attempt: one load, change and swap.
        wait: called with a jittered pause in seconds after each conflict.

    Raises:
        StoreConflict: somebody else was first every time.
        Exception: whatever else `attempt` raises.
    """
    for _ in range(_ATTEMPTS):
        try:
            return attempt()
        except StoreConflict:
            wait(between(0, _LONGEST_PAUSE))
    raise StoreConflict(f"{_ATTEMPTS} times another writer was first; the next attempt starts anew")
