"""[[legacy]] rows of a trust file: what is refused with which words, and what becomes of good ones."""

from __future__ import annotations

import base64
import hashlib

import pytest

from s2s_mesh.trust import LegacyRule, TrustConfig, TrustFileError
from s2s_mesh.trust_legacy import end_warnings

from .migrating import HASH, KEY, PAIRS, digest, row, trusting
from .tokens import EDGE, LEDGER, NOW, WALLETS

GOOD = PAIRS + row() + row("basic", issuer=LEDGER)
B64 = base64.urlsafe_b64encode(hashlib.sha256(KEY.encode()).digest()).decode()


def test_what_becomes_of_good_rows() -> None:
    """The hash as bytes from either spelling, the end of the last day in UTC, fields in lower case."""
    trust = TrustConfig.parse(GOOD)
    assert trust.warnings == ()
    assert trust.legacy == (
        LegacyRule(
            issuer=EDGE,  # type: ignore[arg-type]
            audience=WALLETS,  # type: ignore[arg-type]
            stage="observe",
            ends_at=1_801_440_000,
            way="api_key",
            header=b"x-api-key",
            key_digest=hashlib.sha256(KEY.encode()).digest(),
        ),
        LegacyRule(
            issuer=LEDGER,  # type: ignore[arg-type]
            audience=WALLETS,  # type: ignore[arg-type]
            stage="observe",
            ends_at=1_801_440_000,
            way="basic",
            header=b"workload-authorization",
            user="edge",
            password=HASH,
        ),
    )
    for spelling in (B64, B64.rstrip("="), digest(KEY).upper()):
        again = TrustConfig.parse(GOOD.replace(digest(KEY), spelling))
        assert again.legacy == trust.legacy


def test_a_service_sees_only_its_own_rows() -> None:
    """Hashes of others stay with them."""
    trust = TrustConfig.parse(GOOD)
    assert trust.for_audiences([WALLETS]).legacy == trust.legacy
    assert trust.for_audiences([EDGE]).legacy == ()


