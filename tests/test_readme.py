"""What the README and the docs show is what the program does: every snippet in them is executed."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from s2s_mesh import Service, TrustConfig
from s2s_mesh.store import generate_key_encryption_key
from s2s_mesh.store.redis_errors import acl
from s2s_mesh.wellknown import JWKS

from .docs_snippets import snippets as snippets  # others take it from here
from .programs import ROOT, Program, environment, http_server
from .servers import free_port

CALLS = 5000


class Walk:
    """The README's three steps, done in an empty folder, with loopback names for the two services."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kek = generate_key_encryption_key()
        self.edge, self.wallets = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        trust = self.localised(snippets("README.md", "toml")[0])
        trust = trust.replace("version = 1\n", "version = 1\n[defaults]\nallow_loopback_http = true\n")
        self.trust = folder / "trust.toml"
        self.trust.write_text(trust)
        for code in snippets("README.md", "python"):
            name = code.splitlines()[0].removeprefix("# ")
            (folder / name).write_text(self.localised(code))

    def localised(self, text: str) -> str:
        return text.replace("https://edge.example.com", self.edge).replace(
            "https://wallets.example.com", self.wallets
        )

    def environment(self, issuer: str, **more: str) -> Mapping[str, str]:
        return environment(
            S2S_MESH_ISSUER=issuer,
            S2S_MESH_TRUST_FILE=str(self.trust),
            S2S_MESH_KEY_STORE=f"file://{self.folder}/{issuer[-5:]}",
            S2S_MESH_KEY_ENCRYPTION_KEY=self.kek,
            **more,
        )


@pytest.fixture
def walk(tmp_path: Path) -> Walk:
    return Walk(tmp_path)


def test_the_example_file_is_a_good_trust_file() -> None:
    """The README's trust.toml is accepted without a warning."""
    trust = TrustConfig.parse(snippets("README.md", "toml")[0])
    assert list(trust.pairs) == [("https://edge.example.com", "https://wallets.example.com")]
    assert trust.warnings == ()


def test_the_commands_of_the_readme_exist() -> None:
    """`make` targets are in the Makefile, and `s2s-mesh init` is a command with that option."""
    commands = [
        line[2:].split("#")[0].strip()
        for block in snippets("README.md", "console")
        for line in block.splitlines()
    ]
    assert "make demo" in commands
    assert "make test" in commands
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands:
        program, argument, *rest = shlex.split(command)
        if program == "make":
            assert argument in targets
        elif program == "s2s-mesh":
            taught = subprocess.run(
                [sys.executable, "-m", "s2s_mesh", argument, "--help"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert all(option in taught.stdout for option in rest if option.startswith("--"))


def test_every_file_that_the_readme_names_exists() -> None:
    """No dead link."""
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_the_readmes_app_and_caller_run_as_printed(walk: Walk) -> None:
    """Copied as they stand, they start, and the call is answered with the caller's name."""
    with ExitStack() as stack:
        published = [sys.executable, "-m", "s2s_mesh", "serve", "--port", walk.edge.rpartition(":")[2]]
        edge = walk.environment(walk.edge)
        stack.enter_context(Program(published, edge, walk.folder).until_answering(walk.edge + JWKS))
        server = [sys.executable, "-m", "uvicorn", "app:app", "--port", walk.wallets.rpartition(":")[2]]
        stack.enter_context(
            Program(server, walk.environment(walk.wallets), walk.folder).until_answering(walk.wallets + JWKS)
        )
        # a job that serves nothing signs with keys that every replica has, in the fast profile after 0.5 s
        fast = {**edge, "S2S_MESH_ROTATION": "fast-for-tests"}
        for _ in range(20):
            called = subprocess.run(
                [sys.executable, "caller.py"],
                cwd=walk.folder,
                env=fast,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if called.returncode == 0:
                break
        assert called.stdout == f"200 {{'caller': '{walk.edge}'}}\n", called.stderr


class CountingJWKS:
    """Serves an issuer's documents and counts who asks for its keys."""

    def __init__(self, service: Service) -> None:
        self.app = Starlette(routes=service.routes, lifespan=service.lifespan)
        self.fetches = 0

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        self.fetches += scope.get("path") == JWKS
        await self.app(scope, receive, send)


def test_two_workers_answer_five_thousand_calls_with_one_fetch_each(tmp_path: Path) -> None:
    """The README app under `uvicorn --workers 2`: no call fails, one fetch of the caller's keys each."""
    code = f"from tests.test_readme import call_many; call_many({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.stdout == f"{{200: {CALLS}}} and 2 fetches\n", done.stderr


def call_many(folder: str) -> None:
    """Serve the caller's keys, start the app's workers, call them; in a process of its own."""
    walk = Walk(Path(folder))
    service = Service(issuer=walk.edge, trust=walk.trust, key_store="memory://")
    counting = CountingJWKS(service)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "app:app",
        "--workers",
        "2",
        "--timeout-worker-healthcheck",
        "60",  # on a loaded machine uvicorn would kill and replace a worker that is only slow
        "--log-level",
        "warning",
        "--port",
    ]
    port = walk.wallets.rpartition(":")[2]
    program = Program([*command, port], walk.environment(walk.wallets), walk.folder)
    with (
        http_server(counting, int(walk.edge.rpartition(":")[2])),
        program.until_answering(walk.wallets + JWKS),
    ):
        statuses = asyncio.run(_put_many(service, walk.wallets))
    print(f"{statuses} and {counting.fetches} fetches")


async def _put_many(service: Service, wallets: str) -> dict[int, int]:
    statuses: dict[int, int] = {}
    numbers = iter(range(CALLS))
    limits = httpx.Limits(max_connections=16)
    async with httpx.AsyncClient(auth=service.auth(wallets), limits=limits, timeout=30) as http:

        async def work() -> None:
            for number in numbers:
                answer = await http.put(f"{wallets}/wallets/{number}/card", json={"limit": number})
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

        await asyncio.gather(*(work() for _ in range(16)))
    return statuses


def test_the_acl_line_of_the_docs_is_the_one_that_is_tested() -> None:
    """docs/operations.md shows what `tests/test_store_redis_access.py` proves to be enough."""
    (line,) = snippets("docs/operations.md", "text")
    assert line == f"user wallets on >PASSWORD {acl('https://wallets.example.com')}\n"
