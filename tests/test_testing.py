"""The mesh for users' tests: its tokens are let in for what they are, its verdicts say why, and all ends."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flask
import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from s2s_mesh import ConfigError, EndUser, Reason, Service, TokenRejected, TrustConfig, UserExpired
from s2s_mesh import testing as testing_
from s2s_mesh.fake_keys import fake_key
from s2s_mesh.integrations.flask import protect
from s2s_mesh.refusal_log import request_id, status_of
from s2s_mesh.testing import Caller, Mesh, bearer

from .servers import run_child
from .test_architecture import PATHS, imported, package_of
from .test_exports import loaded_after
from .tokens import EDGE, LEDGER, LOGIN, NOW, WALLETS, frozen

CALLERS = {EDGE: ["cards:read", "cards:write"], LEDGER: []}


async def who(request: Request) -> Response:
    user = request.user.user
    subject = None if user is None else user.subject
    return JSONResponse([request.user.issuer, sorted(request.auth.scopes), subject])


@requires("cards:write")
async def write(request: Request) -> Response:
    return JSONResponse({})


async def own_403(request: Request) -> Response:
    return JSONResponse({"instance": 1}, status_code=403)


def app_of(service: Service) -> Any:
    routes = [Route("/who", who), Route("/write", write, methods=["PUT"]), Route("/own", own_403)]
    return Starlette(routes=[*routes, *service.routes], middleware=[service.middleware])


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh() as made:
        yield made


def call(
    service: Service,
    path: str = "/who",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = options.pop("transport", httpx.ASGITransport(app_of(service)))
        async with httpx.AsyncClient(transport=transport, base_url=service.issuer, **options) as http:
            return await http.request(method, path, headers=headers)

    return asyncio.run(ask())


# -- tokens -------------------------------------------------------------------------------------------------


def test_a_fake_issuer_is_let_in_for_what_it_asks(mesh: Mesh) -> None:
    """All that is granted where it asks for nothing special, else the part that it asks for."""
    wallets = mesh.service(WALLETS, callers=CALLERS)
    assert call(wallets, auth=mesh.as_caller(EDGE)).json() == [EDGE, CALLERS[EDGE], None]
    asked = call(wallets, auth=mesh.as_caller(EDGE, scopes=["cards:read"]))
    assert asked.json() == [EDGE, ["cards:read"], None]
    assert call(wallets, headers=mesh.headers(LEDGER)).json() == [LEDGER, [], None]


def test_a_fake_issuer_carries_users_as_far_as_it_may(mesh: Mesh) -> None:
    """`may_act_for` of the pair decides, as ever."""
    user = EndUser(issuer=LOGIN, subject="u1", expires_at=time.time() + 600)
    trust = mesh.trust(WALLETS, CALLERS, may_act_for=[LOGIN])
    mesh.assert_allowed(
        answer := call(mesh.service(WALLETS, trust=trust), auth=mesh.as_caller(EDGE, user=user))
    )
    assert answer.json()[2] == "u1"
    strict = mesh.service(LEDGER, callers={EDGE: []})
    refused = call(strict, auth=mesh.as_caller(EDGE, audience=LEDGER, user=user))
    mesh.assert_refused(refused, Reason.USER_NOT_GRANTED)
    with pytest.raises(UserExpired):
        mesh.token(EDGE, audience=WALLETS, user=EndUser(issuer=LOGIN, subject="u1", expires_at=1))


USERS = f"""
version = 1
[user_issuers."{LOGIN}"]
audiences = ["{WALLETS}"]
algorithms = ["Ed25519"]
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
may_act_for = ["{LOGIN}"]
[[route]]
audience = "{WALLETS}"
path = "/who"
methods = ["GET"]
user = "proven"
"""


def test_a_users_own_token_proves_the_user(mesh: Mesh) -> None:
    """On a route that wants it, and to `verify_user`; without it, or with another's, nobody is let in."""
    wallets = mesh.service(WALLETS, trust=TrustConfig.parse(USERS))
    token, theirs = mesh.user_token(LOGIN, "u1"), mesh.user_token(LOGIN, "u2", audience=WALLETS)
    assert wallets.verify_user(token).subject == "u1"
    user = EndUser(issuer=LOGIN, subject="u1", expires_at=mesh.clock() + 60, user_token=token)
    answer = call(wallets, auth=mesh.as_caller(EDGE, user=user))
    mesh.assert_allowed(answer)
    assert answer.json()[2] == "u1"
    bare = msgspec.structs.replace(user, user_token=None)
    mesh.assert_refused(call(wallets, auth=mesh.as_caller(EDGE, user=bare)), Reason.USER_UNPROVEN)
    wrong = msgspec.structs.replace(user, user_token=theirs)
    assert mesh.assert_refused(call(wallets, auth=mesh.as_caller(EDGE, user=wrong)))
    mesh.clock.forward(600)
    with pytest.raises(TokenRejected, match="expired"):
        wallets.verify_user(token)


