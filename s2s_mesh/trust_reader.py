"""From the text of a trust file to its typed form; every mistake of shape is reported, not only the first."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, cast

import msgspec.inspect as mi
from msgspec import UNSET

from .trust_format import (
    AllowRow,
    DefaultsTable,
    ForeignIssuerTable,
    IssuerTable,
    LegacyRow,
    RouteRow,
    SubjectRow,
    TrustForm,
    TxnRow,
    UserIssuerTable,
)
from .trust_report import Report, found, member_path, nearest, one_of, shown
from .trust_values import Unfit

if sys.version_info >= (3, 11):  # pragma: no cover
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

_FORM = cast("mi.StructType", mi.type_info(TrustForm))
_TOP = "at the top of the file, above the first table"
_HOMES = {
    _TOP: TrustForm,
    "in [defaults]": DefaultsTable,
    'in [issuers."https://..."]': IssuerTable,
    "in [[allow]]": AllowRow,
    "in [[route]]": RouteRow,
    "in [[legacy]]": LegacyRow,
    'in [user_issuers."https://..."]': UserIssuerTable,
    'in [foreign_issuers."..."]': ForeignIssuerTable,
    "in [[subject]]": SubjectRow,
    "in [[txn]]": TxnRow,
}
_ROW_HEADER = re.compile(r"[ \t]*\[\[[ \t]*(allow|route|legacy|subject|txn)[ \t]*\]\]")
_POSITION = re.compile(r" \(at (?:line (?P<line>[0-9]+), (?P<column>column [0-9]+)|end of document)\)$")
_SYNTAX_HINTS = {
    "Invalid value": "texts, URLs too, need double quotes",
    "Invalid statement": "texts and keys that are URLs need double quotes",
    "Expected '=' after a key": "keys that are URLs need double quotes",
    "Expected ']'": 'keys that are URLs need double quotes: [issuers."https://..."]',
    "Cannot declare": "each [table] may appear once; write [[allow]] and the like with two brackets",
    "Cannot overwrite": "each member may be set once in a table",
    "Unescaped '\\'": "write a backslash twice",
    "Illegal character": "end the text with a double quote on the same line",
}
_MAX_KEY_DOTS = 16
_HIDDEN = "found a text that is not shown here"
_TEXT_OR_COMMENT = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|\#.*""")


def read_form(text: str | bytes, report: Report) -> TrustForm:
    """Read a trust file's text.

    A row that is unfit stands as `UNSET` in its list, so that the others keep their index; an unfit table is
    left out. The form may be used for further checks, but for nothing else before `report.raise_problems()`.

    Raises:
        TrustFileError: not UTF-8, not TOML, or another version of the format, after which nothing is certain.
    """
    source = _decode(text, report)
    _refuse_long_keys(source, report)
    data = _parse(source, report)
    report.row_lines = _row_lines(source, data)
    if "version" not in data:
        report.problem("version", f"found nothing; expected version = 1 {_TOP}")
    elif type(data["version"]) is not int or data["version"] != 1:
        raise report.fatal(
            "version", f"{found(data['version'])}; expected version = 1, the only one there is"
        )
    defaults = data.get("defaults")
    loopback = isinstance(defaults, dict) and defaults.get("allow_loopback_http") is True
    members, _ = _Reader(report, loopback).members(_FORM, {"version": 1, **data}, "")
    return TrustForm(**members)


def _decode(text: str | bytes, report: Report) -> str:
    if isinstance(text, str):
        source = text
    else:
        try:
            source = text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise report.fatal(f"line {line}", "found bytes that are not UTF-8; expected UTF-8") from None
    if source.startswith("\ufeff"):
        raise report.fatal("line 1, column 1", "found a byte order mark; expected UTF-8 without one")
    return source


def _refuse_long_keys(source: str, report: Report) -> None:
    """Python's TOML parser takes time and memory in the square of a dotted key's parts."""
    for number, line in enumerate(source.split("\n"), start=1):
        if line.count(".") > _MAX_KEY_DOTS and _TEXT_OR_COMMENT.sub("", line).count(".") > _MAX_KEY_DOTS:
            raise report.fatal(
                f"line {number}", f"found a key of more than {_MAX_KEY_DOTS} parts; expected a trust file"
            )


