"""The calls that one replica of an issuer makes, one after another, until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from s2s_mesh import Service
from s2s_mesh.jws import b64url_decode
from s2s_mesh.strict_json import decode_object

from .tally import Failure, Tally

_WORKERS = 2  # per audience
_TIMEOUT = 10.0  # seconds
_LAG = 0.5  # seconds that a worker may be late and still catch up


class Calls:
    """Steady traffic to every audience with tokens of `service`.

    Args:
        service: signs.
        name: of this replica.
        audiences: whom to call.
        per_second: how many calls in all.
    """

    def __init__(self, service: Service, name: str, audiences: Sequence[str], per_second: float) -> None:
        self.tally = Tally()
        self._service = service
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)
        self._name = name
        self._audiences = audiences
        self._pause = _WORKERS * len(audiences) / per_second
        self._ended = False
        self._running: asyncio.Future[Any] | None = None

    def begin(self) -> None:
        """Start calling."""
        self._running = asyncio.gather(*(self._work(to) for to in self._audiences for _ in range(_WORKERS)))

    async def end(self) -> None:
        """Stop calling; returns when every call that was under way is through."""
        self._ended = True
        if self._running is not None:
            await self._running
        await self._http.aclose()

    async def _work(self, audience: str) -> None:
        due = time.monotonic()
        auth = self._service.auth(audience)
        while not self._ended:
            await self._call(audience, auth)
            due = max(due + self._pause, time.monotonic() - _LAG)
            await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _call(self, audience: str, auth: httpx.Auth) -> None:
        began, problem = time.time(), ""
        answer = request = None
        try:
            answer = await self._http.post(f"{audience}/entries", json={"amount": 1}, auth=auth)
            request = answer.request
        except httpx.HTTPError as failed:
            request, problem = failed.request, f"{type(failed).__name__} {failed}"
        except Exception as failed:  # whatever an application would see
            problem = f"{type(failed).__name__}: {failed}"
        self.tally.calls += 1
        body = _body(answer)
        if answer is not None and answer.is_success and body.get("caller") != self._service.issuer:
            problem = f"taken for {body.get('caller')}"
        failure = Failure(
            caller=self._name,
            audience=audience,
            began=began,
            ended=time.time(),
            kid=_kid(request),
            status=0 if answer is None else answer.status_code,
            problem=problem,
            request_id=_request_id(body),
        )
        if answer is None or not answer.is_success or problem:
            self.tally.failures.append(failure)
            return
        self.tally.slowest = max(self.tally.slowest, failure.ended - began)
        if body["kid"] not in self.tally.kids:
            self.tally.kids.append(body["kid"])
        for first in answer.history:
            first_id = _request_id(_body(first))
            self.tally.retried.append(msgspec.structs.replace(failure, request_id=first_id))


def _body(answer: httpx.Response | None) -> dict[str, Any]:
    try:
        body = None if answer is None else answer.json()
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}


def _request_id(body: dict[str, Any]) -> str:
    return str(body.get("instance", "")).removeprefix("urn:uuid:")


def _kid(request: httpx.Request | None) -> str:
    token = "" if request is None else request.headers.get("authorization", "").removeprefix("Bearer ")
    return str(decode_object(b64url_decode(token.partition(".")[0].encode()))["kid"]) if token else ""
