"""Calling what an authorization server protects: client credentials without a client secret."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Generator
from typing import Any

import httpx

from .drivers import drive, drive_async
from .errors import ConfigError
from .life import ServiceLife
from .oauth_request import TokenRequest, token_request
from .oauth_tokens import OAuthTokens
from .outbound import Destination, destination, hop_of, is_invalid_token


class OAuthClient(httpx.Auth):
    """Access tokens of one authorization server; for `httpx.Client` and `httpx.AsyncClient` alike.

    The token is kept, and renewed while the old one is good. It goes to the origins that were named and to
    no others; httpx takes it away from a redirect that leads elsewhere. After a 401 `invalid_token` it is
    forgotten, and the request sent once more with a new one, where its body can be sent again.

    Made by `Service.oauth_client`.

    Attributes:
        issuer: the authorization server.
        client_id: what it calls us.
    """

    def __init__(self, service: ServiceLife, request: TokenRequest, origins: Collection[Destination]) -> None:
        self.issuer: str = request.issuer
        self.client_id: str = request.client_id
        self._service = service
        self._request = request
        self._destinations = tuple(origins)

    def __repr__(self) -> str:
        return f"OAuthClient(issuer={self.issuer!r}, client_id={self.client_id!r})"

    def token(self) -> str:
        """An access token, for other clients than httpx; waits for the server only where none is held.

        Raises:
            OAuthError: there is none, and none can be had now.
            ConfigError: none can be had with this configuration, or this server.
            KeyStoreError: there is no key to ask with.
        """
        tokens, at = self._tokens(), self._service.clock()
        return drive(tokens.token(self._request, at), tokens, self._service.clock)

    async def token_async(self) -> str:
        """`token` on the event loop, without blocking it."""
        tokens, at = self._tokens(), self._service.clock()
        return await drive_async(tokens.token(self._request, at), tokens, self._service.clock)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token; see the class.

        Raises:
            ConfigError: the request does not go to one of the origins; nothing was sent.
            OAuthError, KeyStoreError: as `token`.
        """
        steps = self._steps(request)
        step = next(steps)
        while True:
            answer: Any = self.token() if step is None else (yield step)
            try:
                step = steps.send(answer)
            except StopIteration:
                return

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """`sync_auth_flow` on the event loop, without blocking it."""
        steps = self._steps(request)
        step = next(steps)
        while True:
            answer: Any = await self.token_async() if step is None else (yield step)
            try:
                step = steps.send(answer)
            except StopIteration:
                return

    def _steps(self, request: httpx.Request) -> Generator[httpx.Request | None, Any, None]:
        """Yields None for a token to be sent, and a request for its response."""
        hop = hop_of(request.url)
        if not any(destination.holds(hop) for destination in self._destinations):
            raise ConfigError(
                f"this auth is for resources that {self.issuer} protects; a request to {hop} would carry its "
                "token elsewhere. Name the origin in origins, if that is meant"
            )
        token = yield None
        request.headers["authorization"] = f"Bearer {token}"
        response = yield request
        refused = is_invalid_token(response.status_code, response.headers.get("www-authenticate"))
        if refused and self._forget(token) and isinstance(request.stream, httpx.ByteStream):
            token = yield None
            request.headers["authorization"] = f"Bearer {token}"
            yield request

    def _forget(self, token: str) -> bool:
        return self._tokens().forget(self._request, token)

    def _tokens(self) -> OAuthTokens:
        return self._service.awake(self._service.clock()).oauth


def oauth_client(
    service: ServiceLife,
    issuer: str,
    *,
    origins: Collection[str],
    scopes: Collection[str] | None = None,
    resource: str | Collection[str] | None = None,
    audience: str | None = None,
    client_id: str | None = None,
    endpoint_origins: Collection[str] = (),
    ca_file: str | None = None,
    legacy_audience: str | None = None,
    allow_plain_http: bool = False,
    allow_loopback_http: bool | None = None,
) -> OAuthClient:
    """Access tokens of an authorization server, got with this service's own key (`private_key_jwt`).

    Inert until used. From now on no service token is made out to this issuer: it would be an assertion there.

    Args:
        service: itself, where this is a method of `Service`.
        issuer: the authorization server's identifier, exact bytes, a slash at its end included.
        origins: the URLs that its tokens may be sent to, such as `https://api.example.com`; with a path, only
            below that, but for redirects. Empty where only `OAuthClient.token` is used.
        scopes: what to ask for; None leaves it to the server.
        resource: whom the token is for (RFC 8707): one URI or several.
        audience: the same, for servers that have a parameter `audience` instead.
        client_id: what the server calls us; None for this service's id.
        endpoint_origins: where the token endpoint may be beside the issuer's own origin.
        ca_file: certificate authorities for the server's TLS (PEM); None for the system's.
        legacy_audience: "token_endpoint" makes assertions out to that, for a server that refuses its issuer.
        allow_plain_http: let tokens travel unencrypted to origins off this machine.
        allow_loopback_http: let the server be on this machine, without TLS; None takes the trust file's
            default.

    Raises:
        ConfigError: naming the argument, what was found and what is expected.
    """
    settings = service.settings
    trust = settings.trusted
    if isinstance(origins, str):
        raise ConfigError("origins must be a list of URLs, not one string")
    request = token_request(
        issuer,
        client_id=settings.issuer if client_id is None else client_id,
        scopes=scopes,
        resource=resource,
        audience=audience,
        endpoint_origins=endpoint_origins,
        ca_file=ca_file,
        legacy_audience=legacy_audience,
        allow_loopback_http=trust.allow_loopback_http if allow_loopback_http is None else allow_loopback_http,
    )
    if issuer.removesuffix("/") in (settings.issuer, *trust.services):
        raise ConfigError(f"issuer {issuer!r} is a service of the trust file, and no authorization server")
    allowed = [destination(url, allow_plain_http=allow_plain_http) for url in origins]
    service.never_mint_for(issuer)
    return OAuthClient(service, request, allowed)
