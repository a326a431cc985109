"""Rows on requests that somebody overheard at the router of wallets, headers and all, and sends again."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from . import DemoError
from .calls import Calls
from .row import Outcome, Row, outcome_of
from .users import for_user

_NOT_THE_REQUEST = {"host", "content-length", "connection"}  # what every client writes by itself


def rows() -> list[Row]:
    """In order."""
    limit = "PUT wallets/limit"
    return [
        Row("replayed-request", limit, "thief, alice's request", "400", _replayed),
        Row("stolen-token", limit, "thief, only its token", "401", _stolen_token),
        Row("moved-proof", limit, "thief, for another wallet", "400", _moved_proof),
        Row("used-token", "POST wallets/settlements", "thief, settlement's token", "401", _used_token),
    ]


async def _replayed(calls: Calls) -> Outcome:
    return await _send(calls, "PUT", "/wallets/42/limit", await _alices(calls))


async def _stolen_token(calls: Calls) -> Outcome:
    """It still holds, and is of no use without a proof."""
    fields = await _alices(calls)
    return await _send(calls, "PUT", "/wallets/42/limit", {"authorization": fields["authorization"]})


async def _moved_proof(calls: Calls) -> Outcome:
    return await _send(calls, "PUT", "/wallets/43/limit", await _alices(calls))


async def _used_token(calls: Calls) -> Outcome:
    fields = await _overheard(calls, "POST", "/wallets/42/settlements", calls.settlement)
    return await _send(calls, "POST", "/wallets/42/settlements", fields)


async def _alices(calls: Calls) -> dict[str, str]:
    return await _overheard(
        calls, "PUT", "/wallets/42/limit", lambda: for_user(calls, "alice", "PUT", "limit")
    )


async def _overheard(
    calls: Calls, method: str, path: str, act: Callable[[], Awaitable[Any]]
) -> dict[str, str]:
    """The fields of a request to wallets as they went through its router.

    Raises:
        DemoError: there was no such request, or it was not accepted.
    """
    with calls.fleet.router("wallets").overhear() as heard:
        answer = await act()
    pattern = re.compile(rf"^{method} {path} HTTP/1\.1\r\n(.*?)\r\n\r\n", re.DOTALL | re.MULTILINE)
    found = [match[1] for text in heard() if (match := pattern.search(text))]
    if answer.status != 200 or not found:
        raise DemoError(f"{method} {path}: {answer.verdict}, {len(found)} overheard")
    fields = (line.split(": ", 1) for line in found[-1].split("\r\n"))
    return {name: value for name, value in fields if name.lower() not in _NOT_THE_REQUEST}


async def _send(calls: Calls, method: str, path: str, fields: dict[str, str]) -> Outcome:
    answer = await calls.call(method, calls.ids["wallets"] + path, fields=fields)
    return await outcome_of(calls, "wallets", answer)
