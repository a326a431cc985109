"""The rules of each cloud, and tokens made by them: never for a service, and no service token for a cloud."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from s2s_mesh import ConfigError, Reason, RotationSchedule, Service, TokenRejected, TrustConfig
from s2s_mesh.clouds import CLOUDS, LIFE, check_audience, check_subject, cloud, whose
from s2s_mesh.jws import b64url_decode, decode

from .tokens import EDGE, LEDGER, NOW, WALLETS, frozen

LOGIN = "https://login.example.com/"
POOL = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/mesh/providers/edge"
AUDIENCES = {
    "aws": "sts.amazonaws.com",
    "gcp": POOL,
    "azure": "api://AzureADTokenExchange",
    "k8s": "https://kubernetes.default.svc",
}
TRUST = f"""
version = 1
[user_issuers."{LOGIN}"]
audiences = ["{EDGE}"]
jwks_file = "login.jwks.json"
[issuers."{EDGE}"]
jwks_file = "edge.jwks.json"
[[allow]]
issuer = "{EDGE}"
audience = "{LEDGER}"
"""


def service(algorithm: str = "RS256", issuer: str = EDGE, **arguments: Any) -> Service:
    """`edge`, which signs with what every cloud verifies."""
    return Service(
        issuer=issuer,
        trust=TrustConfig.parse(TRUST),
        key_store="memory://",
        algorithm=algorithm,
        **arguments,
    )


@pytest.fixture(scope="module")
def edge() -> Iterator[Service]:
    with frozen():
        made = service()
        made.serves_documents()
        made.federation_token("aws")
        yield made
        made.__exit__()


@pytest.mark.parametrize("provider", CLOUDS)
def test_what_a_cloud_gets(edge: Service, provider: str) -> None:
    """A plain JWT with the claims that all of them want, in integers, for ten minutes, once."""
    with frozen():
        token = edge.federation_token(provider, audience=AUDIENCES[provider])
        again = edge.federation_token(provider, audience=AUDIENCES[provider])
    decoded = decode(token.encode())
    header = json.loads(b64url_decode(token.partition(".")[0].encode()))
    assert header == {"alg": "RS256", "kid": decoded.header.kid, "typ": "JWT"}
    claims = dict(decoded.claims)
    assert len(claims.pop("jti")) == 22
    assert claims == {
        "iss": EDGE,
        "sub": EDGE,
        "aud": AUDIENCES[provider],
        "iat": NOW,
        "exp": NOW + LIFE,
    }
    assert all(type(claims[name]) is int for name in ("iat", "exp"))
    assert token != again


def test_what_need_not_be_said(edge: Service) -> None:
    """AWS and Azure have audiences of their own, and the subject is the service."""
    with frozen():
        assert decode(edge.federation_token("aws").encode()).claims["aud"] == AUDIENCES["aws"]
        assert decode(edge.federation_token("azure").encode()).claims["aud"] == AUDIENCES["azure"]
        named = decode(edge.federation_token("aws", subject="edge:prod").encode()).claims
    assert named["sub"] == "edge:prod"


def test_no_token_outlives_the_drain_of_its_key() -> None:
    """With shorter rotation times tokens are shorter too."""
    with frozen():
        made = service("ES256", schedule=RotationSchedule.FAST_FOR_TESTS)
        claims = decode(made.federation_token("aws").encode()).claims
        made.__exit__()
    assert claims["exp"] - claims["iat"] == RotationSchedule.FAST_FOR_TESTS.max_token_life


@pytest.mark.parametrize("provider", CLOUDS)
@pytest.mark.parametrize("alg", ["ES256", "ES384", "Ed25519", "PS256"])
def test_only_what_the_cloud_verifies_is_signed(provider: str, alg: str) -> None:
    """A key of another algorithm is refused before the cloud does, with what to do."""
    rules = CLOUDS[provider]
    with frozen():
        made = service(alg)
        if alg in rules.algorithms:
            token = made.federation_token(provider, audience=AUDIENCES[provider])
            assert decode(token.encode()).header.alg == alg
        else:
            advice = "ES256" if provider != "azure" else "RS256"
            with pytest.raises(
                ConfigError, match=f"{rules.title} verifies .*with {alg}: .*--algorithm {advice}"
            ):
                made.federation_token(provider, audience=AUDIENCES[provider])
        made.__exit__()


@pytest.mark.parametrize(
    ("provider", "audience"),
    [
        ("aws", "sts.amazonaws.com"),
        ("aws", "my-client-id"),
        ("aws", "c" * 255),
        ("gcp", POOL),
        ("gcp", f"https:{POOL}"),
        ("gcp", POOL.replace("42", "4" * 20)),
        ("gcp", POOL.replace("mesh", "m" * 32)),
        ("gcp", POOL.replace("edge", "e" * 32)),
        ("azure", "api://AzureADTokenExchange"),
        ("azure", "api://AzureADTokenExchangeUSGov"),
        ("azure", "api://AzureADTokenExchangeChina"),
        ("k8s", "https://kubernetes.default.svc"),
        ("k8s", "my-cluster"),
        ("k8s", "c" * 255),
    ],
)
def test_audiences_of_a_cloud(provider: str, audience: str) -> None:
    """Its own forms, as they are."""
    assert check_audience(cloud(provider), audience) == audience


@pytest.mark.parametrize(
    ("provider", "audience", "why"),
    [
        ("aws", "", "no audience of AWS IAM"),
        ("aws", "c" * 256, "at most 255"),
        ("aws", "two words", "no audience of AWS IAM"),
        ("aws", 'quo"te', "no audience of AWS IAM"),
        ("aws", "${var.x}", "no audience of AWS IAM"),
        ("aws", ["sts.amazonaws.com"], "no audience of AWS IAM"),
        ("aws", "sts.amazonaws.com\n", "no audience of AWS IAM"),
        ("aws", "api://AzureADTokenExchange", "of Microsoft Entra ID; this token is for AWS IAM"),
        ("aws", POOL, "of Google Cloud; this token is for AWS IAM"),
        ("gcp", None, "Google Cloud has no audience of its own: name the provider's resource name"),
        ("gcp", POOL.removeprefix("//"), "no audience of Google Cloud"),
        ("gcp", f"http:{POOL}", "no audience of Google Cloud"),
        ("gcp", f"{POOL}/", "no audience of Google Cloud"),
        ("gcp", POOL.replace("42", "my-project"), "no audience of Google Cloud"),
        ("gcp", POOL.replace("iam.", "evil."), "no audience of Google Cloud"),
        ("gcp", POOL.replace("42", "4" * 21), "no audience of Google Cloud"),
        ("gcp", POOL.replace("mesh", "m" * 33), "no audience of Google Cloud"),
        ("gcp", POOL.replace("mesh", "mes"), "no audience of Google Cloud"),
        ("gcp", POOL.replace("mesh", 'm"${x}'), "no audience of Google Cloud"),
        ("gcp", POOL.replace("edge", "e" * 33), "no audience of Google Cloud"),
        ("gcp", POOL.replace("edge", "edg"), "no audience of Google Cloud"),
        ("gcp", POOL.replace("edge", 'e"${x}'), "no audience of Google Cloud"),
        ("azure", "api://azureadtokenexchange", "no audience of Microsoft Entra ID"),
        ("azure", "sts.amazonaws.com", "no audience of Microsoft Entra ID"),
        ("k8s", None, "Kubernetes has no audience of its own: name one of the audiences"),
        ("azure", "api://AzureADTokenExchangeGermany", "no audience of Microsoft Entra ID"),
        ("k8s", "c" * 256, "no audience of Kubernetes"),
        ("k8s", "sts.amazonaws.com", "of AWS IAM; this token is for Kubernetes"),
    ],
)
def test_audiences_that_are_refused(provider: str, audience: Any, why: str) -> None:
    """One string of the provider's form; never another provider's."""
    with pytest.raises(ConfigError, match=why):
        check_audience(cloud(provider), audience)


@pytest.mark.parametrize(
    "audience",
    [
        LEDGER,
        EDGE,
        LOGIN,
        LOGIN.removesuffix("/"),
        f"{LEDGER}/",
        "spiffe://example.org/ledger",
        "SPIFFE://example.org/a",
    ],
)
@pytest.mark.parametrize("provider", ["aws", "k8s"])
def test_no_federation_token_is_for_the_mesh(edge: Service, provider: str, audience: str) -> None:
    """Not for a service, a workload or an identity provider, whatever is registered at the cloud."""
    with frozen(), pytest.raises(ConfigError, match="federation tokens are made out to clouds only"):
        edge.federation_token(provider, audience=audience)


def test_no_federation_token_is_for_an_authorization_server() -> None:
    """Once the service knows one, by asking it for tokens."""
    with frozen():
        made = service("ES256")
        made.settings.authorization_servers.add("https://as.example.com/")
        with pytest.raises(ConfigError, match="are made out to clouds only"):
            made.federation_token("aws", audience="https://as.example.com")
        made.__exit__()


def test_receivers_refuse_a_federation_token(edge: Service) -> None:
    """By its kind, even if their id were an audience of some cluster."""
    with frozen():
        token = edge.federation_token("k8s", audience=WALLETS)
        trust = TrustConfig.parse(TRUST.replace(LEDGER, WALLETS))
        receiver = Service(issuer=WALLETS, trust=trust, key_store=None)
        with pytest.raises(TokenRejected) as refused:
            receiver.verify(token)
        receiver.__exit__()
    assert refused.value.reason is Reason.BAD_TYPE


@pytest.mark.parametrize(
    ("audience", "title"),
    [
        (f"https:{POOL}", "Google Cloud"),
        (POOL, "Google Cloud"),
        ("https://iam.googleapis.com", "Google Cloud"),
        ("https://sts.googleapis.com/v1/token", "Google Cloud"),
        ("https://STS.amazonaws.com", "AWS IAM"),
        ("sts.amazonaws.com", "AWS IAM"),
        ("https://sts.eu-west-1.amazonaws.com", "AWS IAM"),
        ("https://sts.cn-north-1.amazonaws.com.cn", "AWS IAM"),
        ("https://sts-fips.us-east-1.amazonaws.com", "AWS IAM"),
        ("https://iam.amazonaws.com", "AWS IAM"),
        ("https://signin.amazonaws.com", "AWS IAM"),
        ("https://sts.eu-west-1.api.aws", "AWS IAM"),
        ("api://AzureADTokenExchange", "Microsoft Entra ID"),
        ("API://anything", "Microsoft Entra ID"),
        ("https://login.microsoftonline.com/tenant/v2.0", "Microsoft Entra ID"),
        ("https://login.microsoftonline.us", "Microsoft Entra ID"),
        ("https://login.partner.microsoftonline.cn", "Microsoft Entra ID"),
        ("https://login.windows.net", "Microsoft Entra ID"),
        ("https://login.chinacloudapi.cn", "Microsoft Entra ID"),
        ("https://sts.windows.net/tenant", "Microsoft Entra ID"),
        ("https://kubernetes.default.svc.cluster.local", "Kubernetes"),
        ("https://kubernetes.default.svc:6443", "Kubernetes"),
    ],
)
def test_no_service_token_is_for_a_cloud(edge: Service, audience: str, title: str) -> None:
    """It is refused by name, and with the way that there is."""
    found = whose(audience)
    assert found is not None
    assert found.title == title
    with pytest.raises(
        ConfigError, match=f"is an audience of {title}; service tokens .*federate {found.name}"
    ):
        edge.token(audience)
    with pytest.raises(ConfigError, match=title):
        edge.auth(audience)


def test_what_is_said_of_an_audience(edge: Service) -> None:
    """A password in it is not repeated; what is no text is no audience of anybody."""
    with pytest.raises(ConfigError, match=r"'api://\*\*\*@vault' is an audience of Microsoft Entra ID"):
        edge.token("api://me:hunter2@vault")
    nothing: Any = 7
    with pytest.raises(ConfigError, match="a service id is empty"):
        edge.token(nothing)


@pytest.mark.parametrize(
    "audience",
    [
        "https://abc.execute-api.eu-west-1.amazonaws.com",
        "https://wallets-xyz.a.run.app",
        "https://wallets.azurewebsites.net",
        "https://wallets.default.svc.cluster.local",
        "https://googleapis.com.example.com",
        "https://notgoogleapis.com",
        "https://sts.amazonaws.com.example.com",
    ],
)
def test_services_that_run_in_a_cloud_are_services(audience: str) -> None:
    """What customers call their own is no audience of the provider."""
    assert whose(audience) is None


@pytest.mark.parametrize("subject", ["", "s" * 128, "with space", "new\nline", "ü", "a*", "a'b", "$(x)", 7])
def test_subjects_that_are_refused(edge: Service, subject: Any) -> None:
    """127 bytes that nobody reads otherwise."""
    with pytest.raises(ConfigError, match="cannot be the subject of a federation token: expected 1 to 127"):
        edge.federation_token("aws", subject=subject)
    assert check_subject("s" * 127, EDGE)


def test_nothing_is_quoted_anywhere() -> None:
    """Any other character ends a text or begins something in Terraform, YAML, a shell or CEL."""
    plain = string.ascii_letters + string.digits + "._~:/@+=%-"
    for char in map(chr, range(256)):
        text = f"a{char}b"
        for check in (
            partial(check_subject, text, EDGE),
            partial(check_audience, cloud("aws"), text),
            partial(check_audience, cloud("k8s"), text),
        ):
            if char in plain:
                assert check() == text
            else:
                with pytest.raises(ConfigError):
                    check()


def test_a_long_service_id_needs_another_subject() -> None:
    """It is said what to do, and done."""
    issuer = "https://edge.example.com/" + "x" * 103
    with frozen():
        made = service("ES256", issuer=issuer)
        with pytest.raises(ConfigError, match=r"longer than the 127 bytes .* choose a shorter one"):
            made.federation_token("aws")
        assert decode(made.federation_token("aws", subject="edge").encode()).claims["iss"] == issuer
        made.__exit__()


@pytest.mark.parametrize("name", ["ibm", "", "AWS", None, ["aws"]])
def test_a_provider_that_does_not_exist(edge: Service, name: Any) -> None:
    """The four that do are named."""
    with pytest.raises(ConfigError, match="choose one of aws, gcp, azure, k8s"):
        edge.federation_token(name)


def test_a_file_is_replaced_in_time() -> None:
    """Whenever an SDK reads it, the token is good for as long as it is kept: by Azure's for ten minutes."""
    for rules in CLOUDS.values():
        assert rules.renew <= rules.file_life / 2
    assert CLOUDS["azure"].file_life - CLOUDS["azure"].renew > 600
    assert all(rules.file_life <= RotationSchedule.DEFAULT.max_token_life for rules in CLOUDS.values())


def test_no_audience_belongs_to_two_clouds() -> None:
    """What a provider takes by itself is its own."""
    for rules, other in itertools.permutations(CLOUDS.values(), 2):
        if rules.audience is not None:
            with pytest.raises(ConfigError):
                check_audience(other, rules.audience)
