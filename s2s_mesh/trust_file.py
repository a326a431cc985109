"""The trust file on disk: read, checked, watched. The format: `trust.py`.

A file that cannot be used stops a service from starting, never a running one: that keeps the last good
content and says so once. Replace the file by a rename (`mv new trust.toml`, a Kubernetes volume); a writer
that fills it in place can be seen half-way.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import stat
import time
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import msgspec

from .errors import ConfigError
from .log_fields import fields
from .trust import ForeignIssuer, IssuerTrust, TrustConfig, UserIssuer

MAX_TRUST_FILE = 4 * 1024 * 1024
# Some file systems stamp whole seconds: a file written this recently may change again under the same stamp.
_SETTLED = 2.0
_log = logging.getLogger("s2s_mesh.trust")
_Source = TypeVar("_Source", IssuerTrust, ForeignIssuer, UserIssuer)


class _Version(NamedTuple):
    """Tells two versions of a file apart without reading them; a rename or a symlink swap shows too."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Version:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class TrustFile:
    """One trust file. Construction reads nothing.

    `load` and `reload_if_changed` are for one caller at a time; `current` may be read from any thread.

    Args:
        path: of the file. A relative one is made absolute at once, so that a later `chdir` does not matter.

    Attributes:
        path: as given.
        last_error: why the file as it is now is not in use, or None.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self.last_error: ConfigError | None = None
        self._absolute = self.path.absolute()
        self._current: TrustConfig | None = None
        self._used = b""
        self._seen: _Version | None = None
        self._logged: tuple[bytes, str] | None = None

    @property
    def current(self) -> TrustConfig:
        """The last good content; the first use loads it.

        Raises:
            ConfigError: as `load`.
        """
        return self.load() if self._current is None else self._current

    def load(self) -> TrustConfig:
        """Read the file, changed or not.

        Raises:
            ConfigError: it cannot be read, everybody could write it, or it holds mistakes
                (`TrustFileError`). What was loaded before stays in `current`.
        """
        try:
            content = self._read()
            config = self._parse(content)
        except ConfigError as error:
            self.last_error = error
            raise
        self._use(content, config)
        return config

    def reload_if_changed(self) -> TrustConfig | None:
        """See whether the file has changed; mostly one `stat`.

        A new version that is bad, or no file at all, is logged once and kept in `last_error`.

        Returns:
            The new content, from now on `current` too; None if that stays as it is.
        """
        if self._is_seen():
            return None
        content = b""
        try:
            content = self._read()
            config = None if _digest(content) == self._used else self._parse(content)
        except ConfigError as error:
            self._keep(content, error)
            return None
        if self.last_error is not None:
            _log.info("trust file %s can be used again", self.path)
        if config is None:
            self.last_error = self._logged = None
            return None
        self._use(content, config)
        _log.info(
            "trust file %s is loaded anew: %d pairs",
            self.path,
            len(config.pairs),
            extra=fields("trust_file_loaded", file=str(self.path), pairs=len(config.pairs)),
        )
        for warning in config.warnings:
            _log.warning("%s", warning)
        return config

    def _use(self, content: bytes, config: TrustConfig) -> None:
        self.last_error = self._logged = None
        self._used = _digest(content)
        self._current = config

    def _keep(self, content: bytes, error: ConfigError) -> None:
        self.last_error = error
        version = (_digest(content), str(error))
        if version != self._logged:
            self._logged = version
            _log.error(
                "trust file not used, the last good content stays in force: %s",
                error,
                extra=fields("trust_file_refused", file=str(self.path), error=str(error)),
            )

    def _is_seen(self) -> bool:
        try:
            return self._seen is not None and self._seen == _Version.of(self._absolute.stat())
        except OSError:
            return False

    def _read(self) -> bytes:
        self._seen = None
        try:
            kind = self._absolute.stat().st_mode
            if stat.S_ISDIR(kind):
                raise self._refuse(f"is a directory; expected a file such as {self.path / 'trust.toml'}")
            if not stat.S_ISREG(kind):  # opening a FIFO would wait for a writer
                raise self._refuse("is not a regular file")
            with self._absolute.open("rb") as file:
                status = os.fstat(file.fileno())
                content = file.read(MAX_TRUST_FILE + 1)
        except FileNotFoundError:
            raise ConfigError(
                f"trust file {self.path} does not exist (looked for {self._absolute}); set "
                "S2S_MESH_TRUST_FILE to the path of yours, or let `s2s-mesh init` write one to start from"
            ) from None
        except (OSError, ValueError) as error:
            raise self._refuse(f"cannot be read: {getattr(error, 'strerror', error)}") from None
        if time.time() - status.st_mtime > _SETTLED:
            self._seen = _Version.of(status)
        if len(content) > MAX_TRUST_FILE:
            raise self._refuse(f"is larger than {MAX_TRUST_FILE} bytes")
        if os.name == "posix" and status.st_mode & stat.S_IWOTH:
            raise self._refuse(f"may be written by everybody; run: chmod o-w {shlex.quote(str(self.path))}")
        return content

    def _refuse(self, problem: str) -> ConfigError:
        return ConfigError(f"trust file {self.path} {problem} (S2S_MESH_TRUST_FILE names the file to use)")

    def _parse(self, content: bytes) -> TrustConfig:
        config = TrustConfig.parse(content, source=str(self.path))
        return msgspec.structs.replace(
            config,
            issuers=MappingProxyType({name: self._located(entry) for name, entry in config.issuers.items()}),
            foreign_issuers=MappingProxyType(
                {name: self._located(entry) for name, entry in config.foreign_issuers.items()}
            ),
            user_issuers=MappingProxyType(
                {name: self._located(entry) for name, entry in config.user_issuers.items()}
            ),
        )

    def _located(self, issuer: _Source) -> _Source:
        """Resolve file names against the directory of the trust file, wherever a symlink leads."""
        folder = self._absolute.parent
        return msgspec.structs.replace(
            issuer,
            jwks_file=None if issuer.jwks_file is None else str(folder / issuer.jwks_file),
            ca_file=None if issuer.ca_file is None else str(folder / issuer.ca_file),
        )


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
