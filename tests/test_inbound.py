"""The decision about a request, through the door: header fields, answers, route rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from s2s_mesh.errors import Reason

from .hostile import rows
from .receiver import Receiver
from .tokens import EDGE, LEDGER, WALLETS, frozen, good, key

R = Reason
GOOD = good()
HEAD, PAYLOAD, SIGNATURE = GOOD.split(b".")
REALM = f'Bearer realm="{WALLETS}"'
MALFORMED = f'{REALM}, error="invalid_request", error_description="Malformed credentials"'
INVALID = f'{REALM}, error="invalid_token", error_description="The access token is invalid"'

HEADER_ROWS: list[tuple[str, Sequence[bytes], str, int, Reason | None, str | None]] = [
    ("Bearer", [b"Bearer " + GOOD], "/read", 200, None, None),
    ("bearer", [b"bearer " + GOOD], "/read", 200, None, None),
    ("BEARER", [b"BEARER " + GOOD], "/read", 200, None, None),
    ("nothing", [], "/read", 401, R.NO_CREDENTIAL, REALM),
    ("Basic", [b"Basic dXNlcjpwYXNz"], "/read", 401, R.NO_CREDENTIAL, REALM),
    ("a scheme only", [b"Bearer"], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("a scheme and a space", [b"Bearer "], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("an empty field", [b""], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("two spaces", [b"Bearer  " + GOOD], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("two tokens", [b"Bearer " + GOOD + b" " + GOOD], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("a tab", [b"Bearer\t" + GOOD], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("merged by a comma", [b"Bearer " + GOOD + b", Basic eDp5"], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("a quoted token", [b'Bearer "' + GOOD + b'"'], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("no scheme", [GOOD], "/read", 401, R.NO_CREDENTIAL, REALM),
    ("two fields", [b"Bearer " + GOOD] * 2, "/read", 400, R.SEVERAL_CREDENTIALS, MALFORMED),
    (
        "two fields, one Basic",
        [b"Bearer " + GOOD, b"Basic eDp5"],
        "/read",
        400,
        R.SEVERAL_CREDENTIALS,
        MALFORMED,
    ),
    ("also in the query", [b"Bearer " + GOOD], "/read?access_token=x", 400, R.SEVERAL_CREDENTIALS, MALFORMED),
    (
        "second in the query",
        [b"Bearer " + GOOD],
        "/read?a=b&access_token=x",
        400,
        R.SEVERAL_CREDENTIALS,
        MALFORMED,
    ),
    (
        "in the query under an encoded name",
        [b"Bearer " + GOOD],
        "/read?a=b&access%5Ftoken=x",
        400,
        R.SEVERAL_CREDENTIALS,
        MALFORMED,
    ),
    ("another parameter", [b"Bearer " + GOOD], "/read?my_access_token=x", 200, None, None),
    ("a value that looks so", [b"Bearer " + GOOD], "/read?next=%26access_token%3Dx", 200, None, None),
    ("only in the query", [], "/read?access_token=" + GOOD.decode(), 401, R.NO_CREDENTIAL, REALM),
    (
        "Basic beside a token in the query",
        [b"Basic eDp5"],
        "/read?access_token=" + GOOD.decode(),
        400,
        R.SEVERAL_CREDENTIALS,
        MALFORMED,
    ),
    ("not a token", [b"Bearer abc"], "/read", 401, R.NOT_A_COMPACT_JWS, INVALID),
    # standards (e) row 3: what a JSON serialisation is written with never gets as far as the decoder
    *[
        (name, [b"Bearer " + text], "/read", 400, R.MALFORMED_HEADER, MALFORMED)
        for name, text in (
            (
                "a JWS in the general JSON serialisation",
                b'{"payload":"%b","signatures":[{"protected":"%b","signature":"%b"}]}'
                % (PAYLOAD, HEAD, SIGNATURE),
            ),
            (
                "a JWS in the flattened JSON serialisation",
                b'{"payload":"%b","protected":"%b","signature":"%b"}' % (PAYLOAD, HEAD, SIGNATURE),
            ),
            ("compact inside of JSON", b'{"a":"' + GOOD + b'"}'),
            ("JSON behind compact", GOOD + b'{"payload":"e30"}'),
            # row 4: these octets are in no token68
            ("a NUL in the token", HEAD + b"\0." + PAYLOAD + b"." + SIGNATURE),
            ("a carriage return and a newline in the token", HEAD + b"\r\n." + PAYLOAD + b"." + SIGNATURE),
            ("a newline behind the token", GOOD + b"\n"),
            ("a space behind the token", GOOD + b" "),
            ("a tab behind the token", GOOD + b"\t"),
            ("Latin-1 in the token", HEAD + b"\xe9." + PAYLOAD + b"." + SIGNATURE),
            ("UTF-8 in the token", HEAD + "\u0435.".encode() + PAYLOAD + b"." + SIGNATURE),
            ("padding inside of the token", HEAD + b"=." + PAYLOAD + b"." + SIGNATURE),
            ("percent-encoded dots", GOOD.replace(b".", b"%2e")),
            ("a token and parameters", GOOD + b",realm=x"),
        )
    ],
    # row 70, as far as it exists today: only a bearer token is a credential here
    *[
        (name, [value], "/read", 401, R.NO_CREDENTIAL, REALM)
        for name, value in (
            ("Basic with a NUL", b"Basic AHg6eQ=="),
            ("Basic without a colon", b"Basic eHk="),
            ("Basic that is not base64", b"Basic \xff\xfe"),
            ("Basic with the token as password", b"Basic " + GOOD),
            ("DPoP", b"DPoP " + GOOD),
            ("an API key", b"ApiKey " + GOOD),
            ("a longer scheme", b"Bearerx " + GOOD),
        )
    ],
    (
        "a scheme in fullwidth letters",
        ["\uff22earer ".encode() + GOOD],
        "/read",
        400,
        R.MALFORMED_HEADER,
        MALFORMED,
    ),
    ("a space before the scheme", [b" Bearer " + GOOD], "/read", 400, R.MALFORMED_HEADER, MALFORMED),
    ("the same field three times", [b"Bearer " + GOOD] * 3, "/read", 400, R.SEVERAL_CREDENTIALS, MALFORMED),
    ("an empty second field", [b"Bearer " + GOOD, b""], "/read", 400, R.SEVERAL_CREDENTIALS, MALFORMED),
    # row 6: what no HTTP server passes on, but an ASGI server might
    ("a field of 1 MB", [b"Bearer " + b"A" * 10**6], "/read", 401, R.TOKEN_TOO_LARGE, INVALID),
    ("1 MB of brackets", [b"Bearer " + b"[" * 10**6], "/read", 401, R.TOKEN_TOO_LARGE, INVALID),
    ("1 MB of dots", [b"Bearer " + b"." * 10**6], "/read", 401, R.TOKEN_TOO_LARGE, INVALID),
]


@pytest.mark.parametrize(
    ("fields", "path", "status", "reason", "challenge"),
    rows(HEADER_ROWS, verdict=-2),
)
def test_exactly_one_bearer_token_in_one_field_is_looked_at(
    receiver: Receiver,
    fields: Sequence[bytes],
    path: str,
    status: int,
    reason: Reason | None,
    challenge: str | None,
) -> None:
    """Each row gets its status, its challenge, and in the log its reason (RFC 6750 sections 2 and 3)."""
    for _ in range(2):  # the second time the token is in the verified-token cache
        verdict = receiver.call(authorization=fields, path=path)
        assert (verdict.status, verdict.reason) == (status, None if reason is None else reason.value)
        assert verdict.headers.get("www-authenticate") == challenge


def test_every_refusal_is_problem_json_that_no_cache_keeps(receiver: Receiver) -> None:
    """RFC 9457 body with an id that finds the reason in the log; no-store; nothing echoed."""
    verdict = receiver.call(b"a.b.c")
    assert verdict.headers["content-type"] == "application/problem+json"
    assert verdict.headers["cache-control"] == "no-store"
    assert set(verdict.body) == {"title", "status", "instance"}
    assert verdict.body["status"] == 401
    assert verdict.reason == R.BAD_BASE64.value


def test_an_expired_token_is_told_apart_because_rfc_6750_does(receiver: Receiver) -> None:
    """RFC 6750 section 3: the one reason that the caller may know."""
    expired = good(iat=1_799_999_000, exp=1_799_999_500)
    challenge = receiver.call(expired).headers["www-authenticate"]
    assert challenge == f'{REALM}, error="invalid_token", error_description="The access token expired"'


ROUTES = f"""
[[route]]
audience = "{WALLETS}"
path = "/wallets/{{wallet_id}}/card"
methods = ["PUT"]
scopes = ["cards:write"]

