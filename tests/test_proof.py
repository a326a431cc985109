"""Routes with `proof = "wpt"`: what is sent is of use to nobody who has not the key, and once to who has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s2s_mesh import TokenRejected
from s2s_mesh.deny_list import DenyList, DenyRule
from s2s_mesh.errors import Reason
from s2s_mesh.jws import token_hash

from .hostile import rows
from .proving import WIT, WPT, Fields, access_token, fields, good_fields, jwk, proof_key, wit, wpt
from .receiver import Receiver, Verdict
from .servers import RedisServer
from .tokens import ABSENT, EDGE, LEDGER, NOW, WALLETS, frozen, good, key

R = Reason
ROUTES = f"""
[[route]]
audience = "{WALLETS}"
path = "/proved"
methods = ["PUT", "GET"]
scopes = ["cards:write"]
proof = "wpt"
[[route]]
audience = "{WALLETS}"
path = "/proved/{{id}}"
methods = ["PUT"]
proof = "wpt"
[[route]]
audience = "{WALLETS}"
path = "/proved-once"
methods = ["PUT"]
proof = "wpt"
replay = "once"
[[route]]
audience = "{WALLETS}"
path = "/write"
methods = ["PUT"]
scopes = ["cards:write"]
[[route]]
audience = "{WALLETS}"
path = "/admin"
methods = ["PUT"]
scopes = ["cards:admin"]
proof = "wpt"
"""
EVIL = "https://evil.example.com"


def proving_receiver(folder: Path, key_store: str = "memory://", **options: Any) -> Receiver:
    made = Receiver(
        folder,
        edge_keys=[key(), key("Ed25519")],
        ledger_keys=[key(name="ledger")],
        algorithms=["ES256", "Ed25519"],
        trust=ROUTES,
        key_store=key_store,
        **options,
    )
    made.app.router.routes.extend(
        [
            type(route)(path, route.endpoint, methods=["PUT", "GET"])  # type: ignore[call-arg,attr-defined]
            for route in made.app.router.routes
            if route.path == "/write"  # type: ignore[attr-defined]
            for path in ("/proved", "/proved/{id}", "/proved-once", "/admin")
        ]
    )
    return made


@pytest.fixture
def wallets(tmp_path: Path) -> Iterator[Receiver]:
    with frozen():
        made = proving_receiver(tmp_path)
        yield made
        made.close()


def put(receiver: Receiver, lines: Fields, path: str = "/proved", method: str = "PUT") -> Verdict:
    return receiver.call(method=method, path=path, headers=lines)


def outcome(verdict: Verdict) -> tuple[int, str | None]:
    return verdict.status, verdict.reason


# -- the table (standards (e) rows 46 to 48 and 71) ----------------------------------------------------------


def with_wpt(**changes: Any) -> Callable[[], Fields]:
    """A good request whose proof says something else."""
    return lambda: good_fields(**changes)


def with_wit(signer: Any = None, head: Any = None, **changes: Any) -> Callable[[], Fields]:
    """A good request whose WIT says something else; the proof fits it."""

    def made() -> Fields:
        access, identity = access_token(), wit(signer, head, **changes)
        return fields(access, identity, wpt(access, identity))

    return made


def with_token(token: Callable[[], bytes]) -> Callable[[], Fields]:
    """A good request but for its access token; the proof fits it."""

    def made() -> Fields:
        identity = wit()
        return fields(token(), identity, wpt(token(), identity))

    return made


def lines(change: Callable[[bytes, bytes, bytes], Fields]) -> Callable[[], Fields]:
    """Field lines made of the three good tokens."""

    def made() -> Fields:
        (_, access), (_, identity), (_, proof) = good_fields()
        return change(access, identity, proof)

    return made


def without_claim(name: str) -> tuple[str, Callable[[], Fields], int, Reason]:
    return f"a WPT without {name}", with_wpt(**{name: ABSENT}), 400, R.BAD_WPT


def foreign_wpt(wit_changes: dict[str, Any]) -> Callable[[], Fields]:
    """A proof made for another WIT of the same key."""

    def made() -> Fields:
        access, identity = access_token(), wit()
        return fields(access, identity, wpt(access, wit(**wit_changes)))

    return made


def by_thief() -> Fields:
    """The stolen access token, and a WIT and a proof of the thief's own key, whoever signs the WIT."""
    thief = proof_key("thief")
    access, identity = access_token(), wit(thief, cnf={"jwk": jwk(thief)})
    return fields(access, identity, wpt(access, identity, thief))


