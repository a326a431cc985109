"""Client credentials with our own key, at a real oidc-provider, for a resource that verifies with jose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from s2s_mesh import ConfigError, OAuthClient, OAuthError, RotationSchedule
from s2s_mesh.client_assertion import build
from s2s_mesh.jws import decode
from s2s_mesh.signer import TokenKind

from ..targets import CLIENT
from .oauth_server import Fleet, fleet

PROGRAM = "oidc-provider"
# oidc-provider looks at a client's keys again after 60 s at the earliest, however fresh we say they are
QUICK = RotationSchedule(
    replica_lag=1,
    served_max_age=60,
    foreign_cache=60,
    stale_grace=1,
    max_token_life=60,
    max_skew=1,
    lead=64,
    drain=64,
    period=300,
)


@pytest.fixture(scope="module")
def calling() -> Iterator[Fleet]:
    with fleet() as made:
        yield made


def get(fleet: Fleet, auth: OAuthClient) -> httpx.Response:
    with httpx.Client(auth=auth, timeout=30, **CLIENT) as http:
        return http.get(f"{fleet.server.resource}/cards")


def assertion(fleet: Fleet, kind: TokenKind = TokenKind.CLIENT_ASSERTION, **changes: Any) -> str:
    """Signed by the service's own key, with whatever claims."""

    def claims(now: float) -> dict[str, Any]:
        made = build(client_id=fleet.issuer, audience=fleet.server.issuer, now=now)
        return {**made, **{name: change(now) for name, change in changes.items()}}

    return fleet.service.running().sign(kind, claims)


@pytest.mark.interop(program=PROGRAM, column="both directions")
def test_a_token_is_had_without_a_secret_and_opens_the_resource(calling: Fleet) -> None:
    """One request for a token, however many for the resource; sync and async share it."""
    auth = calling.client()
    assert get(calling, auth).json() == {
        "client": calling.issuer,
        "scope": "cards:read",
        "jti": decode_claims(auth.token())["jti"],
    }

    async def ask() -> list[int]:
        async with httpx.AsyncClient(auth=auth, **CLIENT) as http:
            answers = await asyncio.gather(*(http.get(f"{calling.server.resource}/cards") for _ in range(10)))
            return [answer.status_code for answer in answers]

    before = calling.service.running().oauth.requests
    assert asyncio.run(ask()) == [200] * 10
    assert asyncio.run(auth.token_async()) == auth.token()
    assert calling.service.running().oauth.requests == before


def decode_claims(token: str) -> dict[str, Any]:
    return decode(token.encode()).claims


@pytest.mark.interop(program=PROGRAM, column="accept")
@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256", "PS256", "Ed25519"])
def test_every_algorithm_of_ours_is_taken(algorithm: str) -> None:
    """A token each, with a key that is for nothing else."""
    with fleet(algorithm=algorithm) as made:
        assert get(made, made.client()).status_code == 200


def test_an_algorithm_that_the_server_does_not_take_is_a_mistake_of_ours(calling: Fleet) -> None:
    """It says so before anything is sent, by name."""
    with (
        fleet(algorithm="ES384", algorithms=["ES256"]) as made,
        pytest.raises(ConfigError, match="signed with ES256, and the key that signs here is for ES384"),
    ):
        made.client().token()


@pytest.mark.interop(program=PROGRAM, column="wrong audience")
def test_an_assertion_for_somebody_else_is_refused(calling: Fleet) -> None:
    """Ours is always made out to the server, and to nobody else."""
    elsewhere = assertion(calling, aud=lambda _: "https://login.example.com")
    answer = calling.server.ask(calling.issuer, elsewhere)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert "audience (aud) must equal" in str(calling.server.errors())
    assert calling.server.ask(calling.issuer, assertion(calling)).status_code == 200


@pytest.mark.interop(program=PROGRAM, column="expired")
def test_an_expired_assertion_is_refused(calling: Fleet) -> None:
    """Beyond its clock tolerance of fifteen seconds; ours are new for every request."""
    old = assertion(calling, iat=lambda now: int(now) - 90, exp=lambda now: int(now) - 30)
    answer = calling.server.ask(calling.issuer, old)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_a_replayed_assertion_is_refused(calling: Fleet) -> None:
    """The server remembers the id; ours are for one request each, retries included."""
    once = assertion(calling)
    assert calling.server.ask(calling.issuer, once).status_code == 200
    calling.server.errors()
    assert calling.server.ask(calling.issuer, once).json()["error"] == "invalid_client"
    assert "only be used once" in str(calling.server.errors())


