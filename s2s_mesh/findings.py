"""What `s2s-mesh doctor` says about a service itself: its name, its ring, its Redis. Judgments only, no I/O.

What it says about other services: `looks.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from .certificates import ProxyField
from .errors import ConfigError, KeyStoreError, StoreReason
from .identity import ServiceId
from .keyring import KeyRing
from .keys import SigningKey

_DAY = 86400
_CURES: Mapping[StoreReason, str] = {
    StoreReason.UNREACHABLE: "start the store, or name the right one in S2S_MESH_KEY_STORE (else REDIS_URL)",
    StoreReason.PERMISSIONS: "give this service its rights on the store, as the text says",
    StoreReason.CONFLICT: "run this again",
    StoreReason.PLAINTEXT: "find out who writes to this store; seal it: `s2s-mesh keys rewrap`",
    StoreReason.MISSING_KEY_ENCRYPTION_KEY: (
        "set S2S_MESH_KEY_ENCRYPTION_KEY to the one that the other processes of this service have"
    ),
    StoreReason.WRONG_KEY_ENCRYPTION_KEY: (
        "set S2S_MESH_KEY_ENCRYPTION_KEY to the one that sealed the ring; NEW,OLD opens either"
    ),
    StoreReason.OTHER_ISSUER: "set S2S_MESH_ISSUER to this service's own URL, or give it a store of its own",
}
_LOOK_INTO_STORE = "find out who wrote it; a running replica writes its ring back once the key is deleted"


class Verdict(str, Enum):
    """What came out of a check."""

    OK = "ok"
    WARN = "warn"  # works now; will not, or not as well as it could
    FAIL = "fail"  # calls fail, or would
    SKIPPED = "skipped"  # could not be looked at


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the doctor's table.

    Attributes:
        check: what was looked at.
        verdict: what came out.
        found: as it is.
        expected: as it should be.
        do: what to do next; empty where all is well.
    """

    check: str
    verdict: Verdict
    found: str
    expected: str = ""
    do: str = ""


def exit_code(findings: list[Finding]) -> int:
    """0 if nothing is to be done, 1 otherwise. What could not be looked at is no finding."""
    return int(any(finding.verdict in (Verdict.WARN, Verdict.FAIL) for finding in findings))


def bad_settings(error: ConfigError, issuer: str) -> Finding:
    """The environment is refused.

    Args:
        error: says what is wrong, and mostly what to do.
        issuer: as it is written in the environment.
    """
    better = None if _is_service_id(issuer) else nearest_service_id(issuer)
    return Finding(
        check="settings",
        verdict=Verdict.FAIL,
        found=str(error),
        expected="an environment that a service starts with",
        do="change the variable that is named, in every process of this service"
        if better is None
        else f"set S2S_MESH_ISSUER={better} in every process of this service; trust files name it so too",
    )


def nearest_service_id(text: str) -> str | None:
    """The service id that was probably meant, or None: https, lower case, no slash at the end."""
    host, slash, path = text.strip().partition("://")[2].rstrip("/").partition("/")
    meant = f"https://{host.lower()}{slash}{path}"
    return meant if _is_service_id(meant) else None


def _is_service_id(text: str) -> bool:
    try:
        ServiceId.parse(text, allow_loopback_http=True)
    except ConfigError:
        return False
    return True


def store_trouble(error: KeyStoreError) -> Finding:
    """The ring cannot be read."""
    return Finding(
        check="key ring",
        verdict=Verdict.FAIL,
        found=f"{error.reason.value}: {error}",
        expected="a ring that opens",
        do=_CURES.get(error.reason, _LOOK_INTO_STORE),
    )


def ring_ages(ring: KeyRing | None, now: float) -> Finding:
    """Whether the ring can sign, and somebody keeps it.

    Args:
        ring: as it is stored, or None where there is none.
        now: Unix seconds.
    """

    def finding(verdict: Verdict, found: str, do: str = "") -> Finding:
        expected = "a key that signs, and the next one published"
        return Finding(check="key ring", verdict=verdict, found=found, expected=expected, do=do)

    if ring is None:
        return finding(
            Verdict.FAIL,
            "there is none",
            "start the service, or run `s2s-mesh keys init` before its first job",
        )
    signing = ring.signing_record(now)
    if ring.expired(now):
        ended = max((record.sign_until for record in ring.records.values()), default=now)
        return finding(
            Verdict.FAIL,
            f"expired: its last key signed until {_days(now - ended)} ago",
            "start a process that serves the JWKS (the app, or `s2s-mesh serve`), which makes a new key, and "
            "keep it running: it is what rotates",
        )
    if signing is None:
        return finding(
            Verdict.FAIL, "every key is revoked or used up", "run `s2s-mesh keys init`, which makes a new one"
        )
    successor, left = ring.successor(now), signing.sign_until - now
    found = f"{signing.public.alg}, {_days(now - signing.created)} old, signs for another {_days(left)}"
    if successor is None:
        found += "; no next key"
    if successor is None or _is_overdue(ring, now - 2 * ring.schedule.replica_lag):
        return finding(
            Verdict.WARN,
            f"{found}; nobody rotates",
            "keep a process running that serves the JWKS (the app, or `s2s-mesh serve`): it is what rotates",
        )
    return finding(Verdict.OK, f"{found}; the next key is published")


