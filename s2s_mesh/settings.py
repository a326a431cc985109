"""The configuration of a service: checked once, frozen."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from . import asap, clouds, svid
from . import audiences as audiences_
from .certificates import ProxyField
from .claims import DEFAULT_LIFE, MAX_LIFE, MIN_LIFE
from .clouds import Cloud
from .errors import ConfigError
from .identity import ServiceId
from .keys import ALGORITHMS, DEFAULT_ALGORITHM
from .observer import Observer, Observers
from .policy import Policy, check_policy
from .resolver import JWKSCacheLimits
from .rotation import RotationSchedule
from .spiffe_id import SpiffeId
from .store import KeyStore, SealedStore, Sealer, open_store, parse_key_encryption_keys
from .store.replay import ReplayStore, open_replay_store
from .trust import TrustConfig
from .trust_file import TrustFile


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `Service` is built from.

    Attributes:
        issuer: the service's own id.
        audiences: its id and aliases.
        trust: fixed, or a file that is watched.
        key_store: URL or store of the ring; None verifies only.
        key_encryption_keys: 32 bytes each, all open, the first seals new documents. Never shown.
        algorithm: of keys this service makes.
        schedule: rotation times, the same in every process of the issuer.
        cache_limits: for other issuers' keys.
        token_life: seconds.
        public_paths: exact paths that also let anonymous callers in.
        verified_cache_size: tokens to remember; 0 for none.
        jwks_cache: "process" keeps other issuers' keys in each process, "shared" in the key store as well.
        policy: asked about every call that scopes and route rules allow; None for none.
        observers: are told what happens.
        proxies: hand on the certificates of their clients; None where TLS connections end here.
        authorization_servers: audiences that are one's, learned while running; see `check_audience`.
        spiffe_id: the service's name in SPIFFE, or None.
        asap_issuer: the service's name among ASAP receivers, or None.
    """

    issuer: ServiceId
    audiences: tuple[ServiceId, ...]
    trust: TrustConfig | TrustFile
    key_store: str | KeyStore | None
    key_encryption_keys: tuple[bytes, ...]
    algorithm: str
    schedule: RotationSchedule
    cache_limits: JWKSCacheLimits
    token_life: int
    public_paths: frozenset[str]
    verified_cache_size: int
    jwks_cache: Literal["process", "shared"]
    policy: Policy | None
    observers: Observers
    spiffe_id: SpiffeId | None
    proxies: ProxyField | None
    asap_issuer: str | None
    authorization_servers: set[str] = msgspec.field(default_factory=set)

    def __repr__(self) -> str:
        return f"Settings(issuer={self.issuer!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """msgspec's own would show every field in a rich traceback."""
        return [("issuer", self.issuer)]

    def open_key_store(self) -> KeyStore | None:
        """The store of the ring, inert until used; None for a service that only verifies.

        Raises:
            ConfigError: what is wrong with its URL; never a password.
        """
        return self.open_document("ring") if isinstance(self.key_store, str) else self.key_store

    def open_document(self, name: str) -> KeyStore | None:
        """The place of another document beside the ring, inert until used.

        None where there is no place for one: the service only verifies, or has a store object of its own,
        which holds the ring and nothing else.

        Raises:
            ConfigError: as `open_key_store`.
        """
        if not isinstance(self.key_store, str):
            return None
        with _named("key_store", "S2S_MESH_KEY_STORE, else REDIS_URL"):
            return open_store(self.key_store, issuer=self.issuer, name=name)

    def sealed(self, store: KeyStore, *, purpose: str = "ring") -> SealedStore:
        """`store` with its documents sealed; open where no other process can read it, or without a key."""
        keks = self.key_encryption_keys
        sealer = Sealer(keks, issuer=self.issuer, purpose=purpose) if keks and store.shared else None
        return SealedStore(store, sealer)

    def open_replays(self) -> ReplayStore:
        """Where token ids that were used are remembered, inert until used.

        Raises:
            ConfigError: the key store is none that every replica can ask in an instant.
        """
        if not isinstance(self.key_store, str):
            raise ConfigError(
                'a [[route]] of this service has replay = "once" or proof = "wpt", which needs a key store '
                "that is named by its URL: redis:// or one of its relatives"
            )
        with _named("key_store", "S2S_MESH_KEY_STORE, else REDIS_URL"):
            return open_replay_store(self.key_store, audience=self.issuer)

    def check_audience(self, audience: str) -> ServiceId:
        """Check whom a token shall be made out to.

        Raises:
            ConfigError: not a service id, or an identity provider's, an authorization server's or a cloud's.
        """
        clouds.refuse_service_token(audience)
        known = ServiceId.parse(audience, allow_loopback_http=True)
        self.refuse_provider(known)
        return known

    def refuse_provider(self, audience: str) -> None:
        """As `audiences.refuse_provider`, with those that are known here."""
        audiences_.refuse_provider(audience, self.trusted, self.authorization_servers)

    def for_cloud(self, cloud: Cloud, audience: str | None, subject: str | None) -> tuple[str, str]:
        """As `audiences.for_cloud`, by the names that are known here."""
        return audiences_.for_cloud(
            cloud,
            audience,
            subject,
            own=self.audiences,
            trust=self.trusted,
            servers=self.authorization_servers,
        )

    @property
    def trusted(self) -> TrustConfig:
        """The trust file's content as it is now."""
        return self.trust if isinstance(self.trust, TrustConfig) else self.trust.current


