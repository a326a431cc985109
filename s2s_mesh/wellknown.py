"""What we serve about ourselves: JWKS and discovery documents, without a framework.

Built from configuration and the ring in memory, never from the Host header (I-R4) and never from Redis
(I-R3). Until a ring is loaded the answer is 503: an empty set would mean that every key is revoked (I-K5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from . import asap, spiffe_bundle
from .identity import ServiceId
from .keyring import KeyRing
from .rotation import RotationSchedule
from .strict_json import encode

JWKS = "/.well-known/jwks.json"
OPENID_CONFIGURATION = "/.well-known/openid-configuration"
AUTHORIZATION_SERVER = "/.well-known/oauth-authorization-server"
DOCUMENTS = (JWKS, OPENID_CONFIGURATION, AUTHORIZATION_SERVER)
ASAP_KEY = asap.KEYS + "/{key:path}"  # as routers write it
_RETRY_AFTER = 1  # seconds
_COMMON = {"access-control-allow-origin": "*", "x-content-type-options": "nosniff"}


class Answer(NamedTuple):
    """An HTTP answer: status, header fields with lower-case names, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Documents(NamedTuple):
    """The documents of one ring from `since` until `until`; entity tag and body by document."""

    ring: KeyRing
    since: float
    until: float
    by_path: Mapping[str, tuple[str, bytes]]


class WellKnown:
    """Serves the documents of one issuer.

    Args:
        issuer: ourselves.
        schedule: names the `max-age`.
        spiffe: whether the keys are also served as a SPIFFE bundle.
        asap_issuer: under which each key is also served for ASAP receivers, or None for not at all.
    """

    def __init__(
        self,
        issuer: ServiceId,
        schedule: RotationSchedule,
        *,
        spiffe: bool = False,
        asap_issuer: str | None = None,
    ) -> None:
        self.issuer = issuer
        self._spiffe = spiffe
        self._asap_issuer = asap_issuer
        self._max_age = max(int(schedule.served_max_age), 1)
        self._memo: _Documents | None = None
        self.documents: tuple[str, ...] = (
            *DOCUMENTS,
            *([spiffe_bundle.DOCUMENT] if spiffe else []),
            *([ASAP_KEY] if asap_issuer is not None else []),
        )
        # decoded, as servers hand paths on
        self._below = unquote(issuer.path)
        self.absolute_paths: Mapping[str, str] = {
            unquote(path): document for path, document in absolute_paths(issuer, self.documents).items()
        }

    def document_at(self, path: str) -> str | None:
        """Which document is at a path, decoded, on the host or below the issuer's; None for none of ours."""
        if path in self.documents:
            return path
        found = self.absolute_paths.get(path)
        if found is None and self._asap_issuer is not None:
            for folder in {asap.KEYS + "/", self._below + asap.KEYS + "/"}:
                key = path.removeprefix(folder)
                if asap.is_path(key):  # which a path that begins with a slash is not
                    return asap.KEYS + "/" + key
        return found

    def answer(
        self,
        document: str,
        ring: KeyRing | None,
        now: float,
        *,
        method: str,
        if_none_match: str | None = None,
    ) -> Answer:
        """Answer GET or HEAD for one of `documents`; 404 for an ASAP key that is not published now.

        Args:
            document: which; of the ASAP keys, the path of one.
            ring: the snapshot in memory, or None before the first load. One whose keys have all run out
                (the store has been away for longer than a period) is none either.
            now: Unix seconds.
            method: GET or HEAD; anything else gets 405.
            if_none_match: that request header, if any.
        """
        if method not in ("GET", "HEAD"):
            return Answer(405, {**_COMMON, "allow": "GET, HEAD", "content-length": "0"}, b"")
        if ring is None or ring.expired(now):
            body = b'{"title":"There is no usable key ring just now","status":503}'
            headers = {"retry-after": str(_RETRY_AFTER), "cache-control": "no-store"}
            return _finished(503, headers, "application/problem+json", body, method)
        found = self._documents(ring, now).get(document)
        if found is None:
            # kept by no cache: the key may be published in a moment
            body = b'{"title":"There is no such key","status":404}'
            return _finished(404, {"cache-control": "no-store"}, "application/problem+json", body, method)
        etag, body = found
        headers = {"cache-control": f"public, max-age={self._max_age}", "etag": etag}
        if if_none_match is not None and _matches(if_none_match, etag):
            return Answer(304, {**_COMMON, **headers}, b"")
        kind = "application/jwk-set+json" if document == JWKS else "application/json"
        if document.startswith(asap.KEYS):
            kind = asap.PEM
        return _finished(200, headers, kind, body, method)

    def _documents(self, ring: KeyRing, now: float) -> Mapping[str, tuple[str, bytes]]:
        memo = self._memo
        if memo is None or memo.ring is not ring or not memo.since <= now < memo.until:
            jwks = ring.jwks(now)
            metadata = self._metadata(sorted({key.alg for key in jwks.keys.values()}))
            bodies = {JWKS: jwks.to_bytes(), OPENID_CONFIGURATION: metadata, AUTHORIZATION_SERVER: metadata}
            if self._spiffe:
                bodies[spiffe_bundle.DOCUMENT] = spiffe_bundle.to_bytes(ring, now)
            if self._asap_issuer is not None:
                for key in jwks.keys.values():
                    path = asap.KEYS + "/" + asap.key_id(self._asap_issuer, key.kid)
                    bodies[path] = key.to_pem().encode()
            by_path = {document: (_etag(body), body) for document, body in bodies.items()}
            memo = self._memo = _Documents(ring, now, ring.next_change(now), by_path)
        return memo.by_path

    def _metadata(self, algorithms: list[str]) -> bytes:
        """The minimum that relying parties read (standards (d)); members without elements are left out."""
        return encode(
            {
                "issuer": self.issuer,
                "jwks_uri": self.issuer + JWKS,
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                **({"id_token_signing_alg_values_supported": algorithms} if algorithms else {}),
                "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"],
                "scopes_supported": ["openid"],
            }
        )


def absolute_paths(issuer: ServiceId, documents: Iterable[str]) -> dict[str, str]:
    """Documents of an issuer by their path on its host, as URLs have it."""
    return {
        **{issuer.path + document: document for document in documents},
        # an issuer with a path also has RFC 8414's form (section 3.1)
        AUTHORIZATION_SERVER + issuer.path: AUTHORIZATION_SERVER,
    }


def of_parameters(document: str, parameters: Mapping[str, str]) -> str:
    """The document that a router found by one of `documents`: with the path of an ASAP key put in."""
    return asap.KEYS + "/" + parameters["key"].lstrip("/") if document == ASAP_KEY else document


def _finished(status: int, headers: Mapping[str, str], kind: str, body: bytes, method: str) -> Answer:
    headers = {**_COMMON, **headers, "content-type": kind, "content-length": str(len(body))}
    return Answer(status, headers, b"" if method == "HEAD" else body)


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison, as RFC 9110 section 13.1.2 has it for If-None-Match."""
    candidates = [candidate.strip() for candidate in if_none_match.split(",")]
    return "*" in candidates or any(candidate.removeprefix("W/") == etag for candidate in candidates)
