"""From a ring to a token: pure, with a memory of tokens that are still good to send.

Nothing waits here. The caller holds a lock around `mint` (floor 4), so that many threads that need the same
token make it once; `cached` needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any

import msgspec

from . import asap
from . import claims as claims_
from .claims import Confirmation
from .errors import KeyStoreError, StoreReason
from .identity import EndUser
from .jitter import between
from .jws import b64url_encode
from .keyring import KeyRing
from .keys import SigningKey
from .strict_json import encode
from .users import context_hash

_MAX_CACHED = 4096
# audience, scopes, what it is bound to, hash of the user's context
_Key = tuple[str, frozenset[str] | None, Confirmation | None, str | None]
# a token is renewed somewhere in this share of its life, so that replicas do not renew at once
_RENEW_FROM, _RENEW_TO = 0.5, 0.8


class TokenKind(str, Enum):
    """The kinds of token we mint; none of them is taken for another (RFC 8725 sections 3.11 and 3.12).

    The last four are for software of other people.
    """

    SERVICE = "at+jwt"
    IDENTITY = "wit+jwt"
    TRANSACTION = "txntoken+jwt"
    CLIENT_ASSERTION = "client-authentication+jwt"
    FEDERATION = "federation"
    SVID = "jwt-svid"
    ASAP = "asap"

    # Enum hashes in Python, which is half the price of handing a kept token out
    __hash__ = str.__hash__

    @property
    def typ(self) -> str:
        """What its header says: its name, but for the kinds that others know as plain JWTs."""
        return "JWT" if self in (TokenKind.FEDERATION, TokenKind.SVID, TokenKind.ASAP) else self.value


class _Signing(msgspec.Struct, frozen=True):
    """Which key of which ring signs from `since` until `until`."""

    ring: KeyRing
    key: SigningKey
    since: float
    until: float


class _Minted(msgspec.Struct, frozen=True):
    token: str
    kid: str
    since: float
    renew_at: float


class Signer:
    """Signs tokens of one issuer.

    Args:
        issuer: ourselves.
        life: seconds that a token lives.
        min_key_age: seconds that a key must have been published before it signs; 0 in processes that serve
            the JWKS themselves.
    """

    def __init__(self, issuer: str, *, life: int, min_key_age: Callable[[], float] = lambda: 0.0) -> None:
        self.issuer = issuer
        self.life = life
        self._min_key_age = min_key_age
        self._signing: _Signing | None = None
        self._tokens: dict[_Key, _Minted] = {}
        # apart, so that many users push no token out that is needed for none
        self._user_tokens: dict[_Key, _Minted] = {}
        self._asap_tokens: dict[tuple[str, str], _Minted] = {}
        self._headers: dict[tuple[TokenKind, str, str], bytes] = {}

    def cached(
        self,
        ring: KeyRing,
        audience: str,
        scopes: frozenset[str] | None,
        now: float,
        confirmation: Confirmation | None = None,
        user: EndUser | None = None,
    ) -> str | None:
        """A service token minted before, by the key that signs now, and not due for renewal; or None."""
        if user is None:
            minted = self._tokens.get((audience, scopes, confirmation, None))
        else:
            minted = self._user_tokens.get((audience, scopes, confirmation, context_hash(user)))
        return self._still_good(minted, ring, now)

    def _still_good(self, minted: _Minted | None, ring: KeyRing, now: float) -> str | None:
        if minted is None or not minted.since <= now < minted.renew_at:
            return None
        signing = self._signing
        if signing is None or signing.ring is not ring or not signing.since <= now < signing.until:
            signing = self._refresh_signing(ring, now)
        return minted.token if signing.key.kid == minted.kid else None

    def mint(
        self,
        ring: KeyRing,
        kind: TokenKind,
        audience: str,
        scopes: frozenset[str] | None,
        now: float,
        *,
        keep: bool = True,
        confirmation: Confirmation | None = None,
        user: EndUser | None = None,
    ) -> str:
        """Make a new token.

        Args:
            ring: the snapshot to sign with; its JWKS is what this process serves.
            kind: what the token is.
            audience: the one service it is for.
            scopes: what to ask for, or None for all that is granted.
            now: Unix seconds.
            keep: whether `cached` may hand it out again.
            confirmation: what to bind it to, or None for a plain bearer token.
            user: on whose behalf, checked (`users.check`); or None.

        Raises:
            KeyStoreError: `NO_SIGNING_KEY`, no key of the ring may sign now.
            ConfigError: no token can carry this user.
        """
        signing = self._refresh_signing(ring, now)
        key = signing.key
        members = claims_.build(
            issuer=self.issuer,
            audience=audience,
            scopes=scopes,
            now=now,
            life=self.life,
            confirmation=confirmation,
            user=user,
        )
        token = key.sign_compact(self._header(kind, key), members)
        if keep:
            kept = self._tokens if user is None else self._user_tokens
            if len(kept) >= _MAX_CACHED:
                kept.clear()
            # what is left of its life is all that the next service has, if it hands the user on
            share = between(_RENEW_FROM, _RENEW_TO) if user is None else _RENEW_FROM
            context = None if user is None else context_hash(user)
            kept[(audience, scopes, confirmation, context)] = _Minted(
                token, key.kid, now, min(members["iat"] + share * self.life, members["exp"])
            )
        return token

    def sign(self, ring: KeyRing, kind: TokenKind, claims: Mapping[str, Any], now: float) -> tuple[str, str]:
        """A token of these claims (`wit.build`, `txn_token.build`), and the kid of the key that signed it.

        Raises:
            KeyStoreError: as `mint`.
        """
        key = self._refresh_signing(ring, now).key
        return key.sign_compact(self._header(kind, key), claims), key.kid

    def asap(self, ring: KeyRing, issuer: str, audience: str, now: float) -> str:
        """An ASAP token: the one at hand, if it is good for a while yet and by the key that signs now.

        Args:
            ring: as in `mint`.
            issuer: checked (`asap.check_issuer`).
            audience: checked (`asap.check_audience`).
            now: Unix seconds.

        Raises:
            KeyStoreError: as `mint`.
            ConfigError: as `asap.check_algorithm`, about the key that signs now.
        """
        kept = self._still_good(self._asap_tokens.get((issuer, audience)), ring, now)
        if kept is not None:
            return kept
        key = self._refresh_signing(ring, now).key
        asap.check_algorithm(key.alg)
        claims = asap.build(issuer=issuer, audience=audience, now=now, life=self.life)
        token = key.sign_compact(self._header(TokenKind.ASAP, key, asap.key_id(issuer, key.kid)), claims)
        if len(self._asap_tokens) >= _MAX_CACHED:
            self._asap_tokens.clear()
        renew_at = claims["iat"] + between(_RENEW_FROM, _RENEW_TO) * self.life
        self._asap_tokens[(issuer, audience)] = _Minted(token, key.kid, now, renew_at)
        return token

    def forget_asap(self, issuer: str, audience: str) -> None:
        """Do not hand this ASAP token out again: a receiver has just refused it."""
        self._asap_tokens.pop((issuer, audience), None)

    def signing_kid(self, ring: KeyRing, now: float) -> str:
        """The key that signs now.

        Raises:
            KeyStoreError: as `mint`.
        """
        return self._refresh_signing(ring, now).key.kid

    def forget(
        self,
        audience: str,
        scopes: Collection[str] | None,
        confirmation: Confirmation | None = None,
        user: EndUser | None = None,
    ) -> None:
        """Do not hand this token out again: a receiver has just refused it."""
        wanted = None if scopes is None else frozenset(scopes)
        if user is None:
            self._tokens.pop((audience, wanted, confirmation, None), None)
        else:
            self._user_tokens.pop((audience, wanted, confirmation, context_hash(user)), None)

    def forget_audience(self, audience: str) -> None:
        """Do not hand any token of this audience out again."""
        for kept in (self._tokens, self._user_tokens):
            for known in [key for key in kept if key[0] == audience]:
                kept.pop(known, None)

    def _refresh_signing(self, ring: KeyRing, now: float) -> _Signing:
        min_key_age = self._min_key_age()
        record = ring.signing_record(now, published_before=now - min_key_age if min_key_age else None)
        if record is None or record.private is None:
            raise KeyStoreError(StoreReason.NO_SIGNING_KEY, self._why_no_key(ring, now, min_key_age))
        until = ring.next_change(now)
        if min_key_age:
            until = min(until, now + min_key_age)
        signing = self._signing = _Signing(ring, record.private, now, until)
        return signing

    def _why_no_key(self, ring: KeyRing, now: float, min_key_age: float) -> str:
        youngest = ring.signing_record(now)
        if youngest is None:
            return (
                f"the ring of {self.issuer} holds no key that may sign; start a process that serves "
                "service.routes, or run `s2s-mesh keys init`"
            )
        wait = youngest.publish_at + min_key_age - now
        return (
            f"the first key of {self.issuer} was published only just now, and this process does not serve "
            f"the JWKS itself; it signs in {max(wait, 0):.0f} s, when every replica serves the key"
        )

    def _header(self, kind: TokenKind, key: SigningKey, kid: str | None = None) -> bytes:
        """The encoded header; `kid` is what it calls the key, if that is not the key's own id."""
        kid = kid or key.kid
        header = self._headers.get((kind, key.kid, kid))
        if header is None:
            header = b64url_encode(encode({"alg": key.alg, "kid": kid, "typ": kind.typ}))
            # those of keys that no longer sign are dropped
            kept = {known: value for known, value in self._headers.items() if known[1] == key.kid}
            self._headers = {**kept, (kind, key.kid, kid): header}
        return header
