"""The certificate that we present in TLS, as tokens are bound to it: its thumbprint, and never its key."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Union

from .certificates import first_der_of, thumbprint
from .claims import X5T, Confirmation
from .errors import ConfigError

log: logging.Logger = logging.getLogger("s2s_mesh")
_Stamp = tuple[int, int, int]


class ClientCertificate:
    """A client certificate: a file that may be renewed, or fixed content.

    Args:
        source: path of a file, PEM (the first certificate in it counts) or DER; or the content of one.

    Raises:
        ConfigError: there is no certificate.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes) -> None:
        self._path: Path | None = None if isinstance(source, bytes) else Path(source)
        self._stamp: _Stamp | None = None
        self._said = ""
        if isinstance(source, bytes):
            self._confirmation = _read(source, "the certificate given")
        else:
            self._confirmation = self._load()

    def __repr__(self) -> str:
        return f"ClientCertificate({self._path or '...'})"

    @classmethod
    def of(cls, given: Certificate) -> ClientCertificate:
        """What somebody gave as `certificate`.

        Raises:
            ConfigError: there is no certificate.
        """
        return given if isinstance(given, ClientCertificate) else cls(given)

    def confirmation(self) -> Confirmation:
        """What a token is bound to; of the file as it is now, or as it last was good."""
        if self._path is not None:
            try:
                if _stamp(self._path) != self._stamp:
                    self._confirmation = self._load()
                    self._said = ""
            except (OSError, ConfigError) as error:
                # a renewal that is half done; the connections there are still present the old one
                if str(error) != self._said:  # asked for each request
                    self._said = str(error)
                    log.warning("tokens stay bound to the client certificate as it last was: %s", error)
        return self._confirmation

    def _load(self) -> Confirmation:
        assert self._path is not None  # noqa: S101 - asked for files only
        try:
            stamp = _stamp(self._path)
            content = self._path.read_bytes()
        except OSError as error:
            raise ConfigError(f"the client certificate cannot be read: {error}") from None
        found = _read(content, str(self._path))
        self._stamp = stamp
        return found


Certificate = Union[str, "os.PathLike[str]", bytes, ClientCertificate]


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(content: bytes, where: str) -> Confirmation:
    try:
        return Confirmation(X5T, thumbprint(first_der_of(content)))
    except ValueError as why:
        raise ConfigError(f"{where} holds no client certificate: {why}") from None
