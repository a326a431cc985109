"""One retrieval of one issuer's JWKS, by rules R1 to R8 of the standards page; by discovery where told."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import httpcore
import httpx

from . import discovery
from .asap import PEM
from .asap_key_file import read_key
from .errors import JWKSInvalid
from .http_exchange import Answer, exchange, is_identity, media_type, tls_context
from .jwks import MAX_BODY, JWKSet
from .network import CheckedBackend
from .trust_issuers import Accepted
from .trust_values import SPIFFE

TOTAL_SECONDS = 5.0
DOCUMENT_TYPES = ("application/json",)
JWKS_TYPES = ("application/jwk-set+json", *DOCUMENT_TYPES)
_MAX_ETAG = 256
_MAX_SHOWN = 120  # characters of what a server sent, in the log
_NOT_MODIFIED = 304
_NO_SUCH_KEY = (403, 404)  # a file server that lists no folders answers 403 (atlassian-jwt-auth has it so)
_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)
_SECONDS = re.compile(r"[0-9]{1,20}", re.ASCII)
_FILE_MAX_AGE = 0.0  # clamped up to the floor: a pinned file is looked at as often as that


class FetchFailed(Exception):
    """No document came; the text says why, for the log.

    Attributes:
        status: of an answer that is of no use, or None where there was none.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Fetched(NamedTuple):
    """What an issuer answered.

    Attributes:
        jwks: its set, or None for "not modified".
        max_age: seconds that the answer is fresh from now on, or None where it does not say.
        etag: its entity tag, if it has one that can be sent back.
        clock: what the server's clock showed, in Unix seconds, or None where it does not say.
    """

    jwks: JWKSet | None
    max_age: float | None
    etag: str | None
    clock: float | None = None


def fetch(source: Accepted, *, etag: str | None, no_cache: bool) -> Fetched:
    """Get an issuer's JWKS from where the trust file says; blocks for at most `TOTAL_SECONDS`.

    Args:
        source: the issuer's entry; no byte of a token has a say.
        etag: of the set at hand, for a conditional request.
        no_cache: ask caches on the way to revalidate, because a key is missing.

    Raises:
        FetchFailed: refused, unreachable, too slow, redirected, or not a JWKS answer.
        JWKSInvalid: the document must not be used.
    """
    if source.jwks_file is not None:
        try:
            with Path(source.jwks_file).open("rb") as file:
                body = file.read(MAX_BODY + 1)
        except OSError as failed:
            raise FetchFailed(f"{source.jwks_file} cannot be read: {failed.strerror}") from None
        # what an operator puts there is the latest, whatever was before (SPIFFE Federation section 4.2)
        pinned = _read_set(body, source)
        return Fetched(JWKSet(pinned.keys.values(), ignored=pinned.ignored), _FILE_MAX_AGE, None)
    if source.asap_key_servers:
        return _fetch_key_file(source, etag=etag, no_cache=no_cache)
    url = source.keys_url
    assert url is not None  # noqa: S101 - the trust file sets exactly one of the three places
    tls = _tls(source.ca_file)
    allow_loopback = source.allow_loopback_http
    backend = CheckedBackend(TOTAL_SECONDS, allow_loopback=allow_loopback)
    caches = [("cache-control", "no-cache")] if no_cache else []
    try:
        if source.discovery:
            document = _get(url, backend, tls, DOCUMENT_TYPES, caches)
            url = discovery.jwks_uri(document.body, source)
            # one deadline for both; and what a document says leads to public addresses only (R5)
            left = backend.remaining(None)
            backend = CheckedBackend(left, allow_loopback=allow_loopback, allow_private=False)
            etag = None  # was of a URL that need not be this one
        if etag is not None:
            caches.append(("if-none-match", etag))
        answer = _get(url, backend, tls, JWKS_TYPES, caches)
    except _FAILURES as failed:
        raise FetchFailed(f"{url}: {_said(failed)}") from None
    max_age = _max_age(answer.fields)
    if answer.status == _NOT_MODIFIED:
        return Fetched(None, max_age, _etag(answer.fields) or etag)
    jwks = _read_set(answer.body, source)
    return Fetched(jwks, max_age, _etag(answer.fields), _clock(answer.fields))


def _fetch_key_file(source: Accepted, *, etag: str | None, no_cache: bool) -> Fetched:
    """One key of an ASAP issuer, as a set of one or none, from the first key server that has an answer.

    Raises:
        FetchFailed, JWKSInvalid: as `fetch`.
    """
    if not source.asap_key:
        raise FetchFailed("each key is fetched by its kid, and none is asked for")
    tls, servers, problems = _tls(source.ca_file), source.asap_key_servers, []
    more = [("cache-control", "no-cache")] if no_cache else []
    if etag is not None and len(servers) == 1:  # else it could be another server's
        more.append(("if-none-match", etag))
    for server in servers:
        url = server + source.asap_key
        backend = CheckedBackend(TOTAL_SECONDS / len(servers), allow_loopback=source.allow_loopback_http)
        try:
            answer = _get(url, backend, tls, (PEM,), more)
        except FetchFailed as failed:
            if failed.status in _NO_SUCH_KEY:
                return Fetched(JWKSet([]), None, None)
            problems.append(f"{url}: {failed}")
        except _FAILURES as failed:
            problems.append(f"{url}: {_said(failed)}")
        else:
            tag, age = _etag(answer.fields), _max_age(answer.fields)
            if answer.status == _NOT_MODIFIED:
                return Fetched(None, age, tag or etag)
            key = read_key(source.asap_key, answer.body, source.assumed_algorithms)
            return Fetched(JWKSet([key]), age, tag, _clock(answer.fields))
    raise FetchFailed("; ".join(problems))


