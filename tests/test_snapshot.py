"""How things stand, as observers see it, in a service that runs."""

from __future__ import annotations

from pathlib import Path

from s2s_mesh import RotationSchedule

from .observing import Listener
from .receiver import Receiver
from .servers import wait_until
from .test_service import service
from .tokens import EDGE, LEDGER, NOW, frozen, good, key

DEFAULT = RotationSchedule.DEFAULT


def test_a_receiver_that_only_verifies(tmp_path: Path) -> None:
    """It is ready without a ring; its issuers are those of the trust file, whether they answered or not."""
    heard = Listener()
    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key(), key("RS256")], observers=[heard])
        (tmp_path / "ledger.jwks.json").unlink()
        assert receiver.call(good()).status == 200
        runtime = receiver.service.running()
        wait_until(lambda: bool(runtime.resolver.last_error(LEDGER)))
        state = heard.state
        receiver.close()
    assert state.ready
    assert (state.key_store_failed, state.rotated_at, state.rotation_period) == (None, None, None)
    by_issuer = {known.issuer: known for known in state.jwks}
    assert set(by_issuer) == {EDGE, LEDGER}
    assert (by_issuer[EDGE].fetched_at, by_issuer[EDGE].keys) == (NOW, 2)
    assert by_issuer[EDGE].stale_until == NOW + DEFAULT.cache_floor + DEFAULT.stale_grace
    assert (by_issuer[LEDGER].fetched_at, by_issuer[LEDGER].stale_until) == (None, 0)


def test_a_service_with_a_ring() -> None:
    """Its first key has just taken over, and hands over after the period."""
    heard = Listener()
    with frozen(), service(observers=[heard]) as made:
        made.token(LEDGER)
        wait_until(lambda: heard.state.deny_list_known is True)
        state = heard.state
    assert (state.now, state.ready, state.key_store_failed) == (NOW, True, False)
    assert state.rotated_at == NOW - 2 * DEFAULT.max_skew  # the first key could always sign
    assert state.next_rotation_at == NOW + DEFAULT.period
    assert state.rotation_period == DEFAULT.period


def test_a_service_without_its_store() -> None:
    """It is not ready, and the store is what fails; the deny list is not known."""
    heard = Listener()
    made = service(key_store="redis://127.0.0.1:1/0", allow_unsealed_key_store=True, observers=[heard])
    with made:
        wait_until(lambda: heard.state.key_store_failed is True)
        state = heard.state
    assert not state.ready
    assert state.deny_list_known is False
    assert (state.rotated_at, state.next_rotation_at) == (None, None)
