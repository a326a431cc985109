"""The examples of RFC 7515, 7517, 7520, 7638 and 8037, as far as our algorithms go.

They are older than our header rules (a `kid` and a `typ` always), so keys and signatures are tried directly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from s2s_mesh import jws
from s2s_mesh.errors import JWKSInvalid, Reason, TokenRejected
from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import b64url_decode, b64url_encode
from s2s_mesh.keys import SigningKey, UnusableKey, VerificationKey, thumbprint

Members = Mapping[str, Any]

# -- the keys, as printed -----------------------------------------------------------------------------------

RFC_7515_A2_PUBLIC = {
    "kty": "RSA",
    "n": (
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-"
        "yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-"
        "bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-"
        "UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-"
        "DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
    ),
    "e": "AQAB",
}
RFC_7515_A2_PRIVATE = {
    "d": (
        "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-"
        "7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V"
        "51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZF"
        "D9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"
    ),
    "p": (
        "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8"
        "cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"
    ),
    "q": (
        "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-"
        "7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-"
        "njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"
    ),
    "dp": (
        "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-"
        "FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0"
    ),
    "dq": (
        "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-"
        "NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU"
    ),
    "qi": (
        "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93"
        "IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"
    ),
}
RFC_7515_A3_PUBLIC = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC_7515_A3_PRIVATE = {
    "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
}
RFC_7515_A4_PUBLIC = {
    "kty": "EC",
    "crv": "P-521",
    "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
    "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
}
RFC_7520_3_3_PUBLIC = {
    "kty": "RSA",
    "n": (
        "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-"
        "XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-"
        "QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsd"
        "e3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-"
        "tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"
    ),
    "e": "AQAB",
}
RFC_7520_3_4_PRIVATE = {
    "d": (
        "bWUC9B-EFRIo8kpGfh0ZuyGPvMNKvYWNtB_ikiH9k20eT-O1q_I78eiZkpXxXQ0UTEs2LsNRS-8uJbvQ-"
        "A1irkwMSMkK1J3XTGgdrhCku9gRldY7sNA_AKZGh-Q661_42rINLRCe8W-nZ34ui_qOfkLnK9QWDDqpaIsA-bMwWWSDFu2MUBYwk"
        "HTMEzLYGqOe04noqeq1hExBTHBOBdkMXiuFhUq1BU6l-DqEiWxqg82sXt2h-"
        "LMnT3046AOYJoRioz75tSUQfGCshWTBnP5uDjd18kKhyv07lhfSJdrPdM5Plyl21hsFf4L_mHCuoFau7gdsPfHPxxjVOcOpBrQzw"
        "Q"
    ),
    "p": (
        "3Slxg_DwTXJcb6095RoXygQCAZ5RnAvZlno1yhHtnUex_fp7AZ_9nRaO7HX_-SFfGQeutao2TDjDAWU4Vupk8rw9JR0AzZ0N2fvu"
        "IAmr_WCsmGpeNqQnev1T7IyEsnh8UMt-n5CafhkikzhEsrmndH6LxOrvRJlsPp6Zv8bUq0k"
    ),
    "q": (
        "uKE2dh-cTf6ERF4k4e_jy78GfPYUIaUyoSSJuBzp3Cubk3OCqs6grT8bR_cu0Dm1MZwWmtdqDyI95HrUeq3MP15vMMON8lHTeZu2"
        "lmKvwqW7anV5UzhM1iZ7z4yMkuUwFWoBvyY898EXvRD-hdqRxHlSqAZ192zB3pVFJ0s7pFc"
    ),
    "dp": (
        "B8PVvXkvJrj2L-GYQ7v3y9r6Kw5g9SahXBwsWUzp19TVlgI-YV85q1NIb1rxQtD-"
        "IsXXR3-TanevuRPRt5OBOdiMGQp8pbt26gljYfKU_E9xn-RULHz0-ed9E9gXLKD4VGngpz-"
        "PfQ_q29pk5xWHoJp009Qf1HvChixRX59ehik"
    ),
    "dq": (
        "CLDmDGduhylc9o7r84rEUVn7pzQ6PF83Y-iBZx5NT-"
        "TpnOZKF1pErAMVeKzFEl41DlHHqqBLSM0W1sOFbwTxYWZDm6sI6og5iTbwQGIC3gnJKbi_7k_vJgGHwHxgPaX2PnvP-"
        "zyEkDERuf-ry4c_Z11Cq9AqC2yeL6kdKT1cYF8"
    ),
    "qi": (
        "3PiqvXQN0zwMeE-"
        "sBvZgi289XP9XCQF3VWqPzMKnIgQp7_Tugo6-NZBKCQsMf3HaEGBjTVJs_jcK8-TRXvaKe-7ZMaQj8VfBdYkssbu0NKDDhjJ-"
        "GtiseaDVWt7dcH0cfwxgFUHpQh7FoCrjFJ6h6ZEpMF6xmujs4qMpPz8aaI4"
    ),
}
RFC_7517_A1_EC = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    "use": "enc",
    "kid": "1",
}
RFC_7638_3_1 = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
        "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-"
        "65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-"
        "bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    ),
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
RFC_8037_A2 = {
    "kty": "OKP",
    "crv": "Ed25519",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
RFC_8037_A1_PRIVATE = {
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
}

# -- what they sign -----------------------------------------------------------------------------------------

JOE = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
FRODO = (
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9h"
    "ZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3"
    "ZXB0IG9mZiB0by4"
)


class Example(NamedTuple):
    """A signature that an RFC prints.

    Attributes:
        alg: our name of the algorithm.
        public, private: the key's members.
        token: the compact serialisation, as printed.
        repeatable: whether signing again gives the same octets.
    """

    alg: str
    public: Members
    private: Members
    token: str
    repeatable: bool = True

    @property
    def key(self) -> VerificationKey:
        """The public key, checked as one of a set."""
        return VerificationKey.parse({**self.public, "kid": "k1", "alg": self.alg, "use": "sig"})

    @property
    def signing_input(self) -> bytes:
        """What is signed."""
        return self.token.rpartition(".")[0].encode()

    @property
    def signature(self) -> bytes:
        """The raw signature."""
        return b64url_decode(self.token.rpartition(".")[2].encode())


EXAMPLES = {
    "RFC 7515 A.2, RS256": Example(
        "RS256",
        RFC_7515_A2_PUBLIC,
        RFC_7515_A2_PRIVATE,
        f"eyJhbGciOiJSUzI1NiJ9.{JOE}."
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-"
        "0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--"
        "f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHW"
        "EsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypG"
        "lUPQGe77Rw",
    ),
    "RFC 7515 A.3, ES256": Example(
        "ES256",
        RFC_7515_A3_PUBLIC,
        RFC_7515_A3_PRIVATE,
        f"eyJhbGciOiJFUzI1NiJ9.{JOE}."
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        repeatable=False,
    ),
    "RFC 7520 4.1, RS256": Example(
        "RS256",
        RFC_7520_3_3_PUBLIC,
        RFC_7520_3_4_PRIVATE,
        f"eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{FRODO}."
        "MRjdkly7_-"
        "oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-"
        "BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSa"
        "dnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-"
        "ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
    ),
    "RFC 8037 A.4, Ed25519": Example(
        "Ed25519",
        RFC_8037_A2,
        RFC_8037_A1_PRIVATE,
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    ),
}
EVERY = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


@EVERY
def test_the_printed_signature_verifies(example: Example) -> None:
    """Each printed signature is its key's over the printed input, whose parts are canonical base64url."""
    assert example.key.verify(example.signing_input, example.signature)
    for part in example.token.split("."):
        assert b64url_encode(b64url_decode(part.encode())) == part.encode()


