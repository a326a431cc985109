"""Why a caller was refused, found in the log by the id in the answer, for tests: the answer never says it."""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

from .errors import Reason

ACCESS = "s2s_mesh.access"
_URN = "urn:uuid:"


class Refused(NamedTuple):
    """One refusal as the log has it.

    Attributes:
        reason: why.
        status: of the answer.
        request_id: in the answer and in the log.
        message: the whole line.
    """

    reason: Reason
    status: int
    request_id: str
    message: str


class RefusalLog(logging.Handler):
    """Collects the refusals that are logged between `open` and `close`.

    Attributes:
        refusals: in the order in which they came.
    """

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.refusals: list[Refused] = []
        self._level = logging.NOTSET

    def open(self) -> None:
        """Begin. Refusals of callers without a credential are logged at INFO, so that level is set."""
        logger = logging.getLogger(ACCESS)
        self._level = logger.level
        if not logger.isEnabledFor(logging.INFO):
            logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def close(self) -> None:
        """End; the logger is as it was before."""
        logger = logging.getLogger(ACCESS)
        logger.removeHandler(self)
        logger.setLevel(self._level)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        facts = getattr(record, "s2s_mesh", None)
        if isinstance(facts, dict) and "request_id" in facts:
            reason, request_id = Reason(facts["reason"]), facts["request_id"]
            self.refusals.append(Refused(reason, facts["status"], request_id, record.getMessage()))

    def of(self, response: object) -> Refused | None:
        """Return the refusal that this response is; None where it is none of ours, or not in the log."""
        wanted = request_id(response)
        return next((one for one in self.refusals if one.request_id == wanted), None)


def status_of(response: Any) -> int:
    """The status of a response of httpx, requests, urllib3, Starlette, Flask or Django."""
    status = getattr(response, "status_code", None)
    if type(status) is not int:
        status = getattr(response, "status", None)
    if type(status) is not int:
        raise TypeError(f"{type(response).__name__} is no response that has its status in status_code")
    return status


def request_id(response: Any) -> str | None:
    """The id in the body of a refusal (RFC 9457 `instance`), or None where the body is none of ours."""
    for name in ("content", "data", "body"):
        body = getattr(response, name, None)
        if isinstance(body, (bytes, bytearray)):
            break
    else:
        return None
    try:
        problem = json.loads(body)
    except ValueError:
        return None
    instance = problem.get("instance") if isinstance(problem, dict) else None
    found = isinstance(instance, str) and instance.startswith(_URN)
    return str(instance).removeprefix(_URN) if found else None
