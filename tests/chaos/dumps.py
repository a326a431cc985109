"""Looking for private keys in what a Redis writes to its disk."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from s2s_mesh.jws import b64url_decode
from s2s_mesh.keys import SigningKey
from tests.servers import RedisServer

_ENCODED = re.compile(rb"[A-Za-z0-9_-]{32,}")
_SEALED = re.compile(rb"eyJ[A-Za-z0-9_-]*\.\.")  # the header of a compact JWE without an encrypted key


def take(server: RedisServer) -> bytes:
    """Have a server write its dump; all files it has, append-only ones included.

    Raises:
        AssertionError: it writes none.
    """
    assert server.command("SAVE") == b"+OK\r\n"
    files = [file for file in sorted(server.directory.rglob("*")) if file.is_file()]
    assert any(file.name == "dump.rdb" for file in files), files
    return b"\n".join(file.read_bytes() for file in files)


def readable(keys: Iterable[SigningKey], dump: bytes) -> list[str]:
    """The kids of those keys of which any private member can be read in `dump`, `oct` and `d` to `qi` alike.

    Members are looked for as base64url text, as bytes and as hexadecimal digits, in the dump itself and in
    whatever base64url text it holds.
    """
    haystack = b"\n".join([dump, *_decoded(dump)])
    lower = haystack.lower()
    found = []
    for key in keys:
        for text in key.private_members().values():
            raw = b64url_decode(text.encode())
            if text.encode() in haystack or raw in haystack or raw.hex().encode() in lower:
                found.append(key.kid)
                break
    return found


def sealed_documents(dump: bytes) -> int:
    """How many sealed documents a dump holds; a dump without any would prove nothing."""
    return len(_SEALED.findall(dump))


def _decoded(dump: bytes) -> Iterable[bytes]:
    for run in _ENCODED.findall(dump):
        # a length byte before it may be a letter as well, so the text may begin anywhere
        for start in range(4):
            text = run[start:]
            yield base64.urlsafe_b64decode(text[: len(text) // 4 * 4])
