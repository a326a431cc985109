"""Which request a front asks about, and what the application is told: tables, without a network."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from s2s_mesh.errors import ConfigError, Forbidden, Reason
from s2s_mesh.forward_auth import FRONTS, check_front, identity_fields, original
from s2s_mesh.identity import EndUser, Principal
from s2s_mesh.inbound import RequestFacts

from .hostile import rows
from .tokens import EDGE, LOGIN, NOW, WALLETS

CONTRACT = Reason.FRONT_CONTRACT
NGINX, FORWARDED = ("x-original-method", "x-original-uri"), ("x-forwarded-method", "x-forwarded-uri")
NAMES = {"nginx": NGINX, "caddy": FORWARDED, "traefik": FORWARDED}
CARD = "/wallets/42/card"
# what Traefik 3 sends beside the two that count, all of its own making with trustForwardHeader: false
TRAEFIK = [
    ("host", "127.0.0.1:9000"),
    ("authorization", "Bearer x"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-host", "wallets.example.com"),
    ("x-forwarded-proto", "https"),
]
Lines = Sequence[tuple[str, str]]


def asked(
    front: str, fields: Lines, *, method: str = "GET", path: str = "/verify", query: str = ""
) -> RequestFacts:
    """What a front's request is understood as."""
    return original(
        front,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in fields],
        method=method,
        raw_path=path.encode("latin-1"),
        query=query.encode(),
        public_paths={"/open"},
    )


def both(front: str, method: str = "PUT", uri: str = CARD) -> list[tuple[str, str]]:
    """The two fields that name the original request."""
    names = NAMES[front]
    return [(names[0], method), (names[1], uri)]


@pytest.mark.parametrize("front", NAMES)
@pytest.mark.parametrize(
    ("uri", "path", "query"),
    [
        (CARD, CARD, ""),
        (f"{CARD}?a=b?c&d=%2F", CARD, "a=b?c&d=%2F"),
        ("/?", "/", ""),
        ("//admin/%2e%2e/x;y", "//admin/%2e%2e/x;y", ""),
    ],
)
def test_the_original_request(front: str, uri: str, path: str, query: str) -> None:
    """Method, path and query are taken to the byte from the front's own two fields."""
    facts = asked(front, [*TRAEFIK, *both(front, uri=uri)], query="of=the+front")
    assert (facts.method, facts.raw_path, facts.query) == ("PUT", path.encode(), query.encode())
    assert (b"authorization", b"Bearer x") in facts.headers


@pytest.mark.parametrize(("query", "expected"), [("", b""), ("a=b?c", b"a=b?c")])
def test_envoy_sends_the_request_itself(query: str, expected: bytes) -> None:
    """Envoy's method counts, and what it puts behind the prefix; no field does."""
    fields = [*both("nginx", uri="/open"), *both("caddy", uri="/open")]
    facts = asked("envoy", fields, method="DELETE", path=f"/verify{CARD}", query=query)
    assert (facts.method, facts.raw_path, facts.query) == ("DELETE", CARD.encode(), expected)


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("/open", True),
        ("/open?x", True),
        ("/%6Fpen", True),
        ("/open/", False),
        ("//open", False),
        ("/x/../open", False),
        ("/open;x", False),
        (CARD, False),
    ],
)
def test_public_paths(uri: str, public: bool) -> None:
    """A path is public if it is one of them for every router."""
    assert asked("caddy", both("caddy", uri=uri)).public is public


def contract_rows(front: str) -> list[tuple[str, str, Lines, str, str, Reason | None]]:
    """Hostile or misconfigured variations of one good request of a front that uses fields."""
    method, uri = both(front)
    other = NAMES["caddy" if front == "nginx" else "nginx"]

    def row(
        name: str, fields: Lines, verdict: Reason | None = CONTRACT, to: tuple[str, str] = ("GET", "/verify")
    ) -> tuple[str, str, Lines, str, str, Reason | None]:
        return (f"{front}: {name}", front, fields, *to, verdict)

    return [
        row("both fields", [method, uri], None),
        row("no field", []),
        row("no method", [uri]),
        row("no URI", [method]),
        row("two methods", [method, method, uri]),
        row("two URIs, one public", [method, uri, (uri[0], "/open")]),
        row("the fields of another front", [(other[0], "GET"), (other[1], "/open")]),
        row("underscores", [(method[0].replace("-", "_"), "PUT"), (uri[0].replace("-", "_"), CARD)]),
        row("an empty method", [(method[0], ""), uri]),
        row("a method in lower case", [(method[0], "put"), uri]),
        row("joined methods", [(method[0], "GET, PUT"), uri]),
        row("an empty URI", [method, (uri[0], "")]),
        row("an absolute URI", [method, (uri[0], f"https://wallets.example.com{CARD}")]),
        row("an asterisk", [method, (uri[0], "*")]),
        row("joined URIs", [method, (uri[0], f"/open, {CARD}")]),
        row("a fragment", [method, (uri[0], f"{CARD}#x")]),
        row("a byte beyond ASCII", [method, (uri[0], "/wallets/\xe9")]),
        row("a control character", [method, (uri[0], "/wallets/\x7f")]),
        row("another method to /verify", [method, uri], to=("POST", "/verify")),
        row("a path below /verify", [method, uri], to=("GET", "/verify/open")),
        row("a path beside /verify", [method, uri], to=("GET", "/verify2")),
    ]


