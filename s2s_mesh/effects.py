"""What a flow may ask of the outside. A flow yields one of these; a driver answers it (`drivers.py`)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from .oauth_request import TokenRequest


class FetchJWKS(msgspec.Struct, frozen=True, kw_only=True):
    """Please try to have this key: refresh the issuer's JWKS if that is allowed now, and wait for it.

    The answer is None; the flow looks at its `KeyResolver` again. No token byte chooses a URL: the driver
    takes it from the trust file.

    Attributes:
        issuer: an issuer that the trust file lists.
        kid: the key id that is not known yet.
    """

    issuer: str
    kid: str


class LoadDenyList(msgspec.Struct, frozen=True):
    """Please wait for the first look at the deny list. The flow looks at its verifier again."""


class UseOnce(msgspec.Struct, frozen=True, kw_only=True):
    """Please say whether this token id is used for the first time: True or False, None if nobody can tell.

    Attributes:
        issuer: who made the token.
        jti: its id.
        seconds: how long the use has to be remembered.
    """

    issuer: str
    jti: str
    seconds: float


class CheckPassword(msgspec.Struct, frozen=True):
    """Please say whether this is the password of that hash: True or False, None if nobody can tell.

    The answer takes tens of milliseconds of a processor and megabytes of memory: it is not worked out on an
    event loop, nor by more than a few at a time.

    Attributes:
        stored: an argon2id hash in PHC form, from the trust file.
        password: what the caller sent. Never shown.
    """

    stored: str
    password: bytes

    def __repr__(self) -> str:
        return "CheckPassword(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """msgspec's own would show the password in a rich traceback."""
        return []


class AskPolicy(msgspec.Struct, frozen=True):
    """Please wait for what a policy answers later: what it returned, or the exception that it raised.

    The one effect that a driver carries out itself, because only an event loop can. A policy that does not
    answer in time has raised `PolicyUnavailable`.

    Attributes:
        pending: what `decide` returned.
    """

    pending: Awaitable[Any]


class ObtainToken(msgspec.Struct, frozen=True):
    """Please wait for an access token, if the authorization server may be asked now. The flow looks again.

    Attributes:
        request: whom to ask for what.
    """

    request: TokenRequest


Effect = FetchJWKS | LoadDenyList | UseOnce | CheckPassword | AskPolicy | ObtainToken


class Answer(NamedTuple):
    """What a driver sends back.

    Attributes:
        now: Unix seconds, after the wait.
        result: what was asked for; None where there is no answer (in time).
    """

    now: float
    result: Any = None