def by_insider() -> Fields:
    """As by a thief who is a trusted service with an issuer of its own."""
    ledger, own = key(name="ledger"), proof_key("of ledger")
    access = access_token()
    identity = wit(ledger, iss=LEDGER, sub=LEDGER, cnf={"jwk": jwk(own)})
    return fields(access, identity, wpt(access, identity, own))


def proof_of(other: str) -> Callable[[], Fields]:
    """The stolen tokens, and a proof by another key."""

    def made() -> Fields:
        access, identity = access_token(), wit()
        return fields(access, identity, wpt(access, identity, proof_key(other)))

    return made


def of_another_process() -> Fields:
    """Token and WIT are both good, and of two processes of edge."""
    other = proof_key("another process")
    access, identity = access_token(), wit(cnf={"jwk": jwk(other)})
    return fields(access, identity, wpt(access, identity, other))


def with_txn(count: int, **changes: Any) -> Callable[[], Fields]:
    return lambda: [*good_fields(**changes), *[(b"txn-token", b"a.b.c")] * count]


ED = key("Ed25519", "proof")
ED_JWK = {name: ED.public.public_jwk[name] for name in ("kty", "crv", "x", "alg")}


def with_ed25519(alg: str) -> Callable[[], Fields]:
    """Everything bound to an Ed25519 proof key that calls its algorithm `alg`."""

    def made() -> Fields:
        access = access_token(cnf={"jkt": ED.kid})
        identity = wit(cnf={"jwk": {**ED_JWK, "alg": alg}})
        return fields(access, identity, wpt(access, identity, ED, {"alg": alg}))

    return made


