"""`s2s-mesh gateway`: trust for services that are not Python, behind nginx, Caddy, Traefik or Envoy."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from .servers import Host, Port

if TYPE_CHECKING:
    from ..integrations.prometheus import Prometheus

_UNIX = "unix:"
_SOCKET_MODE = 0o660  # owner and group
_BACKLOG = 128


def gateway(
    front: Annotated[
        str,
        typer.Option("--front", metavar="nginx|caddy|traefik|envoy", help="The proxy that asks."),
    ],
    host: Host = "127.0.0.1",
    port: Port = 0,
    token_listen: Annotated[
        str | None,
        typer.Option(
            "--token-listen",
            metavar="ADDRESS",
            help="Hand out tokens at /token here: 127.0.0.1:PORT, [::1]:PORT or unix:/PATH.",
        ),
    ] = None,
    public: Annotated[
        list[str] | None,
        typer.Option(
            "--public", metavar="PATH", help="An exact path that lets anonymous callers in too; repeat."
        ),
    ] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Answer /metrics for Prometheus (extra prometheus).")
    ] = False,
) -> None:
    """Decide for a service that is not Python, asked by the proxy in front of it.

    The proxy asks /verify about each request (nginx auth_request, Caddy forward_auth, Traefik ForwardAuth,
    Envoy ext_authz over HTTP) and lets it pass with S2S-Caller, S2S-Scopes, S2S-User and S2S-User-Issuer, or
    answers 400, 401, 403 or 503; standard error says why. Only the fields of the proxy named by --front are
    believed. Its configuration has to remove such fields of clients: take it from examples/gateway.

    Publishes the /.well-known documents, and answers /healthz and /readyz, with --metrics also /metrics.
    With --token-listen, the service gets tokens for calls of its own, on this machine only, and only with the
    field S2S-Mesh-Request: true.

    Prints "http://HOST:PORT ready" once it accepts connections, and such a line for --token-listen.

    \b
    Example:
      s2s-mesh gateway --front nginx --port 9000 --token-listen 127.0.0.1:9001
      curl -H 'S2S-Mesh-Request: true' 'http://127.0.0.1:9001/token?audience=https://ledger.example.com'
    """
    from ..gateway import Gateway
    from ..service import Service
    from ..token_door import TokenDoor
    from . import serving

    observer = _prometheus() if metrics else None
    observers = () if observer is None else (observer,)
    service = Service.from_env(public_paths=public or (), observers=observers)
    app = Gateway(service, front=front, metrics=observer)
    with _token_listener(token_listen) as listener:
        beside = None if listener is None else serving.Beside(TokenDoor(service), listener)
        serving.run(app, service, host=host, port=port, beside=beside)


def _prometheus() -> Prometheus:
    try:
        from ..integrations.prometheus import Prometheus
    except ImportError as missing:
        raise ConfigError(f"--metrics: {missing}; pip install 's2s-mesh[prometheus]'") from None
    return Prometheus()


@contextlib.contextmanager
def _token_listener(address: str | None) -> Iterator[socket.socket | None]:
    """The socket that `--token-listen` names; never one that another machine reaches."""
    if address is None:
        yield None
    elif address.startswith(_UNIX):
        path = Path(address.removeprefix(_UNIX))
        with _at_path(path) as listener:
            try:
                yield listener
            finally:
                path.unlink(missing_ok=True)
    else:
        with _on_loopback(address) as listener:
            yield listener


def _on_loopback(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        loopback = ipaddress.ip_address(bare).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"--token-listen: {address!r}; expected 127.0.0.1:PORT, [::1]:PORT or unix:/PATH, because "
            "whoever reaches it can call others in this service's name"
        )
    from . import serving

    return serving.listen(bare, int(port))


def _at_path(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        # nobody can connect between the two: it is not listened on yet
        listener.bind(str(path))
        path.chmod(_SOCKET_MODE)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise ConfigError(f"--token-listen: cannot listen on unix:{path}: {reason}") from None
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket that a process left behind, and nothing else.

    Raises:
        OSError: somebody listens there.
    """
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(0, "another process listens there")
