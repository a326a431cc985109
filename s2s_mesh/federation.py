"""Federation tokens: from a ring to what a cloud exchanges, signed by an algorithm that it verifies."""

from __future__ import annotations

from typing import NamedTuple

from . import clouds
from .clouds import Cloud
from .errors import ConfigError
from .keyring import KeyRing
from .signer import Signer, TokenKind


class FederationToken(NamedTuple):
    """A token and when it expires (Unix seconds)."""

    token: str
    expires_at: int


def mint(
    signer: Signer, ring: KeyRing, cloud: Cloud, *, audience: str, subject: str, now: float, life: int
) -> FederationToken:
    """A token for `cloud`, which nobody keeps.

    Args:
        signer: of the issuer.
        ring: the snapshot to sign with.
        cloud: the provider.
        audience, subject: checked (`audiences.for_cloud`).
        now: Unix seconds.
        life: seconds until it expires, within the schedule's.

    Raises:
        KeyStoreError: `NO_SIGNING_KEY`, no key of the ring may sign now.
        ConfigError: the key that signs is of an algorithm that the provider does not verify.
    """
    check_algorithm(cloud, ring.records[signer.signing_kid(ring, now)].public.alg)
    claims = clouds.build(issuer=signer.issuer, subject=subject, audience=audience, now=now, life=life)
    token, _ = signer.sign(ring, TokenKind.FEDERATION, claims, now)
    return FederationToken(token, claims["exp"])


def check_algorithm(cloud: Cloud, alg: str) -> None:
    """Refuse to sign what the provider would refuse.

    Raises:
        ConfigError: saying what to do.
    """
    if alg in cloud.algorithms:
        return
    known = ", ".join(sorted(cloud.algorithms))
    raise ConfigError(f"{cloud.title} verifies {known}, and this service signs with {alg}: {way_out(cloud)}")


def way_out(cloud: Cloud) -> str:
    """What to do where keys are of an algorithm that the provider does not verify."""
    wanted = "ES256" if "ES256" in cloud.algorithms else "RS256"
    return (
        f"run `s2s-mesh keys rotate --algorithm {wanted}`, set S2S_MESH_ALGORITHM={wanted}, and see that the "
        "trust files of its receivers allow it"
    )
