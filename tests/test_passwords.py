"""Passwords are checked by real argon2, a few at a time; a flood of wrong ones starves no known caller."""

from __future__ import annotations

import base64
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from s2s_mesh import passwords
from s2s_mesh.effects import CheckPassword
from s2s_mesh.errors import ConfigError
from s2s_mesh.passwords import MAX_WAITING, PasswordChecks, need_argon2

from .migrating import HASH, HASHER, PASSWORD, basic, row
from .receiver import Receiver
from .tokens import key

OTHER_HASH = HASHER.hash("another")


def ask(checks: PasswordChecks, password: str, stored: str = HASH) -> Future[bool] | None:
    return checks.begin(CheckPassword(stored, password.encode()))


def said(checks: PasswordChecks, password: str, stored: str = HASH) -> bool:
    future = ask(checks, password, stored)
    assert future is not None
    return future.result(timeout=30)


def test_right_and_wrong() -> None:
    """Byte for byte; what was right for one hash is nothing for another."""
    checks = PasswordChecks()
    assert said(checks, PASSWORD)
    assert not said(checks, PASSWORD + " ")
    assert not said(checks, "")
    assert not said(checks, PASSWORD, OTHER_HASH)
    assert said(checks, "another", OTHER_HASH)
    checks.close()


def test_what_was_right_is_known_while_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time costs no argon2, until nobody has come for ten minutes; a wrong one always costs."""
    checks = PasswordChecks()
    time = iter([0.0, 0.0, 599.0, 1198.0, 1199.0, 1798.0, 1798.0])
    monkeypatch.setattr("s2s_mesh.passwords.time.monotonic", lambda: next(time))
    assert said(checks, PASSWORD)
    for _ in range(2):
        known = ask(checks, PASSWORD)
        assert known is not None
        assert known.done()
    assert not said(checks, "wrong")
    again = ask(checks, PASSWORD)
    assert again is not None
    assert again.result(timeout=30)
    assert list(time) == []
    checks.close()


class Slow(PasswordChecks):
    """Checks nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.running = 0
        self.most = 0
        self._count = threading.Lock()

    def _check(self, check: CheckPassword, digest: bytes) -> bool:
        with self._count:
            self.running += 1
            self.most = max(self.most, self.running)
        self.go.wait(30)
        with self._count:
            self.running -= 1
        return super()._check(check, digest)


def test_a_flood_of_wrong_passwords_fills_only_its_own_place() -> None:
    """Of one user four are checked or wait, and no more than two at once in all; others still get a turn."""
    checks = Slow()
    checks.go.set()
    assert said(checks, PASSWORD)
    checks.go.clear()
    flood = [ask(checks, f"wrong {number}") for number in range(50)]
    waiting = [future for future in flood if future is not None]
    assert len(waiting) == MAX_WAITING
    known = ask(checks, PASSWORD)  # the user whose place is full, by its right password
    assert known is not None
    assert known.done()
    other = ask(checks, "another", OTHER_HASH)
    assert other is not None
    checks.go.set()
    assert other.result(timeout=30)
    assert [future.result(timeout=30) for future in waiting] == [False] * MAX_WAITING
    assert checks.most <= passwords.WORKERS
    assert said(checks, "wrong once more") is False
    checks.close()
    assert ask(checks, "wrong after the end") is None


def test_a_hash_that_argon2_cannot_read_is_no_answer() -> None:
    """Neither right nor wrong; the flow then says 503."""
    checks = PasswordChecks()
    future = ask(checks, PASSWORD, HASH.rpartition("$")[0] + "$A")
    assert future is not None
    assert future.exception(timeout=30) is not None
    checks.close()


def test_a_flood_at_the_door_starves_no_known_caller(tmp_path: Path) -> None:
    """Strangers get 401 or 503; the caller that was let in before is let in meanwhile."""
    import asyncio

    import httpx

    from .tokens import WALLETS

    receiver = Receiver(tmp_path, edge_keys=[key()], trust=row("basic", until="2099-12-31"))
    good = {"authorization": basic().decode()}

    async def storm() -> tuple[list[int], list[int]]:
        transport = httpx.ASGITransport(receiver.app)
        async with httpx.AsyncClient(transport=transport, base_url=WALLETS) as http:
            assert (await http.get("/read", headers=good)).status_code == 200
            bad = [
                http.get("/read", auth=httpx.BasicAuth(user, f"guess {number}"))
                for number in range(20)
                for user in ("edge", "nobody")
            ]
            fine = [http.get("/read", headers=good) for _ in range(40)]
            answers = await asyncio.gather(*bad, *fine)
        statuses = [answer.status_code for answer in answers]
        return statuses[: len(bad)], statuses[len(bad) :]

    refused, admitted = asyncio.run(storm())
    receiver.close()
    assert set(admitted) == {200}
    assert set(refused) <= {401, 503}
    assert refused.count(401) >= 2


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with it, nothing."""
    need_argon2()
    monkeypatch.setitem(sys.modules, "argon2", None)
    with pytest.raises(ConfigError, match="pip install 's2s-mesh"):
        need_argon2()


def test_basic_of_httpx_is_what_is_expected() -> None:
    """The helper of these tests writes what a client writes, in UTF-8."""
    assert base64.b64decode(basic()[6:]).decode() == f"edge:{PASSWORD}"
