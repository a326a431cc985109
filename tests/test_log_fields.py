"""What log records hold beside their text: a closed list, and never a credential."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2s_mesh.log_fields import EVENTS, FIELDS, fields

from .hostile import PIECE, SENT, no_credential_logged
from .programs import ROOT
from .receiver import Receiver
from .tokens import EDGE, NOW, frozen, good, key

log = logging.getLogger("s2s_mesh.access")


def calls() -> Iterator[ast.Call]:
    """Every call of `fields` in the package."""
    for path in (ROOT / "s2s_mesh").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fields":
                yield node


def logging_with_extra() -> Iterator[str]:
    """The files that hand `extra=` to a logger without `fields`."""
    for path in (ROOT / "s2s_mesh").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if 'extra={"s2s_mesh"' in text:
            yield path.name


def test_every_record_has_the_fields_of_its_event() -> None:
    """Each event is written by the code with exactly the fields that the table promises."""
    written = {}
    for call in calls():
        (event,) = call.args
        assert isinstance(event, ast.Constant)
        assert isinstance(event.value, str)
        assert tuple(keyword.arg for keyword in call.keywords) == EVENTS[event.value], ast.unparse(call)
        written[event.value] = True
    assert set(written) == set(EVENTS)
    assert list(logging_with_extra()) == []


def test_every_field_has_a_meaning() -> None:
    """And no meaning is left over."""
    assert set(FIELDS) == {"event", *(name for names in EVENTS.values() for name in names)}


def test_a_field_never_hides_an_attribute_of_the_record() -> None:
    """All of them stand in one attribute, so that no name of logging's own can be taken."""
    assert fields("deny_rule", rule="1", in_force=True) == {
        "s2s_mesh": {"event": "deny_rule", "rule": "1", "in_force": True}
    }


def test_a_refusal_as_it_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reason that the answer does not tell, under the id that it does."""
    with frozen(), caplog.at_level(logging.DEBUG, logger="s2s_mesh"):
        receiver = Receiver(tmp_path, edge_keys=[key()])
        refused = receiver.call(good(iat=NOW - 300, exp=NOW - 200))
        receiver.close()
    (record,) = [record for record in caplog.records if record.name == "s2s_mesh.access"]
    assert vars(record)["s2s_mesh"] == {
        "event": "refused",
        "reason": "expired",
        "status": 401,
        "claimed_issuer": EDGE,
        "request_id": refused.body["instance"].removeprefix("urn:uuid:"),
    }


@pytest.mark.parametrize("way", ["message", "argument", "field", "exception"])
def test_a_credential_in_the_log_is_found(way: str) -> None:
    """The guard of the hostile rows sees a piece of a token wherever a record may hold it."""

    def leak() -> None:
        token = good()
        SENT.append(b"Bearer " + token)
        piece = token[40 : 40 + PIECE].decode()
        if way == "message":
            log.debug(f"refused {piece}")
        elif way == "argument":
            log.debug("refused %s", piece)
        elif way == "field":
            log.debug("refused", extra=fields("refused", reason=piece))
        else:
            try:
                raise ValueError(piece)
            except ValueError:
                log.exception("refused")

    with pytest.raises(AssertionError), no_credential_logged():
        leak()


def test_what_is_not_secret_may_be_logged() -> None:
    """A shorter piece proves nothing to anybody; neither do our own words."""
    with no_credential_logged():
        token = good()
        SENT.append(b"Bearer " + token)
        log.debug("refused %s: expired", token[40 : 40 + PIECE - 1].decode())
