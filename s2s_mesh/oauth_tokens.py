"""Access tokens, kept for all who ask: one request in flight, and nobody waits for a renewal.

The state is `TokenState`'s; its transitions run here under one lock that is never held across I/O. Requests
are made on threads of our own, so that sync and async callers wait for the same one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from . import client_assertion, oauth_fetch
from .effects import Answer, Effect, ObtainToken
from .errors import ConfigError, KeyStoreError, OAuthError
from .jitter import between
from .jws import parse_header
from .log_fields import fields
from .oauth_answer import Granted
from .oauth_metadata import AuthorizationServer
from .oauth_request import ServerSource, TokenRequest
from .oauth_state import RENEW_FROM, RENEW_TO, TokenState
from .signer import TokenKind
from .threads import begin

log: logging.Logger = logging.getLogger("s2s_mesh.oauth")
_WORKERS = 4
_METADATA_SECONDS = 3600.0  # for which metadata is believed; a request that fails ends that
_MAX_STATES = 1024
Sign = Callable[[TokenKind, Callable[[float], Mapping[str, Any]]], str]


class OAuthTokens:
    """The tokens of one service in one process. Its threads start with the first request.

    Args:
        jwks_uri: where our keys are, for messages.
        sign: makes an assertion; may wait for the ring.
        learned: is told which audiences are an authorization server's.
        clock: Unix seconds.

    Attributes:
        wait_seconds: how long a caller waits in all; a request has ended by then, unless it had to queue up.
        requests: attempts that were started.
    """

    wait_seconds: float = oauth_fetch.METADATA_SECONDS + oauth_fetch.TOKEN_SECONDS + 1

    def __init__(
        self, *, jwks_uri: str, sign: Sign, learned: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        self.requests: int = 0
        self._jwks_uri = jwks_uri
        self._sign = sign
        self._learned = learned
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[TokenRequest, TokenState] = {}
        self._in_flight: dict[TokenRequest, Future[None]] = {}
        self._servers: dict[ServerSource, tuple[AuthorizationServer, float]] = {}
        self._told: set[ServerSource] = set()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def token(self, request: TokenRequest, now: float) -> Generator[Effect, Answer, str]:
        """A token; a flow, which yields only where none is held.

        Raises:
            OAuthError: there is none, and none can be had now.
            ConfigError: none can ever be had.
            KeyStoreError: there is no key to ask with.
        """
        state = self._states.get(request)
        kept = None if state is None else state.usable(now)
        if kept is not None and state is not None:
            if state.may_ask(now):
                self.begin(ObtainToken(request))  # and nobody waits for it
            return kept
        answer = yield ObtainToken(request)
        state = self._states.get(request)
        kept = None if state is None else state.usable(answer.now)
        if kept is None:
            raise _again(None if state is None else state.error, request.issuer)
        return kept

    def begin(self, effect: Effect) -> Future[None] | None:
        """See `Outside.begin`: start or join a request; None where it is too early to ask again.

        The future is done when the outcome is known; it never raises.
        """
        assert isinstance(effect, ObtainToken)  # noqa: S101 - flows of this class yield nothing else
        request = effect.request
        now = self._clock()
        with self._lock:
            if request in self._in_flight:
                return self._in_flight[request]
            state = self._state(request)
            return self._start(request, state, now) if state.may_ask(now) else None

    def forget(self, request: TokenRequest, token: str) -> bool:
        """Do not hand this token out again: a receiver refused it. Returns whether another one may help."""
        with self._lock:
            state = self._states.get(request)
            return state is not None and state.forget(token, self._clock())

    def close(self) -> None:
        """Start nothing more; requests under way end by themselves within their deadline."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _state(self, request: TokenRequest) -> TokenState:
        state = self._states.get(request)
        if state is None:
            if len(self._states) >= _MAX_STATES:  # somebody asks for something else each time
                self._states = {key: known for key, known in self._states.items() if key in self._in_flight}
            state = self._states[request] = TokenState()
        return state

    def _start(self, request: TokenRequest, state: TokenState, now: float) -> Future[None] | None:
        if self._closed:
            return None
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="s2s-mesh-oauth")
        self.requests += 1
        try:
            known = begin(self._pool, self._work, request, state)
        except RuntimeError as failed:  # the machine has no thread to give, or the interpreter ends
            state.failed(OAuthError(request.issuer, str(failed)), now)
            return None
        self._in_flight[request] = known
        return known

    def _work(self, request: TokenRequest, state: TokenState, known: Future[None]) -> None:
        try:
            self._obtain(request, state)
        finally:
            known.set_result(None)

    def _obtain(self, request: TokenRequest, state: TokenState) -> None:
        began = self._clock()
        outcome: Granted | Exception
        try:
            outcome = self._ask(request, began)
        except Exception as failed:  # noqa: BLE001 - kept for those who wait, and logged below
            outcome = failed
        with self._lock:
            self._in_flight.pop(request, None)
            if isinstance(outcome, Granted):
                state.granted(outcome, began, between(RENEW_FROM, RENEW_TO))
            else:
                self._servers.pop(request.source, None)
                state.failed(outcome, self._clock())
        # last, because a logging filter that raises must not leave the request in flight for ever
        _report(request, outcome)

    def _ask(self, request: TokenRequest, now: float) -> Granted:
        server = self._server(request.source, now)
        audience = server.token_endpoint if request.legacy_audience else server.issuer
        if request.legacy_audience and request.source not in self._told:
            self._told.add(request.source)
            log.warning(
                "client assertions for %s are made out to its token endpoint, as legacy_audience has it: "
                "take that away as soon as the server takes its issuer (draft-ietf-oauth-rfc7523bis)",
                request.issuer,
                extra=fields("oauth_legacy_audience", issuer=request.issuer),
            )
        assertion = self._sign(
            TokenKind.CLIENT_ASSERTION,
            lambda at: client_assertion.build(client_id=request.client_id, audience=audience, now=at),
        )
        algorithm = parse_header(assertion.encode("ascii").partition(b".")[0]).alg
        server.check_algorithm(algorithm)
        return oauth_fetch.token(server, request, assertion, algorithm=algorithm, jwks_uri=self._jwks_uri)

    def _server(self, source: ServerSource, now: float) -> AuthorizationServer:
        server, until = self._servers.get(source, (None, 0.0))
        if server is None or not until - _METADATA_SECONDS <= now < until:
            server = oauth_fetch.metadata(source)
            # servers that know no better take their token endpoint for an audience (RFC 7523 section 3)
            self._learned(server.token_endpoint)
            self._servers[source] = server, now + _METADATA_SECONDS
        return server


