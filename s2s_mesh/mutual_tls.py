"""Connections that present the certificate which tokens are bound to, changed together when it is renewed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

import httpx

from .claims import Confirmation
from .client_certificate import ClientCertificate

log: logging.Logger = logging.getLogger("s2s_mesh")
AnyTransport = httpx.BaseTransport | httpx.AsyncBaseTransport
_GENERATIONS = 2


class Connections(NamedTuple):
    """What sends, and what tokens that it sends are bound to."""

    inner: AnyTransport
    confirmation: Confirmation | None


class MutualTLS:
    """The connections of one certificate file, made anew when it has changed.

    Connections in use go on, with tokens for what they present; those of the last certificate but one are
    given up.

    Args:
        certificate: as it is on disk.
        make: a transport whose TLS presents that certificate; called for each new one.
    """

    def __init__(self, certificate: ClientCertificate, make: Callable[[], AnyTransport]) -> None:
        self._certificate = certificate
        self._make = make
        self._lock = threading.Lock()
        self._held: list[Connections] = []  # the present ones last
        self._given_up: list[AnyTransport] = []
        self._said: Confirmation | None = None

    def current(self) -> Connections:
        """The connections to send on.

        Raises:
            OSError: what `make` raises where there were none yet.
        """
        with self._lock:
            held = self._held[-1] if self._held else None
            while True:
                wanted = self._certificate.confirmation()
                if held is not None and held.confirmation == wanted:
                    return held
                try:
                    inner = self._make()
                except OSError as error:  # ssl.SSLError is one: certificate and key are replaced one by one
                    if held is None:
                        raise
                    if wanted != self._said:  # asked for each request
                        self._said = wanted
                        log.warning("the renewed client certificate cannot be used yet: %s", error)
                    return held
                if self._certificate.confirmation() == wanted:
                    break
                self._given_up.append(inner)  # replaced meanwhile: which one it presents, nobody knows
            made = Connections(inner, wanted)
            self._held.append(made)
            if len(self._held) > _GENERATIONS:
                self._given_up.append(self._held.pop(0).inner)
            return made

    def given_up(self) -> list[AnyTransport]:
        """Transports to close; each is returned once."""
        with self._lock:
            given_up, self._given_up = self._given_up, []
            return given_up

    def all(self) -> list[AnyTransport]:
        """Every transport that is not closed yet, to close it."""
        given_up = self.given_up()
        with self._lock:
            held, self._held = self._held, []
        return [*given_up, *(each.inner for each in held)]
