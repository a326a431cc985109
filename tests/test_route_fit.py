"""Route rules beside an app's router: what is reported, and what is not."""

from __future__ import annotations

import pytest

from s2s_mesh.identity import ServiceId
from s2s_mesh.route_fit import AppRoute, Problem, misfits, widened
from s2s_mesh.trust import RouteRule

from .tokens import WALLETS


def rule(path: str, *methods: str) -> RouteRule:
    """A route rule."""
    return RouteRule(audience=ServiceId(WALLETS), path=path, methods=frozenset(methods))


def route(path: str, *methods: str) -> AppRoute:
    """A route of the app; without methods, one that answers all."""
    return AppRoute(path=path, methods=frozenset(methods) or None)


def found(rules: list[RouteRule], routes: list[AppRoute], *open_paths: str) -> list[tuple[str, str]]:
    """What does not fit, as `-GET /x` for a rule and `+GET /x` for a route."""
    signs = {Problem.UNANSWERED: "-", Problem.UNCOVERED: "+"}
    return [
        (f"{signs[fit.problem]}{fit.method} {fit.path}", fit.do)
        for fit in misfits(rules, routes, open_paths=open_paths)
    ]


@pytest.mark.parametrize(
    ("rules", "routes"),
    [
        ([rule("/cards", "GET")], [route("/cards", "GET", "HEAD")]),
        ([rule("/cards", "GET")], [route("/cards", "HEAD")]),
        (
            [rule("/cards/{id}", "GET", "PUT")],
            [route("/cards/{card}", "GET"), route("/cards/{id:int}", "PUT")],
        ),
        ([rule("/cards/{id}", "GET")], [route("/cards/{id}.json", "GET")]),
        ([rule("/files/{rest:path}", "GET")], [route("/files/{name:path}", "GET")]),
        ([rule("/files/{rest:path}", "GET")], [route("/files/{name:path}/meta", "GET")]),
        ([rule("/cards", "GET"), rule("/cards/1", "PUT")], [route("/{rest:path}")]),
        ([rule("/{rest:path}", "GET")], [route("/a", "GET"), route("/b/c", "GET"), route("/b/c", "GET")]),
        ([rule("/cards", "GET")], [route("/cards", "GET", "TRACE")]),
    ],
)
def test_what_fits(rules: list[RouteRule], routes: list[AppRoute]) -> None:
    """Rules and routes that mean the same, in whatever notation, are no finding."""
    assert found(rules, routes) == []


def test_rule_without_a_route() -> None:
    """A path that was mistyped, with what was meant; a method that the app does not have."""
    routes = [route("/wallets/{id}/card", "GET")]
    assert found([rule("/wallets/{id}/card", "GET"), rule("/walets/{id}/card", "GET")], routes) == [
        ("-GET /walets/{id}/card", "mend the path, or delete the rule; did you mean /wallets/{id}/card?")
    ]
    assert found([rule("/wallets/{id}/card", "GET", "PUT")], routes) == [
        ("-PUT /wallets/{id}/card", "the app answers GET there; mend methods, or delete the rule")
    ]
    assert found([rule("/x", "GET")], []) == [("-GET /x", "mend the path, or delete the rule")]


def test_route_without_a_rule() -> None:
    """It is closed; the row that is missing is said in the notation of the trust file."""
    rules = [rule("/cards", "GET")]
    assert found(rules, [route("/cards", "GET", "POST"), route("/cards/{id:int}/{rest:path}", "GET")]) == [
        ("+POST /cards", 'add a [[route]] row with path = "/cards", or leave it closed'),
        (
            "+GET /cards/{id:int}/{rest:path}",
            'add a [[route]] row with path = "/cards/{id}/{rest:path}", or leave it closed',
        ),
    ]
    assert (
        found(rules, [route("/cards", "GET"), route("/static/{rest:path}")])[0][0]
        == "+any /static/{rest:path}"
    )


def test_open_paths_need_no_rule() -> None:
    """Callers without a token may come there too."""
    routes = [route("/cards", "GET"), route("/health", "GET")]
    assert found([rule("/cards", "GET")], routes, "/health") == []


def test_path_that_is_never_let_in() -> None:
    """No rule could be written for it."""
    (fit,) = found([rule("/cards", "GET")], [route("/cards", "GET"), route("/a;b", "GET")])
    assert fit == ("+GET /a;b", "rename it: no request for such a path is ever let in")
    assert widened("/a;b") is None
