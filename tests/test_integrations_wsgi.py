"""The doors for WSGI, where no server is needed: paths that could be faked, mistakes in setting them up."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flask
import pytest
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from werkzeug.middleware.proxy_fix import ProxyFix

from s2s_mesh import ConfigError, Service
from s2s_mesh.errors import Reason
from s2s_mesh.integrations import django as django_door
from s2s_mesh.integrations import flask as flask_door
from s2s_mesh.integrations import wsgi as wsgi_door
from s2s_mesh.wellknown import JWKS

from .hostile import rows
from .migrating import row
from .programs import Program, environment
from .servers import free_port
from .stands import LOG, Stand, seen, service_of, with_log
from .stands_wsgi import configure, plain
from .tokens import EDGE, LEDGER, WALLETS, good

R = Reason
GOOD = good()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = service_of(tmp_path)
    with with_log(), made:
        yield made


def environ_of(path: str = "/read", token: bytes | None = GOOD, **changes: Any) -> dict[str, Any]:
    """The environment of a GET; None removes a variable."""
    made = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "wallets.example.com",
        "SERVER_PORT": "443",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "https",
        "HTTP_AUTHORIZATION": None if token is None else f"Bearer {token.decode()}",
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def call(app: Any, environ: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    """One request, without a server."""
    started: list[Any] = []

    def start_response(status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None) -> None:
        started.append((int(status[:3]), {name.lower(): value for name, value in headers}))

    body = b"".join(app(environ, start_response))
    try:
        return (*started[0], json.loads(body))
    except ValueError:
        return (*started[0], body)


def reason_of(answer: tuple[int, dict[str, str], Any]) -> str | None:
    body = answer[2]
    return LOG.reason(body["instance"]) if isinstance(body, dict) and "instance" in body else None


PATHS: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("no target is told", {}, None),
    ("the target", {"RAW_URI": "/read"}, None),
    ("the target under its other name", {"REQUEST_URI": "/read"}, None),
    ("the target with a query", {"RAW_URI": "/read?/../x", "QUERY_STRING": "/../x"}, None),
    ("an absolute target", {"RAW_URI": "https://wallets.example.com/read"}, None),
    ("a target with an escape", {"RAW_URI": "/re%61d"}, None),
    (
        "an application that is mounted",
        {"SCRIPT_NAME": "/cards", "PATH_INFO": "/write", "RAW_URI": "/cards/write"},
        None,
    ),
    ("another target", {"RAW_URI": "/user"}, R.BAD_PATH),
    ("a path that somebody rewrote", {"RAW_URI": "/read", "PATH_INFO": "/write"}, R.BAD_PATH),
    ("a prefix that was never asked for", {"RAW_URI": "/read", "SCRIPT_NAME": "/x"}, R.BAD_PATH),
    ("the other name does not count", {"RAW_URI": "/x", "REQUEST_URI": "/read"}, R.BAD_PATH),
    ("two slashes", {"RAW_URI": "//read"}, R.BAD_PATH),
    ("an absolute target without a path", {"RAW_URI": "https://wallets.example.com"}, R.BAD_PATH),
    ("a target in asterisk form", {"RAW_URI": "*"}, R.BAD_PATH),
    ("an empty target", {"RAW_URI": ""}, R.BAD_PATH),
    ("an encoded slash", {"PATH_INFO": "/cards/a/b", "RAW_URI": "/cards/a%2Fb"}, R.BAD_PATH),
    ("a fragment", {"RAW_URI": "/read#x"}, R.BAD_PATH),
    ("a decoded backslash, and no target", {"PATH_INFO": "/cards/a\\b"}, R.BAD_PATH),
    ("a decoded semicolon, and no target", {"PATH_INFO": "/read;x"}, R.BAD_PATH),
    ("a decoded line feed, and no target", {"PATH_INFO": "/read\n"}, R.BAD_PATH),
    ("no path", {"PATH_INFO": None}, R.BAD_PATH),
    ("what is no UTF-8", {"PATH_INFO": "/cards/\xff"}, R.BAD_PATH),
]


@pytest.mark.parametrize(("changes", "reason"), rows(PATHS))
def test_the_path_of_a_rule_is_the_one_that_the_application_sees(
    service: Service, changes: dict[str, Any], reason: Reason | None
) -> None:
    """A target that the server read in another way fits no rule, nor does a path with two meanings."""
    answer = call(plain(service), environ_of(**changes))
    assert reason_of(answer) == (None if reason is None else reason.value)
    assert answer[0] == (200 if reason is None else 403)


def test_a_prefix_field_of_the_caller_changes_no_path(service: Service) -> None:
    """`ProxyFix` believes X-Forwarded-Prefix; the door stands outside of it."""
    app = flask.Flask(__name__)
    app.add_url_rule("/read", "read", lambda: seen(flask.g.principal))
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    flask_door.protect(app, service)
    assert call(app, environ_of(HTTP_X_FORWARDED_PREFIX="/user"))[2]["caller"] == EDGE


def test_a_value_that_is_no_latin_1_is_no_credential(service: Service) -> None:
    """Such an environment is against PEP 3333; it is refused, and nothing is raised."""
    answer = call(plain(service), environ_of(HTTP_AUTHORIZATION="Bearer €", QUERY_STRING="€"))
    assert (answer[0], reason_of(answer)) == (400, R.MALFORMED_HEADER.value)


def test_two_doors_are_a_mistake(service: Service) -> None:
    """Whichever they are."""
    twice = wsgi_door.protect(plain(service), service)
    with pytest.raises(ConfigError, match="one per request path"):
        call(twice, environ_of())
    configure(service)
    assert call(wsgi_door.protect(WSGIHandler(), service), environ_of())[0] == 500  # Django lets nothing out


@django_door.require()
def read(_: HttpRequest) -> HttpResponse:
    raise AssertionError("nobody comes here")


def test_every_challenge_is_told(tmp_path: Path) -> None:
    """In lines of their own; in Django, which has one line of each name, as a list (RFC 9110 section 5.3)."""
    service = service_of(tmp_path, more=row("basic", issuer=LEDGER))
    challenges = [f'Bearer realm="{WALLETS}"', f'Basic realm="{WALLETS}", charset="UTF-8"']
    told: list[tuple[str, str]] = []

    def start_response(_: str, headers: list[tuple[str, str]], *_exc_info: Any) -> Any:
        told.extend(headers)

    configure(service)
    with service:
        list(plain(service)(environ_of(token=None), start_response))
        answer = call(WSGIHandler(), environ_of(token=None))
    assert [value for name, value in told if name == "www-authenticate"] == challenges
    assert (answer[0], answer[1]["www-authenticate"]) == (401, ", ".join(challenges))


def test_require_without_the_door_is_a_mistake(service: Service) -> None:
    """And lets nobody in."""
    configure(service)
    with pytest.raises(ConfigError, match="came by without passing it"):
        call(wsgi_door.require()(plain), environ_of())  # type: ignore[arg-type]
    app = flask.Flask(__name__)
    app.testing = True
    app.add_url_rule("/read", "read", flask_door.require()(lambda: "never"))
    with pytest.raises(ConfigError, match="came by without passing it"):
        app.test_client().get("/read")
    with pytest.raises(ConfigError, match="came by without passing it"):
        read(WSGIRequest(environ_of()))


def test_a_site_without_a_service_does_not_start(service: Service) -> None:
    """The settings have to name it."""
    configure(service)
    with (
        override_settings(S2S_MESH_SERVICE=None),
        pytest.raises(ConfigError, match="have no S2S_MESH_SERVICE"),
    ):
        WSGIHandler()


@pytest.mark.parametrize("door", [wsgi_door, flask_door, django_door])
def test_what_is_no_scope_is_refused_at_once(door: Any) -> None:
    """Not with the first request."""
    with pytest.raises(ConfigError):
        door.require("cards write")


def test_publish_serves_our_documents_and_asks_nothing(service: Service) -> None:
    """For applications that anybody may call."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"for everybody"]

    published = wsgi_door.publish(app, service)
    assert call(published, environ_of("/", None))[2] == b"for everybody"
    assert call(published, environ_of(JWKS, None))[2]["keys"]
    site = flask.Flask(__name__)
    site.add_url_rule("/", "home", lambda: "for everybody")
    flask_door.publish(site, service)
    assert call(site, environ_of("/", None))[2] == b"for everybody"
    assert call(site, environ_of(JWKS, None))[2]["keys"]


