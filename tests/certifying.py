"""Client certificates of a private authority, and tokens that are bound to them."""

from __future__ import annotations

import base64
import datetime as dt
import ssl
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from .tokens import claims, header, key, sign


class Certified(NamedTuple):
    """A client with its certificate.

    Attributes:
        pem: chain, leaf first.
        key: its private key, PEM.
        der: of the leaf.
    """

    pem: bytes
    key: bytes
    der: bytes

    @property
    def thumbprint(self) -> str:
        """As RFC 8705 section 3.1 has it, computed by hand."""
        return base64.urlsafe_b64encode(sha256(self.der).digest()).decode().rstrip("=")

    @property
    def client_cert(self) -> bytes:
        """The value of Client-Cert (RFC 9440)."""
        return b":" + base64.b64encode(self.der) + b":"

    @property
    def xfcc(self) -> bytes:
        """The value of X-Forwarded-Client-Cert, as Envoy writes it."""
        text = f'Hash={sha256(self.der).hexdigest()};Cert="{quote(self.leaf_pem, safe="")}"'
        return text.encode()

    @property
    def leaf_pem(self) -> str:
        return ssl.DER_cert_to_PEM_cert(self.der)

    def write(self, folder: Path, name: str = "client") -> tuple[Path, Path]:
        """Certificate and key as files; what was there is replaced."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        for path, content in zip(paths, (self.pem, self.key), strict=True):
            fresh = path.with_suffix(path.suffix + ".new")
            fresh.write_bytes(content)
            fresh.replace(path)
        return paths


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def client(name: str = "edge") -> Certified:
    """The same one for a name in one run."""
    made = authority().issue_cert(f"{name}.example.com")
    pem = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    return Certified(
        pem, made.private_key_pem.bytes(), ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
    )


def certificate_holding(content: bytes) -> bytes:
    """The DER of a certificate whose holder had this written into it."""
    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "thief")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=3650))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), content), critical=False)
    )
    return builder.sign(made, hashes.SHA256()).public_bytes(Encoding.DER)


def bound(to: str | None = None, **changes: Any) -> bytes:
    """A token that is bound to the certificate with this thumbprint; without one, to that of edge."""
    cnf = {"x5t#S256": client().thumbprint if to is None else to}
    return sign(header(key()), claims(**{"cnf": cnf, **changes}), key())


def server_context(name: str = "127.0.0.1", *, required: bool = False) -> ssl.SSLContext:
    """Of a server that asks clients for certificates of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(name).configure_cert(context)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def client_context(folder: Path, who: Certified | None) -> ssl.SSLContext:
    """Of a client that trusts the authority, and presents its certificate if it has one."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if who is not None:
        context.load_cert_chain(*who.write(folder))
    return context
