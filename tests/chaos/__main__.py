"""`python -m tests.chaos`: see --help."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers import server_program

from . import ChaosError
from .plan import FULL, SHORT, Plan
from .run import carry_out
from .troubles import TROUBLES

_HELP = """\
Starts three issuers with three replicas each, two receivers with two replicas each, and their Redis servers,
all on this machine. Keys rotate every 8 seconds. While the issuers call the receivers all the time, this
happens, in turn:

  {troubles}

Beside that, calls are made that have to be refused: expired, misdirected, forged, unsigned and tampered
tokens, tokens of a revoked key, of an issuer that nobody lists.

A valid call has failed if it got no 2xx within ten seconds. Three kinds of failure are shown but not
counted: calls whose own process was frozen meanwhile, calls with a key that was revoked less than a second
ago, and calls while the whole machine stood still for more than a second, as busy hosts make it do.
What is stopped for longer than a key signs (8 s here, 30 days by default) is stopped just after a rotation,
when the next key is known already.

A failed call is shown with the time, what was going on, who called whom, the status, and the reason in the
receiver's log.

exit codes:
  0    the verdict is good: no valid call failed, none was accepted that had to be refused, one ring per
       issuer at the end, no private key readable in a dump, and as many calls and rotations as planned
  1    it is not
  2    the run could not be carried through; the text says why, and where the logs are
  130  stopped by Ctrl-C
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Kill, stop, flush and freeze what s2s_mesh rests on, and count which calls fail.",
        epilog=_HELP.format(
            troubles="\n  ".join(f"{trouble.issuer:<8} {trouble.what}" for trouble in TROUBLES)
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=float,
        help=f"of traffic at least; {FULL.seconds:g} unless told, {SHORT.seconds:g} with --short",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help=f"half a minute: troubles of different issuers at once, {SHORT.hold:g} s instead of "
        f"{FULL.hold:g} s, {SHORT.calls:,} calls at least instead of {FULL.calls:,}",
    )
    parser.add_argument("--logs", action="store_true", help="keep the logs, and say where they are")
    return parser.parse_args(arguments)


def plan(options: argparse.Namespace) -> Plan:
    """What the options ask for."""
    chosen = SHORT if options.short else FULL
    if options.seconds is None:
        return chosen
    return chosen._replace(seconds=options.seconds, at_most=max(chosen.at_most, 2 * options.seconds))


async def _carry_out(chosen: Plan, folder: Path) -> bool:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await carry_out(chosen, folder, lambda text: print(text, flush=True))


def main(arguments: Sequence[str]) -> int:
    """Run it and return the exit code."""
    options = parse(arguments)
    folder = Path(tempfile.mkdtemp(prefix="s2s-mesh-chaos-"))
    keep = True
    try:
        server_program()
        good = asyncio.run(_carry_out(plan(options), folder))
        keep = options.logs or not good
        return 0 if good else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        keep = options.logs
        print("stopped", file=sys.stderr)
        return 130
    except (ChaosError, AssertionError, OSError, pytest.skip.Exception, pytest.fail.Exception) as problem:
        print(f"chaos: {problem}", file=sys.stderr)
        return 2
    finally:
        if keep and any(folder.iterdir()):
            print(f"logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
