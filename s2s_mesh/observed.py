"""What tells observers about requests and tokens: the same parts as without, with an ear on them.

A service without observers is made of the parts themselves, so it pays nothing for this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .certificates import ProxyField
from .claims import Confirmation
from .errors import Forbidden, Reason, TokenRejected, Unavailable
from .identity import EndUser, Principal
from .inbound import Admitted, CallerFlow, Inbound, InboundFlow, RequestFacts, RequestLine
from .keyring import KeyRing
from .migration_use import Tally
from .observer import UNKNOWN, Kept, Minted, Observers, Recalled, Refused, StaleServed, Verified
from .policy import Policy
from .refusal import Refusal
from .resolver import KeyResolver
from .route_rules import Field, RouteRules
from .settings import Settings
from .signer import Signer, TokenKind
from .verified_cache import Digest
from .verifier import Verifier

_KEPT = Kept(TokenKind.SERVICE.value)


def inbound(settings: Settings, verifier: Verifier, resolver: KeyResolver, tally: Tally) -> Inbound:
    """What decides about requests to a service."""
    if not settings.observers:
        return Inbound(
            verifier,
            realm=settings.issuer,
            policy=settings.policy,
            tally=tally,
            proxies=settings.proxies,
        )
    return ObservedInbound(
        verifier,
        realm=settings.issuer,
        policy=settings.policy,
        tally=tally,
        proxies=settings.proxies,
        resolver=resolver,
        observers=settings.observers,
    )


def signer(settings: Settings, min_key_age: Callable[[], float]) -> Signer:
    """What signs the tokens of a service."""
    if not settings.observers:
        return Signer(settings.issuer, life=settings.token_life, min_key_age=min_key_age)
    return ObservedSigner(
        settings.issuer, life=settings.token_life, min_key_age=min_key_age, observers=settings.observers
    )


class ObservedInbound(Inbound):
    """An `Inbound` that tells observers what it decided.

    Args:
        resolver: knows which keys are stale.
        observers: are told.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        realm: str,
        policy: Policy | None,
        tally: Tally | None,
        proxies: ProxyField | None,
        resolver: KeyResolver,
        observers: Observers,
    ) -> None:
        super().__init__(verifier, realm=realm, policy=policy, tally=tally, proxies=proxies)
        self.cached: Callable[[bytes, float], Principal | None] = self._cached
        self._resolver = resolver
        self._observe = observers.observe
        # as many as the trust file has issuers
        self._recalled: dict[str, Recalled] = {}

    def admit(self, facts: RequestFacts, now: float) -> Admitted | Refusal | InboundFlow:
        """See `Inbound.admit`."""
        outcome = super().admit(facts, now)
        # what is answered at once was verified before; flows tell by themselves
        if isinstance(outcome, Admitted):
            if outcome.principal is not None:
                self._tell_recalled(outcome.principal, now)
        elif isinstance(outcome, Refusal):
            self._tell_refused(outcome.claimed_issuer, outcome.reason, now, cached=True)
        return outcome

    def refused(self, why: Forbidden | TokenRejected, *, caller: str | None = None) -> Refusal:
        """See `Inbound.refused`; asked for by a door, after `admit` or instead of it."""
        self._tell_refused(caller, why.reason, 0.0, cached=True)
        return super().refused(why, caller=caller)

    def verify(self, token: bytes, now: float, request: RequestLine = None) -> CallerFlow:
        """See `Inbound.verify`."""
        cached = request is not None and self._verifier.cached(token, now) is not None
        began = time.perf_counter()
        try:
            principal = yield from super().verify(token, now, request)
        except (TokenRejected, Forbidden, Unavailable) as why:
            if isinstance(why, TokenRejected):
                issuer = why.claimed_issuer
            else:
                issuer = why.caller if isinstance(why, Forbidden) else why.issuer
            self._tell_refused(issuer, why.reason, now, cached=cached, began=began)
            raise
        self._tell_accepted(principal, now, cached=cached, began=began)
        return principal

    def _cached(self, token: bytes, now: float) -> Principal | None:
        known = self._verifier.cached(token, now)
        if known is not None:
            self._tell_recalled(known, now)
        return known

    def _decide(
        self,
        facts: RequestFacts,
        routes: RouteRules,
        authorization: Sequence[bytes],
        fields: Sequence[Field],
        token: bytes | None,
        digest: Digest | None,
        now: float,
    ) -> InboundFlow:
        flow = super()._decide(facts, routes, authorization, fields, token, digest, now)
        return self._telling(flow, now, cached=False)

    def _admit_by_policy(
        self, policy: Policy, facts: RequestFacts, known: Principal, now: float
    ) -> InboundFlow:
        return self._telling(super()._admit_by_policy(policy, facts, known, now), now, cached=True)

    def _telling(self, flow: InboundFlow, now: float, *, cached: bool) -> InboundFlow:
        began = time.perf_counter()
        outcome = yield from flow
        if isinstance(outcome, Refusal):
            self._tell_refused(outcome.claimed_issuer, outcome.reason, now, cached=cached, began=began)
        elif outcome.principal is not None:  # for nobody, nothing was verified
            self._tell_accepted(outcome.principal, now, cached=cached, began=began)
        return outcome

    def _tell_accepted(self, principal: Principal, now: float, *, cached: bool, began: float) -> None:
        if cached:
            self._tell_recalled(principal, now)
            return
        self._observe(Verified(issuer=principal.issuer, at=now, seconds=time.perf_counter() - began))
        self._tell_stale(principal, now)

    def _tell_recalled(self, principal: Principal, now: float) -> None:
        issuer = principal.issuer
        event = self._recalled.get(issuer)
        if event is None:
            event = self._recalled[issuer] = Recalled(issuer)
        self._observe(event)
        self._tell_stale(principal, now)

    def _tell_stale(self, principal: Principal, now: float) -> None:
        # an old credential has no key
        place = self._resolver.place(principal.vouched_by or principal.issuer, principal.kid)
        if self._resolver.is_stale(place, now) and principal.kid:
            self._observe(StaleServed(principal.issuer))

    def _tell_refused(
        self, issuer: str | None, reason: Reason, now: float, *, cached: bool, began: float | None = None
    ) -> None:
        self._observe(
            Refused(
                issuer=issuer if issuer is not None and self._verifier.trust.knows(issuer) else UNKNOWN,
                reason=reason,
                cached=cached,
                at=now,
                seconds=0.0 if began is None else time.perf_counter() - began,
            )
        )


