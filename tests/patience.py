"""Time for a machine that stands still for seconds: the product's own time-outs, but longer.

They are made for a network, where a second without an answer means something. Here it means that the machine
was busy, and a test that proves something else must not end so. A test whose subject is a time-out has the
product's own: by the mark `MARK`, which may say in which respects (`own_times("store")`), or by `own_times`
itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from s2s_mesh import http_exchange, jwks_client, jwks_fetch, jwks_shared, oauth_fetch
from s2s_mesh.oauth_tokens import OAuthTokens
from s2s_mesh.store import file, redis_client, redis_errors, redis_listener

MARK = "own_times"
LONG = 60.0  # seconds
# what httpx gives to whoever names no time-out, which nobody in the product does
_UNNAMED = inspect.signature(httpx.Client).parameters["timeout"].default
_TIMES: dict[str, list[tuple[Any, str]]] = {
    "step": [(http_exchange, "_STEP_SECONDS")],
    "total": [
        (jwks_fetch, "TOTAL_SECONDS"),
        (jwks_client, "WAIT_SECONDS"),
        (oauth_fetch, "METADATA_SECONDS"),
        (oauth_fetch, "TOKEN_SECONDS"),
        (OAuthTokens, "wait_seconds"),
    ],
    "sharing": [(jwks_client, "MAX_DELAY"), (jwks_shared, "_PATIENCE")],
    "store": [
        (redis_client, "CONNECT_TIMEOUT"),
        *[(place, "REPLY_TIMEOUT") for place in (redis_client, redis_listener, redis_errors)],
        (file, "LOCK_WAIT"),
    ],
    "unnamed": [(_UNNAMED, step) for step in ("connect", "read", "write", "pool")],
}
_OWN = {kind: [(*time, getattr(*time)) for time in times] for kind, times in _TIMES.items()}


@contextmanager
def long_times() -> Iterator[None]:
    """The product waits longer than any machine stands still; a whole always longer than a step of it."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, times in _TIMES.items():
            for place, name in times:
                patch.setattr(place, name, LONG + (kind == "total"))
        yield


@contextmanager
def own_times(*kinds: str) -> Iterator[None]:
    """The product waits as long as it does elsewhere, in these respects or in all."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in kinds or _OWN:
            for place, name, seconds in _OWN[kind]:
                patch.setattr(place, name, seconds)
        yield
