"""Clouds without static keys: their real SDKs, with what `s2s-mesh federate` keeps for them.

Their token endpoints verify our signatures through our discovery document and our JWKS, which they fetch only
once (cloud_servers.py).
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from s2s_mesh import Service, TrustConfig
from s2s_mesh.jws import decode

from .cloud_servers import (
    CLIENT,
    CLUSTER,
    POOL,
    REGISTERED,
    ROLE,
    TENANT,
    Authority,
    Clouds,
    published,
)
from .command_line import ROOT, MovableTime, Terminal
from .servers import RedisServer, wait_until

HOUR = 3600.0
PERIOD = 30 * 86400.0
PROGRAMS = {
    "aws": "boto3 + moto",
    "gcp": "google-auth",
    "azure": "azure-identity",
    "k8s": "kubernetes client",
}
OTHERS = {
    "aws": "another-client",
    "gcp": POOL.replace("mesh", "other"),
    "azure": "api://AzureADTokenExchangeUSGov",
    "k8s": "https://other.example.com",
}


class Stand(NamedTuple):
    """Our issuer, published, and the clouds where it is registered.

    Attributes:
        terminal: a shell with the issuer's environment.
        clouds: the token endpoints.
        url: where they are.
        authority: of their certificates.
        time: of our command line in this process.
        patch: environment variables of the SDKs, undone after the test.
    """

    terminal: Terminal
    clouds: Clouds
    url: str
    authority: Authority
    time: MovableTime
    patch: pytest.MonkeyPatch

    @property
    def token_file(self) -> Path:
        """Where the SDKs read."""
        return self.terminal.folder / "token"

    def federate(self, provider: str, *arguments: str, audience: str | None = None) -> str:
        """Run our command; its standard output."""
        named = ("--audience", audience or REGISTERED[provider])
        result = self.terminal.call("federate", provider, *named, *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def write(self, provider: str, *, audience: str | None = None, age: float = 0.0) -> str:
        """Have the token file written, `age` seconds ago; what it holds."""
        with self.time.ago(age):
            self.federate(provider, "--token-file", str(self.token_file), "--once", audience=audience)
        return self.token_file.read_text()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def make(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moved: MovableTime,
    authority: Authority,
    moto_url: str,
) -> Iterator[Callable[..., Stand]]:
    """Makes a stand whose ring has a certain age."""
    with ExitStack() as stack:

        def made(provider: str, *, age: float = HOUR) -> Stand:
            terminal = Terminal(tmp_path)
            algorithm = {"S2S_MESH_ALGORITHM": "RS256"} if provider == "azure" else {}
            issuer = stack.enter_context(published(terminal, moved, age=age, **algorithm))
            clouds = Clouds(issuer, moved.time, moto_url)
            url = stack.enter_context(authority.https_server(clouds.app))
            return Stand(terminal, clouds, url, authority, moved, monkeypatch)

        yield made


# -- the SDKs: each gets its credentials, or raises ----------------------------------------------------------


def aws(stand: Stand) -> None:
    """boto3 finds the file by its variables, assumes the role, and says who it is."""
    import boto3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        stand.patch.delenv(name)
    for name, value in {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(stand.token_file),
        "AWS_ROLE_ARN": ROLE,
        "AWS_ROLE_SESSION_NAME": "edge",
        "AWS_ENDPOINT_URL_STS": stand.url,
        "AWS_CA_BUNDLE": stand.authority.path,
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        stand.patch.setenv(name, value)
    who = boto3.Session().client("sts").get_caller_identity()
    assert who["Arn"] == "arn:aws:sts::123456789012:assumed-role/edge-example-com/edge"


def gcp(stand: Stand) -> None:
    """google-auth reads the configuration that our command wrote; only the endpoint is the one nearby."""
    google_credentials(stand, json.loads((stand.terminal.folder / "gcp.json").read_text()))


def google_credentials(stand: Stand, config: dict[str, Any]) -> None:
    """Load a configuration as google.auth does for GOOGLE_APPLICATION_CREDENTIALS, and refresh."""
    import requests
    from google.auth import identity_pool, pluggable
    from google.auth.transport.requests import Request

    assert config["token_url"] == "https://sts.googleapis.com/v1/token"
    kind = pluggable if "executable" in config["credential_source"] else identity_pool
    credentials = kind.Credentials.from_info(
        {**config, "token_url": f"{stand.url}/v1/token"},
        scopes=["https://www.googleapis.com/auth/cloud-platform"],
    )
    with requests.Session() as session:
        # or REQUESTS_CA_BUNDLE would win
        session.trust_env, session.verify = False, stand.authority.path
        credentials.refresh(Request(session=session))
    assert credentials.token == "ya29.d.edge"


def azure(stand: Stand) -> None:
    """azure-identity reads the file as on AKS, by its variables."""
    from azure.identity import WorkloadIdentityCredential

    for name, value in {
        "AZURE_FEDERATED_TOKEN_FILE": str(stand.token_file),
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_TENANT_ID": TENANT,
    }.items():
        stand.patch.setenv(name, value)
    with WorkloadIdentityCredential(**azure_options(stand)) as credential:
        assert credential.get_token("https://vault.azure.net/.default").token == "eyJ.edge"


def azure_options(stand: Stand) -> dict[str, Any]:
    """What leads azure-identity to the endpoint nearby."""
    return {
        "authority": stand.url,
        "disable_instance_discovery": True,
        "connection_verify": stand.authority.path,
        "retry_total": 0,
    }


def k8s(stand: Stand) -> None:
    """The Kubernetes client reads the file that a kubeconfig names."""
    kubernetes_client(stand, {"tokenFile": str(stand.token_file)})


def exec_plugin(stand: Stand, audience: str) -> dict[str, Any]:
    """An `exec` entry of a kubeconfig."""
    variables = {**stand.terminal.environment, "PYTHONPATH": str(ROOT)}
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "Never",
        "command": sys.executable,
        "args": ["-m", "s2s_mesh", "federate", "k8s", "--audience", audience],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
    }


def kubernetes_client(stand: Stand, user: dict[str, Any]) -> None:
    """List pods as this user of a kubeconfig."""
    from kubernetes import client, config

    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "edge",
        "contexts": [{"name": "edge", "context": {"cluster": "nearby", "user": "edge"}}],
        "clusters": [
            {
                "name": "nearby",
                "cluster": {"server": stand.url, "certificate-authority": stand.authority.path},
            }
        ],
        "users": [{"name": "edge", "user": user}],
    }
    with config.new_client_from_config_dict(kubeconfig) as api:
        assert client.CoreV1Api(api).list_namespaced_pod("default").items == []


SDKS: dict[str, Callable[[Stand], None]] = {"aws": aws, "gcp": gcp, "azure": azure, "k8s": k8s}


REFUSALS = {
    "aws": "InvalidIdentityToken|ExpiredToken",
    "gcp": "invalid_grant",
    "azure": "AADSTS700024|AADSTS700212",
    "k8s": "Unauthorized",
}


def prepare(stand: Stand, provider: str, *, audience: str | None = None, age: float = 0.0) -> str:
    """All that the provider's SDK reads, with a token for this audience of this age; the token."""
    if provider == "gcp":
        config = str(stand.terminal.folder / "gcp.json")
        stand.federate("gcp", "--config", config, "--token-file", str(stand.token_file), "--once")
    return stand.write(provider, audience=audience, age=age)


