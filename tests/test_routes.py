"""Route templates, the paths that are let in, and the table that finds the one rule."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s_mesh.errors import ConfigError
from s2s_mesh.routes import PathTemplate, RouteTable, external_path


class Rule(NamedTuple):
    path: str
    methods: frozenset[str] = frozenset({"GET"})


def table(*paths: str) -> RouteTable[Rule]:
    return RouteTable(Rule(path) for path in paths)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", "/"),
        (b"/wallets/42/card", "/wallets/42/card"),
        (b"/wallets/42/card/", "/wallets/42/card/"),
        (b"/a%20b", "/a b"),
        (b"/caf%C3%A9", "/caf\u00e9"),
        (b"/100%25", "/100%"),
        (b"/%41dmin", "/Admin"),
        # Escaped once more, an escape is plain text: no server decodes a path twice.
        (b"/%252e%252e/x", "/%2e%2e/x"),
        (b"/...", "/..."),
        (b"/.well-known/jwks.json", "/.well-known/jwks.json"),
        (b"/a.b/..c/d..", "/a.b/..c/d.."),
        (b"/~tilde/a:b@c,d=e+f&g$h!i'j(k)*", "/~tilde/a:b@c,d=e+f&g$h!i'j(k)*"),
    ],
)
def test_external_path_decodes(raw: bytes, path: str) -> None:
    """A path that has one meaning is decoded once."""
    assert external_path(raw) == path


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"admin",
        b"*",
        b"http://wallets.example.com/admin",
        b"//admin",
        b"/a//b",
        b"/a//",
        b"/.",
        b"/..",
        b"/./a",
        b"/a/.",
        b"/a/..",
        b"/a/../admin",
        b"/%2e%2e/admin",
        b"/a/%2E./admin",
        b"/a/.%2e",
        b"/%2e",
        b"/a%2fb",
        b"/a%2Fb",
        b"/a%5cb",
        b"/a%5Cb",
        b"/a\\b",
        b"/a;x=1",
        b"/a/..;/admin",
        b"/a%3bx",
        b"/a%3Bx",
        b"/a\x00b",
        b"/a%00b",
        b"/a\nb",
        b"/a%0ab",
        b"/a%0D",
        b"/a%1f",
        b"/a\x7f",
        b"/a%7F",
        b"/a%C2%85b",
        b"/a b",
        b"/caf\xc3\xa9",
        b"/a%",
        b"/a%4",
        b"/a%zz",
        b"/a%u0041",
        b"/a%C3",
        b"/a%C0%AF",
        b"/a%ED%A0%80",
        b"/a?b",
        b"/a#b",
    ],
)
def test_external_path_refuses(raw: bytes) -> None:
    """A path that two parsers could read differently is refused (standards (e) row 75)."""
    assert external_path(raw) is None


@given(st.binary(max_size=40).map(lambda rest: b"/" + rest))
def test_external_path_has_no_second_meaning(raw: bytes) -> None:
    """Whatever is let in has no empty, dot or control segments."""
    path = external_path(raw)
    if path is not None:
        inner = path[1:].split("/")
        assert "" not in inner[:-1]
        assert not {".", ".."} & set(inner)
        assert not any(char < " " or char in "\\;" or "\x7f" <= char <= "\x9f" for char in path)


@pytest.mark.parametrize(
    ("template", "good", "bad"),
    [
        ("/", ["/"], ["", "/a", "a"]),
        ("/a", ["/a"], ["/", "/A", "/a/", "/a/b", "a", "xa", ""]),
        ("/a/", ["/a/"], ["/a", "/a/b"]),
        ("/w/{id}", ["/w/42", "/w/a b", "/w/{id}"], ["/w", "/w/", "/w/42/", "/w/1/2", "/x/42"]),
        ("/w/{id}/card", ["/w/42/card"], ["/w//card", "/w/card", "/w/4/2/card", "/w/42/Card"]),
        ("/f/{rest:path}", ["/f/a", "/f/a/b", "/f/a/", "/f//a"], ["/f", "/f/", "/g/a"]),
        ("/{rest:path}", ["/a", "/a/b"], ["/"]),
        ("/w/{id}/{rest:path}", ["/w/1/2", "/w/1/2/3"], ["/w/1", "/w/1/"]),
        ("/caf\u00e9 au lait", ["/caf\u00e9 au lait"], ["/cafe au lait"]),
    ],
)
def test_template_matches(template: str, good: list[str], bad: list[str]) -> None:
    """A parameter is one whole segment, `:path` at least one character, and everything else is literal."""
    parsed = PathTemplate.parse(template)
    assert [path for path in good if not parsed.match(path)] == []
    assert [path for path in bad if parsed.match(path)] == []
    found = table(template)
    assert [path for path in good if found.find("GET", path) is None] == []
    assert [path for path in bad if found.find("GET", path)] == []


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", 'must begin with "/"'),
        ("wallets", 'must begin with "/"'),
        ("/a/*", "wildcards do not exist"),
        ("/a%20b", "not percent-encoded"),
        ("/a?x=1", "the query is not part"),
        ("/a#x", "fragment"),
        ("/a;x", "semicolon"),
        ("/a\\b", "backslash"),
        ("/a//b", "empty segment"),
        ("//", "empty segment"),
        ("/a\nb", "control character"),
        ("/.", 'segment "."'),
        ("/a/../b", 'segment ".."'),
        ("/:id", "{name} as a whole segment"),
        ("/<id>", "{name} as a whole segment"),
        ("/{id}.json", "{name} as a whole segment"),
        ("/{}", "{name} as a whole segment"),
        ("/{a-b}", "{name} as a whole segment"),
        ("/a}", "{name} as a whole segment"),
        ("/{a", "{name} as a whole segment"),
        ("/{id:int}", "write {id} or, at the end, {id:path}"),
        ("/{id}/{id}", "{id} appears twice"),
        ("/{rest:path}/x", "only stand at the end"),
        ("/{rest:path}/", "only stand at the end"),
    ],
)
def test_bad_templates(template: str, words: str) -> None:
    """A template that could never match, or not as its author thinks, is refused with a reason."""
    with pytest.raises(ConfigError, match=r"is not a path template: ") as refusal:
        PathTemplate.parse(template)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("/a", "/a", True),
        ("/a", "/b", False),
        ("/a", "/a/", False),
        ("/{x}", "/{y}", True),
        ("/{x}", "/a", True),
        ("/{x}", "/", False),
        ("/{x}/a", "/b/{y}", True),
        ("/{x}/a", "/b/c", False),
        ("/a", "/a/{x}", False),
        ("/{x:path}", "/", False),
        ("/{x:path}", "/a", True),
        ("/{x:path}", "/a/", True),
        ("/{x:path}", "/{y:path}", True),
        ("/f/{x:path}", "/f", False),
        ("/f/{x:path}", "/f/", False),
        ("/f/{x:path}", "/f/{y}", True),
        ("/f/{x:path}", "/{y:path}", True),
        ("/f/{x:path}", "/f/a/{y:path}", True),
        ("/f/{x:path}", "/g/a/{y:path}", False),
    ],
)
def test_overlap(one: str, other: str, overlap: bool) -> None:
    """Two templates overlap exactly if some path matches both."""
    first, second = PathTemplate.parse(one), PathTemplate.parse(other)
    assert first.overlaps(second) is overlap
    assert second.overlaps(first) is overlap


PART = st.sampled_from(["a", "b", "{x}"])
TEMPLATE = st.builds(
    lambda parts, end: "/" + "/".join([*(part.replace("x", f"x{n}") for n, part in enumerate(parts)), *end]),
    st.lists(PART, max_size=3),
    st.sampled_from([[], [""], ["{rest:path}"]]),
)
PATH = st.builds(
    lambda parts, slash: "/" + "/".join(parts) + slash * bool(parts),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=4),
    st.sampled_from(["", "/"]),
)


@given(st.lists(TEMPLATE, max_size=4), PATH)
def test_table_agrees_with_templates(templates: list[str], path: str) -> None:
    """The table finds a rule exactly if one template matches, and two that match one path overlap."""
    templates = [template for template in templates if "//" not in template]
    matching = [template for template in templates if PathTemplate.parse(template).match(path)]
    found = table(*templates).find("GET", path)
    assert (found.path if found else None) == (matching[0] if len(matching) == 1 else None)
    for one in matching:
        assert all(PathTemplate.parse(one).overlaps(PathTemplate.parse(other)) for other in matching)


def test_methods() -> None:
    """HEAD counts as GET, OPTIONS needs a rule of its own, and methods are compared exactly."""
    get = Rule("/a", frozenset({"GET", "PUT"}))
    post = Rule("/a", frozenset({"POST"}))
    rules = RouteTable([get, post])
    assert rules.find("GET", "/a") is get
    assert rules.find("HEAD", "/a") is get
    assert rules.find("PUT", "/a") is get
    assert rules.find("POST", "/a") is post
    for method in ("OPTIONS", "get", "DELETE", ""):
        assert rules.find(method, "/a") is None


def test_two_rules_deny() -> None:
    """A request that two rules match is denied, not decided by order."""
    rules = table("/wallets/{id}", "/wallets/me")
    assert rules.find("GET", "/wallets/42") == Rule("/wallets/{id}")
    assert rules.find("GET", "/wallets/me") is None


def test_find_is_fast() -> None:
    """Among a thousand rules with a common prefix a lookup stays far below a millisecond."""
    rules = table(*(f"/api/v1/things{n}/{{id}}/parts/{{part}}" for n in range(1000)))
    begin = time.process_time()
    for _ in range(1000):
        assert rules.find("GET", "/api/v1/things999/42/parts/7")
    assert time.process_time() - begin < 0.5


def test_bad_rule() -> None:
    """A table is not made from something that is not a template."""
    with pytest.raises(ConfigError, match="is not a path template"):
        table("/a*")
