"""py-spiffe and we: its parser and its validator take our bundle and our JWT-SVIDs, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from spiffe import JwtBundle, JwtSvid, TrustDomain
from spiffe.errors import PySpiffeError
from starlette.applications import Starlette

from s2s_mesh import Service, TrustConfig
from s2s_mesh.spiffe_bundle import DOCUMENT

from .programs import http_server
from .servers import free_port
from .tokens import EDGE

DOMAIN = TrustDomain("edge.example.com")
ID = "spiffe://edge.example.com/edge"
REPORTS = "spiffe://example.org/reports"


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


@pytest.fixture(params=["ES256", "ES384", "RS256", "PS256"])
def edge(request: pytest.FixtureRequest) -> Iterator[Edge]:
    made = Edge(request.param)
    # its first keys are as old as keys are when they begin to sign
    made.ahead = -made.service.settings.schedule.lead - 3
    made.service.load()
    made.ahead = 0.0
    with http_server(made.service.wrap(Starlette()), int(made.url.rpartition(":")[2])):
        yield made


@pytest.mark.interop(program="py-spiffe", column="accept")
def test_py_spiffe_accepts_our_svid(edge: Edge) -> None:
    """Signed by a key of the bundle that we serve, in the trust domain for which it was fetched."""
    svid = JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), edge.bundle(), {REPORTS})
    assert str(svid.spiffe_id) == ID
    assert svid.audience == {REPORTS}
    assert svid.expiry > time.time() + 60


@pytest.mark.interop(program="py-spiffe", column="wrong audience")
def test_py_spiffe_refuses_it_for_somebody_else(edge: Edge) -> None:
    """Made out to another workload."""
    with pytest.raises(PySpiffeError, match="Audience doesn't match"):
        JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), edge.bundle(), {"spiffe://example.org/b"})


@pytest.mark.interop(program="py-spiffe", column="expired")
def test_py_spiffe_refuses_it_once_it_has_expired(edge: Edge) -> None:
    """Made two minutes and a second ago."""
    edge.ahead = -121
    with pytest.raises(PySpiffeError, match="expired"):
        JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), edge.bundle(), {REPORTS})


def test_py_spiffe_refuses_it_under_the_bundle_of_another_trust_domain(edge: Edge) -> None:
    """The same keys for another name: `sub` decides."""
    content = httpx.get(edge.url + DOCUMENT).content
    other = JwtBundle.parse(TrustDomain("other.example.com"), content)
    with pytest.raises(PySpiffeError, match="trust domain"):
        JwtSvid.parse_and_validate(edge.service.jwt_svid(REPORTS), other, {REPORTS})


@pytest.mark.interop(program="py-spiffe", column="rotation")
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
    for bundle in (before, after):
        for svid in (former, latter):
            assert str(JwtSvid.parse_and_validate(svid, bundle, {REPORTS}).spiffe_id) == ID


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
