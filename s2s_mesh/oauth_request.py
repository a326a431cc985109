"""What is asked of which authorization server: checked once, compared whole. Equal requests share a token."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlencode

import msgspec

from .claims import check_scopes
from .errors import ConfigError
from .trust_values import Unfit, check_issuer
from .trust_values import origin as check_origin

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,600}")  # RFC 6749 appendix A.1
_RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,600}")  # an absolute URI (RFC 8707 section 2)


class ServerSource(msgspec.Struct, frozen=True, kw_only=True):
    """An authorization server, as somebody configured it.

    Attributes:
        issuer: its identifier, exact bytes.
        endpoint_origins: where its token endpoint may be beside the issuer's own origin.
        ca_file: certificate authorities for its TLS, or None for the system's.
        allow_loopback_http: whether it may be on this machine, without TLS.
    """

    issuer: str
    endpoint_origins: frozenset[str] = frozenset()
    ca_file: str | None = None
    allow_loopback_http: bool = False


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A client credentials request (RFC 6749 section 4.4.2) without its assertion.

    Attributes:
        source: whom to ask.
        client_id: what it calls us.
        scopes: what to ask for; None leaves it to the server.
        resources: whom the token is for (RFC 8707).
        audience: the same, for servers that have a parameter of their own for it.
        legacy_audience: whether the assertion is made out to the token endpoint.
    """

    source: ServerSource
    client_id: str
    scopes: frozenset[str] | None = None
    resources: tuple[str, ...] = ()
    audience: str | None = None
    legacy_audience: bool = False

    @property
    def issuer(self) -> str:
        """The authorization server."""
        return self.source.issuer

    def form(self, assertion: str) -> bytes:
        """The body of the request, with an assertion that was made for it alone."""
        fields = [("grant_type", "client_credentials")]
        if self.scopes is not None:
            fields.append(("scope", " ".join(sorted(self.scopes))))
        fields += [("resource", resource) for resource in self.resources]
        if self.audience is not None:
            fields.append(("audience", self.audience))
        fields += [
            ("client_id", self.client_id),
            ("client_assertion_type", _ASSERTION_TYPE),
            ("client_assertion", assertion),
        ]
        return urlencode(fields).encode("ascii")


def token_request(
    issuer: str,
    *,
    client_id: str,
    scopes: Collection[str] | None,
    resource: str | Collection[str] | None,
    audience: str | None,
    endpoint_origins: Collection[str],
    ca_file: str | None,
    legacy_audience: str | None,
    allow_loopback_http: bool,
) -> TokenRequest:
    """Check what a person wrote; `oauth_client.oauth_client` says what it means.

    Raises:
        ConfigError: naming the argument, what was found and what is expected.
    """
    expected = 'expected the issuer of an authorization server such as "https://login.example.com"'
    if not isinstance(issuer, str):
        raise ConfigError(f"issuer is {issuer!r}; {expected}")
    try:
        check_issuer(issuer, allow_loopback_http, expected)
    except Unfit as why:
        raise ConfigError(f"issuer is {issuer!r}; {why}") from None
    if isinstance(endpoint_origins, str):
        raise ConfigError("endpoint_origins must be a list of origins, not one string")
    for origin in endpoint_origins:
        try:
            check_origin(origin, allow_loopback_http)
        except Unfit as why:
            raise ConfigError(f"endpoint_origins: {origin!r}; {why}") from None
    if not _is(_CLIENT_ID, client_id):
        raise ConfigError(f"client_id is {client_id!r}; expected 1 to 600 printable ASCII characters")
    resources = (resource,) if isinstance(resource, str) else tuple(resource or ())
    for uri in resources:
        if not _is(_RESOURCE, uri) or "#" in uri:
            raise ConfigError(
                f"resource {uri!r} is not an absolute URI without a fragment, such as https://api.example.com"
            )
    if audience is not None and not _is(_CLIENT_ID, audience):
        raise ConfigError(f"audience is {audience!r}; expected 1 to 600 printable ASCII characters")
    if legacy_audience not in (None, "token_endpoint"):
        raise ConfigError(f"legacy_audience is {legacy_audience!r}; expected None or 'token_endpoint'")
    return TokenRequest(
        source=ServerSource(
            issuer=issuer,
            endpoint_origins=frozenset(endpoint_origins),
            ca_file=ca_file,
            allow_loopback_http=allow_loopback_http,
        ),
        client_id=client_id,
        scopes=None if scopes is None else check_scopes(scopes),
        resources=resources,
        audience=audience,
        legacy_audience=legacy_audience is not None,
    )


def _is(form: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None
