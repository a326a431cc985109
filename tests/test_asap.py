"""ASAP, one way: names, tokens for its receivers, and the files of keys that are served for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import litestar
import pytest
from jwcrypto.jwk import JWK
from starlette.applications import Starlette

from s2s_mesh import ConfigError, RotationSchedule, Service, ServiceId, TrustConfig
from s2s_mesh.asap import PEM, check_audience, check_issuer, is_path
from s2s_mesh.integrations import litestar as litestar_door
from s2s_mesh.integrations import wsgi as wsgi_door
from s2s_mesh.jws import decode
from s2s_mesh.keyring import KeyRing
from s2s_mesh.signer import Signer
from s2s_mesh.wellknown import JWKS, Answer, WellKnown

from .command_line import Terminal, make_terminal
from .tokens import EDGE, LOGIN, NOW, WALLETS, frozen, key

FIRST, SECOND = key("ES256", "first"), key("ES256", "second")
SCHEDULE = RotationSchedule.DEFAULT
ISSUER = "team/edge"
RECEIVER = "team/wallets"
KEYS = "/.well-known/asap-keys"
TRUST = "version = 1"
PROVIDER = f'\n[user_issuers."{LOGIN}"]\naudiences = ["{EDGE}"]\n'


def ring_at(now: float = NOW, alg: str = "ES256") -> KeyRing:
    """A ring that began at `now`."""
    keys = iter([key(alg, "first"), key(alg, "second")])
    return KeyRing(EDGE, SCHEDULE).advance(now, generate=lambda: next(keys))


def edge(**options: Any) -> Service:
    """Our service, which ASAP receivers know as `team/edge`."""
    arguments = {"issuer": EDGE, "trust": TrustConfig.parse(TRUST), "key_store": "memory://"}
    return Service(**{**arguments, "asap_issuer": ISSUER, **options})


# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["edge", "team/edge", "a.b-c_d+e/F/9", ".hidden/edge", "a" * 128])
def test_names_that_issuers_may_have(name: str) -> None:
    """Whatever their libraries let into the id of a key."""
    assert check_issuer(name) == name
    assert is_path(f"{name}/{FIRST.kid}")


BAD_NAMES = ["", "/edge", "edge/", "a//b", "a/./b", ".", "..", "a/../b", "a..b", "https://edge.example.com"]
MORE_BAD_NAMES = ["a b", "a%2fb", "a\\b", "édge", "a\n", "edge\n", "a?b", "a#b", "a" * 129]


@pytest.mark.parametrize("name", [*BAD_NAMES, *MORE_BAD_NAMES, None, 1])
def test_names_that_no_issuer_may_have(name: Any) -> None:
    """Whatever is no path in its shortest spelling, or that their libraries refuse."""
    with pytest.raises(ConfigError, match="is not an ASAP issuer: a name such as team/edge"):
        check_issuer(name)


@pytest.mark.parametrize("name", ["", "two words", "a\n", 'a"b', "a" * 257, None, ["team/wallets"]])
def test_names_that_no_audience_may_have(name: Any) -> None:
    """One name, and no list: a token is for one receiver."""
    assert check_audience(RECEIVER) == RECEIVER
    with pytest.raises(ConfigError, match="is not an ASAP audience"):
        check_audience(name)


# -- tokens ------------------------------------------------------------------------------------------------


def test_the_token() -> None:
    """As their own signer makes it: the kid is a path below the issuer, and `sub` is `iss`."""
    signer, ring = Signer(EDGE, life=120), ring_at()
    token = decode(signer.asap(ring, ISSUER, RECEIVER, NOW + 0.9).encode())
    assert (token.header.alg, token.header.typ) == ("ES256", "jwt")
    assert token.header.kid == f"{ISSUER}/{FIRST.kid}"
    assert {**token.claims, "jti": ""} == {
        "iss": ISSUER,
        "sub": ISSUER,
        "aud": RECEIVER,
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 120,
        "jti": "",
    }
    assert len(token.claims["jti"]) == 22
    assert FIRST.public.verify(token.signing_input, token.signature)


def test_a_token_is_handed_out_again_for_the_same_names_only() -> None:
    """Until it is due for renewal, its key signs no more, or a receiver refused it."""
    signer, ring = Signer(EDGE, life=120), ring_at()
    token = signer.asap(ring, ISSUER, RECEIVER, NOW)
    assert signer.asap(ring, ISSUER, RECEIVER, NOW + 59) == token
    assert signer.asap(ring, ISSUER, "team/ledger", NOW) != token
    assert signer.asap(ring, "team/other", RECEIVER, NOW) != token
    assert signer.asap(ring, ISSUER, RECEIVER, NOW + 97) != token
    kept = signer.asap(ring, ISSUER, RECEIVER, NOW + 97)
    signer.forget_asap(ISSUER, RECEIVER)
    assert signer.asap(ring, ISSUER, RECEIVER, NOW + 97) != kept
    revoked = ring.compromise(FIRST.kid, NOW)
    assert decode(signer.asap(revoked, ISSUER, RECEIVER, NOW + 97).encode()).header.kid.endswith(SECOND.kid)


def test_what_is_kept_is_bounded() -> None:
    """Nobody fills the memory with names."""
    signer, ring = Signer(EDGE, life=120), ring_at()
    first = signer.asap(ring, ISSUER, RECEIVER, NOW)
    for number in range(4096):
        signer.asap(ring, ISSUER, f"team/{number}", NOW)
    assert len(signer._asap_tokens) <= 4096
    assert signer.asap(ring, ISSUER, RECEIVER, NOW) != first


def test_an_algorithm_that_their_libraries_do_not_know() -> None:
    """It says so, and what to do, before anything is sent."""
    signer = Signer(EDGE, life=120)
    with pytest.raises(
        ConfigError, match="ASAP libraries know no Ed25519; set S2S_MESH_ALGORITHM to one of ES256"
    ):
        signer.asap(ring_at(alg="Ed25519"), ISSUER, RECEIVER, NOW)
    with pytest.raises(ConfigError, match=r"asap_issuer .*: ASAP libraries know no Ed25519"):
        edge(algorithm="Ed25519")


def test_an_asap_token_is_no_service_token() -> None:
    """Kept apart, and another type: neither is ever handed out for the other."""
    with edge() as service:
        service.serves_documents()
        asap, own = service.asap_token(WALLETS), service.token(WALLETS)
        assert decode(own.encode()).header.typ == "at+jwt"
        assert decode(asap.encode()).header.typ == "jwt"
        assert (service.asap_token(WALLETS), service.token(WALLETS)) == (asap, own)
        service.forget_asap_token(WALLETS)
        assert service.asap_token(WALLETS) != asap
        assert service.token(WALLETS) == own


@pytest.mark.parametrize("audience", [LOGIN, LOGIN.rstrip("/")])
def test_no_asap_token_is_made_out_to_an_identity_provider(audience: str) -> None:
    """There it could be a client assertion."""
    service = edge(trust=TrustConfig.parse(TRUST + PROVIDER))
    for mint in (service.asap_token, service.asap_auth):
        with pytest.raises(ConfigError, match="is an identity provider"):
            mint(audience)


@pytest.mark.parametrize("audience", ["sts.amazonaws.com", "api://AzureADTokenExchange"])
def test_no_asap_token_is_made_out_to_a_cloud(audience: str) -> None:
    """It would exchange it: an ASAP token is as plain a JWT as those that are made for it."""
    for mint in (edge().asap_token, edge().asap_auth):
        with pytest.raises(ConfigError, match="is an audience of"):
            mint(audience)


def test_no_asap_token_is_made_out_to_what_is_no_name() -> None:
    """Nor is anything sent."""
    for mint in (edge().asap_token, edge().asap_auth):
        with pytest.raises(ConfigError, match="is not an ASAP audience"):
            mint("team/wallets, team/ledger")


def test_the_name_at_hand() -> None:
    """The configured one, unless the call names another; without either there is no token."""
    with edge() as service, edge(asap_issuer=None) as nameless:
        assert decode(service.asap_token(RECEIVER).encode()).claims["iss"] == ISSUER
        other = decode(service.asap_token(RECEIVER, issuer="team/other").encode())
        assert (other.claims["iss"], other.header.kid.rpartition("/")[0]) == ("team/other", "team/other")
        with pytest.raises(ConfigError, match="set asap_issuer \\(S2S_MESH_ASAP_ISSUER\\), or pass issuer"):
            nameless.asap_token(RECEIVER)
        with pytest.raises(ConfigError, match="is not an ASAP issuer"):
            service.asap_token(RECEIVER, issuer=EDGE)


def test_the_environment() -> None:
    """S2S_MESH_ASAP_ISSUER; a bad one is named."""
    names = {"S2S_MESH_ISSUER": "http://127.0.0.1:8101", "S2S_MESH_KEY_STORE": "memory://"}
    options: Any = {"trust": TrustConfig.parse("version = 1"), "allow_loopback_http": True}
    service = Service.from_env({**names, "S2S_MESH_ASAP_ISSUER": ISSUER}, **options)
    assert service.settings.asap_issuer == ISSUER
    assert Service.from_env(names, **options).settings.asap_issuer is None
    with pytest.raises(
        ConfigError, match=r"asap_issuer \(S2S_MESH_ASAP_ISSUER\): '/x' is not an ASAP issuer"
    ):
        Service.from_env({**names, "S2S_MESH_ASAP_ISSUER": "/x"}, **options)


# -- calls -------------------------------------------------------------------------------------------------


def test_the_token_goes_to_the_receiver_and_nowhere_else() -> None:
    """A name that is no URL needs origins; a URL is its own."""
    with edge() as service:
        with pytest.raises(ConfigError, match="team/wallets is no URL: name in origins where it is reached"):
            service.asap_auth(RECEIVER)
        with pytest.raises(ConfigError, match="origins must be a list of URLs"):
            service.asap_auth(RECEIVER, origins="https://wallets.example.com")
        with pytest.raises(ConfigError, match="is plain http"):
            service.asap_auth(RECEIVER, origins=["http://wallets.internal"])
        here = "http://127.0.0.1:8000"
        sent = next(service.asap_auth(here).sync_auth_flow(httpx.Request("GET", here)))
        assert sent.headers["authorization"] == f"Bearer {service.asap_token(here)}"
        for auth in (service.asap_auth(RECEIVER, origins=[WALLETS]), service.asap_auth(WALLETS)):
            with pytest.raises(ConfigError, match="would carry its token elsewhere"):
                next(auth.sync_auth_flow(httpx.Request("GET", "https://evil.example.com/")))


class Door:
    """An ASAP receiver's answers: 401 with a bare challenge to the first tokens, then another."""

    def __init__(self, refused: int, then: int = 200) -> None:
        self.refused = refused
        self.then = then
        self.tokens: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.tokens.append(request.headers["authorization"])
        if len(self.tokens) <= self.refused:
            return httpx.Response(401, headers={"www-authenticate": "Bearer"})
        return httpx.Response(self.then)