def _parse(source: str, report: Report) -> dict[str, Any]:
    try:
        return tomllib.loads(source)
    except RecursionError:
        raise report.fatal("TOML", "found arrays or tables nested too deep; expected a trust file") from None
    except ValueError as error:  # TOMLDecodeError, and Python's limit on the digits of an integer
        message = str(error)
    position = _POSITION.search(message)
    what = _POSITION.sub("", message)
    hint = next((f"; {hint}" for start, hint in _SYNTAX_HINTS.items() if what.startswith(start)), "")
    if position is None:
        raise report.fatal("TOML", f"expected TOML: {what}{hint}")
    lines = source.rstrip("\n").split("\n")
    number = int(position["line"] or len(lines))
    where = f"line {number}, {position['column'] or 'the end of the file'}"
    raise report.fatal(where, f"found {shown(lines[number - 1].strip())}; expected TOML: {what}{hint}")


def _row_lines(source: str, data: Mapping[str, Any]) -> dict[str, int]:
    """Find the line of each [[row]], which the TOML parser does not tell."""
    starts: dict[str, list[int]] = {}
    for number, line in enumerate(source.split("\n"), start=1):
        header = _ROW_HEADER.match(line)
        if header:
            starts.setdefault(header[1], []).append(number)
    # a header inside of a multi-line text would be counted too: rather no line than a wrong one
    return {
        f"{name}[{index}]": number
        for name, numbers in starts.items()
        if isinstance(data.get(name), list) and len(data[name]) == len(numbers)
        for index, number in enumerate(numbers)
    }


