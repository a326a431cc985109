"""SPIFFE IDs: the names of workloads in SPIFFE's trust domains (SPIFFE-ID sections 2 and 2.3)."""

from __future__ import annotations

import re

from .errors import ConfigError

_MAX = 2048  # bytes
_MAX_TRUST_DOMAIN = 255
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_DOTS = {".", ".."}


class SpiffeId(str):
    """The name of a workload, such as `spiffe://wallets.example.com/wallets`, compared byte by byte.

    Only the one spelling is accepted that the standard calls canonical: lower-case scheme and trust domain, a
    path, no escape, no trailing slash.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Check `text` and return it as a `SpiffeId`.

        Raises:
            ConfigError: naming what is wrong with it and what is expected.
        """
        problem = _problem(text)
        if problem is not None:
            raise ConfigError(f"{text!r:.300} is not the SPIFFE ID of a workload: {problem}")
        return cls(text)

    @property
    def trust_domain(self) -> str:
        """Where it belongs, without the scheme: `wallets.example.com`."""
        return self.split("/", 3)[2]


def is_workload(text: str, trust_domain: str) -> bool:
    """Whether this is the name of a workload in exactly this trust domain."""
    return _problem(text) is None and SpiffeId(text).trust_domain == trust_domain


def is_trust_domain(text: str) -> bool:
    """Whether this is the name of a trust domain, without the scheme."""
    return len(text) <= _MAX_TRUST_DOMAIN and _TRUST_DOMAIN.fullmatch(text) is not None


def _problem(text: str) -> str | None:
    if not isinstance(text, str) or not text.startswith("spiffe://"):
        return "expected spiffe://TRUST-DOMAIN/PATH, in lower case up to the path"
    if len(text) > _MAX:
        return f"{len(text)} characters; at most {_MAX} are allowed"
    trust_domain, slash, path = text.removeprefix("spiffe://").partition("/")
    if not is_trust_domain(trust_domain):
        return (
            f"{trust_domain!r:.300} is no trust domain: 1 to {_MAX_TRUST_DOMAIN} lower-case letters, digits, "
            "dots, dashes and underscores; neither port nor user info"
        )
    if not slash:
        return "it names a whole trust domain; expected a path after it"
    for segment in path.split("/"):
        if segment in _DOTS or not _SEGMENT.fullmatch(segment):
            return f"path segment {segment!r:.300} is not allowed: letters, digits, dots, dashes, underscores"
    return None
