"""A policy of the receiver's own: asked last, about what scopes and route rules allow, and never allows more.

Pure: a policy that has to wait returns an awaitable, which goes to the driver as the effect `AskPolicy`.
Whatever is no clear "allowed" is a refusal (standards (a)2 step 17): a policy that raises, or returns
something else than a `Decision`, denies; one that cannot tell just now is 503.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Generator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from .effects import AskPolicy
from .errors import ConfigError, Forbidden, PolicyUnavailable, Reason, Unavailable
from .identity import Principal
from .routes import external_path

log: logging.Logger = logging.getLogger("s2s_mesh.policy")
INPUT_VERSION = 1
_MAX_REASON = 500  # characters


class PolicyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a call beside its caller. No header field and no token is in it.

    Attributes:
        method: as in the request line; HEAD is HEAD here.
        path: the decoded segments of the external path: `/wallets/42/card` is `("wallets", "42", "card")`,
            and a slash at the end is an empty last segment.
        raw_path: the external path as sent, percent-encoded, without the query.
        audience: which of our own identifiers the caller's token was made for.
        time: whole Unix seconds.
    """

    method: str
    path: tuple[str, ...]
    raw_path: str
    audience: str
    time: int


class Decision(msgspec.Struct, frozen=True):
    """What a policy says. True or false as a condition, as `allowed` is.

    Args:
        allowed: a bool and nothing that is like one.
        reason: for the log; the caller never sees it.

    Raises:
        TypeError: `allowed` is not a bool, or `reason` no text.
    """

    allowed: bool
    reason: str = ""

    def __post_init__(self) -> None:
        if type(self.allowed) is not bool or not isinstance(self.reason, str):
            raise TypeError("expected Decision(True or False, a text)")

    def __bool__(self) -> bool:
        return self.allowed

    @classmethod
    def allow(cls, reason: str = "") -> Decision:
        """The call may go on."""
        return cls(True, reason)

    @classmethod
    def deny(cls, reason: str) -> Decision:
        """The call is refused with 403."""
        return cls(False, reason)


class Policy(Protocol):
    """Decides about calls. It is asked for each of them, also where the token was verified before."""

    def decide(self, facts: PolicyFacts, principal: Principal) -> Decision | Awaitable[Decision]:
        """Decide about one call; `async def` where that has to wait, because others wait meanwhile.

        Args:
            facts: what is called.
            principal: who calls, verified; for whom, in `principal.user`.

        Raises:
            PolicyUnavailable: nobody can tell just now: 503. Anything else raised is a bug, and denies.
        """


class _InOrder:
    """Policies that are asked one after the other until one of them settles it."""

    _settles: bool

    def __init__(self, *policies: Policy) -> None:
        if not policies:
            # all of nothing would allow everything, any of nothing would deny everything: neither is meant
            raise ConfigError(f"{type(self).__name__}() has no policy in it; give at least one")
        self.policies: tuple[Policy, ...] = tuple(
            check_policy(policy, f"{type(self).__name__}, policy {place}")
            for place, policy in enumerate(policies, start=1)
        )

    def decide(self, facts: PolicyFacts, principal: Principal) -> Decision | Awaitable[Decision]:
        """See `Policy.decide`; an awaitable only if a policy that is asked returns one."""
        return self._ask(0, facts, principal)

    def _ask(self, start: int, facts: PolicyFacts, principal: Principal) -> Decision | Awaitable[Decision]:
        for place in range(start, len(self.policies)):
            answer = self.policies[place].decide(facts, principal)
            if inspect.isawaitable(answer):
                return _Later(self, place, answer, facts, principal)
            if self.is_last(place, decided := _decision(answer)):
                return decided
        raise AssertionError("unreachable: the last one settles it")  # pragma: no cover

    def is_last(self, place: int, decision: Decision) -> bool:
        """Whether nobody after this one is asked."""
        return decision.allowed is self._settles or place == len(self.policies) - 1


class AllOf(_InOrder):
    """Allows what all of these policies allow; they are asked in order, until one denies.

    Raises:
        ConfigError: there is none, or one of them is no policy.
    """

    _settles = False


class AnyOf(_InOrder):
    """Allows what one of these policies allows; they are asked in order, until one does.

    One that raises ends it: what comes after a policy that cannot tell is not asked.

    Raises:
        ConfigError: there is none, or one of them is no policy.
    """

    _settles = True


class _Later:
    """The rest of an `_InOrder` from a policy on that has to be awaited."""

    def __init__(
        self,
        whole: _InOrder,
        place: int,
        pending: Awaitable[Decision],
        facts: PolicyFacts,
        principal: Principal,
    ) -> None:
        self._whole = whole
        self._place = place
        self._pending = pending
        self._call = facts, principal

    def __await__(self) -> Generator[Any, Any, Decision]:
        return self._decide().__await__()

    async def _decide(self) -> Decision:
        decision = _decision(await self._pending)
        if self._whole.is_last(self._place, decision):
            return decision
        answer = self._whole._ask(self._place + 1, *self._call)
        return await answer if inspect.isawaitable(answer) else _decision(answer)

    def close(self) -> None:
        """As a coroutine's own: nobody is going to await it."""
        discard(self._pending)


