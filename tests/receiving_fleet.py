"""Several processes of one receiving service, with its real store; the caller is the test itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from s2s_mesh.jwks import JWKSet
from s2s_mesh.store import generate_key_encryption_key

from .programs import Program, environment
from .servers import free_port
from .tokens import EDGE, WALLETS, key

APP = """
from s2s_mesh import Service
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

service = Service.from_env(public_paths=["/health"])


async def answer(request):
    return PlainTextResponse("ok")


app = Starlette(
    routes=[Route("/once", answer, methods=["POST"]), Route("/read", answer), Route("/health", answer)],
    middleware=[service.middleware],
    lifespan=service.lifespan,
)
"""
TRUST = f"""
version = 1
[issuers."{EDGE}"]
jwks_file = "edge.jwks.json"
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
[[route]]
audience = "{WALLETS}"
path = "/once"
methods = ["POST"]
replay = "once"
[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["GET"]
"""


class ReceivingFleet:
    """Processes of `wallets` that share one key store.

    Args:
        folder: for its files.
        key_store: URL.
    """

    def __init__(self, folder: Path, key_store: str) -> None:
        self._folder = folder
        (folder / "app.py").write_text(APP)
        (folder / "trust.toml").write_text(TRUST)
        (folder / "edge.jwks.json").write_bytes(JWKSet([key().public]).to_bytes())
        self._environment = environment(
            S2S_MESH_ISSUER=WALLETS,
            S2S_MESH_KEY_STORE=key_store,
            S2S_MESH_KEY_ENCRYPTION_KEY=generate_key_encryption_key(),
            S2S_MESH_TRUST_FILE=str(folder / "trust.toml"),
        )

    @contextmanager
    def running(self, count: int) -> Iterator[list[str]]:
        """Start processes; their URLs."""
        with ExitStack() as stack:
            urls = []
            for _ in range(count):
                port = free_port()
                command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
                url = f"http://127.0.0.1:{port}"
                program = Program([*command, "--log-level", "warning"], self._environment, self._folder)
                stack.enter_context(program.until_answering(f"{url}/health"))
                urls.append(url)
            yield urls

    def command(self, *arguments: str) -> str:
        """Run `s2s-mesh` in a process of its own, with this service's environment; what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "s2s_mesh", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def statuses(urls: Sequence[str], token: bytes, *, method: str = "GET", path: str = "/read") -> list[int]:
    """Send one token to all of these at the same instant; what they answer."""

    async def send() -> list[int]:
        fields = {"authorization": f"Bearer {token.decode()}"}
        async with httpx.AsyncClient(headers=fields, timeout=30) as http:
            answers = await asyncio.gather(*(http.request(method, url + path) for url in urls))
            return [answer.status_code for answer in answers]

    return asyncio.run(send())
