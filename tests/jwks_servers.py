"""Issuers for tests: real HTTP and HTTPS servers on free loopback ports, well-behaved and hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from s2s_mesh.drivers import drive, drive_async
from s2s_mesh.identity import Principal
from s2s_mesh.jwks import JWKSet
from s2s_mesh.jwks_client import JWKSClient
from s2s_mesh.keys import SigningKey
from s2s_mesh.resolver import JWKSCacheLimits, KeyResolver
from s2s_mesh.trust import IssuerTrust, TrustConfig
from s2s_mesh.verifier import Verifier, VerifyFlow

from .servers import wait_until
from .tokens import EDGE, NOW, WALLETS, claims, header, key, sign

if TYPE_CHECKING:
    from typing_extensions import Self

JWKS_TYPE = "application/jwk-set+json"
_PATIENCE = 40.0  # seconds after which a server gives up on a test that forgot it
Talk = Callable[["Peer", socket.socket], None]


class Head(NamedTuple):
    """The head of a request: its first line, and its fields by lower-case name."""

    line: str
    fields: Mapping[str, str]

    @property
    def path(self) -> str:
        """What was asked for."""
        return self.line.split(" ")[1]


class Peer:
    """A server on a free loopback port; `talk` says what it does with a connection, in a thread of its own.

    Args:
        talk: gets the peer and the connection, which is closed afterwards.
        tls: speak TLS.
        host: where to listen.
        listening: False leaves the port taken but closed until `listen`.

    Attributes:
        port: the port.
        heads: of the requests that came, in order.
    """

    def __init__(
        self,
        talk: Talk,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        listening: bool = True,
    ) -> None:
        self.heads: list[Head] = []
        self._talk = talk
        self._tls = tls
        self._host = host
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._clients: list[Any] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listener.bind((host, 0))
        self.port: int = self._listener.getsockname()[1]
        if listening:
            self.listen()

    def listen(self) -> None:
        """Accept connections from now on."""
        self._listener.listen(128)
        self._listener.settimeout(1)
        self._start(self._accept)

    def url(self, path: str = "/jwks.json", *, host: str | None = None) -> str:
        """A URL of this server, by its address or a name."""
        own = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host or own}:{self.port}{path}"

    def connections(self) -> int:
        """How many connected until now, also those who are not accepted yet."""
        with socket.create_connection((self._host, self.port)) as probe:
            own = probe.getsockname()
            wait_until(lambda: own in self._clients)
        with self._lock:
            before = self._clients.index(own)
            self._clients.remove(own)
        return before

    def read_head(self, connection: socket.socket) -> Head:
        """Read a request up to the empty line, and keep it."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                raise ConnectionError("the client went away")
            data += more
        line, *fields = data.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
        pairs = (field.partition(":") for field in fields)
        head = Head(line, {name.lower(): value.strip() for name, _, value in pairs})
        with self._lock:
            self.heads.append(head)
        return head

    def wait(self, seconds: float) -> None:
        """Be slow, but end at once with the test."""
        self._stopping.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):  # wakes who accepts
            socket.create_connection((self._host, self.port)).close()
        self._listener.close()
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(OSError):
                connection, client = self._listener.accept()
                with self._lock:
                    self._clients.append(client)
                    self._open.add(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        # what a client does to its connection is no error of the server's
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(self._forget, connection)
            if self._tls is not None:
                connection.getpeername()  # Python leaks what it wraps if the client has gone by then
                connection = self._tls.wrap_socket(connection, server_side=True)
                stack.callback(self._forget, connection)
                with self._lock:
                    self._open.add(connection)
            self._talk(self, connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()


# -- what peers say ---------------------------------------------------------------------------------------


def jwks(*signers: SigningKey) -> bytes:
    """A JWKS document with the public halves."""
    return JWKSet(signer.public for signer in signers).to_bytes()


def answer(body: bytes = b"", *fields: str, status: str = "200 OK", kind: str | None = JWKS_TYPE) -> bytes:
    """An HTTP answer with a Content-Length, unless one is among the fields."""
    lines = [f"HTTP/1.1 {status}", *([f"Content-Type: {kind}"] if kind is not None else []), *fields]
    if not any(field.lower().startswith(("content-length:", "transfer-encoding:")) for field in fields):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def says(data: bytes) -> Talk:
    """Answer every request with these bytes and close."""

    def talk(peer: Peer, connection: socket.socket) -> None:
        peer.read_head(connection)
        connection.sendall(data)

    return talk


def drips(at_once: bytes, slowly: bytes, *, every: float, size: int = 1) -> Talk:
    """Answer with some bytes at once and the others piece by piece."""

    def talk(peer: Peer, connection: socket.socket) -> None:
        peer.read_head(connection)
        connection.sendall(at_once)
        for start in range(0, len(slowly), size):
            peer.wait(every)
            connection.sendall(slowly[start : start + size])

    return talk


def goes_on(at_once: bytes, more: bytes) -> Talk:
    """Answer with some bytes and then repeat the others until the client goes away."""

    def talk(peer: Peer, connection: socket.socket) -> None:
        peer.read_head(connection)
        connection.sendall(at_once)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            connection.sendall(more)

    return talk


def is_silent(peer: Peer, connection: socket.socket) -> None:
    """Read and never answer."""
    while connection.recv(65536):
        pass


def resets(peer: Peer, connection: socket.socket) -> None:
    """Answer a request with a TCP reset."""
    peer.read_head(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# -- issuers that work ------------------------------------------------------------------------------------


async def until(condition: Callable[[], object]) -> None:
    """Poll on the event loop until the condition holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


class Endpoint:
    """What one issuer publishes, and who asked.

    Attributes:
        asked: of each request, when it came and its fields.
        cache_control: of the answers, or None.
        etags: whether answers have an entity tag.
        ahead: seconds by which its clock is ahead, or None for answers that do not say what it shows.
        instead: bytes to say instead of the answer; none at all hang up.
    """

    def __init__(self, clock: Callable[[], float], url: str) -> None:
        self.asked: list[tuple[float, Mapping[str, str]]] = []
        self.cache_control: str | None = "max-age=300"
        self.etags = True
        self.ahead: float | None = None
        self.instead: bytes | None = None
        self.url = url
        self._clock = clock
        self._body = jwks()
        self._gate = threading.Event()
        self._gate.set()

    def publish(self, *signers: SigningKey) -> None:
        """Serve these keys from now on."""
        self._body = jwks(*signers)

    def publish_document(self, body: bytes) -> None:
        """Serve this document from now on."""
        self._body = body

    def hold(self) -> None:
        """Take requests, but answer none before `release`."""
        self._gate.clear()

    def release(self) -> None:
        """Answer those who wait, and everybody after them."""
        self._gate.set()

    def answer(self, head: Head) -> bytes:
        """Take note of a request, wait at the gate, and answer as things stand then."""
        self.asked.append((self._clock(), head.fields))
        self._gate.wait(_PATIENCE)
        if self.instead is not None:
            return self.instead
        etag = f'"{hashlib.sha256(self._body).hexdigest()[:16]}"'
        fields = [f"ETag: {etag}"] if self.etags else []
        if self.ahead is not None:
            fields.append(f"Date: {formatdate(self._clock() + self.ahead, usegmt=True)}")
        if self.cache_control is not None:
            fields.append(f"Cache-Control: {self.cache_control}")
        if self.etags and head.fields.get("if-none-match") == etag:
            return answer(b"", *fields, status="304 Not Modified", kind=None)
        return answer(self._body, *fields)


class JWKSServer(Peer):
    """The JWKS endpoints of any number of issuers, one path each.

    Args:
        clock: the times in `Endpoint.asked` are this clock's.
        listening: see `Peer`.

    Attributes:
        most_at_once: the most requests that were being answered at one time.
    """

    def __init__(self, clock: Callable[[], float], *, listening: bool = True) -> None:
        self.most_at_once = 0
        self._at_once = 0
        self._clock = clock
        self._endpoints: dict[str, Endpoint] = {}
        super().__init__(self._talk_http, listening=listening)

    def endpoint(self, name: str, *signers: SigningKey) -> Endpoint:
        """Add an issuer that publishes these keys."""
        made = self._endpoints[f"/{name}"] = Endpoint(self._clock, self.url(f"/{name}"))
        made.publish(*signers)
        return made

    def _talk_http(self, _: Peer, connection: socket.socket) -> None:
        head = self.read_head(connection)
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        said = self._endpoints[head.path].answer(head)
        with self._lock:
            self._at_once -= 1
        connection.sendall(said)

    def __exit__(self, *exception: Any) -> None:
        for endpoint in self._endpoints.values():
            endpoint.release()
        super().__exit__(*exception)


# -- who asks them ----------------------------------------------------------------------------------------


def trust_in(
    places: Mapping[str, str], *, ca_file: str | None = None, algorithms: Sequence[str] = ()
) -> TrustConfig:
    """A trust file on one machine: each issuer may call `wallets`, and its keys are at this URL or file."""
    grants: list[str] = []
    parts = ["version = 1\n[defaults]\nallow_loopback_http = true\n"]
    parts.append(f"algorithms = {json.dumps(algorithms)}\n" if algorithms else "")
    for issuer, place in places.items():
        member = "jwks_uri" if "://" in place else "jwks_file"
        parts.append(f"[issuers.{json.dumps(issuer)}]\n{member} = {json.dumps(place)}\n")
        parts.append("allow_plain_http = true\n" if place.startswith("http:") else "")
        parts.append(f"ca_file = {json.dumps(ca_file)}\n" if ca_file is not None else "")
        grants.append(f'[[allow]]\nissuer = "{issuer}"\naudience = "{WALLETS}"\nscopes = ["cards:read"]\n')
    return TrustConfig.parse("".join(parts + grants))


def source(place: str, *, ca_file: str | None = None) -> IssuerTrust:
    """Edge's entry in such a trust file."""
    return trust_in({EDGE: place}, ca_file=ca_file).issuers[EDGE]


class Wallets:
    """The service `wallets`, which verifies tokens with keys that it fetches, by a clock that is set by hand.

    Args:
        clock: its clock.
        places: where the keys of each issuer are.
        algorithms: what it accepts, where it is not what every trust file says.
    """

    def __init__(self, clock: Clock, places: Mapping[str, str], *, algorithms: Sequence[str] = ()) -> None:
        self.clock = clock
        self.resolver = KeyResolver(JWKSCacheLimits())
        trust = trust_in(places, algorithms=algorithms)
        self.client = JWKSClient(self.resolver, trust, clock)
        self.verifier = Verifier(audiences={WALLETS}, trust=trust, resolver=self.resolver, cache_size=0)

    def token(
        self,
        issuer: str = EDGE,
        signer: SigningKey | None = None,
        *,
        kid: str | None = None,
        at: float | None = None,
    ) -> bytes:
        """A token that is good now (or at `at`), if the issuer publishes the signer's key."""
        signer = signer or key()
        now = int(self.clock() if at is None else at)
        payload = claims(iss=issuer, sub=issuer, client_id=issuer, iat=now, exp=now + 120, scope="cards:read")
        return sign(header(signer, **({} if kid is None else {"kid": kid})), payload, signer)

    def flow(self, token: bytes | None = None, *, at: float | None = None) -> VerifyFlow:
        """The flow that verifies a token; one of edge where none is given."""
        return self.verifier.verify(token or self.token(), self.clock() if at is None else at)

    def verify(self, token: bytes | None = None, *, at: float | None = None) -> Principal:
        """Verify in this thread."""
        return drive(self.flow(token, at=at), self.client, self.clock)

    async def verify_async(self, token: bytes | None = None) -> Principal:
        """Verify on the event loop."""
        return await drive_async(self.flow(token), self.client, self.clock)

    def use(self, places: Mapping[str, str]) -> None:
        """Reload the trust file, as the housekeeper does."""
        trust = trust_in(places)
        self.client.use(trust)
        self.verifier.trust = trust

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.client.close()
