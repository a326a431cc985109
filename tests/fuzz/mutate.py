"""Mutations: of bytes, and of what the bytes mean. Everything comes from one random generator."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Change = Callable[[Random, bytes], bytes]

NASTY: list[Any] = [
    *(None, True, False, 0, 1, -1, -0.0, 1.5, 2**31, 2**53, 2**53 + 1, 10**16, 10**30, 1e308, float("nan")),
    *("", " ", "\0", "a\n", "none", "None", "HS256", "RS256", "ES256", "EdDSA", "PS256", "sig", "enc", "oct"),
    *(
        "../../dev/null",
        "%00",
        "' OR 1=1",
        "\u0430",
        "\ud800",
        "\U0001f600",
        "\uff0e",
        "x" * 300,
        "*",
        "=",
        "A",
    ),
    *("https://evil.example", "http://127.0.0.1", "https://edge.example.com/", "at+jwt", "JWT", "wit+jwt"),
    *([], [[]], ["exp"], {}, {"a": {}}, [[[[[[[[[]]]]]]]]]),
]
_NAMES = [
    *(
        "alg",
        "kid",
        "typ",
        "crit",
        "b64",
        "jwk",
        "jku",
        "x5c",
        "zip",
        "enc",
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
    ),
    *(
        "nbf",
        "jti",
        "scope",
        "client_id",
        "cnf",
        "act",
        "keys",
        "kty",
        "crv",
        "x",
        "y",
        "n",
        "e",
        "d",
        "k",
        "use",
    ),
    *("key_ops", "p", "priv", "", "__proto__", "\u0065xp"),
]
_WORDS = [
    *(
        b"",
        b".",
        b"..",
        b"=",
        b"==",
        b"A",
        b"-",
        b"_",
        b"+",
        b"/",
        b"\0",
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\\u0000",
        b"\\ud800",
        b"NaN",
        b"Infinity",
        b"1e400",
        b"-0",
        b"9" * 40,
        b"[",
        b"{",
        b'"',
    ),
    *(
        b",",
        b":",
        b"}",
        b"]",
        b"null",
        b"true",
        b"\r\n",
        b"\n",
        b"\t",
        b" ",
        b"'",
        b"#",
        b"[[",
        b"]]",
        b"e30",
    ),
]
_MOST = 20_000  # bytes; twice what the largest limit of the small inputs lets through


def mutated(chance: Random, data: bytes, others: Sequence[bytes], change: Change) -> bytes:
    """One to four mutations of `data`, by bytes or by meaning, with spans of `others` spliced in."""
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        if chance.random() < 0.5:
            data = change(chance, data)
        elif chance.random() < 0.15:
            data = _spliced(chance, data, chance.choice(others))
        else:
            data = _bytes(chance, data)
    return data[: _MOST if chance.random() < 0.9 else None]


def _span(chance: Random, data: bytes) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    longest = chance.choice((1, 2, 4, 16, 64, 1024))
    return start, min(len(data), start + chance.randrange(longest + 1))


def _spliced(chance: Random, data: bytes, other: bytes) -> bytes:
    (start, end), (first, last) = _span(chance, data), _span(chance, other)
    return data[:start] + other[first : max(last, first)] + data[end:]


def _bytes(chance: Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    kind = chance.randrange(9)
    if kind == 0 and start < len(data):
        return data[:start] + bytes([data[start] ^ 1 << chance.randrange(8)]) + data[start + 1 :]
    if kind == 1:
        return data[:start] + bytes([chance.randrange(256)]) + data[start + (chance.random() < 0.5) :]
    if kind == 2:
        return data[:start] + data[end:]
    if kind == 3:
        return data[:end] + data[start:]
    if kind == 4:
        return data[:start] + data[start:end] * chance.choice((2, 10, 100, 2000)) + data[end:]
    if kind == 5:
        return data[:start]
    if kind == 6:
        return data[:start] + data[start:end].swapcase() + data[end:]
    word = chance.choice(_WORDS) * chance.choice((1, 1, 1, 2, 50))
    return data[:start] + word + data[start if kind == 7 else end :]


# -- JSON ---------------------------------------------------------------------------------------------------


def json_change(chance: Random, data: bytes) -> bytes:
    """Another value, name, order or spelling in a JSON text; bytes where it is none."""
    try:
        value = json.loads(data)
        containers = [place for place in _containers(value) if place]
    except (ValueError, RecursionError):
        return _bytes(chance, data)
    if containers:
        place = chance.choice(containers)
        key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        kind = chance.randrange(6)
        if kind == 0:
            del place[key]
        elif kind == 1:
            place[key] = [place[key]] if chance.random() < 0.7 else {"0": place[key]}
        elif kind == 2 and isinstance(place, dict):
            place[chance.choice(_NAMES)] = chance.choice([*NASTY, place[key]])
        elif kind == 3:
            other = chance.choice(containers)
            place[key] = chance.choice(list(other.values()) if isinstance(other, dict) else other)
        elif kind == 4 and isinstance(place[key], str):
            place[key] = _text(chance, place[key])
        else:
            place[key] = chance.choice(NASTY)
    try:
        return _written(chance, value)
    except (ValueError, RecursionError):  # what was put into itself cannot be written
        return _bytes(chance, data)


def _containers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value, *(inner for member in value.values() for inner in _containers(member))]
    if isinstance(value, list):
        return [value, *(inner for member in value for inner in _containers(member))]
    return []


def _text(chance: Random, text: str) -> str:
    place = chance.randrange(len(text) + 1)
    put = chance.choice(["", "\0", " ", "\n", "=", "/", "\u0435", text, text[:1].swapcase(), "\ud83d"])
    return text[:place] + put + text[place + chance.randrange(2) :]


def _written(chance: Random, value: Any) -> bytes:
    text = json.dumps(
        value, indent=chance.choice((None, None, 1)), ensure_ascii=chance.random() < 0.5
    ).encode("utf-8", "surrogatepass")
    kind = chance.randrange(8)
    if kind == 0:  # a member twice
        name = json.dumps(chance.choice(_NAMES)).encode()
        return text.replace(b"{", b"{" + name + b":" + json.dumps(chance.choice(NASTY)).encode() + b",", 1)
    if kind == 1 and isinstance(value, dict) and value:  # a name in escapes
        name = chance.choice(list(value))
        escaped = "".join(f"\\u{unit & 0xFFFF:04x}" for unit in map(ord, name))
        return text.replace(json.dumps(name).encode(), f'"{escaped}"'.encode(), 1)
    if kind == 2:
        return text.decode("utf-8", "replace").encode(
            chance.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig"))
        )
    return text


# -- compact tokens -----------------------------------------------------------------------------------------


def encoded(data: bytes) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(segment: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except ValueError:
        return segment


def segment_change(chance: Random, segment: bytes) -> bytes:
    """A base64url segment of JSON, changed inside, or in its last character."""
    if chance.random() < 0.1 and segment:
        return segment[:-1] + chance.choice((b"A", b"B", b"Q", b"R", b"g", b"h", b"w", b"x", b"_", b"="))
    return encoded(json_change(chance, _decoded(segment)))


def token_change(chance: Random, token: bytes) -> bytes:
    """A compact token with a part changed inside, exchanged, dropped or doubled."""
    parts = token.split(b".")
    place = chance.randrange(len(parts))
    kind = chance.randrange(6)
    if kind == 0:
        other = chance.randrange(len(parts))
        parts[place], parts[other] = parts[other], parts[place]
    elif kind == 1:
        parts[place : place + 1] = chance.choice(([], [parts[place]] * 2, [b""]))
    elif place == 2:
        parts[place] = encoded(_bytes(chance, _decoded(parts[place])))
    else:
        parts[place] = segment_change(chance, parts[place])
    return b".".join(parts)


def header_field_change(chance: Random, data: bytes) -> bytes:
    """Lines of Authorization fields: another scheme, one line more, or a changed token."""
    lines = data.split(b"\n")
    place = chance.randrange(len(lines))
    scheme, space, token = lines[place].partition(b" ")
    kind = chance.randrange(5)
    if kind == 0:
        scheme = chance.choice(
            (b"bearer", b"BEARER", b"Basic", b"DPoP", b"", b"Bearer\t", b"Bearer,", b"?access_token=x")
        )
    elif kind == 1:
        space = chance.choice((b"", b"  ", b"\t", b" \0", b"\xa0", b" ,"))
    elif kind == 2:
        lines.insert(place, chance.choice(lines))
    else:
        token = token_change(chance, token)
    lines[place] = scheme + space + token
    return b"\n".join(lines)


# -- TOML ---------------------------------------------------------------------------------------------------

_TOML = [
    *(
        b'""',
        b"1",
        b"-1",
        b"true",
        b"[]",
        b"{}",
        b"[[]]",
        b"nan",
        b"inf",
        b"1e400",
        b"2026-01-01",
        b'"*"',
        b'"\\u0000"',
    ),
    *(
        b"9" * 5000,
        b"0x" + b"f" * 5000,
        b'"https://edge.example.com/"',
        b'["none"]',
        b'["ES256", "ES256"]',
        b'"1h"',
    ),
    *(
        b'"https://2130706433"',
        b'"file:///etc/passwd"',
        b'{"a" = {"b" = []}}',
        b'"""\n[[allow]]\n"""',
        b"'x'",
    ),
]


def toml_change(chance: Random, data: bytes) -> bytes:
    """Lines dropped, doubled, moved or nested; another value after an equals sign."""
    lines = data.split(b"\n")
    place = chance.randrange(len(lines))
    kind = chance.randrange(6)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(chance.randrange(len(lines)), lines[place])
    elif kind == 2:
        lines.append(lines.pop(place))
    elif kind == 3 and lines[place].startswith(b"["):
        depth = chance.choice((1, 2, 50))
        lines[place] = b"[" * depth + lines[place] + b"]" * depth
    elif kind == 4:
        name = chance.choice((b"a", b'"*"', b"issuer", b"a." * chance.choice((1, 30, 900)) + b"b"))
        lines.insert(place, name + b" = " + chance.choice(_TOML))
    else:
        name, equals, _ = lines[place].partition(b"=")
        lines[place] = name + equals + b" " + chance.choice(_TOML)
    return b"\n".join(lines)
