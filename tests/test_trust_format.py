"""The JSON Schema of the trust file: generated, shipped, and true."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from s2s_mesh.trust import TrustConfig, TrustFileError, json_schema

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TRUST = Path(__file__).parent.parent / "trust"
GENERATE = "s2s-mesh trust schema > trust/trust.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def shipped() -> dict[str, Any]:
    return tomllib.loads((TRUST / "trust.toml").read_text(encoding="utf-8"))


def test_the_shipped_schema_is_the_generated_one() -> None:
    """trust/trust.schema.json comes from the types; the README says how."""
    written = (TRUST / "trust.schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(json_schema(), indent=2) + "\n", f"run: {GENERATE}"
    assert GENERATE in (TRUST / "README.md").read_text(encoding="utf-8")


def test_the_schema_accepts_the_shipped_file() -> None:
    """The schema is a valid one, and the reference file fits it and points at it."""
    VALIDATOR.check_schema(json_schema())
    VALIDATOR.validate(shipped())
    first = (TRUST / "trust.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "#:schema ./trust.schema.json"


def test_everything_is_described() -> None:
    """Every table and every member that is not a table has a description for editors to show."""
    for name, table in json_schema()["$defs"].items():
        assert table["description"], name
        assert table["additionalProperties"] is False
        for member, form in table["properties"].items():
            assert "$ref" in form or form["description"], f"{name}.{member}"


def route(**members: object) -> dict[str, object]:
    return {"audience": "https://a.example.com", "path": "/", "methods": ["GET"], **members}


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"version": 2},
        {"defaults": {"unknown": 1}},
        {"defaults": {"leeway": 30}},
        {"defaults": {"leeway": "30"}},
        {"defaults": {"algorithms": []}},
        {"defaults": {"algorithms": ["HS256"]}},
        {"defaults": {"allow_loopback_http": "yes"}},
        {"issuers": {"https://a.example.com/": {}}},
        {"issuers": {"https://a.example.com": {"discovery": "yes"}}},
        {"issuers": {"https://a.example.com": {"discovery": True, "jwks_origins": []}}},
        {"user_issuers": {"https://login.example.com/": {"discovery": True}}},
        {"issuers": {"https://a.example.com": {"jwks_uri": "file:///keys"}}},
        {"allow": [{"issuer": "https://a.example.com"}]},
        {"allow": [{"issuer": "https://*.example.com", "audience": "https://b.example.com"}]},
        {"allow": [{"issuer": "https://a.example.com", "audience": "https://b.example.com", "scope": []}]},
        {
            "allow": [
                {"issuer": "https://a.example.com", "audience": "https://b.example.com", "scopes": ["*"]}
            ]
        },
        {"route": [route(methods=["put"])]},
        {"route": [route(user="anybody")]},
        {"route": [route(proof="dpop")]},
        {"route": [route(replay="twice")]},
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(change: dict[str, Any]) -> None:
    """What an editor marks as wrong is wrong for the parser too, and the other way round."""
    good = shipped()
    broken = {**deepcopy(good), **change}
    assert not VALIDATOR.is_valid(broken)
    with pytest.raises(TrustFileError):
        TrustConfig.parse(to_toml(broken))


def to_toml(data: dict[str, Any]) -> str:
    """Write plain data as TOML, tables inline; JSON differs by `:` alone."""
    return "".join(f"{name} = {inline(value)}\n" for name, value in data.items())


def inline(value: object) -> str:
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(name)} = {inline(member)}" for name, member in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


def test_to_toml() -> None:
    """The helper above is right about the shipped file."""
    assert tomllib.loads(to_toml(shipped())) == shipped()
