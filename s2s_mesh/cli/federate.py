"""`s2s-mesh federate`: clouds without static keys. What SDKs read, what is registered, what is wrong."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..clock import now
from ..errors import JWKSInvalid, KeyStoreError, MeshError
from .completion import PROGRAM
from .doctor import at_its_id
from .environment import key_manager, load_settings
from .finding_table import print_findings
from .output import AsJSON, write_file

if TYPE_CHECKING:
    from ..cloud_checks import Seen
    from ..clouds import Cloud
    from ..federation import FederationToken
    from ..findings import Finding
    from ..settings import Settings
    from ..trust_issuers import Accepted
    from .token_file import Minter

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Clouds without static keys: tokens that AWS, Google Cloud, Azure and Kubernetes exchange.",
)
Audience = Annotated[
    str | None, typer.Option("--audience", metavar="AUDIENCE", help="What the token's aud is, as registered.")
]
Subject = Annotated[
    str | None,
    typer.Option(
        "--subject", metavar="SUBJECT", help="What its sub is, as registered; else this service's id."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Keep a fresh token in this file, until told to end."),
]
Once = Annotated[bool, typer.Option("--once", help="Write the file once, and end.")]
Register = Annotated[
    bool, typer.Option("--register", help="Print what registers this service there, and end.")
]


@app.command("aws")
def aws(
    audience: Audience = None,
    subject: Subject = None,
    token_file: TokenFile = None,
    once: Once = False,
    register: Register = False,
) -> None:
    """Assume a role of AWS.

    Keeps the web identity token file that every AWS SDK reads (AWS_WEB_IDENTITY_TOKEN_FILE, with
    AWS_ROLE_ARN): mode 0600, replaced in one step, every five minutes. Should no token be had for a while,
    the old one stays until it expires, and a warning says so. Without --token-file one token is printed.

    AWS takes https issuers without a port, ES256, ES384 and RS256, and this audience unless told:
    sts.amazonaws.com.

    \b
    Example:
      s2s-mesh federate aws --register > aws.tf
      s2s-mesh federate aws --token-file /run/wallets/aws-token &
    """
    _run("aws", audience, subject, token_file, once=once, register=register)


@app.command("azure")
def azure(
    audience: Audience = None,
    subject: Subject = None,
    token_file: TokenFile = None,
    once: Once = False,
    register: Register = False,
) -> None:
    """Log in to Azure as an application.

    Keeps the file that WorkloadIdentityCredential reads (AZURE_FEDERATED_TOKEN_FILE, with AZURE_CLIENT_ID and
    AZURE_TENANT_ID): mode 0600, replaced in one step, every minute. In Python no file is needed:
    ClientAssertionCredential(tenant, client, lambda: service.federation_token("azure")). Without --token-file
    one token is printed.

    Azure takes RS256 only: set S2S_MESH_ALGORITHM=RS256.

    \b
    Example:
      s2s-mesh federate azure --register > azure.tf
      s2s-mesh federate azure --token-file /run/wallets/azure-token &
    """
    _run("azure", audience, subject, token_file, once=once, register=register)


@app.command("gcp")
def gcp(
    audience: Audience = None,
    subject: Subject = None,
    token_file: TokenFile = None,
    once: Once = False,
    register: Register = False,
    executable: Annotated[
        bool, typer.Option("--executable", help="Print what Google's libraries read from an executable.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="Write the credential configuration, without a secret."
        ),
    ] = None,
    service_account: Annotated[
        str | None,
        typer.Option(
            "--service-account", metavar="EMAIL", help="With --config: act as this service account."
        ),
    ] = None,
) -> None:
    """Use Google Cloud through workload identity federation.

    --config writes the file that GOOGLE_APPLICATION_CREDENTIALS names. With --token-file it has Google's
    libraries read that file, which this command then keeps fresh: mode 0600, replaced in one step, every five
    minutes. With --executable it has them run this command whenever they need a token, which they do only if
    GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1.

    Google takes ES256 and RS256. --audience is the resource name of the provider.

    \b
    Example:
      AUDIENCE=//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/mesh/providers/wallets
      s2s-mesh federate gcp --audience $AUDIENCE --register > gcp.tf
      s2s-mesh federate gcp --audience $AUDIENCE --config gcp.json --token-file /run/wallets/gcp-token &
    """
    from .. import cloud_files

    if config is not None and (executable == (token_file is not None)):
        raise typer.BadParameter("--config wants either --token-file FILE or --executable")
    if service_account is not None and config is None:
        raise typer.BadParameter("--service-account is for --config FILE")
    if register and (config is not None or executable):
        raise typer.BadParameter("--register prints and ends: leave --config and --executable out")
    _check_together(token_file, once=once, register=register)
    if executable and config is None:
        if token_file is not None:
            raise typer.BadParameter("--executable prints and ends: leave --token-file out")
        _print_response(audience, subject)
        return
    if config is not None:
        minter = _minter("gcp", audience, subject)
        source = (
            cloud_files.executable_source([*_program(), "federate", "gcp", "--executable", *_named(minter)])
            if token_file is None
            else cloud_files.file_source(str(token_file.absolute()))
        )
        document = cloud_files.external_account(minter.audience, source, service_account)
        write_file(config, json.dumps(document, indent=2) + "\n")
        typer.echo(f"wrote {config}")
        if token_file is None:
            return
    _run("gcp", audience, subject, token_file, once=once, register=register)


@app.command("k8s")
def k8s(
    audience: Audience = None,
    subject: Subject = None,
    token_file: TokenFile = None,
    once: Once = False,
    register: Register = False,
) -> None:
    """Call the API server of a Kubernetes cluster.

    Prints an ExecCredential: this is an exec credential plugin (client.authentication.k8s.io/v1), which
    kubectl and the client libraries run when they need a token. With --token-file it keeps a file for those
    that read one (tokenFile), mode 0600, replaced in one step, every five minutes.

    --audience is one of those in the API server's authentication configuration.

    \b
    Example:
      s2s-mesh federate k8s --audience https://kubernetes.example.com --register > authentication.yaml
      kubectl config set-credentials wallets --exec-api-version=client.authentication.k8s.io/v1 \\
        --exec-interactive-mode=Never --exec-command=s2s-mesh --exec-arg=federate --exec-arg=k8s \\
        --exec-arg=--audience --exec-arg=https://kubernetes.example.com
    """
    from .. import cloud_files

    def credential(minted: FederationToken) -> str:
        return json.dumps(cloud_files.exec_credential(*minted))

    _run("k8s", audience, subject, token_file, once=once, register=register, shown=credential)


@app.command("check")
def check(
    provider: Annotated[str, typer.Argument(metavar="aws|gcp|azure|k8s", help="The provider.")],
    subject: Subject = None,
    as_json: AsJSON = False,
) -> None:
    """Hold this service's published documents against a provider's rules.

    Fetches the discovery document and the JWKS from this service's own URL, as the provider does, and looks
    at the key ring and the rotation. One finding per line, with what to do. Changes nothing.

    Exit codes: 0 all is well, 1 a rule is broken, 2 it could not run.

    \b
    Example:
      s2s-mesh federate check aws
    """
    from .. import clouds
    from ..findings import exit_code

    findings = list(_examine(clouds.cloud(provider), load_settings(), subject))
    print_findings(findings, as_json=as_json)
    raise typer.Exit(exit_code(findings))


def _run(
    provider: str,
    audience: str | None,
    subject: str | None,
    token_file: Path | None,
    *,
    once: bool,
    register: bool,
    shown: Callable[[FederationToken], str] = attrgetter("token"),
) -> None:
    """What all providers have in common: register, keep a file, or print a token as it is `shown`."""
    from ..cloud_registration import registration

    _check_together(token_file, once=once, register=register)
    minter = _minter(provider, audience, subject)
    if register:
        text = registration(
            minter.cloud,
            issuer=minter.settings.issuer,
            subject=minter.subject,
            audience=minter.audience,
        )
        typer.echo(text, nl=False)
    elif token_file is not None:
        minter.keep(token_file, once=once)
    else:
        typer.echo(shown(minter.mint()))


def _check_together(token_file: Path | None, *, once: bool, register: bool) -> None:
    """No option is passed over in silence."""
    if register and token_file is not None:
        raise typer.BadParameter("--register prints and ends: leave --token-file out")
    if once and token_file is None:
        raise typer.BadParameter("--once is for --token-file FILE")


def _minter(provider: str, audience: str | None, subject: str | None) -> Minter:
    from .token_file import Minter

    return Minter(provider, audience, subject)


def _print_response(audience: str | None, subject: str | None) -> None:
    """Print what Google's libraries read; they read standard error too, so nothing is said there."""
    from .. import cloud_files

    logging.disable(logging.CRITICAL)
    try:
        token, expires_at = _minter("gcp", audience, subject).mint(quiet=True)
    except MeshError as error:
        code = error.reason.value if isinstance(error, KeyStoreError) else "configuration"
        typer.echo(json.dumps(cloud_files.executable_failure(code, str(error))))
        raise typer.Exit(1) from None
    finally:
        logging.disable(logging.NOTSET)
    typer.echo(json.dumps(cloud_files.executable_response(token, expires_at)))


