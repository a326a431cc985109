"""Whose tokens are accepted, on what terms, and where their keys are: services, others that vouch for them,
and identity providers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UNSET

from .identity import ServiceId
from .trust_format import DefaultsTable, ForeignIssuerTable, IssuerTable, SourceTable, UserIssuerTable
from .trust_profiles import ALGORITHMS, SETTLED
from .trust_values import seconds, short_type

_DISCOVERY = "/.well-known/openid-configuration"
_CONVERTED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "algorithms": ("algorithms", frozenset),
    "typ": ("types", lambda types: frozenset(map(short_type, types))),
    "leeway": ("leeway", seconds),
    "max_token_life": ("max_token_life", seconds),
}


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What is accepted from an issuer, the defaults merged in.

    Attributes:
        algorithms: what its tokens may be signed with.
        types: what their `typ` may be, lower-case, without `application/`.
        leeway: seconds by which clocks may differ.
        max_token_life: seconds, the longest `exp - iat`.
        jwks_uri: where its keys are fetched, or None if they come from elsewhere.
        jwks_file: a local file with its keys, or None. As written in the file; `TrustFile` makes it absolute.
        discovery: whether the issuer's own discovery document says where its keys are.
        jwks_origins: origins that this document may name beside the issuer's own.
        ca_file: certificate authorities for its TLS, or None for the system's; a path like `jwks_file`.
        header_members: what its tokens may have in their header beside alg, kid and typ.
        eddsa: whether its tokens and keys may call Ed25519 by its older name, EdDSA.
        allow_loopback_http: whether loopback may be fetched from; from [defaults].
        asap_key_servers: base URLs of key servers that have each key in a file of its own, or none.
        asap_key: which of these is meant, its path there; "" for none.
    """

    issuer: str
    algorithms: frozenset[str] = frozenset({"ES256", "RS256"})
    types: frozenset[str] = frozenset({"at+jwt"})
    leeway: float = 30.0
    max_token_life: float = 900.0
    jwks_uri: str | None = None
    jwks_file: str | None = None
    discovery: bool = False
    jwks_origins: frozenset[str] = frozenset()
    ca_file: str | None = None
    eddsa: bool = False
    header_members: frozenset[str] = frozenset()
    allow_loopback_http: bool = False
    asap_key_servers: tuple[str, ...] = ()
    asap_key: str = ""

    @property
    def place(self) -> str:
        """Where its keys are, for people."""
        return self.jwks_file or self.keys_url or " or ".join(self.asap_key_servers)

    @property
    def keys_url(self) -> str | None:
        """Where asking for its keys begins: `jwks_uri`, or its discovery document; None for a local file or
        an ASAP key server.

        A slash at the end of the issuer is left out there (OpenID Connect Discovery section 4.1).
        """
        if self.discovery:
            return self.issuer.removesuffix("/") + _DISCOVERY
        return self.jwks_uri

    @property
    def assumed_algorithms(self) -> frozenset[str]:
        """What a key that names no `alg` may be for; a service's key always names it."""
        return frozenset()

    @property
    def terms(self) -> tuple[object, ...]:
        """From where its keys are, who vouches for that place, and how they are read.

        Keys that were had on other terms are not its keys.
        """
        return (
            *(self.keys_url, self.asap_key_servers, self.jwks_file, self.jwks_origins, self.ca_file),
            *(self.profile, self.assumed_algorithms, self.eddsa),
        )

    @property
    def shared_place(self) -> str:
        """The `terms` of keys from a URL, as processes with different trust files tell them to each other."""
        told = [*sorted(self.assumed_algorithms), *(["eddsa"] if self.eddsa else [])]
        told += [*([] if self.profile == "jwt" else [self.profile]), *sorted(self.jwks_origins)]
        return " ".join([self.keys_url or "", *told, *([self.ca_file] if self.ca_file else [])])

    @property
    def profile(self) -> str:
        """Whose rules its keys follow: "jwt" is a JWKS for JWTs."""
        return "jwt"


class IssuerTrust(Accepted, frozen=True, kw_only=True):
    """One calling service. Its keys come from one of `jwks_uri`, `jwks_file` and `discovery`.

    Attributes:
        issuer: compared byte by byte with `iss`.
        allow_plain_http: whether `jwks_uri` may be http off this machine.
    """

    issuer: ServiceId
    allow_plain_http: bool = False


