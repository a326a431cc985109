"""One HTTP exchange by the rules of the standards page, (a)3: R3 to R6, whatever is asked for.

httpcore rather than httpx: the network backend, where addresses are judged, is public there.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import httpcore
import httpx

from .network import CheckedBackend

_STEP_SECONDS = 2.0
# whether the body is wanted, by status and fields; raises where the answer is of no use
Judge = Callable[[int, httpx.Headers], bool]


class Answer(NamedTuple):
    """What a server said.

    Attributes:
        status: of HTTP.
        fields: its header.
        body: as far as it was wanted; one byte longer than allowed where it is too long.
    """

    status: int
    fields: httpx.Headers
    body: bytes


def exchange(
    url: str,
    backend: CheckedBackend,
    tls: ssl.SSLContext,
    fields: Sequence[tuple[str, str]],
    judge: Judge,
    *,
    most: int,
    form: bytes | None = None,
) -> Answer:
    """Send one request and read its answer, redirects included, which are not followed.

    Args:
        url: what to ask for.
        backend: connects, and knows the deadline.
        tls: see `tls_context`.
        fields: of the request, beside those that every request has.
        judge: looks at the answer before its body is read; what it raises comes out.
        most: bytes of a body that are read.
        form: of a POST; None for a GET.

    Raises:
        httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError: no answer.
    """
    headers = [
        ("host", urlsplit(url).netloc),  # httpcore's own lacks the brackets of IPv6
        ("accept-encoding", "identity"),
        *fields,
    ]
    if form is not None:
        headers += [
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", str(len(form))),
        ]
    step = dict.fromkeys(("connect", "read", "write", "pool"), _STEP_SECONDS)
    method = "GET" if form is None else "POST"
    # a new connection each time: there is an exchange every few minutes, and a pool would outlive a fork
    with (
        httpcore.ConnectionPool(ssl_context=tls, network_backend=backend) as pool,
        pool.stream(method, url, headers=headers, content=form, extensions={"timeout": step}) as response,
    ):
        answered = httpx.Headers(response.headers)
        body = bytearray()
        if judge(response.status, answered):
            for chunk in response.iter_stream():
                backend.remaining(None)  # a piece of a byte costs more to read than to wait for
                body += chunk[: most + 1 - len(body)]
                if len(body) > most:
                    break
        return Answer(response.status, answered, bytes(body))


def media_type(fields: httpx.Headers) -> str:
    """The content type without its parameters, in lower case; "" where there is none."""
    kind: str = fields.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def is_identity(fields: httpx.Headers) -> bool:
    """Whether the body came as it is, as was asked for."""
    coding: str = fields.get("content-encoding", "identity")
    return coding.lower() == "identity"


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Verification is always on. A file of authorities is read each time, because operators replace it.

    Raises:
        OSError: the file cannot be used.
    """
    return _public_tls() if ca_file is None else ssl.create_default_context(cafile=ca_file)


@functools.lru_cache(maxsize=1)
def _public_tls() -> ssl.SSLContext:
    """Kept, because loading the roots takes 45 ms."""
    return httpx.create_ssl_context(trust_env=False)
