"""How the rows of a trust file must fit together, once each value by itself is good (`trust_values.py`).

A problem refuses the file. A warning is for what can do no harm but is probably a mistake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

from msgspec import UNSET, UnsetType

from .routes import PathTemplate
from .trust_foreign import check_foreign
from .trust_format import AllowRow, DefaultsTable, IssuerTable, RouteRow, SourceTable, TrustForm
from .trust_legacy import check_legacy
from .trust_report import Report, did_you_mean, found, member_path, shown
from .trust_values import is_loopback, is_plain_http, short_type

Row = TypeVar("Row")


def check_form(form: TrustForm, report: Report) -> None:
    """Check all relations. Rows that are reported already stand as UNSET and are left out."""
    callers = {row.issuer for _, row in _good(form.allow)} | {row.issuer for _, row in _good(form.txn)}
    _check_issuers(form, callers, report)
    _check_user_issuers(form, callers, report)
    _check_pairs(form, report)
    _check_roles(form, report)
    _check_routes(form, report)
    pairs = {(row.issuer, row.audience) for _, row in _good(form.allow)}
    check_legacy(list(_good(form.legacy)), pairs, report)
    _check_transactions(form, report)
    _check_foreign(form, report)


def _good(rows: list[Row]) -> Iterator[tuple[int, Row]]:
    return ((index, row) for index, row in enumerate(rows) if row is not UNSET)


def services_of(form: TrustForm) -> frozenset[str]:
    """Every service that the file names, whoever it is for."""
    return frozenset(form.issuers).union(
        *((row.issuer, row.audience) for _, row in _good(form.allow)),
        *((row.issuer, row.audience) for _, row in _good(form.txn)),
        (row.service for _, row in _good(form.subject)),
        (row.audience for _, row in _good(form.route)),
    )


def only_vouched_for(form: TrustForm) -> frozenset[str]:
    """Services that sign nothing themselves: a foreign issuer vouches, and they have no [issuers] table."""
    return frozenset(row.service for _, row in _good(form.subject)) - form.issuers.keys()


def _check_issuers(form: TrustForm, callers: set[str], report: Report) -> None:
    for issuer, table in form.issuers.items():
        path = member_path("issuers", issuer)
        if issuer not in callers:
            report.warning(path, f"no [[allow]] row names this issuer{did_you_mean(issuer, callers)}")
        _check_one_place(table, form.defaults, path, report)
        _warn_without_effect(table, path, report)


def _check_one_place(
    table: SourceTable, defaults: DefaultsTable | UnsetType, path: str, report: Report
) -> None:
    places = [name for name in ("jwks_uri", "jwks_file") if getattr(table, name) is not UNSET]
    places += ["discovery"] if table.discovery else []
    if len(places) > 1:
        report.problem(
            f"{path}.{places[-1]}", f"found both {places[-1]} and {places[0]}; expected only one of them"
        )
    if table.jwks_origins is not UNSET and not table.discovery:
        report.warning(f"{path}.jwks_origins", "without effect: discovery is not set")
    if table.eddsa and "Ed25519" not in _algorithms(table, defaults):
        report.warning(f"{path}.eddsa", "without effect: Ed25519 is not among the accepted algorithms")
    plain = table.jwks_uri is not UNSET and is_plain_http(table.jwks_uri)
    if plain and not is_loopback(str(table.jwks_uri)) and not getattr(table, "allow_plain_http", False):
        or_so = (
            ", or allow_plain_http = true in this issuer's table" if isinstance(table, IssuerTable) else ""
        )
        report.problem(f"{path}.jwks_uri", f"{found(table.jwks_uri)}; expected https{or_so}")
    if table.ca_file is not UNSET and (plain or table.jwks_file is not UNSET):
        report.warning(f"{path}.ca_file", "without effect: the keys are not fetched over TLS")


def _general(defaults: DefaultsTable | UnsetType) -> Collection[str]:
    return () if defaults is UNSET or defaults.algorithms is UNSET else defaults.algorithms


def _algorithms(table: SourceTable, defaults: DefaultsTable | UnsetType) -> Collection[str]:
    """What is written for an issuer; without any, Ed25519 is not among them."""
    return _general(defaults) if table.algorithms is UNSET else table.algorithms


def _warn_without_effect(table: IssuerTable, path: str, report: Report) -> None:
    plain = table.jwks_uri is not UNSET and is_plain_http(table.jwks_uri)
    if table.allow_plain_http and not plain:
        report.warning(f"{path}.allow_plain_http", "without effect: no jwks_uri with http is set")
    if table.typ is not UNSET and "jwt" in map(short_type, table.typ):
        report.warning(
            f"{path}.typ", 'every JWT of this issuer is accepted, whatever it was made for: found "JWT"'
        )


def _check_user_issuers(form: TrustForm, callers: set[str], report: Report) -> None:
    services = callers | form.issuers.keys()
    for issuer, table in form.user_issuers.items():
        path = member_path("user_issuers", issuer)
        if issuer.rstrip("/") in services:
            report.problem(
                path, "found an issuer that is also a service; expected either: a caller is never a user"
            )
        _check_one_place(table, form.defaults, path, report)


def _check_pairs(form: TrustForm, report: Report) -> None:
    if not form.allow:
        report.warning("allow", "no [[allow]] row: nobody may call anybody")
    first: dict[tuple[str, str], int] = {}
    services = {name for _, row in _good(form.allow) for name in (row.issuer, row.audience)}
    proven = {row.audience for _, row in _good(form.route) if row.user == "proven"}
    for index, row in _good(form.allow):
        path = f"allow[{index}]"
        earlier = first.setdefault((row.issuer, row.audience), index)
        if earlier != index:
            pair = f"{shown(row.issuer)} to {shown(row.audience)}"
            report.problem(path, f"found {pair} again; expected one row per pair, see allow[{earlier}]")
        if row.issuer == row.audience:
            report.warning(path, f"{shown(row.issuer)} is allowed to call itself")
        for user_issuer in row.may_act_for:
            if user_issuer.rstrip("/") in services:
                report.problem(
                    f"{path}.may_act_for",
                    f"{found(user_issuer)}, which is a service; expected an identity provider: no service is "
                    "a user",
                )
            table = form.user_issuers.get(user_issuer)
            if table is None:
                hint = did_you_mean(user_issuer, form.user_issuers)
                # users that are only asserted need no table
                if hint or row.audience in proven:
                    report.warning(
                        f"{path}.may_act_for", f"{shown(user_issuer)} is not in [user_issuers]{hint}"
                    )


def _check_roles(form: TrustForm, report: Report) -> None:
    used: set[str] = set()
    for index, row in _good(form.allow):
        used |= set(row.roles)
        for position, role in enumerate(row.roles):
            if role not in form.roles:
                hint = did_you_mean(role, form.roles)
                report.problem(
                    f"allow[{index}].roles[{position}]",
                    f"{found(role)}; expected a role that [roles] has{hint}",
                )
    for role in form.roles:
        if role not in used:
            hint = did_you_mean(role, used)
            report.warning(member_path("roles", role), f"no [[allow]] row has this role{hint}")


def granted_scopes(row: AllowRow, roles: Mapping[str, Collection[str]]) -> frozenset[str]:
    """What a row grants: its scopes, and those of its roles."""
    return frozenset(row.scopes).union(*(roles.get(role, ()) for role in row.roles))


def _check_routes(form: TrustForm, report: Report) -> None:
    grants: dict[str, list[frozenset[str]]] = {}
    for _, pair in _good(form.allow):
        grants.setdefault(pair.audience, []).append(granted_scopes(pair, form.roles))
    earlier: dict[str, list[tuple[int, RouteRow, PathTemplate]]] = {}
    for index, row in _good(form.route):
        path = f"route[{index}]"
        template = PathTemplate.parse(row.path)
        rules = earlier.setdefault(row.audience, [])
        for number, rule, other in rules:
            shared = sorted(set(rule.methods) & set(row.methods))
            if shared and template.overlaps(other):
                # a request that two rules match is denied: better to learn it here than from callers
                report.problem(
                    f"{path}.path",
                    f"found {shown(row.path)}, which with {shared[0]} matches requests that route[{number}], "
                    f"{shown(rule.path)}, matches too; expected exactly one rule for a request",
                )
        rules.append((index, row, template))
        _warn_unsatisfiable(row, path, grants, report)
    _warn_unasked(form, report)
    _warn_users(form, report)
    _warn_proofs(form, report)


def _warn_proofs(form: TrustForm, report: Report) -> None:
    """Routes that want a proof which no caller has: nobody makes one beside a foreign issuer's token."""
    vouched = only_vouched_for(form)
    able: dict[str, bool] = {}
    for _, pair in _good(form.allow):
        able[pair.audience] = able.get(pair.audience, False) or pair.issuer not in vouched
    for index, row in _good(form.route):
        if row.proof == "wpt" and not able.get(row.audience, True):
            report.warning(
                f"route[{index}].proof",
                f"found {shown(row.proof)}, and every caller of this audience comes with tokens of a foreign "
                "issuer, which have no such proof: nobody can call this route",
            )


