"""A Starlette application under wrk: what is left of its throughput when tokens are checked."""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from . import envoy
from .apps import APPS, ENDPOINT, FASTAPI, FOREIGN_SET, NO_AUTH, OWN_SET, SMALL_CACHE
from .endpoint import Endpoint
from .load import CONNECTIONS, Load, ToolMissing, Wrk, can_pin, free_port, program
from .material import jwks_document, material
from .plot import Bar, Panel, svg
from .proving import proven_requests
from .report import Check, Report, Table

_ALGS = ("RS256", "ES256")
_FRESH_LIMITS = {"RS256": 42.0, "ES256": 25.0}
_REPEATED_LIMIT = 88.0
_PROOFS_A_SECOND = 6000  # more than one process can verify
_PLAIN, _CHECKED = "envoy-plain", "envoy-checked"
_OWN_PLAIN, _OWN_CHECKED = "envoy-own-plain", "envoy-own-checked"
_METHOD = f"""Starlette under uvicorn answers `GET /`; wrk (1 thread, {CONNECTIONS} connections) sends the
same requests, with the same tokens, to the application with and without the check. Each measurement stands
between two shorter ones of its own baseline; "of its baseline" is measured / mean of these two, and is what
to trust. *Fresh* cycles over {4 * SMALL_CACHE:,} different tokens, which is more than our memory was given
room for: each is looked for, verified and remembered. *Repeated* sends one token. *With proof* sends a bound
token, its WIT and, for each request, a WPT of its own; the process remembers which were used. The others have
no such memory and were given the different tokens. PyJWT is a small ASGI middleware over prepared keys;
fastapi-jwks is its own dependency in FastAPI, against FastAPI without. Envoy has one worker, on the
application's CPU, holds the keys, and its token cache is off, as it comes. What `jwt_authn` costs *Envoy*
is seen where Envoy answers by itself, against the same without the filter; that is the figure our promise
is about. In front of the application the filter's share is smaller, because passing a request on costs more
than checking it; the last rows count both, against the application alone."""


class Plan(NamedTuple):
    """How long to measure: whole seconds, which is what wrk knows."""

    seconds: int = 3
    baseline_seconds: int = 1
    rounds: int = 4

    @classmethod
    def quick(cls) -> Plan:
        """One look."""
        return cls(seconds=1, rounds=1)


class _Row(NamedTuple):
    """One configuration.

    Attributes:
        name: of the row.
        server: which port is loaded.
        baseline: which port it is compared with.
        alg: of the tokens.
        fresh: whether many tokens are sent, or one.
        proof: whether each request brings a proof of its own.
    """

    name: str
    server: str
    baseline: str
    alg: str
    fresh: bool = True
    proof: bool = False


class _Measured(NamedTuple):
    share: float
    load: Load


def _rows() -> Iterator[_Row]:
    yield _Row("no auth, against itself", NO_AUTH, NO_AUTH, "ES256")
    for alg in _ALGS:
        yield _Row(f"s2s_mesh, repeated {alg}", "ours", NO_AUTH, alg, fresh=False)
        yield _Row(f"s2s_mesh, fresh {alg}", "ours-fresh", NO_AUTH, alg)
        yield _Row(f"s2s_mesh, with proof {alg}", "ours-proof", NO_AUTH, alg, proof=True)
        yield _Row(f"PyJWT {alg}", "pyjwt", NO_AUTH, alg)
        yield _Row(f"fastapi-jwks {alg}", "fastapi-jwks", FASTAPI, alg)
        yield _Row(f"Envoy jwt_authn {alg}, answering by itself", _OWN_CHECKED, _OWN_PLAIN, alg)
        yield _Row(f"Envoy jwt_authn {alg}, before the app", _CHECKED, _PLAIN, alg)
        yield _Row(f"Envoy and jwt_authn {alg}, against the app alone", _CHECKED, NO_AUTH, alg)


def measure(plan: Plan, rounds: int | None = None) -> Report:
    """Measure and report."""
    report = Report("http", "A Starlette application under load", _METHOD)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        try:
            wrk = Wrk(folder)
        except ToolMissing as why:
            report.tables.append(Table("Not measured", ("why",), [(str(why),)]))
            return report
        ports, absent = _start(folder, stack)
        found = _measure(plan._replace(rounds=rounds or plan.rounds), wrk, folder, ports)
    report.tables.append(_table(found, absent))
    report.checks += _checks(found)
    report.plot = _plot(found)
    return report


