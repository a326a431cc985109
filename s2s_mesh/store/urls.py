"""From the URL in `S2S_MESH_KEY_STORE` to a store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ..errors import ConfigError
from .memory import MemoryStore
from .redis_address import REDIS_SCHEMES, RedisAddress

if TYPE_CHECKING:
    from . import KeyStore

_SCHEMES = (*REDIS_SCHEMES, "file", "memory")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)


def open_store(url: str, *, issuer: str, name: str = "ring") -> KeyStore:
    """Return the store that `url` describes. Inert: sockets, files and locks are made at first use.

    Args:
        url: `redis://`, `rediss://`, `redis+sentinel://H1:P1,H2:P2/SERVICE_NAME[/DB]`, `redis+cluster://`,
            their `rediss` forms with TLS, `file:///DIRECTORY` or `memory://`.
        issuer: whose document it is; part of the key and of the file name.
        name: which of the issuer's documents; lower-case letters, digits and hyphens.

    Raises:
        ConfigError: naming what is wrong with the URL. Never holds a password.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a document name: expected lower-case letters, digits and hyphens")
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in _SCHEMES or "://" not in url:
        raise ConfigError(_unknown_scheme(url))
    if scheme == "memory":
        if rest:
            raise ConfigError("a memory store has no host and no path: write memory:// and nothing behind it")
        return MemoryStore()
    # Imported when needed: redis-py alone is half of the start-up time of a command line, and the file
    # store needs fcntl, which Windows does not have.
    if scheme == "file":
        from .file import FileStore

        return FileStore(_directory(rest), issuer=issuer, name=name)
    from .redis import RedisStore

    return RedisStore(RedisAddress.parse(url), issuer=issuer, name=name)


def _unknown_scheme(url: str) -> str:
    # Only what looks like a scheme is repeated: a URL that begins in the middle begins with a password.
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://", url)
    found = f"the scheme {match[1]!r}" if match else "no scheme"
    expected = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
    return f"the key store URL has {found}; expected one of {expected}"


def _directory(rest: str) -> Path:
    """Return the directory behind `file://`.

    Raises:
        ConfigError: it is not one absolute path.
    """
    if not rest.startswith("/") or "?" in rest or "#" in rest or "\0" in unquote(rest):
        raise ConfigError(
            f"file://{rest} does not name a directory; expected three slashes and an absolute path, such as"
            " file:///var/lib/wallets/keys, with ? and # percent-encoded"
        )
    return Path(unquote(rest))
