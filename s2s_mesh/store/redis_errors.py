"""What Redis and redis-py say, as a `KeyStoreError` that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from redis import exceptions as says

from ..errors import KeyStoreError, StoreReason
from .redis_address import RedisAddress
from .redis_client import REPLY_TIMEOUT


class _Rule(NamedTuple):
    """One line of the table.

    Attributes:
        types: any of these exceptions in the chain of causes,
        texts: or any of these in their texts,
        reason: means this,
        advice: and asks for this. `{acl}` stands for the rights that a user needs.
    """

    types: tuple[type[Exception], ...]
    texts: tuple[str, ...]
    reason: StoreReason
    advice: str


_RULES = (
    _Rule(
        (says.NoPermissionError, says.AuthorizationError),
        ("NOPERM",),
        StoreReason.PERMISSIONS,
        "the user in the URL lacks rights; they are given by ACL SETUSER NAME {acl}",
    ),
    _Rule(
        (says.AuthenticationError,),
        ("NOAUTH", "WRONGPASS", "AuthenticationError"),
        StoreReason.PERMISSIONS,
        "user or password is missing or wrong; expected redis://USER:PASSWORD@HOST with both"
        " percent-encoded (for Sentinels that want a login, ?sentinel_username= and sentinel_password=)."
        " The user needs the rights {acl}",
    ),
    _Rule(
        (),
        ("certificate verify failed", "CERTIFICATE_VERIFY_FAILED"),
        StoreReason.UNREACHABLE,
        "the server's certificate is not trusted. Name the certificate authority with ?ssl_ca_certs=FILE;"
        " for a provider with self-signed certificates, such as Heroku, ?ssl_cert_reqs=none gives up"
        " knowing who answers",
    ),
    _Rule(
        (says.OutOfMemoryError,),
        ("OOM ",),
        StoreReason.UNREACHABLE,
        "the server has reached maxmemory. Raise it, and set maxmemory-policy to noeviction so that a full"
        " cache does not evict key rings",
    ),
    _Rule(
        (says.ReadOnlyError, says.MasterDownError, says.ClusterDownError, says.BusyLoadingError),
        ("READONLY", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "MISCONF", "No master found"),
        StoreReason.UNREACHABLE,
        "no primary accepts writes at the moment (failover, start, or a full disk on the server); it is"
        " tried again by itself. If it lasts, check that the URL points to the primary",
    ),
    _Rule(
        (says.AskError,),  # a MovedError too
        ("MOVED ", "luster mode is not enabled", "cluster support disabled"),
        StoreReason.UNREACHABLE,
        "scheme and server do not fit: a cluster needs redis+cluster:// or rediss+cluster://, a single server"
        " redis:// or rediss://",
    ),
    _Rule(
        (),
        ("WRONGTYPE",),
        StoreReason.UNREADABLE,
        "something else was stored under this key; find out who writes there, then delete the key",
    ),
    _Rule(
        (says.TimeoutError,),
        (),
        StoreReason.UNREACHABLE,
        f"it did not answer within {REPLY_TIMEOUT:g} s; it is tried again by itself. If it lasts, check that"
        " the server runs, that no firewall drops packets to it, and that the scheme is right (rediss:// for"
        " TLS)",
    ),
)
_OTHERWISE = _Rule(
    (),
    (),
    StoreReason.UNREACHABLE,
    "it is tried again by itself. If it lasts, check that host, port and scheme are right (rediss:// for TLS)"
    " and that the server runs",
)


def acl(issuer: str) -> str:
    """Return the rights that a service needs and no more, as arguments of ACL SETUSER."""
    # in Redis 6.2 a new user may use every channel, and no pattern can be added to that
    return (
        f"resetchannels ~s2s-mesh:{{{issuer}}}:* ~s2s-mesh:{issuer}:jti:* &s2s-mesh:{{{issuer}}}:*"
        " +get +set +eval +wait +publish +subscribe +ping +select +cluster|slots +command"
    )


def to_key_store_error(error: Exception, address: RedisAddress, issuer: str) -> KeyStoreError:
    """Explain `error`.

    Args:
        error: raised by redis-py.
        address: where it happened; its passwords are kept out of the text.
        issuer: whose document it was about.
    """
    causes = list(_causes(error))
    text = " ".join(str(error).split()) or type(error).__name__
    texts = " ".join(str(cause) for cause in causes)
    rule = next(
        (
            rule
            for rule in _RULES
            if any(isinstance(cause, rule.types) for cause in causes) or any(t in texts for t in rule.texts)
        ),
        _OTHERWISE,
    )
    # a server that does not know AUTH answers by repeating its arguments
    for secret in address.secrets:
        text = text.replace(secret, "***")
    advice = rule.advice.replace("{acl}", acl(issuer))
    return KeyStoreError(rule.reason, f"the key store at {address} cannot be used: {text[:500]}; {advice}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    # a cluster client reports the last node's error only as the cause of its own
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
