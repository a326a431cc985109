"""Many operators who rotate at the same instant make one rotation.

`S2S_MESH_TEST_PROCESSES` says how many; a hundred are what the project claims.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, closing

from s2s_mesh import RotationSchedule
from s2s_mesh.keyring import KeyRing
from s2s_mesh.manager import KeyManager
from s2s_mesh.store import (
    SealedStore,
    Sealer,
    generate_key_encryption_key,
    open_store,
    parse_key_encryption_keys,
)

from .programs import environment
from .servers import RedisServer
from .tokens import EDGE

PROCESSES = int(os.environ.get("S2S_MESH_TEST_PROCESSES", "30"))
SCHEDULE = RotationSchedule.DEFAULT
# everything is imported before the end of standard input lets all of them go at once
ROTATE = """
import sys
import s2s_mesh.manager, s2s_mesh.settings, s2s_mesh.store.redis
from s2s_mesh.cli.app import app
print("ready", flush=True)
sys.stdin.read()
app(["keys", "rotate", "--now", "--yes"])
"""


def manager(url: str, kek: str, clock: float) -> KeyManager:
    """A replica whose clock stands still."""
    return KeyManager(
        SealedStore(open_store(url, issuer=EDGE), Sealer(parse_key_encryption_keys(kek), issuer=EDGE)),
        issuer=EDGE,
        schedule=SCHEDULE,
        algorithm="ES256",
        may_create=lambda: True,
        clock=lambda: clock,
    )


def rotate_together(number: int, url: str, kek: str) -> list[tuple[int, str]]:
    """Run the command in `number` processes at the same instant; exit code and output of each."""
    variables = environment(
        S2S_MESH_ISSUER=EDGE, S2S_MESH_KEY_STORE=url, S2S_MESH_KEY_ENCRYPTION_KEY=kek, S2S_MESH_TRUST_FILE=""
    )
    wait, go = os.pipe()
    with ExitStack() as stack:
        rotating = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", ROTATE],
                    env=variables,
                    stdin=wait,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            for _ in range(number)
        ]
        os.close(wait)
        try:
            said = [process.stdout.readline() for process in rotating if process.stdout is not None]
        finally:
            os.close(go)
        output = [process.communicate(timeout=300)[0] for process in rotating]
    assert said == ["ready\n"] * number, [*said, *output]
    return [(process.returncode, text) for process, text in zip(rotating, output, strict=True)]


def test_operators_who_rotate_at_the_same_instant_make_one_new_key() -> None:
    """All succeed; one says that it rotated, the others that there was nothing to do; no key is lost."""
    kek, now = generate_key_encryption_key(), time.time()
    with RedisServer() as server:
        with closing(manager(server.url, kek, now - SCHEDULE.lead - 1)) as founder:
            before = founder.refresh()
        outcomes = rotate_together(PROCESSES, server.url, kek)
        with closing(manager(server.url, kek, now)) as reader:
            after = reader.peek()
    assert isinstance(after, KeyRing)
    assert {code for code, _ in outcomes} == {0}, outcomes
    next_key = before.successor(now)
    assert next_key is not None
    rotated = [text for _, text in outcomes if text.startswith(f"{next_key.kid} signs from ")]
    unchanged = [text for _, text in outcomes if text.startswith("nothing changed: ")]
    assert (len(rotated), len(unchanged)) == (1, PROCESSES - 1), outcomes
    assert after.signing_record(time.time()) == after.records[next_key.kid]
    assert before.records.keys() < after.records.keys()
    assert len(after.records) == len(before.records) + 1
    assert after.version == before.version + 1