def _program() -> list[str]:
    """This program by its place, so that nothing else of its name is ever run instead."""
    found = shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    return [found] if found is not None else [sys.executable, "-m", "s2s_mesh"]


def _named(minter: Minter) -> list[str]:
    subject = [] if minter.subject == minter.settings.issuer else ["--subject", minter.subject]
    return ["--audience", minter.audience, *subject]


def _examine(cloud: Cloud, settings: Settings, subject: str | None) -> Iterator[Finding]:
    from .. import cloud_checks, findings

    issuer, at, ring = settings.issuer, now(), None
    yield cloud_checks.issuer_url(cloud, issuer)
    yield cloud_checks.subject(subject, issuer)
    try:
        ring = key_manager(settings, may_create=False).peek()
    except KeyStoreError as error:
        yield findings.store_trouble(error)
    yield cloud_checks.algorithms(cloud, ring, at)
    yield cloud_checks.lead(settings.schedule)
    document, jwks = _documents(at_its_id(issuer, settings.trusted, settings.trusted.key_sources.get(issuer)))
    yield cloud_checks.discovery(issuer, document, jwks)
    yield from cloud_checks.keys(cloud, jwks, ring, at)


def _documents(own: Accepted) -> tuple[Seen, Seen]:
    """Our discovery document and the JWKS that it names, as the world sees them."""
    from ..discovery import jwks_uri
    from ..jwks_fetch import DOCUMENT_TYPES, JWKS_TYPES
    from ..wellknown import OPENID_CONFIGURATION

    document, body = _look(own, own.issuer + OPENID_CONFIGURATION, DOCUMENT_TYPES)
    place = own.jwks_uri or ""
    if document.members is not None:
        # what is wrong with it is said of the document; then keys are looked for at their usual place
        with contextlib.suppress(JWKSInvalid):
            place = jwks_uri(body, own)
    return document, _look(own, place, JWKS_TYPES)[0]


def _look(own: Accepted, place: str, types: Sequence[str]) -> tuple[Seen, bytes]:
    from ..cloud_checks import Seen
    from ..jwks_fetch import FetchFailed, get_document
    from ..strict_json import NotStrictJSON, decode_object

    try:
        body = get_document(own, place, types)
        return Seen(place=place, members=decode_object(body)), body
    except (FetchFailed, JWKSInvalid, NotStrictJSON) as failed:
        return Seen(place=place, error=str(failed).removeprefix(f"{place}: ")), b""
