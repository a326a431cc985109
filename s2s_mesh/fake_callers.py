"""What tests call with: a fake issuer as `auth=` of a client, and the header field of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .testing import Mesh

_Request = TypeVar("_Request", bound=Any)


class Caller:
    """A fake issuer that calls: `auth=` of httpx, httpx2 and requests, sync and async.

    It looks at no address: what it signs is good for nothing but services that accept this `Mesh`.
    """

    def __init__(self, mesh: Mesh, issuer: str, **wanted: Any) -> None:
        self._mesh, self._issuer, self._wanted = mesh, issuer, wanted

    @property
    def headers(self) -> dict[str, str]:
        """Header fields with a new token, for clients that know no auth objects."""
        return self._mesh.headers(self._issuer, **self._wanted)

    def __call__(self, request: _Request) -> _Request:
        """Put a new token on a request."""
        request.headers.update(self.headers)
        return request


def bearer(token: str) -> dict[str, str]:
    """The header field of a token."""
    return {"Authorization": f"Bearer {token}"}
