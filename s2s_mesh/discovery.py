"""What an issuer's discovery document says about where its keys are; nothing else in it is of interest.

OpenID Connect Discovery section 4.3, RFC 8414 section 3.3; standards (a)3, R2. The document comes from a URL
that an operator wrote, and names another one: that is believed within narrow bounds only.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from .errors import JWKSInvalid
from .strict_json import NotStrictJSON, decode_object
from .trust_issuers import Accepted
from .trust_values import Unfit, is_plain_http
from .trust_values import jwks_uri as check_url


def jwks_uri(document: bytes, source: Accepted) -> str:
    """The `jwks_uri` of a discovery document.

    Args:
        document: its body; the caller bounds its length.
        source: the entry of the issuer that was asked.

    Raises:
        JWKSInvalid: not strict JSON, another issuer's document, or keys that are not over TLS at the issuer's
            own origin or one that the trust file lists for it.
    """
    try:
        members = decode_object(document)
    except NotStrictJSON as why:
        raise JWKSInvalid(f"discovery document: {why}") from None
    if members.get("issuer") != source.issuer:
        raise JWKSInvalid("discovery document: issuer is not the one that was asked, byte by byte")
    uri = members.get("jwks_uri")
    if not isinstance(uri, str):
        raise JWKSInvalid("discovery document: jwks_uri is missing or not a string")
    try:
        check_url(uri, source.allow_loopback_http)
    except Unfit as why:
        raise JWKSInvalid(f"discovery document: jwks_uri: {why}") from None
    own = origin_of(source.issuer)
    origin = origin_of(uri)
    if origin != own and origin not in source.jwks_origins:
        raise JWKSInvalid(
            "discovery document: jwks_uri is neither at the issuer's own origin nor at one of jwks_origins"
        )
    if is_plain_http(uri) and origin != own:  # the issuer's own is https, or loopback
        raise JWKSInvalid("discovery document: jwks_uri is without TLS")
    return uri


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL that passed its check."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
