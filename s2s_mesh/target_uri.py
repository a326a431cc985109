"""Target URIs as two sides compare them: normalised (RFC 3986 section 6.2.2), without query and fragment."""

from __future__ import annotations

import re
from typing import NamedTuple

from .routes import external_path

_URI = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[^/?#@\\:\[\]]+)(?::([0-9]{0,5}))?(/[^?#]*)?", re.ASCII | re.IGNORECASE
)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]", re.ASCII)
_DEFAULT_PORTS = {"https": 443, "http": 80}


class TargetURI(NamedTuple):
    """Where a request goes; two that are equal are the same.

    Attributes:
        origin: scheme, host and port, as `ServiceId.origin` writes them.
        path: begins with a slash.
    """

    origin: str
    path: str

    @classmethod
    def parse(cls, text: str) -> TargetURI:
        """Normalise a URI that somebody sent.

        Raises:
            ValueError: not an absolute http(s) URI, a query, a fragment or user info, or a path that routers
                could read in two ways (`routes.external_path`).
        """
        match = _URI.fullmatch(text)
        if match is None:
            raise ValueError("not an absolute URI without query, fragment and user info")
        scheme, host, port, path = match.groups()
        scheme = scheme.lower()
        number = int(port) if port else _DEFAULT_PORTS[scheme]
        origin = f"{scheme}://{host.lower()}"
        if number != _DEFAULT_PORTS[scheme]:
            origin += f":{number}"
        return cls.of(origin, (path or "/").encode())

    @classmethod
    def of(cls, origin: str, raw_path: bytes) -> TargetURI:
        """The URI of a request to a service.

        Args:
            origin: as configured, never as the request names it.
            raw_path: percent-encoded, as on the wire, without the query.

        Raises:
            ValueError: a path that routers could read in two ways.
        """
        if external_path(raw_path) is None:
            raise ValueError("a path that could be read in two ways")
        return cls(origin, _ESCAPE.sub(_normal_escape, raw_path.decode("ascii")))

    def __str__(self) -> str:
        return self.origin + self.path


def _normal_escape(match: re.Match[str]) -> str:
    """RFC 3986 sections 6.2.2.1 and 6.2.2.2: unreserved characters plain, other escapes in upper case."""
    character = chr(int(match[0][1:], 16))
    return character if _UNRESERVED.fullmatch(character) else match[0].upper()