class _Reader:
    """Walks the types of the form beside the data."""

    def __init__(self, report: Report, loopback: bool) -> None:
        self._report = report
        self._loopback = loopback
        self._passed: set[tuple[object, str]] = set()

    def read(self, kind: mi.Type, value: object, path: str) -> Any:
        """Return the value in its typed form, or UNSET once its problems are reported."""
        meta = _Meta(kind)
        kind = meta.kind
        if isinstance(kind, mi.StructType):
            return self._table(kind, value, path)
        if isinstance(kind, mi.DictType):
            return self._tables(kind, value, path)
        if isinstance(kind, mi.ListType):
            return self._array(kind, value, path)
        if isinstance(kind, mi.BoolType):
            return value if isinstance(value, bool) else self._unfit(path, value, "expected true or false")
        if isinstance(kind, mi.LiteralType):
            return value
        if isinstance(kind, mi.DateType):
            return self._date(meta, value, path)
        if isinstance(kind, mi.UnionType):
            return self._either(kind, value, path)
        return self._text(meta, value, path)

    def members(
        self, kind: mi.StructType, value: Mapping[str, Any], path: str
    ) -> tuple[dict[str, Any], bool]:
        """Return the good members of a table, and whether that is all of it."""
        fields = {field.name: field for field in kind.fields}
        got: dict[str, Any] = {}
        meant: set[str | None] = set()
        for name, member in value.items():
            where = member_path(path, name)
            if name in fields:
                got[name] = self.read(fields[name].type, member, where)
            else:
                meant.add(nearest(name, fields.keys() - value.keys()))
                self._unknown_member(name, fields.keys() - value.keys(), where)
        missing = [name for name, field in fields.items() if field.required and name not in value]
        for name in missing:
            # "did you mean" has said so already
            if name not in meant:
                expected = _Meta(fields[name].type).expected
                self._report.problem(member_path(path, name), f"found nothing; expected {expected}")
        good = {name: member for name, member in got.items() if member is not UNSET}
        return good, len(good) == len(value) and not missing

    def _unknown_member(self, name: str, free: set[str], path: str) -> None:
        homes = [place for place, table in _HOMES.items() if name in table.__struct_fields__]
        if homes:
            hint = f"; `{name}` belongs {' or '.join(homes)}"
        else:
            close = nearest(name, free)
            hint = f"; did you mean `{close}`?" if close else ""
        self._report.problem(path, f"found an unknown member; expected {one_of(free)}{hint}")

    def _table(self, kind: mi.StructType, value: object, path: str) -> Any:
        if not isinstance(value, dict):
            hint = f"; did you mean [{path}] with one pair of brackets?" if isinstance(value, list) else ""
            return self._unfit(path, value, f"expected a table{hint}")
        members, complete = self.members(kind, value, path)
        return kind.cls(**members) if complete else UNSET

    def _tables(self, kind: mi.DictType, value: object, path: str) -> Any:
        if not isinstance(value, dict):
            example = _Meta(kind.value_type)
            inner = f'[{path}."https://..."]' if isinstance(example.kind, mi.StructType) else f"[{path}]"
            return self._unfit(path, value, f"expected tables such as {inner}")
        if len(value) < (kind.min_length or 0):
            return self._unfit(path, value, "expected at least one member")
        tables = {}
        for name, table in value.items():
            where = member_path(path, name)
            self._text(_Meta(kind.key_type), name, where)
            got = self.read(kind.value_type, table, where)
            if got is not UNSET:
                tables[name] = got
            else:
                self._report.left_out.add(where)
        # of a table that is a single value, a part would be another value
        single = isinstance(_Meta(kind.value_type).kind, (mi.StrType, mi.UnionType))
        return UNSET if single and len(tables) < len(value) else tables

    def _array(self, kind: mi.ListType, value: object, path: str) -> Any:
        item = _Meta(kind.item_type)
        rows = isinstance(item.kind, mi.StructType)
        if not isinstance(value, list):
            expected = "an array of tables" if rows else "an array of texts"
            hint = f"; did you mean [[{path}]] with two pairs of brackets?" if rows else ""
            if isinstance(value, str) and not rows:
                hint = f"; did you mean [{shown(value)}]?"
            return self._unfit(path, value, f"expected {expected}{hint}")
        if len(value) < (kind.min_length or 0):
            return self._unfit(path, value, f"expected at least one, such as {item.expected}")
        items = [self.read(kind.item_type, entry, f"{path}[{index}]") for index, entry in enumerate(value)]
        if rows:
            return items
        seen: set[str] = set()
        for index, entry in enumerate(items):
            if entry is not UNSET and entry in seen:
                items[index] = self._unfit(f"{path}[{index}]", entry, "expected each value once")
            seen.add(entry)
        return UNSET if UNSET in items else items

    def _either(self, kind: mi.UnionType, value: object, path: str) -> Any:
        """A text, or what is no text and the form allows in its place."""
        by_type = {dict: mi.DictType, bool: mi.BoolType}
        wanted = by_type.get(type(value), mi.StrType)
        for one in kind.types:
            if isinstance(_Meta(one).kind, wanted):
                return self.read(one, value, path)
        return self._unfit(path, value, "expected a text, true or false: one level is enough")

    def _date(self, meta: _Meta, value: object, path: str) -> Any:
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        hint = "; leave the quotes out" if isinstance(value, str) else ""
        return self._unfit(path, value, f"expected {meta.expected}{hint}")

    def _text(self, meta: _Meta, value: object, path: str) -> Any:
        if not isinstance(value, str):
            hint = ""
            if type(value) is int and "number" in meta.extra and 0 <= value < 10**6:
                hint = f"; did you mean {shown(meta.extra['number'].format(value))}?"
            return self._unfit(path, value, f"expected {meta.expected}{hint}")
        check = meta.extra["check"]
        # the same ids and scopes appear on row after row
        if (check, value) not in self._passed:
            try:
                check(value, self._loopback)
            except Unfit as error:
                # whoever writes a password where its hash belongs shall not read it in a log
                shown_value = _HIDDEN if "secret" in meta.extra else found(value)
                self._report.problem(path, f"{shown_value}; {error}")
                return UNSET
            self._passed.add((check, value))
        return value

    def _unfit(self, path: str, value: object, expected: str) -> Any:
        self._report.problem(path, f"{found(value)}; {expected}")
        return UNSET


class _Meta:
    """A type of the form without its wrapping, and what its `Meta` says."""

    def __init__(self, kind: mi.Type) -> None:
        self.extra: dict[str, Any] = {}
        examples: list[str] = []
        while isinstance(kind, mi.Metadata):
            self.extra.update(kind.extra or {})
            examples += (kind.extra_json_schema or {}).get("examples", [])
            kind = kind.type
        self.kind = kind
        self.expected: str
        if isinstance(kind, mi.DateType):
            self.expected = f"a date such as {examples[0]}"
        elif isinstance(kind, mi.ListType):
            self.expected = f"an array of {_Meta(kind.item_type).expected}".replace("a text", "texts", 1)
        else:
            self.expected = f"a text such as {shown(examples[0])}" if examples else "a text"
