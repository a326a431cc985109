"""What an export cannot enforce is refused by name, and the same trust file always makes the same text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from s2s_mesh.errors import ConfigError
from s2s_mesh.export_envoy import envoy
from s2s_mesh.export_istio import istio
from s2s_mesh.export_jose import PROGRAM as MODULE
from s2s_mesh.export_jose import jose
from s2s_mesh.export_lua import PROGRAM
from s2s_mesh.export_nginx import nginx
from s2s_mesh.export_plan import STRIPPED, Feature, NotExportable, Plan, plan
from s2s_mesh.forward_auth import IDENTITY, REQUEST_ID
from s2s_mesh.proof import is_field
from s2s_mesh.trust import TrustConfig

from .tokens import EDGE, LEDGER, LOGIN, WALLETS

WRITERS: dict[str, Callable[[Plan], str]] = {"envoy": envoy, "istio": istio, "nginx": nginx, "jose": jose}
ISSUER = f'[issuers."{EDGE}"]'
ALLOW = f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:read"]\n'
OTHERS = f'[[allow]]\nissuer = "{WALLETS}"\naudience = "{LEDGER}"\n'


def route(*members: str, path: str = "/wallets/{x}") -> str:
    """A route rule."""
    rows = [f'audience = "{WALLETS}"', f'path = "{path}"', 'methods = ["PUT"]', *members]
    return "[[route]]\n" + "\n".join(rows) + "\n"


def issuer(*members: str) -> str:
    """Edge's own table."""
    return f"{ISSUER}\n" + "\n".join(members) + "\n"


def of(text: str) -> Plan:
    """What wallets enforces by a trust file."""
    return plan(TrustConfig.parse(f"version = 1\n{text}"), WALLETS, source="trust.toml", digest="0" * 64)


USER = f'[user_issuers."{LOGIN}"]\naudiences = ["{EDGE}"]\n'
CARRIES = ALLOW + f'may_act_for = ["{LOGIN}"]\n' + USER
TXN = f'[[txn]]\ntrust_domain = "https://example.com"\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
LEGACY = (
    f'[[legacy]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nmigration = "require"\nuntil = 2099-12-31\n'
    f'api_key_sha256 = "{"0" * 64}"\n'
)
FOREIGN = (
    f'[foreign_issuers."{LOGIN}"]\ndiscovery = true\n'
    f'[[subject]]\nissuer = "{LOGIN}"\nsubject = "edge"\nservice = "{EDGE}"\n'
)
ROUTE = "[[route]] PUT /wallets/{x}"
# a trust file, what stands in the way, where, and for whom it does not
ROWS: list[tuple[str, Feature | None, str, set[str]]] = [
    (ALLOW + route(), None, "", set(WRITERS)),
    (ALLOW + route(path="/Az09-._~!$&'()+,:@/{x}/"), None, "", set(WRITERS)),
    (ALLOW + OTHERS + f'[issuers."{WALLETS}"]\ndiscovery = true\n', None, "", set(WRITERS)),
    (ALLOW + route('proof = "wpt"'), Feature.PROOF, ROUTE, {"nginx"}),
    (ALLOW + route('proof = "mtls"'), Feature.OTHER_PROOF, ROUTE, set()),
    (ALLOW + route('replay = "once"'), Feature.ONCE, ROUTE, {"nginx"}),
    (ALLOW + route('user = "asserted"'), Feature.USER, ROUTE, {"nginx"}),
    (CARRIES, Feature.MAY_ACT_FOR, f"[[allow]] {EDGE}", {"nginx"}),
    (ALLOW + TXN, Feature.TXN, f"[[txn]] {EDGE}", {"nginx"}),
    (ALLOW + FOREIGN, Feature.FOREIGN, f'[foreign_issuers."{LOGIN}"]', {"nginx"}),
    (ALLOW + LEGACY, Feature.LEGACY, f"[[legacy]] {EDGE}", {"nginx"}),
    (
        ALLOW + issuer('algorithms = ["ES256", "RS256", "Ed25519"]'),
        Feature.ED25519,
        ISSUER,
        {"nginx", "jose"},
    ),
    (ALLOW + issuer('algorithms = ["ES256"]'), Feature.ALGORITHMS, ISSUER, {"nginx", "jose", "envoy"}),
    (ALLOW + issuer('typ = ["JWT"]'), Feature.TYP, ISSUER, {"nginx", "jose", "envoy"}),
    (ALLOW + issuer('max_token_life = "2m"'), Feature.LIFE, ISSUER, {"nginx", "jose", "envoy"}),
    (ALLOW + issuer('leeway = "0s"'), Feature.LEEWAY, ISSUER, {"nginx", "jose", "envoy"}),
    (ALLOW + issuer('jwks_file = "/keys/edge.json"'), Feature.JWKS_FILE, ISSUER, {"nginx", "envoy"}),
    (ALLOW + issuer('jwks_file = "edge.json"'), Feature.RELATIVE_JWKS_FILE, ISSUER, {"nginx"}),
    (ALLOW + issuer('ca_file = "/keys/ca.pem"'), Feature.CA_FILE, ISSUER, {"nginx", "envoy"}),
    (ALLOW + issuer('ca_file = "ca.pem"'), Feature.RELATIVE_CA_FILE, ISSUER, {"nginx"}),
    (ALLOW + issuer("discovery = true"), Feature.DISCOVERY, ISSUER, {"nginx", "istio"}),
    (
        ALLOW + issuer("discovery = true", 'jwks_origins = ["https://keys.example.com"]'),
        Feature.JWKS_ORIGINS,
        ISSUER,
        {"nginx"},
    ),
    (ALLOW + issuer("eddsa = true"), Feature.EDDSA, ISSUER, {"nginx"}),
    *(
        (ALLOW + route(path=path), Feature.PATH, f"[[route]] PUT {path}", {"nginx", "jose", "envoy"})
        for path in ("/café", "/{x}/a b", "/a[b]", "/{x}/a=b", "/a|b/{y:path}", "/`")
    ),
]


