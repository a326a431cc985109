"""Whatever the texts of a trust file hold, they stay texts in an export: none becomes a line or a rule."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from s2s_mesh.export_envoy import envoy
from s2s_mesh.export_istio import istio
from s2s_mesh.export_jose import jose
from s2s_mesh.export_nginx import nginx
from s2s_mesh.export_plan import Plan, plan
from s2s_mesh.export_yaml import document
from s2s_mesh.trust import TrustConfig

from .command_line import PATIENCE
from .servers import missing

# every sign that a member may hold; ids hold theirs encoded
ENCODED = "a%22%20%7B%20return%20200%3B%20%7D%5C%24uri%0A%5D%5D--%E2%80%A8%27%3Cb"
ODD = {
    "issuer": f"https://edge.example.com/{ENCODED}",
    "audience": f"https://wallets.example.com/{ENCODED}",
    "scope": "!#$%&'()+,-./:;<=>?@[]^_`{|}~",
    "path": "/é^a|b$(.+)'\"<&>` ]]--/{x}",
    "jwks_uri": "https://keys.example.com/a'b$c%22{d}[e]|^;&,(f)!+?g=%0A:~",
}
USUAL = {
    "issuer": "https://edge.example.com/a",
    "audience": "https://wallets.example.com/a",
    "scope": "cards",
    "path": "/wallets/{x}",
    "jwks_uri": "https://keys.example.com/a",
}
ODD_TYPE, USUAL_TYPE = {"typ": "a!#$&^_.+-"}, {"typ": "jwt"}
FILE = "/keys/a\"b\\c\n- d: 'e' #\u2028\x7f\x85\ufeff\U0001f511.json"
COMMENT = re.compile("^(?:#|//) .*\n", re.MULTILINE)
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def of(says: dict[str, str]) -> Plan:
    """A plan with one caller and one route."""
    told = {name: '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"' for name, text in says.items()}
    text = [
        f"version = 1\n[issuers.{told['issuer']}]",
        *(f"{name} = {told[name]}" for name in ("jwks_uri", "jwks_file") if name in says),
        *([f"typ = [{told['typ']}]"] if "typ" in says else []),
        f"[[allow]]\nissuer = {told['issuer']}\naudience = {told['audience']}\nscopes = [{told['scope']}]",
        f'[[route]]\naudience = {told["audience"]}\npath = {told["path"]}\nmethods = ["GET"]',
        f"scopes = [{told['scope']}]",
    ]
    trust = TrustConfig.parse("\n".join(text))
    return plan(trust, says["audience"], source="trust.toml", digest="0" * 64)


def texts(value: Any) -> Iterator[str]:
    """Every text in a document, names too."""
    if isinstance(value, str):
        yield value
    for member in value if isinstance(value, list) else ():
        yield from texts(member)
    for name, member in value.items() if isinstance(value, dict) else ():
        yield name
        yield from texts(member)


def shape(value: Any) -> Any:
    """A document without its texts, and without names, some of which are ids."""
    if isinstance(value, dict):
        value = list(value.values())
    return list(map(shape, value)) if isinstance(value, list) else type(value)


def skeleton(text: str) -> str:
    """A program without comments and without what stands within quotes."""
    return QUOTED.sub('""', COMMENT.sub("", text))


def test_envoy() -> None:
    """The same document and the same program, with other texts."""
    odd, usual = (yaml.safe_load(envoy(of(says))) for says in (ODD | ODD_TYPE, USUAL | USUAL_TYPE))
    assert shape(odd) == shape(usual)
    assert {ODD["issuer"], ODD["audience"], ODD["jwks_uri"], f"GET HEAD {ODD['path']}"} <= set(texts(odd))
    program, usual_program = (max(texts(one), key=len) for one in (odd, usual))
    assert skeleton(program) == skeleton(usual_program)
    for text in (ODD["issuer"], ODD["audience"], ODD_TYPE["typ"]):
        assert f'"{text}"' in program


def test_the_name_of_a_file() -> None:
    """It may hold anything but the octet zero."""
    says = {name: text for name, text in USUAL.items() if name != "jwks_uri"}
    assert FILE in texts(yaml.safe_load(envoy(of(says | {"jwks_file": FILE}))))


def test_istio() -> None:
    """The same for its resources; labels come from the command line."""
    path = {"path": "/!$&'()+,:@~--/{x}"}
    odd, usual = (list(yaml.safe_load_all(istio(of(says), {"no": "on"}))) for says in (ODD | path, USUAL))
    assert shape(odd) == shape(usual)
    found = set(texts(odd))
    assert {ODD["issuer"], ODD["audience"], ODD["scope"], ODD["jwks_uri"]} <= found
    assert {"/!$&'()+,:@~--/{*}", "no", "on"} <= found


def test_jose() -> None:
    """The module's data are JSON in ASCII; the rest of it is the same."""
    odd = jose(of(ODD | ODD_TYPE))
    assert odd.isascii()
    assert skeleton(odd) == skeleton(jose(of(USUAL | USUAL_TYPE)))
    pairs = re.search(r"^export const pairs = ({.*?^});$", odd, re.DOTALL | re.MULTILINE)
    assert pairs is not None
    ((issuer, pair),) = json.loads(pairs[1]).items()
    assert (issuer, pair["jwksUri"]) == (ODD["issuer"], ODD["jwks_uri"])
    assert (pair["scopes"], pair["types"]) == ([ODD["scope"]], [ODD_TYPE["typ"]])
    assert f"export const audience = {json.dumps(ODD['audience'])};" in odd


def test_nginx(tmp_path: Path) -> None:
    """It reads the file, and the file is the same but for what stands within quotes."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        missing("nginx: apt-get install nginx")
    odd = nginx(of(ODD))
    passed_on = "http://127.0.0.1:9000[^; ]*;"
    assert re.sub(passed_on, "", skeleton(odd)) == re.sub(passed_on, "", skeleton(nginx(of(USUAL))))
    (tmp_path / "nginx.conf").write_text(odd, encoding="utf-8")
    command = [str(program), "-t", "-p", f"{tmp_path}/", "-c", "nginx.conf", "-g", "pid nginx.pid;"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert "syntax is ok" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "no",
        "Null",
        "1",
        "1.5",
        "a: b",
        "- a",
        "# a",
        "",
        " a",
        'a"b\\c',
        "é\u00a0x",
        "~",
        "a\nb\n\n  c\n",
        "a\nb",
        "a\n\n",
        "  a\nb\n",
        "a\n  b\n",
        "a \nb\n",
        "a\nb\t\n",
        "a\tb\nc\n",
        "a\u2028b\n",
        "a\x0cb\x85\n",
        "a\rb\n",
        "a\u2028b\x7f\x85\ufeff\ud7ff\U0001f511\uffff",
        "# a\n- b\nc: d\n",
        "---\n...\n",
        "\na\n",
        True,
        None,
        7,
        {},
        [],
        {"a": [{"b": ["c", {"d": "e"}]}], "on": {"no": "f"}},
    ],
)
def test_yaml(value: object) -> None:
    """What is written is what others read."""
    made = document(["a comment", ""], {"value": value, "other": [value]} if value else {"value": value})
    assert made.startswith("# a comment\n#\n")
    read = yaml.safe_load(made)
    assert read["value"] == value
