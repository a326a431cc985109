"""What says which certificate a client has: fields of proxies in their exact form, and who is a proxy."""

from __future__ import annotations

import base64
import ssl
from typing import Any
from urllib.parse import quote

import pytest

from s2s_mesh.certificates import Peer, ProxyField, der_of, first_der_of, thumbprint, thumbprint_of
from s2s_mesh.errors import ConfigError, Reason, TokenRejected

from .certifying import certificate_holding, client
from .hostile import rows

R = Reason
EDGE, THIEF = client(), client("thief")
PROXY = "10.0.0.7"
Lines = list[tuple[bytes, bytes]]


def field_of(name: str = "client-cert", *proxies: str) -> ProxyField:
    return ProxyField(name, proxies or ["10.0.0.0/24", "fd00::7"])


def said(name: str, *values: bytes) -> Lines:
    return [(b"host", b"10.0.0.7:8443"), *((name.encode(), value) for value in values)]


def outcome(
    proxies: ProxyField, headers: Lines, address: str | None = PROXY
) -> tuple[str | None, Reason | None]:
    """The thumbprint, or why there is none; `check` and `thumbprint` agree about what is malformed."""
    found = reason = None
    try:
        found = proxies.thumbprint(headers, address)
    except TokenRejected as refused:
        reason = refused.reason
    try:
        proxies.check(headers, address)
        malformed = False
    except TokenRejected:
        malformed = True
    assert malformed is (reason is R.CERTIFICATE_FIELD)
    return found, reason


B64 = base64.b64encode(EDGE.der)
CLIENT_CERT: list[tuple[str, bytes, Reason | None]] = [
    ("as RFC 9440 has it", EDGE.client_cert, None),
    ("without colons", B64, R.CERTIFICATE_FIELD),
    ("without the last colon", b":" + B64, R.CERTIFICATE_FIELD),
    ("empty", b"", R.CERTIFICATE_FIELD),
    ("an empty sequence", b"::", R.CERTIFICATE_FIELD),
    ("with a parameter", EDGE.client_cert + b";a=1", R.CERTIFICATE_FIELD),
    ("two items", EDGE.client_cert + b", " + EDGE.client_cert, R.CERTIFICATE_FIELD),
    ("base64url", b":" + base64.urlsafe_b64encode(b"\x30\x01\xff" + b"\xff" * 9) + b":", R.CERTIFICATE_FIELD),
    ("a space inside", b":" + B64[:8] + b" " + B64[8:] + b":", R.CERTIFICATE_FIELD),
    ("a line break inside", b":" + B64[:8] + b"\n" + B64[8:] + b":", R.CERTIFICATE_FIELD),
    ("padding cut off", b":" + B64.rstrip(b"=")[:-1] + b":", R.CERTIFICATE_FIELD),
    ("other last bits", b":MAB=:", R.CERTIFICATE_FIELD),
    ("PEM", b":" + base64.b64encode(EDGE.leaf_pem.encode()) + b":", R.CERTIFICATE_FIELD),
    ("bytes behind", b":" + base64.b64encode(EDGE.der + b"x") + b":", R.CERTIFICATE_FIELD),
    ("cut off", b":" + base64.b64encode(EDGE.der[:-1]) + b":", R.CERTIFICATE_FIELD),
    ("two certificates", b":" + base64.b64encode(EDGE.der * 2) + b":", R.CERTIFICATE_FIELD),
    ("white space around it", b" " + EDGE.client_cert + b"\t", None),
    ("one byte", b":MA==:", R.CERTIFICATE_FIELD),
    ("another kind of DER", b":" + base64.b64encode(b"\x04" + EDGE.der[1:]) + b":", R.CERTIFICATE_FIELD),
    ("an endless length", b":" + base64.b64encode(b"\x30\x80" + b"\0" * 4) + b":", R.CERTIFICATE_FIELD),
    ("as Envoy writes it", EDGE.xfcc, R.CERTIFICATE_FIELD),
]


