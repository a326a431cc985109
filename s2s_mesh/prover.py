"""The proof key of one process, and the WIT that names it: renewed together, well before the WIT expires."""

from __future__ import annotations

from typing import NoReturn

from . import wit
from .jitter import between
from .keyring import KeyRing
from .keys import SigningKey
from .signer import Signer, TokenKind

ALGORITHM = "ES256"  # what every WIMSE implementation has (workload-creds section 5.1)
# renewed somewhere in this share of the WIT's life, so that processes do not renew at once
_RENEW_FROM, _RENEW_TO = 0.5, 0.8


class HeldProof:
    """A proof key with its WIT. The private half lives here only: in memory, never stored, never shown.

    Attributes:
        key: makes proofs.
        wit: the token that names it.
        kid: of the issuer key that signed the WIT.
    """

    __slots__ = ("key", "kid", "renew_at", "since", "wit")

    def __init__(self, key: SigningKey, token: str, *, kid: str, since: float, renew_at: float) -> None:
        self.key: SigningKey = key
        self.wit: str = token
        self.kid: str = kid
        self.since: float = since
        self.renew_at: float = renew_at

    def __repr__(self) -> str:
        return f"HeldProof(key={self.key!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is never pickled")


class Prover:
    """Holds the proof key of this process.

    Args:
        signer: signs WITs with the issuer's keys.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._held: HeldProof | None = None

    def current(self, ring: KeyRing, now: float) -> HeldProof:
        """The key to prove requests with; the caller holds a lock (floor 4).

        It is replaced with its WIT, and as soon as another issuer key signs: receivers forget retired keys
        before a WIT expires.

        Args:
            ring: the snapshot to sign with.
            now: Unix seconds.

        Raises:
            KeyStoreError: no key of the ring may sign now.
        """
        held, kid = self._held, self._signer.signing_kid(ring, now)
        if held is None or held.kid != kid or not held.since <= now < held.renew_at:
            key = SigningKey.generate(ALGORITHM)
            claims = wit.build(issuer=self._signer.issuer, key=key.public, now=now)
            token, kid = self._signer.sign(ring, TokenKind.IDENTITY, claims, now)
            renew_at = now + between(_RENEW_FROM, _RENEW_TO) * wit.LIFE
            held = self._held = HeldProof(key, token, kid=kid, since=now, renew_at=renew_at)
        return held
