"""Every client over real sockets: the token reaches its audience only, once more where that helps."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
import requests

from s2s_mesh import ConfigError, EndUser, KeyStoreError, NoUser, Service
from s2s_mesh.integrations.aiohttp_client import AiohttpAuth
from s2s_mesh.integrations.requests_auth import RequestsAuth
from s2s_mesh.integrations.urllib3_client import MeshPoolManager
from s2s_mesh.jws import decode
from s2s_mesh.routes import external_path
from s2s_mesh.testing import Mesh

from .targets import Target, serving
from .test_httpx_auth import BELOW, INVALID_TOKEN, TRUST, Failing, calling
from .tokens import EDGE

# client(service, audience, **options) -> send(method, url, *, follow, body, headers) -> status
Send = Callable[..., int]
Client = Callable[..., Send]


def with_requests(service: Service, audience: str, **options: Any) -> Send:
    auth = RequestsAuth(service, audience, **options)

    def send(method: str, url: str, *, follow: bool = False, body: Any = None, headers: Any = None) -> int:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method, url, auth=auth, allow_redirects=follow, data=body, headers=headers, timeout=30
            )
            return answer.status_code

    return send


def with_urllib3(service: Service, audience: str, **options: Any) -> Send:
    def send(method: str, url: str, *, follow: bool = False, body: Any = None, headers: Any = None) -> int:
        with pool as http:
            return http.request(method, url, redirect=follow, body=body, headers=headers).status

    pool = MeshPoolManager(service, audience, pool={"timeout": 10}, **options)
    return send


def with_aiohttp(service: Service, audience: str, **options: Any) -> Send:
    auth = AiohttpAuth(service, audience, **options)

    def send(method: str, url: str, *, follow: bool = False, body: Any = None, headers: Any = None) -> int:
        async def ask() -> int:
            async with (
                aiohttp.ClientSession(middlewares=[auth]) as session,
                session.request(
                    method, url, allow_redirects=follow, data=_async(body), headers=headers
                ) as answer,
            ):
                return answer.status

        return asyncio.run(ask())

    return send


def with_httpx2(service: Service, audience: str, **options: Any) -> Send:
    import httpx2

    from s2s_mesh.integrations.httpx2_auth import Httpx2Auth

    auth = Httpx2Auth(service, audience, **options)

    def send(method: str, url: str, *, follow: bool = False, body: Any = None, headers: Any = None) -> int:
        with httpx2.Client(auth=auth, follow_redirects=follow, trust_env=False) as http:
            return http.request(method, url, content=body, headers=headers).status_code

    return send


def with_httpx2_async(service: Service, audience: str, **options: Any) -> Send:
    import httpx2

    from s2s_mesh.integrations.httpx2_auth import Httpx2Auth

    auth = Httpx2Auth(service, audience, **options)

    def send(method: str, url: str, *, follow: bool = False, body: Any = None, headers: Any = None) -> int:
        async def ask() -> int:
            async with httpx2.AsyncClient(auth=auth, follow_redirects=follow, trust_env=False) as http:
                return (await http.request(method, url, content=_async(body), headers=headers)).status_code

        return asyncio.run(ask())

    return send


def _async(body: Any) -> Any:
    """A body as a client of an event loop takes it."""
    if body is None or isinstance(body, bytes):
        return body

    async def parts() -> AsyncIterator[bytes]:
        for part in body:
            yield part

    return parts()


JUDGING_EACH_HOP: list[Client] = [with_requests, with_urllib3, with_aiohttp]
CLIENTS: list[Client] = [*JUDGING_EACH_HOP]
if sys.version_info >= (3, 11):  # which httpx2 needs
    CLIENTS += [with_httpx2, with_httpx2_async]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__.removeprefix("with_"))
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    return chosen


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


# -- the token ----------------------------------------------------------------------------------------------


def test_the_token_travels_in_authorization(client: Client, service: Service, wallets: Target) -> None:
    """One field, the token that `service.token` hands out; method, query and body stay as they are."""
    send = client(service, wallets.url)
    assert send("PUT", f"{wallets.url}/cards?a=b", body=b"{}") == 200
    (request,) = wallets.seen
    assert request[:3] == ("PUT", "/cards?a=b", [f"Bearer {service.token(wallets.url)}"])
    assert request.body == b"{}"


def test_it_asks_for_the_scopes(client: Client, service: Service, wallets: Target) -> None:
    """And carries the user, where told."""
    user = EndUser(issuer="https://login.example.com/", subject="u1", expires_at=9e9)
    client(service, wallets.url, scopes=["cards:read"], on_behalf_of=user)("GET", wallets.url)
    claims = decode(wallets.tokens[0].encode()).claims
    assert (claims["scope"], claims["sub"], claims["aud"]) == ("cards:read", "u1", wallets.url)


def test_a_field_that_is_there_is_replaced(client: Client, service: Service, wallets: Target) -> None:
    """Two credentials would be refused by every receiver (RFC 6750 section 2)."""
    client(service, wallets.url)("GET", wallets.url, headers={"authorization": "Basic eDp5"})
    assert wallets.tokens == [service.token(wallets.url)]


def test_once_is_a_new_token_each_time(client: Client, service: Service, wallets: Target) -> None:
    """Also for the retry."""
    send = client(service, wallets.url, once=True)
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    assert [send("GET", wallets.url) for _ in range(2)] == [200, 200]
    assert len(set(wallets.tokens)) == 3


def test_many_at_once_mint_once(client: Client, service: Service, wallets: Target) -> None:
    """One object for all threads, one token for all requests."""
    send = client(service, wallets.url, scopes=["many:at-once"])
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: send("GET", wallets.url), range(24))) == {200}
    assert len(wallets.tokens) == 24
    assert len(set(wallets.tokens)) == 1


def test_many_tasks_mint_once(service: Service, wallets: Target) -> None:
    """One object for all tasks of a session."""
    auth = AiohttpAuth(service, wallets.url, scopes=["many:tasks"])

    async def ask() -> None:
        async with aiohttp.ClientSession(middlewares=[auth]) as session:
            answers = await asyncio.gather(*(session.get(wallets.url) for _ in range(24)))
            for answer in answers:
                answer.release()

    asyncio.run(ask())
    assert len(wallets.tokens) == 24
    assert len(set(wallets.tokens)) == 1


def test_it_is_renewed_early(client: Client, wallets: Target) -> None:
    """Well before it ends, with nobody refusing anything."""
    with Mesh() as mesh:
        mesh.clock.freeze()
        send = client(mesh.service(EDGE), wallets.url)
        for seconds in (0, 30, 75):
            mesh.clock.forward(seconds)
            send("GET", wallets.url)
        ends = [decode(token.encode()).claims["exp"] for token in wallets.tokens]
        assert wallets.tokens[0] == wallets.tokens[1] != wallets.tokens[2]
        assert mesh.clock() < ends[0] < ends[2]


# -- where it may go ----------------------------------------------------------------------------------------


def test_another_origin_is_refused_before_anything_is_sent(
    client: Client, service: Service, wallets: Target, other: Target
) -> None:
    """Another host, another spelling of it, another port or scheme: a ConfigError that names both."""
    send = client(service, wallets.url)
    port = wallets.url.rpartition(":")[2]
    for url in (
        other.url,
        f"http://localhost:{port}/",
        f"http://[::1]:{port}/",
        "http://127.0.0.1/",
        f"https://127.0.0.1:{port}/",
        "https://evil.example.com",
        f"http://127.0.0.1:{port}@evil.example.com/",
    ):
        with pytest.raises(ConfigError, match=r"this auth is for http://127") as refusal:
            send("GET", f"{url}?secret=in-the-query")
        assert "secret" not in str(refusal.value)
    assert wallets.seen == other.seen == []


@pytest.mark.parametrize(("path", "good"), BELOW)
def test_an_audience_with_a_path_binds_that_prefix(
    client: Client, service: Service, wallets: Target, path: str, good: bool
) -> None:
    """Services behind one host never get each other's tokens, however the path is spelled or mended."""
    send = client(service, f"{wallets.url}/wallets")
    try:
        send("GET", wallets.url + path)
    except ConfigError:
        assert wallets.seen == []
        assert not good or ".." in path  # a client that does not resolve it
        return
    (request,) = wallets.seen
    seen = external_path(request.path.partition("?")[0].encode()) or ""
    assert seen == "/wallets" or seen.startswith("/wallets/")


