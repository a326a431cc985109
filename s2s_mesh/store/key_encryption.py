"""Key-encryption keys as people configure them: in an environment variable, comma-separated."""

from __future__ import annotations

import secrets

from ..errors import ConfigError
from ..jws import b64url_decode, b64url_encode

KEY_LENGTH = 32  # bytes


def generate_key_encryption_key() -> str:
    """Return a new random key: 32 bytes as base64url without padding."""
    return b64url_encode(secrets.token_bytes(KEY_LENGTH)).decode("ascii")


def parse_key_encryption_keys(text: str) -> tuple[bytes, ...]:
    """Read one or several key-encryption keys; the first one seals new documents, all of them open.

    Args:
        text: comma-separated, each 32 bytes as base64url with or without padding.

    Raises:
        ConfigError: which of them is wrong, and how; never its value.
    """
    parts = [part.strip() for part in text.split(",")]
    return tuple(_parse(part, f"number {n} of {len(parts)}") for n, part in enumerate(parts, start=1))


def _parse(text: str, which: str) -> bytes:
    if not text:
        problem = "is empty"
    elif not text.isascii() or "+" in text or "/" in text:
        problem = "holds characters that base64url does not have (it uses - and _ where base64 uses + and /)"
    else:
        try:
            key = b64url_decode(text.rstrip("=").encode("ascii"))
        except ValueError:
            problem = "is not base64url"
        else:
            if len(key) == KEY_LENGTH:
                return key
            problem = f"decodes to {len(key)} bytes"
    raise ConfigError(
        f"key-encryption key {which} {problem}; expected {KEY_LENGTH} random bytes as base64url,"
        " 43 characters, several keys separated by commas. `s2s-mesh init` prints a fresh one."
    )
