"""Trust files that a service must not start with: standards (e) rows 60, 62 and 67."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from s2s_mesh.errors import ConfigError
from s2s_mesh.trust_file import TrustFile

from .hostile import rows
from .tokens import EDGE, WALLETS

GOOD = f"""version = 1
[issuers."{EDGE}"]
jwks_uri = "https://keys.example.com/edge.json"
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read"]
"""
KEYS = '"https://keys.example.com/edge.json"'
TABLE = f'[issuers."{EDGE}"]'
Row = tuple[str, str, str, str | None]


def keys_at(url: str, words: str) -> Row:
    return f"keys at {url!s:.60}", KEYS, f'"{url}"', words


ROWS: list[Row] = [
    ("the good file", "", "", None),
    # where keys may be fetched from (row 60)
    *[
        keys_at(url, words)
        for url, words in (
            ("https://2130706433/k", "disguised IP address"),
            ("https://0x7f000001/k", "disguised IP address"),
            ("https://0x7f.0.0.1/k", "disguised IP address"),
            ("https://0177.0.0.1/k", "disguised IP address"),
            ("https://017700000001/k", "disguised IP address"),
            ("https://127.1/k", "disguised IP address"),
            ("https://127.0.1/k", "disguised IP address"),
            ("https://[::ffff:127.0.0.1]/k", "disguised IP address"),
            ("https://localhost/k", "allow_loopback_http = true"),
            ("https://api.localhost/k", "allow_loopback_http = true"),
            ("https://127.0.0.1/k", "allow_loopback_http = true"),
            ("https://[::1]/k", "allow_loopback_http = true"),
            ("http://127.0.0.1:8000/k", "allow_loopback_http = true"),
            ("https://169.254.169.254/latest", "link-local"),
            ("https://[fe80::1]/k", "link-local"),
            ("https://0.0.0.0/k", "reserved"),
            ("https://224.0.0.1/k", "multicast"),
            ("http://keys.example.com/k", "expected https"),
            ("http://169.254.169.254/latest", "link-local"),
            ("file:///etc/passwd", "expected"),
            ("ftp://keys.example.com/k", "scheme"),
            ("gopher://keys.example.com/k", "scheme"),
            ("unix:/run/keys.sock", "scheme"),
            ("http+unix://%2Frun%2Fkeys.sock/k", "expected"),
            ("data:application/json,{}", "scheme"),
            ("javascript:alert(1)", "scheme"),
            ("//keys.example.com/k", "scheme"),
            ("keys.json", "scheme"),
            ("", "expected"),
            ("https://user:secret@keys.example.com/k", "user info"),
            ("https://keys.example.com@169.254.169.254/k", "user info"),
            ("https://keys.example.com#@evil.example/k", "fragment"),
            ("https://keys.example.com/k#x", "fragment"),
            ("https://keys.example.com\\\\@evil.example/k", "backslash"),
            ("https://keys.example.com/k\\n", "without spaces"),
            ("https://keys.\\texample.com/k", "without spaces"),
            ("https://keys.example.com/k\\u0000", "printable ASCII"),
            ("https://k\u0435ys.example.com/k", "printable ASCII"),
            ("https://keys\uff0eexample.com/k", "printable ASCII"),
            ("https://keys%2eexample.com/k", "is not a host name"),
            ("https://\u0661\u0662\u0667.0.0.1/k", "printable ASCII"),
            ("https://Keys.example.com/k", "lower case"),
            ("https://keys.example.com:443/k", "default port"),
            ("https://keys.example.com:0/k", "port"),
            ("https://keys.example.com:99999/k", "port"),
            ("https://*.example.com/k", "wildcard"),
            ("https://" + "a" * 600, "at most 512"),
        )
    ],
    ("two places", KEYS, f'{KEYS}\njwks_file = "keys.json"', "both jwks_file and jwks_uri"),
    (
        "discovery that follows what it is told to anywhere (row 62)",
        f"jwks_uri = {KEYS}",
        'discovery = true\njwks_origins = ["https://*.example.com"]',
        "wildcard",
    ),
    (
        "discovery that is bound to a path",
        f"jwks_uri = {KEYS}",
        'discovery = true\njwks_origins = ["https://keys.example.com/a"]',
        "expected an origin",
    ),
    ("a list of places", KEYS, f"[{KEYS}]", "expected a text"),
    ("TLS not verified", KEYS, f"{KEYS}\nverify = false", "unknown member"),
    # who may call whom (row 67)
    ("an issuer twice", TABLE, f"{TABLE}\n{TABLE}", "each [table] may appear once"),
    (
        "a pair twice",
        "[[allow]]",
        f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n[[allow]]',
        "one row per pair",
    ),
    ("a table with a typing error", "[[allow]]", "[[alow]]", "unknown member"),
    ("a member with a typing error", "scopes", "scope", "unknown member"),
    ("no issuer", f'issuer = "{EDGE}"', "", "found nothing"),
    ("no version", "version = 1", "", "expected version = 1"),
    ("the version of tomorrow", "version = 1", "version = 2", "expected version = 1"),
    *[
        (f"audience {name!s:.40}", f'audience = "{WALLETS}"', f"audience = {name}", words)
        for name, words in (
            ('"*"', "wildcard"),
            ('"https://*.example.com"', "wildcard"),
            ('""', "expected a service id"),
            ("[]", "expected a text"),
            (f'["{WALLETS}"]', "expected a text"),
            ("true", "expected a text"),
            (f'"{WALLETS}/"', "no trailing slash"),
            (f'"{WALLETS.upper()}"', "expected"),
            ('"http://wallets.example.com"', "the scheme must be https"),
            ('"wallets"', "expected"),
            ('"https://w\u0430llets.example.com"', "A-labels"),
            ('"https://b\u00fccher.example"', "A-labels"),
            ('"https://bu\u0308cher.example"', "A-labels"),
        )
    ],
    *[
        (f"issuer {name!s:.40}", f'issuer = "{EDGE}"', f'issuer = "{name}"', words)
        for name, words in (
            ("*", "wildcard"),
            ("", "expected a service id"),
            (f"{EDGE}/", "no trailing slash"),
            ("http://edge.example.com", "the scheme must be https"),
            ("https://edge.example.com:443", "default port"),
            ("https://edge.example.com?x", "a query"),
            ("https://good@edge.example.com", "user info"),
            ("https://\u0435dge.example.com", "A-labels"),
            ("https://edge.example.com\\u0000", "printable ASCII"),
        )
    ],
    *[
        (f"algorithm {name}", KEYS, f'{KEYS}\nalgorithms = ["{name}"]', words)
        for name, words in (
            ("none", "an unsigned token is never accepted"),
            ("None", "an unsigned token is never accepted"),
            ("HS256", "shared secrets are never accepted"),
            ("RS384", "expected ES256"),
            ("EdDSA", 'did you mean "Ed25519"'),
            ("es256", 'did you mean "ES256"'),
            ("*", "expected ES256"),
        )
    ],
    ("no algorithm", KEYS, f"{KEYS}\nalgorithms = []", "at least one"),
    ("a life of a day", KEYS, f'{KEYS}\nmax_token_life = "24h"', "from"),
    ("a leeway of an hour", KEYS, f'{KEYS}\nleeway = "1h"', "from"),
    ("another kind of token", KEYS, f'{KEYS}\ntyp = ["wit+jwt"]', "another kind of token"),
    ("every scope", '["cards:read"]', '["*"]', "wildcards do not exist"),
    ("scopes in one text", '["cards:read"]', '"cards:read"', "expected an array"),
    ("no TOML", "[[allow]]", "[[allow]", "expected TOML"),
    ("100,000 brackets", "version = 1", "version = 1\nx = " + "[" * 100_000, "nested too deep"),
    ("a million digits", "version = 1", "version = " + "1" * 100_000, "expected TOML"),
    ("a byte order mark", "version = 1", "\ufeffversion = 1", "byte order mark"),
    ("a NUL", "version = 1", "version = 1\n\0", "expected TOML"),
]


@pytest.mark.parametrize(("old", "new", "words"), rows(ROWS))
def test_a_trust_file_that_means_harm_or_nothing_is_refused(
    tmp_path: Path, old: str, new: str, words: str | None
) -> None:
    """Each row changes the good file in one place; it is refused, and told why in printable ASCII."""
    path = tmp_path / "trust.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    if words is None:
        assert TrustFile(path).load().warnings == ()
        return
    with pytest.raises(ConfigError) as refusal:
        TrustFile(path).load()
    told = str(refusal.value).replace(str(path), "")
    assert words in told
    assert told.isascii()


def test_a_key_of_thousands_of_parts_is_refused_at_once(tmp_path: Path) -> None:
    """Found by fuzzing: 16 KB of dots must not cost a running service a second and 260 MB at a reload."""
    path = tmp_path / "trust.toml"
    path.write_text(GOOD.replace("version = 1", "version = 1\n" + "a." * 8000 + "b = 1"))
    before = time.process_time()
    with pytest.raises(ConfigError):
        TrustFile(path).load()
    assert time.process_time() - before < 0.3


@pytest.mark.parametrize("member", ["issuer", "audience"])
def test_a_password_in_a_url_is_not_repeated(tmp_path: Path, member: str) -> None:
    """Neither in the message nor, so, in the log."""
    path = tmp_path / "trust.toml"
    path.write_text(f'version = 1\n[[allow]]\n{member} = "https://user:secret@a.example.com"\n')
    with pytest.raises(ConfigError) as refused:
        TrustFile(path).load()
    assert "https://***@a.example.com" in str(refused.value)
    assert "secret" not in str(refused.value)
