"""What a change of the trust file gives to whom, and takes from whom."""

from __future__ import annotations

import msgspec
import pytest

from s2s_mesh.trust import TrustConfig
from s2s_mesh.trust_diff import Change, Effect, changes
from s2s_mesh.wellknown import JWKS
from s2s_mesh.wellknown import OPENID_CONFIGURATION as DISCOVERY

from .tokens import EDGE, LEDGER, LOGIN, WALLETS

HEAD = "version = 1\n"
PAIR = f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:read", "cards:write"]\n'
ISSUER = f'[issuers."{EDGE}"]\n'
OTHER_PAIR = f'[[allow]]\nissuer = "{LEDGER}"\naudience = "{WALLETS}"\n'
ROUTE = (
    f'[[route]]\naudience = "{WALLETS}"\npath = "/cards"\nmethods = ["GET", "PUT"]\nscopes = ["cards:read"]\n'
)
OTHER_ROUTE = f'[[route]]\naudience = "{WALLETS}"\npath = "/x"\nmethods = ["GET"]\n'
USERS = f'[user_issuers."{LOGIN}"]\naudiences = ["{EDGE}"]\n'
TXN = f'[[txn]]\ntrust_domain = "https://example.com"\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
ROLE = '[roles]\nreader = ["cards:read"]\n'


def told(old: str, new: str) -> list[tuple[str, str, str]]:
    """The changes between two files, without their common first line."""
    found = changes(TrustConfig.parse(HEAD + old), TrustConfig.parse(HEAD + new))
    return [(change.effect.value, change.who, change.what) for change in found]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", PAIR, [("gains", EDGE, f"may call {WALLETS} with cards:read, cards:write")]),
        (PAIR, "", [("loses", EDGE, f"may no longer call {WALLETS} with cards:read, cards:write")]),
        ("", OTHER_PAIR, [("gains", LEDGER, f"may call {WALLETS} without scopes")]),
        (
            USERS,
            USERS + OTHER_PAIR + f'may_act_for = ["{LOGIN}"]\n',
            [("gains", LEDGER, f"may call {WALLETS} without scopes, on behalf of users of {LOGIN}")],
        ),
        (PAIR, PAIR.replace(', "cards:write"', ""), [("loses", EDGE, f"scope at {WALLETS} cards:write")]),
        (
            PAIR,
            PAIR.replace("cards:write", "cards:own"),
            [
                ("gains", EDGE, f"scope at {WALLETS} cards:own"),
                ("loses", EDGE, f"scope at {WALLETS} cards:write"),
            ],
        ),
        (PAIR, PAIR.replace('"cards:read", ', "") + 'roles = ["reader"]\n' + ROLE, []),
        (
            USERS + PAIR,
            USERS + PAIR + f'may_act_for = ["{LOGIN}"]\n',
            [("gains", EDGE, f"users it may carry to {WALLETS}: those of {LOGIN}")],
        ),
        (PAIR + OTHER_PAIR, OTHER_PAIR + PAIR, []),
    ],
)
def test_pairs(old: str, new: str, expected: list[tuple[str, str, str]]) -> None:
    """Who may call whom, and with which scopes, whatever way that is written."""
    assert told(old, new) == expected


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ('algorithms = ["ES256"]', ("loses", "its tokens may be signed with RS256")),
        ('algorithms = ["ES256", "RS256", "PS256"]', ("gains", "its tokens may be signed with PS256")),
        ('typ = ["at+jwt", "x+jwt"]', ("gains", "its tokens may be of type x+jwt")),
        ('leeway = "60s"', ("gains", "clocks may differ by 60 s, before 30 s")),
        ('max_token_life = "2m"', ("loses", "tokens may live for 120 s, before 900 s")),
        (
            'jwks_uri = "https://keys.example.com/"',
            ("changes", f"its keys are taken from https://keys.example.com/, before {EDGE}{JWKS}"),
        ),
        (
            'ca_file = "ca.pem"',
            ("changes", "certificate authorities for its TLS: ca.pem, before the public ones"),
        ),
        ("discovery = true", ("changes", f"its keys are taken from {EDGE}{DISCOVERY}, before {EDGE}{JWKS}")),
    ],
)
def test_what_is_accepted(member: str, expected: tuple[str, str]) -> None:
    """What an issuer's tokens may be, and where its keys are; each member by itself."""
    effect, what = expected
    assert told(PAIR, ISSUER + member + "\n" + PAIR) == [(effect, EDGE, what)]


