"""What operators read about refusals."""

from __future__ import annotations

import logging
from typing import Any


class Refusals(logging.Handler):
    """Collects the structured part of every refusal that is logged."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.facts: dict[str, dict[str, Any]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        facts = getattr(record, "s2s_mesh", None)
        if facts is not None and "request_id" in facts:
            self.facts[facts["request_id"]] = facts

    def reason(self, request_id: str) -> str | None:
        """Why the request with this id was refused."""
        facts = self.facts.get(request_id.removeprefix("urn:uuid:"))
        return None if facts is None else str(facts["reason"])