def _warn_users(form: TrustForm, report: Report) -> None:
    """Routes that want a user whom nobody may carry, and users that no route takes."""
    carried = {pair.audience for _, pair in _good(form.allow) if pair.may_act_for}
    takes: dict[str, bool] = {}
    for index, row in _good(form.route):
        takes[row.audience] = takes.get(row.audience, False) or row.user != "none"
        if row.user != "none" and row.audience not in carried:
            report.warning(
                f"route[{index}].user",
                f"found {shown(row.user)}, and no [[allow]] row for this audience has may_act_for: nobody "
                "can call this route",
            )
    for index, pair in _good(form.allow):
        if pair.may_act_for and not takes.get(pair.audience, True):
            report.warning(
                f"allow[{index}].may_act_for", "no [[route]] row of this audience takes a user; see `user`"
            )


def _warn_unasked(form: TrustForm, report: Report) -> None:
    """Grants of an audience that has routes, none of which asks for them."""
    asked: dict[str, set[str]] = {}
    for _, row in _good(form.route):
        asked.setdefault(row.audience, set()).update(row.scopes)
    for index, pair in _good(form.allow):
        idle = sorted(granted_scopes(pair, form.roles) - asked.get(pair.audience, set()))
        if idle and pair.audience in asked:
            hint = did_you_mean(idle[0], asked[pair.audience])
            report.warning(f"allow[{index}].scopes", f"no [[route]] row asks for {shown(idle[0])}{hint}")