@EVERY
def test_nothing_else_verifies(example: Example) -> None:
    """With one changed byte anywhere, another length or another key it does not."""
    verify, signed, signature = example.key.verify, example.signing_input, example.signature
    for place in range(len(signed)):
        changed = signed[:place] + bytes([signed[place] ^ 1]) + signed[place + 1 :]
        assert not verify(changed, signature)
    for place in range(0, len(signature), 3):
        assert not verify(signed, signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :])
    for other in (b"", signature[:-1], signature + b"\0", signature[::-1], bytes(len(signature))):
        assert not verify(signed, other)
    for name, stranger in EXAMPLES.items():
        if stranger is not example:
            assert not stranger.key.verify(signed, signature), name


@EVERY
def test_the_printed_private_key_signs_what_is_printed(example: Example) -> None:
    """Where signing is deterministic it gives the printed octets; ECDSA gives others, which verify."""
    signature = SigningKey(example.key, dict(example.private)).sign(example.signing_input)
    assert example.key.verify(example.signing_input, signature)
    assert (signature == example.signature) is example.repeatable


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param(RFC_7638_3_1, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", id="RFC 7638 3.1"),
        pytest.param(RFC_8037_A2, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", id="RFC 8037 A.3"),
    ],
)
def test_printed_thumbprints(members: Members, expected: str) -> None:
    """A thumbprint is the printed one, whatever optional members stand beside the key, in whatever order."""
    assert thumbprint(members) == expected
    assert thumbprint({**members, "use": "sig", "key_ops": ["verify"], "x5t": "AAAA"}) == expected
    assert thumbprint(dict(reversed(list(members.items())))) == expected
    changed = {**members, "x" if "x" in members else "n": RFC_7517_A1_EC["x"]}
    assert thumbprint(changed) != expected


