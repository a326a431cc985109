"""`file:///DIRECTORY`: one file per issuer and name, for the processes of one machine.

Readers need no lock: a document is written beside its place and renamed into it, so its place holds the old
document or the new one at every instant, whichever process is killed when. Writers hold a lock that the
kernel releases when they die.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import KeyStoreError, StoreConflict, StoreReason
from ..jitter import between

LOCK_WAIT = 5.0  # seconds
_LOCK_RETRY = 0.01  # seconds, jittered
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a named pipe that stands in the document's place must not hang
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FileStore:
    """A document in a file of mode 0600, owned by the user who runs the process.

    Every file is opened relative to one descriptor of the directory, so what was checked is what is used.
    """

    shared = True

    def __init__(self, directory: Path, *, issuer: str, name: str = "ring") -> None:
        """Remember the place; nothing is opened or made before first use.

        Args:
            directory: created with mode 0700 by the first swap if it is missing.
            issuer: whose document; part of the file name, with a digest that keeps issuers apart.
            name: which document.
        """
        slug = re.sub(r"[^a-z0-9.]+", "-", issuer.partition("://")[2].lower())[:60]
        digest = hashlib.sha256(issuer.encode()).hexdigest()[:16]
        self._directory = directory
        self._document = f"{slug}-{digest}.{name}"
        self._lock = f"{self._document}.lock"
        self._temporary = f"{self._document}.tmp"

    def __repr__(self) -> str:
        return f"<FileStore {self._directory / self._document}>"

    def load(self) -> bytes | None:
        """Return the document, or None. See `KeyStore.load`."""
        with self._errors("read"):
            try:
                with self._open_directory() as directory:
                    return self._read(directory)
            except FileNotFoundError:
                return None

    def swap(self, expected: bytes | None, new: bytes) -> None:
        """Store `new` if `expected` is still held. See `KeyStore.swap`."""
        with self._errors("written"):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._open_directory() as directory, self._locked(directory):
                self._discard_temporary(directory)  # left by a process that died
                held = self._read(directory)
                if held not in (expected, new):
                    raise StoreConflict
                if held != new:
                    self._replace(directory, new)
                # also where the document was there already: whoever wrote it may have died before this
                os.fsync(directory)

    def close(self) -> None:
        """Do nothing: no descriptor outlives a call."""

    @contextlib.contextmanager
    def _open_directory(self) -> Iterator[int]:
        directory = os.open(self._directory, _DIRECTORY_FLAGS)
        try:
            self._check(os.fstat(directory), self._directory, forbidden=0o022, expected=0o700)
            yield directory
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self, directory: int) -> Iterator[None]:
        """Hold the lock between processes, and between threads: each call opens the lock file anew."""
        lock = os.open(self._lock, _LOCK_FLAGS, 0o600, dir_fd=directory)
        try:
            deadline = time.monotonic() + LOCK_WAIT
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise KeyStoreError(
                            StoreReason.UNREACHABLE,
                            f"{self._directory / self._lock} has been locked by another process for"
                            f" {LOCK_WAIT:g} s; a swap takes milliseconds. Find the process that hangs"
                            " (`fuser` names it) and end it; the lock ends with it",
                        ) from None
                    time.sleep(_LOCK_RETRY * between(0.5, 1.5))
            try:
                yield
            finally:
                # said explicitly: a process forked meanwhile holds a copy of the descriptor
                fcntl.flock(lock, fcntl.LOCK_UN)
        finally:
            os.close(lock)

    def _read(self, directory: int) -> bytes | None:
        path = self._directory / self._document
        try:
            descriptor = os.open(self._document, _READ_FLAGS, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise KeyStoreError(
                StoreReason.PERMISSIONS,
                f"{path} is a symbolic link; expected a regular file, because a link lets its owner choose"
                " what is read and replaced. Remove it, or name the directory it points to in the URL",
            ) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyStoreError(
                    StoreReason.UNREADABLE,
                    f"{path} is not a regular file; remove it or choose another directory",
                )
            self._check(status, path, forbidden=0o077, expected=0o600)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)

    def _replace(self, directory: int, new: bytes) -> None:
        try:
            descriptor = os.open(self._temporary, _CREATE_FLAGS, 0o600, dir_fd=directory)
            with os.fdopen(descriptor, "wb") as file:
                file.write(new)
                file.flush()
                os.fsync(file.fileno())  # or the rename may reach the disk before the content
            os.rename(self._temporary, self._document, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            self._discard_temporary(directory)
            raise

    def _discard_temporary(self, directory: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary, dir_fd=directory)

    def _check(self, status: os.stat_result, path: Path, *, forbidden: int, expected: int) -> None:
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != os.geteuid():
            problem = f"belongs to user id {status.st_uid}, and this process runs as {os.geteuid()}"
        elif mode & forbidden:
            problem = f"has mode {mode:04o}, which gives others access; run chmod {expected:o} on it"
        else:
            return
        raise KeyStoreError(
            StoreReason.PERMISSIONS,
            f"{path} {problem}. Expected it to belong to the user who runs this process, with mode"
            f" {expected:04o}. Whoever had access may have copied or changed the keys in it",
        )

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        """Turn what the operating system says into a `KeyStoreError`."""
        try:
            yield
        except OSError as error:
            reason, advice = StoreReason.UNREACHABLE, "check the file system"
            if error.errno in _NOT_ALLOWED:
                reason = StoreReason.PERMISSIONS
                advice = f"user id {os.geteuid()} needs a directory of its own, with mode 0700 and writable"
            elif error.errno in _FULL:
                advice = "make room on the file system, or raise the quota; the stored document is unharmed"
            elif error.errno in (errno.ENOTDIR, errno.EEXIST):
                advice = "it has to be a directory"
            raise KeyStoreError(
                reason,
                f"the key store in {self._directory} cannot be {verb}:"
                f" {error.strerror or type(error).__name__}; {advice}",
            ) from None
