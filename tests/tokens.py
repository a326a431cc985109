"""Tokens for tests, good ones and forged ones, signed with real keys."""

from __future__ import annotations

import datetime as dt
import functools
import json
from typing import Any

from freezegun import freeze_time

from s2s_mesh.jws import b64url_encode
from s2s_mesh.keys import SigningKey

NOW = 1_800_000_000
EDGE = "https://edge.example.com"
WALLETS = "https://wallets.example.com"
LEDGER = "https://ledger.example.com"
LOGIN = "https://login.example.com/"


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class _Absent:
    """Removes a member."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Any = _Absent()


def key(alg: str = "ES256", name: str = "first") -> SigningKey:
    """A real key; the same one for the same arguments, because RSA keys take a while to make."""
    return _key(alg, name)


@functools.cache
def _key(alg: str, _name: str) -> SigningKey:
    return SigningKey.generate(alg)


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims of a token from edge to wallets at `NOW`; `ABSENT` removes a member."""
    members = {
        "iss": EDGE,
        "sub": EDGE,
        "client_id": EDGE,
        "aud": WALLETS,
        "iat": NOW,
        "exp": NOW + 120,
        "jti": "JG7TbVpiXKr0eTnbsFSM6A",
        "scope": "cards:read cards:write",
        **changes,
    }
    return {name: value for name, value in members.items() if value is not ABSENT}


def header(signer: SigningKey, **changes: Any) -> dict[str, Any]:
    """A good header for a key; `ABSENT` removes a member."""
    members = {"alg": signer.alg, "kid": signer.kid, "typ": "at+jwt", **changes}
    return {name: value for name, value in members.items() if value is not ABSENT}


def encode(value: Any) -> bytes:
    """A segment: bytes as they are, anything else as JSON."""
    return b64url_encode(value if isinstance(value, bytes) else json.dumps(value).encode())


def sign(head: Any, payload: Any, signer: SigningKey) -> bytes:
    """A compact JWS with whatever header and payload, signed for real."""
    signing_input = encode(head) + b"." + encode(payload)
    return signing_input + b"." + b64url_encode(signer.sign(signing_input))


def good(signer: SigningKey | None = None, **changes: Any) -> bytes:
    """A good token from edge to wallets, with changed claims where told."""
    signer = signer or key()
    return sign(header(signer), claims(**changes), signer)


def actors(*names: str) -> dict[str, Any]:
    """An `act` claim, the caller first."""
    act: dict[str, Any] = {}
    for name in reversed(names):
        act = {"iss": name, "sub": name, **({"act": act} if act else {})}
    return act


def sub_id(**changes: Any) -> dict[str, Any]:
    """A `sub_id` claim."""
    members = {"format": "iss_sub", "iss": LOGIN, "sub": "248289761001", **changes}
    return {name: value for name, value in members.items() if value is not ABSENT}


CARRIED: dict[str, Any] = {"sub": "248289761001", "sub_id": sub_id(), "act": actors(EDGE)}


def carrying(**changes: Any) -> bytes:
    """A good token of edge, on behalf of a user, with changed claims where told."""
    return good(**{**CARRIED, **changes})


def frozen(at: float = NOW) -> Any:
    """Freeze the clock at `at`; asyncio's own timers go on. Its value has `tick(seconds)` and `move_to`."""
    return freeze_time(dt.datetime.fromtimestamp(at, tz=dt.timezone.utc), real_asyncio=True)
