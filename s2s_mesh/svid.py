"""JWT-SVIDs, ours and those of others (JWT-SVID sections 2 and 3).

Ours have no `iss`. The standard gives it no meaning: who validates one finds the keys by the trust domain of
`sub`. With it an SVID would be what clouds and OpenID relying parties take, since our `iss` can be discovered
and `typ` is that of any JWT (WIT-SVID section 3.7 warns of the like); without it, nobody but a SPIFFE
validator can take one for anything, our own receivers included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import clouds
from .claims import new_token_id
from .errors import ConfigError, Reason, TokenRejected
from .spiffe_id import SpiffeId, is_workload

# of ours; EdDSA is none of JWT-SVID section 2.1
ALGORITHMS = frozenset({"ES256", "ES384", "RS256", "PS256"})
# a key is published three to five refresh hints before its first signature (SPIFFE Federation section 4.1)
HINTS_IN_LEAD = 3
_MAX_AUDIENCE = 2048
_AUDIENCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)


def check_algorithm(alg: str) -> None:
    """Check that SPIFFE validators know a signature algorithm of ours.

    Raises:
        ConfigError: they do not; says what to do.
    """
    if alg not in ALGORITHMS:
        raise ConfigError(
            f"SPIFFE validators know no {alg} (JWT-SVID section 2.1): run `s2s-mesh keys rotate --algorithm "
            "ES256` and set S2S_MESH_ALGORITHM=ES256"
        )


def check_id(text: str, alg: str, lead: float) -> SpiffeId:
    """Check the SPIFFE ID that a service shall have.

    Args:
        text: as configured.
        alg: of the keys that it makes.
        lead: seconds for which each key is published before it signs.

    Raises:
        ConfigError: no SPIFFE ID of a workload; an algorithm that no validator knows; or so short a lead that
            no consumer of the bundle, which looks every second at best, is told of a key three times.
    """
    known = SpiffeId.parse(text)
    check_algorithm(alg)
    if lead < HINTS_IN_LEAD:
        raise ConfigError(
            f"the schedule publishes keys {lead:g} s before they sign; consumers of a SPIFFE bundle need "
            f"{HINTS_IN_LEAD} s"
        )
    return known


def check_audience(audience: str) -> str:
    """Check whom a JWT-SVID shall be made out to: one workload, by whatever name its validator goes.

    Raises:
        ConfigError: not one name, a whole trust domain, or a cloud.
    """
    if (
        not isinstance(audience, str)
        or len(audience) > _MAX_AUDIENCE
        or not _AUDIENCE.fullmatch(audience)
        or "*" in audience
    ):
        raise ConfigError(
            f"{audience!r:.300} is not the audience of a JWT-SVID: one name such as "
            "spiffe://example.org/reports, printable ASCII without spaces, at most "
            f"{_MAX_AUDIENCE} characters"
        )
    if audience.lower().startswith("spiffe:"):
        SpiffeId.parse(audience)
    if clouds.whose(audience) is not None:
        raise ConfigError(
            f"{audience} is a cloud; JWT-SVIDs are never made out to one: use service.federation_token"
        )
    return audience


def build(*, spiffe_id: SpiffeId, audience: str, now: float, life: int) -> dict[str, Any]:
    """The claims of a JWT-SVID.

    Args:
        spiffe_id: ours, its subject.
        audience: the one that it is for.
        now: Unix seconds.
        life: seconds until it expires.
    """
    issued_at = int(now)
    return {
        "sub": str(spiffe_id),
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + life,
        "jti": new_token_id(),
    }


def trust_domain_of(subject: Any) -> str:
    """The trust domain of a `sub`, as `spiffe://example.org`, unchecked; "" for what is no text."""
    return "/".join(subject.split("/", 3)[:3]) if isinstance(subject, str) else ""


def completed(claims: Mapping[str, Any], trust_domain: str, now: float) -> Mapping[str, Any]:
    """The claims of somebody's JWT-SVID with what its standard lets them leave out.

    `iss` is the trust domain. Without `iat` the token counts as made just now: it may be accepted for as long
    from now on as if it were, and no longer.

    Args:
        claims: as decoded; foreign.
        trust_domain: whose authority signs, as `spiffe://example.org`.
        now: Unix seconds.

    Raises:
        TokenRejected: `BAD_SUBJECT`, `sub` is not the SPIFFE ID of a workload of this very trust domain.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not is_workload(subject, trust_domain.removeprefix("spiffe://")):
        raise TokenRejected(Reason.BAD_SUBJECT, f"sub is not the SPIFFE ID of a workload of {trust_domain}")
    completed = {**claims, "iss": trust_domain}
    expires_at = claims.get("exp")
    if "iat" not in claims and type(expires_at) is int:
        completed["iat"] = min(int(now), expires_at - 1)
    return completed