def _start(folder: Path, stack: contextlib.ExitStack) -> tuple[Mapping[str, int], Mapping[str, str]]:
    """The ports of all servers that run now, and why the others do not."""
    made = [material(alg) for alg in _ALGS]
    jwks = {"keys": [each.public_jwk for each in made]}
    (folder / OWN_SET).write_bytes(jwks_document(*made))
    (folder / FOREIGN_SET).write_text(json.dumps(jwks), encoding="utf-8")
    endpoint = stack.enter_context(Endpoint(*made))
    (folder / ENDPOINT).write_text(endpoint.url, encoding="utf-8")
    for each in made:
        # the same tokens for everybody: RS256 and ES256 have one name
        tokens = [each.token() for _ in range(4 * SMALL_CACHE)]
        _tokens(folder, each.kind, fresh=True).write_text("\n".join(tokens) + "\n", encoding="ascii")
        _tokens(folder, each.kind, fresh=False).write_text(tokens[0] + "\n", encoding="ascii")
    ports: dict[str, int] = {}
    absent: dict[str, str] = {}
    for app in APPS:
        port = free_port()
        start = [sys.executable, "-m", "benchmarks.apps", app, str(folder), str(port)]
        try:
            stack.enter_context(program([*start, *(["0"] if can_pin() else [])], port, folder / f"{app}.log"))
        except RuntimeError as why:
            if "ModuleNotFoundError" not in str(why):
                raise
            absent[app] = "not installed"
        else:
            ports[app] = port
    own = envoy.Ports(*(free_port() for _ in envoy.Ports._fields))
    try:
        start = envoy.command(folder, ports[NO_AUTH], jwks, own)
    except ToolMissing as missing:
        absent |= dict.fromkeys((_CHECKED, _OWN_CHECKED), str(missing))
    else:
        stack.enter_context(program(start, own.checked, folder / "envoy.log"))
        ports |= {_PLAIN: own.plain, _CHECKED: own.checked}
        ports |= {_OWN_PLAIN: own.own_plain, _OWN_CHECKED: own.own_checked}
    return ports, absent


def _measure(plan: Plan, wrk: Wrk, folder: Path, ports: Mapping[str, int]) -> dict[str, list[_Measured]]:
    rows = [row for row in _rows() if row.server in ports]
    found: dict[str, list[_Measured]] = {row.name: [] for row in rows}

    def load(row: _Row, server: str, seconds: int) -> Load:
        tokens = _proofs(folder, row.alg, seconds) if row.proof else _tokens(folder, row.alg, fresh=row.fresh)
        return wrk.run(f"http://127.0.0.1:{ports[server]}/", tokens, seconds)

    for row in rows:
        load(row, row.server, 1)  # warm
    order = random.Random(1)
    for _ in range(plan.rounds):
        for row in order.sample(rows, len(rows)):
            before = load(row, row.baseline, plan.baseline_seconds)
            measured = load(row, row.server, plan.seconds)
            after = load(row, row.baseline, plan.baseline_seconds)
            usual = (before.per_second + after.per_second) / 2
            found[row.name].append(_Measured(100 * measured.per_second / usual, measured))
    return found


def _tokens(folder: Path, alg: str, *, fresh: bool) -> Path:
    return folder / f"{alg}-{'fresh' if fresh else 'repeated'}.txt"


def _proofs(folder: Path, alg: str, seconds: int) -> Path:
    """Made just before they are sent: a proof is good for a minute, and once."""
    file = folder / f"{alg}-proofs.txt"
    made = proven_requests(material(alg), _PROOFS_A_SECOND * seconds)
    lines = (f"{each.access_token} {each.wit} {each.wpt}\n" for each in made)
    file.write_text("".join(lines), encoding="ascii")
    return file


def _share(found: Mapping[str, Sequence[_Measured]], name: str) -> float | None:
    return statistics.median(each.share for each in found[name]) if name in found else None


def _table(found: Mapping[str, Sequence[_Measured]], absent: Mapping[str, str]) -> Table:
    rows: list[Sequence[str]] = []
    for row in _rows():
        name = f"**{row.name}**" if row.name.startswith("s2s_mesh") else row.name
        if row.name not in found:
            rows.append((name, absent.get(row.server, ""), "", "", "", ""))
            continue
        shares = [each.share for each in found[row.name]]
        rates = [each.load.per_second for each in found[row.name]]
        tails = [each.load.p99 for each in found[row.name]]
        rows.append(
            (
                name,
                f"{statistics.median(shares):.0f} %",
                f"{min(shares):.0f} %",
                f"{max(shares):.0f} %",
                f"{statistics.median(rates):,.0f}",
                f"{statistics.median(tails):.1f}",
            )
        )
    head = ("configuration", "of its baseline: median", "min", "max", "requests/s, median", "p99 ms")
    return Table("Throughput", head, rows)


def _checks(found: Mapping[str, Sequence[_Measured]]) -> Iterator[Check]:
    for alg in _ALGS:
        repeated = _share(found, f"s2s_mesh, repeated {alg}")
        yield Check.at_least(f"{alg}: repeated token keeps", repeated, _REPEATED_LIMIT, "% of no auth")
        fresh = _share(found, f"s2s_mesh, fresh {alg}")
        yield Check.at_least(f"{alg}: fresh tokens keep", fresh, _FRESH_LIMITS[alg], "% of no auth")
        beside = _share(found, f"Envoy jwt_authn {alg}, answering by itself")
        # each loss is a share of its own baseline, so the shares that are left can be compared
        for what, share in (("repeated", repeated), ("fresh", fresh)):
            promise = f"{alg}: {what} loses less than Envoy by its jwt_authn without token cache"
            if beside is None or share is None:
                yield Check(promise, "", None)
            else:
                yield Check(promise, f"{100 - share:.0f} % against {100 - beside:.0f} %", share > beside)


def _plot(found: Mapping[str, Sequence[_Measured]]) -> str:
    bars = [
        Bar(name, share, name.startswith("s2s_mesh"), name.startswith("no auth"))
        for name in found
        if (share := _share(found, name)) is not None
    ]
    bars.sort(key=lambda bar: -bar.value)
    return svg(
        "Throughput that is left", [Panel("of the same without the check", "%", bars)], logarithmic=False
    )
