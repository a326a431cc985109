"""How the rows of a trust file must fit together: problems refuse it, warnings do not."""

from __future__ import annotations

import pytest

from s2s_mesh.trust import TrustConfig, TrustFileError

EDGE = "https://edge.example.com"
WALLETS = "https://wallets.example.com"
LOGIN = "https://login.example.com/"
TXN = f'[[txn]]\ntrust_domain = "https://example.com"\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
OTHER = f'[[allow]]\nissuer = "https://a.example.com"\naudience = "{WALLETS}"\n'
GOOD = f"""version = 1
[issuers."{EDGE}"]
leeway = "10s"
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:write"]
may_act_for = ["{LOGIN}"]
[[route]]
audience = "{WALLETS}"
path = "/wallets/{{wallet_id}}/card"
methods = ["PUT"]
user = "proven"
scopes = ["cards:write"]
[user_issuers."{LOGIN}"]
audiences = ["{WALLETS}"]
{TXN}"""


def test_the_good_file() -> None:
    """The file that all rows below change is accepted without a warning."""
    assert TrustConfig.parse(GOOD).warnings == ()


def route(path: str, methods: str = '["PUT"]') -> str:
    return f'[[route]]\naudience = "{WALLETS}"\npath = "{path}"\nmethods = {methods}\n[user_issuers'


