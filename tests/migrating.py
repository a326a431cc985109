"""Old credentials for tests: real keys, real argon2 hashes, and [[legacy]] rows that name them."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from argon2 import PasswordHasher

from s2s_mesh.trust import TrustConfig

from .tokens import EDGE, LEDGER, WALLETS

KEY = "rV7mYc2pQ8sT4uW6xZ0aB3dF5gH9jK1L"
OTHER_KEY = "nobody-has-this-key-0123456789abcdef"
PASSWORD = "correct horse: battery staple ü"
# the least that a trust file may ask for, so that tests are quick
HASHER = PasswordHasher(time_cost=1, memory_cost=7168, parallelism=1)
HASH = HASHER.hash(PASSWORD, salt=b"the same always")  # ids of tests hold it
UNTIL = "2027-01-31"  # `tokens.NOW` is 2027-01-15
X_API_KEY = b"x-api-key"


def digest(key: str) -> str:
    """What a row says about a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def row(kind: str = "key", *, issuer: str = EDGE, audience: str = WALLETS, **members: Any) -> str:
    """A [[legacy]] row; `kind` is "key" or "basic", `members` replace or add what it says."""
    said: dict[str, Any] = {"issuer": issuer, "audience": audience, "migration": "observe", "until": UNTIL}
    if kind == "key":
        said |= {"api_key_sha256": digest(KEY)}
    else:
        said |= {"basic_user": "edge", "password_argon2": HASH}
    said |= members
    lines = (
        f"{name} = {value}" if name == "until" else f'{name} = "{value}"' for name, value in said.items()
    )
    return "\n[[legacy]]\n" + "\n".join(lines) + "\n"


PAIRS = "version = 1\n" + "".join(
    f'[[allow]]\nissuer = "{issuer}"\naudience = "{WALLETS}"\nscopes = ["cards:read"]\n'
    for issuer in (EDGE, LEDGER)
)


def trusting(*more: str) -> TrustConfig:
    """A trust file in which edge and ledger may call wallets, with these rows."""
    return TrustConfig.parse(PAIRS + "".join(more))


def basic(user: str = "edge", password: str = PASSWORD) -> bytes:
    """The Authorization field of Basic (RFC 7617)."""
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())
