"""Connections that go where the operator meant and end when they must.

A name is resolved once, every address it has is judged, and the connection is made to a judged address, so
that a second answer of the DNS cannot lead elsewhere (standards R5). Every operation also obeys one deadline
for the whole exchange, which neither a peer that sends a byte a second nor a resolver that hangs can stretch
(R6).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from typing import Any

import httpcore

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# is_global and is_private of ipaddress call several of these harmless, so they are listed
_NEVER = [
    ipaddress.ip_network(block)
    for block in (
        "0.0.0.0/8",
        "100.100.100.200/32",  # Alibaba metadata
        "168.63.129.16/32",  # Azure metadata
        "169.254.0.0/16",  # link-local, AWS and GCP metadata
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fd00:ec2::254/128",  # AWS metadata
        "fe80::/10",
        "ff00::/8",
    )
]
# IPv6 blocks that carry an IPv4 address, and how many bits stand behind it
_EMBEDDING = [
    (ipaddress.ip_network("::ffff:0:0/96"), 0),
    (ipaddress.ip_network("64:ff9b::/96"), 0),
    (ipaddress.ip_network("::/96"), 0),
    (ipaddress.ip_network("2002::/16"), 80),
]
# where only what an operator wrote may lead: RFC 1918, RFC 6598, RFC 4193
_PRIVATE = [
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
]
# Teredo and local NAT64 hide the address in ways that differ by operator
_OPAQUE = [ipaddress.ip_network("2001::/32"), ipaddress.ip_network("64:ff9b:1::/48")]
# look-ups under way, by process: after a fork the threads that do the parent's do not exist in the child
_lookups: dict[tuple[int, str, int], Future[list[Any]]] = {}


class AddressRefused(httpcore.ConnectError):
    """The name leads to an address where nothing may be asked for."""


def refusal(address: IPAddress, *, allow_loopback: bool, allow_private: bool = True) -> str | None:
    """Why no connection may be made to `address`, or None.

    Private ranges are allowed where the operator wrote the URL: a mesh lives there.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address == ipaddress.IPv6Address("::1"):
            return None if allow_loopback else "a loopback address"
        if any(address in block for block in _OPAQUE):
            return "an address that hides an IPv4 address"
        for block, shift in _EMBEDDING:
            if address in block:
                embedded = ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
                return refusal(embedded, allow_loopback=allow_loopback, allow_private=allow_private)
    if not allow_private and _is_in(address, _PRIVATE):
        return "a private address, where only a jwks_uri in the trust file may lead"
    if _is_in(address, _NEVER):
        return "a link-local, metadata, multicast or reserved address"
    if address.is_loopback and not allow_loopback:
        return "a loopback address"
    return None


def _is_in(address: IPAddress, blocks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(address.version == block.version and address in block for block in blocks)


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves once, judges every address, connects to one of them, and keeps one deadline.

    Args:
        seconds: for everything, from now on.
        allow_loopback: for demos and tests on one machine.
        allow_private: whether an operator wrote the URL, and not somebody else's document.
    """

    def __init__(self, seconds: float, *, allow_loopback: bool, allow_private: bool = True) -> None:
        self._deadline = time.monotonic() + seconds
        self._allow_loopback = allow_loopback
        self._allow_private = allow_private
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first judged address that answers.

        Raises:
            AddressRefused: one of the name's addresses is forbidden.
            httpcore.ConnectError, httpcore.ConnectTimeout: as httpcore's own backend, or the name has no
                address, or none in time.
        """
        problem: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._resolve(host, port):
            try:
                stream = self._plain.connect_tcp(
                    str(address), port, self.remaining(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                problem = failed
            else:
                return _DeadlineStream(stream, self)
        raise problem

    def remaining(self, timeout: float | None) -> float:
        """Seconds that the next operation may take."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer took too long in all")
        return left if timeout is None else min(timeout, left)

    def _resolve(self, host: str, port: int) -> list[IPAddress]:
        lookup = _look_up(host, port)
        if not wait([lookup], timeout=self.remaining(None)).done:
            raise httpcore.ConnectTimeout(f"{host} does not resolve in time")
        try:
            found = lookup.result()
        except OSError as failed:
            raise httpcore.ConnectError(f"{host} does not resolve: {failed}") from None
        addresses = list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0])) for entry in found))
        for address in addresses:
            why = refusal(address, allow_loopback=self._allow_loopback, allow_private=self._allow_private)
            if why is not None:
                raise AddressRefused(f"{host} resolves to {address}, {why}")
        return addresses


def _look_up(host: str, port: int) -> Future[list[Any]]:
    """Start or join a look-up on a thread of its own: `getaddrinfo` takes no time-out and cannot be stopped.

    Whoever gave up leaves it behind; it is one thread for a name at most, and ends when the resolver does.
    """
    name = (os.getpid(), host, port)
    mine: Future[list[Any]] = Future()
    running = _lookups.setdefault(name, mine)
    if running is mine:
        try:
            threading.Thread(target=_resolve, args=(name, mine), name="s2s-mesh-dns", daemon=True).start()
        except RuntimeError as failed:  # the machine has no thread to give
            _lookups.pop(name, None)
            mine.set_exception(OSError(str(failed)))
    return running


def _resolve(name: tuple[int, str, int], answer: Future[list[Any]]) -> None:
    _, host, port = name
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except BaseException as failed:  # noqa: BLE001 - raised where it is waited for
        _lookups.pop(name, None)
        answer.set_exception(failed)
    else:
        _lookups.pop(name, None)  # first, so that nobody joins an answer of the past
        answer.set_result(found)


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose every operation ends at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, backend: CheckedBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.remaining(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.remaining(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._backend.remaining(timeout))
        return _DeadlineStream(stream, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
