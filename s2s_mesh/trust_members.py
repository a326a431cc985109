"""The members of trust.toml as annotated types: what each may hold, how it is described and checked."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from . import trust_values as values

SERVICE_ID_EXAMPLE = "https://wallets.example.com"
SERVICE_ID_SCHEMA = {"format": "uri", "pattern": r"^https?://[^*?#@\s]*[^*?#@/\s]$"}


def duration(shortest: str, longest: str, default: str, description: str) -> Meta:
    """Describe a duration; `number` tells the reader what to suggest for a bare number."""
    return Meta(
        pattern=values.DURATION,
        description=f"{description} From {shortest} to {longest}; default {default}.",
        examples=[default],
        extra={"check": values.duration(shortest, longest), "number": "{}s"},
    )


def member(check: values.Check, example: str, description: str, **schema: Any) -> Meta:
    """Describe a member that is a text."""
    return Meta(
        description=description, examples=[example], extra={"check": check}, extra_json_schema=schema or None
    )


def hashed(check: values.Check, example: str, description: str, pattern: str) -> Meta:
    """Describe a member in whose place somebody may have written a secret: what is found is not shown."""
    return Meta(
        description=description,
        examples=[example],
        extra={"check": check, "secret": True},
        extra_json_schema={"pattern": pattern},
    )


def service(description: str) -> Meta:
    """Describe a member that is the id of a service."""
    return member(values.service_id, SERVICE_ID_EXAMPLE, description, **SERVICE_ID_SCHEMA)


Algorithm = Annotated[
    str, member(values.algorithm, "ES256", "A signature algorithm.", enum=sorted(values.ALGORITHMS))
]
MediaType = Annotated[
    str,
    member(values.media_type, "at+jwt", "A media type, compared without case.", pattern=values.MEDIA_TYPE),
]
Scope = Annotated[str, member(values.scope, "cards:write", "One scope.", pattern=values.SCOPE)]
Role = Annotated[str, member(values.role, "card-writer", "The name of a role.", pattern=values.ROLE)]
Method = Annotated[str, member(values.method, "PUT", "An HTTP method.", enum=sorted(values.METHODS))]
Service = Annotated[str, service("A service id: an https URL without a trailing slash.")]
UserIssuerId = Annotated[
    str,
    member(
        values.user_issuer,
        "https://login.example.com/",
        "An identity provider's issuer, exactly as its tokens name it.",
        format="uri",
    ),
]
UserAudience = Annotated[
    str,
    member(
        values.user_audience,
        "https://edge.example.com",
        "What `aud` says in a user's token, exactly: the id of a service, or what the provider calls it.",
        pattern=values.USER_AUDIENCE,
    ),
]
URL = Annotated[
    str,
    member(
        values.jwks_uri,
        "https://wallets.example.com/.well-known/jwks.json",
        "Where the public keys are fetched, if not at the issuer's /.well-known/jwks.json.",
        format="uri",
        pattern="^https?://",
    ),
]
KeyServer = Annotated[
    str,
    member(
        values.key_server,
        "https://asap-keys.example.com/",
        "Where an ASAP key server has its files.",
        format="uri",
        pattern="^https?://.*/$",
    ),
]
KeyServers = Annotated[
    list[KeyServer],
    Meta(min_length=1, description="ASAP key servers; the next one is asked where one does not answer."),
]
KeysFile = Annotated[
    str,
    member(
        values.file_name,
        "settlement.jwks.json",
        "A local file with the public keys instead of a URL, relative to the trust file.",
    ),
]
CAFile = Annotated[
    str,
    member(
        values.file_name,
        "private-ca.pem",
        "The certificate authorities for this issuer's TLS (PEM), relative to the trust file.",
    ),
]
Origin = Annotated[str, member(values.origin, "https://keys.example.com", "An origin.", **SERVICE_ID_SCHEMA)]
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
    str, duration("10s", "24h", "1h", "The longest life, exp - iat, of an accepted token of a user.")
]
TokenLife = Annotated[str, duration("10s", "1h", "15m", "The longest life, exp - iat, of an accepted token.")]
Leeway = Annotated[str, duration("0s", "2m", "30s", "How far clocks may differ.")]
ForeignIssuerId = Annotated[
    str,
    member(
        values.foreign_issuer,
        "https://accounts.example.com/",
        "An issuer that is none of our services, exactly as its tokens name it.",
    ),
]
ForeignTokenLife = Annotated[
    str, duration("10s", "24h", "15m", "The longest life, exp - iat, of an accepted token.")
]
Profile = Annotated[
    str,
    member(
        values.choice(*sorted(values.PROFILES)),
        "jwt",
        "Whose rules its tokens and its keys follow; default jwt.",
        enum=sorted(values.PROFILES),
    ),
]
HeaderMember = Annotated[
    str,
    member(
        values.choice(*sorted(values.HEADER_MEMBERS)),
        "x5t",
        "A header member beside alg, kid and typ.",
        enum=sorted(values.HEADER_MEMBERS),
    ),
]
ClaimName = Annotated[str, member(values.claim, "azp", "The name of a claim.")]
ClaimValue = Annotated[str, member(values.claim, "payments", "What the claim must say, exactly.")]
# an empty one would ask for nothing, and seem to ask for something
ClaimsInside = Annotated[dict[ClaimName, ClaimValue | bool], Meta(min_length=1)]
ClaimValues = dict[
    ClaimName,
    Annotated[ClaimValue | bool | ClaimsInside, Meta(description="Its value.")],
]
