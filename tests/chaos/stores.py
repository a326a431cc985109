"""The Redis servers, one kind of store for each issuer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.servers import RedisServer, SentinelSetup, sentinel_setup

# compressed, a private key would be there and not be found
_READABLE = ("--rdbcompression", "no")


class Stores(NamedTuple):
    """A Redis that keeps what it has when it is killed, one that does not, and one with a Sentinel."""

    edge: RedisServer
    orders: RedisServer
    payroll: SentinelSetup

    @property
    def urls(self) -> dict[str, str]:
        """Key store URLs by the name of their issuer."""
        return {"edge": self.edge.url, "orders": self.orders.url, "payroll": self.payroll.url}

    @property
    def servers(self) -> list[RedisServer]:
        """All that hold data."""
        return [self.edge, self.orders, self.payroll.primary, self.payroll.replica]


@contextmanager
def running() -> Iterator[Stores]:
    """All of them, for the length of the block."""
    with (
        RedisServer(*_READABLE, persistent=True) as edge,
        RedisServer(*_READABLE) as orders,
        sentinel_setup(*_READABLE) as payroll,
    ):
        yield Stores(edge, orders, payroll)
