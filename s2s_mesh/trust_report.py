"""What is wrong with a trust file, said so that a person can mend it: where, found what, expected what."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence

from .errors import ConfigError
from .identity import redacted

MAX_PROBLEMS = 20
_MAX_SHOWN = 120
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ROW = re.compile(r"[a-z]+\[[0-9]+\]", re.ASCII)


class TrustFileError(ConfigError):
    """A trust file that cannot be used.

    Attributes:
        problems: one line each, as in the text; the first 20 if there are more.
    """

    def __init__(self, problems: Sequence[str], *, more: int = 0) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        rest = [f"... and {more} more"] if more else []
        super().__init__("\n".join([*self.problems, *rest]))


class Report:
    """Collects every problem and every warning of one file.

    Args:
        source: the file's name, as it shall appear in the text.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.row_lines: dict[str, int] = {}
        self.warnings: list[str] = []
        self.left_out: set[str] = set()  # paths of tables that are unfit, about which nothing more is said
        self._problems: list[str] = []
        self._count = 0

    def problem(self, path: str, text: str) -> None:
        """Note why the file must be refused; `path` is a key path such as `allow[3].audience`."""
        self._count += 1
        if self._count <= MAX_PROBLEMS:
            self._problems.append(self._line(path, text))

    def warning(self, path: str, text: str) -> None:
        """Note what is allowed but looks like a mistake."""
        self.warnings.append(self._line(path, text))

    def raise_problems(self) -> None:
        """Raise one `TrustFileError` with all problems, if there are any."""
        if self._problems:
            raise TrustFileError(self._problems, more=self._count - len(self._problems))

    def fatal(self, path: str, text: str) -> TrustFileError:
        """Note the last problem, after which reading makes no sense, and return what to raise."""
        self.problem(path, text)
        return TrustFileError(self._problems)

    def _line(self, path: str, text: str) -> str:
        row = _ROW.match(path)
        line = self.row_lines.get(row.group()) if row else None
        # the index of a row is hard to count out in a long file, its line is not
        where = f"{path} (row at line {line})" if line else path
        # whatever a file holds: one line, and a letter that only looks like an ASCII one shows as an escape
        return f"{self.source}: {where}: {text.encode('ascii', 'backslashreplace').decode()}"


def member_path(path: str, name: str) -> str:
    """`issuers` and `https://x` to `issuers."https://x"`."""
    key = name if _BARE_KEY.fullmatch(name) else shown(name)
    return f"{path}.{key}" if path else key


def shown(text: str) -> str:
    """`text` in quotes, as TOML would write it, shortened, and without a password in a URL."""
    quoted = json.dumps(redacted(text))
    return quoted if len(quoted) <= _MAX_SHOWN else f'{quoted[: _MAX_SHOWN - 4]}..."'


def found(value: object) -> str:
    """Say what a TOML value is."""
    if isinstance(value, str):
        return f"found {shown(value)}"
    if isinstance(value, bool):
        return f"found {str(value).lower()}"
    if isinstance(value, int):
        # str() of an integer of many thousand digits is refused by Python itself
        return f"found the integer {value}" if value.bit_length() <= 64 else "found a huge integer"
    if isinstance(value, float):
        return f"found the number {value}"
    if isinstance(value, list):
        return "found an array" if value else "found an empty array"
    if isinstance(value, dict):
        return "found a table" if value else "found an empty table"
    return "found a date or time"


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = sorted(words) or ["nothing"]
    return f"{', '.join(most)} or {last}" if most else last


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the word that was probably meant, or None."""
    by_folded = {known.casefold(): known for known in sorted(words)}
    close = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[close[0]] if close else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`; did you mean "PUT"?` or nothing."""
    meant = nearest(word, words)
    return "" if meant is None else f"; did you mean {shown(meant)}?"
