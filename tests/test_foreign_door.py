"""Callers for whom a foreign issuer vouches, at a real door: routes, single use, what observers are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh.errors import Reason
from s2s_mesh.observer import Refused, Verified

from .observing import Listener
from .receiver import Receiver
from .tokens import ABSENT, EDGE, NOW, WALLETS, claims, frozen, header, key, sign

HUB = "https://hub.example.com/"
BATCH = "https://batch.example.com"
WEEKLY = "https://weekly.example.com"
NIGHTLY = "https://nightly.example.com"
TRUST = f"""
[foreign_issuers."{HUB}"]
jwks_file = "hub.jwks.json"
allow_missing_jti = true
[[subject]]
issuer = "{HUB}"
subject = "batch"
service = "{BATCH}"
[[subject]]
issuer = "{HUB}"
subject = "nightly"
service = "{NIGHTLY}"
[[subject]]
issuer = "{HUB}"
subject = "weekly"
service = "{WEEKLY}"
[[allow]]
issuer = "{WEEKLY}"
audience = "{WALLETS}"
scopes = ["cards:write"]
[[allow]]
issuer = "{BATCH}"
audience = "{WALLETS}"
scopes = ["cards:write"]
[[allow]]
issuer = "{NIGHTLY}"
audience = "{WALLETS}"
[[route]]
audience = "{WALLETS}"
path = "/write"
methods = ["PUT"]
scopes = ["cards:write"]
replay = "once"
[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["GET"]
"""


@pytest.fixture
def told() -> Listener:
    return Listener()


@pytest.fixture
def wallets(tmp_path: Path, told: Listener) -> Iterator[Receiver]:
    with frozen():
        made = Receiver(tmp_path, edge_keys=[key()], trust=TRUST, key_store="memory://", observers=[told])
        made.publish("hub", [key(name="hub")])
        yield made
        made.close()


def vouched(**changes: Any) -> bytes:
    signer = key(name="hub")
    payload = {"iss": HUB, "sub": "batch", "client_id": ABSENT, "scope": ABSENT, **changes}
    return sign(header(signer), claims(**payload), signer)


def put(receiver: Receiver, token: bytes) -> tuple[int, str | None]:
    answer = receiver.call(token, method="PUT", path="/write")
    return answer.status, answer.reason


def test_routes_ask_for_what_the_service_is_granted(wallets: Receiver) -> None:
    """Whoever signed for it."""
    assert put(wallets, vouched()) == (200, None)
    assert put(wallets, vouched(sub="nightly")) == (403, Reason.MISSING_SCOPE.value)
    assert wallets.call(vouched(sub="nightly")).status == 200
    assert put(wallets, vouched(sub="nobody")) == (401, Reason.BAD_SUBJECT.value)


def test_a_token_that_is_good_once_is_known_by_its_issuer_and_jti(wallets: Receiver) -> None:
    """Its maker is the foreign issuer, whichever of its services it is for; without a jti it is refused."""
    assert put(wallets, vouched(jti="a")) == (200, None)
    assert put(wallets, vouched(jti="a", iat=NOW - 1)) == (401, Reason.REPLAYED.value)
    assert put(wallets, vouched(jti="a", sub="weekly")) == (401, Reason.REPLAYED.value)
    assert put(wallets, vouched(jti="b", sub="weekly")) == (200, None)
    assert put(wallets, vouched(jti=ABSENT)) == (401, Reason.BAD_JTI.value)
    assert wallets.call(vouched(jti=ABSENT)).status == 200
    # one of our own with the same id is another token
    assert put(wallets, sign(header(key()), claims(jti="a"), key())) == (200, None)


def test_observers_are_told_of_the_service_and_of_the_issuer_that_was_refused(
    wallets: Receiver, told: Listener
) -> None:
    """The service where it is known, who should have vouched where not; both are names of the trust file."""
    wallets.call(vouched())
    wallets.call(vouched(aud=EDGE))
    wallets.call(vouched(iss="https://nobody.example.com/"))
    put(wallets, vouched(sub="nightly"))
    verified = [event.issuer for event in told.of(Verified)]
    refused = [event.issuer for event in told.of(Refused)]
    assert verified == [BATCH]
    assert refused == [HUB, "unknown", NIGHTLY]
