"""The snippets of the front page, the concepts and the platforms."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import MeshAuth, RotationSchedule, Service, TrustConfig

from .docs_snippets import ROOT, snippets
from .programs import environment
from .tokens import EDGE, WALLETS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INDEX, CONCEPTS, PLATFORMS = "docs/index.md", "docs/concepts.md", "docs/platforms.md"
URL = "redis://:secret@10.0.0.3:6379/0"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the front page's trust file."""
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/trust.toml").write_text(snippets(INDEX, "toml")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S2S_MESH_KEY_STORE", "memory://")
    monkeypatch.setenv("S2S_MESH_ALLOW_MEMORY_STORE", "1")
    return tmp_path


def test_the_front_page(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trust file is good, and both of its programs begin."""
    assert TrustConfig.parse(snippets(INDEX, "toml")[0]).warnings == ()
    for issuer, code in zip((WALLETS, EDGE), snippets(INDEX, "python"), strict=True):
        monkeypatch.setenv("S2S_MESH_ISSUER", issuer)
        names: dict[str, Any] = {}
        exec(compile(code, INDEX, "exec"), names)
        assert isinstance(names["service"], Service)
        assert isinstance(names["http"]._auth, MeshAuth) if issuer == EDGE else names["app"].routes


def test_the_figure_of_a_rotation() -> None:
    """The lead that it shows is that of the default schedule."""
    (figure,) = snippets(CONCEPTS, "text")
    assert f"{RotationSchedule.DEFAULT.lead / 3600:g} h at least" in figure


def started(text: str) -> set[str]:
    """The applications and commands that a platform's settings start."""
    return set(re.findall(r"uvicorn[ -]+(?:args )?(\w+):app", text)) | set(
        re.findall(r"python (\w+)\.py", text)
    )


def test_what_the_platforms_start_exists() -> None:
    """Each application, job and command that is named is one of the demo's, or ours."""
    text = (ROOT / PLATFORMS).read_text(encoding="utf-8")
    assert started(text) == {"wallets", "settlement"}
    for name in started(text):
        assert (ROOT / f"examples/edge-demo/{name}.py").is_file()
    commands = re.findall(r"s2s-mesh (?:--args )?(\w+)", text)
    assert set(commands) == {"serve", "init", "keys"}


def test_the_settings_of_the_platforms_can_be_read() -> None:
    """YAML and TOML are well-formed, with the issuer where the platform looks for variables."""
    yaml = pytest.importorskip("yaml")
    render, cloud_foundry = (yaml.safe_load(text) for text in snippets(PLATFORMS, "yaml"))
    assert {"key": "S2S_MESH_ISSUER", "value": WALLETS} in render["services"][1]["envVars"]
    assert cloud_foundry["applications"][0]["env"]["S2S_MESH_ISSUER"] == WALLETS
    (fly,) = (tomllib.loads(text) for text in snippets(PLATFORMS, "toml"))
    assert fly["env"]["S2S_MESH_ISSUER"] == WALLETS


@pytest.mark.parametrize("script", snippets(PLATFORMS, "sh"))
def test_the_scripts_of_the_platforms_can_be_read(script: str) -> None:
    """By a shell, which does not run them: they are for tools that are not here."""
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def named(name: str, credentials: dict[str, str]) -> dict[str, object]:
    """A bound service, as Cloud Foundry says it."""
    return {"name": name, "credentials": credentials}


def test_the_profile_of_cloud_foundry() -> None:
    """It finds the URL and the key among what the platform has bound."""
    (profile,) = (text for text in snippets(PLATFORMS, "sh") if text.startswith("# .profile"))
    bound = {
        "redis": [
            {"name": "others", "credentials": {}},
            {"name": "wallets-keys", "credentials": {"uri": URL}},
        ],
        "user-provided": [{"name": "wallets-secret", "credentials": {"key": "a b"}}],
    }
    script = f'{profile}\nprintf "%s\\n" "$REDIS_URL" "$S2S_MESH_KEY_ENCRYPTION_KEY"'
    done = subprocess.run(
        ["bash", "-e"],
        input=script,
        env=environment(VCAP_SERVICES=json.dumps(bound), PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{URL}\na b\n"
