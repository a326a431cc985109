"""How things stand in this process, read from what runs: no lock, no I/O, and nothing is kept for it."""

from __future__ import annotations

from .observer import JWKSState, Snapshot
from .runtime import Runtime


def is_ready(runtime: Runtime) -> bool:
    """Whether this process holds a ring, or needs none."""
    return runtime.manager is None or runtime.ring is not None


def snapshot(runtime: Runtime, now: float) -> Snapshot:
    """What observers see at `now` (Unix seconds)."""
    resolver, manager, ring = runtime.resolver, runtime.manager, runtime.ring
    signing = None if ring is None else ring.signing_record(now)
    took_over = [] if ring is None else [r.sign_from for r in ring.records.values() if r.sign_from <= now]
    return Snapshot(
        now=now,
        ready=is_ready(runtime),
        jwks=tuple(
            JWKSState(
                issuer=issuer,
                fetched_at=resolver.fetched_at(place),
                stale_until=resolver.stale_until(place),
                keys=len(resolver.keys(place)),
            )
            for issuer in runtime.verifier.trust.key_sources
            # of several, that which is out of date first
            for place in sorted(resolver.places(issuer), key=resolver.stale_until)[:1]
        ),
        deny_list_known=None if runtime.deny is None else runtime.verifier.deny is not None,
        key_store_failed=None if manager is None else manager.last_error is not None,
        rotated_at=max(took_over, default=None),
        next_rotation_at=None if signing is None else signing.may_sign_until(),
        rotation_period=None if ring is None else ring.schedule.period,
    )
