"""The docs as a whole: pages are found, links lead somewhere, snippets are executed by a test."""

from __future__ import annotations

import re

import pytest

from .docs_site import CONFIG, linked, navigated, navigation, pages
from .docs_snippets import ROOT, fences

CONFIGURED = (ROOT / CONFIG).read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation() -> None:
    """Once."""
    named = navigated(CONFIGURED)
    assert len(named) == len(set(named))
    assert set(pages().values()) - set(named) == set()


def test_only_pages_that_exist_are_built_into_the_navigation() -> None:
    """A place may be kept for a page that is still to come."""
    built = navigation(CONFIGURED, set(pages().values()))
    assert set(navigated(built)) == set(pages().values())
    assert navigated(navigation(CONFIGURED, {"index.md"})) == ["index.md"]


def test_no_link_is_dead() -> None:
    """From whichever page, to whatever of the repository."""
    known, files = pages(), set[str]()
    for source in known:
        linked((ROOT / source).read_text(encoding="utf-8"), source, known, files)
    assert "examples/policy/wallets.rego" in files


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("docs/users.md", "[a](proof.md#what) [b](#here)", "[a](proof.md#what) [b](#here)"),
        ("docs/users.md", "[a](https://a.example.com/b.md)", "[a](https://a.example.com/b.md)"),
        ("docs/users.md", "[a](../trust/README.md#roles)", "[a](trust-file.md#roles)"),
        ("trust/README.md", "[a](../docs/users.md)", "[a](users.md)"),
        ("docs/policy.md", "[a](../LICENSE)", "[a](files/LICENSE)"),
        ("docs/policy.md", "[a](../examples/policy)", "[a](files/examples/policy/index.md)"),
        ("benchmarks/results/http.md", "![a](http.svg)", "![a](../files/benchmarks/results/http.svg)"),
    ],
)
def test_links_are_made_to_fit(source: str, text: str, expected: str) -> None:
    """Those of the repository become those of the site."""
    assert linked(text, source, pages(), set()) == expected


def test_a_dead_link_is_refused() -> None:
    """Whatever it was meant to lead to."""
    with pytest.raises(ValueError, match=r"docs/users\.md: nothing is at nowhere\.md"):
        linked("[a](nowhere.md)", "docs/users.md", pages(), set())


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_every_snippet_is_executed_by_a_test(page: str) -> None:
    """For each language on a page there is a test module that takes the page's blocks of that language.

    What has no language is shown and not run: the fields of a request, the shape of something.
    """
    languages = {fence.language for fence in fences(f"docs/{page}")} - {""}
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")]
    about = [text for text in tests if f'"docs/{page}"' in text]
    taken = {language for language in languages if any(takes(text, language) for text in about)}
    assert taken == languages, f"no test executes these of docs/{page}"


def takes(test: str, language: str) -> bool:
    """Whether a test module takes blocks of this language."""
    ways = [r"\bfences\(", rf'\bsnippets\([^()]+, "{language}"\)', f"\\^```{language}"]
    if language == "console":
        ways.append(r"\bcommands\(")
    return any(re.search(way, test) for way in ways)
