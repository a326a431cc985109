"""Every door, on a real server, gives the same verdicts: one suite for all frameworks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s2s_mesh.errors import Reason
from s2s_mesh.spiffe_bundle import DOCUMENT as BUNDLE
from s2s_mesh.wellknown import JWKS

from . import stands_asgi, stands_grpc, stands_wsgi
from .hostile import rows
from .migrating import KEY, X_API_KEY
from .proving import access_token, wit, wpt
from .proving import fields as proof_fields
from .stands import Stand, Verdict, service_of, with_log
from .tokens import EDGE, LEDGER, NOW, WALLETS, carrying, good, key

R = Reason
GOOD = good()
REALM = f'Bearer realm="{WALLETS}"'
SITES = {**stands_wsgi.STANDS, **stands_asgi.STANDS}
ROUTES_FIRST = {"Litestar"}  # finds the route, or none, before anybody is asked
# on Python's http.server, which makes one slash of several at the start
ONE_SLASH = {"WSGI on werkzeug", "WSGI on wsgiref", "Flask", "Django"}


def of(issuer: str) -> bytes:
    """A token of another issuer, signed with edge's key."""
    return good(iss=issuer, sub=issuer, client_id=issuer)


@pytest.fixture(scope="module", autouse=True)
def log() -> Iterator[None]:
    with with_log():
        yield


@contextmanager
def standing(name: str, folder: Path) -> Iterator[Stand]:
    """One of them, as long as the block."""
    if name in SITES:
        kind, serve, service = Stand, SITES[name], service_of(folder)
    else:
        kind, serve = stands_grpc.Calls, stands_grpc.STANDS[name]
        service = service_of(folder, prefix=kind.prefix, methods=["POST"])
    with service, serve(service) as port:
        yield kind(name, port)


@pytest.fixture(scope="module", params=[*SITES, *stands_grpc.STANDS])
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(request.param, tmp_path_factory.mktemp("stand")) as made:
        yield made


@pytest.fixture(scope="module", params=list(SITES))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(request.param, tmp_path_factory.mktemp("site")) as made:
        yield made


def verdict(got: Verdict) -> tuple[int, str | None]:
    return got.status, got.reason


TABLE: list[tuple[str, str, bytes | None, int, Reason | None]] = [
    ("a good token", "read", GOOD, 200, None),
    ("no token", "read", None, 401, R.NO_CREDENTIAL),
    ("no token, on a path that does not exist", "nothing", None, 401, R.NO_CREDENTIAL),
    ("for another audience", "read", good(aud=LEDGER), 401, R.WRONG_AUDIENCE),
    ("expired", "read", good(iat=NOW - 400, exp=NOW - 300), 401, R.EXPIRED),
    ("of an unknown issuer", "read", of("https://x.example.com"), 401, R.UNKNOWN_ISSUER),
    ("signed by another key", "read", good(key(name="second")), 401, R.UNKNOWN_KID),
    ("no token at all", "read", b"abc", 401, R.NOT_A_COMPACT_JWS),
    ("not one credential", "read", GOOD + b", Basic eDp5", 400, R.MALFORMED_HEADER),
    ("of an issuer whose keys cannot be had", "read", of(LEDGER), 503, R.JWKS_UNAVAILABLE),
    ("without the scope of the rule", "cards/7", good(scope="cards:read"), 403, R.MISSING_SCOPE),
    ("without the scope of the endpoint", "write", good(scope="cards:read"), 403, R.MISSING_SCOPE),
    ("on a path without a rule", "nothing", GOOD, 403, R.NO_ROUTE_RULE),
    ("for no user, where one is wanted", "user", GOOD, 403, R.USER_REQUIRED),
    ("without proof, where it is wanted", "proved", GOOD, 401, R.PROOF_MISSING),
    ("a bad token on a public path", "open", b"abc", 401, R.NOT_A_COMPACT_JWS),
    ("no token, where a public endpoint wants a scope", "open/write", None, 401, R.NO_CREDENTIAL),
]


