"""Proof over real HTTP, both ends: httpx sends it, uvicorn's application demands it, thieves gain nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from s2s_mesh import ConfigError, EndUser, KeyStoreError, NoUser, Service, UserExpired
from s2s_mesh.httpx_transport import MeshTransport
from s2s_mesh.jws import decode, token_hash

from .certifying import client
from .programs import http_server
from .servers import free_port, run_child
from .targets import CLIENT, Target, serving
from .test_httpx_auth import INVALID_TOKEN, Failing
from .tokens import EDGE, WALLETS

FIELDS = ("authorization", "workload-identity-token", "workload-proof-token")
TRUST = """
version = 1
[defaults]
allow_loopback_http = true
[[allow]]
issuer = "{edge}"
audience = "{wallets}"
scopes = ["cards:read", "cards:write"]
[[route]]
audience = "{wallets}"
path = "/cards/{{id}}"
methods = ["GET", "PUT"]
scopes = ["cards:write"]
proof = "wpt"
[[route]]
audience = "{wallets}"
path = "/plain"
methods = ["GET"]
"""

Headers = list[tuple[bytes, bytes]]


class Mesh:
    """Edge and wallets, each behind a uvicorn of its own.

    Attributes:
        captured: field lines of each request that reached wallets, as they came over the wire.
    """

    def __init__(self, folder: Path) -> None:
        ports = free_port(), free_port()
        self.edge_url, self.wallets_url = (f"http://127.0.0.1:{port}" for port in ports)
        file = folder / "trust.toml"
        file.write_text(TRUST.format(edge=self.edge_url, wallets=self.wallets_url))
        self.edge = Service(issuer=self.edge_url, trust=file, key_store="memory://")
        self.wallets = Service(issuer=self.wallets_url, trust=file, key_store="memory://")
        self.captured: list[Headers] = []
        self._ports = ports

    @property
    def apps(self) -> Iterator[tuple[Any, int]]:
        async def answer(request: Request) -> JSONResponse:
            body = await request.body()
            return JSONResponse({"caller": request.user.issuer, "body": body.decode()})

        wallets = Starlette(
            routes=[
                Route("/cards/{id}", answer, methods=["GET", "PUT"]),
                Route("/wallets/{wallet_id}/card", answer, methods=["PUT"]),
                Route("/plain", answer),
            ],
            middleware=[self.wallets.middleware],
            lifespan=self.wallets.lifespan,
        )

        async def capturing(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.captured.append(list(scope["headers"]))
            await wallets(scope, receive, send)

        yield Starlette(routes=self.edge.routes, lifespan=self.edge.lifespan), self._ports[0]
        yield capturing, self._ports[1]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    made = Mesh(tmp_path_factory.mktemp("mesh"))
    (edge, edge_port), (wallets, wallets_port) = made.apps
    with http_server(edge, edge_port), http_server(wallets, wallets_port):
        yield made


Send = Callable[..., httpx.Response]


def send_sync(transport: Any, method: str, url: str, *, follow: bool = False, **more: Any) -> httpx.Response:
    with httpx.Client(transport=transport, follow_redirects=follow) as http:
        return http.request(method, url, **more)


def send_async(transport: Any, method: str, url: str, *, follow: bool = False, **more: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, follow_redirects=follow) as http:
            return await http.request(method, url, **more)

    return asyncio.run(ask())


@pytest.fixture(params=[send_sync, send_async], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Send:
    chosen: Send = request.param
    return chosen


@pytest.fixture
def target() -> Iterator[Target]:
    with serving() as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Target]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    from .test_httpx_auth import TRUST as NOBODY

    with Service(issuer=EDGE, trust=NOBODY, key_store="memory://") as running:
        yield running


def proof_of(fields: Headers) -> list[str]:
    return [value.decode() for name, value in fields if name.decode() in FIELDS]


# -- both ends -----------------------------------------------------------------------------------------------


def test_a_proved_call_is_let_in(send: Send, mesh: Mesh) -> None:
    """A plain token is not; each request has a proof of its own, with one WIT and one access token."""
    url = f"{mesh.wallets_url}/cards/42"
    plain = httpx.put(url, auth=mesh.edge.auth(mesh.wallets_url), **CLIENT)
    assert plain.status_code == 401
    mesh.captured.clear()
    for number in range(3):
        answer = send(mesh.edge.transport(mesh.wallets_url), "PUT", f"{url}?n={number}", content=b"five")
        assert answer.json() == {"caller": mesh.edge_url, "body": "five"}
    sent = [dict(fields) for fields in mesh.captured]
    names = [name.encode() for name in FIELDS]
    access, identity, proofs = ({fields[name] for fields in sent} for name in names)
    assert (len(access), len(identity), len(proofs)) == (1, 1, 3)


def test_a_proved_call_is_also_let_in_where_none_is_wanted(send: Send, mesh: Mesh) -> None:
    """One client serves all routes of its audience."""
    assert send(mesh.edge.transport(mesh.wallets_url), "GET", f"{mesh.wallets_url}/plain").status_code == 200


def test_a_captured_request_is_of_no_use(send: Send, mesh: Mesh) -> None:
    """Byte for byte on the same route; on another path, with another method; with the stolen tokens alone."""
    url = f"{mesh.wallets_url}/cards/42"
    mesh.captured.clear()
    assert send(mesh.edge.transport(mesh.wallets_url), "PUT", url, content=b"five").status_code == 200
    (fields,) = mesh.captured
    for method, where in (("PUT", url), ("PUT", f"{mesh.wallets_url}/cards/43"), ("GET", url)):
        stolen = httpx.request(method, where, headers=fields, content=b"five", **CLIENT)
        assert (stolen.status_code, "www-authenticate" in stolen.headers) == (400, False)
        assert stolen.headers["content-type"] == "application/problem+json"
    alone = [(name, value) for name, value in fields if name == b"authorization"]
    for where in (url, f"{mesh.wallets_url}/plain"):
        assert httpx.get(where, headers=alone, **CLIENT).status_code == 401


def test_stolen_tokens_are_useless_with_another_key(mesh: Mesh, tmp_path: Path) -> None:
    """A thief who is a service too, and proves with a key and a WIT of its own, is not the caller."""
    url = f"{mesh.wallets_url}/cards/42"
    mesh.captured.clear()
    send_sync(mesh.edge.transport(mesh.wallets_url), "PUT", url)
    stolen = dict(mesh.captured[0])
    trust = tmp_path / "trust.toml"
    trust.write_text("version = 1\n[defaults]\nallow_loopback_http = true\n")
    with Service(issuer=EDGE, trust=trust, key_store="memory://") as thief:
        own = thief.running().prove(mesh.wallets.issuer, None, "PUT", b"/cards/42")
    access, identity = stolen[b"authorization"].decode(), stolen[b"workload-identity-token"].decode()
    for wit, wpt in ((own.wit, own.wpt), (identity, own.wpt)):
        fields = dict(zip(FIELDS, (access, wit, wpt), strict=True))
        assert httpx.put(url, headers=fields, **CLIENT).status_code == 400


# -- what is sent --------------------------------------------------------------------------------------------


def test_what_is_sent(send: Send, service: Service, target: Target) -> None:
    """The access token is bound to the key that the WIT names; the proof covers both, method and path."""
    transport = service.transport(target.url, scopes=["cards:write"])
    headers = {"Authorization": "Basic x", "Workload-Proof-Token": "old", "X-Other": "kept"}
    send(transport, "PUT", f"{target.url}/a%20b?c=d", content=b"x", headers=headers)
    (request,) = target.seen
    scheme, _, access = request.fields["authorization"].partition(" ")
    identity, proof = (request.fields[name] for name in FIELDS[1:])
    bound, named = decode(access.encode()).claims, decode(identity.encode())
    proved = decode(proof.encode(), with_kid=False)
    assert scheme == "Bearer"
    assert bound["scope"] == "cards:write"
    assert list(bound["cnf"]) == ["jkt"]
    assert named.header.typ == "wit+jwt"
    assert named.claims["iss"] == named.claims["sub"] == EDGE
    assert "aud" not in named.claims
    assert set(named.claims["cnf"]["jwk"]) == {"kty", "crv", "x", "y", "alg"}
    assert named.claims["exp"] - named.claims["iat"] <= 3600
    assert proved.claims["aud"] == f"{target.url}/a%20b"
    assert proved.claims["htm"] == "PUT"
    assert proved.claims["wth"] == token_hash(identity.encode())
    assert proved.claims["ath"] == token_hash(access.encode())
    assert (request.fields["x-other"], request.body) == ("kept", b"x")


def test_a_private_address_is_proved_by_its_public_name(send: Send, service: Service, target: Target) -> None:
    """The receiver knows its identity, not the address at which somebody reached it."""
    transport = service.transport("https://wallets.example.com", origins=[target.url])
    send(transport, "GET", f"{target.url}/x")
    proof = decode(target.seen[0].fields["workload-proof-token"].encode(), with_kid=False)
    assert proof.claims["aud"] == "https://wallets.example.com/x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_carries_nothing(
    send: Send, service: Service, target: Target, elsewhere: Target, status: int
) -> None:
    """None of the three fields; nor does what the other server redirects back: it shall choose no request."""
    target.answers = [(status, {"location": f"{elsewhere.url}/there"})]
    elsewhere.answers = [(307, {"location": f"{target.url}/back"})]
    assert send(service.transport(target.url), "GET", target.url, follow=True).status_code == 200
    assert [request.path for request in elsewhere.seen] == ["/there"]
    assert elsewhere.seen[0].names.isdisjoint(FIELDS)
    first, back = target.seen
    assert set(FIELDS) <= first.names
    assert (back.path, back.names & set(FIELDS)) == ("/back", set())


def test_a_redirect_within_the_audience_is_proved_anew(send: Send, service: Service, target: Target) -> None:
    """It is the same service at another path."""
    target.answers = [(307, {"location": "/new"})]
    send(service.transport(target.url), "PUT", f"{target.url}/old", follow=True, content=b"x")
    proofs = [decode(seen.fields["workload-proof-token"].encode(), with_kid=False) for seen in target.seen]
    assert [proof.claims["aud"] for proof in proofs] == [f"{target.url}/old", f"{target.url}/new"]


def test_a_prefix_binds_the_redirects_too(send: Send, service: Service, target: Target) -> None:
    """Another service behind the same host gets nothing."""
    target.answers = [(307, {"location": "/ledger"})]
    send(service.transport(f"{target.url}/wallets"), "GET", f"{target.url}/wallets/1", follow=True)
    assert [set(FIELDS) <= request.names for request in target.seen] == [True, False]
    assert target.seen[1].names.isdisjoint(FIELDS)


def test_another_origin_is_refused_before_anything_is_sent(
    send: Send, service: Service, target: Target, elsewhere: Target
) -> None:
    """On the first hop, which nobody but this program chose."""
    with pytest.raises(ConfigError, match="this transport is for http://127") as refusal:
        send(service.transport(target.url), "GET", elsewhere.url, params={"secret": "in the query"})
    assert "secret" not in str(refusal.value)
    assert target.seen == elsewhere.seen == []


def test_a_path_that_no_receiver_lets_in_is_not_sent(send: Send, service: Service, target: Target) -> None:
    """It could be read in two ways, so it cannot be proved."""
    with pytest.raises(ConfigError, match="two ways"):
        send(service.transport(target.url), "GET", f"{target.url}/a%2Fb")
    assert target.seen == []


def test_a_refused_token_is_replaced_once(send: Send, service: Service, target: Target) -> None:
    """As with plain tokens; the proof is new in any case, and no proof is sent twice."""
    target.answers = [(401, {"www-authenticate": INVALID_TOKEN})] * 2
    answer = send(service.transport(target.url), "PUT", target.url, content=b"x")
    assert answer.status_code == 401
    assert [request.body for request in target.seen] == [b"x"] * 2
    assert len({request.fields["authorization"] for request in target.seen}) == 2
    assert len({request.fields["workload-proof-token"] for request in target.seen}) == 2
    target.answers = [(400, {})]
    assert send(service.transport(target.url), "PUT", target.url).status_code == 400
    assert len(target.seen) == 3


def test_once_is_a_new_token_for_each_request(send: Send, service: Service, target: Target) -> None:
    """For routes that want both."""
    for _ in range(2):
        send(service.transport(target.url, once=True), "GET", target.url)
    assert len({request.fields["authorization"] for request in target.seen}) == 2


def test_without_a_ring_nothing_is_sent(send: Send, target: Target) -> None:
    """The caller gets the store's error."""
    from .test_httpx_auth import calling

    service = calling(Failing())
    try:
        with pytest.raises(KeyStoreError, match="nobody answers"):
            send(service.transport(target.url), "GET", target.url)
        assert target.seen == []
    finally:
        service.__exit__()


