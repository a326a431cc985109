"""A real HTTP server that remembers what clients sent it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

# shared, and without authorities: httpx would load them for every client, and nothing here speaks TLS
CLIENT: dict[str, Any] = {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}


class Seen(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    authorization: list[str]
    names: set[str]
    body: bytes
    fields: dict[str, str]

    @property
    def token(self) -> str:
        (field,) = self.authorization
        scheme, _, token = field.partition(" ")
        assert scheme == "Bearer"
        return token


class Target:
    """A real server on loopback that remembers what it was sent.

    Attributes:
        seen: the requests so far.
        answers: status and headers of the next answers; 200 when there are none left.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []
        self.answers: list[tuple[int, dict[str, str]]] = []

    @property
    def tokens(self) -> list[str]:
        return [request.token for request in self.seen]


@contextmanager
def serving() -> Iterator[Target]:
    """Run a server in a thread."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = b"".join(self._chunks())
            target.seen.append(
                Seen(
                    self.command,
                    self.path,
                    self.headers.get_all("authorization", []),
                    {name.lower() for name in self.headers},
                    body,
                    {name.lower(): value for name, value in self.headers.items()},
                )
            )
            status, headers = target.answers.pop(0) if target.answers else (200, {})
            self.send_response(status)
            for name, value in {**headers, "content-length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        do_POST = do_PUT = do_GET  # noqa: N815

        def _chunks(self) -> Iterator[bytes]:
            if self.headers.get("transfer-encoding") != "chunked":
                yield self.rfile.read(int(self.headers.get("content-length", 0)))
                return
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    target = Target(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield target
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
