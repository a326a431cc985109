"""What clouds want of a token: one row per provider (standards section (d)), and the claims made of it.

Every provider exchanges a plain JWT (`typ` "JWT") of ours for its own credentials, if an administrator has
registered the issuer there. What is registered is exact: issuer, subject, audience.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from .claims import new_token_id
from .errors import ConfigError
from .identity import redacted

LIFE = 600  # seconds that a token lives
MAX_SUBJECT = 127  # bytes: google.subject is the shortest of all
# goes unquoted into Terraform, YAML and shells, so it holds nothing that one of them reads otherwise
_PLAIN = r"[A-Za-z0-9._~:/@+=%-]"
_SUBJECT = re.compile(rf"{_PLAIN}{{1,{MAX_SUBJECT}}}", re.ASCII)
_POOL = (
    r"//iam\.googleapis\.com/projects/[0-9]{1,20}/locations/global/"
    r"workloadIdentityPools/[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}"
)
_AZURE_AUDIENCE = "api://AzureADTokenExchange"


class Cloud(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's rules.

    Attributes:
        name: as on the command line.
        title: as people say it.
        algorithms: that it verifies.
        audience: what `aud` is unless told; None where it differs by customer.
        audience_form: what `aud` may be, as a pattern.
        audience_words: the same for people.
        file_life: seconds that a token in a file lives.
        renew: seconds after which that file is replaced.
        max_keys: that it reads of a JWKS.
        max_issuer: characters.
        public: whether its servers must reach the issuer from the internet.
        port: whether the issuer may name a port.
    """

    name: str
    title: str
    algorithms: frozenset[str]
    audience: str | None
    audience_form: str
    audience_words: str
    file_life: int = LIFE
    renew: int = LIFE // 2
    max_keys: int = 100
    max_issuer: int = 600
    public: bool = True
    port: bool = True


CLOUDS: Mapping[str, Cloud] = MappingProxyType(
    {
        cloud.name: cloud
        for cloud in (
            Cloud(
                name="aws",
                title="AWS IAM",
                algorithms=frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}),
                audience="sts.amazonaws.com",
                audience_form=rf"{_PLAIN}{{1,255}}",
                audience_words="sts.amazonaws.com, or a client id that is registered with the identity "
                "provider there (at most 255 characters)",
                max_issuer=255,
                port=False,
            ),
            Cloud(
                name="gcp",
                title="Google Cloud",
                algorithms=frozenset({"RS256", "ES256"}),
                audience=None,
                audience_form=rf"(?:https:)?{_POOL}",
                audience_words="the provider's resource name, //iam.googleapis.com/projects/NUMBER/locations/"
                "global/workloadIdentityPools/POOL/providers/PROVIDER",
            ),
            Cloud(
                name="azure",
                title="Microsoft Entra ID",
                algorithms=frozenset({"RS256"}),
                audience=_AZURE_AUDIENCE,
                audience_form=rf"{_AZURE_AUDIENCE}(?:USGov|China)?",
                audience_words=f"{_AZURE_AUDIENCE} (USGov or China added in those clouds)",
                # azure-identity keeps what it has read of the file for 600 s, and may read it just before
                # it is replaced
                file_life=720,
                renew=60,
            ),
            Cloud(
                name="k8s",
                title="Kubernetes",
                algorithms=frozenset({"RS256", "ES256", "ES384", "PS256"}),
                audience=None,
                audience_form=rf"{_PLAIN}{{1,255}}",
                audience_words="one of the audiences in the API server's authentication configuration",
                public=False,
            ),
        )
    }
)
# hosts that exchange such tokens, or whose audiences are their names; customers' own services have others
_HOSTS = (
    ("gcp", re.compile(r"(?:[a-z0-9-]+\.)*googleapis\.com")),
    (
        "aws",
        re.compile(r"(?:sts|sts-fips|iam|signin)(?:\.[a-z0-9-]+)*\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"),
    ),
    (
        "azure",
        re.compile(r"login\.(?:microsoftonline\.(?:com|us)|partner\.microsoftonline\.cn|windows\.net)"),
    ),
    ("azure", re.compile(r"login\.chinacloudapi\.cn|sts\.windows\.net")),
    ("k8s", re.compile(r"kubernetes\.default(?:\.svc(?:\.[a-z0-9-]+)*)?")),
)
_HOST = re.compile(r"(?:[a-z]+:)?(?://)?(?P<host>[a-z0-9.-]+)(?:[:/].*)?", re.ASCII | re.IGNORECASE)


def cloud(name: str) -> Cloud:
    """The rules of a provider.

    Raises:
        ConfigError: there is none of this name.
    """
    known = CLOUDS.get(name) if isinstance(name, str) else None
    if known is None:
        raise ConfigError(f"{name!r} is not a provider; choose one of {', '.join(CLOUDS)}")
    return known


def whose(audience: str) -> Cloud | None:
    """The provider that an audience belongs to by its form, or None; for tokens that must not go there."""
    if audience.lower().startswith("api:"):
        return CLOUDS["azure"]
    match = _HOST.fullmatch(audience)
    host = "" if match is None else match["host"].lower()
    return next((CLOUDS[name] for name, hosts in _HOSTS if hosts.fullmatch(host)), None)


def refuse_service_token(audience: str) -> None:
    """Refuse to make a service token out to a cloud, which would exchange it for what was never meant.

    Raises:
        ConfigError: it is one.
    """
    cloud = whose(audience) if isinstance(audience, str) else None
    if cloud is not None:
        raise ConfigError(
            f"{redacted(audience)!r} is an audience of {cloud.title}; service tokens are never made out "
            f"to a cloud: see service.federation_token({cloud.name!r}), `s2s-mesh federate {cloud.name}`"
        )


def check_audience(cloud: Cloud, audience: str | None) -> str:
    """What `aud` is: as given, or the provider's own.

    Raises:
        ConfigError: missing, or not of the provider's form.
    """
    known = cloud.audience if audience is None else audience
    if known is None:
        raise ConfigError(f"{cloud.title} has no audience of its own: name {cloud.audience_words}")
    if not isinstance(known, str) or not re.fullmatch(cloud.audience_form, known, re.ASCII):
        raise ConfigError(f"{known!r} is no audience of {cloud.title}; expected {cloud.audience_words}")
    other = whose(known)
    if other is not None and other is not cloud:
        raise ConfigError(f"{known!r} is an audience of {other.title}; this token is for {cloud.title}")
    return known


def check_subject(subject: str | None, issuer: str) -> str:
    """What `sub` is: as given, or the issuer itself. It is registered at the provider, so it must not change.

    Raises:
        ConfigError: empty, too long, or of characters that some provider reads otherwise.
    """
    if subject is None and len(issuer) > MAX_SUBJECT:
        raise ConfigError(
            f"{issuer} is longer than the {MAX_SUBJECT} bytes that every cloud takes for a subject: choose a "
            "shorter one (subject=, --subject) and register that"
        )
    subject = issuer if subject is None else subject
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise ConfigError(
            f"{subject!r} cannot be the subject of a federation token: expected 1 to {MAX_SUBJECT} letters, "
            "digits or ._~:/@+=%- (subject=, --subject)"
        )
    return subject


def build(*, issuer: str, subject: str, audience: str, now: float, life: int) -> dict[str, Any]:
    """The claims of a federation token: all that every provider wants, in integers, and nothing else.

    Args:
        issuer: ourselves.
        subject, audience: checked.
        now: Unix seconds.
        life: seconds until it expires.
    """
    issued_at = int(now)
    return {
        "iss": issuer,
        "sub": subject,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + life,
        "jti": new_token_id(),
    }
