"""Old credentials, API keys and Basic, for callers that do not have tokens yet (standards (a)6).

Nothing falls back: what is presented and not valid refuses the request, whatever else is presented. A caller
that presents an old credential and a token has to be the same service by both.

An API key is looked up by its SHA-256. That needs no comparison in constant time: a key of 128 random bits
cannot be found by measuring how much of a hash agreed, because nobody can choose the hash of a guess. A
password is checked by argon2, for a user that does not exist as for one that does.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from .effects import Answer, CheckPassword, Effect
from .errors import Reason, TokenRejected, Unavailable
from .identity import Principal, freeze
from .migration_use import TOKEN, Tally
from .trust import TrustConfig
from .trust_legacy import API_KEY, BASIC, LegacyRule

MAX_CREDENTIAL = 1024  # bytes
RuleFlow = Generator[Effect, Answer, LegacyRule]


class OldCredential(NamedTuple):
    """What a request presents beside a token, or instead of one; foreign.

    Attributes:
        way: "api_key" or "basic".
        header: the lower-case name of its field.
        value: the key, or what stands behind `Basic`.
    """

    way: str
    header: bytes
    value: bytes

    def __repr__(self) -> str:
        return f"OldCredential({self.way})"


class LegacyRows(msgspec.Struct, frozen=True):
    """The [[legacy]] rows of one trust file, for finding.

    Attributes:
        fields: lower-case names of the header fields to look at, beside Authorization.
        token_fields: those of them that carry a token.
        keys: by (field, SHA-256 of the key).
        users: by user name.
        pairs: what (issuer, audience) of each row is granted.
        stranger: the hash against which the password of an unknown user is checked, so that it takes as long.
    """

    fields: frozenset[bytes]
    token_fields: frozenset[bytes]
    keys: Mapping[tuple[bytes, bytes], LegacyRule]
    users: Mapping[str, LegacyRule]
    pairs: Mapping[tuple[str, str], frozenset[str]]
    stranger: str

    @classmethod
    def of(cls, trust: TrustConfig) -> LegacyRows | None:
        """The rows of a trust file; None where it has none, which costs a request nothing."""
        if not trust.legacy:
            return None
        keys: dict[tuple[bytes, bytes], LegacyRule] = {}
        users: dict[str, LegacyRule] = {}
        for rule in trust.legacy:
            # the first row wins: two may meet where a service has aliases
            if rule.way == API_KEY:
                keys.setdefault((rule.header, rule.key_digest), rule)
            else:
                users.setdefault(rule.user, rule)
        token_fields = frozenset(rule.header for rule in users.values())
        return cls(
            token_fields | {header for header, _ in keys},
            token_fields,
            keys,
            users,
            {
                pair: trust.pairs[pair].scopes
                for pair in ((rule.issuer, rule.audience) for rule in trust.legacy)
            },
            _of_nobody(next(iter(users.values())).password) if users else "",
        )

    def basic_is_live(self, now: float) -> bool:
        """Whether Basic is worth asking for."""
        return any(rule.accepted(now) for rule in self.users.values())

    def presented(
        self, authorization: Sequence[bytes], fields: Sequence[tuple[bytes, bytes]], token: bytes | None
    ) -> tuple[bytes | None, OldCredential | None]:
        """What a request presents: a token, an old credential, both or neither.

        Args:
            authorization: the Authorization field, at most one line.
            fields: every field line whose name is in `fields`.
            token: what stands behind `Bearer` in Authorization.

        Raises:
            TokenRejected: more than one of a kind, or a field for a token without one.
        """
        found = [
            OldCredential(BASIC, b"authorization", value.partition(b" ")[2])
            for value in authorization
            if self.users and value[:6].lower() in (b"basic ", b"basic")
        ]
        for name, value in fields:
            if name not in self.token_fields:
                found.append(OldCredential(API_KEY, name, value))
                continue
            scheme, _, credentials = value.partition(b" ")
            if scheme.lower() != b"bearer":
                raise TokenRejected(
                    Reason.MALFORMED_HEADER, f"{name.decode()} does not say Bearer and a token"
                )
            if token is not None:
                raise TokenRejected(Reason.SEVERAL_CREDENTIALS, f"{name.decode()} holds one token more")
            token = credentials
        if len(found) > 1:
            raise TokenRejected(Reason.SEVERAL_CREDENTIALS, "more than one old credential")
        return token, found[0] if found else None

    def authenticate(self, old: OldCredential) -> RuleFlow:
        """The row of an old credential that is the right one; a flow, as `Verifier.verify` is one.

        Yields `CheckPassword`. Whether the row still holds is not looked at: see `check_stage`.

        Raises:
            TokenRejected: `LEGACY_INVALID`.
            Unavailable: the password could not be checked.
        """
        if len(old.value) > MAX_CREDENTIAL:
            raise TokenRejected(Reason.LEGACY_INVALID, f"longer than {MAX_CREDENTIAL} bytes")
        if old.way == API_KEY:
            by_key = self.keys.get((old.header, hashlib.sha256(old.value).digest()))
            if by_key is None:
                raise TokenRejected(
                    Reason.LEGACY_INVALID, f"no [[legacy]] row has this {old.header.decode()}"
                )
            return by_key
        user, password = _user_and_password(old.value)
        by_user = self.users.get(user)
        stored = self.stranger if by_user is None else by_user.password
        good: bool | None = (yield CheckPassword(stored, password)).result
        if good is None:
            raise Unavailable(
                Reason.PASSWORD_CHECK_UNAVAILABLE,
                "" if by_user is None else by_user.issuer,
                "too many passwords are being checked",
                retry_after=1,
            )
        if by_user is None:
            raise TokenRejected(Reason.LEGACY_INVALID, "no [[legacy]] row has this basic_user")
        if not good:
            raise TokenRejected(Reason.LEGACY_INVALID, "not the password of this user").claimed_by(
                by_user.issuer
            )
        return by_user

    def principal(self, rule: LegacyRule) -> Principal:
        """The caller for whom an old credential stands; it may do what its pair is granted, and no more."""
        return Principal(
            issuer=rule.issuer,
            subject=rule.issuer,
            audience=rule.audience,
            scopes=self.pairs[rule.issuer, rule.audience],
            kid="",
            expires_at=int(rule.ends_at),
            claims=freeze({}),
            credential=rule.way,
        )

    def note(self, tally: Tally, principal: Principal, now: float) -> None:
        """Count the use of a token, where its caller has a row."""
        if (principal.issuer, principal.audience) in self.pairs:
            tally.note(principal.issuer, principal.audience, TOKEN, now)


def check_same(rule: LegacyRule, token: Principal | None) -> None:
    """Refuse two credentials of two services.

    Raises:
        TokenRejected: `LEGACY_MISMATCH`.
    """
    if token is not None and token.issuer != rule.issuer:
        raise TokenRejected(
            Reason.LEGACY_MISMATCH, f"the token is that of {token.issuer}, the {rule.way} of {rule.issuer}"
        ).claimed_by(token.issuer)


def check_stage(rule: LegacyRule, now: float) -> None:
    """Refuse an old credential whose time is not, or is over, although it is the right one.

    Raises:
        TokenRejected: `LEGACY_OFF`, `LEGACY_ENDED` or `LEGACY_REFUSED`.
    """
    if rule.accepted(now):
        return
    if rule.stage == "off":
        reason, detail = Reason.LEGACY_OFF, "its [[legacy]] row is off"
    elif rule.stage == "require":
        reason, detail = Reason.LEGACY_REFUSED, 'its [[legacy]] row has migration = "require": send a token'
    else:
        reason, detail = Reason.LEGACY_ENDED, "the day in until of its [[legacy]] row is over"
    raise TokenRejected(reason, f"the {rule.way} is the right one; {detail}").claimed_by(rule.issuer)


def _user_and_password(value: bytes) -> tuple[str, bytes]:
    """RFC 7617 section 2, in UTF-8; nothing is guessed."""
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except ValueError:
        raise TokenRejected(Reason.LEGACY_INVALID, "Basic without base64 of UTF-8") from None
    if not colon or any(char < " " or char == "\x7f" for char in user + password):
        raise TokenRejected(Reason.LEGACY_INVALID, "Basic without a colon, or with control characters")
    return user, password.encode()


def _of_nobody(password: str) -> str:
    """A hash that costs what `password` costs, and that no password has."""
    algorithm, version, cost = password.split("$")[1:4]
    return f"${algorithm}${version}${cost}${'A' * 22}${'A' * 43}"
