"""`s2s-mesh keys` and `s2s-mesh jwks`: the ring in the key store. Private halves are never shown."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ..clock import now
from ..errors import ConfigError
from .environment import key_manager, load_settings
from .output import AsJSON, Yes, confirm, moment, print_json, print_table, stamp, write_file

if TYPE_CHECKING:
    from ..jwks import JWKSet
    from ..keyrecord import KeyRecord
    from ..keyring import KeyRing

_KID = re.compile("[A-Za-z0-9_-]{43}", re.ASCII)  # an RFC 7638 thumbprint of SHA-256
_HYPHENATED_KID = re.compile("-[A-Za-z0-9_-]{42}", re.ASCII)

app: typer.Typer = typer.Typer(
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
    algorithm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the next key, from ES256, ES384, RS256, PS256 and Ed25519."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Let the next key sign, before its time.

    The present key stays published until every token it signed has expired, so no call fails. Without --now
    the next key takes over as soon as every receiver has it; with --now at once, or, if some receiver may not
    have it yet, not at all. Any number may run at once: they make one rotation.

    With --algorithm the next key is of that algorithm: where it is not, a new one is published and takes over
    instead. Before that, see that every receiver's trust file allows the algorithm for this issuer; and set
    S2S_MESH_ALGORITHM as well, or later keys are of the former algorithm again.

    \b
    Example:
      s2s-mesh keys rotate --now --yes
      s2s-mesh keys rotate --algorithm ES256
    """
    from ..keys import ALGORITHMS, SigningKey

    if algorithm is not None and algorithm not in ALGORITHMS:
        raise typer.BadParameter(f"{algorithm!r} is not one of {', '.join(sorted(ALGORITHMS))}")
    settings = load_settings()
    generate = cache(lambda: SigningKey.generate(algorithm or settings.algorithm))
    outcome = ""

    def change(ring: KeyRing, at: float) -> KeyRing:
        nonlocal outcome
        successor = ring.successor(at)
        if algorithm is None or (successor is not None and successor.public.alg == algorithm):
            ring, outcome = _hand_over(ring, at, at_once)
        elif at_once:
            outcome = f"nothing changed: the next key is not of {algorithm}; without --now one is made"
        else:
            ring = ring.replace_successor(at, generate())
            outcome = f"{generate().kid} signs from {moment(at + ring.schedule.lead, at)} on"
        return ring

    condition = "" if algorithm is None else f" to {algorithm}, which every receiver's trust file must allow"
    confirm(f"rotate the signing key{condition}", yes)
    key_manager(settings, may_create=False).change(change)
    typer.echo(outcome)
    if algorithm is not None and algorithm != settings.algorithm:
        typer.echo(
            f"set S2S_MESH_ALGORITHM={algorithm} in every process of {settings.issuer}: it is "
            f"{settings.algorithm} here, and so the key after this one would be",
            err=True,
        )


def _hand_over(ring: KeyRing, at: float, at_once: bool) -> tuple[KeyRing, str]:
    successor, ripe_at = ring.successor(at), ring.ripe_at(at)
    if successor is None or ripe_at is None:
        return ring.hand_over(at, at), ""  # says why it cannot
    start = at if at_once else max(at, ripe_at)
    if ripe_at > start:
        return ring, f"nothing changed: {successor.kid} may sign {moment(ripe_at, at)} at the earliest"
    if successor.sign_from <= start:
        return ring, f"nothing changed: {successor.kid} signs {moment(successor.sign_from, at)} anyway"
    return ring.hand_over(at, start), f"{successor.kid} signs from {moment(start, at)} on"


