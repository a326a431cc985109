"""`service.oauth_client` with httpx: where its token goes, and that no service token goes to its server."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from s2s_mesh import ConfigError, OAuthClient, OAuthError, Service, TrustConfig

from .targets import CLIENT, Target, serving
from .test_httpx_auth import INVALID_TOKEN, TRUST, Send, send_async, send_sync
from .token_endpoint import TokenEndpoint
from .tokens import EDGE, LEDGER, LOGIN, WALLETS, Clock


@pytest.fixture(params=[send_sync, send_async], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Send:
    """One request with `httpx.Client` or `httpx.AsyncClient`."""
    chosen: Send = request.param
    return chosen


@pytest.fixture
def server() -> Iterator[TokenEndpoint]:
    with TokenEndpoint() as running:
        yield running


@pytest.fixture
def cards() -> Iterator[Target]:
    """What the authorization server protects."""
    with serving() as target:
        yield target


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service(issuer=EDGE, trust=TRUST, key_store="memory://")
    made.clock = Clock()
    with made:
        yield made


@pytest.fixture
def auth(service: Service, server: TokenEndpoint, cards: Target) -> OAuthClient:
    return service.oauth_client(server.issuer, origins=[cards.url])


def later(service: Service) -> None:
    """A token is old enough for another one to be of help."""
    assert isinstance(service.clock, Clock)
    service.clock.now += 10


def test_the_token_is_put_on_requests(send: Send, auth: OAuthClient, cards: Target) -> None:
    """The same one on each."""
    for _ in range(3):
        assert send(auth, "GET", f"{cards.url}/x").status_code == 200
    assert cards.tokens == ["token-1"] * 3


def test_another_origin_gets_nothing(send: Send, auth: OAuthClient, server: TokenEndpoint) -> None:
    """The request is refused before a token is asked for."""
    with serving() as other, pytest.raises(ConfigError, match="would carry its token elsewhere"):
        send(auth, "GET", other.url)
    assert other.seen == []
    assert server.forms == []


def test_a_path_of_an_origin_is_meant(
    send: Send, service: Service, server: TokenEndpoint, cards: Target
) -> None:
    """By segment, and without a way around."""
    auth = service.oauth_client(server.issuer, origins=[f"{cards.url}/cards"])
    assert send(auth, "GET", f"{cards.url}/cards/1").status_code == 200
    for path in ("/cardsharp", "/", "/cards/../x", "/cards%2Fx"):
        with pytest.raises(ConfigError, match="elsewhere"):
            send(auth, "GET", cards.url + path)


def test_a_redirect_elsewhere_loses_the_token(send: Send, auth: OAuthClient, cards: Target) -> None:
    """httpx follows it below this class and strips the field."""
    with serving() as other:
        cards.answers = [(307, {"location": f"{other.url}/x"})]
        assert send(auth, "GET", cards.url, follow=True).status_code == 200
        assert other.seen[0].authorization == []


def test_a_refused_token_is_replaced_and_the_request_sent_once_more(
    send: Send, service: Service, auth: OAuthClient, cards: Target
) -> None:
    """With its body."""
    send(auth, "GET", cards.url)
    later(service)
    cards.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    assert send(auth, "POST", cards.url, content=b"body").status_code == 200
    assert cards.tokens == ["token-1", "token-1", "token-2"]
    assert [request.body for request in cards.seen] == [b"", b"body", b"body"]


def test_there_is_one_retry_at_most(send: Send, service: Service, auth: OAuthClient, cards: Target) -> None:
    """And none for a token that has only just come: a newer one would be refused too."""
    send(auth, "GET", cards.url)
    later(service)
    cards.answers = [(401, {"www-authenticate": INVALID_TOKEN})] * 5
    assert send(auth, "GET", cards.url).status_code == 401
    assert send(auth, "GET", cards.url).status_code == 401
    assert cards.tokens == ["token-1", "token-1", "token-2", "token-2"]


@pytest.mark.parametrize("answer", [(401, {}), (403, {"www-authenticate": INVALID_TOKEN}), (500, {})])
def test_other_answers_are_the_callers_business(
    send: Send, service: Service, auth: OAuthClient, cards: Target, answer: tuple[int, dict[str, str]]
) -> None:
    """Only `invalid_token` speaks of the token."""
    send(auth, "GET", cards.url)
    later(service)
    cards.answers = [answer]
    assert send(auth, "GET", cards.url).status_code == answer[0]
    assert cards.tokens == ["token-1"] * 2


def test_a_body_that_cannot_be_sent_again_is_not(service: Service, auth: OAuthClient, cards: Target) -> None:
    """The caller gets the 401, and the next request a new token."""
    send_sync(auth, "GET", cards.url)
    later(service)
    cards.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    assert send_sync(auth, "POST", cards.url, content=iter([b"once"])).status_code == 401
    assert send_sync(auth, "GET", cards.url).status_code == 200
    assert cards.tokens == ["token-1", "token-1", "token-2"]


def test_a_request_that_fails_leaves_the_client_in_order(
    send: Send, service: Service, server: TokenEndpoint, cards: Target
) -> None:
    """A connection error comes out as it is, and the same auth goes on."""
    with serving() as gone:
        auth = service.oauth_client(server.issuer, origins=[gone.url, cards.url])
    with pytest.raises(httpx.ConnectError):
        send(auth, "GET", gone.url)
    assert send(auth, "GET", cards.url).status_code == 200


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"origins": "https://x.example.com"}, "origins must be a list"),
        ({"origins": ["x.example.com"]}, "is not a URL"),
        ({"origins": ["http://x.example.com"]}, "allow_plain_http=True"),
        ({"origins": [], "allow_loopback_http": False}, "allow_loopback_http"),
        ({"origins": [], "scopes": []}, "scopes must be a list"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_client_is_made(
    service: Service, server: TokenEndpoint, options: dict[str, Any], says: str
) -> None:
    """Not at the first request; and such a client changes nothing for the service."""
    with pytest.raises(ConfigError, match=says):
        service.oauth_client(server.issuer, **options)
    assert service.token(server.issuer)


def test_a_service_is_no_authorization_server(service: Service) -> None:
    """Tokens for it are made here, and would be no more."""
    trust = TrustConfig.parse(f'version = 1\n[[allow]]\nissuer = "{LEDGER}"\naudience = "{WALLETS}"\n')
    edge = Service(issuer=EDGE, trust=trust, key_store="memory://")
    for issuer in (WALLETS, EDGE, f"{WALLETS}/"):
        with pytest.raises(ConfigError, match="is a service of the trust file"):
            edge.oauth_client(issuer, origins=[])


def test_tokens_may_be_elsewhere_and_authorities_of_ones_own(service: Service, tmp_path: Path) -> None:
    """Both only where they are named."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    with TokenEndpoint(tls=context) as server, TokenEndpoint(tls=context) as elsewhere:
        server.describe(token_endpoint=elsewhere.url("/token"))
        for options, says in (
            ({"endpoint_origins": [elsewhere.url("")]}, "certificate verify failed"),
            ({"ca_file": str(file)}, "at one of endpoint_origins"),
        ):
            with pytest.raises(OAuthError, match=says):
                service.oauth_client(server.issuer, origins=[], **options).token()
        named = {"endpoint_origins": [elsewhere.url("")], "ca_file": str(file)}
        assert service.oauth_client(server.issuer, origins=[], **named).token() == "token-1"  # type: ignore[arg-type]
        assert (len(server.forms), len(elsewhere.forms)) == (0, 1)


