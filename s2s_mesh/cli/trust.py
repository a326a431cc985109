"""`s2s-mesh trust`: trust files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from .output import AsJSON, print_json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Trust files: who may call whom.")


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The trust file, usually trust/trust.toml.")],
    as_json: AsJSON = False,
) -> None:
    """Say whether a trust file is good.

    Reads it as a service would, and prints all mistakes at once, each with key path, what was found and what
    is expected; exit code 1. Warnings tell of rows that can have no effect; the file is good nevertheless. A
    file that is not there or cannot be read is exit code 2.

    \b
    Example:
      s2s-mesh trust check trust/trust.toml
    """
    from ..trust_file import TrustFile
    from ..trust_report import TrustFileError

    try:
        config = TrustFile(file).load()
    except ConfigError as error:
        if not (file.is_file() and os.access(file, os.R_OK)):
            raise
        problems = error.problems if isinstance(error, TrustFileError) else (str(error),)
        if as_json:
            print_json({"file": str(file), "good": False, "problems": list(problems), "warnings": []})
        else:
            typer.echo(f"{error}\n{file} is refused", err=True)
        raise typer.Exit(1) from None
    pairs, routes = len(config.pairs), len(config.routes)
    if as_json:
        answer = {"file": str(file), "good": True, "pairs": pairs, "routes": routes}
        print_json({**answer, "problems": [], "warnings": list(config.warnings)})
        return
    for warning in config.warnings:
        typer.echo(f"warning: {warning}")
    typer.echo(f"{file} is good: {_count(pairs, 'pair')}, {_count(routes, 'route rule')}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
