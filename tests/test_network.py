"""Which addresses may be connected to, and that nothing but them ever is."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpcore
import pytest

from s2s_mesh.network import AddressRefused, CheckedBackend, refusal

from .jwks_servers import Peer, is_silent

NAME = "keys.example.com"
Resolver = Callable[..., list[str]]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Call it with what the DNS shall answer for `NAME`, answer by answer; returns the look-ups so far."""
    real = socket.getaddrinfo
    lookups: list[str] = []
    answers: list[list[str]] = []

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if host != NAME:
            return list(real(host, port, *args, **options))  # an address: nothing is looked up
        lookups.append(host)
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in answers[min(len(lookups), len(answers)) - 1]
        ]

    def answering(*given: list[str]) -> list[str]:
        answers[:] = given
        return lookups

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answering


@pytest.mark.parametrize(
    ("address", "at_all", "on_one_machine"),
    [
        ("198.51.100.7", True, True),
        # a mesh lives in private ranges, and operators wrote the URLs
        ("10.0.0.1", True, True),
        ("172.16.0.1", True, True),
        ("192.168.1.1", True, True),
        ("100.64.0.1", True, True),
        ("2001:db8::7", True, True),
        ("2606:4700:4700::1111", True, True),
        ("fd00:ec2::253", True, True),
        ("fdaa:0:1::3", True, True),
        # this machine
        ("127.0.0.1", False, True),
        ("127.255.255.254", False, True),
        ("::1", False, True),
        # metadata services
        ("169.254.169.254", False, False),
        ("100.100.100.200", False, False),
        ("168.63.129.16", False, False),
        ("fd00:ec2::254", False, False),
        # link-local, unspecified, multicast, reserved
        ("169.254.0.1", False, False),
        ("0.0.0.0", False, False),
        ("0.1.2.3", False, False),
        ("224.0.0.1", False, False),
        ("239.255.255.255", False, False),
        ("240.0.0.1", False, False),
        ("255.255.255.255", False, False),
        ("::", False, False),
        ("fe80::1", False, False),
        ("fe80::1%1", False, False),
        ("febf::1", False, False),
        ("ff02::1", False, False),
        # IPv6 addresses that are IPv4 addresses in disguise are judged as these
        ("::ffff:198.51.100.7", True, True),
        ("::ffff:10.0.0.1", True, True),
        ("::ffff:127.0.0.1", False, True),
        ("::ffff:169.254.169.254", False, False),
        ("::ffff:0.0.0.0", False, False),
        ("64:ff9b::198.51.100.7", True, True),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("64:ff9b::127.0.0.1", False, True),
        ("2002:c633:6407::1", True, True),
        ("2002:a9fe:a9fe::", False, False),
        ("2002:a9fe:a9fe:1:2:3:4:5", False, False),
        ("2002:7f00:1::", False, True),
        ("::127.0.0.1", False, True),
        ("::169.254.169.254", False, False),
        ("::2", False, False),
        # disguises that cannot be seen through: Teredo, local NAT64
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False, False),
        ("64:ff9b:1::198.51.100.7", False, False),
        ("64:ff9b:1::a9fe:a9fe", False, False),
    ],
)
def test_addresses(address: str, at_all: bool, on_one_machine: bool) -> None:
    """Public and private addresses are fine, loopback where it is allowed, and special ones never."""
    parsed = ipaddress.ip_address(address)
    assert (refusal(parsed, allow_loopback=False) is None) is at_all
    assert (refusal(parsed, allow_loopback=True) is None) is on_one_machine


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("198.51.100.7", True),
        ("2606:4700:4700::1111", True),
        ("10.255.255.255", False),
        ("172.31.0.1", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("100.127.0.1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("2002:c0a8:1::1", False),
        ("169.254.169.254", False),
    ],
)
def test_addresses_that_somebody_elses_document_may_name(address: str, public: bool) -> None:
    """Private ranges are for URLs that an operator wrote."""
    parsed = ipaddress.ip_address(address)
    assert (refusal(parsed, allow_loopback=True, allow_private=False) is None) is public


@pytest.mark.parametrize(
    ("addresses", "allowed"),
    [
        (["127.0.0.1"], True),
        (["127.0.0.1", "127.0.0.1"], True),
        (["127.0.0.1", "169.254.169.254"], False),
        (["169.254.169.254", "127.0.0.1"], False),
        (["127.0.0.1", "::ffff:169.254.169.254"], False),
        (["127.0.0.1", "64:ff9b::a9fe:a9fe"], False),
        (["127.0.0.1", "2002:a9fe:a9fe::"], False),
        (["127.0.0.1", "0.0.0.0"], False),
        (["127.0.0.1", "::"], False),
        (["127.0.0.1", "fe80::1%lo"], False),
    ],
)
def test_one_forbidden_address_refuses_the_name(
    resolver: Resolver, addresses: list[str], allowed: bool
) -> None:
    """A name with one forbidden address is not connected to at all, not even by its good addresses."""
    resolver(addresses)
    with Peer(is_silent) as server:
        backend = CheckedBackend(60, allow_loopback=True)
        if allowed:
            backend.connect_tcp(NAME, server.port).close()
        else:
            with pytest.raises(AddressRefused, match=f"{NAME} resolves to"):
                backend.connect_tcp(NAME, server.port)
        assert server.connections() == allowed


