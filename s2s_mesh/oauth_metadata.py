"""What an authorization server says of itself (RFC 8414, OpenID Connect Discovery): where its tokens are.

The document comes from a URL that an operator wrote. Nothing in it is believed but the address of the token
endpoint, within narrow bounds, and what makes a request hopeless.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from .discovery import origin_of, own_members, url_in
from .errors import ConfigError, OAuthError
from .oauth_request import ServerSource
from .trust_values import Unfit

MAX_BODY = 64 * 1024
_METHOD = "private_key_jwt"
_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")


class AuthorizationServer(msgspec.Struct, frozen=True, kw_only=True):
    """An authorization server that takes assertions.

    Attributes:
        issuer: as configured, which is as the document has it.
        token_endpoint: a URL.
        algorithms: what assertions may be signed with, or None where it does not say.
    """

    issuer: str
    token_endpoint: str
    algorithms: frozenset[str] | None

    def check_algorithm(self, algorithm: str) -> None:
        """Refuse to send what cannot be accepted.

        Raises:
            ConfigError: naming what would be.
        """
        if self.algorithms is not None and algorithm not in self.algorithms:
            raise ConfigError(
                f"{self.issuer} takes assertions that are signed with {_listed(self.algorithms)}, and the "
                f"key that signs here is for {algorithm}: rotate to one of those (S2S_MESH_ALGORITHM, then "
                "`s2s-mesh keys rotate`)"
            )


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where the document may be, in the order in which it is looked for.

    RFC 8414 section 3.1 puts its path between host and path of the issuer; OpenID Connect Discovery section 4
    appends its own. A slash at the end of the issuer is left out in both.
    """
    origin, whole = origin_of(issuer), issuer.removesuffix("/")
    return (
        f"{origin}/.well-known/oauth-authorization-server{whole[len(origin) :]}",
        f"{whole}/.well-known/openid-configuration",
    )


def parse(document: bytes, source: ServerSource) -> AuthorizationServer:
    """Read a metadata document.

    Args:
        document: its body.
        source: the server that was asked.

    Raises:
        OAuthError: not strict JSON, another issuer's document (RFC 8414 section 3.3), or a token endpoint
            that is not over TLS at the issuer's own origin or one of `endpoint_origins`.
        ConfigError: the server takes no assertions.
    """
    issuer = source.issuer
    if len(document) > MAX_BODY:
        raise OAuthError(issuer, f"its metadata has more than {MAX_BODY} bytes")
    try:
        members = own_members(document, issuer)
        endpoint = url_in(
            members,
            "token_endpoint",
            issuer,
            elsewhere=source.endpoint_origins,
            listed_in="endpoint_origins",
            loopback=source.allow_loopback_http,
        )
        methods = _strings(members, "token_endpoint_auth_methods_supported")
        algorithms = _strings(members, "token_endpoint_auth_signing_alg_values_supported")
    except Unfit as why:
        raise OAuthError(issuer, f"its metadata: {why}") from None
    if methods is not None and _METHOD not in methods:
        raise ConfigError(
            f"{issuer} does not take {_METHOD}, by which a service authenticates with its own key; its "
            f"metadata names {_listed(methods)}"
        )
    return AuthorizationServer(issuer=issuer, token_endpoint=endpoint, algorithms=algorithms)


def _strings(members: dict[str, Any], name: str) -> frozenset[str] | None:
    values = members.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Unfit(f"{name} is not a list of strings")
    return frozenset(values)


def _listed(names: frozenset[str]) -> str:
    """At most ten of them, and none that could be anything but a name."""
    return ", ".join(sorted(filter(_NAME.fullmatch, names))[:10]) or "nothing"
