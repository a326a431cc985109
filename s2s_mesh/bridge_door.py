"""Where we are trusted by other people's software: the methods of `Service` for clouds and other protocols.

Each kind of token has its own `typ`, its own claims and its own audiences, so that none is taken for another
(standards section 0). None of them is kept but ASAP's: the others are for exchanges that happen once in a
while.
"""

from __future__ import annotations

from collections.abc import Collection

from . import asap, clouds, federation, svid
from .asap_auth import AsapAuth
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
        runtime = self.awake(self.clock())
        with runtime.signing() as (ring, now):
            svid.check_algorithm(ring.records[runtime.signer.signing_kid(ring, now)].public.alg)
            claims = svid.build(spiffe_id=spiffe_id, audience=known, now=now, life=life)
            token, _ = runtime.signer.sign(ring, TokenKind.SVID, claims, now)
        return token

    def asap_token(self, audience: str, *, issuer: str | None = None) -> str:
        """A token for an ASAP receiver; kept and renewed well before it expires.

        Args:
            audience: what the receiver calls itself (`ASAP_VALID_AUDIENCE`); need not be a URL.
            issuer: our name there, such as team/edge; None for `asap_issuer`. Another name than that is for
                keys that were put on a key server by hand.

        Raises:
            KeyStoreError: there is no key to sign with.
            ConfigError: the audience is no name, or an identity provider's; or there is no issuer.
        """
        ours, theirs = self._asap_issuer(issuer), self._asap_audience(audience)
        runtime = self.awake(self.clock())
        with runtime.signing() as (ring, now):
            return runtime.signer.asap(ring, ours, theirs, now)

    def asap_auth(
        self,
        audience: str,
        *,
        issuer: str | None = None,
        origins: Collection[str] | None = None,
        allow_plain_http: bool = False,
    ) -> AsapAuth:
        """Authentication for `httpx.Client(auth=...)` to an ASAP receiver; see `AsapAuth`."""
        return AsapAuth(
            self,
            self._asap_audience(audience),
            issuer=self._asap_issuer(issuer),
            origins=origins,
            allow_plain_http=allow_plain_http,
        )

    def forget_asap_token(self, audience: str, *, issuer: str | None = None) -> None:
        """Mint anew at the next `asap_token`: the receiver refused the one at hand."""
        self.running().signer.forget_asap(self._asap_issuer(issuer), audience)

    def _asap_issuer(self, given: str | None) -> str:
        issuer = given if given is not None else self.settings.asap_issuer
        if issuer is None:
            raise ConfigError(
                "there is no ASAP issuer: set asap_issuer (S2S_MESH_ASAP_ISSUER), or pass issuer"
            )
        return asap.check_issuer(issuer)

    def _asap_audience(self, audience: str) -> str:
        clouds.refuse_service_token(asap.check_audience(audience))
        self.settings.refuse_provider(audience)
        return audience

    def federation_token(
        self, provider: str, *, audience: str | None = None, subject: str | None = None
    ) -> str:
        """A token that a cloud exchanges for its own credentials; may wait for the ring.

        A new one each time, for ten minutes at most: SDKs ask when their credentials run out. See
        docs/federation.md for what to register at the cloud.

        Args:
            provider: "aws", "gcp", "azure" or "k8s".
            audience: what is registered there; None for `sts.amazonaws.com` or `api://AzureADTokenExchange`.
                Google Cloud and Kubernetes have none of their own.
            subject: `sub`, which is registered too; None for this service's id.

        Raises:
            ConfigError: an argument is not as described, or the key that signs is of an algorithm that the
                cloud does not verify: Azure takes RS256 only.
            KeyStoreError: there is no key to sign with.
        """
        cloud = clouds.cloud(provider)
        name, about = self.settings.for_cloud(cloud, audience, subject)
        runtime = self.awake(self.clock())
        with runtime.signing() as (ring, now):
            return federation.mint(
                runtime.signer,
                ring,
                cloud,
                audience=name,
                subject=about,
                now=now,
                life=min(clouds.LIFE, int(self.settings.schedule.max_token_life)),
            ).token