@pytest.mark.parametrize(("value", "reason"), rows(CLIENT_CERT))
def test_client_cert_has_one_form(value: bytes, reason: Reason | None) -> None:
    """RFC 9440 section 2.1, to the byte."""
    wanted = (EDGE.thumbprint, None) if reason is None else (None, reason)
    assert outcome(field_of(), said("client-cert", value)) == wanted


HASH = EDGE.xfcc.partition(b";")[0]
CERT = EDGE.xfcc.partition(b";")[2]


def cert_of(pem: str) -> bytes:
    return f'Cert="{quote(pem, safe="")}"'.encode()


XFCC: list[tuple[str, bytes, Reason | None]] = [
    ("as Envoy writes it", EDGE.xfcc, None),
    ("the hash alone", HASH, None),
    ("the certificate alone", CERT, None),
    (
        "with all that Envoy can say",
        b"By=spiffe://td/front;"
        + HASH
        + b';Subject="CN=\\"x\\",O=a;b=c";URI=;URI=spiffe://td/edge;DNS=a;DNS=b',
        None,
    ),
    ("in other letters", HASH.replace(b"Hash", b"hash"), None),
    ("two elements", EDGE.xfcc + b"," + EDGE.xfcc, R.CERTIFICATE_FIELD),
    ("two elements, the first empty", b"," + EDGE.xfcc, R.CERTIFICATE_FIELD),
    ("an element of somebody else behind", HASH + b",Hash=" + b"0" * 64, R.CERTIFICATE_FIELD),
    ("an element of somebody else before", b"Hash=" + b"0" * 64 + b"," + HASH, R.CERTIFICATE_FIELD),
    ("empty", b"", R.CERTIFICATE_FIELD),
    ("no certificate", b"By=spiffe://td/front;URI=spiffe://td/edge", R.CERTIFICATE_FIELD),
    ("two hashes", HASH + b";Hash=" + b"0" * 64, R.CERTIFICATE_FIELD),
    ("the hash twice", HASH + b";" + HASH, R.CERTIFICATE_FIELD),
    ("the certificate twice", CERT + b";" + CERT, R.CERTIFICATE_FIELD),
    ("hash of one, certificate of another", HASH + b";" + cert_of(THIEF.leaf_pem), R.CERTIFICATE_FIELD),
    ("a hash in upper case", b"Hash=" + HASH[5:].upper(), R.CERTIFICATE_FIELD),
    ("a short hash", HASH[:-1], R.CERTIFICATE_FIELD),
    ("a long hash", HASH + b"00", R.CERTIFICATE_FIELD),
    ("an empty hash", b"Hash=", R.CERTIFICATE_FIELD),
    (
        "a certificate that is none",
        cert_of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
        R.CERTIFICATE_FIELD,
    ),
    (
        "a certificate that is no base64",
        cert_of("-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----"),
        R.CERTIFICATE_FIELD,
    ),
    ("a certificate with its chain", cert_of(EDGE.leaf_pem + THIEF.leaf_pem), R.CERTIFICATE_FIELD),
    ("an empty certificate", b'Cert=""', R.CERTIFICATE_FIELD),
    ("a quote that does not end", b'Subject="CN=x;' + HASH, R.CERTIFICATE_FIELD),
    ("text behind a quote", b'Subject="CN=x"y;' + HASH, R.CERTIFICATE_FIELD),
    ("a semicolon at the end", HASH + b";", R.CERTIFICATE_FIELD),
    ("two semicolons", HASH + b";;DNS=a", R.CERTIFICATE_FIELD),
    ("a name without value", HASH + b";DNS", R.CERTIFICATE_FIELD),
    ("a quote in the middle", b'URI=a"b;' + HASH, R.CERTIFICATE_FIELD),
    ("an equals sign outside of quotes", b"URI=a=b;" + HASH, R.CERTIFICATE_FIELD),
    ("a backslash outside of quotes", b"URI=a\\b;" + HASH, R.CERTIFICATE_FIELD),
    ("a comma outside of quotes", b"URI=a,b;" + HASH, R.CERTIFICATE_FIELD),
    ("a hash inside of a quote", b'Subject="' + HASH + b'"', R.CERTIFICATE_FIELD),
    ("as RFC 9440 has it", EDGE.client_cert, R.CERTIFICATE_FIELD),
]