def build(
    *,
    issuer: str,
    trust: TrustConfig | str | os.PathLike[str],
    key_store: str | KeyStore | None,
    key_encryption_key: str | None = None,
    audiences: Collection[str] = (),
    algorithm: str = DEFAULT_ALGORITHM,
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
) -> Settings:
    """Check everything and freeze it; see `Service` for the arguments.

    Raises:
        ConfigError: naming the argument, what was found and what is expected.
    """
    source = trust if isinstance(trust, TrustConfig) else TrustFile(trust)
    config = source if isinstance(source, TrustConfig) else source.current
    loopback = config.allow_loopback_http if allow_loopback_http is None else allow_loopback_http
    with _named("issuer", "S2S_MESH_ISSUER"):
        own = ServiceId.parse(issuer, allow_loopback_http=loopback)
    if isinstance(audiences, str):
        raise ConfigError("audiences must be a list of service ids, not one string")
    with _named("audiences", "S2S_MESH_AUDIENCES"):
        aliases = [ServiceId.parse(alias, allow_loopback_http=loopback) for alias in audiences]
    if algorithm not in ALGORITHMS:
        raise ConfigError(
            f"algorithm (S2S_MESH_ALGORITHM): {algorithm!r} is not offered; "
            f"choose one of {', '.join(sorted(ALGORITHMS))}"
        )
    most = int(min(MAX_LIFE, schedule.max_token_life))
    least = min(MIN_LIFE, most)
    life = min(DEFAULT_LIFE, most) if token_life is None else token_life
    # whole seconds, because receivers refuse an `exp` that is none
    if token_life is not None and (type(token_life) is not int or not least <= token_life <= most):
        raise ConfigError(
            f"token_life is {token_life!r}; the schedule allows whole seconds from {least} to {most}"
        )
    with _named("key_encryption_key", "S2S_MESH_KEY_ENCRYPTION_KEY"):
        keks = parse_key_encryption_keys(key_encryption_key) if key_encryption_key is not None else ()
    if not keks and not allow_unsealed_key_store and _must_be_sealed(own, key_store):
        raise ConfigError(
            f"the key store of {own} is shared, and there is no key-encryption key to seal it with: set "
            "S2S_MESH_KEY_ENCRYPTION_KEY (`s2s-mesh init` prints a fresh one), or, if private keys really "
            "may lie open in the store, pass allow_unsealed_key_store=True"
        )
    cache = _jwks_cache(jwks_cache, key_store, sealed=bool(keks))
    with _named("spiffe_id", "S2S_MESH_SPIFFE_ID"):
        named = None if spiffe_id is None else svid.check_id(spiffe_id, algorithm, schedule.lead)
    with _named("asap_issuer", "S2S_MESH_ASAP_ISSUER"):
        if asap_issuer is not None:
            asap.check_algorithm(algorithm)
            asap.check_issuer(asap_issuer)
    if isinstance(public_paths, str) or not all(path.startswith("/") for path in public_paths):
        raise ConfigError("public_paths must be a list of exact paths, each beginning with a slash")
    return Settings(
        issuer=own,
        audiences=(own, *aliases),
        trust=source,
        key_store=key_store,
        key_encryption_keys=keks,
        algorithm=algorithm,
        schedule=schedule,
        cache_limits=JWKSCacheLimits.of(schedule),
        token_life=life,
        public_paths=frozenset(public_paths),
        verified_cache_size=verified_cache_size,
        jwks_cache=cache,
        policy=None if policy is None else check_policy(policy, "policy"),
        observers=Observers(observers),
        spiffe_id=named,
        proxies=ProxyField.configured(client_certificate_header, trusted_proxies),
        asap_issuer=asap_issuer,
    )


@contextmanager
def _named(argument: str, variable: str) -> Iterator[None]:
    """Let a refusal say which argument it is about, and which variable that comes from."""
    try:
        yield
    except ConfigError as refusal:
        raise ConfigError(f"{argument} ({variable}): {refusal}") from None


def _must_be_sealed(issuer: ServiceId, key_store: str | KeyStore | None) -> bool:
    if key_store is None or not issuer.startswith("https:"):
        return False
    return not is_memory(key_store) if isinstance(key_store, str) else key_store.shared


def _jwks_cache(
    value: str, key_store: str | KeyStore | None, *, sealed: bool
) -> Literal["process", "shared"]:
    if value == "process":
        return "process"
    named = "jwks_cache (S2S_MESH_JWKS_CACHE)"
    if value != "shared":
        raise ConfigError(f"{named} is {value!r}; expected 'process' or 'shared'")
    # a store object holds the ring and nothing else, so there would be no place for a second document
    if not isinstance(key_store, str) or is_memory(key_store):
        raise ConfigError(
            f"{named} is 'shared', which needs a key store that other processes share too, named by its URL "
            "(redis://..., rediss://... or file:///DIRECTORY): set S2S_MESH_KEY_STORE to one, or leave it at "
            "'process'"
        )
    # also where the ring itself may lie open: whoever can write to the store could say whose keys are whose
    if not sealed:
        raise ConfigError(
            f"{named} is 'shared', and there is no key-encryption key to seal it with: set "
            "S2S_MESH_KEY_ENCRYPTION_KEY (`s2s-mesh init` prints a fresh one)"
        )
    return "shared"


def is_memory(url: str) -> bool:
    """Whether a key store of this URL is this process's memory."""
    return url.lower().startswith("memory:")