def test_keys_of_a_new_caller() -> None:
    """Where they come from is said, unless it is its own id."""
    plain = ISSUER + 'jwks_uri = "http://keys.internal/"\nallow_plain_http = true\n' + PAIR
    gained, without_tls, place = told("", plain)
    assert gained[2].startswith("may call")
    assert without_tls == ("gains", EDGE, "its keys may be fetched without TLS")
    assert place == ("changes", EDGE, "its keys are taken from http://keys.internal/")
    assert len(told(plain, "")) == 1


def test_what_a_new_issuer_may_that_others_may_not() -> None:
    """Each relaxation is a gain from the first day on; of an identity provider's as well."""
    relaxed = 'multi_aud = true\nignore_scope = true\nmax_token_life = "1h"\n'
    assert told(PAIR + ISSUER, VOUCHED.replace(FOREIGN, FOREIGN + relaxed) + ISSUER) == [
        ("gains", EDGE, f"may call with tokens of {HUB} for s"),
        ("gains", HUB, "its tokens may live for 3600 s"),
        ("gains", HUB, "its tokens may be for others as well"),
        ("gains", HUB, "scope in its tokens takes nothing away from what is granted"),
    ]
    assert ("gains", LOGIN, "its tokens may be for others as well") in told("", USERS + "multi_aud = true\n")
    elsewhere = USERS + 'jwks_uri = "https://keys.example.com/"\n'
    assert ("changes", LOGIN, "its keys are taken from https://keys.example.com/") in told("", elsewhere)
    assert ("gains", EDGE, "clocks may differ by 60 s") in told("", ISSUER + 'leeway = "60s"\n' + PAIR)


def test_keys_without_tls() -> None:
    """Named in both directions, for it is a hole that somebody opens."""
    plain = ISSUER + 'jwks_uri = "http://keys.internal/"\nallow_plain_http = true\n' + PAIR
    secure = ISSUER + 'jwks_uri = "https://keys.internal/"\n' + PAIR
    moved = ("changes", EDGE, "its keys are taken from http://keys.internal/, before https://keys.internal/")
    assert told(secure, plain) == [
        ("gains", EDGE, "its keys may from now on be fetched without TLS"),
        moved,
    ]
    assert told(plain, secure)[0] == ("loses", EDGE, "its keys may no longer be fetched without TLS")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (OTHER_ROUTE, OTHER_ROUTE + ROUTE, [("gains", "GET,PUT /cards: open to callers with cards:read")]),
        (OTHER_ROUTE + ROUTE, OTHER_ROUTE, [("loses", "GET,PUT /cards: closed, no rule is left")]),
        (
            "",
            OTHER_ROUTE,
            [
                ("loses", "has route rules from now on: its paths without one are closed"),
                ("changes", "GET /x: open to callers with any scope"),
            ],
        ),
        (
            OTHER_ROUTE,
            "",
            [
                ("gains", "has no route rule left: every path is open to every known caller"),
                ("changes", "GET /x: closed, no rule is left"),
            ],
        ),
        (
            ROUTE,
            ROUTE.replace("cards:read", "cards:write"),
            [
                ("gains", "GET,PUT /cards: no longer needs cards:read"),
                ("loses", "GET,PUT /cards: needs cards:write as well"),
            ],
        ),
        (ROUTE, ROUTE + 'replay = "once"\n', [("loses", "GET,PUT /cards: replay once, before allow")]),
        (
            ROUTE + 'proof = "wpt"\n',
            ROUTE + 'proof = "mtls"\n',
            [("changes", "GET,PUT /cards: proof mtls, before wpt")],
        ),
        (ROUTE, ROUTE + 'proof = "mtls"\n', [("loses", "GET,PUT /cards: proof mtls, before bearer")]),
        (ROUTE + 'proof = "wpt"\n', ROUTE, [("gains", "GET,PUT /cards: proof bearer, before wpt")]),
        (ROUTE, ROUTE + 'user = "asserted"\n', [("changes", "GET,PUT /cards: user asserted, before none")]),
        (
            OTHER_ROUTE,
            OTHER_ROUTE + ROUTE + 'replay = "once"\n',
            [("gains", "GET,PUT /cards: open to callers with cards:read, replay once")],
        ),
        (
            ROUTE,
            ROUTE.replace('"GET", "PUT"', '"GET"') + ROUTE.replace('"GET", "PUT"', '"PUT"'),
            [],
        ),
    ],
)
def test_routes(old: str, new: str, expected: list[tuple[str, str]]) -> None:
    """What routes need; one line for methods that change alike, none for rows that were only split."""
    assert told(PAIR + old, PAIR + new) == [(effect, WALLETS, what) for effect, what in expected]


