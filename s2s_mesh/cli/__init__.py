"""The command line, `s2s-mesh`: one thin file per noun. Needs the extra `cli`.

Exit codes: 0 good, 1 the answer is no, 2 usage or configuration; 130 and 141 as shells count Ctrl-C and a
closed pipe.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import NoReturn

_EXTRA = ("typer", "rich", "uvicorn")
INTERRUPTED, PIPE_CLOSED = 130, 141


def main() -> NoReturn:
    """Run the command line that the process was started with; always raises `SystemExit`."""
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(_say(f"{missing[0]} is missing; run: pip install 's2s-mesh[cli]'", code=2))
    # Warnings only: what is logged as an error is also raised, and then said once. Servers log more.
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.levelno < logging.ERROR)
    logging.basicConfig(handlers=[handler], format="%(levelname)s: %(message)s")
    try:
        from .app import app
        from .completion import PROGRAM, prepare

        prepare()
        sys.exit(app(prog_name=PROGRAM))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:  # of --help and the like; commands explain theirs
        sys.exit(_say(f"Error: {error}", code=2))


def _say(text: str, *, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code