ROWS: list[tuple[str, Callable[[], Fields], int, Reason | None]] = [
    ("all three as they should be", good_fields, 200, None),
    # the access token
    ("a plain token without proof", lambda: fields(good(), None, None), 401, R.PROOF_MISSING),
    (
        "a transaction token is no proof",
        lambda: [*fields(access_token(), None, None), (b"txn-token", b"a.b.c")],
        401,
        R.PROOF_MISSING,
    ),
    ("a bound token as plain bearer", lambda: fields(access_token(), None, None), 401, R.PROOF_MISSING),
    ("a plain token with a proof", with_token(good), 401, R.PROOF_MISMATCH),
    (
        "bound to a certificate that is not shown",
        with_token(lambda: access_token(cnf={"x5t#S256": "x"})),
        401,
        R.PROOF_MISSING,
    ),
    (
        "bound twice",
        with_token(lambda: access_token(cnf={"jkt": proof_key().kid, "x": 1})),
        401,
        R.PROOF_MISMATCH,
    ),
    ("cnf a string", with_token(lambda: access_token(cnf=proof_key().kid)), 401, R.PROOF_MISMATCH),
    ("cnf null", with_token(lambda: access_token(cnf=None)), 401, R.PROOF_MISMATCH),
    ("jkt a list", with_token(lambda: access_token(cnf={"jkt": [proof_key().kid]})), 401, R.PROOF_MISMATCH),
    ("bound to another key", with_token(lambda: access_token(cnf={"jkt": key().kid})), 401, R.PROOF_MISMATCH),
    ("tokens of two processes", of_another_process, 401, R.PROOF_MISMATCH),
    (
        "an expired access token",
        with_token(lambda: access_token(iat=NOW - 300, exp=NOW - 200)),
        401,
        R.EXPIRED,
    ),
    ("a WIT as access token (row 48)", with_token(wit), 401, R.BAD_TYPE),
    ("no access token", lines(lambda _a, i, p: fields(None, i, p)), 400, R.PROOF_FIELDS),
    # the fields
    ("no WIT", lines(lambda a, _i, p: [(b"authorization", a), (WPT, p)]), 400, R.PROOF_FIELDS),
    ("no WPT", lines(lambda a, i, _p: [(b"authorization", a), (WIT, i)]), 400, R.PROOF_FIELDS),
    (
        "two WPTs",
        lines(lambda a, i, p: [(b"authorization", a), (WIT, i), (WPT, p), (WPT, p)]),
        400,
        R.PROOF_FIELDS,
    ),
    (
        "two WITs",
        lines(lambda a, i, p: [(b"authorization", a), (WIT, i), (WIT, i), (WPT, p)]),
        400,
        R.PROOF_FIELDS,
    ),
    (
        "WITs joined by a comma (row 71)",
        lines(lambda a, i, p: [(b"authorization", a), (WIT, i + b", " + i), (WPT, p)]),
        400,
        R.BAD_WIT,
    ),
    (
        "WPTs joined by a comma",
        lines(lambda a, i, p: [(b"authorization", a), (WIT, i), (WPT, p + b"," + p)]),
        400,
        R.BAD_WPT,
    ),
    (
        "a folded WIT (row 71)",
        lines(lambda a, i, p: [(b"authorization", a), (WIT, i[:50] + b"   " + i[50:]), (WPT, p)]),
        400,
        R.BAD_WIT,
    ),
    (
        "a WIT with underscores (row 71)",
        lines(lambda a, i, p: [(b"authorization", a), (b"workload_identity_token", i), (WPT, p)]),
        400,
        R.PROOF_FIELDS,
    ),
    (
        "a second WPT with underscores",
        lines(lambda a, i, p: [(b"authorization", a), (WIT, i), (WPT, p), (b"workload_proof-token", p)]),
        400,
        R.PROOF_FIELDS,
    ),
    ("an empty WIT", lines(lambda a, _i, p: [(b"authorization", a), (WIT, b""), (WPT, p)]), 400, R.BAD_WIT),
    ("an empty WPT", lines(lambda a, i, _p: [(b"authorization", a), (WIT, i), (WPT, b"")]), 400, R.BAD_WPT),
    (
        "a WIT of 9000 bytes",
        lines(lambda a, _i, p: [(b"authorization", a), (WIT, b"A" * 9000), (WPT, p)]),
        400,
        R.BAD_WIT,
    ),
    (
        "the two in each other's place",
        lines(lambda a, i, p: [(b"authorization", a), (WIT, p), (WPT, i)]),
        400,
        R.BAD_WIT,
    ),
    ("a transaction token that is not covered", with_txn(1), 400, R.BAD_WPT),
    ("a transaction token that is", with_txn(1, tth=token_hash(b"a.b.c")), 200, None),
    ("a transaction token twice (row 71)", with_txn(2, tth=token_hash(b"a.b.c")), 400, R.PROOF_FIELDS),
    ("a hash of no transaction token", with_wpt(tth=token_hash(b"a.b.c")), 400, R.BAD_WPT),
    # the WIT
    ("a WIT with aud (row 48)", with_wit(aud=WALLETS), 400, R.BAD_WIT),
    ("a WIT without cnf (row 48)", with_wit(cnf=ABSENT), 400, R.BAD_WIT),
    ("a WIT with cnf.jkt", with_wit(cnf={"jkt": proof_key().kid}), 400, R.BAD_WIT),
    (
        "a WIT with jwk and jkt",
        with_wit(cnf={"jwk": jwk(proof_key()), "jkt": proof_key().kid}),
        400,
        R.BAD_WIT,
    ),
    ("a WIT with a private key (row 48)", with_wit(cnf={"jwk": jwk(proof_key(), d="AAAA")}), 400, R.BAD_WIT),
    (
        "a WIT with a symmetric key",
        with_wit(cnf={"jwk": {"kty": "oct", "alg": "HS256", "k": "AAAA"}}),
        400,
        R.BAD_WIT,
    ),
    ("a WIT whose key has no alg", with_wit(cnf={"jwk": jwk(proof_key(), alg=ABSENT)}), 400, R.BAD_WIT),
    ("a WIT whose key has the alg none", with_wit(cnf={"jwk": jwk(proof_key(), alg="none")}), 400, R.BAD_WIT),
    ("a WIT whose key has another alg", with_wit(cnf={"jwk": jwk(proof_key(), alg="ES384")}), 400, R.BAD_WIT),
    (
        "a WIT whose key is off its curve",
        with_wit(cnf={"jwk": jwk(proof_key(), x=jwk(key())["x"])}),
        400,
        R.BAD_WIT,
    ),
    ("a WIT whose key is a list", with_wit(cnf={"jwk": [jwk(proof_key())]}), 400, R.BAD_WIT),
    ("a WIT whose key has an id", with_wit(cnf={"jwk": jwk(proof_key(), kid="any", use="sig")}), 200, None),
    ("a WIT without iss", with_wit(iss=ABSENT), 400, R.BAD_WIT),
    ("a WIT of another sub", with_wit(sub=LEDGER), 400, R.BAD_WIT),
    ("a WIT of a workload below", with_wit(sub=f"{EDGE}/worker"), 400, R.BAD_WIT),
    ("a WIT without sub", with_wit(sub=ABSENT), 400, R.BAD_WIT),
    ("a WIT without jti", with_wit(jti=ABSENT), 400, R.BAD_WIT),
    ("a WIT without iat", with_wit(iat=ABSENT), 400, R.BAD_WIT),
    ("an expired WIT", with_wit(iat=NOW - 3000, exp=NOW - 31), 400, R.BAD_WIT),
    ("a WIT that has expired within the leeway", with_wit(iat=NOW - 3000, exp=NOW - 29), 200, None),
    ("a WIT from the future", with_wit(iat=NOW + 31, exp=NOW + 3600), 400, R.BAD_WIT),
    ("a WIT of an hour and a second", with_wit(exp=NOW + 3601), 400, R.BAD_WIT),
    ("a WIT of the type of an access token", with_wit(head={"typ": "at+jwt"}), 400, R.BAD_WIT),
    ("a WIT of type JWT", with_wit(head={"typ": "JWT"}), 400, R.BAD_WIT),
    ("a WIT of type application/WIT+JWT", with_wit(head={"typ": "application/WIT+JWT"}), 200, None),
    ("a WIT with its key in the header", with_wit(head={"jwk": jwk(key())}), 400, R.BAD_WIT),
    ("a WIT that names no key", with_wit(head={"kid": ABSENT}), 400, R.BAD_WIT),
    ("a WIT of an unknown key", with_wit(head={"kid": "nobody"}), 400, R.BAD_WIT),
    ("a WIT with alg none", with_wit(head={"alg": "none"}), 400, R.BAD_WIT),
    ("a WIT by another key of edge", with_wit(key("Ed25519")), 200, None),
    ("a WIT that the proof key signed", with_wit(proof_key()), 400, R.BAD_WIT),
    ("a WIT that somebody else signed", with_wit(proof_key("x"), {"kid": key().kid}), 400, R.BAD_WIT),
    ("stolen, and a WIT of the thief's", by_thief, 400, R.BAD_WIT),
    ("stolen, and a WIT of a trusted service", by_insider, 400, R.BAD_WIT),
    # the WPT
    ("stolen, and another key's proof", proof_of("thief"), 400, R.BAD_WPT),
    ("for another WIT", foreign_wpt({"jti": "wit-2"}), 400, R.BAD_WPT),
    ("for another URI", with_wpt(aud=f"{WALLETS}/proved/1"), 400, R.BAD_WPT),
    ("for another method", with_wpt(htm="GET"), 400, R.BAD_WPT),
    ("for the method in lower case", with_wpt(htm="put"), 400, R.BAD_WPT),
    ("for another token", with_wpt(ath=token_hash(good())), 400, R.BAD_WPT),
    *map(without_claim, ("aud", "exp", "iat", "jti", "wth", "ath", "htm")),
    ("an expired WPT", with_wpt(iat=NOW - 91, exp=NOW - 31), 400, R.BAD_WPT),
    ("a WPT that expired within the leeway", with_wpt(iat=NOW - 89, exp=NOW - 29), 200, None),
    ("a WPT for an hour", with_wpt(exp=NOW + 3600), 400, R.BAD_WPT),
    ("a WPT for 120 s", with_wpt(exp=NOW + 120), 200, None),
    ("a WPT for 121 s", with_wpt(exp=NOW + 121), 400, R.BAD_WPT),
    ("a WPT from the future", with_wpt(iat=NOW + 31, exp=NOW + 90), 400, R.BAD_WPT),
    ("exp a text", with_wpt(exp=str(NOW + 60)), 400, R.BAD_WPT),
    ("exp with a fraction", with_wpt(exp=NOW + 60.5), 400, R.BAD_WPT),
    ("a jti of 257 characters", with_wpt(jti="x" * 257), 400, R.BAD_WPT),
    ("a WPT with kid", with_wpt(head={"kid": proof_key().kid}), 400, R.BAD_WPT),
    ("a WPT with jwk", with_wpt(head={"jwk": jwk(proof_key())}), 400, R.BAD_WPT),
    ("a WPT with crit", with_wpt(head={"crit": ["x"]}), 400, R.BAD_WPT),
    ("a WPT of another alg", with_wpt(head={"alg": "ES384"}), 400, R.BAD_WPT),
    ("a WPT with alg none", with_wpt(head={"alg": "none"}), 400, R.BAD_WPT),
    ("a WPT without typ", with_wpt(head={"typ": ABSENT}), 400, R.BAD_WPT),
    ("a WPT of type dpop+jwt", with_wpt(head={"typ": "dpop+jwt"}), 400, R.BAD_WPT),
    ("an oth entry", with_wpt(oth={"x-user": "x"}), 400, R.BAD_WPT),
    ("oth a list", with_wpt(oth=["x-user"]), 400, R.BAD_WPT),
    ("an empty oth", with_wpt(oth={}), 200, None),
    ("a claim that nobody knows", with_wpt(more="x"), 200, None),
    # where the request goes (row 47 and RFC 3986 section 6.2.2)
    (
        "aud of the Host field",
        lambda: [*good_fields(aud=f"{EVIL}/proved"), (b"host", b"evil.example.com")],
        400,
        R.BAD_WPT,
    ),
    (
        "aud of X-Forwarded-Host",
        lambda: [*good_fields(aud=f"{EVIL}/proved"), (b"x-forwarded-host", b"evil.example.com")],
        400,
        R.BAD_WPT,
    ),
    ("a false Host field", lambda: [*good_fields(), (b"host", b"evil.example.com")], 200, None),
    *[
        (f"aud {aud!r:.60}", with_wpt(aud=aud), 400 if reason else 200, reason)
        for aud, reason in (
            (f"{WALLETS}:443/proved", None),
            ("HTTPS://WALLETS.example.com/proved", None),
            (f"{WALLETS}/pro%76ed", None),
            (f"{WALLETS}:/proved", None),
            (f"{WALLETS}:8443/proved", R.BAD_WPT),
            ("http://wallets.example.com/proved", R.BAD_WPT),
            (f"{WALLETS}./proved", R.BAD_WPT),
            (f"{WALLETS}.evil.example.com/proved", R.BAD_WPT),
            (f"https://wallets.example.com@{EVIL[8:]}/proved", R.BAD_WPT),
            ("https://user@wallets.example.com/proved", R.BAD_WPT),
            (f"{WALLETS}/proved?", R.BAD_WPT),
            (f"{WALLETS}/proved?a=b", R.BAD_WPT),
            (f"{WALLETS}/proved#x", R.BAD_WPT),
            (f"{WALLETS}/proved/", R.BAD_WPT),
            (f"{WALLETS}/PROVED", R.BAD_WPT),
            (f"{WALLETS}/x/../proved", R.BAD_WPT),
            (f"{WALLETS}//proved", R.BAD_WPT),
            (f"{WALLETS}/pro%2fved", R.BAD_WPT),
            (WALLETS, R.BAD_WPT),
            (f"{LEDGER}/proved", R.BAD_WPT),
            ("/proved", R.BAD_WPT),
            ("", R.BAD_WPT),
            ([f"{WALLETS}/proved"], R.BAD_WPT),
            (None, R.BAD_WPT),
            (5, R.BAD_WPT),
        )
    ],
    # one algorithm name for one algorithm
    ("Ed25519", with_ed25519("Ed25519"), 200, None),
    ("its older name (row 16)", with_ed25519("EdDSA"), 400, R.BAD_WIT),
]


