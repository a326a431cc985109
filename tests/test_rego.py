"""Rego in this process: the same file gives the same verdicts behind HTTP, as the same rules do in Python."""

from __future__ import annotations

import asyncio
import builtins
import importlib.util
import os
import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from s2s_mesh import ConfigError, Decision, EndUser, Policy, PolicyFacts, PolicyUnavailable, Principal
from s2s_mesh.errors import Reason
from s2s_mesh.identity import freeze
from s2s_mesh.integrations.opa import OPA
from s2s_mesh.integrations.rego import Rego
from s2s_mesh.routes import external_path

from .hostile import rows
from .programs import ROOT
from .rego_server import need_rego, rego_server
from .test_policy import CALLER, FACTS
from .test_policy_at_the_door import STATUS, behind, verdict
from .tokens import EDGE, LEDGER, NOW, WALLETS, claims, good

REQUESTS = int(os.environ.get("S2S_MESH_TEST_REQUESTS", "1000"))
EXAMPLE = ROOT / "examples" / "policy"
RULE = "data.wallets.allow"
TOKEN = good()
DESK = "https://desk.example.com"
LOGIN = "https://login.example.com/"


@pytest.fixture(autouse=True)
def engine() -> None:
    need_rego()


def written(folder: Path, rules: str) -> Path:
    """A file of package `wallets`."""
    file = folder / "wallets.rego"
    file.write_text(f"package wallets\n\n{rules}\n", encoding="utf-8")
    return file


def rego(folder: Path, rules: str) -> Rego:
    return Rego(written(folder, rules), rule=RULE)


R = Reason
VALUES: list[tuple[str, str, Reason | None]] = [
    ("true", "allow := true", None),
    ("true for this call", 'allow if input.path == ["read"]', None),
    ("true, else false", "default allow := false\nallow if input.version == 1", None),
    ("false", "allow := false", R.POLICY_DENIED),
    ("false for this call", "default allow := false\nallow if input.version == 2", R.POLICY_DENIED),
    ("undefined for this call", 'allow if input.path == ["write"]', R.POLICY_DENIED),
    ("another rule", "Allow := true", R.POLICY_DENIED),
    ("no rule", "", R.POLICY_DENIED),
    ("the text true", 'allow := "true"', R.POLICY_DENIED),
    ("a text with quotes", 'allow := "\\"true\\""', R.POLICY_DENIED),
    ("a text of the caller's", "allow := input.claims.sub", R.POLICY_DENIED),
    ("objects of the caller's", "allow := input", R.POLICY_DENIED),
    ("1", "allow := 1", R.POLICY_DENIED),
    ("null", "allow := null", R.POLICY_DENIED),
    ("an object", 'allow := {"allow": true}', R.POLICY_DENIED),
    ("an empty object", "allow := {}", R.POLICY_DENIED),
    ("a set", "allow contains true", R.POLICY_DENIED),
    ("an error of a function", "allow if 1 / (input.version - 1) > 0", R.POLICY_DENIED),
    ("true and false", "allow := true if input.version\nallow := false if input.time", R.POLICY_UNAVAILABLE),
]


@pytest.mark.parametrize("way", ["embedded", "HTTP"])
@pytest.mark.parametrize(("rules", "reason"), rows(VALUES))
def test_what_the_rule_is_is_what_the_caller_gets(
    tmp_path: Path, rules: str, reason: Reason | None, way: str
) -> None:
    """Only true lets a call through, in this process and behind HTTP alike."""
    file = written(tmp_path, rules)
    with rego_server(file) as url:
        policy: Policy = (
            Rego(file, rule=RULE)
            if way == "embedded"
            else OPA(f"{url}/v1/data/wallets/allow", idle_connections=0, timeout=30)
        )
        with behind(tmp_path, policy) as receiver:
            for _ in range(2):
                found = verdict(receiver.call(TOKEN))
                assert found == (STATUS[reason], None if reason is None else reason.value)


# -- the example --------------------------------------------------------------------------------------------


def by_hand() -> Policy:
    """The example's rules in Python."""
    name = "wallets_policy"
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    policy: Policy = module.WalletsPolicy()
    return policy