def check_policy(policy: Any, name: str) -> Policy:
    """Return `policy` if it can be asked.

    Args:
        policy: what somebody configured.
        name: of the argument, for the message.

    Raises:
        ConfigError: it has no `decide`, or is a class and not an object of it.
    """
    if isinstance(policy, type) or not callable(getattr(policy, "decide", None)):
        what = f"the class {policy.__name__}" if isinstance(policy, type) else type(policy).__name__
        raise ConfigError(f"{name}: found {what}; expected an object with decide(facts, principal)")
    found: Policy = policy
    return found


def ask(policy: Policy, method: str, raw_path: bytes, principal: Principal, now: float) -> Any:
    """Ask a policy about a request.

    Returns:
        An effect, `AskPolicy`, if the answer has to be awaited; else what the policy returned or raised, for
        `enforce`.

    Raises:
        Forbidden: the path has no one meaning, so no policy could decide about what the application will see.
    """
    path = external_path(raw_path)
    if path is None:
        raise Forbidden(Reason.BAD_PATH, "the path has forms that routers read differently")
    facts = PolicyFacts(
        method=method,
        path=tuple(path[1:].split("/")),
        raw_path=raw_path.decode("ascii"),
        audience=principal.audience,
        time=int(now),
    )
    try:
        answer: Any = policy.decide(facts, principal)
    except Exception as raised:  # noqa: BLE001 - judged by `enforce`
        return raised
    return AskPolicy(answer) if inspect.isawaitable(answer) else answer


def enforce(said: Any, principal: Principal) -> None:
    """Return if a policy allowed the call.

    Args:
        said: what it returned or raised.
        principal: who calls.

    Raises:
        Forbidden: it did not. Neither did a policy that failed: that is no passing trouble, so it is a 403
            and not the 503 that asks callers to try again.
        Unavailable: it cannot tell just now.
    """
    if isinstance(said, Decision):
        # a subclass, or one that was made without its check, gets no further than a plain one
        if said.allowed is True:
            return
        raise Forbidden(Reason.POLICY_DENIED, _line(said.reason) or "the policy gives no reason")
    if isinstance(said, PolicyUnavailable):
        raise Unavailable(
            Reason.POLICY_UNAVAILABLE, principal.issuer, _line(str(said)), retry_after=said.retry_after
        )
    if isinstance(said, Exception):
        log.error("the policy failed, so the call is denied: this is a bug", exc_info=said)
        raise Forbidden(Reason.POLICY_DENIED, f"the policy raised {type(said).__name__}: this is a bug")
    log.error("the policy returned %s, so the call is denied: this is a bug", type(said).__name__)
    raise Forbidden(
        Reason.POLICY_DENIED, f"the policy returned {type(said).__name__}, no Decision: this is a bug"
    )


def discard(pending: Awaitable[Any]) -> None:
    """Let go of an answer that nobody is going to await."""
    end = getattr(pending, "close", None) or getattr(pending, "cancel", None)
    if end is not None:
        end()


def input_document(facts: PolicyFacts, principal: Principal) -> dict[str, Any]:
    """The same as plain JSON data, for policies in other languages: version 1, described in docs/policy.md.

    Members may be added to it; none changes its meaning or goes without another version.
    """
    user = principal.user
    return {
        "version": INPUT_VERSION,
        "method": facts.method,
        "path": list(facts.path),
        "raw_path": facts.raw_path,
        "audience": facts.audience,
        "caller": {
            "issuer": str(principal.issuer),
            "scopes": sorted(principal.scopes),
            "kid": principal.kid,
            "credential": principal.credential,
            "vouched_by": principal.vouched_by,
        },
        "claims": _plain(principal.claims),
        # the history is in `claims.act`, and not here: it is no matter of access (RFC 8693 section 4.1)
        "user": None
        if user is None
        else {
            "issuer": user.issuer,
            "subject": user.subject,
            "mode": user.mode,
            "auth_time": user.auth_time,
            "acr": user.acr,
            "amr": list(user.amr),
        },
        "time": facts.time,
    }


def _decision(answer: Any) -> Decision:
    """One of several answers; only a clear one goes on to the next policy."""
    if not isinstance(answer, Decision):
        raise TypeError(f"a policy returned {type(answer).__name__}, expected a Decision")
    return answer


def _line(text: str) -> str:
    """Fit for one line of a log, because a policy may well quote what a caller sent."""
    return "".join(char if char.isprintable() else "?" for char in text[:_MAX_REASON])


def _plain(value: Any) -> Any:
    """What `identity.freeze` made, as dicts and lists."""
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(member) for member in value]
    return value
