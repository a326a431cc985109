"""What every door shares: deciding about a request, the log line of a refusal, our own documents.

A door turns a framework's request into `RequestFacts` and an answer of ours into the framework's; it holds
no rule of its own. `asgi.py` and each file under `integrations/` is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from email.utils import formatdate
from typing import Protocol
from urllib.parse import quote, unquote_to_bytes

import msgspec

from .certificates import ProxyField
from .claims import check_scopes
from .context import serving
from .drivers import drive, drive_async
from .errors import Forbidden, ProofRejected, Reason, TokenRejected
from .identity import Principal, ServiceId
from .inbound import Admitted, RequestFacts
from .log_fields import fields
from .refusal import Refusal
from .runtime import Runtime
from .wellknown import Answer, WellKnown

log: logging.Logger = logging.getLogger("s2s_mesh.access")
MARK = "s2s_mesh.service"
TWICE = (
    "this request already passed an s2s_mesh middleware: one per request path; use it on the outer "
    "application or on the mounted one, not on both"
)
UNPROTECTED = "require() needs the door of s2s_mesh: this request came by without passing it"


class Door(Protocol):
    """What a door needs of a `Service`."""

    @property
    def issuer(self) -> ServiceId:
        """The service's own id."""

    @property
    def well_known(self) -> WellKnown | None:
        """Our own documents; None for a service that only verifies."""

    @property
    def public_paths(self) -> frozenset[str]:
        """Exact paths that also let anonymous callers in."""

    @property
    def proxies(self) -> ProxyField | None:
        """The field in which proxies hand on their clients' certificates, or None."""

    @property
    def clock(self) -> Callable[[], float]:
        """Unix seconds."""

    def awake(self, now: float) -> Runtime:
        """The living parts in this process, started or woken if need be."""

    def serves_documents(self) -> None:
        """Say that this process answers for our own documents."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who was let in, and where. A door keeps it with the request, for `require`.

    Attributes:
        service: that decided.
        principal: the caller, or None for an anonymous one of a public path.
        method, path: for the log.
        fields: for the answer, beside the application's own: lower-case name, value.
    """

    service: Door
    principal: Principal | None
    method: str
    path: str
    fields: Sequence[tuple[str, str]] = ()

    def refused(self, wanted: Sequence[str]) -> Refusal | None:
        """The answer to a caller without one of these scopes, logged; None for one that has them all.

        Args:
            wanted: of `wanted_scopes`; none means any caller that is known.
        """
        if self.principal is None:
            return self._logged(nobody(self.service))
        for scope in wanted:
            if scope not in self.principal.scopes:
                return self._logged(missing_scope(self.service, self.principal, scope))
        return None

    def serving(self) -> AbstractContextManager[None]:
        """While the application works on the request: what `service.inbound_user` finds."""
        return serving(self.service, None if self.principal is None else self.principal.user)

    def _logged(self, refused: Refusal) -> Refusal:
        log_refusal(self.method, self.path, refused)
        return refused


def wanted_scopes(scopes: Sequence[str]) -> list[str]:
    """The arguments of a `require`, checked, in the order in which they are looked for.

    Raises:
        ConfigError: something that is no scope (RFC 6749 section 3.3).
    """
    return sorted(check_scopes(scopes)) if scopes else []


def decide(service: Door, facts: RequestFacts, path: str) -> Caller | Refusal:
    """Decide in this thread, which may wait for keys; a refusal is logged.

    Args:
        service: decides.
        facts: what its decision rests on.
        path: for the log.

    Raises:
        ConfigError: the policy is asynchronous.
    """
    now = service.clock()
    runtime = service.awake(now)
    outcome = runtime.inbound.admit(facts, now)
    if not isinstance(outcome, (Admitted, Refusal)):
        outcome = drive(outcome, runtime, service.clock)
    return _concluded(service, facts, path, outcome)


async def decide_async(service: Door, facts: RequestFacts, path: str) -> Caller | Refusal:
    """`decide` on the event loop, without blocking it."""
    now = service.clock()
    runtime = service.awake(now)
    outcome = runtime.inbound.admit(facts, now)
    if not isinstance(outcome, (Admitted, Refusal)):
        outcome = await drive_async(outcome, runtime, service.clock)
    return _concluded(service, facts, path, outcome)


