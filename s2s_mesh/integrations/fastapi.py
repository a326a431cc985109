"""FastAPI: the caller as a dependency, and what it needs in the OpenAPI document.

The application itself is protected as any Starlette one is: `service.middleware`, `service.routes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from .. import asgi
from ..doors import wanted_scopes
from ..identity import Principal


class _Scheme(SecurityBase):
    """Stands in the document; the middleware has decided before."""

    def __init__(self) -> None:
        self.model = HTTPBearer(
            bearerFormat="JWT", description="A token of the calling service, made for us."
        )
        self.scheme_name = "s2s_mesh"

    def __call__(self) -> None:
        return None


_SCHEME = _Scheme()


def require(*scopes: str) -> Callable[..., Principal]:
    """`s2s_mesh.require`, seen in OpenAPI: `Annotated[Principal, Depends(require("cards:write"))]`.

    Args:
        scopes: all of them are needed; none means any caller that is known.

    Raises:
        ConfigError: something that is no scope (RFC 6749 section 3.3).
    """
    caller_of = asgi.require(*scopes)
    scheme: Any = Security(_SCHEME, scopes=wanted_scopes(scopes))

    def caller(connection: HTTPConnection, _scheme: None = scheme) -> Principal:
        return caller_of(connection)

    return caller
