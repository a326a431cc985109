"""trust.toml as objects: what a good file becomes, and that a bad one is always a ConfigError."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s_mesh.errors import ConfigError
from s2s_mesh.identity import ServiceId
from s2s_mesh.trust import (
    IssuerTrust,
    RouteRule,
    TransactionRule,
    TrustConfig,
    TrustedPair,
    TrustFileError,
    UserIssuer,
)

TRUST = Path(__file__).parent.parent / "trust"
SETTLEMENT = ServiceId("https://settlement.example.com")
WALLETS = ServiceId("https://wallets.example.com")
EDGE = ServiceId("https://edge.example.com")
LOGIN = "https://login.example.com/"

# The example of the design page, with every table there is.
DESIGN = f"""
version = 1
[defaults]                       # every member optional
algorithms = ["ES256", "RS256"]
max_token_life = "15m"
leeway = "30s"
allow_loopback_http = false

[issuers."{SETTLEMENT}"]       # optional: only what differs from the defaults
jwks_uri = "https://settlement-web.example.com/.well-known/jwks.json"
# or jwks_file = "settlement.jwks.json"
algorithms = ["RS256"]

[[allow]]                        # one issuer -> audience pair; no wildcard exists
issuer = "{SETTLEMENT}"
audience = "{WALLETS}"
scopes = ["cards:write"]         # absent: none

[[route]]
audience = "{WALLETS}"
path = "/wallets/{{wallet_id}}/card"
methods = ["PUT"]
scopes = ["cards:write"]

[user_issuers."{LOGIN}"]      # identity providers; exact bytes, trailing slash allowed
audiences = ["{EDGE}"]         # required

[[txn]]                          # who may mint transaction tokens for which trust domain
trust_domain = "https://example.com"
issuer = "{EDGE}"
audience = "{WALLETS}"
"""


def test_the_design_example() -> None:
    """Each row becomes one frozen object, the defaults merged in."""
    config = TrustConfig.parse(DESIGN)
    assert config.issuers == {
        EDGE: IssuerTrust(issuer=EDGE, jwks_uri=f"{EDGE}/.well-known/jwks.json"),
        SETTLEMENT: IssuerTrust(
            issuer=SETTLEMENT,
            algorithms=frozenset({"RS256"}),
            types=frozenset({"at+jwt"}),
            leeway=30.0,
            max_token_life=900.0,
            jwks_uri="https://settlement-web.example.com/.well-known/jwks.json",
            jwks_file=None,
            ca_file=None,
            discovery=False,
            allow_plain_http=False,
            allow_loopback_http=False,
        ),
    }
    assert config.pairs == {
        (SETTLEMENT, WALLETS): TrustedPair(
            issuer=SETTLEMENT,
            audience=WALLETS,
            scopes=frozenset({"cards:write"}),
            may_act_for=frozenset(),
        )
    }
    assert config.routes == (
        RouteRule(
            audience=WALLETS,
            path="/wallets/{wallet_id}/card",
            methods=frozenset({"PUT"}),
            scopes=frozenset({"cards:write"}),
            user="none",
            proof="bearer",
            replay="allow",
        ),
    )
    assert config.user_issuers == {
        LOGIN: UserIssuer(
            issuer=LOGIN,
            audiences=frozenset({EDGE}),
            algorithms=frozenset({"ES256", "RS256"}),
            multi_aud=False,
            types=frozenset({"at+jwt", "jwt"}),
            leeway=30.0,
            max_token_life=3600.0,
            jwks_uri="https://login.example.com/.well-known/jwks.json",
            jwks_file=None,
            ca_file=None,
            discovery=False,
            jwks_origins=frozenset(),
            allow_loopback_http=False,
        )
    }
    assert config.transactions == (
        TransactionRule(trust_domain=ServiceId("https://example.com"), issuer=EDGE, audience=WALLETS),
    )
    assert config.warnings == ()
    assert not config.allow_loopback_http


def test_defaults() -> None:
    """Without [defaults] the documented values hold, and what a table says wins over [defaults]."""
    rows = f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
    bare = TrustConfig.parse("version = 1\n" + rows)
    assert bare.issuers[EDGE] == IssuerTrust(issuer=EDGE, jwks_uri=f"{EDGE}/.well-known/jwks.json")
    assert bare.pairs[EDGE, WALLETS].scopes == frozenset()
    defaults = '[defaults]\nalgorithms = ["PS256"]\nleeway = "0s"\nmax_token_life = "1m"\n'
    defaults += "allow_loopback_http = true\n"
    general = TrustConfig.parse("version = 1\n" + defaults + rows)
    assert general.allow_loopback_http
    assert general.issuers[EDGE] == IssuerTrust(
        issuer=EDGE,
        algorithms=frozenset({"PS256"}),
        leeway=0.0,
        max_token_life=60.0,
        jwks_uri=f"{EDGE}/.well-known/jwks.json",
        allow_loopback_http=True,
    )
    table = (
        f'[issuers."{EDGE}"]\nalgorithms = ["Ed25519"]\nleeway = "2m"\nmax_token_life = "1h"\n'
        'typ = ["application/AT+JWT", "x+jwt"]\njwks_file = "edge.json"\n'
    )
    special = TrustConfig.parse("version = 1\n" + defaults + table + rows)
    assert special.issuers[EDGE] == IssuerTrust(
        issuer=EDGE,
        algorithms=frozenset({"Ed25519"}),
        types=frozenset({"at+jwt", "x+jwt"}),
        leeway=120.0,
        max_token_life=3600.0,
        jwks_uri=None,
        jwks_file="edge.json",
        allow_loopback_http=True,
    )


def test_issuers_are_those_that_may_call() -> None:
    """A table alone lets nobody in: an issuer exists once an [[allow]] or a [[txn]] row names it."""
    table = f'version = 1\n[issuers."{EDGE}"]\nca_file = "ca.pem"\n'
    config = TrustConfig.parse(table)
    assert EDGE not in config.issuers
    config = TrustConfig.parse(f'{table}[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"')
    assert config.issuers[EDGE].ca_file == "ca.pem"


def test_discovery_of_a_user_issuer() -> None:
    """Where an identity provider's keys are may be left to its discovery document."""
    config = TrustConfig.parse(DESIGN.replace("# required", '\ndiscovery = true\nalgorithms = ["RS256"]'))
    provider = config.user_issuers[LOGIN]
    assert (provider.discovery, provider.jwks_uri, provider.algorithms) == (True, None, frozenset({"RS256"}))
    assert provider.keys_url == "https://login.example.com/.well-known/openid-configuration"


