"""Django, under WSGI and ASGI: the whole site behind the door, `request.principal` in its views.

In the settings, before every other middleware:

    MIDDLEWARE = ["s2s_mesh.integrations.django.protect", ...]
    S2S_MESH_SERVICE = "wallets.mesh.service"  # where the `Service` is, or the service itself
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware
from django.utils.module_loading import import_string

from .. import asgi
from ..doors import (
    MARK,
    TWICE,
    Caller,
    Door,
    answer_document,
    decide,
    decide_async,
    document_at,
    wanted_scopes,
)
from ..errors import ConfigError
from ..inbound import RequestFacts
from ..refusal import Refusal
from . import wsgi

View = TypeVar("View", bound=Callable[..., Any])
Middleware = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def protect(get_response: Middleware) -> Middleware:
    """Middleware: only who may call comes through, and our own documents are served.

    In views `request.principal` is the caller, or None for an anonymous one of a public path;
    `request.user` stays what Django's own middleware makes of it.

    Raises:
        ConfigError: the settings name no service.
    """
    service = _service()

    if iscoroutinefunction(get_response):

        async def protected_async(request: HttpRequest) -> Any:
            document = _document(service, request)
            if document is not None:
                return document
            outcome = await decide_async(service, _facts(service, request), request.path_info)
            if isinstance(outcome, Refusal):
                return _refuse(outcome)
            with _admitted(request, outcome):
                return _with_fields(await get_response(request), outcome)

        return protected_async

    def protected(request: HttpRequest) -> Any:
        document = _document(service, request)
        if document is not None:
            return document
        outcome = decide(service, _facts(service, request), request.path_info)
        if isinstance(outcome, Refusal):
            return _refuse(outcome)
        with _admitted(request, outcome):
            return _with_fields(get_response(request), outcome)

    return protected


@sync_and_async_middleware
def publish(get_response: Middleware) -> Middleware:
    """Middleware for a site that anybody may call: our own documents are served, and nothing is asked."""
    service = _service()

    if iscoroutinefunction(get_response):

        async def published_async(request: HttpRequest) -> Any:
            return _document(service, request) or await get_response(request)

        return published_async

    def published(request: HttpRequest) -> Any:
        return _document(service, request) or get_response(request)

    return published


def require(*scopes: str) -> Callable[[View], View]:
    """Make a decorator for views, sync or async: callers without these scopes get a 403.

    Such a view needs no CSRF token: no browser sends a bearer token by itself.

    Raises:
        ConfigError: something that is no scope; later, that no door was passed.
    """
    wanted = wanted_scopes(scopes)

    def decorate(view: View) -> View:
        guarded: Any

        if iscoroutinefunction(view):

            @wraps(view)
            async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                refused = wsgi.caller_of(_carrier(request)).refused(wanted)
                return await view(request, *args, **kwargs) if refused is None else _refuse(refused)

        else:

            @wraps(view)
            def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                refused = wsgi.caller_of(_carrier(request)).refused(wanted)
                return view(request, *args, **kwargs) if refused is None else _refuse(refused)

        guarded.csrf_exempt = True
        return guarded  # type: ignore[no-any-return]

    return decorate


def _service() -> Door:
    named = getattr(settings, "S2S_MESH_SERVICE", None)
    if named is None:
        raise ConfigError(
            "the settings have no S2S_MESH_SERVICE; expected where the Service is, such as "
            '"wallets.mesh.service"'
        )
    service: Door = import_string(named) if isinstance(named, str) else named
    service.serves_documents()
    return service


def _carrier(request: HttpRequest) -> MutableMapping[str, Any]:
    """What the server handed over, and what goes with the request wherever it goes."""
    carrier: Any = request.scope if isinstance(request, ASGIRequest) else request.META
    return carrier  # type: ignore[no-any-return]


def _facts(service: Door, request: HttpRequest) -> RequestFacts:
    carrier = _carrier(request)
    if MARK in carrier:
        raise ConfigError(TWICE)
    carrier[MARK] = True
    if service.proxies is not None:
        wsgi.strip(request.META, service.proxies)
        request.__dict__.pop("headers", None)  # made of META, and kept, when an outer middleware asked for it
        if isinstance(request, ASGIRequest):
            asgi.strip(carrier, service.proxies)
    public = request.path_info in service.public_paths
    if isinstance(request, ASGIRequest):
        return asgi.facts_of(carrier, public=public)
    return wsgi.facts_of(carrier, public=public)


def _admitted(request: HttpRequest, caller: Caller) -> AbstractContextManager[None]:
    _carrier(request)[wsgi.CALLER] = caller
    request.principal = caller.principal  # type: ignore[attr-defined]
    return caller.serving()


def _with_fields(response: HttpResponse, caller: Caller) -> HttpResponse:
    for name, value in caller.fields:
        response[name] = value
    return response


def _document(service: Door, request: HttpRequest) -> HttpResponse | None:
    method = request.method or ""
    document = document_at(service, method, request.path_info)
    if document is None:
        return None
    answer = answer_document(service, document, method, request.headers.get("if-none-match"))
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


def _refuse(refused: Refusal) -> HttpResponse:
    headers: dict[str, str] = {}
    for name, value in refused.headers:
        # field lines of one name make one list (RFC 9110 section 5.3); Django knows one line of each name
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return HttpResponse(refused.body, status=refused.status, headers=headers)
