"""The form of trust.toml as typed tables; the JSON Schema and the reader's shape checks come from them.

Nothing is decoded by msgspec itself: `trust_reader.py` walks these types, so that every mistake is found at
once and named by its key path.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from . import trust_values as values
from .trust_members import (
    SERVICE_ID_SCHEMA,
    URL,
    Algorithms,
    CAFile,
    ClaimName,
    ClaimValues,
    ForeignIssuerId,
    ForeignTokenLife,
    HeaderMember,
    KeyServers,
    KeysFile,
    Leeway,
    MediaTypes,
    Method,
    Origins,
    Profile,
    Role,
    Scope,
    Service,
    TokenLife,
    UserAudience,
    UserIssuerId,
    UserMediaTypes,
    UserTokenLife,
    hashed,
    member,
    service,
)


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class DefaultsTable(Table, frozen=True, kw_only=True):
    """[defaults]: what holds for every issuer that does not say otherwise."""

    algorithms: Algorithms | UnsetType = UNSET
    max_token_life: TokenLife | UnsetType = UNSET
    leeway: Leeway | UnsetType = UNSET
    allow_loopback_http: Annotated[
        bool,
        Meta(description="Allow http://127.0.0.1:PORT and loopback as such: demos and tests on one machine."),
    ] = False


class SourceTable(Table, frozen=True, kw_only=True):
    """What the tables of services, foreign issuers and identity providers may say alike."""

    algorithms: Algorithms | UnsetType = UNSET
    leeway: Leeway | UnsetType = UNSET
    jwks_uri: URL | UnsetType = UNSET
    jwks_file: KeysFile | UnsetType = UNSET
    ca_file: CAFile | UnsetType = UNSET
    discovery: Annotated[
        bool, Meta(description="Find jwks_uri in the issuer's document /.well-known/openid-configuration.")
    ] = False
    jwks_origins: Origins | UnsetType = UNSET
    eddsa: Annotated[
        bool, Meta(description="Its tokens and keys may call Ed25519 by its older name, EdDSA (RFC 8037).")
    ] = False


class IssuerTable(SourceTable, frozen=True, kw_only=True):
    """[issuers."https://..."]: what differs from the defaults for one calling service."""

    typ: MediaTypes | UnsetType = UNSET
    max_token_life: TokenLife | UnsetType = UNSET
    allow_plain_http: Annotated[
        bool, Meta(description="Allow a jwks_uri with http, on a platform's private network.")
    ] = False


class ForeignIssuerTable(SourceTable, frozen=True, kw_only=True):
    """[foreign_issuers."..."]: an issuer that is none of our services and vouches for some of them."""

    profile: Profile | UnsetType = UNSET
    asap_key_servers: KeyServers | UnsetType = UNSET
    typ: MediaTypes | UnsetType = UNSET
    max_token_life: ForeignTokenLife | UnsetType = UNSET
    audiences: Annotated[
        dict[UserAudience, Service],
        Meta(description="What `aud` may say in place of a service's id, and which service that is."),
    ] = {}
    multi_aud: Annotated[bool, Meta(description="Accept tokens whose `aud` names others as well.")] = False
    allow_missing_typ: Annotated[bool, Meta(description="A token without `typ` counts as JWT.")] = False
    allow_missing_jti: Annotated[
        bool, Meta(description="Accept tokens without `jti`; routes with replay = once refuse them.")
    ] = False
    header_members: Annotated[
        list[HeaderMember],
        Meta(description="Header members beside alg, kid and typ that its tokens may have; not looked at."),
    ] = []
    keys_without_alg: Annotated[
        bool,
        Meta(description="A key without `alg` is for the one accepted algorithm that goes with its type."),
    ] = False
    subject_claims: Annotated[
        list[ClaimName],
        Meta(description="Claims that every [[subject]] row must fix: a hub's name of the provider."),
    ] = []
    ignore_scope: Annotated[
        bool,
        Meta(description="What `scope` says is none of our scopes: the caller has all that it is granted."),
    ] = False


class SubjectRow(Table, frozen=True, kw_only=True):
    """[[subject]]: whom a foreign issuer means by one `sub`."""

    issuer: ForeignIssuerId
    subject: Annotated[
        str,
        member(
            values.subject,
            "system:serviceaccount:payments:settlement",
            "The `sub` of its tokens, exactly.",
        ),
    ]
    service: Annotated[str, service("The service that it stands for.")]
    claims: Annotated[
        ClaimValues, Meta(description="Further claims that must be there, exactly; one level deep.")
    ] = {}


class AllowRow(Table, frozen=True, kw_only=True):
    """[[allow]]: one issuer may call one audience."""

    issuer: Annotated[str, service("The calling service.")]
    audience: Annotated[str, service("The service that is called.")]
    scopes: Annotated[list[Scope], Meta(description="What the caller may ask for; absent: nothing.")] = []
    roles: Annotated[list[Role], Meta(description="Roles whose scopes the caller may ask for as well.")] = []
    may_act_for: Annotated[
        list[UserIssuerId], Meta(description="Identity providers whose users this caller may carry.")
    ] = []


class RouteRow(Table, frozen=True, kw_only=True):
    """[[route]]: what one route needs. Once an audience has a rule, its unmapped paths are denied."""

    audience: Annotated[str, service("The service that has the route.")]
    path: Annotated[
        str,
        member(
            values.route_path,
            "/wallets/{wallet_id}/card",
            "The path; {x} is one segment, {x:path} at the end all the rest.",
            pattern="^/",
        ),
    ]
    methods: Annotated[list[Method], Meta(min_length=1, description="HTTP methods; GET includes HEAD.")]
    scopes: Annotated[list[Scope], Meta(description="The scopes that the caller needs, all of them.")] = []
    user: Annotated[
        str,
        member(
            values.choice("none", "asserted", "proven", "txn"),
            "asserted",
            "Whether the route wants an end user: asserted by the caller, proven by the user's own token, or "
            "by a transaction token. none refuses tokens that carry a user.",
            enum=["none", "asserted", "proven", "txn"],
        ),
    ] = "none"
    proof: Annotated[
        str,
        member(
            values.choice("bearer", "wpt", "mtls"),
            "wpt",
            "Which proof of possession the route wants; mtls is a token that is bound to the client "
            "certificate (RFC 8705); wpt is a proof for each request (profile wpt-02) and "
            "needs a key store that replicas share.",
            enum=["bearer", "wpt", "mtls"],
        ),
    ] = "bearer"
    replay: Annotated[
        str,
        member(
            values.choice("allow", "once"),
            "once",
            "Whether a token may be used again; once needs a key store that replicas share.",
            enum=["allow", "once"],
        ),
    ] = "allow"


class LegacyRow(Table, frozen=True, kw_only=True):
    """[[legacy]]: an old credential, and the service that it stands for, until that service has tokens."""

    issuer: Annotated[str, service("The calling service that has the old credential.")]
    audience: Annotated[str, service("The service that still accepts it.")]
    migration: Annotated[
        str,
        member(
            values.choice("off", "observe", "prefer", "require"),
            "observe",
            "The stage of this caller: off refuses the old credential, observe accepts and counts it, prefer "
            "warns as well, require refuses it because there are tokens now.",
            enum=["off", "observe", "prefer", "require"],
        ),
    ]
    until: Annotated[
        date, Meta(description="The last day, in UTC, on which it is accepted.", examples=["2027-03-31"])
    ]
    api_key_sha256: Annotated[
        str | UnsetType,
        hashed(
            values.api_key_sha256,
            "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
            "The SHA-256 of an API key of at least 128 random bits; hexadecimal or base64url.",
            values.API_KEY_SHA256,
        ),
    ] = UNSET
    header: Annotated[
        str | UnsetType,
        member(
            values.field,
            "X-Api-Key",
            "The header field that carries the API key; default X-Api-Key.",
            pattern=values.FIELD,
        ),
    ] = UNSET
    basic_user: Annotated[
        str | UnsetType,
        member(
            values.basic_user, "edge", "The user name of Basic authentication.", pattern=values.BASIC_USER
        ),
    ] = UNSET
    password_argon2: Annotated[
        str | UnsetType,
        hashed(
            values.password_argon2,
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$Gl8SqQcNGmTXlVJ9zXzdZw",
            "The argon2id hash of the password, in PHC form.",
            values.ARGON2_HASH,
        ),
    ] = UNSET
    token_header: Annotated[
        str | UnsetType,
        member(
            values.field,
            "Workload-Authorization",
            "The field that carries the token while Basic occupies Authorization; default "
            "Workload-Authorization.",
            pattern=values.FIELD,
        ),
    ] = UNSET


class UserIssuerTable(SourceTable, frozen=True, kw_only=True):
    """[user_issuers."https://..."]: one identity provider, whose users' tokens are evidence of a user."""

    audiences: Annotated[
        list[UserAudience],
        Meta(min_length=1, description="Which tokens are accepted: one of these must stand in `aud`."),
    ]
    multi_aud: Annotated[bool, Meta(description="Accept tokens whose `aud` names others as well.")] = False
    typ: UserMediaTypes | UnsetType = UNSET
    max_token_life: UserTokenLife | UnsetType = UNSET


