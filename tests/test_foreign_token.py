"""Tokens of foreign issuers: what is accepted, what each relaxation changes, and for whom they vouch."""

from __future__ import annotations

from typing import Any

import pytest

from s2s_mesh import foreign_token
from s2s_mesh.deny_list import DenyList, DenyRule
from s2s_mesh.drivers import drive
from s2s_mesh.effects import FetchJWKS
from s2s_mesh.errors import JWKSUnavailable, Reason, TokenRejected
from s2s_mesh.identity import Principal
from s2s_mesh.jwks import JWKSet
from s2s_mesh.keys import SigningKey
from s2s_mesh.resolver import JWKSCacheLimits, KeyResolver
from s2s_mesh.strict_json import encode
from s2s_mesh.trust import TrustConfig
from s2s_mesh.verifier import Verifier

from . import tokens
from .hostile import rows
from .tokens import ABSENT, LEDGER, NOW, WALLETS

ACCOUNTS = "https://accounts.example.com/"
SETTLEMENT = "https://settlement.example.com"
SUB = "payments-settlement"

FILE = """
version = 1
[foreign_issuers."https://accounts.example.com/"]
jwks_uri = "https://accounts.example.com/keys"
{relaxed}
[[subject]]
issuer = "https://accounts.example.com/"
subject = "payments-settlement"
service = "https://settlement.example.com"
{condition}
[[subject]]
issuer = "https://accounts.example.com/"
subject = "nightly"
service = "https://batch.example.com"
[[allow]]
issuer = "https://settlement.example.com"
audience = "https://wallets.example.com"
scopes = ["cards:read", "cards:write"]
[[allow]]
issuer = "https://batch.example.com"
audience = "https://ledger.example.com"
"""


def trust(relaxed: str = "", condition: str = "") -> TrustConfig:
    return TrustConfig.parse(FILE.format(relaxed=relaxed, condition=condition))


def claims(**changes: Any) -> dict[str, Any]:
    """What an authorization server says about a client; `ABSENT` removes a member."""
    return tokens.claims(
        **{"iss": ACCOUNTS, "sub": SUB, "client_id": SUB, "scope": ABSENT, "exp": NOW + 600, **changes}
    )


class Hand:
    """A receiver that has fetched the issuer's keys, and never asks for anything again."""

    wait_seconds = 0.0

    def __init__(self, config: TrustConfig, *, alg: str = "ES256", eddsa: bool = False) -> None:
        self.signer: SigningKey = tokens.key(alg, "accounts")
        self.resolver = KeyResolver(JWKSCacheLimits())
        served = {**self.signer.public.public_jwk, **({"alg": "EdDSA"} if eddsa else {})}
        body = encode({"keys": [served]})
        self.resolver.succeeded(ACCOUNTS, JWKSet.parse(body, eddsa=eddsa), NOW)
        self.verifier = Verifier(audiences=[WALLETS], trust=config, resolver=self.resolver)
        self.asked: list[object] = []

    def begin(self, effect: object) -> None:
        self.asked.append(effect)

    def accept(self, payload: dict[str, Any], head: dict[str, Any] | None = None) -> Principal:
        token = tokens.sign(tokens.header(self.signer, **(head or {})), payload, self.signer)
        principal = drive(self.verifier.verify(token, NOW), self, lambda: NOW)
        assert self.verifier.cached(token, NOW) is principal
        return principal


def test_the_caller_is_the_service_for_which_the_issuer_vouches() -> None:
    """The principal's issuer is the service; who signed for it, and what that calls it, stand beside."""
    caller = Hand(trust()).accept(claims())
    assert (caller.issuer, caller.vouched_by, caller.subject) == (SETTLEMENT, ACCOUNTS, SUB)
    assert (caller.audience, set(caller.scopes)) == (WALLETS, {"cards:read", "cards:write"})


