"""From the facts of a request to `Admitted` or `Refusal`: the one place every framework calls."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import msgspec

from . import bearer, evidence, once, proof, refusal
from .effects import Answer, AskPolicy, Effect
from .errors import Forbidden, ProofRejected, Reason, TokenRejected, Unavailable
from .identity import Principal
from .policy import Policy, ask, enforce
from .refusal import Refusal
from .routes import RouteTable, external_path
from .trust import RouteRule, TrustConfig
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
    """

    headers: Sequence[tuple[bytes, bytes]] = ()
    method: str = "GET"
    raw_path: bytes = b"/"
    query: bytes = b""
    public: bool = False


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """The request may pass. `principal` is None for an anonymous caller of a public path."""

    principal: Principal | None


class _Routes(msgspec.Struct, frozen=True):
    """The route rules of one trust file, by audience.

    Attributes:
        trust: the file.
        tables: by audience.
        proof: whether a rule wants proof.
        fields: whether a rule wants any field beside Authorization.
        open: whether nothing is asked beyond a good token, neither by a rule nor by the policy.
    """

    trust: TrustConfig
    tables: dict[str, RouteTable[RouteRule]]
    proof: bool
    fields: bool
    open: bool

    @classmethod
    def of(cls, trust: TrustConfig, policy: Policy | None) -> _Routes:
        proof = any(rule.proof == _WPT for rule in trust.routes)
        fields = proof or any(rule.user in _PROVED for rule in trust.routes)
        return cls(trust, _tables(trust), proof, fields, policy is None and not trust.routes)


InboundFlow = Generator[Effect, Answer, "Admitted | Refusal"]
CallerFlow = Generator[Effect, Answer, Principal]
RequestLine = tuple[str, str] | None  # method, and the external path as sent, without the query
_ONCE = "once"
_WPT = "wpt"
_PROVED = frozenset({"proven", "txn"})  # what a route wants of a user that needs evidence beside the token


