"""A fleet whose trust file is exported, and requests to it of every kind, as they go over a socket.

`requests(seed, count)` draws; a request is made when it is sent, because tokens hold the time.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any, NamedTuple

from s2s_mesh.drivers import drive
from s2s_mesh.export_plan import STRIPPED
from s2s_mesh.inbound import Admitted, Inbound, RequestFacts
from s2s_mesh.jwks_client import JWKSClient
from s2s_mesh.jws import b64url_decode, b64url_encode
from s2s_mesh.keys import SigningKey
from s2s_mesh.refusal import Refusal
from s2s_mesh.resolver import JWKSCacheLimits, KeyResolver
from s2s_mesh.trust import TrustConfig
from s2s_mesh.verifier import Verifier

from .command_line import PATIENCE
from .jwks_servers import JWKSServer
from .tokens import ABSENT, EDGE, LEDGER, WALLETS, claims, encode, header, key

BATCH, REPORTS = "https://batch.example.com", "https://reports.example.com"
STRANGER, NOBODY = "https://stranger.example.com", "https://nobody.example.com"
ALGORITHMS = {
    EDGE: "ES256",
    LEDGER: "RS256",
    BATCH: "PS256",
    REPORTS: "ES384",
    STRANGER: "ES256",
    NOBODY: "ES256",
}
GRANTS = {EDGE: "cards:read cards:write", LEDGER: "admin", BATCH: "cards:read x.y+z", REPORTS: ""}
ROUTES = (
    ("GET", "/wallets/{wallet_id}", "cards:read"),
    ("PUT", "/wallets/{wallet_id}/card", "cards:write"),
    ("GET POST", "/reports", ""),
    ("OPTIONS", "/reports", ""),
    ("GET PUT", "/both", "cards:read cards:write"),
    ("DELETE GET", "/admin/{rest:path}", "admin"),
    ("GET", "/café/{x}/menü", ""),
    ("GET", "/files/a.b+c(1)[x]", ""),
    ("GET", "/odd/^a|b$(.+)'\"<&>`/{x}", ""),
    ("GET", "/slash/", ""),
    ("GET", "/signs", "x.y+z"),
    ("GET", "/", ""),
)
Field = tuple[str, str]


def signer(issuer: str, name: str = "first") -> SigningKey:
    """The key of a service."""
    return key(ALGORITHMS[issuer], f"{name} of {issuer}")


def also(issuer: str) -> list[SigningKey]:
    """What else is in its key set: a key for an algorithm that the trust file does not accept from it."""
    return [key("PS256", "another of edge")] if issuer == EDGE else []


def trust_text(places: Mapping[str, str], *, routed: bool = True) -> str:
    """The fleet's trust file; `places` says where each issuer's keys are."""
    lines = ["version = 1", "[defaults]", "allow_loopback_http = true"]
    extra = {
        LEDGER: 'leeway = "0s"\nmax_token_life = "2m"',
        BATCH: 'algorithms = ["PS256"]\ntyp = ["JWT", "at+jwt"]',
        REPORTS: 'algorithms = ["ES384", "ES256"]',
    }
    for issuer, place in places.items():
        lines += [f'[issuers."{issuer}"]', f'jwks_uri = "{place}"', extra.get(issuer, "")]
    for issuer, scopes in GRANTS.items():
        lines += [
            "[[allow]]",
            f'issuer = "{issuer}"',
            f'audience = "{WALLETS}"',
            f"scopes = {scopes.split()}",
        ]
    lines += ["[[allow]]", f'issuer = "{STRANGER}"', f'audience = "{LEDGER}"']
    for methods, path, scopes in ROUTES if routed else ():
        lines += ["[[route]]", f'audience = "{WALLETS}"', f"methods = {methods.split()}"]
        lines += [f"path = {json.dumps(path, ensure_ascii=False)}"]
        lines += [f"scopes = {scopes.split()}"]
    return "\n".join(lines) + "\n"


@contextmanager
def keys_published() -> Iterator[dict[str, str]]:
    """Where the keys of each issuer are, for the length of the block."""
    with JWKSServer(time.time) as server:
        yield {
            issuer: server.endpoint(f"{number}.json", signer(issuer), *also(issuer)).url
            for number, issuer in enumerate(ALGORITHMS)
            if issuer != NOBODY
        }


class Receiver:
    """Our own verdict, by the code that every door calls, over the same trust file."""

    def __init__(self, trust: TrustConfig) -> None:
        own = trust.for_audiences([WALLETS])
        resolver = KeyResolver(JWKSCacheLimits())
        self.client = JWKSClient(resolver, own, time.time)
        # nothing is remembered: every request is judged anew
        verifier = Verifier(audiences=[WALLETS], trust=own, resolver=resolver, cache_size=0)
        self._inbound = Inbound(verifier, realm=WALLETS)

    def judge(self, request: Request) -> Admitted | Refusal:
        """The verdict now."""
        path, _, query = request.target.encode("latin-1").partition(b"?")
        headers = [
            (name.lower().encode(), value.encode("latin-1").strip(b" \t")) for name, value in request.fields
        ]
        facts = RequestFacts(headers=headers, method=request.method, raw_path=path, query=query)
        outcome = self._inbound.admit(facts, time.time())
        if isinstance(outcome, (Admitted, Refusal)):
            return outcome
        return drive(outcome, self.client, time.time)


class Request(NamedTuple):
    """A request as it is sent; one character is one byte.

    Attributes:
        kind: which part of it is odd, and how.
    """

    kind: str
    method: str
    target: str
    fields: Sequence[Field]


class Door:
    """A connection to the program under test, which is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: Request) -> tuple[int, bytes]:
        """Send a request to the byte as it is; status and body of the answer."""
        lines = [f"{request.method} {request.target} HTTP/1.1", "Host: wallets", "Content-Length: 0"]
        lines += [f"{name}: {value}" for name, value in request.fields]
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = HTTPResponse(self._socket, method=request.method)
        answer.begin()
        body = answer.read()
        if answer.will_close:
            self.close()
        return answer.status, body

    def answers(self) -> bool:
        """Whether the program is up: it refuses a request without a token."""
        try:
            return self.ask(Request("", "GET", "/", []))[0] == 401
        except OSError:
            self.close()
            return False

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None


