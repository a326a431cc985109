"""`s2s-mesh trust migration` and `s2s-mesh legacy`: who still comes with an API key or a password."""

from __future__ import annotations

import hashlib
import secrets
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..clock import now
from ..errors import ConfigError
from .environment import load_settings
from .output import AsJSON, print_json, print_table, relative, stamp

if TYPE_CHECKING:
    from ..migration_use import Use
    from ..settings import Settings
    from ..trust import LegacyRule, TrustConfig

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="API keys and passwords for [[legacy]] rows: make one, or hash one.",
)
# 128 bits take 22 characters of base64url
_SHORTEST_KEY = 22
_PASSES, _KIB = 2, 19456  # what OWASP asks for at least: some 40 ms a check


def migration(as_json: AsJSON = False) -> None:
    """Say who still uses an old credential, and what to do next.

    One line for each [[legacy]] row of this service: its stage and its last day, when the old credential was
    last seen (refused or not) and a token of the same caller, counted by all processes of the service in its
    key store, and the next step. Running processes add what they saw every ten seconds.

    Exit code 1 while an old credential was seen in the last 8 days, 0 once none was.

    \b
    Example:
      s2s-mesh trust migration
      s2s-mesh trust migration --json | jq -r '.rows[] | select(.recent_uses > 0) | .issuer'
    """
    from ..migration import read_uses, stored_uses

    settings = load_settings()
    store = stored_uses(settings)
    if store is None or not store.store.shared:
        raise ConfigError(
            f"the uses of {settings.issuer} are counted in a key store that its processes share: set "
            "S2S_MESH_KEY_STORE to redis:// or file:///DIRECTORY"
        )
    rules = _trust(settings).legacy
    uses = read_uses(store).by_who if rules else {}
    at = now()
    rows = []
    for rule in rules:
        pair = rule.issuer, rule.audience
        old, token = (uses.get((*pair, way)) for way in (rule.way, "token"))  # type: ignore[call-overload]
        rows.append(_Row(rule, old, token, at))
    if as_json:
        print_json({"issuer": settings.issuer, "rows": [row.facts() for row in rows]})
    elif rows:
        heads = ("caller", "old way", "stage", "ends", "last used", "in 8 days", "last token", "next")
        print_table(heads, [row.cells() for row in rows])
    else:
        typer.echo(f"no [[legacy]] row for {settings.issuer}: nobody calls it with an old credential")
    raise typer.Exit(1 if any(row.recent for row in rows) else 0)


@app.command("key")
def key(as_json: AsJSON = False) -> None:
    """Make a new API key of 256 random bits.

    Prints the key, which is the caller's secret and stored nowhere, and the line for its [[legacy]] row.

    \b
    Example:
      s2s-mesh legacy key --json
    """
    made = secrets.token_urlsafe(32)
    digest = hashlib.sha256(made.encode()).hexdigest()
    if as_json:
        print_json({"key": made, "api_key_sha256": digest})
        return
    typer.echo(f'{made}\n\napi_key_sha256 = "{digest}"')


@app.command("hash")
def hash_(
    password: Annotated[
        bool, typer.Option("--password", help="It is a password of Basic authentication, not an API key.")
    ] = False,
) -> None:
    """Hash a key or password that is in use, for its [[legacy]] row.

    Reads it from standard input, or asks for it without showing it. It is never an argument, because other
    users of a machine can see arguments.

    \b
    Example:
      s2s-mesh legacy hash < key.txt
      s2s-mesh legacy hash --password
    """
    secret = _read_secret("password" if password else "API key")
    if not password:
        if len(secret) < _SHORTEST_KEY:
            raise ConfigError(
                f"an API key of {len(secret)} characters can be guessed from its hash; expected at least 128 "
                f"random bits, {_SHORTEST_KEY} characters or more: give its caller a new one, `s2s-mesh "
                "legacy key`"
            )
        typer.echo(f'api_key_sha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"')
        return
    from ..passwords import need_argon2

    need_argon2()
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_KIB, parallelism=1)
    typer.echo(f'password_argon2 = "{hasher.hash(secret)}"')


class _Row:
    """One line of the report."""

    def __init__(self, rule: LegacyRule, old: Use | None, token: Use | None, at: float) -> None:
        self._rule = rule
        self._old = old
        self._token = token
        self._at = at
        self.recent = 0 if old is None else old.recent(at)

    def cells(self) -> tuple[str, ...]:
        rule = self._rule
        way = f"Basic {_ascii(rule.user)}" if rule.way == "basic" else rule.header.decode()
        ended = " (ended)" if rule.ends_at <= self._at else ""
        return (
            rule.issuer,
            way,
            rule.stage,
            f"{self._last_day}{ended}",
            self._when(self._old),
            str(self.recent),
            self._when(self._token),
            self._next(),
        )

    def facts(self) -> dict[str, Any]:
        rule = self._rule
        return {
            "issuer": rule.issuer,
            "audience": rule.audience,
            "way": rule.way,
            "stage": rule.stage,
            "until": self._last_day,
            "accepted": rule.accepted(self._at),
            "last_use": None if self._old is None else stamp(self._old.last),
            "recent_uses": self.recent,
            "last_token": None if self._token is None else stamp(self._token.last),
            "next": self._next(),
        }

    @property
    def _last_day(self) -> str:
        return stamp(self._rule.ends_at - 1)[:10]

    def _when(self, use: Use | None) -> str:
        return "never" if use is None else relative(use.last, self._at)

    def _next(self) -> str:
        rule = self._rule
        tokens = self._token is not None and self._token.recent(self._at) > 0
        if not rule.accepted(self._at):
            if self.recent:
                return "refused, and still sent: tell the caller"
            return 'set "observe" to begin' if rule.stage == "off" else "remove the row"
        if self.recent:
            if not tokens:
                return "have the caller send tokens"
            return (
                "find what still sends it"
                if rule.stage == "prefer"
                else 'set "prefer", so that uses are logged'
            )
        return 'set "require"' if tokens else "nobody came: ask the caller"


def _trust(settings: Settings) -> TrustConfig:
    return settings.trusted.for_audiences(settings.audiences)


def _read_secret(what: str) -> str:
    if sys.stdin.isatty():
        secret: str = typer.prompt(what, hide_input=True)
    else:
        secret = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not secret or any(char < " " or char == "\x7f" for char in secret):
        raise ConfigError(f"expected one line with the {what}, without control characters")
    return secret


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
