"""Calls over real sockets: the token reaches its audience and nobody else, once more where that helps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import Any

import httpx
import pytest
from msgspec import UNSET

from s2s_mesh import (
    ConfigError,
    EndUser,
    KeyStoreError,
    MeshAuth,
    NoUser,
    Service,
    ServiceId,
    StoreReason,
    TrustConfig,
)
from s2s_mesh.client_certificate import Certificate
from s2s_mesh.jws import decode
from s2s_mesh.store import KeyStore
from s2s_mesh.store.memory import MemoryStore
from s2s_mesh.users import OnBehalfOf

from .jwks_servers import until
from .targets import CLIENT, Target, serving
from .tokens import EDGE

TRUST = TrustConfig.parse("version = 1\n[defaults]\nallow_loopback_http = true")
INVALID_TOKEN = 'Bearer realm="x", error="invalid_token", error_description="The access token is invalid"'
HERE = "https://wallets.example.com"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Target, Target]]:
    with serving() as wallets, serving() as other:
        yield wallets, other


@pytest.fixture
def wallets(servers: tuple[Target, Target]) -> Target:
    """The audience."""
    servers[0].seen, servers[0].answers = [], []
    return servers[0]


@pytest.fixture
def other(servers: tuple[Target, Target]) -> Target:
    """A server that is none of the audience's business."""
    servers[1].seen, servers[1].answers = [], []
    return servers[1]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(issuer=EDGE, trust=TRUST, key_store="memory://") as running:
        yield running


Send = Callable[..., httpx.Response]


def send_sync(
    auth: httpx.Auth, method: str, url: str, *, follow: bool = False, **more: Any
) -> httpx.Response:
    with httpx.Client(auth=auth, follow_redirects=follow, **CLIENT) as http:
        return http.request(method, url, **more)


def send_async(
    auth: httpx.Auth, method: str, url: str, *, follow: bool = False, **more: Any
) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(auth=auth, follow_redirects=follow, **CLIENT) as http:
            return await http.request(method, url, **more)

    return asyncio.run(ask())