def test_loopback_is_refused_unless_it_is_allowed(resolver: Resolver) -> None:
    """A public name that leads to this machine is refused, unless loopback is allowed."""
    resolver(["127.0.0.1"])
    with Peer(is_silent) as server:
        with pytest.raises(AddressRefused, match="a loopback address"):
            CheckedBackend(5, allow_loopback=False).connect_tcp(NAME, server.port)
        assert server.connections() == 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0177.0.0.1",
        "0x7f000001",
        "2130706433",
        "2852039166",
        "::ffff:7f00:1",
    ],
)
def test_spellings_of_an_address_do_not_help(host: str) -> None:
    """Whatever the system's resolver makes of an odd spelling is judged as the address that it is."""
    with Peer(is_silent) as server:
        with pytest.raises(httpcore.ConnectError):
            CheckedBackend(5, allow_loopback=False).connect_tcp(host, server.port)
        assert server.connections() == 0


def test_a_name_is_resolved_once(resolver: Resolver) -> None:
    """DNS rebinding: the connection goes to the address that was judged, whatever a second answer says."""
    lookups = resolver(["127.0.0.1"], ["169.254.169.254"])
    with Peer(is_silent) as server:
        stream = CheckedBackend(60, allow_loopback=True).connect_tcp(NAME, server.port)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        stream.close()
    assert lookups == [NAME]


def test_the_next_address_is_tried(resolver: Resolver) -> None:
    """Where one of several good addresses does not answer, the next one is used."""
    resolver(["127.0.0.2", "127.0.0.1"])
    with Peer(is_silent) as server:
        stream = CheckedBackend(60, allow_loopback=True).connect_tcp(NAME, server.port)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        stream.close()


def test_no_address_answers(resolver: Resolver) -> None:
    """Where none answers, or there is none, that is the error of a connection."""
    with Peer(is_silent, listening=False) as closed:
        for addresses in ["127.0.0.2", "127.0.0.1"], []:
            resolver(addresses)
            with pytest.raises(httpcore.ConnectError):
                CheckedBackend(60, allow_loopback=True).connect_tcp(NAME, closed.port)


def test_one_deadline_for_everything() -> None:
    """The time of a backend runs from when it is made; every operation ends with it."""
    with Peer(is_silent) as server:
        stream = None
        while stream is None:  # a machine that stands still has had its second before it is connected
            backend = CheckedBackend(1, allow_loopback=True)
            with suppress(httpcore.TimeoutException):
                stream = backend.connect_tcp("127.0.0.1", server.port)
        with pytest.raises(httpcore.ReadTimeout):
            stream.read(1, timeout=60)
        for late in (
            lambda: stream.read(1),
            lambda: stream.write(b"x"),
            lambda: backend.connect_tcp("127.0.0.1", server.port),
        ):
            with pytest.raises(httpcore.ReadTimeout, match="took too long in all"):
                late()
        stream.close()


def test_a_shorter_time_for_one_step() -> None:
    """A step that has less time than the whole ends by its own."""
    with Peer(is_silent) as server:
        stream = CheckedBackend(60, allow_loopback=True).connect_tcp("127.0.0.1", server.port, timeout=60)
        with pytest.raises(httpcore.ReadTimeout, match="timed out"):
            stream.read(1, timeout=0.1)
        stream.close()


class Hanging:
    """A resolver that answers nothing before it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = socket.getaddrinfo
        self.lookups = 0
        self._gate = threading.Event()

        def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
            if host != NAME:
                return list(real(host, port, *args, **options))
            self.lookups += 1
            self._gate.wait(60)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def release(self) -> None:
        """Answer."""
        self._gate.set()


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up ends with the deadline; a hundred of them leave one thread behind, and its answer is used."""
    hanging = Hanging(monkeypatch)
    threads = threading.active_count()
    with Peer(is_silent) as server:
        started = time.monotonic()
        for _ in range(100):
            # a loaded machine may not even get to the look-up in this time
            with pytest.raises(httpcore.TimeoutException, match=r"does not resolve in time|took too long"):
                CheckedBackend(0.01, allow_loopback=True).connect_tcp(NAME, server.port)
        assert time.monotonic() - started < 15
        assert hanging.lookups == 1
        assert threading.active_count() <= threads + 2  # the server has one
        # other names are not held up
        CheckedBackend(60, allow_loopback=True).connect_tcp("127.0.0.1", server.port).close()
        hanging.release()
        CheckedBackend(60, allow_loopback=True).connect_tcp(NAME, server.port).close()


def test_a_child_process_looks_up_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up under way during a fork does not stop the child, which has no thread that would end it."""
    hanging = Hanging(monkeypatch)
    with Peer(is_silent) as server:
        with pytest.raises(httpcore.ConnectTimeout):
            CheckedBackend(0.2, allow_loopback=True).connect_tcp(NAME, server.port)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what this is about
            child = os.fork()
        if child == 0:
            try:
                hanging.release()
                CheckedBackend(60, allow_loopback=True).connect_tcp(NAME, server.port)
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        hanging.release()
