"""`atlassian-jwt-auth`, unmodified: a Flask application behind its decorators, and what its programs need."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import atlassian_jwt_auth
import flask
import trustme
from atlassian_jwt_auth.frameworks.flask import with_asap
from werkzeug.serving import make_server

PROGRAM = "atlassian-jwt-auth"
ISSUER = "team/edge"
AUDIENCE = "team/wallets"
KEYS = "/.well-known/asap-keys/"


class Authority:
    """TLS for servers on this machine, which their retriever insists on.

    Attributes:
        ca_file: what a client trusts.
        server: arguments of uvicorn.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca_file: str = str(folder / "ca.pem")
        certificate, private = folder / "server.pem", folder / "server.key"
        authority.cert_pem.write_to_path(self.ca_file)
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(private)
        for pem in issued.cert_chain_pems:
            pem.write_to_path(certificate, append=True)
        self.server: dict[str, Any] = {
            "ssl_certfile": str(certificate),
            "ssl_keyfile": str(private),
        }

    def retriever(self) -> type[atlassian_jwt_auth.HTTPSPublicKeyRetriever]:
        """For `ASAP_KEY_RETRIEVER_CLASS`: theirs, with a private authority, as requests is told of one."""
        ca_file = self.ca_file

        class Retriever(atlassian_jwt_auth.HTTPSPublicKeyRetriever):  # type: ignore[misc]  # it has no types
            def retrieve(self, key_identifier: Any, **options: Any) -> Any:
                return super().retrieve(key_identifier, verify=ca_file, **options)

        return Retriever


def forget_session() -> None:
    """As a new process of theirs begins: no connection, and nothing in its cache of keys."""
    retriever = atlassian_jwt_auth.HTTPSPublicKeyRetriever
    if retriever._class_session is not None:
        retriever._class_session.close()
        retriever._class_session = None
    gc.collect()  # an answer of 404 keeps its connection until then, and the server would wait for that


def receiver(base_url: str, retriever: type) -> flask.Flask:
    """A Flask application that team/edge, and nobody else, may call as team/wallets."""
    app = flask.Flask(__name__)
    app.config.update(
        ASAP_PUBLICKEY_REPOSITORY=base_url,
        ASAP_KEY_RETRIEVER_CLASS=retriever,
        ASAP_VALID_AUDIENCE=AUDIENCE,
        ASAP_VALID_ISSUERS=[ISSUER],
    )

    @app.get("/whoami")
    @with_asap  # type: ignore[untyped-decorator]
    def whoami() -> Any:
        return flask.jsonify(flask.g.asap_claims)

    return app


@contextmanager
def on_werkzeug(app: flask.Flask) -> Iterator[str]:
    """The application on a real server in a thread; yields its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
