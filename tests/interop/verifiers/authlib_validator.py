import time
from typing import Any

import httpx
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc.jwk import KeySet


class Verifier(JWTBearerTokenValidator):
    """Authlib's validator of RFC 9068 tokens, for its `ResourceProtector`; keys are kept for ten minutes."""

    def __init__(self, issuer: str, audience: str, lifespan: float = 600) -> None:
        super().__init__(issuer=issuer, resource_server=audience)
        self.keys: KeySet | None = None
        self.lifespan, self.until = lifespan, 0.0

    def get_jwks(self) -> Any:
        if self.keys is None or time.monotonic() >= self.until:
            answer = httpx.get(f"{self.issuer}/.well-known/jwks.json").raise_for_status()
            self.keys = KeySet.import_key_set(answer.json())
            self.until = time.monotonic() + self.lifespan
        return self.keys
