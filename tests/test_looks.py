"""What the doctor makes of other services: values in, findings out."""

from __future__ import annotations

import msgspec
import pytest

from s2s_mesh.findings import Finding, Verdict
from s2s_mesh.jwks import JWKSet
from s2s_mesh.looks import (
    Look,
    clocks,
    file_age,
    headers,
    issuer_keys,
    own_part,
    own_url,
    pair,
    seconds_ahead,
)
from s2s_mesh.rotation import RotationSchedule
from s2s_mesh.trust import TrustConfig

from .test_findings import ring
from .tokens import EDGE, LEDGER, NOW, WALLETS, key

PLACE = f"{EDGE}/.well-known/jwks.json"
GOOD = Look(place=PLACE, jwks=JWKSet([key().public]), max_age=300, etag='"x"', ahead=0)
AWAY = Look(place=PLACE, error=f"{PLACE}: refused")
TRUST = TrustConfig.parse(
    f'version = 1\n[issuers."{EDGE}"]\nleeway = "60s"\n'
    f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
    f'[[allow]]\nissuer = "{LEDGER}"\naudience = "{WALLETS}"\n'
)


def changed(**members: object) -> Look:
    """The good look, changed."""
    return msgspec.structs.replace(GOOD, **members)


@pytest.mark.parametrize(
    ("shown", "ahead"),
    [(100, 0), (99, 0), (101, 0), (102, 0.5), (110, 8.5), (98, -1), (90, -9)],
)
def test_seconds_ahead(shown: float, ahead: float) -> None:
    """Nothing is certain about the time between question and answer, and the rest of a second."""
    assert seconds_ahead(100.0, 101.5, shown) == ahead


def test_own_url() -> None:
    """It answers, with the key that signs; anything else is told with its cure."""
    kept = ring()
    look = changed(jwks=kept.jwks(NOW))
    assert [f.verdict.value for f in own_url(EDGE, look, kept, NOW)] == ["ok", "ok"]
    assert [f.verdict.value for f in own_url(EDGE, GOOD, kept, NOW)] == ["ok", "fail"]
    assert [f.verdict.value for f in own_url(EDGE, GOOD, None, NOW)] == ["ok"]
    (away,) = own_url(EDGE, AWAY, kept, NOW)
    assert (away.verdict, away.found) == (Verdict.FAIL, f"{PLACE}: refused")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, "ETag, fresh for 300 s"),
        ({"max_age": 1200}, "ETag, fresh for 1200 s"),
        ({"etag": None}, "no ETag"),
        ({"max_age": None}, "no Cache-Control: max-age"),
        ({"max_age": 1201}, "max-age 1201: a revoked key stays in use for as long"),
        ({"max_age": 86400, "etag": None}, "no ETag; max-age 86400: a revoked key stays in use for as long"),
    ],
)
def test_headers(changes: dict[str, object], found: str) -> None:
    """What a cache needs, within what the rotation schedule takes for granted."""
    finding = headers("headers", changed(**changes), RotationSchedule.DEFAULT)
    assert finding is not None
    assert finding.found == found
    assert (finding.verdict is Verdict.OK, finding.do == "") == (found.startswith("ETag"),) * 2


def test_no_headers() -> None:
    """A file has none, and where nothing came there are none."""
    assert headers("x", AWAY, RotationSchedule.DEFAULT) is None
    assert headers("x", changed(place="edge.json"), RotationSchedule.DEFAULT) is None


