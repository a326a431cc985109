"""What the processes of both kinds have in common."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading

import uvicorn
from starlette.types import ASGIApp

_KEEP_ALIVE = 60  # seconds; longer than callers keep a connection, so that none closes when it is used again


def serve(app: ASGIApp) -> None:
    """Serve on the socket whose descriptor is the program's argument, until SIGTERM or the runner's end."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    threading.Thread(target=_end_with_runner, daemon=True).start()
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


def _end_with_runner() -> None:
    """The standard input is a pipe from the runner, and closed with it, however it ends."""
    sys.stdin.buffer.read()
    os._exit(1)
