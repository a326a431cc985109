"""`python -m benchmarks`: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import end_to_end, jwks, tokens
from .material import KINDS
from .report import Report

RESULTS = Path(__file__).parent / "results"
_PARTS = ("tokens", "http", "jwks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; the exit code says nothing about speed."""
    given = _parser().parse_args(arguments)
    for part in given.parts or _PARTS:
        print(f"measuring {part} ...", flush=True)
        report = _measure(part, given)
        print(report.text(), flush=True)
        print(f"written to {report.write(given.out)}", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks",
        description="How fast s2s_mesh is, beside its peers, in the same run. Peers and programs that are "
        "not installed are named in the tables.",
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help="tokens: libraries on one token. http: a Starlette app under wrk. jwks: fetches and blocked "
        "time while an issuer's endpoint is cold, flooded, down, or rotates. Default: all three.",
        choices=[*_PARTS, []],
    )
    parser.add_argument("--quick", action="store_true", help="a minute instead of ten; for a first look")
    parser.add_argument("--rounds", type=int, help="of tokens (150; 40 with --quick) and http (4; 1)")
    parser.add_argument(
        "--keys",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=f"kinds of key for tokens: {', '.join(KINDS)}",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the reports (%(default)s)")
    return parser


def _measure(part: str, given: argparse.Namespace) -> Report:
    if part == "tokens":
        rounds = given.rounds or (40 if given.quick else 150)
        return tokens.measure(tokens.Plan(rounds=rounds, kinds=given.keys))
    if part == "http":
        return end_to_end.measure(end_to_end.Plan.quick() if given.quick else end_to_end.Plan(), given.rounds)
    return jwks.measure(jwks.Plan.quick() if given.quick else jwks.Plan())


if __name__ == "__main__":
    sys.exit(main())
