"""urllib3: a `PoolManager` whose requests go to one audience, with a token.

urllib3 strips Authorization when a redirect leaves the host (`Retry.remove_headers_on_redirect`), but not
where an audience with a path ends. So each hop is judged here as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.util import Retry, parse_url

from ..outbound import Caller, Hop, outbound

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..outbound import Options

_FIELD = "Authorization"


class MeshPoolManager(urllib3.PoolManager):
    """Calls one audience. One object may serve many threads, as every `PoolManager`.

    On 401 `invalid_token` the request is sent once more with a new token, where its body is text or bytes.

    Args:
        service: makes the tokens.
        audience: the service that is called.
        pool: arguments of `urllib3.PoolManager`, such as `{"timeout": 5, "ca_certs": "ca.pem"}`.
        options: see `s2s_mesh.outbound.Outbound`.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: a bad audience, scope or origin.
    """

    def __init__(
        self,
        service: Caller,
        audience: str,
        *,
        pool: dict[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**(pool or {}))
        self._outbound = outbound(service, audience, **options)

    def urlopen(  # type: ignore[override]  # as in PoolManager itself
        self, method: str, url: str, redirect: bool = True, **kw: Any
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and, unless told not to, follow its redirects, which come through here too.

        Raises:
            ConfigError: the request does not go to this audience; nothing was sent.
            KeyStoreError: no key to sign with.
            UserExpired: what is known of the user has expired; nothing was sent.
        """
        headers = urllib3.HTTPHeaderDict(kw.pop("headers", None) or self.headers)
        hop = _hop(url)
        if _redirected(kw.get("retries")):
            if not self._outbound.holds(hop):
                headers.discard(_FIELD)  # and so none of the hops behind has it
            return super().urlopen(method, url, redirect, headers=headers, **kw)
        self._outbound.check(hop)
        self._outbound.tokens.load()
        headers[_FIELD] = self._outbound.field()
        response = super().urlopen(method, url, redirect, headers=headers, **kw)
        refused = self._outbound.forgets(response.status, response.headers.get("www-authenticate"))
        if refused and isinstance(kw.get("body"), (bytes, str, type(None))):
            response.drain_conn()
            headers[_FIELD] = self._outbound.field()
            response = super().urlopen(method, url, redirect, headers=headers, **kw)
        return response


def _redirected(retries: object) -> bool:
    """Whether this is a later hop: urllib3 hands its `Retry` on, which remembers the redirects."""
    return isinstance(retries, Retry) and any(past.redirect_location for past in retries.history)


def _hop(url: str) -> Hop:
    """Where urllib3 connects to: it takes the URL apart with the same function."""
    parts = parse_url(url)
    host = (parts.host or "").strip("[]").lower()
    return Hop((parts.scheme or "").lower(), host, parts.port, (parts.path or "/").encode())
