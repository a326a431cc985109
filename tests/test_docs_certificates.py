"""What docs/certificates.md shows is what the program does; its proxies run in test_certificates_tls.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import Service, TrustConfig
from s2s_mesh.certificates import CLIENT_CERT, XFCC

from .certifying import authority, client
from .docs_snippets import ROOT, snippets
from .test_client_certificate import url
from .tokens import EDGE, WALLETS

__all__ = ["url"]
PAGE = "docs/certificates.md"
ROW = f'version = 1\n[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:write"]\n'
RECEIVER, AUTH, TRANSPORT = snippets(PAGE, "python")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trust file and a client's certificate, whose authority this machine trusts."""
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/trust.toml").write_text(ROW + snippets(PAGE, "toml")[0])
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client().write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return tmp_path


@pytest.fixture
def service(here: Path) -> Iterator[Service]:
    """As the page makes it."""
    names: dict[str, Any] = {}
    exec(compile(RECEIVER, PAGE, "exec"), names)
    with names["service"] as made:
        yield made


def test_the_receiver(service: Service) -> None:
    """Its row and its arguments are good."""
    trust = TrustConfig.parse(ROW + snippets(PAGE, "toml")[0])
    assert [rule.proof for rule in trust.routes] == ["mtls"]
    assert service.proxies is not None
    assert service.proxies.name == XFCC


def test_the_caller(service: Service, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways bind the token to the certificate that the connection presents."""
    names: dict[str, Any] = {"service": service, "WALLETS": url}
    for code in (AUTH, TRANSPORT):
        exec(compile(code.replace(WALLETS, url), PAGE, "exec"), names)
    assert capsys.readouterr().out == "200\n200\n"


def test_the_fields(service: Service) -> None:
    """As many as are known."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    table = text.partition("| field | form |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE)) == [CLIENT_CERT, XFCC]
