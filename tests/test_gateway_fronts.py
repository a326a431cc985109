"""The gateway behind real nginx, Caddy and Envoy, with the example's files, before a Node application."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from s2s_mesh.forward_auth import IDENTITY, REQUEST_ID
from s2s_mesh.users import USER_TOKEN_FIELD

from .command_line import PATIENCE
from .fronts import API_KEY, AWAY, EXAMPLES, OPEN, Front, Seen, fresh, front
from .proving import WIT, WPT, access_token, fields, wit, wpt
from .tokens import CARRIED, EDGE, LEDGER, LOGIN, WALLETS

READ, CARD, ADMIN = "/wallets/42", "/wallets/42/card", "/admin"
EDGES = {"s2s-caller": EDGE, "s2s-scopes": "cards:read cards:write"}
REALM = f'Bearer realm="{WALLETS}"'
INVALID = f'{REALM}, error="invalid_token", error_description="The access token is invalid"'
EXPIRED = f'{REALM}, error="invalid_token", error_description="The access token expired"'
MALFORMED = f'{REALM}, error="invalid_request", error_description="Malformed credentials"'
NO_SCOPE = f'{REALM}, error="insufficient_scope", scope="cards:read"'


def _spellings(name: str) -> list[str]:
    """A field's name with every hyphen also as an underscore: some frameworks take one for the other."""
    parts = name.split("-")
    marks = product("-_", repeat=len(parts) - 1)
    return ["".join(chain.from_iterable(zip(parts, (*these, ""), strict=True))) for these in marks]


SPOOFED = [
    (spelling, "spoofed")
    for name in ("S2S-Caller", "S2S-Scopes", "S2S-User", "S2S-User-Issuer", "S2S-Request-Id")
    for spelling in _spellings(name)
]
FORWARDED = [
    (name, value)
    for method in ("X-Original-Method", "X-Forwarded-Method", "X_Original_Method", "X_Forwarded_Method")
    for name, value in ((method, "GET"), (method.replace("Method", "Uri"), OPEN))
] + [("X-Original-URI", OPEN), ("X-Forwarded-Host", "evil.example"), ("X-Envoy-Original-Path", OPEN)]
OVERRIDES = [("X-HTTP-Method-Override", "DELETE"), ("X-Rewrite-URL", ADMIN), ("X-Original-URL", ADMIN)]


