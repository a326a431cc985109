"""`s2s-mesh init`: from nothing to a service that can be started."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .output import AsJSON, print_json

_STARTER = """\
# Who may call whom. Keep this file under version control and have changes reviewed: it is read strictly, one
# mistake refuses the whole file, and what is not written here is refused. It holds no secret.
# Check it with: s2s-mesh trust check {path}
# A running service takes a changed file over without a restart; a bad one changes nothing.
version = 1

# What holds for every issuer. Commented values hold anyway.
{defaults}
# algorithms = ["ES256", "RS256"]
# max_token_life = "15m"
# leeway = "30s"

# One row lets one issuer call one audience. There is no wildcard. Remove the marks and name your own
# services; each uses the rows whose audience is its own id, so that one file can serve a whole fleet.
#
# [[allow]]
# issuer = "{caller}"  # the service that calls
# audience = "{audience}"  # the service that is called
# scopes = ["cards:write"]  # what the caller may ask for; absent: nothing

# What a route needs beyond a known caller. Once an audience has one such row, all its other paths are closed.
#
# [[route]]
# audience = "{audience}"
# path = "/wallets/{{wallet_id}}/card"
# methods = ["PUT"]
# scopes = ["cards:write"]
"""


def init(
    trust_file: Annotated[
        Path, typer.Option("--trust-file", metavar="FILE", help="Where to write the trust file.")
    ] = Path("trust/trust.toml"),
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="The service's own public URL.")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Write a first trust file, print what to set.

    What it prints are the environment variables of the service. The key-encryption key among them is fresh
    and printed only here: it seals the service's private keys in the key store. Give the same one to every
    process of this service, and another one to every other service.

    A file that is there already is never overwritten: then nothing is printed, and the exit code is 1.

    \b
    Example:
      s2s-mesh init --issuer https://wallets.example.com >> .env
    """
    from ..store.key_encryption import generate_key_encryption_key

    starter = _starter(trust_file, issuer)
    trust_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        # not by the umask alone: a trust file that everybody may write is refused
        descriptor = os.open(trust_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        typer.echo(
            f"{trust_file} exists and is not overwritten; nothing was done. Name another place with "
            "--trust-file, or move that file away",
            err=True,
        )
        raise typer.Exit(1) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(starter)
    environment = {
        **({} if issuer is None else {"S2S_MESH_ISSUER": issuer}),
        "S2S_MESH_TRUST_FILE": str(trust_file),
        "S2S_MESH_KEY_ENCRYPTION_KEY": generate_key_encryption_key(),
    }
    if as_json:
        print_json({"trust_file": str(trust_file), "environment": environment})
        return
    typer.echo(f"wrote {trust_file}; now set the environment and let your services in there", err=True)
    if issuer is None:
        typer.echo("# S2S_MESH_ISSUER=https://wallets.example.com  # this service's own public URL")
    for name, value in environment.items():
        typer.echo(f"{name}={shlex.quote(value)}")
    typer.echo("# S2S_MESH_KEY_STORE=redis://HOST:6379  # or file:///DIRECTORY; REDIS_URL is used if unset")


def _starter(trust_file: Path, issuer: str | None) -> str:
    """The text of the file.

    Raises:
        ConfigError: `issuer` is not a service id.
    """
    from ..identity import ServiceId

    callers, defaults = ("https://edge.example.com", "https://wallets.example.com"), "# [defaults]"
    audience = issuer or "https://wallets.example.com"
    try:
        own = ServiceId.parse(audience, allow_loopback_http=True)
    except ConfigError as error:
        raise ConfigError(f"--issuer: {error}") from None
    if own.startswith("http:"):
        callers = ("http://127.0.0.1:8101", "http://127.0.0.1:8102")
        defaults = "[defaults]\nallow_loopback_http = true  # for services on this one machine, without TLS"
    caller = next(caller for caller in callers if caller != own)
    return _STARTER.format(path=trust_file, caller=caller, audience=own, defaults=defaults)
