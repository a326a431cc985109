"""Exported Istio resources are valid by Istio's published schemas, and say what the trust file says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from s2s_mesh import spiffe_bundle
from s2s_mesh.export_istio import istio
from s2s_mesh.export_plan import plan
from s2s_mesh.trust import TrustConfig
from s2s_mesh.wellknown import DOCUMENTS

from .command_line import PATIENCE
from .interop.node import HERE, node, node_modules
from .tokens import EDGE, LEDGER, WALLETS

TRUST = f"""
version = 1
[issuers."{EDGE}"]
jwks_uri = "https://keys.example.com/edge.json"
[issuers."{LEDGER}"]
discovery = true
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read", "cards:write"]
[[allow]]
issuer = "{LEDGER}"
audience = "{WALLETS}"
"""
ROUTES = f"""
[[route]]
audience = "{WALLETS}"
path = "/wallets/{{wallet_id}}/card"
methods = ["GET", "PUT"]
scopes = ["cards:read", "cards:write"]
[[route]]
audience = "{WALLETS}"
path = "/reports/{{rest:path}}"
methods = ["POST"]
"""


def exported(text: str, **labels: str) -> list[dict[str, Any]]:
    """The resources of a trust file."""
    made = istio(plan(TrustConfig.parse(text), WALLETS, source="trust.toml", digest="0" * 64), labels)
    return list(yaml.safe_load_all(made))


def complaints(resources: list[dict[str, Any]]) -> str:
    """What Istio's schemas say against them."""
    node_modules()
    done = subprocess.run(
        [node(), str(HERE / "istio.mjs")],
        input=json.dumps(resources),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def names(value: Any) -> Iterator[str]:
    """The names of all members, but for labels, which anybody chooses."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            if name != "matchLabels":
                yield from names(member)
    elif isinstance(value, list):
        for member in value:
            yield from names(member)


@pytest.mark.parametrize("text", [TRUST, TRUST + ROUTES])
def test_they_are_valid(text: str) -> None:
    """By Istio's schemas, which ignore what they do not know; so each member is one of theirs too."""
    resources = exported(text, app="wallets")
    assert [one["kind"] for one in resources] == ["RequestAuthentication", *["AuthorizationPolicy"] * 2]
    assert complaints(resources) == ""
    for one in resources:
        folder = node_modules() / "@kubernetes-models/istio/security.istio.io/v1"
        declared = (folder / f"{one['kind']}.d.ts").read_text(encoding="utf-8")
        known = set(re.findall(r'"(\w+)"\??:', declared)) | {"apiVersion", "kind", "metadata", "name"}
        assert set(names(one)) <= known


def test_the_schemas_complain() -> None:
    """What is wrong is found, so the test above says something."""
    resources = exported(TRUST)
    resources[0]["spec"]["jwtRules"] = "none"
    resources[1]["spec"]["action"] = "MAYBE"
    said = complaints(resources)
    assert "jwtRules" in said
    assert "action" in said


def test_tokens() -> None:
    """One rule for each issuer; without a jwks_uri Istio looks for the discovery document itself."""
    edge, ledger = exported(TRUST)[0]["spec"]["jwtRules"]
    assert (edge["issuer"], edge["audiences"]) == (EDGE, [WALLETS])
    assert edge["jwksUri"] == "https://keys.example.com/edge.json"
    assert (ledger["issuer"], "jwksUri" in ledger) == (LEDGER, False)


def test_the_workload() -> None:
    """The labels of --selector are in each of them; without, they hold for the namespace."""
    for one in exported(TRUST, app="wallets", tier="web"):
        assert one["spec"]["selector"] == {"matchLabels": {"app": "wallets", "tier": "web"}}
    assert not any("selector" in one["spec"] for one in exported(TRUST))


def test_routes() -> None:
    """A route opens for those whose grant covers its scopes: with the scopes in the token, or with none."""
    _, *rules = exported(TRUST + ROUTES)[2]["spec"]["rules"]
    where = [rule["to"] for rule in rules]
    card = {"methods": ["GET", "HEAD", "PUT"], "paths": ["/wallets/{*}/card"]}
    # {**} matches nothing too, which our {rest:path} does not
    reports = {"methods": ["POST"], "paths": ["/reports/{**}"], "notPaths": ["/reports/"]}
    assert where == [[{"operation": one}] for one in (card, card, reports, reports)]
    own = is_caller(EDGE)
    scope = "request.auth.claims[scope]"
    both = [{"key": scope, "values": ["cards:read"]}, {"key": scope, "values": ["cards:write"]}]
    assert [rule["when"] for rule in rules] == [
        [*own, *both],
        [*own, {"key": scope, "notValues": ["*"]}],
        own,
        is_caller(LEDGER),
    ]
    assert all(rule.keys() == {"to", "when"} for rule in rules)


def is_caller(issuer: str) -> list[dict[str, Any]]:
    """The conditions for a token of one caller: each claim by itself; "iss/sub" has several slashes."""
    claims = [
        {"key": f"request.auth.claims[{name}]", "values": [issuer]} for name in ("iss", "sub", "client_id")
    ]
    return [*claims, {"key": "request.auth.audiences", "values": [WALLETS]}]


def test_a_tail() -> None:
    """A rule for all below a folder does not open the folder itself, which may have a rule of its own."""
    rows = "".join(
        f'[[route]]\naudience = "{WALLETS}"\npath = "{path}"\nmethods = ["GET"]\n'
        for path in ("/z/{rest:path}", "/a/{x}/{rest:path}")
    )
    _, *rules = exported(TRUST + rows)[2]["spec"]["rules"]
    operations = [rule["to"][0]["operation"] for rule in rules]
    assert [(one["paths"], one["notPaths"]) for one in operations[::2]] == [
        (["/z/{**}"], ["/z/"]),
        (["/a/{*}/{**}"], ["/a/{*}/"]),
    ]


def test_no_routes() -> None:
    """Every caller may go everywhere, and nobody else."""
    _, *rules = exported(TRUST)[2]["spec"]["rules"]
    assert rules == [{"when": is_caller(EDGE)}, {"when": is_caller(LEDGER)}]


def test_names() -> None:
    """No two audiences share a name, for the resources of one would replace those of the other."""
    audiences = (
        *("https://a.example.com", "https://a-example.com", "https://a.example.com:8443"),
        *("https://a.example.com/8443", "https://a.example.com/x-y", "https://a.example.com/x/y"),
        *(
            "https://a.example.com/X/y",
            "https://a.example.com/bearer/only",
            f"https://a.example.com/{'x' * 400}",
        ),
    )
    called = []
    for audience in audiences:
        text = f'version = 1\n[[allow]]\nissuer = "{EDGE}"\naudience = "{audience}"\n'
        made = istio(plan(TrustConfig.parse(text), audience, source="trust.toml", digest="0" * 64))
        called += [(one["kind"], one["metadata"]["name"]) for one in yaml.safe_load_all(made)]
    assert len(set(called)) == 3 * len(audiences)
    assert all(re.fullmatch("s2s-mesh-a-example-com-[a-z0-9-]{8,}", name) for _, name in called)
    assert max(len(name) for _, name in called) <= 253


def test_its_own_documents() -> None:
    """Everybody may have them, or nobody could verify this service's tokens."""
    paths = [*DOCUMENTS, spiffe_bundle.DOCUMENT]
    public = exported(TRUST + ROUTES)[2]["spec"]["rules"][0]
    assert public == {"to": [{"operation": {"methods": ["GET", "HEAD"], "paths": paths}}]}


def test_bound_tokens_are_denied() -> None:
    """Those that are bound to a key or carry a user, and requests that name scopes or a user themselves."""
    denied = exported(TRUST)[1]["spec"]
    assert denied["action"] == "DENY"
    claims = (
        "cnf][jkt",
        "cnf][kid",
        "cnf][x5t#S256",
        "cnf][jwk][kty",
        "act][sub",
        "act][iss",
        "sub_id][format",
    )
    keys = [f"request.auth.claims[{name}]" for name in (*claims, "sub_id][sub")]
    keys += [f"request.headers[{name}]" for name in ("s2s-scopes", "s2s-user", "s2s-user-issuer")]
    assert denied["rules"] == [{"when": [{"key": key, "values": ["*"]}]} for key in keys]
