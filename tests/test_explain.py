"""`trust explain` tells the verifier's own verdict, check by check, and the one thing to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from s2s_mesh import Reason, TrustConfig
from s2s_mesh.effects import Answer
from s2s_mesh.explain import Explanation, Verdict, explain_pair, explain_token
from s2s_mesh.inbound import Inbound, RequestFacts
from s2s_mesh.jwks import JWKSet
from s2s_mesh.resolver import JWKSCacheLimits, KeyResolver
from s2s_mesh.verifier import Verifier

from .tokens import ABSENT, CARRIED, EDGE, LEDGER, NOW, WALLETS, claims, encode, header, key, sign

NEW = "https://new.example.com"
ALIAS = "https://cards.example.com"
TRUST = f"""
version = 1
[issuers."{EDGE}"]
algorithms = ["ES256"]
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read"]
may_act_for = ["https://login.example.com/"]
[[allow]]
issuer = "{WALLETS}"
audience = "{LEDGER}"
[[route]]
audience = "{WALLETS}"
path = "/cards"
methods = ["GET"]
scopes = ["cards:read"]
[[route]]
audience = "{WALLETS}"
path = "/cards"
methods = ["PUT"]
scopes = ["cards:write"]
[[route]]
audience = "{WALLETS}"
path = "/cards"
methods = ["POST"]
user = "asserted"
[[route]]
audience = "{WALLETS}"
path = "/cards"
methods = ["DELETE"]
user = "proven"
[user_issuers."https://login.example.com/"]
audiences = ["{EDGE}"]
"""
WHOLE = TrustConfig.parse(TRUST)


def facts(method: str, path: bytes) -> RequestFacts:
    return RequestFacts(method=method, raw_path=path)


GET = facts("GET", b"/cards")
# of the field that carries a token, or of parts that are not about tokens
NOT_OF_TOKENS = {
    Reason.NO_CREDENTIAL,
    Reason.MALFORMED_HEADER,
    Reason.SEVERAL_CREDENTIALS,
    Reason.FRONT_CONTRACT,
    Reason.CERTIFICATE_FIELD,
    Reason.LEGACY_INVALID,
    Reason.LEGACY_MISMATCH,
    Reason.LEGACY_OFF,
    Reason.LEGACY_ENDED,
    Reason.LEGACY_REFUSED,
    Reason.LEGACY_TOO_WEAK,
    Reason.PASSWORD_CHECK_UNAVAILABLE,
    Reason.DENIED,
    Reason.DENY_LIST_UNAVAILABLE,
    Reason.REPLAYED,
    Reason.REPLAY_STORE_UNAVAILABLE,
    Reason.PROOF_FIELDS,
    Reason.BAD_WIT,
    Reason.BAD_WPT,
    Reason.POLICY_DENIED,
    Reason.POLICY_UNAVAILABLE,
}


class Hand:
    """A verifier of wallets that knows edge's key."""

    def __init__(self, whole: TrustConfig = WHOLE) -> None:
        trust = whole.for_audiences([WALLETS, ALIAS])
        resolver = KeyResolver(JWKSCacheLimits())
        resolver.succeeded(EDGE, JWKSet([key().public]), NOW)
        self.verifier = Verifier(audiences=[WALLETS, ALIAS], trust=trust, resolver=resolver)
        self.inbound = Inbound(self.verifier, realm=WALLETS)

    def token(self, token: bytes, request: RequestFacts | None = GET) -> Explanation:
        flow = explain_token(self.inbound, self.verifier, WHOLE, token, NOW, request)
        try:
            next(flow)
            while True:
                flow.send(Answer(NOW))
        except StopIteration as done:
            answer: Explanation = done.value
            return answer

    def pair(self, issuer: str, audience: str, request: RequestFacts | None = None) -> Explanation:
        return explain_pair(
            self.inbound, self.verifier, WHOLE, issuer=issuer, audience=audience, request=request
        )


class Parts(NamedTuple):
    """What a token and its request are made of."""

    head: dict[str, Any]
    body: dict[str, Any]
    signature: bytes | None
    request: RequestFacts


