"""Connections to a Redis, a Sentinel-managed one or a Cluster, with bounded waits and no hidden retries.

The one place that knows redis-py's classes and their types.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any, Protocol

import redis
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from .redis_address import CLUSTER, SENTINEL, RedisAddress

CONNECT_TIMEOUT = 1.0  # seconds, per address tried
REPLY_TIMEOUT = 1.0  # seconds, per answer awaited

# redis-py's annotations differ between versions, and half of these classes have none
_Redis: Any = redis.Redis
_Sentinel: Any = redis.sentinel.Sentinel
_Cluster: Any = redis.cluster.RedisCluster
_ClusterNode: Any = redis.cluster.ClusterNode

# redis-py introduces itself on every connection, with a command that a least-privilege user may not run and
# that Redis 7.0 cannot even name in a rule; None turns it off, under a name that changed in redis-py 7.2
_ANONYMOUS: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(redis.Redis.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)

# RedisClusterException is no RedisError
REDIS_ERRORS = (RedisError, RedisClusterException)


class RedisClient(Protocol):
    """What the store asks of a Redis, however many servers it is made of."""

    def on_key(self, command: str, *arguments: Any) -> Any:
        """Run a command that names its key, on the primary that holds it."""

    def beside_key(self, key: str, command: str, *arguments: Any) -> Any:
        """Run a command that names no key, on the primary that holds `key`."""

    def pubsub(self, key: str) -> Any:
        """Return a redis-py `PubSub` on the primary that holds `key`."""

    def close(self) -> None:
        """Close all connections."""


def connect(address: RedisAddress) -> RedisClient:
    """Return a client. A cluster is contacted at once, the others at the first command.

    Raises:
        RedisError, RedisClusterException: the cluster cannot be used.
    """
    options = _options(address)
    login: dict[str, Any] = {"username": address.username, "password": address.password}
    if address.topology == CLUSTER:
        return _ClusterClient(address, options | login)
    login["db"] = address.db
    if address.topology == SENTINEL:
        return _SentinelClient(address, options, login)
    host, port = address.hosts[0]
    return _StandaloneClient(_Redis(host=host, port=port, retry=_no_retry(), **options, **login))


def _no_retry() -> Retry:
    # redis-py 8 retries ten times by default, and each retry waits for a timeout of its own: the one
    # second below became fifteen
    return Retry(NoBackoff(), 0)


def _options(address: RedisAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": REPLY_TIMEOUT,
        "socket_keepalive": True,
        # RESP3 gains nothing here and costs redis-py 8 another round trip while connecting
        "protocol": 2,
        **_ANONYMOUS,
    }
    if address.tls:
        # redis-py 5 does not compare host names unless told to
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required" if address.verify_certificate else "none",
            "ssl_check_hostname": address.verify_hostname,
            **dict(address.tls_files),
        }
    return options


class _StandaloneClient:
    def __init__(self, client: Any) -> None:
        self._client = client

    def on_key(self, command: str, *arguments: Any) -> Any:
        return self._client.execute_command(command, *arguments)

    def beside_key(self, key: str, command: str, *arguments: Any) -> Any:  # noqa: ARG002
        return self._client.execute_command(command, *arguments)

    def pubsub(self, key: str) -> Any:  # noqa: ARG002
        return self._client.pubsub()

    def close(self) -> None:
        self._client.close()


class _SentinelClient(_StandaloneClient):
    """The primary that the Sentinels name, asked anew for every connection."""

    def __init__(self, address: RedisAddress, options: dict[str, Any], login: dict[str, Any]) -> None:
        sentinel_login = {"username": address.sentinel_username, "password": address.sentinel_password}
        self._sentinel = _Sentinel(
            address.hosts, sentinel_kwargs={**options, **sentinel_login, "retry": _no_retry()}
        )
        super().__init__(self._sentinel.master_for(address.service, retry=_no_retry(), **options, **login))

    def close(self) -> None:
        super().close()
        for sentinel in self._sentinel.sentinels:
            sentinel.close()


class _ClusterClient:
    def __init__(self, address: RedisAddress, options: dict[str, Any]) -> None:
        nodes = [_ClusterNode(host, port) for host, port in address.hosts]
        # The topology is always asked of the configured nodes: a client that fails is dropped and made
        # anew anyway, and with every node silent the wait is one time-out per node asked.
        self._client = _Cluster(
            startup_nodes=nodes, retry=_no_retry(), dynamic_startup_nodes=False, **options
        )
        # redis-py 5 counts the retries of a cluster here and warns of nothing
        self._client.cluster_error_retry_attempts = 0

    def on_key(self, command: str, *arguments: Any) -> Any:
        return self._client.execute_command(command, *arguments)

    def beside_key(self, key: str, command: str, *arguments: Any) -> Any:
        return self._client.execute_command(
            command, *arguments, target_nodes=self._client.get_node_from_key(key)
        )

    def pubsub(self, key: str) -> Any:
        # the node's own client: the cluster's variant keeps a thread pool to follow slots, and all nodes
        # of a cluster pass messages on to each other
        return self._client.get_redis_connection(self._client.get_node_from_key(key)).pubsub()

    def close(self) -> None:
        with contextlib.suppress(*REDIS_ERRORS):
            self._client.close()
