"""A gRPC call as a decision sees it, and a refusal as gRPC has it."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import grpc

from ..certificates import Peer
from ..inbound import RequestFacts
from ..refusal import Refusal

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_TOLD = {"www-authenticate", "retry-after"}


class ConnectionNeeded(Exception):
    """What is to be decided depends on who is at the other end."""


def facts_of(details: Any, public_paths: Collection[str], context: Any = None) -> RequestFacts:
    method = details.method.encode("latin-1", "replace")
    return RequestFacts(
        headers=[
            (name.encode("latin-1", "replace"), _bytes(value)) for name, value in details.invocation_metadata
        ],
        method="POST",
        # gRPC decodes nothing, so what would be decoded for a rule means something else there
        raw_path=b"" if b"%" in method else method,
        public=details.method in public_paths,
        connection=context,
        look=_peer_of,
    )


def _peer_of(context: Any) -> Peer:
    if context is None:
        raise ConnectionNeeded
    # ipv4:10.0.0.1:50412, ipv6:%5B::1%5D:50412
    kind, _, place = unquote(context.peer()).partition(":")
    certificates = context.auth_context().get("x509_pem_cert")
    return Peer(
        place.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else None,
        certificates[0] if certificates else None,
    )


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


def _status(refused: Refusal) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    told = tuple((name, value) for name, value in refused.headers if name in _TOLD)
    details = f"{HTTPStatus(refused.status).phrase} (urn:uuid:{refused.request_id})"
    return _CODES[refused.status], details, told


def abort(refused: Refusal, context: Any) -> None:
    code, details, metadata = _status(refused)
    context.set_trailing_metadata(metadata)
    context.abort(code, details)


async def abort_async(refused: Refusal, context: Any) -> None:
    code, details, metadata = _status(refused)
    await context.abort(code, details, metadata)


def refusing_async(refused: Refusal) -> Any:
    async def refuse(_: Any, context: Any) -> None:
        await abort_async(refused, context)

    # one that reads no request before it answers; on the wire all kinds are the same
    return grpc.stream_stream_rpc_method_handler(refuse)
