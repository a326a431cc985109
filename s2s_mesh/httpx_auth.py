"""Outbound: puts a token on httpx requests that go to its audience, and on no others.

httpx follows redirects below auth flows and strips only `Authorization` when the origin changes, so this
class writes that field and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Generator
from typing import NamedTuple, Protocol

import httpx
from msgspec import UNSET

from .errors import ConfigError
from .identity import ServiceId
from .routes import external_path
from .users import OnBehalfOf, given

_INVALID_TOKEN = re.compile(r'\bBearer\b.*\berror="?invalid_token\b', re.IGNORECASE)
_DEFAULT_PORTS = {"https": 443, "http": 80}
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class TokenSource(Protocol):
    """What `MeshAuth` needs of a `Service`."""

    def load(self) -> None:
        """Make sure that a ring is in memory; may block."""

    async def load_async(self) -> None:
        """The same, off the event loop."""

    def token(
        self,
        audience: str,
        *,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
    ) -> str:
        """A token for `audience`, a new one if `once`; does not block once a ring is in memory."""

    def forget_token(
        self,
        audience: str,
        *,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
    ) -> None:
        """Do not hand the present token out again."""


class Destination(NamedTuple):
    """Where a token may go: an origin, and a path prefix by segment."""

    scheme: str
    host: str
    port: int
    prefix: str

    def holds(self, url: httpx.URL) -> bool:
        """Whether a request to `url` goes there."""
        port = url.port or _DEFAULT_PORTS.get(url.scheme, 0)
        if (url.scheme, url.host, port) != (self.scheme, self.host, self.port):
            return False
        if not self.prefix:
            return True
        path = external_path(url.raw_path.partition(b"?")[0])
        return path is not None and (path == self.prefix or path.startswith(self.prefix + "/"))


class MeshAuth(httpx.Auth):
    """Authenticates requests to one audience; for `httpx.Client` and `httpx.AsyncClient` alike.

    Args:
        tokens: mints tokens; a `Service`.
        audience: the service the token is for.
        origins: further URLs at which it is reached, such as `http://wallets.internal:8080`.
        scopes: what to ask for; None asks for all that is granted.
        on_behalf_of: the user to call for; left out, the service calls as itself.
        once: a new token for every request and every retry, for routes with `replay = "once"`.
        allow_plain_http: let the token travel unencrypted to origins off this machine.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: an origin is not a URL, or is plain http without leave.
    """

    def __init__(
        self,
        tokens: TokenSource,
        audience: ServiceId,
        *,
        origins: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        allow_plain_http: bool = False,
    ) -> None:
        given(on_behalf_of)
        self._on_behalf_of = on_behalf_of
        self._once = once
        self._tokens = tokens
        self._audience = audience
        self._scopes = scopes
        self._destinations = destinations(audience, origins, allow_plain_http=allow_plain_http)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token; on 401 `invalid_token` mint anew and retry once, where the body can be sent again.

        Raises:
            ConfigError: the request does not go to this audience; nothing was sent.
            KeyStoreError: no key to sign with.
            UserExpired: what is known of the user has expired; nothing was sent.
        """
        if not any(destination.holds(request.url) for destination in self._destinations):
            shown = request.url.copy_with(userinfo=b"", query=None)
            raise ConfigError(
                f"this auth is for {self._audience}; a request to {shown} would "
                "carry its token elsewhere. Use service.auth() of the other audience, or name it in origins"
            )
        request.headers["authorization"] = f"Bearer {self._token()}"
        response = yield request
        if is_invalid_token(response):
            self._tokens.forget_token(self._audience, scopes=self._scopes, on_behalf_of=self._on_behalf_of)
            if isinstance(request.stream, httpx.ByteStream):
                request.headers["authorization"] = f"Bearer {self._token()}"
                yield request

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Load the ring if there is none, then `auth_flow`."""
        self._tokens.load()
        yield from super().sync_auth_flow(request)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Load the ring off the event loop if there is none, then `auth_flow`."""
        await self._tokens.load_async()
        flow = super().async_auth_flow(request)
        try:
            outgoing = await flow.__anext__()
            while True:
                response = yield outgoing
                outgoing = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()

    def _token(self) -> str:
        return self._tokens.token(
            self._audience, scopes=self._scopes, on_behalf_of=self._on_behalf_of, once=self._once
        )


def destinations(
    audience: ServiceId, origins: Collection[str] | None, *, allow_plain_http: bool
) -> list[Destination]:
    """Where credentials for `audience` may go; the arguments are those of `MeshAuth`.

    Raises:
        ConfigError: an origin is not a URL, or is plain http without leave.
    """
    if isinstance(origins, str):
        raise ConfigError("origins must be a list of URLs, not one string")
    return [_destination(url, allow_plain_http=allow_plain_http) for url in (audience, *(origins or ()))]


def is_invalid_token(response: httpx.Response) -> bool:
    """Whether the receiver refuses the access token itself, so that a new one may help."""
    challenge = response.headers.get("www-authenticate", "")
    return response.status_code == 401 and _INVALID_TOKEN.search(challenge) is not None


def _destination(text: str, *, allow_plain_http: bool) -> Destination:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL()
    if url.scheme not in _DEFAULT_PORTS or not url.host or url.query or url.fragment or url.userinfo:
        raise ConfigError(f"origin {text!r} is not a URL such as http://wallets.internal:8080")
    if url.scheme == "http" and url.host not in _LOOPBACK and not allow_plain_http:
        raise ConfigError(
            f"origin {text!r} is plain http: whoever sees the traffic could use the tokens. Use https, or "
            "pass allow_plain_http=True where the network itself is private"
        )
    # read like the paths of requests: decoded naively, %2F would make it another service's prefix
    prefix = external_path(url.raw_path.partition(b"?")[0].rstrip(b"/") or b"/")
    if prefix is None:
        raise ConfigError(f"origin {text!r} has a path that no request may have (an encoded slash, say)")
    return Destination(url.scheme, url.host, url.port or _DEFAULT_PORTS[url.scheme], prefix.rstrip("/"))
