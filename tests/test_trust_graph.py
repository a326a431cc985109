"""A trust file as text for other programs, as an image, and as a page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import msgspec
import pytest

from s2s_mesh.layers import Point, Size, in_layers
from s2s_mesh.trust import TrustConfig
from s2s_mesh.trust_graph import Call, TrustGraph, dot, mermaid, trust_graph
from s2s_mesh.trust_image import svg
from s2s_mesh.trust_page import page

from .tokens import EDGE, LEDGER, LOGIN, WALLETS

HOSTILE = '"><script>x&y</script>\\'
SVG = "{http://www.w3.org/2000/svg}"
TEXT = f"""\
version = 1
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:write", "cards:read"]
may_act_for = ["{LOGIN}"]
[[allow]]
issuer = "{WALLETS}"
audience = "{LEDGER}"
[[allow]]
issuer = "{EDGE}"
audience = "{LEDGER}"
scopes = ["entries:read"]
[[route]]
audience = "{LEDGER}"
path = "/entries"
methods = ["PUT", "GET"]
scopes = ["entries:read"]
[user_issuers."{LOGIN}"]
audiences = ["{WALLETS}"]
"""
GRAPH = trust_graph(TrustConfig.parse(TEXT))


def call(issuer: str, audience: str, **members: tuple[str, ...]) -> Call:
    """An arrow, without anything unless told."""
    nothing: dict[str, tuple[str, ...]] = {"scopes": (), "may_act_for": (), "routes": ()}
    return msgspec.convert({"issuer": issuer, "audience": audience, **nothing, **members}, Call)


def graph(*arrows: tuple[str, str]) -> TrustGraph:
    """Services with one-letter names and who calls whom."""
    names = dict.fromkeys(end for arrow in arrows for end in arrow)
    return TrustGraph(services=tuple(names), calls=tuple(call(a, b) for a, b in arrows))


def test_graph() -> None:
    """Services and calls in the order of the file, with what each call opens."""
    assert GRAPH.services == (EDGE, WALLETS, LEDGER)
    assert [(c.issuer, c.audience, c.label, c.routes) for c in GRAPH.calls] == [
        (EDGE, WALLETS, "cards:read, cards:write, users", ("every path",)),
        (WALLETS, LEDGER, "no scopes", ()),
        (EDGE, LEDGER, "entries:read", ("GET,PUT /entries",)),
    ]


def test_graph_of_one_service() -> None:
    """What it calls and who calls it, not what they do among each other."""
    one = trust_graph(TrustConfig.parse(TEXT), WALLETS)
    assert [(c.issuer, c.audience) for c in one.calls] == [(EDGE, WALLETS), (WALLETS, LEDGER)]


def test_mermaid() -> None:
    """Short names, scopes at the arrows."""
    assert mermaid(GRAPH) == (
        "flowchart LR\n"
        '  s0["edge.example.com"]\n'
        '  s1["wallets.example.com"]\n'
        '  s2["ledger.example.com"]\n'
        '  s0 -->|"cards:read, cards:write, users"| s1\n'
        '  s1 -->|"no scopes"| s2\n'
        '  s0 -->|"entries:read"| s2\n'
    )


def test_dot() -> None:
    """The same for Graphviz."""
    lines = dot(GRAPH).splitlines()
    assert lines[0] == "digraph trust {"
    assert f'  "{EDGE}" [label="edge.example.com"];' in lines
    assert f'  "{EDGE}" -> "{LEDGER}" [label="entries:read"];' in lines
    assert lines[-1] == "}"


class Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_hostile_text_stays_text() -> None:
    """Whatever a service or a scope were called, no format takes it for anything else."""
    hostile = TrustGraph(
        services=(f"https://{HOSTILE}", "https://b"),
        calls=(call(f"https://{HOSTILE}", "https://b", scopes=(HOSTILE,), routes=(HOSTILE,)),),
    )
    shown = page(hostile, source=HOSTILE)
    assert Tags(shown).tags.count("script") == 1
    root = ET.fromstring(svg(hostile))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == [HOSTILE, HOSTILE, HOSTILE, "b"]
    assert re.findall(r'"(.*)"\|', mermaid(hostile)) == [
        "#34;#62;#60;script#62;x#38;y#60;/script#62;#92;",
    ]
    assert '[label="\\"><script>x&y</script>\\\\"];' in dot(hostile)


def test_page() -> None:
    """A row for each pair with what it opens; nothing is loaded from anywhere, and nothing could be."""
    shown = page(GRAPH, source="trust.toml")
    parsed = Tags(shown)
    assert parsed.links == []
    assert "default-src 'none'" in shown
    assert shown.count("<tr data-issuer=") == 3
    assert "<td><div>no scopes</div></td><td><div>nobody</div></td><td><div>no path</div></td>" in shown
    assert "<div>GET,PUT /entries</div>" in shown
    assert "3 services, 3 pairs" in shown
    assert "More than 40 services" not in shown
    many = graph(*((f"https://{number}", "https://b") for number in range(41)))
    assert "More than 40 services" in page(many, source="x")


def boxes(drawn: str) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of each box."""
    found = {}
    for group in ET.fromstring(drawn).iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is not None:
            x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            found[group.attrib["data-service"]] = (x, y, x + width, y + height)
    return found


