"""Whom and what a service refuses at once, whatever its trust file says: an immutable list of rules.

A rule never changes, except that it is removed; a removal stays in the list as a mark, so that merging the
lists of two replicas never brings a removed rule back (design: receiving.md, "Deny list").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from .errors import ConfigError, KeyStoreError, StoreReason
from .strict_json import NotStrictJSON, decode_object, encode

_FORMAT = 1
MAX_RULES = 1000
MAX_WHY = 500
KEEP_FINISHED = 30 * 86400  # seconds that a rule stays in the list after it was removed or ran out
# the most specific first: a rule is found by the first of them that it names
_MEMBERS = ("jti", "user_sub", "kid", "issuer")


class DenyRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule; a call is refused if everything that the rule names is so.

    Attributes:
        id: names it, for removing.
        why: a person's reason.
        added_at, until, removed_at: Unix seconds; None for "for ever", and for "not removed".
        issuer, kid, jti: of the token, or None.
        user_sub: subject of the end user, or None.
    """

    id: str
    why: str
    added_at: float
    until: float | None = None
    removed_at: float | None = None
    issuer: str | None = None
    kid: str | None = None
    jti: str | None = None
    user_sub: str | None = None

    def named(self) -> dict[str, str]:
        """What it names, by member."""
        members = {name: getattr(self, name) for name in _MEMBERS}
        return {name: value for name, value in members.items() if value is not None}

    def holds(self, now: float) -> bool:
        """Whether it refuses anything at `now`."""
        return self.removed_at is None and (self.until is None or now < self.until)

    def finished_at(self) -> float | None:
        """The instant since which, or from which on, it refuses nothing; None if it never ends."""
        ends = [at for at in (self.until, self.removed_at) if at is not None]
        return min(ends, default=None)


class DenyList:
    """All rules of one service. Immutable: every change returns another list.

    Attributes:
        rules: by id, finished ones included.
    """

    __slots__ = ("_index", "rules")

    def __init__(self, rules: Iterable[DenyRule] = ()) -> None:
        self.rules: Mapping[str, DenyRule] = MappingProxyType(
            {rule.id: rule for rule in sorted(rules, key=lambda rule: (rule.added_at, rule.id))}
        )
        index: dict[tuple[str, str], list[DenyRule]] = {}
        for rule in self.rules.values():
            if rule.removed_at is None:
                most_specific = next(iter(rule.named().items()))
                index.setdefault(most_specific, []).append(rule)
        self._index = index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DenyList) and self.rules == other.rules

    def __repr__(self) -> str:
        return f"<DenyList of {len(self.rules)} rules>"

    def find(
        self, now: float, *, issuer: str, kid: str, jti: str, user_sub: str | None = None
    ) -> DenyRule | None:
        """The first rule that refuses such a call at `now` (Unix seconds), or None."""
        if not self._index:
            return None
        call = {"issuer": issuer, "kid": kid, "jti": jti, "user_sub": user_sub}
        for member, value in call.items():
            for rule in self._index.get((member, value), ()) if value is not None else ():
                if rule.holds(now) and rule.named().items() <= call.items():
                    return rule
        return None

    def add(self, rule: DenyRule) -> DenyList:
        """With one rule more.

        Raises:
            ConfigError: it names nothing, its reason is empty or too long, or there are too many rules.
        """
        if not rule.named():
            raise ConfigError("a deny rule must name an issuer, a kid, a jti or a user; it would deny all")
        if not 0 < len(rule.why) <= MAX_WHY:
            raise ConfigError(f"why must say the reason in 1 to {MAX_WHY} characters")
        if len(self.rules) >= MAX_RULES:
            raise ConfigError(
                f"{MAX_RULES} deny rules are kept at most; to refuse a whole caller, deny its issuer, or "
                "take it out of the trust file"
            )
        return DenyList([*self.rules.values(), rule])

    def remove(self, rule_id: str, now: float) -> DenyList:
        """Without the effect of one rule.

        Raises:
            ConfigError: there is no such rule.
        """
        rule = self.rules.get(rule_id)
        if rule is None:
            known = ", ".join(self.rules) or "none"
            raise ConfigError(f"no deny rule {rule_id!r}; there are: {known}")
        removed = msgspec.structs.replace(rule, removed_at=min(now, rule.removed_at or now))
        return DenyList({**self.rules, rule_id: removed}.values())

    def merge(self, other: DenyList) -> DenyList:
        """Both lists in one; a rule that either has removed is removed. `self` where nothing changes."""
        rules = dict(self.rules)
        for rule_id, rule in other.rules.items():
            mine = rules.setdefault(rule_id, rule)
            removals = [at for at in (mine.removed_at, rule.removed_at) if at is not None]
            rules[rule_id] = msgspec.structs.replace(mine, removed_at=min(removals, default=None))
        return self if rules == self.rules else DenyList(rules.values())

    def pruned(self, now: float) -> DenyList:
        """Without rules that were finished long ago. `self` where there are none."""
        kept = [
            rule
            for rule in self.rules.values()
            if (ended := rule.finished_at()) is None or now < ended + KEEP_FINISHED
        ]
        return self if len(kept) == len(self.rules) else DenyList(kept)

    def to_bytes(self) -> bytes:
        """The document to seal and store."""
        return encode({"v": _FORMAT, "rules": list(self.rules.values())})

    @classmethod
    def parse(cls, data: bytes) -> DenyList:
        """Read a document that was sealed by a replica of the same service.

        Raises:
            KeyStoreError: `UNREADABLE`, for anything that no replica writes.
        """
        try:
            document: Any = decode_object(data)
            if document["v"] != _FORMAT:
                raise ValueError("format")
            return cls(msgspec.convert(document["rules"], list[DenyRule]))
        except (NotStrictJSON, msgspec.ValidationError, KeyError, TypeError, ValueError, StopIteration):
            raise KeyStoreError(
                StoreReason.UNREADABLE,
                f"the stored deny list opened but is not one of format {_FORMAT}; a newer version of "
                "s2s-mesh, or something else, wrote it",
            ) from None


EMPTY = DenyList()
