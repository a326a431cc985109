"""Whom tokens may be made out to: what is of one kind is no audience of another (standards section 0)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from . import clouds
from .clouds import Cloud
from .errors import ConfigError
from .trust import TrustConfig
from .trust_values import ASAP


def refuse_provider(audience: str, trust: TrustConfig, servers: Collection[str]) -> None:
    """Refuse to make a token out to an identity provider or an authorization server.

    With iss = sub it would be a client assertion there.

    Args:
        audience: as it shall be in the token.
        trust: says who the identity providers are.
        servers: the authorization servers that are known.

    Raises:
        ConfigError: it is one.
    """
    # an ASAP issuer is a service like ours, and gives nobody tokens
    foreign = {name for name, issuer in trust.foreign_issuers.items() if issuer.profile != ASAP}
    if _is_in(trust.user_issuers.keys() | foreign, audience):
        raise ConfigError(f"{audience} is an identity provider; service tokens are never made out to one")
    if _is_in(servers, audience):
        raise ConfigError(
            f"{audience} is an authorization server (of oauth_client); service tokens are never made out "
            "to one"
        )


def for_cloud(
    cloud: Cloud,
    audience: str | None,
    subject: str | None,
    *,
    own: Sequence[str],
    trust: TrustConfig,
    servers: Collection[str],
) -> tuple[str, str]:
    """`aud` and `sub` of a federation token, which is made out to nobody but a cloud.

    Args:
        cloud: the provider.
        audience: None for the provider's own.
        subject: None for this service's id.
        own: the names of this service, its id first.
        trust: names all others.
        servers: the authorization servers that are known.

    Raises:
        ConfigError: not what the provider takes, a name of the mesh, or a workload of SPIFFE, for which the
            token would be a JWT-SVID of whoever its subject names.
    """
    known = clouds.check_audience(cloud, audience)
    named = any(_is_in(names, known) for names in (own, trust.services, trust.key_sources, servers))
    if named or known.lower().startswith("spiffe:"):
        raise ConfigError(
            f"{known} is a service or an identity provider; federation tokens are made out to clouds only"
        )
    return known, clouds.check_subject(subject, own[0])


def _is_in(names: Collection[str], audience: str) -> bool:
    return any(name in names for name in (audience, f"{audience}/", audience.rstrip("/")))
