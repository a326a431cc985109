"""Whether the route rules of a trust file fit an app's router: rules no route answers, routes no rule covers.

The app's router may say more than a route rule can (converters, regular expressions, order), so what it says
is widened to templates: a misfit that is reported is one; one that hides behind a converter is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from enum import Enum

import msgspec

from .errors import ConfigError
from .routes import PathTemplate
from .trust import RouteRule
from .trust_report import nearest
from .trust_values import METHODS

_PARAMETER = re.compile(r"\{[^{}:]*(:[^{}]*)?\}")


class AppRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route of an app.

    Attributes:
        path: as seen from outside, in the router's own notation: `/files/{name:path}`.
        methods: that it answers; None for all.
    """

    path: str
    methods: frozenset[str] | None


class Problem(str, Enum):
    """How the two can differ."""

    UNANSWERED = "no route answers this rule"
    UNCOVERED = "no rule covers this route, so it is closed"


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """One difference.

    Attributes:
        problem: which.
        method, path: of the rule, or of the route.
        do: what to do next.
    """

    problem: Problem
    method: str
    path: str
    do: str


def misfits(
    rules: Sequence[RouteRule], routes: Sequence[AppRoute], *, open_paths: Collection[str] = ()
) -> tuple[Misfit, ...]:
    """Every difference, rules first.

    Args:
        rules: the rules of one audience.
        routes: of its app.
        open_paths: exact paths that need no rule, because callers without a token may come too.
    """
    return (*_unanswered(rules, routes), *_uncovered(rules, routes, open_paths))


def widened(path: str) -> PathTemplate | None:
    """The narrowest template that matches all that a router's path does; None if nothing of it is let in."""
    parts: list[str] = []
    for number, segment in enumerate(path.split("/")[1:]):
        parameter = _PARAMETER.search(segment)
        if parameter is None:
            parts.append(segment)
        elif parameter[1] == ":path":
            parts.append(f"{{p{number}:path}}")
            break
        else:
            parts.append(f"{{p{number}}}")
    try:
        return PathTemplate.parse("/" + "/".join(parts))
    except ConfigError:
        return None


def _as_ruled(methods: Collection[str] | None) -> frozenset[str]:
    """The methods that rules know; HEAD counts as GET."""
    if methods is None:
        return METHODS
    return frozenset("GET" if method == "HEAD" else method for method in methods) & METHODS


def _unanswered(rules: Sequence[RouteRule], routes: Sequence[AppRoute]) -> Iterator[Misfit]:
    for rule in rules:
        wanted = PathTemplate.parse(rule.path)
        there = [
            route
            for route in routes
            if (template := widened(route.path)) is not None and template.overlaps(wanted)
        ]
        answered = frozenset[str]().union(*(_as_ruled(route.methods) for route in there))
        for method in sorted(rule.methods - answered):
            if there:
                do = f"the app answers {', '.join(sorted(answered))} there; mend methods, or delete the rule"
            else:
                meant = nearest(rule.path, {route.path for route in routes})
                do = f"mend the path, or delete the rule{f'; did you mean {meant}?' if meant else ''}"
            yield Misfit(problem=Problem.UNANSWERED, method=method, path=rule.path, do=do)


def _uncovered(
    rules: Sequence[RouteRule], routes: Sequence[AppRoute], open_paths: Collection[str]
) -> Iterator[Misfit]:
    for route in dict.fromkeys(route for route in routes if route.path not in open_paths):
        template = widened(route.path)
        covered = {
            method
            for rule in rules
            if template is not None and PathTemplate.parse(rule.path).overlaps(template)
            for method in rule.methods
        }
        if route.methods is None:  # any rule is enough where the router does not tell methods apart
            missing = [] if covered else ["any"]
        else:
            missing = sorted(_as_ruled(route.methods) - covered)
        do = f'add a [[route]] row with path = "{_rule_path(route)}", or leave it closed'
        if template is None:
            do = "rename it: no request for such a path is ever let in"
        for method in missing:
            yield Misfit(problem=Problem.UNCOVERED, method=method, path=route.path, do=do)


def _rule_path(route: AppRoute) -> str:
    """The router's path in the notation of rules."""
    return re.sub(r"\{([^{}:]*):(?!path\})[^{}]*\}", r"{\1}", route.path)
