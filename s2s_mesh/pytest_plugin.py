"""The pytest plugin: one fixture, `mesh`. Every pytest run loads it, so it imports next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import Mesh


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """Fake issuers that sign real tokens, and services that accept them; see `s2s_mesh.testing.Mesh`."""
    from .testing import Mesh

    with Mesh() as made:
        yield made
