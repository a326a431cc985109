"""An observer that keeps what it is told."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

from s2s_mesh.observer import Event, Look, Recalled, Refused, Snapshot, Verified

E = TypeVar("E", bound=Event)


class Listener:
    """Keeps every event, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.look: Look = lambda: None

    def watch(self, look: Look) -> None:
        self.look = look

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def take(self) -> list[Event]:
        """The events since the last time."""
        taken, self.events = self.events, []
        return taken

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def decisions(self) -> list[tuple[str, ...]]:
        """What was decided since the last time, by labels; whatever keys were fetched meanwhile."""
        return [event.labels for event in self.take() if isinstance(event, (Recalled, Verified, Refused))]

    def counts(self) -> Counter[tuple[str, ...]]:
        return Counter(event.labels for event in self.events)

    @property
    def state(self) -> Snapshot:
        state = self.look()
        assert state is not None
        return state
