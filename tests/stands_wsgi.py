"""The application of `stands.py` for WSGI: plain, in Flask, and in Django, which knows ASGI too."""

from __future__ import annotations

import asyncio
import json
import wsgiref.simple_server
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import django
import flask
import werkzeug.serving
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path as at
from django.views.decorators.csrf import csrf_exempt

from s2s_mesh import Service
from s2s_mesh.integrations import django as django_door
from s2s_mesh.integrations import flask as flask_door
from s2s_mesh.integrations import wsgi as wsgi_door

from .programs import http_server
from .servers import free_port
from .stands import in_thread, seen, users_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


# -- plain ------------------------------------------------------------------------------------------------


def plain(service: Service) -> WSGIApplication:
    def answer(start_response: StartResponse, status: str, body: Any) -> list[bytes]:
        start_response(status, [("content-type", "application/json")])
        return [json.dumps(body).encode()]

    def read(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return answer(start_response, "200 OK", seen(environ["s2s_mesh.principal"]))

    write = wsgi_door.require("cards:write")(read)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in ("/write", "/open/write"):
            return write(environ, start_response)
        if path == "/user":
            return answer(start_response, "200 OK", users_of(service))
        if path in ("/read", "/open", "/proved") or path.startswith("/cards/"):
            return read(environ, start_response)
        return answer(start_response, "404 Not Found", None)

    return wsgi_door.protect(app, service)


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """No line for each request."""


@contextmanager
def on_wsgiref(app: Any) -> Iterator[int]:
    """The standard library's server: tells no request target, and takes an underscore for a hyphen."""
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=_Quiet)
    with server, in_thread(server.serve_forever, server.shutdown):
        yield server.server_port


@contextmanager
def on_werkzeug(app: Any) -> Iterator[int]:
    """A server that tells the request target under both its names."""
    server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
    with in_thread(server.serve_forever, server.shutdown):
        yield server.server_port
    server.server_close()


@contextmanager
def plain_on_werkzeug(service: Service) -> Iterator[int]:
    with on_werkzeug(plain(service)) as port:
        yield port


@contextmanager
def plain_on_wsgiref(service: Service) -> Iterator[int]:
    with on_wsgiref(plain(service)) as port:
        yield port


# -- Flask ------------------------------------------------------------------------------------------------


@contextmanager
def in_flask(service: Service) -> Iterator[int]:
    app = flask.Flask(__name__)
    both = ["GET", "PUT"]

    def read(card: str = "") -> Any:
        return seen(flask.g.principal)

    for rule in ("/read", "/open", "/proved", "/cards/<card>"):
        app.add_url_rule(rule, rule, read, methods=both)

    @app.get("/user")
    def user() -> Any:
        return users_of(service)

    @app.route("/write", methods=both)
    @flask_door.require("cards:write")
    async def write() -> Any:
        await asyncio.sleep(0)
        return seen(flask.g.principal)

    app.add_url_rule("/open/write", "open", flask_door.require("cards:write")(read), methods=both)
    flask_door.protect(app, service)
    with on_werkzeug(app) as port:
        yield port


# -- Django -----------------------------------------------------------------------------------------------


def principal_of(request: HttpRequest) -> Any:
    return seen(request.principal)  # type: ignore[attr-defined]


@csrf_exempt
def read(request: HttpRequest, card: str = "") -> JsonResponse:
    return JsonResponse(principal_of(request))


@django_door.require("cards:write")
async def write(request: HttpRequest) -> JsonResponse:
    await asyncio.sleep(0)
    return JsonResponse(principal_of(request))


@django_door.require("cards:write")
def open_write(request: HttpRequest) -> JsonResponse:
    return JsonResponse(principal_of(request))


@csrf_exempt
def user(request: HttpRequest) -> JsonResponse:
    service: Service = settings.S2S_MESH_SERVICE
    return JsonResponse(users_of(service))


urlpatterns = [
    at("read", read),
    at("open", read),
    at("proved", read),
    at("cards/<card>", read),
    at("user", user),
    at("write", write),
    at("open/write", open_write),
]


def configure(service: Service) -> None:
    """Django's settings, once in a process; the service may change."""
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            MIDDLEWARE=[
                "s2s_mesh.integrations.django.protect",
                "django.middleware.csrf.CsrfViewMiddleware",
            ],
            LOGGING_CONFIG=None,
        )
        django.setup()
    settings.S2S_MESH_SERVICE = service


@contextmanager
def in_django(service: Service) -> Iterator[int]:
    configure(service)
    with on_werkzeug(WSGIHandler()) as port:
        yield port


@contextmanager
def in_django_async(service: Service) -> Iterator[int]:
    configure(service)
    port = free_port()
    with http_server(ASGIHandler(), port):
        yield port


STANDS: dict[str, Callable[[Service], Any]] = {
    "WSGI on werkzeug": plain_on_werkzeug,
    "WSGI on wsgiref": plain_on_wsgiref,
    "Flask": in_flask,
    "Django": in_django,
    "Django under ASGI": in_django_async,
}
