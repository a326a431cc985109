"""Libraries on one token: verify it fresh, verify it again, sign one, hand one out again."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import proving
from .contestants import FRESH, OURS, OURS_REPEATED, PYJWT, REPEATED, Bench, Contestant, NotOffered
from .endpoint import Endpoint
from .material import KINDS, material
from .plot import Bar, Panel, svg
from .report import Check, Report, Table
from .rounds import Operation, Timing, run
from .signers import OURS_AGAIN, REUSE, SIGN

RAW = "raw pyca"
_FRESH_LIMITS = {"RS256": 1.50, "ES256": 1.22, "Ed25519": 1.15}
_FASTER_THAN_PYJWT = {"RS256": 2.5, "ES256": 1.4}
_METHOD = """One token for everybody (iss, sub, client_id, aud, iat, nbf, exp, jti, scope; all signed with
the same key). Each round runs the bare cryptography of pyca first and then every contestant, in an order
that changes from round to round. "x raw" is the median over the rounds of contestant / raw pyca *of the
same round*, and is what to trust; microseconds of a busy or shared machine are not. Every contestant has
its keys loaded and its caches warm. atlassian-jwt-auth's token has the issuer `edge`, because its issuers
are no URLs. A request with proof is two signatures to verify (access token, proof; the identity token is
known) and a question to the replay store, which is not timed; its proof key is ES256. Signing includes
making fresh claims with a random jti; ours has no nbf, and its scope is left to the receiver."""


class Plan(NamedTuple):
    """How much to measure.

    Attributes:
        rounds: how many.
        calls: of each contestant in each round.
        kinds: of keys.
        only: names of contestants, or None for all.
    """

    rounds: int = 150
    calls: int = 25
    kinds: Sequence[str] = KINDS
    only: Collection[str] | None = None


class _Field(NamedTuple):
    """Everybody who takes part in one operation with one kind of key, and why the others do not."""

    timings: Sequence[Timing]
    absent: Sequence[tuple[str, str]]

    def of(self, name: str) -> Timing | None:
        """The timing of one contestant, or None where it did not take part."""
        return next((timing for timing in self.timings if timing.name == name), None)


def measure(plan: Plan) -> Report:
    """Measure and report."""
    report = Report("tokens", "Libraries on one token", _METHOD)
    panels: list[Panel] = []
    for kind in plan.kinds:
        verified = _verify(kind, plan)
        report.tables.append(_table(f"{kind}: verify", verified))
        report.checks += _verify_checks(kind, verified)
        panels.append(_panel(kind, verified))
    for kind in plan.kinds:
        signed = _sign(kind, plan)
        report.tables.append(_table(f"{kind}: sign", signed))
        again = signed.of(OURS_AGAIN)
        if again is not None:
            report.checks.append(Check.at_most(f"{kind}: token re-use", again.median, 1.0, "µs"))
    report.plot = svg("Verification of one token (median, logarithmic)", panels, logarithmic=True)
    return report


def _verify(kind: str, plan: Plan) -> _Field:
    return _compete(kind, material(kind).raw_verify(), (*REPEATED, *FRESH, *proving.VERIFY), plan)


def _sign(kind: str, plan: Plan) -> _Field:
    return _compete(kind, material(kind).raw_sign(), (*REUSE, *SIGN, *proving.PROVE), plan)


def _compete(kind: str, raw: Operation, contestants: Sequence[Contestant], plan: Plan) -> _Field:
    absent: list[tuple[str, str]] = []
    ready: dict[str, Operation] = {}
    with _bench(kind) as bench:
        for contestant in contestants:
            if plan.only is not None and contestant.name not in plan.only:
                continue
            try:
                operation = contestant.make(bench)
                operation()
            except (ImportError, NotOffered) as why:
                reason = str(why) if isinstance(why, NotOffered) else "not installed"
                absent.append((contestant.name, reason))
            else:
                ready[contestant.name] = operation
        return _Field(run((RAW, raw), ready, rounds=plan.rounds, calls=plan.calls), absent)


@contextlib.contextmanager
def _bench(kind: str) -> Iterator[Bench]:
    made = material(kind)
    with tempfile.TemporaryDirectory() as folder, Endpoint(made) as endpoint, contextlib.ExitStack() as stack:
        bench = Bench(made, endpoint, Path(folder), [])
        stack.callback(lambda: [close() for close in bench.cleanup])
        yield bench


def _table(title: str, field: _Field) -> Table:
    raw = field.timings[0]
    rows = [
        (
            f"**{timing.name}**" if timing.name.startswith(OURS) else timing.name,
            f"{timing.median:.2f}",
            f"{timing.least:.2f}",
            f"{timing.ratio_to(raw):.3f}",
            f"{1e6 / timing.median:,.0f}",
        )
        for timing in sorted(field.timings, key=lambda timing: timing.ratio_to(raw))
    ]
    rows += [(name, reason, "", "", "") for name, reason in field.absent]
    return Table(title, ("contestant", "median µs", "min µs", "x raw", "per second"), rows)


def _verify_checks(kind: str, field: _Field) -> Iterator[Check]:
    raw, ours, pyjwt = field.timings[0], field.of(OURS), field.of(PYJWT)
    again = field.of(OURS_REPEATED)
    if ours is not None and kind in _FRESH_LIMITS:
        yield Check.at_most(f"{kind}: fresh", ours.ratio_to(raw), _FRESH_LIMITS[kind], "x raw")
    if ours is not None and kind in _FASTER_THAN_PYJWT:
        faster = None if pyjwt is None else pyjwt.ratio_to(ours)
        yield Check.at_least(
            f"{kind}: fresh, PyJWT with a prepared key takes", faster, _FASTER_THAN_PYJWT[kind], "x as long"
        )
    if again is not None:
        yield Check.at_most(f"{kind}: repeated", again.median, 3.0, "µs")
        if kind == "RS256":
            faster = None if pyjwt is None else pyjwt.ratio_to(again)
            yield Check.at_least(f"{kind}: repeated, PyJWT takes", faster, 40, "x as long")


def _panel(kind: str, field: _Field) -> Panel:
    timings = sorted(field.timings, key=lambda timing: timing.median)
    bars = [
        Bar(timing.name, timing.median, timing.name.startswith(OURS), timing.name == RAW)
        for timing in timings
    ]
    return Panel(kind, "µs", bars)
