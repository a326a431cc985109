"""From a token to a `Principal`: the order of checks is the security (standards (a)2, design receiving.md).

`Verifier.verify` is a flow: a generator that yields an effect where it needs something it does not have, such
as a key, and is sent an `Answer` after the wait. Nothing is fetched before the issuer is found in the trust
file, and nothing is returned, cached or called authentic before the signature holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator

import msgspec

from . import foreign_token, jws, wit
from .claims import Claims, no_certificate, validate
from .deny_list import EMPTY, DenyList
from .effects import Answer, Effect, FetchJWKS, LoadDenyList
from .errors import JWKSUnavailable, Reason, TokenRejected, Unavailable
from .identity import Principal, freeze
from .keys import VerificationKey
from .resolver import KeyResolver
from .trust import ForeignIssuer, IssuerTrust, TrustConfig, TrustedPair
from .trust_issuers import Accepted
from .verified_cache import Digest, VerifiedCache, digest_of

# one algorithm: what RFC 8037 calls it, and RFC 9864
_OLDER_NAME = _EDDSA, _ED25519 = ("EdDSA", "Ed25519")
VerifyFlow = Generator[Effect, Answer, Principal]


class _Verified(msgspec.Struct, frozen=True, gc=False):
    """What the verdict on a token rests on."""

    issuer: str
    key: VerificationKey
    trust: TrustConfig
    deny: DenyList
    since: float
    until: float


class _VerifiedToken(_Verified, frozen=True, gc=False):
    principal: Principal


class _VerifiedWit(_Verified, frozen=True, gc=False):
    proof_key: wit.ProofKey


class Verifier:
    """Verifies service tokens for one service.

    Args:
        audiences: the service's own id and aliases.
        trust: who may call it; replace the attribute to reload.
        resolver: knows the issuers' keys.
        cache_size: verified tokens to remember; 0 for none.

    Attributes:
        deny: what is denied now, or None while that is not known; replace it to change it.
    """

    def __init__(
        self,
        *,
        audiences: Collection[str],
        trust: TrustConfig,
        resolver: KeyResolver,
        cache_size: int = 10_000,
    ) -> None:
        self.audiences: frozenset[str] = frozenset(audiences)
        self.trust = trust
        self.deny: DenyList | None = EMPTY
        self._resolver = resolver
        self._cache: VerifiedCache[_VerifiedToken] = VerifiedCache(cache_size)
        # of no use to anybody without a proof, which is never remembered
        self._wits: VerifiedCache[_VerifiedWit] = VerifiedCache(cache_size)

    def cached(self, token: bytes, now: float) -> Principal | None:
        """The principal of a token that was verified before, if everything still holds; see `VerifiedCache`.

        Time, the key (by identity: one that was replaced under the same kid is another), the trust file and
        the deny list are checked again. Issuer, audience, scopes and signature cannot have changed: the
        bytes are equal.
        """
        return self.recall(digest_of(token), now)

    def recall(self, digest: Digest, now: float) -> Principal | None:
        """`cached`, for one who has the token's digest (`digest_of`) at hand."""
        entry = self._cache.get(digest)
        return entry.principal if entry is not None and self._stands(entry, now) else None

    def _stands(self, entry: _Verified, now: float) -> bool:
        return (
            entry.trust is self.trust
            and entry.deny is self.deny
            and entry.since <= now < entry.until
            and self._resolver.key(entry.issuer, entry.key.kid, now) is entry.key
        )

    def verify(
        self,
        token: bytes,
        now: float,
        *,
        with_proof: bool = False,
        certificate: Callable[[], str] = no_certificate,
        digest: Digest | None = None,
    ) -> VerifyFlow:
        """Verify a token; yields `FetchJWKS` and `LoadDenyList`.

        Args:
            token: as it stands behind `Bearer`.
            now: Unix seconds.
            with_proof: also accept a token that is bound to a key; the caller then verifies the proof that
                came along (`proof.py`). No bound token is ever remembered, so nobody finds it as verified.
            certificate: as for `claims.validate`.
            digest: the token's, where it is at hand.

        Raises:
            TokenRejected: the token is refused; `reason` says why.
            Unavailable: the keys of its issuer, or the deny list, cannot be had just now.
        """
        trust = self.trust
        # what `typ` and which further members this issuer may have is looked at in `check_header`
        decoded = jws.decode(token, True, False, trust.header_members)
        issuer = decoded.claims.get("iss")
        known: IssuerTrust | ForeignIssuer | None
        known = trust.issuers.get(issuer) if isinstance(issuer, str) else None
        vouched_by = None
        if known is None:
            known = foreign_token.find(decoded.claims, trust.foreign_issuers)
            if known is None:
                raise TokenRejected(Reason.UNKNOWN_ISSUER, "iss is not an issuer that the trust file lists")
            vouched_by = known.issuer
        try:
            if isinstance(known, ForeignIssuer):
                claims, pair = self._check_foreign(decoded, known, trust, now, certificate)
            else:
                claims, pair = self._check(
                    decoded, known, trust, now, with_proof=with_proof, certificate=certificate
                )
            user_sub = None if claims.user is None else claims.user.subject
            key, deny = yield from self.authenticate(decoded, known.issuer, claims.token_id, now, user_sub)
            if vouched_by is not None and deny.rules:
                _refuse_denied(deny, now, issuer=pair.issuer, kid=key.kid, jti=claims.token_id)
        except TokenRejected as rejected:
            rejected.claimed_issuer = known.issuer
            raise
        scopes = claims.scopes
        if scopes is None or not scopes <= pair.scopes:  # a set that is kept once serves all its tokens
            scopes = pair.scopes if scopes is None else scopes & pair.scopes
        principal = Principal(
            issuer=pair.issuer,
            subject=claims.subject,
            audience=claims.audience,
            scopes=scopes,
            kid=key.kid,
            expires_at=claims.expires_at,
            claims=freeze(decoded.claims),
            user=claims.user,
            vouched_by=vouched_by,
        )
        if self._cache.size and claims.confirmation is None:
            until = claims.expires_at + known.leeway
            entry = _VerifiedToken(known.issuer, key, trust, deny, claims.not_before, until, principal)
            self._cache.put(digest or digest_of(token), entry)
        return principal

    def leeway(self, principal: Principal) -> float:
        """Seconds of clock difference that whoever signed for this principal is forgiven.

        Raises:
            TokenRejected: as `rules`.
        """
        foreign = self.trust.foreign_issuers.get(principal.vouched_by or "")
        return self.rules(principal.issuer).leeway if foreign is None else foreign.leeway

    def rules(self, issuer: str) -> IssuerTrust:
        """The rules of an issuer, for what is left to check after a token of its was verified.

        Raises:
            TokenRejected: the trust file was replaced meanwhile, and no longer lists it.
        """
        known = self.trust.issuers.get(issuer)
        if known is None:
            raise TokenRejected(Reason.UNKNOWN_ISSUER, "the trust file has just ceased to list this issuer")
        return known

    def verify_wit(self, token: bytes, issuer: str, now: float) -> Generator[Effect, Answer, wit.ProofKey]:
        """Verify a Workload Identity Token as `verify` does a service token; the key that it names.

        One that was verified is remembered, and holds, as in `cached`: it comes with each request of a
        process for an hour, and to take its key apart costs more than all the rest.

        Args:
            token: the field's value.
            issuer: of the access token beside it, which was verified; no other is looked for.
            now: Unix seconds.

        Raises:
            TokenRejected: the WIT is refused.
            Unavailable: as `verify`.
        """
        digest = digest_of(token)
        entry = self._wits.get(digest)
        if entry is not None and entry.issuer == issuer and self._stands(entry, now):
            return entry.proof_key
        trust, known = self.trust, self.rules(issuer)
        decoded = jws.decode(token)
        check_header(decoded.header, known, {wit.TYPE})
        claims = wit.validate(decoded.claims, known, now)
        key, deny = yield from self.authenticate(decoded, issuer, claims.token_id, now)
        until = claims.expires_at + known.leeway
        self._wits.put(
            digest, _VerifiedWit(issuer, key, trust, deny, claims.not_before, until, claims.proof_key)
        )
        return claims.proof_key

    def _check(
        self,
        decoded: jws.DecodedJWS,
        known: IssuerTrust,
        trust: TrustConfig,
        now: float,
        *,
        with_proof: bool,
        certificate: Callable[[], str],
    ) -> tuple[Claims, TrustedPair]:
        check_header(decoded.header, known, known.types)
        services = trust.services | self.audiences if "act" in decoded.claims else ()
        claims = validate(
            decoded.claims,
            known,
            self.audiences,
            now,
            with_proof=with_proof,
            certificate=certificate,
            services=services,
        )
        pair = trust.pairs.get((known.issuer, claims.audience))
        if pair is None:
            raise TokenRejected(Reason.PAIR_NOT_GRANTED, f"no [[allow]] row for {claims.audience}")
        if claims.user is not None and claims.user.issuer not in pair.may_act_for:
            raise TokenRejected(
                Reason.USER_NOT_GRANTED, "sub_id.iss, whose user it is, is not in may_act_for of the pair"
            )
        return claims, pair

    def _check_foreign(
        self,
        decoded: jws.DecodedJWS,
        known: ForeignIssuer,
        trust: TrustConfig,
        now: float,
        certificate: Callable[[], str],
    ) -> tuple[Claims, TrustedPair]:
        check_header(foreign_token.header(decoded.header, known), known, known.types)
        claims = foreign_token.validate(decoded.claims, known, self.audiences, now, certificate)
        service = foreign_token.service(trust, known.issuer, claims.subject, decoded.claims)
        pair = trust.pairs.get((service, claims.audience))
        if pair is None:
            raise TokenRejected(
                Reason.PAIR_NOT_GRANTED, f"no [[allow]] row from {service} to {claims.audience}"
            )
        return claims, pair

    def authenticate(
        self, decoded: jws.DecodedJWS, issuer: str, jti: str, now: float, user_sub: str | None = None
    ) -> Generator[Effect, Answer, tuple[VerificationKey, DenyList]]:
        """Key, signature, deny list: after this, and not before, the claims are the issuer's.

        A flow, as `verify` is one; used for every kind of token. Algorithm and claims were checked before.

        Raises:
            TokenRejected, Unavailable: as `verify`.
        """
        kid = decoded.header.kid
        key = self._resolver.key(issuer, kid, now) or (yield from self._fetch_key(issuer, kid))
        # whether its issuer may say so was looked at in `check_header`
        if key.alg != decoded.header.alg and (decoded.header.alg, key.alg) != _OLDER_NAME:
            raise TokenRejected(Reason.KEY_MISMATCH, f"alg {decoded.header.alg} but the key is for {key.alg}")
        if not key.verify(decoded.signing_input, decoded.signature):
            raise TokenRejected(Reason.BAD_SIGNATURE, f"the signature is not that of key {key.kid}")
        deny = self.deny
        if deny is None or deny.rules:
            deny = yield from self.check_denied(issuer, now, kid=key.kid, jti=jti, user_sub=user_sub)
        return key, deny

    def check_denied(
        self, issuer: str, now: float, *, kid: str = "", jti: str = "", user_sub: str | None = None
    ) -> Generator[Effect, Answer, DenyList]:
        """Ask the deny list: after the credential was found to be good, so that nobody can ask it questions.

        Raises:
            TokenRejected: `DENIED`.
            Unavailable: the list cannot be had just now.
        """
        deny = self.deny
        if deny is None:
            now = (yield LoadDenyList()).now
            deny = self.deny
        if deny is None:
            raise Unavailable(
                Reason.DENY_LIST_UNAVAILABLE, issuer, "the deny list is not read yet", retry_after=1
            )
        _refuse_denied(deny, now, issuer=issuer, kid=kid, jti=jti, user_sub=user_sub)
        return deny

    def _fetch_key(self, issuer: str, kid: str) -> Generator[Effect, Answer, VerificationKey]:
        # twice, because the first wait may have joined a fetch that began before the key was published
        for _ in range(2):
            now = (yield FetchJWKS(issuer=issuer, kid=kid)).now
            key = self._resolver.key(issuer, kid, now)
            if key is not None:
                return key
        place = self._resolver.place(issuer, kid)
        if self._resolver.has_keys(place, now):
            raise TokenRejected(Reason.UNKNOWN_KID, f"the issuer publishes no usable key {kid}")
        raise JWKSUnavailable(
            issuer, self._resolver.last_error(place) or "its keys have not been fetched yet"
        )


def _refuse_denied(
    deny: DenyList, now: float, *, issuer: str, kid: str, jti: str, user_sub: str | None = None
) -> None:
    rule = deny.find(now, issuer=issuer, kid=kid, jti=jti, user_sub=user_sub)
    if rule is not None:
        raise TokenRejected(Reason.DENIED, f"deny rule {rule.id}: {rule.why}").claimed_by(issuer)


def check_header(header: jws.Header, known: Accepted, types: Collection[str]) -> None:
    """Check algorithm and type.

    Raises:
        TokenRejected: `BAD_ALGORITHM`, `HEADER_MEMBER` or `BAD_TYPE`.
    """
    if header.alg not in known.algorithms and not (
        header.alg == _EDDSA and known.eddsa and _ED25519 in known.algorithms
    ):
        raise TokenRejected(Reason.BAD_ALGORITHM, f"expected one of {', '.join(sorted(known.algorithms))}")
    if header.beside and not header.beside <= known.header_members:
        raise TokenRejected(Reason.HEADER_MEMBER, "only alg, kid and typ are allowed for this issuer")
    if header.typ not in types:
        raise TokenRejected(Reason.BAD_TYPE, f"expected typ {' or '.join(sorted(types))}")
