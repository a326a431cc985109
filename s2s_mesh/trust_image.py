"""A trust graph as SVG that needs nothing else: no program, no font, no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from itertools import pairwise

from .layers import Layers, Point, Size, in_layers
from .trust_graph import Call, TrustGraph, short_name

READABLE = 40  # services; beyond that the page with its filter, or one service at a time, is better
_LABELLED = 30  # calls; beyond that scopes are in the tooltips only
_CHARACTER = 7.3  # width in the font below
_LABEL_CHARACTER = 6.1
_PORT = 15.0  # between arrows at one box, room for a label
_MARGIN = 24.0
_LONGEST_LABEL = 36  # characters
_STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2937}"
    ".box rect{fill:#f8fafc;stroke:#64748b}.caller rect{fill:#eff6ff;stroke:#3b82f6}"
    ".called rect{fill:#f0fdf4;stroke:#16a34a}"
    ".call path{fill:none;stroke:#64748b;stroke-width:1.3}"
    ".call text{font-size:10px;fill:#334155}.call .halo{stroke:#fff;stroke-width:4px;stroke-linejoin:round}"
    ".call:hover path{stroke:#dc2626;stroke-width:2.2}"
)


def svg(graph: TrustGraph) -> str:
    """Draw a graph. Boxes are services: blue ones only call, green ones are only called.

    Every group has its ends in `data-` members, for scripts of a page around it.
    """
    if not graph.services:
        return _document(Size(320, 60), ['<text x="24" y="36">nobody may call anybody</text>'])
    outgoing = Counter(call.issuer for call in graph.calls)
    incoming = Counter(call.audience for call in graph.calls)
    sizes = {service: _size(service, max(outgoing[service], incoming[service])) for service in graph.services}
    labels = len(graph.calls) <= _LABELLED
    longest = max((len(_label(call)) for call in graph.calls), default=0) if labels else 0
    gap = max(90.0, longest * _LABEL_CHARACTER + 60)
    layers = in_layers(sizes, [(call.issuer, call.audience) for call in graph.calls], column_gap=gap)
    ends = _ends(graph, layers, sizes)
    parts = [_arrow(call, layers, ends, sizes, labelled=labels) for call in graph.calls]
    for service, size in sizes.items():
        kind = "called" if service not in outgoing else "caller" if service not in incoming else ""
        parts.append(_box(service, kind, layers.centres[service], size))
    return _document(Size(layers.size.width + 2 * _MARGIN, layers.size.height + 2 * _MARGIN), parts)


def _document(size: Size, parts: list[str]) -> str:
    width, height = f"{size.width:.0f}", f"{size.height:.0f}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="who may call whom">'
    )
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="#64748b"/>'
        "</marker></defs>"
    )
    white = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", arrow, white, *parts, "</svg>"]) + "\n"


def _size(service: str, ports: int) -> Size:
    return Size(len(short_name(service)) * _CHARACTER + 24, max(30.0, ports * _PORT + 10))


def _box(service: str, kind: str, centre: Point, size: Size) -> str:
    x, y = _MARGIN + centre.x, _MARGIN + centre.y
    name = escape(service)
    return (
        f'<g class="box {kind}" data-service="{name}"><title>{name}</title>'
        f'<rect x="{x - size.width / 2:.1f}" y="{y - size.height / 2:.1f}" width="{size.width:.1f}" '
        f'height="{size.height:.1f}" rx="5"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{escape(short_name(service))}</text></g>'
    )


_Ends = Mapping[tuple[str, str], tuple[Point, Point]]


def _ends(graph: TrustGraph, layers: Layers, sizes: Mapping[str, Size]) -> _Ends:
    """Where each arrow leaves its issuer and reaches its audience: in the order of where they come from."""
    sides: dict[tuple[str, bool], list[tuple[float, tuple[str, str], bool]]] = {}
    for call in graph.calls:
        arrow = (call.issuer, call.audience)
        if call.issuer == call.audience:
            continue
        bends = layers.bends[arrow]
        back = arrow in layers.backwards
        towards = bends[0] if bends else layers.centres[call.audience]
        sides.setdefault((call.issuer, not back), []).append((towards.y, arrow, True))
        origin = bends[-1] if bends else layers.centres[call.issuer]
        sides.setdefault((call.audience, back), []).append((origin.y, arrow, False))
    points: dict[tuple[tuple[str, str], bool], Point] = {}
    for (service, right), arrows in sides.items():
        centre, size = layers.centres[service], sizes[service]
        step = min(_PORT, (size.height - 8) / max(len(arrows) - 1, 1))
        for place, (_, arrow, leaves) in enumerate(sorted(arrows)):
            y = centre.y + (place - (len(arrows) - 1) / 2) * step
            points[arrow, leaves] = Point(centre.x + size.width / 2 * (1 if right else -1), y)
    return {arrow: (points[arrow, True], points[arrow, False]) for arrow, leaves in points if leaves}


def _arrow(call: Call, layers: Layers, ends: _Ends, sizes: Mapping[str, Size], *, labelled: bool) -> str:
    label = ""
    if call.issuer == call.audience:
        path = _loop(layers.centres[call.issuer], sizes[call.issuer])
    else:
        arrow = (call.issuer, call.audience)
        start, end = ends[arrow]
        stops = [start, *layers.bends[arrow], end]
        path = f"M{_xy(start)}"
        for a, b in pairwise(stops):
            half = (b.x - a.x) / 2
            path += f" C{_xy(Point(a.x + half, a.y))} {_xy(Point(b.x - half, b.y))} {_xy(b)}"
        label = _at_end(call, end, leftwards=arrow in layers.backwards) if labelled else ""
    return (
        f'<g class="call" data-issuer="{escape(call.issuer)}" data-audience="{escape(call.audience)}">'
        f"<title>{escape(_told(call))}</title>"
        f'<path d="{path}" marker-end="url(#arrow)"/>{label}</g>'
    )


def _at_end(call: Call, end: Point, *, leftwards: bool) -> str:
    """The scopes, where an arrow ends, for there arrows lie apart."""
    x, anchor = (end.x + 14, "start") if leftwards else (end.x - 14, "end")
    place = f'x="{_MARGIN + x:.1f}" y="{_MARGIN + end.y - 3:.1f}" text-anchor="{anchor}"'
    label = escape(_label(call))
    # twice, because not every program draws an outline behind its text
    return f'<text class="halo" {place}>{label}</text><text {place}>{label}</text>'


def _loop(centre: Point, size: Size) -> str:
    """A small arc over the box, in the gap between boxes."""
    top = centre.y - size.height / 2
    left, right = centre.x - 12, centre.x + 12
    over = f"{_xy(Point(left, top - 15))} {_xy(Point(right, top - 15))}"
    return f"M{_xy(Point(left, top))} C{over} {_xy(Point(right, top))}"


def _xy(point: Point) -> str:
    return f"{_MARGIN + point.x:.1f},{_MARGIN + point.y:.1f}"


def _label(call: Call) -> str:
    whole = call.label
    return whole if len(whole) <= _LONGEST_LABEL else f"{whole[: _LONGEST_LABEL - 1]}…"


def _told(call: Call) -> str:
    users = f"\non behalf of users of {', '.join(call.may_act_for)}" if call.may_act_for else ""
    routes = "\n".join(call.routes) or "no path"
    scopes = ", ".join(call.scopes) or "no scopes"
    return f"{call.issuer}\nmay call {call.audience}\nwith {scopes}{users}\n{routes}"