def test_one_caller_may_have_several_keys() -> None:
    """While one replaces the other; in one stage."""
    second = row(api_key_sha256=digest("another key of the caller"))
    assert len(TrustConfig.parse(GOOD + second).legacy) == 3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('migration = "observe"', 'migration = "watch"', 'found "watch"; expected observe, off, prefer or'),
        (
            'migration = "observe"\n',
            "",
            "legacy[0].migration (row at line 11): found nothing; expected a text",
        ),
        (
            "until = 2027-01-31\n",
            "",
            "until (row at line 11): found nothing; expected a date such as 2027-03-31",
        ),
        (
            "2027-01-31",
            '"2027-01-31"',
            'found "2027-01-31"; expected a date such as 2027-03-31; leave the quotes',
        ),
        ("2027-01-31", "2027-01-31T00:00:00Z", "found a date or time; expected a date such as 2027-03-31"),
        ("2027-01-31", "2100-01-01", "found 2100-01-01; expected a day that comes: this is a row without an"),
        ("2027-01-31", "20270131", "found the integer 20270131; expected a date such as 2027-03-31"),
        (digest(KEY), digest(KEY)[:-1], "found a text that is not shown here; expected the SHA-256 of a key"),
        (digest(KEY), "hunter2", "found a text that is not shown here; expected the SHA-256 of a key"),
        (digest(KEY), B64.replace(B64[0], "*", 1), "expected the SHA-256 of a key, 64 hexadecimal digits"),
        (HASH, "hunter2", "found a text that is not shown here; expected an argon2id hash such as"),
        (HASH, HASH.replace("argon2id", "argon2i"), "expected an argon2id hash such as"),
        (HASH, HASH.replace("m=7168", "m=7167"), "expected m from 7168 to 262144 (KiB) and t of at most 10"),
        (HASH, HASH.replace("m=7168", "m=262145"), "expected m from 7168 to 262144"),
        (HASH, HASH.replace("t=1", "t=11"), "expected m from 7168 to 262144 (KiB) and t of at most 10"),
        ("api_key_sha256", 'header = "X_Key"\napi_key_sha256', "expected the name of a header field such as"),
        ("api_key_sha256", 'header = ""\napi_key_sha256', "expected the name of a header field such as"),
        ("api_key_sha256", 'header = "Authorization"\napi_key_sha256', "this one has another meaning"),
        ("api_key_sha256", 'header = "Cookie"\napi_key_sha256', "this one has another meaning"),
        ('basic_user = "edge"', 'basic_user = "a:b"', "without a colon or control characters"),
        ('basic_user = "edge"', 'basic_user = ""', "expected a user name of 1 to 128 characters"),
        (
            'basic_user = "edge"\n',
            "",
            "found password_argon2; expected either api_key_sha256, or basic_user and",
        ),
        (
            f'password_argon2 = "{HASH}"\n',
            "",
            "found basic_user; expected either api_key_sha256, or basic_user",
        ),
        (
            f'api_key_sha256 = "{digest(KEY)}"\n',
            "",
            "found no credential; expected either api_key_sha256, or",
        ),
        (
            "api_key_sha256",
            'basic_user = "x"\napi_key_sha256',
            "found api_key_sha256 and basic_user; expected",
        ),
        (
            "basic_user",
            'header = "X-Key"\nbasic_user',
            "legacy[1].header (row at line 18): found it beside basic_user; expected it with",
        ),
        (
            "api_key_sha256",
            'token_header = "X-Token"\napi_key_sha256',
            "legacy[0].token_header (row at line 11): found it beside api_key_sha256; expected",
        ),
        (
            "basic_user",
            'token_header = "x-api-key"\nbasic_user',
            'token_header (row at line 18): found "x-api-key", which carries API keys for',
        ),
        (
            f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:read"]\n',
            "",
            f'legacy[0] (row at line 7): found no [[allow]] row from "{EDGE}" to "{WALLETS}"; expected one',
        ),
        (
            f'issuer = "{LEDGER}"\naudience = "{WALLETS}"\nmigration',
            f'issuer = "{EDGE}"\naudience = "{WALLETS}"\nmigration = "off" #',
            'legacy[1].migration (row at line 18): found "off"; expected "observe" as in legacy[0]',
        ),
        (
            "\n[[legacy]]",
            row(issuer=LEDGER, api_key_sha256=B64) + "\n[[legacy]]",
            f'legacy[1].api_key_sha256 (row at line 18): found the key of "{LEDGER}" again, see legacy[0]',
        ),
        (
            "\n[[legacy]]",
            row("basic") + "\n[[legacy]]",
            'legacy[2].basic_user (row at line 26): found "edge" again, see legacy[0]',
        ),
        (
            "basic_user",
            'user = "x"\nbasic_user',
            "found an unknown member; expected api_key_sha256, header or token_header",
        ),
        ("version = 1", 'version = 1\nbasic_user = "x"', "`basic_user` belongs in [[legacy]]"),
    ],
)
def test_refused(old: str, new: str, words: str) -> None:
    """What does not fit is told with its place; what may be a secret is not repeated."""
    assert old in GOOD
    with pytest.raises(TrustFileError) as refusal:
        TrustConfig.parse(GOOD.replace(old, new, 1))
    assert words in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("until", "words"),
    [
        ("2027-01-31", None),
        ("2027-01-15", None),
        ("2028-01-15", None),
        ("2027-01-14", f'legacy[0].until: the api_key of "{EDGE}" has ended and is refused; remove the row'),
        ("2028-01-17", f'legacy[0].until: the api_key of "{EDGE}" is accepted for more than a year to come'),
        ("2099-12-31", "is accepted for more than a year to come; expected an earlier end"),
    ],
)
def test_an_end_that_is_past_or_far_away_is_a_warning(until: str, words: str | None) -> None:
    """Told by the clock, so not by the file's own checks."""
    warnings = end_warnings(trusting(row(until=until)).legacy, NOW)
    assert [words in warning for warning in warnings if words] == ([] if words is None else [True])
    assert words is not None or warnings == []
