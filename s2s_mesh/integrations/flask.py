"""Flask: the whole application behind the door, `g.principal` in its views."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import Flask, Response, current_app, g, request

from ..doors import Door, wanted_scopes
from . import wsgi

View = TypeVar("View", bound=Callable[..., Any])


def protect(app: Flask, service: Door) -> None:
    """Let only who may call into an application, static files included, and serve our own documents.

    In views `g.principal` is the caller, or None for an anonymous one of a public path. To be called last:
    after `app.wsgi_app` was wrapped by anything else.
    """
    app.wsgi_app = wsgi.protect(app.wsgi_app, service)  # type: ignore[method-assign, assignment]
    app.before_request_funcs.setdefault(None, []).insert(0, _remember)


def publish(app: Flask, service: Door) -> None:
    """Serve our own documents from an application that anybody may call, such as one for browsers."""
    app.wsgi_app = wsgi.publish(app.wsgi_app, service)  # type: ignore[method-assign, assignment]


def require(*scopes: str) -> Callable[[View], View]:
    """Make a decorator for views, plain or async, below `@app.route`: callers without these scopes get a 403.

    Raises:
        ConfigError: something that is no scope; later, that no door was passed.
    """
    wanted = wanted_scopes(scopes)

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            refused = wsgi.caller_of(request.environ).refused(wanted)
            if refused is not None:
                return Response(refused.body, refused.status, list(refused.headers))
            return current_app.ensure_sync(view)(*args, **kwargs)

        return guarded  # type: ignore[return-value]

    return decorate


def _remember() -> None:
    g.principal = wsgi.caller_of(request.environ).principal
