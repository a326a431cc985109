"""Proof of possession beside plain tokens: a whole request verified, and what one request carries made."""

from __future__ import annotations

import json
from collections.abc import Iterator

from s2s_mesh import Service, ServiceId, TrustConfig
from s2s_mesh.effects import Answer
from s2s_mesh.inbound import Admitted, RequestFacts
from s2s_mesh.minting import ProvenRequest
from s2s_mesh.refusal import Refusal

from .contestants import OURS, Bench, Contestant
from .material import WALLETS, Material, caller, jwks_document, trust_text
from .rounds import Operation

_ROUTE = f"""
[[route]]
audience = "{WALLETS}"
path = "/"
methods = ["GET"]
proof = "wpt"
"""


def proven_requests(made: Material, count: int) -> Iterator[ProvenRequest]:
    """What as many requests for `GET /` at wallets carry, each with a proof of its own."""
    with caller(made) as service:
        runtime = service.running()
        for _ in range(count):
            yield runtime.prove(ServiceId(WALLETS), None, "GET", b"/")


def proof_receiver(jwks_file: str) -> Service:
    """The service wallets, where `GET /` wants proof; it remembers in this process which proofs were used."""
    trust = TrustConfig.parse(trust_text(f"jwks_file = {json.dumps(jwks_file)}") + _ROUTE)
    return Service(issuer=WALLETS, trust=trust, key_store="memory://")


def _caller(bench: Bench) -> Service:
    service = caller(bench.made)
    service.__enter__()
    bench.cleanup.append(service.__exit__)
    return service


def _verify(bench: Bench) -> Operation:
    """Access token and WPT are fresh, the WIT is known; the store's answer, the first use, takes no time."""
    file = bench.folder / f"proved.{bench.made.kind}.jwks.json"
    file.write_bytes(jwks_document(bench.made))
    service = proof_receiver(str(file))
    service.__enter__()
    bench.cleanup.append(service.__exit__)
    service.verify(bench.made.token())
    inbound, now = service.running().inbound, service.clock()
    proven = _caller(bench).running().prove(ServiceId(WALLETS), None, "GET", b"/")
    facts = RequestFacts(
        headers=[
            (b"authorization", b"Bearer " + proven.access_token.encode()),
            (b"workload-identity-token", proven.wit.encode()),
            (b"workload-proof-token", proven.wpt.encode()),
        ],
    )

    def verify() -> object:
        flow = inbound.admit(facts, now)
        if isinstance(flow, (Admitted, Refusal)):
            raise RuntimeError("a proof is verified anew each time")
        try:
            next(flow)
            flow.send(Answer(now, result=True))
        except StopIteration as done:
            if not isinstance(done.value, Admitted):
                raise RuntimeError(f"refused: {done.value.detail}") from None
            return done.value
        raise RuntimeError("it asked for more")

    return verify


def _prove(bench: Bench) -> Operation:
    runtime, audience = _caller(bench).running(), ServiceId(WALLETS)
    return lambda: runtime.prove(audience, None, "GET", b"/")


OURS_VERIFY = f"{OURS}, a request with proof"
OURS_PROVE = f"{OURS}, proof of one request"
VERIFY = (Contestant(OURS_VERIFY, "s2s-mesh", _verify),)
PROVE = (Contestant(OURS_PROVE, "s2s-mesh", _prove),)
