"""The tree of commands, and how every one of them ends."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import KeyStoreError, MeshError
from . import (
    INTERRUPTED,
    PIPE_CLOSED,
    completion,
    deny,
    doctor,
    federate,
    gateway,
    init,
    keys,
    migration,
    servers,
    tokens,
    trust,
)


class _Guarded(TyperGroup):
    """Turns whatever ends a command early into one paragraph and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            code = PIPE_CLOSED
        except MeshError as error:
            reason = f"{error.reason.value}: " if isinstance(error, KeyStoreError) else ""
            typer.echo(f"Error: {reason}{error}", err=True)
            code = 2
        except OSError as error:
            typer.echo(f"Error: {error}", err=True)
            code = 2
        raise typer.Exit(code)


app: typer.Typer = typer.Typer(
    cls=_Guarded,
    no_args_is_help=True,
    add_completion=False,  # `completion` prints the scripts, and changes no file of anybody
    # plain help is quick, and is the same in a terminal, a pipe and a log
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"s2s-mesh {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Service-to-service trust without a service mesh: keys, tokens, trust files.

    A service is configured by its environment: S2S_MESH_ISSUER (its own URL), S2S_MESH_TRUST_FILE (who may
    call it; trust/trust.toml unless set), S2S_MESH_KEY_STORE or REDIS_URL (where its keys are kept),
    S2S_MESH_KEY_ENCRYPTION_KEY (what seals them there), and, seldom needed, S2S_MESH_ALGORITHM,
    S2S_MESH_AUDIENCES and S2S_MESH_ROTATION (default, cloud-federation or fast-for-tests).

    Exit codes: 0 good, 1 the answer is no, 2 usage or configuration.

    \b
    Begin with:
      s2s-mesh init --issuer https://wallets.example.com
    """


app.command("init")(init.init)
app.command("whoami")(servers.whoami)
app.command("serve")(servers.serve)
app.command("gateway")(gateway.gateway)
trust.app.command("migration")(migration.migration)
app.command("doctor")(doctor.doctor)
app.add_typer(trust.app, name="trust")
app.add_typer(keys.app, name="keys")
app.command("jwks")(keys.jwks)
app.add_typer(tokens.app, name="token")
app.add_typer(federate.app, name="federate")
app.add_typer(deny.app, name="deny")
app.add_typer(migration.app, name="legacy")
app.command("completion")(completion.completion)
