"""Federation tokens of this service, and a file that always holds a fresh one."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from .. import clouds, federation
from ..clock import now
from ..clouds import Cloud
from ..errors import KeyStoreError, MeshError
from ..federation import FederationToken
from ..settings import Settings
from ..signer import Signer
from .environment import PASSING, key_manager, load_settings
from .output import duration, instant, write_file
from .signing import old_enough

_AGAIN = 5.0  # seconds after which what failed is tried again


class Minter:
    """Mints tokens of the service in the environment for one provider.

    Args:
        provider: its name.
        audience, subject: as given on the command line.

    Attributes:
        settings: of the service.
        cloud: the provider's rules.
        audience, subject: checked.

    Raises:
        ConfigError: what is wrong with the environment or an option.
    """

    def __init__(self, provider: str, audience: str | None, subject: str | None) -> None:
        self.settings: Settings = load_settings()
        self.cloud: Cloud = clouds.cloud(provider)
        self.audience: str
        self.subject: str
        self.audience, self.subject = self.settings.for_cloud(self.cloud, audience, subject)
        self._manager = key_manager(self.settings, may_create=False)
        lag = self._lag = self.settings.schedule.replica_lag
        self._signer = Signer(self.settings.issuer, life=self.settings.token_life, min_key_age=lambda: lag)

    def mint(self, life: int = clouds.LIFE, *, quiet: bool = False) -> FederationToken:
        """A new token; waits until the first key may sign.

        Args:
            life: seconds until it expires, if the rotation schedule allows that.
            quiet: say nothing on standard error meanwhile.

        Raises:
            KeyStoreError: there is no ring, or no key to sign with.
            ConfigError: the provider does not verify the algorithm of the key that signs.
        """
        try:
            ring = old_enough(self._manager, self._lag, quiet=quiet)
        except KeyStoreError as error:
            held = self._manager.usable
            if held is None or error.reason not in PASSING:
                raise
            ring = held  # goes on signing while the store is away, as in a service
        return federation.mint(
            self._signer,
            ring,
            self.cloud,
            audience=self.audience,
            subject=self.subject,
            now=now(),
            life=min(life, self._longest),
        )

    @property
    def _longest(self) -> int:
        return int(self.settings.schedule.max_token_life)

    def keep(self, path: Path, *, once: bool) -> None:
        """Write a token to a file, and go on replacing it long before it expires, until the end is asked for.

        The file is for its owner alone, and is replaced in one step. While there is no new token it stays as
        it is, which is said.

        Raises:
            MeshError: as `mint`, or the file cannot be written; with `once`, or before the first token.
        """
        with _ended_by_signals():
            expires_at = 0
            while True:
                try:
                    minted = self.mint(self.cloud.file_life)
                    write_file(path, minted.token, private=True)
                except MeshError as error:
                    passing = isinstance(error, KeyStoreError) and error.reason in PASSING
                    if once or not (expires_at or passing):
                        raise
                    self._warn(path, error, expires_at)
                    time.sleep(min(_AGAIN, self._pause))
                    continue
                expires_at = minted.expires_at
                more = "" if once else f"; the next in {duration(self._pause)}"
                typer.echo(f"wrote {path}: a token until {instant(expires_at)}{more}")
                if once:
                    return
                time.sleep(self._pause)

    @property
    def _pause(self) -> float:
        return min(self.cloud.renew, self._longest / 2)

    def _warn(self, path: Path, error: MeshError, expires_at: int) -> None:
        left = expires_at - now()
        if not expires_at:
            state = f"{path} is not written"
        elif left > 0:
            state = f"{path} stays as it is, and its token expires in {duration(left)}"
        else:
            state = f"the token in {path} has expired"
        typer.echo(f"warning: no new token, {state}: {error}", err=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT are a good end, at whatever it waits; a second one disturbs no tidying up."""

    def end(_number: int, _frame: Any) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
