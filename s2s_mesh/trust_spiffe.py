"""[foreign_issuers."spiffe://..."]: a SPIFFE trust domain, and what its table must and may not say."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from .spiffe_id import is_trust_domain, is_workload
from .svid import ALGORITHMS
from .trust_format import ForeignIssuerTable, SubjectRow
from .trust_report import Report, found
from .trust_values import SPIFFE

_SCHEME = "spiffe://"
# what JWT-SVID and the bundle format say themselves
_SETTLED = (
    *("typ", "header_members", "allow_missing_typ", "allow_missing_jti"),
    *("keys_without_alg", "eddsa", "discovery"),
)


def check_spiffe(
    issuer: str,
    table: ForeignIssuerTable,
    path: str,
    rows: Iterable[tuple[int, SubjectRow]],
    report: Report,
) -> None:
    """Check the table of a trust domain; any other passes.

    Args:
        issuer: the table's name.
        table: what it says.
        path: of the table.
        rows: [[subject]] rows of any issuer, with their index.
        report: takes what is found.
    """
    if table.profile != SPIFFE:
        if issuer.startswith("spiffe:"):
            report.problem(
                path,
                f'found a trust domain without profile; expected profile = "{SPIFFE}": whose rules its keys '
                "and tokens follow is never guessed",
            )
        return
    name = issuer.removeprefix(_SCHEME)
    if name == issuer or not is_trust_domain(name):
        report.problem(path, f'{found(issuer)}; expected a trust domain, such as "spiffe://example.org"')
    for member in _SETTLED:
        if (said := getattr(table, member)) is not UNSET and said:
            report.problem(f"{path}.{member}", f'found beside profile = "{SPIFFE}", which settles that')
    if table.algorithms is not UNSET and (unknown := sorted(set(table.algorithms) - ALGORITHMS)):
        report.problem(
            f"{path}.algorithms",
            f"found {', '.join(unknown)}; SPIFFE has {', '.join(sorted(ALGORITHMS))} of ours",
        )
    for index, row in rows:
        if row.issuer == issuer and not is_workload(row.subject, name):
            report.problem(
                f"subject[{index}].subject",
                f"{found(row.subject)}; expected the SPIFFE ID of a workload of this trust domain, such as "
                f'"{issuer}/reports"',
            )
