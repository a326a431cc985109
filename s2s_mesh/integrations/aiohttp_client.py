"""aiohttp: `ClientSession(middlewares=[AiohttpAuth(service, AUDIENCE)])`.

A client middleware sees every hop, and the fields that it sets are not carried over to the next one.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, payload
from yarl import URL

from ..outbound import Caller, Hop, outbound

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..outbound import Options

_REDIRECTS = {301, 302, 303, 307, 308}


class _Redirect(NamedTuple):
    """The redirect that this task was answered last.

    Attributes:
        auth: the middleware that saw it.
        target: the origin to which it leads.
        left: whether this hop, or one before it, was not for the audience.
    """

    auth: AiohttpAuth
    target: tuple[object, ...]
    left: bool


_redirect: ContextVar[_Redirect | None] = ContextVar("s2s_mesh.aiohttp_redirect", default=None)


class AiohttpAuth:
    """Authenticates requests to one audience. One object may serve many sessions and tasks.

    On 401 `invalid_token` the request is sent once more with a new token, where its body is held in memory.
    A redirect elsewhere is followed without a token, and so is all that comes behind it.

    Args:
        service: makes the tokens.
        audience: the service that is called.
        options: see `s2s_mesh.outbound.Outbound`.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: a bad audience, scope or origin.
    """

    def __init__(self, service: Caller, audience: str, **options: Unpack[Options]) -> None:
        self._outbound = outbound(service, audience, **options)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send one hop.

        Raises:
            ConfigError: the first hop does not go to this audience; nothing was sent.
            KeyStoreError: no key to sign with.
            UserExpired: what is known of the user has expired; nothing was sent.
        """
        before = _redirect.get()
        _redirect.set(None)
        hop = _hop(request.url)
        followed = before is not None and before.auth is self and before.target == _origin(request.url)
        left = before is not None and followed and (before.left or not self._outbound.holds(hop))
        if left:
            response = await handler(request)
        else:
            self._outbound.check(hop)
            response = await self._authenticated(request, handler)
        location = response.headers.get("location") or response.headers.get("uri")
        if response.status in _REDIRECTS and location:
            _redirect.set(_Redirect(self, _target(request.url, location), left))
        return response

    async def _authenticated(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        await self._outbound.tokens.load_async()
        request.headers["Authorization"] = self._outbound.field()
        response = await handler(request)
        refused = self._outbound.forgets(response.status, response.headers.get("www-authenticate"))
        if refused and isinstance(request.body, (bytes, payload.BytesPayload)):
            response.release()
            request.headers["Authorization"] = self._outbound.field()
            response = await handler(request)
        return response


def _hop(url: URL) -> Hop:
    """Where aiohttp connects to."""
    return Hop(url.scheme, url.host or "", url.explicit_port, url.raw_path.encode())


def _origin(url: URL) -> tuple[object, ...]:
    return (url.scheme, url.host, url.port)


def _target(url: URL, location: str) -> tuple[object, ...]:
    try:
        return _origin(url.join(URL(location)))
    except ValueError:  # aiohttp refuses to follow it
        return ()
