"""What is begun on a pool of threads."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from s2s_mesh.threads import begin


def test_what_is_begun_is_nobodys_to_cancel_and_ends_with_the_pool() -> None:
    """Neither what a thread works at, nor what waits in the queue when the pool is shut down."""
    gate, done = threading.Event(), []

    def work(name: str, known: Future[None]) -> None:
        gate.wait(20)
        done.append(name)
        known.set_result(None)

    pool = ThreadPoolExecutor(1)
    first, second = (begin(pool, work, name) for name in ("first", "second"))
    assert not first.cancel()
    assert not second.cancel()
    pool.shutdown(wait=False, cancel_futures=True)
    assert second.result(timeout=20) is None
    assert not first.done()
    gate.set()
    assert first.result(timeout=20) is None
    assert done == ["first"]
    with pytest.raises(RuntimeError):
        begin(pool, work, "third")
