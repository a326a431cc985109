"""What changes for whom between two trust files: for the person who reviews the change."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timezone
from enum import Enum
from itertools import chain
from typing import Any, TypeVar

import msgspec

from .trust import RouteRule, SubjectRule, TrustConfig, TrustedPair
from .trust_issuers import Accepted
from .trust_legacy import LegacyRule
from .trust_relaxations import of_issuer
from .trust_report import shown

Row = TypeVar("Row")
_PLAIN = re.compile(r"[!#-+\--~]+", re.ASCII)  # printable, without spaces, commas and quotes
_FLAGS = {
    "eddsa": "EdDSA as a name of Ed25519",
    "multi_aud": "tokens that are for others as well",
    "allow_missing_typ": "tokens without typ, as JWT",
    "allow_missing_jti": "tokens without jti",
    "keys_without_alg": "keys that do not say for which algorithm they are",
    "ignore_scope": "tokens whatever they say in scope",
}


class Effect(str, Enum):
    """What a change does for its subject."""

    GAINS = "gains"  # more is allowed
    LOSES = "loses"  # less is allowed
    CHANGES = "changes"  # other than before, to be judged by a person


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference.

    Attributes:
        effect: whether more or less is allowed.
        who: the caller, or the service whose route it is.
        what: in words.
    """

    effect: Effect
    who: str
    what: str


def changes(old: TrustConfig, new: TrustConfig) -> tuple[Change, ...]:
    """Every difference in effect, gains first; how the rows are written or ordered makes none."""
    found = [
        *_pairs(old, new),
        *_accepted("tokens", old.issuers, new.issuers),
        *_routes(old, new),
        *_foreign_issuers(old, new),
        *_user_issuers(old, new),
        *_transactions(old, new),
        *_legacy(old, new),
        *_loopback(old, new),
    ]
    return tuple(sorted(found, key=lambda change: list(Effect).index(change.effect)))


def _gains(who: str, what: str) -> Change:
    return Change(effect=Effect.GAINS, who=who, what=what)


def _loses(who: str, what: str) -> Change:
    return Change(effect=Effect.LOSES, who=who, what=what)


def _differs(who: str, what: str) -> Change:
    return Change(effect=Effect.CHANGES, who=who, what=what)


def _by_key(old: Mapping[Any, Row], new: Mapping[Any, Row]) -> Iterator[tuple[Any, Row | None, Row | None]]:
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _pairs(old: TrustConfig, new: TrustConfig) -> Iterator[Change]:
    for (issuer, audience), before, after in _by_key(old.pairs, new.pairs):
        if before is None:
            yield _gains(issuer, f"may call {audience}{_granted(after)}")
        elif after is None:
            yield _loses(issuer, f"may no longer call {audience}{_granted(before)}")
        else:
            yield from _sets(issuer, f"scope at {audience}", before.scopes, after.scopes)
            yield from _sets(
                issuer, f"users it may carry to {audience}: those of", before.may_act_for, after.may_act_for
            )


def _granted(row: TrustedPair | None) -> str:
    assert row is not None  # noqa: S101 - one of the two sides has it
    scopes = f" with {_listed(row.scopes)}" if row.scopes else " without scopes"
    return scopes + (f", on behalf of users of {_listed(row.may_act_for)}" if row.may_act_for else "")


def _sets(who: str, what: str, before: Collection[str], after: Collection[str]) -> Iterator[Change]:
    if more := set(after) - set(before):
        yield _gains(who, f"{what} {_listed(more)}")
    if less := set(before) - set(after):
        yield _loses(who, f"{what} {_listed(less)}")


