"""From the facts of a request to `Admitted` or `Refusal`: the one place every framework calls."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from . import once, proof, refusal
from .effects import Answer, AskPolicy, Effect
from .errors import Forbidden, ProofRejected, Reason, TokenRejected, Unavailable
from .identity import Principal
from .jws import MAX_TOKEN
from .policy import Policy, ask, enforce
from .refusal import Refusal
from .routes import RouteTable, external_path
from .trust import RouteRule, TrustConfig
from .verifier import Verifier

_TOKEN68 = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LONGEST = len("Bearer ") + MAX_TOKEN  # what is longer is not worth a digest


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision about a request rests on.

    Attributes:
        authorization: every Authorization field line, in order, as bytes.
        method: upper case.
        raw_path: the external path as sent, percent-encoded, without the query.
        query: the query as sent, without "?".
        public: whether the application lets anonymous callers in here.
        proof_fields: every field line for which `proof.is_field` holds, lower-case name and value; needed
            only while `Inbound.wants_proof`.
    """

    authorization: Sequence[bytes]
    method: str = "GET"
    raw_path: bytes = b"/"
    query: bytes = b""
    public: bool = False
    proof_fields: Sequence[tuple[bytes, bytes]] = ()


class Admitted(msgspec.Struct, frozen=True):
    """The request may pass. `principal` is None for an anonymous caller of a public path."""

    principal: Principal | None


class _Routes(msgspec.Struct, frozen=True):
    """The route rules of one trust file, by audience, and whether one of them wants proof."""

    trust: TrustConfig
    tables: dict[str, RouteTable[RouteRule]]
    proof: bool

    @classmethod
    def of(cls, trust: TrustConfig) -> _Routes:
        return cls(trust, _tables(trust), any(rule.proof == _WPT for rule in trust.routes))


