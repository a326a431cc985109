"""ASAP receivers, with `atlassian-jwt-auth` unmodified, accept our services: over real HTTP and TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import atlassian_jwt_auth
import httpx
import jwt.exceptions
import pytest
from atlassian_jwt_auth.exceptions import PublicKeyRetrieverException
from atlassian_jwt_auth.key import validate_key_identifier

from s2s_mesh import RotationSchedule, Service, TrustConfig
from s2s_mesh.asap import ALGORITHMS, is_path
from s2s_mesh.jws import decode

from ..programs import http_server
from ..servers import free_port
from ..tokens import EDGE, frozen
from .asap import AUDIENCE, ISSUER, KEYS, PROGRAM, Authority, forget_session, on_werkzeug, receiver

# as the default, but for a key that signs for three hours and not for thirty days
SCHEDULE = RotationSchedule(period=3 * 3600)
STEP = 120  # seconds


def interop(column: str) -> pytest.MarkDecorator:
    """A cell of the table."""
    return pytest.mark.interop(program=PROGRAM, column=column)


class Stand(NamedTuple):
    """Our service, published over TLS, and their receiver."""

    service: Service
    keys: str  # base URL of the key server
    receiver: str
    ca_file: str
    http: httpx.Client

    def call(self, token: str | None = None) -> httpx.Response:
        """With our auth, or with this token."""
        url = f"{self.receiver}/whoami"
        if token is not None:
            return self.http.get(url, headers={"authorization": f"Bearer {token}"})
        auth = self.service.asap_auth(AUDIENCE, origins=[self.receiver])
        return self.http.get(url, auth=auth)

    def verify(self, token: str, audience: str = AUDIENCE) -> Any:
        """Their verifier, called directly."""
        retriever = atlassian_jwt_auth.HTTPSPublicKeyRetriever(self.keys)
        return atlassian_jwt_auth.JWTAuthVerifier(retriever).verify_jwt(token, audience, verify=self.ca_file)


@contextmanager
def standing(folder: Path, **options: Any) -> Iterator[Stand]:
    """Both, on real servers."""
    authority = Authority(folder)
    service = Service(
        issuer=EDGE,
        trust=TrustConfig.parse("version = 1"),
        key_store="memory://",
        asap_issuer=ISSUER,
        **options,
    )
    port = free_port()
    keys = f"https://localhost:{port}{KEYS}"

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("only our own documents are asked for")

    with ExitStack() as stack:
        stack.enter_context(http_server(service.wrap(nothing), port, **authority.server))
        url = stack.enter_context(on_werkzeug(receiver(keys, authority.retriever())))
        stack.callback(forget_session)
        http = stack.enter_context(httpx.Client(timeout=30))
        yield Stand(service, keys, url, authority.ca_file, http)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """At the real time."""
    with standing(tmp_path) as made:
        yield made


@interop("accept")
@interop("both directions")
def test_their_receiver_accepts_our_service(stand: Stand) -> None:
    """Through their Flask decorator, with the claims that it wants; and again from what both keep."""
    for _ in range(3):
        answer = stand.call()
        assert answer.status_code == 200, answer.text
        claims = answer.json()
        assert (claims["iss"], claims["sub"], claims["aud"]) == (ISSUER, ISSUER, AUDIENCE)


@interop("accept")
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_that_their_list_has(algorithm: str, tmp_path: Path) -> None:
    """Each one that we offer, but Ed25519, which it has not."""
    with standing(tmp_path, algorithm=algorithm) as made:
        token = made.service.asap_token(AUDIENCE)
        assert decode(token.encode()).header.alg == algorithm
        assert made.verify(token)["iss"] == ISSUER


@interop("wrong audience")
def test_their_receiver_refuses_another_audience(stand: Stand) -> None:
    """A token for one ASAP receiver, or for one of our own services, opens no other."""
    with pytest.raises(jwt.exceptions.InvalidAudienceError):
        stand.verify(stand.service.asap_token("team/ledger"))
    assert stand.call(stand.service.asap_token(AUDIENCE)).status_code == 200
    assert stand.call(stand.service.asap_token("team/ledger")).status_code == 401


def test_a_service_token_is_no_asap_token(stand: Stand) -> None:
    """Its kid is no path below an ASAP issuer, so that no key is found for it there."""
    with pytest.raises(PublicKeyRetrieverException, match="404"):
        stand.verify(stand.service.token("https://wallets.example.com"))


@interop("wrong audience")
def test_their_receiver_refuses_another_issuer(stand: Stand) -> None:
    """Our name is in the path of the key, and we serve keys under no other.

    Their frameworks mean to answer 401, but ask `if response`, which is false for a 404, and so answer 500.
    """
    with pytest.raises(PublicKeyRetrieverException, match="404"):
        stand.verify(stand.service.asap_token(AUDIENCE, issuer="team/other"))


@interop("expired")
def test_their_receiver_refuses_an_expired_token(tmp_path: Path) -> None:
    """To the second, as they have no leeway."""
    with frozen() as clock, standing(tmp_path) as made:
        token = made.service.asap_token(AUDIENCE)
        assert made.call(token).status_code == 200
        clock.tick(119)
        assert made.call(token).status_code == 200
        clock.tick(1)
        assert made.call(token).status_code == 401
        assert made.call().status_code == 200


@interop("rotation")
def test_no_call_fails_while_our_keys_rotate(tmp_path: Path) -> None:
    """Ten hours in steps of two minutes: one call each, three keys and more, their cache as it is."""
    kids, statuses = set(), []
    with frozen() as clock, standing(tmp_path, schedule=SCHEDULE) as made:
        for _ in range(10 * 3600 // STEP):
            kids.add(decode(made.service.asap_token(AUDIENCE).encode()).header.kid)
            statuses.append(made.call().status_code)
            clock.tick(STEP)
            made.service.running().keep_house_once()
    assert set(statuses) == {200}
    assert len(statuses) == 300
    assert len(kids) >= 4


def test_a_revoked_key_has_no_file(tmp_path: Path) -> None:
    """At once where it is served, and after `max-age` in their cache; calls go on with the next key."""
    with frozen() as clock, standing(tmp_path) as made:
        token = made.service.asap_token(AUDIENCE)
        kid = decode(token.encode()).header.kid
        assert made.call(token).status_code == 200
        manager = made.service.running().manager
        assert manager is not None
        manager.change(lambda ring, at: ring.compromise(kid.rpartition("/")[2], at))
        tls = ssl.create_default_context(cafile=made.ca_file)
        assert httpx.get(made.keys + kid, verify=tls, timeout=30).status_code == 404
        clock.tick(60)
        assert made.call().status_code == 200
        assert made.call().json()["iss"] == ISSUER


PATHS = ["team/edge/k", "edge", "a.b-c_d+e/F", ".hidden/k", "-/k", "a//b", "a/./b", "../a", "a/..", "a..b"]
MORE_PATHS = ["/a", "a/", "", "a b", "a%2f", "a\\b", "..", ".", "a/.", "./a", "é/k", "a\n"]


@pytest.mark.parametrize("path", [*PATHS, *MORE_PATHS])
def test_what_we_take_for_a_path_theirs_does_too(path: str) -> None:
    """We are stricter about a lone dot, letters that are not ASCII, and a newline at the end."""
    try:
        theirs = validate_key_identifier(path) == path
    except ValueError:
        theirs = False
    assert is_path(path) == (theirs and path not in (".", "é/k", "a\n"))
