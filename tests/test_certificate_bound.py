"""Tokens that are bound to a client certificate: at the door, whoever says which certificate that is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from s2s_mesh import TokenRejected
from s2s_mesh.certificates import XFCC
from s2s_mesh.errors import ConfigError, Reason
from s2s_mesh.inbound import RequestFacts

from .certifying import bound, client
from .hostile import rows
from .observing import Listener
from .proving import access_token, wit, wpt
from .proving import fields as proof_fields
from .receiver import Receiver, Verdict
from .tokens import EDGE, NOW, WALLETS, claims, frozen, good, header, key, sign

R = Reason
US, THIEF = client(), client("thief")
PROXY = "10.0.0.7"
ROUTES = f"""
[[route]]
audience = "{WALLETS}"
path = "/certified"
methods = ["GET"]
scopes = ["cards:read"]
proof = "mtls"
[[route]]
audience = "{WALLETS}"
path = "/proved"
methods = ["PUT"]
proof = "wpt"
[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["GET"]
[[route]]
audience = "{WALLETS}"
path = "/once"
methods = ["GET"]
proof = "mtls"
replay = "once"
"""
Fields = Sequence[tuple[bytes, bytes]]


def connected(app: ASGIApp, tls: Any = None, peer: str | None = "192.0.2.1") -> ASGIApp:
    """What a server adds that ended the TLS connection: the extension of ASGI, and who the peer is."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        extensions = {} if tls is None else {"extensions": {"tls": tls}}
        client = None if peer is None else (peer, 50000)
        await app({**scope, **extensions, "client": client}, receive, send)

    return wrapped


def chain(*pem: str, **more: Any) -> dict[str, Any]:
    return {"server_cert": None, "client_cert_chain": list(pem), "client_cert_error": None, **more}


async def headers(request: Request) -> JSONResponse:
    """The fields about certificates that the application sees."""
    return JSONResponse([[name, value] for name, value in request.headers.items() if "client" in name])


def receiver(folder: Path, **options: Any) -> Receiver:
    made = Receiver(folder, edge_keys=[key()], trust=ROUTES, key_store="memory://", **options)
    read = made.app.router.routes[0].endpoint  # type: ignore[attr-defined]
    paths = [Route(path, read, methods=["GET", "PUT"]) for path in ("/certified", "/proved", "/once")]
    made.app.router.routes.extend(paths)
    return made


@pytest.fixture
def wallets(tmp_path: Path) -> Iterator[Receiver]:
    """TLS connections end here."""
    with frozen():
        made = receiver(tmp_path, public_paths=["/open"])
        yield made
        made.close()


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Receiver]:
    """They end at Envoy."""
    with frozen():
        made = receiver(tmp_path, client_certificate_header=XFCC, trusted_proxies=["10.0.0.0/24"])
        made.app.router.routes.append(Route("/headers", headers))
        yield made
        made.close()


def call(
    to: Receiver, token: bytes | None, tls: Any = None, *, peer: str | None = "192.0.2.1", **more: Any
) -> Verdict:
    app, to.app = to.app, connected(to.app, tls, peer)  # type: ignore[assignment]
    try:
        return to.call(token, **more)
    finally:
        to.app = app


def outcome(verdict: Verdict) -> tuple[int, str | None]:
    return verdict.status, verdict.reason


