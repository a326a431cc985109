"""Who calls: service identifiers, verified principals, and the end users they may carry."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import msgspec

from .errors import ConfigError

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>[^/:\[\]]*|\[[0-9a-f:.]+\])(?P<port>:[0-9]+)?(?P<path>/.*)?",
    re.ASCII,
)
_USER_INFO = re.compile(r"//[^/?#]*@")
_DEFAULT_PORT = {"https": 443, "http": 80}
_LOOPBACK_HOSTS = {"127.0.0.1", "[::1]", "localhost"}
MAX_SERVICE_ID = 512
_MAX_SUBJECT = 600
_MAX_TEXT = 256
_MAX_AMR = 16
_JWT = re.compile(r"[A-Za-z0-9_-]{1,8192}\.[A-Za-z0-9_-]{1,8192}\.[A-Za-z0-9_-]{1,8192}", re.ASCII)
_SECRET = frozenset({"user_token", "txn_token"})


def redacted(url: str) -> str:
    """The URL without its user info, which may be a password, for messages and logs."""
    return _USER_INFO.sub("//***@", url)


class ServiceId(str):
    """The name of a service: an https URL such as `https://wallets.example.com`, compared byte by byte.

    Lower-case ASCII host (A-labels), optional port and path; no trailing slash, default port, query,
    fragment or user info (RFC 8414 section 2, RFC 9068 section 4). A `ServiceId` is a `str`, so it
    compares and serialises as one.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str, *, allow_loopback_http: bool = False) -> ServiceId:
        """Check `text` and return it as a `ServiceId`.

        Args:
            text: the identifier as configured.
            allow_loopback_http: also accept `http://127.0.0.1:PORT`, for demos and tests on one machine.

        Raises:
            ConfigError: naming what is wrong with it and what is expected.
        """
        if not isinstance(text, str) or not text:
            raise ConfigError("a service id is empty; expected a URL such as https://wallets.example.com")
        if len(text) > MAX_SERVICE_ID:
            raise ConfigError(f"a service id of {len(text)} characters; at most {MAX_SERVICE_ID} are allowed")

        def refuse(problem: str) -> ConfigError:
            return ConfigError(f"{redacted(text)!r} is not a service id: {problem}")

        if not text.isascii() or any(c <= " " or c in '\\"<>`\x7f' for c in text):
            raise refuse(
                "only printable ASCII without spaces or backslashes is allowed (write IDNs as A-labels)"
            )
        if "*" in text:
            raise refuse("wildcards do not exist; list every service")
        for char, name in (("?", "a query"), ("#", "a fragment"), ("@", "user info")):
            if char in text:
                raise refuse(f"{name} is not allowed")
        match = _URL.fullmatch(text)
        if match is None:
            raise refuse("expected https://HOST[:PORT][/PATH], scheme in lower case")
        scheme, host, port, path = match.group("scheme", "host", "port", "path")
        cls._check_host(host, refuse)
        if port is not None:
            number = int(port[1:])
            if not 0 < number < 65536 or port != f":{number}":
                raise refuse(f"port {port[1:]} is not a port number")
            if number == _DEFAULT_PORT.get(scheme):
                raise refuse(f"leave the default port out: {scheme}://{host}{path or ''}")
        if scheme != "https" and not (scheme == "http" and host in _LOOPBACK_HOSTS and allow_loopback_http):
            if scheme == "http" and host in _LOOPBACK_HOSTS:
                raise refuse(
                    "plain http on loopback needs allow_loopback_http = true, in [defaults] of the trust file"
                )
            raise refuse("the scheme must be https")
        if path is not None:
            if path.endswith("/"):
                raise refuse(f"no trailing slash: {text.rstrip('/')}")
            for segment in path[1:].split("/"):
                # an escape of a character that needs none is a second spelling, and may hide ".."
                if segment in {"", ".", ".."} or quote(unquote_to_bytes(segment), safe="") != segment:
                    raise refuse(f"path segment {segment!r} is not allowed")
        return cls(text)

    @staticmethod
    def _check_host(host: str, refuse: Any) -> None:
        if host.startswith("["):
            try:
                address = ipaddress.IPv6Address(host[1:-1])
            except ValueError:
                raise refuse(f"host {host} is not an IPv6 address") from None
            # Python 3.13 spells these otherwise than 3.12 does
            if address.ipv4_mapped is not None:
                raise refuse(f"host {host} is a disguised IP address")
            if host != f"[{address.compressed}]":
                raise refuse(f"write the host as [{address.compressed}]")
            return
        if host != host.lower():
            raise refuse(f"write the host in lower case: {host.lower()}")
        if not _HOST.fullmatch(host) or len(host) > 253:
            raise refuse(f"host {host!r} is not a host name")
        # inet_aton spellings of an address (2130706433, 0x7f.1, 127.1) are other names for the same host
        if re.fullmatch(r"(?:0x[0-9a-f]*|[0-9]+)", host.rsplit(".", 1)[-1]):
            try:
                ipaddress.IPv4Address(host)
            except ValueError:
                raise refuse(f"host {host!r} is a disguised IP address") from None

    @property
    def origin(self) -> str:
        """Scheme, host and port: `https://wallets.example.com`."""
        return self[: len(self) - len(self.path)]

    @property
    def path(self) -> str:
        """The path with its leading slash, or an empty string."""
        start = self.find("/", self.index("://") + 3)
        return "" if start < 0 else self[start:]


