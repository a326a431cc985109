"""The one clock."""

from __future__ import annotations

import time


def now() -> float:
    """Unix seconds. A function, because a captured `time.time` escapes a frozen clock."""
    return time.time()
