"""trust.toml as frozen objects: which service may call which, with which scopes.

A person wrote and reviewed the file, and it is read strictly: `TrustConfig.parse` refuses the whole file for
one mistake, and says all mistakes at once. Reading and watching the file: `trust_file.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

import msgspec
from msgspec import UNSET

from .identity import ServiceId
from .trust_checks import check_form, granted_scopes, only_vouched_for, services_of
from .trust_foreign import SubjectRule, by_subject
from .trust_format import DefaultsTable, IssuerTable, TrustForm, json_schema
from .trust_issuers import (
    Accepted,
    ForeignIssuer,
    IssuerTrust,
    UserIssuer,
    foreign_issuer,
    issuer_trust,
    user_issuer,
)
from .trust_legacy import LegacyRule
from .trust_reader import read_form
from .trust_report import Report, TrustFileError

__all__ = [
    "ForeignIssuer",
    "IssuerTrust",
    "LegacyRule",
    "RouteRule",
    "SubjectRule",
    "TransactionRule",
    "TrustConfig",
    "TrustFileError",
    "TrustedPair",
    "UserIssuer",
    "json_schema",
]


class TrustedPair(msgspec.Struct, frozen=True, kw_only=True):
    """One [[allow]] row: `issuer` may call `audience`.

    Attributes:
        issuer: the calling service.
        audience: the service that is called.
        scopes: what the caller may have, those of its roles included; a token's own `scope` can only make it
            less.
        may_act_for: issuers of users whom this caller may carry.
    """

    issuer: ServiceId
    audience: ServiceId
    scopes: frozenset[str] = frozenset()
    may_act_for: frozenset[str] = frozenset()


class RouteRule(msgspec.Struct, frozen=True, kw_only=True):
    """One [[route]] row: what a route of `audience` needs beyond a known caller.

    Attributes:
        audience: the service that has the route.
        path: a template, see `routes.PathTemplate`.
        methods: upper-case HTTP methods; GET includes HEAD.
        scopes: all of them are needed.
        user: "none"; or what it wants to know of an end user: "asserted", "proven" or "txn".
        proof: "bearer"; "wpt", a token that is bound to a key, with proof of that key for each request; or
            "mtls", a token that is bound to the client certificate of the connection.
        replay: "allow", or "once": a token is accepted by one request only.
    """

    audience: ServiceId
    path: str
    methods: frozenset[str]
    scopes: frozenset[str] = frozenset()
    user: str = "none"
    proof: str = "bearer"
    replay: str = "allow"


class TransactionRule(msgspec.Struct, frozen=True, kw_only=True):
    """One [[txn]] row: `audience` accepts transaction tokens that `issuer` mints for `trust_domain`.

    Attributes:
        trust_domain: within which the token holds; its `aud`.
        issuer: the service that mints.
        audience: the service that accepts.
    """

    trust_domain: ServiceId
    issuer: ServiceId
    audience: ServiceId


class TrustConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A whole trust file, or the part of it that one service needs. Immutable and replaced whole.

    Attributes:
        issuers: by issuer, every one that an [[allow]] or a [[txn]] row names; without those for whom only
            foreign issuers vouch.
        pairs: by (issuer, audience).
        routes: in the order of the file.
        user_issuers: by issuer.
        transactions: in the order of the file.
        services: every service that the file names, whoever it is for; none of them is a user.
        legacy: old credentials, in the order of the file.
        foreign_issuers: by issuer.
        header_members: what some foreign issuer may have in the header of its tokens beside our own members.
        subjects: by (foreign issuer, subject), in the order of the file; of several, one holds at most.
        allow_loopback_http: from [defaults]: whether services on this machine may do without TLS.
        warnings: what is allowed but looks like a mistake, one line each.
    """

    issuers: Mapping[str, IssuerTrust]
    pairs: Mapping[tuple[str, str], TrustedPair]
    routes: tuple[RouteRule, ...] = ()
    user_issuers: Mapping[str, UserIssuer] = MappingProxyType({})
    transactions: tuple[TransactionRule, ...] = ()
    services: frozenset[str] = frozenset()
    legacy: tuple[LegacyRule, ...] = ()
    foreign_issuers: Mapping[str, ForeignIssuer] = MappingProxyType({})
    header_members: frozenset[str] = frozenset()
    subjects: Mapping[tuple[str, str], tuple[SubjectRule, ...]] = MappingProxyType({})
    allow_loopback_http: bool = False
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str | bytes, *, source: str = "trust.toml") -> TrustConfig:
        """Read the text of a trust file.

        Args:
            text: TOML, in UTF-8 if bytes.
            source: the file's name for messages.

        Raises:
            TrustFileError: a `ConfigError` with one line per problem: file, key path, what was found, what is
                expected.
        """
        report = Report(source)
        form = read_form(text, report)
        check_form(form, report)
        report.raise_problems()
        return _config(form, report.warnings)

    @property
    def key_sources(self) -> Mapping[str, Accepted]:
        """Everybody whose keys may be needed, by issuer; none of them is of two kinds."""
        return {**self.user_issuers, **self.foreign_issuers, **self.issuers}

    def knows(self, name: str) -> bool:
        """Whether a caller goes by this name, or an issuer that vouches for callers."""
        return name in self.issuers or name in self.foreign_issuers or name in self.services

    @property
    def audiences_with_routes(self) -> frozenset[str]:
        """The audiences that have at least one route rule, so that their unmapped paths are denied."""
        return frozenset(rule.audience for rule in self.routes)

    def for_audiences(self, audiences: Collection[str]) -> TrustConfig:
        """Return only what a service known by these identifiers uses.

        `services` and `warnings` stay the whole file's.

        Args:
            audiences: its own id and its aliases.
        """
        own = frozenset(audiences)
        pairs = {key: pair for key, pair in self.pairs.items() if pair.audience in own}
        transactions = tuple(rule for rule in self.transactions if rule.audience in own)
        signers = {pair.issuer for pair in pairs.values()} | {rule.issuer for rule in transactions}
        routes = tuple(rule for rule in self.routes if rule.audience in own)
        callers = {pair.issuer for pair in pairs.values()}
        subjects = {
            key: kept
            for key, rules in self.subjects.items()
            if (kept := tuple(rule for rule in rules if rule.service in callers))
        }
        vouching = {issuer for issuer, _ in subjects}
        foreign = {key: issuer for key, issuer in self.foreign_issuers.items() if key in vouching}
        # users whose own tokens may come along; who is only asserted is verified by nobody
        proven = {rule.audience for rule in routes if rule.user == "proven"}
        carried = frozenset[str]().union(
            *(pair.may_act_for for pair in pairs.values() if pair.audience in proven)
        )
        return TrustConfig(
            issuers=MappingProxyType({key: trust for key, trust in self.issuers.items() if key in signers}),
            pairs=MappingProxyType(pairs),
            routes=routes,
            user_issuers=MappingProxyType(
                {
                    key: issuer
                    for key, issuer in self.user_issuers.items()
                    # whose an audience is that is no service's id, nobody can tell here
                    if key in carried or issuer.audiences & own or not issuer.audiences <= self.services
                }
            ),
            transactions=transactions,
            services=self.services,
            legacy=tuple(rule for rule in self.legacy if rule.audience in own),
            foreign_issuers=MappingProxyType(foreign),
            header_members=_header_members(foreign.values()),
            subjects=MappingProxyType(subjects),
            allow_loopback_http=self.allow_loopback_http,
            warnings=self.warnings,
        )


