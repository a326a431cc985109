"""Observers: told everything, never in the way, and nothing at all where there are none."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from s2s_mesh import ConfigError, Reason, Service
from s2s_mesh.inbound import Inbound
from s2s_mesh.observer import (
    ACCEPTED,
    CoolingDown,
    Event,
    JWKSFetched,
    Kept,
    Minted,
    Observers,
    Recalled,
    Refused,
    StaleServed,
    Verified,
)
from s2s_mesh.signer import Signer

from .observing import Listener
from .test_service import EMPTY, service
from .tokens import EDGE, NOW, WALLETS

EVENTS: list[tuple[Event, tuple[str, ...]]] = [
    (Recalled(EDGE), (EDGE, ACCEPTED, "true")),
    (Verified(issuer=EDGE, at=NOW, seconds=0.1), (EDGE, ACCEPTED, "false")),
    (
        Refused(issuer=EDGE, reason=Reason.EXPIRED, cached=False, at=NOW, seconds=0.1),
        (EDGE, "expired", "false"),
    ),
    (
        Refused(issuer=EDGE, reason=Reason.NO_ROUTE_RULE, cached=True, at=NOW, seconds=0),
        (EDGE, "no_route_rule", "true"),
    ),
    (StaleServed(EDGE), (EDGE,)),
    (JWKSFetched(issuer=EDGE, why="cold", result="fetched", at=NOW, seconds=1), (EDGE, "cold", "fetched")),
    (CoolingDown(issuer=EDGE, why="unknown_kid"), (EDGE, "unknown_kid")),
    (Minted(kind="at+jwt", audience=WALLETS, at=NOW, seconds=0.1), ("at+jwt", "minted")),
    (Kept("at+jwt"), ("at+jwt", "kept")),
]


@pytest.mark.parametrize(("event", "labels"), EVENTS, ids=lambda value: type(value).__name__)
def test_the_labels_of_an_event(event: Event, labels: tuple[str, ...]) -> None:
    """Each event says under which values of its metric's labels it counts."""
    assert event.labels == labels


def test_every_event_has_labels() -> None:
    """The table above holds every kind of event; what is no kind has no labels."""
    assert {type(event) for event, _ in EVENTS} == set(Event.__subclasses__())
    with pytest.raises(NotImplementedError):
        _ = Event().labels


class Broken(Listener):
    """Fails at every event."""

    def observe(self, event: Event) -> None:
        super().observe(event)
        raise ValueError("the disk is full")


def test_an_observer_that_fails_is_logged_once_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The service goes on, and so do the observers after it."""
    broken, after = Broken(), Listener()
    observers = Observers([broken, after])
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            observers.observe(Recalled(EDGE))
    assert len(broken.events) == len(after.events) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "an observer failed, which is logged once: Broken"
    ]


def test_not_even_the_log_gets_in_the_way() -> None:
    """A logging filter that raises as well changes nothing."""

    def raises(_record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter of the application")

    log = logging.getLogger("s2s_mesh")
    log.addFilter(raises)
    try:
        Observers([Broken()]).observe(Recalled(EDGE))
    finally:
        log.removeFilter(raises)


@pytest.mark.parametrize("wrong", [object(), print, Listener], ids=["object", "function", "class"])
def test_what_is_no_observer(wrong: Any) -> None:
    """It is refused at construction, with what is expected."""
    if wrong is Listener:
        wrong = type("Half", (), {"observe": print})()
    with pytest.raises(ConfigError, match=r"observers: \w+ is no observer; expected .*watch.*observe"):
        service(observers=[wrong])


def test_observers_watch_from_construction_on() -> None:
    """They can look before the service runs, and see that it does not; looking does not start it."""
    listener = Listener()
    made = service(observers=[listener])
    assert listener.look() is None
    with made:
        assert listener.state.ready
    assert listener.look() is None


def test_a_service_without_observers_is_made_of_the_plain_parts() -> None:
    """Nothing listens, so nothing is paid for it; neither is anything read from the environment."""
    variables = {
        "S2S_MESH_ISSUER": EDGE,
        "S2S_MESH_KEY_STORE": "memory://",
        "S2S_MESH_ALLOW_MEMORY_STORE": "1",
    }
    made = Service.from_env(variables, trust=EMPTY)
    assert not made.settings.observers
    with made:
        assert type(made.running().inbound) is Inbound
        assert type(made.running().signer) is Signer