@pytest.mark.parametrize(
    ("refused", "status", "sent"), [(0, 200, 1), (1, 200, 2), (9, 401, 2), (0, 403, 1), (0, 500, 1)]
)
def test_a_401_and_nothing_else_is_tried_once_more(refused: int, status: int, sent: int) -> None:
    """With a new token: their challenge never says that it was the token."""
    door = Door(refused, status)

    async def call_async(service: Service) -> int:
        auth = service.asap_auth(WALLETS)
        async with httpx.AsyncClient(transport=httpx.MockTransport(door), auth=auth) as http:
            return (await http.get(WALLETS)).status_code

    with edge() as service:
        with httpx.Client(transport=httpx.MockTransport(door), auth=service.asap_auth(WALLETS)) as http:
            assert http.get(WALLETS).status_code == status
        assert len(set(door.tokens)) == len(door.tokens) == sent
        door.tokens.clear()
        assert asyncio.run(call_async(service)) == status
        assert len(set(door.tokens)) == sent


# -- key files ---------------------------------------------------------------------------------------------


def well_known(issuer: str = EDGE, asap_issuer: str | None = ISSUER) -> WellKnown:
    """A replica's own instance."""
    return WellKnown(ServiceId.parse(issuer), SCHEDULE, asap_issuer=asap_issuer)


