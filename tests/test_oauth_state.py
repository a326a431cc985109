"""How long a token is sent, when it is renewed, and when nobody asks."""

from __future__ import annotations

from s2s_mesh.oauth_answer import Granted
from s2s_mesh.oauth_state import Held, TokenState

from .tokens import NOW

ERROR = ValueError("why")


def holding(life: int = 300, share: float = 0.75) -> TokenState:
    state = TokenState()
    state.granted(Granted("one", life), NOW, share)
    return state


def test_a_token_is_sent_until_shortly_before_its_end() -> None:
    """A request takes its time."""
    state = holding()
    assert state.usable(NOW) == "one"
    assert state.usable(NOW + 294.9) == "one"
    assert state.usable(NOW + 295) is None
    assert holding(life=10).usable(NOW + 8.9) == "one"
    assert holding(life=10).usable(NOW + 9) is None


def test_nothing_is_known_at_first() -> None:
    """And it may be asked for at once."""
    state = TokenState()
    assert state.usable(NOW) is None
    assert state.may_ask(NOW)


def test_it_is_renewed_while_it_is_still_good() -> None:
    """After its share of life."""
    state = holding()
    assert not state.may_ask(NOW + 224)
    assert state.may_ask(NOW + 225)
    assert state.usable(NOW + 225) == "one"


def test_a_failed_renewal_keeps_the_old_one_and_waits_longer_each_time() -> None:
    """1, 2, 4 seconds and so on, half a minute at most; forgotten when one succeeds."""
    state = holding()
    at = NOW + 225.0
    for pause in (1, 2, 4, 8, 16, 30, 30):
        state.failed(ERROR, at)
        assert state.usable(at) == "one"
        assert not state.may_ask(at)
        assert not state.may_ask(at + pause - 0.01)
        at += pause
        assert state.may_ask(at)
    assert state.error is ERROR
    assert state.usable(NOW + 295) is None
    state.granted(Granted("two", 300), at, 0.75)
    assert (state.usable(at), str(state.error)) == ("two", "None")
    state.failed(ERROR, at + 225)
    assert state.may_ask(at + 226)


def test_a_server_that_fails_for_days_is_still_asked_twice_a_minute() -> None:
    """However often it has failed."""
    state = TokenState()
    for _ in range(1100):
        state.failed(ERROR, NOW)
    assert not state.may_ask(NOW + 29)
    assert state.may_ask(NOW + 30)


def test_a_pause_ends_with_the_failures_it_is_for() -> None:
    """A token that came meanwhile may be refused and replaced at once."""
    state = TokenState()
    for _ in range(9):
        state.failed(ERROR, NOW)
    state.granted(Granted("one", 300), NOW + 1, 0.75)
    assert state.forget("one", NOW + 10)
    assert state.may_ask(NOW + 10)


def test_a_clock_that_goes_back_makes_nothing_fresher() -> None:
    """Whether the token is still good, nobody can tell; and no pause lasts for ever."""
    state = holding()
    assert state.usable(NOW - 1) is None
    assert state.may_ask(NOW - 1)
    state.failed(ERROR, NOW)
    assert state.may_ask(NOW - 1)


def test_a_refused_token_is_forgotten() -> None:
    """But not one that a newer one has replaced, nor one that came a moment ago."""
    state = holding()
    assert not state.forget("one", NOW + 4)
    assert state.usable(NOW + 4) == "one"
    assert state.forget("other", NOW + 10)
    assert state.usable(NOW + 10) == "one"
    assert state.forget("one", NOW + 10)
    assert state.usable(NOW + 10) is None
    assert state.may_ask(NOW + 10)
    assert state.forget("one", NOW + 10)  # by whoever was sent it at the same time
    assert holding().forget("one", NOW + 5)
    assert holding().forget("one", NOW - 1)


def test_a_held_token_is_never_shown() -> None:
    """Not by repr, and not by a rich traceback."""
    held = Held("one", NOW, NOW, NOW + 1)
    assert repr(held) == f"Held(until={NOW + 1})"
    assert held.__rich_repr__() == [("until", NOW + 1)]
