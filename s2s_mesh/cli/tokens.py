"""`s2s-mesh token`: mint one, look into one."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from ..clock import now
from ..errors import ConfigError, TokenRejected
from .environment import key_manager, load_settings
from .output import AsJSON, instant, print_json, print_table, relative, stamp
from .signing import old_enough

app: typer.Typer = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Tokens: mint one, look into one."
)
_PAST_AND_FUTURE = {
    "iat": ("issued", "issued"),
    "nbf": ("became valid", "becomes valid"),
    "exp": ("expired", "expires"),
}
_MOST_READ = 65536  # bytes; a token has 8192 at most
_STDIN = "-"


@app.command("mint")
def mint(
    audience: Annotated[str, typer.Option("--audience", metavar="URL", help="The service to call.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", metavar="SCOPE", help="What to ask for; repeat for several. All granted if absent."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the first key may sign, or exit with code 1.")
    ] = True,
) -> None:
    """Print a token for one audience, signed by this service.

    The token, and nothing else, goes to standard output. Whoever holds it can call the audience in this
    service's name until it expires, in two minutes.

    A key must have been published for 30 seconds (by the default rotation) before a process that does not
    publish it itself may sign with it; on a ring that is younger than that, this command waits. It never
    creates a ring.

    \b
    Example:
      curl -H "Authorization: Bearer $(s2s-mesh token mint --audience https://wallets.example.com)" \\
        https://wallets.example.com/wallets/42
    """
    from ..claims import check_scopes
    from ..signer import Signer, TokenKind

    settings = load_settings()
    known = _option("--audience", settings.check_audience, audience)
    wanted = _option("--scope", check_scopes, scopes) if scopes else None
    lag = settings.schedule.replica_lag
    signer = Signer(settings.issuer, life=settings.token_life, min_key_age=lambda: lag)
    ring = old_enough(key_manager(settings, may_create=False), lag, wait=wait)
    typer.echo(signer.mint(ring, TokenKind.SERVICE, known, wanted, now()))


def _option(name: str, check: Any, value: Any) -> Any:
    try:
        return check(value)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


@app.command("inspect")
def inspect(
    token: Annotated[
        str, typer.Argument(metavar="TOKEN|-", help="The token; - reads it from standard input.")
    ],
    as_json: AsJSON = False,
) -> None:
    """Show what a token says, without verifying it.

    Decodes as strictly as a receiver does; a token that every receiver refuses for its form alone is exit
    code 1, with the reason. Signature, issuer and audience are NOT checked; expired tokens are shown too, and
    those of identity providers, some of which have no typ or name a certificate.

    Prefer -, because other users of a machine can see arguments.

    \b
    Example:
      s2s-mesh token mint --audience https://wallets.example.com | s2s-mesh token inspect -
    """
    from .. import jws
    from ..trust_values import HEADER_MEMBERS

    try:
        decoded = jws.decode(read_token(token), typ_required=False, beside=HEADER_MEMBERS)
    except TokenRejected as rejected:
        if as_json:
            print_json({"verified": False, "reason": rejected.reason.value, "detail": rejected.detail})
        else:
            typer.echo(f"not a token that any receiver accepts: {rejected}", err=True)
        raise typer.Exit(1) from None
    header: dict[str, Any] = {name: value for name, value in decoded.header._asdict().items() if value}
    if decoded.header.beside:
        header["beside"] = sorted(decoded.header.beside)  # names only
    claims, at = decoded.claims, now()
    if as_json:
        times = {
            name: stamp(value) for name in _PAST_AND_FUTURE if (value := _time(claims, name)) is not None
        }
        print_json({"verified": False, "header": header, "claims": claims, "times": times})
        return
    typer.echo("NOT VERIFIED: anybody can write such a token; only a receiver checks the signature\n")
    rows = [("header", name, json.dumps(value), "") for name, value in header.items()]
    rows += [
        # JSON's escapes for the name as well: it may hold whatever steers a terminal
        ("claims", json.dumps(name)[1:-1], json.dumps(value), _words(claims, name, at))
        for name, value in claims.items()
    ]
    print_table(("part", "member", "value", "meaning"), rows)


def read_token(argument: str) -> bytes:
    """The token that was given, or that stands on standard input where the argument is `-`."""
    raw = sys.stdin.buffer.read(_MOST_READ) if argument == _STDIN else os.fsencode(argument)
    return raw.strip()


def _time(claims: dict[str, Any], name: str) -> int | None:
    """A claim that is an instant, if it is one that a calendar has."""
    value = claims.get(name)
    return value if type(value) is int and 0 < value < 2**37 else None


def _words(claims: dict[str, Any], name: str, at: float) -> str:
    """`expires in 1 min 40 s, 2026-11-22 ...` for the times, nothing for other claims."""
    if name not in _PAST_AND_FUTURE:
        return ""
    value = _time(claims, name)
    if value is None:
        return "not whole Unix seconds"
    past, future = _PAST_AND_FUTURE[name]
    return f"{past if value <= at else future} {relative(value, at)}, {instant(value)}"