@pytest.mark.parametrize(("name", "token", "status", "reason"), rows(TABLE))
def test_who_may_not_call_is_refused_and_the_log_says_why(
    stand: Stand, name: str, token: bytes | None, status: int, reason: Reason | None
) -> None:
    """The same answer from every door: problem details, never to be kept, that do not say why."""
    got = stand.call(name, token)
    if name == "nothing" and stand.name in ROUTES_FIRST:
        assert verdict(got) == (404, None)
        return
    assert verdict(got) == (status, None if reason is None else reason.value)
    if reason is None:
        assert got.body["caller"] == EDGE
    elif stand.is_http:
        assert got.headers["content-type"] == "application/problem+json"
        assert got.headers["cache-control"] == "no-store"
        assert reason.value not in str(got.body)


@pytest.mark.parametrize("name", ["write", "cards/7"])
def test_the_403_names_the_scope(stand: Stand, name: str) -> None:
    """Whether a route rule or the application asked for it (RFC 6750 section 3.1)."""
    got = stand.call(name, good(scope="cards:read"))
    assert got.headers["www-authenticate"] == f'{REALM}, error="insufficient_scope", scope="cards:write"'


def test_the_401_has_a_challenge_and_the_503_a_time(stand: Stand) -> None:
    """RFC 9110 sections 11.6.1 and 10.2.3."""
    assert stand.call("read").headers["www-authenticate"] == REALM
    assert int(stand.call("read", of(LEDGER)).headers["retry-after"]) > 0


@pytest.mark.parametrize("name", ["read", "write", "cards/7", "open", "open/write"])
def test_the_application_knows_the_caller(stand: Stand, name: str) -> None:
    """Its service id, and what it was granted; whatever the method."""
    for method in ("GET", "PUT") if stand.is_http else ("POST",):
        got = stand.call(name, GOOD, method=method)
        assert got.body == {"caller": EDGE, "scopes": ["cards:read", "cards:write"]}


def test_a_public_path_knows_an_anonymous_caller_as_nobody(stand: Stand) -> None:
    """None, and no user that somebody could take for one."""
    assert stand.call("open").body == {"caller": None}


def test_the_user_of_the_request_can_be_handed_on(stand: Stand) -> None:
    """`service.inbound_user` while the request is served."""
    assert stand.call("user", carrying()).body == {"user": "248289761001"}


def test_a_proof_is_for_this_path_and_method(stand: Stand) -> None:
    """As it came over the wire; used twice, or for another path, it is refused."""
    method = "PUT" if stand.is_http else "POST"
    access, identity = access_token(), wit()
    proof = wpt(access, identity, aud=WALLETS + stand.at("proved"), htm=method, jti=f"{stand.port}")
    shown = proof_fields(access, identity, proof)
    assert stand.call("proved", headers=shown, method=method).body["caller"] == EDGE
    assert verdict(stand.call("proved", headers=shown, method=method)) == (400, R.REPLAYED.value)
    assert verdict(stand.call("read", headers=shown, method=method)) == (400, R.BAD_WPT.value)


def test_an_old_credential_is_told_its_end(stand: Stand) -> None:
    """The Sunset field (RFC 8594) of the stage `prefer`; in gRPC only the log says so."""
    got = stand.call("read", headers=[(X_API_KEY, KEY.encode())])
    assert (got.status, got.body["caller"]) == (200, EDGE)
    assert got.headers.get("sunset") == ("Mon, 01 Feb 2027 00:00:00 GMT" if stand.is_http else None)


def test_two_fields_are_no_credential(stand: Stand) -> None:
    """Whether the server hands over both or makes one of them (RFC 9110 section 5.3; row 7)."""
    twice = [(b"authorization", b"Bearer " + GOOD)] * 2
    got = stand.call("read", headers=twice)
    assert verdict(got) in [(400, R.SEVERAL_CREDENTIALS.value), (400, R.MALFORMED_HEADER.value)]
    mixed = [(b"authorization", b"Bearer " + GOOD), (b"authorization", b"Basic eDp5")]
    assert stand.call("read", headers=mixed).status == 400


@pytest.mark.parametrize(
    "name", [b"authorization_", b"http_authorization", b"x-authorization", b"s2s-mesh.principal"]
)
def test_no_other_field_is_taken_for_authorization(stand: Stand, name: bytes) -> None:
    """Nor for what a door keeps with the request (rows 71 and 72)."""
    assert verdict(stand.call("read", headers=[(name, b"Bearer " + GOOD)])) == (401, R.NO_CREDENTIAL.value)