def _warn_unsatisfiable(
    row: RouteRow, path: str, grants: dict[str, list[frozenset[str]]], report: Report
) -> None:
    pairs = grants.get(row.audience)
    if pairs is None:
        report.warning(
            f"{path}.audience",
            f"no [[allow]] row has the audience {shown(row.audience)}{did_you_mean(row.audience, grants)}",
        )
        return
    if any(scopes.issuperset(row.scopes) for scopes in pairs):
        return
    granted = {scope for scopes in pairs for scope in scopes}
    unknown = [scope for scope in row.scopes if scope not in granted]
    if unknown:
        hint = did_you_mean(unknown[0], granted)
        report.warning(
            f"{path}.scopes", f"no [[allow]] row for this audience grants {shown(unknown[0])}{hint}"
        )
    else:
        report.warning(f"{path}.scopes", "no single [[allow]] row for this audience grants all of them")


def _check_foreign(form: TrustForm, report: Report) -> None:
    callers = {row.issuer for _, row in _good(form.allow)}
    services = services_of(form)
    called = {row.audience for _, row in _good(form.allow)}
    for issuer, table in form.foreign_issuers.items():
        path = member_path("foreign_issuers", issuer)
        _check_one_place(table, form.defaults, path, report)
        for name, own in table.audiences.items():
            where = member_path(f"{path}.audiences", name)
            if name != own and name in services:
                report.problem(
                    where,
                    "found the id of another service; expected what this issuer calls "
                    f"{shown(own)}: a token for one service is none for another",
                )
            elif own not in called:
                report.warning(
                    where, f"no [[allow]] row has the audience {shown(own)}{did_you_mean(own, called)}"
                )
    rows = list(_good(form.subject))
    check_foreign(
        form.foreign_issuers,
        rows,
        callers=callers,
        services=services,
        user_issuers=form.user_issuers,
        general=_general(form.defaults),
        report=report,
    )
    vouched = only_vouched_for(form)
    for index, pair in _good(form.allow):
        if pair.may_act_for and pair.issuer in vouched:
            report.warning(
                f"allow[{index}].may_act_for", "without effect: tokens of a foreign issuer carry no user"
            )
    for index, txn in _good(form.txn):
        if txn.issuer in vouched:
            report.problem(
                f"txn[{index}].issuer",
                f"{found(txn.issuer)}, whose tokens a foreign issuer makes; expected an [issuers] table for "
                "it as well, because transaction tokens are signed by the service itself",
            )


def _check_transactions(form: TrustForm, report: Report) -> None:
    first: dict[tuple[str, str, str], int] = {}
    for index, row in _good(form.txn):
        earlier = first.setdefault((row.trust_domain, row.issuer, row.audience), index)
        if earlier != index:
            report.problem(f"txn[{index}]", f"found the same row again; expected it once, see txn[{earlier}]")