@pytest.mark.parametrize(("made", "status", "reason"), rows(ROWS))
def test_what_a_request_with_proof_must_be(
    wallets: Receiver, made: Callable[[], Fields], status: int, reason: Reason | None
) -> None:
    """Whatever is wrong with WIT or WPT is 400 without a challenge; the log knows what it was."""
    answer = put(wallets, made())
    assert outcome(answer) == (status, None if reason is None else reason.value)
    assert ("www-authenticate" in answer.headers) is (status == 401)
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "no-store"
        assert set(answer.body) == {"title", "status", "instance"}


# -- stolen, replayed, moved ---------------------------------------------------------------------------------


def test_a_captured_request_is_of_no_use(wallets: Receiver) -> None:
    """Headers and all, at once or later, once or ten times."""
    captured = good_fields()
    assert outcome(put(wallets, captured)) == (200, None)
    for _ in range(10):
        assert outcome(put(wallets, captured)) == (400, R.REPLAYED.value)
    access, identity = captured[0][1][7:], captured[1][1]
    again = fields(access, identity, wpt(access, identity, jti="wpt-2"))
    assert outcome(put(wallets, again)) == (200, None), "the tokens themselves are good for more requests"


def test_a_captured_request_that_never_arrived_is_good_nowhere_else(wallets: Receiver) -> None:
    """Another path, another method, another token with the same binding: refused; as sent: accepted, once."""
    captured = good_fields()
    assert outcome(put(wallets, captured, path="/proved/1")) == (400, R.BAD_WPT.value)
    assert outcome(put(wallets, captured, path="/write")) == (400, R.BAD_WPT.value)
    assert outcome(put(wallets, captured, method="GET")) == (400, R.BAD_WPT.value)
    other = [(b"authorization", b"Bearer " + access_token(jti="another")), *captured[1:]]
    assert outcome(put(wallets, other)) == (400, R.BAD_WPT.value)
    assert outcome(put(wallets, captured)) == (200, None)
    assert outcome(put(wallets, captured)) == (400, R.REPLAYED.value)


