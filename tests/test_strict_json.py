"""Strict JSON: one meaning per text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s_mesh.identity import ServiceId
from s2s_mesh.strict_json import MAX_DEPTH, NotStrictJSON, decode_object, encode

GOOD = b'{"iss":"https://edge.example.com","exp":1800000120,"scope":"a b"}'


def nested(levels: int) -> bytes:
    """An object with arrays in it, so many levels in all."""
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(GOOD, None, id="accepted"),
        # other spellings of the same
        pytest.param(b'{ "iss" : "x" , "exp" : 1 }', None, id="spaces"),
        pytest.param(b'\r\n\t{"iss":"x"}\n', None, id="white space around"),
        pytest.param(b'{"\\u0069ss":"\\u0078"}', None, id="escapes"),
        pytest.param(b'{"a":"\\ud83d\\ude00"}', None, id="escaped pair of surrogates"),
        pytest.param('{"a":"\U0001f600"}'.encode(), None, id="the same character as UTF-8"),
        pytest.param(b'{"a":"\\/"}', None, id="escaped slash"),
        pytest.param(b"{}", None, id="empty object"),
        # not one JSON object
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"   ", "not JSON", id="only spaces"),
        pytest.param(b"[]", "not a JSON object", id="array"),
        pytest.param(b"[" + GOOD + b"]", "not a JSON object", id="object in an array"),
        pytest.param(b'"x"', "not a JSON object", id="string"),
        pytest.param(b"1", "not a JSON object", id="number"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b"true", "not a JSON object", id="true"),
        pytest.param(GOOD + GOOD, "not JSON", id="two objects"),
        pytest.param(GOOD + b"\0", "not JSON", id="NUL at the end"),
        pytest.param(GOOD[:-1], "not JSON", id="cut off"),
        pytest.param(b'{"a":1,}', "not JSON", id="trailing comma"),
        pytest.param(b"{'a':1}", "not JSON", id="single quotes"),
        pytest.param(b"{a:1}", "not JSON", id="bare name"),
        pytest.param(b'{"a":1/**/}', "not JSON", id="comment"),
        pytest.param(b'{"a":01}', "not JSON", id="leading zero"),
        pytest.param(b'{"a":+1}', "not JSON", id="plus sign"),
        pytest.param(b'{"a":.5}', "not JSON", id="no digit before the point"),
        pytest.param(b'{"a":0x1}', "not JSON", id="hexadecimal"),
        pytest.param(b'{"a":1_0}', "not JSON", id="underscore"),
        pytest.param('{"a":\uff11}'.encode(), "not JSON", id="fullwidth digit"),
        # duplicate members
        pytest.param(b'{"exp":1,"exp":1}', "stands twice", id="equal twins"),
        pytest.param(b'{"exp":1,"exp":2}', "stands twice", id="unequal twins"),
        pytest.param(b'{"exp":1,"\\u0065xp":2}', "stands twice", id="escaped twin"),
        pytest.param(b'{"a":{"exp":1,"exp":2}}', "stands twice", id="twins deeper down"),
        pytest.param(b'{"a":[{"exp":1,"exp":2}]}', "stands twice", id="twins in an array"),
        pytest.param(b'{"":1,"":2}', "stands twice", id="twins without a name"),
        # numbers
        pytest.param(b'{"a":9999999999999999}', None, id="sixteen digits"),
        pytest.param(b'{"a":-9999999999999999}', None, id="minus sixteen digits"),
        pytest.param(b'{"a":0.5}', None, id="fraction"),
        pytest.param(b'{"a":1e5}', None, id="exponent"),
        pytest.param(b'{"a":0.0}', None, id="zero"),
        pytest.param(b'{"a":10000000000000000}', "16 digits", id="seventeen digits"),
        pytest.param(b'{"a":-10000000000000000}', "16 digits", id="minus seventeen digits"),
        pytest.param(b'{ "a":10000000000000000}', "16 digits", id="seventeen digits, spaced"),
        pytest.param(b'{"a":18446744073709551616}', "16 digits", id="2^64"),
        pytest.param(b'{"a":1' + b"0" * 5000 + b"}", "16 digits", id="5000 digits"),
        pytest.param(b'{"a":[{"b":10000000000000000}]}', "16 digits", id="seventeen digits deeper down"),
        pytest.param(b'{"a":NaN}', "NaN", id="NaN"),
        pytest.param(b'{"a":nan}', "not JSON", id="nan"),
        pytest.param(b'{"a":Infinity}', "Infinity", id="Infinity"),
        pytest.param(b'{"a":-Infinity}', "Infinity", id="-Infinity"),
        pytest.param(b'{"a":1e400}', "not finite", id="1e400"),
        pytest.param(b'{"a":-1e400}', "not finite", id="-1e400"),
        pytest.param(b'{"a":[1e400]}', "not finite", id="1e400 deeper down"),
        pytest.param(b'{"a":-0.0}', "minus zero", id="-0.0"),
        pytest.param(b'{"a":-0e0}', "minus zero", id="-0e0"),
        pytest.param(b'{"a":-1e-400}', "minus zero", id="rounds to minus zero"),
        # depth
        pytest.param(nested(MAX_DEPTH), None, id="depth 8, arrays"),
        pytest.param(b'{"a":' * 8 + b"1" + b"}" * 8, None, id="depth 8, objects"),
        pytest.param(nested(MAX_DEPTH + 1), "deeper than 8", id="depth 9, arrays"),
        pytest.param(b'{"a":' * 9 + b"1" + b"}" * 9, "deeper than 8", id="depth 9, objects"),
        pytest.param(nested(100_000), "not JSON", id="depth 100,000"),
        pytest.param(b"[" * 100_000, "not JSON", id="100,000 brackets"),
        pytest.param(b'{"a":' * 100_000, "not JSON", id="100,000 braces"),
        # characters
        pytest.param(b'{"a":"\\ud800"}', "surrogate", id="high surrogate, escaped"),
        pytest.param(b'{"a":"\\udc00"}', "surrogate", id="low surrogate, escaped"),
        pytest.param(b'{"a":"\\ude00\\ud83d"}', "surrogate", id="pair in the wrong order"),
        pytest.param(b'{"a":"\\ud83dx\\ude00"}', "surrogate", id="pair torn apart"),
        pytest.param(b'{"\\ud800":1}', "surrogate", id="surrogate in a name"),
        pytest.param(b'{"a":{"b":["\\udfff"]}}', "surrogate", id="surrogate deeper down"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', "not UTF-8", id="high surrogate, raw"),
        pytest.param(b'{"a":"\xed\xb0\x80"}', "not UTF-8", id="low surrogate, raw"),
        pytest.param(b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}', "not UTF-8", id="CESU-8"),
        pytest.param(b'{"a":"\xff"}', "not UTF-8", id="no UTF-8"),
        pytest.param(b'{"a":"\xe2\x82"}', "not UTF-8", id="cut character"),
        pytest.param(b'{"a":"\xc0\xaf"}', "not UTF-8", id="overlong slash"),
        pytest.param(b'{"a":"\xe0\x80\xaf"}', "not UTF-8", id="overlong slash of three bytes"),
        pytest.param(b'{"a":"\xc0\x80"}', "not UTF-8", id="overlong NUL"),
        pytest.param(b'{"a":"\xf4\x90\x80\x80"}', "not UTF-8", id="beyond U+10FFFF"),
        pytest.param(b'{"\xff":1}', "not UTF-8", id="no UTF-8 in a name"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, "not JSON", id="byte order mark"),
        pytest.param(GOOD.decode().encode("utf-16"), "not UTF-8", id="UTF-16 with its mark"),
        pytest.param(GOOD.decode().encode("utf-16-le"), "not JSON", id="UTF-16-LE"),
        pytest.param(GOOD.decode().encode("utf-16-be"), "not JSON", id="UTF-16-BE"),
        pytest.param(GOOD.decode().encode("utf-32"), "not UTF-8", id="UTF-32 with its mark"),
        pytest.param(GOOD.decode().encode("utf-32-be"), "not JSON", id="UTF-32-BE"),
        pytest.param(b'{"a":"\n"}', "not JSON", id="raw newline"),
        pytest.param(b'{"a":"\0"}', "not JSON", id="raw NUL"),
        pytest.param(b'{"a":"\x1f"}', "not JSON", id="raw control character"),
        pytest.param(b'{"a":"\\x41"}', "not JSON", id="unknown escape"),
        pytest.param(b'{"a":"\\u00e"}', "not JSON", id="short escape"),
    ],
)
def test_one_meaning_per_text(text: bytes, why: str | None) -> None:
    """A text that two readers may read differently, or that is unbounded, is refused with the reason."""
    found = None
    try:
        decode_object(text)
    except NotStrictJSON as error:
        found = str(error)
    assert found is None if why is None else found is not None and why in found


def test_what_is_read() -> None:
    """Decoding returns exactly what the text says, in its order."""
    members = decode_object(b'{"b":[1,2.5,{"c":null}],"a":"\\u00e9","t":true}')
    assert members == {"b": [1, 2.5, {"c": None}], "a": "\u00e9", "t": True}
    assert list(members) == ["b", "a", "t"]
    assert (type(members["b"][0]), type(members["b"][1]), type(members["t"])) == (int, float, bool)


characters = st.characters(codec="utf-8")
texts = st.text(characters, max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**16) + 1, 10**16 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: repr(x) != "-0.0")
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=6)
spellings = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 2, "\t"]),
        "separators": st.sampled_from([None, (",", ":"), (" , ", " : "), (",\n", ":\r\t")]),
        "ensure_ascii": st.booleans(),
        "sort_keys": st.booleans(),
    }
)


def depth(value: Any) -> int:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if members is None else 1 + max(map(depth, members), default=0)


@settings(deadline=None, max_examples=100)
@given(objects.filter(lambda members: depth(members) <= MAX_DEPTH), spellings)
def test_every_spelling_is_read(members: dict[str, Any], spelling: dict[str, Any]) -> None:
    """An object of plain values is read as itself in whatever spelling."""
    read = decode_object(json.dumps(members, **spelling).encode())
    assert read == members
    assert json.dumps(read, sort_keys=True) == json.dumps(members, sort_keys=True)  # 1 is not 1.0


@settings(deadline=None, max_examples=100)
@given(objects.filter(lambda members: depth(members) <= MAX_DEPTH))
def test_what_we_write_is_strict(members: dict[str, Any]) -> None:
    """What `encode` writes reads back as the same object, and is written again as the same bytes."""
    text = encode(members)
    assert decode_object(text) == members
    assert encode(decode_object(text)) == text


@settings(deadline=None, max_examples=100)
@given(
    before=objects,
    name=texts,
    first=values,
    second=values,
    spelling=spellings,
    escaped=st.booleans(),
    wrap=st.booleans(),
)
def test_duplicates_are_always_refused(
    before: dict[str, Any],
    name: str,
    first: Any,
    second: Any,
    spelling: dict[str, Any],
    escaped: bool,
    wrap: bool,
) -> None:
    """A member that stands twice is refused in whatever spelling, and on whatever level."""
    twin = '"' + "".join(f"\\u{unit:04x}" for unit in utf16(name)) + '"' if escaped else json.dumps(name)
    members = [f"{json.dumps(other)}: {json.dumps(value, **spelling)}" for other, value in before.items()]
    members += [f"{json.dumps(name)}: {json.dumps(first, **spelling)}", f"{twin}: {json.dumps(second)}"]
    text = "{" + ", ".join(members) + "}"
    with pytest.raises(NotStrictJSON):
        decode_object((f'{{"a":[{text}]}}' if wrap else text).encode())


def utf16(text: str) -> list[int]:
    raw = text.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


json_like = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\u", b"d8", b"00", b"1", b"e", b"-", b"\xed", b"NaN"]
    )
).map(b"".join)


TEXTS = {
    "not JSON",
    "not a JSON object",
    "not UTF-8, or a lone surrogate",
    "a member stands twice",
    "NaN and Infinity are not JSON",
    "an integer of more than 16 digits",
    "a number that is not finite, or minus zero",
    f"nested deeper than {MAX_DEPTH}",
}


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=64) | json_like | json_like.map(lambda inner: b'{"a":' + inner + b"}"))
def test_nothing_else_ever_leaves(data: bytes) -> None:
    """Whatever the bytes, the outcome is an object or NotStrictJSON, whose text never repeats the bytes."""
    found: object
    try:
        found = decode_object(data)
    except NotStrictJSON as error:
        found = str(error)
    assert isinstance(found, dict) or found in TEXTS


def test_service_ids_are_written_as_text() -> None:
    """A service id is written as the string that it is; an object without a JSON form is never written."""
    assert encode({"iss": ServiceId("https://a.example")}) == b'{"iss":"https://a.example"}'
    with pytest.raises(NotImplementedError, match="complex has no JSON form"):
        encode({"a": 1j})
