"""`s2s-mesh trust check --app`: real Starlette and FastAPI apps beside their route rules."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .command_line import Terminal, make_terminal

WALLETS = "http://127.0.0.1:8102"
SERVICE = """\
from s2s_mesh import Service
service = Service.from_env(public_paths=["/health"])
"""
STARLETTE = f"""\
{SERVICE}
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.responses import JSONResponse

async def answer(request):
    return JSONResponse({{}})

async def talk(socket):
    await socket.accept()

async def bare(scope, receive, send):
    pass

cards = Starlette(routes=[Route("/{{id:int}}", answer, methods=["GET", "PUT"])])
routes = [
    *service.routes,
    Route("/health", answer),
    Route("/wallets", answer, methods=["GET"]),
    Mount("/cards", app=GZipMiddleware(cards)),
    Mount("/v1", routes=[Route("/reports/{{rest:path}}", answer)]),
    WebSocketRoute("/events", talk),
    Mount("/static", app=bare),
    Host("admin.example.com", app=Starlette(routes=[Route("/admin", answer)])),
]
app = Starlette(routes=routes, middleware=[service.middleware])
wrapped = service.wrap(Starlette(routes=routes))
plain = Starlette(routes=routes)
nothing = object()
"""
FASTAPI = f"""\
{SERVICE}
from fastapi import APIRouter, FastAPI

inner = APIRouter(prefix="/{{wallet}}")

@inner.put("/card")
def put_card(wallet: str): ...

router = APIRouter(prefix="/wallets")

@router.get("/{{wallet}}")
def get_wallet(wallet: str): ...

router.include_router(inner)
app = FastAPI(openapi_url=None, routes=[*service.routes])
app.include_router(router, prefix="/v1")
app.add_middleware(service.middleware.cls, **service.middleware.kwargs)

@app.websocket("/events")
async def events(socket): ...
"""
ALL = {
    "/wallets": ["GET"],
    "/cards/{id}": ["GET", "PUT"],
    "/v1/reports/{rest:path}": ["GET"],
    "/events": ["GET"],
    "/static/{file}": ["GET"],
    "/admin": ["GET"],
}


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = make_terminal(tmp_path, monkeypatch)
    made.environment["S2S_MESH_ISSUER"] = WALLETS
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    Path("shop.py").write_text(STARLETTE)
    Path("fast.py").write_text(FASTAPI)
    Path("broken.py").write_text("1 / 0\n")
    yield made
    for name in ("shop", "fast", "broken"):
        sys.modules.pop(name, None)


def rules(terminal: Terminal, paths: dict[str, list[str]], audience: str = WALLETS) -> None:
    """Write a trust file with these rules."""
    rows = [
        f'[[route]]\naudience = "{audience}"\npath = "{path}"\nmethods = {json.dumps(methods)}\n'
        for path, methods in paths.items()
    ]
    pair = f'[[allow]]\nissuer = "http://127.0.0.1:8101"\naudience = "{audience}"\n'
    terminal.trust(pair + "".join(rows))


def check(terminal: Terminal, app: str, *arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit code, misfits, and what was not looked into."""
    result = terminal.call("trust", "check", "trust/trust.toml", "--app", app, *arguments, "--json")
    answer = json.loads(result.stdout)
    assert answer["audiences"] == [WALLETS]
    misfits = [f"{fit['problem']} {fit['method']} {fit['path']}" for fit in answer["misfits"]]
    return result.exit_code, misfits, answer["unknown"]


@pytest.mark.parametrize("app", ["app", "wrapped", "plain"])
def test_it_fits(terminal: Terminal, app: str) -> None:
    """Mounts, hosts, websockets, mounted apps without a router, and our own documents: exit code 0."""
    rules(terminal, ALL if app != "plain" else {**ALL, "/health": ["GET"]})
    assert check(terminal, f"shop:{app}") == (0, [], [])