@pytest.fixture(params=[send_sync, send_async], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Send:
    """One request with `httpx.Client` or `httpx.AsyncClient`."""
    chosen: Send = request.param
    return chosen


def streamed(send: Send, *parts: bytes) -> Any:
    """A body that can be sent once."""

    async def parts_async() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return iter(parts) if send is send_sync else parts_async()


# -- the token ----------------------------------------------------------------------------------------------


def test_the_token_travels_in_authorization_and_nowhere_else(
    send: Send, service: Service, wallets: Target
) -> None:
    """One field, scheme Bearer, the token that `service.token` hands out; query and body stay as they are."""
    token = service.token(wallets.url)
    plain = httpx.Request("PUT", wallets.url, content=b"{}").headers
    answer = send(service.auth(wallets.url), "PUT", f"{wallets.url}/cards?a=b", content=b"{}")
    assert answer.status_code == 200
    (request,) = wallets.seen
    assert request[:3] == ("PUT", "/cards?a=b", [f"Bearer {token}"])
    assert request.body == b"{}"
    usual = {"accept", "accept-encoding", "connection", "user-agent"}
    assert request.names - usual - set(plain) == {"authorization"}


def test_the_token_asks_for_the_scopes_of_the_auth(send: Send, service: Service, wallets: Target) -> None:
    """`scopes=` goes into the token; another auth without them sends another token."""
    for scopes in (["cards:write", "cards:read"], None):
        send(service.auth(wallets.url, scopes=scopes), "GET", wallets.url)
    first, second = (decode(token.encode()).claims for token in wallets.tokens)
    assert first["scope"] == "cards:read cards:write"
    assert "scope" not in second
    assert first["aud"] == second["aud"] == wallets.url


@pytest.mark.parametrize("name", ["Authorization", "AUTHORIZATION"])
def test_a_field_that_is_there_is_replaced(send: Send, service: Service, wallets: Target, name: str) -> None:
    """Two credentials would be refused by every receiver (RFC 6750 section 2)."""
    send(service.auth(wallets.url), "GET", wallets.url, headers=[(name, "Basic eDp5"), (name, "Bearer x")])
    assert wallets.tokens == [service.token(wallets.url)]


def test_user_info_in_the_url_is_not_sent(send: Send, service: Service, wallets: Target) -> None:
    """The token takes the place of what httpx would make of `user:password@`."""
    send(service.auth(wallets.url), "GET", wallets.url.replace("//", "//user:secret@"))
    assert wallets.tokens == [service.token(wallets.url)]


# -- where it may go ----------------------------------------------------------------------------------------


def test_another_origin_is_refused_before_anything_is_sent(
    send: Send, service: Service, wallets: Target, other: Target
) -> None:
    """Another host, another spelling of it, another port: a ConfigError that names both, and no request."""
    auth = service.auth(wallets.url)
    port = wallets.url.rpartition(":")[2]
    for url in (
        other.url,
        f"http://localhost:{port}/",
        f"http://127.0.0.1.:{port}/",
        f"http://[::1]:{port}/",
        "http://127.0.0.1/",
        "https://evil.example.com",
    ):
        with pytest.raises(ConfigError, match=r"this auth is for http://127") as refusal:
            send(auth, "GET", url, params={"secret": "in the query"})
        assert str(httpx.URL(url).copy_with(query=None)) in str(refusal.value)
        assert "secret" not in str(refusal.value)
    with pytest.raises(ConfigError):
        send(auth, "GET", wallets.url.replace("http:", "https:"))
    with pytest.raises(ConfigError) as refusal:
        send(auth, "GET", other.url.replace("//", "//user:secret@"))
    assert "secret" not in str(refusal.value)
    assert wallets.seen == other.seen == []


BELOW = [
    ("/wallets", True),
    ("/wallets/", True),
    ("/wallets/42/card", True),
    ("/wallets?next=/x", True),
    ("/wallets/%40me", True),
    ("/w%61llets/42", True),
    ("/walletsX", False),
    ("/wallets.json", False),
    ("/wallets%2F42", False),
    ("/wallets/%2e%2e/ledger", False),
    ("/wallets/..%2fledger", False),
    ("/wallets/..;/ledger", False),
    ("/wallets/%5c..%5cledger", False),
    ("/wallets//42", False),
    ("//wallets", False),
    ("/Wallets", False),
    ("/wallet", False),
    ("/", False),
    ("", False),
    ("/ledger", False),
    ("/ledger?/wallets", False),
    ("/ledger/wallets", False),
    ("/wallets/../ledger", False),  # httpx itself makes /ledger of it
    ("/ledger/../wallets/42", True),
]


@pytest.mark.parametrize(("path", "good"), BELOW)
def test_an_audience_with_a_path_binds_that_prefix_by_segment(
    send: Send, service: Service, wallets: Target, path: str, good: bool
) -> None:
    """Services behind one host never get each other's tokens, however the path is spelled."""
    auth = service.auth(f"{wallets.url}/wallets")
    if good:
        send(auth, "GET", wallets.url + path)
        (request,) = wallets.seen
        assert decode(request.token.encode()).claims["aud"] == f"{wallets.url}/wallets"
    else:
        with pytest.raises(ConfigError):
            send(auth, "GET", wallets.url + path)
        assert wallets.seen == []


def test_an_encoded_slash_does_not_turn_into_another_prefix(service: Service) -> None:
    """Such an audience cannot be called: no receiver lets that path in, and decoded it is somebody else's."""
    with pytest.raises(ConfigError, match="path"):
        service.auth("https://apis.example.com/a%2Fb")


def test_origins_add_addresses_of_the_same_service(send: Send, service: Service, wallets: Target) -> None:
    """A private address is called with a token for the public name; its path is a prefix too."""
    auth = service.auth(HERE, origins=[f"{wallets.url}/internal/"])
    send(auth, "GET", f"{wallets.url}/internal/cards")
    send(auth, "GET", f"{wallets.url}/internal")
    with pytest.raises(ConfigError):
        send(auth, "GET", f"{wallets.url}/internals")
    assert [decode(token.encode()).claims["aud"] for token in wallets.tokens] == [HERE, HERE]


def holds(auth: MeshAuth, url: str) -> bool:
    """Whether the token would travel to this URL, asked of the flow and without a network."""
    try:
        next(auth.auth_flow(httpx.Request("GET", url)))
    except ConfigError:
        return False
    return True


def test_default_ports_and_cases_are_one_origin(service: Service) -> None:
    """An origin is scheme, host and port (RFC 6454 section 4), written in any of its spellings."""
    auth = service.auth(HERE, origins=["https://wallets.internal:8443", "HTTPS://Upper.example.com:443/"])
    assert holds(auth, f"{HERE}:443/x")
    assert holds(auth, "https://WALLETS.example.com/")
    assert holds(auth, "https://wallets.internal:8443/x")
    assert holds(auth, "https://upper.example.com/x")
    for url in (
        f"{HERE}:8443/",
        f"{HERE}:80/",
        "http://wallets.example.com:443/",
        "https://wallets.example.com./",
        "https://wallets.example.com.evil.example/",
        "https://wallets.example.com@evil.example.com/",
        "https://evil.example.com/https://wallets.example.com",
        "https://wallets.internal/",
        "https://wallets.internal:8443.evil.example/",
        "/relative",
    ):
        try:
            sent = holds(auth, url)
        except httpx.InvalidURL:
            sent = False
        assert not sent, url


def test_ipv6_loopback_is_loopback(service: Service) -> None:
    """`http://[::1]:PORT` needs no leave, like the other names of this machine."""
    auth = service.auth(HERE, origins=["http://[::1]:8080", "http://localhost:8080"])
    assert holds(auth, "http://[::1]:8080/x")
    assert not holds(auth, "http://127.0.0.1:8080/x")


@pytest.mark.parametrize(
    "origin",
    ["http://wallets.internal:8080", "http://10.0.0.1", "http://127.0.0.1.evil.example", "http://127.1"],
)
def test_plain_http_off_this_machine_needs_leave(service: Service, origin: str) -> None:
    """Whoever sees the traffic could use the tokens, so it has to be said in so many words."""
    with pytest.raises(ConfigError, match="allow_plain_http=True"):
        service.auth(HERE, origins=[origin])
    assert holds(service.auth(HERE, origins=[origin], allow_plain_http=True), f"{origin}/x")


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "wallets.internal",
        "wallets.internal:8080",
        "//wallets.internal",
        "ftp://wallets.internal",
        "https://",
        "https://user@wallets.internal",
        "https://user:secret@wallets.internal",
        "https://wallets.internal?x=y",
        "https://wallets.internal#x",
        "https://wallets.internal:port",
        "https://wallets.internal/a%2Fb",
        "https://wallets.internal/a//b",
        "https://wallets.internal/a;b",
        None,
        5,
    ],
)
def test_a_bad_origin_is_refused(service: Service, origin: Any) -> None:
    """What is not the URL of a host, or has a path that no request may have, is a ConfigError."""
    with pytest.raises(ConfigError, match="origin"):
        service.auth(HERE, origins=[origin], allow_plain_http=True)


