"""A trust graph as one HTML page: the image, a table of every pair, and a box that filters both.

It loads nothing, and its content security policy lets it load nothing: it can be mailed and archived.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .trust_graph import Call, TrustGraph, short_name
from .trust_image import READABLE, svg

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#1f2937;background:#fff;margin:24px;max-width:none}
h1{font-size:20px;margin:0 0 4px}
p{margin:4px 0 12px;color:#475569}
input{font:inherit;padding:6px 10px;width:28em;max-width:100%;border:1px solid #94a3b8;border-radius:5px}
#image{overflow:auto;border:1px solid #e2e8f0;border-radius:5px;margin:16px 0}
table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:5px 14px 5px 0;border-bottom:1px solid #e2e8f0}
th{color:#475569;font-weight:600}
td{font:12px/1.5 ui-monospace,Menlo,Consolas,monospace}
td div{white-space:nowrap}
.away{display:none}
svg .away{display:inline;opacity:.08}
"""
_SCRIPT = """
const box = document.getElementById("filter"), count = document.getElementById("count");
const rows = [...document.querySelectorAll("tbody tr")], calls = [...document.querySelectorAll("g.call")];
const boxes = [...document.querySelectorAll("g.box")];
function filter() {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean), seen = new Set();
  let shown = 0;
  rows.forEach((row, i) => {
    const text = row.textContent.toLowerCase(), hit = words.every(word => text.includes(word));
    row.classList.toggle("away", !hit);
    calls[i].classList.toggle("away", !hit);
    if (hit) { shown += 1; seen.add(row.dataset.issuer).add(row.dataset.audience); }
  });
  boxes.forEach(one => one.classList.toggle("away", !seen.has(one.dataset.service)));
  count.textContent = shown + " of " + rows.length;
}
box.addEventListener("input", filter);
filter();
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(graph: TrustGraph, *, source: str) -> str:
    """The page.

    Args:
        graph: what to show.
        source: the trust file's name, for the title.
    """
    services, calls = len(graph.services), len(graph.calls)
    hint = f" More than {READABLE} services: filter for the ones you look for." if services > READABLE else ""
    rows = "\n".join(_row(call) for call in graph.calls)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width">
<title>Who may call whom: {escape(source)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Who may call whom</h1>
<p>{escape(source)}: {services} services, {calls} pairs. What is not listed is refused.{hint}</p>
<input id="filter" type="search" placeholder="filter: a service, a scope, a route" autofocus>
<span id="count"></span>
<div id="image">
{svg(graph)}</div>
<table>
<thead><tr><th>caller</th><th>may call</th><th>with</th><th>for users of</th><th>which opens</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _row(call: Call) -> str:
    ends = f'data-issuer="{escape(call.issuer)}" data-audience="{escape(call.audience)}"'
    cells = [
        _cell([short_name(call.issuer)]),
        _cell([short_name(call.audience)]),
        _cell(call.scopes or ["no scopes"]),
        _cell([short_name(issuer) for issuer in call.may_act_for] or ["nobody"]),
        _cell(call.routes or ["no path"]),
    ]
    return f"<tr {ends}>{''.join(cells)}</tr>"


def _cell(lines: Sequence[str]) -> str:
    return f"<td>{''.join(f'<div>{escape(line)}</div>' for line in lines)}</td>"