def test_scope_in_the_token_only_takes_away() -> None:
    """As with our own tokens; unless the trust file says that it means nothing."""
    payload = claims(scope="cards:read openid")
    assert Hand(trust()).accept(payload).scopes == {"cards:read"}
    assert Hand(trust("ignore_scope = true")).accept(payload).scopes == {"cards:read", "cards:write"}


IDP = 'claims = { azp = "web", federated_claims = { connector_id = "github" }, verified = true }'
SAYS = {"azp": "web", "federated_claims": {"connector_id": "github"}, "verified": True}
AUD = 'audiences = { "api://wallets" = "https://wallets.example.com" }'
OTHER_AUD = 'audiences = { "api://ledger" = "https://ledger.example.com" }'
X5T = 'header_members = ["x5t"]'
JWT = 'typ = ["JWT"]'
UNTYPED = 'typ = ["JWT"]\nallow_missing_typ = true'
Row = tuple[str, str, str, dict[str, Any], dict[str, Any], Reason | None]
HOSTILE: list[Row] = [
    ("a client's token", "", "", {}, {}, None),
    ("iss without its slash", "", "", {"iss": ACCOUNTS.rstrip("/")}, {}, Reason.UNKNOWN_ISSUER),
    ("iss in upper case", "", "", {"iss": ACCOUNTS.upper()}, {}, Reason.UNKNOWN_ISSUER),
    ("iss as a list", "", "", {"iss": [ACCOUNTS]}, {}, Reason.UNKNOWN_ISSUER),
    ("no iss", "", "", {"iss": ABSENT}, {}, Reason.UNKNOWN_ISSUER),
    (
        "the service's own id as iss",
        "",
        "",
        {"iss": SETTLEMENT, "sub": SETTLEMENT},
        {},
        Reason.UNKNOWN_ISSUER,
    ),
    ("another sub", "", "", {"sub": "somebody"}, {}, Reason.BAD_SUBJECT),
    ("the service's id as sub", "", "", {"sub": SETTLEMENT}, {}, Reason.BAD_SUBJECT),
    ("no sub", "", "", {"sub": ABSENT}, {}, Reason.BAD_SUBJECT),
    ("sub as a list", "", "", {"sub": [SUB]}, {}, Reason.BAD_SUBJECT),
    ("a service without a grant here", "", "", {"sub": "nightly"}, {}, Reason.PAIR_NOT_GRANTED),
    ("for another service", "", "", {"aud": LEDGER}, {}, Reason.WRONG_AUDIENCE),
    ("for us by another name", "", "", {"aud": "api://wallets"}, {}, Reason.WRONG_AUDIENCE),
    ("for others as well", "", "", {"aud": [WALLETS, "x"]}, {}, Reason.WRONG_AUDIENCE),
    ("for nobody", "", "", {"aud": []}, {}, Reason.WRONG_AUDIENCE),
    ("no aud", "", "", {"aud": ABSENT}, {}, Reason.WRONG_AUDIENCE),
    ("no jti", "", "", {"jti": ABSENT}, {}, Reason.BAD_JTI),
    ("an hour", "", "", {"exp": NOW + 3600}, {}, Reason.LIFE_TOO_LONG),
    ("expired", "", "", {"iat": NOW - 700, "exp": NOW - 100}, {}, Reason.EXPIRED),
    ("not yet", "", "", {"nbf": NOW + 100}, {}, Reason.NOT_YET_VALID),
    ("no exp", "", "", {"exp": ABSENT}, {}, Reason.BAD_TIME_CLAIM),
    ("bound to a key", "", "", {"cnf": {"jkt": "x"}}, {}, Reason.PROOF_MISSING),
    ("on behalf of a user", "", "", {"act": {"sub": SUB}}, {}, Reason.BAD_USER),
    ("a user by sub_id", "", "", {"sub_id": {}}, {}, Reason.BAD_USER),
    ("scope as a list", "", "", {"scope": ["cards:read"]}, {}, Reason.BAD_SCOPE),
    ("typ JWT", "", "", {}, {"typ": "JWT"}, Reason.BAD_TYPE),
    ("no typ", "", "", {}, {"typ": ABSENT}, Reason.BAD_TYPE),
    ("a header member more", "", "", {}, {"x5t": "x"}, Reason.HEADER_MEMBER),
    ("x5t by name", X5T, "", {}, {"x5t": "x"}, None),
    ("x5t and another", X5T, "", {}, {"x5t": "x", "x5t#S256": "y"}, Reason.HEADER_MEMBER),
    ("a key beside x5t", X5T, "", {}, {"x5t": "x", "jwk": {}}, Reason.HEADER_MEMBER),
    ("an algorithm that is not accepted", 'algorithms = ["RS256"]', "", {}, {}, Reason.BAD_ALGORITHM),
    # each relaxation, and what it does not relax
    ("typ JWT by name", JWT, "", {}, {"typ": "JWT"}, None),
    ("no typ where JWT is named", JWT, "", {}, {"typ": ABSENT}, Reason.BAD_TYPE),
    ("at+jwt where JWT is named", JWT, "", {}, {}, Reason.BAD_TYPE),
    ("no typ by name", UNTYPED, "", {}, {"typ": ABSENT}, None),
    ("any typ", UNTYPED, "", {}, {"typ": "x"}, Reason.BAD_TYPE),
    ("no typ where only at+jwt is", "allow_missing_typ = true", "", {}, {"typ": ABSENT}, Reason.BAD_TYPE),
    ("another kind of token", UNTYPED, "", {}, {"typ": "wit+jwt"}, Reason.BAD_TYPE),
    ("a day by name", 'max_token_life = "24h"', "", {"exp": NOW + 86400}, {}, None),
    ("longer", 'max_token_life = "24h"', "", {"exp": NOW + 86401}, {}, Reason.LIFE_TOO_LONG),
    ("what it calls us", AUD, "", {"aud": "api://wallets"}, {}, None),
    ("our id as well", AUD, "", {"aud": [WALLETS]}, {}, None),
    ("what it calls us, and others", AUD, "", {"aud": ["api://wallets", "x"]}, {}, Reason.WRONG_AUDIENCE),
    ("what it calls another", OTHER_AUD, "", {"aud": "api://ledger"}, {}, Reason.WRONG_AUDIENCE),
    ("several by name", "multi_aud = true", "", {"aud": ["x", WALLETS]}, {}, None),
    ("several without us", "multi_aud = true", "", {"aud": ["x", LEDGER]}, {}, Reason.WRONG_AUDIENCE),
    ("several of any kind", "multi_aud = true", "", {"aud": [WALLETS, 1]}, {}, Reason.WRONG_AUDIENCE),
    ("ten", "multi_aud = true", "", {"aud": [*"abcdefghi", WALLETS]}, {}, None),
    ("too many", "multi_aud = true", "", {"aud": [WALLETS, *"abcdefghij"]}, {}, Reason.WRONG_AUDIENCE),
    ("no jti by name", "allow_missing_jti = true", "", {"jti": ABSENT}, {}, None),
    ("jti null", "allow_missing_jti = true", "", {"jti": None}, {}, Reason.BAD_JTI),
    ("jti empty", "allow_missing_jti = true", "", {"jti": ""}, {}, Reason.BAD_JTI),
    ("scope ignored by name", "ignore_scope = true", "", {"scope": ["x"]}, {}, None),
    ("with its claims", "", IDP, SAYS, {}, None),
    ("without them", "", IDP, {}, {}, Reason.BAD_SUBJECT),
    ("another azp", "", IDP, {**SAYS, "azp": "cli"}, {}, Reason.BAD_SUBJECT),
    ("azp in a list", "", IDP, {**SAYS, "azp": ["web"]}, {}, Reason.BAD_SUBJECT),
    ("1 for true", "", IDP, {**SAYS, "verified": 1}, {}, Reason.BAD_SUBJECT),
    (
        "another upstream",
        "",
        IDP,
        {**SAYS, "federated_claims": {"connector_id": "gitlab"}},
        {},
        Reason.BAD_SUBJECT,
    ),
    ("no object", "", IDP, {**SAYS, "federated_claims": "github"}, {}, Reason.BAD_SUBJECT),
]