def head(**changes: Any) -> Callable[[Parts], Parts]:
    return lambda parts: parts._replace(head={**parts.head, **changes})


def body(**changes: Any) -> Callable[[Parts], Parts]:
    return lambda parts: parts._replace(body={**parts.body, **changes})


def request(method: str, path: bytes) -> Callable[[Parts], Parts]:
    return lambda parts: parts._replace(request=facts(method, path))


def of_user(login: str) -> Callable[[Parts], Parts]:
    """The token carries a user of this identity provider; what else may be wrong with its subject stays."""

    def carry(parts: Parts) -> Parts:
        user = {"format": "iss_sub", "iss": login, "sub": "u1"}
        kept = {"act": {"sub": EDGE}, **parts.body}
        return parts._replace(body={**kept, "sub": "u1", "sub_id": user})

    return carry


def unproven(parts: Parts) -> Parts:
    """A user whom nobody proves, where the route wants proof."""
    return of_user("https://login.example.com/")(parts)._replace(request=facts("DELETE", b"/cards"))


# one fault for each check, in the order of the checks
FAULTS: list[tuple[str, Reason, Callable[[Parts], Parts]]] = [
    ("form", Reason.NOT_A_COMPACT_JWS, lambda parts: parts._replace(signature=b"")),
    ("header", Reason.HEADER_MEMBER, head(jku="https://evil.example.com")),
    ("issuer", Reason.UNKNOWN_ISSUER, body(iss="https://nobody.example.com")),
    ("algorithm", Reason.BAD_ALGORITHM, head(alg="RS256")),
    ("type", Reason.BAD_TYPE, head(typ="jwt")),
    ("audience", Reason.WRONG_AUDIENCE, body(aud=LEDGER)),
    ("times", Reason.EXPIRED, body(iat=NOW - 500, exp=NOW - 400)),
    ("user", Reason.BAD_USER, body(act={"sub": LEDGER})),
    ("proof", Reason.PROOF_MISSING, body(cnf={"jkt": "x"})),
    ("subject", Reason.BAD_SUBJECT, body(sub=LEDGER)),
    ("token id", Reason.BAD_JTI, body(jti="")),
    ("scope", Reason.BAD_SCOPE, body(scope="a  b")),
    ("grant", Reason.PAIR_NOT_GRANTED, body(aud=ALIAS)),
    ("user's grant", Reason.USER_NOT_GRANTED, of_user("https://login.other.example.com")),
    ("key", Reason.UNKNOWN_KID, head(kid="nobody-has-this-one")),
    ("signature", Reason.BAD_SIGNATURE, lambda parts: parts._replace(signature=encode(bytes(64)))),
    ("route", Reason.NO_ROUTE_RULE, request("GET", b"/other")),
    ("route's scopes", Reason.MISSING_SCOPE, request("PUT", b"/cards")),
    ("route's user", Reason.USER_REQUIRED, request("POST", b"/cards")),
    ("user's evidence", Reason.USER_UNPROVEN, unproven),
]


def explained(*faults: Callable[[Parts], Parts]) -> Explanation:
    """The explanation of a good token and request with these faults; where two touch the same member, the
    last one holds."""
    parts = Parts(header(key()), claims(scope="cards:read"), None, GET)
    for fault in faults:
        parts = fault(parts)
    token = sign(
        {name: value for name, value in parts.head.items() if value is not ABSENT}, parts.body, key()
    )
    if parts.signature is not None:
        token = token.rpartition(b".")[0] + b"." + parts.signature
    return Hand().token(token, parts.request)


def failed(answer: Explanation) -> str | None:
    names = [step.check for step in answer.steps if step.verdict is Verdict.FAILED]
    return names[0] if names else None


def test_a_good_call_passes_every_check() -> None:
    """All checks are ticked, and the scopes are those that the caller has."""
    answer = explained()
    assert answer.admitted
    assert {step.verdict for step in answer.steps} == {Verdict.PASSED}
    assert [step.check for step in answer.steps] == [name for name, _, _ in FAULTS]
    assert answer.scopes == {"cards:read"}
    assert (answer.reason, answer.detail, answer.advice) == (None, "", "")