def proves(column: str) -> list[Any]:
    """Each provider, marked as the proof of a cell in the table of `make interop`."""
    return [
        pytest.param(provider, marks=pytest.mark.interop(program=program, column=column), id=provider)
        for provider, program in PROGRAMS.items()
    ]


@pytest.mark.parametrize("provider", proves("accept"))
def test_a_cloud_accepts_our_tokens(make: Callable[..., Stand], provider: str) -> None:
    """From the file, which nobody else may read, to credentials; and again with the next token."""
    stand = make(provider)
    first = prepare(stand, provider)
    assert stat.S_IMODE(stand.token_file.stat().st_mode) == 0o600
    SDKS[provider](stand)
    assert prepare(stand, provider) != first
    SDKS[provider](stand)
    assert len(stand.clouds.kids) == 2


@pytest.mark.parametrize("provider", proves("wrong audience"))
def test_a_cloud_refuses_a_token_for_another(make: Callable[..., Stand], provider: str) -> None:
    """Its own form of audience, but not the one that is registered."""
    stand = make(provider)
    prepare(stand, provider, audience=OTHERS[provider])
    with pytest.raises(Exception, match=f"(?s)({REFUSALS[provider]}).*audience"):
        SDKS[provider](stand)
    assert stand.clouds.kids == []


@pytest.mark.parametrize("provider", proves("expired"))
def test_a_cloud_refuses_an_expired_token(make: Callable[..., Stand], provider: str) -> None:
    """A file that nobody has kept for twenty minutes."""
    stand = make(provider)
    prepare(stand, provider, age=1200)
    with pytest.raises(Exception, match=f"(?s)({REFUSALS[provider]}).*expired"):
        SDKS[provider](stand)
    assert stand.clouds.kids == []


@pytest.mark.parametrize("provider", proves("rotation"))
def test_a_rotation_costs_no_call(make: Callable[..., Stand], provider: str) -> None:
    """The cloud has fetched our keys once, a minute before; the next one signs, and is among them."""
    stand = make(provider, age=PERIOD - 60)
    prepare(stand, provider)
    SDKS[provider](stand)
    stand.time.ahead += 120
    prepare(stand, provider)
    SDKS[provider](stand)
    assert len(set(stand.clouds.kids)) == 2


