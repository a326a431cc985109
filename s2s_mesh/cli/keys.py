"""`s2s-mesh keys` and `s2s-mesh jwks`: the ring in the key store. Private halves are never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ..clock import now
from .environment import key_manager, load_settings
from .output import AsJSON, moment, print_json, print_table, stamp

if TYPE_CHECKING:
    from ..keyring import KeyRecord, KeyRing

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The service's own keys, in its key store."
)


@app.command("init")
def init(as_json: AsJSON = False) -> None:
    """Create the key ring if there is none.

    Run it in a release phase, before the first job that signs: a process that serves no routes never creates
    a ring. Harmless where there is a ring, and any number may run at once: they end with one ring.

    \b
    Example:
      s2s-mesh keys init && s2s-mesh keys show
    """
    settings = load_settings()
    manager = key_manager(settings, may_create=True)
    before = manager.peek()
    ring = manager.refresh()
    at = now()
    created = manager.writes > 0 and (before is None or before.signing_record(at) is None)
    if as_json:
        print_json({"created": created, **_facts(ring, at)})
        return
    typer.echo(f"{'created' if created else 'found'} the key ring of {ring.issuer}, version {ring.version}")
    _print_ring(ring, at)


@app.command("show")
def show(as_json: AsJSON = False) -> None:
    """Show the keys of the ring, their states and times.

    Changes nothing, and never shows a private half. Exit code 1 if there is no ring.

    \b
    Example:
      s2s-mesh keys show
      s2s-mesh keys show --json | jq -r '.keys[] | select(.signs_now) | .kid'
    """
    ring, at = _stored_ring(), now()
    if as_json:
        print_json(_facts(ring, at))
        return
    typer.echo(f"key ring of {ring.issuer}, version {ring.version}")
    _print_ring(ring, at)


def jwks() -> None:
    """Print the JWKS, exactly as it is served.

    Changes nothing, in the store or elsewhere. Exit code 1 if there is no ring or no published key.

    \b
    Example:
      s2s-mesh jwks > wallets.jwks.json
    """
    document = _stored_ring().jwks(now())
    if not document.keys:
        # an empty set would tell whoever trusts it that every key is revoked
        typer.echo("the key ring holds no published key; run `s2s-mesh keys init`", err=True)
        raise typer.Exit(1)
    typer.echo(document.to_bytes())


def _stored_ring() -> KeyRing:
    settings = load_settings()
    ring = key_manager(settings, may_create=False).peek()
    if ring is None:
        typer.echo(
            f"there is no key ring for {settings.issuer}; run `s2s-mesh keys init`, or start the service",
            err=True,
        )
        raise typer.Exit(1)
    return ring


def _in_order(ring: KeyRing) -> list[KeyRecord]:
    return sorted(ring.records.values(), key=lambda record: (record.sign_from, record.kid))


def _facts(ring: KeyRing, at: float) -> dict[str, Any]:
    signing = ring.signing_record(at)
    keys = [
        {
            "kid": record.kid,
            "alg": record.public.alg,
            "state": record.state(at).value,
            "signs_now": record is signing,
            "published": record.published(at),
            "created": stamp(record.created),
            "sign_from": stamp(record.sign_from),
            "sign_until": stamp(record.sign_until),
            "remove_at": stamp(record.remove_at),
            "revoked_at": None if record.revoked_at is None else stamp(record.revoked_at),
        }
        for record in _in_order(ring)
    ]
    return {"issuer": ring.issuer, "version": ring.version, "keys": keys}


def _print_ring(ring: KeyRing, at: float) -> None:
    signing = ring.signing_record(at)
    rows = [
        (
            record.kid,
            record.public.alg,
            f"{record.state(at).value}{', signs now' if record is signing else ''}",
            moment(record.sign_from, at),
            moment(record.sign_until, at),
            moment(record.remove_at, at),
        )
        for record in _in_order(ring)
    ]
    print_table(("kid", "alg", "state", "signs from", "signs until", "removed at"), rows)
