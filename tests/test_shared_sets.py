"""Claims in the shared document: who is fetching, given up by whoever made them and by nobody else."""

from __future__ import annotations

from s2s_mesh.shared_sets import SharedSets

from .tokens import EDGE, LEDGER, NOW

PLACE = "https://edge.example.com/.well-known/jwks.json"


def test_a_claim_is_given_up_by_who_made_it() -> None:
    """Another process's claim stays, and there is nothing to give up twice; a fetched set ends anybody's."""
    claimed = SharedSets().with_claim(EDGE, PLACE, "mine", NOW + 6.0)
    assert claimed.without_claim(EDGE, "somebody else's") is claimed
    assert claimed.without_claim(LEDGER, "mine") is claimed
    assert claimed.without_claim(EDGE, "mine") == SharedSets()
    assert claimed.without_claim(EDGE, None) == SharedSets()
    assert SharedSets().without_claim(EDGE, "mine") == SharedSets()
