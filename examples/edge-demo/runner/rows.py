"""The rows of the table: what is done, and what has to come of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .calls import Answer, Calls, Tally, tampered, unsigned

_ROW_SECONDS = 90.0


@dataclass(frozen=True)
class Outcome:
    """What came of a row; the fields are columns of the table.

    Attributes:
        verdict: what happened.
        reason: from the receiver's log, or what was seen.
        milliseconds: of the call, or the mean of many.
        detail: more, for `--json` and for rows that are not as expected.
    """

    verdict: str
    reason: str = ""
    milliseconds: float | None = None
    detail: str = ""


@dataclass
class Row:
    """One row.

    Attributes:
        name: stable, for `--json`.
        what: what is called.
        who: who calls.
        expected: the verdict that it has to be.
        run: does it.
        slow: left out with `--quick`.
        outcome: None until it ran.
    """

    name: str
    what: str
    who: str
    expected: str
    run: Callable[[Calls], Awaitable[Outcome]]
    slow: bool = False
    outcome: Outcome | None = None

    @property
    def good(self) -> bool:
        """Whether it is as expected."""
        return self.outcome is not None and self.outcome.verdict == self.expected

    async def play(self, calls: Calls) -> None:
        """Run it; whatever goes wrong is its outcome."""
        try:
            self.outcome = await asyncio.wait_for(self.run(calls), _ROW_SECONDS)
            if not self.good:
                calls.fleet.check_alive()
        except asyncio.TimeoutError:
            self.outcome = Outcome(f"no end after {_ROW_SECONDS:.0f} s")
        except Exception as problem:  # noqa: BLE001 - a row that breaks is a row that fails
            self.outcome = Outcome("broke", type(problem).__name__, detail=str(problem))


def rows(*, quick: bool) -> list[Row]:
    """All rows, in order; without the slow ones if `quick`."""
    return [row for row in _all() if not (quick and row.slow)]


def _all() -> list[Row]:
    card, entry, keys = "PUT wallets/42/card", "POST ledger/entries", "GET jwks.json of each replica"
    return [
        Row("edge-wallets", card, "edge", "allowed", _edge_changes_a_card),
        Row("settlement-wallets", "POST wallets/42/settlements", "settlement (RS256)", "allowed", _settle),
        Row("settlement-overreach", card, "settlement, without that scope", "403", _overreach),
        Row("wallets-ledger", entry, "wallets, with its own token", "allowed", _pay),
        Row("passed-on-token", entry, "wallets, with edge's token", "401", _pay_wrongly),
        Row("wrong-audience", card, "edge, with its token for ledger", "401", _edge_errs),
        Row("intruder", card, "intruder, listed nowhere", "401", _intrude),
        Row("no-token", card, "somebody without a token", "401", _no_token),
        Row("tampered-token", card, "edge's token, scope changed", "401", _tampered),
        Row("alg-none", card, "edge's token, alg: none", "401", _unsigned),
        Row("expired-token", card, "edge's token, a minute old", "401", _expired),
        Row("denied", card, "edge, which wallets denies now", "401 at once", _denied),
        Row("identical-jwks", keys, "this runner", "identical", _same_keys),
        Row("rotation", "cards and entries, keys rotate", "edge and wallets", "0 failed", _rotate, slow=True),
        Row(
            "redis-killed",
            "cards and entries, Redis down",
            "edge and wallets",
            "0 failed",
            _redis_down,
            slow=True,
        ),
        Row(
            "redis-back",
            "cards and entries, Redis back",
            "edge and wallets",
            "0 failed",
            _redis_back,
            slow=True,
        ),
    ]


# -- one call ----------------------------------------------------------------------------------------------


async def _outcome(calls: Calls, receiver: str, answer: Answer) -> Outcome:
    reason, detail = await calls.why(receiver, answer)
    return Outcome(answer.verdict, reason, answer.milliseconds, detail)


async def _edge_changes_a_card(calls: Calls) -> Outcome:
    return await _outcome(calls, "wallets", await calls.call("PUT", f"{calls.ids['edge']}/cards/42"))


async def _settle(calls: Calls) -> Outcome:
    return await _outcome(calls, "wallets", await calls.settlement())


async def _overreach(calls: Calls) -> Outcome:
    return await _outcome(calls, "wallets", await calls.settlement("--overreach"))


async def _pay(calls: Calls) -> Outcome:
    return await _outcome(calls, "ledger", await calls.call("POST", f"{calls.ids['edge']}/payments/42"))


async def _pay_wrongly(calls: Calls) -> Outcome:
    token = await calls.mint("edge", "wallets")
    url = f"{calls.ids['wallets']}/wallets/42/payments-done-wrongly"
    return await _outcome(calls, "ledger", await calls.call("POST", url, token))


async def _edge_errs(calls: Calls) -> Outcome:
    return await _change_card(calls, await calls.mint("edge", "ledger"))


async def _intrude(calls: Calls) -> Outcome:
    return await _outcome(calls, "wallets", await calls.call("POST", f"{calls.ids['intruder']}/attack"))


async def _no_token(calls: Calls) -> Outcome:
    return await _change_card(calls, None)


async def _tampered(calls: Calls) -> Outcome:
    return await _change_card(calls, tampered(await calls.mint("edge", "wallets")))


async def _unsigned(calls: Calls) -> Outcome:
    bare, signed = unsigned(await calls.mint("edge", "wallets"))
    first, second = await _change_card(calls, bare), await _change_card(calls, signed)
    if first.verdict != second.verdict:
        return Outcome(f"{first.verdict}, {second.verdict}")
    return Outcome(second.verdict, f"{first.reason}, {second.reason}", second.milliseconds, second.detail)


async def _expired(calls: Calls) -> Outcome:
    return await _change_card(calls, await calls.mint("edge", "wallets", age=60))


async def _change_card(calls: Calls, token: str | None) -> Outcome:
    url = f"{calls.ids['wallets']}/wallets/42/card"
    return await _outcome(calls, "wallets", await calls.call("PUT", url, token))


async def _denied(calls: Calls) -> Outcome:
    """An operator of wallets shuts edge out, and lets it in again; both replicas obey."""
    token = await calls.mint("edge", "wallets")
    said = await calls.operate("wallets", "deny", "add", "--issuer", calls.ids["edge"], "--why", "demo")
    denied = time.perf_counter()
    reason, milliseconds = "", None
    while time.perf_counter() < denied + 5:
        answers = [await _change_card(calls, token) for _ in range(4)]
        if all(answer.verdict == "401" for answer in answers):
            reason, milliseconds = answers[0].reason, (time.perf_counter() - denied) * 1000
            break
    await calls.operate("wallets", "deny", "remove", said.split()[1].rstrip(":"))
    allowed = time.perf_counter()
    while time.perf_counter() < allowed + 5:
        answers = [await _change_card(calls, token) for _ in range(4)]
        if all(answer.verdict == "allowed" for answer in answers):
            return Outcome("401 at once" if reason else "never denied", reason, milliseconds)
    return Outcome("denied for good", reason)


# -- keys --------------------------------------------------------------------------------------------------


async def _same_keys(calls: Calls) -> Outcome:
    start = time.perf_counter()
    sizes = []
    for name in ("edge", "wallets"):
        documents = await calls.documents(name)
        # a rotation just now reaches the other replica within the replica lag, half a second here
        for _ in range(10):
            if len(set(documents)) == 1:
                break
            await asyncio.sleep(0.1)
            documents = await calls.documents(name)
        if len(set(documents)) != 1:
            return Outcome("different", f"at the replicas of {name}")
        sizes.append(f"{name} {len(documents)} x {len(documents[0])} B")
    milliseconds = (time.perf_counter() - start) * 1000
    return Outcome("identical", ", ".join(sizes), milliseconds)


# -- steady traffic ----------------------------------------------------------------------------------------


def _tallied(tally: Tally, remark: str) -> Outcome:
    return Outcome(
        f"{len(tally.failures)} failed" if tally.calls else "no calls",
        f"{tally.calls} calls, {remark}",
        tally.milliseconds / max(tally.calls, 1),
        "; ".join(sorted(set(tally.failures))),
    )


async def _rotate(calls: Calls) -> Outcome:
    rotated_at: float | None = None

    def one_second_after(tally: Tally) -> bool:
        nonlocal rotated_at
        if rotated_at is None and all(len(tally.kids.get(name, ())) > 1 for name in ("edge", "wallets")):
            rotated_at = time.monotonic()
        return rotated_at is not None and time.monotonic() > rotated_at + 1

    tally = await calls.traffic(one_second_after, at_most=20)
    if rotated_at is None:
        return Outcome("no rotation", f"{tally.calls} calls in 20 s")
    return _tallied(tally, f"key {' -> '.join(kid[:6] for kid in tally.kids['edge'])}")


async def _redis_down(calls: Calls) -> Outcome:
    await calls.fleet.store.down()
    tally = await calls.traffic(lambda _: False, at_most=4)
    return _tallied(tally, calls.fleet.store.went)


async def _redis_back(calls: Calls) -> Outcome:
    fleet = calls.fleet
    issuers = [fleet.ids[name] for name in ("edge", "wallets")]
    traffic = asyncio.ensure_future(calls.traffic(lambda _: False, at_most=3))
    await fleet.store.up()
    tally = await traffic
    held = await asyncio.to_thread(lambda: all(fleet.store.holds_any([issuer]) for issuer in issuers))
    same = await _same_keys(calls)
    if not held or same.verdict != "identical":
        return Outcome("not healed", f"rings in the Redis: {held}, JWKS {same.verdict}")
    return _tallied(tally, fleet.store.came_back)
