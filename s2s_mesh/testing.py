"""For tests of your own, never for production: fake issuers that sign real tokens, without network or Redis.

`Mesh` is the pytest fixture `mesh` of this package; docs/testing.md. Beside it, `KeyStoreConformance` is what
a `KeyStore` must pass: subclass it, override `make_store`, run pytest.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from . import claims as claims_
from . import jws
from .claims import check_scopes
from .errors import ConfigError, Reason
from .fake_callers import Caller, bearer
from .fake_keys import fake_key, published, signed
from .identity import EndUser, ServiceId
from .jwks import JWKSet
from .jwks_fetch import Fetched
from .movable_clock import MovableClock
from .refusal_log import RefusalLog, Refused, request_id, status_of
from .service import Service
from .signer import TokenKind
from .store.conformance import KeyStoreConformance
from .trust import TrustConfig
from .trust_issuers import Accepted
from .users import check as check_user
from .users import evidence_fields

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Caller", "KeyStoreConformance", "Mesh", "MovableClock", "Refused", "bearer"]

log: logging.Logger = logging.getLogger("s2s_mesh.testing")
_LIFE = claims_.DEFAULT_LIFE
_TYPE = TokenKind.SERVICE.typ
_TYPES = frozenset({_TYPE})
_LONG_AGO = 7200  # seconds; no leeway reaches that far
_NOBODY = "https://nobody.invalid"
# what of a service is another while it accepts fake issuers
_EXCHANGED = ("settings", "clock", "_store", "_fetch", "_runtime")


class Mesh:
    """Fake issuers, and services that accept them. Use it as a context manager: the end undoes everything.

    Every service id is a fake issuer as soon as it is named; who of them may call whom is decided by the
    trust of each service, as ever. Nothing is written to disk, nothing is sent, nothing global is patched;
    the logger `s2s_mesh.access` is listened to meanwhile.

    Attributes:
        clock: of all services and tokens.
    """

    def __init__(self) -> None:
        self.clock: MovableClock = MovableClock()
        self._services: dict[str, Service] = {}
        self._made: list[Service] = []
        self._log = RefusalLog()

    def __enter__(self) -> Self:
        self._log.open()
        return self

    def __exit__(self, *_: object) -> None:
        for service in self._made:
            _stop(service)
        self._made.clear()
        self._services.clear()
        self._log.close()

    # -- services ----------------------------------------------------------------------------------------

    def trust(
        self, audience: str, callers: Mapping[str, Collection[str]], *, may_act_for: Collection[str] = ()
    ) -> TrustConfig:
        """A trust file without the file.

        Args:
            audience: the service that is called.
            callers: the scopes of each service that may call it.
            may_act_for: identity providers whose users all of them may carry.

        Raises:
            TrustFileError: as for a file.
        """
        lines = ["version = 1", "[defaults]", "allow_loopback_http = true"]
        for issuer, scopes in callers.items():
            row = {"issuer": issuer, "audience": audience, "scopes": list(scopes)}
            row["may_act_for"] = list(may_act_for)
            lines += ["[[allow]]", *(f"{name} = {json.dumps(value)}" for name, value in row.items())]
        return TrustConfig.parse("\n".join(lines), source="mesh.trust()")

    def service(
        self,
        issuer: str,
        *,
        trust: TrustConfig | str | os.PathLike[str] | None = None,
        callers: Mapping[str, Collection[str]] | None = None,
        **options: Any,
    ) -> Service:
        """A real `Service` that accepts the fake issuers, with a ring in memory; stopped at the end.

        Args:
            issuer: its id.
            trust: who may call it, such as the path of the trust file that you deploy.
            callers: the same in short: the scopes of each service that may call it.
            options: of `Service`.

        Raises:
            ConfigError: as `Service`; or both of `trust` and `callers`.
        """
        if trust is not None and callers is not None:
            raise ConfigError("give trust or callers, not both")
        chosen = self.trust(issuer, callers or {}) if trust is None else trust
        service = Service(**{"issuer": issuer, "trust": chosen, "key_store": "memory://", **options})
        service.clock, service._fetch = self.clock, self._fetch
        self._made.append(service)
        self._services.update(dict.fromkeys(service.settings.audiences, service))
        return service

    @contextmanager
    def accept_fake_issuers(self, service: Service) -> Iterator[Service]:
        """Let the service of your application accept the fake issuers for a while. For tests only.

        Anybody who holds this object can then be anybody. There is no setting for it, in no file and no
        environment. Its trust, policy and public paths stay as they are; its ring is in memory meanwhile, and
        neither its key store nor any issuer is asked.
        """
        log.warning("%s accepts fake issuers from now on: this is for tests only", service.issuer)
        before = _exchange(service, {**self._test_parts(service), "_runtime": None})
        known = dict(self._services)
        self._services.update(dict.fromkeys(service.settings.audiences, service))
        try:
            yield service
        finally:
            self._services = known
            meanwhile = _exchange(service, before)["_runtime"]
            if meanwhile is not None:
                meanwhile.stop()

    def _test_parts(self, service: Service) -> dict[str, Any]:
        store = None if service.settings.key_store is None else "memory://"
        settings = msgspec.structs.replace(
            service.settings, key_store=store, key_encryption_keys=(), jwks_cache="process"
        )
        store_object = settings.open_key_store()
        return dict(zip(_EXCHANGED, (settings, self.clock, store_object, self._fetch), strict=False))

    def _fetch(self, source: Accepted, *, etag: str | None, no_cache: bool) -> Fetched:  # noqa: ARG002
        """What an issuer would answer: the fake one's key, and those of its `Service` if it has one here."""
        keys = [published(source)]
        service = self._services.get(source.issuer)
        if service is not None and service.well_known is not None:
            keys += service.running().load_ring().jwks(self.clock()).keys.values()
        return Fetched(JWKSet(keys), None, None)

    # -- tokens ------------------------------------------------------------------------------------------

    def token(
        self,
        issuer: str,
        *,
        audience: str | None = None,
        scopes: Collection[str] | None = None,
        user: EndUser | None = None,
        **claims: Any,
    ) -> str:
        """A real token of a fake issuer.

        Args:
            issuer: who calls.
            audience: the service that is called; may be left out while there is only one here.
            scopes: what to ask for; None asks for all that is granted.
            user: on whose behalf.
            claims: laid over those, whatever they say.

        Raises:
            ConfigError: no service id, no scope, or no audience.
            UserExpired: what is known of the user has expired.
        """
        name, now = ServiceId.parse(issuer, allow_loopback_http=True), self.clock()
        to = self._audience(audience)
        members = claims_.build(
            issuer=name,
            audience=to,
            scopes=None if scopes is None else check_scopes(scopes),
            now=now,
            life=_LIFE,
            user=None if user is None else check_user(user, now),
        )
        trust = self._trust_of(to)
        return signed(name, None if trust is None else trust.issuers.get(name), _TYPE, {**members, **claims})

    def user_token(self, provider: str, subject: str, *, audience: str | None = None, **claims: Any) -> str:
        """A user's own token, as an identity provider makes it: for `verify_user` and `EndUser`.

        Args:
            provider: as `[user_issuers]` has it.
            subject: the user.
            audience: the service that it is made out to; may be left out while there is only one here.
            claims: laid over those, whatever they say.
        """
        to, now = self._audience(audience), int(self.clock())
        members = {"iss": provider, "sub": subject, "aud": to, "iat": now, "exp": now + _LIFE}
        trust = self._trust_of(to)
        known = None if trust is None else trust.user_issuers.get(provider)
        return signed(provider, known, "JWT", {**members, **claims})

    def foreign_token(
        self, issuer: str, subject: str, *, audience: str | None = None, typ: str | None = None, **claims: Any
    ) -> str:
        """A token of a foreign issuer, which vouches for a service of the trust file.

        Args:
            issuer: as `[foreign_issuers]` has it.
            subject: as a `[[subject]]` row has it.
            audience: the service that it is made out to; may be left out while there is only one here.
            typ: its type; None for one that the trust file accepts.
            claims: laid over the others, whatever they say.
        """
        to, now = self._audience(audience), int(self.clock())
        members = {"iss": issuer, "sub": subject, "aud": to, "iat": now, "exp": now + _LIFE}
        trust = self._trust_of(to)
        known = None if trust is None else trust.foreign_issuers.get(issuer)
        kind = typ or min(_TYPES if known is None else known.types)
        return signed(issuer, known, kind, {**members, "jti": claims_.new_token_id(), **claims})

    def headers(self, issuer: str, **wanted: Any) -> dict[str, str]:
        """Header fields with a new token, and the user's own; the arguments are those of `token`."""
        user: EndUser | None = wanted.get("user")
        return {**bearer(self.token(issuer, **wanted)), **evidence_fields(user)}

    def as_caller(
        self,
        issuer: str,
        *,
        audience: str | None = None,
        scopes: Collection[str] | None = None,
        user: EndUser | None = None,
    ) -> Caller:
        """An `auth=` that puts a new token on each request; its `headers` suit all other clients."""
        return Caller(self, issuer, audience=audience, scopes=scopes, user=user)

    def expired(self, issuer: str, **wanted: Any) -> str:
        """A token that expired two hours ago: `Reason.EXPIRED`."""
        ended = int(self.clock()) - _LONG_AGO
        return self.token(issuer, **{"iat": ended - _LIFE, "exp": ended, **wanted})

    def for_other_audience(self, issuer: str, **wanted: Any) -> str:
        """A token that was made out to somebody else: `Reason.WRONG_AUDIENCE`."""
        return self.token(issuer, **{**wanted, "aud": _NOBODY})

    def forged(self, issuer: str, **wanted: Any) -> str:
        """A token that names the issuer's key and is signed with another: `Reason.BAD_SIGNATURE`."""
        decoded = jws.decode(self.token(issuer, **wanted).encode())
        signature = fake_key(_NOBODY, decoded.header.alg).sign(decoded.signing_input)
        return (decoded.signing_input + b"." + jws.b64url_encode(signature)).decode()

    def _audience(self, audience: str | None) -> ServiceId:
        if audience is not None:
            return ServiceId.parse(audience, allow_loopback_http=True)
        found = {service.issuer for service in self._services.values()}
        if len(found) != 1:
            raise ConfigError(f"there are {len(found)} services here: name the audience of the token")
        return found.pop()

    def _trust_of(self, audience: str) -> TrustConfig | None:
        service = self._services.get(audience)
        return None if service is None else service.settings.trusted

    # -- verdicts ----------------------------------------------------------------------------------------

    @property
    def refusals(self) -> tuple[Refused, ...]:
        """Every refusal so far; for what is no response, such as a refused websocket."""
        return tuple(self._log.refusals)

    def assert_allowed(self, response: object) -> None:
        """Fail, with the reason, unless the status is below 400."""
        if status_of(response) >= 400:
            raise AssertionError(f"not allowed: {self._described(response)}")

    def assert_refused(self, response: object, reason: Reason | str | None = None) -> Reason:
        """Fail unless a service here refused it, and for this reason; returns the reason."""
        found = self._log.of(response)
        if found is None:
            raise AssertionError(f"not refused by the mesh: {self._described(response)}")
        if reason is not None and found.reason is not Reason(reason):
            raise AssertionError(f"expected {Reason(reason).value}, but {found.message}")
        return found.reason

    def _described(self, response: object) -> str:
        status, found = status_of(response), self._log.of(response)
        if found is not None:
            return f"{status}: {found.message}"
        named = request_id(response)
        if named is None:
            return f"{status}, an answer of the application"
        return f"{status} with request id {named}, which is not in the log: is s2s_mesh.access disabled?"


def _exchange(service: Service, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Give a service other parts; returns those that it had."""
    with service._lock:
        before = {name: getattr(service, name) for name in _EXCHANGED}
        for name, part in parts.items():
            setattr(service, name, part)
    return before


def _stop(service: Service) -> None:
    runtime = _exchange(service, {"_runtime": None})["_runtime"]
    if runtime is not None:
        runtime.stop()
