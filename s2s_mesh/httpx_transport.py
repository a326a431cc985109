"""Outbound with proof: an httpx transport that adds what a request carries to each hop to its audience.

httpx follows redirects above transports and below auth flows, so a transport sees, and judges, every hop. The
fields go on a copy of the request: what httpx carries over to a redirect never has them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import NamedTuple, Protocol

import httpx
from msgspec import UNSET

from .claims import Confirmation, check_scopes
from .client_certificate import Certificate, ClientCertificate
from .errors import ConfigError
from .identity import ServiceId
from .mutual_tls import AnyTransport, Connections, MutualTLS
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
    """What one hop carries, and what its access token is bound to."""

    fields: dict[str, str]
    confirmation: Confirmation | None


Inner = AnyTransport | Callable[[], AnyTransport] | None
_TRANSPORTS = (httpx.BaseTransport, httpx.AsyncBaseTransport)
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
        proof: "wpt"; "mtls", an access token that is bound to the client certificate, which proves it; or
            "bearer", an access token that is bound to nothing, and no proof.
        certificate: for "mtls", the file of that certificate.
        field: carries the access token; another than Authorization while an old credential occupies that one
            (docs/migration.md), which is then left alone.
        origins, scopes, on_behalf_of, once, allow_plain_http: as for `MeshAuth`.
        inner: sends; None for httpx's own transport with its defaults. For "mtls" a function that makes one
            whose TLS presents the certificate; it is called anew when the file has changed.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: an origin is not a URL, or is plain http without leave; another proof, or a bad field;
            "mtls" without certificate and function, or another proof with one of them.
    """

    def __init__(
        self,
        service: Caller,
        audience: ServiceId,
        *,
        proof: str = "wpt",
        certificate: Certificate | None = None,
        field: str = "Authorization",
        origins: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        allow_plain_http: bool = False,
        inner: Inner = None,
    ) -> None:
        if proof not in ("wpt", "mtls", "bearer"):
            raise ConfigError(f"proof is {proof!r}; expected 'wpt', 'mtls' or 'bearer'")
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
        self._inner: AnyTransport | None = None
        self._mutual_tls: MutualTLS | None = None
        if proof == "mtls":
            self._mutual_tls = _mutual_tls(certificate, inner)
        elif certificate is not None or not (inner is None or isinstance(inner, _TRANSPORTS)):
            raise ConfigError(f"a certificate, or a function as inner, goes with proof='mtls', not {proof!r}")
        else:
            self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one hop.

        Raises:
            ConfigError: the first hop does not go to the audience, or its path is one that no receiver lets
                in; nothing was sent.
            KeyStoreError: there is no key to sign with.
            UserExpired: what is known of the user has expired; nothing was sent.
        """
        sender = self._sender(httpx.HTTPTransport)
        inner = sender.inner
        if not isinstance(inner, httpx.BaseTransport):
            raise ConfigError("the inner transport is for httpx.AsyncClient only")
        for old in self._given_up():
            _close(old)
        if self._goes_to_audience(request):
            self._service.load()
        flow = self._flow(request, sender.confirmation)
        outgoing = next(flow)
        while True:
            response = inner.handle_request(outgoing)
            try:
                outgoing = flow.send(response)
            except StopIteration:
                return response
            response.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """`handle_request` on the event loop."""
        sender = self._sender(httpx.AsyncHTTPTransport)
        inner = sender.inner
        if not isinstance(inner, httpx.AsyncBaseTransport):
            raise ConfigError("the inner transport is for httpx.Client only")
        for old in self._given_up():
            await _aclose(old)
        if self._goes_to_audience(request):
            await self._service.load_async()
        flow = self._flow(request, sender.confirmation)
        outgoing = next(flow)
        while True:
            response = await inner.handle_async_request(outgoing)
            try:
                outgoing = flow.send(response)
            except StopIteration:
                return response
            await response.aclose()

    def close(self) -> None:
        """Close the inner transport."""
        for inner in self._all():
            _close(inner)

    async def aclose(self) -> None:
        """`close` on the event loop."""
        for inner in self._all():
            await _aclose(inner)

    def _sender(self, default: Callable[[], AnyTransport]) -> Connections:
        if self._mutual_tls is not None:
            return self._mutual_tls.current()
        if self._inner is None:
            self._inner = default()
        return Connections(self._inner, None)

    def _given_up(self) -> list[AnyTransport]:
        return [] if self._mutual_tls is None else self._mutual_tls.given_up()

    def _all(self) -> list[AnyTransport]:
        if self._mutual_tls is not None:
            return self._mutual_tls.all()
        return [] if self._inner is None else [self._inner]

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

    def _flow(self, request: httpx.Request, bound: Confirmation | None) -> HopFlow:
        """The requests to send; on 401 `invalid_token` once more, where the body can be sent again."""
        if not self._goes_to_audience(request):
            yield self._copy(request, {})
            return
        carried = self._carried(request, bound)
        response = yield self._copy(request, carried.fields)
        challenge = response.headers.get("www-authenticate")
        if is_invalid_token(response.status_code, challenge) and isinstance(request.stream, httpx.ByteStream):
            signer = self._service.running().signer
            signer.forget(self._audience, self._scopes, carried.confirmation, self._user)
            yield self._copy(request, self._carried(request, bound).fields)

    def _carried(self, request: httpx.Request, bound: Confirmation | None) -> _Carried:
        runtime, user = self._service.running(), self._user
        evidence = evidence_fields(user)
        if self._proof != "wpt":
            token = runtime.token(
                self._audience, self._scopes, once=self._once, user=user, confirmation=bound
            )
            return _Carried({self._field: f"Bearer {token}", **evidence}, bound)
        path = request.url.raw_path.partition(b"?")[0]
        proven = runtime.prove(self._audience, self._scopes, request.method, path, once=self._once, user=user)
        proof = dict(zip(_PROOF_FIELDS, (proven.wit, proven.wpt), strict=True))
        return _Carried(
            {self._field: f"Bearer {proven.access_token}", **proof, **evidence}, proven.confirmation
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


def _mutual_tls(certificate: Certificate | None, inner: Inner) -> MutualTLS:
    if certificate is None or inner is None or isinstance(inner, _TRANSPORTS):
        raise ConfigError(
            "proof='mtls' needs certificate=FILE, and as inner a function that makes a transport which "
            "presents it: inner=lambda: httpx.HTTPTransport(verify=CONTEXT_WITH_THAT_FILE)"
        )
    return MutualTLS(ClientCertificate.of(certificate), inner)


def _close(inner: AnyTransport) -> None:
    if isinstance(inner, httpx.BaseTransport):
        inner.close()


async def _aclose(inner: AnyTransport) -> None:
    if isinstance(inner, httpx.AsyncBaseTransport):
        await inner.aclose()


def transport(
    service: Caller,
    audience: str,
    *,
    proof: str = "wpt",
    certificate: Certificate | None = None,
    field: str = "Authorization",
    origins: Collection[str] | None = None,
    scopes: Collection[str] | None = None,
    on_behalf_of: OnBehalfOf = UNSET,
    once: bool = False,
    allow_plain_http: bool = False,
    inner: Inner = None,
) -> MeshTransport:
    """A transport for `httpx.Client` and `httpx.AsyncClient` that proves each request; see `MeshTransport`.

    Args:
        service: itself, where this is a method of `Service`.
        audience: the service to call.
        proof: "wpt" (profile `wpt-02`); "mtls", tokens that are bound to the client certificate; or "bearer",
            for a user's evidence beside a plain bearer token.
        certificate, field, origins, scopes, on_behalf_of, once, allow_plain_http, inner: see `MeshTransport`.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: another proof, or a bad argument.
    """
    return MeshTransport(
        service,
        service.settings.check_audience(audience),
        proof=proof,
        certificate=certificate,
        field=field,
        origins=origins,
        scopes=scopes,
        on_behalf_of=on_behalf_of,
        once=once,
        allow_plain_http=allow_plain_http,
        inner=inner,
    )
