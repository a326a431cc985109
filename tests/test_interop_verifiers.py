"""Other people's verifiers, each a real one, accept our tokens, and go on doing so while our keys rotate."""

from __future__ import annotations

from typing import Any

import pytest

from s2s_mesh import RotationSchedule
from s2s_mesh.keys import ALGORITHMS

from .interop.cannot import CANNOT
from .interop.fleet import Asked, Found, run
from .interop.issuers import CACHE, MIXED, SCHEDULE
from .interop.once import once
from .interop.starts import SLOW, STARTS
from .servers import missing

KNOWN = [(name, alg) for name in STARTS for alg in sorted(ALGORITHMS) if (name, alg) not in CANNOT]
LEAST_CALLS = 9  # of one verifier with one algorithm while keys rotate


def cells(column: str, pairs: list[tuple[str, str]], *, cannot: bool = False) -> list[Any]:
    """A parameter set for each verifier and algorithm, marked as what it proves."""
    return [
        pytest.param(
            program,
            algorithm,
            marks=pytest.mark.interop(program=program, column=column, cannot=cannot),
            id=f"{program}-{algorithm}",
        )
        for program, algorithm in pairs
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the fleet said, which runs once."""
    return once("interop-fleet", Found, tmp_path_factory, run)


def asked(found: Found, program: str, algorithm: str) -> Asked:
    """Of one verifier and one algorithm, if it is here."""
    if program in found.missing:
        missing(found.missing[program])
    return found.asked[program][algorithm]


@pytest.mark.parametrize(("program", "algorithm"), cells("accept", KNOWN))
def test_a_good_token_is_accepted(found: Found, program: str, algorithm: str) -> None:
    """By every verifier, with every algorithm that it knows."""
    answer = asked(found, program, algorithm).good
    assert answer.accepted, answer.why


@pytest.mark.parametrize(("program", "algorithm"), cells("accept", [*CANNOT], cannot=True))
def test_an_algorithm_that_a_verifier_does_not_know_is_refused(
    found: Found, program: str, algorithm: str
) -> None:
    """For the reason that is listed; should it learn the algorithm, the list is to be shortened."""
    answer = asked(found, program, algorithm).good
    assert not answer.accepted
    assert CANNOT[program, algorithm].says in answer.why


@pytest.mark.parametrize(
    "program",
    [pytest.param(name, marks=pytest.mark.interop(program=name, column="accept")) for name in STARTS],
)
def test_keys_of_other_algorithms_are_in_nobodys_way(found: Found, program: str) -> None:
    """While an issuer changes its algorithm, its JWKS has keys that a verifier may not know beside those of
    ES256, with which it still signs."""
    answer = asked(found, program, MIXED).good
    assert answer.accepted, answer.why


@pytest.mark.parametrize(("program", "algorithm"), cells("wrong audience", KNOWN))
def test_a_token_for_somebody_else_is_refused(found: Found, program: str, algorithm: str) -> None:
    """It differs from the good one in its audience only."""
    assert not asked(found, program, algorithm).misdirected.accepted


@pytest.mark.parametrize(("program", "algorithm"), cells("expired", KNOWN))
def test_an_expired_token_is_refused(found: Found, program: str, algorithm: str) -> None:
    """It differs from the good one in its times only."""
    assert not asked(found, program, algorithm).expired.accepted


@pytest.mark.parametrize(("program", "algorithm"), cells("rotation", KNOWN))
def test_no_call_fails_while_keys_rotate(found: Found, program: str, algorithm: str) -> None:
    """Three keys sign, one after another; the third is published when the second begins to sign, and the
    lead, at the end of which it signs itself, is longer than the verifier keeps keys."""
    assert SCHEDULE.lead > CACHE
    notes = asked(found, program, algorithm)
    assert notes.refusals == {}
    assert len(notes.kids) == 3
    assert notes.calls >= LEAST_CALLS


@pytest.mark.interop(program="Envoy jwt_authn", column="rotation")
@pytest.mark.parametrize("algorithm", [algorithm for name, algorithm in KNOWN if name == "Envoy jwt_authn"])
def test_calls_fail_where_the_lead_is_shorter_than_the_cache(found: Found, algorithm: str) -> None:
    """Envoy with `cache_duration: 600s` goes on with the keys it has: the third is refused, and no other.

    The default lead is longer than that.
    """
    if "Envoy jwt_authn" in found.missing:
        missing(found.missing["Envoy jwt_authn"])
    notes = found.asked[SLOW][algorithm]
    assert notes.good.accepted
    assert list(notes.refusals) == notes.kids[2:] != []
    assert set(notes.refusals[notes.kids[2]]) == {"Jwks doesn't have key to match kid or alg from Jwt"}
    assert RotationSchedule.DEFAULT.lead > 600 > SCHEDULE.lead