def clock_findings(**ahead: float | None) -> list[Finding]:
    ids = {"edge": EDGE, "ledger": LEDGER, "wallets": WALLETS}
    return list(clocks({ids[name]: changed(ahead=by) for name, by in ahead.items()}, TRUST))


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        ({"edge": None}, [("clock", "skipped", "no server said what time it is")]),
        ({"edge": 5}, [("clock", "ok", "agrees with the server that was asked")]),
        ({"edge": 0, "ledger": -5}, [("clock", "ok", "agrees with the 2 servers that were asked")]),
        ({"edge": 59}, [(f"clock of {EDGE}", "warn", "59 s fast; tokens are forgiven 60 s")]),
        ({"edge": -61}, [(f"clock of {EDGE}", "fail", "61 s slow; tokens are forgiven 60 s")]),
        (
            {"edge": 0, "ledger": 0, "wallets": 31},
            [(f"clock of {WALLETS}", "fail", "31 s fast; tokens are forgiven 30 s")],
        ),
        (
            {"edge": 40, "ledger": 40, "wallets": 0},
            [("clock of this machine", "fail", "40 s slow; tokens are forgiven 30 s")],
        ),
        ({"edge": 0, "ledger": -40}, [(f"clock of {LEDGER}", "fail", "40 s slow; tokens are forgiven 30 s")]),
        (
            {"edge": -61, "ledger": -62},
            [("clock of this machine", "fail", "62 s fast; tokens are forgiven 30 s")],
        ),
        (
            {"edge": 59, "ledger": -40},
            [
                (f"clock of {EDGE}", "warn", "59 s fast; tokens are forgiven 60 s"),
                (f"clock of {LEDGER}", "fail", "40 s slow; tokens are forgiven 30 s"),
            ],
        ),
    ],
)
def test_clocks(ahead: dict[str, float | None], said: list[tuple[str, str, str]]) -> None:
    """One that differs is theirs or ours: ours where most of the others would have to be wrong alike."""
    found = clock_findings(**ahead)
    assert [(f.check, f.verdict.value, f.found) for f in found] == said
    assert all(("NTP" in f.do) == (f.verdict in (Verdict.WARN, Verdict.FAIL)) for f in found)


@pytest.mark.parametrize(
    ("look", "verdict", "found"),
    [
        (GOOD, "ok", "1 key for ES256"),
        (changed(jwks=JWKSet([key().public, key("RS256").public])), "ok", "2 keys for ES256, RS256"),
        (AWAY, "fail", f"{PLACE}: refused"),
        (changed(jwks=JWKSet([])), "fail", "no usable key: all of them are revoked"),
        (changed(jwks=JWKSet([key("Ed25519").public])), "fail", "only keys for Ed25519"),
    ],
)
def test_issuer_keys(look: Look, verdict: str, found: str) -> None:
    """They are there, and of an algorithm that the trust file accepts."""
    finding = issuer_keys(TRUST.issuers[EDGE], look)
    assert (finding.verdict.value, finding.found) == (verdict, found)
    assert (finding.do == "") == (verdict == "ok")


@pytest.mark.parametrize(
    ("issuer", "audience", "verdict", "found"),
    [
        (GOOD, GOOD, "ok", "both ends answer"),
        (GOOD, changed(jwks=None, status=404), "ok", "both ends answer"),
        (GOOD, AWAY, "warn", "one-way: the issuer signs, and nobody answers at the audience (refused)"),
        (AWAY, GOOD, "fail", "one-way: the audience answers, and refuses all calls"),
        (changed(jwks=JWKSet([key("Ed25519").public])), GOOD, "fail", "one-way: the audience answers"),
        (AWAY, AWAY, "fail", "neither end answers"),
    ],
)
def test_pairs(issuer: Look, audience: Look, verdict: str, found: str) -> None:
    """Both ends, one of them, none."""
    finding = pair(TRUST.pairs[EDGE, WALLETS], TRUST.issuers[EDGE], issuer, audience)
    assert finding.verdict.value == verdict
    assert finding.found.startswith(found)
    assert (finding.do == "") == (verdict == "ok")


@pytest.mark.parametrize(
    ("look", "published", "verdict"),
    [
        (GOOD, None, "ok"),
        (changed(jwks=None, status=503), None, "ok"),
        (changed(jwks=None, status=404), None, "fail"),
        (changed(jwks=None, status=308), None, "fail"),
        (GOOD, GOOD, "ok"),
        (GOOD, AWAY, "ok"),
        (AWAY, GOOD, "ok"),
        (GOOD, changed(jwks=JWKSet([key().public, key(name="next").public])), "warn"),
        (GOOD, changed(jwks=JWKSet([key(name="next").public])), "fail"),
    ],
)
def test_file_age(look: Look, published: Look | None, verdict: str) -> None:
    """Whoever moved, and pinned keys that are not those of today; what is merely down says nothing."""
    (finding,) = file_age(
        TRUST, {EDGE: look, WALLETS: changed(status=404)}, {EDGE: published} if published else {}
    )
    assert finding.verdict.value == verdict
    assert (finding.do == "") == (verdict == "ok")


def test_own_part() -> None:
    """A trust file without a row about this service is probably another one's."""
    assert own_part(TRUST, [WALLETS]).found == "2 may call this service, and it may call 0"
    assert own_part(TRUST, [EDGE, "https://alias.example.com"]).verdict is Verdict.OK
    stranger = own_part(TRUST, ["https://new.example.com"])
    assert (stranger.verdict, stranger.do[:28]) == (Verdict.WARN, "see that S2S_MESH_TRUST_FILE")