@pytest.mark.parametrize("target", WRITERS)
@pytest.mark.parametrize(("text", "feature", "where", "able"), ROWS)
def test_what_cannot_be_enforced(
    target: str, text: str, feature: Feature | None, where: str, able: set[str]
) -> None:
    """It is refused by row and name by those who cannot, and exported by those who can."""
    if target in able:
        assert WALLETS in WRITERS[target](of(text))
        return
    assert feature is not None
    with pytest.raises(NotExportable) as refused:
        WRITERS[target](of(text))
    assert f"{where}: {feature.value}" in refused.value.problems
    assert f"{target} cannot enforce {where}: {feature.value}" in str(refused.value).splitlines()


def test_every_feature_has_a_row() -> None:
    """Nothing that is refused is untested."""
    assert {feature for _, feature, _, _ in ROWS} == {None, *Feature} - {Feature.OTHER}


def test_all_of_it_is_said_at_once() -> None:
    """Not only the first."""
    text = ALLOW + issuer('leeway = "0s"', "discovery = true") + route('proof = "wpt"', 'user = "asserted"')
    with pytest.raises(NotExportable) as refused:
        istio(of(text))
    assert len(refused.value.problems) == 3
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        ROUTE,
        ROUTE,
        '[issuers."https',
    ]


def test_nobody_may_call() -> None:
    """An audience that no row names is a mistake, and not a door that is shut."""
    with pytest.raises(ConfigError, match=r"no \[\[allow\]\] row of trust.toml names the audience"):
        of(OTHERS)


@pytest.mark.parametrize("target", WRITERS)
def test_it_is_deterministic(target: str) -> None:
    """Rows in another order that mean the same make the same text."""
    second = ALLOW.replace(EDGE, LEDGER)
    assert WRITERS[target](of(ALLOW + second)) == WRITERS[target](of(second + ALLOW))


@pytest.mark.parametrize("target", WRITERS)
def test_the_head(target: str) -> None:
    """It says that the file is generated, and from what; a file's name cannot end the comment."""
    trust = TrustConfig.parse(f"version = 1\n{ALLOW}")
    made = WRITERS[target](plan(trust, WALLETS, source="a\nb.toml", digest="d" * 64))
    head = made.splitlines()[:4]
    assert all(line.startswith(("# ", "// ")) for line in head)
    assert f"for {WALLETS}: generated, do not edit." in head[0]
    assert f"a?b.toml (sha256 {'d' * 64})" in head[1]