class Actor(msgspec.Struct, frozen=True, gc=False):
    """One entry of an `act` claim (RFC 8693 section 4.1); for a service, both are its id."""

    issuer: str
    subject: str


class EndUser(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An end user on whose behalf a service calls. Never the caller itself.

    A value: whoever wants to call for the user hands it on. Its tokens are in no repr.

    Attributes:
        issuer: the identity provider (exact bytes, may end in a slash).
        subject: the user's id at that provider; means nothing without `issuer`.
        expires_at: Unix seconds; no token made for the user lives longer.
        auth_time, acr, amr: when and how the user logged in, as the identity provider said
            (RFC 9068 section 2.2.1); handed on unchanged.
        txn: id of the transaction (RFC 8417 section 2.2), or None.
        mode: how the receiver knows: "asserted" by the caller, or what the route wanted instead.
        carried_by: the service that carried the user here, verified: the caller of the request. None where
            this service met the user itself.
        unverified_history: services before that one, the latest first, as it claims. For people who read
            logs, never for decisions (RFC 8693 section 4.1).
        user_token: the user's own JWT, or None; `service.transport` sends it along.
        txn_token: the transaction token, or None; `service.transport` sends it along.

    Raises:
        ConfigError: a value that no token could carry.
    """

    issuer: str
    subject: str
    expires_at: float
    auth_time: int | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()
    txn: str | None = None
    mode: str = "asserted"
    carried_by: str | None = None
    unverified_history: tuple[Actor, ...] = ()
    user_token: str | None = None
    txn_token: str | None = None

    def __post_init__(self) -> None:
        texts = {"issuer": MAX_SERVICE_ID, "subject": _MAX_SUBJECT, "acr": _MAX_TEXT, "txn": _MAX_TEXT}
        for name, longest in texts.items():
            value = getattr(self, name)
            if not _is_text(value, longest) and not (value is None and name in ("acr", "txn")):
                raise ConfigError(f"{name} of a user must be a printable text of 1 to {longest} characters")
        # type() and not isinstance(): True is an int in Python
        if self.auth_time is not None and (type(self.auth_time) is not int or self.auth_time < 0):
            raise ConfigError("auth_time of a user must be whole Unix seconds")
        if type(self.expires_at) not in (int, float):
            raise ConfigError("expires_at of a user must be Unix seconds")
        for name in _SECRET:
            token = getattr(self, name)
            if token is not None and not (isinstance(token, str) and _JWT.fullmatch(token)):
                raise ConfigError(f"{name} of a user must be a JWT: three parts of base64url")
        amr = self.amr
        if type(amr) is not tuple or len(amr) > _MAX_AMR or not all(_is_text(one, _MAX_TEXT) for one in amr):
            raise ConfigError(f"amr of a user must be a tuple of at most {_MAX_AMR} printable texts")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"EndUser({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        members = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, "***" if name in _SECRET and value else value) for name, value in members]


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The verified caller of one request; immutable, may be shared by many requests.

    Attributes:
        issuer: the calling service, from the verified `iss`; for an old credential, from its [[legacy]] row;
            for the token of a foreign issuer, from its [[subject]] row.
        subject: the token's `sub`: the service itself or, where a user is carried, the user's id, which means
            nothing without the identity provider. Decide by `issuer` and `user`.
        audience: which of our own identifiers the token was made for.
        scopes: what the token asks for, cut down to what trust.toml grants the pair.
        kid: the key that signed.
        expires_at: Unix seconds, the token's own `exp`.
        claims: all verified claims, deeply immutable (mappings and tuples).
        user: the end user, or None when the service acts as itself.
        credential: what the caller showed: "token", or "api_key" or "basic" for an old credential, which has
            no `kid` (""), no `claims` (empty), and expires with its row.
        vouched_by: the foreign issuer that signed for this service, or None where that signed for itself;
            then `subject` is what that issuer calls the service.
    """

    issuer: str
    subject: str
    audience: str
    scopes: frozenset[str]
    kid: str
    expires_at: int
    claims: Mapping[str, Any]
    user: EndUser | None = None
    credential: str = "token"
    vouched_by: str | None = None

    @property
    def is_authenticated(self) -> bool:
        """Always true; Starlette's user protocol."""
        return True

    @property
    def display_name(self) -> str:
        """The issuer; Starlette's user protocol."""
        return self.issuer

    @property
    def identity(self) -> str:
        """The issuer; Starlette's user protocol."""
        return self.issuer


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


_OPEN = {dict, list}


def freeze(value: Any) -> Any:
    """Return JSON data as mappings and tuples that nobody can change."""
    kind = type(value)
    if kind is dict:
        if _OPEN.isdisjoint(map(type, value.values())):
            return MappingProxyType(value.copy())  # most claims are flat, and calls would cost more
        return MappingProxyType({name: freeze(member) for name, member in value.items()})
    if kind is list:
        return tuple(freeze(member) for member in value)
    return value