InboundFlow = Generator[Effect, Answer, "Admitted | Refusal"]
CallerFlow = Generator[Effect, Answer, Principal]
RequestLine = tuple[str, str] | None  # method, and the external path as sent, without the query
_ONCE = "once"
_WPT = "wpt"


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
        self._routes = _Routes.of(verifier.trust)

    @property
    def wants_proof(self) -> bool:
        """Whether a route wants proof, so that requests must be looked at for it."""
        return self._current_routes().proof

    def admit_cached(self, facts: RequestFacts, now: float) -> Admitted | Refusal | InboundFlow | None:
        """The answer, if the one credential is a token that was verified before; None means: ask `admit`.

        A flow, as `admit` is one, where the policy has to be awaited.
        """
        if len(facts.authorization) != 1 or facts.proof_fields or _holds_token(facts.query):
            return None
        value = facts.authorization[0]
        if value[:7].lower() != b"bearer " or len(value) > _LONGEST:
            return None
        principal = self._verifier.cached(value[7:], now)
        if principal is None:
            return None
        try:
            rule = self.check_route(facts, principal)
        except Forbidden as why:
            return self.forbidden(why, caller=principal.issuer)
        if rule is not None and (rule.replay == _ONCE or rule.proof == _WPT):
            return None
        if self._policy is None or facts.public:
            return Admitted(principal)
        return self._admit_by_policy(self._policy, facts, principal, now)

    def admit(self, facts: RequestFacts, now: float) -> InboundFlow:
        """Decide; a flow, as `Verifier.verify` is one. Refuses, never raises, whatever the caller sent."""
        token = None
        try:
            shown = proof.presented(facts.proof_fields) if facts.proof_fields else None
            token = _bearer(facts)
            if token is None:
                if shown is not None:
                    raise ProofRejected(Reason.PROOF_FIELDS, "a proof without the access token it belongs to")
                if facts.public:
                    return Admitted(None)
                raise TokenRejected(Reason.NO_CREDENTIAL, "no bearer token in the Authorization field")
            principal = yield from self._verifier.verify(token, now, with_proof=shown is not None)
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
            try:
                yield from self.authorize(facts, principal, now, proved)
            except Forbidden as why:
                return self.forbidden(why, caller=principal.issuer)
        except TokenRejected as why:
            return refusal.of_token(why if token is None else _of_the_field(why, token), realm=self._realm)
        except Unavailable as why:
            return refusal.unavailable(why)
        return Admitted(principal)

    def authorize(
        self, facts: RequestFacts, principal: Principal, now: float, proved: Any = None
    ) -> Generator[Effect, Answer, None]:
        """Whether a known caller may do this: route rule, scopes, policy; then what is good once is used up.

        A flow, as `admit` is one.

        Raises:
            Forbidden: it may not.
            TokenRejected: a proof is missing, or the token or its proof was used before.
            Unavailable: the policy, or who remembers what was used, cannot tell just now.
        """
        rule = self.check_route(facts, principal)
        check_bound(rule, principal)
        if self._policy is not None and not facts.public:
            said = ask(self._policy, facts.method, facts.raw_path, principal, now)
            if isinstance(said, AskPolicy):
                said = (yield said).result
            enforce(said, principal)
        # last, so that nothing is used up by a request that is refused anyway
        if proved is not None:
            yield from once.use_proof(principal, proved, now=now, leeway=self._leeway(principal))
        if rule is not None and rule.replay == _ONCE:
            yield from once.use_token(principal, now=now, leeway=self._leeway(principal))

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
            facts = RequestFacts(authorization=(), method=method, raw_path=path.encode("ascii", "replace"))
            yield from self.authorize(facts, principal, now)
        return principal

    def _admit_by_policy(
        self, policy: Policy, facts: RequestFacts, principal: Principal, now: float
    ) -> Admitted | Refusal | InboundFlow:
        """The last check of a token that was verified before; no flow where the policy answers at once."""
        try:
            said = ask(policy, facts.method, facts.raw_path, principal, now)
        except Forbidden as why:
            return self.forbidden(why, caller=principal.issuer)
        return (
            self._await_policy(said, principal)
            if isinstance(said, AskPolicy)
            else self._obey(said, principal)
        )

    def _await_policy(self, pending: AskPolicy, principal: Principal) -> InboundFlow:
        return self._obey((yield pending).result, principal)

    def _obey(self, said: Any, principal: Principal) -> Admitted | Refusal:
        try:
            enforce(said, principal)
        except Forbidden as why:
            return self.forbidden(why, caller=principal.issuer)
        except Unavailable as why:
            return refusal.unavailable(why)
        return Admitted(principal)

    def forbidden(self, why: Forbidden, *, caller: str | None = None) -> Refusal:
        """The 403 for a caller that is known; see `refusal.forbidden`."""
        return refusal.forbidden(why, realm=self._realm, caller=caller)

    def check_route(self, facts: RequestFacts, principal: Principal) -> RouteRule | None:
        """The rule that a known caller meets; None where routes have none (or need none: `facts.public`).

        Only `method`, `raw_path` and `public` are looked at.

        Raises:
            Forbidden: no rule, or a scope is missing.
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
        return rule

    def _leeway(self, principal: Principal) -> float:
        return self._verifier.rules(principal.issuer).leeway

    def _current_routes(self) -> _Routes:
        routes = self._routes
        if routes.trust is not self._verifier.trust:
            routes = self._routes = _Routes.of(self._verifier.trust)
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


def _tables(trust: TrustConfig) -> dict[str, RouteTable[RouteRule]]:
    audiences = {rule.audience for rule in trust.routes}
    return {
        audience: RouteTable(rule for rule in trust.routes if rule.audience == audience)
        for audience in audiences
    }


def _bearer(facts: RequestFacts) -> bytes | None:
    """The one bearer token, or None where nothing that concerns us was presented (standards (a)2 step 1)."""
    if len(facts.authorization) > 1:
        raise TokenRejected(Reason.SEVERAL_CREDENTIALS, "more than one Authorization field")
    if not facts.authorization:
        return None
    value = facts.authorization[0]
    if _holds_token(facts.query):
        raise TokenRejected(Reason.SEVERAL_CREDENTIALS, "access_token in the query beside Authorization")
    scheme, _, credentials = value.partition(b" ")
    if scheme.lower() != b"bearer":
        if not _SCHEME.fullmatch(scheme):
            raise TokenRejected(Reason.MALFORMED_HEADER, "Authorization does not begin with a scheme")
        return None
    return credentials


def _of_the_field(why: TokenRejected, token: bytes) -> TokenRejected:
    """What is no token68 is the fault of the field, not of a token (RFC 9110 section 11.2).

    Looked at last, because nothing that is no token68 is ever a good token.
    """
    if why.reason is Reason.TOKEN_TOO_LARGE or _TOKEN68.fullmatch(token):
        return why
    return TokenRejected(Reason.MALFORMED_HEADER, "expected one token68 after Bearer")


def _holds_token(query: bytes) -> bool:
    """Whether there is a second credential in the query (RFC 6750 section 2.3)."""
    if b"%" not in query and b"access_token=" not in query:
        return False
    names = (pair.partition(b"=")[0] for pair in query.split(b"&"))
    return any(unquote_to_bytes(name) == b"access_token" for name in names)
