"""Rows on partner, which had an API key before it had tokens: the stages of docs/migration.md."""

from __future__ import annotations

from .calls import Answer, Calls
from .row import Outcome, Row, outcome_of


def rows() -> list[Row]:
    """In order."""
    card = "GET wallets/card"
    return [
        Row("legacy-observe", card, "partner, API key: observe", "allowed", _observe),
        Row("legacy-prefer", card, "partner, API key: prefer", "with Sunset", _prefer),
        Row("legacy-require", card, "partner, API key: require", "401", _require),
        Row("legacy-token", card, "partner, a token: require", "allowed", _with_token),
    ]


async def _observe(calls: Calls) -> Outcome:
    return await _at(calls, "observe", "allowed")


async def _prefer(calls: Calls) -> Outcome:
    return await _at(calls, "prefer", "with Sunset")


async def _require(calls: Calls) -> Outcome:
    return await _at(calls, "require", "401")


async def _with_token(calls: Calls) -> Outcome:
    url = f"{calls.ids['wallets']}/wallets/42/card"
    return await outcome_of(
        calls, "wallets", await calls.call("GET", url, await calls.mint("partner", "wallets"))
    )


async def _at(calls: Calls, stage: str, verdict: str) -> Outcome:
    """A reviewed line of the trust file changes; both replicas of wallets notice by themselves."""
    calls.fleet.move_partner(stage)

    async def ask_everywhere() -> list[Answer]:
        urls = [f"{replica}/wallets/42/card" for replica in calls.fleet.replicas["wallets"]]
        return [await calls.call("GET", url, fields={"X-Api-Key": calls.fleet.api_key}) for url in urls]

    answers = await calls.until(ask_everywhere, verdict)
    different = [answer for answer in answers if answer.verdict != verdict]
    return await outcome_of(calls, "wallets", (different or answers)[0])