def _read_set(body: bytes, source: Accepted) -> JWKSet:
    """The keys in what an issuer serves.

    Raises:
        JWKSInvalid: the document must not be used.
    """
    if source.profile == SPIFFE:
        return JWKSet.parse_bundle(body, assumed=source.assumed_algorithms)
    return JWKSet.parse(body, assumed=source.assumed_algorithms, eddsa=source.eddsa)


def get_document(source: Accepted, url: str, types: Sequence[str]) -> bytes:
    """A document of an issuer as the world sees it now, whatever is in it; blocks as `fetch`.

    Args:
        source: the issuer's entry: its authorities, and whether it may be on this machine.
        url: where; from the operator, or the issuer's own.
        types: media types that are fine.

    Raises:
        FetchFailed: refused, unreachable, too slow, redirected, or of another type.
        JWKSInvalid: too long.
    """
    backend = CheckedBackend(TOTAL_SECONDS, allow_loopback=source.allow_loopback_http)
    try:
        return _get(url, backend, _tls(source.ca_file), types, [("cache-control", "no-cache")]).body
    except _FAILURES as failed:
        raise FetchFailed(f"{url}: {_said(failed)}") from None


def _get(
    url: str, backend: CheckedBackend, tls: ssl.SSLContext, types: Sequence[str], more: list[tuple[str, str]]
) -> Answer:
    """One GET; 200 with a body of these types, or 304 where `more` asks for it.

    Raises:
        FetchFailed, JWKSInvalid: as `fetch`.
    """

    def judge(status: int, fields: httpx.Headers) -> bool:
        if status == _NOT_MODIFIED and any(name == "if-none-match" for name, _ in more):
            return False
        _check(status, fields, types)
        return True

    answer = exchange(url, backend, tls, [("accept", ", ".join(types)), *more], judge, most=MAX_BODY)
    if len(answer.body) > MAX_BODY:
        raise JWKSInvalid(f"more than {MAX_BODY} bytes")
    return answer


def _check(status: int, fields: httpx.Headers, types: Sequence[str]) -> None:
    if status != 200:
        raise FetchFailed(f"answered {status}, expected 200 (redirects are not followed)", status=status)
    if not is_identity(fields):
        coding = fields["content-encoding"][:_MAX_SHOWN]
        raise FetchFailed(f"sent content-encoding {coding!r} although identity was asked for", status=status)
    kind = media_type(fields)
    if kind not in types:
        raise FetchFailed(
            f"sent content-type {kind[:_MAX_SHOWN]!r}, expected one of {', '.join(sorted(types))}",
            status=status,
        )


def _said(failed: Exception) -> str:
    """What went wrong; cut, because of an answer that is no HTTP it holds the line that is none."""
    return str(failed)[:_MAX_SHOWN] or type(failed).__name__


def _etag(fields: httpx.Headers) -> str | None:
    """The entity tag, unless sending it back could fail, and would then fail at every refresh."""
    etag = fields.get("etag")
    return etag if etag is not None and etag.isascii() and len(etag) <= _MAX_ETAG else None


def _max_age(fields: httpx.Headers) -> float | None:
    """Freshness left: the least `max-age` minus `Age` (RFC 9111 section 4.2.1); the caller clamps it."""
    directives = [part.strip().lower() for part in fields.get("cache-control", "").split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return 0.0
    ages = [d.partition("=")[2].strip('"') for d in directives if d.startswith("max-age=")]
    if not ages:
        return None
    # an unreadable number is stale (RFC 9111 section 4.2.1), a huge one is clamped by the caller
    seconds = min((float(age) if _SECONDS.fullmatch(age) else 0.0) for age in ages)
    return max(seconds - _age(fields), 0.0)


def _age(fields: httpx.Headers) -> float:
    """How long the answer lay in a cache on the way."""
    age = fields.get("age", "0")
    return float(age) if _SECONDS.fullmatch(age) else 0.0


def _clock(fields: httpx.Headers) -> float | None:
    """`Date` is when the answer was made (RFC 9110 section 6.6.1), whole seconds."""
    try:
        return parsedate_to_datetime(fields.get("date", "")).timestamp() + _age(fields)
    except (ValueError, TypeError, OverflowError):
        return None


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        return tls_context(ca_file)
    except OSError as failed:
        raise FetchFailed(f"ca_file {ca_file} cannot be used: {failed}") from None