# -- drafts: a good request, of which one thing is changed -------------------------------------------------


class Draft:
    """A request that is being made, a good one until something is changed."""

    def __init__(self, draw: random.Random, now: int) -> None:
        self.draw = draw
        self.now = now
        self.issuer: str
        self.issuer, self.method, self.path = draw.choice(OPEN_DOORS)
        self.signer: SigningKey = signer(self.issuer)
        self.head: dict[str, Any] = header(self.signer)
        age = draw.randrange(60)
        names = {"iss": self.issuer, "sub": self.issuer, "client_id": self.issuer}
        self.claims: dict[str, Any] = claims(**names, iat=now - age, exp=now - age + 120, scope=ABSENT)
        scopes = GRANTS[self.issuer]
        if scopes and draw.random() < 0.5:
            self.claims["scope"] = scopes
        self.query = draw.choice(["", "", "", "?a=b", "?x=%2F&y=/../;", "?"])
        self.fields: list[Field] | None = None
        self.scheme = "Bearer"
        self.sign_with: SigningKey | None = None
        self.spelled: Callable[[list[str]], Sequence[str]] = list
        self.segments: Callable[[list[str]], Sequence[str]] = list

    def claim(self, name: str, value: Any) -> None:
        """Put a claim in its place, or take it away."""
        self.claims[name] = value

    def token(self) -> str:
        """The token, signed."""
        texts = [json_text(self.head), json_text(self.claims)]
        parts = self.spelled([encode(text).decode() for text in texts])
        signature = (self.sign_with or self.signer).sign(".".join(parts).encode())
        return ".".join(self.segments([*parts, b64url_encode(signature).decode()]))

    def request(self, kind: str) -> Request:
        """As it is sent."""
        fields = [("Authorization", f"{self.scheme} {self.token()}")] if self.fields is None else self.fields
        return Request(kind, self.method, self.path + self.query, fields)


class Raw(NamedTuple):
    """A JSON text as it shall stand there."""

    text: str


def json_text(members: Mapping[str, Any]) -> bytes:
    """An object of these members in order; names may repeat by a suffix `#2`, values may be `Raw`."""
    parts = []
    for name, value in members.items():
        if value is not ABSENT:
            text = value.text if isinstance(value, Raw) else json.dumps(value)
            parts.append(f"{json.dumps(name.removesuffix('#2'))}: {text}")
    return ("{" + ", ".join(parts) + "}").encode("utf-8", "surrogatepass")


def quoted(text: str) -> str:
    """A path as it goes over the wire."""
    return text.encode().decode("latin-1").translate({code: f"%{code:02X}" for code in range(128, 256)})


OPEN_DOORS = (
    (EDGE, "GET", "/wallets/42"),
    (EDGE, "HEAD", "/wallets/42"),
    (EDGE, "PUT", "/wallets/42/card"),
    (EDGE, "GET", "/both"),
    (EDGE, "PUT", "/both"),
    (BATCH, "GET", "/wallets/a%20b"),
    (BATCH, "POST", "/reports"),
    (BATCH, "GET", "/signs"),
    (LEDGER, "DELETE", "/admin/users/7"),
    (LEDGER, "GET", "/admin/x/"),
    (REPORTS, "GET", "/reports"),
    (REPORTS, "OPTIONS", "/reports"),
    (REPORTS, "GET", quoted("/café/1/menü")),
    (EDGE, "GET", "/files/a.b+c(1)[x]"),
    (EDGE, "GET", "/odd/%5Ea%7Cb$(.+)'%22%3C&%3E%60/1"),
    (EDGE, "GET", "/slash/"),
    (LEDGER, "GET", "/"),
)
Change = Callable[[Draft], None]


def _claim(name: str, *values: Any) -> dict[str, Change]:
    """A change for each value of a claim."""

    def change(value: Any) -> Change:
        return lambda draft: draft.claim(name, value)

    return {f"{name} {_short(value)}": change(value) for value in values}


def _head(name: str, *values: Any) -> dict[str, Change]:
    def change(value: Any) -> Change:
        return lambda draft: draft.head.update({name: value})

    return {f"header {name} {_short(value)}": change(value) for value in values}


