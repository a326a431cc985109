"""gRPC: call credentials, for channels that are secured (gRPC lets them travel on no others).

    channel = grpc.secure_channel("wallets.example.com:443", grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(), call_credentials(service, "https://wallets.example.com")))

The same for `grpc.aio`. The service that gRPC verified by TLS is the one that must be the audience.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc

from ..errors import MeshError
from ..outbound import Caller, Hop, Outbound, outbound

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..outbound import Options


class _Credentials(grpc.AuthMetadataPlugin):
    def __init__(self, tokens: Outbound) -> None:
        self._outbound = tokens

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Called by gRPC for each RPC, in a thread of its own."""
        parts = urlsplit(context.service_url)
        try:
            self._outbound.check(Hop(parts.scheme, parts.hostname or "", parts.port, parts.path.encode()))
            self._outbound.tokens.load()
            field = self._outbound.field()
        except MeshError as refused:
            callback((), refused)  # the RPC fails with its text; nothing was sent
            return
        callback((("authorization", field),), None)


def call_credentials(service: Caller, audience: str, **options: Unpack[Options]) -> grpc.CallCredentials:
    """Call credentials with a token for `audience`, kept and renewed early, for one channel or many.

    An RPC to anybody else fails before anything is sent. A refused RPC (UNAUTHENTICATED) is not repeated:
    call credentials never see answers.

    Args:
        service: makes the tokens.
        audience: the service that is called; where the channel's target has another name, say that one in
            `origins`, as `https://HOST:PORT`.
        options: see `s2s_mesh.outbound.Outbound`.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: a bad audience, scope or origin.
    """
    return grpc.metadata_call_credentials(_Credentials(outbound(service, audience, **options)), "s2s-mesh")
