"""`s2s-mesh keys` and `s2s-mesh jwks`: the ring in the key store. Private halves are never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..clock import now
from .environment import key_manager, load_settings
from .output import AsJSON, Yes, confirm, moment, print_json, print_table, stamp

if TYPE_CHECKING:
    from ..keyrecord import KeyRecord
    from ..keyring import KeyRing

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


@app.command("rotate")
def rotate(
    at_once: Annotated[bool, typer.Option("--now", help="Only if the next key may sign already.")] = False,
    yes: Yes = False,
) -> None:
    """Let the next key sign, before its time.

    The present key stays published until every token it signed has expired, so no call fails. Without --now
    the next key takes over as soon as every receiver has it; with --now at once, or, if some receiver may not
    have it yet, not at all. Any number may run at once: they make one rotation.

    \b
    Example:
      s2s-mesh keys rotate --now --yes
    """
    manager = key_manager(load_settings(), may_create=False)
    done: list[str] = []

    def hand_over(ring: KeyRing, at: float) -> KeyRing:
        successor, ripe_at = ring.successor(at), ring.ripe_at(at)
        done.clear()
        if successor is None or ripe_at is None:
            return ring  # the step after this one makes a successor
        start = at if at_once else max(at, ripe_at)
        if ripe_at > start:
            done.append(f"nothing changed: {successor.kid} may sign {moment(ripe_at, at)} at the earliest")
            return ring
        if successor.sign_from <= start:
            done.append(f"nothing changed: {successor.kid} signs {moment(successor.sign_from, at)} anyway")
            return ring
        done.append(f"{successor.kid} signs from {moment(start, at)} on")
        return ring.hand_over(at, start)

    confirm("rotate the signing key", yes)
    manager.change(hand_over)
    typer.echo(done[0] if done else "nothing changed: the next key has only just been made")


@app.command("revoke")
def revoke(kid: Annotated[str, typer.Argument(help="As `keys show` prints it.")], yes: Yes = False) -> None:
    """Revoke a key: unpublished at once, the next key signs at once.

    For a key that may be known to somebody else. Receivers refuse its tokens as soon as they have refreshed
    the JWKS (5 minutes as a rule; while they cannot reach it, up to an hour more). It cannot be undone.

    \b
    Example:
      s2s-mesh keys revoke NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs
    """
    manager = key_manager(load_settings(), may_create=False)
    confirm(f"revoke {kid} for ever", yes)
    ring = manager.change(lambda ring, at: ring.compromise(kid, at))
    signing = ring.signing_record(now())
    typer.echo(f"revoked {kid}; {signing.kid if signing is not None else 'no key'} signs now")


@app.command("rewrap")
def rewrap(yes: Yes = False) -> None:
    """Seal the ring under the first key in S2S_MESH_KEY_ENCRYPTION_KEY.

    To replace a key-encryption key: set NEW,OLD in every process, run this, then set NEW alone.

    \b
    Example:
      S2S_MESH_KEY_ENCRYPTION_KEY=$NEW,$OLD s2s-mesh keys rewrap --yes
    """
    manager = key_manager(load_settings(), may_create=False)
    confirm("seal the ring under the first key-encryption key", yes)
    typer.echo("sealed anew" if manager.rewrap() else "nothing changed: it is sealed under that key already")


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