def get(
    kid: str,
    ring: KeyRing | None,
    now: float = NOW,
    *,
    served: WellKnown | None = None,
    method: str = "GET",
    etag: str | None = None,
) -> Answer:
    """Ask for a key's file."""
    document = f"{KEYS}/{kid}"
    return (served or well_known()).answer(document, ring, now, method=method, if_none_match=etag)


def test_a_key_file() -> None:
    """One public key in PEM, with the caching of the JWKS; HEAD and 304 as there."""
    path = f"{ISSUER}/{FIRST.kid}"
    answer = get(path, ring_at())
    jwks = well_known().answer(JWKS, ring_at(), NOW, method="GET")
    assert (answer.status, answer.headers["content-type"]) == (200, PEM)
    assert answer.headers["cache-control"] == jwks.headers["cache-control"] == "public, max-age=300"
    assert answer.body.startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert JWK.from_pem(answer.body).thumbprint() == FIRST.kid
    head = get(path, ring_at(), method="HEAD")
    assert (head.status, head.headers, head.body) == (200, answer.headers, b"")
    assert get(path, ring_at(), etag=answer.headers["etag"]).status == 304
    assert get(path, ring_at(), method="POST").status == 405
    other = get(f"{ISSUER}/{SECOND.kid}", ring_at())
    assert JWK.from_pem(other.body).thumbprint() == SECOND.kid


