"""`s2s-mesh doctor`: look at everything that a service depends on, and say what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..clock import now
from ..errors import ConfigError, JWKSInvalid, KeyStoreError
from .environment import key_manager, nobody, trust_file
from .finding_table import print_findings
from .output import AsJSON, progress
from .trust_review import as_written

if TYPE_CHECKING:
    from ..findings import Finding
    from ..keyring import KeyRing
    from ..looks import Look
    from ..rotation import RotationSchedule
    from ..settings import Settings
    from ..trust import TrustConfig
    from ..trust_issuers import Accepted

_AT_ONCE = 16


def doctor(
    problems: Annotated[bool, typer.Option("--problems", help="Leave out what is in order.")] = False,
    reviewed: Annotated[
        Path | None,
        typer.Option(
            "--reviewed", metavar="FILE", help="The trust file as it was reviewed, to compare with."
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Look at everything this service depends on, and say what to do.

    Run it with the service's environment, where the service runs. Looks at the environment, the trust file,
    the key store and its Redis, the ages of the keys, the service's own URL as the world sees it, this
    machine's clock against those of the servers that it asks, and every pair in the trust file: at the keys
    of each issuer, and at each audience. Changes nothing, and sends no token to anybody.

    Exit codes: 0 all is well, 1 there is something to do, 2 it could not run.

    \b
    Example:
      s2s-mesh doctor
      s2s-mesh doctor --problems --reviewed ../deploy/trust.toml
      s2s-mesh doctor --json | jq -r '.findings[] | select(.verdict == "fail") | .do'
    """
    from ..findings import exit_code

    findings = list(_examine(os.environ, reviewed))
    print_findings(findings, as_json=as_json, problems=problems)
    raise typer.Exit(exit_code(findings))


def _examine(environ: Mapping[str, str], reviewed: Path | None) -> Iterator[Finding]:
    from .. import looks
    from ..findings import believed_peers

    path = trust_file(environ)
    trust, about_trust = _trust(path)
    settings, about_settings = _settings(environ, trust)
    yield about_settings
    yield about_trust
    if trust is not None and settings is not None:
        yield looks.own_part(trust, settings.audiences)
    about_peers = (
        None if settings is None else believed_peers(settings.proxies, environ.get("FORWARDED_ALLOW_IPS", ""))
    )
    if about_peers is not None:
        yield about_peers
    if trust is not None and path is not None and reviewed is not None:
        yield _compared(path, reviewed)
    ring = None
    if settings is not None:
        ring, about_store = _store(settings)
        yield from about_store
    yield from _outside(settings, trust or nobody(), ring)


def _trust(path: Path | None) -> tuple[TrustConfig | None, Finding]:
    from ..findings import Finding, Verdict
    from ..trust_file import TrustFile
    from ..trust_legacy import end_warnings

    trust = None
    if path is None:
        verdict, found = Verdict.WARN, "there is none: nobody may call this service"
        do = (
            "set S2S_MESH_TRUST_FILE, or write one: `s2s-mesh init`; a service that only publishes needs none"
        )
    else:
        try:
            trust = TrustFile(path).load()
        except ConfigError as error:
            verdict, found = Verdict.FAIL, str(error)
            do = "mend it: services that run keep its last good content, and those that start do not start"
        else:
            warnings = [*trust.warnings, *end_warnings(trust.legacy, now())]
            verdict = Verdict.WARN if warnings else Verdict.OK
            found = "; ".join(warnings) or f"{path} is good"
            do = f"mend what `s2s-mesh trust check {path}` warns of" if warnings else ""
    expected = "a good trust file, without warnings"
    return trust, Finding(check="trust file", verdict=verdict, found=found, expected=expected, do=do)


def _settings(environ: Mapping[str, str], trust: TrustConfig | None) -> tuple[Settings | None, Finding]:
    """The settings as a service would have them; else as much of them as there is to look further.

    Raises:
        ConfigError: there is no issuer, so that nobody knows what to look at.
    """
    from .. import settings, settings_env
    from ..findings import Finding, Verdict, bad_settings

    given = {"trust": trust or nobody()}
    issuer = environ.get("S2S_MESH_ISSUER", "").strip()
    try:
        arguments = settings_env.from_env(environ, given)
        made = settings.build(**arguments)
    except ConfigError as error:
        if not issuer:
            raise
        refused = bad_settings(error, issuer)
        try:
            # whether there is a sealed ring can be seen without the key to it
            return settings.build(
                **settings_env.from_env(environ, {**given, "allow_unsealed_key_store": True})
            ), refused
        except ConfigError:
            return None, refused
    return made, Finding(check="settings", verdict=Verdict.OK, found=f"this is {made.issuer}")


