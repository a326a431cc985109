"""`s2s-mesh federate`: what it prints and writes, what it refuses, and what it says about our documents."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s2s_mesh import Service
from s2s_mesh.cli import serving, signing, token_file
from s2s_mesh.clouds import CLOUDS
from s2s_mesh.jws import decode

from .cloud_servers import HOST, Authority, published
from .command_line import ISSUER, OTHER, PATIENCE, ROOT, MovableTime, Terminal, make_terminal
from .servers import free_port
from .test_clouds import AUDIENCES, POOL

HOUR = 3600.0


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: MovableTime) -> Terminal:
    """A terminal whose service has had a ring for an hour."""
    made = make_terminal(tmp_path, monkeypatch)
    with moved.ago(HOUR):
        made.create_ring()
    return made


def named(provider: str) -> tuple[str, ...]:
    return ("federate", provider, "--audience", AUDIENCES[provider])


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_a_token_is_printed(terminal: Terminal, provider: str) -> None:
    """And nothing else, where no file is named."""
    result = terminal.call(*named(provider), "--subject", "edge:prod")
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    claims = decode(result.stdout.strip().encode()).claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == (ISSUER, "edge:prod", AUDIENCES[provider])
    assert claims["exp"] - claims["iat"] == 600


def test_an_exec_credential_is_printed(terminal: Terminal) -> None:
    """One line of JSON."""
    result = terminal.call(*named("k8s"))
    assert (result.exit_code, result.stderr) == (0, "")
    status = json.loads(result.stdout)["status"]
    assert decode(status["token"].encode()).claims["aud"] == AUDIENCES["k8s"]


def test_a_file_is_written_once(terminal: Terminal) -> None:
    """For its owner alone, whatever was there; its life is the provider's for files."""
    path = terminal.folder / "token"
    path.write_text("old")
    path.chmod(0o644)
    result = terminal.call(*named("k8s"), "--token-file", "token", "--once")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("wrote token: a token until ")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    claims = decode(path.read_bytes()).claims
    assert claims["exp"] - claims["iat"] == CLOUDS["k8s"].file_life


def test_a_link_is_replaced_and_not_followed(terminal: Terminal) -> None:
    """Nobody makes us write a token to another place, by that name or by the one that it has at first."""
    elsewhere = terminal.folder / "elsewhere"
    elsewhere.write_text("theirs")
    (terminal.folder / "token").symlink_to(elsewhere)
    (terminal.folder / f".token.{os.getpid()}.tmp").symlink_to(elsewhere)
    assert terminal.call(*named("aws"), "--token-file", "token", "--once").exit_code == 0
    assert elsewhere.read_text() == "theirs"
    assert not (terminal.folder / "token").is_symlink()