class Generator:
    """Requests that the example allows and, more often, nearly allows."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one(self) -> tuple[PolicyFacts, Principal]:
        choose = self._random.choice
        wallet = choose(
            ["42", "reserved-1", "reserved-", "Reserved-1", "a b", 'a"b', "é", "%41", "{x}", "card"]
        )
        method, path = choose(
            [
                *[("GET", f"/wallets/{{}}/{choose(['card', 'card', 'card', 'cards', 'card/'])}")] * 2,
                ("HEAD", "/wallets/{}/card"),
                *[("PUT", "/wallets/{}/card")] * 4,
                *[("DELETE", "/wallets/{}")] * 4,
                (choose(["POST", "get", "OPTIONS"]), "/wallets/{}/card"),
                (choose(["DELETE", "PUT"]), choose(["/wallets/", "/wallets/{}/card/x", "/", "/Wallets/{}"])),
            ]
        )
        raw_path = path.format(quote(wallet)).encode()
        decoded = external_path(raw_path)
        assert decoded is not None
        day = NOW - NOW % 86400
        time = choose([NOW, day + choose([7199, 7200, 7499, 7500])])
        facts = PolicyFacts(
            method=method,
            path=tuple(decoded[1:].split("/")),
            raw_path=raw_path.decode(),
            audience=WALLETS,
            time=time,
        )
        issuer = choose([EDGE, EDGE, DESK, DESK + ".evil.example.com", LEDGER])
        scopes = ["cards:read", "cards:write", "cards:admin", "Cards:read", "cards"]
        user = choose([None, None, None, LOGIN, LOGIN[:-1], "https://other.example.com/"])
        principal = Principal(
            issuer=issuer,
            subject=issuer,
            audience=WALLETS,
            scopes=frozenset(self._random.sample(scopes, self._random.randint(1, 5))),
            kid=choose(["k1", "k2"]),
            expires_at=time + 120,
            claims=freeze(
                claims(
                    iss=issuer,
                    iat=time - choose([0, 29, 30, 31, 100]),
                    note=choose(["", 'quoted "text"', "back\\slash", "new\nline", "nul\0", "é", "😀"]),
                    more=choose([{}, {"deep": [1, {"x": None}]}, [True, 1.5]]),
                )
            ),
            user=None
            if user is None
            else EndUser(
                issuer=user,
                subject=choose(["u1", 'u"1', "é"]),
                expires_at=NOW + 60,
                auth_time=choose([None, NOW - 60]),
                acr=choose([None, "urn:x"]),
                amr=choose([(), ("mfa",), ("pwd", "mfa"), ("mfa2", "MFA")]),
                mode=choose(["asserted", "proven", "txn"]),
            ),
        )
        return facts, principal


def test_three_ways_one_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """The example in this process, behind HTTP and by hand: the same for every generated request."""
    generator = Generator(seed=5)
    requests = [generator.one() for _ in range(REQUESTS)]
    embedded, hand = Rego(EXAMPLE / "wallets.rego", rule=RULE), by_hand()

    async def over_http(url: str) -> list[Decision]:
        policy = OPA(f"{url}/v1/data/wallets/allow", timeout=30)
        try:
            return [await policy.decide(*request) for request in requests]
        finally:
            await policy.aclose()

    with rego_server(EXAMPLE / "wallets.rego") as url:
        through_http = asyncio.run(over_http(url))
    verdicts = Counter[tuple[str, bool]]()
    for request, by_server in zip(requests, through_http, strict=True):
        by_engine, by_python = embedded.decide(*request), hand.decide(*request)
        assert isinstance(by_python, Decision)
        assert (by_engine.allowed, by_server.allowed) == (by_python.allowed, by_python.allowed), request
        verdicts[(request[0].method, by_python.allowed)] += 1
    for method in ("GET", "HEAD", "PUT", "DELETE"):  # both are common enough to mean something
        assert min(verdicts[(method, True)], verdicts[(method, False)]) >= REQUESTS // 100
    with capsys.disabled():
        allowed = sum(count for (_, yes), count in verdicts.items() if yes)
        print(f"\n{len(requests)} requests, the same verdict three ways: {allowed} allowed")


CALLS: list[tuple[str, str, str, dict[str, Any], Reason | None]] = [
    ("who may read, reads", "GET", "/wallets/42/card", {}, None),
    ("who may write, writes", "PUT", "/wallets/42/card", {}, None),
    ("a reserved wallet", "PUT", "/wallets/reserved-1/card", {}, R.POLICY_DENIED),
    ("a reserved wallet in other spelling", "PUT", "/wallets/%72eserved-1/card", {}, R.POLICY_DENIED),
    ("reading is no writing", "PUT", "/wallets/42/card", {"scope": "cards:read"}, R.POLICY_DENIED),
    ("a route that no rule knows", "GET", "/read", {}, R.POLICY_DENIED),
]


@pytest.mark.parametrize("way", ["embedded", "HTTP", "by hand"])
@pytest.mark.parametrize(("method", "path", "changes", "reason"), rows(CALLS))
def test_the_example_at_the_door(
    tmp_path: Path, method: str, path: str, changes: dict[str, Any], reason: Reason | None, way: str
) -> None:
    """With real tokens, each way."""
    with rego_server(EXAMPLE / "wallets.rego") as url:
        policy = {
            "embedded": lambda: Rego(EXAMPLE / "wallets.rego", rule=RULE),
            "HTTP": lambda: OPA(f"{url}/v1/data/wallets/allow", idle_connections=0, timeout=30),
            "by hand": by_hand,
        }[way]()
        with behind(tmp_path, policy) as receiver:
            found = verdict(receiver.call(good(**changes), method=method, path=path))
    assert found == (STATUS[reason], None if reason is None else reason.value)


# -- the engine ---------------------------------------------------------------------------------------------

TEXTS = [
    *(
        'a"b',
        "a\\b",
        "a\nb",
        "a\tb",
        "\x01",
        "a\0b",
        "a",
        "A",
        "\\u0041",
        "\\n",
        "\\",
        "\\\\",
        '"',
        '\\"',
        "",
    ),
    *(
        "é",
        "e\u0301",
        "😀",
        "\u2028",
        "\x7f",
        "\x85",
        "\ufeff",
        "{}",
        '["x"]',
        "' or 1==1",
        "`",
        "$",
        "#",
        "//",
    ),
]


def test_no_two_texts_are_one(tmp_path: Path) -> None:
    """Whatever an issuer writes into a claim: quotes, escapes, NUL, JSON in it."""
    policy = rego(tmp_path, "allow if input.claims.one == input.claims.two")
    for one in TEXTS:
        for two in TEXTS:
            caller = Principal(
                **{name: getattr(CALLER, name) for name in CALLER.__struct_fields__ if name != "claims"},
                claims=freeze({"one": one, "two": two}),
            )
            assert policy.decide(FACTS, caller).allowed is (one == two), (one, two)


@pytest.mark.parametrize("note", ['x", "verdict": true, "y": "', 'x\\", "verdict": true, "y": "', '"', "\\"])
@pytest.mark.parametrize(
    "rule",
    [
        "input.claims.note",
        "substring(input.claims.note, 0, 2)",
        '{"a": substring(input.claims.note, 0, 2), "b": input.claims.note}',
    ],
)
def test_no_text_of_a_caller_is_taken_for_the_verdict(tmp_path: Path, rule: str, note: str) -> None:
    """The engine writes some texts without escaping them, so none is asked of it."""
    caller = Principal(
        **{name: getattr(CALLER, name) for name in CALLER.__struct_fields__ if name != "claims"},
        claims=freeze({"note": note}),
    )
    assert not rego(tmp_path, f"allow := {rule}").decide(FACTS, caller)


def test_several_files_and_threads(tmp_path: Path) -> None:
    """Files may share the work; threads never get each other's verdicts."""
    (tmp_path / "people.rego").write_text('package people\n\ngood(name) if endswith(name, ".example.com")\n')
    file = written(tmp_path, "allow if {\n data.people.good(input.caller.issuer)\n input.time % 2 == 0\n}")
    policy = Rego([file, str(tmp_path / "people.rego")], rule=RULE)
    assert repr(policy) == f"Rego(['{file}', '{tmp_path}/people.rego'], rule='data.wallets.allow')"

    def ask(time: int) -> bool:
        facts = PolicyFacts(method="GET", path=("x",), raw_path="/x", audience=WALLETS, time=time)
        return policy.decide(facts, CALLER).allowed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(400))) == [time % 2 == 0 for time in range(400)]


