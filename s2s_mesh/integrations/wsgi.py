"""Any WSGI application (PEP 3333) behind the door; needs nothing installed. Flask and Django stand on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..certificates import Peer, ProxyField
from ..doors import (
    MARK,
    TWICE,
    UNPROTECTED,
    Caller,
    Door,
    answer_document,
    decide,
    document_at,
    path_of_target,
    wanted_scopes,
)
from ..errors import ConfigError
from ..inbound import RequestFacts
from ..refusal import Refusal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PRINCIPAL = "s2s_mesh.principal"
CALLER = "s2s_mesh.caller"


def protect(app: WSGIApplication, service: Door) -> WSGIApplication:
    """Wrap an application: only who may call comes through, and our own documents are served.

    `environ["s2s_mesh.principal"]` is the caller, or None for an anonymous one of a public path. To stand
    outside of whatever changes the environment, such as werkzeug's `ProxyFix`.
    """
    published = publish(app, service)

    def protected(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if MARK in environ:
            raise ConfigError(TWICE)
        environ[MARK] = True
        if service.proxies is not None:
            strip(environ, service.proxies)
        path = path_below(environ)
        if document_at(service, environ["REQUEST_METHOD"], path) is not None:
            return published(environ, start_response)
        outcome = decide(service, facts_of(environ, public=path in service.public_paths), path)
        if isinstance(outcome, Refusal):
            return _refuse(outcome, environ, start_response)
        environ[CALLER] = outcome
        environ[PRINCIPAL] = outcome.principal
        with outcome.serving():
            return app(environ, _adding(outcome.fields, start_response))

    return protected


def publish(app: WSGIApplication, service: Door) -> WSGIApplication:
    """Wrap an application that anybody may call: our own documents are served, and nothing is asked."""
    service.serves_documents()

    def published(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        document = document_at(service, method, path_below(environ))
        if document is None:
            return app(environ, start_response)
        answer = answer_document(service, document, method, environ.get("HTTP_IF_NONE_MATCH"))
        start_response(_status_line(answer.status), list(answer.headers.items()))
        return [answer.body]

    return published


def require(*scopes: str) -> Callable[[WSGIApplication], WSGIApplication]:
    """Make a decorator for WSGI applications behind `protect`: callers without these scopes get a 403.

    Raises:
        ConfigError: something that is no scope; later, that no door was passed.
    """
    wanted = wanted_scopes(scopes)

    def decorate(app: WSGIApplication) -> WSGIApplication:
        def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            refused = caller_of(environ).refused(wanted)
            if refused is not None:
                return _refuse(refused, environ, start_response)
            return app(environ, start_response)

        return guarded

    return decorate


def caller_of(environ: Mapping[str, Any]) -> Caller:
    """Who was let in.

    Raises:
        ConfigError: the request came by without passing `protect`.
    """
    caller = environ.get(CALLER)
    if not isinstance(caller, Caller):
        raise ConfigError(UNPROTECTED)
    return caller


def facts_of(environ: Mapping[str, Any], *, public: bool) -> RequestFacts:
    """What a decision rests on; see `RequestFacts`.

    Field lines of one name have been joined by the server, and no list of credentials is a good one. The
    path is the one of the request target, if the server tells it (`REQUEST_URI`, `RAW_URI`) and read it as
    we do; else the decoded one, which is what the application goes by, encoded again.
    """
    path = _bytes(environ.get("SCRIPT_NAME", "")) + _bytes(environ.get("PATH_INFO", ""))
    target = environ.get("RAW_URI", environ.get("REQUEST_URI"))
    return RequestFacts(
        headers=_headers(environ),
        method=environ["REQUEST_METHOD"],
        raw_path=quote(path).encode() if target is None else path_of_target(_bytes(target), path),
        query=_bytes(environ.get("QUERY_STRING", "")),
        public=public,
        connection=environ,
        look=peer_of,
    )


def peer_of(environ: Mapping[str, Any]) -> Peer:
    """Who is at the other end, as the server says; no client can set these names.

    The certificate is `SSL_CLIENT_CERT` (mod_wsgi, uWSGI, werkzeug), or that of gunicorn's socket.
    """
    certificate = _bytes(environ.get("SSL_CLIENT_CERT", "")) or None
    if certificate is None:
        get = getattr(environ.get("gunicorn.socket"), "getpeercert", None)
        certificate = None if get is None else get(binary_form=True)
    return Peer(environ.get("REMOTE_ADDR"), certificate)


def strip(environ: MutableMapping[str, Any], proxies: ProxyField) -> None:
    """Take out what says who presents a certificate, but for what a proxy of ours says."""
    kept = {name for name, _ in proxies.without_foreign(_headers(environ), environ.get("REMOTE_ADDR"))}
    for key in [key for key in environ if key.startswith("HTTP_") and _name(key) not in kept]:
        del environ[key]


def _headers(environ: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(_name(key), _bytes(value)) for key, value in environ.items() if key.startswith("HTTP_")]


def _name(key: str) -> bytes:
    """The lower-case name of the field that a key of the environment stands for."""
    return _bytes(key[5:].lower().replace("_", "-"))


def path_below(environ: Mapping[str, Any]) -> str:
    """The decoded path below what the application is mounted at, as frameworks route by it."""
    return _bytes(environ.get("PATH_INFO", "")).decode("utf-8", "replace")


def _bytes(text: str) -> bytes:
    """What came over the wire (PEP 3333); no question mark is ever part of what is accepted."""
    return text.encode("latin-1", "replace")


def _refuse(refused: Refusal, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response(_status_line(refused.status), list(refused.headers))
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else refused.body]


def _adding(fields: Sequence[tuple[str, str]], start_response: StartResponse) -> StartResponse:
    if not fields:
        return start_response

    def start_with_fields(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, *fields], *exc_info)

    return start_with_fields


def _status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"
