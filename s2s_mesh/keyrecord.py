"""One key of a ring with its times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .keys import SigningKey, VerificationKey, thumbprint
from .rotation import KeyState, key_state


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One key with its times, in Unix seconds.

    Attributes:
        public: the public half; stays, inside the seal, for as long as the record does.
        private: the private half, or None once it is erased.
        created, publish_at: when it was made; published from then on.
        sign_from, sign_until: when it signs; they only ever decrease.
        remove_at: when it is unpublished; fixed at birth.
        revoked_at: when it was revoked, or None.
    """

    public: VerificationKey
    private: SigningKey | None
    created: float
    publish_at: float
    sign_from: float
    sign_until: float
    remove_at: float
    revoked_at: float | None = None

    @property
    def kid(self) -> str:
        """The key id: RFC 7638 thumbprint."""
        return self.public.kid

    def state(self, now: float) -> KeyState:
        """The state at `now`, a function of the clock."""
        return key_state(
            now,
            sign_from=self.sign_from,
            sign_until=self.sign_until,
            remove_at=self.remove_at,
            revoked_at=self.revoked_at,
        )

    def published(self, now: float) -> bool:
        """Whether the JWKS holds it at `now`; also before `publish_at`, which a slow clock may still see."""
        return self.revoked_at is None and now < self.remove_at

    def may_sign_until(self) -> float:
        """The instant after which it never signs; 0 where it cannot sign at all."""
        return self.sign_until if self.private is not None and self.revoked_at is None else 0.0

    def merge(self, other: KeyRecord) -> KeyRecord:
        """The least of both, field by field."""
        revocations = [at for at in (self.revoked_at, other.revoked_at) if at is not None]
        return msgspec.structs.replace(
            self,
            private=self.private if self.private is not None and other.private is not None else None,
            created=min(self.created, other.created),
            publish_at=min(self.publish_at, other.publish_at),
            sign_from=min(self.sign_from, other.sign_from),
            sign_until=min(self.sign_until, other.sign_until),
            remove_at=min(self.remove_at, other.remove_at),
            revoked_at=min(revocations, default=None),
        )

    def facts(self) -> dict[str, Any]:
        """The record as it stands in the document."""
        return {
            "kid": self.kid,
            "alg": self.public.alg,
            "created": self.created,
            "publish_at": self.publish_at,
            "sign_from": self.sign_from,
            "sign_until": self.sign_until,
            "remove_at": self.remove_at,
            "revoked_at": self.revoked_at,
            "public": self.public.public_jwk,
            "private": None if self.private is None else self.private.private_members(),
        }

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> KeyRecord:
        """Read a record of the document.

        Raises:
            UnusableKey, JWKSInvalid, KeyError, TypeError, ValueError: no replica wrote this.
        """
        public = VerificationKey.parse(entry["public"])
        if (
            public.kid != entry["kid"]
            or public.kid != thumbprint(public.public_jwk)
            or public.alg != entry["alg"]
        ):
            raise ValueError("kid is not the thumbprint")
        times = {
            name: entry[name] for name in ("created", "publish_at", "sign_from", "sign_until", "remove_at")
        }
        revoked_at = entry["revoked_at"]
        for at in (*times.values(), *([] if revoked_at is None else [revoked_at])):
            if type(at) not in (int, float):
                raise ValueError("a time is not a number")
        private = entry["private"]
        if private is not None and type(private) is not dict:
            raise ValueError("a private half is not an object")
        return cls(
            public=public,
            private=None if private is None else SigningKey(public, private),
            revoked_at=revoked_at,
            **times,
        )
