"""The file of one key on an ASAP key server: SubjectPublicKeyInfo as PEM (RFC 7468 section 13).

Apart from the names in `asap.py`, which are checked where no cryptography is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from cryptography.exceptions import UnsupportedAlgorithm
from jwcrypto.common import JWException
from jwcrypto.jwk import JWK

from .errors import JWKSInvalid
from .keys import UnusableKey, VerificationKey

_PUBLIC_PEM = re.compile(
    rb"\s*-----BEGIN PUBLIC KEY-----\r?\n[A-Za-z0-9+/=\r\n]{1,4096}-----END PUBLIC KEY-----\s*"
)


def read_key(kid: str, pem: bytes, algorithms: Collection[str]) -> VerificationKey:
    """The key in a file of a key server.

    Args:
        kid: its path there.
        pem: the file.
        algorithms: it is for the one of these that goes with its type.

    Raises:
        JWKSInvalid: it is not one public key that may be used.
    """
    if b"PRIVATE KEY-----" in pem:
        raise JWKSInvalid("the file holds a private key: its issuer leaked it")
    if not _PUBLIC_PEM.fullmatch(pem):
        raise JWKSInvalid("the file is not one PEM block PUBLIC KEY")
    try:
        members = JWK.from_pem(pem).export_public(as_dict=True)
        return VerificationKey.parse({**members, "kid": kid}, algorithms)
    except UnusableKey as why:
        raise JWKSInvalid(f"the key cannot be used: {why}") from None
    except (ValueError, KeyError, JWException, UnsupportedAlgorithm):
        raise JWKSInvalid("the file holds no public key that can be read") from None
