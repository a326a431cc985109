"""ASAP, Atlassian's S2S Authentication Protocol, as `atlassian-jwt-auth` 22 has it: names, claims, key files.

An issuer is a name such as `team/edge`. The id of a key is a path that begins with it, so that whoever runs
the key server decides who owns which key; a key is one PEM file at that path below the server's base URL.
"""

from __future__ import annotations

import re
from typing import Any

from .claims import new_token_id
from .errors import ConfigError, Reason, TokenRejected

KEYS = "/.well-known/asap-keys"
PEM = "application/x-pem-file"
# of ours; their list has no EdDSA
ALGORITHMS = frozenset({"ES256", "ES384", "RS256", "PS256"})
MAX_LIFE = 3600
_MAX_ISSUER = 128
_MAX_AUDIENCE = 256
_PATH = re.compile(r"[A-Za-z0-9_.+-]+(?:/[A-Za-z0-9_.+-]+)*", re.ASCII)
_AUDIENCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)


def is_path(text: str) -> bool:
    """Whether their libraries take this for the id of a key: segments of a path in its shortest spelling."""
    return _PATH.fullmatch(text) is not None and ".." not in text and "." not in text.split("/")


def check_algorithm(alg: str) -> None:
    """Check that ASAP receivers know a signature algorithm of ours.

    Raises:
        ConfigError: they do not; says what to do.
    """
    if alg not in ALGORITHMS:
        raise ConfigError(
            f"ASAP libraries know no {alg}; set S2S_MESH_ALGORITHM to one of "
            f"{', '.join(sorted(ALGORITHMS))}; where there is a ring, `s2s-mesh keys rotate --algorithm`"
        )


def check_issuer(issuer: str) -> str:
    """Check the name that a person wrote for an ASAP issuer.

    Raises:
        ConfigError: their libraries would refuse its keys.
    """
    if not isinstance(issuer, str) or len(issuer) > _MAX_ISSUER or not is_path(issuer):
        raise ConfigError(
            f"{issuer!r} is not an ASAP issuer: a name such as team/edge, letters, digits and _ . + - "
            f"between slashes, at most {_MAX_ISSUER} characters"
        )
    return issuer


def check_audience(audience: str) -> str:
    """Check the name that a person wrote for whom an ASAP token is for; it need not be a URL.

    Raises:
        ConfigError: empty, too long, or with characters that no audience has.
    """
    if not isinstance(audience, str) or len(audience) > _MAX_AUDIENCE or not _AUDIENCE.fullmatch(audience):
        raise ConfigError(
            f"{audience!r} is not an ASAP audience: one name such as team/wallets, printable ASCII without "
            f"spaces, at most {_MAX_AUDIENCE} characters"
        )
    return audience


def key_id(issuer: str, kid: str) -> str:
    """The id of a key of ours among theirs: also its path on a key server."""
    return f"{issuer}/{kid}"


def check_key_id(kid: str, issuer: str) -> None:
    """Check that the key which a token names is its issuer's, before anything is fetched.

    A file in the issuer's own folder, and in none below it: that could be another issuer's.

    Raises:
        TokenRejected: it is not.
    """
    if not is_path(kid) or kid.rpartition("/")[0] != issuer:
        raise TokenRejected(
            Reason.BAD_KID, "the kid is not iss, a slash and the name of a file, so no key of this issuer"
        )


def build(*, issuer: str, audience: str, now: float, life: int) -> dict[str, Any]:
    """The claims of an ASAP token.

    Args:
        issuer: an ASAP issuer; also `sub`, which may not differ.
        audience: the one that it is for.
        now: Unix seconds.
        life: seconds until it expires, an hour at most.
    """
    issued_at = int(now)
    return {
        "iss": issuer,
        "sub": issuer,
        "aud": audience,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + life,
        "jti": new_token_id(),
    }
