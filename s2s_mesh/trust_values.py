"""The single values of a trust file: what each must look like. Relations between values: `trust_checks.py`.

A check is called with the text and with whether loopback is allowed. It returns nothing, or raises `Unfit`
with the words that follow "found X; " in the report.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from .errors import ConfigError
from .identity import MAX_SERVICE_ID, ServiceId
from .routes import PathTemplate
from .trust_report import did_you_mean, one_of, shown

Check = Callable[[str, bool], None]

ALGORITHMS = frozenset({"ES256", "ES384", "RS256", "PS256", "Ed25519"})
HEADER_MEMBERS = frozenset({"x5t", "x5t#S256"})  # name a certificate, which nobody here looks for
SPIFFE, ASAP = "spiffe", "asap"
PROFILES = frozenset({"jwt", SPIFFE, ASAP})
METHODS = frozenset({"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"})
SCOPE = r"^[!#-)+-\[\]-~]+$"  # RFC 6749 section 3.3, without the asterisk
ROLE = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
API_KEY_SHA256 = r"^([0-9A-Fa-f]{64}|[A-Za-z0-9_-]{43}=?)$"
ARGON2_HASH = (
    r"^\$argon2id\$v=19\$m=([1-9][0-9]{0,6}),t=([1-9][0-9]?),p=([1-9])"
    r"\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}$"
)
FIELD = r"^[A-Za-z][A-Za-z0-9-]{0,63}$"
BASIC_USER = r"^[^:\x00-\x1f\x7f]{1,128}$"  # RFC 7617 section 2
USER_AUDIENCE = r"^[!#-)+-\[\]-~]{1,255}$"
DURATION = r"^(0|[1-9][0-9]{0,5})[smh]$"
MEDIA_TYPE = r"^([Aa][Pp][Pp][Ll][Ii][Cc][Aa][Tt][Ii][Oo][Nn]/)?[A-Za-z0-9!#$&^_.+-]{1,120}$"

_UNITS = {"s": 1, "m": 60, "h": 3600}
# RFC 8725 section 3.12: kinds of tokens are mutually exclusive, so none of these is ever a bearer token
_OTHER_KINDS = frozenset(
    {"client-authentication+jwt", "dpop+jwt", "txntoken+jwt", "wit+jwt", "wpt+jwt"},
)
# fields that mean something else, to us or to what stands before us
_TAKEN_FIELDS = frozenset(
    {"authorization", "connection", "content-length", "content-type", "cookie", "dpop", "forwarded", "host"}
    | {"proxy-authorization", "transfer-encoding", "txn-token", "upgrade", "via"}
    | {"s2s-user-token", "workload-identity-token", "workload-proof-token"}
)
_MAX_SUBJECT = 600
_ARGON2_KIB, _ARGON2_PASSES = (7 * 1024, 256 * 1024), 10
_URL = re.compile(r"https?://([^/?]*)([/?].*)?")


class Unfit(ValueError):
    """The value is refused; the text says what is expected instead."""


def seconds(duration: str) -> float:
    """`"15m"` to 900.0."""
    return float(int(duration[:-1]) * _UNITS[duration[-1]])


def short_type(media_type: str) -> str:
    """`"application/AT+JWT"` to `"at+jwt"` (RFC 7515 section 4.1.9: compared without case)."""
    return media_type.lower().removeprefix("application/")


def service_id(text: str, loopback: bool) -> None:
    """Check an identifier of a service, by `ServiceId`'s own rules."""
    try:
        name = ServiceId.parse(text, allow_loopback_http=loopback)
    except ConfigError as error:
        raise Unfit(
            f'expected a service id such as "https://wallets.example.com": {_reason(error)}'
        ) from None
    _check_address(name, loopback)


def origin(text: str, loopback: bool) -> None:
    """Check an origin: scheme, host and port."""
    service_id(text, loopback)
    if ServiceId(text).path:
        raise Unfit('expected an origin such as "https://keys.example.com", without a path')


def user_audience(text: str, _loopback: bool) -> None:
    """Check a value of `aud` in users' tokens: the provider chose it, so it need not be a URL."""
    if not re.fullmatch(USER_AUDIENCE, text, re.ASCII):
        raise Unfit(
            'expected an aud of its tokens, exactly as they have it, such as "https://edge.example.com": '
            "1 to 255 characters, printable ASCII without spaces, quotes or asterisks"
        )


def user_issuer(text: str, loopback: bool) -> None:
    """Check an identity provider's issuer."""
    check_issuer(text, loopback, 'expected an issuer of users such as "https://login.example.com/"')


def check_issuer(text: str, loopback: bool, expected: str) -> None:
    """Check an issuer by RFC 8414 section 2: exact bytes, a trailing slash is part of them.

    `expected` begins the words of a refusal.
    """
    check_url(text, loopback, expected)
    if "?" in text:
        raise Unfit(f"{expected}: a query is not allowed")
    if is_plain_http(text) and not is_loopback(text):
        raise Unfit(f"{expected}: the scheme must be https")


