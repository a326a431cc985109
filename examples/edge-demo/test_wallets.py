"""Tests of wallets against the trust file that is deployed, without Redis, network or other services:

pytest examples/edge-demo
"""

import pytest
from starlette.testclient import TestClient
from wallets import app, service

EDGE, SETTLEMENT = "http://127.0.0.1:8101", "http://127.0.0.1:8104"
CARD, SETTLEMENTS = "/wallets/42/card", "/wallets/42/settlements"


@pytest.fixture
def http(mesh):
    with mesh.accept_fake_issuers(service), TestClient(app) as client:
        yield client


def test_edge_writes_cards(mesh, http):
    answer = http.put(CARD, auth=mesh.as_caller(EDGE))
    mesh.assert_allowed(answer)
    assert answer.json()["caller"] == EDGE


def test_edge_may_ask_for_less(mesh, http):
    reads_only = mesh.as_caller(EDGE, scopes=["cards:read"])
    mesh.assert_allowed(http.get(CARD, auth=reads_only))
    mesh.assert_refused(http.put(CARD, auth=reads_only), "missing_scope")


def test_settlement_settles_and_nothing_else(mesh, http):
    settlement = mesh.as_caller(SETTLEMENT)
    mesh.assert_allowed(http.post(SETTLEMENTS, auth=settlement))
    mesh.assert_refused(http.put(CARD, auth=settlement), "missing_scope")


def test_nobody_else_is_let_in(mesh, http):
    mesh.assert_refused(http.get(CARD), "no_credential")
    mesh.assert_refused(http.get(CARD, auth=mesh.as_caller("https://stranger.example.com")), "unknown_issuer")
    for token, reason in (
        (mesh.expired(EDGE), "expired"),
        (mesh.forged(EDGE), "bad_signature"),
        (mesh.for_other_audience(EDGE), "wrong_audience"),
    ):
        mesh.assert_refused(http.get(CARD, headers={"Authorization": f"Bearer {token}"}), reason)