# -- on behalf of a user -------------------------------------------------------------------------------------

EVIDENCE = ("s2s-user-token", "txn-token")
USER = EndUser(
    issuer="https://login.example.com/",
    subject="u1",
    expires_at=9e9,
    user_token="u.s.er",
    txn_token="t.x.n",
)


@pytest.mark.parametrize("proof", ["wpt", "bearer"])
def test_evidence_of_a_user_travels_beside_the_token_and_is_bound_to_it(
    send: Send, service: Service, target: Target, proof: str
) -> None:
    """Unmodified, in fields of its own; its hash is in the access token and in the proof, if there is one."""
    transport = service.transport(target.url, proof=proof, on_behalf_of=USER)
    send(transport, "GET", f"{target.url}/x", headers={"Txn-Token": "another", "S2S-User-Token": "another"})
    (request,) = target.seen
    assert [request.fields[name] for name in EVIDENCE] == ["u.s.er", "t.x.n"]
    access = decode(request.fields["authorization"].removeprefix("Bearer ").encode()).claims
    bound = {"tth": token_hash(b"t.x.n"), "oth": {"s2s-user-token": token_hash(b"u.s.er")}}
    assert bound.items() <= access.items()
    assert access["sub"] == "u1"
    assert ("cnf" in access) is (proof == "wpt")
    assert {"workload-identity-token", "workload-proof-token"}.isdisjoint(request.names) is (proof != "wpt")
    if proof == "wpt":
        proved = decode(request.fields["workload-proof-token"].encode(), with_kid=False)
        assert bound.items() <= proved.claims.items()


