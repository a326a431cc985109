"""ASAP callers, with `atlassian-jwt-auth` unmodified, are accepted by our services: over real HTTP."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import atlassian_jwt_auth
import pytest
import requests
from atlassian_jwt_auth.contrib.requests import JWTAuth
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from s2s_mesh import Service
from s2s_mesh.cli.serving import caller_facts

from ..asap_keys import LOOPBACK, KeyServer, allowing, vouching
from ..programs import http_server
from ..servers import free_port
from ..tokens import EDGE, LEDGER, WALLETS, frozen
from .asap import AUDIENCE, ISSUER, KEYS, PROGRAM, Authority, forget_session, on_werkzeug, receiver

STEP = 20  # seconds


def interop(column: str) -> pytest.MarkDecorator:
    """A cell of the table."""
    return pytest.mark.interop(program=PROGRAM, column=column)


class Team:
    """A team that has private keys, and publishes the public halves on a key server."""

    def __init__(self, server: KeyServer, issuer: str = ISSUER) -> None:
        self._server = server
        self._issuer = issuer

    def publish(self, name: str, private: Any) -> str:
        """Put a key's file on the server; returns its kid."""
        kid = f"{self._issuer}/{name}"
        self._server.files[kid] = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return kid

    def signer(self, kid: str, private: Any, **options: Any) -> Any:
        """Theirs."""
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        algorithm = "RS256" if isinstance(private, rsa.RSAPrivateKey) else "ES256"
        return atlassian_jwt_auth.create_signer(self._issuer, kid, pem, **{"algorithm": algorithm, **options})


def new_key() -> Any:
    """A private key as teams have them."""
    return ec.generate_private_key(ec.SECP256R1())


class Stand(NamedTuple):
    """Our service on a real server, their team, and its key server."""

    service: Service
    url: str
    team: Team
    keys: KeyServer
    session: requests.Session

    def call(self, signer: Any, audience: str = AUDIENCE) -> requests.Response:
        """As their client does."""
        return self.session.get(self.url, auth=JWTAuth(signer, audience), timeout=30)


@contextmanager
def standing(folder: Path) -> Iterator[Stand]:
    """`wallets`, which ASAP knows as team/wallets, lets `team/edge` in as edge."""
    with KeyServer() as keys:
        names = f'audiences = {{ "{AUDIENCE}" = "{WALLETS}" }}'
        text = LOOPBACK + vouching(keys.base, relaxed=names) + allowing()
        (folder / "trust.toml").write_text(text)
        service = Service(issuer=WALLETS, trust=folder / "trust.toml", key_store=None)
        port = free_port()
        # the application knows no lifespan
        with (
            service,
            http_server(service.wrap(caller_facts(service)), port),
            requests.Session() as session,
        ):
            yield Stand(service, f"http://127.0.0.1:{port}/", Team(keys), keys, session)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """At the real time."""
    with standing(tmp_path) as made:
        yield made


@interop("accept")
@interop("both directions")
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_we_accept_their_caller(stand: Stand, algorithm: str) -> None:
    """With the scopes of the service for which the name stands; their one file is fetched once."""
    private = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else new_key()
    kid = stand.team.publish("k1", private)
    for _ in range(3):
        answer = stand.call(stand.team.signer(kid, private))
        assert answer.status_code == 200, answer.text
        facts = answer.json()
        assert (facts["caller"], facts["subject"], facts["kid"]) == (EDGE, ISSUER, kid)
        assert facts["scopes"] == ["cards:read"]
    assert stand.keys.asked == [kid]


def test_we_accept_their_signer_that_hands_tokens_out_again(stand: Stand) -> None:
    """`reuse_jwts`; and ours by the service's own id as audience."""
    private = new_key()
    signer = stand.team.signer(stand.team.publish("k1", private), private, reuse_jwts=True)
    assert [stand.call(signer).status_code for _ in range(3)] == [200, 200, 200]
    assert stand.call(signer, WALLETS).status_code == 200


@interop("wrong audience")
def test_we_refuse_another_audience(stand: Stand) -> None:
    """Also beside ours, and in a list."""
    private = new_key()
    signer = stand.team.signer(stand.team.publish("k1", private), private)
    assert stand.call(signer).status_code == 200
    for audience in ("team/ledger", ["team/ledger", AUDIENCE], "https://ledger.example.com"):
        assert stand.call(signer, audience).status_code == 401  # type: ignore[arg-type]


