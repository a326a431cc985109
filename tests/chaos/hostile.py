"""Calls that have to be refused: forged, stolen, expired and misdirected tokens, all the time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx

from s2s_mesh import RotationSchedule
from s2s_mesh.claims import build
from s2s_mesh.keyrecord import KeyRecord
from s2s_mesh.keys import SigningKey
from tests import tokens

from .fleet import ISSUERS, LEEWAY, RECEIVERS, Fleet
from .rings import Rings

LIFE = int(RotationSchedule.FAST_FOR_TESTS.max_token_life)
_HELD_LIFE = 600  # seconds; a thief's token lives as long as he likes
_LEAST = 5  # attempts of every kind
_PAUSE = 0.04  # seconds between two hostile calls


class Attempt(NamedTuple):
    """One hostile call: its kind, when it was sent (Unix seconds), and the answer; status 0 for none."""

    kind: str
    at: float
    status: int
    request_id: str


class Stolen(NamedTuple):
    """A key that was revoked: its private half, a token made before, and when it has to be refused."""

    issuer: str
    key: SigningKey
    token: bytes
    audience: str
    refused_from: float


class _Case(NamedTuple):
    """What a hostile caller has at hand: one issuer's signing key, and two receivers."""

    issuer: str
    signing: SigningKey
    audience: str
    other: str


# the reason that the receiver's log has to name for each kind, at least once
REASONS = {
    "expired token": "expired",
    "token for another receiver": "wrong_audience",
    "revoked key": "unknown_kid",
    "foreign key under a known kid": "bad_signature",
    "key that nobody publishes": "unknown_kid",
    "issuer that nobody lists": "unknown_issuer",
    "alg none": "bad_algorithm",
    "tampered payload": "bad_signature",
}


class Hostile:
    """Makes such calls to the receivers, and keeps what became of them.

    Args:
        fleet: whom to call.
        rings: to steal keys from.
    """

    def __init__(self, fleet: Fleet, rings: Rings) -> None:
        self.attempts: list[Attempt] = []
        self.stolen: list[Stolen] = []
        self._fleet = fleet
        self._rings = rings
        self._foreign = {alg: SigningKey.generate(alg) for alg in ("ES256", "RS256")}
        self._makers: dict[str, Callable[[_Case, float], bytes | None]] = {
            "expired token": lambda case, now: _good(case, now - LIFE - LEEWAY - 1),
            "token for another receiver": lambda case, now: _good(case._replace(audience=case.other), now),
            "revoked key": self._revoked,
            "foreign key under a known kid": self._under_known_kid,
            "key that nobody publishes": lambda case, now: _good(
                case._replace(signing=self._foreign["ES256"]), now
            ),
            "issuer that nobody lists": lambda case, now: _good(
                case._replace(issuer="http://127.0.0.1:1", signing=self._foreign["ES256"]), now
            ),
            "alg none": _unsigned,
            "tampered payload": _tampered,
        }
        assert self._makers.keys() == REASONS.keys()

    async def go_on(self) -> None:
        """Try everything in turn until cancelled."""
        # a new connection each time, so that it is the turn of every replica
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(trust_env=False, timeout=10, limits=limits) as http:
            turn = 0
            while True:
                for kind, make in self._makers.items():
                    turn += 1
                    case = self._case(turn)
                    if case is not None:
                        await self._attempt(http, kind, make, case)
                    await asyncio.sleep(_PAUSE)

    def accepted(self) -> list[Attempt]:
        """Attempts that were let in."""
        return [attempt for attempt in self.attempts if 200 <= attempt.status < 300]

    def tried_everything(self) -> bool:
        """Whether there were some attempts of every kind."""
        tried = Counter(attempt.kind for attempt in self.attempts)
        return all(tried[kind] >= _LEAST for kind in REASONS)

    def held_token(self, issuer: str, key: SigningKey, audience: str) -> bytes:
        """A token that lives long, of a key that is about to be revoked."""
        claims = build(issuer=issuer, audience=audience, scopes=None, now=time.time(), life=_HELD_LIFE)
        return tokens.sign(tokens.header(key), claims, key)

    def outcomes(self, reasons: Mapping[str, str]) -> dict[str, Counter[str]]:
        """How often each kind was refused for which reason, given the receivers' logs."""
        counted: dict[str, Counter[str]] = {kind: Counter() for kind in REASONS}
        for attempt in self.attempts:
            reason = reasons.get(attempt.request_id, f"status {attempt.status}")
            counted[attempt.kind][reason.partition(":")[0]] += 1
        return counted

    async def _attempt(
        self,
        http: httpx.AsyncClient,
        kind: str,
        make: Callable[[_Case, float], bytes | None],
        case: _Case,
    ) -> None:
        at = time.time()
        token = make(case, at)
        if token is None:
            return
        status, request_id = 0, ""
        try:
            answer = await present(http, case.audience, token)
            status = answer.status_code
            request_id = str(answer.json().get("instance", "")).removeprefix("urn:uuid:")
        except (httpx.HTTPError, ValueError):
            pass  # no answer is no admission
        self.attempts.append(Attempt(kind, at, status, request_id))

    def _case(self, turn: int) -> _Case | None:
        name = ISSUERS[turn % len(ISSUERS)]
        ring = self._rings.latest.get(name)
        record: KeyRecord | None = None if ring is None else ring.signing_record(time.time())
        if record is None or record.private is None:
            return None
        audience, other = (self._fleet.ids[RECEIVERS[(turn + n) % len(RECEIVERS)]] for n in (0, 1))
        return _Case(self._fleet.ids[name], record.private, audience, other)

    def _revoked(self, case: _Case, now: float) -> bytes | None:
        for stolen in self.stolen:
            if now > stolen.refused_from:
                if case.audience == stolen.audience and len(self.attempts) % 2:
                    return stolen.token
                return _good(case._replace(issuer=stolen.issuer, signing=stolen.key), now)
        return None

    def _under_known_kid(self, case: _Case, now: float) -> bytes:
        foreign = self._foreign[case.signing.alg]
        return tokens.sign(tokens.header(case.signing), _claims(case, now), foreign)


async def present(http: httpx.AsyncClient, audience: str, token: bytes) -> httpx.Response:
    """Send a token to a receiver."""
    return await http.post(f"{audience}/entries", headers={"authorization": f"Bearer {token.decode()}"})


def _claims(case: _Case, now: float) -> dict[str, Any]:
    return build(issuer=case.issuer, audience=case.audience, scopes=None, now=now, life=LIFE)


def _good(case: _Case, now: float) -> bytes:
    return tokens.sign(tokens.header(case.signing), _claims(case, now), case.signing)


def _unsigned(case: _Case, now: float) -> bytes:
    return tokens.sign(tokens.header(case.signing, alg="none"), _claims(case, now), case.signing)


def _tampered(case: _Case, now: float) -> bytes:
    header, _, signature = _good(case, now).split(b".")
    changed = {**_claims(case, now), "exp": int(now) + _HELD_LIFE}
    return b".".join([header, tokens.encode(changed), signature])