def _store(settings: Settings) -> tuple[KeyRing | None, list[Finding]]:
    from .. import findings

    said: list[Finding] = []
    store = settings.open_key_store()
    try:
        if store is None or not store.shared:
            found = "kept in memory, which no other process can see"
            do = "in production, set S2S_MESH_KEY_STORE to redis://... or file:///DIRECTORY"
            return None, [
                findings.Finding(check="key ring", verdict=findings.Verdict.SKIPPED, found=found, do=do)
            ]
        try:
            ring = key_manager(settings, may_create=False).peek()
        except KeyStoreError as error:
            return None, [findings.store_trouble(error)]
        said.append(findings.ring_ages(ring, now()))
        # a name as in a Protocol: importing the class would load redis-py for a file store too
        server_facts = getattr(store, "server_facts", None)
        if server_facts is not None:
            try:
                said += findings.redis_settings(server_facts())
            except KeyStoreError as error:
                said.append(findings.unseen_redis(error))
        return ring, said
    finally:
        if store is not None:
            store.close()


def _outside(settings: Settings | None, trust: TrustConfig, ring: KeyRing | None) -> Iterator[Finding]:
    """What is said about services, our own first; all of them are asked at once."""
    from .. import looks

    own = None if settings is None else settings.issuer
    # of an ASAP issuer nobody can say which keys it has
    listed = {name: source for name, source in trust.key_sources.items() if not source.asap_key_servers}
    sources: dict[str, Accepted] = {**_audiences(trust), **listed}
    if own is not None and own not in sources:
        sources[own] = at_its_id(own, trust)
    pinned = {name: source for name, source in listed.items() if source.jwks_file is not None}
    asked = [*sources.items(), *((name, at_its_id(name, trust, source)) for name, source in pinned.items())]
    with progress("asking services for their keys", len(asked)) as step, ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda item: _look(item[1], step), asked))
    seen = {name: look for (name, _), look in zip(asked[: len(sources)], answers, strict=False)}
    published = {
        name: look for (name, _), look in zip(asked[len(sources) :], answers[len(sources) :], strict=True)
    }
    if settings is not None:
        yield from looks.own_url(settings.issuer, seen[settings.issuer], ring, now())
        headers = looks.headers("own JWKS headers", seen[settings.issuer], settings.schedule)
        if headers is not None:
            yield headers
    yield from looks.clocks(seen, trust)
    for name, source in listed.items():
        if name == own and seen[name].jwks is None:
            continue  # said above
        yield looks.issuer_keys(source, seen[name])
        headers = looks.headers(f"JWKS headers of {name}", seen[name], _schedule(settings))
        if headers is not None and name != own:
            yield headers
    for row in trust.pairs.values():
        if row.issuer in trust.issuers:  # else its tokens are made by a foreign issuer, which is seen above
            yield looks.pair(row, trust.issuers[row.issuer], seen[row.issuer], seen[row.audience])
    yield from looks.file_age(trust, seen, published)


def _schedule(settings: Settings | None) -> RotationSchedule:
    from ..rotation import RotationSchedule

    return RotationSchedule.DEFAULT if settings is None else settings.schedule


def _audiences(trust: TrustConfig) -> dict[str, Accepted]:
    return {row.audience: at_its_id(row.audience, trust) for row in trust.pairs.values()}


def at_its_id(service: str, trust: TrustConfig, source: Accepted | None = None) -> Accepted:
    """Where a service publishes its keys unless a trust file says otherwise."""
    from ..trust_issuers import Accepted
    from ..wellknown import JWKS

    return Accepted(
        issuer=service,
        jwks_uri=service.removesuffix("/") + JWKS,
        ca_file=None if source is None else source.ca_file,
        allow_loopback_http=trust.allow_loopback_http,
    )


def _look(source: Accepted, done: Callable[[], None]) -> Look:
    """Fetch an issuer's keys as a running service does."""
    from ..jwks_fetch import FetchFailed, fetch
    from ..looks import Look, seconds_ahead

    place, asked = source.place, now()
    try:
        got = fetch(source, etag=None, no_cache=True)
    except FetchFailed as failed:
        return Look(place=place, error=str(failed), status=failed.status)
    except JWKSInvalid as failed:
        return Look(place=place, error=f"not a JWKS: {failed}", status=200)
    finally:
        done()
    ahead = None if got.clock is None else seconds_ahead(asked, now(), got.clock)
    return Look(place=place, jwks=got.jwks, max_age=got.max_age, etag=got.etag, ahead=ahead)


def _compared(deployed: Path, reviewed: Path) -> Finding:
    """Whether the trust file says what was reviewed."""
    from ..findings import Finding, Verdict
    from ..trust_diff import changes

    count = len(changes(as_written(reviewed), as_written(deployed)))
    return Finding(
        check="reviewed file",
        verdict=Verdict.FAIL if count else Verdict.OK,
        found=f"{count} differences from {reviewed}" if count else f"says what {reviewed} says",
        expected="what was reviewed, and nothing else",
        do=f"see `s2s-mesh trust diff {reviewed} {deployed}`; deploy what was reviewed" if count else "",
    )
