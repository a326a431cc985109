"""[foreign_issuers] and [[subject]]: how they must fit together, and the rows as frozen objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from .identity import ServiceId
from .trust_format import ForeignIssuerTable, SubjectRow
from .trust_profiles import check_profile
from .trust_report import Report, did_you_mean, found, member_path, shown
from .trust_values import short_type

ClaimPath = tuple[str, ...]
_URLS = ("https:", "http:")


class SubjectRule(msgspec.Struct, frozen=True, kw_only=True):
    """One [[subject]] row: which service a foreign issuer means by a subject.

    Attributes:
        issuer: the foreign issuer.
        subject: the `sub` of its tokens.
        service: for whom it vouches by that.
        claims: further claims that must be there: one name, or one name inside of another, and the value.
    """

    issuer: str
    subject: str
    service: ServiceId
    claims: tuple[tuple[ClaimPath, str | bool], ...] = ()

    @classmethod
    def of(cls, row: SubjectRow) -> SubjectRule:
        """The rule of a row that passed its checks."""
        return cls(
            issuer=row.issuer,
            subject=row.subject,
            service=ServiceId(row.service),
            claims=tuple(sorted(_conditions(row).items())),
        )

    def holds(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token with these claims, of this issuer and subject, is meant."""
        return all(_is(claims, path, value) for path, value in self.claims)


def _is(claims: Mapping[str, Any], path: ClaimPath, value: str | bool) -> bool:
    said: Any = claims
    for name in path:
        said = said.get(name) if isinstance(said, dict) else None
    # 1 is True in Python
    return type(said) is type(value) and said == value


def _conditions(row: SubjectRow) -> dict[ClaimPath, str | bool]:
    conditions: dict[ClaimPath, str | bool] = {}
    for name, value in row.claims.items():
        if isinstance(value, dict):
            conditions.update({(name, inner): wanted for inner, wanted in value.items()})
        else:
            conditions[name,] = value
    return conditions


def by_subject(rules: Sequence[SubjectRule]) -> dict[tuple[str, str], tuple[SubjectRule, ...]]:
    """The rules by (issuer, subject); of those of one subject at most one holds for a token."""
    found_rules: dict[tuple[str, str], tuple[SubjectRule, ...]] = {}
    for rule in rules:
        key = (rule.issuer, rule.subject)
        found_rules[key] = (*found_rules.get(key, ()), rule)
    return found_rules


def check_foreign(
    tables: Mapping[str, ForeignIssuerTable],
    rows: Sequence[tuple[int, SubjectRow]],
    *,
    callers: Collection[str],
    services: Collection[str],
    user_issuers: Collection[str],
    general: Collection[str],
    report: Report,
) -> None:
    """Check the tables and the rows.

    Args:
        tables: by issuer.
        rows: with their index; unfit ones left out.
        callers: services that an [[allow]] row lets call somebody.
        services: every service that the file names.
        user_issuers: identity providers.
        general: algorithms that [defaults] lists, if it does.
        report: takes what is found.
    """
    meant = {row.issuer for _, row in rows}
    for issuer, table in tables.items():
        path = member_path("foreign_issuers", issuer)
        # a slash more or less is overlooked by whoever reads the file
        if issuer.rstrip("/") in services:
            report.problem(path, "found an issuer that is also a service; expected either, see [issuers]")
        if issuer.rstrip("/") in {name.rstrip("/") for name in user_issuers}:
            report.problem(path, "found an issuer that is also in [user_issuers]; expected either")
        if issuer not in meant:
            report.warning(path, f"no [[subject]] row names this issuer{did_you_mean(issuer, meant)}")
        if table.asap_key_servers is UNSET:
            _check_place(issuer, table, path, report)
        check_profile(issuer, table, path, rows=rows, general=general, report=report)
        _warn_without_effect(table, path, report)
    _check_subjects(tables, rows, callers, report)


def _check_place(issuer: str, table: ForeignIssuerTable, path: str, report: Report) -> None:
    named = table.jwks_uri is not UNSET or table.jwks_file is not UNSET
    if not issuer.startswith(_URLS) and not named:
        member, what = (f"{path}.discovery", "true") if table.discovery else (path, "no jwks_uri")
        report.problem(
            member,
            f"found {what}, and the issuer is no URL; expected jwks_uri or jwks_file, which say where its "
            "keys are",
        )


def _warn_without_effect(table: ForeignIssuerTable, path: str, report: Report) -> None:
    types = () if table.typ is UNSET else tuple(map(short_type, table.typ))
    if table.allow_missing_typ and "jwt" not in types:
        report.warning(
            f"{path}.allow_missing_typ", 'without effect: a token without typ counts as "JWT", see typ'
        )


def _check_subjects(
    tables: Mapping[str, ForeignIssuerTable],
    rows: Sequence[tuple[int, SubjectRow]],
    callers: Collection[str],
    report: Report,
) -> None:
    earlier: dict[tuple[str, str], list[tuple[int, SubjectRow]]] = {}
    for index, row in rows:
        path = f"subject[{index}]"
        if row.issuer not in tables:
            if member_path("foreign_issuers", row.issuer) not in report.left_out:
                hint = did_you_mean(row.issuer, tables)
                report.problem(
                    f"{path}.issuer",
                    f"{found(row.issuer)}; expected an issuer that [foreign_issuers] has{hint}",
                )
        else:
            for name in tables[row.issuer].subject_claims:
                if name not in row.claims:
                    report.problem(
                        f"{path}.claims",
                        f"found no {shown(name)}; expected it, because the issuer's subject_claims lists it",
                    )
        if row.service not in callers:
            report.warning(
                f"{path}.service",
                f"no [[allow]] row has issuer {shown(row.service)}{did_you_mean(row.service, callers)}",
            )
        same = earlier.setdefault((row.issuer, row.subject), [])
        for number, other in same:
            if not _exclude(row, other):
                report.problem(
                    path,
                    f"found {shown(row.subject)} again, and one token could be meant by both rows; expected "
                    f"a claim for which this row and subject[{number}] want different values",
                )
        same.append((index, row))


def _exclude(row: SubjectRow, other: SubjectRow) -> bool:
    """Whether no token can be meant by both: some claim would have to say two things."""
    ours, theirs = _conditions(row), _conditions(other)
    return any(ours[path] != theirs[path] for path in ours.keys() & theirs.keys())
