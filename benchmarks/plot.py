"""Horizontal bars as SVG, on a logarithmic axis where the figures need one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_ROW, _NAMES, _WIDTH, _END = 18, 250, 420, 90
_OURS, _REFERENCE, _OTHERS = "#1f6f5c", "#8a8f98", "#c9b07f"


class Bar(NamedTuple):
    """One bar.

    Attributes:
        name: beside it.
        value: its length, positive.
        ours: whether it is one of ours.
        reference: whether the others are measured by it.
    """

    name: str
    value: float
    ours: bool = False
    reference: bool = False


class Panel(NamedTuple):
    """Bars that are compared with each other."""

    title: str
    unit: str
    bars: Sequence[Bar]


def svg(title: str, panels: Sequence[Panel], *, logarithmic: bool) -> str:
    """All panels below each other, on one axis each."""
    height = 40 + sum(34 + _ROW * len(panel.bars) for panel in panels)
    width = _NAMES + _WIDTH + _END
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    top = 40
    for panel in panels:
        parts.append(f'<text x="10" y="{top + 18}" font-weight="bold">{escape(panel.title)}</text>')
        top += 28
        longest = max(bar.value for bar in panel.bars)
        least = min(bar.value for bar in panel.bars) / 2
        for bar in panel.bars:
            share = bar.value / longest
            if logarithmic:
                share = math.log(bar.value / least) / math.log(longest / least)
            parts.append(_bar(bar, top, share * _WIDTH, panel.unit))
            top += _ROW
        top += 6
    return "\n".join([*parts, "</svg>\n"])


def _bar(bar: Bar, top: float, length: float, unit: str) -> str:
    colour = _OURS if bar.ours else _REFERENCE if bar.reference else _OTHERS
    weight = ' font-weight="bold"' if bar.ours else ""
    return (
        f'<text x="{_NAMES - 8}" y="{top + 13}" text-anchor="end"{weight}>{escape(bar.name)}</text>'
        f'<rect x="{_NAMES}" y="{top + 2}" width="{length:.1f}" height="{_ROW - 5}" fill="{colour}"/>'
        f'<text x="{_NAMES + length + 6:.1f}" y="{top + 13}">{bar.value:.3g} {escape(unit)}</text>'
    )
