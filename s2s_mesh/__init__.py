"""Service-to-service trust for people without a service mesh. Start with `Service`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import (
    ConfigError,
    Forbidden,
    JWKSInvalid,
    JWKSUnavailable,
    KeyStoreError,
    MeshError,
    NoUser,
    OAuthError,
    PolicyUnavailable,
    Reason,
    StoreConflict,
    StoreReason,
    TokenRejected,
    UserExpired,
)

if TYPE_CHECKING:
    from .asgi import require
    from .httpx_auth import MeshAuth
    from .httpx_transport import MeshTransport
    from .identity import EndUser, Principal, ServiceId
    from .oauth_client import OAuthClient
    from .policy import AllOf, AnyOf, Decision, Policy, PolicyFacts
    from .rotation import RotationSchedule
    from .service import Service
    from .trust import TrustConfig

__all__ = [
    "AllOf",
    "AnyOf",
    "ConfigError",
    "Decision",
    "EndUser",
    "Forbidden",
    "JWKSInvalid",
    "JWKSUnavailable",
    "KeyStoreError",
    "MeshAuth",
    "MeshError",
    "MeshTransport",
    "NoUser",
    "OAuthClient",
    "OAuthError",
    "Policy",
    "PolicyFacts",
    "PolicyUnavailable",
    "Principal",
    "Reason",
    "RotationSchedule",
    "Service",
    "ServiceId",
    "StoreConflict",
    "StoreReason",
    "TokenRejected",
    "TrustConfig",
    "UserExpired",
    "__version__",
    "require",
]
# Imported at first use: httpx, starlette and the cryptography behind them are half a second, which
# `s2s-mesh --help` and most of the command line do without.
_HOMES = {
    "AllOf": "policy",
    "AnyOf": "policy",
    "Decision": "policy",
    "EndUser": "identity",
    "MeshAuth": "httpx_auth",
    "MeshTransport": "httpx_transport",
    "OAuthClient": "oauth_client",
    "Policy": "policy",
    "PolicyFacts": "policy",
    "Principal": "identity",
    "RotationSchedule": "rotation",
    "Service": "service",
    "ServiceId": "identity",
    "TrustConfig": "trust",
    "require": "asgi",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