def _short(value: Any) -> str:
    text = value.text if isinstance(value, Raw) else repr(value)
    return text if len(text) < 40 else f"{text[:24]}... ({len(text)})"


def _time(name: str, *offsets: float) -> dict[str, Change]:
    def change(offset: float) -> Change:
        return lambda draft: draft.claim(name, draft.now + offset)

    return {f"{name} at now{offset:+}": change(offset) for offset in offsets}


def _times(**offsets: tuple[float, float]) -> dict[str, Change]:
    """Changes of `iat` and `exp` together."""

    def change(issued: float, expires: float) -> Change:
        return lambda draft: draft.claims.update(iat=draft.now + issued, exp=draft.now + expires)

    return {name.replace("_", " "): change(*both) for name, both in offsets.items()}


def _segments(**changes: Callable[[list[str]], Sequence[str]]) -> dict[str, Change]:
    def change(how: Callable[[list[str]], Sequence[str]]) -> Change:
        return lambda draft: setattr(draft, "segments", how)

    return {name.replace("_", " "): change(how) for name, how in changes.items()}


def _signed(what: str, how: Callable[[list[str]], Sequence[str]]) -> dict[str, Change]:
    """Header and payload in another spelling, which the signature covers, at each length of base64."""

    def change(spaces: int) -> Change:
        def spell(draft: Draft) -> None:
            draft.head["typ"] = Raw(json.dumps(draft.head["typ"]) + " " * spaces)
            draft.claims["other"] = Raw("1" + " " * spaces)
            draft.spelled = how

        return spell

    return {f"signed with {what}, {spaces} spaces": change(spaces) for spaces in range(3)}


def _octets(*octets: str) -> dict[str, Change]:
    """A text in the payload with these octets, hexadecimal, in its midst."""

    def change(inside: bytes) -> Change:
        def spell(draft: Draft) -> None:
            draft.claims["other"] = "<>"
            draft.spelled = lambda parts: [parts[0], _replaced(parts[1], b"<>", b"<" + inside + b">")]

        return spell

    return {f"octets {one}": change(bytes.fromhex(one)) for one in octets}


def _fields(**changes: Callable[[str], list[Field]]) -> dict[str, Change]:
    def change(how: Callable[[str], list[Field]]) -> Change:
        return lambda draft: setattr(draft, "fields", how(draft.token()))

    return {name.replace("_", " "): change(how) for name, how in changes.items()}


def _paths(*paths: str) -> dict[str, Change]:
    """Another path, asked for by one who may."""

    def change(path: str) -> Change:
        def ask(draft: Draft) -> None:
            caller = LEDGER if path.startswith("/admin") else REPORTS if path.startswith("/caf") else EDGE
            _as_issuer(caller)(draft)
            draft.claims.pop("scope", None)
            draft.method, draft.path = "PUT" if path.endswith("/card") else "GET", path

        return ask

    return {f"path {path}": change(path) for path in paths}


def _sets(name: str, *values: str) -> dict[str, Change]:
    def change(value: str) -> Change:
        return lambda draft: setattr(draft, name, value)

    return {f"{name} {value}": change(value) for value in values}


def _as_issuer(issuer: str, *, of: str = "") -> Change:
    """A token of somebody else, or one signed by somebody else."""

    def change(draft: Draft) -> None:
        draft.claims.update(iss=issuer, sub=issuer, client_id=issuer)
        draft.signer = signer(of or issuer)
        draft.head = header(draft.signer)

    return change


def _asks(issuer: str, method: str, path: str) -> Change:
    """A caller at a route, whether it may or not."""

    def change(draft: Draft) -> None:
        _as_issuer(issuer)(draft)
        draft.method, draft.path = method, path

    return change


def _with_another_algorithm(draft: Draft) -> None:
    _asks(EDGE, "GET", "/reports")(draft)
    draft.claims.pop("scope", None)
    (draft.signer,) = also(EDGE)
    draft.head = header(draft.signer)


def _says_to_be(issuer: str, method: str, path: str) -> Change:
    """A token of edge that names another caller wherever it may, at a route of that one alone."""

    def change(draft: Draft) -> None:
        _asks(EDGE, method, path)(draft)
        draft.claims.update(sub=issuer, client_id=issuer, scope=GRANTS[issuer])

    return change


def _with_scope(issuer: str, method: str, path: str, scope: str) -> Change:
    def change(draft: Draft) -> None:
        _asks(issuer, method, path)(draft)
        draft.claim("scope", scope)

    return change


def _signed_by(name: str, alg: str = "") -> Change:
    """Signed by a key that is not published, under the kid of the one that is."""

    def change(draft: Draft) -> None:
        draft.sign_with = key(alg or draft.signer.alg, name)
        draft.head["alg"] = draft.sign_with.alg

    return change


def _octet_more(issuer: str, method: str, path: str) -> Change:
    """A good token whose signature has an octet behind it."""

    def change(draft: Draft) -> None:
        _asks(issuer, method, path)(draft)
        draft.claims.pop("scope", None)
        draft.segments = lambda parts: [*parts[:2], _decoded_and(parts[2], b"\0")]

    return change


