#!/usr/bin/env python3
"""The demo: real processes that sign, publish, verify and refuse. `make demo` starts it; see --help."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.fleet import Fleet

_HELP = """\
Starts edge and wallets (two replicas each), ledger, the key servers of settlement and partner, an intruder
and an identity provider on this machine, and one Redis-compatible server; lets them call each other in good
and in bad faith, as themselves and for users; and shows what was allowed, what was refused, and the reason
in the receiver's log. Keys rotate every 8 seconds here, so that a rotation can be watched; the Redis is
killed on the way. Takes 40 seconds on two idle cores.

The reason never is in the answer to the caller: it is found in the log by the id that the answer carries.

environment:
  REDIS_URL            use this Redis (redis:// or rediss://) instead of starting a Valkey. It is not flushed;
  S2S_MESH_KEY_STORE   the rings of the demo are removed at the end. (Either; the second one goes first.)

exit codes:
  0  every row is as expected
  1  a row is not
  2  the demo cannot be set up; the text says why
  130  stopped by Ctrl-C
"""


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Six services, a login and a Redis: watch them trust and refuse each other.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave it running afterwards, and say how to call it"
    )
    parser.add_argument("--json", action="store_true", help="print the table as data, and nothing else")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="save the table as a picture")
    parser.add_argument("--quick", action="store_true", help="leave out rotation and outage")
    return parser.parse_args(arguments)


async def _demo(options: argparse.Namespace) -> int:
    from runner import DemoError
    from runner.calls import Calls, client
    from runner.fleet import Fleet
    from runner.rows import rows
    from runner.show import Show, as_json, as_svg, details, verdict_line

    from s2s_mesh import ConfigError

    _let_signals_cancel()
    start = time.monotonic()
    people = sys.stderr if options.json else sys.stdout
    table = rows(quick=options.quick)
    fleet = Fleet(os.environ)
    keep_logs = False
    try:
        with Show(table, people) as show:
            await fleet.start(show.say)
            async with client() as http:
                calls = Calls(fleet, http)
                for row in table:
                    show.running(row)
                    await row.play(calls)
                    show.finished(row)
        seconds = time.monotonic() - start
        print(verdict_line(table, seconds), file=people)
        if options.json:
            print(as_json(table, seconds))
        if options.svg is not None:
            options.svg.write_text(as_svg(table, seconds), encoding="utf-8")
        if options.keep:
            await _keep(fleet, lambda text: print(text, file=people, flush=True))
    except (DemoError, ConfigError):
        keep_logs = any(fleet.directory.glob("*.log"))
        raise
    finally:
        problems = details(table)
        keep_logs = keep_logs or bool(problems)
        for problem in [*problems, f"logs: {fleet.directory}"] if keep_logs else []:
            print(problem, file=sys.stderr)
        fleet.stop(keep_logs=keep_logs)
    return 0 if all(row.good for row in table) else 1


async def _keep(fleet: Fleet, say: Callable[[str], None]) -> None:
    """Say how to call the services, and wait for Ctrl-C."""
    ids, token = fleet.ids, fleet.token_script()
    say("\nIt is all still running:")
    for name, url in ids.items():
        say(f"  {name:<11} {url}   replicas: {', '.join(fleet.replicas[name])}")
    card = f"{ids['wallets']}/wallets/42/card"
    bearer = '-H "Authorization: Bearer $({} {} {})"'
    login = f"{ids['login']}/token?user=alice&aud={ids['edge']}"
    alice = f"-H \"Authorization: Bearer $(curl -s -X POST '{login}')\""
    for remark, line in (
        ("edge's public keys (again in 8 s: they rotate)", f"curl -i {ids['edge']}/.well-known/jwks.json"),
        ("edge changes a card", f"curl -i -X PUT {ids['edge']}/wallets/42/card"),
        ("the same as edge", f"curl -i -X PUT {bearer.format(token, 'edge', ids['wallets'])} {card}"),
        ("settlement may not", f"curl -i -X PUT {bearer.format(token, 'settlement', ids['wallets'])} {card}"),
        (
            "nobody knows intruder",
            f"curl -i -X PUT {bearer.format(token, 'intruder', ids['wallets'])} {card}",
        ),
        ("without a token", f"curl -i -X PUT {card}"),
        ("alice logs in, and changes her limit", f"curl -i -X PUT {alice} {ids['edge']}/wallets/42/limit"),
        ("partner's API key (refused now)", f"curl -i -H 'X-Api-Key: {fleet.api_key}' {card}"),
        ("why wallets refused", f"grep -h refused {fleet.directory}/wallets-?.log | tail -3"),
    ):
        say(f"\n# {remark}\n{line}")
    say("\nCtrl-C ends it.")
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def _let_signals_cancel() -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _not_installed() -> str | None:
    """The name of a package that is missing, or None."""
    try:
        import httpx  # noqa: F401
        import rich  # noqa: F401
        import uvicorn  # noqa: F401

        import s2s_mesh  # noqa: F401
    except ImportError as missing:
        return missing.name
    return None


def main(arguments: Sequence[str]) -> int:
    """Run the demo and return its exit code."""
    options = _parse(arguments)
    missing = _not_installed()
    if missing is not None:
        return _stop(
            f"{missing} is not installed; `make demo` installs everything into .venv, and starts this"
        )
    if options.svg is not None and not options.svg.absolute().parent.is_dir():
        return _stop(f"--svg {options.svg}: there is no such directory")
    from runner import DemoError

    from s2s_mesh import ConfigError

    try:
        return asyncio.run(_demo(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (DemoError, ConfigError, OSError) as problem:
        return _stop(str(problem))


def _stop(text: str) -> int:
    print(f"demo: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
