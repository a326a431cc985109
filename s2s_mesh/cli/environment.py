"""The service that the environment describes, without the parts of it that only a running one needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clock import now
from ..errors import ConfigError, StoreReason

if TYPE_CHECKING:
    from ..manager import KeyManager
    from ..settings import Settings
    from ..trust import TrustConfig

# What the passing of time or a restarted server mends; a service waits for it. Everything else is a mistake.
PASSING = frozenset({StoreReason.UNREACHABLE, StoreReason.CONFLICT})


def trust_file(environ: Mapping[str, str]) -> Path | None:
    """The trust file that is named, or else the default one if it is there."""
    from ..settings_env import DEFAULT_TRUST_FILE

    named = environ.get("S2S_MESH_TRUST_FILE", "").strip()
    return Path(named) if named else Path(DEFAULT_TRUST_FILE) if Path(DEFAULT_TRUST_FILE).exists() else None


def optional_trust(environ: Mapping[str, str]) -> dict[str, Any]:
    """Overrides for a command that needs no trust file: none is fine, one that is named has to be good.

    Without one nobody may call this service, and a loopback id is taken as it is: whether to believe it is
    decided by the trust files of others.
    """
    return {} if trust_file(environ) is not None else {"trust": nobody()}


def nobody() -> TrustConfig:
    """The trust of a service that nobody may call."""
    from ..trust import TrustConfig

    return TrustConfig(issuers={}, pairs={}, allow_loopback_http=True)


def load_settings() -> Settings:
    """The settings in the environment; the trust file may be missing.

    Raises:
        ConfigError: naming the variable or the key path.
    """
    from .. import settings, settings_env

    return settings.build(**settings_env.from_env(os.environ, optional_trust(os.environ)))


def key_manager(settings: Settings, *, may_create: bool) -> KeyManager:
    """The manager of the ring in the store that `settings` name.

    Raises:
        ConfigError: the store cannot be one that other processes see.
    """
    from .. import manager

    store = settings.open_key_store()
    if store is None or not store.shared:
        raise ConfigError(
            "S2S_MESH_KEY_STORE is memory://, which no other process can see: this command would look at a "
            "ring of its own. Use redis:// or file:///DIRECTORY"
        )
    return manager.key_manager(settings, store, may_create=lambda: may_create, clock=now)
