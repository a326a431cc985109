"""How our threads begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# freezegun shows the real time to whoever stands within five frames of the `threading` module, so a test that
# freezes the clock (ours, or an application's) would freeze it for requests only
_FRAMES = 5


def far_from_threading(function: Callable[..., Any], *args: Any, frames: int = _FRAMES) -> Any:
    """Call `function(*args)` deep enough in the stack that a frozen clock is frozen for it as well."""
    if frames:
        return far_from_threading(function, *args, frames=frames - 1)
    return function(*args)
