"""A trust file as a graph: who may call whom, with what. For people, as text for Mermaid and Graphviz.

The image and the page that need no other program: `trust_image.py`, `trust_page.py`.
"""

from __future__ import annotations

import msgspec

from .trust import RouteRule, TrustConfig

EVERY_PATH = "every path"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """An arrow: one issuer may call one audience.

    Attributes:
        issuer, audience: the two ends.
        scopes: what the caller may have, sorted.
        may_act_for: issuers of users whom it may carry, sorted.
        routes: what of the audience that opens, such as `PUT /cards`, in the order of the file.
    """

    issuer: str
    audience: str
    scopes: tuple[str, ...]
    may_act_for: tuple[str, ...]
    routes: tuple[str, ...]

    @property
    def label(self) -> str:
        """What stands at the arrow."""
        users = ["users"] if self.may_act_for else []
        return ", ".join([*self.scopes, *users]) or "no scopes"


class TrustGraph(msgspec.Struct, frozen=True, kw_only=True):
    """Services and who may call whom.

    Attributes:
        services: in the order in which the file's rows name them.
        calls: in the order of the file.
    """

    services: tuple[str, ...]
    calls: tuple[Call, ...]


def trust_graph(trust: TrustConfig, service: str | None = None) -> TrustGraph:
    """The graph of a trust file.

    Args:
        trust: the file.
        service: only this one, who may call it, and whom it may call.
    """
    rules: dict[str, list[RouteRule]] = {}
    for rule in trust.routes:
        rules.setdefault(rule.audience, []).append(rule)
    calls = tuple(
        Call(
            issuer=pair.issuer,
            audience=pair.audience,
            scopes=tuple(sorted(pair.scopes)),
            may_act_for=tuple(sorted(pair.may_act_for)),
            routes=_open_routes(rules.get(pair.audience), pair.scopes),
        )
        for pair in trust.pairs.values()
        if service is None or service in (pair.issuer, pair.audience)
    )
    services = dict.fromkeys(end for call in calls for end in (call.issuer, call.audience))
    return TrustGraph(services=tuple(services), calls=calls)


def _open_routes(rules: list[RouteRule] | None, scopes: frozenset[str]) -> tuple[str, ...]:
    if rules is None:
        return (EVERY_PATH,)
    return tuple(f"{','.join(sorted(rule.methods))} {rule.path}" for rule in rules if rule.scopes <= scopes)


def short_name(service: str) -> str:
    """A service id without its scheme, for pictures."""
    return service.partition("://")[2]


def mermaid(graph: TrustGraph) -> str:
    """Text for Mermaid, which GitHub and GitLab draw inside of Markdown."""
    names = {service: f"s{number}" for number, service in enumerate(graph.services)}
    lines = ["flowchart LR"]
    lines += [f'  {name}["{_mermaid(short_name(service))}"]' for service, name in names.items()]
    lines += [
        f'  {names[call.issuer]} -->|"{_mermaid(call.label)}"| {names[call.audience]}' for call in graph.calls
    ]
    return "\n".join(lines) + "\n"


def dot(graph: TrustGraph) -> str:
    """Text for Graphviz."""
    lines = ["digraph trust {", "  rankdir=LR;", '  node [shape=box, fontname="monospace", fontsize=11];']
    lines.append('  edge [fontname="monospace", fontsize=9];')
    lines += [f"  {_dot(service)} [label={_dot(short_name(service))}];" for service in graph.services]
    lines += [
        f"  {_dot(call.issuer)} -> {_dot(call.audience)} [label={_dot(call.label)}];" for call in graph.calls
    ]
    return "\n".join([*lines, "}"]) + "\n"


def _mermaid(text: str) -> str:
    # numeric entities, which Mermaid writes with # and ;, for whatever could end or format a quoted text
    return "".join(c if c.isalnum() or c in " :/.-_,{}" else f"#{ord(c)};" for c in text)


def _dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