def test_origins_are_a_list(service: Service) -> None:
    """A single string would be taken for a list of characters."""
    with pytest.raises(ConfigError, match="must be a list"):
        service.auth(HERE, origins="https://wallets.internal")


def test_bad_scopes_are_refused_when_the_auth_is_made(service: Service) -> None:
    """Not at the first request."""
    for scopes in ([], "cards:read", ["cards read"]):
        with pytest.raises(ConfigError, match="scope"):
            service.auth(HERE, scopes=scopes)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_never_carries_the_token(
    send: Send, service: Service, wallets: Target, other: Target, status: int
) -> None:
    """The other server sees the request without a credential, whatever it answers."""
    wallets.answers = [(status, {"location": f"{other.url}/elsewhere"})]
    other.answers = [(401, {"www-authenticate": "Bearer"})]
    answer = send(service.auth(wallets.url), "POST", wallets.url, follow=True, content=b"x")
    assert answer.status_code == 401
    assert len(wallets.tokens) == 1
    assert [request.authorization for request in other.seen] == [[]]


def test_a_redirect_target_cannot_lure_a_second_token(
    send: Send, service: Service, wallets: Target, other: Target
) -> None:
    """Even when it claims that the token was invalid, it never gets one."""
    away = (307, {"location": f"{other.url}/elsewhere"})
    wallets.answers = [away, away, away]
    other.answers = [(401, {"www-authenticate": INVALID_TOKEN})] * 3
    answer = send(service.auth(wallets.url), "POST", wallets.url, follow=True, content=b"x")
    assert answer.status_code == 401
    assert all(request.authorization == [] for request in other.seen)
    assert len(wallets.tokens) <= 2


def test_a_redirect_within_the_origin_keeps_the_token(send: Send, service: Service, wallets: Target) -> None:
    """It is the same service at another path."""
    wallets.answers = [(307, {"location": "/new"})]
    send(service.auth(wallets.url), "PUT", f"{wallets.url}/old", follow=True, content=b"x")
    assert [request.path for request in wallets.seen] == ["/old", "/new"]
    assert len(set(wallets.tokens)) == 1