def test_a_transaction_token_goes_along(mesh: Mesh) -> None:
    """In its own field."""
    user = EndUser(issuer=LOGIN, subject="u1", expires_at=mesh.clock() + 60, txn_token="t.x.n")
    assert mesh.headers(EDGE, audience=WALLETS, user=user)["txn-token"] == "t.x.n"


REFUSED: list[tuple[str, str | None]] = [
    ("token", None),
    ("expired", "expired"),
    ("forged", "bad_signature"),
    ("for_other_audience", "wrong_audience"),
]


@pytest.mark.parametrize(("kind", "reason"), REFUSED)
@pytest.mark.parametrize("scopes", [None, ["cards:read"]])
def test_a_bad_token_is_wrong_in_one_thing(
    mesh: Mesh, kind: str, reason: str | None, scopes: list[str] | None
) -> None:
    """The first is good; each other one is refused for the reason that its name says."""
    answer = call(
        mesh.service(WALLETS, callers=CALLERS), headers=bearer(getattr(mesh, kind)(EDGE, scopes=scopes))
    )
    if reason is None:
        mesh.assert_allowed(answer)
    else:
        assert mesh.assert_refused(answer, reason) is Reason(reason)


def test_claims_are_laid_over(mesh: Mesh) -> None:
    """Whatever they say; the signature holds, so the receiver finds that very thing."""
    wallets = mesh.service(WALLETS, callers=CALLERS)
    mesh.assert_refused(call(wallets, headers=mesh.headers(EDGE, jti="")), "bad_jti")
    mesh.assert_refused(call(wallets, headers=mesh.headers(EDGE, sub="u1")), "bad_subject")


def test_strangers_are_refused(mesh: Mesh) -> None:
    """Naming an issuer here grants it nothing."""
    wallets = mesh.service(WALLETS, callers=CALLERS)
    stranger = mesh.as_caller("https://stranger.example.com")
    mesh.assert_refused(call(wallets, auth=stranger), Reason.UNKNOWN_ISSUER)


def test_an_issuer_signs_with_what_the_receiver_accepts(mesh: Mesh) -> None:
    """RS256 only, says a trust file; the key is made once in a process, whoever asks first."""
    text = f'version = 1\n[issuers."{EDGE}"]\nalgorithms = ["RS256"]\n[[allow]]\nissuer = "{EDGE}"\n'
    trust = TrustConfig.parse(f'{text}audience = "{WALLETS}"\n')
    wallets = mesh.service(WALLETS, trust=trust)
    with wallets:
        for _ in range(2):
            mesh.assert_allowed(call(wallets, auth=mesh.as_caller(EDGE)))
    assert fake_key(EDGE, "RS256") is fake_key(EDGE, "RS256")


def test_what_nobody_could_sign_is_refused_at_once(mesh: Mesh) -> None:
    """No id, no scope, no audience: a ConfigError in the test, and no odd token."""
    with pytest.raises(ConfigError, match="0 services here: name the audience"):
        mesh.token(EDGE)
    mesh.service(WALLETS, audiences=["https://old.example.com"])
    assert mesh.token(EDGE)
    bads: list[dict[str, Any]] = [{"scopes": []}, {"audience": "wallets"}]
    for bad in bads:
        with pytest.raises(ConfigError):
            mesh.token(EDGE, **bad)
    with pytest.raises(ConfigError, match="service id"):
        mesh.token("edge")
    with pytest.raises(ConfigError, match="not both"):
        mesh.service(WALLETS, trust=mesh.trust(WALLETS, {}), callers={})
    with pytest.raises(ConfigError, match=r"mesh.trust\(\)"):
        mesh.trust(WALLETS, {"edge": []})


def test_a_caller_is_a_callable_that_any_client_takes(mesh: Mesh) -> None:
    """With `headers` for those that take none; each use is a new token."""
    caller = mesh.as_caller(EDGE, audience=WALLETS)
    assert isinstance(caller, Caller)
    request = caller(httpx.Request("GET", WALLETS))
    assert request.headers["authorization"].startswith("Bearer ")
    assert caller.headers != caller.headers


# -- the clock ----------------------------------------------------------------------------------------------