@pytest.mark.parametrize(("value", "reason"), rows(XFCC))
def test_xfcc_is_one_element_about_one_certificate(value: bytes, reason: Reason | None) -> None:
    """Several elements mean that several proxies wrote, of which the first may be anybody."""
    wanted = (EDGE.thumbprint, None) if reason is None else (None, reason)
    assert outcome(field_of("X-Forwarded-Client-Cert"), said("x-forwarded-client-cert", value)) == wanted


def named_in(name: str, value: str) -> Lines:
    return [*said("client-cert", EDGE.client_cert), (name.encode(), value.encode())]


GOOD = said("client-cert", EDGE.client_cert)
FOR_ZONE = (b"x-forwarded-for", b"fd00::7%\xe9")
FOR_ZONE_4 = (b"x-forwarded-for", f"::ffff:{PROXY}%".encode() + b"\xe9")
PEERS: list[tuple[str, str | None, Lines, Reason | None]] = [
    ("a proxy", PROXY, GOOD, None),
    ("another of its network", "10.0.0.255", GOOD, None),
    ("by IPv6", "fd00::7", GOOD, None),
    ("by IPv6, written otherwise", "FD00:0::0007", GOOD, None),
    ("IPv4 on a listener for both", "::ffff:10.0.0.7", GOOD, None),
    ("through it for a client nearby", PROXY, named_in("x-forwarded-for", "10.0.0.77, 110.0.0.7"), None),
    ("called by its address", PROXY, named_in("x-forwarded-host", f"{PROXY}:8443"), None),
    ("through it, with a name made of its address", PROXY, named_in("x-from", "ip-10-0-0-7"), None),
    (
        "as it calls itself in the other field",
        PROXY,
        named_in("x-forwarded-client-cert", f"By=spiffe://{PROXY}/front"),
        None,
    ),
    ("a stranger", "10.0.1.7", GOOD, R.PROOF_MISSING),
    ("a stranger, malformed", "10.0.1.7", said("client-cert", b"x"), R.PROOF_MISSING),
    ("a stranger by IPv6", "fd00::8", GOOD, R.PROOF_MISSING),
    ("a stranger on a listener for both", "::ffff:10.0.1.7", GOOD, R.PROOF_MISSING),
    ("nobody knows who", None, GOOD, R.PROOF_MISSING),
    ("a name", "proxy.internal", GOOD, R.PROOF_MISSING),
    ("a unix socket", "", GOOD, R.PROOF_MISSING),
    ("no field", PROXY, said("client-cert"), R.PROOF_MISSING),
    ("the other field", PROXY, said("x-forwarded-client-cert", EDGE.xfcc), R.PROOF_MISSING),
    ("an underscore for the hyphen", PROXY, said("client_cert", EDGE.client_cert), R.PROOF_MISSING),
    ("two lines", PROXY, said("client-cert", EDGE.client_cert, EDGE.client_cert), R.CERTIFICATE_FIELD),
    ("two lines, one empty", PROXY, said("client-cert", b"", EDGE.client_cert), R.CERTIFICATE_FIELD),
    ("with a zone", "fd00::7%eth0", GOOD, None),
    # who says by a field that it is the proxy, to a server that believes such fields
    ("as X-Forwarded-For says", PROXY, named_in("x-forwarded-for", PROXY), R.PROOF_MISSING),
    ("as the last of several says", PROXY, named_in("x-forwarded-for", f"1.2.3.4, {PROXY}"), R.PROOF_MISSING),
    ("with a port", PROXY, named_in("x-forwarded-for", f"{PROXY}:443,1.2.3.4"), R.PROOF_MISSING),
    ("as Forwarded says", PROXY, named_in("forwarded", f"for={PROXY};proto=https"), R.PROOF_MISSING),
    ("as X-Real-IP says", PROXY, named_in("x-real-ip", PROXY), R.PROOF_MISSING),
    ("as a field of any name says", PROXY, named_in("fly-client-ip", PROXY), R.PROOF_MISSING),
    ("with a zone in any bytes", "fd00::7%\xe9", [*GOOD, FOR_ZONE], R.PROOF_MISSING),
    ("with a zone, IPv4", f"::ffff:{PROXY}%\xe9", [*GOOD, FOR_ZONE_4], R.PROOF_MISSING),
    ("in brackets", "fd00::7", named_in("x-forwarded-for", "[fd00::7]:443"), R.PROOF_MISSING),
    ("in other letters", "FD00::7", named_in("x-forwarded-for", "fd00::7"), R.PROOF_MISSING),
    ("in other letters there", "fd00::7", named_in("x-forwarded-for", "FD00::7"), R.PROOF_MISSING),
    ("in IPv6", PROXY, named_in("x-forwarded-for", f"::ffff:{PROXY}"), R.PROOF_MISSING),
]


