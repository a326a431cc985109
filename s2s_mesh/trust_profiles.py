"""`profile` of a foreign issuer: what the table of a SPIFFE trust domain, or of an ASAP issuer, must and may
not say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from msgspec import UNSET

from . import asap, svid
from .spiffe_id import is_trust_domain, is_workload
from .trust_format import ForeignIssuerTable, SubjectRow
from .trust_report import Report, found
from .trust_values import ASAP, SPIFFE, seconds

# the accepted ones are at most these
ALGORITHMS = {SPIFFE: svid.ALGORITHMS, ASAP: asap.ALGORITHMS}
# JWT-SVID sections 2.3 and 3: `typ`, `iat` and `jti` may be left out, `alg` of a key likewise; PEM has none
SETTLED: dict[str, dict[str, Any]] = {
    SPIFFE: {
        "types": frozenset({"jwt", "jose"}),
        "allow_missing_typ": True,
        "allow_missing_jti": True,
        "keys_without_alg": True,
    },
    ASAP: {"types": frozenset({"jwt"}), "allow_missing_typ": True, "keys_without_alg": True},
}
_SCHEME = "spiffe://"
# what their standards say themselves, or have not
_REFUSED = {
    SPIFFE: (
        *("typ", "header_members", "allow_missing_typ", "allow_missing_jti"),
        *("keys_without_alg", "eddsa", "discovery"),
    ),
    ASAP: ("typ", "allow_missing_typ", "keys_without_alg", "eddsa"),
}
_PLACES = ("jwks_uri", "jwks_file", "jwks_origins", "discovery")


def check_profile(
    issuer: str,
    table: ForeignIssuerTable,
    path: str,
    *,
    rows: Iterable[tuple[int, SubjectRow]],
    general: Collection[str],
    report: Report,
) -> None:
    """Check a table by the rules of its profile; any that has none, and needs none, passes.

    Args:
        issuer: the table's name.
        table: what it says.
        path: of the table.
        rows: [[subject]] rows of any issuer, with their index.
        general: algorithms that [defaults] lists, if it does.
        report: takes what is found.
    """
    own = [(f"subject[{index}].subject", row.subject) for index, row in rows if row.issuer == issuer]
    if table.profile == SPIFFE:
        _check_spiffe(issuer, path, own, report)
    elif issuer.lower().startswith("spiffe:"):
        report.problem(
            path,
            f'found a trust domain without profile; expected profile = "{SPIFFE}": whose rules its keys '
            "and tokens follow is never guessed",
        )
    if table.profile == ASAP:
        _check_asap(issuer, table, path, own, report)
    elif table.asap_key_servers is not UNSET:
        report.problem(
            f"{path}.asap_key_servers", 'found key servers and another profile; expected profile = "asap"'
        )
    if table.profile in (SPIFFE, ASAP):
        _check_settled(table, str(table.profile), path, general, report)


def _check_settled(
    table: ForeignIssuerTable, profile: str, path: str, general: Collection[str], report: Report
) -> None:
    for member in _REFUSED[profile]:
        if (said := getattr(table, member)) is not UNSET and said:
            report.problem(f"{path}.{member}", f'found beside profile = "{profile}", which settles that')
    known = f"{profile.upper()} has {', '.join(sorted(ALGORITHMS[profile]))} of ours"
    if table.algorithms is not UNSET:
        if unknown := sorted(set(table.algorithms) - ALGORITHMS[profile]):
            report.problem(f"{path}.algorithms", f"found {', '.join(unknown)}; {known}")
    elif general and ALGORITHMS[profile].isdisjoint(general):
        report.problem(f"{path}.algorithms", f"found only those of [defaults], so none; {known}")


def _check_spiffe(issuer: str, path: str, own: Iterable[tuple[str, str]], report: Report) -> None:
    name = issuer.removeprefix(_SCHEME)
    if name == issuer or not is_trust_domain(name):
        report.problem(path, f'{found(issuer)}; expected a trust domain, such as "spiffe://example.org"')
    for where, subject in own:
        if not is_workload(subject, name):
            report.problem(
                where,
                f"{found(subject)}; expected the SPIFFE ID of a workload of this trust domain, such as "
                f'"{issuer}/reports"',
            )


def _check_asap(
    issuer: str, table: ForeignIssuerTable, path: str, own: Iterable[tuple[str, str]], report: Report
) -> None:
    if table.asap_key_servers is UNSET:
        report.problem(
            f"{path}.profile", 'found "asap" and no asap_key_servers; expected these, its keys are there'
        )
    if not asap.is_path(issuer):
        report.problem(path, "found an issuer that ASAP does not know; expected a name such as team/edge")
    for name in _PLACES:
        if (said := getattr(table, name)) is not UNSET and said:
            report.problem(f"{path}.{name}", "found this and ASAP; expected only asap_key_servers")
    if table.max_token_life is not UNSET and seconds(table.max_token_life) > asap.MAX_LIFE:
        report.problem(
            f"{path}.max_token_life", f"{found(table.max_token_life)}; expected 1h at most, as ASAP has it"
        )
    for where, subject in own:
        if subject != issuer:
            report.problem(where, f"{found(subject)}; expected its issuer, as ASAP has it")