ARROWS = {
    "chain": [("a", "b"), ("b", "c"), ("a", "c")],
    "star": [(name, "z") for name in "abcdefgh"],
    "two ways": [("a", "b"), ("b", "a")],
    "cycle": [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("a", "c")],
    "itself": [("a", "a"), ("a", "b")],
    "crossed": [
        ("a", "y"),
        ("b", "x"),
        ("c", "w"),
        ("a", "x"),
        ("d", "w"),
        ("w", "q"),
        ("x", "q"),
        ("a", "q"),
    ],
    "apart": [("a", "b"), ("c", "d"), ("e", "d")],
    "late": [("a", "b"), ("b", "c"), ("c", "d"), ("late", "d")],
}


@pytest.mark.parametrize("arrows", ARROWS.values(), ids=ARROWS)
def test_image(arrows: list[tuple[str, str]]) -> None:
    """Every service is a box within the image, no two of them overlap, and each call is one arrow."""
    drawn = svg(graph(*((f"https://{a}", f"https://{b}") for a, b in arrows)))
    root = ET.fromstring(drawn)
    found = list(boxes(drawn).values())
    assert len(found) == len({end for arrow in arrows for end in arrow})
    assert drawn.count('class="call"') == len(arrows)
    for number, (left, top, right, bottom) in enumerate(found):
        assert 0 <= left < right <= float(root.attrib["width"])
        assert 0 <= top < bottom <= float(root.attrib["height"])
        for x, y, x2, y2 in found[:number]:
            assert right <= x or x2 <= left or bottom <= y or y2 <= top


def test_image_leads_to_the_right() -> None:
    """Callers stand left of whom they call; a caller with one audience stands next to it."""
    found = boxes(svg(graph(*((f"https://{a}", f"https://{b}") for a, b in ARROWS["late"]))))
    left = {name: found[f"https://{name}"][0] for name in ("a", "b", "c", "d", "late")}
    assert left["a"] < left["b"] < left["c"] < left["d"]
    assert found["https://b"][2] < left["late"] < left["d"]


def test_colours_and_labels() -> None:
    """Who only calls, who is only called; scopes at the arrows, shortened, and whole in the tooltip."""
    long = tuple(f"scope{number}:read" for number in range(9))
    drawn = svg(
        TrustGraph(services=("https://a", "https://b"), calls=(call("https://a", "https://b", scopes=long),))
    )
    assert 'class="box caller" data-service="https://a"' in drawn
    assert 'class="box called" data-service="https://b"' in drawn
    assert f"with {', '.join(long)}" in drawn
    assert ">scope0:read, scope1:read, scope2:re…</text>" in drawn


def test_many_arrows_have_no_labels() -> None:
    """They could not be read; the tooltips have them."""
    drawn = svg(graph(*((f"https://{number}", "https://b") for number in range(31))))
    assert "no scopes</text>" not in drawn
    assert drawn.count("with no scopes") == 31


def test_nobody() -> None:
    """An empty trust file makes an image too."""
    assert "nobody may call anybody" in svg(TrustGraph(services=(), calls=()))


def test_layers_of_nothing() -> None:
    """No box, no size."""
    assert in_layers({}, [], column_gap=50).size == Size(0, 0)


def test_arrows_go_around_boxes() -> None:
    """An arrow that passes a column passes it beside its boxes, straight, whichever way it leads."""
    sizes = {name: Size(40, 20) for name in "abc"}
    layers = in_layers(sizes, [("a", "b"), ("b", "c"), ("a", "c"), ("c", "a")], column_gap=50)
    there, back = layers.bends["a", "c"], layers.bends["c", "a"]
    assert layers.backwards == {("c", "a")}
    assert [point.x for point in there] == [point.x for point in reversed(back)] == [90, 130]
    assert there[0].y == there[1].y != back[0].y
    assert all(abs(point.y - layers.centres["b"].y) >= 20 for point in [*there, *back])
    assert layers.centres["a"] == Point(20, layers.centres["a"].y)
