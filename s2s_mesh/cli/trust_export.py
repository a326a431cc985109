"""`s2s-mesh trust export`: the rules of one audience for programs that are not ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from .output import write_file

if TYPE_CHECKING:
    from ..export_plan import Plan

# labels of Kubernetes: a name below a domain or not, and a value; a value may be empty there
_VALUE = re.compile("[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LABEL = re.compile(f"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_VALUE.pattern}", re.ASCII)


class Target(str, Enum):
    """What can be made."""

    ENVOY = "envoy"
    ISTIO = "istio"
    NGINX = "nginx"
    JOSE = "jose"


def export(
    target: Annotated[Target, typer.Argument(help="For which program.")],
    audience: Annotated[
        str, typer.Option("--audience", metavar="URL", envvar="S2S_MESH_ISSUER", help="Who is called.")
    ],
    file: Annotated[
        Path, typer.Option("--file", metavar="FILE", envvar="S2S_MESH_TRUST_FILE", help="The trust file.")
    ] = Path("trust/trust.toml"),
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Replace this file in one step, instead of printing."),
    ] = None,
    selector: Annotated[
        list[str] | None,
        typer.Option("--selector", metavar="LABEL=VALUE", help="istio: a label of the workload; repeat."),
    ] = None,
) -> None:
    """Write down for another program who may call a service, with what, and where.

    envoy is a whole configuration: jwt_authn verifies tokens, RBAC holds pairs, scopes and routes. istio is a
    RequestAuthentication and two AuthorizationPolicies; without --selector they hold for all workloads of a
    namespace. nginx is a whole configuration that asks `s2s-mesh gateway`. jose is an ES module with
    verify(request) for Node and Workers.

    What the program cannot enforce is refused, row by row, and nothing is written. The head of the file names
    what no export of that kind enforces. Make it anew when the trust file changes: its digest is in the head.

    Exit codes: 0 written, 1 the trust file asks for what the target cannot enforce, 2 it cannot be read, or
    nobody may call the audience.

    \b
    Example:
      s2s-mesh trust export envoy --audience https://wallets.example.com --out envoy.yaml
      s2s-mesh trust export istio --audience https://wallets.example.com --selector app=wallets
      s2s-mesh trust export jose --audience https://wallets.example.com --file trust.toml --out trust.mjs
    """
    from ..export_plan import NotExportable, plan
    from ..trust import TrustConfig
    from .trust_review import content

    labels = _labels(target, selector or [])
    text = content(file)
    trust = TrustConfig.parse(text, source=str(file))
    found = plan(trust, audience, source=file.name, digest=sha256(text).hexdigest())
    try:
        made = _writer(target, labels)(found)
    except NotExportable as refused:
        typer.echo(f"{refused}\nnothing is written", err=True)
        raise typer.Exit(1) from None
    if out is None:
        typer.echo(made, nl=False)
        return
    write_file(out, made)
    pairs, routes = len(found.callers), len(found.openings)
    typer.echo(f"wrote {out} for {target.value}: callers {pairs}, route rules {routes}")


def _labels(target: Target, selector: list[str]) -> dict[str, str]:
    if selector and target is not Target.ISTIO:
        raise typer.BadParameter(f"--selector is for istio; {target.value} knows no workloads")
    labels: dict[str, str] = {}
    for label in selector:
        name, _, value = label.partition("=")
        # what no workload has would leave the door open; so would one of two values
        if (
            not _LABEL.fullmatch(name)
            or not _VALUE.fullmatch(value)
            or labels.setdefault(name, value) != value
        ):
            raise ConfigError("--selector: expected LABEL=VALUE such as app=wallets, each label once")
    return labels


def _writer(target: Target, labels: dict[str, str]) -> Callable[[Plan], str]:
    from .. import export_envoy, export_istio, export_jose, export_nginx

    writers: dict[Target, Callable[[Plan], str]] = {
        Target.ENVOY: export_envoy.envoy,
        Target.ISTIO: lambda found: export_istio.istio(found, labels),
        Target.NGINX: export_nginx.nginx,
        Target.JOSE: export_jose.jose,
    }
    return writers[target]
