"""The floors of the house: who may import whom (design: house.md, "Rooms")."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import s2s_mesh

ROOT = Path(s2s_mesh.__file__).parent
MAX_LINES = 350

# Lowest floor first. A module imports only what stands before it, so a new one must be given a place.
# A name that ends in `.*` is a whole package; its modules may import each other.
FLOORS: list[list[str]] = [
    ["_version", "errors", "identity", "spiffe_id", "effects", "jitter", "observer", "metrics", "log_fields"],
    [
        "strict_json",
        "jws",
        "bearer",
        "keys",
        "jwks",
        "users",
        "claims",
        "clouds",
        "svid",
        "certificates",
        "asap",
        "asap_key_file",
        "cloud_files",
        "cloud_registration",
        "routes",
        "target_uri",
        "wit",
        "wpt",
        "trust_report",
        "trust_values",
        "trust_members",
        "trust_format",
        "trust_legacy",
        "trust_profiles",
        "trust_foreign",
        "trust_reader",
        "trust_checks",
        "trust_issuers",
        "trust",
        "audiences",
        "discovery",
        "client_assertion",
        "oauth_request",
        "oauth_metadata",
        "oauth_answer",
        "user_token",
        "txn_token",
        "foreign_token",
        "trust_relaxations",
        "trust_diff",
        "route_fit",
        "trust_graph",
        "layers",
        "trust_image",
        "trust_page",
    ],
    [
        "rotation",
        "keyrecord",
        "keyring",
        "spiffe_bundle",
        "resolver",
        "oauth_state",
        "newcomers",
        "shared_sets",
        "verified_cache",
        "deny_list",
        "migration_use",
        "policy",
    ],
    [
        "signer",
        "federation",
        "prover",
        "verifier",
        "proof",
        "evidence",
        "once",
        "refusal",
        "legacy",
        "route_rules",
        "inbound",
        "forward_auth",
        "advice",
        "explain",
        "wellknown",
        "findings",
        "looks",
        "export_plan",
        "export_yaml",
        "export_lua",
        "export_envoy",
        "export_istio",
        "export_nginx",
        "export_jose",
        "cloud_checks",
    ],
    [
        "threads",
        "clock",
        "store.key_encryption",
        "store.sealed",
        "store.memory",
        "store.file",
        "store.redis_address",
        "store.redis_client",
        "store.redis_errors",
        "store.redis_listener",
        "store.redis",
        "store.urls",
        "store.conflicts",
        "store.replay",
        "store",
        "store.conformance",
        "trust_file",
        "settings",
        "settings_env",
        "client_certificate",
        "manager",
        "deny_keeper",
        "replays",
        "passwords",
        "migration",
        "network",
        "http_exchange",
        "jwks_fetch",
        "jwks_shared",
        "jwks_client",
        "drivers",
        "oauth_fetch",
        "oauth_tokens",
    ],
    [
        "observed",
        "minting",
        "runtime",
        "snapshot",
        "context",
        "outbound",
        "httpx_auth",
        "mutual_tls",
        "httpx_transport",
        "doors",
        "asgi",
        "life",
        "app_door",
        "user_door",
        "oauth_client",
        "asap_auth",
        "bridge_door",
        "service",
        "gateway",
        "token_door",
        "refusal_log",
        "movable_clock",
        "fake_keys",
        "fake_callers",
        "testing",
        "pytest_plugin",
        "integrations.*",
        "",  # s2s_mesh itself, what users import
        "cli.*",
        "__main__",
    ],
]
PURE_FLOORS = 4
IMPURE = {"asyncio", "httpcore", "httpx", "os", "redis", "socket", "starlette", "threading", "time"}
ORDER = [name for floor in FLOORS for name in floor]


def module_name(path: Path) -> str:
    """`store.redis` for s2s_mesh/store/redis.py, `store` for s2s_mesh/store/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def place(name: str) -> int | None:
    """Where a module stands in the order, or None."""
    package = name.split(".", maxsplit=1)[0] + ".*"
    for known in (name, package):
        if known in ORDER:
            return ORDER.index(known)
    return None


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import, also those inside functions, but not those for type checkers only."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node
    elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for child in node.orelse:
            yield from statements(child)
    else:
        for other in ast.iter_child_nodes(node):
            yield from statements(other)