def test_discovery_of_a_service() -> None:
    """So may a service's."""
    table = f'[issuers."{SETTLEMENT}"]\ndiscovery = true\njwks_origins = ["https://keys.example.com"]\n'
    row = f'[[allow]]\nissuer = "{SETTLEMENT}"\naudience = "{WALLETS}"\n'
    known = TrustConfig.parse(f"version = 1\n{table}{row}").issuers[SETTLEMENT]
    assert known.keys_url == f"{SETTLEMENT}/.well-known/openid-configuration"
    assert (known.jwks_uri, known.jwks_origins) == (None, frozenset({"https://keys.example.com"}))


def test_defaults_of_user_issuers() -> None:
    """[defaults] hold for identity providers too, but for the life of tokens, which is their own affair."""
    provider = TrustConfig.parse(
        f'version = 1\n[defaults]\nleeway = "5s"\nalgorithms = ["PS256"]\nmax_token_life = "2m"\n'
        f'[user_issuers."{LOGIN}"]\naudiences = ["{EDGE}"]\nmulti_aud = true\njwks_file = "login.json"\n'
    ).user_issuers[LOGIN]
    assert provider == UserIssuer(
        issuer=LOGIN,
        audiences=frozenset({EDGE}),
        multi_aud=True,
        leeway=5.0,
        algorithms=frozenset({"PS256"}),
        max_token_life=3600.0,
        jwks_file="login.json",
    )
    assert provider.keys_url is None


