"""What `s2s-mesh doctor` says about the services of a trust file, its own among them. Judgments only, no I/O.

A look is one retrieval of an issuer's keys from where the trust file says, made by the code that a running
service uses. What it says about the service itself: `findings.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from statistics import median

import msgspec

from .findings import Finding, Verdict
from .jwks import JWKSet
from .keyring import KeyRing
from .rotation import RotationSchedule
from .trust import TrustConfig, TrustedPair
from .trust_issuers import Accepted

_MOVED = frozenset({301, 302, 303, 307, 308, 404, 410})
_LEEWAY = 30.0  # what receivers forgive unless told
_CLOCKS_AGREE = 5.0  # seconds; a Date has whole ones, and machines that keep time by NTP differ by far less


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was found where an issuer's keys should be.

    Attributes:
        place: the URL or file.
        jwks: its keys, or None.
        error: why none came.
        status: the HTTP status of an answer of no use, or None.
        max_age: seconds that the answer is fresh, or None where it does not say.
        etag: its entity tag, or None.
        ahead: seconds by which the server's clock is ahead of ours; None where it does not say.
    """

    place: str
    jwks: JWKSet | None = None
    error: str = ""
    status: int | None = None
    max_age: float | None = None
    etag: str | None = None
    ahead: float | None = None

    @property
    def answers(self) -> bool:
        """Whether anybody is there."""
        return self.jwks is not None or self.status is not None


def seconds_ahead(asked: float, answered: float, shown: float) -> float:
    """By how much a clock that showed the whole second `shown` meanwhile is ahead; negative if it is behind.

    Args:
        asked, answered: Unix seconds by our clock, before and after.
        shown: the second that the other clock showed, cut off.
    """
    if shown > answered:
        return shown - answered
    return min(shown + 1 - asked, 0.0)


# -- our own URL ------------------------------------------------------------------------------------------


def own_url(issuer: str, look: Look, ring: KeyRing | None, now: float) -> Iterator[Finding]:
    """What the world sees of us, as seen from here.

    Args:
        issuer: ourselves.
        look: at our own JWKS.
        ring: as it is stored, if it is known.
        now: Unix seconds.
    """
    if look.jwks is None:
        yield Finding(
            check="own URL",
            verdict=Verdict.FAIL,
            found=f"{look.place}: {_why(look)}",
            expected="our JWKS, answered with 200",
            do=f"serve service.routes at {issuer}, or `s2s-mesh serve` beside a job; see that DNS, TLS and "
            "firewall let receivers reach it",
        )
        return
    yield Finding(check="own URL", verdict=Verdict.OK, found=f"{look.place} answers {_count(look.jwks)}")
    signing = None if ring is None else ring.signing_record(now)
    if signing is not None:
        there = signing.kid in look.jwks.keys
        yield Finding(
            check="own keys",
            verdict=Verdict.OK if there else Verdict.FAIL,
            found="the key that signs is published"
            if there
            else f"{signing.kid} signs and is not published there",
            expected="the keys of the ring in S2S_MESH_KEY_STORE",
            do=""
            if there
            else f"see that whoever serves {issuer} uses this store and S2S_MESH_ISSUER, and that no cache "
            "on the way keeps answers longer than max-age",
        )


def headers(check: str, look: Look, schedule: RotationSchedule) -> Finding | None:
    """Whether an answer can be cached and refreshed as the schedule takes for granted; None for a file."""
    if look.jwks is None or "://" not in look.place:
        return None
    problems, cures = [], []
    if look.etag is None:
        problems.append("no ETag")
        cures.append("have its server or proxy send an ETag (some drop it when they compress)")
    if look.max_age is None:
        problems.append("no Cache-Control: max-age")
        cures.append(f"send Cache-Control: max-age={schedule.served_max_age:g}")
    elif look.max_age > schedule.foreign_cache:
        problems.append(f"max-age {look.max_age:g}: a revoked key stays in use for as long")
        cures.append(f"send Cache-Control: max-age={schedule.served_max_age:g}")
    tag = [] if look.etag is None else ["ETag"]
    age = [] if look.max_age is None else [f"fresh for {look.max_age:g} s"]
    return Finding(
        check=check,
        verdict=Verdict.WARN if problems else Verdict.OK,
        found="; ".join(problems) or ", ".join(tag + age),
        expected=f"an ETag, and max-age of {schedule.foreign_cache:g} at most",
        do="; ".join(cures),
    )


