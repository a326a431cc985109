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

SERVICE_ID_EXAMPLE = "https://wallets.example.com"
_SERVICE_ID_SCHEMA = {"format": "uri", "pattern": r"^https?://[^*?#@\s]*[^*?#@/\s]$"}


def _duration(shortest: str, longest: str, default: str, description: str) -> Meta:
    """Describe a duration; `number` tells the reader what to suggest for a bare number."""
    return Meta(
        pattern=values.DURATION,
        description=f"{description} From {shortest} to {longest}; default {default}.",
        examples=[default],
        extra={"check": values.duration(shortest, longest), "number": "{}s"},
    )


def _member(check: values.Check, example: str, description: str, **schema: Any) -> Meta:
    """Describe a member that is a text."""
    return Meta(
        description=description, examples=[example], extra={"check": check}, extra_json_schema=schema or None
    )


def _hash(check: values.Check, example: str, description: str, pattern: str) -> Meta:
    """Describe a member in whose place somebody may have written a secret: what is found is not shown."""
    return Meta(
        description=description,
        examples=[example],
        extra={"check": check, "secret": True},
        extra_json_schema={"pattern": pattern},
    )


def _service(description: str) -> Meta:
    return _member(values.service_id, SERVICE_ID_EXAMPLE, description, **_SERVICE_ID_SCHEMA)


Algorithm = Annotated[
    str, _member(values.algorithm, "ES256", "A signature algorithm.", enum=sorted(values.ALGORITHMS))
]
MediaType = Annotated[
    str,
    _member(values.media_type, "at+jwt", "A media type, compared without case.", pattern=values.MEDIA_TYPE),
]
Scope = Annotated[str, _member(values.scope, "cards:write", "One scope.", pattern=values.SCOPE)]
Role = Annotated[str, _member(values.role, "card-writer", "The name of a role.", pattern=values.ROLE)]
Method = Annotated[str, _member(values.method, "PUT", "An HTTP method.", enum=sorted(values.METHODS))]
Service = Annotated[str, _service("A service id: an https URL without a trailing slash.")]
UserIssuerId = Annotated[
    str,
    _member(
        values.user_issuer,
        "https://login.example.com/",
        "An identity provider's issuer, exactly as its tokens name it.",
        format="uri",
    ),
]
UserAudience = Annotated[
    str,
    _member(
        values.user_audience,
        "https://edge.example.com",
        "What `aud` says in a user's token, exactly: the id of a service, or what the provider calls it.",
        pattern=values.USER_AUDIENCE,
    ),
]
URL = Annotated[
    str,
    _member(
        values.jwks_uri,
        "https://wallets.example.com/.well-known/jwks.json",
        "Where the public keys are fetched, if not at the issuer's /.well-known/jwks.json.",
        format="uri",
        pattern="^https?://",
    ),
]
KeysFile = Annotated[
    str,
    _member(
        values.file_name,
        "settlement.jwks.json",
        "A local file with the public keys instead of a URL, relative to the trust file.",
    ),
]
CAFile = Annotated[
    str,
    _member(
        values.file_name,
        "private-ca.pem",
        "The certificate authorities for this issuer's TLS (PEM), relative to the trust file.",
    ),
]
Origin = Annotated[
    str, _member(values.origin, "https://keys.example.com", "An origin.", **_SERVICE_ID_SCHEMA)
]
Origins = Annotated[
    list[Origin],
    Meta(min_length=1, description="Origins of a discovered jwks_uri beside the issuer's own."),
]
Algorithms = Annotated[
    list[Algorithm],
    Meta(min_length=1, description="Signature algorithms that are accepted; default ES256 and RS256."),
]
MediaTypes = Annotated[
    list[MediaType],
    Meta(min_length=1, description="Values of the header `typ` that are accepted; default at+jwt."),
]
UserMediaTypes = Annotated[
    list[MediaType],
    Meta(
        min_length=1,
        description="Accepted values of the header `typ`, none counts as JWT; default at+jwt and JWT.",
    ),
]
UserTokenLife = Annotated[
    str, _duration("10s", "24h", "1h", "The longest life, exp - iat, of an accepted token of a user.")
]
TokenLife = Annotated[
    str, _duration("10s", "1h", "15m", "The longest life, exp - iat, of an accepted token.")
]
Leeway = Annotated[str, _duration("0s", "2m", "30s", "How far clocks may differ.")]


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
    """What the table of a service and that of an identity provider may say alike."""

    algorithms: Algorithms | UnsetType = UNSET
    leeway: Leeway | UnsetType = UNSET
    jwks_uri: URL | UnsetType = UNSET
    jwks_file: KeysFile | UnsetType = UNSET
    ca_file: CAFile | UnsetType = UNSET
    discovery: Annotated[
        bool, Meta(description="Find jwks_uri in the issuer's document /.well-known/openid-configuration.")
    ] = False
    jwks_origins: Origins | UnsetType = UNSET