def test_the_query_is_not_part_of_what_is_proved(wallets: Receiver) -> None:
    """As the draft has it (section 2): method, path, tokens; neither query nor body."""
    assert outcome(put(wallets, good_fields(), path="/proved?limit=5")) == (200, None)


def test_escapes_that_mean_the_same_are_the_same(wallets: Receiver) -> None:
    """RFC 3986 section 6.2.2, on both sides; a reserved character and its escape are two things."""
    for number, (path, aud, status) in enumerate(
        [
            ("/proved/a%7Eb", "/proved/a~b", 200),
            ("/proved/%c3%a4", "/proved/%C3%A4", 200),
            ("/proved/a%40b", "/proved/a@b", 400),
            ("/proved/a%2541", "/proved/aA", 400),
            ("/proved/a;b", "/proved/a;b", 400),
        ]
    ):
        answer = put(wallets, good_fields(aud=WALLETS + aud, jti=f"wpt-{number}"), path=path)
        assert answer.status == status, path


def test_a_refused_request_does_not_use_its_proof_up(wallets: Receiver) -> None:
    """Nobody can burn a proof with a request that fails another check; who lacks a scope is told so."""
    poor = access_token(scope="cards:read")
    identity = wit()
    lacking = put(wallets, fields(poor, identity, wpt(poor, identity)))
    assert outcome(lacking) == (403, R.MISSING_SCOPE.value)
    assert outcome(put(wallets, good_fields())) == (200, None)
    admin = put(wallets, good_fields(aud=f"{WALLETS}/admin", jti="wpt-2"), path="/admin")
    assert outcome(admin) == (403, R.MISSING_SCOPE.value)


