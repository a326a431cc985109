"""The figures of a run, judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .tally import Failure, Tally

# seconds after a revocation in which a replica may not have heard of it: its calls may be refused
PURGE = 1.0
# seconds after the whole machine stood still in which processes may not have caught up with each other
CATCH_UP = 1.0


class Line(NamedTuple):
    """One figure."""

    what: str
    figure: str
    good: bool
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Pardon:
    """Which failed calls are not the mesh's fault.

    Attributes:
        freezes: by replica, when it was frozen and thawed. Its own calls that were under way meanwhile may
            fail: their tokens may have expired before they were sent.
        revocations: kid and time of each. Calls with that key may fail until every replica has heard of it.
        stalls: when the whole machine stood still. Nothing was fetched, renewed or answered meanwhile, here
            for a good part of the seconds that a key lives.
    """

    freezes: Mapping[str, Sequence[tuple[float, float]]]
    revocations: Sequence[tuple[str, float]]
    stalls: Sequence[tuple[float, float]] = ()

    def reason(self, failure: Failure) -> str | None:
        """Why a failure is forgiven, or None."""
        if any(
            failure.began <= thawed and failure.ended >= frozen
            for frozen, thawed in self.freezes.get(failure.caller, ())
        ):
            return "caller frozen meanwhile"
        if any(failure.kid == kid and at <= failure.ended <= at + PURGE for kid, at in self.revocations):
            return "key just revoked"
        if any(
            failure.began <= went_on + CATCH_UP and failure.ended >= stood for stood, went_on in self.stalls
        ):
            return "machine stood still"
        return None


def rotations(tallies: Mapping[str, Tally], issuer: str) -> int:
    """How often the key of an issuer's tokens changed, as all its callers together saw it."""
    kids = {kid for name, tally in tallies.items() if name.startswith(f"{issuer}-") for kid in tally.kids}
    return max(len(kids) - 1, 0)


def told(failure: Failure, phase: str, reasons: Mapping[str, str]) -> str:
    """A failed call in one line."""
    why = reasons.get(failure.request_id) or failure.problem or "the receiver's log says nothing"
    return (
        f"{failure.began:.3f} during {phase}: {failure.caller} -> {failure.audience} after "
        f"{failure.ended - failure.began:.2f} s, status {failure.status}, key {failure.kid[:8] or '-'}: {why}"
    )


def block(lines: Iterable[Line]) -> str:
    """All figures, one below the other."""
    lines = list(lines)
    what, figure = (max(len(getattr(line, column)) for line in lines) for column in ("what", "figure"))
    return "\n".join(
        f"{'ok  ' if line.good else 'FAIL'} {line.what:<{what}}  {line.figure:>{figure}}  {line.remark}"
        for line in lines
    )
