"""`s2s-mesh doctor`: a service in order, and one fault after the other, each found and its cure named."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from s2s_mesh.store import generate_key_encryption_key
from s2s_mesh.store.redis_errors import acl

from .command_line import Terminal, make_terminal
from .jwks_servers import Endpoint, JWKSServer, answer
from .servers import RedisServer, free_port
from .tokens import key

DAY = 86400
JWKS = ".well-known/jwks.json"


class Fleet:
    """Wallets, whose doctor is asked, and edge and ledger around it, each with a real JWKS endpoint.

    Attributes:
        terminal: a shell with the environment of wallets, which has a ring and publishes it.
        server: where all three publish.
        ids, endpoints: of each, by name.
    """

    def __init__(self, terminal: Terminal, server: JWKSServer) -> None:
        self.terminal = terminal
        self.server = server
        self.ids = {name: server.url(f"/{name}") for name in ("wallets", "edge", "ledger")}
        self.endpoints = {name: self._endpoint(name) for name in self.ids}
        self.endpoints["edge"].publish(key())
        self.endpoints["ledger"].publish(key(name="second"))
        terminal.environment["S2S_MESH_ISSUER"] = self.ids["wallets"]
        self.trust()

    def _endpoint(self, name: str) -> Endpoint:
        made = self.server.endpoint(f"{name}/{JWKS}")
        made.ahead = 0
        return made

    def trust(self, more: str = "", **ids: str) -> Path:
        """Write the trust file: edge calls wallets, wallets calls ledger; `ids` are put in their places."""
        names = {**self.ids, **ids}
        rows = [("edge", "wallets"), ("wallets", "ledger")]
        return self.terminal.trust(
            "".join(f'[[allow]]\nissuer = "{names[a]}"\naudience = "{names[b]}"\n' for a, b in rows) + more
        )

    def start(self, **changes: str) -> None:
        """Make the ring of wallets, and publish it."""
        self.terminal.create_ring(**changes)
        self.publish()

    def publish(self) -> None:
        """Have wallets publish what its ring holds now."""
        self.endpoints["wallets"].publish_document(self.terminal.call("jwks").stdout_bytes.strip())

    def doctor(self, *arguments: str, exit_code: int = 1) -> dict[str, dict[str, Any]]:
        """Run the command; its findings by check."""
        result = self.terminal.call("doctor", "--json", *arguments)
        assert result.exit_code == exit_code, result.output
        return {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}

    def fault(self, check: str, verdict: str, found: str, do: str) -> None:
        """Run the command, and expect that one finding."""
        finding = self.doctor()[check]
        assert finding["verdict"] == verdict, finding
        assert re.search(found, finding["found"]), finding["found"]
        assert re.search(do, finding["do"]), finding["do"]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with JWKSServer(time.time) as server:
        made = Fleet(make_terminal(tmp_path, monkeypatch), server)
        yield made


def test_all_is_well(fleet: Fleet) -> None:
    """Exit code 0, each check by name, and nothing to do."""
    fleet.start()
    findings = fleet.doctor(exit_code=0)
    assert [name for name in findings if "127.0.0.1" not in name] == [
        *("settings", "trust file", "own rows", "key ring", "own URL", "own keys", "own JWKS headers"),
        *("clock", "trust file's age"),
    ]
    assert f"{fleet.ids['edge']} -> {fleet.ids['wallets']}" in findings
    assert f"keys of {fleet.ids['edge']}" in findings
    assert {finding["verdict"] for finding in findings.values()} == {"ok"}
    assert {finding["do"] for finding in findings.values()} == {""}
    assert findings["clock"]["found"] == "agrees with the 3 servers that were asked"


# -- ten planted faults -----------------------------------------------------------------------------------


def test_wrong_clock_of_one_issuer(fleet: Fleet) -> None:
    """Whose it is, by how much, and what tokens are forgiven."""
    fleet.start()
    fleet.endpoints["edge"].ahead = 90
    found = r"^(89|90) s fast; tokens are forgiven 30 s$"
    fleet.fault(f"clock of {fleet.ids['edge']}", "fail", found, "run an NTP client there")


def test_wrong_clock_of_this_machine(fleet: Fleet) -> None:
    """Where all the others agree with each other, it is ours; what is forgiven is only warned of."""
    fleet.start()
    for endpoint in fleet.endpoints.values():
        endpoint.ahead = 20
    fleet.fault(
        "clock of this machine", "warn", r"^(19|20) s slow", "this machine's clock: run an NTP client"
    )


def test_missing_etag(fleet: Fleet) -> None:
    """Ours, and that of another service."""
    fleet.start()
    fleet.endpoints["wallets"].etags = fleet.endpoints["edge"].etags = False
    fleet.fault("own JWKS headers", "warn", "^no ETag$", "server or proxy send an ETag")
    fleet.fault(f"JWKS headers of {fleet.ids['edge']}", "warn", "^no ETag$", "send an ETag")


def test_unreachable_issuer(fleet: Fleet) -> None:
    """A caller whose keys cannot be had."""
    gone = f"http://127.0.0.1:{free_port()}"
    fleet.trust(edge=gone)
    fleet.start()
    fleet.fault(f"keys of {gone}", "fail", f"^{gone}/{JWKS}: .*refused", "start that issuer.*jwks_uri")


def test_trailing_slash(fleet: Fleet) -> None:
    """The right spelling is the cure; what does not need the settings is looked at all the same."""
    fleet.start()
    fleet.terminal.environment["S2S_MESH_ISSUER"] = "https://wallets.example.com/"
    fleet.fault(
        "settings", "fail", "no trailing slash", "^set S2S_MESH_ISSUER=https://wallets.example.com in"
    )
    assert fleet.doctor()[f"keys of {fleet.ids['edge']}"]["verdict"] == "ok"


def test_eviction_policy(fleet: Fleet) -> None:
    """A Redis that may throw the ring away when it is full."""
    policy = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "64mb")
    with RedisServer(*policy, persistent=True) as server:
        fleet.start(S2S_MESH_KEY_STORE=server.url)
        fleet.fault("Redis eviction", "fail", "^allkeys-lru", "CONFIG SET maxmemory-policy noeviction")
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert {finding["verdict"] for finding in fleet.doctor(exit_code=0).values()} == {"ok"}


def test_expired_ring(fleet: Fleet) -> None:
    """Nobody rotated for longer than the ring lasts."""
    with freeze_time(time.strftime("%Y-%m-%d", time.gmtime(time.time() - 100 * DAY))):
        fleet.start()
    fleet.fault(
        "key ring", "fail", r"^expired: its last key signed until (39|40)\.\d d ago", "s2s-mesh serve"
    )


def test_missing_key_encryption_key(fleet: Fleet) -> None:
    """The ring is sealed, and this process has nothing to open it with."""
    fleet.start(S2S_MESH_KEY_ENCRYPTION_KEY=generate_key_encryption_key())
    del fleet.terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"]
    do = "set S2S_MESH_KEY_ENCRYPTION_KEY to the one that the other processes"
    fleet.fault("key ring", "fail", "^missing_key_encryption_key: ", do)


def test_missing_key_encryption_key_of_an_https_service(fleet: Fleet) -> None:
    """The settings are refused already, and the sealed ring is seen all the same."""
    fleet.terminal.environment["S2S_MESH_ISSUER"] = f"https://127.0.0.1:{free_port()}"
    fleet.terminal.create_ring(S2S_MESH_KEY_ENCRYPTION_KEY=generate_key_encryption_key())
    del fleet.terminal.environment["S2S_MESH_KEY_ENCRYPTION_KEY"]
    fleet.fault("settings", "fail", "set S2S_MESH_KEY_ENCRYPTION_KEY", "^change the variable that is named")
    fleet.fault("key ring", "fail", "^missing_key_encryption_key: ", "the other processes")


def test_http_issuer(fleet: Fleet) -> None:
    """Plain http is no name for a service off this machine."""
    fleet.start()
    fleet.terminal.environment["S2S_MESH_ISSUER"] = "http://wallets.example.com"
    fleet.fault(
        "settings", "fail", "the scheme must be https", "^set S2S_MESH_ISSUER=https://wallets.example.com"
    )


def test_one_way_pair_without_an_audience(fleet: Fleet) -> None:
    """The caller signs, and nobody is there to be called."""
    gone = f"http://127.0.0.1:{free_port()}"
    fleet.trust(ledger=gone)
    fleet.start()
    pair = f"{fleet.ids['wallets']} -> {gone}"
    fleet.fault(
        pair, "warn", "^one-way: the issuer signs, and nobody answers .*refused", "mend its id in the row"
    )


def test_one_way_pair_without_a_caller(fleet: Fleet) -> None:
    """The audience is there, and refuses every call, here because the caller signs with another algorithm."""
    fleet.start()
    fleet.endpoints["edge"].publish(key("Ed25519"))
    pair = f"{fleet.ids['edge']} -> {fleet.ids['wallets']}"
    fleet.fault(
        pair, "fail", "^one-way: the audience answers, and refuses all calls", "mend `keys of .*edge`"
    )
    keys = f"keys of {fleet.ids['edge']}"
    fleet.fault(keys, "fail", "^only keys for Ed25519$", "add one of them to algorithms.*--algorithm ES256")


def test_old_trust_file(fleet: Fleet) -> None:
    """It names a service that has moved."""
    fleet.start()
    moved = answer(b"", "Location: https://edge.example.com/", status="301 Moved Permanently")
    fleet.endpoints["edge"].instead = moved
    do = "deploy the present trust file; or set jwks_uri"
    fleet.fault("trust file's age", "fail", "^old: .*edge/.* answers 301", do)


def test_old_pinned_keys(fleet: Fleet) -> None:
    """It pins keys that the service has replaced since."""
    pinned = fleet.terminal.folder / "trust" / "edge.jwks.json"
    fleet.trust(f'[issuers."{fleet.ids["edge"]}"]\njwks_file = "{pinned.name}"\n')
    pinned.write_bytes(json.dumps({"keys": [key(name="old").public.public_jwk]}).encode())
    fleet.start()
    fleet.fault(
        "trust file's age", "fail", "^old: .* lacks 1 of the 1 key that", "keys export-public --output"
    )
    pinned.write_bytes(json.dumps({"keys": [key().public.public_jwk]}).encode())
    assert fleet.doctor(exit_code=0)["trust file's age"]["verdict"] == "ok"


def test_other_trust_file_than_the_reviewed_one(fleet: Fleet) -> None:
    """Compared by what it means."""
    fleet.start()
    reviewed = fleet.terminal.folder / "reviewed.toml"
    deployed = fleet.terminal.folder / "trust" / "trust.toml"
    reviewed.write_text(deployed.read_text() + "\n# the same\n")
    same = fleet.doctor("--reviewed", str(reviewed), exit_code=0)["reviewed file"]
    assert (same["verdict"], same["do"]) == ("ok", "")
    fleet.trust("scopes = ['cards:own']\n")
    other = fleet.doctor("--reviewed", str(reviewed))["reviewed file"]
    assert (other["verdict"], other["found"]) == ("fail", f"1 differences from {reviewed}")
    assert other["do"].startswith(f"see `s2s-mesh trust diff {reviewed} trust/trust.toml`")


# -- more of what is found --------------------------------------------------------------------------------


def test_identity_provider(fleet: Fleet) -> None:
    """Its keys are looked at as those of a service."""
    fleet.trust(
        f'[user_issuers."http://127.0.0.1:{free_port()}/"]\naudiences = ["{fleet.ids["wallets"]}"]\n'
        f'[[route]]\naudience = "{fleet.ids["wallets"]}"\npath = "/"\nmethods = ["GET"]\nuser = "proven"\n'
    )
    fleet.start()
    (keys,) = [finding for check, finding in fleet.doctor().items() if re.match("keys of .*/$", check)]
    assert keys["verdict"] == "fail"


def test_no_ring(fleet: Fleet) -> None:
    """Before the first start."""
    fleet.fault("key ring", "fail", "^there is none$", "keys init")


def test_ring_in_memory(fleet: Fleet) -> None:
    """It is in another process and cannot be looked at; that is no finding."""
    fleet.endpoints["wallets"].publish(key(name="other"))
    fleet.terminal.environment["S2S_MESH_KEY_STORE"] = "memory://"
    assert fleet.doctor(exit_code=0)["key ring"]["verdict"] == "skipped"


def test_other_ring_at_our_url(fleet: Fleet) -> None:
    """Whoever answers at our URL has other keys than the store."""
    fleet.start()
    fleet.endpoints["wallets"].publish(key())
    fleet.fault("own keys", "fail", "signs and is not published there", "uses this store")


def test_nobody_at_our_url(fleet: Fleet) -> None:
    """Said once, although the trust file names us too."""
    fleet.start()
    fleet.endpoints["wallets"].instead = answer(status="503 Service Unavailable")
    findings = fleet.doctor()
    assert findings["own URL"]["verdict"] == "fail"
    assert "answered 503" in findings["own URL"]["found"]
    assert f"keys of {fleet.ids['wallets']}" not in findings


def test_unreadable_documents(fleet: Fleet) -> None:
    """What is answered and is no JWKS."""
    fleet.start()
    fleet.endpoints["edge"].publish_document(b"{}")
    fleet.fault(f"keys of {fleet.ids['edge']}", "fail", "not a JWKS", "start that issuer")


def test_redis_that_is_down(fleet: Fleet) -> None:
    """The reason as in the log; its settings cannot be looked at."""
    fleet.terminal.environment["S2S_MESH_KEY_STORE"] = f"redis://127.0.0.1:{free_port()}"
    fleet.fault("key ring", "fail", "^unreachable: ", "start the store")


def test_redis_that_may_not_be_asked(fleet: Fleet) -> None:
    """A user with the rights that a service needs may not see settings; that is no finding."""
    with RedisServer() as server:
        rights = acl(fleet.ids["wallets"]).split()
        server.command("ACL", "SETUSER", "wallets", "on", ">secret", *rights)
        fleet.start(S2S_MESH_KEY_STORE=f"redis://wallets:secret@{server.address}")
        settings = fleet.doctor(exit_code=0)["Redis settings"]
        assert (settings["verdict"], settings["found"]) == ("skipped", "permissions: INFO is not answered")


@pytest.mark.parametrize(
    ("text", "verdict", "found", "do"),
    [
        ("version = 2\n", "fail", "version: found the integer 2", "keep its last good content"),
        ("version = 1\n", "warn", "nobody may call anybody", "s2s-mesh trust check trust/trust.toml"),
    ],
)
def test_trust_file(fleet: Fleet, text: str, verdict: str, found: str, do: str) -> None:
    """Mistakes and warnings are those of `trust check`."""
    fleet.start()
    fleet.trust().write_text(text)
    fleet.fault("trust file", verdict, found, do)


def test_no_trust_file(fleet: Fleet) -> None:
    """Fine for a service that only publishes, which `s2s-mesh serve` runs too, and told."""
    fleet.start()
    fleet.trust().unlink()
    fleet.fault("trust file", "warn", "there is none", "s2s-mesh init")


def test_settings_that_nothing_can_be_built_from(fleet: Fleet) -> None:
    """The variable is named."""
    fleet.start()
    fleet.terminal.environment["S2S_MESH_ALGORITHM"] = "HS256"
    fleet.fault("settings", "fail", "S2S_MESH_ALGORITHM", "^change the variable that is named")


def test_it_cannot_run(fleet: Fleet) -> None:
    """Without a name nobody knows what to look at."""
    del fleet.terminal.environment["S2S_MESH_ISSUER"]
    result = fleet.terminal.call("doctor")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "S2S_MESH_ISSUER is not set" in result.stderr


def test_table(fleet: Fleet) -> None:
    """One line for each finding, with what to do; `--problems` leaves out what is well; no colours."""
    fleet.start()
    fleet.endpoints["edge"].etags = False
    whole = fleet.terminal.run("doctor")
    short = fleet.terminal.run("doctor", "--problems")
    assert (whole.returncode, short.returncode, whole.stderr) == (1, 1, "")
    assert whole.stdout.splitlines()[0].split() == ["check", "found", "what", "to", "do"]
    assert len(whole.stdout.splitlines()) == 1 + 14 + 2
    _, line, _, summary = short.stdout.splitlines()
    assert line.split()[:4] == ["warn", "JWKS", "headers", "of"]
    assert line.endswith("send an ETag (some drop it when they compress)")
    assert summary == whole.stdout.splitlines()[-1] == "13 ok, 1 to be mended soon"
    assert "\x1b" not in whole.stdout


def test_a_service_that_runs(fleet: Fleet) -> None:
    """What `s2s-mesh serve` serves is as the doctor wants it: headers, keys, clock."""
    port = str(free_port())
    own = f"http://127.0.0.1:{port}"
    fleet.terminal.environment["S2S_MESH_ISSUER"] = own
    fleet.trust(wallets=own)
    with fleet.terminal.server("serve", "--port", port):
        findings = fleet.doctor(exit_code=0)
    assert findings["own JWKS headers"]["found"] == "ETag, fresh for 300 s"
    assert findings["own keys"]["verdict"] == "ok"


def test_progress(fleet: Fleet) -> None:
    """A person at a terminal sees that something happens, and nothing of it stays."""
    fleet.start()
    fleet.endpoints["edge"].hold()
    master, slave = os.openpty()
    fleet.terminal.environment |= {"TERM": "xterm-256color", "COLUMNS": "80"}
    with fleet.terminal.start("doctor", stderr=slave) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's way of saying that the other side is closed
            while chunk := os.read(master, 4096):
                shown += chunk
                if b"2/3" in shown:
                    fleet.endpoints["edge"].release()
        assert process.stdout is not None
        assert "asking" not in process.stdout.read()
    os.close(master)
    assert b"asking services for their keys" in shown
    assert shown.rstrip().endswith(b"\x1b[2K")


def test_all_is_well_in_words(fleet: Fleet) -> None:
    """`--problems` then is one line."""
    fleet.start()
    assert fleet.terminal.call("doctor", "--problems").stdout == "14 ok\n"


def test_foreign_issuer(fleet: Fleet) -> None:
    """Its keys are looked at as everybody's; the service for which it vouches publishes none itself.

    Nobody can say which keys an ASAP issuer has.
    """
    fleet.start()
    hub = fleet.server.endpoint("hub/keys")
    hub.ahead = 0
    hub.publish(key(name="hub"))
    issuer, batch = "https://hub.example.com/", "https://batch.example.com"
    fleet.trust(
        f'[foreign_issuers."{issuer}"]\njwks_uri = "{hub.url}"\n'
        f'[foreign_issuers."team"]\nprofile = "asap"\nasap_key_servers = ["{hub.url}/"]\n'
        f'[[subject]]\nissuer = "team"\nsubject = "team"\nservice = "{batch}"\n'
        f'[[subject]]\nissuer = "{issuer}"\nsubject = "batch"\nservice = "{batch}"\n'
        f'[[allow]]\nissuer = "{batch}"\naudience = "{fleet.ids["wallets"]}"\n'
    )
    findings = fleet.doctor(exit_code=0)
    assert findings[f"keys of {issuer}"]["found"] == "1 key for ES256"
    assert not any(batch in check or "team" in check for check in findings)


def test_proxies_that_anybody_could_name(fleet: Fleet) -> None:
    """A server that believes everybody about its peer, and certificates that only proxies may hand on."""
    fleet.start()
    fleet.terminal.environment |= {
        "S2S_MESH_CLIENT_CERTIFICATE_HEADER": "client-cert",
        "S2S_MESH_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8",
    }
    assert fleet.doctor(exit_code=0)["client certificates"]["verdict"] == "ok"
    fleet.terminal.environment["FORWARDED_ALLOW_IPS"] = "*"
    fleet.fault("client certificates", "warn", "of everybody", "--no-proxy-headers")