def test_only_keys_that_the_jwks_holds_now_have_a_file() -> None:
    """Revoked, removed, or unknown: 404 that no cache keeps; without a ring 503."""
    path, ring = f"{ISSUER}/{FIRST.kid}", ring_at()
    served = well_known()
    assert get(path, ring, served=served).status == 200
    gone = [
        get(path, ring.compromise(FIRST.kid, NOW), served=served),
        get(path, ring, ring.records[FIRST.kid].remove_at, served=served),
        get(f"{ISSUER}/{key('ES256', 'third').kid}", ring, served=served),
        get(f"team/other/{FIRST.kid}", ring, served=served),
        get(ISSUER, ring, served=served),
        get(path, ring, served=well_known(asap_issuer=None)),
    ]
    for answer in gone:
        assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")
        assert json.loads(answer.body)["status"] == 404
        assert "etag" not in answer.headers
    assert get(path, ring, served=served, now=ring.records[FIRST.kid].remove_at - 1).status == 200
    assert get(path, None).status == 503


def test_where_the_key_files_are() -> None:
    """Below the JWKS's own folder, for clean paths only, and nowhere for who did not ask for them."""
    kid = f"{ISSUER}/{FIRST.kid}"
    for served, folder in (
        (well_known(), KEYS),
        (well_known(f"{EDGE}/apis/edge"), f"/apis/edge{KEYS}"),
        (well_known(f"{EDGE}/apis/edge"), KEYS),
    ):
        assert served.document_at(f"{folder}/{kid}") == f"{KEYS}/{kid}"
        for path in ("", "/", "/../jwks.json", "/team//edge", "/team/./edge", "/team/%2e%2e", "/team/edge/"):
            assert served.document_at(folder + path) is None
    assert well_known().document_at(f"/other{KEYS}/{kid}") is None
    assert well_known(asap_issuer=None).document_at(f"{KEYS}/{kid}") is None
    assert well_known(asap_issuer=None).documents == WellKnown(ServiceId.parse(EDGE), SCHEDULE).documents


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only our own documents are asked for")