def _decoded_and(segment: str, more: bytes) -> str:
    return b64url_encode(b64url_decode(segment.encode()) + more).decode()


def _last_character(segment: str) -> str:
    """Another spelling of the same bytes, where there is one."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = {2: 16, 3: 4}.get(len(segment) % 4, 1)
    at = alphabet.index(segment[-1])
    return segment[:-1] + alphabet[at + 1 if spare > 1 else at]


def _replaced(segment: str, old: bytes, new: bytes) -> str:
    return b64url_encode(b64url_decode(segment.encode()).replace(old, new, 1)).decode()


def _with_bom(segment: str) -> str:
    return _replaced(segment, b"{", b"\xef\xbb\xbf{")


def _flipped(segment: str) -> str:
    return ("B" if segment[0] == "A" else "A") + segment[1:]


def _repeat(name: str, value: Any) -> Change:
    return lambda draft: draft.claim(f"{name}#2", value)


DEEP = Raw("[" * 8 + "]" * 8)
NOT_DEEP = Raw("[" * 7 + "]" * 7)
SURROGATE = Raw(r'"\ud800"')
PATHS = r"""
//wallets/42 /wallets//42 /wallets/42/ /wallets/ /wallets /WALLETS/42 /wallets/42/card/
/wallets/./42 /wallets/../wallets/42 /./wallets/42 /wallets/. /wallets/.. /wallets/...
/wallets/%2e%2e /wallets/%2E /wallets/%2e%2e/reports /x/..%2freports /wallets/.42 /wallets/..42
/wallets/4%2F2 /wallets/4%2f2 /wallets/4%5C2 /wallets/4%5c2 /wallets/4\2 /wallets/4;2
/wallets/42;x=1 /wallets;x/42 /wallets/%3B /wallets/%3b /wallets/%00 /wallets/%0a /wallets/%7F
/w%61llets/42 /%77%61llets/%34%32 /wallets/% /wallets/%4 /wallets/%zz /wallets/%25 /wallets/%252e
/wallets/%C3%A9 /wallets/%C3 /wallets/%FF /wallets/%C0%AF /wallets/%C2%85 /wallets/%C2%A0
/wallets/%ED%A0%80 /wallets/%F0%9F%98%80 /wallets/%E2%80%A8 /wallets/%F5%80%80%80 /wallets/%1F
/wallets/%3F /wallets/%23 /wallets/%20 /wallets/a+b /wallets/a,b /wallets/* /wallets/a=b&c
/wallets/{wallet_id} /wallets/42/card /wallets/42/card/x /wallets/42/Card /wallets/42/c%61rd /both
/both/ /bothx /x/both /admin /admin/ /admin/a /admin/a/b/c/ /admin//a /admin/a// /admin/%2e /reports
/reports? /reportsx /caf%c3%a9/x/men%c3%bc /CAF%C3%A9/x/men%C3%BC /cafe/x/menu /files/a.b+c(1)[x]
/files/aXb+c(1)[x] /files/a.bbc(1)[x] /files/a%2Eb%2Bc%281%29%5Bx%5D /slash /slash/ /slash// / /%20
/odd/^a|b$(.+)'"<&>`/1 /odd/%5Ea%7Cb$(.+)'%22%3C&%3E%60/%24 /odd/%5Ea/1 /odd/b/1 /odd/b$xx'%22%3C&%3E%60/1
/admin/a%2Fb /admin/a%5Cb /admin/a\b /admin/a%3Bb /admin/a;b /admin/a/.. /admin/%2e%2e/a /admin/a%00
/admin/%0Aa /admin/a%C2%85 /admin/a%FF /admin/a%
/unknown /wallets/| /wallets/" /wallets/^ /wallets/~`'
"""
KINDS: dict[str, dict[str, Change]] = {
    "good": {"as it should be": lambda draft: draft.claim("other", 1)},
    "caller and route": {
        f"{issuer} {method} {path}": _asks(issuer, method, path)
        for issuer in (*GRANTS, STRANGER, NOBODY)
        for _, method, path in OPEN_DOORS
    }
    | {
        "says to be ledger": _says_to_be(LEDGER, "GET", "/admin/x/"),
        "says to be batch": _says_to_be(BATCH, "GET", "/signs"),
    },
    "scope": {
        **{
            f"{scope} at {path}": _with_scope(issuer, "GET", path, scope)
            for issuer, path, scopes in (
                (
                    EDGE,
                    "/wallets/42",
                    "cards:read cards:reader xcards:read Cards:read cards cards:read,x cards:write",
                ),
                (BATCH, "/signs", "x.y+z x1y+z x.yyz .y+z x.y+zz cards:read"),
            )
            for scope in scopes.split()
        },
        **_claim("scope", "cards:read", "cards:write", "admin", "cards:write cards:read", "admin cards:read"),
        **_claim("scope", "cards:reader", "xcards:read", "Cards:read", "cards", "cards:read,cards:write"),
        **_claim("scope", "", " ", " cards:read", "cards:read ", "cards:read  cards:write", "cards:read\t"),
        **_claim("scope", "cards:read\ncards:write", 'cards:read "', "cards:read é", None, 1, True, {}),
        **_claim("scope", ["cards:read", "cards:write"], " ".join(["cards:read"] * 100)),
        **_claim("scope", " ".join(["cards:read"] * 101), "cards:read cards:write admin", ABSENT),
    },
    "claim": {
        **_claim("iss", ABSENT, None, 1, [EDGE], EDGE + "/", EDGE.upper(), EDGE + "\0", ""),
        **_claim(
            "aud",
            ABSENT,
            None,
            "",
            [],
            [""],
            [WALLETS],
            [WALLETS, WALLETS],
            [WALLETS, LEDGER],
            {"0": WALLETS},
        ),
        **_claim(
            "aud", WALLETS + "/", "http" + WALLETS[5:], WALLETS[8:], WALLETS.upper(), LEDGER, [LEDGER], 7
        ),
        **_claim("sub", ABSENT, None, "248289761001", LEDGER, EDGE + "/", [EDGE]),
        **_claim("client_id", ABSENT, None, LEDGER, ""),
        **_claim(
            "jti", ABSENT, None, "", 7, "x" * 256, "x" * 257, "é" * 256, "é" * 257, "\U0001f600" * 200, ["x"]
        ),
        **_claim("cnf", {}, None, {"jkt": "x" * 43}, {"x5t#S256": "x"}, "x", []),
        **_claim("act", {}, None, {"iss": EDGE, "sub": EDGE}, "x"),
        **_claim("sub_id", {}, None, {"format": "iss_sub", "iss": EDGE, "sub": "1"}),
        **_claim("other", 1, 1.5, -7, None, True, {"a": {"b": [1, 2]}}, "text", "\u2028", "/", [], NOT_DEEP),
        **_claim("https://example.com/roles", ["admin"], {"admin": True}),
    },
    "time": {
        **_claim("iat", ABSENT, None, 0, -1, 1.5, True, "1700000000", 2**53),
        **_claim("exp", ABSENT, None, 0, -1, True, "4000000000", 2**53, 10**15, 10**30, 4e9),
        **_claim("nbf", None, 0, -1, 1, True, "1", 1.5, 2**53),
        **_time("nbf", -100, -1, 15, 60, 90, 3600, 0.5),
        "issued ahead, whatever nbf says": lambda draft: draft.claims.update(
            iat=draft.now + 60, nbf=draft.now - 100, exp=draft.now + 100
        ),
        **_time("exp", -0.5, 60.5),
        **_times(
            expired=(-300, -200),
            expired_within_leeway=(-115, -15),
            expired_beyond_it=(-150, -45),
            issued_ahead_within_leeway=(15, 100),
            issued_ahead=(60, 150),
            as_long_as_allowed=(-10, 890),
            too_long=(-10, 891),
            two_minutes=(-5, 115),
            two_minutes_and_one=(-5, 116),
            old_and_long=(-800, 200),
            expires_before_issue=(10, 5),
            expires_at_issue=(5, 5),
            milliseconds=(1e12, 1.00000012e12),
        ),
    },
    "header": {
        **_head(
            "alg", "none", "None", "", ABSENT, None, 1, "HS256", "ES512", "es256", "RS384", "EdDSA", ["ES256"]
        ),
        **_head("kid", ABSENT, None, "", "../../dev/null", "unknown", "a\n", 7, "x" * 200, "x" * 201, "é"),
        **_head(
            "typ", ABSENT, None, "", "AT+JWT", "application/at+jwt", "Application/At+Jwt", "JWT", "jwt", 1
        ),
        **_head(
            "typ",
            "wit+jwt",
            "wpt+jwt",
            "at+jwt ",
            "application/application/at+jwt",
            "client-authentication+jwt",
        ),
        **_head("crit", [], ["exp"], None),
        **_head("b64", True, False),
        **_head("zip", "DEF"),
        **_head("jku", "https://evil.example.com/jwks.json"),
        **_head("jwk", {}, None),
        **_head("x5c", []),
        **_head("x5t#S256", "x"),
        **_head("cty", "JWT"),
        **_head("anything", None, "x", {"a": 1}),
    },
    "signature": {
        "another key under this kid": _signed_by("foreign"),
        "a key of its own for an algorithm that is not accepted": _with_another_algorithm,
        "another algorithm's key": _signed_by("foreign", "RS256"),
        "alg and key of another kind": _signed_by("foreign", "ES256"),
        **{
            f"iss {issuer} signed by {other}": _as_issuer(issuer, of=other)
            for issuer in GRANTS
            for other in (EDGE, LEDGER, STRANGER, NOBODY)
            if issuer != other
        },
        **{
            f"an octet more of {issuer}": _octet_more(issuer, method, path)
            for issuer, method, path in OPEN_DOORS
            if path in ("/wallets/42", "/reports", "/admin/x/") and method != "HEAD"
        },
        **_segments(
            flipped=lambda parts: [*parts[:2], _flipped(parts[2])],
            of_another_payload=lambda parts: [parts[0], _flipped(parts[1]), parts[2]],
            short=lambda parts: [*parts[:2], parts[2][:-4]],
            long=lambda parts: [*parts[:2], parts[2] + "AAAA"],
            empty=lambda parts: [*parts[:2], ""],
            zeros=lambda parts: [*parts[:2], "A" * 86],
        ),
    },
    "form": {
        **_segments(
            no_dots=lambda parts: ["".join(parts)],
            two_parts=lambda parts: parts[:2],
            four_parts=lambda parts: [*parts, "AAAA"],
            five_parts=lambda parts: [*parts, "AAAA", "AAAA"],
            leading_dot=lambda parts: ["", *parts],
            padded_signature=lambda parts: [*parts[:2], parts[2] + "=" * (-len(parts[2]) % 4 or 1)],
            padded_header=lambda parts: [parts[0] + "=", *parts[1:]],
            last_bits_of_the_signature=lambda parts: [*parts[:2], _last_character(parts[2])],
            last_bits_of_the_payload=lambda parts: [parts[0], _last_character(parts[1]), parts[2]],
            last_bits_of_the_header=lambda parts: [_last_character(parts[0]), *parts[1:]],
            standard_alphabet=lambda parts: [*parts[:2], parts[2].replace("-", "+").replace("_", "/")],
            slash=lambda parts: [*parts[:2], "/" + parts[2][1:]],
            a_character_more=lambda parts: [*parts[:2], parts[2] + "A"],
            bang=lambda parts: [*parts[:2], parts[2] + "!"],
            space=lambda parts: [*parts[:2], parts[2] + " x"],
            bytes_above_ascii=lambda parts: [*parts[:2], parts[2] + "\xe9"],
        ),
        **_signed("other last bits of the header", lambda parts: [_last_character(parts[0]), parts[1]]),
        **_signed("other last bits of the payload", lambda parts: [parts[0], _last_character(parts[1])]),
        **_signed("a padded header", lambda parts: [parts[0] + "=" * (-len(parts[0]) % 4), parts[1]]),
        **_signed("a padded payload", lambda parts: [parts[0], parts[1] + "=" * (-len(parts[1]) % 4)]),
        **_signed("a BOM in the header", lambda parts: [_with_bom(parts[0]), parts[1]]),
        **_signed("a BOM in the payload", lambda parts: [parts[0], _with_bom(parts[1])]),
        **_claim("padding", "x" * 5000, "x" * 6200, "x" * 9000),
        **_head("kid", "x" * 3000),
    },
    "JSON": {
        "exp twice": _repeat("exp", 4_000_000_000),
        "scope twice": _repeat("scope", "admin"),
        "an unknown member twice": lambda draft: draft.claims.update({"other": 1, "other#2": 1}),
        "aud twice": _repeat("aud", WALLETS),
        "alg twice": lambda draft: draft.head.update({"alg#2": draft.signer.alg}),
        "a nested member twice": lambda draft: draft.claim("other", Raw('{"a": 1, "a": 2}')),
        "a member twice by an escape": lambda draft: draft.claim("other", Raw(r'1, "othe\u0072": 2')),
        **_claim(
            "other",
            Raw("NaN"),
            Raw("Infinity"),
            Raw("1e400"),
            Raw("-0"),
            Raw("-0.0"),
            Raw("01"),
            Raw("1."),
            Raw(".5"),
        ),
        **_claim(
            "other",
            Raw("9007199254740992"),
            Raw("10000000000000000"),
            Raw("1e3"),
            Raw("+1"),
            Raw("0x1"),
            Raw("1E+2"),
        ),
        **_claim(
            "other",
            Raw("-9007199254740991"),
            Raw("99999999999999999999999"),
            Raw("tru"),
            Raw("nul"),
            Raw("True"),
        ),
        **_claim(
            "other",
            DEEP,
            SURROGATE,
            Raw(r'"\udc00\ud800"'),
            Raw(r'"\ud83d\ude00"'),
            Raw(r'"\u00zz"'),
            Raw(r'"\x"'),
        ),
        **_claim(
            "other",
            Raw('"\x01"'),
            Raw('"\x7f"'),
            Raw('"\t"'),
            Raw(r'"\u0000"'),
            Raw("'x'"),
            Raw("[1,]"),
            Raw("{,}"),
        ),
        **_claim(
            "other",
            Raw('"unfinished'),
            Raw("[1"),
            Raw("1 // comment"),
            Raw("\ufeff1"),
            Raw(" \t\r\n 1 \n"),
            Raw(""),
        ),
        **_claim(
            "other",
            Raw('"\udc80"'),
            Raw("1} x"),
            Raw("1}{"),
            Raw('{"a" 1}'),
            Raw("\x0c1"),
            Raw("{1: 2}"),
            Raw("[1 2]"),
        ),
        # the first and the last of each length in UTF-8, what is not UTF-8, and the same in longer spellings
        **_octets("7f", "c280", "dfbf", "e0a080", "ed9fbf", "ee8080", "efbfbf", "f0908080", "f48fbfbf"),
        **_octets("80", "c080", "c1bf", "e0809f", "e09fbf", "eda080", "edbfbf", "f0808080", "f08fbfbf"),
        **_octets("f4908080", "f5808080", "ff", "c3", "c328", "e282", "e28228", "f09f98", "f0288cbc"),
        "exp as a float": lambda draft: draft.claim("exp", Raw(f"{draft.claims['exp']}.0")),
        "exp with an exponent": lambda draft: draft.claim("exp", Raw(f"{draft.claims['exp']}e0")),
        "exp as a float beside a whole one within": lambda draft: draft.claims.update(
            exp=Raw(f"{draft.claims['exp']}.0"), other=Raw('{"exp": 1}')
        ),
        "exp whole beside a float within": lambda draft: draft.claim("other", Raw('{"exp": 1.5}')),
        "iat as a float": lambda draft: draft.claim("iat", Raw(f"{draft.claims['iat']}.0")),
        "aud by an escape": lambda draft: draft.claim(
            "aud", Raw(json.dumps(WALLETS).replace("w", r"\u0077"))
        ),
        "aud with escaped slashes": lambda draft: draft.claim(
            "aud", Raw(json.dumps(WALLETS).replace("/", r"\/"))
        ),
        "iss by an escape": lambda draft: draft.claim(
            "iss", Raw(json.dumps(draft.issuer).replace("e", r"\u0065"))
        ),
        **_segments(
            payload_is_a_text=lambda parts: [parts[0], "IngI", parts[2]],
            payload_is_an_array=lambda parts: [parts[0], "W10", parts[2]],
            payload_is_empty=lambda parts: [parts[0], "e30", parts[2]],
            header_is_null=lambda parts: ["bnVsbA", *parts[1:]],
        ),
    },
    "field": {
        **_sets(
            "scheme",
            "bearer",
            "BEARER",
            "bEaReR",
            "Basic",
            "DPoP",
            "Bearer:",
            "Bearer ",
            "Token",
            "\u00e9",
            "",
        ),
        **_fields(
            none_at_all=lambda _: [],
            token_alone=lambda token: [("Authorization", token)],
            tab_between=lambda token: [("Authorization", f"Bearer\t{token}")],
            spaces_around=lambda token: [("Authorization", f"  Bearer {token}  ")],
            field_in_lower_case=lambda token: [("authorization", f"Bearer {token}")],
            twice_the_same=lambda token: [("Authorization", f"Bearer {token}")] * 2,
            basic_beside_it=lambda token: [
                ("Authorization", "Basic eDp5"),
                ("Authorization", f"Bearer {token}"),
            ],
            basic_behind_it=lambda token: [
                ("Authorization", f"Bearer {token}"),
                ("Authorization", "Basic eDp5"),
            ],
            in_one_line=lambda token: [("Authorization", f"Basic eDp5, Bearer {token}")],
            comma_behind=lambda token: [("Authorization", f"Bearer {token},")],
            quoted=lambda token: [("Authorization", f'Bearer "{token}"')],
            within_basic=lambda token: [("Authorization", f"Basic Bearer {token}")],
            another_field=lambda token: [("X-Authorization", f"Bearer {token}")],
            underscore=lambda token: [("Author_ization", f"Bearer {token}")],
            proxy_authorization=lambda token: [("Proxy-Authorization", f"Bearer {token}")],
            cookie=lambda token: [("Cookie", f"access_token={token}")],
            empty=lambda _: [("Authorization", "")],
            bearer_alone=lambda _: [("Authorization", "Bearer")],
            spoofed=lambda _: [("S2S-Caller", LEDGER), ("S2S_Caller", LEDGER), ("S2S-Scopes", "admin")],
            spoofed_beside_it=lambda token: [
                ("Authorization", f"Bearer {token}"),
                ("S2S-Caller", LEDGER),
                ("S2S_Caller", LEDGER),
                ("S2S-Scopes", "admin"),
                *((name, "DELETE") for name in STRIPPED),
            ],
        ),
        **_sets("query", "?access_token=x", "?a=b&access%5Ftoken=", "?access_tokens=1", "?ACCESS_TOKEN=1"),
        **_sets("query", "?x=access_token", "?access_token", "?%61ccess_token=x&b", "?a&&access_token=1"),
    },
    "path": _paths(
        *PATHS.split(), quoted("/café/x/menü"), quoted("/cafe\u0301/x/menü"), "/wallets/" + "x" * 2000
    ),
    "method": _sets("method", "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "PURGE"),
}
# what a program that reads JSON numbers as doubles, or HTTP to the letter, does otherwise by its nature
BEYOND: dict[str, Change] = {
    **_claim("other", Raw("9999999999999999"), Raw("-9999999999999999")),
    "method in lower case": lambda draft: setattr(draft, "method", "get"),
    **{f"octets in the path, {path!r}": _asks(EDGE, "GET", path) for path in ("/\xe9", "/\xc3\xa9")},
    "a fragment": lambda draft: setattr(draft, "query", "?x=1#y"),
}


def _long(header: int = 0, token: int = 0) -> Change:
    """A header, or a token, of so many bytes."""

    def change(draft: Draft) -> None:
        _as_issuer(EDGE)(draft)
        draft.claims["padding"] = Raw("1")
        typ = json.dumps(draft.head["typ"])
        # with so many spaces the rest can be made up with whole bytes of the payload
        for spaces in range(max(0, header - len(json_text(draft.head))), header + 4):
            draft.head["typ"] = Raw(typ + " " * spaces)
            rest = token - (len(draft.token()) - len(encode(json_text(draft.claims))))
            if header or rest % 4 != 1:
                break
        if token:
            missing = rest * 3 // 4 - len(json_text(draft.claims))
            draft.claims["padding"] = Raw("1" + " " * missing)
            assert len(draft.token()) == token
        assert header in (0, len(json_text(draft.head)))

    return change


# how long things may be, and whether they are let in
SIZES: dict[str, tuple[Change, bool]] = {
    "a header of 2048 bytes": (_long(header=2048), True),
    "a header of 2049 bytes": (_long(header=2049), False),
    "a token of 8192 bytes": (_long(token=8192), True),
    "a token of 8193 bytes": (_long(token=8193), False),
}
SHARES = {"good": 22, "caller and route": 14, "scope": 10, "path": 16, "method": 5, "time": 7, "header": 6}
SHARES |= {"claim": 7, "signature": 4, "form": 3, "JSON": 6, "field": 5}


class Drawn(NamedTuple):
    """What was drawn; `make` makes the request of it, now."""

    kind: str
    what: str
    seed: int

    def make(self) -> Request:
        """The request."""
        draft = Draft(random.Random(self.seed), int(time.time()))
        KINDS[self.kind][self.what](draft)
        return draft.request(f"{self.kind}: {self.what}")


def asked(issuer: str, method: str, path: str) -> Request:
    """A request with a good token, that asks for all that is granted."""
    draft = Draft(random.Random(0), int(time.time()))
    _asks(issuer, method, path)(draft)
    draft.claims.pop("scope", None)
    draft.query = ""
    return draft.request("asked")


def beyond(what: str) -> Request:
    """One of `BEYOND`; we admit each of them."""
    draft = Draft(random.Random(what), int(time.time()))
    BEYOND[what](draft)
    return draft.request(what)


def sized(what: str) -> Request:
    """One of `SIZES`."""
    draft = Draft(random.Random(what), int(time.time()))
    SIZES[what][0](draft)
    draft.method, draft.path, draft.query = "GET", "/wallets/42", ""
    return draft.request(what)


def requests(seed: int, count: int) -> Iterator[Drawn]:
    """Draw requests: every change once if there is room, the rest by `SHARES`; always the same ones."""
    draw = random.Random(seed)
    every = [(kind, what) for kind, changes in KINDS.items() for what in changes]
    more = draw.choices(list(SHARES), weights=list(SHARES.values()), k=max(0, count - len(every)))
    drawn = [*every, *((kind, draw.choice(list(KINDS[kind]))) for kind in more)]
    draw.shuffle(drawn)
    for kind, what in drawn[:count]:
        yield Drawn(kind, what, draw.randrange(2**32))


class Tally(NamedTuple):
    """What became of many requests.

    Attributes:
        total, admitted: how many, by kind.
        different: a line for each request about which the two disagree.
    """

    total: Counter[str]
    admitted: Counter[str]
    different: list[str]

    @property
    def share(self) -> float:
        """How many of them we admitted."""
        return self.admitted.total() / self.total.total()

    def __str__(self) -> str:
        counts = ", ".join(
            f"{kind} {count} ({self.admitted[kind]})" for kind, count in sorted(self.total.items())
        )
        return (
            f"{self.total.total()} requests, {self.admitted.total()} admitted, "
            f"{len(self.different)} different; by kind (admitted): {counts}"
        )


def compare(door: Door, receiver: Receiver, drawn: Iterable[Drawn]) -> Tally:
    """Let both judge each request, one right after the other; `app.mjs` is behind the door."""
    tally = Tally(Counter(), Counter(), [])
    for one in drawn:
        request = one.make()
        ours = receiver.judge(request)
        status, body = door.ask(request)
        tally.total[one.kind] += 1
        tally.admitted[one.kind] += isinstance(ours, Admitted)
        said = (
            f"ours {verdict(ours)}, theirs {status}: {request.kind}: {request.method} {request.target[:80]}"
        )
        if isinstance(ours, Refusal):
            # 503 is no verdict, whatever theirs is
            if ours.status == 503 or status not in (400, 401, 403, 404):
                tally.different.append(said)
        elif status != 200 or (request.method != "HEAD" and not _is_told(body, ours)):
            tally.different.append(said)
    return tally


def verdict(ours: Admitted | Refusal) -> str:
    """In one word or two."""
    return "admitted" if isinstance(ours, Admitted) else f"{ours.status} {ours.reason.value}"


def _is_told(body: bytes, ours: Admitted) -> bool:
    """Whether the application is told who calls, by nobody else, and gets no credential."""
    told = json.loads(body)
    names = [name.lower().replace("_", "-") for name in told["fields"][::2]]
    kept = {"authorization", *STRIPPED} & set(names)
    assert ours.principal is not None
    # scopes where the door tells any
    scopes = told["caller"]["scopes"] in ([], sorted(ours.principal.scopes))
    once = (names.count("s2s-caller"), names.count("s2s-scopes") < 2) == (1, True)
    return told["caller"]["issuer"] == ours.principal.issuer and scopes and once and not kept
