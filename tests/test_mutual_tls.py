"""Connections by certificate: made once for each, kept while they may be in use, given up once."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from s2s_mesh.client_certificate import ClientCertificate
from s2s_mesh.mutual_tls import MutualTLS

from .certifying import Certified, client

FIRST, SECOND, THIRD = client("first"), client("second"), client("third")


class Made(MutualTLS):
    """Of a file in this folder; what was made stands in `made`.

    Args:
        folder: holds the file.
        meanwhile: certificates that replace the one of the file while connections are made.
    """

    def __init__(self, folder: Path, *meanwhile: Certified) -> None:
        self.made: list[httpx.BaseTransport] = []
        self.meanwhile = list(meanwhile)
        self.folder = folder
        path, _ = FIRST.write(folder)
        super().__init__(ClientCertificate(path), self._new)

    def _new(self) -> httpx.BaseTransport:
        self.made.append(httpx.BaseTransport())
        if self.meanwhile:
            self.meanwhile.pop().write(self.folder)
        return self.made[-1]


def test_connections_are_made_once_for_a_certificate(tmp_path: Path) -> None:
    """However often they are asked for."""
    kept = Made(tmp_path)
    assert kept.made == []
    first = kept.current()
    assert first.confirmation is not None
    assert first.confirmation.thumbprint == FIRST.thumbprint
    assert kept.current() is kept.current() is first
    SECOND.write(tmp_path)
    second = kept.current()
    assert second.confirmation is not None
    assert second.confirmation.thumbprint == SECOND.thumbprint
    assert kept.current() is kept.current() is second
    assert kept.made == [first.inner, second.inner]


def test_the_last_but_one_are_kept_and_those_before_given_up(tmp_path: Path) -> None:
    """Each once, so that it is closed once."""
    kept = Made(tmp_path)
    for renewed in (FIRST, SECOND):
        renewed.write(tmp_path)
        kept.current()
    assert kept.given_up() == []
    THIRD.write(tmp_path)
    kept.current()
    first, second, third = kept.made
    assert kept.given_up() == [first]
    assert kept.given_up() == []
    FIRST.write(tmp_path)
    kept.current()
    assert kept.all() == [second, third, kept.made[3]]
    assert kept.all() == []


def test_connections_of_nobody_knows_which_certificate_are_given_up(tmp_path: Path) -> None:
    """Those that were made while the file was replaced."""
    kept = Made(tmp_path, THIRD, SECOND)
    current = kept.current()
    assert current.confirmation is not None
    assert current.confirmation.thumbprint == THIRD.thumbprint
    assert current.inner is kept.made[2]
    assert kept.given_up() == kept.made[:2]
    assert kept.all() == [current.inner]


def test_without_any_connections_the_reason_comes_out(tmp_path: Path) -> None:
    """Where there are some, they go on until it is mended."""
    kept = Made(tmp_path)
    path = tmp_path / "client.pem"
    asked: list[bool] = []

    def fail() -> httpx.BaseTransport:
        asked.append(True)
        raise OSError("no key that fits")

    with pytest.raises(OSError, match="that fits"):
        MutualTLS(ClientCertificate(path), fail).current()
    first = kept.current()
    SECOND.write(tmp_path)
    kept._make = fail
    assert kept.current() is kept.current() is first
    assert len(asked) == 3
