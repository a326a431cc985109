"""Proofs as documents: the draft's own example holds, and what we make is what we accept."""

from __future__ import annotations

import pytest

from s2s_mesh import Reason, TokenRejected
from s2s_mesh.jws import Header, b64url_decode, decode, token_hash
from s2s_mesh.keys import SigningKey
from s2s_mesh.target_uri import TargetURI
from s2s_mesh.wit import ProofKey
from s2s_mesh.wpt import LIFE, Binding, sign, verify

from .tokens import NOW, key

# draft-ietf-wimse-wpt-02 section 2, "Example HTTP Request with WIT and WPT"
ACCESS_TOKEN = b"16_mAd0GiwaZokU26_0902100"
WIT = (
    b"eyJhbGciOiJFUzI1NiIsImtpZCI6Ikp1bmUgNSIsInR5cCI6IndpdCtqd3QifQ.eyJjbmYiOnsiandrIjp7ImFsZyI6IkVkRFNBIi"
    b"wiY3J2IjoiRWQyNTUxOSIsImt0eSI6Ik9LUCIsIngiOiIxQ1hYdmZsTl9MVlZzSXNZWHNVdkIwM0ptbEdXZUNIcVFWdW91Q0Y5MmJn"
    b"In19LCJleHAiOjE3NDU1MTI1MTAsImlhdCI6MTc0NTUwODkxMCwianRpIjoieC1fMUNUTDJjY2EzQ1NFNGN3Yl9sIiwic3ViIjoid2"
    b"ltc2U6Ly9leGFtcGxlLmNvbS9zcGVjaWZpYy13b3JrbG9hZCJ9.6KraSQUxWdl9dxFQ3Fj6dPY0Vi88OkwFwZpAIOhLeq6AbXAnLLQ"
    b"gOp8U9UDGcBuYF3KiNv6oKQD1ZWAzrMZOJw"
)
WPT = (
    b"eyJhbGciOiJFZERTQSIsInR5cCI6IndwdCtqd3QifQ.eyJhdGgiOiJDTDR3amZwUm1OZi1iZFlJYllMblY5ZDVyTUFSR3dLWUUxMHd"
    b"Vd3pDMGpJIiwiYXVkIjoiaHR0cHM6Ly93b3JrbG9hZC5leGFtcGxlLmNvbS9wYXRoIiwiZXhwIjoxNzQ1NTEwMDE2LCJqdGkiOiJfX"
    b"2J3YzRFU0MzYWNjMkxUQzEtX3giLCJ3dGgiOiJBYVlVZkMzNEQxZGkyRnhRTHBpSUpKN1NnOFZaNm84T0Nkd1NmOUlUb0xnIn0.PI7"
    b"d9AcYhLoEgPgbJvcM132lkBKnM1NXU-5hZUzVTIyj2dRJaTLFs6e5NYv5gg6AqcV7NvkYCwfgMgWasWQzCA"
)
ISSUED_BY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "kXqnA2Op7hgd4zRMbw0iFcc_hDxUxhojxOFVGjE2gks",
    "y": "n__VndPMR021-59UAs0b9qDTFT-EZtT6xSNs_xFskLo",
    "alg": "ES256",
}
EXAMPLE = Binding(
    method="POST",
    uri=TargetURI.parse("https://workload.example.com/path"),
    wit=WIT,
    access_token=ACCESS_TOKEN,
)
AT = 1745510000


def example_wit_claims() -> dict[str, object]:
    """The example's kid holds a space, which no kid of ours does, so it is taken apart by hand."""
    import json

    signing_input, _, signature = WIT.rpartition(b".")
    assert ProofKey.parse(ISSUED_BY).key.verify(signing_input, b64url_decode(signature))
    claims: dict[str, object] = json.loads(b64url_decode(signing_input.partition(b".")[2]))
    return claims


def test_the_drafts_example_holds() -> None:
    """Its hashes, and the whole proof under the key in its WIT, with EdDSA read as Ed25519."""
    assert token_hash(WIT) == "AaYUfC34D1di2FxQLpiIJJ7Sg8VZ6o8OCdwSf9IToLg"
    assert token_hash(ACCESS_TOKEN) == "CL4wjfpRmNf-bdYIbYLnV9d5rMARGwKYE10wUwzC0jI"
    jwk = example_wit_claims()["cnf"]["jwk"]  # type: ignore[index]
    proved = verify(WPT, ProofKey.parse(jwk, legacy_eddsa=True), EXAMPLE, now=AT, leeway=0, additions=False)
    assert (proved.token_id, proved.expires_at) == ("__bwc4ESC3acc2LTC1-_x", 1745510016)


def test_without_being_asked_nobody_reads_the_older_name() -> None:
    """`EdDSA` may mean Ed448 as well (RFC 9864)."""
    with pytest.raises(TokenRejected, match="alg is missing or not one of ours"):
        ProofKey.parse(example_wit_claims()["cnf"]["jwk"])  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"wit": WIT[:-1] + b"g"}, Reason.BAD_WPT),
        ({"access_token": b"16_mAd0GiwaZokU26_0902101"}, Reason.BAD_WPT),
        ({"uri": TargetURI.parse("https://workload.example.com/other")}, Reason.WRONG_AUDIENCE),
        ({"txn_token": b"a.b.c"}, Reason.BAD_WPT),
    ],
)
def test_the_drafts_example_holds_for_nothing_else(change: dict[str, object], reason: Reason) -> None:
    """Each of what it is bound to."""
    import msgspec

    jwk = example_wit_claims()["cnf"]["jwk"]  # type: ignore[index]
    proof_key = ProofKey.parse(jwk, legacy_eddsa=True)
    with pytest.raises(TokenRejected) as refused:
        verify(WPT, proof_key, msgspec.structs.replace(EXAMPLE, **change), now=AT, leeway=0, additions=False)
    assert refused.value.reason is reason
    with pytest.raises(TokenRejected) as late:
        verify(WPT, proof_key, EXAMPLE, now=AT + 16, leeway=0, additions=False)
    assert late.value.reason is Reason.BAD_TIME_CLAIM  # without iat, now stands for it
    with pytest.raises(TokenRejected) as bare:
        verify(WPT, proof_key, EXAMPLE, now=AT, leeway=0)
    assert bare.value.reason is Reason.BAD_TIME_CLAIM


@pytest.mark.parametrize("alg", ["ES256", "ES384", "Ed25519", "RS256", "PS256"])
def test_what_we_make_is_what_we_accept(alg: str) -> None:
    """With every algorithm; `alg` and `typ` are the whole header, and it lives for a minute."""
    owner = key(alg, "proof")
    made = sign(owner, EXAMPLE, NOW).encode()
    decoded = decode(made, with_kid=False)
    assert decoded.header == Header(alg, "", "wpt+jwt")
    assert decoded.claims["exp"] - decoded.claims["iat"] == LIFE == 60
    assert len(b64url_decode(decoded.claims["jti"].encode())) == 16
    verify(made, ProofKey.parse(owner.public.public_jwk), EXAMPLE, now=NOW, leeway=0)


def test_each_proof_has_an_id_of_its_own() -> None:
    """So that the next request is no replay of this one."""
    owner = SigningKey.generate("ES256")
    ids = {decode(sign(owner, EXAMPLE, NOW).encode(), with_kid=False).claims["jti"] for _ in range(50)}
    assert len(ids) == 50