def test_why_is_in_the_log(tmp_path: Path) -> None:
    """The rule's name and what it is."""
    for rules, why in (
        ("allow := true", "data.wallets.allow is true"),
        ("allow := false", "data.wallets.allow is not true"),
        ("allow := 1", "data.wallets.allow is not true"),
        ("", "data.wallets.allow is undefined for this call"),
    ):
        assert rego(tmp_path, rules).decide(FACTS, CALLER).reason == why
    with pytest.raises(PolicyUnavailable, match="cannot be evaluated: does it have two"):
        rego(tmp_path, "allow := true\nallow := false").decide(FACTS, CALLER)


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("allow if {", "is no Rego"),
        ("allow if nobody_knows(1)", "is every function in it known"),
        ("allow = ", ""),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(tmp_path: Path, rules: str, problem: str) -> None:
    """Not at the first call."""
    with pytest.raises(ConfigError, match=f"Rego: .*{problem}"):
        rego(tmp_path, rules)


def test_other_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there, no file, a rule that is no name, no engine."""
    with pytest.raises(ConfigError, match=r"Rego: .*nowhere\.rego cannot be read: .*No such file"):
        Rego(tmp_path / "nowhere.rego", rule=RULE)
    with pytest.raises(ConfigError, match="Rego: no file is given"):
        Rego([], rule=RULE)
    for rule in ("wallets.allow", "data", "data.wallets.allow; true", "data.wallets.allow\n", "1"):
        with pytest.raises(ConfigError, match="expected a full name such as"):
            Rego(EXAMPLE / "wallets.rego", rule=rule)

    def nothing(name: str, *rest: Any) -> Any:
        if name.startswith("regopy"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    real = builtins.__import__
    for name in [name for name in sys.modules if name.startswith("regopy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", nothing)
    with pytest.raises(ConfigError, match=r"pip install 's2s-mesh\[rego\]'"):
        Rego(EXAMPLE / "wallets.rego", rule=RULE)