def test_a_service_token_for_the_server_would_be_an_assertion_so_none_is_ever_made(calling: Fleet) -> None:
    """oidc-provider does not look at `typ`: it takes at+jwt with such an audience. We never sign one."""
    calling.client().token()  # from then on its token endpoint is known
    typed = assertion(calling, TokenKind.SERVICE)
    assert decode(typed.encode()).header.typ == "at+jwt"
    assert calling.server.ask(calling.issuer, typed).status_code == 200
    for audience in (calling.server.issuer, f"{calling.server.issuer}/token"):
        with pytest.raises(ConfigError, match="is an authorization server"):
            calling.service.token(audience)
        with pytest.raises(ConfigError, match="is an authorization server"):
            calling.service.auth(audience)


def test_assertions_for_the_token_endpoint_are_taken_too(
    calling: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """The named opt-in, for servers that take nothing else; said once."""
    auth = calling.client(legacy_audience="token_endpoint", scopes=["cards:write"])
    with caplog.at_level("WARNING", "s2s_mesh.oauth"):
        assert get(calling, auth).json()["scope"] == "cards:write"
        calling.forward(400)
        assert get(calling, auth).status_code == 200
    assert [vars(record)["s2s_mesh"]["event"] for record in caplog.records] == ["oauth_legacy_audience"]


def test_an_unknown_client_is_told_what_to_register(calling: Fleet) -> None:
    """The code, and what the server must know; nothing of what was sent."""
    with pytest.raises(OAuthError, match="invalid_client") as refused:
        calling.client(client_id="wallets").token()
    assert refused.value.code == "invalid_client"
    assert "client_id wallets with" in str(refused.value)
    assert f"jwks_uri {calling.issuer}/.well-known/jwks.json" in str(refused.value)


def test_a_resource_that_the_server_does_not_know_is_refused_by_name(calling: Fleet) -> None:
    """What the server answers is what the error says."""
    with pytest.raises(OAuthError, match="invalid_target: see which resources"):
        calling.client(resource="https://elsewhere.example.com").token()


def test_a_scope_that_was_not_given_is_said(calling: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """oidc-provider leaves out what it does not know; the resource would answer 403."""
    with caplog.at_level("WARNING", "s2s_mesh.oauth"):
        token = calling.client(scopes=["cards:read", "cards:admin"]).token()
    assert decode_claims(token)["scope"] == "cards:read"
    assert caplog.messages == [f"{calling.server.issuer} gave a token without the scopes cards:admin"]


def test_a_token_that_the_resource_refuses_is_replaced_once(calling: Fleet) -> None:
    """Revoked meanwhile: forgotten, and the request sent again with a new one."""
    auth = calling.client()
    first = auth.token()
    calling.forward(6)  # a token that is newer than that is not helped by a newer one
    field = {"authorization": f"Bearer {first}"}
    assert httpx.get(f"{calling.server.resource}/revoke", headers=field, **CLIENT).status_code == 401
    assert get(calling, auth).status_code == 200
    assert auth.token() != first


@pytest.mark.interop(program=PROGRAM, column="rotation")
def test_no_call_fails_through_two_of_our_rotations() -> None:
    """A new token every ten seconds, by the clock of all, while one key hands over to the next."""
    with fleet(schedule=QUICK, ttl=10) as made:
        auth = made.client()
        signed, statuses = set(), []
        for _ in range(70):
            statuses.append(get(made, auth).status_code)
            ring = made.service.running().ring
            assert ring is not None
            signed.add(made.service.running().signer.signing_kid(ring, made.service.clock()))
            made.forward(10)
        assert statuses == [200] * 70
        assert len(signed) == 3
        assert made.service.running().oauth.requests == 70
        # it asked for our keys when it met one that it did not know; the second was there from the start
        assert len(made.fetches) == 2


def test_a_lead_that_is_shorter_than_its_cache_would_fail() -> None:
    """Why the lead must cover the slowest cache: it looks at a client's keys once a minute at most."""
    with fleet(schedule=RotationSchedule.FAST_FOR_TESTS, ttl=1) as made:
        auth = made.client()
        assert get(made, auth).status_code == 200
        for _ in range(10):  # two keys later, each of them published for four seconds before it signs
            made.forward(2)
        with pytest.raises(OAuthError, match="invalid_client"):
            auth.token()
        for _ in range(25):
            made.forward(2)
        assert get(made, auth).status_code == 200