@pytest.mark.parametrize(("relaxed", "condition", "changes", "head", "reason"), rows(HOSTILE))
def test_everything_that_is_not_named_is_refused(
    relaxed: str, condition: str, changes: dict[str, Any], head: dict[str, Any], reason: Reason | None
) -> None:
    """Each row changes one thing of a good token, or of what the trust file relaxes; nothing is fetched."""
    hand = Hand(trust(relaxed, condition).for_audiences([WALLETS]))
    if reason is None:
        assert hand.accept(claims(**changes), head).issuer == SETTLEMENT
        return
    if reason is Reason.PAIR_NOT_GRANTED:  # a file that holds more than this service's part
        hand = Hand(trust(relaxed, condition))
    with pytest.raises(TokenRejected) as refused:
        hand.accept(claims(**changes), head)
    assert refused.value.reason is reason
    assert hand.asked == []
    named = reason not in (Reason.UNKNOWN_ISSUER, Reason.HEADER_MEMBER)
    assert refused.value.claimed_issuer == (ACCOUNTS if named else None)


@pytest.mark.parametrize("sub", [ABSENT, None, [ACCOUNTS], ""])
def test_a_token_without_sub_never_means_its_issuer(sub: object) -> None:
    """Also where a row does, because the issuer is an account that signs for itself."""
    text = FILE.format(relaxed="", condition="").replace(f'subject = "{SUB}"', f'subject = "{ACCOUNTS}"')
    hand = Hand(TrustConfig.parse(text))
    assert hand.accept(claims(sub=ACCOUNTS)).issuer == SETTLEMENT
    with pytest.raises(TokenRejected) as refused:
        hand.accept(claims(sub=sub))
    assert refused.value.reason is Reason.BAD_SUBJECT


