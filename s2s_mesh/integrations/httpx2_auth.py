"""httpx2, the maintained continuation of httpx: `httpx2.Client(auth=Httpx2Auth(service, AUDIENCE))`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from ..httpx_auth import AuthFlow
from ..outbound import Caller, Outbound, outbound

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..outbound import Options


class Httpx2Auth(AuthFlow, httpx2.Auth):
    """`MeshAuth` for `httpx2.Client` and `httpx2.AsyncClient`.

    Args:
        service: makes the tokens.
        audience: the service that is called.
        options: see `s2s_mesh.outbound.Outbound`.

    Raises:
        NoUser: `on_behalf_of` is None.
        ConfigError: a bad audience, scope or origin.
    """

    replayable: type = httpx2.ByteStream

    def __init__(self, service: Caller, audience: str, **options: Unpack[Options]) -> None:
        self.outbound: Outbound = outbound(service, audience, **options)
