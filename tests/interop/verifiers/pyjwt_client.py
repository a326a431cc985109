from typing import Any

import jwt


class Verifier:
    """PyJWT keeps a key set for five minutes, and asks for a kid that it does not know twice a minute."""

    def __init__(
        self, issuer: str, audience: str, algorithms: list[str], lifespan: float = 300, cooldown: float = 30
    ) -> None:
        uri = f"{issuer}/.well-known/jwks.json"
        self.keys = jwt.PyJWKClient(uri, lifespan=lifespan, cooldown_duration=cooldown, timeout=30)
        self.issuer, self.audience, self.algorithms = issuer, audience, algorithms

    def __call__(self, token: str) -> dict[str, Any]:
        decoded = jwt.decode_complete(
            token,
            self.keys.get_signing_key_from_jwt(token),
            algorithms=self.algorithms,
            issuer=self.issuer,
            audience=self.audience,
            options={"require": ["iss", "aud", "exp"]},
        )
        if decoded["header"].get("typ") != "at+jwt":
            raise jwt.InvalidTokenError("not an access token")
        return dict(decoded["payload"])