def test_users_and_transactions() -> None:
    """Identity providers and minters of transaction tokens."""
    more = USERS.replace(f'"{EDGE}"', f'"{EDGE}", "{LEDGER}"')
    assert told(USERS, more) == [("gains", LOGIN, f"its users' tokens at {LEDGER}")]
    assert told(USERS, "") == [("loses", LOGIN, f"its users' tokens at {EDGE}")]
    assert told(USERS, USERS + 'max_token_life = "2m"\n') == [
        ("loses", LOGIN, "tokens may live for 120 s, before 3600 s")
    ]
    discovered = (
        "changes",
        LOGIN,
        f"its keys are taken from {LOGIN[:-1]}{DISCOVERY}, before {LOGIN[:-1]}{JWKS}",
    )
    assert discovered in told(USERS, USERS + "discovery = true\n")
    anybody = USERS + "multi_aud = true\n"
    others = "tokens that are for others as well (multi_aud)"
    assert told(USERS, anybody) == [("gains", LOGIN, others)]
    assert told(anybody, USERS) == [("loses", LOGIN, others)]
    found = USERS + "discovery = true\n"
    named = told(found, found + 'jwks_origins = ["https://keys.example.com"]\n')
    assert named == [("gains", LOGIN, "its discovery may name keys at https://keys.example.com")]
    minter = f"mint transaction tokens of https://example.com for {WALLETS}"
    assert told("", TXN) == [("gains", EDGE, f"may {minter}")]
    assert told(TXN, "") == [("loses", EDGE, f"may no longer {minter}")]
    assert told(TXN, TXN) == []


LEGACY = f"""
[[legacy]]
issuer = "{EDGE}"
audience = "{WALLETS}"
migration = "observe"
until = 2027-03-31
"""
KEY = LEGACY + f'api_key_sha256 = "{"ab" * 32}"\n'
PHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
BASIC = LEGACY + f'basic_user = "edge"\npassword_argon2 = "{PHC}"\n'
OLD_KEY = f"an old credential (api_key) at {WALLETS}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", KEY, ("gains", f"may use {OLD_KEY} until 2027-04-01 00:00 UTC")),
        (KEY, "", ("loses", f"may no longer use {OLD_KEY}")),
        (KEY, KEY.replace("observe", "require"), ("loses", f"may no longer use {OLD_KEY}")),
        (KEY, KEY.replace("observe", "prefer"), ("changes", f"{OLD_KEY}: stage prefer, before observe")),
        ("", KEY.replace("observe", "off"), ("changes", f"a row for {OLD_KEY}, which is not taken")),
        (KEY.replace("observe", "off"), "", ("changes", f"no row for {OLD_KEY}, which is not taken")),
        (
            KEY,
            KEY.replace("2027-03-31", "2027-03-30"),
            ("loses", f"{OLD_KEY} until 2027-03-31 00:00 UTC, before until 2027-04-01 00:00 UTC"),
        ),
        (
            KEY,
            KEY.replace("2027-03-31", "2027-04-01"),
            ("gains", f"{OLD_KEY} until 2027-04-02 00:00 UTC, before until 2027-04-01 00:00 UTC"),
        ),
        (
            BASIC,
            BASIC.replace("hoYXNo", "hoYXNp"),
            ("changes", f"an old credential (basic) at {WALLETS}: another password"),
        ),
    ],
)
def test_old_credentials(old: str, new: str, expected: tuple[str, str]) -> None:
    """Who may come in by one, and until when; its digest is never shown."""
    effect, what = expected
    assert told(PAIR + old, PAIR + new) == [(effect, EDGE, what)]


def test_loopback() -> None:
    """Doing without TLS on one machine is a gain for everybody on it."""
    what = "services on this machine without TLS (allow_loopback_http)"
    assert told("", "[defaults]\nallow_loopback_http = true\n") == [("gains", "everybody", what)]
    assert told("[defaults]\nallow_loopback_http = true\n", "") == [("loses", "everybody", what)]


def test_gains_stand_first() -> None:
    """What a reviewer has to look at most stands on top."""
    assert [effect for effect, _, _ in told(PAIR + ROUTE, OTHER_PAIR)] == [
        "gains",
        "gains",
        "loses",
        "changes",
    ]
    same = Change(effect=Effect.GAINS, who=EDGE, what="x")
    assert same == Change(effect=Effect.GAINS, who=EDGE, what="x")


