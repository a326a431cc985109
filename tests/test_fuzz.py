"""The fuzzer: a short run over every target, and that it would notice what it looks for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random

import pytest

from s2s_mesh.jws import parse_header

from .fuzz.__main__ import main
from .fuzz.mutate import (
    Change,
    header_field_change,
    json_change,
    mutated,
    segment_change,
    token_change,
    toml_change,
)
from .fuzz.run import run
from .fuzz.targets import NAMES, Target, target
from .tokens import good


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second of every target: it runs, it counts, and nothing crashes."""
    assert main(["--plain", "--seconds", "1", "--seed", "7", "--crashes", str(tmp_path), name]) == 0
    said = capsys.readouterr().out
    assert " 0 crashes" in said
    assert not list(tmp_path.iterdir())


def no_lines(_: str) -> None:
    """Say nothing."""


def found(fuzzed: Target, folder: Path, seconds: float = 20) -> list[str]:
    """The kinds of crashes of a short run that stops at the first one."""

    class Found(BaseException):
        pass

    def tell(line: str) -> None:
        if "CRASH" in line:
            raise Found

    with pytest.raises(Found):
        run(fuzzed, seconds, folder, tell)
    return sorted(path.read_text().splitlines()[-1] for path in folder.glob("*.txt"))


def test_a_forgery_that_is_let_in_is_a_crash(tmp_path: Path) -> None:
    """A token that is not on the list of good ones, and is let in, is kept with its input."""
    stranger = good(jti="not on the list")
    with target("token") as fuzzed:
        (crash,) = found(fuzzed._replace(seeds=[stranger]), tmp_path)
    assert "Forgery: status 200" in crash
    assert [path.read_bytes() for path in tmp_path.glob("*.bin")] == [stranger]


def weak_header(patch: pytest.MonkeyPatch) -> None:
    """Members that nobody understands may stand in a header."""
    patch.setattr("s2s_mesh.jws._HEADER_MEMBERS", {"alg", "kid", "typ", "crit", "jwk", "b64"})


def weak_json(patch: pytest.MonkeyPatch) -> None:
    """The last of two equal members counts, as in Python's own decoder."""
    patch.setattr("s2s_mesh.strict_json._unique", dict)


def weak_set(patch: pytest.MonkeyPatch) -> None:
    """A private key passes for a public one."""
    patch.setattr("s2s_mesh.keys.PRIVATE_MEMBERS", frozenset({"oth"}))


@pytest.mark.parametrize(
    ("weaken", "name", "crash"),
    [
        (weak_header, "header", "Forgery: status 200 for the header"),
        (weak_json, "header", "Forgery: status 200 for the header"),
        (weak_set, "jwks", "Forgery: a set with private keys was accepted"),
    ],
)
def test_a_check_that_is_missing_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weaken: Callable[[pytest.MonkeyPatch], None],
    name: str,
    crash: str,
) -> None:
    """Without one of the checks the fuzzer soon finds what it was there for."""
    parse_header.cache_clear()
    with target(name) as fuzzed, monkeypatch.context() as patch:
        weaken(patch)
        assert any(crash in line for line in found(fuzzed, tmp_path))
    parse_header.cache_clear()  # it holds what was accepted meanwhile


@pytest.mark.parametrize(
    "change", [json_change, segment_change, token_change, header_field_change, toml_change]
)
def test_mutations_are_made_of_chance_alone(change: Change) -> None:
    """Any bytes can be mutated, and the same chance gives the same bytes."""
    seeds = [good(), b"", b"{}", b'{"a":[1,{"b":null}]}', b"\xff\n= .", b'a = "b"\n[c]\n']
    once = [mutated(Random(n), seeds[n % len(seeds)], seeds, change) for n in range(300)]
    again = [mutated(Random(n), seeds[n % len(seeds)], seeds, change) for n in range(300)]
    assert once == again
    assert len(set(once)) > 100


def test_errors_of_others_and_slow_inputs_are_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of error is kept once per place; an input that takes long is kept too."""
    monkeypatch.setattr("tests.fuzz.run.SLOW", -1.0)

    def judge(data: bytes) -> str:
        if data == b"bad":
            raise KeyError(1)
        return "fine"

    result = run(Target("x", [b"fine", b"bad", b"bad"], lambda _, data: data, judge), 0, tmp_path, no_lines)
    assert (result.executions, result.crashes, result.verdicts) == (3, 2, 1)
    assert {path.read_text().splitlines()[-1] for path in tmp_path.glob("*.txt")} == {
        "KeyError: 1",
        "TimeoutError: more than -1 s of processor time",
    }


def test_a_crash_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `make fuzz` ends with, and where to look."""

    def explode(_: bytes) -> str:
        raise ValueError("boom")

    bad = Target("jwks", [b"x"], lambda _, data: data, explode)
    monkeypatch.setattr("tests.fuzz.__main__.target", lambda _: nullcontext(bad))
    assert main(["--plain", "--seconds", "0.1", "--crashes", str(tmp_path), "jwks"]) == 1
    said = capsys.readouterr().out
    assert "CRASH ValueError" in said
    assert str(tmp_path) in said