@pytest.mark.parametrize("proof", ["wpt", "bearer"])
def test_evidence_of_a_user_goes_to_the_audience_alone(
    send: Send, service: Service, target: Target, elsewhere: Target, proof: str
) -> None:
    """Neither to where a redirect leads, nor on the way back; to another path of the audience it does."""
    transport = service.transport(target.url, proof=proof, on_behalf_of=USER)
    target.answers = [(307, {"location": "/new"}), (307, {"location": f"{elsewhere.url}/there"})]
    elsewhere.answers = [(307, {"location": f"{target.url}/back"})]
    by_hand = dict.fromkeys(EVIDENCE, "set.by.hand")  # would follow the redirects
    send(transport, "GET", target.url, follow=True, headers=by_hand)
    assert elsewhere.seen[0].names.isdisjoint({*FIELDS, *EVIDENCE})
    assert [set(EVIDENCE) <= request.names for request in target.seen] == [True, True, False]
    assert target.seen[-1].names.isdisjoint({*FIELDS, *EVIDENCE})


BASIC = httpx.BasicAuth("ledger", "old").auth_flow(httpx.Request("GET", EDGE))
OLD = {"authorization": next(BASIC).headers["authorization"]}


@pytest.mark.parametrize("proof", ["wpt", "bearer"])
def test_a_token_in_a_field_of_its_own_leaves_an_old_credential_alone(
    send: Send, service: Service, target: Target, elsewhere: Target, proof: str
) -> None:
    """Both travel to the audience; elsewhere goes neither, and the old one was never ours to send again."""
    transport = service.transport(target.url, proof=proof, field="Workload-Authorization")
    target.answers = [(307, {"location": "/new"}), (307, {"location": f"{elsewhere.url}/there"})]
    elsewhere.answers = [(307, {"location": f"{target.url}/back"})]
    by_hand = {"workload-authorization": "Bearer set.by.hand"}  # would follow the redirects
    send(transport, "GET", target.url, follow=True, headers={**OLD, **by_hand})
    for request in target.seen[:2]:
        assert request.fields["authorization"] == OLD["authorization"]
        token = request.fields["workload-authorization"].removeprefix("Bearer ")
        assert decode(token.encode()).claims["aud"] == target.url
    away, back = elsewhere.seen[0], target.seen[2]
    for request in (away, back):
        assert request.names.isdisjoint({"workload-authorization", *FIELDS, *EVIDENCE})


