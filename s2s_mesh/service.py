"""The door for applications: one `Service` signs, publishes, and verifies for one issuer."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from msgspec import UNSET

from . import settings as settings_
from . import settings_env, users
from .app_door import AppDoor
from .bridge_door import BridgeDoor
from .claims import check_scopes
from .client_certificate import Certificate, ClientCertificate
from .context import inbound_user
from .drivers import drive, drive_async
from .httpx_auth import MeshAuth
from .httpx_transport import transport as mesh_transport
from .identity import EndUser, Principal, ServiceId
from .inbound import CallerFlow, RequestLine
from .observer import Observer
from .policy import Policy
from .rotation import RotationSchedule
from .runtime import Runtime
from .store import KeyStore
from .trust import TrustConfig
from .user_door import UserDoor
from .users import OnBehalfOf
from .wellknown import WellKnown


class Service(AppDoor, UserDoor, BridgeDoor):
    """Signs, publishes and verifies for one issuer.

    Construction is inert: it reads the trust file and checks the configuration, and opens no socket, thread,
    lock file or key. The first use starts what is needed, anew in every process after a fork; `lifespan`,
    `with` and `async with` start it eagerly.

    Args:
        issuer: this service's own id, an https URL.
        trust: a `TrustConfig`, or the path of a trust file, which is watched.
        key_store: `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://`, `file:///DIR`,
            `memory://`, or a `KeyStore`; None for a service that only verifies.
        key_encryption_key: base64url of 32 bytes, or several, comma-separated: all open, the first seals.
        audiences: further ids under which it is called, while a domain moves.
        algorithm: of keys that it makes: ES256, ES384, RS256, PS256 or Ed25519.
        schedule: rotation times; the same in every process of the issuer.
        token_life: seconds, 10 to 900; 120 unless told.
        public_paths: exact paths that also let anonymous callers in.
        verified_cache_size: verified tokens to remember; 0 for none.
        jwks_cache: "shared" keeps other issuers' keys, sealed, in the key store as well as in each process.
        policy: decides about every call that scopes and route rules allow; see docs/policy.md.
        observers: are told what happens, for metrics and traces; see docs/telemetry.md.
        client_certificate_header: `client-cert` or `x-forwarded-client-cert`, the field in which the
            proxies hand on the certificates of their clients; see docs/certificates.md.
        trusted_proxies: the addresses and networks of those proxies; the field of anybody else is stripped.
        allow_loopback_http: accept `http://127.0.0.1:PORT` ids; None takes the trust file's default.
        allow_unsealed_key_store: let private keys of an https issuer lie open in a shared store.
        spiffe_id: its name in SPIFFE, such as spiffe://wallets.example.com/wallets; its keys are then also
            served as the bundle of that trust domain, which is this service's alone; see docs/spiffe.md.
        asap_issuer: its name among ASAP receivers, such as team/edge; its keys are then served for these too.

    Raises:
        ConfigError: naming the argument, what was found and what is expected.
    """

    def __init__(
        self,
        *,
        issuer: str,
        trust: TrustConfig | str | os.PathLike[str],
        key_store: str | KeyStore | None,
        key_encryption_key: str | None = None,
        audiences: Collection[str] = (),
        algorithm: str = "ES256",
        schedule: RotationSchedule = RotationSchedule.DEFAULT,
        token_life: int | None = None,
        public_paths: Collection[str] = (),
        verified_cache_size: int = 10_000,
        jwks_cache: str = "process",
        policy: Policy | None = None,
        observers: Collection[Observer] = (),
        client_certificate_header: str | None = None,
        trusted_proxies: Collection[str] = (),
        allow_loopback_http: bool | None = None,
        allow_unsealed_key_store: bool = False,
        spiffe_id: str | None = None,
        asap_issuer: str | None = None,
    ) -> None:
        settings = settings_.build(
            issuer=issuer,
            trust=trust,
            key_store=key_store,
            key_encryption_key=key_encryption_key,
            audiences=audiences,
            algorithm=algorithm,
            schedule=schedule,
            token_life=token_life,
            public_paths=public_paths,
            verified_cache_size=verified_cache_size,
            jwks_cache=jwks_cache,
            policy=policy,
            observers=observers,
            client_certificate_header=client_certificate_header,
            trusted_proxies=trusted_proxies,
            allow_loopback_http=allow_loopback_http,
            allow_unsealed_key_store=allow_unsealed_key_store,
            spiffe_id=spiffe_id,
            asap_issuer=asap_issuer,
        )
        self.issuer: ServiceId = settings.issuer
        self.well_known: WellKnown | None = (
            None
            if key_store is None
            else WellKnown(
                self.issuer,
                settings.schedule,
                spiffe=settings.spiffe_id is not None,
                asap_issuer=settings.asap_issuer,
            )
        )
        super().__init__(settings)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, public_paths: Collection[str] = (), **overrides: Any
    ) -> Service:
        """A service configured by `S2S_MESH_*` (and `REDIS_URL`); `overrides` are arguments of `Service`.

        Raises:
            ConfigError: naming the variable, what was found and what is expected.
        """
        environ = os.environ if environ is None else environ
        return cls(**settings_env.from_env(environ, overrides), public_paths=public_paths)

    def __repr__(self) -> str:
        return f"Service(issuer={self.issuer!r})"

    # -- signing ---------------------------------------------------------------------------------------

    def token(
        self,
        audience: str,
        *,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        certificate: Certificate | None = None,
    ) -> str:
        """A token for one audience; kept and renewed well before it expires.

        Args:
            audience: the service to call.
            scopes: what to ask for; None asks for all that the receiver grants.
            on_behalf_of: the user to call for, such as `service.inbound_user`. Left out, the service calls as
                itself; None is refused.
            once: a new one that is handed out to nobody else, for a route with `replay = "once"`.
            certificate: that of the TLS connection on which the token will be sent (RFC 8705 section 3): a
                file, PEM or DER, that is looked at anew each time, or its content. Nobody can use the token
                on a connection with another one, or with none.

        Raises:
            KeyStoreError: there is no key to sign with.
            NoUser: `on_behalf_of` is None, or the user has expired (`UserExpired`).
            ConfigError: the audience is not a service id, or names an identity provider; or no token can
                carry the user.
        """
        user = users.given(on_behalf_of)
        if user is not None:
            # evidence needs fields of its own, which only `transport` sends
            user = users.without_evidence(users.check(user, self.clock()))
        # what is kept was checked when it was minted
        wanted = scopes if scopes is None or type(scopes) is frozenset else check_scopes(scopes)
        runtime = self._runtime or self.running()
        bound = None if certificate is None else ClientCertificate.of(certificate).confirmation()
        kept = None if once else runtime.kept_token(audience, wanted, self.clock(), user, bound)
        if kept is not None:
            return kept
        return runtime.token(
            self.settings.check_audience(audience),
            None if wanted is None else check_scopes(wanted),
            once=once,
            user=user,
            confirmation=bound,
        )

    def forget_token(
        self,
        audience: str,
        *,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        certificate: Certificate | None = None,
    ) -> None:
        """Mint anew at the next `token`: the receiver refused the one at hand."""
        user = users.given(on_behalf_of)
        bound = None if certificate is None else ClientCertificate.of(certificate).confirmation()
        self.running().signer.forget(
            audience, scopes, bound, None if user is None else users.without_evidence(user)
        )

    def auth(
        self,
        audience: str,
        *,
        origins: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
        on_behalf_of: OnBehalfOf = UNSET,
        once: bool = False,
        certificate: Certificate | None = None,
        allow_plain_http: bool = False,
    ) -> MeshAuth:
        """Authentication for `httpx.Client(auth=...)` and `httpx.AsyncClient(auth=...)`; see `MeshAuth`."""
        return MeshAuth(
            self,
            self.settings.check_audience(audience),
            origins=origins,
            scopes=None if scopes is None else check_scopes(scopes),
            on_behalf_of=on_behalf_of,
            once=once,
            certificate=certificate,
            allow_plain_http=allow_plain_http,
        )

    # defined where it belongs; here it is a method
    transport = mesh_transport

    # -- verifying -------------------------------------------------------------------------------------

    def verify(self, token: str | bytes, *, request: RequestLine = None) -> Principal:
        """Verify a token that was made out to this service; may wait for the issuer's keys.

        A `request`, method and external path, has route rule, scopes, policy and `replay` asked as well.

        Raises:
            TokenRejected, Forbidden: refused; `reason` says why.
            Unavailable: nobody can tell just now.
            ConfigError: the policy is asynchronous.
        """
        runtime, found = self._verifying(token, request)
        return found if isinstance(found, Principal) else drive(found, runtime, self.clock)

    async def verify_async(self, token: str | bytes, *, request: RequestLine = None) -> Principal:
        """`verify` on the event loop, without blocking it."""
        runtime, found = self._verifying(token, request)
        return found if isinstance(found, Principal) else await drive_async(found, runtime, self.clock)

    def _verifying(self, token: str | bytes, request: RequestLine) -> tuple[Runtime, Principal | CallerFlow]:
        at = self.clock()
        runtime = self.awake(at)
        # what is not ASCII turns into "?", which no token holds
        raw = token.encode("ascii", "replace") if isinstance(token, str) else bytes(token)
        known = runtime.inbound.cached(raw, at) if request is None else None
        return runtime, known or runtime.inbound.verify(raw, at, request)

    @property
    def inbound_user(self) -> EndUser:
        """The user of the request being served, to be handed on: `on_behalf_of=service.inbound_user`.

        A plain value: executors and background tasks get it as an argument, as they get anything else.

        Raises:
            NoUser: no request is served here, or it carries no user.
            UserExpired: what is known of the user has expired meanwhile.
        """
        return users.check(inbound_user(self), self.clock())