class ForeignIssuer(Accepted, frozen=True, kw_only=True):
    """An issuer that is none of our services and vouches for some: an authorization server, a cluster.

    Whom its tokens mean is said by [[subject]] rows. Its keys as an `IssuerTrust`'s.

    Attributes:
        issuer: exact bytes, compared with `iss`; need not be a URL.
        profile: whose rules its tokens and its keys follow: "jwt"; "spiffe" for a trust domain, whose keys
            are in a bundle and whose JWT-SVIDs are found by `sub`, name no `iss` and need no `iat`; or
            "asap", whose keys are PEM files on key servers and whose tokens need no `sub`.
        types: "jwt" does not include tokens without `typ`.
        audiences: what it calls our services, and which service that is.
        multi_aud: whether `aud` may name others as well.
        allow_missing_typ: whether a token without `typ` counts as a "jwt".
        allow_missing_jti: whether a token may be without `jti`.
        keys_without_alg: whether a key may be without `alg`.
        ignore_scope: whether `scope` means nothing to us.
    """

    profile: str = "jwt"
    audiences: Mapping[str, ServiceId] = MappingProxyType({})
    multi_aud: bool = False
    allow_missing_typ: bool = False
    allow_missing_jti: bool = False
    keys_without_alg: bool = False
    ignore_scope: bool = False

    @property
    def assumed_algorithms(self) -> frozenset[str]:
        """The accepted ones, where its keys may be without `alg`."""
        return self.algorithms if self.keys_without_alg else frozenset()


class UserIssuer(Accepted, frozen=True, kw_only=True):
    """An identity provider: whose users' tokens are evidence of a user. Its keys as an `IssuerTrust`'s.

    Attributes:
        issuer: exact bytes, may end in a slash.
        audiences: one of them must stand in `aud`: ids of services, or whatever the provider calls these.
        multi_aud: whether `aud` may name others as well.
        types: "jwt" includes tokens without `typ`, which many providers send.
    """

    audiences: frozenset[str]
    multi_aud: bool = False
    types: frozenset[str] = frozenset({"at+jwt", "jwt"})
    max_token_life: float = 3600.0

    @property
    def assumed_algorithms(self) -> frozenset[str]:
        """The accepted ones: some providers leave `alg` out of their key sets."""
        return self.algorithms


def issuer_trust(issuer: ServiceId, table: IssuerTable, defaults: DefaultsTable) -> IssuerTrust:
    """The entry of a service: what its table says, and [defaults] where that says nothing."""
    return IssuerTrust(
        issuer=issuer,
        allow_plain_http=table.allow_plain_http,
        **_keys(issuer, table),
        **_accepted(defaults, table),
        allow_loopback_http=defaults.allow_loopback_http,
    )


def foreign_issuer(issuer: str, table: ForeignIssuerTable, defaults: DefaultsTable) -> ForeignIssuer:
    """The entry of a foreign issuer, likewise."""
    # how long tokens live there is decided by somebody else, so [defaults] does not speak for it
    general = msgspec.structs.replace(defaults, max_token_life=UNSET)
    profile = "jwt" if table.profile is UNSET else table.profile
    entry = ForeignIssuer(
        issuer=issuer,
        profile=profile,
        audiences=MappingProxyType({name: ServiceId(own) for name, own in table.audiences.items()}),
        multi_aud=table.multi_aud,
        allow_missing_typ=table.allow_missing_typ,
        allow_missing_jti=table.allow_missing_jti,
        header_members=frozenset(table.header_members),
        keys_without_alg=table.keys_without_alg,
        ignore_scope=table.ignore_scope,
        **_keys(issuer, table),
        **_accepted(general, table),
        allow_loopback_http=defaults.allow_loopback_http,
    )
    if profile in SETTLED:
        algorithms = entry.algorithms & ALGORITHMS[profile]
        return msgspec.structs.replace(entry, algorithms=algorithms, **SETTLED[profile])
    return entry


def user_issuer(issuer: str, table: UserIssuerTable, defaults: DefaultsTable) -> UserIssuer:
    """The entry of an identity provider, likewise."""
    # [defaults] says how long tokens of services live, which is no business of an identity provider
    general = msgspec.structs.replace(defaults, max_token_life=UNSET)
    return UserIssuer(
        issuer=issuer,
        audiences=frozenset(table.audiences),
        multi_aud=table.multi_aud,
        **_keys(issuer, table),
        **_accepted(general, table),
        allow_loopback_http=defaults.allow_loopback_http,
    )


def _keys(issuer: str, table: SourceTable) -> dict[str, Any]:
    """Where its keys are; at the usual place, if the table says nothing."""
    members = {name: getattr(table, name) for name in ("jwks_uri", "jwks_file", "ca_file")}
    said: dict[str, Any] = {name: value for name, value in members.items() if value is not UNSET}
    if isinstance(table, ForeignIssuerTable) and table.asap_key_servers is not UNSET:
        return {**said, "asap_key_servers": tuple(table.asap_key_servers)}
    if not table.discovery and said.keys() <= {"ca_file"}:
        said["jwks_uri"] = f"{issuer.rstrip('/')}/.well-known/jwks.json"
    origins = () if table.jwks_origins is UNSET else table.jwks_origins
    return {**said, "discovery": table.discovery, "eddsa": table.eddsa, "jwks_origins": frozenset(origins)}


def _accepted(*tables: DefaultsTable | SourceTable) -> dict[str, Any]:
    """Lay each table over the one before it; the structs know the rest."""
    accepted: dict[str, Any] = {}
    for table in tables:
        for member, (attribute, convert) in _CONVERTED.items():
            value = getattr(table, member, UNSET)
            if value is not UNSET:
                accepted[attribute] = convert(value)
    return accepted
