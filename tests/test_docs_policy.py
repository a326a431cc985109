"""What docs/policy.md shows is what the program does: its snippets are executed, its document is compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import Decision, PolicyFacts, Principal, Service
from s2s_mesh.policy import input_document

from .docs_snippets import snippets
from .programs import ROOT
from .rego_server import need_rego
from .test_policy import NO
from .test_policy_at_the_door import behind, verdict
from .tokens import WALLETS, good, key

DOCS = "docs/policy.md"
BY_HAND, WITH_OPA, WITH_REGO = range(3)


def service_of(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Run one of the snippets in a folder with a trust file and the example's rules."""
    (folder / "trust").mkdir()
    (folder / "trust" / "trust.toml").write_text("version = 1\n")
    shutil.copy(ROOT / "examples/policy/wallets.rego", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("S2S_MESH_ISSUER", WALLETS)
    monkeypatch.setenv("S2S_MESH_KEY_STORE", "memory://")
    monkeypatch.setenv("S2S_MESH_ALLOW_MEMORY_STORE", "1")
    names: dict[str, Any] = {}
    exec(snippets(DOCS, "python")[number], names)
    service: Service = names["service"]
    return service


def test_the_policy_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserved wallets are for the desk only; everything else is allowed."""
    policy = service_of(BY_HAND, tmp_path, monkeypatch).settings.policy
    with behind(tmp_path, policy) as receiver:
        assert receiver.call(good(), method="PUT", path="/wallets/42/card").status == 200
        refused = receiver.call(good(), method="PUT", path="/wallets/reserved-1/card")
        assert verdict(refused) == (403, "policy_denied")


def test_the_policies_in_rego(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both can be built as printed."""
    need_rego()
    assert "Rego(['wallets.rego']" in repr(service_of(WITH_REGO, tmp_path, monkeypatch).settings.policy)
    shutil.rmtree(tmp_path / "trust")
    policy = service_of(WITH_OPA, tmp_path, monkeypatch).settings.policy
    assert repr(policy) == "OPA('http://127.0.0.1:8181/v1/data/wallets/allow')"


def test_the_input_document(tmp_path: Path) -> None:
    """The one in the docs is that of a real call, member by member, and each member has its line."""
    documents: list[dict[str, Any]] = []

    class Keeps:
        def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
            documents.append(input_document(facts, principal))
            return NO

    with behind(tmp_path, Keeps()) as receiver:
        receiver.call(good(), method="PUT", path="/wallets/42/card")
    (shown,) = snippets(DOCS, "json")
    assert json.loads(shown.replace("KID", key().kid)) == documents[0]
    text = (ROOT / DOCS).read_text(encoding="utf-8")
    members = {*documents[0], *(f"caller.{name}" for name in documents[0]["caller"])} - {"version", "caller"}
    for member in members:
        assert f"\n| `{member}` | " in text, member