# -- a refused token ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "challenge",
    [
        INVALID_TOKEN,
        "Bearer error=invalid_token",
        'bearer realm="a, b", ERROR="invalid_token"',
        'Basic realm="x", Bearer realm="y", error="invalid_token"',
    ],
)
def test_an_invalid_token_is_replaced_once(
    send: Send, service: Service, wallets: Target, challenge: str
) -> None:
    """On 401 `invalid_token` the same request goes out again, exactly once, with a token made anew."""
    auth = service.auth(wallets.url)
    before = service.token(wallets.url)
    wallets.answers = [(401, {"www-authenticate": challenge})]
    answer = send(auth, "PUT", f"{wallets.url}/cards", content=b"the body")
    assert answer.status_code == 200
    assert [request.body for request in wallets.seen] == [b"the body"] * 2
    first, second = wallets.tokens
    assert first == before != second
    assert second == service.token(wallets.url)


def test_a_second_refusal_is_the_answer(send: Send, service: Service, wallets: Target) -> None:
    """Never more than one retry: the caller gets the second 401."""
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})] * 5
    answer = send(service.auth(wallets.url), "GET", wallets.url)
    assert answer.status_code == 401
    assert len(set(wallets.tokens)) == len(wallets.seen) == 2


@pytest.mark.parametrize("body", [{}, {"content": b"x"}, {"json": {"a": 1}}, {"data": {"a": "b"}}], ids=str)
def test_whatever_can_be_sent_again_is_sent_again(
    send: Send, service: Service, wallets: Target, body: dict[str, Any]
) -> None:
    """No body, bytes, JSON and forms are all replayed."""
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    assert send(service.auth(wallets.url), "POST", wallets.url, **body).status_code == 200
    first, second = wallets.seen
    assert first.body == second.body


def test_a_streamed_body_is_sent_once(send: Send, service: Service, wallets: Target) -> None:
    """What was read from a stream is gone, so the 401 is the answer; the next call has a new token."""
    auth = service.auth(wallets.url)
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    answers = [
        send(auth, "POST", wallets.url, content=streamed(send, b"one", b"two")).status_code for _ in range(2)
    ]
    assert answers == [401, 200]
    assert [request.body for request in wallets.seen] == [b"onetwo"] * 2
    first, second = wallets.tokens
    assert first != second


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, {}),
        (401, {"www-authenticate": 'Bearer realm="x"'}),
        (401, {"www-authenticate": 'Bearer error="invalid_request"'}),
        (401, {"www-authenticate": 'Bearer error="invalid_tokens"'}),
        (401, {"www-authenticate": 'DPoP error="invalid_token"'}),
        (401, {"www-authenticate": 'Basic realm="invalid_token"'}),
        (400, {"www-authenticate": INVALID_TOKEN}),
        (403, {"www-authenticate": INVALID_TOKEN}),
        (403, {"www-authenticate": 'Bearer error="insufficient_scope"'}),
        (503, {"www-authenticate": INVALID_TOKEN}),
        (200, {"www-authenticate": INVALID_TOKEN}),
    ],
)
def test_any_other_answer_is_passed_on(
    send: Send, service: Service, wallets: Target, status: int, headers: dict[str, str]
) -> None:
    """A new token would change nothing, so nothing is repeated."""
    wallets.answers = [(status, headers)]
    assert send(service.auth(wallets.url), "GET", wallets.url).status_code == status
    assert len(wallets.seen) == 1


# -- no key to sign with ------------------------------------------------------------------------------------


class Failing(MemoryStore):
    """A store that nobody reaches; it answers while `gate` is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.asked = False
        self.down = True

    def load(self) -> bytes | None:
        self.asked = True
        self.gate.wait(20)
        if self.down:
            raise KeyStoreError(StoreReason.UNREACHABLE, "nobody answers")
        return super().load()


def calling(store: KeyStore | None) -> Service:
    """A service that serves its JWKS and so may make the first key."""
    made = Service(issuer=EDGE, trust=TRUST, key_store=store)
    assert bool(made.routes) is (store is not None)
    return made


def test_without_a_ring_nothing_is_sent(send: Send, wallets: Target) -> None:
    """The caller gets the store's error instead of a request without a credential, and later its answer."""
    store = Failing()
    service = calling(store)
    try:
        with pytest.raises(KeyStoreError, match="nobody answers") as failure:
            send(service.auth(wallets.url), "GET", wallets.url)
        assert failure.value.reason is StoreReason.UNREACHABLE
        assert wallets.seen == []
        store.down = False
        assert send(service.auth(wallets.url), "GET", wallets.url).status_code == 200
        assert len(wallets.tokens) == 1
    finally:
        service.__exit__()


