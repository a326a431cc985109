"""Rows on services that call as themselves, and on tokens that are not what they seem."""

from __future__ import annotations

import time

from .calls import Answer, Calls, tampered, unsigned
from .row import Outcome, Row, outcome_of

_AT_ONCE = 5000  # milliseconds; within a second, on a machine that has time for it


def rows() -> list[Row]:
    """In order."""
    card, entries = "PUT wallets/card", "POST ledger/entries"
    return [
        Row("edge-wallets", card, "edge", "allowed", _edge_changes_a_card),
        Row("settlement-wallets", "POST wallets/settlements", "settlement (RS256)", "allowed", _settle),
        Row("settlement-overreach", card, "settlement, not its scope", "403", _overreach),
        Row("wallets-ledger", entries, "wallets, its own token", "allowed", _pay),
        Row("passed-on-token", entries, "wallets, edge's token", "401", _pay_wrongly),
        Row("wrong-audience", card, "edge, token for ledger", "401", _edge_errs),
        Row("intruder", card, "intruder, listed nowhere", "401", _intrude),
        Row("no-token", card, "somebody without a token", "401", _no_token),
        Row("tampered-token", card, "edge's token, altered", "401", _tampered),
        Row("alg-none", card, "edge's token, alg: none", "401", _unsigned),
        Row("expired-token", card, "edge's token, too old", "401", _expired),
        Row("denied", card, "edge, denied just now", "401 at once", _denied),
    ]


async def _edge_changes_a_card(calls: Calls) -> Outcome:
    url = f"{calls.ids['edge']}/wallets/42/card"
    return await outcome_of(calls, "wallets", await calls.call("PUT", url))


async def _settle(calls: Calls) -> Outcome:
    return await outcome_of(calls, "wallets", await calls.settlement())


async def _overreach(calls: Calls) -> Outcome:
    return await outcome_of(calls, "wallets", await calls.settlement("--overreach"))


async def _pay(calls: Calls) -> Outcome:
    url = f"{calls.ids['edge']}/wallets/42/payments"
    return await outcome_of(calls, "ledger", await calls.call("POST", url))


async def _pay_wrongly(calls: Calls) -> Outcome:
    token = await calls.mint("edge", "wallets")
    url = f"{calls.ids['wallets']}/wallets/42/payments-done-wrongly"
    return await outcome_of(calls, "ledger", await calls.call("POST", url, token))


async def _edge_errs(calls: Calls) -> Outcome:
    return await _change_card(calls, await calls.mint("edge", "ledger"))


async def _intrude(calls: Calls) -> Outcome:
    return await outcome_of(calls, "wallets", await calls.call("POST", f"{calls.ids['intruder']}/attack"))


async def _no_token(calls: Calls) -> Outcome:
    return await _change_card(calls, None)


async def _tampered(calls: Calls) -> Outcome:
    return await _change_card(calls, tampered(await calls.mint("edge", "wallets")))


async def _unsigned(calls: Calls) -> Outcome:
    """Without the signature, which is no token at all, and with it."""
    bare, signed = unsigned(await calls.mint("edge", "wallets"))
    first, second = await _change_card(calls, bare), await _change_card(calls, signed)
    if (first.verdict, first.reason) != ("401", "not_a_compact_jws"):
        return Outcome(f"{first.verdict}, {second.verdict}", f"{first.reason}, {second.reason}")
    return second


async def _expired(calls: Calls) -> Outcome:
    return await _change_card(calls, await calls.mint("edge", "wallets", age=60))


async def _change_card(calls: Calls, token: str | None) -> Outcome:
    url = f"{calls.ids['wallets']}/wallets/42/card"
    return await outcome_of(calls, "wallets", await calls.call("PUT", url, token))


async def _change_card_everywhere(calls: Calls) -> list[Answer]:
    """edge asks each replica of wallets, with a new token: keys and what they signed soon retire here."""
    token = await calls.mint("edge", "wallets")
    urls = [f"{replica}/wallets/42/card" for replica in calls.fleet.replicas["wallets"]]
    return [await calls.call("PUT", url, token) for url in urls]


async def _denied(calls: Calls) -> Outcome:
    """An operator of wallets shuts edge out, and lets it in again; both replicas obey."""
    said = await calls.operate("wallets", "deny", "add", "--issuer", calls.ids["edge"], "--why", "demo")
    start = time.perf_counter()
    answers = await calls.until(lambda: _change_card_everywhere(calls), "401")
    milliseconds = (time.perf_counter() - start) * 1000
    reason, detail = await calls.why("wallets", answers[0])
    await calls.operate("wallets", "deny", "remove", said.split()[1].rstrip(":"))
    again = await calls.until(lambda: _change_card_everywhere(calls), "allowed")
    if any(answer.verdict != "401" for answer in answers):
        return Outcome("never denied", reason, milliseconds, detail)
    if milliseconds > _AT_ONCE:
        return Outcome("401 late", reason, milliseconds, detail)
    if any(answer.verdict != "allowed" for answer in again):
        return Outcome("denied for good", reason, milliseconds, detail)
    return Outcome("401 at once", reason, milliseconds, detail)