# -- clocks -----------------------------------------------------------------------------------------------


def clocks(looks: Mapping[str, Look], trust: TrustConfig) -> Iterator[Finding]:
    """Whether this machine's clock agrees with those of the servers that were asked; `looks` by issuer."""
    ahead = {issuer: look.ahead for issuer, look in looks.items() if look.ahead is not None}
    wrong = {issuer: by for issuer, by in ahead.items() if abs(by) > _CLOCKS_AGREE}
    if not ahead:
        found = "no server said what time it is"
        yield Finding(check="clock", verdict=Verdict.SKIPPED, found=found, expected="a Date in their answers")
    elif not wrong:
        found = f"agrees with {_servers(len(ahead))}"
        yield Finding(check="clock", verdict=Verdict.OK, found=found)
    elif len(ahead) > 1 and (alike := _most(list(wrong.values()), len(ahead))):
        leeway = min(_leeway(trust, issuer) for issuer in wrong)
        do = "set this machine's clock: run an NTP client on it"
        yield _clock("clock of this machine", -median(alike), leeway, do)
    else:
        for issuer, by in wrong.items():
            do = "set its clock, or this machine's: run an NTP client there"
            yield _clock(f"clock of {issuer}", by, _leeway(trust, issuer), do)


def _most(differences: list[float], of: int) -> list[float]:
    """The differences in one direction, if more than half of all have them; else none."""
    for alike in ([by for by in differences if by > 0], [by for by in differences if by < 0]):
        if 2 * len(alike) > of:
            return alike
    return []


def _clock(check: str, by: float, leeway: float, do: str) -> Finding:
    return Finding(
        check=check,
        verdict=Verdict.FAIL if abs(by) > leeway else Verdict.WARN,
        found=f"{abs(by):.0f} s {'fast' if by > 0 else 'slow'}; tokens are forgiven {leeway:g} s",
        expected=f"{_CLOCKS_AGREE:g} s at most",
        do=do,
    )


def _leeway(trust: TrustConfig, issuer: str) -> float:
    known = trust.key_sources.get(issuer)
    return _LEEWAY if known is None else known.leeway


def _servers(count: int) -> str:
    return "the server that was asked" if count == 1 else f"the {count} servers that were asked"


# -- issuers and pairs ------------------------------------------------------------------------------------


def issuer_keys(source: Accepted, look: Look) -> Finding:
    """Whether tokens of an issuer can be verified: its keys are there, and of an algorithm that we accept."""

    def finding(verdict: Verdict, found: str, do: str = "") -> Finding:
        return Finding(
            check=f"keys of {source.issuer}",
            verdict=verdict,
            found=found,
            expected=f"a key for {_listed(source.algorithms)} at {look.place}",
            do=do,
        )

    if look.jwks is None:
        return finding(
            Verdict.FAIL,
            f"{look.place}: {_why(look)}",
            "start that issuer, or let this machine reach it; if its keys are elsewhere, set jwks_uri or "
            "jwks_file in its table",
        )
    if not look.jwks.keys:
        return finding(
            Verdict.FAIL, "no usable key: all of them are revoked", "see to that service's key ring"
        )
    if not _algorithms(look) & source.algorithms:
        return finding(
            Verdict.FAIL,
            f"only keys for {_listed(_algorithms(look))}",
            f"add one of them to algorithms, or have it run `s2s-mesh keys rotate --algorithm "
            f"{min(source.algorithms)}`",
        )
    return finding(Verdict.OK, f"{_count(look.jwks)} for {_listed(_algorithms(look))}")


