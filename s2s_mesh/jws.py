"""Compact JWS (RFC 7515 section 7.1), decoded strictly and encoded plainly. No keys, no clock, no policy.

Order and limits: standards (a)2 steps 2 to 7; RFC 8725 section 3.14.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import re
import string
from typing import Any, NamedTuple

import msgspec

from .errors import Reason, TokenRejected
from .strict_json import NotStrictJSON, decode_object

MAX_TOKEN = 8192  # which also keeps every payload below the 6 KiB of standards (a)2 step 4
MAX_HEADER = 2048
_HEADER_MEMBERS = {"alg", "kid", "typ"}
_HEADER_MEMBERS_WITHOUT_KID = {"alg", "typ"}
_KID = re.compile(r"[A-Za-z0-9._~+/=:-]{1,200}", re.ASCII)
_VALUES = (string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_").encode()
# to the standard alphabet; every foreign octet becomes "!", which that alphabet has not
_TO_STANDARD = bytes(ord("!") if octet not in _VALUES else octet for octet in range(256)).translate(
    bytes.maketrans(b"-_", b"+/")
)
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_CLOSING = (b'"', b'"', b'=="', b'="')
# by length modulo 4: the last characters whose unused bits are zero (RFC 4648 section 3.5)
_LAST = (frozenset(_VALUES), frozenset[int](), frozenset(_VALUES[::16]), frozenset(_VALUES[::4]))
_octets = msgspec.json.Decoder(bytes).decode


class Header(NamedTuple):
    """The protected header; as a rule it has no other member.

    Attributes:
        alg: as written, case-sensitive.
        kid: characters and length checked, content foreign; "" in kinds of token that have none.
        typ: as a media type: lower case, without `application/` (RFC 7515 section 4.1.9); "" where it may be
            left out and is.
        beside: names of other members, which some issuer may have; their values are nothing to us.
    """

    alg: str
    kid: str
    typ: str
    beside: frozenset[str] = frozenset()


class DecodedJWS(msgspec.Struct, frozen=True, gc=False):
    """A well-formed compact JWS. Nothing in it is authentic yet.

    Attributes:
        header: the protected header.
        claims: the payload, a JSON object, decoded from exactly the bytes that the signature covers.
        signing_input: what the signature covers (RFC 7515 section 5.2 step 8).
        signature: raw bytes.
    """

    header: Header
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes


def b64url_encode(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515 section 2)."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL_SAFE).rstrip(b"=")


def token_hash(token: bytes) -> str:
    """Base64url of a token's SHA-256, to bind one token to another: `ath`, `wth`, `tth`, `oth`."""
    return b64url_encode(hashlib.sha256(token).digest()).decode()


def b64url_decode(segment: bytes) -> bytes:
    """Decode base64url in its one canonical spelling (RFC 4648 section 3.5).

    Raises:
        ValueError: padding, foreign characters, or unused bits that are not zero.
    """
    rest = len(segment) % 4
    if segment and segment[-1] not in _LAST[rest]:
        raise ValueError("not canonical base64url")
    # msgspec reads base64 faster than the standard library, and refuses what that skips
    try:
        return _octets(b'"' + segment.translate(_TO_STANDARD) + _CLOSING[rest])
    except msgspec.MsgspecError:
        raise ValueError("not canonical base64url") from None


def decode(
    token: bytes, with_kid: bool = True, typ_required: bool = True, beside: frozenset[str] = frozenset()
) -> DecodedJWS:
    """Take a compact JWS apart, strictly.

    Args:
        token: all of it.
        with_kid: whether this kind of token names its key in `kid`; where not, it must have none.
        typ_required: False for tokens of identity providers, many of which leave `typ` out.
        beside: other header members that are let pass; the caller checks whether this issuer may have them.

    Raises:
        TokenRejected: naming the first thing that is wrong with its form.
    """
    if len(token) > MAX_TOKEN:
        raise TokenRejected(Reason.TOKEN_TOO_LARGE, f"{len(token)} bytes; at most {MAX_TOKEN}")
    signing_input, _, signature_part = token.rpartition(b".")
    header_part, _, payload_part = signing_input.partition(b".")
    if not (header_part and payload_part and signature_part) or b"." in payload_part:
        raise TokenRejected(Reason.NOT_A_COMPACT_JWS, "expected three non-empty parts between two dots")
    header = parse_header(header_part, with_kid, typ_required, beside)
    try:
        payload = b64url_decode(payload_part)
        signature = b64url_decode(signature_part)
    except ValueError:
        raise TokenRejected(Reason.BAD_BASE64, "payload or signature is not canonical base64url") from None
    try:
        claims = decode_object(payload)
    except NotStrictJSON as why:
        raise TokenRejected(Reason.BAD_JSON, f"payload: {why}") from None
    return DecodedJWS(header, claims, signing_input, signature)


@functools.lru_cache(maxsize=1024)
def parse_header(
    segment: bytes, with_kid: bool = True, typ_required: bool = True, beside: frozenset[str] = frozenset()
) -> Header:
    """Parse a header segment; a caller sends the same one with every token, so the last 1024 are kept.

    Raises:
        TokenRejected: see `decode`.
    """
    try:
        raw = b64url_decode(segment)
    except ValueError:
        raise TokenRejected(Reason.BAD_BASE64, "header is not canonical base64url") from None
    if len(raw) > MAX_HEADER:
        raise TokenRejected(Reason.TOKEN_TOO_LARGE, f"header of {len(raw)} bytes; at most {MAX_HEADER}")
    try:
        members = decode_object(raw)
    except NotStrictJSON as why:
        raise TokenRejected(Reason.BAD_JSON, f"header: {why}") from None
    more = members.keys() - (_HEADER_MEMBERS if with_kid else _HEADER_MEMBERS_WITHOUT_KID)
    if not more <= beside:
        allowed = "alg, kid and typ" if with_kid else "alg and typ"
        raise TokenRejected(Reason.HEADER_MEMBER, f"only {allowed} are allowed")
    alg, kid = members.get("alg"), members.get("kid", None if with_kid else "")
    typ = members.get("typ", None if typ_required else "")
    if not isinstance(alg, str):
        raise TokenRejected(Reason.BAD_ALGORITHM, "alg is missing or not a string")
    if not isinstance(kid, str) or (with_kid and not _KID.fullmatch(kid)):
        raise TokenRejected(Reason.BAD_KID, "kid is missing, too long, or has characters no key id has")
    short = typ.lower().removeprefix("application/") if isinstance(typ, str) and typ.isascii() else ""
    # an empty one is there nevertheless, and no media type
    if not short and (typ_required or "typ" in members):
        raise TokenRejected(Reason.BAD_TYPE, "typ is missing or not a media type")
    return Header(alg, kid, short, frozenset(more))


def is_kid(text: object) -> bool:
    """Whether `text` has the form of a key id: 1 to 200 characters that are safe to log and to look up."""
    return isinstance(text, str) and _KID.fullmatch(text) is not None
