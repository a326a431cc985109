import time
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import InvalidClaimError
from joserfc.jwk import KeySet


class Verifier:
    """joserfc fetches nothing by itself: a key set is kept for ten minutes here."""

    def __init__(self, issuer: str, audience: str, algorithms: list[str], lifespan: float = 600) -> None:
        self.uri, self.algorithms = f"{issuer}/.well-known/jwks.json", algorithms
        self.keys: KeySet | None = None
        self.lifespan, self.until = lifespan, 0.0
        self.expected = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    def __call__(self, token: str) -> dict[str, Any]:
        if self.keys is None or time.monotonic() >= self.until:
            self.keys = KeySet.import_key_set(httpx.get(self.uri).raise_for_status().json())
            self.until = time.monotonic() + self.lifespan
        decoded = jwt.decode(token, self.keys, algorithms=self.algorithms)
        if decoded.header.get("typ") != "at+jwt":
            raise InvalidClaimError("typ")
        self.expected.validate(decoded.claims)
        return dict(decoded.claims)