def _accepted(what: str, old: Mapping[str, Accepted], new: Mapping[str, Accepted]) -> Iterator[Change]:
    """What is accepted from issuers that both files know; others gain and lose it with their rows."""
    for issuer, before, after in _by_key(old, new):
        if before is None and after is not None:
            yield from _unusual(after)
        if before is None or after is None:
            continue
        yield from _sets(issuer, f"its {what} may be signed with", before.algorithms, after.algorithms)
        yield from _sets(issuer, f"its {what} may be of type", before.types, after.types)
        yield from _sets(issuer, "header members", before.header_members, after.header_members)
        for member, words in (("leeway", "clocks may differ by"), ("max_token_life", "tokens may live for")):
            was, now = getattr(before, member), getattr(after, member)
            if was != now:
                made = _gains if now > was else _loses
                yield made(issuer, f"{words} {now:g} s, before {was:g} s")
        yield from _sets(issuer, "its discovery may name keys at", before.jwks_origins, after.jwks_origins)
        if before.place != after.place:
            yield _differs(issuer, f"its keys are taken from {after.place}, before {before.place}")
        if before.ca_file != after.ca_file:
            authorities = (row.ca_file or "the public ones" for row in (after, before))
            yield _differs(issuer, "certificate authorities for its TLS: {}, before {}".format(*authorities))
        if (was := getattr(before, "allow_plain_http", False)) != getattr(after, "allow_plain_http", False):
            made, words = (_loses, "no longer") if was else (_gains, "from now on")
            yield made(issuer, f"its keys may {words} be fetched without TLS")
        for member, words in _FLAGS.items():
            if (was := getattr(before, member, False)) != getattr(after, member, False):
                yield (_loses if was else _gains)(issuer, f"{words} ({member})")


def _unusual(new: Accepted) -> Iterator[Change]:
    """What a new issuer may that others may not, and where its keys come from, if that is not its own id:
    whoever is there speaks in its name.
    """
    for _, what in of_issuer(new):
        yield _gains(new.issuer, what)
    if not new.place.startswith(f"{new.issuer.rstrip('/')}/"):
        yield _differs(new.issuer, f"its keys are taken from {new.place}")


def _routes(old: TrustConfig, new: TrustConfig) -> Iterator[Change]:
    ruled = old.audiences_with_routes & new.audiences_with_routes
    for audience in sorted(old.audiences_with_routes ^ new.audiences_with_routes):
        if audience in new.audiences_with_routes:
            yield _loses(audience, "has route rules from now on: its paths without one are closed")
        else:
            yield _gains(audience, "has no route rule left: every path is open to every known caller")
    methods: dict[tuple[str, Change], list[str]] = {}
    for (audience, path, method), before, after in _by_key(_by_request(old), _by_request(new)):
        for change in _route(audience, before, after, was_ruled=audience in ruled):
            methods.setdefault((path, change), []).append(method)
    # changes that differ by the method only are one line
    for (path, change), names in methods.items():
        yield msgspec.structs.replace(change, what=f"{','.join(names)} {path}: {change.what}")


def _by_request(trust: TrustConfig) -> dict[tuple[str, str, str], RouteRule]:
    return {
        (rule.audience, rule.path, method): msgspec.structs.replace(rule, methods=frozenset({method}))
        for rule in trust.routes
        for method in sorted(rule.methods)
    }


def _route(
    who: str, before: RouteRule | None, after: RouteRule | None, *, was_ruled: bool
) -> Iterator[Change]:
    if before is None or after is None:
        what = "closed, no rule is left" if after is None else f"open to callers with {_need(after)}"
        # where an audience has its first rules, or none any more, the line about the audience says which way
        made = _differs if not was_ruled else _loses if after is None else _gains
        yield made(who, what)
        return
    if more := after.scopes - before.scopes:
        yield _loses(who, f"needs {_listed(more)} as well")
    if less := before.scopes - after.scopes:
        yield _gains(who, f"no longer needs {_listed(less)}")
    for member, weak in (("proof", "bearer"), ("replay", "allow")):
        was, now = getattr(before, member), getattr(after, member)
        if was != now:
            made = _gains if now == weak else _loses if was == weak else _differs
            yield made(who, f"{member} {now}, before {was}")
    if before.user != after.user:
        yield _differs(who, f"user {after.user}, before {before.user}")


def _need(rule: RouteRule) -> str:
    members = (("user", "none"), ("proof", "bearer"), ("replay", "allow"))
    more = [f"{name} {getattr(rule, name)}" for name, usual in members if getattr(rule, name) != usual]
    return ", ".join([_listed(rule.scopes) if rule.scopes else "any scope", *more])


