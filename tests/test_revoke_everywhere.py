"""A key that is revoked on the command line is gone from every replica: at once, or with the next poll."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from s2s_mesh import RotationSchedule
from s2s_mesh.jws import decode
from s2s_mesh.store import generate_key_encryption_key

from .programs import environment
from .servers import RedisServer, wait_until
from .tokens import EDGE, LEDGER, WALLETS, Clock
from .web_replica import WebReplica

REPLICAS = 3
# the user may read and write the ring, and may neither publish nor subscribe
NO_CHANNEL = "user default on nopass resetchannels allcommands ~*\n"


def signing(replica: WebReplica) -> set[str]:
    """The key ids of the tokens that it hands out; tokens are kept, so these are old ones if they may."""
    tokens = [replica.service.token(audience) for audience in (WALLETS, LEDGER)]
    return {decode(token.encode()).header.kid for token in tokens}


@contextmanager
def replicas(url: str, kek: str, clock: Clock) -> Iterator[list[WebReplica]]:
    """Replicas that hold one ring and sign with the same key."""
    with ExitStack() as stack:
        made = [WebReplica(EDGE, url, kek, clock) for _ in range(REPLICAS)]
        for replica in made:
            stack.enter_context(replica.service)
        yield made


def revoke(kid: str, url: str, kek: str) -> None:
    """What an operator does, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "s2s_mesh", "keys", "revoke", kid, "--yes"],
        env=environment(
            S2S_MESH_ISSUER=EDGE,
            S2S_MESH_KEY_STORE=url,
            S2S_MESH_KEY_ENCRYPTION_KEY=kek,
            S2S_MESH_TRUST_FILE="",
        ),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.startswith(f"revoked {kid}; ")) == (0, True), done.stderr


def everybody_has(kid: str, fleet: list[WebReplica]) -> bool:
    return all(kid in replica.published() and signing(replica) == {kid} for replica in fleet)


def nobody_has(kid: str, fleet: list[WebReplica]) -> bool:
    return not any(kid in replica.published() | signing(replica) for replica in fleet)


def test_a_revoked_key_is_gone_from_every_replica_without_a_poll() -> None:
    """The message reaches every replica: no JWKS holds the key, and no token of it is handed out."""
    kek, clock = generate_key_encryption_key(), Clock(time.time())
    document = f"s2s-mesh:{{{EDGE}}}:ring"
    with RedisServer() as server, replicas(server.url, kek, clock) as fleet:
        (kid,) = signing(fleet[0])
        assert everybody_has(kid, fleet)
        # each listens before the key is revoked; whoever comes later reads the new ring anyway
        channel = ("PUBSUB", "NUMSUB", f"s2s-mesh:{{{EDGE}}}:changes")
        wait_until(lambda: server.command(*channel).endswith(b":%d\r\n" % REPLICAS), what="subscriptions")
        stored = server.command("GET", document)
        with ThreadPoolExecutor(1) as background:
            revoking = background.submit(revoke, kid, server.url, kek)
            wait_until(lambda: server.command("GET", document) != stored, what="the revocation")
            wait_until(lambda: nobody_has(kid, fleet), what="all replicas without the key")
            revoking.result()


def test_without_messages_a_revoked_key_is_gone_within_one_poll_interval() -> None:
    """Where the channel is forbidden, replicas still have the key until they poll, and then no longer."""
    kek, clock = generate_key_encryption_key(), Clock(time.time())
    with RedisServer(config=NO_CHANNEL) as server, replicas(server.url, kek, clock) as fleet:
        (kid,) = signing(fleet[0])
        revoke(kid, server.url, kek)
        assert everybody_has(kid, fleet)
        clock.now += RotationSchedule.DEFAULT.poll_interval
        wait_until(lambda: nobody_has(kid, fleet), what="all replicas without the key")
