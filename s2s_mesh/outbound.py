"""Outbound, whatever sends: tokens for one audience, handed out for requests that go there and for no others.

Every client judges a URL in the parts that it will itself connect to: two readings of one text would let a
token go where it was not meant to.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypedDict

import httpx
from msgspec import UNSET

from .claims import check_scopes
from .client_certificate import Certificate, ClientCertificate
from .errors import ConfigError
from .identity import ServiceId
from .routes import external_path
from .settings import Settings
from .users import OnBehalfOf, given

if TYPE_CHECKING:
    from typing_extensions import Unpack

_INVALID_TOKEN = re.compile(r'\bBearer\b.*\berror="?invalid_token\b', re.IGNORECASE)
_DEFAULT_PORTS = {"https": 443, "http": 80}
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class Ring(Protocol):
    """What signs: a `Service`."""

    def load(self) -> None:
        """Make sure that a ring is in memory; may block."""

    async def load_async(self) -> None:
        """The same, off the event loop."""


class TokenSource(Ring, Protocol):
    """What makes tokens: a `Service`."""

    def token(
        self,
        audience: str,
        *,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        certificate: Certificate | None = None,
    ) -> str:
        """A token for `audience`, a new one if `once`; does not block once a ring is in memory."""

    def forget_token(
        self,
        audience: str,
        *,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        certificate: Certificate | None = None,
    ) -> None:
        """Do not hand the present token out again."""


class Caller(TokenSource, Protocol):
    """What the clients of `s2s_mesh.integrations` need of a `Service`."""

    @property
    def settings(self) -> Settings:
        """Its configuration."""


class Options(TypedDict, total=False):
    """What one may say about the tokens of an audience; see `Outbound`."""

    origins: Collection[str] | None
    scopes: Collection[str] | None
    on_behalf_of: OnBehalfOf
    once: bool
    certificate: Certificate | None
    allow_plain_http: bool


class Hop(NamedTuple):
    """Where a request goes, in the parts that its client connects to.

    Attributes:
        scheme, host: in lower case, IPv6 without brackets.
        port: None for the scheme's own.
        path: as sent, with or without its query.
    """

    scheme: str
    host: str
    port: int | None
    path: bytes

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path.partition(b'?')[0].decode('ascii', 'replace')}"


def hop_of(url: httpx.URL) -> Hop:
    """Where a request of httpx goes."""
    return Hop(url.scheme, url.host, url.port, url.raw_path)


class Destination(NamedTuple):
    """Where a token may go: an origin, and a path prefix by segment."""

    scheme: str
    host: str
    port: int
    prefix: str

    def holds(self, hop: Hop) -> bool:
        """Whether a request goes there."""
        port = hop.port or _DEFAULT_PORTS.get(hop.scheme, 0)
        if (hop.scheme, hop.host, port) != (self.scheme, self.host, self.port):
            return False
        if not self.prefix:
            return True
        path = external_path(hop.path.partition(b"?")[0])
        return path is not None and (path == self.prefix or path.startswith(self.prefix + "/"))


class Credential:
    """What requests to one audience carry.

    Args:
        tokens: makes it; a `Service`.
        audience: whom it is for.
        places: where it may go.
    """

    def __init__(self, tokens: Ring, audience: str, places: Sequence[Destination]) -> None:
        self.ring = tokens
        self._audience = audience
        self._places = places

    def holds(self, hop: Hop) -> bool:
        """Whether a request goes to the audience."""
        return any(place.holds(hop) for place in self._places)

    def check(self, hop: Hop) -> None:
        """Refuse a request that goes elsewhere, before anything is sent.

        Raises:
            ConfigError: naming both.
        """
        if not self.holds(hop):
            raise ConfigError(
                f"this auth is for {self._audience}; a request to {hop} would carry its token elsewhere. Use "
                "one that is made for the other audience, or name it in origins"
            )

    def field(self) -> str:
        """The value of Authorization; from memory where a token at hand is good for a while yet.

        Raises:
            KeyStoreError: no key to sign with.
        """
        raise NotImplementedError

    def forgets(self, status: int, challenge: str | None) -> bool:
        """Whether this answer refuses the token itself; it is then not handed out again."""
        raise NotImplementedError


class Outbound(Credential):
    """The tokens of one audience.

    Args:
        tokens: mints, keeps and renews them; a `Service`.
        audience: the service they are for.
        origins: further URLs at which it is reached, such as `http://wallets.internal:8080`.
        scopes: what to ask for; None asks for all that is granted.
        on_behalf_of: the user to call for; left out, the service calls as itself.
        once: a new token for every request and every retry, for routes with `replay = "once"`.
        certificate: a file, or its content, that the client presents in TLS; tokens are bound to it. A file
            that is replaced is noticed, and the client's TLS has to change with it (docs/certificates.md).
        allow_plain_http: let the token travel unencrypted to origins off this machine.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: an origin is not a URL, or is plain http without leave; or there is no certificate.
    """

    def __init__(
        self,
        tokens: TokenSource,
        audience: ServiceId,
        *,
        origins: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        certificate: Certificate | None = None,
        allow_plain_http: bool = False,
    ) -> None:
        given(on_behalf_of)
        super().__init__(tokens, audience, destinations(audience, origins, allow_plain_http=allow_plain_http))
        self.tokens = tokens
        self._scopes = scopes
        self._on_behalf_of = on_behalf_of
        self._once = once
        self._certificate = None if certificate is None else ClientCertificate.of(certificate)

    def field(self) -> str:
        """See `Credential`.

        Raises:
            KeyStoreError: no key to sign with.
            UserExpired: what is known of the user has expired.
        """
        token = self.tokens.token(
            self._audience,
            scopes=self._scopes,
            on_behalf_of=self._on_behalf_of,
            once=self._once,
            certificate=self._certificate,
        )
        return f"Bearer {token}"

    def forgets(self, status: int, challenge: str | None) -> bool:
        """See `Credential`: the challenge has to say so."""
        refused = is_invalid_token(status, challenge)
        if refused:
            self.tokens.forget_token(
                self._audience,
                scopes=self._scopes,
                on_behalf_of=self._on_behalf_of,
                certificate=self._certificate,
            )
        return refused


def outbound(service: Caller, audience: str, **options: Unpack[Options]) -> Outbound:
    """The tokens of `service` for `audience`, as a person wrote it.

    Raises:
        NoUser: as `Outbound`.
        ConfigError: as `Outbound`; or the audience is not a service id, or a scope is none.
    """
    if options.get("scopes") is not None:
        options["scopes"] = check_scopes(options["scopes"] or ())
    return Outbound(service, service.settings.check_audience(audience), **options)


def destinations(
    audience: str, origins: Collection[str] | None, *, allow_plain_http: bool
) -> list[Destination]:
    """Where credentials for `audience` may go; the arguments are those of `Outbound`.

    Raises:
        ConfigError: an origin is not a URL, or is plain http without leave.
    """
    if isinstance(origins, str):
        raise ConfigError("origins must be a list of URLs, not one string")
    return [destination(url, allow_plain_http=allow_plain_http) for url in (audience, *(origins or ()))]


def is_invalid_token(status: int, challenge: str | None) -> bool:
    """Whether the receiver refuses the access token itself, so that a new one may help."""
    return status == 401 and _INVALID_TOKEN.search(challenge or "") is not None


def destination(text: str, *, allow_plain_http: bool) -> Destination:
    """Where a token may go, as a URL that somebody wrote.

    Raises:
        ConfigError: it is no URL, or is plain http without leave.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL()
    if url.scheme not in _DEFAULT_PORTS or not url.host or url.query or url.fragment or url.userinfo:
        raise ConfigError(f"origin {text!r} is not a URL such as http://wallets.internal:8080")
    if url.scheme == "http" and url.host not in _LOOPBACK and not allow_plain_http:
        raise ConfigError(
            f"origin {text!r} is plain http: whoever sees the traffic could use the tokens. Use https, or "
            "pass allow_plain_http=True where the network itself is private"
        )
    # read like the paths of requests: decoded naively, %2F would make it another service's prefix
    prefix = external_path(url.raw_path.partition(b"?")[0].rstrip(b"/") or b"/")
    if prefix is None:
        raise ConfigError(f"origin {text!r} has a path that no request may have (an encoded slash, say)")
    return Destination(url.scheme, url.host, url.port or _DEFAULT_PORTS[url.scheme], prefix.rstrip("/"))