def test_what_cannot_be_written(terminal: Terminal) -> None:
    """The command says so and ends; nothing is left behind."""
    result = terminal.call(*named("aws"), "--token-file", "none/token", "--once")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: none/token cannot be written: No such file or directory\n"
    (terminal.folder / "token").mkdir()
    assert terminal.call(*named("aws"), "--token-file", "token").exit_code == 2
    for folder in (".", "/"):
        result = terminal.call(*named("aws"), "--token-file", folder)
        expected = f"Error: {folder} cannot be written: it is a folder, expected a file\n"
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", expected)
    assert [path.name for path in terminal.folder.glob(".token*")] == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("gcp",), "Google Cloud has no audience of its own"),
        (("k8s",), "Kubernetes has no audience of its own"),
        (("aws", "--audience", "two words"), "no audience of AWS IAM"),
        (("aws", "--subject", "two words"), "cannot be the subject"),
        (("azure",), "Microsoft Entra ID verifies RS256, and this service signs with ES256"),
        (("gcp", "--config", "gcp.json"), "--config wants either --token-file FILE or --executable"),
        (
            ("gcp", "--config", "c", "--executable", "--token-file", "t"),
            "--config wants either --token-file FILE or --executable",
        ),
        (
            ("gcp", "--audience", POOL, "--config", "c", "--executable", "--service-account", "me"),
            "'me' is not a service account",
        ),
        (("gcp", "--audience", POOL, "--service-account", "me"), "--service-account is for --config FILE"),
        (("gcp", "--audience", POOL, "--register", "--executable"), "leave --config and --executable out"),
        (
            ("gcp", "--audience", POOL, "--register", "--config", "c", "--token-file", "t"),
            "leave --config and --executable out",
        ),
        (("gcp", "--audience", POOL, "--executable", "--token-file", "t"), "leave --token-file out"),
        (("gcp", "--audience", POOL, "--executable", "--once"), "--once is for --token-file FILE"),
        (("aws", "--once"), "--once is for --token-file FILE"),
        (("k8s", "--audience", "a", "--once"), "--once is for --token-file FILE"),
        (("k8s", "--audience", "a", "--register", "--token-file", "t"), "leave --token-file out"),
        (("check", "ibm"), "choose one of aws, gcp, azure, k8s"),
    ],
)
def test_what_is_refused(terminal: Terminal, arguments: tuple[str, ...], why: str) -> None:
    """One sentence, exit code 2, and no file; no option is passed over in silence."""
    result = terminal.call("federate", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in " ".join(result.stderr.split())
    assert not any((terminal.folder / name).exists() for name in "ct")


def test_without_a_ring_no_token(terminal: Terminal) -> None:
    """This command never makes one, and leaves the file as it is."""
    terminal.environment["S2S_MESH_KEY_STORE"] = f"file://{terminal.folder}/other"
    (terminal.folder / "token").write_text("old")
    result = terminal.call(*named("aws"), "--token-file", "token")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no_ring: " in result.stderr
    assert (terminal.folder / "token").read_text() == "old"


def test_once_does_not_wait_for_a_store(terminal: Terminal) -> None:
    """Whoever runs it by a timer hears of it; only what keeps the file waits."""
    terminal.environment["S2S_MESH_KEY_STORE"] = f"redis://127.0.0.1:{free_port()}"
    result = terminal.call(*named("aws"), "--token-file", "token", "--once")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: unreachable: ")
    assert not (terminal.folder / "token").exists()


@pytest.mark.parametrize("provider", CLOUDS)
def test_registration(terminal: Terminal, provider: str) -> None:
    """It needs no key: the terms are those of tokens to come."""
    terminal.environment["S2S_MESH_KEY_STORE"] = f"file://{terminal.folder}/other"
    result = terminal.call(*named(provider), "--subject", "edge:prod", "--register")
    assert (result.exit_code, result.stderr) == (0, "")
    assert ISSUER in result.stdout
    assert "edge:prod" in result.stdout


# -- Google -------------------------------------------------------------------------------------------------


def test_the_executable_says_nothing_else(
    terminal: Terminal, moved: MovableTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google reads standard error as well: warnings of the key store and of waiting stay away."""

    def sleep(seconds: float) -> None:
        moved.ahead += seconds

    monkeypatch.setattr(signing, "time", SimpleNamespace(sleep=sleep))
    terminal.create_ring(S2S_MESH_KEY_STORE=f"file://{terminal.folder}/young")
    result = terminal.call(*named("gcp"), "--executable")
    assert moved.ahead > 0
    assert (result.exit_code, result.stderr) == (0, "")
    response = json.loads(result.stdout)
    assert response["success"] is True
    assert decode(response["id_token"].encode()).claims["exp"] == response["expiration_time"]
    assert logging.root.manager.disable == logging.NOTSET


def test_the_executable_logs_nothing(terminal: Terminal) -> None:
    """Where the other commands warn, as of a Redis that anybody could pose as."""
    terminal.environment["S2S_MESH_KEY_STORE"] = f"rediss://127.0.0.1:{free_port()}?ssl_cert_reqs=none"
    assert "WARNING: " in terminal.run(*named("gcp")).stderr
    done = terminal.run(*named("gcp"), "--executable")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["code"] == "unreachable"


def test_the_executable_says_why_not(terminal: Terminal) -> None:
    """In Google's own form, with exit code 1."""
    terminal.environment["S2S_MESH_KEY_STORE"] = f"file://{terminal.folder}/other"
    for arguments, code in ((named("gcp"), "no_ring"), (("federate", "gcp"), "configuration")):
        result = terminal.call(*arguments, "--executable")
        assert (result.exit_code, result.stderr) == (1, "")
        response = json.loads(result.stdout)
        assert (response["success"], response["code"]) == (False, code)
        assert response["message"]


def test_the_configuration_for_an_executable(terminal: Terminal) -> None:
    """It names this program by its place, with what the tokens need; it runs."""
    more = ("--subject", "edge:prod", "--config", "gcp.json", "--executable")
    result = terminal.call(*named("gcp"), *more, "--service-account", "edge@project.iam.gserviceaccount.com")
    assert (result.exit_code, result.output) == (0, "wrote gcp.json\n")
    config = json.loads((terminal.folder / "gcp.json").read_text())
    command = config["credential_source"]["executable"]["command"]
    assert command.startswith("/")
    assert "generateAccessToken" in config["service_account_impersonation_url"]
    done = subprocess.run(
        command,
        shell=True,
        env={**terminal.environment, "PYTHONPATH": str(ROOT)},
        cwd=terminal.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert decode(json.loads(done.stdout)["id_token"].encode()).claims["sub"] == "edge:prod"


def test_the_configuration_for_a_file(terminal: Terminal) -> None:
    """It names the file by its whole path, and both are written."""
    result = terminal.call(*named("gcp"), "--config", "gcp.json", "--token-file", "token", "--once")
    assert (result.exit_code, result.stderr) == (0, "")
    config = json.loads((terminal.folder / "gcp.json").read_text())
    assert config["audience"] == POOL
    assert Path(config["credential_source"]["file"]).is_absolute()
    assert Path(config["credential_source"]["file"]).samefile(terminal.folder / "token")


# -- a file that is kept -------------------------------------------------------------------------------------


def test_a_file_that_is_kept(terminal: Terminal, moved: MovableTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong later is said, with how long the old token is good; then it goes on."""
    path = terminal.folder / "token"
    first = ""

    def blocked() -> None:
        nonlocal first
        first = path.read_text()
        path.unlink()
        path.mkdir()

    def free() -> None:
        path.rmdir()

    def strange() -> None:  # keys that AWS does not know
        rotated = terminal.run("keys", "rotate", "--algorithm", "Ed25519", "--yes")
        assert rotated.returncode == 0, rotated.stderr
        moved.ahead += 3 * HOUR

    def end() -> None:
        signal.raise_signal(signal.SIGTERM)

    script: list[Callable[[], None]] = [blocked, free, strange, end]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        moved.ahead += seconds
        script.pop(0)()

    monkeypatch.setattr(token_file, "time", SimpleNamespace(sleep=sleep))
    result = terminal.call(*named("aws"), "--token-file", "token")
    assert (result.exit_code, script) == (0, [])
    assert slept == [300, 5, 300, 5]
    wrote, again = result.stdout.splitlines()
    assert wrote.endswith("; the next in 5 min")
    assert again.startswith("wrote token: ")
    stays, gone = [line for line in result.stderr.splitlines() if line.startswith("warning:")]
    assert re.match(
        r"warning: no new token, token stays as it is, and its token expires in (5 min|4 min 5\d s): token "
        "cannot be written: ",
        stays,
    )
    assert "warning: no new token, the token in token has expired: AWS IAM verifies" in gone
    assert path.read_text() not in ("", first)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_ring_that_was_spoiled_signs_no_more(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that it holds is for while the store is away, and not for what somebody did to it."""
    kept = ""

    def sleep(_seconds: float) -> None:
        nonlocal kept
        if kept:
            signal.raise_signal(signal.SIGTERM)
        kept = (terminal.folder / "token").read_text()
        for path in (terminal.folder / "keys").iterdir():
            path.write_bytes(b"{}")

    monkeypatch.setattr(token_file, "time", SimpleNamespace(sleep=sleep))
    result = terminal.call(*named("aws"), "--token-file", "token")
    assert (result.exit_code, result.stdout.count("wrote token")) == (0, 1)
    assert "warning: no new token, token stays as it is" in result.stderr
    assert (terminal.folder / "token").read_text() == kept


def test_an_end_that_is_asked_for_twice(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the token is put in its place, and while that is tidied up: it leaves what was there, alone."""
    (terminal.folder / "token").write_text("old")
    ending: list[str] = []

    def interrupted(call: Callable[..., None]) -> Callable[..., None]:
        def made(path: Path, *more: Any, **named: Any) -> None:
            if ending or (path.name.startswith(".token") and more):
                ending.append(path.name)
                signal.raise_signal(signal.SIGTERM)
            call(path, *more, **named)

        return made

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, interrupted(getattr(os, name)))
    result = terminal.call(*named("aws"), "--token-file", "token")
    assert (result.exit_code, result.output, len(ending)) == (0, "", 2)
    assert (terminal.folder / "token").read_text() == "old"
    assert [path.name for path in terminal.folder.glob(".token*")] == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_disk_that_is_full(terminal: Terminal) -> None:
    """The old token stays as it is, and no piece of the new one."""
    (terminal.folder / "token").write_text("old")
    command = [sys.executable, "-m", "s2s_mesh", *named("aws"), "--token-file", "token", "--once"]
    done = subprocess.run(
        f"ulimit -f 0; exec {shlex.join(command)}",  # no file may have a byte
        shell=True,
        env={**terminal.environment, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=terminal.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: token cannot be written: File too large\n"
    assert (terminal.folder / "token").read_text() == "old"
    assert [path.name for path in terminal.folder.glob(".token*")] == []


# -- check --------------------------------------------------------------------------------------------------


def verdicts(result: Any) -> dict[str, str]:
    """By check."""
    return {finding["check"]: finding["verdict"] for finding in json.loads(result.stdout)["findings"]}


def test_check_on_loopback(terminal: Terminal, moved: MovableTime) -> None:
    """What no cloud reaches: each rule that is broken is a line, with what to do."""
    store = f"file://{terminal.folder}/own"
    with published(terminal, moved, age=HOUR, S2S_MESH_KEY_STORE=store, S2S_MESH_ROTATION="default"):
        result = terminal.call("federate", "check", "aws")
    assert result.exit_code == 1
    for words in (
        r"fail  issuer +not https; 127\.0\.0\.1 is not a name on the internet; names port \d+ +give this",
        r"warn  rotation +the next key is published 7200 s .* S2S_MESH_ROTATION=cloud-federation",
        r"fail  discovery document +jwks_uri is not https +have http",
        r"ok    JWKS +2 keys",
        r"5 ok, 1 to be mended soon, 2 to be mended now\n$",
    ):
        assert re.search(words, result.stdout), result.stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def test_check_of_a_cluster(terminal: Terminal, moved: MovableTime, authority: Authority) -> None:
    """A service with TLS of its own authority, as its trust file has it: all is well, and exit code 0."""
    port = free_port()
    issuer = f"https://{HOST}:{port}"
    terminal.seal()
    terminal.environment["S2S_MESH_ISSUER"] = issuer
    terminal.environment["S2S_MESH_KEY_STORE"] = f"file://{terminal.folder}/own"
    terminal.environment["S2S_MESH_ROTATION"] = "cloud-federation"
    trust = terminal.trust(
        f'[issuers."{issuer}"]\nca_file = "{authority.path}"\n'
        f'[[allow]]\nissuer = "{issuer}"\naudience = "{OTHER}"\n'
    )
    with moved.ago(HOUR):
        terminal.create_ring()
    service = Service.from_env(terminal.environment, trust=trust)
    with service, authority.https_server(serving.only_documents(service), port):
        result = terminal.call("federate", "check", "k8s", "--json")
        assert set(verdicts(result).values()) == {"ok"}, result.stdout
        assert result.exit_code == 0
        assert verdicts(terminal.call("federate", "check", "azure", "--json")) == {
            "issuer": "fail",
            "subject": "ok",
            "algorithm": "fail",
            "rotation": "ok",
            "discovery document": "ok",
            "JWKS": "ok",
            "members of keys": "ok",
            "kinds of keys": "fail",
        }
    away = verdicts(terminal.call("federate", "check", "k8s", "--json"))
    assert (away["discovery document"], away["JWKS"]) == ("fail", "fail")


def test_check_without_a_store(terminal: Terminal) -> None:
    """The rest is looked at all the same."""
    (terminal.folder / "keys").rename(terminal.folder / "gone")
    (terminal.folder / "keys").write_text("no directory")
    found = verdicts(terminal.call("federate", "check", "k8s", "--json"))
    assert (found["key ring"], found["algorithm"], found["subject"]) == ("fail", "skipped", "ok")


# -- for Google, by hand -----------------------------------------------------------------------------------


def test_an_uploaded_jwks(terminal: Terminal, moved: MovableTime) -> None:
    """It holds no key that Google does not know; and is never empty."""
    assert terminal.run("keys", "rotate", "--algorithm", "Ed25519", "--yes").returncode == 0
    whole = json.loads(terminal.call("keys", "export-public").stdout)["keys"]
    filtered = json.loads(terminal.call("keys", "export-public", "--for", "gcp").stdout)["keys"]
    assert {key["kty"] for key in whole} == {"EC", "OKP"}
    assert filtered == [key for key in whole if key["kty"] == "EC"]
    unknown = terminal.call("keys", "export-public", "--for", "ibm")
    assert (unknown.exit_code, "--for knows gcp only" in unknown.stderr) == (2, True)
    terminal.environment |= {
        "S2S_MESH_ALGORITHM": "Ed25519",
        "S2S_MESH_KEY_STORE": f"file://{terminal.folder}/other",
    }
    terminal.create_ring()
    none = terminal.call("keys", "export-public", "--for", "gcp", "--output", "upload.json")
    assert (none.exit_code, none.stdout) == (1, "")
    assert "no published key is RSA or EC" in none.stderr
    assert not (terminal.folder / "upload.json").exists()
