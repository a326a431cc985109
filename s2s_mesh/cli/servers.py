"""`s2s-mesh whoami` and `s2s-mesh serve`: the two services that come ready-made."""

from __future__ import annotations

import os
from typing import Annotated

import typer

Host = Annotated[str, typer.Option("--host", help="The address to listen on; 0.0.0.0 for all.")]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0 takes a free one.")
]


def whoami(host: Host = "127.0.0.1", port: Port = 0) -> None:
    """Run a service that tells callers who they are.

    Whoever the trust file lets in gets, on every path and for every method, JSON with caller, subject,
    audience, scopes, user, kid and expires_in (seconds). Others are refused, and standard error says why.
    Serves its own /.well-known documents too. Prints one line, "http://HOST:PORT ready", once it accepts
    connections.

    \b
    Example:
      s2s-mesh whoami --port 8000
    """
    from ..service import Service
    from . import serving

    service = Service.from_env()
    serving.run(service.wrap(serving.caller_facts(service)), service, host=host, port=port)


def serve(host: Host = "127.0.0.1", port: Port = 0) -> None:
    """Publish the keys of a service without a web side.

    Such as a batch job. Serves the /.well-known documents and nothing else, makes the first key, and rotates.
    Needs no trust file. Prints one line, "http://HOST:PORT ready", once it accepts connections. While the key
    store cannot be reached it answers 503 and tries again.

    \b
    Example:
      s2s-mesh serve --host 0.0.0.0 --port $PORT
    """
    from ..service import Service
    from . import serving
    from .environment import optional_trust

    service = Service.from_env(**optional_trust(os.environ))
    serving.run(serving.only_documents(service), service, host=host, port=port)