HUB = "https://hub.example.com/"
FOREIGN = f'[foreign_issuers."{HUB}"]\n'
MEANT = f'[[subject]]\nissuer = "{HUB}"\nsubject = "s"\nservice = "{EDGE}"\n'
VOUCHED = FOREIGN + MEANT + PAIR


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            PAIR,
            VOUCHED,
            [
                ("gains", EDGE, f"may call with tokens of {HUB} for s"),
                ("loses", EDGE, "may no longer call with tokens of its own"),
            ],
        ),
        (
            VOUCHED,
            VOUCHED + ISSUER,
            [("gains", EDGE, "may from now on call with tokens of its own")],
        ),
        (
            VOUCHED,
            VOUCHED.replace(MEANT, MEANT.replace(EDGE, LEDGER)) + ISSUER,
            [
                ("gains", LEDGER, f"may call with tokens of {HUB} for s"),
                ("gains", EDGE, "may from now on call with tokens of its own"),
                ("loses", EDGE, f"may no longer call with tokens of {HUB} for s"),
            ],
        ),
        (
            VOUCHED,
            VOUCHED.replace(MEANT, MEANT + 'claims = { idp = "a", x = { y = true } }\n'),
            [
                ("gains", EDGE, f"may call with tokens of {HUB} for s, idp a, x.y true"),
                ("loses", EDGE, f"may no longer call with tokens of {HUB} for s"),
            ],
        ),
        (
            VOUCHED,
            VOUCHED.replace(FOREIGN, FOREIGN + "allow_missing_jti = true\neddsa = true\nmulti_aud = true\n"),
            [
                ("gains", HUB, "EdDSA as a name of Ed25519 (eddsa)"),
                ("gains", HUB, "tokens that are for others as well (multi_aud)"),
                ("gains", HUB, "tokens without jti (allow_missing_jti)"),
            ],
        ),
        (
            VOUCHED.replace(FOREIGN, FOREIGN + f'audiences = {{ a = "{WALLETS}", b = "{WALLETS}" }}\n'),
            VOUCHED.replace(FOREIGN, FOREIGN + f'audiences = {{ a = "{WALLETS}", c = "{LEDGER}" }}\n'),
            [("gains", HUB, f"aud c means {LEDGER}"), ("loses", HUB, f"aud b no longer means {WALLETS}")],
        ),
        (
            VOUCHED,
            VOUCHED.replace(FOREIGN, FOREIGN + 'typ = ["at+jwt", "JWT"]\n'),
            [("gains", HUB, "its tokens may be of type jwt")],
        ),
        (
            PAIR + ISSUER,
            VOUCHED.replace(FOREIGN, FOREIGN + 'jwks_uri = "https://keys.example.com/"\n') + ISSUER,
            [
                ("gains", EDGE, f"may call with tokens of {HUB} for s"),
                ("changes", HUB, "its keys are taken from https://keys.example.com/"),
            ],
        ),
    ],
)
def test_foreign_issuers(old: str, new: str, expected: list[tuple[str, str, str]]) -> None:
    """Who vouches for whom, and on what terms."""
    assert told(old, new) == expected


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('{ idp = "true" }', "{ idp = true }", ('s, idp "true"', "s, idp true")),
        ('{ "a.b" = "x" }', '{ a.b = "x" }', ('s, "a.b" x', "s, a.b x")),
        ('{ a = "x, b y" }', '{ a = "x", b = "y" }', ('s, a "x, b y"', "s, a x, b y")),
        ('{ a = "b c" }', '{ "a b" = "c" }', ('s, a "b c"', 's, "a b" c')),
        ('{ a = "\\"x\\"" }', '{ a = "x" }', ('s, a "\\"x\\""', "s, a x")),
    ],
)
def test_two_subjects_are_never_taken_for_one(old: str, new: str, words: tuple[str, str]) -> None:
    """What differs for a token differs for the reader."""
    files = [VOUCHED.replace(MEANT, f"{MEANT}claims = {claims}\n") for claims in (old, new)]
    assert told(*files) == [
        ("gains", EDGE, f"may call with tokens of {HUB} for {words[1]}"),
        ("loses", EDGE, f"may no longer call with tokens of {HUB} for {words[0]}"),
    ]
    assert told(files[0], files[0]) == []


def test_another_profile_is_for_a_person_to_judge() -> None:
    """Whose rules the tokens and keys of a foreign issuer follow."""
    old = TrustConfig.parse(HEAD + VOUCHED)
    other = msgspec.structs.replace(old.foreign_issuers[HUB], profile="other")
    new = msgspec.structs.replace(old, foreign_issuers={HUB: other})
    assert changes(old, new) == (Change(effect=Effect.CHANGES, who=HUB, what="profile other, before jwt"),)
