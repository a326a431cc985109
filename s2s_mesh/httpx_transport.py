"""Outbound with proof: an httpx transport that adds what a request carries to each hop to its audience.

httpx follows redirects above transports and below auth flows, so a transport sees, and judges, every hop. The
fields go on a copy of the request: what httpx carries over to a redirect never has them.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import NamedTuple, Protocol

import httpx
from msgspec import UNSET

from .claims import check_scopes
from .errors import ConfigError
from .identity import ServiceId
from .outbound import destinations, hop_of, is_invalid_token
from .runtime import Runtime
from .settings import Settings
from .trust_values import Unfit
from .trust_values import field as check_field
from .users import TXN_TOKEN_FIELD, USER_TOKEN_FIELD, OnBehalfOf, evidence_fields, given

_AUTHORIZATION = "authorization"
_PROOF_FIELDS = ("workload-identity-token", "workload-proof-token")
_OWN_FIELDS = (*_PROOF_FIELDS, USER_TOKEN_FIELD, TXN_TOKEN_FIELD)
# marks in a request's extensions, which httpx hands on to the redirected one, where its hops have been
_STARTED, _LEFT = "s2s_mesh.started", "s2s_mesh.left"


class _Carried(NamedTuple):
    """What one hop carries, and the thumbprint of the key that its access token is bound to."""

    fields: dict[str, str]
    thumbprint: str | None


HopFlow = Generator[httpx.Request, httpx.Response, None]


class Caller(Protocol):
    """What `MeshTransport` needs of a `Service`."""

    @property
    def settings(self) -> Settings:
        """Its configuration."""

    def load(self) -> None:
        """Make sure that a ring is in memory; may block."""

    async def load_async(self) -> None:
        """The same, off the event loop."""

    def running(self) -> Runtime:
        """The living parts in this process, started if need be."""


class MeshTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Proves requests to one audience, for routes with `proof = "wpt"` (draft-ietf-wimse-wpt-02).

    For `httpx.Client(transport=...)` and `httpx.AsyncClient(transport=...)`. Each request carries an access
    token that is bound to this process's proof key, the WIT that names the key, and a proof made for this
    request alone; and what the user holds as evidence, in fields of its own, bound by hash. A redirect to
    another origin carries none of it, and nor does what that origin redirects back: nobody else chooses what
    this service signs for.

    Args:
        service: has the keys; a `Service`.
        audience: the service that is called.
        proof: "wpt"; or "bearer", an access token that is bound to no key, and no proof.
        field: carries the access token; another than Authorization while an old credential occupies that one
            (docs/migration.md), which is then left alone.
        origins, scopes, on_behalf_of, once, allow_plain_http: as for `MeshAuth`.
        inner: sends; None for httpx's own transport with its defaults.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: an origin is not a URL, or is plain http without leave; another proof, or a bad field.
    """

    def __init__(
        self,
        service: Caller,
        audience: ServiceId,
        *,
        proof: str = "wpt",
        field: str = "Authorization",
        origins: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        allow_plain_http: bool = False,
        inner: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if proof not in ("wpt", "bearer"):
            raise ConfigError(f"proof is {proof!r}; expected 'wpt' or 'bearer'")
        self._proof = proof
        self._field = field.lower()
        if self._field != _AUTHORIZATION:
            try:
                check_field(field, False)
            except Unfit as unfit:
                raise ConfigError(f"field is {field!r}; {unfit}") from None
        self._user = given(on_behalf_of)
        self._service = service
        self._audience = audience
        self._scopes = None if scopes is None else check_scopes(scopes)
        self._once = once
        self._destinations = destinations(audience, origins, allow_plain_http=allow_plain_http)
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one hop.

        Raises:
            ConfigError: the first hop does not go to the audience, or its path is one that no receiver lets
                in; nothing was sent.
            KeyStoreError: there is no key to sign with.
            UserExpired: what is known of the user has expired; nothing was sent.
        """
        if self._inner is None:
            self._inner = httpx.HTTPTransport()
        if not isinstance(self._inner, httpx.BaseTransport):
            raise ConfigError("the inner transport is for httpx.AsyncClient only")
        if self._goes_to_audience(request):
            self._service.load()
        flow = self._flow(request)
        outgoing = next(flow)
        while True:
            response = self._inner.handle_request(outgoing)
            try:
                outgoing = flow.send(response)
            except StopIteration:
                return response
            response.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """`handle_request` on the event loop."""
        if self._inner is None:
            self._inner = httpx.AsyncHTTPTransport()
        if not isinstance(self._inner, httpx.AsyncBaseTransport):
            raise ConfigError("the inner transport is for httpx.Client only")
        if self._goes_to_audience(request):
            await self._service.load_async()
        flow = self._flow(request)
        outgoing = next(flow)
        while True:
            response = await self._inner.handle_async_request(outgoing)
            try:
                outgoing = flow.send(response)
            except StopIteration:
                return response
            await response.aclose()

    def close(self) -> None:
        """Close the inner transport."""
        if isinstance(self._inner, httpx.BaseTransport):
            self._inner.close()

    async def aclose(self) -> None:
        """`close` on the event loop."""
        if isinstance(self._inner, httpx.AsyncBaseTransport):
            await self._inner.aclose()

    def _goes_to_audience(self, request: httpx.Request) -> bool:
        """Whether this hop is for the audience, as all hops before it; any other goes bare.

        Raises:
            ConfigError: it is the first hop, and for somebody else.
        """
        if _LEFT in request.extensions:
            return False
        hop = hop_of(request.url)
        if any(destination.holds(hop) for destination in self._destinations):
            request.extensions[_STARTED] = True
            return True
        if _STARTED not in request.extensions:
            shown = request.url.copy_with(userinfo=b"", query=None)
            raise ConfigError(
                f"this transport is for {self._audience}, not for {shown}. Use service.transport() of the "
                "other audience, or name it in origins"
            )
        request.extensions[_LEFT] = True
        return False

    def _flow(self, request: httpx.Request) -> HopFlow:
        """The requests to send; on 401 `invalid_token` once more, where the body can be sent again."""
        if not self._goes_to_audience(request):
            yield self._copy(request, {})
            return
        carried = self._carried(request)
        response = yield self._copy(request, carried.fields)
        challenge = response.headers.get("www-authenticate")
        if is_invalid_token(response.status_code, challenge) and isinstance(request.stream, httpx.ByteStream):
            signer = self._service.running().signer
            signer.forget(self._audience, self._scopes, carried.thumbprint, self._user)
            yield self._copy(request, self._carried(request).fields)

    def _carried(self, request: httpx.Request) -> _Carried:
        runtime, user = self._service.running(), self._user
        evidence = evidence_fields(user)
        if self._proof == "bearer":
            token = runtime.token(self._audience, self._scopes, once=self._once, user=user)
            return _Carried({self._field: f"Bearer {token}", **evidence}, None)
        path = request.url.raw_path.partition(b"?")[0]
        proven = runtime.prove(self._audience, self._scopes, request.method, path, once=self._once, user=user)
        proof = dict(zip(_PROOF_FIELDS, (proven.wit, proven.wpt), strict=True))
        return _Carried(
            {self._field: f"Bearer {proven.access_token}", **proof, **evidence}, proven.thumbprint
        )

    def _copy(self, request: httpx.Request, fields: dict[str, str]) -> httpx.Request:
        """The same request with these fields and no other values of theirs; without any, bare of all ours."""
        headers = httpx.Headers(request.headers)
        for name in (self._field, *_OWN_FIELDS):
            # what stands in Authorization where we add nothing is the application's own
            if fields or name != _AUTHORIZATION:
                headers.pop(name, None)
        headers.update(fields)
        return httpx.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )


def transport(
    service: Caller,
    audience: str,
    *,
    proof: str = "wpt",
    field: str = "Authorization",
    origins: Collection[str] | None = None,
    scopes: Collection[str] | None = None,
    on_behalf_of: OnBehalfOf = UNSET,
    once: bool = False,
    allow_plain_http: bool = False,
    inner: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
) -> MeshTransport:
    """A transport for `httpx.Client` and `httpx.AsyncClient` that proves each request; see `MeshTransport`.

    Args:
        service: itself, where this is a method of `Service`.
        audience: the service to call.
        proof: "wpt" (profile `wpt-02`); or "bearer", for a user's evidence beside a plain bearer token.
        field, origins, scopes, on_behalf_of, once, allow_plain_http, inner: see `MeshTransport`.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: another proof, or a bad argument.
    """
    return MeshTransport(
        service,
        service.settings.check_audience(audience),
        proof=proof,
        field=field,
        origins=origins,
        scopes=scopes,
        on_behalf_of=on_behalf_of,
        once=once,
        allow_plain_http=allow_plain_http,
        inner=inner,
    )