def test_for_audiences() -> None:
    """A service sees only the rows that name it as audience, and the issuers that may call it."""
    whole = TrustConfig.parse(
        DESIGN + f'[[allow]]\nissuer = "{WALLETS}"\naudience = "{EDGE}"\n[[route]]\naudience = "{EDGE}"\n'
        'path = "/"\nmethods = ["GET"]\n'
    )
    wallets = whole.for_audiences([WALLETS, "https://alias.example.com"])
    assert set(wallets.issuers) == {SETTLEMENT, EDGE}  # edge mints for it, and may not call it
    assert set(wallets.pairs) == {(SETTLEMENT, WALLETS)}
    assert [rule.audience for rule in wallets.routes] == [WALLETS]
    assert not wallets.user_issuers
    assert [rule.audience for rule in wallets.transactions] == [WALLETS]
    assert set(wallets.key_sources) == {SETTLEMENT, EDGE}
    carrying = DESIGN.replace("# absent: none", f'\nmay_act_for = ["{LOGIN}"]')
    asserted = TrustConfig.parse(carrying).for_audiences([WALLETS])
    assert set(asserted.key_sources) == {SETTLEMENT, EDGE}  # of a user who is only asserted, no key is needed
    carrying = carrying.replace('methods = ["PUT"]', 'methods = ["PUT"]\nuser = "proven"')
    proven = TrustConfig.parse(carrying).for_audiences([WALLETS])
    assert set(proven.key_sources) == {SETTLEMENT, EDGE, LOGIN}
    # an audience that is nobody's id may be anybody's
    vague = TrustConfig.parse(DESIGN.replace(f'audiences = ["{EDGE}"]', 'audiences = ["api://default"]'))
    assert set(vague.for_audiences([WALLETS]).user_issuers) == {LOGIN}
    edge = whole.for_audiences({EDGE})
    assert set(edge.issuers) == {WALLETS}
    assert set(edge.user_issuers) == {LOGIN}
    assert not edge.transactions
    assert whole.audiences_with_routes == {WALLETS, EDGE}
    assert wallets.audiences_with_routes == {WALLETS}
    nobody = whole.for_audiences(["https://other.example.com"])
    assert (len(nobody.issuers), len(nobody.pairs), nobody.routes) == (0, 0, ())
    assert nobody.audiences_with_routes == frozenset()


def test_frozen() -> None:
    """Nobody changes what a person reviewed."""
    config = TrustConfig.parse(DESIGN)
    with pytest.raises(AttributeError):
        config.routes = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.issuers[EDGE] = config.issuers[SETTLEMENT]  # type: ignore[index]
    with pytest.raises(AttributeError):
        config.issuers[SETTLEMENT].leeway = 1e9  # type: ignore[misc]


def test_refusal_is_a_config_error() -> None:
    """A refusal names the file it was told, and is what the command line turns into exit code 2."""
    with pytest.raises(ConfigError, match=r"^mesh/trust\.toml: version: found the integer 2") as refusal:
        TrustConfig.parse(b"version = 2", source="mesh/trust.toml")
    assert isinstance(refusal.value, TrustFileError)


def test_the_shipped_file() -> None:
    """The reference file holds the trust of the demo: five grants, whose users they carry, and its routes."""
    config = TrustConfig.parse((TRUST / "trust.toml").read_bytes())
    edge, wallets, ledger, settlement, login, partner = (f"http://127.0.0.1:810{n}" for n in range(1, 7))
    assert {key: set(pair.scopes) for key, pair in config.pairs.items()} == {
        (edge, wallets): {"cards:read", "cards:write"},
        (settlement, wallets): {"settlements:write"},
        (partner, wallets): {"cards:read"},
        (wallets, ledger): {"entries:read", "entries:write"},
        (edge, ledger): {"entries:read"},
    }
    assert config.issuers[settlement].algorithms == {"RS256"}
    assert config.issuers[edge].algorithms == {"ES256", "RS256"}
    assert {key for key, pair in config.pairs.items() if pair.may_act_for} == {
        (edge, wallets),
        (wallets, ledger),
        (edge, ledger),
    }
    assert config.user_issuers.keys() == {login}
    assert config.user_issuers[login].audiences == {edge}
    assert len(config.routes) == 9
    special = {
        (rule.audience, rule.path, rule.user, rule.proof, rule.replay)
        for rule in config.routes
        if (rule.user, rule.proof, rule.replay) != ("none", "bearer", "allow")
    }
    assert special == {
        (wallets, "/wallets/{wallet_id}/limit", "proven", "wpt", "allow"),
        (wallets, "/wallets/{wallet_id}/entries", "asserted", "bearer", "allow"),
        (wallets, "/wallets/{wallet_id}/settlements", "none", "bearer", "once"),
        (ledger, "/entries", "asserted", "bearer", "allow"),
    }
    assert config.legacy == ()
    assert config.allow_loopback_http
    assert config.warnings == ()