def pair(row: TrustedPair, accepted: Accepted, issuer: Look, audience: Look) -> Finding:
    """Whether both ends of an [[allow]] row are there, and fit. One end alone makes a one-way pair.

    Args:
        row: one issuer may call one audience.
        accepted: what is accepted from the issuer.
        issuer: the look at its keys.
        audience: the look at the called service's own documents; that it answers is enough.
    """

    def finding(verdict: Verdict, found: str, do: str = "") -> Finding:
        return Finding(
            check=f"{row.issuer} -> {row.audience}",
            verdict=verdict,
            found=found,
            expected="both ends answer, and the issuer's keys are accepted",
            do=do,
        )

    signs = issuer.jwks is not None and bool(_algorithms(issuer) & accepted.algorithms)
    if signs and audience.answers:
        return finding(Verdict.OK, "both ends answer")
    if signs:
        return finding(
            Verdict.WARN,
            f"one-way: the issuer signs, and nobody answers at the audience ({_why(audience)})",
            "start the audience or mend its id in the row; all is well if callers reach it by another "
            "address (origins=...)",
        )
    if audience.answers:
        return finding(
            Verdict.FAIL,
            "one-way: the audience answers, and refuses all calls, because the issuer's keys cannot be had",
            f"mend `keys of {row.issuer}`, or delete the row",
        )
    return finding(Verdict.FAIL, "neither end answers", "delete the row if these services are gone")


def file_age(
    trust: TrustConfig, looks: Mapping[str, Look], published: Mapping[str, Look]
) -> Iterator[Finding]:
    """Whether the trust file speaks of the fleet as it is: nobody moved, pinned keys are in use.

    Args:
        trust: the file.
        looks: by issuer, at what the file says.
        published: by issuer with a `jwks_file`, what its own URL publishes now, as far as that answers.
    """

    def finding(found: str, do: str, verdict: Verdict = Verdict.FAIL) -> Finding:
        return Finding(
            check="trust file's age",
            verdict=verdict,
            found=found,
            expected="every issuer's keys are where it says, and those that it pins are in use",
            do=do,
        )

    old = False
    for issuer, look in looks.items():
        if issuer in trust.key_sources and look.status in _MOVED:
            old = True
            yield finding(
                f"old: {look.place} answers {look.status}, so {issuer} has moved or is gone",
                "deploy the present trust file; or set jwks_uri for it, or delete its rows",
            )
    for issuer, look in published.items():
        pinned = looks[issuer].jwks
        if look.jwks is None or pinned is None or look.jwks.keys.keys() <= pinned.keys.keys():
            continue
        old = True
        missing = len(look.jwks.keys.keys() - pinned.keys.keys())
        yield finding(
            f"old: {looks[issuer].place} lacks {missing} of the {_count(look.jwks)} that {issuer} publishes",
            f"export them again: `s2s-mesh keys export-public --output FILE` at {issuer}",
            # one that is to come is not missed yet
            Verdict.FAIL if missing == len(look.jwks.keys) else Verdict.WARN,
        )
    if not old:
        yield finding("nothing in it is known to be old", "", Verdict.OK)


def own_part(trust: TrustConfig, audiences: Collection[str]) -> Finding:
    """Whether the trust file is about this service at all.

    Args:
        trust: the whole file.
        audiences: this service's id and aliases.
    """
    called = sum(row.audience in audiences for row in trust.pairs.values())
    calls = sum(row.issuer in audiences for row in trust.pairs.values())
    named = called + calls > 0
    return Finding(
        check="own rows",
        verdict=Verdict.OK if named else Verdict.WARN,
        found=f"{called} may call this service, and it may call {calls}"
        if named
        else "none: this service may do nothing",
        expected="an [[allow]] row with this service as issuer or audience",
        do=""
        if named
        else "see that S2S_MESH_TRUST_FILE names the right file, and S2S_MESH_ISSUER the right service",
    )


def _why(look: Look) -> str:
    return look.error.removeprefix(f"{look.place}: ")


def _algorithms(look: Look) -> frozenset[str]:
    return frozenset() if look.jwks is None else frozenset(key.alg for key in look.jwks.keys.values())


def _listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words))


def _count(jwks: JWKSet) -> str:
    return f"{len(jwks.keys)} key{'' if len(jwks.keys) == 1 else 's'}"
