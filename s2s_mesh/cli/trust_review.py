"""`s2s-mesh trust diff`, `trust graph` and `trust schema`: for those who review and edit trust files."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from .output import AsJSON, print_json, print_table, write_file

if TYPE_CHECKING:
    from ..trust import TrustConfig

_SIGNS = {"gains": "+", "loses": "-", "changes": "~"}


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The trust file as it was.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The trust file as it shall be.")],
    as_json: AsJSON = False,
) -> None:
    """Say who gains and who loses what, for code review.

    Compares what two trust files mean, not how they are written: a moved row or a role in place of its scopes
    is no difference. + is more than before, - is less, ~ is for a person to judge. A new file of which a
    service would refuse the form is refused here too.

    Exit codes: 0 they mean the same, 1 they differ, 2 one of them cannot be read.

    \b
    Example:
      s2s-mesh trust diff deployed.toml trust/trust.toml
      s2s-mesh trust diff <(git show main:trust/trust.toml) trust/trust.toml
    """
    from ..trust_diff import changes

    found = changes(as_written(old), as_written(new))
    if as_json:
        rows = [{"effect": change.effect.value, "who": change.who, "what": change.what} for change in found]
        print_json({"old": str(old), "new": str(new), "changes": rows})
    elif found:
        table = [(_SIGNS[change.effect.value], change.who, change.what) for change in found]
        print_table(("", "who", "what"), table)
    else:
        typer.echo(f"{old} and {new} mean the same")
    raise typer.Exit(1 if found else 0)


class Format(str, Enum):
    """What a graph is printed as."""

    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"
    HTML = "html"


def graph(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The trust file.")] = Path("trust/trust.toml"),
    form: Annotated[
        Format, typer.Option("--format", help="Text for Mermaid or Graphviz, an image, or a page.")
    ] = Format.MERMAID,
    service: Annotated[
        str | None,
        typer.Option(
            "--service", metavar="URL", help="Only this service, its callers, and whom it may call."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Replace this file in one step, instead of printing."),
    ] = None,
) -> None:
    """Draw who may call whom, with what.

    mermaid goes into Markdown, where GitHub and GitLab draw it; dot is for Graphviz. svg is an image and
    html a page with it, a table of all pairs and what they open, and a box that filters both; they need no
    other program and load nothing. An image is readable up to about 40 services; beyond that take the page
    and filter, or --service.

    \b
    Example:
      s2s-mesh trust graph trust/trust.toml
      s2s-mesh trust graph --format html --output trust.html
      s2s-mesh trust graph --service https://wallets.example.com --format svg --output wallets.svg
    """
    from .. import trust_graph, trust_image, trust_page

    found = trust_graph.trust_graph(as_written(file), service)
    if service is not None and not found.calls:
        raise ConfigError(f"no [[allow]] row of {file} names {service}")
    if form is Format.SVG and len(found.services) > trust_image.READABLE:
        typer.echo(
            f"{len(found.services)} services are hard to read in one image; --format html filters, and "
            "--service URL draws one service and its neighbours",
            err=True,
        )
    if form is Format.HTML:
        drawn = trust_page.page(found, source=file.name)
    else:
        drawers = {
            Format.MERMAID: trust_graph.mermaid,
            Format.DOT: trust_graph.dot,
            Format.SVG: trust_image.svg,
        }
        drawn = drawers[form](found)
    if output is None:
        typer.echo(drawn, nl=False)
        return
    write_file(output, drawn)
    typer.echo(f"wrote {len(found.services)} services and {len(found.calls)} pairs to {output}")


def schema() -> None:
    """Print the JSON Schema of trust files, for editors and for checks in other languages.

    It knows the form; how rows fit together is checked by `s2s-mesh trust check`.

    \b
    Example:
      s2s-mesh trust schema > trust/trust.schema.json
    """
    from ..trust import json_schema

    # as it is written beside the reference file, so that a comparison of the two is a comparison of bytes
    print_json(json_schema())


def as_written(path: Path) -> TrustConfig:
    """A trust file with the file names in it as they stand there; also from a pipe, which no service reads.

    Raises:
        ConfigError: it cannot be read, or holds mistakes.
    """
    from ..trust import TrustConfig

    return TrustConfig.parse(content(path), source=str(path))


def content(path: Path) -> bytes:
    """What a trust file holds, unread.

    Raises:
        ConfigError: it cannot be read, or is too large.
    """
    from ..trust_file import MAX_TRUST_FILE

    try:
        with path.open("rb") as file:
            found = file.read(MAX_TRUST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"trust file {path} cannot be read: {error.strerror}") from None
    if len(found) > MAX_TRUST_FILE:
        raise ConfigError(f"trust file {path} is larger than {MAX_TRUST_FILE} bytes")
    return found
