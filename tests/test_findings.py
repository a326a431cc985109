"""What the doctor makes of settings, rings and Redis; values in, findings out."""

from __future__ import annotations

import pytest

from s2s_mesh.certificates import ProxyField
from s2s_mesh.errors import ConfigError, KeyStoreError, StoreReason
from s2s_mesh.findings import (
    Finding,
    Verdict,
    bad_settings,
    believed_peers,
    exit_code,
    nearest_service_id,
    redis_settings,
    ring_ages,
    store_trouble,
    unseen_redis,
)
from s2s_mesh.keyring import KeyRing
from s2s_mesh.keys import SigningKey
from s2s_mesh.rotation import RotationSchedule

from .tokens import NOW, WALLETS

DAY = 86400
NOEVICTION = {"maxmemory_policy": "noeviction", "maxmemory": "0", "aof_enabled": "1"}


def ring(at: float = NOW) -> KeyRing:
    """A ring that is made at `at`."""
    empty = KeyRing(WALLETS, RotationSchedule.DEFAULT)
    return empty.advance(at, generate=lambda: SigningKey.generate("ES256"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://wallets.example.com/", WALLETS),
        ("http://wallets.example.com", WALLETS),
        (" HTTPS://Wallets.Example.com/", WALLETS),
        ("https://a.example.com/Team//", "https://a.example.com/Team"),
        ("https://a b", None),
        ("", None),
    ],
)
def test_nearest_service_id(text: str, meant: str | None) -> None:
    """The spelling that was probably meant, if it is a good one."""
    assert nearest_service_id(text) == meant


def test_bad_settings() -> None:
    """A bad id is named with the good one; otherwise the text says what to do."""
    slash = bad_settings(ConfigError("no trailing slash"), f"{WALLETS}/")
    assert slash.do.startswith(f"set S2S_MESH_ISSUER={WALLETS} ")
    other = bad_settings(ConfigError("algorithm"), WALLETS)
    assert (other.found, other.do) == (
        "algorithm",
        "change the variable that is named, in every process of this service",
    )


@pytest.mark.parametrize("reason", StoreReason)
def test_store_trouble(reason: StoreReason) -> None:
    """Every reason has a next step."""
    found = store_trouble(KeyStoreError(reason, "words"))
    assert (found.verdict, found.found) == (Verdict.FAIL, f"{reason.value}: words")
    assert found.do


def test_ring_in_order() -> None:
    """Its ages are said."""
    found = ring_ages(ring(), NOW + 3 * DAY)
    assert (found.verdict, found.do) == (Verdict.OK, "")
    assert found.found == "ES256, 3.0 d old, signs for another 27.0 d; the next key is published"


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [
        (29.9, Verdict.OK, "the next key is published"),
        (31, Verdict.WARN, "no next key; nobody rotates"),
        (59.9, Verdict.WARN, "no next key; nobody rotates"),
        (61, Verdict.FAIL, "expired: its last key signed until 1.0 d ago"),
    ],
)
def test_ring_that_nobody_keeps(days: float, verdict: Verdict, words: str) -> None:
    """With time it lacks a next key, and then any; whoever serves the JWKS would rotate."""
    found = ring_ages(ring(), NOW + days * DAY)
    assert found.verdict is verdict
    assert words in found.found
    assert ("s2s-mesh serve" in found.do) == (verdict is not Verdict.OK)


def test_ring_that_is_overdue() -> None:
    """Two keys, one of which should have been erased for an hour: nobody looks after it."""
    made = ring()
    kid = made.signing_record(NOW).kid  # type: ignore[union-attr]
    later = NOW + 31 * DAY
    kept = made.advance(later, generate=lambda: SigningKey.generate("ES256"))
    assert ring_ages(kept, later + 1).verdict is Verdict.OK
    private = made.records[kid]
    unkept = KeyRing(WALLETS, kept.schedule, {**kept.records, kid: private}.values())
    found = ring_ages(unkept, later + 3600)
    assert (found.verdict, found.found.endswith("; nobody rotates")) == (Verdict.WARN, True)


def test_ring_without_a_key() -> None:
    """None at all, and one whose keys are all revoked."""
    assert ring_ages(None, NOW).found == "there is none"
    revoked = ring()
    for kid in revoked.records:
        revoked = revoked.compromise(kid, NOW)
    assert ring_ages(revoked, NOW).found == "every key is revoked or used up"
    assert "expired" in ring_ages(KeyRing(WALLETS, RotationSchedule.DEFAULT), NOW).found


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, ("ok", "ok")),
        ({"maxmemory": "1000"}, ("ok", "ok")),
        ({"maxmemory_policy": "allkeys-lru"}, ("warn", "ok")),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": "1000"}, ("fail", "ok")),
        ({"maxmemory_policy": "volatile-ttl"}, ("ok", "ok")),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": "1000"}, ("warn", "ok")),
        ({"aof_enabled": "0"}, ("ok", "skipped")),
        ({"aof_enabled": "0", "save": "3600 1"}, ("ok", "ok")),
        ({"aof_enabled": "0", "save": ""}, ("ok", "warn")),
    ],
)
def test_redis(changes: dict[str, str], verdicts: tuple[str, str]) -> None:
    """Eviction, and what a restart leaves; what is not well has a next step."""
    found = redis_settings({**NOEVICTION, **changes})
    assert tuple(finding.verdict.value for finding in found) == verdicts
    assert [finding.do != "" for finding in found] == [verdict != "ok" for verdict in verdicts]


def test_redis_that_says_nothing() -> None:
    """A server that leaves members out is believed to be as it should be; one that refuses is skipped."""
    assert redis_settings({})[0].verdict is Verdict.OK
    assert unseen_redis(KeyStoreError(StoreReason.PERMISSIONS, "x")).verdict is Verdict.SKIPPED


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("skipped", 0), ("warn", 1), ("fail", 1)])
def test_exit_code(verdict: str, code: int) -> None:
    """What is to be done makes it 1, what could not be seen does not."""
    well = Finding(check="a", verdict=Verdict.OK, found="")
    assert exit_code([well, Finding(check="b", verdict=Verdict(verdict), found="")]) == code


@pytest.mark.parametrize(
    ("allowed", "verdict"),
    [("", Verdict.OK), ("127.0.0.1,::1", Verdict.OK), ("*", Verdict.WARN), ("10.0.0.1, *", Verdict.WARN)],
)
def test_whoever_trusts_proxies_has_a_server_that_names_its_real_peer(allowed: str, verdict: Verdict) -> None:
    """Not one that believes X-Forwarded-For of everybody."""
    found = believed_peers(ProxyField("client-cert", ["10.0.0.0/8"]), allowed)
    assert found is not None
    assert (found.verdict, bool(found.do)) == (verdict, verdict is Verdict.WARN)
    assert believed_peers(None, allowed) is None
