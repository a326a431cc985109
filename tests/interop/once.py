"""What is too dear to be made by every test process: made by the first, read by the others."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

Made = TypeVar("Made")


def once(name: str, kind: type[Made], folders: pytest.TempPathFactory, make: Callable[[Path], Made]) -> Made:
    """The value of `make`, called by one of the processes of this test run.

    Args:
        name: of it, in a file name.
        kind: its type, which JSON can hold.
        folders: pytest's.
        make: given a folder of its own.
    """
    shared = folders.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # the folders of the workers are in that of the run
        shared = shared.parent
    file = shared / f"{name}.json"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            file.write_bytes(msgspec.json.encode(make(folders.mktemp(name))))
    return msgspec.json.decode(file.read_bytes(), type=kind)