TRICKS = [
    "/./read",
    "/x/../read",
    "/%2e/read",
    "/x/%2E%2E/read",
    "/x%2f..%2fread",
    "/%2fread",
    "/cards%2F7",
    "/cards/x%2F..%2F..%2Fread",
    "/cards/a%5Cb",
    "/cards/a%255Cb/",
    "/cards//7",
    "/read;x=1",
    "/read%3Bx",
    "/read%00",
    "/read%0d%0a",
    "/read%",
    "/read%zz",
    "/read/",
    "/READ",
    "/r%C3%28ad",
    "/r%ef%bd%85ad",
    "/read%3Fx",
    "/read#x",
    "/open/../read",
]


@pytest.mark.parametrize("path", [pytest.param(path, marks=pytest.mark.hostile) for path in TRICKS])
def test_no_spelling_of_a_path_is_a_way_around_the_rules(site: Stand, path: str) -> None:
    """Whatever the server makes of it, a caller gets nothing that the rule of that path does not give."""
    got = site.call(path, good(scope="cards:read"))
    assert got.status in (400, 403) or (got.status == 404 and site.name in ROUTES_FIRST)
    assert got.reason in (None, R.BAD_PATH.value, R.NO_ROUTE_RULE.value, R.MISSING_SCOPE.value)


def test_a_path_that_begins_with_two_slashes_is_another_one(site: Stand) -> None:
    """Except where the server tells neither us nor the application."""
    got = site.call("//read", GOOD)
    assert verdict(got) == ((200, None) if site.name in ONE_SLASH else (403, R.BAD_PATH.value))


def test_a_target_without_a_path_fits_no_rule(site: Stand) -> None:
    """`*`, and whatever else does not begin with a slash."""
    assert site.send("GET", "*", [(b"authorization", b"Bearer " + GOOD)]).status in (400, 403, 404)
    assert site.send("GET", "read", [(b"authorization", b"Bearer " + GOOD)]).status in (400, 403, 404)


def test_an_absolute_target_is_its_path(site: Stand) -> None:
    """RFC 9112 section 3.2.2; where the server does not know that form, there is no such path."""
    got = site.send("GET", f"{WALLETS}/read?x", [(b"authorization", b"Bearer " + GOOD)])
    assert got.status in (200, 400, 403, 404)
    got = site.send(
        "GET", f"{WALLETS}/cards/7?x", [(b"authorization", b"Bearer " + good(scope="cards:read"))]
    )
    assert got.status in (400, 403, 404)


def test_an_escape_that_hides_nothing_is_the_same_path(site: Stand) -> None:
    """`%61` is `a` for rule and application."""
    assert site.call("/re%61d", GOOD).body["caller"] == EDGE
    assert site.call("/cards/a%20b", GOOD).body["caller"] == EDGE
    assert site.call("/read?x=/../y", GOOD).body["caller"] == EDGE


def test_a_token_in_the_query_is_a_second_credential(site: Stand) -> None:
    """RFC 6750 section 2.3."""
    assert verdict(site.call("/read?access_token=x", GOOD)) == (400, R.SEVERAL_CREDENTIALS.value)


@pytest.mark.parametrize(
    ("document", "kind"), [(JWKS, "application/jwk-set+json"), (BUNDLE, "application/json")]
)
def test_our_own_documents_are_served_to_everybody(site: Stand, document: str, kind: str) -> None:
    """Whatever credentials come along; only to be read."""
    plain = site.call(document)
    assert (plain.status, plain.headers["content-type"]) == (200, kind)
    assert plain.body["keys"][0]["kty"] == "EC"
    assert site.call(document, b"a.b.c").body == plain.body
    kept = site.call(document, headers=[(b"if-none-match", plain.headers["etag"].encode())])
    assert (kept.status, kept.body) == (304, b"")
    head = site.call(document, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == plain.headers["content-length"]
    assert site.call(document, method="POST").status in (401, 405)
    assert site.call("/.well-known/openid-configuration").body["issuer"] == WALLETS


def test_a_refusal_of_head_has_no_body(site: Stand) -> None:
    """RFC 9110 section 9.3.2."""
    got = site.call("read", method="HEAD")
    assert (got.status, got.body) == (401, b"")
