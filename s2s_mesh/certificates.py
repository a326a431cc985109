"""Client certificates of incoming connections: who may hand one on in a header field, and its thumbprint.

Nothing here judges a certificate. Whoever ended the TLS connection saw that the client holds its key, and
that is all that RFC 8705 section 3 asks: the token says which certificate, the connection says whose.

A field is believed only if the peer that the server names is a configured proxy. Servers and middlewares
replace that peer by what a forwarding field says (uvicorn's --proxy-headers does, by default), so whoever may
write such a field could pose as the proxy. Therefore a peer whose address also stands in a field of the
request is not believed to be one.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from .errors import ConfigError, ProofRejected, Reason, TokenRejected
from .jws import b64url_encode

CLIENT_CERT, XFCC = "client-cert", "x-forwarded-client-cert"
_HEADER = "client_certificate_header (S2S_MESH_CLIENT_CERTIFICATE_HEADER)"
_PROXIES = "trusted_proxies (S2S_MESH_TRUSTED_PROXIES)"
_FIELDS = frozenset({CLIENT_CERT.encode(), XFCC.encode(), b"client-cert-chain"})
# what names no peer, whatever stands there
_NO_FORWARDING = _FIELDS | {b"host", b"x-forwarded-host", b"authorization"}
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_BYTE_SEQUENCE = re.compile(rb":([A-Za-z0-9+/]+={0,2}):")
_ELEMENT = re.compile(rb'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;=\\]*)(;|\Z)')
_HEX_SHA256 = re.compile(rb"[0-9a-f]{64}")
_DER_SEQUENCE = 0x30

Fields = Sequence[tuple[bytes, bytes]]  # lower-case name, value


class Peer(NamedTuple):
    """Who is at the other end of a connection.

    Attributes:
        address: as the server names it; None where it names none.
        certificate: the one that the client proved to hold, PEM or DER; None for none.
    """

    address: str | None
    certificate: bytes | None


def nobody(_: Any) -> Peer:
    """The peer of what is no connection."""
    return Peer(None, None)


def thumbprint(der: bytes) -> str:
    """`x5t#S256` of a certificate: SHA-256 of its DER, base64url, 43 characters (RFC 8705 section 3.1)."""
    return b64url_encode(sha256(der).digest()).decode()


def der_of(certificate: bytes) -> bytes:
    """The DER of one certificate, and nothing beside it.

    PEM is not looked for inside of DER, where whoever the certificate is made for could have it written.

    Raises:
        ValueError: it is neither PEM nor DER.
    """
    if _is_one_sequence(certificate):
        return certificate
    return _of_pem(_PEM.fullmatch(certificate.strip()))


def first_der_of(file: bytes) -> bytes:
    """The DER of the first certificate in a file of ours, which is our own in a chain.

    Raises:
        ValueError: there is none.
    """
    return file if _is_one_sequence(file) else _of_pem(_PEM.search(file))


def _of_pem(found: re.Match[bytes] | None) -> bytes:
    der = b"" if found is None else base64.b64decode(b"".join(found[1].split()), validate=True)
    if not _is_one_sequence(der):
        raise ValueError("neither one certificate in DER nor one in PEM")
    return der


def thumbprint_of(peer: Peer) -> str:
    """The thumbprint of the certificate that the TLS layer saw.

    Raises:
        TokenRejected: `PROOF_MISSING`, there is none.
    """
    try:
        return thumbprint(der_of(peer.certificate or b""))
    except ValueError:
        raise TokenRejected(
            Reason.PROOF_MISSING,
            "the token is bound to a certificate, and the TLS layer here showed none; behind a proxy, "
            "configure client_certificate_header",
        ) from None


def is_field(name: bytes) -> bool:
    """Whether a field, by its lower-case name, is about a client certificate, or is one for some servers.

    Those take an underscore for a hyphen (standards (e) row 71).
    """
    return name in _FIELDS or (b"_" in name and name.replace(b"_", b"-") in _FIELDS)


class ProxyField:
    """The field in which our proxies hand on the certificate of their clients.

    Args:
        field: `client-cert` (RFC 9440) or `x-forwarded-client-cert` (Envoy), in any case.
        proxies: their addresses and networks.

    Raises:
        ConfigError: another field, or something that is no network, or is everybody.
    """

    def __init__(self, field: str, proxies: Collection[str]) -> None:
        if field.lower() not in _READERS:
            raise ConfigError(f"{_HEADER} is {field!r}; expected one of {', '.join(_READERS)}")
        if isinstance(proxies, str) or not proxies:
            raise ConfigError(
                f"{_PROXIES} must list the addresses of the proxies that set {_HEADER}; from anybody else "
                "the field is worth nothing"
            )
        self.name: str = field.lower()
        self._field = self.name.encode()
        self._read = _READERS[self.name]
        self._networks = [_network(proxy) for proxy in proxies]

    @classmethod
    def configured(cls, field: str | None, proxies: Collection[str]) -> ProxyField | None:
        """What the arguments of `Service` say; None where they say nothing.

        Raises:
            ConfigError: one without the other, or as the class.
        """
        return None if field is None and not proxies else cls(field or "", proxies)

    def without_foreign(self, headers: Fields, address: str | None) -> Fields:
        """The field lines for the application: about certificates only ours, from a proxy of ours."""
        if not any(is_field(name) for name, _ in headers):
            return headers
        kept = self._field if self._distrust(headers, address) is None else None
        return [field for field in headers if field[0] == kept or not is_field(field[0])]

    def check(self, headers: Fields, address: str | None) -> None:
        """Refuse a request that our proxy did not send as it should.

        Raises:
            ProofRejected: the field is there twice, or not in its form.
        """
        if any(name == self._field for name, _ in headers) and self._distrust(headers, address) is None:
            self._only(headers)

    def thumbprint(self, headers: Fields, address: str | None) -> str:
        """The thumbprint of the certificate that a client presented to our proxy.

        Raises:
            TokenRejected: `PROOF_MISSING`, there is none that is believed.
            ProofRejected: as `check`.
        """
        why = self._distrust(headers, address)
        if why is None and not any(name == self._field for name, _ in headers):
            why = f"the proxy {address!r:.80} sent no {self.name}"
        if why is not None:
            raise TokenRejected(Reason.PROOF_MISSING, f"the token is bound to a certificate, and {why}")
        return self._only(headers)

    def _only(self, headers: Fields) -> str:
        values = [value for name, value in headers if name == self._field]
        if len(values) != 1:
            raise ProofRejected(Reason.CERTIFICATE_FIELD, f"{self.name} is there {len(values)} times")
        try:
            return self._read(values[0].strip(b" \t"))
        except ValueError as why:
            raise ProofRejected(Reason.CERTIFICATE_FIELD, f"{self.name} is {why}") from None

    def _distrust(self, headers: Fields, address: str | None) -> str | None:
        """Why the field is not believed, or None."""
        if address is None:
            return "the server does not say who the peer is"
        if not self._is_proxy(address):
            return f"the peer {address!r:.80} is none of trusted_proxies"
        # without its zone (RFC 4007), which may be any text, and stands in the field in any encoding
        place = re.escape(address.partition("%")[0].lower().encode())
        says = re.compile(rb"(?<![0-9a-f.])" + place + rb"(?![0-9a-f.])")
        for name, value in headers:
            if name not in _NO_FORWARDING and says.search(value.lower()):
                return (
                    f"the peer's address {address!r:.80} also stands in the field "
                    f"{name.decode('latin-1')!r:.80}, where the server may have it from; let the server show "
                    "the real peer (docs/certificates.md)"
                )
        return None

    def _is_proxy(self, address: str) -> bool:
        try:
            peer: Any = ipaddress.ip_address(address)
        except ValueError:
            return False
        # a listener for both versions names IPv4 peers so
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer in network for network in self._networks)


def _network(text: str) -> Any:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as why:
        raise ConfigError(
            f"{_PROXIES}: {text!r} is neither an address nor a network such as 10.0.0.0/8: {why}"
        ) from None
    if not network.prefixlen:
        raise ConfigError(f"{_PROXIES}: {text} is everybody, who could then write any certificate")
    return network


def _is_one_sequence(der: bytes) -> bool:
    """Whether these bytes are one DER SEQUENCE, as a certificate is, and nothing more."""
    if len(der) < 2 or der[0] != _DER_SEQUENCE:
        return False
    if der[1] < 0x80:
        return len(der) == 2 + der[1]
    size = der[1] & 0x7F
    return 0 < size <= 4 and len(der) == 2 + size + int.from_bytes(der[2 : 2 + size], "big")


# our proxy sends the same value with each request of a client
@functools.lru_cache(maxsize=64)
def _read_client_cert(value: bytes) -> str:
    """RFC 9440 section 2.1: the DER as a Byte Sequence (RFC 8941 section 3.3.5), without parameters."""
    found = _BYTE_SEQUENCE.fullmatch(value)
    if found is not None and not len(found[1]) % 4:
        der = base64.b64decode(found[1])
        if base64.b64encode(der) == found[1] and _is_one_sequence(der):
            return thumbprint(der)
    raise ValueError("not the DER of one certificate, base64 between colons")


@functools.lru_cache(maxsize=64)
def _read_xfcc(value: bytes) -> str:
    """One element of Envoy's field, with Hash or Cert; several mean that several proxies wrote."""
    said: dict[bytes, list[bytes]] = {}
    at = 0
    while at < len(value):
        pair = _ELEMENT.match(value, at)
        if pair is None:
            raise ValueError("not one element of name=value pairs; several proxies wrote, or none of ours")
        said.setdefault(pair[1].lower(), []).append(pair[2].strip(b'"'))
        at = pair.end()
        if pair[3] and at == len(value):
            raise ValueError("not one element of name=value pairs: it ends in a semicolon")
    hashes, certs = said.get(b"hash", []), said.get(b"cert", [])
    found = {b64url_encode(bytes.fromhex(_hex(each).decode())).decode() for each in hashes}
    for cert in certs:
        try:
            found.add(thumbprint(der_of(unquote_to_bytes(cert))))
        except ValueError:
            raise ValueError("without a Cert that is one certificate in PEM, percent-encoded") from None
    if len(hashes) > 1 or len(certs) > 1 or len(found) != 1:
        raise ValueError("not about one certificate: expected one Hash or one Cert, or both of the same")
    return found.pop()


def _hex(value: bytes) -> bytes:
    if not _HEX_SHA256.fullmatch(value):
        raise ValueError("without a Hash that is a SHA-256 in lower-case hexadecimal")
    return value


_READERS = {CLIENT_CERT: _read_client_cert, XFCC: _read_xfcc}