@pytest.fixture(scope="module", params=["nginx", "caddy", "envoy"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One front after the other, each with gateway and application behind it."""
    with front(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


def told(seen: Seen) -> dict[str, str]:
    """What the application was told of the caller, without the request id."""
    return {name: value for name, value in seen.identity.items() if name != "s2s-request-id"}


@pytest.mark.parametrize(("method", "path"), [("GET", READ), ("GET", f"{READ}?a=b&c=%2F"), ("PUT", CARD)])
def test_allowed(proxy: Front, method: str, path: str) -> None:
    """Caller and scopes arrive at the application with the request as it was sent, and without its token."""
    seen = proxy.ask(path, fresh(), method=method)
    assert seen.app is not None, seen
    assert told(seen) == EDGES
    assert (seen.app["method"], seen.app["url"]) == (method, path)
    assert seen.app["caller"] == {"issuer": EDGE, "scopes": ["cards:read", "cards:write"], "user": None}
    assert "authorization" not in {name.lower() for name in seen.app["fields"]}
    request_id = seen.identity["s2s-request-id"]
    proxy.gateway.wait_for_error(f"admitted {method} {path.partition('?')[0]}: {EDGE} [request {request_id}]")


def test_a_user_is_told(proxy: Front) -> None:
    """The user that a service calls for arrives too, whatever characters its id has."""
    subject = "Jörg 50%, 1"
    sub_id = {"format": "iss_sub", "iss": LOGIN, "sub": subject}
    seen = proxy.ask("/mine", fresh(**{**CARRIED, "sub": subject, "sub_id": sub_id}))
    assert told(seen) == {**EDGES, "s2s-user": "J%C3%B6rg%2050%25%2C%201", "s2s-user-issuer": LOGIN}
    assert seen.app is not None
    assert seen.app["caller"]["user"] == {"subject": subject, "issuer": LOGIN}


def test_a_body_goes_to_the_application_only(proxy: Front) -> None:
    """However long it is, it arrives there; the gateway is asked without it."""
    seen = proxy.ask(CARD, fresh(), method="PUT", body=b"x" * 300_000)
    assert seen.app is not None, seen
    assert seen.app["bytes"] == 300_000
    assert proxy.ask(CARD, method="PUT", body=b"x" * 30_000).status == 401


def test_once(proxy: Front) -> None:
    """A front asks once for each request, so a token for once opens such a route once."""
    token = fresh(jti=f"once-through-{proxy.name}")
    assert proxy.ask("/once", token, method="PUT").status == 200
    assert proxy.ask("/once", token, method="PUT").status == 401
    proxy.gateway.wait_for_error("refused PUT /once: replayed: ")


def test_proof(proxy: Front) -> None:
    """The fields of a proof reach the gateway, not the application; a proof for another path is refused."""
    now = int(time.time())
    times: dict[str, Any] = {"iat": now, "exp": now + 60}
    access, identity = access_token(**times), wit(**times)
    proof = wpt(access, identity, jti=f"proof-through-{proxy.name}", **times)
    sent = [(name.decode(), value.decode()) for name, value in fields(None, identity, proof)]
    assert proxy.ask("/once", access.decode(), method="PUT", headers=sent).status == 400
    seen = proxy.ask("/proved", access.decode(), method="PUT", headers=sent)
    assert told(seen) == EDGES
    assert "workload-" not in str(seen.app).lower()
    assert proxy.ask("/proved", fresh(), method="PUT").status == 401


def test_an_old_credential(proxy: Front) -> None:
    """A caller that is not over yet is known by its API key, which does not reach the application either."""
    seen = proxy.ask(READ, headers=[("X-Api-Key", API_KEY)])
    assert told(seen) == EDGES
    assert API_KEY not in str(seen.app)
    assert proxy.ask(READ, headers=[("X-Api-Key", f"{API_KEY}x")]).status == 401
    proxy.gateway.wait_for_error(f"{EDGE} used an old credential, which ends at ")


# how a request is made, then status, challenge, and what the gateway logs
REFUSED = [
    ("no token", READ, "GET", lambda: None, [], 401, REALM, "no_credential"),
    ("wrong audience", READ, "GET", lambda: fresh(aud=LEDGER), [], 401, INVALID, "wrong_audience"),
    ("expired", READ, "GET", lambda: fresh(age=3600), [], 401, EXPIRED, "expired"),
    ("a scope is missing", READ, "GET", lambda: fresh(LEDGER), [], 403, NO_SCOPE, "missing_scope"),
    ("scopes asked for", READ, "GET", lambda: fresh(scope="cards:write"), [], 403, NO_SCOPE, "missing_scope"),
    ("wrong method", READ, "PUT", fresh, [], 403, None, "no_route_rule"),
    ("wrong method, DELETE", CARD, "DELETE", fresh, [], 403, None, "no_route_rule"),
    ("no rule", "/else", "GET", fresh, [], 403, None, "no_route_rule"),
    ("no token, another route is claimed", READ, "GET", lambda: None, FORWARDED, 401, REALM, "no_credential"),
    ("another method is claimed", READ, "PUT", fresh, FORWARDED, 403, None, "no_route_rule"),
    ("a bad token on a public path", OPEN, "GET", lambda: "x.y.z", [], 401, INVALID, "bad_base64"),
    ("two tokens", f"{READ}?access_token=x", "GET", fresh, [], 400, MALFORMED, "several_credentials"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "method", "token", "headers", "status", "challenge", "reason"),
    [pytest.param(*row[1:], id=row[0]) for row in REFUSED],
)
def test_refused(
    proxy: Front,
    path: str,
    method: str,
    token: object,
    headers: Sequence[tuple[str, str]],
    status: int,
    challenge: str | None,
    reason: str,
) -> None:
    """Status, challenge and request id reach the client; why stands in the gateway's log only."""
    assert callable(token)
    seen = proxy.ask(path, token(), method=method, headers=headers)
    assert (seen.status, seen.headers.get("www-authenticate"), seen.app) == (status, challenge, None)
    assert reason not in seen.body
    problem = json.loads(seen.body)
    assert (problem["status"], seen.headers["content-type"]) == (status, "application/problem+json")
    assert seen.headers["cache-control"] == "no-store"
    request_id = seen.headers["s2s-request-id"]
    assert problem["instance"] == f"urn:uuid:{request_id}"
    proxy.gateway.wait_for_error(f"request {request_id}]")
    (line,) = (line for line in proxy.gateway.errors.splitlines() if request_id in line)
    assert f"refused {method} {path.partition('?')[0]}: {reason}: " in line


@pytest.mark.parametrize("second", ["Bearer", "Basic"])
def test_two_credentials(proxy: Front, second: str) -> None:
    """Two Authorization fields are refused, by the front itself or by the gateway."""
    more = f"Bearer {fresh()}" if second == "Bearer" else "Basic eDp5"
    seen = proxy.ask(READ, fresh(), headers=[("Authorization", more)])
    assert (seen.status, seen.app) == (400, None)


def test_spoofed_identity(proxy: Front) -> None:
    """What a client says about itself is replaced by what its token says, in every spelling."""
    seen = proxy.ask(READ, fresh(), headers=[*SPOOFED, *FORWARDED])
    assert told(seen) == EDGES
    assert "spoofed" not in str(seen.app)


def test_spoofed_identity_on_a_public_path(proxy: Front) -> None:
    """Where nobody needs a token, nobody becomes somebody by saying so."""
    seen = proxy.ask(OPEN, headers=SPOOFED)
    assert seen.app is not None, seen
    assert told(seen) == {}
    assert seen.app["caller"] is None
    assert "spoofed" not in str(seen.app)
    assert told(proxy.ask(OPEN, fresh(), headers=SPOOFED)) == EDGES


def test_method_overrides(proxy: Front) -> None:
    """Fields that some frameworks take another method or path from do not reach the application."""
    seen = proxy.ask(READ, fresh(), headers=OVERRIDES)
    assert seen.app is not None, seen
    assert not {name.lower() for name, _ in OVERRIDES} & {name.lower() for name in seen.app["fields"][::2]}


# Paths that some router takes for /admin, which edge may not call, or for a route where there is none
TRICKS = [
    "//admin",
    "/./admin",
    "/wallets/../admin",
    "/wallets/42/../../admin",
    "/%2e%2e/admin",
    "/%2e/admin",
    "/wallets/%2e%2e/admin",
    "/wallets/%2E./admin",
    "/wallets/..%2fadmin",
    "/wallets%2f..%2fadmin",
    "/wallets/..%5cadmin",
    "/%2Fadmin",
    "/admin;x",
    "/admin%3bx",
    "/;/admin",
    "/wallets/..;/admin",
    "/wallets/42;/../../admin",
    "/%61dmin",
    "/%2561dmin",
    "/ADMIN",
    "/admin/",
    "/admin%00",
    "/admin%20",
    "/admin%0a",
    "/admin?x",
    "/admin%3fx",
    "/admin%23",
    "/wallets/42\\..\\..\\admin",
    "/wallets/42%5c..%5c..%5cadmin",
    "/wallets/42/card/../../../admin",
    "/open/../admin",
    "/open/%2e%2e/admin",
    "/open%2f..%2fadmin",
    "/open;/../admin",
    "/.well-known/jwks.json/../../admin",
    "/.well-known/jwks.json/%2e%2e/%2e%2e/admin",
    "http://wallets.example.com/admin",
    "/_s2s_mesh",
    "/verify/admin",
    "/wallets/42%2Fcard",
    "/wallets//42",
    "/wallets/",
    "/wallets/%c0%ae%c0%ae/admin",
    "/wallets/%zz",
]


@pytest.mark.parametrize("path", TRICKS)
def test_no_trick_opens_a_route(proxy: Front, path: str) -> None:
    """However /admin is written, edge does not get there, and neither does anybody without a token."""
    for token in (fresh(), None):
        seen = proxy.ask(path, token)
        assert (seen.app, 400 <= seen.status < 500) == (None, True), seen


# The route a path ends at, by front, for a caller who may: itself, what the front makes of it, or nowhere
JUDGED = [
    (ADMIN, ADMIN, ADMIN, ADMIN),
    ("/admin?x=%2F..", "/admin?x=%2F..", "/admin?x=%2F..", "/admin?x=%2F.."),
    ("/%61dmin", "/%61dmin", "/%61dmin", ADMIN),
    ("http://127.0.0.1/admin", ADMIN, ADMIN, ADMIN),
    ("/x/../admin", None, None, ADMIN),
    ("/x/%2e%2e/admin", None, None, ADMIN),
    ("/./admin", None, None, ADMIN),
    ("//admin", None, None, None),
    ("/x/..%2fadmin", None, None, None),
    ("/admin;x", None, None, None),
]


@pytest.mark.parametrize(("path", "nginx", "caddy", "envoy"), JUDGED)
def test_the_path_that_is_judged_is_the_path_that_is_served(
    proxy: Front, path: str, nginx: str | None, caddy: str | None, envoy: str | None
) -> None:
    """nginx and Caddy leave a path as it is, Envoy normalises it first; gateway and application get one."""
    expected = {"nginx": nginx, "caddy": caddy, "envoy": envoy}[proxy.name]
    seen = proxy.ask(path, fresh(LEDGER))
    if expected is None:
        assert (seen.app, seen.status in (400, 403)) == (None, True), seen
        return
    assert seen.app is not None, seen
    assert seen.app["url"] == expected
    request_id = seen.identity["s2s-request-id"]
    judged = unquote(expected.partition("?")[0])
    proxy.gateway.wait_for_error(f"admitted GET {judged}: {LEDGER} [request {request_id}]")


def test_head_counts_as_get(proxy: Front) -> None:
    """HEAD meets the rule for GET, with and without a token."""
    assert proxy.ask(READ, fresh(), method="HEAD").status == 200
    assert proxy.ask(READ, method="HEAD").status == 401


def test_keys_that_cannot_be_had(proxy: Front) -> None:
    """Where nobody can tell just now the client gets 503, and the application is not asked."""
    seen = proxy.ask(READ, fresh(AWAY))
    assert (seen.status, seen.app) == (503, None)
    # Envoy makes its own answer of every 5xx of an authorisation service
    assert seen.headers.get("retry-after") == (None if proxy.name == "envoy" else "5")
    proxy.gateway.wait_for_error("jwks_unavailable: ")


@pytest.mark.parametrize("name", ["jwks.json", "openid-configuration", "oauth-authorization-server"])
def test_documents(proxy: Front, name: str) -> None:
    """Our documents are public, whatever credentials come along; nothing else of the gateway is."""
    seen = proxy.ask(f"/.well-known/{name}", "nonsense")
    assert seen.status == 200
    assert seen.body.startswith("{")
    for path in ("/healthz", "/readyz", "/metrics", "/verify", "/token?audience=https://ledger.example.com"):
        assert proxy.ask(path).status == 401


@pytest.mark.parametrize("name", ["nginx", "caddy", "envoy"])
def test_without_a_gateway(name: str, tmp_path: Path) -> None:
    """A front whose gateway is gone lets nobody in, not to public paths either."""
    with front(name, tmp_path) as running:
        assert running.ask(READ, fresh()).status == 200
        running.gateway.process.kill()
        running.gateway.process.wait(timeout=PATIENCE)
        for path in (READ, OPEN):
            seen = running.ask(path, fresh())
            assert (seen.app, seen.status in (502, 503)) == (None, True), seen


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_another_front_than_configured(name: str, tmp_path: Path) -> None:
    """A gateway that waits for the fields of another front refuses all, and says what is missing."""
    other = {"nginx": "caddy", "caddy": "nginx"}[name]
    with front(name, tmp_path, told=other) as running:
        seen = running.ask(OPEN, headers=FORWARDED if name == "caddy" else ())
        assert seen.app is None
        running.gateway.wait_for_error(": front_contract: ")


def test_examples_are_tried() -> None:
    """Each file of the example is one of those above, or Traefik's."""
    names = {path.name for path in EXAMPLES.iterdir()}
    assert names == {"nginx.conf", "Caddyfile", "envoy.yaml", "traefik.yaml", "app.mjs"}


@pytest.mark.parametrize("file", ["nginx.conf", "Caddyfile", "envoy.yaml", "traefik.yaml"])
def test_examples_name_every_field(file: str) -> None:
    """What the application is told is handed on, and what a caller proves itself with is kept from it."""
    text = (EXAMPLES / file).read_text(encoding="utf-8").lower()
    proofs = [WIT.decode(), WPT.decode(), "txn-token", USER_TOKEN_FIELD]
    for name in (*IDENTITY, REQUEST_ID, *proofs, "authorization", "workload-authorization", "x-api-key"):
        assert re.search(rf"(?<!\w){name}(?![\w-])", text), name
