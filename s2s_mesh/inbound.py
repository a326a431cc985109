"""From the facts of a request to `Admitted` or `Refusal`: the one place every framework calls.

The answer to the caller never says why (one text for every bad token); `Refusal.reason`, `detail` and
`request_id` are for the log, and the id is in the answer's body so that an operator can find the line.
Statuses and challenges: RFC 6750 section 3, RFC 9110 sections 11.6.1 and 15.5, RFC 9457; standards (a)4.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Generator, Sequence
from urllib.parse import unquote_to_bytes

import msgspec

from . import once, proof
from .effects import Answer, Effect
from .errors import Forbidden, ProofRejected, Reason, TokenRejected, Unavailable
from .identity import Principal
from .jws import MAX_TOKEN
from .routes import RouteTable, external_path
from .strict_json import encode
from .trust import RouteRule, TrustConfig
from .verifier import Verifier

_TOKEN68 = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_SCHEME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LONGEST = len("Bearer ") + MAX_TOKEN  # what is longer is not worth a digest
_MALFORMED = {Reason.MALFORMED_HEADER, Reason.SEVERAL_CREDENTIALS}
_TITLES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}


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


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The request ends here.

    Attributes:
        status: HTTP status.
        headers: lower-case names.
        body: problem details (RFC 9457), the same for every reason of one status.
        reason, detail, claimed_issuer: for the log; not in the answer, and not authentic.
        request_id: in the body and in the log.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    reason: Reason
    detail: str
    claimed_issuer: str | None
    request_id: str


class _Routes(msgspec.Struct, frozen=True):
    """The route rules of one trust file, by audience, and whether one of them wants proof."""

    trust: TrustConfig
    tables: dict[str, RouteTable[RouteRule]]
    proof: bool

    @classmethod
    def of(cls, trust: TrustConfig) -> _Routes:
        return cls(trust, _tables(trust), any(rule.proof == _WPT for rule in trust.routes))


InboundFlow = Generator[Effect, Answer, "Admitted | Refusal"]
_ONCE = "once"
_WPT = "wpt"


class Inbound:
    """Decides about requests to one service.

    Args:
        verifier: knows tokens; its `trust` also names the route rules.
        realm: named in challenges; the service's own id.
    """

    def __init__(self, verifier: Verifier, *, realm: str) -> None:
        self._verifier = verifier
        self._realm = realm
        self._routes = _Routes.of(verifier.trust)

    @property
    def wants_proof(self) -> bool:
        """Whether a route wants proof, so that requests must be looked at for it."""
        routes = self._routes
        if routes.trust is not self._verifier.trust:
            routes = self._read_routes()
        return routes.proof

    def admit_cached(self, facts: RequestFacts, now: float) -> Admitted | Refusal | None:
        """The answer, if the one credential is a token that was verified before; None means: ask `admit`."""
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
        return Admitted(principal)

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
                rule = self.check_route(facts, principal)
            except Forbidden as why:
                return self.forbidden(why, caller=principal.issuer)
            check_bound(rule, principal)
            if proved is not None:
                yield from once.use_proof(principal, proved, now=now, leeway=self._leeway(principal))
            if rule is not None and rule.replay == _ONCE:
                yield from once.use_token(principal, now=now, leeway=self._leeway(principal))
        except TokenRejected as why:
            return self._refusal_of_token(why if token is None else _of_the_field(why, token))
        except Unavailable as why:
            headers = [("retry-after", str(why.retry_after))]
            return _refusal(503, headers, why.reason, str(why), claimed_issuer=why.issuer)
        return Admitted(principal)

    def forbidden(self, why: Forbidden, *, caller: str | None = None) -> Refusal:
        """The 403 for a caller that is known; `insufficient_scope` where a scope is what is missing."""
        headers = []
        if why.scope is not None:
            challenge = f'Bearer realm="{self._realm}", error="insufficient_scope", scope="{why.scope}"'
            headers.append(("www-authenticate", challenge))
        return _refusal(403, headers, why.reason, why.detail, claimed_issuer=caller)

    def _refusal_of_token(self, why: TokenRejected) -> Refusal:
        if isinstance(why, ProofRejected):
            return _refusal(400, [], why.reason, why.detail, claimed_issuer=why.claimed_issuer)
        challenge = f'Bearer realm="{self._realm}"'
        status = 401
        if why.reason in _MALFORMED:
            status = 400
            challenge += ', error="invalid_request", error_description="Malformed credentials"'
        elif why.reason is Reason.EXPIRED:
            challenge += ', error="invalid_token", error_description="The access token expired"'
        elif why.reason is not Reason.NO_CREDENTIAL:
            challenge += ', error="invalid_token", error_description="The access token is invalid"'
        return _refusal(
            status,
            [("www-authenticate", challenge)],
            why.reason,
            why.detail,
            claimed_issuer=why.claimed_issuer,
        )

    def check_route(self, facts: RequestFacts, principal: Principal) -> RouteRule | None:
        """The rule that a known caller meets; None where routes have none (or need none: `facts.public`).

        Only `method`, `raw_path` and `public` are looked at.

        Raises:
            Forbidden: no rule, or a scope is missing.
        """
        routes = self._routes
        if routes.trust is not self._verifier.trust:
            routes = self._read_routes()
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

    def _read_routes(self) -> _Routes:
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


def _refusal(
    status: int,
    headers: Sequence[tuple[str, str]],
    reason: Reason,
    detail: str,
    *,
    claimed_issuer: str | None,
) -> Refusal:
    request_id = str(uuid.uuid4())
    body = encode({"title": _TITLES[status], "status": status, "instance": f"urn:uuid:{request_id}"})
    return Refusal(
        status=status,
        headers=[
            ("content-type", "application/problem+json"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            *headers,
        ],
        body=body,
        reason=reason,
        detail=detail,
        claimed_issuer=claimed_issuer,
        request_id=request_id,
    )