def _concluded(
    service: Door, facts: RequestFacts, path: str, outcome: Admitted | Refusal
) -> Caller | Refusal:
    if isinstance(outcome, Refusal):
        log_refusal(facts.method, path, outcome)
        return outcome
    principal, method = outcome.principal, facts.method
    more: Sequence[tuple[str, str]] = ()
    if principal is not None and outcome.sunset is not None:
        more = (("sunset", warn_of_sunset(method, path, principal, outcome.sunset)),)
    return Caller(service=service, principal=principal, method=method, path=path, fields=more)


def foreign_field(service: Door, method: str, path: str) -> Refusal:
    """The answer, logged, to who says which certificate there was, and is no proxy of ours.

    For doors that cannot take the field out (`ProxyField.without_foreign`).
    """
    why = ProofRejected(Reason.CERTIFICATE_FIELD, "a field about a client certificate, from no proxy of ours")
    refused = service.awake(service.clock()).inbound.refused(why)
    log_refusal(method, path, refused)
    return refused


def nobody(service: Door) -> Refusal:
    """The full 401 for an anonymous caller of a public path, where the application wants somebody."""
    why = TokenRejected(Reason.NO_CREDENTIAL, "nobody, on a public path")
    return service.awake(service.clock()).inbound.refused(why)


def missing_scope(service: Door, principal: Principal | None, scope: str) -> Refusal:
    """The full 403 for a caller who lacks a scope that the application asked for."""
    caller = None if principal is None else principal.issuer
    why = Forbidden(Reason.MISSING_SCOPE, f"{caller or 'anonymous'} lacks {scope}", scope=scope)
    return service.awake(service.clock()).inbound.refused(why, caller=caller)


def document_at(service: Door, method: str, path: str) -> str | None:
    """Which of our own documents is asked for; they are public whatever credentials come along.

    Args:
        service: whose documents.
        method: of the request.
        path: decoded, below what the application is mounted at.
    """
    well_known = service.well_known
    if "/.well-known/" not in path or well_known is None or method not in ("GET", "HEAD"):
        return None
    return well_known.document_at(path)


def answer_document(service: Door, document: str, method: str, if_none_match: str | None) -> Answer:
    """Answer for one of our own documents from the ring in memory; wakes the housekeeper if there is none."""
    well_known, now = service.well_known, service.clock()
    assert well_known is not None  # noqa: S101 - only services with keys have these routes
    runtime = service.awake(now)
    return well_known.answer(document, runtime.ring, now, method=method, if_none_match=if_none_match)


def path_of_target(target: bytes, decoded: bytes) -> bytes:
    """The path of a request target as sent; empty, which no rule lets in, if the server read another one.

    Args:
        target: of the request line, in origin or absolute form (RFC 9112 section 3.2).
        decoded: the path that the server handed to the application.
    """
    path = target.partition(b"?")[0]
    if not path.startswith(b"/"):
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return path if unquote_to_bytes(path) == decoded else b""


def log_refusal(method: str, path: str, refused: Refusal) -> None:
    """Say why, for the operator, under the id that the caller was given.

    Args:
        method, path: of the request; the path decoded.
        refused: what the caller gets.
    """
    # nobody who merely knocks without a credential should fill the log
    level = logging.INFO if refused.reason is Reason.NO_CREDENTIAL else logging.WARNING
    log.log(
        level,
        "refused %s %s: %s: %s [claimed issuer %s, request %s]",
        method,
        quote(path),
        refused.reason.value,
        refused.detail,
        refused.claimed_issuer,
        refused.request_id,
        extra=fields(
            "refused",
            reason=refused.reason.value,
            status=refused.status,
            claimed_issuer=refused.claimed_issuer,
            request_id=refused.request_id,
        ),
    )


def warn_of_sunset(method: str, path: str, principal: Principal, ends_at: float) -> str:
    """Say that an old credential was used, for the operator; the Sunset field for the caller (RFC 8594).

    No Deprecation field (RFC 9745): its value is the day on which that began, which no [[legacy]] row says.

    Args:
        method, path: of the request; the path decoded.
        principal: the caller.
        ends_at: Unix seconds.
    """
    sunset = formatdate(ends_at, usegmt=True)
    log.warning(
        "%s used an old credential, which ends at %s: %s %s",
        principal.issuer,
        sunset,
        method,
        quote(path),
        extra=fields(
            "old_credential",
            issuer=principal.issuer,
            audience=principal.audience,
            credential=principal.credential,
        ),
    )
    return sunset
