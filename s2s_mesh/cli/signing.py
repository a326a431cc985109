"""Signing in a process that does not publish: only with keys that every replica of the service serves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from ..clock import now
from .output import duration, relative

if TYPE_CHECKING:
    from ..keyring import KeyRing
    from ..manager import KeyManager


def old_enough(manager: KeyManager, lag: float, *, wait: bool = True, quiet: bool = False) -> KeyRing:
    """The ring, once it has a key that every replica of the service serves.

    Args:
        manager: of the ring.
        lag: seconds until every replica does.
        wait: for the first key; otherwise exit with code 1.
        quiet: say nothing on standard error, for programs that read it.
    """
    while True:
        ring, at = manager.refresh(), now()
        youngest = ring.signing_record(at)
        if youngest is None or ring.signing_record(at, published_before=at - lag) is not None:
            return ring
        rest = max(youngest.publish_at + lag - at, 0.01)
        why = (
            f"the first key of {ring.issuer} was published {relative(youngest.publish_at, at)}, "
            "and signs here once every replica serves it"
        )
        if not wait:
            typer.echo(f"in {duration(rest)}: {why}; without --no-wait this command waits", err=True)
            raise typer.Exit(1)
        if not quiet:
            typer.echo(f"waiting {duration(rest)}: {why}", err=True)
        time.sleep(rest)