APP = """
from s2s_mesh import Service
from tests.stands_wsgi import plain
from tests.tokens import NOW, WALLETS

service = Service(issuer=WALLETS, trust="trust.toml", key_store="memory://")
service.clock = lambda: float(NOW)
app = plain(service)
"""


def test_gunicorn_with_processes_of_its_own(tmp_path: Path) -> None:
    """The service starts in each worker, after the fork; what gunicorn tells of the path is used."""
    service_of(tmp_path)  # writes its trust file
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}"]
    program = Program([*command, "app:app"], environment(), tmp_path)
    with program.until_answering(f"http://127.0.0.1:{port}{JWKS}"):
        site = Stand("gunicorn", port)
        for _ in range(8):  # whichever worker answers
            assert site.call("read", GOOD).body["caller"] == EDGE
        assert site.call("read").status == 401
        assert site.call("read", headers=[(b"authorization", b"Bearer " + GOOD)] * 2).status == 400
        assert site.call("read", headers=[(b"authorization_", b"Bearer " + GOOD)]).status == 401
        assert site.call("/re%61d", GOOD).status == 200
        for path in ("//read", "/cards%2F7", "/cards/a%2Fb", "/x/../read", "/read;x", "/read#x"):
            assert site.call(path, GOOD).status == 403, path
