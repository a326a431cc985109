"""One issuer for each algorithm we offer, whose keys other people's software reads over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import trustme
from starlette.applications import Starlette

from s2s_mesh import RotationSchedule, Service, TrustConfig, claims
from s2s_mesh.jws import decode
from s2s_mesh.keys import ALGORITHMS, SigningKey
from s2s_mesh.manager import KeyManager

from ..programs import http_server
from ..servers import free_port, wait_until
from ..tokens import WALLETS, header, sign

MIXED = "mixed"  # an issuer that signs with ES256, and publishes keys of other algorithms as well
CACHE = 4  # seconds that a verifier of the fleet keeps keys
SCHEDULE = RotationSchedule(
    replica_lag=0.5,
    served_max_age=1,
    foreign_cache=CACHE,
    stale_grace=0.5,
    max_token_life=20,
    max_skew=0.5,
    lead=8,
    drain=21,
    period=3600,
    cache_floor=0.2,
)


# its other keys do not come to signing while it runs
_SLOW = msgspec.structs.replace(SCHEDULE, lead=3600, period=7200)


class Issuers:
    """Running services: one for each algorithm, by its name, and `MIXED`.

    Attributes:
        port: where all of them are served.
        authority: signed the certificate under which they are served once more, for who insists on TLS.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._tls_port = free_port()
        self.authority = trustme.CA()
        algorithms = {**{algorithm: algorithm for algorithm in sorted(ALGORITHMS)}, MIXED: "ES256"}
        self.services = {
            name: Service(
                issuer=f"http://127.0.0.1:{self.port}/{name.lower()}",
                trust=TrustConfig.parse("version = 1"),
                key_store=f"file://{folder}/{name}",
                algorithm=algorithm,
                schedule=_SLOW if name == MIXED else SCHEDULE,
                allow_loopback_http=True,
                allow_unsealed_key_store=True,
            )
            for name, algorithm in algorithms.items()
        }

    @contextmanager
    def running(self) -> Iterator[Issuers]:
        """Serve their documents for the length of the block, and rotate."""
        with ExitStack() as stack:
            routes = [route for service in self.services.values() for route in service.root_routes]
            for service in self.services.values():
                stack.enter_context(service)
            for algorithm in ("Ed25519", "PS256"):
                # what `s2s-mesh keys rotate --algorithm` does
                key = SigningKey.generate(algorithm)
                _manager(self.services[MIXED]).change(lambda ring, now: ring.replace_successor(now, key))  # noqa: B023
            app = Starlette(routes=routes)
            certificate = self._folder / "certificate.pem"
            self.authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
            stack.enter_context(http_server(app, self.port))
            stack.enter_context(http_server(app, self._tls_port, ssl_certfile=certificate))
            yield self

    def over_tls(self, name: str) -> str:
        """Where the documents of one are served with TLS."""
        return f"https://localhost:{self._tls_port}/{name.lower()}"

    def token(self, name: str) -> str:
        """What a client of this service sends to wallets."""
        return self.services[name].token(WALLETS)

    def forged(self, name: str, *, audience: str = WALLETS, age: int = 0) -> str:
        """A token that the service itself would not mint so, signed with the key that signs now."""
        service, now = self.services[name], time.time()
        signer = service.running().load_ring().signing_key(now)
        assert signer is not None
        members = claims.build(issuer=service.issuer, audience=audience, scopes=None, now=now - age, life=20)
        return sign(header(signer), members, signer).decode()

    def rotate(self) -> None:
        """`s2s-mesh keys rotate` for those of one algorithm: the next key takes over as soon as it is ripe.

        Returns once it signs.
        """
        kids = {name: self._signing(name) for name in self.services if name != MIXED}
        with ThreadPoolExecutor(len(kids)) as pool:
            list(pool.map(_rotate, [self.services[name] for name in kids]))
        wait_until(lambda: all(self._signing(name) != kid for name, kid in kids.items()), what="new keys")

    def _signing(self, name: str) -> str:
        return decode(self.token(name).encode()).header.kid


def _manager(service: Service) -> KeyManager:
    manager = service.running().manager
    assert manager is not None
    return manager


def _rotate(service: Service) -> None:
    manager = _manager(service)
    ring = manager.load()
    # the next key but one is made by the housekeeper, once the next one signs
    wait_until(lambda: (manager.ring or ring).ripe_at(service.clock()) is not None, what="a next key")
    manager.change(lambda ring, now: ring.hand_over(now, max(now, ring.ripe_at(now) or now)))


@contextmanager
def issuers(folder: Path) -> Iterator[Issuers]:
    """All of them, running."""
    with Issuers(folder).running() as running:
        yield running