def _doors(service: Service) -> Iterator[tuple[str, httpx.AsyncBaseTransport | httpx.BaseTransport]]:
    yield "routes", httpx.ASGITransport(Starlette(routes=service.routes))
    yield "root_routes", httpx.ASGITransport(Starlette(routes=service.root_routes))
    behind = Starlette(routes=service.routes, middleware=[service.middleware])
    yield "middleware", httpx.ASGITransport(behind)
    yield "wrap", httpx.ASGITransport(service.wrap(_nothing))
    plugin = litestar_door.Protect(service)
    published: Any = litestar.Litestar([], plugins=[plugin], logging_config=None, openapi_config=None)
    yield "litestar", httpx.ASGITransport(published)
    yield "wsgi", httpx.WSGITransport(wsgi_door.protect(lambda _environ, _start: [], service))


@pytest.mark.parametrize("door", ["routes", "root_routes", "middleware", "wrap", "litestar", "wsgi"])
def test_every_door_serves_the_key_files(door: str) -> None:
    """Without a token, beside the JWKS; a key that there is not is 404."""
    service = edge()
    transport = dict(_doors(service))[door]

    async def ask(path: str) -> httpx.Response:
        if isinstance(transport, httpx.BaseTransport):
            return httpx.Client(transport=transport, base_url=EDGE).get(path)
        async with httpx.AsyncClient(transport=transport, base_url=EDGE) as http:
            return await http.get(path)

    with frozen(), service:
        token = decode(service.asap_token(RECEIVER).encode())
        found = asyncio.run(ask(f"{KEYS}/{token.header.kid}"))
        assert (found.status_code, found.headers["content-type"]) == (200, PEM)
        assert token.header.kid == f"{ISSUER}/{JWK.from_pem(found.content).thumbprint()}"
        assert asyncio.run(ask(f"{KEYS}/{ISSUER}/unknown")).status_code == 404


# -- the command line --------------------------------------------------------------------------------------


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A shell with a ring."""
    made = make_terminal(tmp_path, monkeypatch)
    made.create_ring(S2S_MESH_ASAP_ISSUER=ISSUER)
    return made


def test_serve_has_the_key_files(terminal: Terminal) -> None:
    """`s2s-mesh serve` too, for a service without a web side."""
    with terminal.server("serve") as server:
        for entry in httpx.get(server.url + JWKS).json()["keys"]:
            answer = httpx.get(f"{server.url}{KEYS}/{ISSUER}/{entry['kid']}")
            assert (answer.status_code, answer.headers["content-type"]) == (200, PEM)
            assert JWK.from_pem(answer.content).thumbprint() == entry["kid"]
        assert httpx.get(f"{server.url}{KEYS}/{ISSUER}/unknown").status_code == 404


def test_a_folder_for_a_static_key_server(terminal: Terminal) -> None:
    """A file per published key; keys of ours that are published no more go, other files stay."""
    command = ("keys", "export-public", "--asap", "key-server")
    done = terminal.call(*command)
    place = terminal.folder / "key-server/team/edge"
    kids = {path.name for path in place.iterdir()}
    assert done.stdout == f"wrote {len(kids)} public keys to key-server/team/edge, removed 0\n"
    for path in place.iterdir():
        assert JWK.from_pem(path.read_bytes()).thumbprint() == path.name
        assert path.read_text().startswith("-----BEGIN PUBLIC KEY-----\n")
    old = key("ES256", "third")
    (place / old.kid).write_text(old.public.to_pem())
    (place / "by-hand.pem").write_text("of somebody else")
    assert terminal.call(*command).stdout.endswith(", removed 1\n")
    assert {path.name for path in place.iterdir()} == kids | {"by-hand.pem"}
    (terminal.folder / "taken").write_text("")
    assert "cannot be written" in terminal.call("keys", "export-public", "--asap", "taken").stderr
    for other in (["--pem"], ["--output", "keys.json"], ["--for", "gcp"]):
        refused = terminal.call(*command, *other)
        assert (refused.exit_code, "leave --pem, --output and --for out" in refused.stderr) == (2, True)
    del terminal.environment["S2S_MESH_ASAP_ISSUER"]
    refused = terminal.call(*command)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("S2S_MESH_ASAP_ISSUER is not set")
