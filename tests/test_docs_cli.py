"""docs/cli.md: every command is in it, and its output is what the real program prints."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from s2s_mesh.cli.app import app
from s2s_mesh.store import generate_key_encryption_key

from .jwks_servers import JWKSServer
from .programs import ROOT, environment
from .test_readme import snippets
from .tokens import key

DOCS = "docs/cli.md"
SERVICES = ("wallets", "edge", "ledger")
# what differs from run to run, and is no fact about the program
VARYING = (
    (r"[A-Za-z0-9_-]{43}", "RANDOM"),
    (r"\b[0-9a-f]{8}\b", "RULE"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "INSTANT"),
    (r"\((now|in [^)]*|[^)]* ago)\)", "(WHEN)"),
    (r"\b\d+ (s|min)( \d+ s)?( ago)?: the first", "WHEN: the first"),
    (r"published (now|\d+ s ago)", "published WHEN"),
    (r" +", " "),
)


def commands(group: object, prefix: str = "") -> Iterator[str]:
    """The names of all commands, as they are typed."""
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def test_every_command_is_listed() -> None:
    """The table has each of them, and none that does not exist."""
    table = (ROOT / DOCS).read_text().partition("| command |")[2].partition("\n\n")[0]
    listed = [name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert sorted(listed) == sorted(commands(typer.main.get_command(app)))


def test_every_help_has_an_example() -> None:
    """And the example is one of that command."""
    for name in commands(typer.main.get_command(app)):
        command: object = typer.main.get_command(app)
        for word in name.split():
            command = command.commands[word]  # type: ignore[attr-defined]
        shown = command.help  # type: ignore[attr-defined]
        assert f"s2s-mesh {name}" in shown.partition("Example:\n")[2], name


class Shell:
    """A shell with `s2s-mesh` in an empty folder, and services that publish keys around it."""

    def __init__(self, folder: Path, server: JWKSServer) -> None:
        self.folder = folder
        self.ids = {f"https://{name}.example.com": server.url(f"/{name}") for name in SERVICES}
        self.endpoints = {name: server.endpoint(f"{name}/.well-known/jwks.json") for name in SERVICES}
        for endpoint in self.endpoints.values():
            endpoint.ahead = 0
        self.endpoints["edge"].publish(key())
        self.endpoints["edge"].etags = False
        self.endpoints["ledger"].publish(key(name="second"))
        (folder / "app.py").write_text(snippets("README.md", "python")[0])
        program = folder / "bin" / "s2s-mesh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m s2s_mesh "$@"\n')
        program.chmod(0o755)
        self.environment = environment(
            PATH=f"{program.parent}:/usr/bin:/bin",
            S2S_MESH_ISSUER=self.ids["https://wallets.example.com"],
            S2S_MESH_KEY_STORE=f"file://{folder}/keys",
            S2S_MESH_KEY_ENCRYPTION_KEY=generate_key_encryption_key(),
        )

    def run(self, command: str) -> str:
        """What is seen after a command, with the names of the docs."""
        for name, local in self.ids.items():
            command = command.replace(name, local)
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        seen = done.stdout
        for name, local in self.ids.items():
            seen = seen.replace(local, name).replace(
                local.removeprefix("http://"), name.removeprefix("https://")
            )
        return seen

    def trust(self, text: str) -> None:
        """Write the docs' trust file, with loopback names."""
        for name, local in self.ids.items():
            text = text.replace(name, local)
        path = self.folder / "trust" / "trust.toml"
        path.write_text(
            text.replace("version = 1\n", "version = 1\n[defaults]\nallow_loopback_http = true\n")
        )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with JWKSServer(time.time) as server:
        yield Shell(tmp_path, server)


def steps() -> Iterator[tuple[str, str]]:
    """Each command of the docs, and what they show after it."""
    for block in snippets(DOCS, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def plain(text: str) -> list[str]:
    """What has to be the same each time."""
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return [line.strip() for line in text.splitlines()]


def test_the_docs_show_what_is_printed(shell: Shell) -> None:
    """Command by command, in one folder."""
    (toml,) = snippets(DOCS, "toml")
    for command, shown in steps():
        words = shlex.split(command)
        if words[1] == "doctor":
            shell.endpoints["wallets"].publish_document(shell.run("s2s-mesh jwks").strip().encode())
        assert plain(shell.run(command)) == plain(shown), command
        if words[1] == "init":
            shell.trust(toml)
