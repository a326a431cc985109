"""The keys of fake issuers, for tests: real ones, made once in a process."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any

from .asap import key_id
from .jws import b64url_encode
from .keys import SigningKey, VerificationKey
from .strict_json import encode
from .trust_issuers import Accepted

_QUICKEST_FIRST = ("ES256", "Ed25519", "ES384", "RS256", "PS256")
# the housekeeper of a service asks for the same key, and a cache alone would make it twice
_making = threading.Lock()


def fake_key(issuer: str, alg: str) -> SigningKey:
    """The one key pair of this issuer for this algorithm; RSA takes a while, the first time."""
    with _making:
        return _make(issuer, alg)


@functools.cache
def _make(_issuer: str, alg: str) -> SigningKey:
    return SigningKey.generate(alg)


def algorithm_of(trust: Accepted | None) -> str:
    """What an issuer signs with, where a receiver trusts it like this."""
    return "ES256" if trust is None else min(trust.algorithms, key=_QUICKEST_FIRST.index)


def published(source: Accepted) -> VerificationKey:
    """What a fake issuer publishes."""
    public = fake_key(source.issuer, algorithm_of(source)).public
    kid = _kid(source, public.kid)
    return VerificationKey(kid, public.alg, {**public.public_jwk, "kid": kid})


def _kid(trust: Accepted | None, kid: str) -> str:
    """What the issuer calls a key: among ASAP's it is a path."""
    return key_id(trust.issuer, kid) if trust is not None and trust.asap_key_servers else kid


def signed(issuer: str, trust: Accepted | None, kind: str, claims: Mapping[str, Any]) -> str:
    """A token of a fake issuer, with this `typ`, as a receiver that trusts it like this accepts it."""
    alg = algorithm_of(trust)
    key = fake_key(issuer, alg)
    header = encode({"alg": alg, "kid": _kid(trust, key.kid), "typ": kind})
    return key.sign_compact(b64url_encode(header), claims)
