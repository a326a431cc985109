"""What stands in a log record beside its text: `record.s2s_mesh`, a dict of an event's name and its fields.

Loggers, events and fields are a contract, listed in docs/telemetry.md. No value is ever a token, a piece of
one, or another secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EVENTS: Mapping[str, tuple[str, ...]] = {
    "refused": ("reason", "status", "claimed_issuer", "request_id"),
    "old_credential": ("issuer", "audience", "credential"),
    "jwks_not_refreshed": ("issuer", "why", "error"),
    "jwks_key_ignored": ("issuer", "problem"),
    "jwks_cache_trouble": ("problem",),
    "key_ring_written": ("issuer", "version", "kids"),
    "key_ring_failed": ("issuer", "reason"),
    "key_ring_recovered": ("issuer",),
    "key_ring_went_back": ("issuer", "version", "held_version"),
    "deny_rule": ("rule", "in_force"),
    "deny_list_failed": ("reason",),
    "deny_list_recovered": (),
    "oauth_token": ("issuer", "missing"),
    "oauth_token_failed": ("issuer", "error"),
    "oauth_legacy_audience": ("issuer",),
    "trust_file_loaded": ("file", "pairs"),
    "trust_file_refused": ("file", "error"),
}
FIELDS: Mapping[str, str] = {
    "event": "what happened, as in the table above",
    "reason": "why: of a refusal one of the reasons of `s2s_mesh.Reason`, of a store one of `StoreReason`",
    "status": "HTTP status of the answer",
    "claimed_issuer": "the issuer in the trust file that the credential names; not authentic; null for none",
    "request_id": "the id in the answer's body (`instance`)",
    "issuer": "the service it is about; of `oauth_` events the authorization server",
    "audience": "under which of our names we were called",
    "credential": "`api_key` or `basic`",
    "why": "what the keys were wanted for: `cold`, `unknown_kid` or `refresh`",
    "error": "what went wrong, for people",
    "problem": "the same, in a few words",
    "version": "how often the stored key ring was written",
    "held_version": "the same of the key ring in memory",
    "kids": "the ids of the ring's keys",
    "rule": "id of a deny rule",
    "in_force": "whether it holds from now on, or was removed",
    "missing": "the scopes that were asked for and not given",
    "file": "path of the trust file",
    "pairs": "number of callers and audiences that may",
}


def fields(event: str, **values: Any) -> dict[str, Any]:
    """The `extra=` of a log record.

    Args:
        event: one of `EVENTS`.
        values: exactly its fields.
    """
    return {"s2s_mesh": {"event": event, **values}}