class TxnRow(Table, frozen=True, kw_only=True):
    """[[txn]]: who may mint transaction tokens of which trust domain, for whom."""

    trust_domain: Annotated[
        str, member(values.service_id, "https://example.com", "The trust domain.", **SERVICE_ID_SCHEMA)
    ]
    issuer: Annotated[str, service("The service that mints.")]
    audience: Annotated[str, service("The service that accepts.")]


class TrustForm(Table, frozen=True, kw_only=True):
    """A trust file of s2s_mesh: which service may call which, and with which scopes."""

    version: Annotated[Literal[1], Meta(description="The version of this format.")]
    defaults: DefaultsTable | UnsetType = UNSET
    issuers: Annotated[
        dict[Service, IssuerTable], Meta(description="Calling services that differ from the defaults.")
    ] = {}
    roles: Annotated[
        dict[Role, Annotated[list[Scope], Meta(min_length=1, description="The scopes of a role.")]],
        Meta(description="Named sets of scopes, for [[allow]] rows."),
    ] = {}
    allow: Annotated[list[AllowRow], Meta(description="Who may call whom. There is no wildcard.")] = []
    route: Annotated[list[RouteRow], Meta(description="Routes that need more than a known caller.")] = []
    legacy: Annotated[list[LegacyRow], Meta(description="Old credentials that are still accepted.")] = []
    user_issuers: Annotated[dict[UserIssuerId, UserIssuerTable], Meta(description="Identity providers.")] = {}
    foreign_issuers: Annotated[
        dict[ForeignIssuerId, ForeignIssuerTable],
        Meta(description="Issuers that are none of our services and vouch for some of them."),
    ] = {}
    subject: Annotated[
        list[SubjectRow], Meta(description="Which service a subject of a foreign issuer stands for.")
    ] = []
    txn: Annotated[list[TxnRow], Meta(description="Minters of transaction tokens.")] = []


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors and for checks in other languages.

    It knows the form only: relations between rows are checked by `TrustConfig.parse`.
    """
    schema = msgspec.json.schema(TrustForm)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "trust.toml of s2s_mesh",
        **schema,
    }
