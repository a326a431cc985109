"""What `import s2s_mesh` offers, and what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import s2s_mesh
from s2s_mesh import (
    asgi,
    errors,
    httpx_auth,
    httpx_transport,
    identity,
    oauth_client,
    policy,
    rotation,
    service,
    trust,
)

ROOT = Path(s2s_mesh.__file__).parent
HOMES = {
    "AllOf": policy,
    "AnyOf": policy,
    "ConfigError": errors,
    "Decision": policy,
    "EndUser": identity,
    "Forbidden": errors,
    "JWKSInvalid": errors,
    "JWKSUnavailable": errors,
    "KeyStoreError": errors,
    "MeshAuth": httpx_auth,
    "MeshError": errors,
    "MeshTransport": httpx_transport,
    "NoUser": errors,
    "OAuthClient": oauth_client,
    "OAuthError": errors,
    "Policy": policy,
    "PolicyFacts": policy,
    "PolicyUnavailable": errors,
    "Principal": identity,
    "Reason": errors,
    "RotationSchedule": rotation,
    "Service": service,
    "ServiceId": identity,
    "StoreConflict": errors,
    "StoreReason": errors,
    "TokenRejected": errors,
    "TrustConfig": trust,
    "UserExpired": errors,
    "require": asgi,
}


def loaded_after(program: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running a program."""
    program += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_the_public_names() -> None:
    """The public names are these and no others; a new one is a promise and needs a decision."""
    assert s2s_mesh.__all__ == sorted([*HOMES, "__version__"])


@pytest.mark.parametrize("name", sorted(HOMES))
def test_each_name_can_be_imported(name: str) -> None:
    """Every public name is the object that its own module defines, and the interpreter can complete it."""
    assert getattr(s2s_mesh, name) is getattr(HOMES[name], name)
    assert name in dir(s2s_mesh)


def test_a_star_import_brings_them_all() -> None:
    """`from s2s_mesh import *` brings exactly the public names."""
    names: dict[str, object] = {}
    exec("from s2s_mesh import *", names)
    assert {name for name in names if name != "__builtins__"} == set(s2s_mesh.__all__)


def test_no_other_name() -> None:
    """A name that does not exist is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="module 's2s_mesh' has no attribute 'Servcie'"):
        _ = s2s_mesh.Servcie


def test_the_version() -> None:
    """The version is one that pip understands (PEP 440)."""
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?", s2s_mesh.__version__)


def test_the_package_is_typed() -> None:
    """Type checkers find our annotations (PEP 561)."""
    assert (ROOT / "py.typed").is_file()


def test_the_command_line_is_optional() -> None:
    """A program that uses every public name loads nothing that only the command line needs."""
    loaded = loaded_after("from s2s_mesh import *")
    assert "httpx" in loaded  # which imports rich by itself, where that is installed
    assert loaded.isdisjoint({"typer", "uvicorn"})


def test_trust_files_are_read_without_cryptography() -> None:
    """What checks, compares and draws them in a pipeline starts fast."""
    loaded = loaded_after("import s2s_mesh.trust_file, s2s_mesh.trust_relaxations")
    assert "msgspec" in loaded
    assert loaded.isdisjoint({"httpx", "starlette", "redis", "jwt", "jwcrypto", "cryptography", "asyncio"})


def test_the_name_alone_is_cheap() -> None:
    """Importing the package alone loads none of the libraries behind it."""
    loaded = loaded_after("import s2s_mesh")
    assert loaded.isdisjoint({"httpx", "starlette", "redis", "jwt", "jwcrypto", "cryptography", "asyncio"})
    assert loaded.isdisjoint({"typer", "rich", "uvicorn", "click"})
