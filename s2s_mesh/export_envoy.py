"""An audience's rules as a configuration of Envoy: Lua for form, jwt_authn for the signature, RBAC for who.

Each of the three refuses by itself, and none lets in what another left undone: jwt_authn wants the field that
Lua spelled anew, RBAC the claims that jwt_authn verified and the path that Lua decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from .export_lua import PROGRAM
from .export_plan import STRIPPED, Caller, Feature, Opening, Plan, check, literal
from .export_yaml import document
from .forward_auth import IDENTITY, REQUEST_ID

CAN: frozenset[Feature] = frozenset(
    {
        Feature.ALGORITHMS,
        Feature.TYP,
        Feature.LIFE,
        Feature.LEEWAY,
        Feature.JWKS_FILE,
        Feature.CA_FILE,
        Feature.PATH,
    }
)
LIMITS: tuple[str, ...] = (
    "`s2s-mesh deny`: a denied caller gets in until its keys or its row are gone",
    "a policy of the application's own, and a log line that says why somebody was refused",
    "a fetch for an unknown kid: a new key is known after 300 s at most, which the lead of a rotation covers",
    "a jwks_file is read when Envoy starts; a key set that cannot be fetched anew stays good however long",
    "key sets are read by Envoy's rules: it takes a key without alg, and RSA keys below 2048 bits",
)
_API = "type.googleapis.com/envoy"
_FILTERS = f"{_API}.extensions.filters.http"
_JWT, _DOOR = "envoy.filters.http.jwt_authn", "s2s_mesh"
_SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
_CACHE = "300s"  # the max-age of our own key sets, I-R2
_TIMEOUT = "5s"
_FOR_OTHERS = ("act", "cnf", "sub_id")


def envoy(plan: Plan) -> str:
    """A whole configuration, to be started as it is or taken apart: YAML.

    Raises:
        NotExportable: it asks for what this cannot enforce.
    """
    check(plan, "envoy", CAN)
    banner = plan.banner("Envoy in front of an application,", LIMITS)
    return document(
        banner, {"static_resources": {"listeners": [_listener(plan)], "clusters": _clusters(plan)}}
    )


def _listener(plan: Plan) -> dict[str, Any]:
    manager = {
        "@type": f"{_API}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        # the path that is judged is the path that the application gets: refused, never rewritten
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "REJECT_REQUEST" if plan.routed else "KEEP_UNCHANGED",
        "common_http_protocol_options": {"headers_with_underscores_action": "DROP_HEADER"},
        "http_filters": [
            _filter("header_mutation", "HeaderMutation", {"mutations": {"request_mutations": _removed()}}),
            _filter("lua", "Lua", {"default_source_code": {"inline_string": _program(plan)}}),
            _filter("jwt_authn", "JwtAuthentication", _jwt_authn(plan)),
            _rbac("DENY", {"bound to a key, or for a user": _bound()}),
            _rbac("ALLOW", _policies(plan)),
            _filter("router", "Router", {}),
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        *({**_public(path), "route": {"cluster": "app"}} for path in plan.public),
                        {"match": {"prefix": "/"}, "route": {"cluster": "app"}},
                    ],
                }
            ]
        },
    }
    return {
        "name": "front",
        "address": _address("127.0.0.1", 8080),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _public(path: str) -> dict[str, Any]:
    """One of the service's own documents, for the services that it calls: the filters are off."""
    off = {"@type": f"{_API}.config.route.v3.FilterConfig", "disabled": True}
    return {
        "match": {
            "path": path,
            "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}],
        },
        "typed_per_filter_config": {
            f"envoy.filters.http.{name}": off for name in ("lua", "jwt_authn", "rbac")
        },
    }


def _filter(name: str, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    typed = {"@type": f"{_FILTERS}.{name}.v3.{kind}", **config}
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed}


def _removed() -> list[dict[str, Any]]:
    return [{"remove": name} for name in (*IDENTITY, REQUEST_ID, *STRIPPED)]


def _program(plan: Plan) -> str:
    """The Lua program below the few lines that say whom it is for."""
    rows = [
        f"  [{_lua(caller.issuer)}] = {{algorithms = {_set(caller.trust.algorithms)}, "
        f"types = {_set(caller.trust.types)}, life = {caller.trust.max_token_life:.0f}, "
        f"leeway = {caller.trust.leeway:.0f}}},"
        for caller in plan.callers
    ]
    head = [
        f"local AUDIENCE, ROUTED = {_lua(plan.audience)}, {str(plan.routed).lower()}",
        "local ISSUERS = {",
    ]
    return "\n".join([*head, *rows, "}"]) + PROGRAM


def _lua(text: str) -> str:
    # ids, algorithms and media types are printable ASCII
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _set(names: Iterable[str]) -> str:
    return "{" + ", ".join(f"[{_lua(name)}] = true" for name in sorted(names)) + "}"


def _jwt_authn(plan: Plan) -> dict[str, Any]:
    anyone = [{"provider_name": caller.issuer} for caller in plan.callers]
    requires = {"requires_any": {"requirements": anyone}} if len(anyone) > 1 else anyone[0]
    return {
        "providers": {caller.issuer: _provider(plan, caller) for caller in plan.callers},
        "rules": [{"match": {"prefix": "/"}, "requires": requires}],
        # no answer says why
        "strip_failure_response": True,
    }