class IssuerTable(SourceTable, frozen=True, kw_only=True):
    """[issuers."https://..."]: what differs from the defaults for one calling service."""

    typ: MediaTypes | UnsetType = UNSET
    max_token_life: TokenLife | UnsetType = UNSET
    allow_plain_http: Annotated[
        bool, Meta(description="Allow a jwks_uri with http, on a platform's private network.")
    ] = False


class AllowRow(Table, frozen=True, kw_only=True):
    """[[allow]]: one issuer may call one audience."""

    issuer: Annotated[str, _service("The calling service.")]
    audience: Annotated[str, _service("The service that is called.")]
    scopes: Annotated[list[Scope], Meta(description="What the caller may ask for; absent: nothing.")] = []
    roles: Annotated[list[Role], Meta(description="Roles whose scopes the caller may ask for as well.")] = []
    may_act_for: Annotated[
        list[UserIssuerId], Meta(description="Identity providers whose users this caller may carry.")
    ] = []


class RouteRow(Table, frozen=True, kw_only=True):
    """[[route]]: what one route needs. Once an audience has a rule, its unmapped paths are denied."""

    audience: Annotated[str, _service("The service that has the route.")]
    path: Annotated[
        str,
        _member(
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
        _member(
            values.choice("none", "asserted", "proven", "txn"),
            "asserted",
            "Whether the route wants an end user: asserted by the caller, proven by the user's own token, or "
            "by a transaction token. none refuses tokens that carry a user.",
            enum=["none", "asserted", "proven", "txn"],
        ),
    ] = "none"
    proof: Annotated[
        str,
        _member(
            values.choice("bearer", "wpt"),
            "wpt",
            "Which proof of possession the route wants; wpt is a proof for each request (profile wpt-02) and "
            "needs a key store that replicas share.",
            enum=["bearer", "wpt"],
        ),
    ] = "bearer"
    replay: Annotated[
        str,
        _member(
            values.choice("allow", "once"),
            "once",
            "Whether a token may be used again; once needs a key store that replicas share.",
            enum=["allow", "once"],
        ),
    ] = "allow"


class LegacyRow(Table, frozen=True, kw_only=True):
    """[[legacy]]: an old credential, and the service that it stands for, until that service has tokens."""

    issuer: Annotated[str, _service("The calling service that has the old credential.")]
    audience: Annotated[str, _service("The service that still accepts it.")]
    migration: Annotated[
        str,
        _member(
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
        _hash(
            values.api_key_sha256,
            "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
            "The SHA-256 of an API key of at least 128 random bits; hexadecimal or base64url.",
            values.API_KEY_SHA256,
        ),
    ] = UNSET
    header: Annotated[
        str | UnsetType,
        _member(
            values.field,
            "X-Api-Key",
            "The header field that carries the API key; default X-Api-Key.",
            pattern=values.FIELD,
        ),
    ] = UNSET
    basic_user: Annotated[
        str | UnsetType,
        _member(
            values.basic_user, "edge", "The user name of Basic authentication.", pattern=values.BASIC_USER
        ),
    ] = UNSET
    password_argon2: Annotated[
        str | UnsetType,
        _hash(
            values.password_argon2,
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$Gl8SqQcNGmTXlVJ9zXzdZw",
            "The argon2id hash of the password, in PHC form.",
            values.ARGON2_HASH,
        ),
    ] = UNSET
    token_header: Annotated[
        str | UnsetType,
        _member(
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
        str, _member(values.service_id, "https://example.com", "The trust domain.", **_SERVICE_ID_SCHEMA)
    ]
    issuer: Annotated[str, _service("The service that mints.")]
    audience: Annotated[str, _service("The service that accepts.")]


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
