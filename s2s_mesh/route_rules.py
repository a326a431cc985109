"""What the route rules of one trust file ask of a caller, and which header fields they make us look at."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from . import proof
from .claims import JKT, X5T
from .errors import Forbidden, Reason, TokenRejected
from .identity import Principal
from .legacy import LegacyRows
from .migration_use import TOKEN
from .policy import Policy
from .routes import RouteTable, external_path
from .trust import RouteRule, TrustConfig

Field = tuple[bytes, bytes]  # lower-case name, value
ONCE = "once"
WPT, MTLS = "wpt", "mtls"
# what `proof` of a route wants a token to be bound to
BOUND = {WPT: JKT, MTLS: X5T}
PROVED = frozenset({"proven", "txn"})  # what a route wants of a user that needs evidence beside the token


class RouteRules(msgspec.Struct, frozen=True):
    """The route rules of one trust file by audience, its [[legacy]] rows, and what they make us look at.

    Attributes:
        proof: whether a route wants proof of possession.
        evidence: whether one wants that, or evidence for a user.
        fields: whether any field beside Authorization is looked at.
        open: whether nothing is asked beyond a good token, neither by a row nor by the policy.
    """

    trust: TrustConfig
    tables: dict[str, RouteTable[RouteRule]]
    legacy: LegacyRows | None
    proof: bool
    evidence: bool
    fields: bool
    open: bool

    @classmethod
    def of(cls, trust: TrustConfig, policy: Policy | None) -> RouteRules:
        tables, rows = _tables(trust), LegacyRows.of(trust)
        wpt = any(rule.proof == WPT for rule in trust.routes)
        evidence = wpt or any(rule.user in PROVED for rule in trust.routes)
        fields = evidence or rows is not None
        return cls(trust, tables, rows, wpt, evidence, fields, policy is None and not tables and rows is None)

    def pick(self, headers: Sequence[Field]) -> list[Field]:
        """The fields to look at."""
        legacy_fields = frozenset[bytes]() if self.legacy is None else self.legacy.fields
        return [
            field
            for field in headers
            if field[0] in legacy_fields or (self.evidence and proof.is_field(field[0]))
        ]

    def rule_for(self, method: str, raw_path: bytes, principal: Principal) -> RouteRule:
        """The rule that a known caller meets, where routes have any.

        Raises:
            Forbidden: no rule, a scope is missing, or a user is, or is not wanted.
        """
        path = external_path(raw_path)
        if path is None:
            raise Forbidden(Reason.BAD_PATH, "the path has forms that routers read differently")
        table = self.tables.get(principal.audience)
        rule = None if table is None else table.find(method, path)
        if rule is None:
            raise Forbidden(Reason.NO_ROUTE_RULE, f"no [[route]] row for {method} at {principal.audience}")
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


def check_bound(rule: RouteRule | None, principal: Principal) -> None:
    """Refuse a token that is not bound as the route wants it; a bound one has been proved by now.

    An old credential can be neither proved nor used up.

    Raises:
        TokenRejected: `PROOF_MISSING` or `LEGACY_TOO_WEAK`.
    """
    if rule is None:
        return
    method = BOUND.get(rule.proof)
    if principal.credential != TOKEN and (method is not None or rule.replay == ONCE):
        raise TokenRejected(
            Reason.LEGACY_TOO_WEAK, f"{rule.path} wants what only a token can give"
        ).claimed_by(principal.issuer)
    # `cnf` has one member, which was checked
    if method is not None and method not in principal.claims.get("cnf", ()):
        raise TokenRejected(
            Reason.PROOF_MISSING, f"{rule.path} wants a bound token (cnf.{method}) with its proof"
        ).claimed_by(principal.issuer)


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
