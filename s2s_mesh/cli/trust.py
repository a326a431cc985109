"""`s2s-mesh trust`: trust files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..clock import now
from ..errors import ConfigError
from . import app_routes
from .output import AsJSON, print_json, print_table
from .tokens import read_token
from .trust_export import export
from .trust_review import diff, graph, schema

if TYPE_CHECKING:
    from ..explain import Explanation

app: typer.Typer = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Trust files: who may call whom."
)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The trust file, usually trust/trust.toml.")],
    app: Annotated[
        str | None,
        typer.Option(
            "--app", metavar="MODULE:APP", help="Also compare the route rules with this app's router."
        ),
    ] = None,
    audience: Annotated[
        str | None,
        typer.Option(
            "--audience",
            metavar="URL",
            envvar="S2S_MESH_ISSUER",
            help="Whose app it is, where the app does not say.",
        ),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option("--root-path", metavar="PATH", help="What callers write before the app's own paths."),
    ] = "",
    as_json: AsJSON = False,
) -> None:
    """Say whether a trust file is good.

    Reads it as a service would, and prints all mistakes at once, each with key path, what was found and what
    is expected; exit code 1. Warnings tell of rows that can have no effect, and of [[legacy]] rows that have
    ended or end late; the file is good nevertheless. So it is with what it relaxes: each member that lets
    more of an issuer's tokens pass than the default does has a line. A file that is not there or cannot be
    read is exit code 2.

    With --app, imports a Starlette or FastAPI app and compares: a rule that no route answers, and a route
    that no rule covers, are exit code 1. Whatever importing the app needs has to be there.

    \b
    Example:
      s2s-mesh trust check trust/trust.toml
      s2s-mesh trust check trust/trust.toml --app app:app
    """
    from ..trust_file import TrustFile
    from ..trust_legacy import end_warnings
    from ..trust_relaxations import relaxations
    from ..trust_report import TrustFileError

    try:
        config = TrustFile(file).load()
    except ConfigError as error:
        if not (file.is_file() and os.access(file, os.R_OK)):
            raise
        problems = error.problems if isinstance(error, TrustFileError) else (str(error),)
        if as_json:
            print_json(
                {
                    "file": str(file),
                    "good": False,
                    "problems": list(problems),
                    "warnings": [],
                    "relaxations": [],
                }
            )
        else:
            typer.echo(f"{error}\n{file} is refused", err=True)
        raise typer.Exit(1) from None
    pairs, routes = len(config.pairs), len(config.routes)
    warnings = [*config.warnings, *(f"{file}: {line}" for line in end_warnings(config.legacy, now()))]
    relaxed = relaxations(config)
    fit = None if app is None else app_routes.compare(app, config, audience, root_path)
    if as_json:
        answer = {"file": str(file), "good": True, "pairs": pairs, "routes": routes}
        more = {"warnings": warnings, "relaxations": list(relaxed), **({} if fit is None else fit.facts())}
        print_json({**answer, "problems": [], **more})
    else:
        for warning in warnings:
            typer.echo(f"warning: {warning}")
        for line in relaxed:
            typer.echo(f"relaxed: {file}: {line}")
        typer.echo(f"{file} is good: {_count(pairs, 'pair')}, {_count(routes, 'route rule')}")
        if fit is not None:
            fit.show()
    if fit is not None and fit.misfits:
        raise typer.Exit(1)


@app.command("explain")
def explain(
    token: Annotated[
        str | None, typer.Argument(metavar="[TOKEN|-]", help="The token; - reads it from standard input.")
    ] = None,
    receiver: Annotated[
        str | None,
        typer.Option(
            "--receiver", metavar="URL", envvar="S2S_MESH_ISSUER", help="The service that is called."
        ),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="Without a token: the service that calls.")
    ] = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="PATH", help="Also check the route rules for this path.")
    ] = None,
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help="With this method.")] = "GET",
    user_token: Annotated[
        Path | None,
        typer.Option(
            "--user-token",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The user's own token beside it.",
        ),
    ] = None,
    txn_token: Annotated[
        Path | None,
        typer.Option(
            "--txn-token",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The transaction token beside it.",
        ),
    ] = None,
    trust_file: Annotated[
        Path, typer.Option("--trust-file", metavar="FILE", envvar="S2S_MESH_TRUST_FILE", help="Who may call.")
    ] = Path("trust/trust.toml"),
    as_json: AsJSON = False,
) -> None:
    """Explain why a call passes or is refused.

    Runs the receiver's own checks on a token, in their order, and shows each with what was found and what is
    expected; the caller's keys are fetched from where the trust file says. Without a token, says what a
    caller with a good one may do. Exit code 1 if the call is refused.

    Prefer -, because other users of a machine can see arguments.

    \b
    Example:
      s2s-mesh trust explain - --receiver https://wallets.example.com < token
      s2s-mesh trust explain --issuer https://edge.example.com --receiver https://wallets.example.com
    """
    from ..drivers import drive
    from ..explain import explain_pair, explain_token
    from ..identity import ServiceId
    from ..inbound import Inbound, RequestFacts
    from ..jwks_client import JWKSClient
    from ..resolver import JWKSCacheLimits, KeyResolver
    from ..trust_file import TrustFile
    from ..users import TXN_TOKEN_FIELD, USER_TOKEN_FIELD
    from ..verifier import Verifier

    if receiver is None:
        raise typer.BadParameter("say which service is called: --receiver URL, or S2S_MESH_ISSUER")
    if (token is None) == (issuer is None):
        raise typer.BadParameter("give a token (or - for standard input), or --issuer URL; not both")
    beside = {USER_TOKEN_FIELD: user_token, TXN_TOKEN_FIELD: txn_token}
    evidence = [(name.encode(), file.read_bytes().strip()) for name, file in beside.items() if file]
    if evidence and (path is None or token is None):
        raise typer.BadParameter("a user's evidence is looked at beside a token, on a route: add --path PATH")
    whole = TrustFile(trust_file).load()
    own = ServiceId.parse(receiver, allow_loopback_http=whole.allow_loopback_http)
    trust = whole.for_audiences([own])
    resolver = KeyResolver(JWKSCacheLimits())
    verifier = Verifier(audiences=[own], trust=trust, resolver=resolver)
    inbound = Inbound(verifier, realm=own)
    request = (
        None
        if path is None
        else RequestFacts(headers=evidence, method=method.upper(), raw_path=path.encode())
    )
    if token is None:
        assert issuer is not None  # noqa: S101 - checked above
        answer = explain_pair(inbound, verifier, whole, issuer=issuer, audience=own, request=request)
    else:
        client = JWKSClient(resolver, trust, now)
        raw = read_token(token)
        answer = drive(explain_token(inbound, verifier, whole, raw, now(), request), client, now)
        client.close()
    _print_explanation(answer, as_json)
    raise typer.Exit(0 if answer.admitted else 1)


def _print_explanation(answer: Explanation, as_json: bool) -> None:
    from ..explain import Verdict

    if as_json:
        print_json(
            {
                "admitted": answer.admitted,
                "reason": None if answer.reason is None else answer.reason.value,
                "detail": answer.detail,
                "advice": answer.advice,
                "scopes": sorted(answer.scopes),
                "steps": [
                    {
                        "check": step.check,
                        "verdict": step.verdict.value,
                        "found": step.found,
                        "expected": step.expected,
                    }
                    for step in answer.steps
                ],
            }
        )
        return
    marks = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.NOT_REACHED: " "}
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        marks = {Verdict.PASSED: "ok", Verdict.FAILED: "FAILED", Verdict.NOT_REACHED: ""}
    rows = [(marks[step.verdict], step.check, step.found, step.expected) for step in answer.steps]
    print_table(("", "check", "found", "expected"), rows)
    if answer.reason is None:
        typer.echo(f"\nadmitted, with {_scopes(answer)}, unless `s2s-mesh deny list` names it")
    else:
        typer.echo(f"\nrefused: {answer.reason.value}: {answer.detail}\nto change: {answer.advice}")


def _scopes(answer: Explanation) -> str:
    return f"the scopes {' '.join(sorted(answer.scopes))}" if answer.scopes else "no scopes"


app.command("diff")(diff)
app.command("graph")(graph)
app.command("schema")(schema)
app.command("export")(export)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
