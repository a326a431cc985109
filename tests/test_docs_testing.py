"""What docs/testing.md shows is what the program does: its tests are run as printed, the demo's too."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from .programs import ROOT, environment
from .test_readme import snippets

DOCS = "docs/testing.md"


def run_pytest(folder: Path, **variables: str) -> str:
    """Run the tests of a folder with no plugin but ours, and return what pytest says."""
    inherited = {
        name: value
        for name, value in environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **variables).items()
        if not name.startswith(("S2S_MESH_", "REDIS_URL"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "s2s_mesh.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, env=inherited, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tests_as_printed(tmp_path: Path) -> None:
    """Beside the README's app and trust file, they pass."""
    for code in (snippets("README.md", "python")[0], *snippets(DOCS, "python")):
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(code)
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "trust.toml").write_text(snippets("README.md", "toml")[0])
    assert "5 passed" in run_pytest(tmp_path)


def test_the_tests_of_the_demo(tmp_path: Path) -> None:
    """As they stand beside the demo's wallets, with the trust file that the demo runs on."""
    demo = tmp_path / "examples" / "edge-demo"
    demo.mkdir(parents=True)
    for name in ("wallets.py", "conftest.py", "test_wallets.py"):
        shutil.copy(ROOT / "examples" / "edge-demo" / name, demo)
    (tmp_path / "trust").mkdir()
    shutil.copy(ROOT / "trust" / "trust.toml", tmp_path / "trust")
    assert "4 passed" in run_pytest(demo)


def test_the_plugin_is_an_entry_point() -> None:
    """pytest finds it by itself once the package is installed."""
    text = (ROOT / "pyproject.toml").read_text()
    assert re.search(
        r'^\[project\.entry-points\.pytest11\]\ns2s_mesh = "s2s_mesh\.pytest_plugin"$', text, re.MULTILINE
    )


def test_every_link_leads_somewhere() -> None:
    """No dead link."""
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / DOCS).read_text()):
        assert (ROOT / "docs" / target).exists(), target
