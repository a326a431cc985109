"""The shape of a trust file: syntax, members, types. Every mistake is told at once."""

from __future__ import annotations

import pytest

from s2s_mesh.trust import TrustConfig, TrustFileError

GOOD = """version = 1
[defaults]
leeway = "30s"
[issuers."https://edge.example.com"]
algorithms = ["ES256"]
[[allow]]
issuer = "https://edge.example.com"
audience = "https://wallets.example.com"
scopes = ["cards:read"]
[[route]]
audience = "https://wallets.example.com"
path = "/wallets"
methods = ["GET"]
scopes = ["cards:read"]
"""


def problems(text: str | bytes) -> list[str]:
    """The lines of the refusal, without the file's name."""
    with pytest.raises(TrustFileError) as refusal:
        TrustConfig.parse(text, source="t.toml")
    lines = str(refusal.value).splitlines()
    assert all(line.startswith("t.toml: ") for line in lines)
    return [line.removeprefix("t.toml: ") for line in lines]


def test_the_good_file() -> None:
    """The file that all rows below change is accepted without a warning, as text and as bytes."""
    assert TrustConfig.parse(GOOD).warnings == ()
    assert TrustConfig.parse(GOOD.encode()) == TrustConfig.parse(GOOD)
    assert TrustConfig.parse(GOOD.replace("\n", "\r\n")) == TrustConfig.parse(GOOD)


@pytest.mark.parametrize(
    ("text", "start", "words"),
    [
        ("version = 1\n[issuers.https://x]", "line 2, column", "keys that are URLs need double quotes"),
        ("version = 1\nissuer = https://x", "line 2, column", "texts, URLs too, need double quotes"),
        ("version = 1\nhttps://x = 1", "line 2, column", "keys that are URLs need double quotes"),
        ("version = 1\nversion = 1", "line 2, the end of the file", "each member may be set once"),
        ("version = 1\nversion = 1\n[defaults]", "line 2, column", "each member may be set once"),
        ("version = 1\n[defaults]\n[defaults]", "line 3, column", "each [table] may appear once"),
        (GOOD + '[issuers."https://edge.example.com"]', "line 15, column", "each [table] may appear once"),
        ('version = 1\nx = "a', "line 2, the end of the file", 'found "x = \\"a"; expected TOML'),
        ('version = 1\nx = "a\ny = 1', "line 2, column", "end the text with a double quote on the same line"),
        ('version = 1\nx = "a\\q"', "line 2, column", "write a backslash twice"),
        ("version = 1\n= 2", "line 2, column", 'found "= 2"; expected TOML: Invalid statement'),
        ("x = " + "[" * 5000, "TOML", "nested too deep"),
        ("x = " + "9" * 5000, "TOML", "expected TOML"),
        ("\ufeff" + GOOD, "line 1, column 1", "found a byte order mark; expected UTF-8 without one"),
        (GOOD.encode() + b"# caf\xe9", "line 15", "found bytes that are not UTF-8; expected UTF-8"),
        (GOOD.encode("utf-16"), "line 1", "found bytes that are not UTF-8"),
        ("x = \x00", "line 1, column", 'found "x = \\u0000"'),
    ],
)
def test_syntax(text: str | bytes, start: str, words: str) -> None:
    """A file that is not TOML is refused with the place, the line that is there, and a hint."""
    (line,) = problems(text)
    assert line.startswith(start)
    assert words in line


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version = 1", "", "version: found nothing; expected version = 1 at the top of the file"),
        ("version = 1", "version = 2", "version: found the integer 2; expected version = 1, the only one"),
        ("version = 1", 'version = "1"', 'version: found "1"; expected version = 1'),
        ("version = 1", "version = true", "version: found true; expected version = 1"),
        ("version = 1", "version = 1.0", "version: found the number 1.0; expected version = 1"),
        ("[defaults]", "[default]", "default: found an unknown member; expected defaults"),
        ("[defaults]", "[default]", "did you mean `defaults`?"),
        (
            "[defaults]",
            "[[defaults]]",
            "defaults: found an array; expected a table; did you mean [defaults] with one",
        ),
        (
            "[[allow]]",
            "[allow]",
            "allow: found a table; expected an array of tables; did you mean [[allow]] with two",
        ),
        ("[[allow]]", "[[alow]]", "alow: found an unknown member"),
        ("version = 1", "version = 1\ntxn = [1]", "txn[0]: found the integer 1; expected a table"),
        (
            "version = 1",
            "version = 1\nuser_issuers = 1",
            "user_issuers: found the integer 1; expected tables such as",
        ),
        (
            "[defaults]",
            "[defaults]\nversion = 1",
            "defaults.version: found an unknown member; expected algorithms, allow_loopback_http or "
            "max_token_life; `version` belongs at the top of the file, above the first table",
        ),
        (
            "scopes = [",
            "jwks_uri = [",
            "allow[0].jwks_uri (row at line 6): found an unknown member; expected may_act_for, roles or "
            'scopes; `jwks_uri` belongs in [issuers."https://..."] or in [user_issuers."https://..."]',
        ),
        (
            "audience =",
            "audiance =",
            "allow[0].audiance (row at line 6): found an unknown member; expected audience, may_act_for or "
            "roles; did you mean `audience`?",
        ),
        (
            "audience =",
            '"a\\nu" = 1\naudience =',
            'allow[0]."a\\nu" (row at line 6): found an unknown member; expected may_act_for',
        ),
        ("issuer =", "# issuer =", "allow[0].issuer (row at line 6): found nothing; expected a text such as"),
        (
            "methods =",
            "# methods =",
            "route[0].methods (row at line 10): found nothing; expected an array of texts",
        ),
        (
            '["cards:read"]',
            '"cards:read"',
            'allow[0].scopes (row at line 6): found "cards:read"; expected an array',
        ),
        ('["cards:read"]', '"cards:read"', 'did you mean ["cards:read"]?'),
        (
            '["cards:read"]',
            "3",
            "allow[0].scopes (row at line 6): found the integer 3; expected an array of texts",
        ),
        (
            '["cards:read"]',
            "[[]]",
            "allow[0].scopes[0] (row at line 6): found an empty array; expected a text such as",
        ),
        (
            '["cards:read"]',
            '["a", "b", "a"]',
            'allow[0].scopes[2] (row at line 6): found "a"; expected each value once',
        ),
        (
            '["GET"]',
            "[]",
            "route[0].methods (row at line 10): found an empty array; expected at least one, such as",
        ),
        (
            '"30s"',
            "30",
            'defaults.leeway: found the integer 30; expected a text such as "30s"; did you mean "30s"?',
        ),
        ('"30s"', "-30", 'defaults.leeway: found the integer -30; expected a text such as "30s"'),
        ('"30s"', "2026-01-01", 'defaults.leeway: found a date or time; expected a text such as "30s"'),
        (
            'leeway = "30s"',
            'allow_loopback_http = "yes"',
            'defaults.allow_loopback_http: found "yes"; expected true or',
        ),
        (
            'leeway = "30s"',
            "allow_loopback_http = 1",
            "defaults.allow_loopback_http: found the integer 1; expected",
        ),
        (
            '"ES256"',
            '"ES256", "RS265"',
            'issuers."https://edge.example.com".algorithms[1]: found "RS265"; expected ES256, ES384, '
            'Ed25519, PS256 or RS256; did you mean "RS256"?',
        ),
        (
            '[issuers."https://edge.example.com"]',
            '[issuers."https://edge.example.com/"]',
            'issuers."https://edge.example.com/": found "https://edge.example.com/"; expected a service id',
        ),
        (
            '[issuers."https://edge.example.com"]',
            '[issuers.edge]\nx = 1\n[issuers."https://edge.example.com"]',
            "issuers.edge.x: found an unknown member",
        ),
    ],
)
def test_shape(old: str, new: str, expected: str) -> None:
    """One change to the good file, and the refusal names key path, what was found and what is expected."""
    assert old in GOOD
    lines = problems(GOOD.replace(old, new, 1))
    assert any(expected in line for line in lines), lines


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("[defaults]\n", "defaults = 3\n#", "defaults: found the integer 3; expected a table"),
        (
            '["cards:read"]',
            "3",
            "allow[0].scopes (row at line 6): found the integer 3; expected an array of texts",
        ),
        (
            "version = 1",
            "version = 1\nqqq = 1",
            "qqq: found an unknown member; expected foreign_issuers, legacy, roles, subject, txn or "
            "user_issuers",
        ),
    ],
)
def test_no_suggestion_without_reason(old: str, new: str, line: str) -> None:
    """Where nothing is near, nothing is suggested."""
    text = GOOD.replace(old, new, 1).replace('#leeway = "30s"', "#")
    assert line in problems(text)


