"""The rotation schedule's inequalities, and the states of a key."""

from __future__ import annotations

from typing import Any

import pytest

from s2s_mesh.errors import ConfigError
from s2s_mesh.rotation import KeyState, RotationSchedule, key_state

# every inequality holds with nothing to spare
TIGHT = {
    "replica_lag": 30,
    "served_max_age": 300,
    "foreign_cache": 1200,
    "stale_grace": 3600,
    "max_token_life": 900,
    "max_skew": 60,
    "lead": 30 + 1200 + 3600 + 60,
    "drain": 30 + 900 + 60,
    "period": 4890 + 990,
}
LEAD = "lead >= replica_lag + max(served_max_age, foreign_cache) + stale_grace + max_skew is broken"
DRAIN = "drain >= replica_lag + max_token_life + max_skew is broken"
PERIOD = "period >= lead + drain is broken"


def problem(**changes: Any) -> str | None:
    try:
        RotationSchedule(**{**TIGHT, **changes})
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({}, [], id="accepted"),
        # each term of each inequality, by one second
        pytest.param({"lead": 4889}, [LEAD, "4889 s is 1 s less than 4890 s"], id="lead"),
        pytest.param({"replica_lag": 31}, [LEAD, "4890 s is 1 s less than 4891 s"], id="replica_lag"),
        pytest.param({"foreign_cache": 1201}, [LEAD, "1 s less than 4891 s"], id="foreign_cache"),
        pytest.param({"served_max_age": 1200}, [], id="served_max_age as long as foreign_cache"),
        pytest.param({"served_max_age": 1201}, [LEAD, "1 s less than 4891 s"], id="served_max_age"),
        pytest.param({"stale_grace": 3601}, [LEAD, "1 s less than 4891 s"], id="stale_grace"),
        pytest.param({"max_skew": 61}, [LEAD, "1 s less than 4891 s"], id="max_skew"),
        pytest.param({"drain": 989}, [DRAIN, "989 s is 1 s less than 990 s"], id="drain"),
        pytest.param({"max_token_life": 901}, [DRAIN, "990 s is 1 s less than 991 s"], id="max_token_life"),
        pytest.param(
            {"replica_lag": 31, "lead": 4891, "period": 5881},
            [DRAIN, "1 s less than 991 s"],
            id="replica_lag in drain",
        ),
        pytest.param(
            {"max_skew": 61, "lead": 4891, "period": 5881},
            [DRAIN, "1 s less than 991 s"],
            id="max_skew in drain",
        ),
        pytest.param({"period": 5879}, [PERIOD, "5879 s is 1 s less than 5880 s"], id="period"),
        pytest.param({"lead": 4891}, [PERIOD, "5880 s is 1 s less than 5881 s"], id="lead in period"),
        pytest.param({"drain": 991}, [PERIOD, "5880 s is 1 s less than 5881 s"], id="drain in period"),
        pytest.param({"lead": 4889.5}, [LEAD, "4889.5 s is 0.5 s less than 4890 s"], id="by half a second"),
        pytest.param({"lead": 3600}, [LEAD, "3600 s is 1290 s less than 4890 s"], id="by much"),
        # numbers that are none
        *(
            pytest.param({name: 0}, [name], id=f"{name} 0")
            for name in ("replica_lag", "served_max_age", "max_token_life", "max_skew")
        ),
        pytest.param(
            {"cache_floor": 0}, ["cache_floor must be finite and more than 0 s, not 0"], id="cache_floor 0"
        ),
        pytest.param({"max_skew": -1}, ["max_skew must be finite and more than 0 s, not -1"], id="negative"),
        pytest.param({"lead": float("nan")}, [LEAD], id="lead nan"),
        pytest.param({"cache_floor": float("nan")}, ["cache_floor"], id="cache_floor nan"),
        pytest.param({"max_skew": float("nan")}, ["max_skew"], id="max_skew nan"),
        # no clock ever reaches infinity, and JSON cannot write it
        pytest.param({"period": float("inf")}, ["period", "not inf"], id="period inf"),
        pytest.param({"cache_floor": float("inf")}, ["cache_floor", "not inf"], id="cache_floor inf"),
    ],
)
def test_inequalities(changes: dict[str, float], why: list[str]) -> None:
    """A schedule that could refuse a good token is refused; the text names the inequality and by how much."""
    found = problem(**changes)
    assert (found is not None) == bool(why)
    assert all(text in str(found) for text in why)


@pytest.mark.parametrize(
    ("profile", "lead", "drain", "period"),
    [
        (RotationSchedule.DEFAULT, 7200, 1800, 30 * 86400),
        (RotationSchedule.CLOUD_FEDERATION, 86400, 1800, 30 * 86400),
        (RotationSchedule.FAST_FOR_TESTS, 4, 4, 8),
    ],
)
def test_profiles(profile: RotationSchedule, lead: float, drain: float, period: float) -> None:
    """The profiles keep their own inequalities and have the documented times."""
    assert (profile.lead, profile.drain, profile.period) == (lead, drain, period)
    assert RotationSchedule(**{name: getattr(profile, name) for name in profile.__struct_fields__}) == profile


def test_the_default_profile_is_the_default() -> None:
    """A schedule without arguments is the default profile."""
    assert RotationSchedule() == RotationSchedule.DEFAULT


def test_a_schedule_never_changes() -> None:
    """No time of a schedule can be set after it was checked."""
    with pytest.raises(AttributeError):
        RotationSchedule().lead = 1  # type: ignore[misc]


def test_replicas_poll_three_times_per_lag() -> None:
    """Two polls may fail and every replica has still seen a change within `replica_lag`."""
    assert RotationSchedule(replica_lag=30).poll_interval == 10


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (0, KeyState.PRE_ACTIVATION),
        (99.9, KeyState.PRE_ACTIVATION),
        (100, KeyState.ACTIVE),
        (199.9, KeyState.ACTIVE),
        (200, KeyState.DEACTIVATED),
        (299.9, KeyState.DEACTIVATED),
        (300, KeyState.DESTROYED),
        (1e9, KeyState.DESTROYED),
    ],
)
def test_states(now: float, state: KeyState) -> None:
    """The state of a key is a function of the clock; each time belongs to the state that it begins."""
    times = {"sign_from": 100.0, "sign_until": 200.0, "remove_at": 300.0}
    assert key_state(now, **times, revoked_at=None) is state
    assert key_state(now, **times, revoked_at=250) is KeyState.COMPROMISED
