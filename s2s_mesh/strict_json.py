"""JSON as RFC 8725 wants it read: one meaning per text, bounded, no surprises.

Python's own decoder keeps the last of two equal members, accepts NaN, UTF-16 and lone surrogates, and
turns 1e400 into infinity. Each of these lets two readers of one signed text disagree.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, NoReturn

import msgspec

MAX_DEPTH = 8
_MAX_INT = 10**16  # sixteen digits
_decode = msgspec.json.Decoder().decode
# most objects are flat, of text and short integers: one call reads such a one and proves it
_decode_flat = msgspec.json.Decoder(
    dict[str, str | Annotated[int, msgspec.Meta(gt=-_MAX_INT, lt=_MAX_INT)]]
).decode


def _plain(value: Any) -> Any:
    """What msgspec does not encode by itself: kinds of text such as `ServiceId`."""
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


class NotStrictJSON(ValueError):
    """The text is not JSON in the strict sense. Its message never repeats the text."""


def decode_object(data: bytes) -> dict[str, Any]:
    """Decode one JSON object.

    A text that msgspec reproduces to the byte has no duplicate member and no odd spelling, so it needs no
    second reading; any other text is judged by the slow decoder.

    Args:
        data: UTF-8 text; the caller bounds its length.

    Raises:
        NotStrictJSON: not UTF-8, not an object, duplicate members (RFC 7515 section 4), lone surrogates,
            numbers that are not finite or longer than 16 digits, or nesting beyond `MAX_DEPTH`.
    """
    try:
        flat: dict[str, Any] = _decode_flat(data)
        if _encode(flat) == data:
            return flat
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    value = _decode_deep(data)
    if type(value) is not dict:
        raise NotStrictJSON("not a JSON object")
    _check(value, 1)
    return value


def encode(value: Any) -> bytes:
    """Encode as compact JSON, members in the order they were put in."""
    return _encode(value)


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is int:
        if not -_MAX_INT < value < _MAX_INT:
            raise NotStrictJSON("an integer of more than 16 digits")
    elif kind is float:
        if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
            raise NotStrictJSON("a number that is not finite, or minus zero")
    elif kind is dict or kind is list:
        if depth > MAX_DEPTH:
            raise NotStrictJSON(f"nested deeper than {MAX_DEPTH}")
        for member in value.values() if kind is dict else value:
            _check(member, depth + 1)


def _decode_deep(data: bytes) -> Any:
    try:
        value = _decode(data)
        if _encode(value) == data:
            return value
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    return _decode_slowly(data)


def _decode_slowly(data: bytes) -> Any:
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_short_int
        )
        if "\\u" in text:
            # json reads a "\ud800" escape as a lone surrogate, which no UTF-8 text can hold
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except NotStrictJSON:
        raise
    except UnicodeError:
        raise NotStrictJSON("not UTF-8, or a lone surrogate") from None
    except (ValueError, RecursionError):
        raise NotStrictJSON("not JSON") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJSON("a member stands twice")
    return members


def _refuse_constant(_name: str) -> NoReturn:
    raise NotStrictJSON("NaN and Infinity are not JSON")


def _short_int(digits: str) -> int:
    if len(digits) > 17:  # a sign and sixteen digits; longer ones cost quadratic time
        raise NotStrictJSON("an integer of more than 16 digits")
    return int(digits)