def jwks_uri(text: str, loopback: bool) -> None:
    """Check a URL that this process will fetch. Whether http is allowed depends on the table it is in."""
    check_url(text, loopback, 'expected a URL such as "https://wallets.example.com/.well-known/jwks.json"')


def key_server(text: str, loopback: bool) -> None:
    """Check the URL below which an ASAP key server has its files."""
    expected = 'expected the base URL of a key server such as "https://asap-keys.example.com/"'
    check_url(text, loopback, expected)
    if "?" in text or not text.endswith("/"):
        raise Unfit(f"{expected}: a slash stands at its end, and no query")
    if is_plain_http(text) and not is_loopback(text):
        raise Unfit(f"{expected}: the scheme must be https")


def is_plain_http(url: str) -> bool:
    """Whether a URL that passed its check is without TLS."""
    return url.startswith("http:")


def is_loopback(url: str) -> bool:
    """Whether a URL that passed its check points at this machine by its very name."""
    host = urlsplit(url).hostname or ""
    address = _address(host)
    if address is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")


def file_name(text: str, _loopback: bool) -> None:
    """Check the name of a file: a URL is not one."""
    if not text or "\0" in text or "://" in text or text.startswith("file:"):
        raise Unfit('expected the name of a file such as "settlement.jwks.json", not a URL')


def scope(text: str, _loopback: bool) -> None:
    """Check one scope token."""
    if "*" in text:
        raise Unfit('expected one scope such as "cards:write": wildcards do not exist, list every scope')
    if " " in text.strip():
        words = ", ".join(shown(word) for word in text.split())
        raise Unfit(f'expected one scope such as "cards:write"; did you mean {words}?')
    if not re.fullmatch(SCOPE, text):
        raise Unfit(
            'expected one scope such as "cards:write" (RFC 6749 section 3.3: printable ASCII, no quotes)'
        )


def algorithm(text: str, _loopback: bool) -> None:
    """Check a signature algorithm."""
    if text in ALGORITHMS:
        return
    expected = f"expected {one_of(ALGORITHMS)}"
    if text.casefold() == "none":
        raise Unfit(f"{expected}: an unsigned token is never accepted")
    if text.casefold().startswith("hs"):
        raise Unfit(f"{expected}: shared secrets are never accepted, whoever can check them can also sign")
    if text == "EdDSA":
        raise Unfit(
            f'{expected}; did you mean "Ed25519"? An issuer whose tokens say EdDSA needs eddsa = true'
        )
    raise Unfit(expected + did_you_mean(text, ALGORITHMS))


def foreign_issuer(text: str, loopback: bool) -> None:
    """Check an issuer that is none of our services: exact bytes, and no URL if it does not want to be one."""
    if text.lower().startswith(("https:", "http:")):
        user_issuer(text, loopback)
    elif not re.fullmatch(USER_AUDIENCE, text, re.ASCII):
        raise Unfit(
            'expected the iss of its tokens, exactly, such as "https://accounts.example.com/": 1 to 255 '
            "characters, printable ASCII without spaces, quotes or asterisks"
        )


def subject(text: str, _loopback: bool) -> None:
    """Check a `sub` of a foreign issuer's tokens."""
    if not 0 < len(text) <= _MAX_SUBJECT or not text.isprintable():
        raise Unfit(
            f"expected the sub of its tokens, exactly: a printable text of 1 to {_MAX_SUBJECT} characters"
        )
    if "*" in text:
        raise Unfit("expected the sub of its tokens, exactly: wildcards do not exist, list every subject")


def claim(text: str, _loopback: bool) -> None:
    """Check the name or the value of a claim that a [[subject]] row asks for."""
    if not 0 < len(text) <= _MAX_SUBJECT or not text.isprintable():
        raise Unfit(f"expected a printable text of 1 to {_MAX_SUBJECT} characters")


def method(text: str, _loopback: bool) -> None:
    """Check an HTTP method of a route rule."""
    if text not in METHODS:
        if text.upper() == "HEAD":
            raise Unfit(f'expected {one_of(METHODS)}: HEAD counts as GET; did you mean "GET"?')
        raise Unfit(f"expected {one_of(METHODS)}" + did_you_mean(text, METHODS))


def media_type(text: str, _loopback: bool) -> None:
    """Check a `typ` that an issuer's tokens may carry."""
    if not re.fullmatch(MEDIA_TYPE, text):
        raise Unfit('expected a token type such as "at+jwt"')
    if short_type(text) in _OTHER_KINDS:
        raise Unfit('expected a type of access token such as "at+jwt": this one marks another kind of token')


