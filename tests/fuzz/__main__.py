"""`python -m tests.fuzz`: see --help."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .run import Result, run, run_guided
from .targets import NAMES, target

_HELP = """\
Feeds mutated tokens, headers, key sets, trust files and Authorization fields to this package. Any error that
is not its own, a forgery that is let in, and an input that costs seconds are crashes: each is written to a
folder, and the exit code is 1. With atheris installed the search is guided by coverage, else by verdicts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where something crashed."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=_HELP)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; all of them")
    parser.add_argument("--seconds", type=float, default=600, help="for all targets together (%(default)g)")
    parser.add_argument("--crashes", type=Path, help="the folder for what goes wrong (a new temporary one)")
    parser.add_argument("--seed", type=int, default=0, help="of the random generator, without atheris")
    parser.add_argument("--plain", action="store_true", help="without atheris, though it is there")
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    names = options.targets or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    crashes: Path = options.crashes or Path(tempfile.mkdtemp(prefix="fuzz-crashes-"))
    each = options.seconds / len(names)
    if options.guided:
        stack = contextlib.ExitStack()
        fuzzed = stack.enter_context(target(names[0]))
        atheris = importlib.import_module("atheris")
        run_guided(fuzzed, each, crashes, _tell, atheris=atheris, end=stack.close)
    guided = not options.plain and importlib.util.find_spec("atheris") is not None
    _tell(f"guided by {'coverage' if guided else 'verdicts'}, {each:g} s for each of {', '.join(names)}")
    results = []
    for name in names:
        if guided:
            results.append(_in_a_child(name, each, crashes))
        else:
            with target(name) as fuzzed:
                results.append(run(fuzzed, each, crashes, _tell, seed=options.seed))
    _tell("")
    for result in results:
        _tell(str(result))
    executions = sum(result.executions for result in results)
    found = sum(result.crashes for result in results)
    _tell(f"{executions:,} executions, {found} crashes{f', in {crashes}' if found else ''}")
    if not found and options.crashes is None:
        shutil.rmtree(crashes)
    return int(found > 0)


def _tell(line: str) -> None:
    print(line, flush=True)


_CHILD = """\
import atheris, sys
with atheris.instrument_imports(include=["s2s_mesh"]):
    from tests.fuzz.__main__ import main
main(sys.argv[1:])
"""


def _in_a_child(name: str, seconds: float, crashes: Path) -> Result:
    """A run of libFuzzer, which ends its process. A child that dies is a crash, too."""
    command = [
        sys.executable,
        "-c",
        _CHILD,
        "--guided",
        "--seconds",
        str(seconds),
        "--crashes",
        str(crashes),
        name,
    ]
    result = Result(name, 0, seconds, 0, 1)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("result "):
                result = Result(**ast.literal_eval(line.removeprefix("result ")))
            else:
                _tell(line.rstrip())
    return result


if __name__ == "__main__":
    sys.exit(main())
