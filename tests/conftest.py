"""Fixtures that several test files share, and the count of hostile rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import freezegun
import pytest

from s2s_mesh import clock

from . import hostile, patience
from .command_line import MovableTime
from .interop import table
from .receiver import Receiver
from .tokens import frozen, key


def pytest_configure(config: pytest.Config) -> None:
    """Make our marks known, and keep freezegun out of what would be imported by being looked at.

    Pydantic models cannot be made at a frozen time, and the time would stay frozen after such an error.
    """
    freezegun.configure(extend_ignore_list=["kubernetes"])
    config.addinivalue_line("markers", f"{hostile.MARK}: a hostile input through a public door, refused")
    config.addinivalue_line(
        "markers", f"{patience.MARK}(kinds): about time-outs, so they are the product's own"
    )
    config.addinivalue_line(
        "markers", f"{table.MARK}(program, column, cannot): proves a cell of the table of `make interop`"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have reports name the cells that their tests prove."""
    table.attach(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many hostile rows were proved; a whole run has at least `hostile.LEAST`."""
    count = hostile.proved(terminalreporter.stats.get("passed", []))
    if count:
        terminalreporter.write_line(f"hostile rows: {count} (at least {hostile.LEAST} in a whole run)")


@pytest.fixture(autouse=True, scope="session")
def _long_times() -> Iterator[None]:
    with patience.long_times():
        yield


@pytest.fixture(autouse=True)
def _own_times(request: pytest.FixtureRequest) -> Iterator[None]:
    marks = list(request.node.iter_markers(patience.MARK))
    if not marks:
        yield
        return
    with patience.own_times(*(kind for mark in marks for kind in mark.args)):
        yield


@pytest.fixture(autouse=True)
def _logging_kept() -> Iterator[None]:
    """Litestar, and our own commands, set logging up as if the process were theirs."""
    loggers = [logging.getLogger(name) for name in ("", "s2s_mesh", "s2s_mesh.deny")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def _no_credential_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """No hostile row brings a piece of a token, or of any other field that was sent, into the log."""
    if request.node.get_closest_marker(hostile.MARK) is None:
        yield
        return
    with hostile.no_credential_logged():
        yield


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> MovableTime:
    """Our command line's time, which can be moved."""
    made = MovableTime()
    monkeypatch.setattr(clock, "time", made)
    return made


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """`wallets` behind its door at `NOW`; edge signs with several algorithms, ledger has one key."""
    with frozen():
        made = Receiver(
            tmp_path_factory.mktemp("receiver"),
            edge_keys=[key(), key("RS256"), key("Ed25519"), key("ES384")],
            ledger_keys=[key(name="second")],
            algorithms=["ES256", "RS256", "Ed25519"],
        )
        yield made
        made.close()