@pytest.mark.parametrize("field", ["", "X_Token", "Cookie", "Workload-Proof-Token", "a:b"])
def test_a_field_that_means_something_else_is_refused(service: Service, target: Target, field: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match=r"^field is "):
        service.transport(target.url, field=field)


def test_plain_authentication_carries_a_user_without_evidence(service: Service, target: Target) -> None:
    """`service.auth` writes Authorization only, and binds its token to nothing else."""
    with httpx.Client(auth=service.auth(target.url, on_behalf_of=USER), **CLIENT) as http:
        http.get(target.url)
    (request,) = target.seen
    access = decode(request.fields["authorization"].removeprefix("Bearer ").encode()).claims
    assert access["sub"] == "u1"
    assert access.keys().isdisjoint({"oth", "tth"})
    assert request.names.isdisjoint(EVIDENCE)


@pytest.mark.parametrize("proof", ["wpt", "bearer"])
def test_nothing_is_sent_for_a_user_that_has_expired(
    send: Send, service: Service, target: Target, proof: str
) -> None:
    """A client may live longer than what is known of its user."""
    expired = msgspec.structs.replace(USER, expires_at=1)
    with pytest.raises(UserExpired):
        send(service.transport(target.url, proof=proof, on_behalf_of=expired), "GET", target.url)
    with (
        pytest.raises(UserExpired),
        httpx.Client(auth=service.auth(target.url, on_behalf_of=expired), **CLIENT) as http,
    ):
        http.get(target.url)
    with pytest.raises(NoUser):
        service.transport(target.url, proof=proof, on_behalf_of=None)
    assert target.seen == []


