"""Other people's software that the table of `make interop` has a row for."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

from ..programs import from_wheel
from .node import MODULES

# as marks name them, and as the table's head does
COLUMNS = {
    "accept": "accepts",
    "wrong audience": "refuses another audience",
    "expired": "refuses an expired one",
    "rotation": "a rotation without a failure",
    "both directions": "both directions",
}
_VERIFIER = ("accept", "wrong audience", "expired", "rotation")
_PEER = (*_VERIFIER, "both directions")


class ForeignProgram(NamedTuple):
    """One row.

    Attributes:
        name: as marks have it.
        versions: of what it consists of; each raises something if it is not installed.
        needs: the columns that have to be green; one that no test proves is a dash if it is not among them.
    """

    name: str
    versions: tuple[Callable[[], str], ...]
    needs: tuple[str, ...]

    @property
    def version(self) -> str:
        """What is installed here."""
        try:
            return " + ".join(version() for version in self.versions)
        except (OSError, metadata.PackageNotFoundError, subprocess.SubprocessError, LookupError):
            return "not installed"


def _npm(name: str) -> Callable[[], str]:
    return lambda: str(json.loads((MODULES / name / "package.json").read_text(encoding="utf-8"))["version"])


def _pypi(name: str) -> Callable[[], str]:
    return lambda: metadata.version(name)


def _debian(package: str) -> Callable[[], str]:
    return lambda: _output("dpkg-query", "-W", "-f", "${Version}", package)


def _envoy() -> str:
    program = from_wheel("envoy")
    if program is None:
        raise LookupError("envoy")
    # it stands between the revision and the kind of build
    return str(re.findall(r"/(\d+\.\d+\.\d+)", _output(program, "--version"))[0])


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


PROGRAMS = (
    ForeignProgram("jose", (_npm("jose"),), _PEER),
    ForeignProgram("jsonwebtoken + jwks-rsa", (_npm("jsonwebtoken"), _npm("jwks-rsa")), _VERIFIER),
    ForeignProgram("fast-jwt + get-jwks", (_npm("fast-jwt"), _npm("get-jwks")), _VERIFIER),
    ForeignProgram("workerd", (_npm("@cloudflare/workerd-linux-64"),), _VERIFIER),
    ForeignProgram("Envoy jwt_authn", (_envoy,), _VERIFIER),
    ForeignProgram("mod_auth_openidc", (_debian("libapache2-mod-auth-openidc"),), _VERIFIER),
    ForeignProgram("PyJWKClient", (_pypi("pyjwt"),), _VERIFIER),
    ForeignProgram("joserfc", (_pypi("joserfc"),), _VERIFIER),
    ForeignProgram("Authlib", (_pypi("authlib"),), _VERIFIER),
    ForeignProgram("oidc-provider", (_npm("oidc-provider"),), _PEER),
    ForeignProgram("atlassian-jwt-auth", (_pypi("atlassian-jwt-auth"),), _PEER),
    ForeignProgram("boto3 + moto", (_pypi("boto3"), _pypi("moto")), _VERIFIER),
    ForeignProgram("google-auth", (_pypi("google-auth"),), _VERIFIER),
    ForeignProgram("azure-identity", (_pypi("azure-identity"),), _VERIFIER),
    ForeignProgram("kubernetes client", (_pypi("kubernetes"),), _VERIFIER),
    ForeignProgram("py-spiffe", (_pypi("spiffe"),), _PEER),
)
NAMES = tuple(program.name for program in PROGRAMS)
