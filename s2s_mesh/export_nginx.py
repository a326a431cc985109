"""An audience's rules as a configuration of nginx, which asks `s2s-mesh gateway` about every request.

Open-source nginx verifies no token. So the gateway decides, by the same code and the same trust file, and
everything that a trust file may say holds. What nginx adds is a second pair of eyes: only a method and path
that this file names reach the application, also if the gateway runs with another trust file than the one
that was reviewed.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from .export_plan import CERTIFICATES, STRIPPED, Feature, Opening, Plan, check
from .forward_auth import IDENTITY, REQUEST_ID

# the gateway does what the trust file says; a client certificate it is not told of here
CAN: frozenset[Feature] = frozenset(Feature) - {Feature.OTHER_PROOF}
LIMITS: tuple[str, ...] = (
    "tokens, pairs and scopes: the gateway on 127.0.0.1:9000 enforces them, started with this trust file:",
    "  s2s-mesh gateway --front nginx --port 9000",
    "a path with a broken escape or %00, which nginx refuses also where every path is open",
)
_STATUSES = ((400, "Bad Request"), (401, "Unauthorized"), (403, "Forbidden"))


def nginx(plan: Plan) -> str:
    """A whole configuration, to be started as it is or taken apart.

    Raises:
        NotExportable: it asks for what nginx would have to tell the gateway.
    """
    check(plan, "nginx", CAN)
    banner = [f"# {line}".rstrip() for line in plan.banner("nginx in front of an application,", LIMITS)]
    return "\n".join([*banner, "events {}", "", "http {", *_indented(_http(plan)), "}"]) + "\n"


def _http(plan: Plan) -> Iterator[str]:
    yield "# S2S_Caller is no other spelling of S2S-Caller: fields with underscores are dropped"
    yield from ("underscores_in_headers off;", "ignore_invalid_headers on;", "server_tokens off;")
    yield from ("access_log off;", "merge_slashes off;", "map_hash_bucket_size 256;", "")
    yield "# of a 401 nginx hands the challenge on by itself"
    yield from ("map $s2s_status $s2s_more_challenge {", '    401 "";', "    default $s2s_challenge;", "}")
    yield from ("upstream s2s_mesh_app {", "    server 127.0.0.1:3000;", "}")
    if plan.routed:
        yield "# where a request goes that the gateway let in and this file does not name"
        yield from ("upstream s2s_mesh_no_route {", "    server 127.0.0.1:3000 down;", "}")
    yield "# method, and the path as nginx decodes it; the gateway judges the path as it was sent"
    yield 'map "$request_method $uri" $s2s_upstream {'
    yield f"    default {'s2s_mesh_no_route' if plan.routed else 's2s_mesh_app'};"
    yield from (f"    {_key(opening)} s2s_mesh_app;" for opening in plan.openings)
    yield from ("}", "", "server {", *_indented(_server(plan)), "}")


def _key(opening: Opening) -> str:
    """A method and path as nginx (PCRE) matches them; `$` would also match before a line feed at the end."""
    return _quoted(rf"~^({'|'.join(opening.methods)}) {opening.regex}\z")


def _quoted(text: str) -> str:
    """A text as the parser of nginx reads it: within quotes it takes a backslash before these for its own."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _server(plan: Plan) -> Iterator[str]:
    variables = {name: "$" + name.replace("-", "_") for name in (*IDENTITY, REQUEST_ID)}
    yield from ("listen 127.0.0.1:8080;", "")
    yield "# proxy_pass without a path hands the request on as it was sent"
    yield "location / {"
    yield from ("    auth_request /_s2s_mesh;",)
    for variable in variables.values():
        yield f"    auth_request_set {variable} $upstream_http_{variable[1:]};"
    yield "    auth_request_set $s2s_status $upstream_status;"
    yield "    auth_request_set $s2s_challenge $upstream_http_www_authenticate;"
    yield "    auth_request_set $s2s_retry_after $upstream_http_retry_after;"
    yield from ("    error_page 401 403 500 = @s2s_mesh_refused;", "    proxy_pass http://$s2s_upstream;")
    yield "    # these replace what the client sent under the same names; an empty one is not sent at all"
    for name, variable in variables.items():
        yield f"    proxy_set_header {name} {variable};"
    old = sorted({row.header.decode() for row in plan.trust.legacy})
    yield from (f'    proxy_set_header {name} "";' for name in ("authorization", *old, *STRIPPED))
    yield from (
        "}",
        "location = /_s2s_mesh {",
        "    internal;",
        "    proxy_pass http://127.0.0.1:9000/verify;",
    )
    yield from ("    proxy_pass_request_body off;", '    proxy_set_header Content-Length "";')
    yield "    proxy_set_header X-Original-Method $request_method;"
    yield from (f'    proxy_set_header {name} "";' for name in CERTIFICATES)
    yield from ("    proxy_set_header X-Original-URI $request_uri;", "}")
    yield "# auth_request knows 2xx, 401 and 403; it makes 500 of the 400 and the 503, told apart here"
    yield from ("location @s2s_mesh_refused {", "    internal;", "    auth_request off;")
    yield "    default_type application/problem+json;"
    fields = (("Cache-Control", "no-store"), ("WWW-Authenticate", "$s2s_more_challenge"))
    for name, value in (*fields, ("Retry-After", "$s2s_retry_after"), (REQUEST_ID, variables[REQUEST_ID])):
        yield f"    add_header {name} {value} always;"
    for status, title in _STATUSES:
        instance = f'"instance":"urn:uuid:{variables[REQUEST_ID]}"'
        body = f'{{"title":"{title}","status":{status},{instance}}}'
        yield from (f"    if ($s2s_status = {status}) {{", f"        return {status} '{body}';", "    }")
    yield """    return 503 '{"title":"Service Unavailable","status":503}';"""
    yield from ("}", "# our own documents, for the services that we call")
    for path in plan.public:
        # a location is compared with the decoded path
        yield f"location = {_quoted(unquote(path))} {{ proxy_pass http://127.0.0.1:9000{path}; }}"


def _indented(lines: Iterator[str]) -> list[str]:
    return [f"    {line}".rstrip() for line in lines]
