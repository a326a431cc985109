"""Where we are trusted by other people's software: the methods of `Service` for clouds and other protocols.

Each kind of token has its own `typ`, its own claims and its own audiences, so that none is taken for another
(standards section 0). None of them is kept: they are for exchanges that happen once in a while.
"""

from __future__ import annotations

from . import svid
from .errors import ConfigError
from .identity import ServiceId
from .life import ServiceLife
from .oauth_client import oauth_client as oauth_client_
from .signer import TokenKind


class BridgeDoor(ServiceLife):
    """What a `Service` does for programs that know nothing of s2s_mesh."""

    issuer: ServiceId

    # defined where it belongs; here it is a method
    oauth_client = oauth_client_

    def jwt_svid(self, audience: str) -> str:
        """A JWT-SVID, by which this service is known to software that knows SPIFFE; a new one each time.

        Args:
            audience: the workload to call, by the name that its validator goes by: its SPIFFE ID or another.

        Raises:
            KeyStoreError: there is no key to sign with.
            ConfigError: this service has no `spiffe_id`, the audience is none, a cloud's or an identity
                provider's, or the key that signs now is of an algorithm that SPIFFE does not know.
        """
        spiffe_id, life = self.settings.spiffe_id, self.settings.token_life
        if spiffe_id is None:
            raise ConfigError("this service has no SPIFFE ID: set spiffe_id (S2S_MESH_SPIFFE_ID)")
        known = svid.check_audience(audience)
        self.settings.refuse_provider(known)
        runtime = self.running()
        with runtime.signing() as (ring, now):
            svid.check_algorithm(ring.records[runtime.signer.signing_kid(ring, now)].public.alg)
            claims = svid.build(spiffe_id=spiffe_id, audience=known, now=now, life=life)
            token, _ = runtime.signer.sign(ring, TokenKind.SVID, claims, now)
        return token
