"""A JWKS endpoint on a loopback port that counts its fetches, and can be slow, silent or gone."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .material import Material, jwks_document

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self

_PEM_TYPE = "application/x-pem-file"


class Endpoint:
    """What edge publishes: its set with our names of the algorithms, with the others' names, and PEM files.

    Args:
        keys: what is published.
        latency: seconds before an answer.
        cache_control: the header of that name, or None.
        tls: serve https.

    Attributes:
        fetches: how many requests came.
    """

    def __init__(
        self,
        *keys: Material,
        latency: float = 0.0,
        cache_control: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.fetches = 0
        self._keys: tuple[Material, ...] = keys
        self._latency = latency
        self._cache_control = cache_control
        self._tls = tls
        self._go = threading.Event()
        self._go.set()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler(), tls)
        self._listening = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        """Its origin."""
        return f"http{'' if self._tls is None else 's'}://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        """The set for other libraries."""
        return f"{self.base}/jwks.json"

    @property
    def own_url(self) -> str:
        """The set for us."""
        return f"{self.base}/own.json"

    def publish(self, *keys: Material) -> None:
        """Serve these keys from now on."""
        self._keys = keys

    def hang(self) -> None:
        """Accept requests and never answer."""
        self._go.clear()

    def refuse(self) -> None:
        """Close the port, and every connection."""
        if self._listening:
            self._listening = False
            self._server.shutdown()
            self._server.end()

    def close(self) -> None:
        """End."""
        self._ended.set()
        self._go.set()
        self.refuse()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, media type and body; counts, and is slow or silent if told."""
        with self._lock:
            self.fetches += 1
        self._ended.wait(self._latency)
        self._go.wait()
        if path == "/own.json":
            return 200, "application/jwk-set+json", jwks_document(*self._keys)
        if path == "/jwks.json":
            return 200, "application/json", _foreign(self._keys)
        for each in self._keys:
            if path == f"/{pem_kid(each)}":
                return 200, _PEM_TYPE, each.public_pem
        return 404, _PEM_TYPE, b""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                status, kind, body = endpoint.answer(urlsplit(self.path).path)
                if endpoint._ended.is_set():
                    return
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if endpoint._cache_control is not None:
                    self.send_header("Cache-Control", endpoint._cache_control)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
                """Say nothing."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(address, handler)
        self._tls = tls
        self._open: set[socket.socket] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        # in the connection's own thread: a handshake keeps nobody else waiting
        connection = request if self._tls is None else self._tls.wrap_socket(request, server_side=True)
        self._open.add(connection)
        try:
            super().finish_request(connection, client_address)
        finally:
            self._open.discard(connection)
            connection.close()

    def end(self) -> None:
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own affair."""


def pem_kid(made: Material) -> str:
    """The kid under which atlassian-jwt-auth looks for this key; it must begin with the issuer."""
    return f"edge/{made.key.kid}"


def _foreign(keys: Iterable[Material]) -> bytes:
    return json.dumps({"keys": [each.public_jwk for each in keys]}).encode()
