"""How our threads begin, and what is done on them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

# freezegun shows the real time to whoever stands within five frames of the `threading` module, so a test that
# freezes the clock (ours, or an application's) would freeze it for requests only
_FRAMES = 5


def far_from_threading(function: Callable[..., Any], *args: Any, frames: int = _FRAMES) -> Any:
    """Call `function(*args)` deep enough in the stack that a frozen clock is frozen for it as well."""
    if frames:
        return far_from_threading(function, *args, frames=frames - 1)
    return function(*args)


def begin(pool: Executor, work: Callable[..., None], *args: Any) -> Future[None]:
    """Have a thread of `pool` call `work(*args, known)`; returns `known`, which everybody may wait for.

    `work` sets it as soon as others may go on. No waiter can cancel it; and a pool that is shut down sets it
    for what it takes out of its queue.

    Raises:
        RuntimeError: the machine has no thread to give, or the interpreter ends.
    """
    known: Future[None] = Future()
    known.set_running_or_notify_cancel()
    job = pool.submit(far_from_threading, work, *args, known)
    job.add_done_callback(lambda job: known.set_result(None) if job.cancelled() else None)
    return known
