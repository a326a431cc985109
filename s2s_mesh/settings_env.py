"""The environment of a service (12-factor) as the arguments of `Service`; nothing else reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from .errors import ConfigError
from .rotation import RotationSchedule
from .settings import is_memory
from .trust_report import nearest

log: logging.Logger = logging.getLogger("s2s_mesh")
_PREFIX = "S2S_MESH_"
DEFAULT_TRUST_FILE = "trust/trust.toml"
SCHEDULES = {
    "default": RotationSchedule.DEFAULT,
    "cloud-federation": RotationSchedule.CLOUD_FEDERATION,
    "fast-for-tests": RotationSchedule.FAST_FOR_TESTS,
}


def from_env(environ: Mapping[str, str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `settings.build` as the environment has them; `overrides` win.

    A variable that nothing reads, and that is called nearly as one of ours, is logged.

    Raises:
        ConfigError: naming the variable, what was found and what is expected; never its value where that
            is a secret.
    """
    arguments: dict[str, Any] = {"trust": DEFAULT_TRUST_FILE}
    _warn_of_misspelt(environ)
    for name, (argument, parse) in _ARGUMENTS.items():
        value = environ.get(_PREFIX + name, "").strip()
        if value and argument not in overrides:
            arguments[argument] = parse(value)
    arguments.update(overrides)
    if "issuer" not in arguments:
        raise ConfigError(
            "S2S_MESH_ISSUER is not set; set it to this service's own public URL, "
            "such as https://wallets.example.com"
        )
    if "key_store" not in arguments:
        arguments["key_store"] = _key_store(environ, arguments["issuer"])
    return arguments


def _list(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _schedule(value: str) -> RotationSchedule:
    if value not in SCHEDULES:
        raise ConfigError(f"S2S_MESH_ROTATION is {value!r}; expected one of {', '.join(SCHEDULES)}")
    return SCHEDULES[value]


_ARGUMENTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "ISSUER": ("issuer", str),
    "TRUST_FILE": ("trust", str),
    "KEY_ENCRYPTION_KEY": ("key_encryption_key", str),
    "ALGORITHM": ("algorithm", str),
    "AUDIENCES": ("audiences", _list),
    "ROTATION": ("schedule", _schedule),
    "JWKS_CACHE": ("jwks_cache", str),
    "SPIFFE_ID": ("spiffe_id", str),
    "CLIENT_CERTIFICATE_HEADER": ("client_certificate_header", str),
    "TRUSTED_PROXIES": ("trusted_proxies", _list),
    "ASAP_ISSUER": ("asap_issuer", str),
}
VARIABLES = frozenset(_PREFIX + name for name in (*_ARGUMENTS, "KEY_STORE", "ALLOW_MEMORY_STORE"))


def _warn_of_misspelt(environ: Mapping[str, str]) -> None:
    # without what all of them begin with, or everything would be near
    ours = {name.removeprefix(_PREFIX) for name in VARIABLES}
    for name in sorted(environ.keys() - VARIABLES):
        meant = nearest(name.removeprefix(_PREFIX), ours) if name.startswith(_PREFIX) else None
        if meant is not None:
            log.warning("nothing reads the variable %r; did you mean %s?", name, _PREFIX + meant)


def _key_store(environ: Mapping[str, str], issuer: str) -> str:
    for name in ("S2S_MESH_KEY_STORE", "REDIS_URL"):
        url = environ.get(name, "").strip()
        if url:
            break
    else:
        raise ConfigError(
            "neither S2S_MESH_KEY_STORE nor REDIS_URL is set; set one to this service's own Redis "
            "(redis://..., rediss://...) or to file:///DIRECTORY, or pass key_store=None in code for a "
            "service that only verifies"
        )
    allowed = environ.get("S2S_MESH_ALLOW_MEMORY_STORE", "").strip() == "1"
    if is_memory(url) and str(issuer).startswith("https:") and not allowed:
        raise ConfigError(
            f"{name} is memory:// and the issuer {issuer} is https: two workers would be two rings at one "
            "URL, and every restart a new one. Use redis:// or file:///DIRECTORY, or set "
            "S2S_MESH_ALLOW_MEMORY_STORE=1 if there is one process and callers may see its keys vanish"
        )
    return url
