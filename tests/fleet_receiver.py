"""A receiver of a simulated fleet: verifier, caches and freshness are the real ones, the network is not."""

from __future__ import annotations

import functools
from collections.abc import Callable

from s2s_mesh import settings
from s2s_mesh.effects import Answer, FetchJWKS
from s2s_mesh.errors import JWKSUnavailable, TokenRejected
from s2s_mesh.jwks import JWKSet
from s2s_mesh.resolver import KeyResolver, Why
from s2s_mesh.rotation import RotationSchedule
from s2s_mesh.trust import TrustConfig
from s2s_mesh.verifier import Verifier

from .tokens import EDGE, WALLETS

Fetch = Callable[[], JWKSet | None]


@functools.cache
def _trust() -> TrustConfig:
    return TrustConfig.parse(
        f'version = 1\n[issuers."{EDGE}"]\nalgorithms = ["ES256", "Ed25519"]\n'
        f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
    )


class Receiver:
    """`wallets`, called by `edge`.

    Args:
        offset: seconds by which its clock is ahead.
        schedule: that of the fleet.

    Attributes:
        fetched_at: the clock when it last had an answer; None before the first.
        online: whether it can reach the issuer.
    """

    def __init__(self, offset: float, schedule: RotationSchedule) -> None:
        configured = settings.build(issuer=WALLETS, trust=_trust(), key_store=None, schedule=schedule)
        self._resolver = KeyResolver(configured.cache_limits)
        self._verifier = Verifier(audiences=configured.audiences, trust=_trust(), resolver=self._resolver)
        self._max_age = schedule.served_max_age
        self.offset = offset
        self.fetched_at: float | None = None
        self.online = True

    def refresh(self, now: float, fetch: Fetch) -> None:
        """What the housekeeper does."""
        if self._resolver.allowed(EDGE, Why.REFRESH, now):
            self._fetch(Why.REFRESH, now, fetch)

    def accepts(self, token: bytes, now: float, fetch: Fetch) -> bool:
        """Whether it lets the caller in.

        Args:
            token: as it came.
            now: the receiver's clock.
            fetch: what the issuer answers, None for no answer.
        """
        if self._verifier.cached(token, now) is not None:
            return True
        flow = self._verifier.verify(token, now)
        try:
            wanted = next(flow)
            while True:
                assert isinstance(wanted, FetchJWKS)
                why = self._resolver.needed(wanted.issuer, wanted.kid, now)
                if why is not None and self._resolver.allowed(wanted.issuer, why, now):
                    self._fetch(why, now, fetch)
                wanted = flow.send(Answer(now))
        except StopIteration:
            return True
        except (TokenRejected, JWKSUnavailable):
            return False

    def _fetch(self, why: Why, now: float, fetch: Fetch) -> None:
        self._resolver.begin(EDGE, why, now)
        answer = fetch() if self.online else None
        if answer is None:
            self._resolver.failed(EDGE, now, "cut off")
        else:
            self._resolver.succeeded(EDGE, answer, now, max_age=self._max_age)
            self.fetched_at = now
