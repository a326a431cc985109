"""Outbound with httpx: puts a token on requests that go to its audience, and on no others.

httpx follows redirects below auth flows and strips only `Authorization` when the origin changes, so this
class writes that field and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Generator
from typing import Any

import httpx
from msgspec import UNSET

from .client_certificate import Certificate
from .identity import ServiceId
from .outbound import Credential, Outbound, TokenSource, hop_of
from .users import OnBehalfOf


class AuthFlow:
    """The flows of httpx and of httpx2, which are alike; laid over the `Auth` class of either."""

    outbound: Credential
    replayable: type  # the bodies that can be sent again

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Add the token; on 401 `invalid_token` mint anew and retry once, where the body can be sent again.

        Raises:
            ConfigError: the request does not go to this audience; nothing was sent.
            KeyStoreError: no key to sign with.
            UserExpired: what is known of the user has expired; nothing was sent.
        """
        self.outbound.check(hop_of(request.url))
        request.headers["authorization"] = self.outbound.field()
        response = yield request
        refused = self.outbound.forgets(response.status_code, response.headers.get("www-authenticate"))
        if refused and isinstance(request.stream, self.replayable):
            request.headers["authorization"] = self.outbound.field()
            yield request

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Load the ring if there is none, then `auth_flow`."""
        self.outbound.ring.load()
        yield from super().sync_auth_flow(request)  # type: ignore[misc]

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Load the ring off the event loop if there is none, then `auth_flow`."""
        await self.outbound.ring.load_async()
        flow = super().async_auth_flow(request)  # type: ignore[misc]
        try:
            outgoing = await flow.__anext__()
            while True:
                response = yield outgoing
                outgoing = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()


class MeshAuth(AuthFlow, httpx.Auth):
    """Authenticates requests to one audience; for `httpx.Client` and `httpx.AsyncClient` alike.

    Args:
        tokens: mints tokens; a `Service`.
        audience: the service the token is for.
        origins, scopes, on_behalf_of, once, certificate, allow_plain_http: see `Outbound`.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: an origin is not a URL, or is plain http without leave.
    """

    replayable: type = httpx.ByteStream

    def __init__(
        self,
        tokens: TokenSource,
        audience: ServiceId,
        *,
        origins: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        certificate: Certificate | None = None,
        allow_plain_http: bool = False,
    ) -> None:
        self.outbound: Outbound = Outbound(
            tokens,
            audience,
            origins=origins,
            scopes=scopes,
            on_behalf_of=on_behalf_of,
            once=once,
            certificate=certificate,
            allow_plain_http=allow_plain_http,
        )