def test_time_passes_when_told(mesh: Mesh) -> None:
    """Tokens end, keys are renewed, and a new token is good again; also after hours and days."""
    wallets = mesh.service(WALLETS, callers=CALLERS)
    old = mesh.headers(EDGE)
    mesh.assert_allowed(call(wallets, headers=old))
    for seconds in (200, 3 * 3600, 40 * 86400):
        mesh.clock.forward(seconds)
        mesh.assert_refused(call(wallets, headers=old), Reason.EXPIRED)
        mesh.assert_allowed(call(wallets, headers=mesh.headers(EDGE)))


def test_time_stands_still_when_told(mesh: Mesh) -> None:
    """Here and now, or anywhere; it never runs backwards."""
    mesh.clock.freeze()
    assert mesh.clock() == mesh.clock()
    mesh.clock.freeze(NOW)
    mesh.clock.forward(5)
    assert mesh.clock() == NOW + 5
    mesh.clock.freeze()
    assert mesh.clock() == NOW + 5
    for bad in (-1, float("nan")):
        with pytest.raises(ConfigError, match="forward"):
            mesh.clock.forward(bad)


def test_freezegun_works_too(mesh: Mesh) -> None:
    """A clock that nobody moved is the real one, be it frozen."""
    with frozen():
        assert mesh.clock() == NOW


# -- services that call each other --------------------------------------------------------------------------


@pytest.mark.parametrize("proof", ["bearer", "wpt"])
def test_services_of_one_mesh_accept_each_other(mesh: Mesh, proof: str) -> None:
    """With their own rings, which nobody serves and nobody fetches."""
    rule = f'[[route]]\naudience = "{WALLETS}"\npath = "/who"\nmethods = ["GET"]\nproof = "{proof}"\n'
    text = f'version = 1\n[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n{rule}'
    wallets = mesh.service(WALLETS, trust=TrustConfig.parse(text))
    edge = mesh.service(EDGE)
    transport = edge.transport(WALLETS, proof=proof, inner=httpx.ASGITransport(app_of(wallets)))
    for seconds in (0, 90 * 86400):
        mesh.clock.forward(seconds)
        answer = call(wallets, transport=transport)
        mesh.assert_allowed(answer)
        assert answer.json()[0] == EDGE


def test_a_service_that_only_verifies(mesh: Mesh) -> None:
    """It accepts the fakes, and is asked for no key of its own."""
    wallets = mesh.service(WALLETS, callers=CALLERS, key_store=None)
    mesh.assert_allowed(call(wallets, auth=mesh.as_caller(EDGE)))
    ledger = mesh.service(LEDGER, callers={WALLETS: []})
    mesh.assert_allowed(call(ledger, auth=mesh.as_caller(WALLETS, audience=LEDGER)))


# -- the application's own service --------------------------------------------------------------------------


@pytest.fixture
def trust_file(tmp_path: Path) -> Path:
    path = tmp_path / "trust.toml"
    path.write_text(
        f'version = 1\n[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:write"]\n'
    )
    return path


@pytest.fixture
def service(trust_file: Path) -> Iterator[Service]:
    """As an application makes it: nobody answers at its key store, nor at its callers."""
    made = Service(
        issuer=WALLETS, trust=trust_file, key_store="redis://127.0.0.1:1", key_encryption_key="A" * 43
    )
    yield made
    made.__exit__()


def test_an_applications_own_service_accepts_the_fakes_for_a_while(mesh: Mesh, service: Service) -> None:
    """By its own trust file; started and stopped in between as often as need be."""
    app = httpx.ASGITransport(app_of(service))
    with mesh.accept_fake_issuers(service) as same:
        assert same is service
        for _ in range(2):
            with service:
                answer = call(service, "/write", method="PUT", auth=mesh.as_caller(EDGE), transport=app)
                mesh.assert_allowed(answer)
        mesh.assert_refused(call(service, auth=mesh.as_caller(LEDGER), transport=app), "unknown_issuer")
        service.load()
        assert service.ready


def accepted_only_meanwhile(mesh: Mesh, service: Service, before: Mapping[str, Any]) -> None:
    mesh.assert_allowed(call(service, auth=mesh.as_caller(EDGE)))
    assert all(getattr(service, name) is not part for name, part in before.items())
    mesh.assert_allowed(call(service, auth=mesh.as_caller(LEDGER)))


