"""Where the boxes of a directed graph go: in columns, so that arrows lead to the right and seldom cross.

The method of Sugiyama, Tagawa and Toda (1981): break cycles, give each box a column, put bends into arrows
that pass columns, order each column by its neighbours, then move everything towards its neighbours.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

_SWEEPS = 12
_GAP = 16.0  # between boxes of a column
_BEND = 10.0  # height of a place where an arrow passes a column


class Size(NamedTuple):
    """Of a box."""

    width: float
    height: float


class Point(NamedTuple):
    """A place; y grows downwards."""

    x: float
    y: float


class Layers(NamedTuple):
    """The result.

    Attributes:
        centres: by box.
        bends: by arrow, where it enters and leaves the columns between its ends, in its own direction.
        backwards: the arrows that lead to the left.
        size: of the whole.
    """

    centres: Mapping[str, Point]
    bends: Mapping[tuple[str, str], Sequence[Point]]
    backwards: frozenset[tuple[str, str]]
    size: Size


class _Node:
    """A box, or the place where an arrow passes a column."""

    def __init__(self, column: int, height: float) -> None:
        self.column = column
        self.height = height
        self.left: list[_Node] = []
        self.right: list[_Node] = []
        self.y = 0.0


def in_layers(sizes: Mapping[str, Size], arrows: Sequence[tuple[str, str]], *, column_gap: float) -> Layers:
    """Lay out a graph.

    Args:
        sizes: of each box, in an order that decides where nothing else does.
        arrows: from box to box, each once; one from a box to itself has no influence.
        column_gap: free space between columns, for arrows.
    """
    backwards = frozenset(_backwards(list(sizes), arrows))
    # every arrow to the right, as the columns see it
    forward = {(a, b): (b, a) if (a, b) in backwards else (a, b) for a, b in arrows if a != b}
    columns = _columns(list(sizes), list(forward.values()))
    boxes = {name: _Node(columns[name], size.height) for name, size in sizes.items()}
    passing = {arrow: _connect(boxes[left], boxes[right]) for arrow, (left, right) in forward.items()}
    count = max(columns.values(), default=-1) + 1
    table: list[list[_Node]] = [[] for _ in range(count)]
    for node in [*boxes.values(), *(bend for bends in passing.values() for bend in bends)]:
        table[node.column].append(node)
    _order(table)
    _place(table)
    widths = [max(sizes[name].width for name in sizes if columns[name] == c) for c in range(count)]
    middles = [sum(widths[:c]) + c * column_gap + widths[c] / 2 for c in range(count)]
    top = min((node.y - node.height / 2 for column in table for node in column), default=0.0)
    bottom = max((node.y + node.height / 2 for column in table for node in column), default=0.0)

    def point(node: _Node) -> Point:
        return Point(middles[node.column], node.y - top)

    def passes(arrow: tuple[str, str]) -> list[Point]:
        places = []
        for node in passing[arrow]:
            middle, half = point(node), widths[node.column] / 2
            places += [Point(middle.x - half, middle.y), Point(middle.x + half, middle.y)]
        return places[::-1] if arrow in backwards else places

    return Layers(
        centres={name: point(box) for name, box in boxes.items()},
        bends={arrow: passes(arrow) for arrow in passing},
        backwards=backwards,
        size=Size(sum(widths) + max(count - 1, 0) * column_gap, bottom - top),
    )


def _backwards(names: Sequence[str], arrows: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The arrows that close a cycle, found by walking along the arrows; without recursion."""
    following: dict[str, list[str]] = {name: [] for name in names}
    for a, b in arrows:
        following[a].append(b)
    called = {b for a, b in arrows if a != b}
    open_now: set[str] = set()
    done: set[str] = set()
    # whoever is called by nobody stands on the left
    for start in [*(name for name in names if name not in called), *names]:
        walk = [(start, iter(following[start]))] if start not in done else []
        open_now.update(name for name, _ in walk)
        while walk:
            name, rest = walk[-1]
            for other in rest:
                if other in open_now and other != name:
                    yield name, other
                elif other not in done and other != name:
                    open_now.add(other)
                    walk.append((other, iter(following[other])))
                    break
            else:
                walk.pop()
                open_now.discard(name)
                done.add(name)


