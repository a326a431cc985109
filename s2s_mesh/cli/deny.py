"""`s2s-mesh deny`: whom this service refuses at once, in all its processes."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..clock import now
from ..errors import ConfigError
from .environment import load_settings
from .output import AsJSON, Yes, confirm, moment, print_json, print_table, stamp

if TYPE_CHECKING:
    from ..deny_keeper import DenyListKeeper
    from ..deny_list import DenyRule

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Refuse callers of this service at once, whatever its trust file says.",
)


@app.command("add")
def add(
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the log and the list.")],
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="A calling service, or a foreign issuer.")
    ] = None,
    kid: Annotated[str | None, typer.Option("--kid", metavar="KID", help="A key of a caller.")] = None,
    jti: Annotated[str | None, typer.Option("--jti", metavar="JTI", help="One token.")] = None,
    user_sub: Annotated[
        str | None, typer.Option("--user-sub", metavar="SUB", help="An end user, whoever carries it.")
    ] = None,
    lasting: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help="30m, 24h, ...; for ever if absent."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Refuse calls that are all of what is named, in every process of this service within a second.

    They get 401 as for any bad token; this service's log says which rule it was. The list is kept in this
    service's key store, sealed, and survives restarts.

    \b
    Example:
      s2s-mesh deny add --issuer https://edge.example.com --for 1h --why "edge was broken into"
    """
    from ..deny_list import DenyRule

    at = now()
    rule = DenyRule(
        id=secrets.token_hex(4),
        why=why,
        added_at=at,
        until=None if lasting is None else at + _seconds(lasting),
        issuer=None if issuer is None else _issuer(issuer),
        kid=kid,
        jti=jti,
        user_sub=user_sub,
    )
    keeper = _keeper()
    confirm(f"refuse {_named(rule) or 'nothing'}", yes)
    keeper.change(lambda rules, _now: rules.add(rule))
    typer.echo(f"rule {rule.id}: {_named(rule)} refused {_until(rule, at)}")


@app.command("list")
def show(as_json: AsJSON = False) -> None:
    """Show the rules, those that were removed or ran out in the last 30 days included.

    \b
    Example:
      s2s-mesh deny list --json | jq '.rules[] | select(.holds)'
    """
    at = now()
    rules = list(_keeper().peek().rules.values())
    if as_json:
        print_json({"rules": [_facts(rule, at) for rule in rules]})
        return
    if not rules:
        typer.echo("nobody is denied")
        return
    rows = [(rule.id, _named(rule), rule.why, moment(rule.added_at, at), _state(rule, at)) for rule in rules]
    print_table(("rule", "refuses", "why", "added", "state"), rows)


@app.command("remove")
def remove(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="As `deny list` prints it.")], yes: Yes = False
) -> None:
    """End a rule: who it refused may call again, within a second.

    \b
    Example:
      s2s-mesh deny remove 5f3a9c10
    """
    keeper = _keeper()
    confirm(f"end deny rule {rule}", yes)
    keeper.change(lambda rules, at: rules.remove(rule, at))
    typer.echo(f"rule {rule} is removed")


def _keeper() -> DenyListKeeper:
    from ..deny_keeper import deny_list_keeper

    # what this command does it says itself; the log's lines are for running processes
    logging.getLogger("s2s_mesh.deny").setLevel(logging.ERROR)
    settings = load_settings()
    keeper = deny_list_keeper(settings, clock=now)
    if keeper is None or not keeper.shared:
        raise ConfigError(
            f"the deny list of {settings.issuer} is kept beside its ring, in a key store that its processes "
            "share: set S2S_MESH_KEY_STORE to redis:// or file:///DIRECTORY"
        )
    return keeper


def _issuer(text: str) -> str:
    """A service id, or a foreign issuer as the trust file has it: any other could be a typing error.

    Raises:
        ConfigError: neither.
    """
    from ..identity import ServiceId

    try:
        return ServiceId.parse(text, allow_loopback_http=True)
    except ConfigError:
        if text in load_settings().trusted.foreign_issuers:
            return text
        raise


def _seconds(duration: str) -> float:
    from ..trust_values import Unfit, check_duration, seconds

    try:
        check_duration(duration)
    except Unfit as unfit:
        raise typer.BadParameter(f"--for {duration!r}: {unfit}") from None
    return seconds(duration)


def _named(rule: DenyRule) -> str:
    return ", ".join(f"{member} {value!r}" for member, value in rule.named().items())


def _until(rule: DenyRule, at: float) -> str:
    return "for ever" if rule.until is None else f"until {moment(rule.until, at)}"


def _state(rule: DenyRule, at: float) -> str:
    if rule.removed_at is not None:
        return f"removed {moment(rule.removed_at, at)}"
    return f"in force {_until(rule, at)}" if rule.holds(at) else f"ran out {moment(rule.until or at, at)}"


def _facts(rule: DenyRule, at: float) -> dict[str, Any]:
    times = {"added_at": rule.added_at, "until": rule.until, "removed_at": rule.removed_at}
    return {
        "id": rule.id,
        **rule.named(),
        "why": rule.why,
        "holds": rule.holds(at),
        **{name: None if value is None else stamp(value) for name, value in times.items()},
    }
