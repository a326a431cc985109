"""Issuers that are none of ours, for our services to accept.

Real Node programs, and real HTTPS servers that are shaped as those of clusters, clouds and identity hubs.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trustme
from jwcrypto.jwk import JWK

from s2s_mesh import Service
from s2s_mesh.keys import SigningKey

from ..jwks_servers import Peer, answer
from ..tokens import ABSENT, WALLETS, key, sign
from .node import HERE, node, node_modules

PATIENCE = 60.0  # seconds


@contextmanager
def node_issuer(script: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a program of this folder for the length of the block; what it says of itself in its first line."""
    node_modules()
    process = subprocess.Popen(
        [node(), str(HERE / script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        _, problem = process.communicate(timeout=PATIENCE)
        raise AssertionError(problem.decode())
    try:
        yield json.loads(said)
    finally:
        process.communicate(timeout=PATIENCE)  # which closes its input, and it ends


class Authority(NamedTuple):
    """A private certificate authority.

    Attributes:
        file: its certificate, PEM.
        server: the server's side of TLS, for this machine.
    """

    file: Path
    server: ssl.SSLContext


def authority(folder: Path) -> Authority:
    """Make one, and a certificate of its own for this machine."""
    made, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(context)
    made.cert_pem.write_to_path(str(folder / "ca.pem"))
    return Authority(folder / "ca.pem", context)


class HTTPSIssuer(Peer):
    """Serves a discovery document and keys over TLS, at the paths that it is told.

    Args:
        tls: its certificate.
        keys_path: where its JWKS is.
        signer: whose public half that holds, as RSA keys of clouds are: with `alg` and `use`.
        kind: the media type of its JWKS.

    Attributes:
        said: what it answers, by path.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        keys_path: str,
        signer: SigningKey,
        *,
        kind: str = "application/json; charset=UTF-8",
    ) -> None:
        self.said: dict[str, bytes] = {}
        self._keys_path, self._kind = keys_path, kind
        super().__init__(self._talk_http, tls=tls)
        self.publish(signer)

    def publish(self, *signers: SigningKey, without: str = "") -> None:
        """Serve these keys from now on; `without` is a member that they lack."""
        keys = [
            {name: value for name, value in signer.public.public_jwk.items() if name != without}
            for signer in signers
        ]
        fields = "Cache-Control: public, max-age=3600, must-revalidate, no-transform"
        self.said[self._keys_path] = answer(json.dumps({"keys": keys}).encode(), fields, kind=self._kind)

    def describe(self, **members: Any) -> None:
        """Serve a discovery document."""
        body = json.dumps(members).encode()
        self.said["/.well-known/openid-configuration"] = answer(body, kind="application/json")

    def _talk_http(self, _: Peer, connection: socket.socket) -> None:
        head = self.read_head(connection)
        connection.sendall(self.said.get(head.path, answer(status="404 Not Found")))


def signed(signer: SigningKey, header: dict[str, Any], claims: dict[str, Any]) -> bytes:
    """A token of a shaped issuer; claims that are `ABSENT` are left out."""
    head = {"alg": signer.alg, "kid": signer.kid, **header}
    payload = {name: value for name, value in claims.items() if value is not ABSENT}
    return sign(head, payload, signer)


def rsa(name: str) -> SigningKey:
    """A key as clusters and clouds have them."""
    return key("RS256", name)


def pem(signer: SigningKey) -> str:
    """The private key, as the file of a service account holds it."""
    members = {**signer.public.public_jwk, **signer.private_members()}
    exported: bytes = JWK(**members).export_to_pem(private_key=True, password=None)
    return exported.decode()


class Receiver:
    """Wallets, which accepts what a trust file says; its clock can be ahead of the true time.

    Args:
        trust: the file, without its first lines.
        folder: for files that it names.
    """

    def __init__(self, trust: str, folder: Path) -> None:
        self.file = folder / "trust.toml"
        self.file.write_text(f"version = 1\n[defaults]\nallow_loopback_http = true\n{trust}")
        self.ahead = 0.0
        self.service = Service(issuer=WALLETS, trust=self.file, key_store=None)
        self.service.clock = lambda: time.time() + self.ahead


@contextmanager
def receiver(trust: str, folder: Path) -> Iterator[Receiver]:
    """Wallets for the length of the block."""
    made = Receiver(trust, folder)
    with made.service:
        yield made
