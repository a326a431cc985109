"""From the facts of a request to `Admitted` or `Refusal`: the one place every framework calls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import msgspec

from . import bearer, evidence, legacy, once, proof, refusal
from .certificates import Peer, ProxyField, nobody, thumbprint_of
from .effects import Answer, AskPolicy, Effect
from .errors import Forbidden, ProofRejected, Reason, TokenRejected, Unavailable
from .identity import Principal
from .legacy import LegacyRows, OldCredential
from .migration_use import Tally
from .policy import Policy, ask, enforce
from .refusal import Refusal
from .route_rules import BOUND, ONCE, PROVED, Field, RouteRules, check_bound
from .trust import RouteRule
from .verified_cache import Digest, digest_of
from .verifier import Verifier


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the decision about a request rests on.

    Attributes:
        headers: every field line, in order: lower-case name, value.
        method: upper case.
        raw_path: the external path as sent, percent-encoded, without the query.
        query: the query as sent, without "?".
        public: whether the application lets anonymous callers in here.
        connection, look: who the peer is, as `look(connection)`; asked only where that matters.
    """

    headers: Sequence[Field] = ()
    method: str = "GET"
    raw_path: bytes = b"/"
    query: bytes = b""
    public: bool = False
    connection: Any = None
    look: Callable[[Any], Peer] = nobody

    @property
    def peer(self) -> Peer:
        """Who is at the other end of the connection."""
        return self.look(self.connection)


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """The request may pass.

    Attributes:
        principal: the caller, or None for an anonymous one of a public path.
        sunset: the caller used an old credential and should no longer: Unix seconds at which that ends.
    """

    principal: Principal | None
    sunset: float | None = None


InboundFlow = Generator[Effect, Answer, "Admitted | Refusal"]
CallerFlow = Generator[Effect, Answer, Principal]
RequestLine = tuple[str, str] | None  # method, and the external path as sent, without the query