@pytest.mark.parametrize(("address", "headers", "reason"), rows(PEERS))
def test_only_a_proxy_is_believed(address: str | None, headers: Lines, reason: Reason | None) -> None:
    """And none whose address the request itself names, because servers take it from there."""
    wanted = (EDGE.thumbprint, None) if reason is None else (None, reason)
    assert outcome(field_of(), headers, address) == wanted


def test_why_a_field_is_not_believed_is_for_the_log() -> None:
    """The peer, the field that names it, or that the proxy sent none."""
    for address, headers, words in (
        (None, GOOD, "does not say who the peer is"),
        ("10.0.1.7", GOOD, "the peer '10.0.1.7' is none of trusted_proxies"),
        ("10.0.1.7", said("client-cert"), "the peer '10.0.1.7' is none of trusted_proxies"),
        (PROXY, named_in("x-real-ip", PROXY), "'10.0.0.7' also stands in the field 'x-real-ip'"),
        (PROXY, said("client-cert"), "the proxy '10.0.0.7' sent no client-cert"),
    ):
        with pytest.raises(TokenRejected, match=words):
            field_of().thumbprint(headers, address)


@pytest.mark.hostile
def test_what_a_server_takes_for_the_peer_is_cut_and_escaped_in_the_log() -> None:
    """Some take any text of a field for it, and an IPv6 address may end in any text."""
    for address, headers in (
        ("\x85" + "x" * 5000, GOOD),
        (zone := "fd00::7%\x85" + "x" * 5000, [*GOOD, (b"x" * 5000, zone.encode())]),
        (zone, said("client-cert")),
    ):
        with pytest.raises(TokenRejected) as refused:
            field_of().thumbprint(headers, address)
        assert len(str(refused.value)) < 500
        assert str(refused.value).isprintable()


def test_only_our_own_field_of_our_own_proxy_gets_through() -> None:
    """Whatever else says who presents a certificate is stripped, under each of its names."""
    others: Lines = [
        (b"client-cert-chain", b":AAAA:"),
        (b"x-forwarded-client-cert", EDGE.xfcc),
        (b"client_cert", b"x"),
        (b"x_forwarded-client_cert", b"x"),
    ]
    rest: Lines = [(b"host", b"a"), (b"x-client", b"b"), (b"a_b", b"c")]
    proxies = field_of()
    assert proxies.without_foreign(rest, "1.2.3.4") is rest
    assert proxies.without_foreign([*others, *GOOD, *rest], PROXY) == [*GOOD, *rest]
    assert proxies.without_foreign([*others, *GOOD, *rest], "1.2.3.4") == [GOOD[0], *rest]
    spoofed = named_in("x-forwarded-for", PROXY)
    assert proxies.without_foreign(spoofed, PROXY) == [spoofed[0], spoofed[2]]


@pytest.mark.parametrize(
    ("field", "proxies", "words"),
    [
        ("x-client-cert", ["10.0.0.1"], "expected one of client-cert, x-forwarded-client-cert"),
        ("", ["10.0.0.1"], "expected one of"),
        ("client-cert", [], "must list the addresses"),
        ("client-cert", "10.0.0.1", "must list the addresses"),
        ("client-cert", ["10.0.0.1/8"], "neither an address nor a network"),
        ("client-cert", ["proxy.internal"], "neither an address nor a network"),
        ("client-cert", ["*"], "neither an address nor a network"),
        ("client-cert", ["10.0.0.1", "0.0.0.0/0"], "is everybody"),
        ("client-cert", ["::/0"], "is everybody"),
    ],
)
def test_a_configuration_that_is_none_or_trusts_everybody_is_refused(
    field: str, proxies: Any, words: str
) -> None:
    """By name."""
    with pytest.raises(ConfigError, match=words):
        ProxyField(field, proxies)