def test_two_issuers_with_one_key_are_two() -> None:
    """What a key signs is good for the issuer that the token names, and vouches by that one's rows only."""
    other = "https://other.example.com/"
    rows_of_other = (
        f'[[subject]]\nissuer = "{other}"\nsubject = "ci"\nservice = "https://batch.example.com"\n'
    )
    text = FILE.format(relaxed="", condition="") + f'[foreign_issuers."{other}"]\n{rows_of_other}'
    allowed = '[[allow]]\nissuer = "https://batch.example.com"\naudience = "https://wallets.example.com"\n'
    hand = Hand(TrustConfig.parse(text + allowed))
    with pytest.raises(JWKSUnavailable):  # its own keys are not known, although the other's are
        hand.accept(claims(iss=other, sub="ci"))
    hand.resolver.succeeded(other, JWKSet([hand.signer.public]), NOW)
    assert hand.accept(claims(iss=other, sub="ci")).vouched_by == other
    for issuer, sub in ((ACCOUNTS, "ci"), (other, SUB)):
        with pytest.raises(TokenRejected) as refused:
            hand.accept(claims(iss=issuer, sub=sub))
        assert refused.value.reason is Reason.BAD_SUBJECT


@pytest.mark.parametrize("typ", ["", "application/", None, 1])
def test_a_typ_that_says_nothing_is_not_the_same_as_none(typ: object) -> None:
    """Where a token may be without `typ`, one that is there must still be a media type."""
    with pytest.raises(TokenRejected) as refused:
        Hand(trust(UNTYPED)).accept(claims(), {"typ": typ})
    assert refused.value.reason is Reason.BAD_TYPE