def test_the_id_of_a_wit_is_no_replay_key(wallets: Receiver) -> None:
    """One WIT serves for an hour of requests, also where its access token is good for one."""
    for number in range(3):
        token, identity = access_token(jti=f"token-{number}"), wit()
        proof = wpt(token, identity, jti=f"wpt-{number}", aud=f"{WALLETS}/proved-once")
        assert outcome(put(wallets, fields(token, identity, proof), path="/proved-once")) == (200, None)
    proof = wpt(token, identity, jti="wpt-9", aud=f"{WALLETS}/proved-once")
    replayed = put(wallets, fields(token, identity, proof), path="/proved-once")
    assert outcome(replayed) == (401, R.REPLAYED.value)


def test_elsewhere_a_bound_token_needs_its_proof_too(wallets: Receiver) -> None:
    """On a route of the same service that takes plain tokens: with the proof, and never as a plain bearer."""
    lines_ = good_fields(aud=f"{WALLETS}/write")
    assert outcome(put(wallets, lines_, path="/write")) == (200, None)
    assert outcome(put(wallets, lines_, path="/write")) == (400, R.REPLAYED.value)
    assert outcome(put(wallets, lines_[:1], path="/write")) == (401, R.PROOF_MISSING.value)
    assert outcome(put(wallets, fields(good(), None, None), path="/write")) == (200, None)
    with pytest.raises(Exception, match="proof_missing"):
        wallets.service.verify(access_token())