class _TakesAKid(TyperCommand):
    """A command whose argument is a key id: one in 64 begins with a hyphen, and is no option all the same."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        kids = [arg for arg in args if _HYPHENATED_KID.fullmatch(arg)]
        if kids:
            args = [*(arg for arg in args if arg not in kids), "--", *kids]
        return super().parse_args(ctx, args)


@app.command("revoke", cls=_TakesAKid)
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


@app.command("export-public")
def export_public(
    pem: Annotated[bool, typer.Option("--pem", help="PEM, one block per key, instead of the JWKS.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Replace this file in one step, instead of printing."),
    ] = None,
    asap_folder: Annotated[
        Path | None,
        typer.Option("--asap", metavar="DIR", help="Write a key server's folder of PEM files for ASAP."),
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option("--for", metavar="gcp", help="Leave out keys that make Google refuse an uploaded JWKS."),
    ] = None,
) -> None:
    """Export the public keys, for receivers and programs that cannot fetch the JWKS.

    For `jwks_file` in a receiver's trust file, a static file server, or a program that reads PEM. Export
    again after each rotation: the next key is in it long before it signs. Changes nothing in the store. Exit
    code 1 if there is no ring or no published key; FILE then stays as it is.

    --asap writes DIR/ISSUER/KID for each key, ISSUER being S2S_MESH_ASAP_ISSUER, and removes the keys of
    this issuer that are published no more.

    \b
    Example:
      s2s-mesh keys export-public --output public/settlement.jwks.json
      S2S_MESH_ASAP_ISSUER=team/edge s2s-mesh keys export-public --asap key-server
    """
    from ..jwks import JWKSet

    if consumer not in (None, "gcp"):
        raise typer.BadParameter(f"--for knows gcp only, not {consumer!r}")
    if asap_folder is not None and (pem or output is not None or consumer is not None):
        raise typer.BadParameter("--asap writes PEM files into DIR: leave --pem, --output and --for out")
    ring = _stored_ring()
    document = _published(ring)
    if consumer is not None:
        document = JWKSet(key for key in document.keys.values() if key.public_jwk["kty"] in ("RSA", "EC"))
        if not document.keys:
            typer.echo(
                "no published key is RSA or EC; run `s2s-mesh keys rotate --algorithm ES256`", err=True
            )
            raise typer.Exit(1)
    if asap_folder is not None:
        _write_asap(document, asap_folder)
        return
    if pem:
        text = "".join(f"# {key.kid} {key.alg}\n{key.to_pem()}" for key in document.keys.values())
    else:
        text = document.to_bytes().decode() + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    write_file(output, text)
    typer.echo(f"wrote {len(document.keys)} public keys of {ring.issuer} to {output}")


def _write_asap(document: JWKSet, folder: Path) -> None:
    issuer = load_settings().asap_issuer
    if issuer is None:
        typer.echo("S2S_MESH_ASAP_ISSUER is not set; set it to the name that ASAP receivers know", err=True)
        raise typer.Exit(1)
    place = folder / issuer
    try:
        place.mkdir(parents=True, exist_ok=True)
        for key in document.keys.values():
            write_file(place / key.kid, key.to_pem())
        gone = [
            path for path in place.iterdir() if _KID.fullmatch(path.name) and path.name not in document.keys
        ]
        for path in gone:
            path.unlink()
    except OSError as failed:
        raise ConfigError(f"{place} cannot be written: {failed.strerror}") from None
    typer.echo(f"wrote {len(document.keys)} public keys to {place}, removed {len(gone)}")


def jwks() -> None:
    """Print the JWKS, exactly as it is served.

    Changes nothing, in the store or elsewhere. Exit code 1 if there is no ring or no published key.

    \b
    Example:
      s2s-mesh jwks > wallets.jwks.json
    """
    typer.echo(_published(_stored_ring()).to_bytes())


def _published(ring: KeyRing) -> JWKSet:
    document = ring.jwks(now())
    if not document.keys:
        # an empty set would tell whoever trusts it that every key is revoked
        typer.echo("the key ring holds no published key; run `s2s-mesh keys init`", err=True)
        raise typer.Exit(1)
    return document


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