# -- as tokens and sets of ours -----------------------------------------------------------------------------

HS256 = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
ES512 = (
    "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA."
    "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCA"
    "PZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param(EXAMPLES["RFC 7515 A.2, RS256"].token, Reason.BAD_KID, id="RFC 7515 A.2"),
        pytest.param(EXAMPLES["RFC 7515 A.3, ES256"].token, Reason.BAD_KID, id="RFC 7515 A.3"),
        pytest.param(EXAMPLES["RFC 7520 4.1, RS256"].token, Reason.BAD_KID, id="RFC 7520 4.1, an @ in kid"),
        pytest.param(EXAMPLES["RFC 8037 A.4, Ed25519"].token, Reason.BAD_KID, id="RFC 8037 A.4"),
        pytest.param(HS256, Reason.BAD_KID, id="RFC 7515 A.1, HS256"),
        pytest.param(ES512, Reason.BAD_KID, id="RFC 7515 A.4, ES512"),
        pytest.param(f"eyJhbGciOiJub25lIn0.{JOE}.", Reason.NOT_A_COMPACT_JWS, id="RFC 7515 A.5, none"),
    ],
)
def test_no_example_is_a_token_of_ours(token: str, reason: Reason) -> None:
    """Well-formed or not, an example lacks what our headers must have, or has what they must not."""
    with pytest.raises(TokenRejected) as refused:
        jws.decode(token.encode())
    assert refused.value.reason is reason


def test_the_printed_payloads_are_read_as_printed() -> None:
    """The lower levels read what is printed: RFC 7515's payload is strict JSON with line breaks in it."""
    payload = b64url_decode(JOE.encode())
    assert json.loads(payload) == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    assert b64url_decode(FRODO.encode()).decode().startswith("It\u2019s a dangerous business, Frodo")


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(
            {**RFC_7520_3_3_PUBLIC, "kid": "bilbo.baggins@hobbiton.example", "alg": "RS256"},
            id="RFC 7520 3.3",
        ),
        pytest.param({**RFC_7520_3_3_PUBLIC, "kid": "k1", "alg": "PS384"}, id="RFC 7520 4.2, PS384"),
        pytest.param({**RFC_7515_A4_PUBLIC, "kid": "k1", "alg": "ES512"}, id="RFC 7515 A.4, ES512"),
        pytest.param({**RFC_8037_A2, "kid": "k1", "alg": "EdDSA"}, id="RFC 8037, EdDSA by its older name"),
        pytest.param({**RFC_7517_A1_EC, "alg": "ES256"}, id="RFC 7517 A.1, use enc"),
        pytest.param(RFC_7517_A1_EC, id="RFC 7517 A.1, no alg"),
    ],
)
def test_examples_that_are_no_keys_of_ours(members: Members) -> None:
    """Keys for other algorithms or uses, without `alg`, or with a kid of other characters, are ignored."""
    with pytest.raises(UnusableKey):
        VerificationKey.parse(members)


def test_the_key_sets_of_rfc_7517() -> None:
    """Of the public set (A.1) the RSA key is used; private (A.2) and symmetric (A.3) keys refuse a set."""
    public = JWKSet.parse(json.dumps({"keys": [RFC_7517_A1_EC, RFC_7638_3_1]}).encode())
    assert set(public.keys) == {"2011-04-29"}
    assert len(public.ignored) == 1
    private = {**RFC_7517_A1_EC, "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}
    symmetric = {"kty": "oct", "alg": "A128KW", "k": "GawgguFyGrWKav7AX4VKUg"}
    for leaked in (private, symmetric):
        with pytest.raises(JWKSInvalid, match="leaked"):
            JWKSet.parse(json.dumps({"keys": [leaked, RFC_7638_3_1]}).encode())
