"""requests: `session.auth = RequestsAuth(service, AUDIENCE)`, or `requests.get(url, auth=...)`.

requests strips Authorization when a redirect changes the host, port or scheme (`Session.should_strip_auth`),
but not from http to https, nor within a host, where an audience with a path ends. So each redirect is judged
here as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from requests import PreparedRequest, Response
from requests.auth import AuthBase

from ..outbound import Caller, Hop, outbound

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..outbound import Options

_FIELD = "Authorization"


class RequestsAuth(AuthBase):
    """Authenticates requests to one audience. One object may serve many threads.

    On 401 `invalid_token` the request is sent once more with a new token, where its body is text or bytes.

    Args:
        service: makes the tokens.
        audience: the service that is called.
        options: see `s2s_mesh.outbound.Outbound`.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: a bad audience, scope or origin.
    """

    def __init__(self, service: Caller, audience: str, **options: Unpack[Options]) -> None:
        self._outbound = outbound(service, audience, **options)

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the token.

        Raises:
            ConfigError: the request does not go to this audience; nothing was sent.
            KeyStoreError: no key to sign with.
            UserExpired: what is known of the user has expired; nothing was sent.
        """
        self._outbound.check(_hop(str(request.url)))
        self._outbound.tokens.load()
        request.headers[_FIELD] = self._outbound.field()
        request.register_hook("response", self._answered)  # type: ignore[no-untyped-call]
        return request

    def _answered(self, response: Response, **how: Any) -> Response:
        """Called for the answer to each hop, before the next one is made from the request of this."""
        request = response.request
        if _FIELD not in request.headers or not self._outbound.holds(_hop(str(request.url))):
            return response  # a hop elsewhere: whatever it says, it gets nothing
        refused = self._outbound.forgets(response.status_code, response.headers.get("www-authenticate"))
        if refused and isinstance(request.body, (bytes, str, type(None))):
            request.headers[_FIELD] = self._outbound.field()
            _ = response.content  # read to the end, so that its connection serves the second request
            response.close()
            again: Response = response.connection.send(request, **how)
            again.history.append(response)
            response = again
        if response.is_redirect and not self._outbound.holds(_target(response)):
            del request.headers[_FIELD]
        return response


def _hop(url: str) -> Hop:
    """Where requests connects to: it takes the URL apart with the same function."""
    try:
        parts = urlsplit(url)
        return Hop(parts.scheme, parts.hostname or "", parts.port, (parts.path or "/").encode())
    except ValueError:
        return Hop("", "", None, b"")


def _target(response: Response) -> Hop:
    return _hop(urljoin(response.url, response.headers["location"]))
