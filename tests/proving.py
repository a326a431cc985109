"""Requests with proof, made by hand: good ones, and forged ones signed with real keys."""

from __future__ import annotations

from typing import Any

from s2s_mesh.jws import token_hash
from s2s_mesh.keys import SigningKey

from .tokens import ABSENT, EDGE, NOW, WALLETS, claims, header, key, sign

Fields = list[tuple[bytes, bytes]]
WIT, WPT = b"workload-identity-token", b"workload-proof-token"


def proof_key(name: str = "proof") -> SigningKey:
    """The ephemeral key of one process of edge."""
    return key(name=name)


def jwk(owner: SigningKey, **changes: Any) -> dict[str, Any]:
    """A `cnf.jwk`."""
    members = {name: owner.public.public_jwk[name] for name in ("kty", "crv", "x", "y")}
    return present({**members, "alg": owner.alg, **changes})


def present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


def access_token(**changes: Any) -> bytes:
    """A token that is bound to the proof key."""
    return sign(header(key()), claims(**{"cnf": {"jkt": proof_key().kid}, **changes}), key())


def wit(signer: SigningKey | None = None, head: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A WIT of edge for the proof key."""
    signer = signer or key()
    members = {
        "iss": EDGE,
        "sub": EDGE,
        "iat": NOW,
        "exp": NOW + 3600,
        "jti": "wit-1",
        "cnf": {"jwk": jwk(proof_key())},
        **changes,
    }
    return sign(header(signer, **{"typ": "wit+jwt", **(head or {})}), present(members), signer)


def wpt(
    access: bytes,
    identity: bytes,
    signer: SigningKey | None = None,
    head: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """A proof for `PUT /proved` with these two tokens."""
    signer = signer or proof_key()
    members = {
        "aud": f"{WALLETS}/proved",
        "iat": NOW,
        "exp": NOW + 60,
        "jti": "wpt-1",
        "wth": token_hash(identity),
        "ath": token_hash(access),
        "htm": "PUT",
        **changes,
    }
    return sign(present({"alg": signer.alg, "typ": "wpt+jwt", **(head or {})}), present(members), signer)


def fields(access: bytes | None, identity: bytes | None, proof: bytes | None) -> Fields:
    """The field lines of a request."""
    named = (
        (b"authorization", None if access is None else b"Bearer " + access),
        (WIT, identity),
        (WPT, proof),
    )
    return [(name, value) for name, value in named if value is not None]


def good_fields(**changes: Any) -> Fields:
    """All three, in order; `changes` are claims of the proof."""
    access, identity = access_token(), wit()
    return fields(access, identity, wpt(access, identity, **changes))