def package_of(path: Path) -> list[str]:
    return [ROOT.name, *path.relative_to(ROOT).parts[:-1]]


def imported(path: Path, package: list[str]) -> Iterator[str]:
    """Absolute names of what a file in `package` imports: `s2s_mesh.keys`, `httpx`, `os.path`."""
    for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
            continue
        base = package[: len(package) - statement.level + 1] if statement.level else []
        source = ".".join([*base, *filter(None, [statement.module])])
        for alias in statement.names:
            # `from . import keys` imports a module, `from .keys import SigningKey` a name of one
            whole = f"{source}.{alias.name}"
            yield whole if own(whole) in PATHS else source


def own(name: str) -> str | None:
    """Our short name of an absolute one, or None for what is not ours."""
    if name == ROOT.name:
        return ""
    return name.removeprefix(f"{ROOT.name}.") if name.startswith(f"{ROOT.name}.") else None


def test_every_module_has_a_place() -> None:
    """Every module stands in the table of floors, exactly once."""
    assert [name for name in PATHS if place(name) is None] == []
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("name", [name or "s2s_mesh" for name in PATHS])
def test_imports_point_downwards(name: str) -> None:
    """A module imports only from lower floors, or from modules before it on its own floor."""
    name = "" if name == "s2s_mesh" else name
    ours = {other for other in map(own, imported(PATHS[name], package_of(PATHS[name]))) if other is not None}
    here = place(name)
    assert here is not None
    inside_package = ORDER[here].endswith(".*")
    upward = {other for other in ours if place(other) is None or (place(other) or 0) >= here}
    if inside_package:
        upward -= {other for other in ours if place(other) == here}
    assert upward == set()


@pytest.mark.parametrize("name", [name for floor in FLOORS[:PURE_FLOORS] for name in floor])
def test_lower_floors_do_no_io(name: str) -> None:
    """The floors that decide import nothing that waits, reads a clock, or reaches outside the process."""
    names = imported(PATHS[name], package_of(PATHS[name]))
    outside = {other.split(".", maxsplit=1)[0] for other in names if own(other) is None}
    assert outside & IMPURE == set()


@pytest.mark.parametrize("name", [name or "s2s_mesh" for name in PATHS])
def test_one_noun_per_file(name: str) -> None:
    """No module is longer than 350 lines."""
    path = PATHS["" if name == "s2s_mesh" else name]
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_this_test_sees_imports(tmp_path: Path) -> None:
    """Imports inside functions count, those for type checkers do not, and relative ones are resolved."""
    path = tmp_path / "example.py"
    path.write_text(
        "import os.path, httpx as http\n"
        "from s2s_mesh.store import sealed, open_store\n"
        "if TYPE_CHECKING:\n"
        "    import redis\n"
        "else:\n"
        "    import socket\n"
        "def lazy():\n"
        "    from s2s_mesh.keys import SigningKey\n"
    )
    assert list(imported(path, package=[])) == [
        *("os.path", "httpx", "s2s_mesh.store.sealed", "s2s_mesh.store", "socket", "s2s_mesh.keys")
    ]
    path.write_text(
        "from . import sealed, open_store\nfrom .. import jws, __version__\nfrom ..keys import SigningKey\n"
    )
    assert list(imported(path, package=["s2s_mesh", "store"])) == [
        *("s2s_mesh.store.sealed", "s2s_mesh.store", "s2s_mesh.jws", "s2s_mesh", "s2s_mesh.keys")
    ]