def route_path(text: str, _loopback: bool) -> None:
    """Check a route template."""
    try:
        PathTemplate.parse(text)
    except ConfigError as error:
        raise Unfit(f'expected a path such as "/wallets/{{wallet_id}}/card": {_reason(error)}') from None


def check_duration(text: str) -> None:
    """Check the form of a duration."""
    if not re.fullmatch(DURATION, text):
        meant = f'; did you mean "{text}s"?' if re.fullmatch("[0-9]{1,6}", text) else ""
        raise Unfit(f'expected a duration such as "30s", "15m" or "1h"{meant}')


def duration(shortest: str, longest: str) -> Check:
    """Make a check for a duration within bounds."""

    def check(text: str, _loopback: bool) -> None:
        check_duration(text)
        if not seconds(shortest) <= seconds(text) <= seconds(longest):
            raise Unfit(f'expected a duration from "{shortest}" to "{longest}"')

    return check


def role(text: str, _loopback: bool) -> None:
    """Check the name of a role."""
    if not re.fullmatch(ROLE, text, re.ASCII):
        raise Unfit('expected a role\'s name such as "card-writer": a letter, then letters, digits, . _ -')


def api_key_sha256(text: str, _loopback: bool) -> None:
    """Check the hash of an API key."""
    if not re.fullmatch(API_KEY_SHA256, text, re.ASCII):
        raise Unfit(
            "expected the SHA-256 of a key, 64 hexadecimal digits or 43 characters of base64url, as "
            "`s2s-mesh legacy key` and `s2s-mesh legacy hash` print it"
        )


def password_argon2(text: str, _loopback: bool) -> None:
    """Check the hash of a password: how, and that one check of it costs neither too little nor too much."""
    parameters = re.fullmatch(ARGON2_HASH, text, re.ASCII)
    if parameters is None:
        raise Unfit(
            'expected an argon2id hash such as "$argon2id$v=19$m=19456,t=2,p=1$...", as '
            "`s2s-mesh legacy hash --password` prints it"
        )
    memory, passes = int(parameters[1]), int(parameters[2])
    least, most = _ARGON2_KIB
    if not least <= memory <= most or passes > _ARGON2_PASSES:
        raise Unfit(f"expected m from {least} to {most} (KiB) and t of at most {_ARGON2_PASSES}")


def field(text: str, _loopback: bool) -> None:
    """Check the name of a header field that carries a credential."""
    if not re.fullmatch(FIELD, text, re.ASCII):
        raise Unfit(
            'expected the name of a header field such as "X-Api-Key": a letter, then letters, digits, hyphens'
        )
    if text.lower() in _TAKEN_FIELDS:
        raise Unfit('expected a field of its own such as "X-Api-Key": this one has another meaning')


def basic_user(text: str, _loopback: bool) -> None:
    """Check a user name of Basic authentication."""
    if not re.fullmatch(BASIC_USER, text):
        raise Unfit("expected a user name of 1 to 128 characters, without a colon or control characters")


def choice(*allowed: str) -> Check:
    """Make a check for a member that has one of a few values."""

    def check(text: str, _loopback: bool) -> None:
        if text not in allowed:
            raise Unfit(f"expected {one_of(allowed)}" + did_you_mean(text, allowed))

    return check


def _reason(error: ConfigError) -> str:
    # the report has quoted the value already
    return re.split(r" is not a (?:service id|path template): ", str(error))[-1]


def check_url(text: str, loopback: bool, expected: str) -> None:
    """Check a URL of whatever; `expected` begins the words of a refusal."""
    if len(text) > MAX_SERVICE_ID:
        raise Unfit(f"{expected}: at most {MAX_SERVICE_ID} characters are allowed")
    if not text.isascii() or any(char <= " " or char in '\\"<>`\x7f' for char in text):
        raise Unfit(f"{expected}: only printable ASCII without spaces or backslashes is allowed")
    if "#" in text or "*" in text:
        raise Unfit(f"{expected}: a fragment or a wildcard is not allowed")
    url = _URL.fullmatch(text)
    if url is None:
        raise Unfit(f"{expected}: the scheme must be https")
    try:
        ServiceId.parse(f"https://{url[1]}")
    except ConfigError as error:
        raise Unfit(f"{expected}: {_reason(error)}") from None
    _check_address(text, loopback)


def _check_address(url: str, loopback: bool) -> None:
    """Refuse a host that could never be another service. Names are resolved and judged by the JWKS client."""
    if is_loopback(url):
        if not loopback:
            raise Unfit("expected another host: loopback needs allow_loopback_http = true in [defaults]")
        return
    address = _address(urlsplit(url).hostname or "")
    if address is not None and (
        address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
    ):
        raise Unfit(
            "expected another host: nothing is fetched from link-local, multicast or reserved addresses"
        )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # an IPv4 address in IPv6 clothes is judged as what it is
    return getattr(address, "ipv4_mapped", None) or address
