"""Litestar: every route behind the door, `request.user` in its handlers, guards for scopes.

Litestar finds the route before any middleware runs, so where there is none a caller without a token gets 404
and not 401. `service.wrap(app)` has the whole application behind the door.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Request, Response, route
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.plugins import InitPlugin
from litestar.types import Empty
from litestar.utils.scope.state import ScopeState

from .. import asgi
from ..doors import answer_document
from ..service import Service
from ..wellknown import of_parameters


class Publish(InitPlugin):
    """Plugin: serves our own documents, and starts the service with the application; nothing is asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """See `InitPlugin`."""
        app_config.lifespan.append(self._service.lifespan)
        well_known = self._service.well_known
        if well_known is not None:
            self._service.serves_documents()
            documents = well_known.documents
            app_config.route_handlers.extend(_document(self._service, document) for document in documents)
        return app_config


class Protect(Publish):
    """Plugin: only who may call comes through, besides what `Publish` does.

    In handlers `request.user` is the caller, Starlette's `UnauthenticatedUser` for an anonymous one of a
    public path.
    """

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """See `InitPlugin`."""
        app_config.middleware.insert(0, DefineMiddleware(_door, service=self._service))
        return super().on_app_init(app_config)


def require(*scopes: str) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], None]:
    """Make a guard: `guards=[require("cards:write")]`; callers without these scopes get a 403.

    Raises:
        ConfigError: something that is no scope (RFC 6749 section 3.3).
    """
    caller_of: Any = asgi.require(*scopes)

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        caller_of(connection)

    return guard


def _door(app: Any, service: Service) -> Any:
    """The middleware; Litestar's messages are typed otherwise than Starlette's."""

    async def stripped(scope: Any, receive: Any, send: Any) -> None:
        # kept since something further out, such as CORS, asked for them
        ScopeState.from_scope(scope).headers = Empty
        await app(scope, receive, send)

    return asgi.MeshMiddleware(app if service.proxies is None else stripped, service)


def _document(service: Service, document: str) -> HTTPRouteHandler:
    @route(document, http_method=["GET", "HEAD"], include_in_schema=False)
    async def endpoint(request: Request[Any, Any, Any]) -> Response[bytes]:
        given = request.headers.get("if-none-match")
        named = of_parameters(document, request.path_params)
        answer = answer_document(service, named, request.method, given)
        return Response(answer.body, status_code=answer.status, headers=dict(answer.headers))

    return endpoint