def test_what_one_issuer_may_have_in_its_header_another_may_not() -> None:
    """Neither a service of ours nor another foreign issuer."""
    other = FILE.format(relaxed="", condition="").replace(ACCOUNTS, "https://other.example.com/")
    text = (
        FILE.format(relaxed=X5T, condition="") + other.partition("version = 1")[2].partition("[[allow]]")[0]
    )
    own = '[[allow]]\nissuer = "https://edge.example.com"\naudience = "https://wallets.example.com"\n'
    hand = Hand(TrustConfig.parse(text + own))
    assert hand.accept(claims(), {"x5t": "x"}).issuer == SETTLEMENT
    for issuer in ("https://other.example.com/", "https://edge.example.com"):
        hand.resolver.succeeded(issuer, JWKSet([hand.signer.public]), NOW)
        payload = claims(iss=issuer, **({"sub": issuer, "client_id": issuer} if "edge" in issuer else {}))
        assert hand.accept(payload).vouched_by in (issuer, None)
        with pytest.raises(TokenRejected) as refused:
            hand.accept(payload, {"x5t": "x"})
        assert refused.value.reason is Reason.HEADER_MEMBER


ED = 'algorithms = ["Ed25519"]'


def test_eddsa_is_ed25519_by_its_older_name_where_that_is_said() -> None:
    """In the key set and in the token; the key is held by the name that says which curve it is on."""
    hand = Hand(trust(f"{ED}\neddsa = true"), alg="Ed25519", eddsa=True)
    assert hand.accept(claims(), {"alg": "EdDSA"}).issuer == SETTLEMENT
    assert hand.accept(claims(jti="2")).issuer == SETTLEMENT
    assert [key.alg for key in hand.resolver.keys(ACCOUNTS)] == ["Ed25519"]


@pytest.mark.parametrize("relaxed", [ED, "eddsa = true"])
def test_eddsa_is_no_algorithm_by_itself(relaxed: str) -> None:
    """It needs the name, and the algorithm."""
    with pytest.raises(TokenRejected) as refused:
        Hand(trust(relaxed), alg="Ed25519").accept(claims(), {"alg": "EdDSA"})
    assert refused.value.reason is Reason.BAD_ALGORITHM


def test_eddsa_allows_no_other_algorithm() -> None:
    """What the issuer's table does not list stays refused, though the key set has a key for it."""
    with pytest.raises(TokenRejected) as refused:
        Hand(trust(f"{ED}\neddsa = true")).accept(claims())
    assert refused.value.reason is Reason.BAD_ALGORITHM


def test_eddsa_is_never_another_keys_algorithm() -> None:
    """A token that says EdDSA and is signed by a key of another kind is refused."""
    relaxed = 'algorithms = ["ES256", "Ed25519"]\neddsa = true'
    with pytest.raises(TokenRejected) as refused:
        Hand(trust(relaxed)).accept(claims(), {"alg": "EdDSA"})
    assert refused.value.reason is Reason.KEY_MISMATCH


def test_keys_without_alg_are_used_where_that_is_said() -> None:
    """For the one accepted algorithm that goes with their type, and never for two."""
    jwk = {name: value for name, value in tokens.key().public.public_jwk.items() if name != "alg"}

    def usable(relaxed: str) -> list[str]:
        source = trust(relaxed).foreign_issuers[ACCOUNTS]
        found = JWKSet.parse(encode({"keys": [jwk]}), assumed=source.assumed_algorithms)
        return [key.alg for key in found.keys.values()]

    assert usable("") == []
    assert usable("keys_without_alg = true") == ["ES256"]
    assert usable('keys_without_alg = true\nalgorithms = ["RS256"]') == []


def test_keys_are_asked_for_by_the_foreign_issuer_and_kid() -> None:
    """Never by the service, and never one of another issuer's."""
    hand = Hand(trust())
    with pytest.raises(TokenRejected) as refused:
        hand.accept(claims(), {"kid": "unknown"})
    assert refused.value.reason is Reason.UNKNOWN_KID
    assert hand.asked == [FetchJWKS(issuer=ACCOUNTS, kid="unknown")] * 2