def test_we_refuse_who_signs_in_another_name(stand: Stand) -> None:
    """`team/other` has a key on the same server, and is not in our trust file."""
    private = new_key()
    kid = stand.team.publish("k1", private)
    other = stand.team.signer(kid, private)
    assert stand.call(other).status_code == 200
    other.issuer = "team/other"
    assert stand.call(other).status_code == 401
    subject = stand.team.signer(kid, private, subject="team/other")
    assert stand.call(subject).status_code == 401


@interop("expired")
def test_we_refuse_an_expired_token(tmp_path: Path) -> None:
    """After its life and our leeway."""
    with frozen() as clock, standing(tmp_path) as made:
        private = new_key()
        token = made.team.signer(made.team.publish("k1", private), private).generate_jwt(AUDIENCE)
        fields = {"authorization": f"Bearer {token.decode()}"}
        statuses = []
        for _ in range(2):
            statuses.append(made.session.get(made.url, headers=fields, timeout=30).status_code)
            clock.tick(60 + 30)
        assert statuses == [200, 401]


def test_an_hour_is_accepted_only_where_it_is_named(stand: Stand) -> None:
    """As their signers made tokens until version 19."""
    private = new_key()
    signer = stand.team.signer(stand.team.publish("k1", private), private, lifetime=dt.timedelta(hours=1))
    assert stand.call(signer).status_code == 401


@interop("rotation")
def test_no_call_fails_while_their_keys_rotate(tmp_path: Path) -> None:
    """As teams do it: publish the new file, sign with it, delete the old one; then the old key is refused."""
    statuses, accepted = [], set()
    with frozen() as clock, standing(tmp_path) as made:

        def calls(signer: Any, count: int) -> None:
            for _ in range(count):
                answer = made.call(signer)
                statuses.append(answer.status_code)
                accepted.add(answer.json().get("kid"))
                clock.tick(STEP)
                runtime = made.service.running()
                runtime.keep_house_once()
                for fetch in list(runtime.client._in_flight.values()):
                    fetch.result(20)

        last = new_key()
        signer = made.team.signer(made.team.publish("k1", last), last)
        calls(signer, 30)
        for number in range(2, 6):
            private = new_key()
            old, signer = signer, made.team.signer(made.team.publish(f"k{number}", private), private)
            calls(signer, 15)
            del made.keys.files[f"{ISSUER}/k{number - 1}"]
            calls(signer, 30)
            assert made.call(old).status_code == 401
        assert set(statuses) == {200}
        assert len(statuses) == 210
        assert len(accepted) == 5


@interop("both directions")
def test_one_service_has_moved_and_its_neighbours_have_not(tmp_path: Path) -> None:
    """It calls an ASAP receiver and is called by an ASAP caller, under one name."""
    authority, private = Authority(tmp_path), new_key()
    with KeyServer() as keys:
        names = f'audiences = {{ "{ISSUER}" = "{EDGE}" }}'
        called = vouching(keys.base, issuer="team/ledger", service=LEDGER, relaxed=names)
        (tmp_path / "trust.toml").write_text(LOOPBACK + called + allowing(LEDGER, EDGE))
        ledger = Team(keys, "team/ledger")
        signer = ledger.signer(ledger.publish("k1", private), private)
        trust = tmp_path / "trust.toml"
        moved = Service(issuer=EDGE, trust=trust, key_store="memory://", asap_issuer=ISSUER)
        tls, plain = free_port(), free_port()
        neighbour = receiver(f"https://localhost:{tls}{KEYS}", authority.retriever())
        app = moved.wrap(caller_facts(moved))
        with (
            moved,
            http_server(app, tls, **authority.server),
            http_server(app, plain),
            on_werkzeug(neighbour) as wallets,
        ):
            fields = {"authorization": f"Bearer {moved.asap_token(AUDIENCE)}"}
            with requests.get(f"{wallets}/whoami", headers=fields, timeout=30) as calls:
                assert (calls.status_code, calls.json()["iss"]) == (200, ISSUER)
            auth = JWTAuth(signer, ISSUER)
            with requests.get(f"http://127.0.0.1:{plain}/", auth=auth, timeout=30) as accepts:
                assert (accepts.status_code, accepts.json()["caller"]) == (200, LEDGER)
            forget_session()
