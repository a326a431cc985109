"""gRPC call credentials over a real, TLS-secured channel: the token reaches its audience only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from s2s_mesh import ConfigError, NoUser, Service
from s2s_mesh.integrations.grpc_client import call_credentials
from s2s_mesh.jws import decode

from .test_httpx_auth import TRUST, Failing, calling
from .tokens import EDGE

PUBLIC = "https://wallets.example.com"
METHOD = "/wallets.Wallets/Card"


class Wallets:
    """A real server with a certificate for localhost.

    Attributes:
        seen: the Authorization metadata of each RPC.
    """

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        self.server = grpc.server(ThreadPoolExecutor(8))
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._card)
        self.server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("wallets.Wallets", {"Card": handler})]
        )
        credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
        self.target = f"localhost:{self.server.add_secure_port('localhost:0', credentials)}"
        self.plain = f"localhost:{self.server.add_insecure_port('localhost:0')}"
        self.url = f"https://{self.target}"
        self.authority = authority.cert_pem.bytes()
        self.tls = grpc.ssl_channel_credentials(self.authority)

    def _card(self, _request: bytes, context: Any) -> bytes:
        metadata = context.invocation_metadata()
        self.seen.append([str(value) for name, value in metadata if name == "authorization"])
        return b"card"

    def secured(self, call: grpc.CallCredentials) -> grpc.ChannelCredentials:
        return grpc.composite_channel_credentials(self.tls, call)

    def call(self, call: grpc.CallCredentials, times: int = 1) -> bytes:
        with grpc.secure_channel(self.target, self.secured(call)) as channel:
            card: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            futures = [card.future(b"", timeout=20) for _ in range(times)]
            return b"".join(future.result() for future in futures)

    def plainly(self, channel: grpc.Channel, call: grpc.CallCredentials) -> None:
        card: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        card(b"", credentials=call, timeout=20)


@pytest.fixture(scope="module")
def server() -> Iterator[Wallets]:
    wallets = Wallets()
    wallets.server.start()
    yield wallets
    wallets.server.stop(None).wait()


@pytest.fixture
def wallets(server: Wallets) -> Wallets:
    server.seen = []
    return server


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(issuer=EDGE, trust=TRUST, key_store="memory://") as running:
        yield running


def test_the_token_travels_with_each_rpc(service: Service, wallets: Wallets) -> None:
    """The one that `service.token` hands out, for these scopes; minted once for many RPCs at once."""
    credentials = call_credentials(service, wallets.url, scopes=["cards:read"])
    assert wallets.call(credentials, times=16) == b"card" * 16
    assert wallets.seen == [[f"Bearer {service.token(wallets.url, scopes=['cards:read'])}"]] * 16


def test_on_an_event_loop(service: Service, wallets: Wallets) -> None:
    """The same object for `grpc.aio`."""
    secured = wallets.secured(call_credentials(service, wallets.url))

    async def call() -> Any:
        async with grpc.aio.secure_channel(wallets.target, secured) as channel:
            card: Any = channel.unary_unary(METHOD)
            return await card(b"")

    assert asyncio.run(call()) == b"card"
    assert wallets.seen == [[f"Bearer {service.token(wallets.url)}"]]


def test_a_channel_to_somebody_else_fails_before_anything_is_sent(service: Service, wallets: Wallets) -> None:
    """Another name, another port, a part of a host: the RPC fails and names both."""
    port = wallets.target.rpartition(":")[2]
    for audience in (PUBLIC, "https://localhost", f"https://127.0.0.1:{port}", f"{wallets.url}/wallets"):
        with pytest.raises(
            grpc.RpcError, match=r"this auth is for https://.*; a request to https://localhost"
        ):
            wallets.call(call_credentials(service, audience))
    assert wallets.seen == []


def test_origins_add_addresses(service: Service, wallets: Wallets) -> None:
    """The channel's target may be another than the audience, where that is said."""
    wallets.call(call_credentials(service, PUBLIC, origins=[wallets.url]))
    ((field,),) = wallets.seen
    assert decode(field.removeprefix("Bearer ").encode()).claims["aud"] == PUBLIC
    for bad, error in (({"origins": wallets.url}, ConfigError), ({"on_behalf_of": None}, NoUser)):
        with pytest.raises(error):
            call_credentials(service, PUBLIC, **bad)


def test_without_a_ring_nothing_is_sent(wallets: Wallets) -> None:
    """The RPC fails with what the store said."""
    service = calling(Failing())
    try:
        with pytest.raises(grpc.RpcError, match="nobody answers"):
            wallets.call(call_credentials(service, wallets.url))
    finally:
        service.__exit__()
    assert wallets.seen == []


def test_no_plain_channel_carries_it(service: Service, wallets: Wallets) -> None:
    """gRPC itself refuses, whatever it is given for one call."""
    credentials = call_credentials(service, wallets.url, origins=[f"https://{wallets.plain}"])
    with (
        grpc.insecure_channel(wallets.plain) as channel,
        pytest.raises(grpc.RpcError, match="security level"),
    ):
        wallets.plainly(channel, credentials)
    assert wallets.seen == []
