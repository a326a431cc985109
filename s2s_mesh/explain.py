"""Why a call passes or not: every check in order, with what was found and the one thing to change.

The verdict is the verifier's own: the real flow runs, and its `Reason` says at which check it ended. This
module only knows which reason belongs to which check, and what a person can do about it. The receiver's deny
list and policy, whether a token was used before, and what comes along with a token (proof, a user's evidence)
are known to the receiver only and not looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from enum import Enum
from typing import Any
from urllib.parse import quote

import msgspec

from . import evidence, foreign_token, jws
from .advice import ADVICE, FOREIGN_ADVICE
from .claims import X5T
from .effects import Answer, Effect
from .errors import Forbidden, Reason, TokenRejected, Unavailable
from .identity import Principal
from .inbound import Inbound, RequestFacts
from .route_rules import PROVED, check_bound
from .strict_json import encode
from .trust import ForeignIssuer, IssuerTrust, TrustConfig
from .trust_values import HEADER_MEMBERS, SPIFFE
from .verifier import Verifier

# In the verifier's order. `found` names the members of the token that the check is about.
_CHECKS: Sequence[tuple[str, Collection[Reason], Sequence[str]]] = (
    (
        "form",
        {Reason.TOKEN_TOO_LARGE, Reason.NOT_A_COMPACT_JWS, Reason.BAD_BASE64, Reason.BAD_JSON},
        (),
    ),
    ("header", {Reason.HEADER_MEMBER, Reason.BAD_KID}, ("kid",)),
    ("issuer", {Reason.UNKNOWN_ISSUER}, ("iss",)),
    ("algorithm", {Reason.BAD_ALGORITHM}, ("alg",)),
    ("type", {Reason.BAD_TYPE}, ("typ",)),
    ("audience", {Reason.WRONG_AUDIENCE}, ("aud",)),
    (
        "times",
        {Reason.BAD_TIME_CLAIM, Reason.LIFE_TOO_LONG, Reason.EXPIRED, Reason.NOT_YET_VALID},
        ("iat", "nbf", "exp"),
    ),
    ("user", {Reason.BAD_USER}, ("act", "sub_id")),
    ("proof", {Reason.PROOF_MISSING, Reason.PROOF_MISMATCH}, ("cnf",)),
    ("subject", {Reason.BAD_SUBJECT}, ("sub", "client_id")),
    ("token id", {Reason.BAD_JTI}, ("jti",)),
    ("scope", {Reason.BAD_SCOPE}, ("scope",)),
    ("grant", {Reason.PAIR_NOT_GRANTED}, ()),
    ("user's grant", {Reason.USER_NOT_GRANTED}, ("sub_id",)),
    ("key", {Reason.UNKNOWN_KID, Reason.JWKS_UNAVAILABLE, Reason.KEY_MISMATCH}, ("kid",)),
    ("signature", {Reason.BAD_SIGNATURE}, ()),
    ("route", {Reason.BAD_PATH, Reason.NO_ROUTE_RULE}, ()),
    ("route's scopes", {Reason.MISSING_SCOPE}, ()),
    ("route's user", {Reason.USER_REQUIRED, Reason.USER_NOT_ACCEPTED}, ("sub_id",)),
    (
        "user's evidence",
        {Reason.USER_UNPROVEN, Reason.USER_MISMATCH, Reason.BAD_USER_TOKEN, Reason.BAD_TXN_TOKEN},
        ("oth", "tth"),
    ),
)
_OF_THE_ROUTE = {"route", "route's scopes", "route's user", "user's evidence"}
_WITHOUT_TOKEN = ("issuer", "grant", "route", "route's scopes", "route's user")


class Verdict(str, Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_REACHED = "not reached"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One check.

    Attributes:
        check: its name.
        verdict: how it ended.
        found: what the token or the request says about it; foreign text, as JSON.
        expected: what would be accepted, where that can be said in a few words.
    """

    check: str
    verdict: Verdict
    found: str
    expected: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a call, and why.

    Attributes:
        admitted: whether the call passes.
        reason, detail: as in the receiver's log; None and "" where it passes.
        advice: the one thing to change; "" where it passes.
        steps: every check in order.
        scopes: what the caller has; empty where it is refused before that is known.
    """

    admitted: bool
    reason: Reason | None
    detail: str
    advice: str
    steps: tuple[Step, ...]
    scopes: frozenset[str]


def explain_token(
    inbound: Inbound,
    verifier: Verifier,
    whole: TrustConfig,
    token: bytes,
    now: float,
    request: RequestFacts | None = None,
) -> Generator[Effect, Answer, Explanation]:
    """Explain what becomes of a token; a flow, as `Verifier.verify` is one.

    Args:
        inbound: decides about routes.
        verifier: decides about tokens.
        whole: the trust file with every service's rows, for advice.
        token: what was sent after `Bearer`.
        now: Unix seconds.
        request: method, path and, in `headers`, the user's evidence; or None to leave the route out.
    """
    case = _Case(verifier, whole, _found(token), now, request, [name for name, _, _ in _CHECKS])
    principal = None
    try:
        principal = yield from verifier.verify(
            token, now, with_proof=inbound.wants_proof, certificate=lambda: str(case.found["cnf"][X5T])
        )
        if request is not None:
            rule = inbound.check_route(request, principal)
            check_bound(rule, principal)
            if rule is not None and rule.user in PROVED:
                principal = yield from evidence.verify(
                    verifier, rule, fields=request.headers, principal=principal, now=now
                )
    except (TokenRejected, Forbidden) as refused:
        scopes = frozenset[str]() if principal is None else principal.scopes
        return case.refused(refused.reason, refused.detail, scopes)
    except Unavailable as refused:
        return case.refused(refused.reason, str(refused))
    return case.admitted(principal.scopes)


def explain_pair(
    inbound: Inbound,
    verifier: Verifier,
    whole: TrustConfig,
    *,
    issuer: str,
    audience: str,
    request: RequestFacts | None = None,
) -> Explanation:
    """Explain what a caller with a good token, all granted scopes asked for, may do.

    Args:
        inbound, verifier, whole, request: as for `explain_token`.
        issuer: the calling service.
        audience: the identifier under which it calls.
    """
    found = {"iss": issuer, "aud": audience}
    case = _Case(verifier, whole, found, 0, request, _WITHOUT_TOKEN)
    if not any(issuer == caller for caller, _ in verifier.trust.pairs):
        return case.refused(Reason.UNKNOWN_ISSUER, "not an issuer that the trust file lists")
    pair = verifier.trust.pairs.get((issuer, audience))
    if pair is None:
        return case.refused(Reason.PAIR_NOT_GRANTED, f"no [[allow]] row for {audience}")
    caller = Principal(
        issuer=issuer,
        subject=issuer,
        audience=audience,
        scopes=pair.scopes,
        kid="",
        expires_at=0,
        claims={},
    )
    try:
        if request is not None:
            inbound.check_route(request, caller)
    except Forbidden as refused:
        # whoever may carry users calls for one where a route wants that
        if refused.reason is not Reason.USER_REQUIRED or not pair.may_act_for:
            return case.refused(refused.reason, refused.detail, pair.scopes)
    return case.admitted(pair.scopes)


def _found(token: bytes) -> dict[str, Any]:
    """Header and claims of a token that is well-formed; nothing of any other."""
    try:
        decoded = jws.decode(token, typ_required=False, beside=HEADER_MEMBERS)
    except TokenRejected:
        return {}
    header = {name: value for name, value in decoded.header._asdict().items() if value}
    return {**decoded.claims, **header}


class _Case:
    """One call that is explained."""

    def __init__(
        self,
        verifier: Verifier,
        whole: TrustConfig,
        found: Mapping[str, Any],
        now: float,
        request: RequestFacts | None,
        checks: Sequence[str],
    ) -> None:
        self._own = sorted(verifier.audiences)
        self._whole = whole
        self.found = found
        self._now = now
        self._checks = [name for name in checks if request is not None or name not in _OF_THE_ROUTE]
        self._request = request
        trust, issuer, audience = verifier.trust, found.get("iss"), found.get("aud")
        self._caller = issuer if isinstance(issuer, str) else ""
        self._known: IssuerTrust | ForeignIssuer | None = trust.issuers.get(self._caller)
        self._foreign: ForeignIssuer | None = None
        self._service: str | None = None
        if self._known is None:
            self._known = self._foreign = foreign_token.find(found, trust.foreign_issuers)
        if self._foreign is not None:
            try:
                audience = foreign_token.audience(audience, self._foreign, verifier.audiences)
                named = foreign_token.subject(found, self._foreign)
                self._service = foreign_token.service(trust, self._foreign.issuer, named, found)
            except TokenRejected:
                pass  # said by the check
        caller = self._service or self._caller
        self._pair = trust.pairs.get((caller, audience if isinstance(audience, str) else ""))

    def admitted(self, scopes: frozenset[str]) -> Explanation:
        steps = tuple(self._step(name, Verdict.PASSED) for name in self._checks)
        return Explanation(admitted=True, reason=None, detail="", advice="", steps=steps, scopes=scopes)

    def refused(self, reason: Reason, detail: str, scopes: frozenset[str] = frozenset()) -> Explanation:
        check = next(name for name, reasons, _ in _CHECKS if reason in reasons)
        if not self.found and check != "form":
            check = "header"  # an alg or typ that is no text fails with the header
        failed = self._checks.index(check)
        steps = [self._step(name, Verdict.PASSED) for name in self._checks[:failed]]
        steps.append(self._step(check, Verdict.FAILED))
        steps += [self._step(name, Verdict.NOT_REACHED) for name in self._checks[failed + 1 :]]
        return Explanation(
            admitted=False,
            reason=reason,
            detail=detail,
            advice=self._advice(reason),
            steps=tuple(steps),
            scopes=scopes,
        )

    def _step(self, check: str, verdict: Verdict) -> Step:
        members = next(members for name, _, members in _CHECKS if name == check)
        found = [f"{name} {_json(self.found[name])}" for name in members if name in self.found]
        if check == "route" and self._request is not None:
            found = [f"{self._request.method} {quote(self._request.raw_path, safe='/%')}"]
        return Step(check=check, verdict=verdict, found=", ".join(found), expected=self._expected(check))

    def _expected(self, check: str) -> str:
        known, pair = self._known, self._pair
        if check == "audience":
            return " or ".join(self._own)
        if check == "grant" and pair is not None:
            return f"scopes {' '.join(sorted(pair.scopes)) or 'none'}"
        if known is None:
            return self._vouched_by() if check == "issuer" else ""
        if self._foreign is not None and (words := self._expected_of_foreign(check)):
            return words
        if check == "algorithm":
            return " or ".join(sorted(known.algorithms))
        if check == "type":
            return " or ".join(sorted(known.types))
        cnf = self.found.get("cnf")
        if check == "proof" and isinstance(cnf, Mapping) and X5T in cnf:
            return "a connection with that client certificate, which is not looked at here"
        if check == "times":
            return f"now {self._now:.0f}, leeway {known.leeway:g} s, life {known.max_token_life:g} s at most"
        if check == "key":
            return f"published at {known.place}"
        if check == "user's grant" and pair is not None:
            return f"may_act_for {' '.join(sorted(pair.may_act_for)) or 'nobody'}"
        return ""

    def _vouched_by(self) -> str:
        """Who makes the tokens of a service that makes none itself."""
        rules = [rule for rules in self._whole.subjects.values() for rule in rules]
        vouching = [rule for rule in rules if rule.service == self._caller]
        return " or ".join(f"{_json(rule.subject)} of {rule.issuer}" for rule in vouching)

    def _expected_of_foreign(self, check: str) -> str:
        """Where a foreign issuer, and whom it means, is looked up."""
        if check == "issuer":
            spiffe = self._foreign is not None and self._foreign.profile == SPIFFE
            return f"{'the trust domain of sub, ' if spiffe else ''}an issuer of [foreign_issuers]"
        if check == "subject":
            row = "a [[subject]] row of this issuer"
            return row if self._service is None else f"{row}: it stands for {self._service}"
        return ""

    def _advice(self, reason: Reason) -> str:
        if self._foreign is not None and reason in FOREIGN_ADVICE:
            return FOREIGN_ADVICE[reason]
        listed = {**self._whole.issuers, **self._whole.foreign_issuers}
        if reason is Reason.UNKNOWN_ISSUER:
            twins = [known for known in listed if _loosely(known) == _loosely(self._caller)]
            if self._caller in listed or not twins:
                return f"if this caller is meant to call: {self._row()}"
            return f"the trust file lists {twins[0]}; ids are compared byte by byte, so make them equal"
        if reason is Reason.PAIR_NOT_GRANTED:
            return f"if this caller is meant to call: {self._row()}"
        if reason is Reason.NO_ROUTE_RULE:
            return "add a [[route]] row for this method and path, or call one that has a row"
        if reason is Reason.USER_NOT_GRANTED:
            return "if the caller may carry its users: add sub_id.iss to may_act_for in the [[allow]] row"
        if reason is Reason.USER_REQUIRED:
            if self._pair is None or not self._pair.may_act_for:
                return f"grant may_act_for in the [[allow]] row of {self._caller}; then it calls on_behalf_of"
            return "the caller must say for whom: service.auth(AUDIENCE, on_behalf_of=USER)"
        if reason is Reason.MISSING_SCOPE:
            return f"grant the scope in the [[allow]] row of {self._caller}, and let its tokens ask for it"
        return ADVICE[reason]

    def _row(self) -> str:
        audience = self.found.get("aud")
        caller = self._service or self._caller
        audience = audience if audience in self._own else self._own[0]
        return f"add [[allow]] issuer = {_json(caller)}, audience = {_json(audience)} to the trust file"


def _loosely(issuer: str) -> str:
    """An id without what people get wrong in ids. For advice only, never for a decision."""
    rest = issuer.strip().lower().partition("://")[2].rstrip("/")
    return rest.removesuffix(":443").removeprefix("www.")


def _json(value: Any) -> str:
    return encode(value).decode()
