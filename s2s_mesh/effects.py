"""What a flow may ask of the outside. A flow yields one of these; a driver answers it (`drivers.py`)."""

from __future__ import annotations

import msgspec


class FetchJWKS(msgspec.Struct, frozen=True, kw_only=True):
    """Please try to have this key: refresh the issuer's JWKS if that is allowed now, and wait for it.

    The answer is None; the flow looks at its `KeyResolver` again. No token byte chooses a URL: the driver
    takes it from the trust file.

    Attributes:
        issuer: an issuer that the trust file lists.
        kid: the key id that is not known yet.
    """

    issuer: str
    kid: str