def test_afterwards_it_is_as_it_was(mesh: Mesh, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Part by part, and no fake issuer is let in; also where the block ends in an exception."""
    before = {name: getattr(service, name) for name in testing_._EXCHANGED}
    with pytest.raises(AssertionError, match="not allowed"), mesh.accept_fake_issuers(service):
        accepted_only_meanwhile(mesh, service, before)
    assert {name: getattr(service, name) for name in testing_._EXCHANGED} == before
    assert f"{WALLETS} accepts fake issuers from now on: this is for tests only" in caplog.text
    with pytest.raises(ConfigError, match="0 services"):
        mesh.token(EDGE)


def test_a_service_that_runs_goes_on_afterwards(mesh: Mesh, trust_file: Path) -> None:
    """With the parts that it had: its ring signs as before."""
    with Service(issuer=WALLETS, trust=trust_file, key_store="memory://") as service:
        runtime, token = service.running(), service.token(LEDGER)
        with mesh.accept_fake_issuers(service):
            assert service.running() is not runtime
            assert service.token(LEDGER) != token
        assert service.running() is runtime
        assert service.token(LEDGER) == token


def test_no_setting_leads_here() -> None:
    """Only code that imports the test kit can ask for it, and in the package that is the pytest plugin."""
    names = ("testing", "pytest_plugin", "movable_clock", "refusal_log", "fake_keys")
    kit = {f"s2s_mesh.{name}" for name in names}
    importers = {
        name: {other for other in imported(path, package_of(path)) if other in kit}
        for name, path in PATHS.items()
    }
    assert {name for name, others in importers.items() if others} == {"testing", "pytest_plugin"}
    assert not any("testing" in line for line in PATHS["settings"].read_text().splitlines())


def test_nothing_is_sent_and_nothing_written() -> None:
    """In a process that forbids both."""
    assert run_child(call_without_network) == "200 and 401"


def call_without_network() -> None:
    """In a process of its own, because an audit hook stays."""
    mesh = Mesh().__enter__()
    service = Service(
        issuer=WALLETS,
        trust=mesh.trust(WALLETS, CALLERS),
        key_store="redis://127.0.0.1:1",
        key_encryption_key="A" * 43,
    )

    def forbid(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
            raise PermissionError(event)
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            raise PermissionError(f"{event} {arguments}")

    sys.dont_write_bytecode = True
    sys.addaudithook(forbid)
    with mesh.accept_fake_issuers(service):
        statuses = [call(service, headers=headers).status_code for headers in (mesh.headers(EDGE), {})]
    mesh.__exit__()
    print(*statuses, sep=" and ")


# -- verdicts -----------------------------------------------------------------------------------------------


def test_a_verdict_that_does_not_hold_says_why(mesh: Mesh) -> None:
    """Another reason, no refusal at all, an answer of the application, a refusal that nobody logged."""
    wallets = mesh.service(WALLETS, callers=CALLERS)
    bare = call(wallets)
    assert mesh.assert_refused(bare) is Reason.NO_CREDENTIAL
    with pytest.raises(AssertionError, match="expected expired, but refused GET /who: no_credential"):
        mesh.assert_refused(bare, "expired")
    with pytest.raises(AssertionError, match="not allowed: 401: refused GET /who: no_credential"):
        mesh.assert_allowed(bare)
    good = mesh.as_caller(EDGE)
    with pytest.raises(AssertionError, match="not refused by the mesh: 200, an answer of the application"):
        mesh.assert_refused(call(wallets, auth=good))
    own = call(wallets, "/own", auth=good)
    with pytest.raises(AssertionError, match="not allowed: 403, an answer of the application"):
        mesh.assert_allowed(own)
    with pytest.raises(ValueError, match="no_reason"):
        mesh.assert_refused(bare, "no_reason")
    with Mesh() as other, pytest.raises(AssertionError, match=r"which is not in the log"):
        other.assert_refused(bare)
    assert [refused.reason for refused in mesh.refusals] == [Reason.NO_CREDENTIAL]


def test_a_missing_scope_is_a_refusal_too(mesh: Mesh) -> None:
    """Also where Starlette's `@requires` found it."""
    wallets = mesh.service(WALLETS, callers=CALLERS)
    answer = call(wallets, "/write", method="PUT", auth=mesh.as_caller(EDGE, scopes=["cards:read"]))
    mesh.assert_refused(answer, Reason.MISSING_SCOPE)


def test_the_log_is_as_it_was_before() -> None:
    """Level and handlers."""
    import logging

    logger = logging.getLogger("s2s_mesh.access")
    before = logger.level, list(logger.handlers)
    with Mesh():
        assert logger.isEnabledFor(logging.INFO)
    assert (logger.level, logger.handlers) == before


def test_a_flask_application_is_tested_alike(mesh: Mesh) -> None:
    """By Flask's own test client, with header fields."""
    wallets = mesh.service(WALLETS, callers=CALLERS)
    app = flask.Flask("wallets")

    @app.get("/who")
    def _who() -> str:
        return str(flask.g.principal.issuer)

    protect(app, wallets)
    client = app.test_client()
    answer = client.get("/who", headers=mesh.headers(EDGE))
    mesh.assert_allowed(answer)
    assert answer.text == EDGE
    expired = bearer(mesh.expired(EDGE))
    assert mesh.assert_refused(client.get("/who", headers=expired)) is Reason.EXPIRED


class WithData:
    status = 401

    def __init__(self, data: object) -> None:
        self.data = data


def test_responses_of_other_clients() -> None:
    """Of urllib3 and Flask, as of Starlette and Django; what is none is a TypeError."""
    problem = b'{"instance": "urn:uuid:1"}'
    assert (status_of(WithData(problem)), request_id(WithData(problem))) == (401, "1")
    assert request_id(Response(problem)) == "1"
    for body in (b"", b"[]", b"{}", b'{"instance": 5}', b'{"instance": "/x"}', "text"):
        assert request_id(WithData(body)) is None
    with pytest.raises(TypeError, match="object is no response"):
        status_of(object())


def test_the_plugin_is_cheap() -> None:
    """It loads none of the libraries behind the package: every pytest run of a user loads it."""
    loaded = loaded_after("import pytest, sys; before = set(sys.modules); import s2s_mesh.pytest_plugin")
    assert loaded.isdisjoint({"httpx", "starlette", "redis", "jwt", "jwcrypto", "cryptography", "msgspec"})


def test_an_asap_caller(mesh: Mesh) -> None:
    """Its fake key has the id that a key server would give it."""
    trust = TrustConfig.parse(
        'version = 1\n[foreign_issuers."team/batch"]\nprofile = "asap"\n'
        'asap_key_servers = ["https://asap-keys.example.com/"]\n'
        '[[subject]]\nissuer = "team/batch"\nsubject = "team/batch"\nservice = "https://batch.example.com"\n'
        f'[[allow]]\nissuer = "https://batch.example.com"\naudience = "{WALLETS}"\n'
    )
    service = mesh.service(WALLETS, trust=trust)
    principal = service.verify(mesh.foreign_token("team/batch", "team/batch"))
    assert (principal.issuer, principal.vouched_by) == ("https://batch.example.com", "team/batch")
    assert principal.kid.startswith("team/batch/")


def test_a_foreign_issuer_vouches_for_a_service(mesh: Mesh) -> None:
    """Its fake keys sign as the trust file has it; `typ` and claims may be others."""
    hub, caller = "https://hub.example.com/", "https://batch.example.com"
    trust = TrustConfig.parse(
        f'version = 1\n[foreign_issuers."{hub}"]\ntyp = ["JWT"]\nalgorithms = ["RS256"]\n'
        f'[[subject]]\nissuer = "{hub}"\nsubject = "batch"\nservice = "{caller}"\n'
        f'[[allow]]\nissuer = "{caller}"\naudience = "{WALLETS}"\n'
    )
    service = mesh.service(WALLETS, trust=trust)
    principal = service.verify(mesh.foreign_token(hub, "batch"))
    assert (principal.issuer, principal.vouched_by, principal.subject) == (caller, hub, "batch")
    for wrong in (
        mesh.foreign_token(hub, "other"),
        mesh.foreign_token(hub, "batch", typ="at+jwt"),
        mesh.foreign_token("https://nobody.example.com/", "batch"),
    ):
        with pytest.raises(TokenRejected):
            service.verify(wrong)


def test_a_spiffe_trust_domain_vouches_for_a_service(mesh: Mesh) -> None:
    """By SPIFFE ID; who is of another trust domain is not of this one."""
    domain, caller = "spiffe://example.org", "https://batch.example.com"
    trust = TrustConfig.parse(
        f'version = 1\n[foreign_issuers."{domain}"]\nprofile = "spiffe"\njwks_file = "bundle.json"\n'
        f'[[subject]]\nissuer = "{domain}"\nsubject = "{domain}/batch"\nservice = "{caller}"\n'
        f'[[allow]]\nissuer = "{caller}"\naudience = "{WALLETS}"\n'
    )
    service = mesh.service(WALLETS, trust=trust)
    principal = service.verify(mesh.foreign_token(domain, f"{domain}/batch"))
    assert (principal.issuer, principal.vouched_by) == (caller, domain)
    for sub in (f"{domain}/other", "spiffe://example.com/batch"):
        with pytest.raises(TokenRejected):
            service.verify(mesh.foreign_token(domain, sub))