def _columns(names: Sequence[str], forward: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Each box right of all that lead to it, and as near to where it leads as that allows."""
    before: dict[str, set[str]] = {name: set() for name in names}
    after: dict[str, set[str]] = {name: set() for name in names}
    for a, b in forward:
        before[b].add(a)
        after[a].add(b)
    rank = {name: place for place, name in enumerate(names)}
    columns: dict[str, int] = {}
    order: list[str] = []
    waiting = {name: len(before[name]) for name in names}
    ready = [name for name in names if not waiting[name]]
    while ready:
        name = ready.pop(0)
        order.append(name)
        columns[name] = max((columns[other] + 1 for other in before[name]), default=0)
        for other in sorted(after[name], key=rank.__getitem__):
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    for name in reversed(order):
        if after[name] and not before[name]:
            columns[name] = min(columns[other] for other in after[name]) - 1
    return columns


def _connect(a: _Node, b: _Node) -> list[_Node]:
    """Join two boxes by way of a bend in each column between them."""
    bends = [_Node(column, _BEND) for column in range(a.column + 1, b.column)]
    chain = [a, *bends, b]
    for left, right in pairwise(chain):
        left.right.append(right)
        right.left.append(left)
    return bends


def _order(table: list[list[_Node]]) -> None:
    """Sort columns by the middle of their neighbours, to and fro; keep the one that crosses least."""
    best, fewest = [list(column) for column in table], _crossings(table)
    for sweep in range(_SWEEPS):
        to_the_right = sweep % 2 == 0
        for column in table[1:] if to_the_right else table[-2::-1]:
            places = {id(node): i for other in table for i, node in enumerate(other)}

            def middle(node: _Node, places: dict[int, int] = places, right: bool = to_the_right) -> float:
                near = node.left if right else node.right
                return sum(places[id(n)] for n in near) / len(near) if near else places[id(node)]

            column.sort(key=middle)
        crossings = _crossings(table)
        if crossings < fewest:
            best, fewest = [list(column) for column in table], crossings
    table[:] = best


def _crossings(table: list[list[_Node]]) -> int:
    count = 0
    for left, right in pairwise(table):
        places = {id(node): i for i, node in enumerate(right)}
        ends = [sorted(places[id(other)] for other in node.right) for node in left]
        above: list[int] = []
        # ends of one box stand in order, so that they do not cross each other
        for place in (place for group in ends for place in group):
            count += len(above) - bisect_right(above, place)
            insort(above, place)
    return count


def _place(table: list[list[_Node]]) -> None:
    """Move every box towards its neighbours, as far as its column has room."""
    for column in table:
        for node, y in zip(column, _without_overlap(column, [0.0] * len(column)), strict=True):
            node.y = y
    for sweep in range(2 * _SWEEPS):
        for column in table if sweep % 2 else table[::-1]:
            wanted = [_mean([n.y for n in node.left + node.right], node.y) for node in column]
            for node, y in zip(column, _without_overlap(column, wanted), strict=True):
                node.y = y


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _without_overlap(column: list[_Node], wanted: list[float]) -> list[float]:
    """The mean of what comes of pushing down from the top and of pushing up from the bottom."""
    apart = [(a.height + b.height) / 2 + _GAP for a, b in pairwise(column)]
    down, up = list(wanted), list(wanted)
    for i, least in enumerate(apart, start=1):
        down[i] = max(down[i], down[i - 1] + least)
    for i in range(len(apart) - 1, -1, -1):
        up[i] = min(up[i], up[i + 1] - apart[i])
    return [(a + b) / 2 for a, b in zip(down, up, strict=True)]