@pytest.mark.parametrize("proof", ["wpt", "bearer"])
def test_a_refused_token_of_a_user_is_replaced_once(
    send: Send, service: Service, target: Target, proof: str
) -> None:
    """As any other."""
    transport = service.transport(target.url, proof=proof, on_behalf_of=USER)
    send(transport, "GET", target.url)
    target.answers = [(401, {"www-authenticate": INVALID_TOKEN})]
    send(service.transport(target.url, proof=proof, on_behalf_of=USER), "GET", target.url)
    kept, refused, fresh = (request.fields["authorization"] for request in target.seen)
    assert kept == refused != fresh


@pytest.mark.parametrize("proof", ["Bearer", "dpop", "", None])
def test_another_proof_is_refused(service: Service, proof: Any) -> None:
    """Before anything is sent without one."""
    with pytest.raises(ConfigError, match="expected 'wpt', 'mtls' or 'bearer'"):
        service.transport("https://wallets.example.com", proof=proof)


def test_an_inner_transport_must_fit_its_client(service: Service) -> None:
    """One for async clients cannot serve a sync one."""

    class AsyncOnly(httpx.AsyncBaseTransport):
        pass

    class SyncOnly(httpx.BaseTransport):
        pass

    url = "https://wallets.example.com"
    with pytest.raises(ConfigError, match=r"httpx\.AsyncClient only"):
        send_sync(service.transport(url, inner=AsyncOnly()), "GET", url)
    with pytest.raises(ConfigError, match=r"httpx\.Client only"):
        send_async(service.transport(url, inner=SyncOnly()), "GET", url)