def denied(**named: Any) -> DenyRule:
    return DenyRule(id="rule", why="stolen", added_at=NOW, **named)


@pytest.mark.parametrize(
    "rule",
    [
        denied(issuer=ACCOUNTS),
        denied(issuer=SETTLEMENT),
        denied(jti="JG7TbVpiXKr0eTnbsFSM6A"),
        denied(issuer=SETTLEMENT, jti="JG7TbVpiXKr0eTnbsFSM6A"),
        denied(kid=tokens.key("ES256", "accounts").kid),
    ],
)
def test_what_is_denied_is_refused_by_either_name(rule: DenyRule) -> None:
    """The service, the issuer that vouches for it, its key, the token; at once, remembered or not."""
    hand = Hand(trust())
    assert hand.accept(claims()).issuer == SETTLEMENT
    hand.verifier.deny = DenyList([denied(issuer=LEDGER)])
    assert hand.accept(claims()).issuer == SETTLEMENT
    hand.verifier.deny = DenyList([rule])
    with pytest.raises(TokenRejected) as refused:
        hand.accept(claims())
    assert refused.value.reason is Reason.DENIED


def test_a_remembered_token_rests_on_trust_and_key() -> None:
    """A new trust file, or another key under the same kid, has it verified again."""
    hand = Hand(trust())
    token = tokens.sign(tokens.header(hand.signer), claims(), hand.signer)
    drive(hand.verifier.verify(token, NOW), hand, lambda: NOW)
    assert hand.verifier.cached(token, NOW) is not None
    hand.resolver.succeeded(ACCOUNTS, JWKSet([]), NOW)
    assert hand.verifier.cached(token, NOW) is None
    hand.resolver.succeeded(ACCOUNTS, JWKSet([hand.signer.public]), NOW)
    drive(hand.verifier.verify(token, NOW), hand, lambda: NOW)
    hand.verifier.trust = trust("leeway = '10s'")
    assert hand.verifier.cached(token, NOW) is None


def test_its_clock_is_forgiven_what_its_table_says() -> None:
    """Not what that of the service says, if there is one."""
    hand = Hand(trust('leeway = "90s"'))
    caller = hand.accept(claims(iat=NOW - 600, exp=NOW - 60))
    assert hand.verifier.leeway(caller) == 90.0


def test_only_a_spiffe_id_names_its_issuer_itself() -> None:
    """Nobody else is found by what stands in `sub`."""
    issuer = "https://hub.example.com"
    hub = TrustConfig.parse(
        f'version = 1\n[foreign_issuers."{issuer}"]\ndiscovery = true\n'
        f'[foreign_issuers."spiffe://example.org"]\nprofile = "spiffe"\njwks_file = "b.json"\n'
    ).foreign_issuers
    assert foreign_token.find({"iss": issuer, "sub": "spiffe://example.org/x"}, hub) is hub[issuer]
    assert foreign_token.find({"sub": f"{issuer}/x"}, hub) is None
    assert foreign_token.find({"iss": "x", "sub": f"{issuer}/x"}, hub) is None
    assert foreign_token.find({"iss": "spiffe://example.org", "sub": f"{issuer}/x"}, hub) is None
    assert foreign_token.find({"sub": "spiffe://example.org/x"}, hub) is hub["spiffe://example.org"]


def test_rules_are_those_of_the_issuer_that_was_found() -> None:
    """Claims of another issuer are never measured by them."""
    rules = trust().foreign_issuers[ACCOUNTS]
    with pytest.raises(TokenRejected) as refused:
        foreign_token.validate(claims(iss="https://other.example.com/"), rules, [WALLETS], NOW)
    assert refused.value.reason is Reason.UNKNOWN_ISSUER
