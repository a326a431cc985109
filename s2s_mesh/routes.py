"""Route templates and the paths they are matched against. Pure; no framework's router is involved.

Middleware runs before routing, mounts hide prefixes and the gateway has no router, so rules are matched here,
on the decoded path as the caller wrote it. Whatever two parsers could read differently is refused
(`reference/standards.md` (e) row 75): a path either means one thing or it means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from .errors import ConfigError

# Outside of printable ASCII, empty segments, `;` parameters, and escapes that are broken or that hide a
# slash, a backslash, a semicolon or a control character.
_REFUSED = re.compile(
    rb"//|[^!-~]|[\\;?#]|%(?![0-9A-Fa-f]{2})|%2[Ff]|%3[Bb]|%5[Cc]|%[01][0-9A-Fa-f]|%7[Ff]",
)
_C1_CONTROLS = re.compile("[\x80-\x9f]")
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:[^{}]*)?\}", re.ASCII)
_DOTS = frozenset({".", ".."})
_UNFIT = {
    "*": "wildcards do not exist; write {name} for one segment, {name:path} at the end for all the rest",
    "%": "write characters as they are, not percent-encoded",
    "?": "the query is not part of the path",
    "#": "a fragment never reaches a server",
    ";": "no path that is let in holds a semicolon",
    "\\": "no path that is let in holds a backslash",
    "//": "no path that is let in holds an empty segment",
}


def external_path(raw_path: bytes) -> str | None:
    """Decode the path of a request, or refuse it.

    Args:
        raw_path: the path as it came over the wire, without the query: ASGI's `raw_path`.

    Returns:
        The decoded path, or None for `//`, `.` and `..` segments, an encoded slash or backslash, `;`, a
        control character (each also when percent-encoded), a broken escape, invalid UTF-8, a `?` or `#`,
        bytes outside of ASCII, or anything that does not begin with a slash.
    """
    if not raw_path.startswith(b"/") or _REFUSED.search(raw_path):
        return None
    try:
        path = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _C1_CONTROLS.search(path) or ("/." in path and not _DOTS.isdisjoint(path.split("/"))):
        return None
    return path


class PathTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A path with parameters: `/wallets/{wallet_id}/card`.

    `{x}` is one whole, non-empty segment. `{x:path}`, only at the end, is one or more characters of any
    number of segments. Everything else is compared character by character, so a trailing slash or another
    case makes another path.

    Attributes:
        text: the template as written.
        segments: the fixed part; None stands for `{x}`.
        tail: whether `{x:path}` follows.
    """

    text: str
    segments: tuple[str | None, ...]
    tail: bool

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """Check `text` and return it as a template.

        Raises:
            ConfigError: naming what is wrong with it and what is expected.
        """

        def refuse(problem: str) -> ConfigError:
            return ConfigError(f"{text!r} is not a path template: {problem}")

        if not text.startswith("/"):
            raise refuse('it must begin with "/"')
        for unfit, problem in _UNFIT.items():
            if unfit in text:
                raise refuse(problem)
        if not text.isprintable():
            raise refuse("no path that is let in holds a control character")
        segments: list[str | None] = []
        names: set[str] = set()
        parts = text[1:].split("/")
        for index, part in enumerate(parts):
            parameter = _PARAMETER.fullmatch(part)
            if parameter is None:
                if part in _DOTS or part.startswith((":", "<")) or "{" in part or "}" in part:
                    raise refuse(f'segment "{part}"; expected a plain one, or {{name}} as a whole segment')
                segments.append(part)
                continue
            name, converter = parameter.groups()
            if name in names:
                raise refuse(f"the parameter {{{name}}} appears twice")
            names.add(name)
            if converter is None:
                segments.append(None)
            elif converter != ":path":
                raise refuse(f"{part} is not known; write {{{name}}} or, at the end, {{{name}:path}}")
            elif index < len(parts) - 1:
                raise refuse(f"{part} may only stand at the end")
        return cls(text=text, segments=tuple(segments), tail=len(segments) < len(parts))

    def match(self, path: str) -> bool:
        """Whether `path`, as decoded by `external_path`, fits this template."""
        parts = path[1:].split("/")
        fixed = len(self.segments)
        if self.tail:
            if len(parts) <= fixed or parts[fixed:] == [""]:
                return False
        elif len(parts) != fixed:
            return False
        return path.startswith("/") and all(map(_fits, self.segments, parts))

    def overlaps(self, other: PathTemplate) -> bool:
        """Whether some path matches both templates."""
        if not all(map(_compatible, self.segments, other.segments)):
            return False
        short, long = sorted((self, other), key=lambda template: len(template.segments))
        rest = long.segments[len(short.segments) :]
        if not rest:
            return short.tail == long.tail
        return short.tail and rest != ("",)


def _fits(segment: str | None, part: str) -> bool:
    return part != "" if segment is None else part == segment


def _compatible(one: str | None, other: str | None) -> bool:
    return one == other or (one is None and other != "") or (other is None and one != "")


class Rule(Protocol):
    """What a `RouteTable` needs to know of a rule."""

    @property
    def path(self) -> str:
        """The text of a path template."""

    @property
    def methods(self) -> Collection[str]:
        """Upper-case HTTP methods."""


AnyRule = TypeVar("AnyRule", bound=Rule)


class _Node(Generic[AnyRule]):
    """One place in the tree of segments; rules are kept by method."""

    __slots__ = ("ends", "literals", "parameter", "tails")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[AnyRule]] = {}
        self.parameter: _Node[AnyRule] | None = None
        self.ends: dict[str, list[AnyRule]] = {}
        self.tails: dict[str, list[AnyRule]] = {}

    def child(self, segment: str | None) -> _Node[AnyRule]:
        if segment is not None:
            return self.literals.setdefault(segment, _Node())
        if self.parameter is None:
            self.parameter = _Node()
        return self.parameter


class RouteTable(Generic[AnyRule]):
    """The route rules of one audience, as a tree: a lookup costs by the length of the path, not by the rules.

    Args:
        rules: the rules of **one** audience; the same rule written for an alias would make two of it.

    Raises:
        ConfigError: a rule's path is not a template.
    """

    def __init__(self, rules: Iterable[AnyRule]) -> None:
        self._root: _Node[AnyRule] = _Node()
        for rule in rules:
            template = PathTemplate.parse(rule.path)
            node = self._root
            for segment in template.segments:
                node = node.child(segment)
            by_method = node.tails if template.tail else node.ends
            for method in {_as_ruled(method) for method in rule.methods}:
                by_method.setdefault(method, []).append(rule)

    def find(self, method: str, path: str) -> AnyRule | None:
        """Return the one rule for this request; None, which means deny, if there is none or more than one.

        Args:
            method: as in the request line. HEAD counts as GET; OPTIONS needs a rule of its own.
            path: as decoded by `external_path`.
        """
        if not path.startswith("/"):
            return None
        method = _as_ruled(method)
        found: list[AnyRule] = []
        nodes = [self._root]
        segments = path[1:].split("/")
        last = len(segments) - 1
        for index, segment in enumerate(segments):
            following: list[_Node[AnyRule]] = []
            for node in nodes:
                if segment or index < last:
                    found += node.tails.get(method, ())
                if segment and node.parameter is not None:
                    following.append(node.parameter)
                if segment in node.literals:
                    following.append(node.literals[segment])
            nodes = following
        for node in nodes:
            found += node.ends.get(method, ())
        return found[0] if len(found) == 1 else None


def _as_ruled(method: str) -> str:
    return "GET" if method == "HEAD" else method