def _foreign_issuers(old: TrustConfig, new: TrustConfig) -> Iterator[Change]:
    """Who vouches for whom, and on what terms."""
    before, after = (frozenset(chain(*trust.subjects.values())) for trust in (old, new))
    for rule in [*chain(*new.subjects.values()), *chain(*old.subjects.values())]:
        if rule not in before:
            yield _gains(rule.service, f"may call with tokens of {_words(rule)}")
        elif rule not in after:
            yield _loses(rule.service, f"may no longer call with tokens of {_words(rule)}")
    for caller in sorted({issuer for issuer, _ in old.pairs} & {issuer for issuer, _ in new.pairs}):
        if (caller in old.issuers) != (caller in new.issuers):
            made, words = (_gains, "from now on") if caller in new.issuers else (_loses, "no longer")
            yield made(caller, f"may {words} call with tokens of its own")
    for issuer, was_known, known in _by_key(old.foreign_issuers, new.foreign_issuers):
        if was_known is None or known is None:
            continue
        names = [set(row.audiences.items()) for row in (was_known, known)]
        for name, service in sorted(names[1] - names[0]):
            yield _gains(issuer, f"aud {name} means {service}")
        for name, service in sorted(names[0] - names[1]):
            yield _loses(issuer, f"aud {name} no longer means {service}")
        if was_known.profile != known.profile:
            yield _differs(issuer, f"profile {known.profile}, before {was_known.profile}")
    yield from _accepted("tokens", old.foreign_issuers, new.foreign_issuers)


def _words(rule: SubjectRule) -> str:
    """Which tokens are meant; two rules that mean other ones never read alike."""
    claims = [f"{'.'.join(map(_name, path))} {_value(value)}" for path, value in rule.claims]
    return f"{rule.issuer} for {', '.join([_text(rule.subject), *claims])}"


def _text(value: str) -> str:
    """As it is, unless it could be read as something else."""
    return value if _PLAIN.fullmatch(value) and value not in ("true", "false") else shown(value)


def _name(name: str) -> str:
    return shown(name) if "." in name else _text(name)


def _value(value: str | bool) -> str:
    return _text(value) if isinstance(value, str) else str(value).lower()


def _user_issuers(old: TrustConfig, new: TrustConfig) -> Iterator[Change]:
    for issuer, before, after in _by_key(old.user_issuers, new.user_issuers):
        audiences = [frozenset() if row is None else row.audiences for row in (before, after)]
        yield from _sets(issuer, "its users' tokens at", *audiences)
    yield from _accepted("users' tokens", old.user_issuers, new.user_issuers)


def _transactions(old: TrustConfig, new: TrustConfig) -> Iterator[Change]:
    before, after = frozenset(old.transactions), frozenset(new.transactions)
    for row in [*new.transactions, *old.transactions]:
        what = f"mint transaction tokens of {row.trust_domain} for {row.audience}"
        if row not in before:
            yield _gains(row.issuer, f"may {what}")
        elif row not in after:
            yield _loses(row.issuer, f"may no longer {what}")


def _legacy(old: TrustConfig, new: TrustConfig) -> Iterator[Change]:
    """Old credentials; which key it is would say nothing to anybody, and is never shown."""
    before, after = ({_same(rule): rule for rule in trust.legacy} for trust in (old, new))
    for _, was, now in _by_key(before, after):
        rule = now or was
        assert rule is not None  # noqa: S101 - one of the two sides has it
        what = f"an old credential ({rule.way}) at {rule.audience}"
        could, can = (row is not None and row.accepted(0) for row in (was, now))  # whenever it ends
        if could != can:
            made, words = (_gains, "may use") if can else (_loses, "may no longer use")
            yield made(rule.issuer, f"{words} {what}{_until(rule) if can else ''}")
        elif was is None or now is None:
            yield _differs(
                rule.issuer, f"{'a row' if was is None else 'no row'} for {what}, which is not taken"
            )
        else:
            if was.stage != now.stage:
                yield _differs(rule.issuer, f"{what}: stage {now.stage}, before {was.stage}")
            if was.ends_at != now.ends_at:
                made = _gains if now.ends_at > was.ends_at else _loses
                yield made(rule.issuer, f"{what}{_until(now)}, before{_until(was)}")
            if was.password != now.password:
                yield _differs(rule.issuer, f"{what}: another password")


def _same(rule: LegacyRule) -> tuple[object, ...]:
    return rule.issuer, rule.audience, rule.way, rule.header, rule.key_digest, rule.user


def _until(rule: LegacyRule) -> str:
    return f" until {datetime.fromtimestamp(rule.ends_at, timezone.utc):%Y-%m-%d %H:%M} UTC"


def _loopback(old: TrustConfig, new: TrustConfig) -> Iterator[Change]:
    if old.allow_loopback_http != new.allow_loopback_http:
        made = _gains if new.allow_loopback_http else _loses
        yield made("everybody", "services on this machine without TLS (allow_loopback_http)")


def _listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words))