class ObservedSigner(Signer):
    """A `Signer` that tells observers what it signed, and what it handed out again.

    Args:
        observers: are told.
    """

    def __init__(
        self, issuer: str, *, life: int, min_key_age: Callable[[], float], observers: Observers
    ) -> None:
        super().__init__(issuer, life=life, min_key_age=min_key_age)
        self._observe = observers.observe

    def cached(
        self,
        ring: KeyRing,
        audience: str,
        scopes: frozenset[str] | None,
        now: float,
        confirmation: Confirmation | None = None,
        user: EndUser | None = None,
    ) -> str | None:
        """See `Signer.cached`."""
        token = super().cached(ring, audience, scopes, now, confirmation, user)
        if token is not None:
            self._observe(_KEPT)
        return token

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
        """See `Signer.mint`."""
        began = time.perf_counter()
        token = super().mint(
            ring, kind, audience, scopes, now, keep=keep, confirmation=confirmation, user=user
        )
        self._tell(kind, audience, now, began)
        return token

    def sign(self, ring: KeyRing, kind: TokenKind, claims: Mapping[str, Any], now: float) -> tuple[str, str]:
        """See `Signer.sign`."""
        began = time.perf_counter()
        signed = super().sign(ring, kind, claims, now)
        self._tell(kind, "", now, began)
        return signed

    def _tell(self, kind: TokenKind, audience: str, now: float, began: float) -> None:
        self._observe(Minted(kind=kind.value, audience=audience, at=now, seconds=time.perf_counter() - began))
