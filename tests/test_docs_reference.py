"""The reference pages say all there is, and nothing else: reasons, variables, store URLs, the API."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import s2s_mesh
from s2s_mesh import MeshError, Reason, StoreReason, errors
from s2s_mesh.refusal import of_token
from s2s_mesh.settings_env import SCHEDULES, VARIABLES
from s2s_mesh.store import open_store

from .docs_snippets import ROOT

ERRORS, ENVIRONMENT, API = "docs/errors.md", "docs/environment.md", "docs/api.md"


def rows(path: str) -> Iterator[list[str]]:
    """The cells of every row of every table, without code marks."""
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            yield [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]


def test_every_reason_has_its_cause_and_cure() -> None:
    """One row each, and no row about a reason that does not exist."""
    of_calls = [row for row in rows(ERRORS) if len(row) == 4]
    of_store = [row for row in rows(ERRORS) if len(row) == 3]
    assert sorted(row[0] for row in of_calls) == sorted(reason.value for reason in Reason)
    assert sorted(row[0] for row in of_store) == sorted(reason.value for reason in StoreReason)
    assert all(all(row) for row in [*of_calls, *of_store])


def test_the_statuses() -> None:
    """503 is for what nobody can tell, 400 for what is malformed or a proof; 401 and 403 are the rest."""
    statuses = {row[0]: row[1] for row in rows(ERRORS) if len(row) == 4}
    unavailable = {reason.value for reason in Reason if reason.value.endswith("_unavailable")}
    assert {name for name, status in statuses.items() if status == "503"} == unavailable
    rest = [reason for reason in Reason if statuses[reason.value] in ("400", "401")]
    malformed = {reason for reason in rest if of_token(errors.TokenRejected(reason), realm="").status == 400}
    proofs = {Reason.PROOF_FIELDS, Reason.BAD_WIT, Reason.BAD_WPT, Reason.CERTIFICATE_FIELD}
    assert {reason for reason in rest if statuses[reason.value] == "400"} == malformed | proofs
    assert set(statuses.values()) == {"400", "401", "401, 400 of a proof", "403", "503"}


def test_every_error_of_the_package_is_explained() -> None:
    """What can be imported from it and raised."""
    text = (ROOT / ERRORS).read_text(encoding="utf-8").partition("## Errors in code")[2]
    public = {
        name
        for name in s2s_mesh.__all__
        if isinstance(value := getattr(s2s_mesh, name), type) and issubclass(value, MeshError)
    }
    assert set(re.findall(r"`(\w+)`", text)) & public == public


def test_every_environment_variable_is_documented() -> None:
    """What the settings read is what the page lists."""
    source = (ROOT / "s2s_mesh/settings_env.py").read_text(encoding="utf-8")
    assert set(re.findall(r'"(S2S_MESH_[A-Z_]+[A-Z])"', source)) <= VARIABLES
    variables = {row[0]: row[1] for row in rows(ENVIRONMENT) if row[0].startswith("S2S_MESH_")}
    assert variables.keys() == VARIABLES
    assert all(f"`{schedule}`" in f"`{variables['S2S_MESH_ROTATION']}`" for schedule in SCHEDULES)


def test_no_page_names_a_variable_that_does_not_exist() -> None:
    """In no document of this repository, but for the settings of a framework."""
    settings = (ROOT / "s2s_mesh/integrations/django.py").read_text(encoding="utf-8")
    known = {row[0] for row in rows(ENVIRONMENT)} | set(re.findall(r'settings, "(\w+)"', settings))
    for path in (*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("examples/*/README.md")):
        named = set(re.findall(r"S2S_MESH_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")))
        assert named <= known, path


@pytest.mark.parametrize("url", [row[0] for row in rows(ENVIRONMENT) if "://" in row[0]])
def test_the_store_urls_are_good(url: str) -> None:
    """As they are written, with the words in capitals taken for names."""
    url = url.replace("[", "").replace("]", "")
    open_store(url, issuer="https://wallets.example.com")
    assert len([row for row in rows(ENVIRONMENT) if "://" in row[0]]) == 6


def test_the_whole_api_is_in_the_reference() -> None:
    """Every public name of the package has its entry."""
    text = (ROOT / API).read_text(encoding="utf-8")
    named = set(re.findall(r"^::: s2s_mesh\.(\w+)$", text, re.MULTILINE))
    assert named == set(s2s_mesh.__all__) - {"__version__"}