class Inbound:
    """Decides about requests to one service.

    Args:
        verifier: knows tokens; its `trust` also names the route rules.
        realm: named in challenges; the service's own id.
        policy: asked last, or None.
        tally: counts the callers that have a [[legacy]] row.
        proxies: hand on their clients' certificates; None where the TLS connections of clients end here.

    Attributes:
        cached: `Verifier.cached`.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        realm: str,
        policy: Policy | None = None,
        tally: Tally | None = None,
        proxies: ProxyField | None = None,
    ) -> None:
        self._verifier = verifier
        self._proxies = proxies
        self.cached: Callable[[bytes, float], Principal | None] = verifier.cached
        self._realm = realm
        self._policy = policy
        self._tally = tally or Tally()
        self._routes = RouteRules.of(verifier.trust, policy)

    @property
    def wants_proof(self) -> bool:
        """Whether a route wants proof of possession."""
        return self._current_routes().proof

    def admit(self, facts: RequestFacts, now: float) -> Admitted | Refusal | InboundFlow:
        """Decide. Refuses, never raises, whatever the caller sent.

        At once where the one credential is a token that was verified before and no policy is asked; else by
        a flow, as `Verifier.verify` is one.
        """
        if self._proxies is not None:
            try:
                self._proxies.check(facts.headers, facts.peer.address)
            except TokenRejected as why:
                return refusal.of_token(why, realm=self._realm)
        routes = self._current_routes()
        authorization = [value for name, value in facts.headers if name == b"authorization"]
        fields = routes.pick(facts.headers) if routes.fields else []
        token = None if fields else bearer.plain(authorization, facts.query)
        digest = None
        if token is not None:
            digest = digest_of(token)
            known = self._verifier.recall(digest, now)
            if known is not None:
                answer = Admitted(known) if routes.open else self._admit_known(facts, routes, known, now)
                if answer is not None:
                    return answer
        return self._decide(facts, routes, authorization, fields, token, digest, now)

    def _admit_known(
        self, facts: RequestFacts, routes: RouteRules, known: Principal, now: float
    ) -> Admitted | Refusal | InboundFlow | None:
        """The answer to a token that was verified before; None where the route wants it verified anew."""
        try:
            rule = self.check_route(facts, known)
        except Forbidden as why:
            return self._forbidden(why, known)
        if rule is not None and (rule.replay == ONCE or rule.proof in BOUND or rule.user in PROVED):
            return None
        if routes.legacy is not None:
            routes.legacy.note(self._tally, known, now)
        if self._policy is None or facts.public:
            return Admitted(known)
        return self._admit_by_policy(self._policy, facts, known, now)

    def _admit_by_policy(
        self, policy: Policy, facts: RequestFacts, known: Principal, now: float
    ) -> InboundFlow:
        try:
            yield from _obey(policy, facts, known, now)
        except Forbidden as why:
            return self._forbidden(why, known)
        except Unavailable as why:
            return refusal.unavailable(why)
        return Admitted(known)

    def _decide(
        self,
        facts: RequestFacts,
        routes: RouteRules,
        authorization: Sequence[bytes],
        fields: Sequence[Field],
        token: bytes | None,
        digest: Digest | None,
        now: float,
    ) -> InboundFlow:
        old = principal = proved = sunset = None
        rows, beside = routes.legacy, bool(fields)
        try:
            old_fields = [] if rows is None else [field for field in fields if field[0] in rows.fields]
            fields = [field for field in fields if field not in old_fields] if old_fields else fields
            shown = proof.presented(fields) if fields else None
            if token is None:
                token = bearer.presented(authorization, facts.query, others=bool(old_fields))
            if rows is not None:
                token, old = rows.presented(authorization, old_fields, token)
            if token is not None:
                # beside a proof it may be bound, and is verified anew; beside anything else it need not be
                digest = digest or digest_of(token)
                known = self._verifier.recall(digest, now) if beside and shown is None else None
                principal = known or (
                    yield from self._verifier.verify(
                        token,
                        now,
                        with_proof=shown is not None,
                        certificate=partial(self._certificate, facts),
                        digest=digest,
                    )
                )
                if shown is not None:
                    proved = yield from proof.verify(
                        self._verifier,
                        shown,
                        method=facts.method,
                        raw_path=facts.raw_path,
                        access_token=token,
                        principal=principal,
                        now=now,
                    )
            elif shown is not None:
                raise ProofRejected(Reason.PROOF_FIELDS, "a proof without the access token it belongs to")
            if rows is not None:
                principal, sunset = yield from self._migrate(rows, old, principal, now)
            if principal is None:
                if facts.public:
                    return Admitted(None)
                raise TokenRejected(Reason.NO_CREDENTIAL, "no bearer token in the Authorization field")
            if self._current_routes().open:
                return Admitted(principal, sunset)
            try:
                principal = yield from self.authorize(facts, principal, now, proved, fields)
            except Forbidden as why:
                return self._forbidden(why, principal)
        except TokenRejected as why:
            why = why if token is None else bearer.of_the_field(why, token)
            basic = rows is not None and rows.basic_is_live(now)
            return refusal.of_token(why, realm=self._realm, basic=basic)
        except Unavailable as why:
            return refusal.unavailable(why)
        return Admitted(principal, sunset)

    def _certificate(self, facts: RequestFacts) -> str:
        """The thumbprint of the client's certificate; raises as `ProxyField.thumbprint`."""
        if self._proxies is None:
            return thumbprint_of(facts.peer)
        # only what proxies say: the connection's own certificate is theirs
        return self._proxies.thumbprint(facts.headers, facts.peer.address)

    def _migrate(
        self, rows: LegacyRows, old: OldCredential | None, principal: Principal | None, now: float
    ) -> Generator[Effect, Answer, tuple[Principal | None, float | None]]:
        """Who calls, by an old credential too; and when that ends, if the caller shall know."""
        if principal is not None:
            rows.note(self._tally, principal, now)
        if old is None:
            return principal, None
        rule = yield from rows.authenticate(old)
        legacy.check_same(rule, principal)
        self._tally.note(rule.issuer, rule.audience, rule.way, now)
        legacy.check_stage(rule, now)
        yield from self._verifier.check_denied(rule.issuer, now)
        return principal or rows.principal(rule), rule.ends_at if rule.stage == "prefer" else None

    def authorize(
        self,
        facts: RequestFacts,
        principal: Principal,
        now: float,
        proved: Any = None,
        fields: Sequence[Field] = (),
    ) -> CallerFlow:
        """Whether a known caller may do this: route rule, scopes, user, policy; then what is once is used up.

        A flow, as `admit` is one; the caller, with the user as the route wants to know it.

        Raises:
            Forbidden: it may not.
            TokenRejected: a proof is missing, or the token or its proof was used before.
            Unavailable: the policy, or who remembers what was used, cannot tell just now.
        """
        rule = self.check_route(facts, principal)
        check_bound(rule, principal)
        if rule is not None and rule.user in PROVED:
            principal = yield from evidence.verify(
                self._verifier, rule, fields=fields, principal=principal, now=now
            )
        if self._policy is not None and not facts.public:
            yield from _obey(self._policy, facts, principal, now)
        # last, so that nothing is used up by a request that is refused anyway
        if proved is not None:
            yield from once.use_proof(principal, proved, now=now, leeway=self._leeway(principal))
        if rule is not None and rule.replay == ONCE:
            yield from once.use_token(principal, now=now, leeway=self._leeway(principal))
        return principal

    def verify(self, token: bytes, now: float, request: RequestLine) -> CallerFlow:
        """Verify a token and, where a method and an external path are given, `authorize`; a flow.

        Raises:
            TokenRejected, Forbidden, Unavailable: as `Verifier.verify` and `authorize`.
        """
        digest = digest_of(token)
        known = None if request is None else self._verifier.recall(digest, now)
        principal = known or (yield from self._verifier.verify(token, now, digest=digest))
        if request is not None:
            method, path = request
            # what is not ASCII turns into "?", which no path holds
            facts = RequestFacts(method=method, raw_path=path.encode("ascii", "replace"))
            try:
                principal = yield from self.authorize(facts, principal, now)
            except Forbidden as why:
                why.caller = principal.issuer
                raise
        return principal

    def refused(self, why: Forbidden | TokenRejected, *, caller: str | None = None) -> Refusal:
        """The answer to what a door found beside `admit`; `caller` as in `refusal.forbidden`."""
        if isinstance(why, TokenRejected):
            return refusal.of_token(why, realm=self._realm)
        return refusal.forbidden(why, realm=self._realm, caller=caller)

    def _forbidden(self, why: Forbidden, caller: Principal) -> Refusal:
        return refusal.forbidden(why, realm=self._realm, caller=caller.issuer)

    def check_route(self, facts: RequestFacts, principal: Principal) -> RouteRule | None:
        """The rule that a known caller meets; None where routes have none (or need none: `facts.public`).

        Only `method`, `raw_path` and `public` are looked at.

        Raises:
            Forbidden: no rule, a scope is missing, or a user is, or is not wanted.
        """
        routes = self._current_routes()
        # An alias without rules of its own is no way around the rules of the other names.
        if not routes.tables or facts.public:
            return None
        return routes.rule_for(facts.method, facts.raw_path, principal)

    def _leeway(self, principal: Principal) -> float:
        return self._verifier.leeway(principal)

    def _current_routes(self) -> RouteRules:
        routes = self._routes
        if routes.trust is not self._verifier.trust:
            routes = self._routes = RouteRules.of(self._verifier.trust, self._policy)
        return routes


def _obey(
    policy: Policy, facts: RequestFacts, principal: Principal, now: float
) -> Generator[Effect, Answer, None]:
    said = ask(policy, facts.method, facts.raw_path, principal, now)
    enforce((yield said).result if isinstance(said, AskPolicy) else said, principal)
