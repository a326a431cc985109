"""The assertion by which a client authenticates with its own key: `private_key_jwt`.

RFC 7523 sections 2.2 and 3, draft-ietf-oauth-rfc7523bis-10 section 4. Its header,
`typ` included, is the signer's: `TokenKind.CLIENT_ASSERTION`.
"""

from __future__ import annotations

from typing import Any

from .claims import new_token_id

LIFE = 60  # seconds


def build(*, client_id: str, audience: str, now: float) -> dict[str, Any]:
    """The claims of a new assertion, for one request: a second one, or a retry, has its own.

    Args:
        client_id: what the authorization server calls us.
        audience: its issuer, the sole audience; its token endpoint only where it knows no better.
        now: Unix seconds.
    """
    issued_at = int(now)
    return {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + LIFE,
        "jti": new_token_id(),
    }
