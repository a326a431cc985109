"""All foreign verifiers at once, before the same issuers: what each said, also while keys rotate.

Started once for all tests, in whichever process comes first; what it found is kept as a file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from s2s_mesh.jws import decode

from ..servers import wait_until
from .issuers import MIXED, Issuers, issuers
from .starts import STARTS, Answer, Verifier

_OTHER = "https://other.example.com"
_AGE = 300  # seconds since a token was issued that lived for twenty; no leeway is that large
_BETWEEN = 0.1  # seconds from one round of calls to the next
_AFTER = 2.0  # seconds of calls with the last key


class Asked(msgspec.Struct):
    """What one verifier said about the tokens of one issuer.

    Attributes:
        good, misdirected, expired: its answers before any rotation.
        calls: how many calls with good tokens were made while keys rotated.
        refusals: what it said to those that it refused, by kid.
        kids: what the tokens were signed with, in order.
    """

    good: Answer
    misdirected: Answer
    expired: Answer
    calls: int = 0
    refusals: dict[str, list[str]] = msgspec.field(default_factory=dict)
    kids: list[str] = msgspec.field(default_factory=list)


class Found(msgspec.Struct):
    """What the whole fleet said.

    Attributes:
        asked: by verifier and algorithm, or `MIXED`.
        missing: what each verifier needs that is not here.
    """

    asked: dict[str, dict[str, Asked]]
    missing: dict[str, str]


def run(folder: Path) -> Found:
    """Start everything, ask everybody, rotate twice while calls go on."""
    missing: dict[str, str] = {}
    verifiers: dict[str, Verifier] = {}
    with issuers(folder) as running, ExitStack() as stack:
        for number, (name, start) in enumerate(STARTS.items()):
            own = folder / str(number)
            own.mkdir()
            try:
                verifiers.update(stack.enter_context(start(running, own)))
            except (pytest.skip.Exception, pytest.fail.Exception) as absent:
                missing[name] = str(absent).removeprefix("needs ")
        asked = {name: _ask_all(running, ask) for name, ask in verifiers.items()}
        stop = threading.Event()
        callers = [
            threading.Thread(target=_call, args=(running, verifiers[name], asked[name], stop))
            for name in verifiers
        ]
        for caller in callers:
            caller.start()
        try:
            # all have the second key from the beginning; the third is published when the second signs,
            # and signs one lead later
            _wait_for_calls(asked, keys=1)
            running.rotate()
            _wait_for_calls(asked, keys=2)
            running.rotate()
            _wait_for_calls(asked, keys=3)
            stop.wait(_AFTER)
        finally:
            stop.set()
            for caller in callers:
                caller.join()
    return Found(asked, missing)


def _wait_for_calls(asked: Mapping[str, Mapping[str, Asked]], *, keys: int) -> None:
    """Until everybody has got tokens of this many keys."""
    called = [notes for own in asked.values() for notes in _known(own).values()]
    wait_until(lambda: all(len(notes.kids) >= keys for notes in called), timeout=60, what="calls")


def _known(asked: Mapping[str, Asked]) -> dict[str, Asked]:
    """Those of the algorithms that the verifier knows."""
    return {name: notes for name, notes in asked.items() if name != MIXED and notes.good.accepted}


def _ask_all(running: Issuers, ask: Verifier) -> dict[str, Asked]:
    return {
        algorithm: Asked(
            good=ask(algorithm, running.token(algorithm)),
            misdirected=ask(algorithm, running.forged(algorithm, audience=_OTHER)),
            expired=ask(algorithm, running.forged(algorithm, age=_AGE)),
        )
        for algorithm in running.services
    }


def _call(running: Issuers, ask: Verifier, asked: Mapping[str, Asked], stop: threading.Event) -> None:
    """Call with every algorithm that the verifier knows, until told to stop.

    When a key begins to sign, the last token of the one before it is sent once more.
    """
    known = _known(asked)
    last: dict[str, str] = {}
    while not stop.wait(_BETWEEN):
        for algorithm, notes in known.items():
            token = running.token(algorithm)
            kid = decode(token.encode()).header.kid
            if notes.kids and kid not in notes.kids:
                _note(ask, algorithm, last[algorithm], notes)
            last[algorithm] = token
            _note(ask, algorithm, token, notes)
            if kid not in notes.kids:
                notes.kids.append(kid)


def _note(ask: Verifier, algorithm: str, token: str, notes: Asked) -> None:
    sent = decode(token.encode())
    try:
        answer = ask(algorithm, token)
    except Exception as broken:
        answer = Answer(False, repr(broken))
    notes.calls += 1
    # a machine that is busy may hold a call up for longer than the token lives
    if not answer.accepted and time.time() < sent.claims["exp"]:
        notes.refusals.setdefault(sent.header.kid, []).append(answer.why)
