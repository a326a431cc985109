"""What `s2s-mesh federate check` says: our published documents against a cloud's rules. No I/O.

The rules are those of `clouds.py`; what they rest on: standards section (d), and the documents of the API
server of Kubernetes, which AWS, Google and Azure read every day.
"""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from . import clouds
from .clouds import Cloud
from .errors import ConfigError
from .federation import way_out
from .findings import Finding, Verdict
from .keyring import KeyRing
from .keys import PRIVATE_MEMBERS
from .rotation import RotationSchedule

LEAD = 86400.0  # seconds: no cloud says for how long it caches keys
_REQUIRED = ("issuer", "jwks_uri", "response_types_supported", "subject_types_supported")
_ALGORITHMS = "id_token_signing_alg_values_supported"
# names that mean nothing on the internet (RFC 2606, RFC 6762, RFC 8375, platforms' private networks)
_PRIVATE_NAMES = ("localhost", "local", "internal", "test", "invalid", "home.arpa", "flycast", "lan")
_BREAKING = frozenset({"key_ops", "x5c", "x5t", "x5t#S256", "x5u"})


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A document as the world sees it.

    Attributes:
        place: its URL.
        members: what it says, or None where there is no strict JSON object.
        error: why none came.
    """

    place: str
    members: Mapping[str, Any] | None = None
    error: str = ""


def issuer_url(cloud: Cloud, issuer: str) -> Finding:
    """Whether the cloud takes the issuer by its name."""
    parts = urlsplit(issuer)
    problems, cures = [], []
    if parts.scheme != "https":
        problems.append("not https")
        cures.append("give this service an https URL (S2S_MESH_ISSUER)")
    if cloud.public and not _is_public(parts.hostname or ""):
        problems.append(f"{parts.hostname} is not a name on the internet")
        cures.append(f"publish the documents where {cloud.title} reaches them")
    if not cloud.port and parts.port is not None:
        problems.append(f"names port {parts.port}")
        cures.append("serve it on 443, and name no port")
    if len(issuer) > cloud.max_issuer:
        problems.append(f"{len(issuer)} characters")
        cures.append("choose a shorter one")
    return _finding(
        "issuer",
        problems,
        cures,
        good=issuer,
        expected=f"https{', on the internet' if cloud.public else ''}{'' if cloud.port else ', no port'}, at "
        f"most {cloud.max_issuer} characters",
    )


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not any(host == name or host.endswith(f".{name}") for name in _PRIVATE_NAMES)


def subject(about: str | None, issuer: str) -> Finding:
    """Whether `sub` can be registered everywhere."""
    try:
        known = clouds.check_subject(about, issuer)
    except ConfigError as refused:
        return _finding("subject", [str(refused)], ["choose another one (--subject)"])
    return _finding("subject", [], [], good=f"{known} ({len(known)} bytes)")


def lead(schedule: RotationSchedule) -> Finding:
    """Whether a new key is published for long enough before it signs."""
    short = schedule.lead < LEAD
    return _finding(
        "rotation",
        [f"the next key is published {schedule.lead:g} s before it signs"] if short else [],
        ["set S2S_MESH_ROTATION=cloud-federation in every process of this service"] if short else [],
        good=f"the next key is published {schedule.lead:g} s before it signs",
        expected=f"{LEAD:g} s at least: clouds do not say for how long they cache keys",
        worst=Verdict.WARN,
    )


def algorithms(cloud: Cloud, ring: KeyRing | None, now: float) -> Finding:
    """Whether the cloud verifies what signs now, and what signs next.

    Args:
        cloud: the provider.
        ring: as it is stored, or None where there is none.
        now: Unix seconds.
    """
    expected = f"one of {', '.join(sorted(cloud.algorithms))}"
    record = None if ring is None else ring.signing_record(now)
    if ring is None or record is None:
        return Finding(
            check="algorithm",
            verdict=Verdict.SKIPPED,
            found="no key signs yet",
            expected=expected,
            do="start the service, or run `s2s-mesh keys init`",
        )
    problems = []
    successor = ring.successor(now)
    if record.public.alg not in cloud.algorithms:
        problems.append(f"{record.public.alg} signs")
    elif successor is not None and successor.public.alg not in cloud.algorithms:
        problems.append(f"{successor.public.alg} signs next")
    good = f"{record.public.alg} signs"
    return _finding("algorithm", problems, [way_out(cloud)], good=good, expected=expected)


def discovery(issuer: str, document: Seen, jwks: Seen) -> Finding:
    """Whether the discovery document says what clouds read, exactly."""
    expected = "the issuer byte for byte, jwks_uri, and the algorithms of the published keys"
    if document.members is None:
        return _away("discovery document", document, issuer)
    members = document.members
    problems = [f"no {name}" for name in _REQUIRED if name not in members]
    if "issuer" in members and members["issuer"] != issuer:
        problems.append(f"issuer is {members['issuer']!r:.300}")
    uri = members.get("jwks_uri")
    if "jwks_uri" in members and not (isinstance(uri, str) and uri.startswith("https://")):
        problems.append("jwks_uri is not https")
    named = members.get(_ALGORITHMS)
    published = sorted({str(key.get("alg")) for key in _keys(jwks)})
    if named != published and _keys(jwks):
        problems.append(f"{_ALGORITHMS} is {named!r:.300}, and the keys are for {published!r:.300}")
    problems += [f"{_foreign(name)} is empty" for name, value in members.items() if value in ([], "")]
    cures = [f"have {document.place} answered by service.routes or `s2s-mesh serve`, and no copy of it"]
    return _finding("discovery document", problems, cures, good=document.place, expected=expected)


def keys(cloud: Cloud, jwks: Seen, ring: KeyRing | None, now: float) -> Iterator[Finding]:
    """Whether the cloud can use the published keys.

    Args:
        cloud: the provider.
        jwks: as published.
        ring: as it is stored, or None where there is none.
        now: Unix seconds.
    """
    if jwks.members is None:
        yield _away("JWKS", jwks, "this issuer")
        return
    found = _keys(jwks)
    kids = Counter(str(key.get("kid")) for key in found)
    signing = None if ring is None else ring.signing_record(now)
    problems, cures = [], []
    if not found:
        problems.append("no keys")
    if len(found) > cloud.max_keys:
        problems.append(f"{len(found)} keys")
    problems += [f"{count} keys with the kid {_foreign(kid)}" for kid, count in kids.items() if count > 1]
    if signing is not None and signing.kid not in kids:
        problems.append(f"{signing.kid} signs and is not published there")
    if problems:
        cures.append("see that whoever serves this issuer uses this key store, and that no cache is stale")
    yield _finding(
        "JWKS",
        problems,
        cures,
        good=f"{len(found)} keys",
        expected=f"the key that signs, kids that differ, at most {cloud.max_keys} keys",
    )
    if found:
        yield _members(found)
        yield _kinds(cloud, found)


def _members(found: list[Mapping[str, Any]]) -> Finding:
    """Every key by itself: what must be there, and what breaks it at one cloud or another."""
    problems = []
    for position, key in enumerate(found):
        name = _foreign(key.get("kid", f"keys[{position}]"))
        missing = [member for member in ("kid", "alg", "use", "kty") if not isinstance(key.get(member), str)]
        problems += [f"{name} has no {member}" for member in missing]
        problems += [f"{name} has {member}" for member in sorted(key.keys() & (_BREAKING | PRIVATE_MEMBERS))]
        if key.get("use") not in (None, "sig"):
            problems.append(f"{name} is not for signatures")
    return _finding(
        "members of keys",
        problems,
        ["publish what `s2s-mesh jwks` prints, and nothing else"],
        good="kid, alg, use and the public numbers",
        expected="kid, alg and use; no key_ops, which breaks keys at AWS; no certificates; nothing private",
    )


def _kinds(cloud: Cloud, found: list[Mapping[str, Any]]) -> Finding:
    """Keys that the cloud does not know: skipped where it fetches them, refused where they are uploaded."""
    strange = sorted({_foreign(key.get("alg")) for key in found if key.get("kty") not in ("RSA", "EC")})
    usable = [key for key in found if key.get("alg") in cloud.algorithms]
    problems, cures = [], []
    if not usable:
        problems.append(f"none for {', '.join(sorted(cloud.algorithms))}")
        cures.append(way_out(cloud))
    elif strange and cloud.name == "gcp":
        problems.append(f"keys for {', '.join(strange)}, which must not be in an uploaded JWKS")
        cures.append("upload `s2s-mesh keys export-public --for gcp`; where Google fetches, all is well")
    return _finding(
        "kinds of keys",
        problems,
        cures,
        good=f"{len(usable)} that {cloud.title} verifies",
        expected=f"keys for {', '.join(sorted(cloud.algorithms))}",
        worst=Verdict.FAIL if not usable else Verdict.WARN,
    )


def _keys(jwks: Seen) -> list[Mapping[str, Any]]:
    found = None if jwks.members is None else jwks.members.get("keys")
    return [key for key in found if isinstance(key, dict)] if isinstance(found, list) else []


def _foreign(text: object) -> str:
    """What somebody else has written, short and without what steers a terminal."""
    return json.dumps(str(text))[1:-1][:50]


def _away(check: str, seen: Seen, issuer: str) -> Finding:
    return _finding(
        check,
        [f"{seen.place}: {seen.error}"],
        [f"serve service.routes at {issuer}, or `s2s-mesh serve`; see that DNS, TLS and firewall are open"],
        expected="an answer of 200 with JSON",
    )


def _finding(
    check: str,
    problems: list[str],
    cures: list[str],
    *,
    good: str = "",
    expected: str = "",
    worst: Verdict = Verdict.FAIL,
) -> Finding:
    return Finding(
        check=check,
        verdict=worst if problems else Verdict.OK,
        found="; ".join(problems) or good,
        expected=expected,
        do="; ".join(cures) if problems else "",
    )