def test_the_thumbprint_is_that_of_rfc_8705() -> None:
    """SHA-256 of the DER, also of the first certificate of a chain in PEM, base64url without padding."""
    whole = EDGE.key + EDGE.pem + THIEF.pem
    assert {thumbprint(der_of(form)) for form in (EDGE.der, EDGE.leaf_pem.encode())} == {EDGE.thumbprint}
    assert {thumbprint(first_der_of(form)) for form in (EDGE.der, EDGE.pem, whole)} == {EDGE.thumbprint}
    assert len(EDGE.thumbprint) == 43
    assert thumbprint_of(Peer("1.2.3.4", EDGE.der)) == EDGE.thumbprint
    assert thumbprint(der_of(b"\x30\x00")) != EDGE.thumbprint


@pytest.mark.hostile
def test_a_certificate_with_another_one_inside_is_itself() -> None:
    """Whoever has certificates made can have anything written into them, in PEM too; ours is public."""
    thief = certificate_holding(EDGE.leaf_pem.encode())
    assert EDGE.leaf_pem.encode() in thief
    ours = thumbprint_of(Peer(PROXY, thief))
    assert ours == thumbprint(thief) != EDGE.thumbprint
    as_pem = ssl.DER_cert_to_PEM_cert(thief).encode()
    assert thumbprint_of(Peer(PROXY, as_pem)) == thumbprint(first_der_of(thief)) == ours
    assert outcome(field_of(), said("client-cert", b":" + base64.b64encode(thief) + b":")) == (ours, None)
    for around in (EDGE.leaf_pem.encode() + as_pem, b"x" + as_pem, as_pem + b"x"):
        with pytest.raises(TokenRejected):
            thumbprint_of(Peer(PROXY, around))


LONG = b"\xff" * 0x10000
DER: list[tuple[str, bytes, Reason | None]] = [
    ("empty", b"\x30\x00", None),
    ("short", b"\x30\x02\xff\xff", None),
    ("of 200 bytes", b"\x30\x81\xc8" + LONG[:200], None),
    ("of 65536 bytes", b"\x30\x83\x01\x00\x00" + LONG, None),
    ("no sequence", b"\x31\x00", R.PROOF_MISSING),
    ("a byte missing", b"\x30\x02\xff", R.PROOF_MISSING),
    ("a byte too many", b"\x30\x00\xff", R.PROOF_MISSING),
    ("a length that is cut off", b"\x30\x84\x00", R.PROOF_MISSING),
    ("a length of no bytes", b"\x30\x80", R.PROOF_MISSING),
    ("a length of five bytes", b"\x30\x85\x00\x00\x00\x00\x00", R.PROOF_MISSING),
    (
        "PEM with padding inside",
        b"-----BEGIN CERTIFICATE-----\nMAA=MAA=\n-----END CERTIFICATE-----",
        R.PROOF_MISSING,
    ),
]


@pytest.mark.parametrize(("form", "reason"), rows(DER))
def test_a_certificate_is_one_sequence_and_nothing_beside_it(form: bytes, reason: Reason | None) -> None:
    """That is all that is looked at here, where nothing in it counts."""
    if reason is None:
        assert thumbprint_of(Peer(PROXY, form)) == thumbprint(form)
        return
    with pytest.raises(TokenRejected) as refused:
        thumbprint_of(Peer(PROXY, form))
    assert refused.value.reason is reason


@pytest.mark.parametrize("nothing", [None, b"", b"x", b"\x30", b"-----BEGIN CERTIFICATE-----\n"])
def test_no_certificate_is_none(nothing: bytes | None) -> None:
    """Whatever a TLS layer hands over that is none."""
    with pytest.raises(TokenRejected) as refused:
        thumbprint_of(Peer("1.2.3.4", nothing))
    assert refused.value.reason is R.PROOF_MISSING
