"""What becomes of the calls of one replica."""

from __future__ import annotations

import msgspec


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A call that did not succeed, or not at its first attempt.

    Attributes:
        caller: name of the calling replica.
        audience: who was called.
        began, ended: Unix seconds.
        kid: of the key that had signed its last token; empty where there was none.
        status: of the last answer; 0 where there was none.
        problem: in words, where there was no answer.
        request_id: finds the receiver's reason in its log.
    """

    caller: str
    audience: str
    began: float
    ended: float
    kid: str
    status: int
    problem: str
    request_id: str


class Tally(msgspec.Struct, kw_only=True):
    """Figures of one replica.

    Attributes:
        calls: how many were made.
        failures: those that failed.
        retried: those that were refused once and let in at the second attempt.
        kids: the keys that signed, in order of appearance.
        slowest: seconds of the slowest call that succeeded in this phase.
    """

    calls: int = 0
    failures: list[Failure] = []
    retried: list[Failure] = []
    kids: list[str] = []
    slowest: float = 0.0
