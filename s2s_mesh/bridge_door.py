"""Where we are trusted by other people's software: the methods of `Service` for clouds and other protocols.

Each kind of token has its own `typ`, its own claims and its own audiences, so that none is taken for another
(standards section 0). None of them is kept: they are for exchanges that happen once in a while.
"""

from __future__ import annotations

from .identity import ServiceId
from .life import ServiceLife
from .oauth_client import oauth_client as oauth_client_


class BridgeDoor(ServiceLife):
    """What a `Service` does for programs that know nothing of s2s_mesh."""

    issuer: ServiceId

    # defined where it belongs; here it is a method
    oauth_client = oauth_client_
