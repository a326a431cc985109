"""`s2s-mesh completion`: commands and options at the touch of a key."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated

import typer

PROGRAM = "s2s-mesh"
_ASKED = "_S2S_MESH_COMPLETE"  # set by the scripts whenever the key is pressed


class Shell(str, Enum):
    """The shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that shall complete.")]) -> None:
    """Print the script that lets a shell complete commands and options.

    \b
    Example:
      source <(s2s-mesh completion bash)            # in ~/.bashrc
      s2s-mesh completion zsh > ~/.zfunc/_s2s-mesh  # a directory in fpath, before compinit
      s2s-mesh completion fish > ~/.config/fish/completions/s2s-mesh.fish
      s2s-mesh completion powershell >> $PROFILE
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    typer.echo(get_completion_script(prog_name=PROGRAM, complete_var=_ASKED, shell=shell.value))


def prepare() -> None:
    """Make Typer understand what its own scripts ask, if one of them asks."""
    if _ASKED in os.environ:
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()
