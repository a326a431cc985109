"""Service-to-service trust for people without a service mesh. Start with `Service`."""

from ._version import __version__
from .errors import (
    ConfigError,
    Forbidden,
    JWKSInvalid,
    JWKSUnavailable,
    KeyStoreError,
    MeshError,
    Reason,
    StoreConflict,
    StoreReason,
    TokenRejected,
)
from .httpx_auth import MeshAuth
from .identity import EndUser, Principal, ServiceId
from .rotation import RotationSchedule
from .service import Service
from .trust import TrustConfig

__all__ = [
    "ConfigError",
    "EndUser",
    "Forbidden",
    "JWKSInvalid",
    "JWKSUnavailable",
    "KeyStoreError",
    "MeshAuth",
    "MeshError",
    "Principal",
    "Reason",
    "RotationSchedule",
    "Service",
    "ServiceId",
    "StoreConflict",
    "StoreReason",
    "TokenRejected",
    "TrustConfig",
    "__version__",
]