OWN = chain(US.leaf_pem)
ROWS: list[tuple[str, Callable[[], bytes], Any, int, Reason | None]] = [
    ("the certificate that the token names", bound, OWN, 200, None),
    ("with its chain", bound, chain(US.leaf_pem, THIEF.leaf_pem), 200, None),
    ("no certificate", bound, chain(), 401, R.PROOF_MISSING),
    ("none, in other words", bound, chain(client_cert_chain=None), 401, R.PROOF_MISSING),
    ("no TLS", bound, None, 401, R.PROOF_MISSING),
    ("another certificate", bound, chain(THIEF.leaf_pem), 401, R.PROOF_MISMATCH),
    ("the right one further up the chain", bound, chain(THIEF.leaf_pem, US.leaf_pem), 401, R.PROOF_MISMATCH),
    ("one that the server found bad", bound, chain(US.leaf_pem, client_cert_error="x"), 401, R.PROOF_MISSING),
    ("what is no certificate", bound, chain("x"), 401, R.PROOF_MISSING),
    ("what is not even ASCII", bound, chain("\xe9"), 401, R.PROOF_MISSING),
    ("a token for another certificate", lambda: bound(THIEF.thumbprint), OWN, 401, R.PROOF_MISMATCH),
    ("a padded thumbprint", lambda: bound(US.thumbprint + "="), OWN, 401, R.PROOF_MISMATCH),
    ("an empty thumbprint", lambda: bound(""), OWN, 401, R.PROOF_MISMATCH),
    ("a thumbprint in a list", lambda: bound(cnf={"x5t#S256": [US.thumbprint]}), OWN, 401, R.PROOF_MISMATCH),
    ("a thumbprint that is null", lambda: bound(cnf={"x5t#S256": None}), OWN, 401, R.PROOF_MISMATCH),
    (
        "bound twice",
        lambda: bound(cnf={"x5t#S256": US.thumbprint, "jkt": key().kid}),
        OWN,
        401,
        R.PROOF_MISSING,
    ),
    ("bound otherwise", lambda: bound(cnf={"x5t": US.thumbprint}), OWN, 401, R.PROOF_MISSING),
    ("bound in other letters", lambda: bound(cnf={"X5T#S256": US.thumbprint}), OWN, 401, R.PROOF_MISSING),
    ("bound to nothing", lambda: bound(cnf={}), OWN, 401, R.PROOF_MISSING),
    ("cnf a string", lambda: bound(cnf="x5t#S256"), OWN, 401, R.PROOF_MISSING),
    ("a plain token", good, OWN, 401, R.PROOF_MISSING),
    ("a token that is bound to a key", access_token, OWN, 401, R.PROOF_MISSING),
    ("an expired one", lambda: bound(iat=NOW - 400, exp=NOW - 300), OWN, 401, R.EXPIRED),
    ("signed by another key", lambda: bound()[:-8] + b"AAAAAAAA", OWN, 401, R.BAD_SIGNATURE),
]


@pytest.mark.parametrize(("token", "tls", "status", "reason"), rows(ROWS))
def test_a_bound_token_opens_the_route_with_its_certificate(
    wallets: Receiver, token: Callable[[], bytes], tls: Any, status: int, reason: Reason | None
) -> None:
    """And with nothing else; RFC 8705 section 3: 401 and `invalid_token`."""
    answer = call(wallets, token(), tls, path="/certified")
    assert outcome(answer) == (status, None if reason is None else reason.value)
    if status == 401:
        assert 'error="invalid_token"' in answer.headers["www-authenticate"] or reason is R.EXPIRED


@pytest.mark.parametrize(("token", "tls", "status", "reason"), rows(ROWS[:11]))
def test_it_is_never_a_plain_bearer_token(
    wallets: Receiver, token: Callable[[], bytes], tls: Any, status: int, reason: Reason | None
) -> None:
    """On no route: one that asks for no proof, and a public path."""
    wanted = (status, None if reason is None else reason.value)
    assert outcome(call(wallets, token(), tls, path="/read")) == wanted
    assert outcome(call(wallets, token(), tls, path="/open")) == wanted


def test_it_is_not_remembered(wallets: Receiver) -> None:
    """A later request that comes without the certificate finds nothing that was verified before."""
    token = bound()
    for tls, wanted in ((OWN, 200), (chain(), 401), (OWN, 200), (chain(THIEF.leaf_pem), 401), (None, 401)):
        assert call(wallets, token, tls, path="/read").status == wanted
    with pytest.raises(TokenRejected) as refused:
        wallets.service.verify(token)
    assert refused.value.reason is R.PROOF_MISSING


FOREIGN = f"""
[foreign_issuers."https://hub.example.com/"]
jwks_file = "hub.jwks.json"
[[subject]]
issuer = "https://hub.example.com/"
subject = "batch"
service = "https://batch.example.com"
[[allow]]
issuer = "https://batch.example.com"
audience = "{WALLETS}"
scopes = ["cards:read"]
"""


def test_a_foreign_issuer_may_bind_its_tokens_to_certificates(wallets: Receiver) -> None:
    """As authorization servers do (RFC 8705); to keys not, whatever comes along."""
    wallets.publish("hub", [key(name="hub")])
    wallets.write_trust(ROUTES + FOREIGN)
    wallets.reload_trust()
    hub = {"iss": "https://hub.example.com/", "sub": "batch"}

    def token(**cnf: Any) -> bytes:
        return sign(header(key(name="hub")), claims(**hub, cnf=cnf), key(name="hub"))

    ours = token(**{"x5t#S256": US.thumbprint})
    for _ in range(2):
        assert call(wallets, ours, OWN, path="/certified").body["caller"] == "https://batch.example.com"
        assert outcome(call(wallets, ours, chain(THIEF.leaf_pem), path="/read")) == (401, "proof_mismatch")
        assert outcome(call(wallets, ours, chain(), path="/read")) == (401, "proof_missing")
    assert outcome(call(wallets, token(jkt="x"), OWN, path="/read")) == (401, "proof_missing")


