"""What the SDKs of the clouds read: documents in their own shapes. Who writes them: `cli/federate.py`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .errors import ConfigError

_JWT = "urn:ietf:params:oauth:token-type:jwt"
_SERVICE_ACCOUNT = re.compile(r"[a-z0-9-]{1,63}@[a-z0-9.-]{1,128}\.gserviceaccount\.com", re.ASCII)


def executable_response(token: str, expires_at: int) -> dict[str, Any]:
    """What Google's libraries read from the standard output of an executable source (version 1)."""
    return {
        "version": 1,
        "success": True,
        "token_type": _JWT,
        "id_token": token,
        "expiration_time": expires_at,
    }


def executable_failure(code: str, message: str) -> dict[str, Any]:
    """The same where there is no token."""
    return {"version": 1, "success": False, "code": code, "message": message}


def exec_credential(token: str, expires_at: int) -> dict[str, Any]:
    """What kubectl and the Kubernetes client libraries read from an exec credential plugin."""
    until = datetime.fromtimestamp(expires_at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": until},
    }


def external_account(
    audience: str, source: Mapping[str, Any], service_account: str | None = None
) -> dict[str, Any]:
    """A credential configuration for Google's libraries (GOOGLE_APPLICATION_CREDENTIALS); holds no secret.

    Args:
        audience: the resource name of the provider, with or without `https:`.
        source: `file_source` or `executable_source`.
        service_account: to act as, by its e-mail address; None where roles are granted to the subject itself.

    Raises:
        ConfigError: not the address of a service account.
    """
    document = {
        "type": "external_account",
        "audience": audience.removeprefix("https:"),
        "subject_token_type": _JWT,
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": dict(source),
    }
    if service_account is not None:
        if not _SERVICE_ACCOUNT.fullmatch(service_account):
            raise ConfigError(
                f"{service_account!r} is not a service account; expected NAME@PROJECT.iam.gserviceaccount.com"
            )
        document["service_account_impersonation_url"] = (
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
            f"{service_account}:generateAccessToken"
        )
    return document


def file_source(path: str) -> dict[str, Any]:
    """Read the token from a file, anew whenever one is needed."""
    return {"file": path, "format": {"type": "text"}}


def executable_source(command: Sequence[str]) -> dict[str, Any]:
    """Run a command for each token; its user must set GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1."""
    return {"executable": {"command": shlex.join(command), "timeout_millis": 60_000}}