# -- the other ways -----------------------------------------------------------------------------------------


def test_kubernetes_clients_run_us_as_their_plugin(make: Callable[..., Stand]) -> None:
    """In a process of its own, by a kubeconfig; a cluster with another audience refuses the token."""
    stand = make("k8s")
    kubernetes_client(stand, {"exec": exec_plugin(stand, CLUSTER)})
    assert len(stand.clouds.kids) == 1
    with pytest.raises(Exception, match=r"(?s)Unauthorized.*audience"):
        kubernetes_client(stand, {"exec": exec_plugin(stand, OTHERS["k8s"])})


def test_google_runs_us_as_its_executable(make: Callable[..., Stand]) -> None:
    """By the configuration that we wrote for that; what goes wrong is in Google's error."""
    stand = make("gcp")
    path = stand.terminal.folder / "gcp.json"
    stand.federate("gcp", "--config", str(path), "--executable")
    config = json.loads(path.read_text())
    for name, value in {**stand.terminal.environment, "PYTHONPATH": str(ROOT)}.items():
        stand.patch.setenv(name, value)
    stand.patch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    google_credentials(stand, config)
    assert len(stand.clouds.kids) == 1
    stand.patch.setenv("S2S_MESH_KEY_STORE", f"file://{stand.terminal.folder}/empty")
    with pytest.raises(Exception, match=r"\"success\": false, \"code\": \"no_ring\""):
        google_credentials(stand, config)


def test_azure_calls_us_back(make: Callable[..., Stand]) -> None:
    """ClientAssertionCredential with a service of ours, which needs neither file nor command."""
    from azure.identity import ClientAssertionCredential

    stand = make("azure")
    trust = TrustConfig.parse("version = 1\n[defaults]\nallow_loopback_http = true")
    with (
        Service.from_env(stand.terminal.environment, trust=trust) as edge,
        ClientAssertionCredential(
            TENANT, CLIENT, lambda: edge.federation_token("azure"), **azure_options(stand)
        ) as credential,
    ):
        assert credential.get_token("https://vault.azure.net/.default").token == "eyJ.edge"
    assert len(stand.clouds.kids) == 1


# -- a file that is kept fresh ------------------------------------------------------------------------------


def test_a_file_is_replaced_until_the_end_is_asked_for(make: Callable[..., Stand]) -> None:
    """By the real program: token after token, in one step, for its owner alone; SIGTERM is a good end."""
    stand = make("aws")
    stand.terminal.environment["S2S_MESH_ROTATION"] = "fast-for-tests"  # tokens live for two seconds
    stand.terminal.environment["S2S_MESH_KEY_STORE"] = f"file://{stand.terminal.folder}/quick"
    stand.time.ahead = -2
    stand.terminal.create_ring()
    with stand.terminal.server("federate", "aws", "--token-file", "token") as program:
        assert program.ready_line.startswith("wrote token: a token until ")
        assert program.ready_line.endswith(" UTC; the next in 1 s\n")
        seen = {stand.token_file.read_text(): stand.token_file.stat().st_ino}

        def replaced() -> bool:
            seen.setdefault(stand.token_file.read_text(), stand.token_file.stat().st_ino)
            return len(seen) == 4

        wait_until(replaced, timeout=60, what="three more tokens")  # the line of the last may be to come
        assert len(set(seen.values())) > 1
        code, rest = program.end(signal.SIGTERM)
        assert (code, program.errors) == (0, "")
        assert rest.count("wrote token") >= 2
    times = [decode(token.encode()).claims for token in seen]
    assert [claims["exp"] - claims["iat"] for claims in times] == [2, 2, 2, 2]
    assert stat.S_IMODE(stand.token_file.stat().st_mode) == 0o600
    assert [path.name for path in stand.terminal.folder.glob(".token*")] == []


def test_a_file_is_kept_while_redis_is_away(make: Callable[..., Stand]) -> None:
    """The program waits for it at the start; later it signs with the ring that it holds, as services do."""
    stand = make("aws")
    terminal = stand.terminal
    with RedisServer(persistent=True) as redis:
        terminal.environment |= {"S2S_MESH_ROTATION": "fast-for-tests", "S2S_MESH_KEY_STORE": redis.url}
        terminal.create_ring()
        redis.stop()
        with terminal.start("federate", "aws", "--token-file", "token") as process:
            assert process.stderr is not None
            assert process.stdout is not None
            assert "warning: no new token, token is not written: " in process.stderr.readline()
            redis.start()
            assert process.stdout.readline().startswith("wrote token")
            redis.stop()
            before = process.stdout.readline()
            wait_until(lambda: process.stdout.readline() != before, what="another token")  # type: ignore[union-attr]
            process.terminate()
            assert process.wait(timeout=60) == 0
