"""JWT-SVIDs as we mint them: exactly what their standard has, for nobody but SPIFFE validators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from s2s_mesh import ConfigError, RotationSchedule, Service, TokenRejected, TrustConfig
from s2s_mesh.errors import Reason
from s2s_mesh.jws import b64url_decode
from s2s_mesh.svid import check_audience, completed, trust_domain_of

from .tokens import EDGE, LOGIN, NOW, WALLETS, frozen

ID = "spiffe://edge.example.com/edge"
REPORTS = "spiffe://example.org/reports"
TRUST = TrustConfig.parse(
    f"""
    version = 1
    [[allow]]
    issuer = "{EDGE}"
    audience = "{WALLETS}"
    [user_issuers."{LOGIN}"]
    audiences = ["{EDGE}"]
    jwks_uri = "https://login.example.com/jwks.json"
    """
)


def made(**changes: Any) -> Service:
    """A service with a SPIFFE ID."""
    return Service(**{"issuer": EDGE, "trust": TRUST, "key_store": "memory://", "spiffe_id": ID, **changes})


@pytest.fixture
def service() -> Iterator[Service]:
    with frozen(), made() as started:
        yield started


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims."""
    head, payload, _ = token.split(".")
    return json.loads(b64url_decode(head.encode())), json.loads(b64url_decode(payload.encode()))


def test_a_jwt_svid_has_what_its_standard_has(service: Service) -> None:
    """Three header members (section 2); `sub` is the SPIFFE ID, one audience, and no `iss` at all."""
    head, claims = parts(service.jwt_svid(REPORTS))
    runtime = service.running()
    assert head == {
        "alg": "ES256",
        "kid": runtime.signer.signing_kid(runtime.load_ring(), NOW),
        "typ": "JWT",
    }
    assert claims == {
        "sub": ID,
        "aud": REPORTS,
        "iat": NOW,
        "exp": NOW + 120,
        "jti": claims["jti"],
    }
    assert len(claims["jti"]) == 22
    assert parts(service.jwt_svid(REPORTS))[1]["jti"] != claims["jti"]


def test_its_life_is_that_of_our_tokens() -> None:
    """Seconds, as configured."""
    with frozen(), made(token_life=30) as service:
        assert parts(service.jwt_svid(REPORTS))[1]["exp"] == NOW + 30


@pytest.mark.parametrize("audience", [WALLETS, EDGE])
def test_no_service_of_the_mesh_takes_one_for_a_service_token(audience: str) -> None:
    """Made out to it or not: nobody is named as its issuer; the type would be another as well."""
    with (
        frozen(),
        made(issuer=WALLETS, spiffe_id="spiffe://wallets.example.com/w") as wallets,
        made() as edge,
    ):
        with pytest.raises(TokenRejected) as refused:
            wallets.verify(edge.jwt_svid(audience))
        assert refused.value.reason is Reason.UNKNOWN_ISSUER


AUDIENCES: list[tuple[str, Any, str]] = [
    ("empty", "", "not the audience"),
    ("no text", None, "not the audience"),
    ("two", f"{REPORTS} {WALLETS}", "not the audience"),
    ("a quote", 'a"b', "not the audience"),
    ("a wildcard", "spiffe://example.org/*", "not the audience"),
    ("too long", "a" * 2049, "not the audience"),
    ("a newline", "reports\n", "not the audience"),
    ("a whole trust domain", "spiffe://example.org", "whole trust domain"),
    ("a whole trust domain with a slash", "spiffe://example.org/", "path segment"),
    ("a broken SPIFFE ID", "SPIFFE://example.org/reports", "expected spiffe://"),
    ("AWS", "sts.amazonaws.com", "is a cloud"),
    ("AWS in China", "sts.amazonaws.com.cn", "is a cloud"),
    ("Azure", "api://AzureADTokenExchange", "is a cloud"),
    ("Azure for the government", "api://AzureADTokenExchangeUSGov", "is a cloud"),
    (
        "Google",
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b",
        "cloud",
    ),
    ("Google with a scheme", "https://iam.googleapis.com/projects/1", "is a cloud"),
    ("Google's token service", "https://sts.googleapis.com/v1/token", "is a cloud"),
    ("an AWS region", "https://sts.eu-west-1.amazonaws.com/", "is a cloud"),
    ("an identity provider", LOGIN, "is an identity provider"),
    ("an identity provider without its slash", LOGIN.rstrip("/"), "is an identity provider"),
]


