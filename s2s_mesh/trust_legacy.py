"""[[legacy]] rows: how they must fit together, and as frozen objects (standards (a)6)."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec
from msgspec import UNSET

from .identity import ServiceId
from .trust_format import LegacyRow
from .trust_report import Report, shown

API_KEY, BASIC = "api_key", "basic"
_KEY_FIELD, _TOKEN_FIELD = "X-Api-Key", "Workload-Authorization"
_YEAR = 366 * 86400.0  # seconds
_LAST_YEAR = 2099  # of an end that is one; the year 9999 cannot even be written as a date of the HTTP header


class LegacyRule(msgspec.Struct, frozen=True, kw_only=True):
    """One [[legacy]] row: an old credential that stands for `issuer`.

    Attributes:
        issuer: the service that has it.
        audience: the service that accepts it.
        stage: "off", "observe", "prefer" or "require".
        ends_at: Unix seconds, the first instant at which it is no longer accepted.
        way: "api_key" or "basic".
        header: lower-case name of the field with the API key; of the field with the token, for "basic".
        key_digest: SHA-256 of the API key; empty for "basic".
        user, password: for "basic", the user's name and the argon2id hash in PHC form; else empty.
    """

    issuer: ServiceId
    audience: ServiceId
    stage: str
    ends_at: float
    way: str
    header: bytes
    key_digest: bytes = b""
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"LegacyRule({self.way} of {self.issuer} at {self.audience}, {self.stage})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """msgspec's own would show the hashes in a rich traceback."""
        return [("issuer", self.issuer), ("audience", self.audience), ("way", self.way)]

    def accepted(self, now: float) -> bool:
        """Whether the old credential is good for anything at `now`."""
        return self.stage in ("observe", "prefer") and now < self.ends_at

    @classmethod
    def of(cls, row: LegacyRow) -> LegacyRule:
        """The rule of a row that passed its checks."""
        basic = row.api_key_sha256 is UNSET
        header = row.token_header if basic else row.header
        default = _TOKEN_FIELD if basic else _KEY_FIELD
        # the whole of the last day, in UTC
        end = datetime(row.until.year, row.until.month, row.until.day, tzinfo=timezone.utc)
        return cls(
            issuer=ServiceId(row.issuer),
            audience=ServiceId(row.audience),
            stage=row.migration,
            ends_at=end.timestamp() + 86400,
            way=BASIC if basic else API_KEY,
            header=(default if header is UNSET else header).lower().encode(),
            key_digest=b"" if row.api_key_sha256 is UNSET else _digest(row.api_key_sha256),
            user="" if row.basic_user is UNSET else row.basic_user,
            password="" if row.password_argon2 is UNSET else row.password_argon2,
        )


def check_legacy(
    rows: Sequence[tuple[int, LegacyRow]], pairs: Collection[tuple[str, str]], report: Report
) -> None:
    """Check the rows against each other and against the pairs of the file.

    Args:
        rows: each with its index.
        pairs: (issuer, audience) of every [[allow]] row.
        report: takes what is wrong.
    """
    stages: dict[tuple[str, str], tuple[int, str]] = {}
    keys: dict[bytes, tuple[int, str]] = {}
    users: dict[tuple[str, str], int] = {}
    for index, row in rows:
        path = f"legacy[{index}]"
        if (row.issuer, row.audience) not in pairs:
            report.problem(
                path,
                f"found no [[allow]] row from {shown(row.issuer)} to {shown(row.audience)}; expected one: an "
                "old credential may do what its pair is granted, and no more",
            )
        if row.until.year > _LAST_YEAR:
            report.problem(
                f"{path}.until", f"found {row.until}; expected a day that comes: this is a row without an end"
            )
        if not _check_kind(row, path, report):
            continue
        first, stage = stages.setdefault((row.issuer, row.audience), (index, row.migration))
        if stage != row.migration:
            report.problem(
                f"{path}.migration",
                f"found {shown(row.migration)}; expected {shown(stage)} as in legacy[{first}]: a pair "
                "is in one stage",
            )
        if row.api_key_sha256 is not UNSET:
            first, owner = keys.setdefault(_digest(row.api_key_sha256), (index, row.issuer))
            if owner != row.issuer:
                report.problem(
                    f"{path}.api_key_sha256",
                    f"found the key of {shown(owner)} again, see legacy[{first}]; expected a key of its own: "
                    "a credential stands for one service",
                )
        elif row.basic_user is not UNSET:
            first = users.setdefault((row.audience, row.basic_user), index)
            if first != index:
                report.problem(
                    f"{path}.basic_user",
                    f"found {shown(row.basic_user)} again, see legacy[{first}]; expected each user once "
                    "for an audience",
                )
    _check_fields([(index, LegacyRule.of(row)) for index, row in rows], report)


def end_warnings(rules: Iterable[LegacyRule], now: float) -> list[str]:
    """One line for each row whose end is past, or further away than a year.

    Args:
        rules: in the order of the file.
        now: Unix seconds; the reason why the file's own checks do not say this.
    """
    lines = []
    for index, rule in enumerate(rules):
        who = f"legacy[{index}].until: the {rule.way} of {shown(rule.issuer)}"
        if rule.ends_at <= now:
            lines.append(f"{who} has ended and is refused; remove the row")
        elif rule.ends_at > now + _YEAR:
            lines.append(f"{who} is accepted for more than a year to come; expected an earlier end")
    return lines


def _check_kind(row: LegacyRow, path: str, report: Report) -> bool:
    key = row.api_key_sha256 is not UNSET
    basic = [row.basic_user is not UNSET, row.password_argon2 is not UNSET]
    if key == any(basic) or any(basic) != all(basic):
        what = [name for name in ("api_key_sha256", "basic_user", "password_argon2") if _has(row, name)]
        report.problem(
            path,
            f"found {' and '.join(what) or 'no credential'}; expected either api_key_sha256, or "
            "basic_user and password_argon2",
        )
        return False
    for name, fits in (("header", key), ("token_header", not key)):
        if _has(row, name) and not fits:
            report.problem(
                f"{path}.{name}",
                f"found it beside {'api_key_sha256' if key else 'basic_user'}; "
                f"expected it with {'basic_user' if key else 'api_key_sha256'} only",
            )
    return True


def _check_fields(rules: Sequence[tuple[int, LegacyRule]], report: Report) -> None:
    """A field that carries keys for one row and tokens for another could be read either way."""
    keys = {rule.header for _, rule in rules if rule.way == API_KEY}
    for index, rule in rules:
        if rule.way == BASIC and rule.header in keys:
            report.problem(
                f"legacy[{index}].token_header",
                f"found {shown(rule.header.decode())}, which carries API keys for another row; expected a "
                "field of its own",
            )


def _has(row: LegacyRow, name: str) -> bool:
    return getattr(row, name) is not UNSET


def _digest(written: str) -> bytes:
    """The hash as bytes, from either spelling."""
    return bytes.fromhex(written) if len(written) == 64 else urlsafe_b64decode(written.rstrip("=") + "=")