def _config(form: TrustForm, warnings: list[str]) -> TrustConfig:
    defaults = DefaultsTable() if form.defaults is UNSET else form.defaults
    pairs = [
        TrustedPair(
            issuer=ServiceId(row.issuer),
            audience=ServiceId(row.audience),
            scopes=granted_scopes(row, form.roles),
            may_act_for=frozenset(row.may_act_for),
        )
        for row in form.allow
    ]
    routes = [
        RouteRule(
            audience=ServiceId(row.audience),
            path=row.path,
            methods=frozenset(row.methods),
            scopes=frozenset(row.scopes),
            user=row.user,
            proof=row.proof,
            replay=row.replay,
        )
        for row in form.route
    ]
    transactions = [
        TransactionRule(
            trust_domain=ServiceId(row.trust_domain),
            issuer=ServiceId(row.issuer),
            audience=ServiceId(row.audience),
        )
        for row in form.txn
    ]
    subjects = list(map(SubjectRule.of, form.subject))
    vouched = only_vouched_for(form)
    issuers: dict[str, IssuerTrust] = {
        issuer: issuer_trust(issuer, form.issuers.get(issuer, IssuerTable()), defaults)
        for issuer in [*(pair.issuer for pair in pairs), *(rule.issuer for rule in transactions)]
        if issuer not in vouched
    }
    foreign = {name: foreign_issuer(name, table, defaults) for name, table in form.foreign_issuers.items()}
    user_issuers = {name: user_issuer(name, table, defaults) for name, table in form.user_issuers.items()}
    return TrustConfig(
        issuers=MappingProxyType(issuers),
        pairs=MappingProxyType({(pair.issuer, pair.audience): pair for pair in pairs}),
        routes=tuple(routes),
        user_issuers=MappingProxyType(user_issuers),
        transactions=tuple(transactions),
        services=services_of(form),
        legacy=tuple(map(LegacyRule.of, form.legacy)),
        foreign_issuers=MappingProxyType(foreign),
        header_members=_header_members(foreign.values()),
        subjects=MappingProxyType(by_subject(subjects)),
        allow_loopback_http=defaults.allow_loopback_http,
        warnings=tuple(warnings),
    )


def _header_members(issuers: Iterable[ForeignIssuer]) -> frozenset[str]:
    return frozenset[str]().union(*(issuer.header_members for issuer in issuers))