class Inbound:
    """Decides about requests to one service.

    Args:
        verifier: knows tokens; its `trust` also names the route rules.
        realm: named in challenges; the service's own id.
        policy: asked last, or None.
    """

    def __init__(self, verifier: Verifier, *, realm: str, policy: Policy | None = None) -> None:
        self._verifier = verifier
        self._realm = realm
        self._policy = policy
        self._routes = _Routes.of(verifier.trust, policy)

    @property
    def wants_proof(self) -> bool:
        """Whether a route wants proof of possession."""
        return self._current_routes().proof

    def admit(self, facts: RequestFacts, now: float) -> Admitted | Refusal | InboundFlow:
        """Decide. Refuses, never raises, whatever the caller sent.

        At once where the one credential is a token that was verified before and no policy is asked; else by
        a flow, as `Verifier.verify` is one.
        """
        routes = self._current_routes()
        authorization = [value for name, value in facts.headers if name == b"authorization"]
        fields = [field for field in facts.headers if proof.is_field(field[0])] if routes.fields else []
        token = None if fields else bearer.plain(authorization, facts.query)
        digest = None
        if token is not None:
            digest = digest_of(token)
            known = self._verifier.recall(digest, now)
            if known is not None:
                answer = Admitted(known) if routes.open else self._admit_known(facts, known, now)
                if answer is not None:
                    return answer
        return self._decide(facts, authorization, fields, token, digest, now)

    def _admit_known(
        self, facts: RequestFacts, known: Principal, now: float
    ) -> Admitted | Refusal | InboundFlow | None:
        """The answer to a token that was verified before; None where the route wants it verified anew."""
        try:
            rule = self.check_route(facts, known)
        except Forbidden as why:
            return self.forbidden(why, caller=known.issuer)
        if rule is not None and (rule.replay == _ONCE or rule.proof == _WPT or rule.user in _PROVED):
            return None
        if self._policy is None or facts.public:
            return Admitted(known)
        return self._admit_by_policy(self._policy, facts, known, now)

    def _admit_by_policy(
        self, policy: Policy, facts: RequestFacts, known: Principal, now: float
    ) -> InboundFlow:
        try:
            yield from _obey(policy, facts, known, now)
        except Forbidden as why:
            return self.forbidden(why, caller=known.issuer)
        except Unavailable as why:
            return refusal.unavailable(why)
        return Admitted(known)

    def _decide(
        self,
        facts: RequestFacts,
        authorization: Sequence[bytes],
        fields: Sequence[tuple[bytes, bytes]],
        token: bytes | None,
        digest: Digest | None,
        now: float,
    ) -> InboundFlow:
        try:
            shown = proof.presented(fields) if fields else None
            if token is None:
                token = bearer.presented(authorization, facts.query)
            if token is None:
                if shown is not None:
                    raise ProofRejected(Reason.PROOF_FIELDS, "a proof without the access token it belongs to")
                if facts.public:
                    return Admitted(None)
                raise TokenRejected(Reason.NO_CREDENTIAL, "no bearer token in the Authorization field")
            # beside a proof it may be bound, and is verified anew; beside a user's evidence it need not be
            known = self._verifier.cached(token, now) if fields and shown is None else None
            principal = known or (
                yield from self._verifier.verify(token, now, with_proof=shown is not None, digest=digest)
            )
            proved = None
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
            if self._current_routes().open:
                return Admitted(principal)
            try:
                principal = yield from self.authorize(facts, principal, now, proved, fields)
            except Forbidden as why:
                return self.forbidden(why, caller=principal.issuer)
        except TokenRejected as why:
            return refusal.of_token(
                why if token is None else bearer.of_the_field(why, token), realm=self._realm
            )
        except Unavailable as why:
            return refusal.unavailable(why)
        return Admitted(principal)

    def authorize(
        self,
        facts: RequestFacts,
        principal: Principal,
        now: float,
        proved: Any = None,
        fields: Sequence[tuple[bytes, bytes]] = (),
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
        if rule is not None and rule.user in _PROVED:
            user = yield from evidence.verify(
                self._verifier, rule.user, fields=fields, principal=principal, now=now
            )
            principal = msgspec.structs.replace(principal, user=user)
        if self._policy is not None and not facts.public:
            yield from _obey(self._policy, facts, principal, now)
        # last, so that nothing is used up by a request that is refused anyway
        if proved is not None:
            yield from once.use_proof(principal, proved, now=now, leeway=self._leeway(principal))
        if rule is not None and rule.replay == _ONCE:
            yield from once.use_token(principal, now=now, leeway=self._leeway(principal))
        return principal

    def verify(self, token: bytes, now: float, request: RequestLine) -> CallerFlow:
        """Verify a token and, where a method and an external path are given, `authorize`; a flow.

        Raises:
            TokenRejected, Forbidden, Unavailable: as `Verifier.verify` and `authorize`.
        """
        known = None if request is None else self._verifier.cached(token, now)
        principal = known or (yield from self._verifier.verify(token, now))
        if request is not None:
            method, path = request
            # what is not ASCII turns into "?", which no path holds
            facts = RequestFacts(method=method, raw_path=path.encode("ascii", "replace"))
            principal = yield from self.authorize(facts, principal, now)
        return principal

    def forbidden(self, why: Forbidden, *, caller: str | None = None) -> Refusal:
        """The 403 for a caller that is known; see `refusal.forbidden`."""
        return refusal.forbidden(why, realm=self._realm, caller=caller)

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
        path = external_path(facts.raw_path)
        if path is None:
            raise Forbidden(Reason.BAD_PATH, "the path has forms that routers read differently")
        table = routes.tables.get(principal.audience)
        rule = None if table is None else table.find(facts.method, path)
        if rule is None:
            raise Forbidden(
                Reason.NO_ROUTE_RULE, f"no [[route]] row for {facts.method} at {principal.audience}"
            )
        missing = rule.scopes - principal.scopes
        if missing:
            raise Forbidden(
                Reason.MISSING_SCOPE,
                f"{principal.issuer} lacks {' '.join(sorted(missing))} on {rule.path}",
                scope=" ".join(sorted(rule.scopes)),
            )
        if (rule.user == "none") is not (principal.user is None):
            raise _wrong_user(rule, principal)
        return rule

    def _leeway(self, principal: Principal) -> float:
        return self._verifier.rules(principal.issuer).leeway

    def _current_routes(self) -> _Routes:
        routes = self._routes
        if routes.trust is not self._verifier.trust:
            routes = self._routes = _Routes.of(self._verifier.trust, self._policy)
        return routes


def check_bound(rule: RouteRule | None, principal: Principal) -> None:
    """Refuse a plain bearer token on a route that wants proof; a bound one has been proved by now.

    Raises:
        TokenRejected: `PROOF_MISSING`.
    """
    if rule is not None and rule.proof == _WPT and "cnf" not in principal.claims:
        raise TokenRejected(
            Reason.PROOF_MISSING, f"{rule.path} wants a bound token with its proof"
        ).claimed_by(principal.issuer)


def _obey(
    policy: Policy, facts: RequestFacts, principal: Principal, now: float
) -> Generator[Effect, Answer, None]:
    said = ask(policy, facts.method, facts.raw_path, principal, now)
    enforce((yield said).result if isinstance(said, AskPolicy) else said, principal)


def _wrong_user(rule: RouteRule, principal: Principal) -> Forbidden:
    if principal.user is None:
        return Forbidden(Reason.USER_REQUIRED, f"{rule.path} wants a user; {principal.issuer} calls for none")
    return Forbidden(
        Reason.USER_NOT_ACCEPTED, f"{rule.path} wants no user; {principal.issuer} calls on behalf of one"
    )


def _tables(trust: TrustConfig) -> dict[str, RouteTable[RouteRule]]:
    audiences = {rule.audience for rule in trust.routes}
    return {
        audience: RouteTable(rule for rule in trust.routes if rule.audience == audience)
        for audience in audiences
    }