def test_a_verified_token_opens_no_door_without_its_proof(wallets: Receiver) -> None:
    """The memory of verified tokens holds no bound one, and no plain one opens the route."""
    for _ in range(2):
        assert outcome(put(wallets, fields(good(), None, None), path="/write")) == (200, None)
        assert outcome(put(wallets, fields(good(), None, None))) == (401, R.PROOF_MISSING.value)
    assert outcome(put(wallets, good_fields())) == (200, None)
    assert outcome(put(wallets, good_fields()[:1])) == (401, R.PROOF_MISSING.value)
    assert wallets.service.running().verifier.cached(access_token(), NOW) is None


def test_a_service_without_such_a_route_takes_no_bound_token(tmp_path: Path) -> None:
    """Whatever comes along with it."""
    with frozen():
        receiver = Receiver(tmp_path, edge_keys=[key()], key_store="memory://")
        lines_ = good_fields(aud=f"{WALLETS}/read", htm="GET")
        assert outcome(put(receiver, lines_, path="/read", method="GET")) == (401, R.PROOF_MISSING.value)
        receiver.close()


def test_on_a_public_path_a_proof_is_no_way_in(tmp_path: Path) -> None:
    """Without an access token it is a mistake; anonymous callers still come in."""
    with frozen():
        receiver = proving_receiver(tmp_path, public_paths=["/read"])
        assert receiver.call().body == {"caller": None}
        bare = put(receiver, good_fields()[1:], path="/read", method="GET")
        assert outcome(bare) == (400, R.PROOF_FIELDS.value)
        assert outcome(put(receiver, good_fields(htm="GET"), "/read", "GET")) == (400, R.BAD_WPT.value)
        lines_ = good_fields(htm="GET", aud=f"{WALLETS}/read")
        assert put(receiver, lines_, "/read", "GET").body["caller"] == EDGE
        receiver.close()


# -- the store, the deny list, the trust file ----------------------------------------------------------------


def test_without_the_store_nobody_can_tell(tmp_path: Path) -> None:
    """503 with Retry-After on what carries a proof, and the route recovers; plain tokens elsewhere go on."""
    with RedisServer() as server:
        receiver = proving_receiver(tmp_path, server.url, allow_unsealed_key_store=True)
        receiver.service.clock = lambda: float(NOW)
        assert outcome(put(receiver, good_fields())) == (200, None)
        remembered = server.command("KEYS", f"s2s-mesh:{WALLETS}:jti:*").decode().split("\r\n")[2]
        assert 150 - 5 <= int(server.command("TTL", remembered)[1:]) <= 150  # 60, leeway 30, clocks 60
        server.kill()
        answer = put(receiver, good_fields(jti="wpt-2"))
        assert outcome(answer) == (503, R.REPLAY_STORE_UNAVAILABLE.value)
        assert int(answer.headers["retry-after"]) > 0
        assert outcome(put(receiver, fields(good(), None, None), path="/write")) == (200, None)
        receiver.close()


def test_a_proof_that_one_replica_took_is_refused_by_the_others(tmp_path: Path) -> None:
    """What was used is known wherever the same store is asked."""
    with RedisServer() as server, frozen():
        replicas = []
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
            replicas.append(proving_receiver(tmp_path / name, server.url, allow_unsealed_key_store=True))
        captured = good_fields()
        answers = [outcome(put(replica, captured)) for replica in (*replicas, *replicas)]
        assert answers == [(200, None)] + [(400, R.REPLAYED.value)] * 5
        for replica in replicas:
            replica.close()