def test_origins_add_addresses(client: Client, service: Service, wallets: Target) -> None:
    """A private address is called with a token for the public name; plain http elsewhere needs leave."""
    public = "https://wallets.example.com"
    client(service, public, origins=[wallets.url])("GET", wallets.url)
    assert decode(wallets.tokens[0].encode()).claims["aud"] == public
    with pytest.raises(ConfigError, match="allow_plain_http=True"):
        client(service, public, origins=["http://wallets.internal"])
    client(service, public, origins=["http://wallets.internal"], allow_plain_http=True)
    bads: list[dict[str, Any]] = [{"scopes": []}, {"origins": wallets.url}]
    for bad in bads:
        with pytest.raises(ConfigError):
            client(service, public, **bad)
    with pytest.raises(ConfigError, match="service id"):
        client(service, "wallets")
    with pytest.raises(NoUser):
        client(service, public, on_behalf_of=None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_never_carries_the_token(
    client: Client, service: Service, wallets: Target, other: Target, status: int
) -> None:
    """The other server sees the request without a credential; also in the same task twice."""
    send = client(service, wallets.url)
    for _ in range(2):
        wallets.answers = [(status, {"location": f"{other.url}/elsewhere"})]
        assert send("POST", wallets.url, follow=True, body=b"x") == 200
    assert len(wallets.tokens) == 2
    assert [request.authorization for request in other.seen] == [[], []]


def test_a_redirect_target_cannot_lure_a_second_token(
    client: Client, service: Service, wallets: Target, other: Target
) -> None:
    """Even when it claims that the token was invalid, it never gets one."""
    wallets.answers = [(307, {"location": f"{other.url}/elsewhere"})] * 3
    other.answers = [(401, {"www-authenticate": INVALID_TOKEN})] * 3
    assert client(service, wallets.url)("POST", wallets.url, follow=True, body=b"x") == 401
    assert all(request.authorization == [] for request in other.seen)
    assert len(wallets.tokens) <= 2


def test_what_another_origin_redirects_back_has_no_token(
    client: Client, service: Service, wallets: Target, other: Target
) -> None:
    """Nobody else chooses what this service asks for in its own name."""
    for back in (f"{wallets.url}/chosen", wallets.url.replace("//", "//user@") + "/chosen"):
        wallets.seen.clear()
        wallets.answers = [(307, {"location": f"{other.url}/elsewhere"})]
        other.answers = [(307, {"location": back})]
        client(service, wallets.url)("GET", wallets.url, follow=True)
        assert len(wallets.seen) == 2
        assert not any(field.startswith("Bearer") for field in wallets.seen[1].authorization)


def test_a_redirect_within_the_origin_keeps_the_token(
    client: Client, service: Service, wallets: Target
) -> None:
    """It is the same service at another path."""
    wallets.answers = [(307, {"location": "/new"})]
    client(service, wallets.url)("PUT", f"{wallets.url}/old", follow=True, body=b"x")
    assert [request.path for request in wallets.seen] == ["/old", "/new"]
    assert len(set(wallets.tokens)) == 1


@pytest.mark.parametrize("each_hop", JUDGING_EACH_HOP)
def test_a_redirect_to_another_prefix_never_carries_the_token(
    each_hop: Client, service: Service, wallets: Target
) -> None:
    """It is another service behind the same host."""
    wallets.answers = [(307, {"location": "/ledger"}), (401, {"www-authenticate": INVALID_TOKEN})]
    url = f"{wallets.url}/wallets"
    each_hop(service, url)("PUT", url, follow=True, body=b"x")
    first, second = wallets.seen[:2]
    assert (first.path, second.path, second.authorization) == ("/wallets", "/ledger", [])
    assert all(request.authorization == [] for request in wallets.seen if request.path == "/ledger")


def test_after_a_redirect_that_was_not_followed(service: Service, wallets: Target, other: Target) -> None:
    """The next request of the same task is judged by itself: no token goes astray."""
    auth = AiohttpAuth(service, wallets.url)

    async def ask() -> None:
        async with aiohttp.ClientSession(middlewares=[auth]) as session:
            for location in (f"{other.url}/elsewhere", "http://[", ""):
                wallets.answers = [(307, {"location": location})]
                (await session.get(wallets.url, allow_redirects=False)).release()
                (await session.get(wallets.url)).release()
            wallets.answers = [(307, {"location": f"{other.url}/elsewhere"})]
            (await session.get(wallets.url, allow_redirects=False)).release()
            (await session.get(other.url)).release()
            with pytest.raises(ConfigError):
                await session.get(other.url)

    asyncio.run(ask())
    assert len(wallets.tokens) == 7
    assert [request.authorization for request in other.seen] == [[]]


def test_two_audiences_in_one_task(service: Service, wallets: Target, other: Target) -> None:
    """A redirect that one of them was answered says nothing about the requests of the other."""
    first, second = AiohttpAuth(service, wallets.url), AiohttpAuth(service, other.url)

    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            wallets.answers = [(307, {"location": f"{other.url}/elsewhere"})]
            other.answers = [(307, {"location": f"{other.url}/further"})]
            with pytest.raises(aiohttp.TooManyRedirects):
                await session.get(wallets.url, middlewares=[first], max_redirects=2)
            (await session.get(other.url, middlewares=[second])).release()

    asyncio.run(ask())
    assert [len(request.authorization) for request in other.seen] == [0, 1]


# -- a refused token ----------------------------------------------------------------------------------------


def test_an_invalid_token_is_replaced_once(client: Client, service: Service, wallets: Target) -> None:
    """On 401 `invalid_token` the same request goes out again with a token made anew; its redirect too."""
    before = service.token(wallets.url)
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    assert client(service, wallets.url)("PUT", f"{wallets.url}/cards", body=b"the body") == 200
    assert [request.body for request in wallets.seen] == [b"the body"] * 2
    first, second = wallets.tokens
    assert first == before != second == service.token(wallets.url)


def test_a_redirect_behind_the_retry(client: Client, service: Service, wallets: Target) -> None:
    """Carries the new token."""
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN}), (307, {"location": "/new"})]
    assert client(service, wallets.url)("GET", wallets.url, follow=True) == 200
    first, second, third = wallets.tokens
    assert first != second == third