def _again(error: Exception | None, issuer: str) -> Exception:
    """What happened in another thread, for this one."""
    if error is None:
        return OAuthError(issuer, "it does not answer in time")
    if isinstance(error, OAuthError):
        again = OAuthError(issuer, "", code=error.code)
        again.args = error.args
        return again
    if isinstance(error, KeyStoreError):
        return KeyStoreError(error.reason, str(error))
    if isinstance(error, ConfigError):
        return ConfigError(str(error))
    return OAuthError(issuer, "internal error, see the log")


def _report(request: TokenRequest, outcome: Granted | Exception) -> None:
    issuer = request.issuer
    if isinstance(outcome, Granted):
        asked, given = request.scopes or frozenset[str](), outcome.scopes
        missing = [] if given is None else sorted(asked - given)
        extra = fields("oauth_token", issuer=issuer, missing=missing)
        if missing:
            log.warning("%s gave a token without the scopes %s", issuer, " ".join(missing), extra=extra)
        else:
            log.debug("%s gave a token for %d s", issuer, outcome.life, extra=extra)
        return
    expected = isinstance(outcome, (OAuthError, ConfigError, KeyStoreError))
    error = str(outcome) if expected else "internal error"
    extra = fields("oauth_token_failed", issuer=issuer, error=error)
    if expected:
        log.warning("%s", outcome, extra=extra)
    else:
        log.error("no access token of %s: this is a bug", issuer, exc_info=outcome, extra=extra)