def _provider(plan: Plan, caller: Caller) -> dict[str, Any]:
    trust = caller.trust
    # whole seconds on both sides; Lua has judged to the second what this must only not forbid
    leeway = max(1, round(trust.leeway))
    return {
        "issuer": caller.issuer,
        "audiences": [plan.audience],
        **_keys(caller),
        "require_expiration": True,
        "max_lifetime": f"{round(trust.max_token_life) + leeway}s",
        "clock_skew_seconds": leeway,
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        # the credential stays here
        "forward": False,
        "claim_to_headers": [{"header_name": IDENTITY[0], "claim_name": "iss"}],
        "payload_in_metadata": "payload",
    }


def _keys(caller: Caller) -> dict[str, Any]:
    trust = caller.trust
    if trust.jwks_uri is None:
        return {"local_jwks": {"filename": trust.jwks_file}}
    return {
        "remote_jwks": {
            "http_uri": {"uri": trust.jwks_uri, "cluster": _cluster_name(caller), "timeout": _TIMEOUT},
            "cache_duration": _CACHE,
            # ready before the first caller, and refreshed without one
            "async_fetch": {"failed_refetch_duration": "1s"},
        }
    }


def _cluster_name(caller: Caller) -> str:
    return f"jwks {caller.issuer}"


def _clusters(plan: Plan) -> list[dict[str, Any]]:
    remote = [caller for caller in plan.callers if caller.trust.jwks_uri is not None]
    return [_cluster("app", "127.0.0.1", 3000), *map(_jwks_cluster, remote)]


def _jwks_cluster(caller: Caller) -> dict[str, Any]:
    url = urlsplit(str(caller.trust.jwks_uri))
    host, tls = str(url.hostname), url.scheme == "https"
    cluster = _cluster(_cluster_name(caller), host, url.port or (443 if tls else 80))
    if not tls:
        return cluster
    context = {
        "@type": f"{_API}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": host,
        "common_tls_context": {
            "validation_context": {
                "trusted_ca": {"filename": caller.trust.ca_file or _SYSTEM_CA},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
            }
        },
    }
    return {**cluster, "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def _cluster(name: str, host: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(host, port)}}
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": _TIMEOUT,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _rbac(action: str, policies: Mapping[str, Any]) -> dict[str, Any]:
    return _filter("rbac", "RBAC", {"rules": {"action": action, "policies": policies}})


def _bound() -> dict[str, Any]:
    """What jwt_authn lets pass although it is no bearer token of a service alone."""
    present = [_claim(name, {"present_match": True}) for name in _FOR_OTHERS]
    return {"permissions": [{"any": True}], "principals": present}


def _policies(plan: Plan) -> dict[str, Any]:
    """A policy for each route, with those whose grant opens it; without routes one for all."""
    if not plan.routed:
        callers = [_principal(plan, caller, ()) for caller in plan.callers]
        read = _metadata(_DOOR, ["path"], {"string_match": {"exact": "any"}})
        return {"everything": {"permissions": [read], "principals": callers}}
    return {
        f"{' '.join(opening.methods)} {opening.template.text}": {
            "permissions": [_permission(opening)],
            "principals": [_principal(plan, caller, opening.scopes) for caller in opening.callers],
        }
        for opening in plan.openings
        if opening.callers
    }


def _permission(opening: Opening) -> dict[str, Any]:
    methods = [
        {"header": {"name": ":method", "string_match": {"exact": method}}} for method in opening.methods
    ]
    path = _metadata(_DOOR, ["path"], _matches(opening.regex))
    return {"and_rules": {"rules": [{"or_rules": {"rules": methods}}, path]}}


def _principal(plan: Plan, caller: Caller, scopes: Iterable[str]) -> dict[str, Any]:
    names = ("iss", "sub", "client_id")
    ids = [_claim(name, {"string_match": {"exact": caller.issuer}}) for name in names]
    one = {"string_match": {"exact": plan.audience}}
    ids.append({"or_ids": {"ids": [_claim("aud", one), _claim("aud", {"list_match": {"one_of": one}})]}})
    needed = [_claim("scope", _matches(f"(?:.* )?{literal(scope)}(?: .*)?")) for scope in scopes]
    if needed:
        # a token without the claim asks for all that is granted, which the scopes are part of
        absent = {"not_id": _claim("scope", {"present_match": True})}
        ids.append({"or_ids": {"ids": [absent, {"and_ids": {"ids": needed}}]}})
    return {"and_ids": {"ids": ids}}


def _claim(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return _metadata(_JWT, ["payload", name], value)


def _metadata(namespace: str, path: Iterable[str], value: Mapping[str, Any]) -> dict[str, Any]:
    matcher = {"filter": namespace, "path": [{"key": key} for key in path], "value": value}
    return {"sourced_metadata": {"metadata_matcher": matcher}}


def _matches(regex: str) -> dict[str, Any]:
    return {"string_match": {"safe_regex": {"regex": regex}}}