def test_a_second_refusal_is_the_answer(client: Client, service: Service, wallets: Target) -> None:
    """Never more than one retry."""
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})] * 5
    assert client(service, wallets.url)("GET", wallets.url) == 401
    assert len(set(wallets.tokens)) == len(wallets.seen) == 2


def test_a_streamed_body_is_sent_once(client: Client, service: Service, wallets: Target) -> None:
    """What was read from a stream is gone, so the 401 is the answer; the next call has a new token."""
    send = client(service, wallets.url)
    wallets.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    assert [send("POST", wallets.url, body=iter([b"one", b"two"])) for _ in range(2)] == [401, 200]
    assert [request.body for request in wallets.seen] == [b"onetwo"] * 2
    first, second = wallets.tokens
    assert first != second


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (401, {}),
        (401, {"www-authenticate": 'Bearer error="invalid_request"'}),
        (401, {"www-authenticate": 'DPoP error="invalid_token"'}),
        (403, {"www-authenticate": INVALID_TOKEN}),
        (503, {"www-authenticate": INVALID_TOKEN}),
    ],
)
def test_any_other_answer_is_passed_on(
    client: Client, service: Service, wallets: Target, status: int, headers: dict[str, str]
) -> None:
    """A new token would change nothing, so nothing is repeated."""
    wallets.answers = [(status, headers)]
    assert client(service, wallets.url)("GET", wallets.url) == status
    assert len(wallets.seen) == 1


def test_without_a_ring_nothing_is_sent(client: Client, wallets: Target) -> None:
    """The caller gets the store's error instead of a request without a credential."""
    service = calling(Failing())
    try:
        with pytest.raises(KeyStoreError, match="nobody answers"):
            client(service, wallets.url)("GET", wallets.url)
    finally:
        service.__exit__()
    assert wallets.seen == []