def _is_overdue(ring: KeyRing, then: float) -> bool:
    """Whether a running process would have changed, by `then`, a ring that has its keys."""

    def generate() -> SigningKey:
        raise NotImplementedError  # a ring that signs now and has a successor wants no key at an earlier time

    return ring.advance(then, generate=generate) != ring


def redis_settings(facts: Mapping[str, str]) -> list[Finding]:
    """Whether Redis may throw the ring away.

    Args:
        facts: members of INFO, and `save` of CONFIG where that may be asked; those that are unknown are
            missing.
    """
    return [_eviction(facts), _persistence(facts)]


def unseen_redis(error: KeyStoreError) -> Finding:
    """Redis does not let us look, as most providers and every least-privilege user."""
    return Finding(
        check="Redis settings",
        verdict=Verdict.SKIPPED,
        found=f"{error.reason.value}: INFO is not answered",
        expected="maxmemory-policy noeviction, and persistence",
        do="see that they are so, in the provider's console or as an administrator",
    )


def believed_peers(proxies: ProxyField | None, forwarded_allow_ips: str) -> Finding | None:
    """Whether somebody could make the server name a proxy as its peer; None where no proxy is trusted.

    Args:
        proxies: as configured.
        forwarded_allow_ips: of the environment, as uvicorn and gunicorn read it.
    """
    if proxies is None:
        return None
    everybody = "*" in [item.strip() for item in forwarded_allow_ips.split(",")]
    found = f"{proxies.name} of trusted_proxies is believed"
    if everybody:
        found += "; and X-Forwarded-For of everybody, who can name any peer (FORWARDED_ALLOW_IPS=*)"
    return Finding(
        check="client certificates",
        verdict=Verdict.WARN if everybody else Verdict.OK,
        found=found,
        expected="a server that names its real peer",
        do="run uvicorn with --no-proxy-headers, and unset FORWARDED_ALLOW_IPS" if everybody else "",
    )


def _eviction(facts: Mapping[str, str]) -> Finding:
    policy = facts.get("maxmemory_policy", "unknown")
    limited = facts.get("maxmemory", "0") != "0"
    verdict = Verdict.OK
    if policy.startswith("allkeys"):
        verdict = Verdict.FAIL if limited else Verdict.WARN
    elif policy.startswith("volatile") or policy == "unknown":
        # the ring never expires; ids of used tokens do
        verdict = Verdict.WARN if limited else Verdict.OK
    found = f"{policy}, {'with' if limited else 'without'} a maxmemory limit"
    return Finding(
        check="Redis eviction",
        verdict=verdict,
        found=found,
        expected="noeviction: no key ring and no used token id is ever evicted",
        do=""
        if verdict is Verdict.OK
        else "CONFIG SET maxmemory-policy noeviction, and so in its configuration; or a Redis of its own",
    )


def _persistence(facts: Mapping[str, str]) -> Finding:
    expected = "AOF, or RDB snapshots"
    if facts.get("aof_enabled") == "1":
        verdict, found = Verdict.OK, "AOF"
    elif "save" not in facts:
        verdict, found = Verdict.SKIPPED, "no AOF; CONFIG is not answered, so snapshots are unknown"
    elif facts["save"]:
        verdict, found = Verdict.OK, "RDB snapshots"
    else:
        verdict, found = (
            Verdict.WARN,
            "none: a restart loses the ring, if no replica of the service runs then",
        )
    do = "" if verdict is Verdict.OK else "CONFIG SET appendonly yes, and the same in its configuration"
    return Finding(check="Redis persistence", verdict=verdict, found=found, expected=expected, do=do)


def _days(seconds: float) -> str:
    return f"{seconds / _DAY:.1f} d"
