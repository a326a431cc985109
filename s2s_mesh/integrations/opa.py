"""A policy decided by Open Policy Agent, over its REST API (`POST /v1/data/...`)."""

from __future__ import annotations

import asyncio
import logging
import math
import weakref
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from ..errors import ConfigError, PolicyUnavailable
from ..http_exchange import tls_context
from ..identity import Principal, redacted
from ..policy import Decision, PolicyFacts, input_document
from ..strict_json import NotStrictJSON, decode_object, encode

log: logging.Logger = logging.getLogger("s2s_mesh.policy")
_MAX_BODY = 65536
_IDLE_SECONDS = 5.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_TRY_AGAIN = {408, 425, 429}


class OPA:
    """Asks an OPA server about each call: `Service(..., policy=OPA("http://127.0.0.1:8181/v1/data/wallets/allow"))`.

    The rule must be true or false. Undefined, and whatever is no boolean, denies, as do a redirect and a
    client error, which say that the URL is not that of a rule: these are logged as what an operator has to
    mend. No answer in time, none at all, and a server error are `PolicyUnavailable`: 503.

    The input document is that of docs/policy.md. Redirects are not followed, proxies of the environment are
    not used, and compressed answers are not read.

    Args:
        url: of one rule.
        timeout: seconds for the whole exchange.
        headers: sent along, such as an Authorization field of OPA's own.
        ca_file: certificate authorities for https, or None for the public ones.
        idle_connections: kept open for the next call, in each event loop.
        allow_plain_http: let `http://` leave this machine; who sits on that network decides then.

    Raises:
        ConfigError: naming the argument, what was found and what is expected.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 1.0,
        headers: Mapping[str, str] | None = None,
        ca_file: str | None = None,
        idle_connections: int = 20,
        allow_plain_http: bool = False,
    ) -> None:
        self._url = _checked(url, allow_plain_http=allow_plain_http)
        if isinstance(timeout, bool) or not (isinstance(timeout, (int, float)) and 0 < timeout < math.inf):
            raise ConfigError(f"OPA: timeout is {timeout!r}; expected seconds, more than 0")
        self._timeout = timeout
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "identity",
            **(headers or {}),
        }
        self._limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=idle_connections, keepalive_expiry=_IDLE_SECONDS
        )
        try:
            self._tls = tls_context(ca_file)
        except OSError as failed:
            raise ConfigError(f"OPA: ca_file {ca_file} cannot be used: {failed}") from None
        # connections belong to the event loop that opened them
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"OPA({self._url!r})"

    async def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
        """See `Policy.decide`.

        Raises:
            PolicyUnavailable: no verdict in time.
        """
        body = encode({"input": input_document(facts, principal)})
        try:
            status, answer = await asyncio.wait_for(self._post(body), self._timeout)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            raise PolicyUnavailable(f"{self._url}: no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as failed:
            raise PolicyUnavailable(f"{self._url}: {str(failed) or type(failed).__name__}") from None
        if status >= 500 or status in _TRY_AGAIN:
            raise PolicyUnavailable(f"{self._url} answered {status}")
        if status != 200:
            return self._misconfigured(f"answered {status}, expected 200: is it the URL of a rule?")
        return self._verdict(answer)

    async def aclose(self) -> None:
        """Close what is kept open in this event loop; the next call opens anew."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx.AsyncClient(
                verify=self._tls,
                headers=self._headers,
                timeout=self._timeout,
                limits=self._limits,
                follow_redirects=False,
                trust_env=False,
            )
        answer = bytearray()
        async with client.stream("POST", self._url, content=body) as response:
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > _MAX_BODY:
                    break
        return response.status_code, bytes(answer)

    def _verdict(self, answer: bytes) -> Decision:
        if len(answer) > _MAX_BODY:
            return self._misconfigured(f"answered more than {_MAX_BODY} bytes")
        try:
            members = decode_object(answer)
        except NotStrictJSON as problem:
            return self._misconfigured(f"its answer cannot be used: {problem}")
        if "result" not in members:
            return Decision.deny("the rule is undefined for this call")
        result = members["result"]
        if type(result) is not bool:
            return self._misconfigured(f"the rule is {type(result).__name__}, expected true or false")
        return Decision(result, "the rule is true" if result else "the rule is false")

    def _misconfigured(self, problem: str) -> Decision:
        log.error("%s: %s; every call is denied meanwhile", self._url, problem)
        return Decision.deny(f"{self._url}: {problem}")


def _checked(url: str, *, allow_plain_http: bool) -> str:
    shown = redacted(str(url))
    expected = "expected the URL of one rule, such as http://127.0.0.1:8181/v1/data/wallets/allow"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        raise ConfigError(f"OPA: {shown!r} is no http or https URL; {expected}")
    if "@" in parts.netloc:
        raise ConfigError(f"OPA: {shown!r} holds a password or a name; give it as headers=...")
    if parts.query or parts.fragment or not parts.path.startswith("/v1/data/") or parts.path.endswith("/"):
        raise ConfigError(f"OPA: {shown!r} is not the URL of a rule; {expected}")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allow_plain_http:
        raise ConfigError(
            f"OPA: {shown!r} is plain http to another machine, so whoever sits on that network decides; "
            "use https, or say allow_plain_http=True"
        )
    return url
