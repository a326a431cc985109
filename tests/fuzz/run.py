"""Runs one target for a time: counts, tells how it goes, and keeps what should not have happened."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

from .mutate import mutated
from .targets import Target

SLOW = 2.0  # seconds of processor time for one input; no input of a few KB may cost that
_REPORT_EVERY = 5.0
_MOST_KEPT = 2_000  # inputs
_MOST_CRASHES = 50

Tell = Callable[[str], None]


class Result(NamedTuple):
    """What came of a run."""

    name: str
    executions: int
    seconds: float
    verdicts: int
    crashes: int

    def __str__(self) -> str:
        rate = self.executions / max(self.seconds, 1e-9)
        return (
            f"{self.name:13} {self.executions:>10,} executions {rate:>9,.0f}/s "
            f"{self.verdicts:>5} verdicts {self.crashes:>3} crashes"
        )


class Session:
    """Executions of one target, counted and judged.

    Args:
        target: what is fuzzed.
        seconds: how long.
        crashes: the folder for what goes wrong.
        tell: gets a line of progress now and then.
    """

    def __init__(self, target: Target, seconds: float, crashes: Path, tell: Tell) -> None:
        self.target = target
        self.executions = 0
        self.verdicts: set[str] = set()
        self._crashes: set[str] = set()
        self._folder = crashes
        self._tell = tell
        self._started = time.monotonic()
        self._told = self._started
        self._until = self._started + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is up, or there is enough to mend."""
        return time.monotonic() >= self._until or len(self._crashes) >= _MOST_CRASHES

    @property
    def result(self) -> Result:
        """What came of it until now."""
        passed = time.monotonic() - self._started
        return Result(self.target.name, self.executions, passed, len(self.verdicts), len(self._crashes))

    def execute(self, data: bytes) -> bool:
        """Run the target once; returns whether its verdict is new. Whatever is raised is a crash."""
        self.executions += 1
        before = time.process_time()
        try:
            verdict = self.target.run(data)
        except Exception as error:
            self._keep(data, error)
            return False
        if time.process_time() - before > SLOW:
            self._keep(data, TimeoutError(f"more than {SLOW:g} s of processor time"))
        verdict = re.sub(r"[0-9]+", "0", verdict)[:300]
        is_new = verdict not in self.verdicts
        self.verdicts.add(verdict)
        return is_new

    def tell_now_and_then(self) -> None:
        """A line of progress, if the last one was some seconds ago."""
        if time.monotonic() - self._told >= _REPORT_EVERY:
            self._told = time.monotonic()
            self._tell(str(self.result))

    def _keep(self, data: bytes, error: BaseException) -> None:
        place = f"{type(error).__name__} {_origin(error.__traceback__)}"
        if place in self._crashes:
            return
        self._crashes.add(place)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self.target.name}-{hashlib.sha256(data).hexdigest()[:16]}"
        path.with_suffix(".bin").write_bytes(data)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        self._tell(f"{self.target.name}: CRASH {place}: see {path}.txt")


def _origin(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def run(target: Target, seconds: float, crashes: Path, tell: Tell, *, seed: int = 0) -> Result:
    """Mutate the seeds, and whatever gave a verdict that was new, until the time is up."""
    chance = Random(seed)
    session = Session(target, seconds, crashes, tell)
    kept: list[bytes] = list(target.seeds)
    for data in target.seeds:
        session.execute(data)
    while not session.is_over:
        # the newest are where something new is likely to be near
        near = kept[-20:] if chance.random() < 0.3 else kept
        data = mutated(chance, chance.choice(near), kept, target.change)
        if session.execute(data) and len(kept) < _MOST_KEPT:
            kept.append(data)
        session.tell_now_and_then()
    return session.result


def run_guided(
    target: Target, seconds: float, crashes: Path, tell: Tell, *, atheris: Any, end: Callable[[], None]
) -> NoReturn:
    """The same with libFuzzer, which keeps what reaches new code, and only ends with its process.

    Call it where `s2s_mesh` was imported under `atheris.instrument_imports`; `end` is called before the end.
    """
    session = Session(target, seconds, crashes, tell)
    corpus = crashes / f"{target.name}-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in target.seeds:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def once(data: bytes) -> None:
        session.execute(data)
        session.tell_now_and_then()
        if session.is_over:
            tell(f"result {session.result._asdict()!r}")
            shutil.rmtree(corpus)
            end()
            os._exit(0)

    def change(data: bytes, most: int, seed: int) -> bytes:
        chance = Random(seed)
        if chance.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return mutated(chance, data, target.seeds, target.change)[:most]

    options = ["fuzz", "-max_len=20000", "-verbosity=0", "-timeout=60", "-detect_leaks=0", str(corpus)]
    atheris.Setup(options, once, custom_mutator=change)
    atheris.Fuzz()
    raise AssertionError("libFuzzer came back")