def test_the_shipped_comments() -> None:
    """What the reference file shows in comments is good too."""
    text = (TRUST / "trust.toml").read_text(encoding="utf-8")
    text = re.sub(r"^# (?=\[[^ ]*\](?: +#|$)|(?!jwks_file)[a-z0-9_-]+ = )", "", text, flags=re.MULTILINE)
    config = TrustConfig.parse(text)
    assert len(config.transactions) == len(config.user_issuers) == 1
    assert [(rule.way, rule.stage) for rule in config.legacy] == [("api_key", "observe"), ("basic", "prefer")]
    assert config.issuers["http://127.0.0.1:8104"].ca_file == "private-ca.pem"


def test_the_readme() -> None:
    """The refusals that trust/README.md shows are the real ones."""
    text = (
        f'version = 1\n\n[issuers."{SETTLEMENT}"]\nalgorithms = ["RS265"]\n'
        f'[[allow]]\nissuer = "{SETTLEMENT}"\naudiance = "{WALLETS}"\nscopes = []\n'
    ).replace("\n[[allow", "\n\n[[allow")
    with pytest.raises(TrustFileError) as refusal:
        TrustConfig.parse(text)
    assert f"```\n{refusal.value}\n```\n" in (TRUST / "README.md").read_text(encoding="utf-8")


def accepts_or_explains(text: str | bytes) -> None:
    try:
        TrustConfig.parse(text)
    except ConfigError as refusal:
        explanation = str(refusal)
    else:
        return
    assert explanation.startswith("trust.toml: ")
    assert explanation.isascii()


@given(st.one_of(st.text(), st.binary(), st.text().map("version = 1\n{}".format)))
def test_any_text(text: str | bytes) -> None:
    """Whatever the text, it is accepted or refused with a ConfigError."""
    accepts_or_explains(text)


TOKENS = re.findall(r'\[\[?|\]\]?|"[^"]*"|[a-z_]+|=|\n|\S', DESIGN)
NASTY = [
    '""',
    "1",
    "true",
    "[]",
    "{}",
    "[[]]",
    "1e400",
    "nan",
    "2026-01-01",
    '"\\u0000"',
    "9" * 4400,
    "0x" + "f" * 4400,
]


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(TOKENS)), st.integers(0, 2), st.sampled_from([*sorted(set(TOKENS)), *NASTY])
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_mutation(changes: list[tuple[int, int, str]]) -> None:
    """Wherever tokens of a good file are dropped, doubled or exchanged, the worst is a ConfigError."""
    tokens = list(TOKENS)
    for place, dropped, put in changes:
        tokens[place : place + dropped] = [put]
    accepts_or_explains(" ".join(tokens))


VALUE: st.SearchStrategy[str] = st.recursive(
    st.sampled_from([*NASTY, f'"{EDGE}"', '"ES256"', '"/a"', '"30s"', '"x y"']),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(["a", "issuer", "typ", f'"{EDGE}"']), inner, max_size=2).map(
            lambda members: f"{{{', '.join(f'{name} = {value}' for name, value in members.items())}}}"
        )
    ),
    max_leaves=4,
)


@given(st.sampled_from(re.findall(r"^([a-z_]+) = (.*?) *(?:#.*)?$", DESIGN, re.MULTILINE)), VALUE)
def test_any_value(member: tuple[str, str], value: str) -> None:
    """Whatever TOML value a member is given, the worst is a ConfigError."""
    accepts_or_explains(DESIGN.replace(f"{member[0]} = {member[1]}", f"{member[0]} = {value}", 1))


@pytest.mark.parametrize(
    "table", ["defaults", "issuers", "allow", "route", "user_issuers", "txn", f'issuers."{EDGE}"', "x"]
)
@given(VALUE)
def test_any_table(table: str, value: str) -> None:
    """Whatever stands where a table should, the worst is a ConfigError."""
    accepts_or_explains(f"version = 1\n{table} = {value}")