@pytest.mark.parametrize(("check", "reason", "fault"), FAULTS, ids=[name for name, _, _ in FAULTS])
def test_a_refused_call_ends_at_its_check(
    check: str, reason: Reason, fault: Callable[[Parts], Parts]
) -> None:
    """What stands before it is ticked, what stands behind it was not reached, and there is advice."""
    answer = explained(fault)
    verdicts = [step.verdict for step in answer.steps]
    place = [step.check for step in answer.steps].index(check)
    assert not answer.admitted
    assert answer.reason is reason
    assert verdicts == [Verdict.PASSED] * place + [Verdict.FAILED] + [Verdict.NOT_REACHED] * (
        len(verdicts) - place - 1
    )
    assert answer.advice


def test_the_checks_stand_in_the_verifiers_order() -> None:
    """Of two faults the verifier names the one whose check stands first."""
    for place, (first, reason, fault) in enumerate(FAULTS):
        for second, _, later in FAULTS[place + 1 :]:
            if (first, second) in (("subject", "user's grant"), ("subject", "user's evidence")):
                continue  # a token with a user has the user's subject
            if (first, second) == ("route's user", "user's evidence"):
                continue  # there is a user
            answer = explained(later, fault)
            assert (failed(answer), answer.reason) == (first, reason), (first, second)


def test_every_reason_about_a_token_has_a_check_and_advice() -> None:
    """Nothing that a receiver's log may name is left unexplained."""
    from s2s_mesh import explain

    named = [reason for _, reasons, _ in explain._CHECKS for reason in reasons]
    assert sorted(named) == sorted(set(Reason) - NOT_OF_TOKENS)


@pytest.mark.parametrize("token", [b"", b"a.b", b"Bearer x.y.z", "é.é.é".encode()])
def test_what_is_no_token_fails_at_its_form(token: bytes) -> None:
    """Nothing of it is shown."""
    answer = Hand().token(token)
    assert failed(answer) == "form"
    assert not any(step.found for step in answer.steps if step.check != "route")


def test_an_alg_that_is_no_text_fails_at_the_header() -> None:
    """It is not said to be an algorithm that could be allowed."""
    assert failed(explained(head(alg=["ES256"]))) == "header"


def test_keys_that_cannot_be_had_are_not_the_tokens_fault() -> None:
    """The check is `key`, and the advice says so."""
    hand = Hand()
    other = TrustConfig.parse(TRUST.replace(EDGE, "https://cold.example.com"))
    hand.verifier.trust = other.for_audiences([WALLETS])
    cold = "https://cold.example.com"
    answer = hand.token(sign(header(key()), claims(iss=cold, sub=cold, client_id=cold), key()))
    assert (failed(answer), answer.reason) == ("key", Reason.JWKS_UNAVAILABLE)
    assert "nothing is wrong with the token" in answer.advice


@pytest.mark.parametrize(
    ("issuer", "advice"),
    [
        (
            "https://new.example.com",
            f'add [[allow]] issuer = "https://new.example.com", audience = "{WALLETS}"',
        ),
        (EDGE + "/", f"the trust file lists {EDGE}; ids are compared byte by byte"),
        (EDGE.upper(), f"the trust file lists {EDGE}; ids are compared byte by byte"),
        (EDGE.replace("https", "http"), f"the trust file lists {EDGE}; ids are compared byte by byte"),
        (WALLETS, f'add [[allow]] issuer = "{WALLETS}", audience = "{WALLETS}"'),
    ],
    ids=["new", "slash", "upper case", "scheme", "may call others"],
)
def test_an_unknown_issuer_is_told_from_a_misspelt_one(issuer: str, advice: str) -> None:
    """The row to add, or the id that was meant."""
    hand = Hand()
    hand.verifier.audiences = frozenset({WALLETS})
    assert advice in hand.token(sign(header(key()), claims(iss=issuer), key())).advice
    assert advice in hand.pair(issuer, WALLETS).advice


