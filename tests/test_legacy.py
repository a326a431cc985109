"""Coming from API keys and Basic: which credential opens at which stage, through the door."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import ConfigError, Service
from s2s_mesh.asgi import MeshMiddleware
from s2s_mesh.deny_list import DenyList, DenyRule
from s2s_mesh.effects import Answer, CheckPassword
from s2s_mesh.errors import Reason
from s2s_mesh.identity import Principal
from s2s_mesh.inbound import Admitted, InboundFlow, RequestFacts
from s2s_mesh.legacy import LegacyRows, OldCredential
from s2s_mesh.migration_use import TOKEN, Who
from s2s_mesh.refusal import Refusal

from .hostile import rows
from .migrating import HASH, KEY, OTHER_KEY, PASSWORD, X_API_KEY, basic, digest, row, trusting
from .receiver import Receiver, Verdict
from .tokens import EDGE, LEDGER, NOW, WALLETS, frozen, good, key, sign

R = Reason
Field = tuple[bytes, bytes]
BEARER = f'Bearer realm="{WALLETS}"'
BASIC = f'Basic realm="{WALLETS}", charset="UTF-8"'
GOOD = good()
BAD = GOOD[:-4] + b"AAAA"
LEDGERS = good(key(name="second"), iss=LEDGER, sub=LEDGER, client_id=LEDGER)
LEDGER_KEY = "ledger-has-this-key-0123456789abcdef"
LEDGER_ROW = row(issuer=LEDGER, api_key_sha256=digest(LEDGER_KEY))
OLD = (X_API_KEY, KEY.encode())
WRONG = (X_API_KEY, OTHER_KEY.encode())
ENDED = "2027-01-14"


def bearer(token: bytes) -> Field:
    return b"authorization", b"Bearer " + token


def beside(token: bytes) -> Field:
    return b"workload-authorization", b"Bearer " + token


BASIC_OLD = (b"authorization", basic())
BASIC_WRONG = (b"authorization", basic(password="wrong"))
OTHERS_OLD = (X_API_KEY, LEDGER_KEY.encode())

# what is presented: for a row with an API key, and for a row with Basic
PRESENTED: dict[str, tuple[Sequence[Field], Sequence[Field]]] = {
    "only the old": ([OLD], [BASIC_OLD]),
    "only the new": ([bearer(GOOD)], [bearer(GOOD)]),
    "only the new, in its own field": ([bearer(GOOD)], [beside(GOOD)]),
    "both, matching": ([OLD, bearer(GOOD)], [BASIC_OLD, beside(GOOD)]),
    "both, of two services": ([OLD, bearer(LEDGERS)], [BASIC_OLD, beside(LEDGERS)]),
    "a wrong old": ([WRONG], [BASIC_WRONG]),
    "a wrong old beside a good new": ([WRONG, bearer(GOOD)], [BASIC_WRONG, beside(GOOD)]),
    "a bad new": ([bearer(BAD)], [beside(BAD)]),
    "a bad new beside a good old": ([OLD, bearer(BAD)], [BASIC_OLD, beside(BAD)]),
}
# the same whatever the stage: what is presented and not valid refuses, whatever else is presented
ALWAYS: dict[str, Reason | None] = {
    "only the new": None,
    "only the new, in its own field": None,
    "both, of two services": R.LEGACY_MISMATCH,
    "a wrong old": R.LEGACY_INVALID,
    "a wrong old beside a good new": R.LEGACY_INVALID,
    "a bad new": R.BAD_SIGNATURE,
    "a bad new beside a good old": R.BAD_SIGNATURE,
}
# what depends on the stage, for the right old credential alone and beside a token of the same service
STAGES: dict[str, tuple[dict[str, str], Reason | None]] = {
    "observe": ({"migration": "observe"}, None),
    "prefer": ({"migration": "prefer"}, None),
    "off": ({"migration": "off"}, R.LEGACY_OFF),
    "require": ({"migration": "require"}, R.LEGACY_REFUSED),
    "observe, ended": ({"migration": "observe", "until": ENDED}, R.LEGACY_ENDED),
    "prefer, ended": ({"migration": "prefer", "until": ENDED}, R.LEGACY_ENDED),
}
TABLE = [
    (f"{kind} {stage}: {what}", kind, members, PRESENTED[what][kind == "basic"], ALWAYS.get(what, of_stage))
    for stage, (members, of_stage) in STAGES.items()
    for kind in ("key", "basic")
    for what in PRESENTED
]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Receiver]]:
    """A receiver for each trust file, made once."""
    made: dict[str, Receiver] = {}

    def door(trust: str, **options: Any) -> Receiver:
        name = f"{trust} {options}"
        if name not in made:
            made[name] = Receiver(
                tmp_path_factory.mktemp("legacy"),
                edge_keys=[key()],
                ledger_keys=[key(name="second")],
                trust=trust,
                **options,
            )
        return made[name]

    with frozen():
        yield door
        for receiver in made.values():
            receiver.close()


Doors = Callable[..., Receiver]


@pytest.mark.parametrize(("kind", "members", "fields", "reason"), rows(TABLE))
def test_every_stage_and_what_is_presented(
    doors: Doors, kind: str, members: dict[str, str], fields: Sequence[Field], reason: Reason | None
) -> None:
    """Each stage says what the old credential is worth; nothing that is invalid is overlooked for another."""
    answer = doors(row(kind, **members) + LEDGER_ROW).call(headers=fields)
    assert answer.reason == reason
    assert answer.status == (200 if reason is None else 401)
    if reason is None:
        assert answer.body == {"caller": EDGE, "scopes": ["cards:read", "cards:write"]}
    warned = members["migration"] == "prefer" and reason is None and fields[0] in (OLD, BASIC_OLD)
    assert answer.headers.get("sunset") == ("Mon, 01 Feb 2027 00:00:00 GMT" if warned else None)


BOTH_KINDS = row() + row("basic")
ROUTES = f"""
[[route]]
audience = "{WALLETS}"
path = "/read"
methods = ["GET"]
[[route]]
audience = "{WALLETS}"
path = "/open"
methods = ["GET"]
replay = "once"
[[route]]
audience = "{WALLETS}"
path = "/write"
methods = ["PUT"]
proof = "wpt"
[[route]]
audience = "{WALLETS}"
path = "/admin"
methods = ["GET"]
scopes = ["cards:admin"]
[[route]]
audience = "{WALLETS}"
path = "/forbidden-by-app"
methods = ["GET"]
user = "asserted"
"""


def b64(text: bytes) -> Field:
    return b"authorization", b"Basic " + base64.b64encode(text)


HOSTILE: list[tuple[str, Sequence[Field], str, int, Reason | None]] = [
    ("an API key", [OLD], "/read", 200, None),
    ("Basic", [BASIC_OLD], "/read", 200, None),
    ("the scheme in other letters", [(b"authorization", b"bASIC" + basic()[5:])], "/read", 200, None),
    ("an empty API key", [(X_API_KEY, b"")], "/read", 401, R.LEGACY_INVALID),
    ("a space behind the key", [(X_API_KEY, KEY.encode() + b" ")], "/read", 401, R.LEGACY_INVALID),
    ("its hash as the key", [(X_API_KEY, digest(KEY).encode())], "/read", 401, R.LEGACY_INVALID),
    ("the key in another field", [(b"x-other-key", KEY.encode())], "/read", 401, R.NO_CREDENTIAL),
    ("the key with an underscore", [(b"x_api_key", KEY.encode())], "/read", 401, R.NO_CREDENTIAL),
    ("the key as a bearer token", [bearer(KEY.encode())], "/read", 401, R.NOT_A_COMPACT_JWS),
    ("the key twice", [OLD, OLD], "/read", 400, R.SEVERAL_CREDENTIALS),
    ("two old ways", [OLD, BASIC_OLD], "/read", 400, R.SEVERAL_CREDENTIALS),
    ("a key of 1 MB", [(X_API_KEY, b"k" * 10**6)], "/read", 401, R.LEGACY_INVALID),
    ("a key and a token in the query", [OLD], "/read?access_token=x", 400, R.SEVERAL_CREDENTIALS),
    ("two tokens", [bearer(GOOD), beside(GOOD)], "/read", 400, R.SEVERAL_CREDENTIALS),
    ("no scheme", [(b"workload-authorization", GOOD)], "/read", 400, R.MALFORMED_HEADER),
    ("Basic there", [(b"workload-authorization", basic())], "/read", 400, R.MALFORMED_HEADER),
    ("no token there", [(b"workload-authorization", b"Bearer ")], "/read", 400, R.MALFORMED_HEADER),
    ("a hash as password", [(b"authorization", basic(password=HASH))], "/read", 401, R.LEGACY_INVALID),
    ("an unknown user", [(b"authorization", basic(user="root"))], "/read", 401, R.LEGACY_INVALID),
    ("the user in other letters", [(b"authorization", basic(user="Edge"))], "/read", 401, R.LEGACY_INVALID),
    ("no user", [b64(f":{PASSWORD}".encode())], "/read", 401, R.LEGACY_INVALID),
    ("no colon", [b64(b"edge")], "/read", 401, R.LEGACY_INVALID),
    ("no password", [b64(b"edge:")], "/read", 401, R.LEGACY_INVALID),
    ("NUL", [b64(f"edge:{PASSWORD}\0".encode())], "/read", 401, R.LEGACY_INVALID),
    ("DEL", [b64(b"edge\x7f:x")], "/read", 401, R.LEGACY_INVALID),
    ("Latin-1", [b64(f"edge:{PASSWORD}".encode("latin-1"))], "/read", 401, R.LEGACY_INVALID),
    ("no base64", [(b"authorization", b"Basic ????")], "/read", 401, R.LEGACY_INVALID),
    ("a space in it", [(b"authorization", basic() + b" ")], "/read", 401, R.LEGACY_INVALID),
    ("the scheme alone", [(b"authorization", b"Basic")], "/read", 401, R.LEGACY_INVALID),
    ("Basic of 1 MB", [b64(b"edge:" + b"x" * 10**6)], "/read", 401, R.LEGACY_INVALID),
    ("a longer scheme", [(b"authorization", b"Basics" + basic()[5:])], "/read", 401, R.NO_CREDENTIAL),
    ("where a token is used up", [OLD], "/open", 401, R.LEGACY_TOO_WEAK),
    ("Basic where a token is used up", [BASIC_OLD], "/open", 401, R.LEGACY_TOO_WEAK),
    ("beside a token that is used up", [OLD, bearer(good(jti="A" * 22))], "/open", 200, None),
    ("where a user is wanted", [OLD], "/forbidden-by-app", 403, R.USER_REQUIRED),
    ("no more than the pair is granted", [OLD], "/admin", 403, R.MISSING_SCOPE),
    ("no rule for the path", [OLD], "/nowhere", 403, R.NO_ROUTE_RULE),
]


@pytest.mark.parametrize(("fields", "path", "status", "reason"), rows(HOSTILE))
def test_an_old_credential_is_what_it_is_to_the_byte(
    doors: Doors, fields: Sequence[Field], path: str, status: int, reason: Reason | None
) -> None:
    """Spellings, doubles and guesses are refused, and so are routes that want what only a token can give."""
    answer = doors(BOTH_KINDS + ROUTES, key_store="memory://").call(headers=fields, path=path)
    assert (answer.status, answer.reason) == (status, reason)


def test_a_route_that_wants_proof_refuses_an_old_credential(doors: Doors) -> None:
    """Also where the method is another."""
    door = doors(BOTH_KINDS + ROUTES, key_store="memory://")
    answer = door.call(headers=[OLD], path="/write", method="PUT")
    assert (answer.status, answer.reason) == (401, R.LEGACY_TOO_WEAK)


def challenges(answer: Verdict) -> list[str]:
    return answer.headers.get_list("www-authenticate")


def test_the_challenge_names_basic_while_it_is_accepted(doors: Doors) -> None:
    """In a field line of its own; not for API keys, and not once Basic is over. It never says why."""
    live = doors(row("basic"))
    for fields in ([], [BASIC_WRONG], [(b"authorization", basic(user="nobody"))]):
        assert challenges(live.call(headers=fields)) == [BEARER, BASIC]
    invalid = f'{BEARER}, error="invalid_token", error_description="The access token is invalid"'
    assert challenges(live.call(headers=[bearer(BAD)])) == [invalid, BASIC]
    assert challenges(live.call(headers=[BASIC_OLD, BASIC_OLD]))[1:] == []
    for over in (row(), row("basic", migration="require"), row("basic", until=ENDED)):
        assert challenges(doors(over).call(headers=[])) == [BEARER]


def test_a_service_without_rows_looks_at_no_old_credential(receiver: Receiver) -> None:
    """Nobody asked for it: what comes along is as foreign as any other field."""
    assert receiver.call(headers=[OLD]).reason == R.NO_CREDENTIAL
    assert receiver.call(headers=[WRONG, bearer(GOOD)]).status == 200
    assert receiver.call(headers=[beside(GOOD)]).reason == R.NO_CREDENTIAL


def test_a_header_of_another_name_carries_the_key(doors: Doors) -> None:
    """As the row says; two rows may name two fields, and each key is good in its own only."""
    mine = ("X-Wallets-Key", b"x-wallets-key")
    door = doors(row(header=mine[0]) + LEDGER_ROW)
    assert door.call(headers=[(mine[1], KEY.encode())]).body["caller"] == EDGE
    assert door.call(headers=[OTHERS_OLD]).body["caller"] == LEDGER
    assert door.call(headers=[OLD]).reason == R.LEGACY_INVALID
    assert door.call(headers=[(mine[1], LEDGER_KEY.encode())]).reason == R.LEGACY_INVALID


def test_a_field_of_another_name_carries_the_token(doors: Doors) -> None:
    """Beside Basic, or alone."""
    door = doors(row("basic", token_header="X-Mesh-Token"))
    field = (b"x-mesh-token", b"Bearer " + GOOD)
    assert door.call(headers=[BASIC_OLD, field]).status == 200
    assert door.call(headers=[field]).status == 200
    assert door.call(headers=[beside(GOOD)]).reason == R.NO_CREDENTIAL


def test_an_invalid_old_credential_is_refused_on_public_paths_too(doors: Doors) -> None:
    """Nobody becomes anonymous by mistake; who shows none is, and who shows the right one is known."""
    door = doors(row(), public_paths=["/open"])
    assert door.call(path="/open").body == {"caller": None}
    assert door.call(path="/open", headers=[OLD]).body["caller"] == EDGE
    assert door.call(path="/open", headers=[WRONG]).reason == R.LEGACY_INVALID


def test_a_denied_caller_is_denied_with_its_old_credential(doors: Doors) -> None:
    """`s2s-mesh deny add --issuer` means the service, however it comes."""
    door = doors(row() + "# denied\n")
    verifier = door.service.running().verifier
    rule = DenyRule(id="r1", why="broken into", added_at=NOW, issuer=EDGE)
    before, verifier.deny = verifier.deny, DenyList([rule])
    answer = door.call(headers=[OLD])
    verifier.deny = before
    assert (answer.status, answer.reason) == (401, R.DENIED)
    assert door.call(headers=[OLD]).status == 200


def test_what_the_policy_sees(doors: Doors) -> None:
    """Who calls, and that it was by an old credential, which has no kid and no claims."""
    seen: list[Principal] = []

    class Keeps:
        def decide(self, facts: object, principal: Principal) -> Any:
            from s2s_mesh import Decision

            seen.append(principal)
            return Decision.allow()

    door = doors(row() + "# policy\n", policy=Keeps())
    for fields in ([OLD], [bearer(GOOD)], [OLD, bearer(GOOD)]):
        assert door.call(headers=fields).status == 200
    assert [principal.credential for principal in seen] == ["api_key", "token", "token"]
    old = seen[0]
    assert (old.issuer, old.subject, old.audience, old.kid) == (EDGE, EDGE, WALLETS, "")
    assert old.scopes == {"cards:read", "cards:write"}
    assert dict(old.claims) == {}
    assert old.expires_at == 1_801_440_000  # the end of 2027-01-31, UTC


def test_at_prefer_each_old_use_is_a_warning(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    """With the caller, the end and the path; at observe there is none, and never the credential itself."""
    door = doors(row(migration="prefer") + LEDGER_ROW)
    with caplog.at_level(logging.DEBUG, "s2s_mesh"):
        door.call(headers=[OLD])
        door.call(headers=[OTHERS_OLD])
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines == [
        f"{EDGE} used an old credential, which ends at Mon, 01 Feb 2027 00:00:00 GMT: GET /read",
    ]
    assert KEY not in caplog.text


def test_a_websocket_says_it_where_it_is_accepted(doors: Doors) -> None:
    """A handshake is a request like any other, and its answer has header fields too."""
    sent: list[dict[str, Any]] = []

    async def accepts(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    service = doors(row(migration="prefer") + LEDGER_ROW).service
    scope = {"type": "websocket", "path": "/read", "headers": [OLD], "query_string": b""}
    asyncio.run(MeshMiddleware(accepts, service)(scope, receive, send))
    assert sent == [{"type": "websocket.accept", "headers": [(b"sunset", b"Mon, 01 Feb 2027 00:00:00 GMT")]}]


def test_only_what_was_proved_is_counted(doors: Doors) -> None:
    """Old credentials and tokens of callers with rows, refused by a stage or not; nothing that is wrong."""
    door = doors(row(migration="require") + "# counted\n")
    migration = door.service.running().migration
    for fields in ([OLD], [OLD], [WRONG], [bearer(GOOD)], [bearer(GOOD)], [bearer(BAD)], [bearer(LEDGERS)]):
        door.call(headers=fields)
    migration.keep(at_once=True)
    uses = migration.pending.by_who
    assert {who: sum(use.days.values()) for who, use in uses.items()} == {
        Who(EDGE, WALLETS, "api_key"): 2,
        Who(EDGE, WALLETS, TOKEN): 2,
    }
    assert {use.last for use in uses.values()} == {float(NOW)}


def test_the_row_of_an_alias_does_not_hide_another() -> None:
    """One service by two names, and one key for both: the first row of the file counts."""
    more = f'[[allow]]\nissuer = "{EDGE}"\naudience = "https://alias.example.com"\nscopes = ["a"]\n'
    trust = trusting(more, row() + row(audience="https://alias.example.com"))
    found = LegacyRows.of(trust)
    assert found is not None
    assert [rule.audience for rule in found.keys.values()] == [WALLETS]


def admitting(door: Receiver, authorization: bytes) -> InboundFlow:
    """The flow that decides about a request with this field."""
    facts = RequestFacts(headers=[(b"authorization", authorization)])
    flow = door.service.running().inbound.admit(facts, NOW)
    assert not isinstance(flow, (Admitted, Refusal))
    return flow


CHECKED: list[tuple[str, str, bool | None, Reason | None]] = [
    ("right", "edge", True, None),
    ("wrong", "edge", False, R.LEGACY_INVALID),
    ("nobody can tell", "edge", None, R.PASSWORD_CHECK_UNAVAILABLE),
    ("an unknown user, wrong", "nobody", False, R.LEGACY_INVALID),
    ("an unknown user, right for the hash of nobody", "nobody", True, R.LEGACY_INVALID),
    ("an unknown user, and nobody can tell", "nobody", None, R.PASSWORD_CHECK_UNAVAILABLE),
]


@pytest.mark.parametrize(("user", "result", "reason"), rows(CHECKED))
def test_what_becomes_of_a_password(
    doors: Doors, user: str, result: bool | None, reason: Reason | None
) -> None:
    """One that cannot be checked is neither right nor wrong: 503, try again, and nobody is let in."""
    flow = admitting(doors(row("basic")), basic(user))
    assert isinstance(next(flow), CheckPassword)
    with pytest.raises(StopIteration) as ended:
        flow.send(Answer(NOW, result))
    outcome = ended.value.value
    if reason is None:
        assert outcome.principal.issuer == EDGE
        return
    assert outcome.reason is reason
    unavailable = reason is R.PASSWORD_CHECK_UNAVAILABLE
    assert (outcome.status, ("retry-after", "1") in outcome.headers) == (
        (503, True) if unavailable else (401, False)
    )


def test_an_unknown_user_costs_what_a_known_one_costs(doors: Doors) -> None:
    """The same effect, with a hash of the same parameters."""
    door = doors(row("basic"))
    known, unknown = (next(admitting(door, basic(user))) for user in ("edge", "nobody"))
    assert isinstance(known, CheckPassword)
    assert isinstance(unknown, CheckPassword)
    assert known.stored == HASH
    assert unknown.stored.split("$")[:4] == HASH.split("$")[:4]
    assert unknown.stored != HASH


def test_nothing_shows_a_password_or_a_hash() -> None:
    """Not in a repr, whoever prints it."""
    rule = trusting(row("basic")).legacy[0]
    check = CheckPassword(HASH, PASSWORD.encode())
    old = OldCredential("basic", b"authorization", basic()[6:])
    for thing in (rule, check, old, rule.__rich_repr__(), check.__rich_repr__()):
        assert "argon2" not in repr(thing)
        assert "horse" not in repr(thing)
        assert basic()[6:].decode() not in repr(thing)


def test_a_row_that_needs_argon2_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start; API keys need nothing."""
    monkeypatch.setitem(__import__("sys").modules, "argon2", None)
    for kind in ("key", "basic"):
        service = Service(issuer=WALLETS, trust=trusting(row(kind)), key_store=None)
        if kind == "key":
            service.running()
            service.__exit__()
            continue
        with pytest.raises(ConfigError, match=r"pip install 's2s-mesh\[legacy\]'"):
            service.running()


def test_a_token_signed_by_another_is_not_saved_by_the_key(doors: Doors) -> None:
    """Present and invalid never falls back."""
    forged = sign({"alg": "ES256", "kid": key().kid, "typ": "at+jwt"}, {"iss": EDGE}, key(name="second"))
    assert doors(row() + LEDGER_ROW).call(headers=[OLD, bearer(forged)]).status == 401