def whose(user: OnBehalfOf) -> str:
    return f" for {user.subject}" if isinstance(user, EndUser) else ""


class Source:
    """Somebody's own source of tokens."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def load(self) -> None:
        self.calls.append("load")

    async def load_async(self) -> None:
        self.calls.append("load")

    def token(
        self,
        audience: str,
        *,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        certificate: Certificate | None = None,
    ) -> str:
        assert certificate is None
        self.calls.append(f"token {audience} {scopes}{' once' if once else ''}{whose(on_behalf_of)}")
        return f"token-{len(self.calls)}"

    def forget_token(
        self,
        audience: str,
        *,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        certificate: Certificate | None = None,
    ) -> None:
        assert certificate is None
        self.calls.append(f"forget {audience} {scopes}{whose(on_behalf_of)}")


def test_any_source_of_tokens_will_do(send: Send, wallets: Target) -> None:
    """It is asked to load, then for a token; after a refusal to forget that one, then for another."""
    source = Source()
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    own = wallets.url
    auth = MeshAuth(source, ServiceId.parse(own, allow_loopback_http=True), scopes=["a"])
    assert send(auth, "GET", own).status_code == 200
    assert source.calls == ["load", f"token {own} ['a']", f"forget {own} ['a']", f"token {own} ['a']"]
    assert wallets.tokens == ["token-2", "token-4"]


def test_a_source_is_told_for_whom(send: Send, wallets: Target) -> None:
    """With every token, and with the one to forget."""
    source = Source()
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    own = ServiceId.parse(wallets.url, allow_loopback_http=True)
    user = EndUser(issuer="https://login.example.com/", subject="u1", expires_at=9e9)
    send(MeshAuth(source, own, on_behalf_of=user), "GET", own)
    assert source.calls == [
        "load",
        *(f"{what} {own} None for u1" for what in ("token", "forget", "token")),
    ]
    with pytest.raises(NoUser):
        MeshAuth(source, own, on_behalf_of=None)


def test_a_service_that_only_verifies_cannot_call(send: Send, wallets: Target) -> None:
    """It has no keys, and says that this is its configuration."""
    service = calling(None)
    try:
        with pytest.raises(ConfigError, match="key_store=None"):
            send(service.auth(wallets.url), "GET", wallets.url)
        assert wallets.seen == []
    finally:
        service.__exit__()


def test_loading_the_ring_does_not_block_the_event_loop(wallets: Target) -> None:
    """While a store takes its time, everything else on the loop goes on: what opens its gate does."""
    store = Failing()
    store.down = False
    store.gate.clear()
    service = calling(store)

    async def ask() -> int:
        async with httpx.AsyncClient(auth=service.auth(wallets.url), **CLIENT) as http:
            request = asyncio.create_task(http.get(wallets.url))
            await until(lambda: store.asked)
            for _ in range(20):
                await asyncio.sleep(0)
            assert not request.done()
            store.gate.set()
            return (await request).status_code

    try:
        assert asyncio.run(ask()) == 200
    finally:
        service.__exit__()


def test_one_auth_serves_many_requests_at_once(service: Service, wallets: Target) -> None:
    """An auth holds no state of a request: threads and tasks share it and its token."""
    auth = service.auth(wallets.url)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(auth=auth, **CLIENT) as http:
            return await asyncio.gather(*(http.get(f"{wallets.url}/{n}") for n in range(20)))

    assert {answer.status_code for answer in asyncio.run(ask())} == {200}
    assert len(wallets.seen) == 20
    assert set(wallets.tokens) == {service.token(wallets.url)}


def test_a_request_that_fails_leaves_the_flow_in_order(send: Send, service: Service, wallets: Target) -> None:
    """A connection error comes out as it is, and the same auth goes on."""
    with serving() as gone:
        auth = service.auth(HERE, origins=[gone.url, wallets.url])
    with pytest.raises(httpx.ConnectError):
        send(auth, "GET", gone.url)
    assert send(auth, "GET", wallets.url).status_code == 200