SETTING = 'leeway = "10s"'
USERS = f'[user_issuers."{LOGIN}"]'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "[[route]]",
            f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n[[route]]',
            f'allow[1] (row at line 9): found "{EDGE}" to "{WALLETS}" again; expected one row per pair, see '
            "allow[0]",
        ),
        (
            SETTING,
            'discovery = true\njwks_file = "keys.json"',
            f'issuers."{EDGE}".discovery: found both discovery and jwks_file; expected only one of them',
        ),
        (
            SETTING,
            'jwks_file = "keys.json"\njwks_uri = "https://keys.example.com/"',
            f'issuers."{EDGE}".jwks_file: found both jwks_file and jwks_uri; expected only one of them',
        ),
        (
            SETTING,
            'jwks_uri = "http://edge.internal:8080/keys"',
            f'issuers."{EDGE}".jwks_uri: found "http://edge.internal:8080/keys"; expected https, or '
            "allow_plain_http = true in this issuer's table",
        ),
        (
            USERS,
            f'[user_issuers."{EDGE}/"]\naudiences = ["{WALLETS}"]\n{USERS}',
            f'user_issuers."{EDGE}/": found an issuer that is also a service; expected either',
        ),
        (
            USERS,
            f'[user_issuers."{EDGE}"]\naudiences = ["{WALLETS}"]\n{USERS}',
            f'user_issuers."{EDGE}": found an issuer that is also a service; expected either',
        ),
        (
            USERS,
            f'{USERS}\ndiscovery = true\njwks_uri = "https://login.example.com/keys"',
            f'user_issuers."{LOGIN}".discovery: found both discovery and jwks_uri; expected only one',
        ),
        (
            USERS,
            f'{USERS}\njwks_file = "keys.json"\njwks_uri = "https://login.example.com/keys"',
            f'user_issuers."{LOGIN}".jwks_file: found both jwks_file and jwks_uri; expected only one',
        ),
        (
            USERS,
            f'{USERS}\njwks_uri = "http://login.internal/keys"',
            f'user_issuers."{LOGIN}".jwks_uri: found "http://login.internal/keys"; expected https',
        ),
        (
            "[user_issuers",
            route("/wallets/{id}/card"),
            'route[1].path (row at line 15): found "/wallets/{id}/card", which with PUT matches '
            'requests that route[0], "/wallets/{wallet_id}/card", matches too; expected exactly one rule '
            "for a request",
        ),
        (
            "[user_issuers",
            route("/wallets/me/card", '["GET", "PUT"]'),
            "route[1].path (row at line 15): found",
        ),
        ("[user_issuers", route("/{rest:path}"), "route[1].path (row at line 15): found"),
        (
            "[[txn]]",
            TXN + "[[txn]]",
            "txn[1] (row at line 21): found the same row again; expected it once, see txn[0]",
        ),
    ],
)
def test_problems(old: str, new: str, words: str) -> None:
    """One change to the good file refuses it, with key path, what was found and what is expected."""
    assert old in GOOD
    with pytest.raises(TrustFileError) as refusal:
        TrustConfig.parse(GOOD.replace(old, new, 1))
    (problem,) = refusal.value.problems
    assert problem.startswith(f"trust.toml: {words}")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[user_issuers", route("/wallets/{id}/card", '["GET"]'), None),
        ("[user_issuers", route("/wallets/{id}"), None),
        (
            "[user_issuers",
            route("/wallets/{id}/card").replace(WALLETS, "https://edge.example.com"),
            "route[1].audience",
        ),
        (SETTING, 'jwks_uri = "http://edge.internal:8080/keys"\nallow_plain_http = true', None),
        (
            SETTING,
            "allow_plain_http = true",
            "allow_plain_http: without effect: no jwks_uri with http is set",
        ),
        (
            SETTING,
            'jwks_uri = "https://edge.internal/keys"\nallow_plain_http = true',
            "allow_plain_http: without effect: no jwks_uri with http is set",
        ),
        (SETTING, 'ca_file = "ca.pem"', None),
        (SETTING, 'ca_file = "ca.pem"\njwks_uri = "https://edge.internal/keys"', None),
        (
            SETTING,
            'ca_file = "ca.pem"\njwks_file = "k.json"',
            "ca_file: without effect: the keys are not fetched",
        ),
        (
            SETTING,
            'jwks_uri = "http://edge.internal:8080/keys"\nallow_plain_http = true\nca_file = "ca.pem"',
            "ca_file: without effect",
        ),
        (SETTING, 'typ = ["application/JWT"]', "typ: every JWT of this issuer is accepted"),
        (SETTING, 'typ = ["at+jwt"]', None),
        (
            f'[issuers."{EDGE}"]',
            f'[issuers."https://edgy.example.com"]\n[issuers."{EDGE}"]',
            f'issuers."https://edgy.example.com": no [[allow]] row names this issuer; did you mean "{EDGE}"?',
        ),
        (
            f'audience = "{WALLETS}"',
            f'audience = "{EDGE}"',
            f'allow[0] (row at line 4): "{EDGE}" is allowed to call',
        ),
        (
            f'may_act_for = ["{LOGIN}"]',
            'may_act_for = ["https://login.example.com"]',
            f'"https://login.example.com" is not in [user_issuers]; did you mean "{LOGIN}"?',
        ),
        # its tokens are made for the service that users talk to, not for those behind it
        (f'audiences = ["{WALLETS}"]', 'audiences = ["https://other.example.com"]', None),
        (USERS, f'{USERS}\ndiscovery = true\njwks_origins = ["https://keys.example.com"]', None),
        (
            f'[user_issuers."{LOGIN}"]',
            '[user_issuers."https://id.example.com"]',
            f'allow[0].may_act_for (row at line 4): "{LOGIN}" is not in [user_issuers]',
        ),
        (
            f'may_act_for = ["{LOGIN}"]\n',
            "",
            'route[0].user (row at line 8): found "proven", and no [[allow]] row for this audience has '
            "may_act_for: nobody can call this route",
        ),
        (
            'user = "proven"\n',
            "",
            "allow[0].may_act_for (row at line 4): no [[route]] row of this audience takes a user",
        ),
        (
            USERS,
            f'{USERS}\njwks_origins = ["https://keys.example.com"]',
            f'user_issuers."{LOGIN}".jwks_origins: without effect: discovery is not set',
        ),
        (
            USERS,
            f'{USERS}\njwks_file = "login.jwks.json"\nca_file = "ca.pem"',
            f'user_issuers."{LOGIN}".ca_file: without effect: the keys are not fetched over TLS',
        ),
        (
            'scopes = ["cards:write"]',
            'scopes = ["card:write"]',
            'allow[0].scopes (row at line 4): no [[route]] row asks for "card:write"; did you mean '
            '"cards:write"?',
        ),
        (
            'scopes = ["cards:write"]\n[user',
            'scopes = ["card:write"]\n[user',
            'route[0].scopes (row at line 9): no [[allow]] row for this audience grants "card:write"; '
            'did you mean "cards:write"?',
        ),
        (
            "[[route]]",
            OTHER + 'scopes = ["cards:write"]\n[[route]]',
            None,
        ),
        (
            "may_act_for = [",
            OTHER + 'scopes = ["cards:write"]\nmay_act_for = [',
            None,
        ),
    ],
)
def test_warnings(old: str, new: str, words: str | None) -> None:
    """What can do no harm is accepted, with a warning if it looks like a mistake."""
    assert old in GOOD
    warnings = TrustConfig.parse(GOOD.replace(old, new, 1)).warnings
    if words is None:
        assert warnings == ()
    else:
        assert any(words in warning for warning in warnings), warnings


def test_users_that_are_only_asserted_need_no_table_of_their_provider() -> None:
    """Nothing of the provider is verified then; nor where an audience has no routes at all."""
    asserted = GOOD.replace('"proven"', '"asserted"').replace(
        f'[user_issuers."{LOGIN}"]\naudiences = ["{WALLETS}"]\n', ""
    )
    assert TrustConfig.parse(asserted).warnings == ()
    start, end = asserted.index("[[route]]"), asserted.index("[[txn]]")
    assert TrustConfig.parse(asserted[:start] + asserted[end:]).warnings == ()