def test_a_denied_wit_key_is_denied(tmp_path: Path) -> None:
    """The deny list holds for the WIT too: an issuer key that is denied vouches for no proof key."""
    with frozen():
        receiver = proving_receiver(tmp_path)
        assert outcome(put(receiver, with_wit(key("Ed25519"))())) == (200, None)
        rule = DenyRule(id="r1", why="leaked", added_at=NOW, kid=key("Ed25519").kid)
        receiver.service.running().verifier.deny = DenyList([rule])
        denied = put(receiver, with_wit(key("Ed25519"))())
        assert outcome(denied) == (400, R.DENIED.value)
        assert outcome(put(receiver, good_fields(jti="wpt-2"))) == (200, None)
        receiver.close()


def test_the_trust_file_can_begin_to_want_proof(tmp_path: Path) -> None:
    """From the reload on: what was good as a plain token is refused, and the fields are looked at."""
    with frozen() as clock:
        receiver = Receiver(tmp_path, edge_keys=[key()], key_store="memory://")
        assert outcome(put(receiver, fields(good(), None, None), path="/write")) == (200, None)
        proved = '[[route]]\naudience = "%s"\npath = "/write"\nmethods = ["PUT"]\nproof = "wpt"\n'
        receiver.write_trust(proved % WALLETS)
        clock.tick(5)
        receiver.reload_trust()
        assert outcome(put(receiver, fields(good(), None, None), path="/write")) == (
            401,
            R.PROOF_MISSING.value,
        )
        assert outcome(put(receiver, good_fields(aud=f"{WALLETS}/write"), path="/write")) == (200, None)
        receiver.close()


def test_the_log_names_what_is_wrong_and_shows_no_token(
    wallets: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer says nothing; the log says which token and which check, and whose it is."""
    lines_ = good_fields(htm="GET")
    put(wallets, lines_)
    (record,) = [record for record in caplog.records if record.name == "s2s_mesh.access"]
    message = record.getMessage()
    assert "bad_wpt: WPT: bad_wpt: htm is not the method of the request" in message
    assert f"claimed issuer {EDGE}" in message
    assert not any(value[-20:].decode() in message for _, value in lines_)


def test_a_wit_is_remembered_for_as_long_as_it_holds(wallets: Receiver) -> None:
    """Not beyond its time, a rule of the deny list or a new trust file, and for no other issuer."""
    verifier = wallets.service.running().verifier
    assert outcome(put(wallets, good_fields())) == (200, None)
    identity = wit(key("Ed25519"))

    def verdict(at: float = NOW, issuer: str = EDGE) -> Any:
        try:
            next(verifier.verify_wit(identity, issuer, at))
        except StopIteration as done:
            return done.value.thumbprint
        except TokenRejected as refused:
            return refused.reason

    assert verdict() == verdict() == proof_key().kid
    assert len(verifier._wits) == 2
    assert verdict(NOW + 3631) is R.EXPIRED
    assert verdict(NOW - 31) is R.NOT_YET_VALID
    assert verdict(issuer=LEDGER) is R.BAD_ALGORITHM  # judged by that issuer's rules, from the start
    verifier.deny = DenyList([DenyRule(id="r1", why="leaked", added_at=NOW, kid=key("Ed25519").kid)])
    assert verdict() is R.DENIED
    verifier.deny = DenyList()
    assert verdict() == proof_key().kid
    verifier.trust = msgspec.structs.replace(verifier.trust, issuers={})
    assert verdict() is R.UNKNOWN_ISSUER


def test_a_known_wit_does_not_spare_the_proof(wallets: Receiver) -> None:
    """What was accepted once helps no thief."""
    assert outcome(put(wallets, good_fields())) == (200, None)
    assert outcome(put(wallets, proof_of("thief")())) == (400, R.BAD_WPT.value)
    assert outcome(put(wallets, with_token(lambda: access_token(cnf={"jkt": "x"}))())) == (
        401,
        R.PROOF_MISMATCH.value,
    )
    assert outcome(put(wallets, good_fields()[:2])) == (400, R.PROOF_FIELDS.value)
