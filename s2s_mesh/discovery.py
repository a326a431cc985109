"""What an issuer's metadata says about where something is.

OpenID Connect Discovery section 4.3, RFC 8414 section 3.3; standards (a)3, R2. The document comes from a URL
that an operator wrote, and names another one: that is believed within narrow bounds only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from .errors import JWKSInvalid
from .strict_json import NotStrictJSON, decode_object
from .trust_issuers import Accepted
from .trust_values import Unfit, check_url, is_plain_http


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
        return url_in(
            own_members(document, source.issuer),
            "jwks_uri",
            source.issuer,
            elsewhere=source.jwks_origins,
            listed_in="jwks_origins",
            loopback=source.allow_loopback_http,
        )
    except Unfit as why:
        raise JWKSInvalid(f"discovery document: {why}") from None


def own_members(document: bytes, issuer: str) -> dict[str, Any]:
    """The members of a metadata document of an issuer.

    Args:
        document: its body; the caller bounds its length.
        issuer: who was asked.

    Raises:
        Unfit: not strict JSON, or another issuer's document.
    """
    try:
        members = decode_object(document)
    except NotStrictJSON as why:
        raise Unfit(str(why)) from None
    if members.get("issuer") != issuer:
        raise Unfit("issuer is not the one that was asked, byte by byte")
    return members


def url_in(
    members: Mapping[str, Any],
    name: str,
    issuer: str,
    *,
    elsewhere: Collection[str],
    listed_in: str,
    loopback: bool,
) -> str:
    """A URL that an issuer's metadata names.

    Args:
        members: of the document.
        name: of the member.
        issuer: whose document it is; its own origin is fine.
        elsewhere: other origins that are.
        listed_in: where an operator lists those.
        loopback: whether the issuer may be on this machine, without TLS.

    Raises:
        Unfit: it is missing, no URL, at another origin, or without TLS.
    """
    url = members.get(name)
    if not isinstance(url, str):
        raise Unfit(f"{name} is missing or not a string")
    try:
        check_url(url, loopback, "expected a URL")
    except Unfit as why:
        raise Unfit(f"{name}: {why}") from None
    own, origin = origin_of(issuer), origin_of(url)
    insecure = is_plain_http(url) and origin != own  # the issuer's own is https, or loopback
    if origin != own and origin not in elsewhere:
        also = ", and without TLS" if insecure else ""
        raise Unfit(f"{name} is neither at the issuer's own origin nor at one of {listed_in}{also}")
    if insecure:
        raise Unfit(f"{name} is without TLS")
    return url


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL that passed its check."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
