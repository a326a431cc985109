"""SPIFFE IDs: one spelling each, and nothing that another parser could read as another name."""

from __future__ import annotations

from typing import Any

import pytest
from spiffe import SpiffeId as TheirSpiffeId

from s2s_mesh.errors import ConfigError
from s2s_mesh.spiffe_id import SpiffeId, is_trust_domain, is_workload

GOOD = [
    "spiffe://example.org/reports",
    "spiffe://staging.example.com/payments/web-fe",
    "spiffe://k8s_west.example.com/ns/staging/sa/Default.1",
    "spiffe://1.2.3.4/a",
    "spiffe://" + "a" * 255 + "/b",
    "spiffe://example.org/" + "a" * 2027,
    "spiffe://example.org/...",
]
BAD: list[tuple[str, Any, str]] = [
    ("nothing", "", "expected spiffe://"),
    ("no text", None, "expected spiffe://"),
    ("another scheme", "https://example.org/reports", "expected spiffe://"),
    ("scheme in capitals", "SPIFFE://example.org/reports", "expected spiffe://"),
    ("one slash", "spiffe:/example.org/reports", "expected spiffe://"),
    ("a whole trust domain", "spiffe://example.org", "whole trust domain"),
    ("trust domain and a slash", "spiffe://example.org/", "path segment ''"),
    ("no trust domain", "spiffe:///reports", "no trust domain"),
    ("capitals in the trust domain", "spiffe://Example.org/reports", "no trust domain"),
    ("a port", "spiffe://example.org:8443/reports", "no trust domain"),
    ("user info", "spiffe://root@example.org/reports", "no trust domain"),
    ("an escape in the trust domain", "spiffe://ex%61mple.org/reports", "no trust domain"),
    ("a trust domain that is too long", "spiffe://" + "a" * 256 + "/b", "no trust domain"),
    ("a letter that is no ASCII", "spiffe://ex\u00e4mple.org/reports", "no trust domain"),
    ("a digit that is no ASCII", "spiffe://example.org/\u0663", "path segment"),
    ("a trailing slash", "spiffe://example.org/reports/", "path segment ''"),
    ("an empty segment", "spiffe://example.org//reports", "path segment ''"),
    ("a dot", "spiffe://example.org/./reports", "path segment '.'"),
    ("two dots", "spiffe://example.org/../reports", "path segment '..'"),
    ("an escape", "spiffe://example.org/re%70orts", "path segment"),
    ("a query", "spiffe://example.org/reports?a=b", "path segment"),
    ("a fragment", "spiffe://example.org/reports#a", "path segment"),
    ("a newline", "spiffe://example.org/reports\n", "path segment"),
    ("a newline after the trust domain", "spiffe://example.org\n/reports", "no trust domain"),
    ("a wildcard", "spiffe://example.org/*", "path segment"),
    ("too long", "spiffe://example.org/" + "a" * 2028, "2049 characters"),
]


@pytest.mark.parametrize("text", GOOD)
def test_a_name_is_kept_byte_by_byte(text: str) -> None:
    """And is one for py-spiffe too, with the same trust domain."""
    parsed = SpiffeId.parse(text)
    assert parsed == text
    assert str(TheirSpiffeId(text)) == text
    assert parsed.trust_domain == TheirSpiffeId(text).trust_domain.name
    assert is_workload(text, parsed.trust_domain)
    assert not is_workload(text, "other.example.org")


@pytest.mark.parametrize(("text", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_no_name_of_a_workload_is_refused(text: Any, words: str) -> None:
    """Saying what is wrong; a verifier's answer is the same."""
    with pytest.raises(ConfigError, match="is not the SPIFFE ID of a workload") as refused:
        SpiffeId.parse(text)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert not is_workload(text, "example.org")


def test_a_trust_domain_has_no_scheme() -> None:
    """It is the name alone."""
    assert is_trust_domain("example.org")
    assert not is_trust_domain("spiffe://example.org")
    assert not is_trust_domain("")