@pytest.mark.parametrize(
    ("issuer", "audience", "asked", "reason"),
    [
        (EDGE, WALLETS, None, None),
        (EDGE, WALLETS, GET, None),
        ("https://nobody.example.com", WALLETS, None, Reason.UNKNOWN_ISSUER),
        (EDGE, ALIAS, None, Reason.PAIR_NOT_GRANTED),
        (EDGE, WALLETS, RequestFacts(raw_path=b"//cards"), Reason.BAD_PATH),
        (EDGE, WALLETS, RequestFacts(raw_path=b"/x"), Reason.NO_ROUTE_RULE),
        (
            EDGE,
            WALLETS,
            RequestFacts(raw_path=b"/cards", method="PUT"),
            Reason.MISSING_SCOPE,
        ),
    ],
)
def test_without_a_token(
    issuer: str, audience: str, asked: RequestFacts | None, reason: Reason | None
) -> None:
    """What a caller with a good token may do; the first row may."""
    answer = Hand().pair(issuer, audience, asked)
    assert answer.reason is reason
    assert answer.admitted is (reason is None)
    assert bool(answer.advice) is (reason is not None)


@pytest.mark.parametrize(
    ("method", "carried", "check", "advice"),
    [
        ("POST", True, None, ""),
        ("POST", False, "route's user", "service.auth(AUDIENCE, on_behalf_of=USER)"),
        ("GET", False, None, ""),
        ("GET", True, "route's user", "leave on_behalf_of out"),
    ],
)
def test_where_a_route_wants_a_user(method: str, carried: bool, check: str | None, advice: str) -> None:
    """One that the caller may carry; the advice is for the side that has to change."""
    hand = Hand()
    body = {**claims(scope="cards:read"), **(CARRIED if carried else {})}
    answer = hand.token(sign(header(key()), body, key()), facts(method, b"/cards"))
    assert failed(answer) == check
    assert advice in answer.advice
    assert "may_act_for https://login.example.com/" in [step.expected for step in answer.steps]


def test_where_nobody_may_be_carried_the_advice_is_the_grant() -> None:
    """With or without a token; whoever may carry users is taken to do so where a route wants it."""
    asked = facts("POST", b"/cards")
    whole = TrustConfig.parse(TRUST.replace('may_act_for = ["https://login.example.com/"]\n', ""))
    hand = Hand(whole)
    bodies = (claims(scope="cards:read"), {**claims(scope="cards:read"), **CARRIED})
    tokens = [sign(header(key()), body, key()) for body in bodies]
    answers = [hand.pair(EDGE, WALLETS, asked), *(hand.token(token, asked) for token in tokens)]
    assert all("may_act_for" in answer.advice for answer in answers)
    assert [failed(answer) for answer in answers] == ["route's user", "route's user", "user's grant"]
    assert Hand().pair(EDGE, WALLETS, asked).admitted


@pytest.mark.parametrize(
    ("path", "cnf", "reason"),
    [
        (b"/proved", {"jkt": "x"}, None),
        (b"/proved", ABSENT, Reason.PROOF_MISSING),
        (b"/cards", ABSENT, None),
        (b"/cards", {"jkt": "x"}, None),
        (b"/proved", {"x5t#S256": "x"}, Reason.PROOF_MISSING),
        (b"/proved", {"x5t#S256": ["x"]}, Reason.PROOF_MISMATCH),
        (b"/proved", None, Reason.PROOF_MISMATCH),
        (b"/proved", "x5t#S256", Reason.PROOF_MISMATCH),
        (b"/proved", {"jkt": "x", "x5t#S256": "x"}, Reason.PROOF_MISMATCH),
        (b"/certified", {"x5t#S256": "x"}, None),
        (b"/certified", {"jkt": "x"}, Reason.PROOF_MISSING),
        (b"/certified", ABSENT, Reason.PROOF_MISSING),
        (b"/cards", {"x5t#S256": "x"}, None),
    ],
)
def test_where_a_route_wants_proof(path: bytes, cnf: Any, reason: Reason | None) -> None:
    """A plain token does not open it; a bound one is taken to come with its proof, which is not looked at."""
    row = '[[route]]\naudience = "{}"\npath = "{}"\nmethods = ["GET"]\nproof = "{}"\n'
    proved = row.format(WALLETS, "/proved", "wpt") + row.format(WALLETS, "/certified", "mtls")
    hand = Hand(TrustConfig.parse(TRUST + proved))
    token = sign(header(key()), claims(scope="cards:read", cnf=cnf), key())
    answer = hand.token(token, facts("GET", path))
    assert answer.reason is reason
    assert failed(answer) == (None if reason is None else "proof")