def test_no_token_is_made_out_to_an_authorization_server(
    service: Service, server: TokenEndpoint, cards: Target
) -> None:
    """Neither by what was made before, nor one that was kept, nor with proof, nor to its token endpoint."""
    endpoint = f"{server.issuer}/token"
    before = [service.auth(audience, origins=[cards.url]) for audience in (server.issuer, endpoint)]
    proving = service.transport(server.issuer, origins=[cards.url])
    for auth in before:
        send_sync(auth, "GET", cards.url)
    assert service.token(server.issuer)
    client = service.oauth_client(server.issuer, origins=[cards.url])
    client.token()
    for auth in before:
        with pytest.raises(ConfigError, match="is an authorization server"):
            send_sync(auth, "GET", cards.url)
    with httpx.Client(transport=proving, **CLIENT) as http, pytest.raises(ConfigError, match="authorization"):
        http.get(server.issuer)
    for audience in (server.issuer, endpoint):
        for make in (service.token, service.auth, service.transport):
            with pytest.raises(ConfigError, match="is an authorization server"):
                make(audience)
    assert service.token(WALLETS)


def test_an_issuer_with_a_slash_is_the_same_audience_without() -> None:
    """Auth0's has one, and no service id does."""
    service = Service(issuer=EDGE, trust=TRUST, key_store="memory://")
    service.oauth_client(LOGIN, origins=[])
    with pytest.raises(ConfigError, match="is an authorization server"):
        service.token(LOGIN.removesuffix("/"))
    service.__exit__()


def test_a_process_without_a_client_may_be_told_of_the_server(service: Service) -> None:
    """Before its first token for it or after."""
    for audience, issuer in ((LEDGER, LEDGER), (WALLETS, f"{WALLETS}/")):
        assert service.token(audience)
        service.never_mint_for(issuer)
        with pytest.raises(ConfigError, match="is an authorization server"):
            service.token(audience)


def test_the_client_shows_who_and_nothing_else(auth: OAuthClient, server: TokenEndpoint) -> None:
    """No token."""
    auth.token()
    assert repr(auth) == f"OAuthClient(issuer='{server.issuer}', client_id='{EDGE}')"
    assert (auth.issuer, auth.client_id) == (server.issuer, EDGE)


def test_the_trust_file_may_allow_loopback(tmp_path: Path, server: TokenEndpoint) -> None:
    """Its [defaults] are taken, unless told otherwise."""
    file = tmp_path / "trust.toml"
    file.write_text("version = 1\n")
    service = Service(issuer=EDGE, trust=file, key_store="memory://")
    with pytest.raises(ConfigError, match="allow_loopback_http"):
        service.oauth_client(server.issuer, origins=[])
    assert service.oauth_client(server.issuer, origins=[], allow_loopback_http=True).token() == "token-1"
    service.__exit__()
