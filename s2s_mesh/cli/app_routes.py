"""The routes of an app, for `s2s-mesh trust check --app`: Starlette, FastAPI, and what is mounted in them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ..errors import ConfigError
from .output import print_table

if TYPE_CHECKING:
    from ..route_fit import AppRoute, Misfit
    from ..service import Service
    from ..trust import TrustConfig


class Fit(NamedTuple):
    """How an app's router and the route rules fit.

    Attributes:
        app: its name.
        audiences: whose rules they are.
        rules: how many.
        routes: of the app, our own documents left out.
        misfits: what differs.
        unknown: parts of the router that could not be looked into.
    """

    app: str
    audiences: Collection[str]
    rules: int
    routes: Collection[AppRoute]
    misfits: Sequence[Misfit]
    unknown: Sequence[str]

    def facts(self) -> dict[str, Any]:
        """For programs."""
        misfits = [
            {"problem": fit.problem.name.lower(), "method": fit.method, "path": fit.path, "do": fit.do}
            for fit in self.misfits
        ]
        return {
            "app": self.app,
            "audiences": sorted(self.audiences),
            "misfits": misfits,
            "unknown": list(self.unknown),
        }

    def show(self) -> None:
        """For people."""
        for part in self.unknown:
            typer.echo(f"warning: {self.app}: {part} is not looked into")
        if not self.rules:
            typer.echo(
                f"{self.app}: no [[route]] row is for {' or '.join(sorted(self.audiences))}, so that all of "
                "its paths are open to every known caller"
            )
        elif not self.misfits:
            typer.echo(f"{self.app} fits: {len(self.routes)} paths, {self.rules} rules")
        else:
            rows = [(f"{fit.method} {fit.path}", fit.problem.value, fit.do) for fit in self.misfits]
            print_table((self.app, "problem", "what to do"), rows)


def compare(name: str, trust: TrustConfig, audience: str | None, root_path: str) -> Fit:
    """Compare an app with the route rules for it.

    Args:
        name: `module:app`.
        trust: the whole file.
        audience: whose app it is, where the app does not say.
        root_path: see `load`.

    Raises:
        ConfigError: as `load`; or nobody says whose app it is.
    """
    from ..route_fit import misfits

    app = load(name, root_path)
    if app.service is None and audience is None:
        raise ConfigError(f"--app {name} does not say which service it is: add --audience URL")
    audiences = [str(audience)] if app.service is None else app.service.settings.audiences
    open_paths = () if app.service is None else {root_path + path for path in app.service.public_paths}
    rules = trust.for_audiences(audiences).routes
    found = misfits(rules, app.routes, open_paths=open_paths) if rules else ()
    return Fit(name, audiences, len(rules), app.routes, found, app.unknown)


class App(NamedTuple):
    """What was found.

    Attributes:
        routes: as seen from outside.
        service: the one that protects the app, or None if that cannot be seen.
        unknown: parts of the router that could not be looked into.
    """

    routes: list[AppRoute]
    service: Service | None
    unknown: list[str]


def load(name: str, root_path: str) -> App:
    """Import an app, as a server would, and list its routes.

    Args:
        name: `module:app`; the working directory is looked at first.
        root_path: what stands before its own paths when they are seen from outside.

    Raises:
        ConfigError: it cannot be imported, or has no router that is known.
    """
    outermost = _imported(name)
    app, service = _unwrapped(outermost)
    routes = getattr(app, "routes", None)
    if not isinstance(routes, list):
        raise ConfigError(
            f"--app {name}: {type(outermost).__name__} has no routes; expected a Starlette or FastAPI app"
        )
    unknown: list[str] = []
    found = list(_walk(routes, root_path, unknown))
    known = set() if service is None or service.well_known is None else {*service.well_known.absolute_paths}
    return App(
        [route for route in found if route.path not in _documents(root_path) | known], service, unknown
    )


def _documents(root_path: str) -> set[str]:
    from .. import spiffe_bundle
    from ..wellknown import ASAP_KEY, DOCUMENTS

    return {root_path + document for document in (*DOCUMENTS, spiffe_bundle.DOCUMENT, ASAP_KEY)}


def _imported(name: str) -> Any:
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise ConfigError(f"--app {name}: expected MODULE:APP, such as app:app")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except Exception as error:  # whatever the app's own code raises
        raise ConfigError(f"--app {name} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return found


def _unwrapped(app: Any) -> tuple[Any, Service | None]:
    """The app with the router inside of middlewares, and the service that one of these belongs to."""
    from ..asgi import MeshMiddleware
    from ..service import Service

    service: Any = None
    while not isinstance(getattr(app, "routes", None), list):
        if isinstance(app, MeshMiddleware):
            service = app._service
        inside = getattr(app, "__wrapped__", None) or getattr(app, "app", None)
        if inside is None:
            break
        app = inside
    for middleware in getattr(app, "user_middleware", []):
        if middleware.cls is MeshMiddleware:
            service = middleware.kwargs.get("service")
    return app, service if isinstance(service, Service) else None


def _walk(routes: Any, prefix: str, unknown: list[str]) -> Iterator[AppRoute]:
    from starlette.routing import WebSocketRoute

    from ..route_fit import AppRoute

    # newer versions of FastAPI keep included routers as they are, and list what is in them by this function
    contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    for route in routes if contexts is None else contexts(routes):
        path = getattr(route, "path", None)
        inside = getattr(route, "routes", None)
        if inside is None and path is None:
            unknown.append(type(getattr(route, "route", route)).__name__)
        elif inside is None:
            handshake = isinstance(getattr(route, "original_route", route), WebSocketRoute)
            methods = {"GET"} if handshake else getattr(route, "methods", None)
            yield AppRoute(path=prefix + str(path), methods=None if methods is None else frozenset(methods))
        else:
            # a mount has a path, a host has none
            below = prefix + (path or "")
            inner = inside or getattr(_unwrapped(route.app)[0], "routes", None)
            if isinstance(inner, list):
                yield from _walk(inner, below, unknown)
            else:  # an app without a router, such as static files
                yield AppRoute(path=f"{below}/{{rest:path}}", methods=None)
