"""A service around an application: what of `Service` lets requests in and serves our own documents."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .asgi import MeshMiddleware
from .certificates import ProxyField
from .doors import answer_document
from .identity import ServiceId
from .life import ServiceLife
from .wellknown import WellKnown, of_parameters


class AppDoor(ServiceLife):
    """What a `Service` does for the application behind it.

    Attributes:
        issuer: the service's own id.
        well_known: its documents; None for a service without keys.
    """

    issuer: ServiceId
    well_known: WellKnown | None

    @property
    def public_paths(self) -> frozenset[str]:
        """Exact paths that also let anonymous callers in."""
        return self.settings.public_paths

    @property
    def proxies(self) -> ProxyField | None:
        """The field in which proxies hand on their clients' certificates, or None."""
        return self.settings.proxies

    @property
    def middleware(self) -> Middleware:
        """For `Starlette(middleware=[service.middleware])`; refuses requests without a valid token."""
        return Middleware(MeshMiddleware, service=self)

    @property
    def routes(self) -> list[BaseRoute]:
        """Routes of our own documents, relative to the issuer's path; none for a service without keys."""
        documents = () if self.well_known is None else self.well_known.documents
        return self._document_routes({document: document for document in documents})

    @property
    def root_routes(self) -> list[BaseRoute]:
        """The same as paths on the host, with RFC 8414's form for an issuer that has a path (section 3.1)."""
        return self._document_routes({} if self.well_known is None else self.well_known.absolute_paths)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Any ASGI application, protected, started with its lifespan, and with our own documents served."""
        protected = MeshMiddleware(app, self, serve_well_known=True)
        self.serves_documents()

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await self._live_around(app, scope, receive, send)
            else:
                await protected(scope, receive, send)

        # for tools that look for the router inside, as `s2s-mesh trust check --app` does
        wrapped.__wrapped__ = protected  # type: ignore[attr-defined]
        return wrapped

    async def _live_around(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self)

            async def send_after_end(message: Message) -> None:
                # servers wait for this message, and not for the application to return
                if message["type"].startswith("lifespan.shutdown."):
                    await stack.aclose()
                await send(message)

            await app(scope, receive, send_after_end)

    def _document_routes(self, documents: Mapping[str, str]) -> list[BaseRoute]:
        if self.well_known is None:
            return []
        self.serves_documents()

        def route(path: str, document: str) -> Route:
            async def endpoint(request: Request) -> Response:
                given = request.headers.get("if-none-match")
                named = of_parameters(document, request.path_params)
                answer = answer_document(self, named, request.method, given)
                return Response(answer.body, answer.status, dict(answer.headers))

            return Route(path, endpoint, methods=["GET"])

        return [route(path, document) for path, document in documents.items()]
