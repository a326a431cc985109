"""The user of the request being served: found there, nowhere else, and carried nowhere by itself."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from s2s_mesh import NoUser, Service, UserExpired

from .receiver import Receiver
from .tokens import LOGIN, NOW, WALLETS, Clock, carrying, good, key


def found(service: Service) -> str:
    try:
        return service.inbound_user.subject
    except NoUser as error:
        return type(error).__name__


@pytest.fixture
def receiver(tmp_path: Path) -> Any:
    made = Receiver(tmp_path, edge_keys=[key()], may_act_for=[LOGIN], key_store=None)
    made.service.clock = Clock()
    yield made
    made.close()


def serve(receiver: Receiver, endpoint: Callable[[Request], Any]) -> None:
    """Have the receiver's application answer by this endpoint."""
    receiver.app = Starlette(routes=[Route("/read", endpoint)], middleware=[receiver.service.middleware])


@asynccontextmanager
async def client(receiver: Receiver) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(receiver.app)
    async with httpx.AsyncClient(transport=transport, base_url=WALLETS) as http:
        yield http


@pytest.mark.parametrize(
    ("token", "expected"), [(carrying(), "248289761001"), (good(), "NoUser")], ids=["a user", "none"]
)
def test_the_user_of_the_request_is_found_where_it_is_served(
    receiver: Receiver, token: bytes, expected: str
) -> None:
    """In coroutines and in the threads of sync endpoints."""

    def sync_endpoint(_request: Request) -> JSONResponse:
        return JSONResponse(found(receiver.service))

    async def endpoint(_request: Request) -> JSONResponse:
        return JSONResponse(found(receiver.service))

    for one in (endpoint, sync_endpoint):
        serve(receiver, one)
        assert receiver.call(token).body == expected
        assert found(receiver.service) == "NoUser"


def test_a_user_that_expires_while_its_request_is_served_is_told_apart(receiver: Receiver) -> None:
    """`UserExpired`, which is a `NoUser`: log in again."""

    async def endpoint(_request: Request) -> JSONResponse:
        receiver.service.clock = Clock(NOW + 120)
        with pytest.raises(UserExpired):
            _ = receiver.service.inbound_user
        return JSONResponse("told")

    serve(receiver, endpoint)
    assert receiver.call(carrying()).body == "told"


def test_the_user_is_a_value_that_is_handed_on(receiver: Receiver) -> None:
    """An executor or a background task has what it was given; by itself a detached task finds nobody."""
    seen: list[str] = []
    tasks: list[asyncio.Task[None]] = []
    over = asyncio.Event()

    async def detached() -> None:
        await over.wait()
        seen.append(found(receiver.service))

    async def endpoint(_request: Request) -> JSONResponse:
        user = receiver.service.inbound_user
        tasks.append(asyncio.create_task(detached()))
        loop = asyncio.get_running_loop()
        seen.append(await loop.run_in_executor(None, lambda: user.subject))
        seen.append(await loop.run_in_executor(None, found, receiver.service))
        return JSONResponse("ok", background=BackgroundTask(lambda: seen.append(user.subject)))

    async def story() -> None:
        async with client(receiver) as http:
            await http.get("/read", headers={"authorization": f"Bearer {carrying().decode()}"})
        over.set()
        await tasks[0]

    serve(receiver, endpoint)
    asyncio.run(story())
    assert seen == ["248289761001", "NoUser", "248289761001", "NoUser"]


def test_a_request_inside_of_another_has_its_own_user_or_none(receiver: Receiver) -> None:
    """Applications that call each other in one process see nothing of the other's user."""
    seen: list[str] = []

    async def endpoint(request: Request) -> JSONResponse:
        seen.append(found(receiver.service))
        for token in (good(), carrying(sub="u2", sub_id={"format": "iss_sub", "iss": LOGIN, "sub": "u2"})):
            if "inner" not in request.query_params:
                async with client(receiver) as http:
                    fields = {"authorization": f"Bearer {token.decode()}"}
                    await http.get("/read?inner", headers=fields)
        seen.append(found(receiver.service))
        return JSONResponse("ok")

    serve(receiver, endpoint)
    receiver.call(carrying())
    assert seen == ["248289761001", "NoUser", "NoUser", "u2", "u2", "248289761001"]


def test_another_service_of_the_process_finds_nobody(receiver: Receiver, tmp_path: Path) -> None:
    """The request is not its own."""
    (tmp_path / "other").mkdir()
    other = Service(issuer="https://cards.example.com", trust=tmp_path / "trust.toml", key_store=None)

    async def endpoint(_request: Request) -> JSONResponse:
        return JSONResponse([found(receiver.service), found(other)])

    serve(receiver, endpoint)
    assert receiver.call(carrying()).body == ["248289761001", "NoUser"]


def test_requests_at_once_do_not_mix_their_users(receiver: Receiver) -> None:
    """A hundred of them, half with a user, all within one event loop."""
    barrier = asyncio.Barrier(100) if hasattr(asyncio, "Barrier") else None

    async def endpoint(request: Request) -> JSONResponse:
        if barrier is not None:
            await barrier.wait()
        mine = request.user.user
        return JSONResponse([found(receiver.service), "NoUser" if mine is None else mine.subject])

    async def story() -> list[Any]:
        async with client(receiver) as http:
            tokens = [
                carrying(sub=name, sub_id={"format": "iss_sub", "iss": LOGIN, "sub": name})
                for name in map(str, range(50))
            ]
            tokens += [good()] * 50
            calls = (http.get("/read", headers={"authorization": f"Bearer {t.decode()}"}) for t in tokens)
            return [answer.json() for answer in await asyncio.gather(*calls)]

    serve(receiver, endpoint)
    answers = asyncio.run(story())
    assert answers == [[str(n), str(n)] for n in range(50)] + [["NoUser", "NoUser"]] * 50


def test_outside_of_any_request_there_is_nobody(receiver: Receiver) -> None:
    """Also not in a copy of a context."""
    assert contextvars.copy_context().run(found, receiver.service) == "NoUser"
    with pytest.raises(NoUser, match="no request that carries a user is served here"):
        _ = receiver.service.inbound_user


FAKES = [
    (b"x-user", b"root"),
    (b"x-forwarded-user", b"root"),
    (b"x-auth-request-user", b"root"),
    (b"x-forwarded-access-token", carrying()),
    (b"s2s-user-token", carrying()),
    (b"txn-token", carrying()),
    (b"remote-user", b"root"),
    (b"x-jwt-payload", b'{"sub": "root"}'),
    (b"cookie", b"user=root; session=root"),
]


@pytest.mark.parametrize("fake", FAKES, ids=[name.decode() for name, _ in FAKES])
def test_no_field_makes_a_user(receiver: Receiver, fake: tuple[bytes, bytes]) -> None:
    """Only a signed token of a caller that may does; next to one, a field changes nothing."""

    async def endpoint(request: Request) -> Response:
        mine = request.user.user
        return JSONResponse([found(receiver.service), None if mine is None else mine.subject])

    serve(receiver, endpoint)
    assert receiver.call(good(), headers=[fake]).body == ["NoUser", None]
    assert receiver.call(carrying(), headers=[fake]).body == ["248289761001", "248289761001"]
