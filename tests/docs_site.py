"""Build the site of the docs: `python -m tests.docs_site`, which `make docs` and `make test` do.

Pages are written for readers of the repository: their links are paths in it. Here they are collected, with
those that live beside what they are about (trust/, benchmarks/, ...), and their links made to fit the site.
Then Zensical builds it, strictly: a page, an anchor or a name of the API that does not exist ends it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
CONFIG = "zensical.toml"
SITE = ROOT / ".site"
# pages of the site that live elsewhere in the repository
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "README.md": "readme.md",
    "SECURITY.md": "security.md",
    "benchmarks/results/http.md": "benchmarks/http.md",
    "benchmarks/results/jwks.md": "benchmarks/jwks.md",
    "benchmarks/results/tokens.md": "benchmarks/tokens.md",
    "examples/edge-demo/README.md": "demo.md",
    "trust/README.md": "trust-file.md",
}
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_PAGE = re.compile(r'= "([a-z0-9/-]+\.md)" \}')


def pages() -> dict[str, str]:
    """Every page of the site: its path in the repository, and in the site."""
    own = {path.relative_to(ROOT).as_posix(): path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    return {**own, **ELSEWHERE}


def linked(text: str, source: str, known: Mapping[str, str], files: set[str]) -> str:
    """The page with links that fit the site.

    Args:
        text: Markdown.
        source: its path in the repository.
        known: as `pages` has them.
        files: gets what else of the repository is linked, folders included.

    Raises:
        ValueError: a link leads nowhere.
    """
    here = PurePosixPath(known[source]).parent

    def fitting(found: re.Match[str]) -> str:
        target, mark, fragment = found[0].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = os.path.relpath((ROOT / source).parent / target, ROOT)
        if path not in known:
            if not (ROOT / path).exists():
                raise ValueError(f"{source}: nothing is at {found[0]}")
            files.add(path)
        contents = "/index.md" if (ROOT / path).is_dir() else ""
        return os.path.relpath(known.get(path, f"files/{path}{contents}"), here) + mark + fragment

    return _LINK.sub(fitting, text)


def navigation(config: str, there: Collection[str]) -> str:
    """The configuration without the pages that are not there."""
    lines = config.splitlines(keepends=True)
    return "".join(line for line in lines if not (found := _PAGE.search(line)) or found[1] in there)


def navigated(config: str) -> list[str]:
    """The pages that it names."""
    return _PAGE.findall(config)


def collect() -> None:
    """Everything that Zensical needs, in `SITE`."""
    shutil.rmtree(SITE, ignore_errors=True)
    known, files = pages(), set[str]()
    for source, page in known.items():
        text = linked((ROOT / source).read_text(encoding="utf-8"), source, known, files)
        target = SITE / "pages" / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for path in files:
        target = SITE / "pages" / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            names = sorted(file.name for file in (ROOT / path).iterdir() if file.is_file())
            contents = "\n".join(f"- [{name}]({name})" for name in names)
            shutil.copytree(ROOT / path, target, dirs_exist_ok=True)
            (target / "index.md").write_text(f"# {path}\n\n{contents}\n", encoding="utf-8")
        else:
            shutil.copy(ROOT / path, target)
    shutil.copy(ROOT / "docs" / "site.css", SITE / "pages")
    config = navigation((ROOT / CONFIG).read_text(encoding="utf-8"), set(known.values()))
    (SITE / CONFIG).write_text(config, encoding="utf-8")


def main() -> int:
    """Build; the exit code."""
    if importlib.util.find_spec("zensical") is None:
        assert sys.version_info < (3, 11), "the dependency group docs is not installed"
        sys.stdout.write("the docs are not built: that needs Python 3.11\n")
        return 0
    collect()
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=SITE, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # Zensical does not count what the reader of docstrings warns of
    bad = done.returncode or int("griffe: " in done.stdout)
    sys.stdout.write(done.stdout if bad else f"docs: {(SITE / 'html/index.html').relative_to(ROOT)}\n")
    return bad


if __name__ == "__main__":
    sys.exit(main())
