"""Rows on users: edge calls for those who have logged in, wallets carries them on, nobody invents one."""

from __future__ import annotations

import time

from s2s_mesh import EndUser

from .calls import Answer, Calls
from .row import Outcome, Row, outcome_of


def rows() -> list[Row]:
    """In order."""
    limit, entries = "PUT wallets/limit", "GET wallets/entries"
    return [
        Row("user-proven", limit, "edge, for alice", "as alice", _alice_changes_her_limit),
        Row("user-second-hop", "GET ledger/entries", "wallets, for alice", "as alice", _alice_reads),
        Row("user-in-a-field", limit, "bob, who says alice", "as bob", _bob_says_alice),
        Row("user-invented", limit, "edge, alice not there", "403", _edge_invents_alice),
        Row("user-not-granted", limit, "settlement, for alice", "401", _settlement_invents_alice),
        Row("user-required", entries, "settlement, as itself", "403", _settlement_reads),
    ]


async def _alice_changes_her_limit(calls: Calls) -> Outcome:
    return await _as(calls, "wallets", await for_user(calls, "alice", "PUT", "limit"))


async def _alice_reads(calls: Calls) -> Outcome:
    return await _as(calls, "ledger", await for_user(calls, "alice", "GET", "entries"))


async def _bob_says_alice(calls: Calls) -> Outcome:
    """The user is whom the token names, whatever else the browser sends."""
    fields = {"x-user": "alice", "x-forwarded-user": "alice", "s2s-user-token": "alice"}
    return await _as(calls, "wallets", await for_user(calls, "bob", "PUT", "limit", fields))


async def _edge_invents_alice(calls: Calls) -> Outcome:
    """Somebody has taken edge over, while alice is not even there."""
    return await _invent_alice(calls, "edge")


async def _settlement_invents_alice(calls: Calls) -> Outcome:
    """It may carry nobody's users."""
    return await _invent_alice(calls, "settlement")


async def _invent_alice(calls: Calls, caller: str) -> Outcome:
    alice = EndUser(issuer=calls.ids["login"], subject="alice", expires_at=int(time.time()) + 300)
    answer = await calls.invent_user(caller, "wallets", "/wallets/42/limit", alice)
    return await outcome_of(calls, "wallets", answer)


async def _settlement_reads(calls: Calls) -> Outcome:
    return await outcome_of(calls, "wallets", await calls.settlement("--entries"))


async def for_user(
    calls: Calls, user: str, method: str, what: str, fields: dict[str, str] | None = None
) -> Answer:
    """A user's browser asks edge."""
    url = f"{calls.ids['edge']}/wallets/42/{what}"
    return await calls.call(method, url, await calls.log_in(user), fields)


async def _as(calls: Calls, receiver: str, answer: Answer) -> Outcome:
    reason, detail = await calls.why(receiver, answer)
    user = answer.body.get("user")
    return Outcome(f"as {user}" if user else answer.verdict, reason, answer.milliseconds, detail)