@pytest.mark.parametrize("flag", ["", "allow_loopback_http = false", 'allow_loopback_http = "true"'])
def test_loopback_needs_the_flag(flag: str) -> None:
    """Only `true`, and only in [defaults], opens loopback."""
    text = GOOD.replace("https://edge.example.com", "http://127.0.0.1:8101")
    lines = problems(text.replace('leeway = "30s"', flag))
    assert "plain http on loopback needs allow_loopback_http = true" in lines[-1]
    TrustConfig.parse(text.replace('leeway = "30s"', "allow_loopback_http = true"))


def test_all_at_once() -> None:
    """Mistakes of shape, of values and between rows are told together, in good rows beside bad ones too."""
    text = GOOD.replace('"30s"', '"1h"').replace('"/wallets"', '"wallets"') + (
        '[[allow]]\naudience = "https://wallets.example.com"\n'
        '[[allow]]\nissuer = "https://edge.example.com"\naudience = "https://wallets.example.com"\n'
    )
    lines = problems(text)
    assert [line.split(" ")[0].rstrip(":") for line in lines] == [
        "defaults.leeway",
        "allow[1].issuer",
        "route[0].path",
        "allow[2]",
    ]


def test_a_wrong_line_is_never_told() -> None:
    """Where the lines of rows are uncertain, the index has to do."""
    inside = GOOD.replace("scopes = [", 'x = """\n[[allow]]\n"""\nscopes = [', 1)
    (line,) = problems(inside)
    assert line.startswith("allow[0].x: found an unknown member")
    (line, _) = problems('version = 1\nallow = 3\nx = """\n[[allow]]\n"""\n')
    assert line.startswith("allow: found the integer 3")
