"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .receiver import Receiver
from .tokens import frozen, key


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """`wallets` behind its door at `NOW`; edge signs with several algorithms, ledger has one key."""
    with frozen():
        made = Receiver(
            tmp_path_factory.mktemp("receiver"),
            edge_keys=[key(), key("RS256"), key("Ed25519"), key("ES384")],
            ledger_keys=[key(name="second")],
            algorithms=["ES256", "RS256", "Ed25519"],
        )
        yield made
        made.close()