ACCOUNTS = "https://accounts.example.com/"
SETTLEMENT = "https://settlement.example.com"
FOREIGN = f"""
version = 1
[foreign_issuers."{ACCOUNTS}"]
[[subject]]
issuer = "{ACCOUNTS}"
subject = "settlement"
service = "{SETTLEMENT}"
[[allow]]
issuer = "{SETTLEMENT}"
audience = "{WALLETS}"
scopes = ["cards:read"]
"""


def of_a_foreign_issuer(head: dict[str, Any] | None = None, **changes: Any) -> Explanation:
    """What becomes of a token that an authorization server has signed for settlement."""
    whole = TrustConfig.parse(FOREIGN)
    resolver = KeyResolver(JWKSCacheLimits())
    resolver.succeeded(ACCOUNTS, JWKSet([key().public]), NOW)
    verifier = Verifier(audiences=[WALLETS], trust=whole.for_audiences([WALLETS]), resolver=resolver)
    payload = claims(**{"iss": ACCOUNTS, "sub": "settlement", "client_id": ABSENT, **changes})
    flow = explain_token(
        Inbound(verifier, realm=WALLETS),
        verifier,
        whole,
        sign(header(key(), **(head or {})), payload, key()),
        NOW,
    )
    try:
        while True:
            next(flow)
    except StopIteration as done:
        answer: Explanation = done.value
        return answer


def test_a_foreign_issuer_and_the_row_are_named() -> None:
    """Who vouches, and for whom."""
    answer = of_a_foreign_issuer()
    assert answer.admitted
    expected = {step.check: step.expected for step in answer.steps}
    assert expected["issuer"] == "an issuer of [foreign_issuers]"
    assert expected["subject"] == f"a [[subject]] row of this issuer: it stands for {SETTLEMENT}"
    assert expected["grant"] == "scopes cards:read"
    assert expected["key"] == f"published at {ACCOUNTS}.well-known/jwks.json"


@pytest.mark.parametrize(
    ("head", "changes", "check", "advice"),
    [
        ({}, {"sub": "other"}, "subject", "add a [[subject]] row"),
        ({}, {"aud": "wallets"}, "audience", "what it calls this service (audiences)"),
        ({}, {"exp": NOW + 3600}, "times", "set max_token_life in its table"),
        ({}, {"jti": ABSENT}, "token id", "set allow_missing_jti in its table"),
        ({}, {"scope": 1}, "scope", "set ignore_scope in its table"),
        ({"typ": "JWT"}, {}, "type", "list its typ in this issuer's table"),
        ({"typ": ABSENT}, {}, "type", "list its typ in this issuer's table"),
        ({"alg": "EdDSA"}, {}, "algorithm", "eddsa = true"),
        ({}, {"iss": ACCOUNTS[:-1]}, "issuer", f"the trust file lists {ACCOUNTS}; ids are compared"),
    ],
)
def test_what_to_change_for_a_foreign_issuer(
    head: dict[str, Any], changes: dict[str, Any], check: str, advice: str
) -> None:
    """The issuer is none of ours: as a rule its table is what can be changed."""
    answer = of_a_foreign_issuer(head, **changes)
    (failed,) = (step.check for step in answer.steps if step.verdict is Verdict.FAILED)
    assert failed == check
    assert advice in answer.advice


def test_what_a_service_may_do_for_whom_a_foreign_issuer_vouches() -> None:
    """Without a token, by the service's id."""
    whole = TrustConfig.parse(FOREIGN)
    verifier = Verifier(
        audiences=[WALLETS], trust=whole.for_audiences([WALLETS]), resolver=KeyResolver(JWKSCacheLimits())
    )
    inbound = Inbound(verifier, realm=WALLETS)
    answer = explain_pair(inbound, verifier, whole, issuer=SETTLEMENT, audience=WALLETS)
    assert answer.admitted
    assert answer.scopes == {"cards:read"}
