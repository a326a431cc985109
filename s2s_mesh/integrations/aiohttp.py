"""aiohttp's server: the whole application behind the door, `request[PRINCIPAL]` in its handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from ..certificates import Peer, ProxyField
from ..doors import (
    TWICE,
    UNPROTECTED,
    Caller,
    Door,
    answer_document,
    decide_async,
    document_at,
    foreign_field,
    path_of_target,
    wanted_scopes,
)
from ..errors import ConfigError
from ..identity import Principal
from ..inbound import RequestFacts
from ..refusal import Refusal
from ..routes import external_path
from ..service import Service

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Awaitable[web.StreamResponse]])
PRINCIPAL: web.RequestKey[Principal | None] = web.RequestKey("s2s_mesh.principal", Principal)
_CALLER = web.RequestKey("s2s_mesh.caller", Caller)


def protect(app: web.Application, service: Service) -> None:
    """Let only who may call into an application, start the service with it, and serve our own documents.

    In handlers `request[PRINCIPAL]` is the caller, or None for an anonymous one of a public path.
    """
    publish(app, service)
    app.middlewares.insert(1, _protecting(service))
    app.on_response_prepare.append(_add_fields)


def publish(app: web.Application, service: Service) -> None:
    """Serve our own documents from an application that anybody may call, and start the service with it."""
    service.serves_documents()
    app.middlewares.insert(0, _publishing(service))

    async def lives(_: web.Application) -> AsyncIterator[None]:
        async with service:
            yield

    app.cleanup_ctx.insert(0, lives)


def require(*scopes: str) -> Callable[[AnyHandler], AnyHandler]:
    """Make a decorator for handlers, and for methods of a `web.View`: callers without these scopes get a 403.

    Raises:
        ConfigError: something that is no scope; later, that no door was passed.
    """
    wanted = wanted_scopes(scopes)

    def decorate(handler: AnyHandler) -> AnyHandler:
        @wraps(handler)
        async def guarded(given: web.Request | web.View) -> web.StreamResponse:
            caller = (given.request if isinstance(given, web.View) else given).get(_CALLER)
            if caller is None:
                raise ConfigError(UNPROTECTED)
            refused = caller.refused(wanted)
            return await handler(given) if refused is None else _refuse(refused)

        return guarded  # type: ignore[return-value]

    return decorate


def _protecting(service: Door) -> Middleware:
    @web.middleware
    async def protected(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _CALLER in request:
            raise ConfigError(TWICE)
        outcome = await decide_async(service, _facts(service, request), request.path)
        if isinstance(outcome, Refusal):
            return _refuse(outcome)
        request[_CALLER] = outcome
        request[PRINCIPAL] = outcome.principal
        if service.proxies is not None:
            try:
                request = _stripped(request, service.proxies)
            except RuntimeError:  # an application further out has read the content; a clone would have none
                return _refuse(foreign_field(service, request.method, request.path))
        with outcome.serving():
            return await handler(request)

    return protected


async def _add_fields(request: web.Request, response: web.StreamResponse) -> None:
    caller = request.get(_CALLER)
    if caller is not None:
        response.headers.extend(caller.fields)


def _publishing(service: Door) -> Middleware:
    @web.middleware
    async def published(request: web.Request, handler: Handler) -> web.StreamResponse:
        document = document_at(service, request.method, request.path)
        if document is None:
            return await handler(request)
        given = request.headers.get("if-none-match")
        answer = answer_document(service, document, request.method, given)
        return web.Response(body=answer.body, status=answer.status, headers=dict(answer.headers))

    return published


def _facts(service: Door, request: web.Request) -> RequestFacts:
    target = request.raw_path.encode("utf-8", "surrogateescape")
    raw_path = path_of_target(target, request.path.encode("utf-8", "surrogateescape"))
    return RequestFacts(
        headers=_headers(request),
        method=request.method,
        raw_path=raw_path,
        query=target.partition(b"?")[2],
        # not `request.path`: the router takes an encoded slash for a character of a segment
        public=external_path(raw_path) in service.public_paths,
        connection=request,
        look=_peer_of,
    )


def _headers(request: web.Request) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in request.raw_headers]


def _peer_of(request: web.Request) -> Peer:
    """As the socket says, and not `request.remote`, which middleware may replace."""
    if request.transport is None:
        return Peer(None, None)
    address, tls = (request.transport.get_extra_info(name) for name in ("peername", "ssl_object"))
    return Peer(
        str(address[0]) if isinstance(address, tuple) else None,
        None if tls is None else tls.getpeercert(binary_form=True),
    )


def _stripped(request: web.Request, proxies: ProxyField) -> web.Request:
    """The request without what says who presents a certificate, but for what a proxy of ours says."""
    headers = _headers(request)
    kept = proxies.without_foreign(headers, _peer_of(request).address)
    if len(kept) == len(headers):
        return request
    # a clone is written in UTF-8, which not every byte that clients send is
    fields = [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in kept]
    return request.clone(headers=CIMultiDict(fields))


def _refuse(refused: Refusal) -> web.Response:
    headers: list[Any] = list(refused.headers)
    return web.Response(body=refused.body, status=refused.status, headers=headers)
