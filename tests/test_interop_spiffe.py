"""py-spiffe and we: its parser and its validator take our bundle and our JWT-SVIDs, over real HTTP."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from spiffe import JwtBundle, JwtSvid, TrustDomain
from spiffe.errors import PySpiffeError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import Service, TrustConfig
from s2s_mesh.spiffe_bundle import DOCUMENT
from s2s_mesh.svid import ALGORITHMS

from .jwks_servers import Peer, answer, says
from .programs import http_server
from .servers import free_port
from .spire import DOMAIN as DOMAIN_ID
from .spire import SUBJECT, bundle, entry, signer, svid
from .tokens import EDGE, WALLETS

DOMAIN = TrustDomain("edge.example.com")
ID = "spiffe://edge.example.com/edge"
REPORTS = "spiffe://example.org/reports"
EACH = pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))


class Edge:
    """A service behind uvicorn; `ahead` moves its clock, py-spiffe's is the machine's."""

    def __init__(self, algorithm: str) -> None:
        self.ahead = 0.0
        trust = TrustConfig.parse("version = 1")
        self.service = Service(
            issuer=EDGE, trust=trust, key_store="memory://", algorithm=algorithm, spiffe_id=ID
        )
        self.service.clock = lambda: time.time() + self.ahead
        self.url = f"http://127.0.0.1:{free_port()}"

    def document(self) -> dict[str, Any]:
        """What is served now."""
        answer: dict[str, Any] = httpx.get(self.url + DOCUMENT).raise_for_status().json()
        return answer

    def bundle(self) -> JwtBundle:
        """The same as py-spiffe reads it."""
        return JwtBundle.parse(DOMAIN, httpx.get(self.url + DOCUMENT).raise_for_status().content)


@pytest.fixture
def algorithm() -> str:
    return "ES256"


@pytest.fixture
def edge(algorithm: str) -> Iterator[Edge]:
    made = Edge(algorithm)
    # its first keys are as old as keys are when they begin to sign
    made.ahead = -made.service.settings.schedule.lead - 3
    made.service.load()
    made.ahead = 0.0
    with http_server(made.service.wrap(Starlette()), int(made.url.rpartition(":")[2])):
        yield made


@pytest.mark.interop(program="py-spiffe", column="accept")
@EACH
def test_py_spiffe_accepts_our_svid(edge: Edge) -> None:
    """Signed by a key of the bundle that we serve, in the trust domain for which it was fetched."""
    svid = JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), edge.bundle(), {REPORTS})
    assert str(svid.spiffe_id) == ID
    assert svid.audience == {REPORTS}
    assert svid.expiry > time.time() + 60


@pytest.mark.interop(program="py-spiffe", column="wrong audience")
@EACH
def test_py_spiffe_refuses_it_for_somebody_else(edge: Edge) -> None:
    """Made out to another workload."""
    with pytest.raises(PySpiffeError, match="Audience doesn't match"):
        JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), edge.bundle(), {"spiffe://example.org/b"})


@pytest.mark.interop(program="py-spiffe", column="expired")
@EACH
def test_py_spiffe_refuses_it_once_it_has_expired(edge: Edge) -> None:
    """Made two minutes and a second ago."""
    edge.ahead = -121
    with pytest.raises(PySpiffeError, match="expired"):
        JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), edge.bundle(), {REPORTS})


def test_py_spiffe_knows_no_eddsa() -> None:
    """JWT-SVID section 2.1 has none, which is why we mint none (`svid.check_algorithm`)."""
    owner, now = signer("Ed25519"), int(time.time())
    bundle_of_it = json.dumps({"keys": [entry(owner, alg="EdDSA")]}).encode()
    for name in ("Ed25519", "EdDSA"):
        token = svid(REPORTS, owner, {"alg": name}, iat=now, exp=now + 60).decode()
        with pytest.raises(PySpiffeError, match=name):
            JwtSvid.parse_and_validate(
                token, JwtBundle.parse(TrustDomain("example.org"), bundle_of_it), {REPORTS}
            )


def test_py_spiffe_refuses_it_under_the_bundle_of_another_trust_domain(edge: Edge) -> None:
    """The same keys for another name: `sub` decides."""
    content = httpx.get(edge.url + DOCUMENT).content
    other = JwtBundle.parse(TrustDomain("other.example.com"), content)
    with pytest.raises(PySpiffeError, match="trust domain"):
        JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), other, {REPORTS})


@pytest.mark.interop(program="py-spiffe", column="rotation")
@EACH
def test_py_spiffe_survives_a_rotation(edge: Edge) -> None:
    """A bundle fetched before it has the new key already; one fetched after it has the old one still.

    The consumer looks as seldom as it may, three refresh hints apart.
    """
    lead, hint = edge.service.settings.schedule.lead, edge.document()["spiffe_refresh_hint"]
    assert 3 * hint <= lead
    manager = edge.service.running().manager
    assert manager is not None
    edge.ahead = -3 * hint
    before, old = edge.bundle(), edge.document()
    edge.ahead = 0.0
    former = edge.service.jwt_svid(REPORTS)
    manager.change(lambda ring, now: ring.hand_over(now, now))
    latter = edge.service.jwt_svid(REPORTS)
    after, new = edge.bundle(), edge.document()
    assert new["spiffe_sequence"] > old["spiffe_sequence"]
    assert former.split(".")[0] != latter.split(".")[0]
    for known in (before, after):
        for token in (former, latter):
            assert str(JwtSvid.parse_and_validate(token, known, {REPORTS}).spiffe_id) == ID


def test_py_spiffe_refuses_a_revoked_key_once_it_has_looked_again(edge: Edge) -> None:
    """It is gone from the bundle at once, under a greater sequence; the successor signs."""
    former, old = edge.service.jwt_svid(REPORTS), edge.document()
    manager = edge.service.running().manager
    assert manager is not None
    ring = manager.change(lambda ring, now: ring.compromise(str(ring.signing_record(now).kid), now))  # type: ignore[union-attr]
    assert ring.records.keys() > {entry["kid"] for entry in edge.document()["keys"]}
    assert edge.document()["spiffe_sequence"] > old["spiffe_sequence"]
    with pytest.raises(PySpiffeError, match="Authority not found"):
        JwtSvid.parse_and_validate(former, edge.bundle(), {REPORTS})
    JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), edge.bundle(), {REPORTS})


@pytest.mark.interop(program="py-spiffe", column="both directions")
def test_what_py_spiffe_takes_for_an_svid_lets_a_workload_call_us(tmp_path: Path) -> None:
    """A trust domain as SPIRE has it, its bundle behind TLS (`https_web`): the same token opens both doors.

    Expired, or for somebody else, it opens neither. And with our own bundle as theirs, a service of ours is a
    workload to another service of ours.
    """
    now = int(time.time())
    good: dict[str, Any] = {"iat": now, "exp": now + 600}
    tokens = {
        "good": svid(WALLETS, **good).decode(),
        "expired": svid(WALLETS, iat=now - 600, exp=now - 300).decode(),
        "for others": svid(REPORTS, **good).decode(),
        "of another domain": svid(WALLETS, sub="spiffe://example.com/ns/payments", **good).decode(),
    }
    # what its Workload API hands out: the keys for JWT-SVIDs only
    theirs = JwtBundle.parse(TrustDomain("example.org"), json.dumps({"keys": [entry(signer())]}).encode())
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    says_bundle = says(answer(bundle(entry(signer())), kind="application/json"))
    edge = Edge("ES256")
    with (
        Peer(says_bundle, tls=context) as endpoint,
        http_server(edge.service.wrap(Starlette()), int(edge.url.rpartition(":")[2])),
    ):
        (tmp_path / "trust.toml").write_text(TRUST.format(spire=endpoint.url("/"), edge=edge.url + DOCUMENT))
        wallets = Service(issuer=WALLETS, trust=tmp_path / "trust.toml", key_store=None)
        port = free_port()
        with http_server(wallets.wrap(Starlette(routes=[Route("/", whoami)])), port):

            def call(token: str) -> httpx.Response:
                return httpx.get(f"http://127.0.0.1:{port}/", headers={"authorization": f"Bearer {token}"})

            assert str(JwtSvid.parse_and_validate(tokens["good"], theirs, {WALLETS}).spiffe_id) == SUBJECT
            assert call(tokens["good"]).json() == ["https://settlement.example.com", DOMAIN_ID, SUBJECT]
            for name in ("expired", "for others", "of another domain"):
                with pytest.raises(PySpiffeError):
                    JwtSvid.parse_and_validate(tokens[name], theirs, {WALLETS})
                assert call(tokens[name]).status_code == 401, name
            ours = edge.service.jwt_svid(WALLETS)
            assert str(JwtSvid.parse_and_validate(ours, edge.bundle(), {WALLETS}).spiffe_id) == ID
            assert call(ours).json() == [EDGE_SERVICE, "spiffe://edge.example.com", ID]
            assert call(edge.service.jwt_svid(REPORTS)).status_code == 401


async def whoami(request: Request) -> JSONResponse:
    caller = request.user
    return JSONResponse([caller.issuer, caller.vouched_by, caller.subject])


EDGE_SERVICE = "https://edge-by-spiffe.example.com"
TRUST = """
version = 1
[defaults]
allow_loopback_http = true
[foreign_issuers."spiffe://example.org"]
profile = "spiffe"
jwks_uri = "{spire}"
ca_file = "authority.pem"
[foreign_issuers."spiffe://edge.example.com"]
profile = "spiffe"
jwks_uri = "{edge}"
[[subject]]
issuer = "spiffe://example.org"
subject = "spiffe://example.org/ns/payments/sa/settlement"
service = "https://settlement.example.com"
[[subject]]
issuer = "spiffe://edge.example.com"
subject = "spiffe://edge.example.com/edge"
service = "https://edge-by-spiffe.example.com"
[[allow]]
issuer = "https://settlement.example.com"
audience = "https://wallets.example.com"
[[allow]]
issuer = "https://edge-by-spiffe.example.com"
audience = "https://wallets.example.com"
"""