@pytest.mark.parametrize("service", [EDGE, WALLETS, EDGE + "/"])
def test_no_service_is_a_provider_of_users(service: str) -> None:
    """Whoever could name itself there could make users up under its own name."""
    with pytest.raises(TrustFileError, match="which is a service; expected an identity provider"):
        TrustConfig.parse(GOOD.replace(f'may_act_for = ["{LOGIN}"]', f'may_act_for = ["{service}"]'))


ROLES = f"""version = 1
[roles]
reader = ["cards:read"]
writer = ["cards:read", "cards:write"]
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:freeze"]
roles = ["writer"]
[[allow]]
issuer = "https://a.example.com"
audience = "{WALLETS}"
roles = ["reader"]
"""


def test_a_role_stands_for_its_scopes() -> None:
    """They are granted beside those of the row itself."""
    config = TrustConfig.parse(ROLES)
    assert config.warnings == ()
    assert config.pairs[(EDGE, WALLETS)].scopes == {"cards:freeze", "cards:read", "cards:write"}
    assert config.pairs[("https://a.example.com", WALLETS)].scopes == {"cards:read"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'roles = ["writer"]',
            'roles = ["writr"]',
            'allow[0].roles[0] (row at line 5): found "writr"; expected a',
        ),
        ('roles = ["writer"]', 'roles = ["writr"]', 'did you mean "writer"?'),
        ('roles = ["writer"]', 'roles = "writer"', 'did you mean ["writer"]?'),
        ('reader = ["cards:read"]', "reader = []", "expected at least one, such as"),
        ('reader = ["cards:read"]', 'reader = "cards:read"', 'did you mean ["cards:read"]?'),
        ('reader = ["cards:read"]', 'reader = ["cards:*"]', "wildcards do not exist"),
        ('reader = ["cards:read"]', '"a reader" = ["cards:read"]', "expected a role's name such as"),
        ("[roles]", "[[roles]]", "expected tables such as [roles]"),
    ],
)
def test_roles_that_are_refused(old: str, new: str, words: str) -> None:
    """With the place, what was found and what is expected."""
    assert old in ROLES
    with pytest.raises(TrustFileError) as refused:
        TrustConfig.parse(ROLES.replace(old, new))
    assert words in str(refused.value)


def test_a_role_that_nobody_has() -> None:
    """A warning, with the role that was perhaps meant."""
    (warning,) = TrustConfig.parse(ROLES.replace("[roles]", '[roles]\nreaders = ["cards:read"]')).warnings
    assert "roles.readers: no [[allow]] row has this role; did you mean" in warning


def test_a_grant_that_no_route_asks_for() -> None:
    """A warning as soon as the audience has routes; roles count as what they stand for."""
    routes = f'''
[[route]]
audience = "{WALLETS}"
path = "/cards"
methods = ["GET"]
scopes = ["cards:read", "cards:write"]
'''
    (warning,) = TrustConfig.parse(ROLES + routes).warnings
    assert 'allow[0].scopes (row at line 5): no [[route]] row asks for "cards:freeze"' in warning


def test_a_route_that_no_single_grant_satisfies() -> None:
    """Scopes that are granted, but to nobody all of them, are warned of."""
    text = GOOD.replace('scopes = ["cards:write"]\nmay', 'scopes = ["cards:read"]\nmay').replace(
        "[[route]]",
        OTHER + 'scopes = ["cards:write"]\n[[route]]',
    )
    text = text.replace('scopes = ["cards:write"]\n[user', 'scopes = ["cards:read", "cards:write"]\n[user')
    (warning,) = TrustConfig.parse(text).warnings
    assert "no single [[allow]] row for this audience grants all of them" in warning


def test_an_empty_file_allows_nobody() -> None:
    """A file without rows is good, and says that it closes every door."""
    config = TrustConfig.parse("version = 1")
    assert config.warnings == ("trust.toml: allow: no [[allow]] row: nobody may call anybody",)
    assert not config.issuers
    assert not config.pairs


def test_loopback_keys() -> None:
    """Keys on this machine may be fetched without TLS where [defaults] allows loopback."""
    text = GOOD.replace(SETTING, 'jwks_uri = "http://127.0.0.1:8101/keys"').replace(
        USERS, f'{USERS}\njwks_uri = "http://localhost:8080/keys"'
    )
    with pytest.raises(TrustFileError, match="allow_loopback_http = true"):
        TrustConfig.parse(text)
    config = TrustConfig.parse(
        text.replace("version = 1", "version = 1\n[defaults]\nallow_loopback_http = true")
    )
    assert config.warnings == ()
    assert config.issuers[EDGE].jwks_uri == "http://127.0.0.1:8101/keys"
    assert config.user_issuers[LOGIN].jwks_uri == "http://localhost:8080/keys"