def test_it_does_not_fit(terminal: Terminal) -> None:
    """A rule that no route answers, and routes that no rule covers: exit code 1."""
    kept = {"/wallets": ["GET", "PUT"], "/cards/{id}": ["GET"], "/static/{file}": ["GET"], "/wallet": ["GET"]}
    rules(terminal, kept)
    code, misfits, _ = check(terminal, "shop:app")
    assert code == 1
    assert misfits == [
        *("unanswered PUT /wallets", "unanswered GET /wallet", "uncovered PUT /cards/{id:int}"),
        *("uncovered GET /v1/reports/{rest:path}", "uncovered GET /events", "uncovered GET /admin"),
    ]


def test_in_words(terminal: Terminal) -> None:
    """A table with what to do, or one line."""
    command = ("trust", "check", "trust/trust.toml", "--app", "shop:app")
    rules(terminal, {**ALL, "/walets": ["GET"]})
    told = terminal.call(*command)
    assert told.exit_code == 1
    verdict, title, line = told.stdout.splitlines()
    assert verdict.startswith("trust/trust.toml is good")
    assert title.split()[:2] == ["shop:app", "problem"]
    assert re_spaced(line) == (
        "GET /walets no route answers this rule mend the path, or delete the rule; did you mean /wallets?"
    )
    rules(terminal, ALL)
    assert terminal.call(*command).stdout.splitlines()[-1] == "shop:app fits: 7 paths, 6 rules"
    rules(terminal, ALL, audience="http://127.0.0.1:8103")
    told = terminal.call(*command)
    assert told.exit_code == 0
    assert f"no [[route]] row is for {WALLETS}, so that all" in told.stdout


def re_spaced(line: str) -> str:
    """With single spaces."""
    return " ".join(line.split())


def test_fastapi(terminal: Terminal) -> None:
    """Routers that are included in routers."""
    rules(
        terminal, {"/v1/wallets/{wallet}": ["GET"], "/events": ["GET"], "/v1/wallets/{wallet}/card": ["PUT"]}
    )
    assert check(terminal, "fast:app") == (0, [], [])
    rules(terminal, {"/v1/wallets/{wallet}": ["GET"]})
    assert check(terminal, "fast:app")[1] == [
        "uncovered PUT /v1/wallets/{wallet}/card",
        "uncovered GET /events",
    ]


def test_behind_a_prefix(terminal: Terminal) -> None:
    """Rules are written for the paths that callers write."""
    rules(terminal, {f"/api{path}": methods for path, methods in ALL.items()})
    assert check(terminal, "shop:app", "--root-path", "/api") == (0, [], [])


def test_parts_that_are_not_understood(terminal: Terminal) -> None:
    """They are named, not passed over in silence."""
    more = "from starlette.routing import BaseRoute\nclass Own(BaseRoute): ...\napp.routes.append(Own())\n"
    Path("shop.py").write_text(STARLETTE + more)
    rules(terminal, ALL)
    assert check(terminal, "shop:app") == (0, [], ["Own"])
    told = terminal.call("trust", "check", "trust/trust.toml", "--app", "shop:app").stdout
    assert "warning: shop:app: Own is not looked into" in told


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("shop", "expected MODULE:APP"),
        ("missing:app", "cannot be imported: ModuleNotFoundError"),
        ("broken:app", "cannot be imported: ZeroDivisionError"),
        ("shop:missing", "cannot be imported: AttributeError"),
        ("shop:nothing", "object has no routes; expected a Starlette or FastAPI app"),
    ],
)
def test_app_that_cannot_be_used(terminal: Terminal, app: str, says: str) -> None:
    """Exit code 2, and why."""
    rules(terminal, ALL)
    result = terminal.call("trust", "check", "trust/trust.toml", "--app", app)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_app_that_does_not_say_whose_it_is(terminal: Terminal) -> None:
    """Then a person has to."""
    rules(terminal, ALL)
    app = "from starlette.applications import Starlette\napp = Starlette()\n"
    Path("shop.py").write_text(app)
    del terminal.environment["S2S_MESH_ISSUER"]
    result = terminal.call("trust", "check", "trust/trust.toml", "--app", "shop:app")
    assert result.exit_code == 2
    assert "add --audience URL" in result.stderr