def test_what_is_stripped() -> None:
    """Credentials, words about certificates, names of other methods or paths reach no application."""
    certificates = {"client-cert", "client-cert-chain", "x-forwarded-client-cert"}
    credentials = {"workload-identity-token", "workload-proof-token", "txn-token", "s2s-user-token"}
    methods = {"x-http-method-override", "x-http-method", "x-method-override"}
    paths = {"x-original-url", "x-rewrite-url"}
    assert set(STRIPPED) == certificates | credentials | methods | paths
    assert all(is_field(name.encode()) for name in credentials)
    made = nginx(of(ALLOW))
    application, gateway = made.partition("location = /_s2s_mesh {")[::2]
    assert all(f'proxy_set_header {name} "";' in application for name in ("authorization", *STRIPPED))
    assert all(f'proxy_set_header {name} "";' in gateway for name in certificates)
    (manager,) = filters(ALLOW)
    removed = manager["http_filters"][0]["typed_config"]["mutations"]["request_mutations"]
    assert {one["remove"] for one in removed} == {*IDENTITY, REQUEST_ID, *STRIPPED}


def test_old_credentials_stay_with_nginx() -> None:
    """Whatever field the rows name for them reaches the gateway, and not the application."""
    made = nginx(of(ALLOW + LEGACY.replace("until", 'header = "X-Team-Key"\nuntil')))
    application, gateway = made.partition("location = /_s2s_mesh {")[::2]
    stripped = 'proxy_set_header x-team-key "";'
    assert (stripped in application, stripped in gateway) == (True, False)


def test_a_route_that_nobody_can_open() -> None:
    """It has no policy, so it is denied like every path without one."""
    text = ALLOW + route('scopes = ["admin"]')
    (manager,) = filters(text)
    assert manager["http_filters"][4]["typed_config"]["rules"] == {"action": "ALLOW", "policies": {}}


def test_keys_by_tls() -> None:
    """Envoy verifies the name of whom it fetches keys from, by the named authorities or the system's."""
    for member, expected in (
        ("", "/etc/ssl/certs/ca-certificates.crt"),
        ('ca_file = "/k/ca.pem"', "/k/ca.pem"),
    ):
        made = yaml.safe_load(envoy(of(ALLOW + issuer(member))))
        _, cluster = made["static_resources"]["clusters"]
        context = cluster["transport_socket"]["typed_config"]
        assert context["sni"] == "edge.example.com"
        validation = context["common_tls_context"]["validation_context"]
        assert validation["trusted_ca"] == {"filename": expected}
        assert validation["match_typed_subject_alt_names"][0]["matcher"] == {"exact": "edge.example.com"}


def test_keys_in_a_file() -> None:
    """An absolute name is Envoy's to read; there is no cluster then."""
    made = envoy(of(ALLOW + issuer('jwks_file = "/keys/edge.json"')))
    (manager,) = filters(ALLOW + issuer('jwks_file = "/keys/edge.json"'))
    provider = manager["http_filters"][2]["typed_config"]["providers"][EDGE]
    assert provider["local_jwks"] == {"filename": "/keys/edge.json"}
    assert len(yaml.safe_load(made)["static_resources"]["clusters"]) == 1


def filters(text: str) -> list[dict[str, Any]]:
    """The HTTP connection manager of an exported Envoy configuration."""
    made = yaml.safe_load(envoy(of(text)))
    (listener,) = made["static_resources"]["listeners"]
    return [one["typed_config"] for one in listener["filter_chains"][0]["filters"]]


def test_the_lua_program_never_grows_by_the_trust_file() -> None:
    """Below the table of issuers it is the same for everybody; so is the module for Node."""
    for text in (ALLOW, ALLOW + route()):
        (manager,) = filters(text)
        program = manager["http_filters"][1]["typed_config"]["default_source_code"]["inline_string"]
        assert program.endswith(PROGRAM)
        assert jose(of(text)).endswith(MODULE)