def test_where_there_is_no_connection_there_is_no_certificate(wallets: Receiver) -> None:
    """As behind the gateway."""
    flow = wallets.service.running().inbound.admit(
        RequestFacts(headers=[(b"authorization", b"Bearer " + bound())], raw_path=b"/read"), NOW
    )
    assert isinstance(flow, Generator)
    with pytest.raises(StopIteration) as done:
        next(flow)
    assert done.value.value.reason is R.PROOF_MISSING


def test_a_plain_token_asks_for_no_certificate(wallets: Receiver) -> None:
    """Nobody looks at the connection."""

    class Unlooked(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            raise AssertionError(name)

    for _ in range(2):  # verified, then remembered
        assert call(wallets, good(), Unlooked(), path="/read").status == 200


def test_a_proof_and_a_certificate_are_two_things(wallets: Receiver) -> None:
    """A route that wants one is not opened by the other, nor by both for a token that is bound to one."""
    certified = bound()
    identity = wit()
    shown = proof_fields(certified, identity, wpt(certified, identity))
    assert outcome(call(wallets, None, OWN, path="/proved", method="PUT", headers=shown)) == (
        401,
        "proof_mismatch",
    )
    assert outcome(call(wallets, certified, OWN, path="/proved", method="PUT")) == (401, "proof_missing")
    assert outcome(call(wallets, access_token(), OWN, path="/certified")) == (401, "proof_missing")


@pytest.mark.hostile
@pytest.mark.parametrize(("path", "method"), [("/certified", "GET"), ("/proved", "PUT")])
def test_a_plain_token_that_was_verified_for_another_route_opens_no_bound_one(
    wallets: Receiver, path: str, method: str
) -> None:
    """What is remembered of a token is not that it is bound."""
    token = good()
    for _ in range(2):
        assert outcome(call(wallets, token, OWN, path="/read")) == (200, None)
        assert outcome(call(wallets, token, OWN, path=path, method=method)) == (401, "proof_missing")


def test_a_bound_token_is_good_once_where_a_route_says_so(wallets: Receiver) -> None:
    """Certificate and replay protection together."""
    token = bound()
    assert outcome(call(wallets, token, chain(), path="/once")) == (401, "proof_missing")
    assert outcome(call(wallets, token, OWN, path="/once")) == (200, None)
    assert outcome(call(wallets, token, OWN, path="/once")) == (401, "replayed")


# -- behind a proxy -----------------------------------------------------------------------------------------


def xfcc(*values: bytes, name: str = XFCC) -> Fields:
    return [(name.encode(), value) for value in values]


SPOOFED = [*xfcc(US.xfcc), (b"x-forwarded-for", PROXY.encode())]
BEHIND: list[tuple[str, str | None, Any, Fields, int, Reason | None]] = [
    ("as the proxy says", PROXY, None, xfcc(US.xfcc), 200, None),
    ("the proxy presents a certificate as well", PROXY, chain(THIEF.leaf_pem), xfcc(US.xfcc), 200, None),
    ("the proxy says another", PROXY, None, xfcc(THIEF.xfcc), 401, R.PROOF_MISMATCH),
    ("the proxy says none", PROXY, None, [], 401, R.PROOF_MISSING),
    ("a stranger says so", "192.0.2.1", None, xfcc(US.xfcc), 401, R.PROOF_MISSING),
    ("nobody knows who says so", None, None, xfcc(US.xfcc), 401, R.PROOF_MISSING),
    ("who calls itself the proxy says so", PROXY, None, SPOOFED, 401, R.PROOF_MISSING),
    ("the proxy's own certificate", PROXY, OWN, [], 401, R.PROOF_MISSING),
    ("a stranger's own certificate", "192.0.2.1", OWN, [], 401, R.PROOF_MISSING),
    ("in two lines", PROXY, None, xfcc(US.xfcc, US.xfcc), 400, R.CERTIFICATE_FIELD),
    ("of two proxies", PROXY, None, xfcc(US.xfcc + b"," + US.xfcc), 400, R.CERTIFICATE_FIELD),
    ("malformed", PROXY, None, xfcc(b"x"), 400, R.CERTIFICATE_FIELD),
    ("in the other field", PROXY, None, xfcc(US.client_cert, name="client-cert"), 401, R.PROOF_MISSING),
    ("with underscores", PROXY, None, xfcc(US.xfcc, name="x_forwarded_client_cert"), 401, R.PROOF_MISSING),
]


@pytest.mark.parametrize(("peer", "tls", "lines", "status", "reason"), rows(BEHIND))
def test_behind_a_proxy_only_the_proxy_is_asked(
    behind: Receiver, peer: str | None, tls: Any, lines: Fields, status: int, reason: Reason | None
) -> None:
    """The certificate is its client's, as it says, and never its own."""
    answer = call(behind, bound(), tls, peer=peer, path="/certified", headers=lines)
    assert outcome(answer) == (status, None if reason is None else reason.value)


def test_a_field_that_our_proxy_wrote_badly_is_refused_for_every_caller(behind: Receiver) -> None:
    """Also beside a plain token that was verified before: the application could read it."""
    for lines, wanted in (((), 200), (xfcc(US.xfcc, US.xfcc), 400), (xfcc(b"x"), 400), (xfcc(US.xfcc), 200)):
        assert call(behind, good(), peer=PROXY, path="/read", headers=lines).status == wanted


@pytest.mark.parametrize(
    ("peer", "lines", "seen"),
    [
        (PROXY, xfcc(b"Hash=" + b"0" * 64), [[XFCC, "Hash=" + "0" * 64]]),
        (PROXY, [*xfcc(b"Hash=" + b"0" * 64), (b"x-forwarded-for", PROXY.encode())], []),
        (PROXY, xfcc(US.client_cert, name="client-cert"), []),
        ("192.0.2.1", xfcc(US.xfcc), []),
        ("192.0.2.1", xfcc(US.xfcc, US.xfcc), []),
        ("192.0.2.1", xfcc(b"malformed"), []),
        ("192.0.2.1", [*xfcc(b"x", name="client-cert-chain"), *xfcc(b"x", name="Client_Cert")], []),
        (None, xfcc(US.xfcc), []),
    ],
)
def test_what_no_proxy_of_ours_wrote_never_reaches_the_application(
    tmp_path: Path, peer: str | None, lines: Fields, seen: Any
) -> None:
    """Stripped, on public paths as well, and without a word: anybody can send such fields."""
    with frozen():
        made = receiver(
            tmp_path, client_certificate_header=XFCC, trusted_proxies=["10.0.0.7"], public_paths=["/headers"]
        )
        made.app.router.routes.append(Route("/headers", headers))
        answer = call(made, None, peer=peer, path="/headers", headers=lines)
        made.close()
    assert (answer.status, answer.body) == (200, seen)


def test_without_a_configured_proxy_these_fields_mean_nothing(wallets: Receiver) -> None:
    """They prove nothing, from no peer, and are left to the application that knows them."""
    for lines in (xfcc(US.xfcc), xfcc(US.client_cert, name="client-cert")):
        assert outcome(call(wallets, bound(), peer="127.0.0.1", path="/read", headers=lines)) == (
            401,
            "proof_missing",
        )


def test_a_field_that_is_refused_is_counted(tmp_path: Path) -> None:
    """Once, as any other refusal."""
    told = Listener()
    with frozen():
        made = receiver(tmp_path, client_certificate_header=XFCC, trusted_proxies=[PROXY], observers=[told])
        assert call(made, good(), peer=PROXY, path="/read", headers=xfcc(b"x")).status == 400
        assert call(made, bound(), peer=PROXY, path="/read", headers=xfcc(US.xfcc)).body["caller"] == EDGE
        made.close()
    assert told.decisions() == [("unknown", "certificate_field", "true"), (EDGE, "accepted", "false")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client_certificate_header": XFCC}, r"trusted_proxies \(S2S_MESH_TRUSTED_PROXIES\) must list"),
        ({"trusted_proxies": [PROXY]}, r"\(S2S_MESH_CLIENT_CERTIFICATE_HEADER\) is ''; expected one of"),
        (
            {"client_certificate_header": "x-ssl-cert", "trusted_proxies": [PROXY]},
            "expected one of client-cert",
        ),
    ],
)
def test_field_and_proxies_are_configured_together(tmp_path: Path, options: Any, words: str) -> None:
    """Or the service does not start, and says which variables that are."""
    with pytest.raises(ConfigError, match=words):
        receiver(tmp_path, **options)
