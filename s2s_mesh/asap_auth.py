"""Calls to ASAP receivers with httpx: `Service.asap_token` on requests that go there, and on no others."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import httpx

from .errors import ConfigError
from .httpx_auth import AuthFlow
from .outbound import Credential, Ring, destinations


class AsapTokenSource(Ring, Protocol):
    """What makes ASAP tokens: a `Service`."""

    def asap_token(self, audience: str, *, issuer: str | None = None) -> str:
        """A token for an ASAP receiver; does not block once a ring is in memory."""

    def forget_asap_token(self, audience: str, *, issuer: str | None = None) -> None:
        """Do not hand the present token out again."""


class AsapOutbound(Credential):
    """The ASAP tokens of one audience; the arguments are those of `AsapAuth`."""

    def __init__(
        self,
        tokens: AsapTokenSource,
        audience: str,
        *,
        issuer: str,
        origins: Collection[str] | None,
        allow_plain_http: bool,
    ) -> None:
        if isinstance(origins, str):
            raise ConfigError("origins must be a list of URLs, not one string")
        urls = [*([audience] if audience.startswith(("https://", "http://")) else []), *(origins or ())]
        if not urls:
            raise ConfigError(
                f"the ASAP audience {audience} is no URL: name in origins where it is reached, such as "
                "https://wallets.example.com"
            )
        super().__init__(tokens, audience, destinations(urls[0], urls[1:], allow_plain_http=allow_plain_http))
        self._tokens = tokens
        self._issuer = issuer

    def field(self) -> str:
        """See `Credential`."""
        return f"Bearer {self._tokens.asap_token(self._audience, issuer=self._issuer)}"

    def forgets(self, status: int, _challenge: str | None) -> bool:
        """See `Credential`: any 401, because their challenge never says what was wrong with a token."""
        if status == 401:
            self._tokens.forget_asap_token(self._audience, issuer=self._issuer)
        return status == 401


class AsapAuth(AuthFlow, httpx.Auth):
    """Authenticates requests to one ASAP receiver; for `httpx.Client` and `httpx.AsyncClient` alike.

    Args:
        tokens: makes tokens; a `Service`.
        audience: what the receiver calls itself (`ASAP_VALID_AUDIENCE`).
        issuer: our name there.
        origins: where the receiver is reached; needed unless the audience is its URL.
        allow_plain_http: let the token travel unencrypted to origins off this machine.

    Raises:
        ConfigError: an origin is not a URL, or is plain http without leave; or there is none.
    """

    replayable: type = httpx.ByteStream

    def __init__(
        self,
        tokens: AsapTokenSource,
        audience: str,
        *,
        issuer: str,
        origins: Collection[str] | None = None,
        allow_plain_http: bool = False,
    ) -> None:
        self.outbound: Credential = AsapOutbound(
            tokens, audience, issuer=issuer, origins=origins, allow_plain_http=allow_plain_http
        )