[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["GET"]

[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["POST"]
scopes = ["cards:write"]

[[route]]
audience = "{WALLETS}"
path = "/open"
methods = ["GET"]
scopes = ["cards:admin"]
"""
ALIAS = "https://cards.example.com"


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    alias = f'[[allow]]\nissuer = "{EDGE}"\naudience = "{ALIAS}"\nscopes = ["cards:write"]\n'
    with frozen():
        made = Receiver(
            tmp_path_factory.mktemp("routed"),
            edge_keys=[key()],
            ledger_keys=[key(name="second")],
            trust=ROUTES + alias,
            audiences=[ALIAS],
            public_paths=["/open"],
        )
        yield made
        made.close()


AS_LEDGER = good(key(name="second"), iss=LEDGER, sub=LEDGER, client_id=LEDGER)
ROUTE_ROWS: list[tuple[str, str, str, bytes, int, Reason | None]] = [
    ("a mapped route with its scope", "PUT", "/wallets/42/card", GOOD, 200, None),
    ("a mapped route without scopes", "GET", "/read", GOOD, 200, None),
    ("HEAD counts as GET", "HEAD", "/read", GOOD, 200, None),
    ("a mapped route, scope not granted", "PUT", "/wallets/42/card", AS_LEDGER, 403, R.MISSING_SCOPE),
    (
        "a mapped route, scope not asked for",
        "PUT",
        "/wallets/42/card",
        good(scope="cards:read"),
        403,
        R.MISSING_SCOPE,
    ),
    ("a scope that nobody has, on a path that is public", "GET", "/open", GOOD, 200, None),
    ("a scope that only the trust file asks for", "POST", "/read", AS_LEDGER, 403, R.MISSING_SCOPE),
    ("the same, granted", "POST", "/read", GOOD, 200, None),
    ("an unmapped method", "GET", "/wallets/42/card", GOOD, 403, R.NO_ROUTE_RULE),
    ("an unmapped path", "GET", "/write", GOOD, 403, R.NO_ROUTE_RULE),
    ("a trailing slash", "GET", "/read/", GOOD, 403, R.NO_ROUTE_RULE),
    ("another case", "GET", "/READ", GOOD, 403, R.NO_ROUTE_RULE),
    ("OPTIONS without a rule", "OPTIONS", "/read", GOOD, 403, R.NO_ROUTE_RULE),
    ("an empty segment", "PUT", "/wallets//card", GOOD, 403, R.BAD_PATH),
    ("a double slash", "GET", "//read", GOOD, 403, R.BAD_PATH),
    ("an encoded dot segment", "GET", "/a/%2e%2e/read", GOOD, 403, R.BAD_PATH),
    ("an encoded slash", "PUT", "/wallets/a%2fb/card", GOOD, 403, R.BAD_PATH),
    ("a path parameter", "GET", "/read;x=1", GOOD, 403, R.BAD_PATH),
    ("an encoded backslash", "GET", "/read%5c", GOOD, 403, R.BAD_PATH),
    ("an encoded NUL", "GET", "/read%00", GOOD, 403, R.BAD_PATH),
    ("an encoded newline", "GET", "/read%0a", GOOD, 403, R.BAD_PATH),
    ("an encoded semicolon", "GET", "/read%3bx", GOOD, 403, R.BAD_PATH),
    ("an overlong slash", "PUT", "/wallets/a%c0%afb/card", GOOD, 403, R.BAD_PATH),
    ("dots behind a parameter", "GET", "/read/..%3b/write", GOOD, 403, R.BAD_PATH),
    ("dots escaped twice", "GET", "/%252e%252e/read", GOOD, 403, R.NO_ROUTE_RULE),
    ("an escaped letter is that letter", "GET", "/%72ead", GOOD, 200, None),
    ("an alias without rules of its own", "GET", "/read", good(aud=ALIAS), 403, R.NO_ROUTE_RULE),
]


@pytest.mark.parametrize(("method", "path", "token", "status", "reason"), rows(ROUTE_ROWS))
def test_once_an_audience_has_route_rules_everything_else_is_denied(
    routed: Receiver, method: str, path: str, token: bytes, status: int, reason: Reason | None
) -> None:
    """Each row is decided by exactly one rule on the path as sent, or refused."""
    for _ in range(2):  # the second time the token is in the verified-token cache
        verdict = routed.call(token, method=method, path=WALLETS + path)
        if method == "HEAD":
            assert verdict.status == status
        else:
            assert (verdict.status, verdict.reason) == (status, None if reason is None else reason.value)


def test_a_missing_scope_is_named_in_the_challenge(routed: Receiver) -> None:
    """RFC 6750 section 3.1: insufficient_scope says which scope would do."""
    verdict = routed.call(AS_LEDGER, method="PUT", path="/wallets/1/card")
    assert verdict.headers["www-authenticate"] == f'{REALM}, error="insufficient_scope", scope="cards:write"'


def test_new_route_rules_hold_from_the_reload_on(tmp_path: Path) -> None:
    """A reloaded trust file brings its route rules with it, for cached tokens as well."""
    with frozen() as clock:
        receiver = Receiver(tmp_path, edge_keys=[key()])
        assert receiver.call(GOOD).status == 200
        clock.tick(1)
        receiver.write_trust(ROUTES.replace("/read", "/elsewhere"))
        receiver.reload_trust()
        assert receiver.call(GOOD).reason == R.NO_ROUTE_RULE.value
        receiver.close()
