"""Asking an authorization server: for its metadata, and for a token.

The connections are those of `network.py`. A private address is allowed: an operator wrote every origin that
is asked, the issuer's own and those of `endpoint_origins`. Of what the server sends, the text of an error has
an error's code, and from its metadata the address of the token endpoint and names of methods; nothing else.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection

import httpcore
import httpx

from . import oauth_answer, oauth_metadata
from .errors import OAuthError
from .http_exchange import Answer, exchange, is_identity, media_type, tls_context
from .network import CheckedBackend
from .oauth_answer import Granted
from .oauth_metadata import AuthorizationServer
from .oauth_request import ServerSource, TokenRequest

METADATA_SECONDS = 5.0  # for both places together
TOKEN_SECONDS = 5.0
_JSON = "application/json"
_ACCEPT = [("accept", _JSON)]
_REFUSED = (400, 401, 403)


class _NoDocument(Exception):
    """It answered, and not with what was asked for."""


def metadata(source: ServerSource) -> AuthorizationServer:
    """Find a server's metadata, at one place or the other; blocks for `METADATA_SECONDS` at most.

    Raises:
        OAuthError: it cannot be had, or must not be believed.
        ConfigError: the server takes no assertions.
    """
    backend = CheckedBackend(METADATA_SECONDS, allow_loopback=source.allow_loopback_http)
    problems = []
    for url in oauth_metadata.metadata_urls(source.issuer):
        try:
            answer = _ask(url, source, backend, (200,), most=oauth_metadata.MAX_BODY)
        except _NoDocument as why:
            problems.append(f"{url} {why}")
        else:
            return oauth_metadata.parse(answer.body, source)
    raise OAuthError(source.issuer, f"it has no metadata: {'; '.join(problems)}")


def token(
    server: AuthorizationServer, request: TokenRequest, assertion: str, *, algorithm: str, jwks_uri: str
) -> Granted:
    """Ask for a token once; blocks for `TOKEN_SECONDS` at most.

    Args:
        server: whom to ask.
        request: what for.
        assertion: made for this request.
        algorithm: with which it is signed.
        jwks_uri: where our keys are.

    Raises:
        OAuthError: there is none.
    """
    backend = CheckedBackend(TOKEN_SECONDS, allow_loopback=request.source.allow_loopback_http)
    try:
        answer = _ask(
            server.token_endpoint,
            request.source,
            backend,
            (200, *_REFUSED),
            most=oauth_answer.MAX_BODY,
            form=request.form(assertion),
        )
    except _NoDocument as why:
        raise OAuthError(request.issuer, f"its token endpoint {why}") from None
    if answer.status != 200:
        raise oauth_answer.refused(answer.body, request, algorithm=algorithm, jwks_uri=jwks_uri)
    return oauth_answer.granted(answer.body, request.issuer)


def _ask(
    url: str,
    source: ServerSource,
    backend: CheckedBackend,
    statuses: Collection[int],
    *,
    most: int,
    form: bytes | None = None,
) -> Answer:
    def judge(status: int, fields: httpx.Headers) -> bool:
        if status not in statuses:
            raise _NoDocument(f"answered {status} (redirects are not followed)")
        if media_type(fields) != _JSON:
            raise _NoDocument(f"answered {status}, and not with content-type {_JSON}")
        if not is_identity(fields):
            raise _NoDocument(f"answered {status} with a content-encoding, although identity was asked for")
        return True

    try:
        return exchange(url, backend, _tls(source), _ACCEPT, judge, most=most, form=form)
    except httpcore.ProtocolError:  # whose text shows what came
        raise OAuthError(source.issuer, f"{url} does not speak HTTP as it should") from None
    except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as failed:
        raise OAuthError(source.issuer, f"{url}: {str(failed) or type(failed).__name__}") from None


def _tls(source: ServerSource) -> ssl.SSLContext:
    try:
        return tls_context(source.ca_file)
    except OSError as failed:
        raise OAuthError(source.issuer, f"ca_file {source.ca_file} cannot be used: {failed}") from None