def test_the_transport_is_a_method_of_the_service(service: Service) -> None:
    """And shows nothing of what it holds."""
    made = service.transport("https://wallets.example.com")
    assert isinstance(made, MeshTransport)
    assert "key" not in repr(made).lower()


# -- processes -----------------------------------------------------------------------------------------------


def two_keys() -> None:
    """Prove in a process, and in a child that was forked from it."""
    trust = Path(os.environ["PYTEST_TRUST"])
    service = Service(issuer=EDGE, trust=trust, key_store="memory://")
    _ = service.routes
    audience = service.settings.check_audience("https://wallets.example.com")

    def thumbprint() -> str:
        return service.running().prove(audience, None, "GET", b"/").confirmation.thumbprint

    own = thumbprint()
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, thumbprint().encode())
        os._exit(0)
    os.wait()
    print(own == thumbprint(), os.read(reader, 100).decode() not in ("", own))


def test_a_forked_process_has_a_key_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes never share a proof key, and one keeps its own."""
    (tmp_path / "trust.toml").write_text("version = 1\n")
    monkeypatch.setenv("PYTEST_TRUST", str(tmp_path / "trust.toml"))
    assert run_child(two_keys) == "True True"


class Closed(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers 200, and knows whether it is closed."""

    closed = False

    def handle_request(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200)

    async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200)

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("loop", [False, True], ids=["sync", "async"])
def test_connections_of_the_certificate_before_the_last_are_closed(
    service: Service, loop: bool, tmp_path: Path
) -> None:
    """Once the next request is sent; and all of them with the client."""
    made: list[Closed] = []

    def inner() -> Closed:
        made.append(Closed())
        return made[-1]

    names = [client(name) for name in ("first", "second", "third")]
    path, _ = names[0].write(tmp_path)
    transport = service.transport(WALLETS, proof="mtls", certificate=path, inner=inner)

    async def send() -> None:
        async with httpx.AsyncClient(transport=transport) as http:
            for renewed in names:
                renewed.write(tmp_path)
                await http.get(WALLETS)
            assert [each.closed for each in made] == [True, False, False]

    if loop:
        asyncio.run(send())
    else:
        with httpx.Client(transport=transport) as http:
            for renewed in names:
                renewed.write(tmp_path)
                http.get(WALLETS)
            assert [each.closed for each in made] == [True, False, False]
    assert [each.closed for each in made] == [True] * 3


# -- the docs ------------------------------------------------------------------------------------------------


def test_the_docs_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """docs/proof.md: the route and the caller, with loopback names."""
    from .docs_snippets import snippets

    made = Mesh(tmp_path)
    (row,), (code,) = snippets("docs/proof.md", "toml"), snippets("docs/proof.md", "python")
    wallets = "https://wallets.example.com"
    head = TRUST.partition("[[route]]")[0].format(edge=made.edge_url, wallets=made.wallets_url)
    (tmp_path / "trust.toml").write_text(head + row.replace(wallets, made.wallets_url))
    for name, service in (("edge", made.edge), ("wallets", made.wallets)):
        setattr(
            made, name, Service(issuer=service.issuer, trust=tmp_path / "trust.toml", key_store="memory://")
        )
    monkeypatch.setattr(Service, "from_env", lambda: made.edge)
    (edge, edge_port), (app, port) = made.apps
    with http_server(edge, edge_port), http_server(app, port):
        plain = httpx.put(
            f"{made.wallets_url}/wallets/42/card", auth=made.edge.auth(made.wallets_url), **CLIENT
        )
        exec(compile(code.replace(wallets, made.wallets_url), "docs/proof.md", "exec"), {})
    assert plain.status_code == 401
    assert capsys.readouterr().out == "200\n"
