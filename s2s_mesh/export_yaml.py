"""Just enough YAML to write: mappings, sequences, texts, numbers; always the same text for the same value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# what YAML 1.1 and 1.2 read alike without quotes; words such as `no` and `null` are not among these
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# many lines that can stand as they are: printable ASCII, no space at their ends, the first and last not empty
_BLOCK = re.compile(r"(?=[!-~])(?:(?:[ -~]*[!-~])?\n)*[ -~]*[!-~]\n")
_WORDS = frozenset({"false", "n", "no", "null", "off", "on", "true", "y", "yes"})


def document(comment: Iterable[str], value: Mapping[str, Any]) -> str:
    """One YAML document below a comment."""
    lines = [f"# {line}".rstrip() for line in comment]
    return "\n".join([*lines, *_mapping(value, "")]) + "\n"


def _mapping(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, member in value.items():
        yield from _member(f"{indent}{_text(name)}:", member, indent)


def _member(begins: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield begins
        yield from _mapping(value, indent + "  ")
    elif isinstance(value, (list, tuple)) and value:
        yield begins
        yield from _sequence(value, indent + "  ")
    elif isinstance(value, str) and _BLOCK.fullmatch(value):
        yield f"{begins} |"
        yield from (f"{indent}  {line}" if line else "" for line in value.split("\n")[:-1])
    else:
        yield f"{begins} {_scalar(value)}"


def _sequence(values: Iterable[Any], indent: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping) and value:
            first, *rest = _mapping(value, indent + "  ")
            yield f"{indent}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{indent}- {_scalar(value)}"


def _scalar(value: Any) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    if plain:
        return value
    # a JSON text is a YAML one, but for characters that YAML does not know or breaks lines at
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