@pytest.mark.parametrize(
    ("audience", "words"), [row[1:] for row in AUDIENCES], ids=[row[0] for row in AUDIENCES]
)
def test_whom_none_is_ever_made_out_to(service: Service, audience: Any, words: str) -> None:
    """Wide names, clouds and authorization servers; the error says why."""
    with pytest.raises(ConfigError, match=words):
        service.jwt_svid(audience)


@pytest.mark.parametrize("audience", [REPORTS, "reports", "https://reports.example.org/", WALLETS])
def test_an_audience_is_any_one_name(audience: str) -> None:
    """JWT-SVID section 3.2: values are site-specific."""
    assert check_audience(audience) == audience


def test_a_service_without_a_name_mints_none() -> None:
    """The error names the setting."""
    with made(spiffe_id=None) as service, pytest.raises(ConfigError, match="S2S_MESH_SPIFFE_ID"):
        service.jwt_svid(REPORTS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"spiffe_id": "spiffe://edge.example.com"},
            r"spiffe_id \(S2S_MESH_SPIFFE_ID\): .*whole trust",
        ),
        ({"algorithm": "Ed25519"}, "SPIFFE validators know no Ed25519"),
        (
            {
                "schedule": RotationSchedule(
                    replica_lag=0.1,
                    served_max_age=0.1,
                    foreign_cache=0.1,
                    stale_grace=0.1,
                    max_token_life=10,
                    max_skew=0.1,
                    lead=2.9,
                    drain=11,
                    period=15,
                )
            },
            "2.9 s before they sign",
        ),
    ],
)
def test_a_name_that_cannot_work_is_refused_at_once(changes: dict[str, Any], words: str) -> None:
    """At construction, naming the argument and the variable."""
    with pytest.raises(ConfigError, match=words):
        made(**changes)


def test_a_key_that_no_validator_knows_signs_none() -> None:
    """While the ring still signs with Ed25519, although newer keys will not."""
    with frozen(), made(spiffe_id=None, algorithm="Ed25519", key_store="memory://") as before:
        store = before._store
        with made(key_store=store) as service, pytest.raises(ConfigError, match="keys rotate --algorithm"):
            service.jwt_svid(REPORTS)


def test_the_environment_names_it() -> None:
    """`S2S_MESH_SPIFFE_ID`, checked as the argument is."""
    environ = {"S2S_MESH_ISSUER": EDGE, "S2S_MESH_KEY_STORE": "memory://", "S2S_MESH_ALLOW_MEMORY_STORE": "1"}
    assert Service.from_env(environ, trust=TRUST).settings.spiffe_id is None
    named = Service.from_env({**environ, "S2S_MESH_SPIFFE_ID": f" {ID} "}, trust=TRUST)
    assert named.settings.spiffe_id == ID
    with pytest.raises(ConfigError, match="S2S_MESH_SPIFFE_ID"):
        Service.from_env({**environ, "S2S_MESH_SPIFFE_ID": "edge"}, trust=TRUST)


COMPLETED = "spiffe://example.org"


@pytest.mark.parametrize(
    "sub",
    [COMPLETED, f"{COMPLETED}/", "spiffe://example.com/x", "https://example.org/x", None, [f"{COMPLETED}/x"]],
)
def test_an_svid_of_somebody_else_names_a_workload_of_that_very_trust_domain(sub: Any) -> None:
    """Before any row of the trust file is asked."""
    with pytest.raises(TokenRejected, match=f"sub is not the SPIFFE ID of a workload of {COMPLETED}"):
        completed({"sub": sub, "exp": NOW + 60}, COMPLETED, NOW)


def test_what_an_svid_may_leave_out_is_filled_in() -> None:
    """`iss` is the trust domain, whatever it says; `iat` is now, if it says nothing."""
    claims = {"sub": f"{COMPLETED}/x", "exp": NOW + 60}
    assert completed(claims, COMPLETED, NOW + 0.9) == {**claims, "iss": COMPLETED, "iat": NOW}
    assert completed({**claims, "iss": EDGE, "iat": 5}, COMPLETED, NOW)["iat"] == 5
    assert completed({**claims, "iss": EDGE}, COMPLETED, NOW)["iss"] == COMPLETED
    assert "iat" not in completed({**claims, "exp": "x"}, COMPLETED, NOW)
    assert trust_domain_of(f"{COMPLETED}/x/y") == COMPLETED
    assert trust_domain_of(COMPLETED) == COMPLETED
    assert trust_domain_of(None) == ""
