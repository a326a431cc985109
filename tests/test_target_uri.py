"""Two URIs are one where RFC 3986 section 6.2.2 says so; what could be read in two ways is none."""

from __future__ import annotations

import pytest

from s2s_mesh.target_uri import TargetURI

SAME = [
    ("https://a.example.com/x", "HTTPS://A.Example.COM/x"),
    ("https://a.example.com/x", "https://a.example.com:443/x"),
    ("https://a.example.com/x", "https://a.example.com:/x"),
    ("http://a.example.com/x", "http://a.example.com:080/x"),
    ("https://a.example.com", "https://a.example.com/"),
    ("https://a.example.com/%7ex", "https://a.example.com/~x"),
    ("https://a.example.com/%c3%a4", "https://a.example.com/%C3%A4"),
    ("https://[::1]:8443/x", "https://[::1]:8443/x"),
]
DIFFERENT = [
    ("https://a.example.com/x", "http://a.example.com/x"),
    ("https://a.example.com/x", "https://a.example.com:8443/x"),
    ("https://a.example.com/x", "https://a.example.com./x"),
    ("https://a.example.com/x", "https://a%2eexample.com/x"),
    ("https://a.example.com/x", "https://a.example.com/X"),
    ("https://a.example.com/x", "https://a.example.com/x/"),
    ("https://a.example.com/a@b", "https://a.example.com/a%40b"),
]
NOT_ONE = [
    "",
    "/x",
    "//a.example.com/x",
    "ftp://a.example.com/x",
    "https:///x",
    "https://a.example.com/x?",
    "https://a.example.com/x#",
    "https://u@a.example.com/x",
    "https://a.example.com\\@b/x",
    "https://a.example.com:99999999/x",
    "https://a.example.com/../x",
    "https://a.example.com/%2e%2e/x",
    "https://a.example.com//x",
    "https://a.example.com/a%2fb",
    "https://a.example.com/a;b",
    "https://a.example.com/%zz",
    "https://a.example.com/ä",
    "https://a.example.com/x\n",
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_one(one: str, other: str) -> None:
    """Case, default port, escapes."""
    assert TargetURI.parse(one) == TargetURI.parse(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_two(one: str, other: str) -> None:
    """No more than that is forgiven."""
    assert TargetURI.parse(one) != TargetURI.parse(other)


@pytest.mark.parametrize("text", NOT_ONE)
def test_none(text: str) -> None:
    """Refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - its words are for the log
        TargetURI.parse(text)


def test_it_is_written_as_it_is_compared() -> None:
    """What a sender signs is the normal form."""
    assert str(TargetURI.parse("https://A.example.com:443/%7ex")) == "https://a.example.com/~x"