ENVOY_ROWS: list[tuple[str, str, Lines, str, str, Reason | None]] = [
    ("envoy: below the prefix", "envoy", [], "GET", f"/verify{CARD}", None),
    ("envoy: the prefix alone", "envoy", both("nginx"), "GET", "/verify", CONTRACT),
    ("envoy: an asterisk", "envoy", [], "OPTIONS", "/verify*", CONTRACT),
    ("envoy: no slash between", "envoy", [], "GET", "/verifywallets", CONTRACT),
    ("envoy: a byte beyond ASCII", "envoy", [], "GET", "/verify/\xe9", CONTRACT),
    ("envoy: a method in lower case", "envoy", [], "get", f"/verify{CARD}", CONTRACT),
]


@pytest.mark.parametrize(
    ("front", "fields", "method", "path", "reason"),
    rows([row for front in NAMES for row in contract_rows(front)] + ENVOY_ROWS),
)
def test_a_request_that_is_not_named_clearly(
    front: str, fields: Lines, method: str, path: str, reason: Reason | None
) -> None:
    """What is missing, there twice or odd is refused, and the operator is told what and where to look."""
    if reason is None:
        assert asked(front, fields, method=method, path=path).raw_path == CARD.encode()
        return
    with pytest.raises(
        Forbidden, match=rf"configure the proxy as in examples/gateway.*--front {front}\)"
    ) as no:
        asked(front, fields, method=method, path=path)
    assert no.value.reason is reason


def test_which_field_is_missing() -> None:
    """The log names it."""
    with pytest.raises(Forbidden, match="x-original-uri is there 0 times, expected once"):
        asked("nginx", both("nginx")[:1])


def test_fronts() -> None:
    """These four, and no guess."""
    assert set(FRONTS) == {*NAMES, "envoy"}
    assert check_front("envoy") == "envoy"
    with pytest.raises(
        ConfigError, match="'Nginx' is not a front; expected one of nginx, caddy, traefik, envoy"
    ):
        check_front("Nginx")


def principal(user: EndUser | None = None) -> Principal:
    """A verified caller."""
    return Principal(
        issuer=EDGE,
        subject=EDGE,
        audience=WALLETS,
        scopes=frozenset({"cards:write", "cards:read"}),
        kid="k",
        expires_at=NOW,
        claims={},
        user=user,
    )


def test_identity_of_a_service() -> None:
    """Issuer and sorted scopes; the user's fields are there and empty."""
    assert identity_fields(principal()) == [
        ("s2s-caller", EDGE),
        ("s2s-scopes", "cards:read cards:write"),
        ("s2s-user", ""),
        ("s2s-user-issuer", ""),
    ]


def test_identity_of_nobody() -> None:
    """Every field is there, and empty, so that a front that overwrites leaves nothing of the client's."""
    assert identity_fields(None) == [(name, "") for name, _ in identity_fields(principal())]


@pytest.mark.parametrize(
    ("subject", "sent"),
    [
        ("248289761001", "248289761001"),
        ("auth0|42", "auth0|42"),
        ("ada@example.com", "ada@example.com"),
        ("Jörg 50%", "J%C3%B6rg%2050%25"),
        ('a,b;"c"', "a%2Cb%3B%22c%22"),
    ],
)
def test_identity_of_a_user(subject: str, sent: str) -> None:
    """What a field value cannot hold, or a list would be split at, is percent-encoded."""
    fields = dict(identity_fields(principal(EndUser(issuer=LOGIN, subject=subject, expires_at=NOW + 60))))
    assert (fields["s2s-user"], fields["s2s-user-issuer"]) == (sent, LOGIN)
