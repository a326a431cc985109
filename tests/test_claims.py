"""The claims of tokens, through the door: standards (e) rows 31 to 43; and how they are built."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from s2s_mesh import claims as claims_
from s2s_mesh.errors import ConfigError, Reason, TokenRejected
from s2s_mesh.identity import ServiceId
from s2s_mesh.keys import SigningKey
from s2s_mesh.trust import IssuerTrust

from .hostile import rows
from .receiver import Receiver
from .tokens import ABSENT, EDGE, LEDGER, NOW, WALLETS, frozen, good, key, sign
from .tokens import claims as good_claims
from .tokens import header as good_header

R = Reason
LEEWAY = 30


def times(iat: Any = NOW, exp: Any = NOW + 120, **more: Any) -> dict[str, Any]:
    return {"iat": iat, "exp": exp, **more}


BAD_TIMES: list[Any] = [ABSENT, None, "123", True, -1, 0, 1.5, 2**53, float(NOW + 120), [NOW], {"a": 1}]
BAD_JTIS: list[Any] = [ABSENT, None, "", 7, True, "x" * 257, ["a"], {}]

ROWS: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("a good token", {}, None),
    ("aud as an array of one", {"aud": [WALLETS]}, None),
    ("no scope", {"scope": ABSENT}, None),
    ("a claim nobody knows", {"https://example.com/x": {"y": [1, 2.5, None]}}, None),
    ("nbf in the past", {"nbf": NOW - 100}, None),
    # times (rows 31 to 33)
    *[(f"exp {str(v)[:20]}", {"exp": v}, R.BAD_TIME_CLAIM) for v in BAD_TIMES],
    *[(f"iat {str(v)[:20]}", {"iat": v}, R.BAD_TIME_CLAIM) for v in BAD_TIMES],
    *[(f"nbf {str(v)[:20]}", {"nbf": v}, R.BAD_TIME_CLAIM) for v in BAD_TIMES if v is not ABSENT],
    ("nbf as text", {"nbf": "1"}, R.BAD_TIME_CLAIM),
    ("iat is the largest number", times(2**53 - 2, 2**53 - 1), R.NOT_YET_VALID),
    ("only exp in milliseconds", times(NOW, NOW * 1000 + 120), R.LIFE_TOO_LONG),
    ("only iat in milliseconds", times(NOW * 1000, NOW + 120), R.BAD_TIME_CLAIM),
    ("only nbf in milliseconds", {"nbf": NOW * 1000}, R.NOT_YET_VALID),
    ("iat and exp exchanged", times(NOW + 120, NOW), R.BAD_TIME_CLAIM),
    ("an hour from the future, a clock that jumped back", times(NOW + 3600, NOW + 3720), R.NOT_YET_VALID),
    ("nbf behind exp", {"nbf": NOW + 4000}, R.NOT_YET_VALID),
    ("exp in the year 9999", {"exp": 253402300799}, R.LIFE_TOO_LONG),
    ("exp equal to iat", times(NOW, NOW), R.BAD_TIME_CLAIM),
    ("exp before iat", times(NOW, NOW - 1), R.BAD_TIME_CLAIM),
    ("the longest life", times(NOW, NOW + 900), None),
    ("a second longer", times(NOW, NOW + 901), R.LIFE_TOO_LONG),
    ("milliseconds", times(NOW * 1000, NOW * 1000 + 120), R.NOT_YET_VALID),
    ("expired, within leeway", times(NOW - 200, NOW - LEEWAY + 1), None),
    ("expired, at the leeway", times(NOW - 200, NOW - LEEWAY), R.EXPIRED),
    ("expired long ago", times(NOW - 4000, NOW - 3900), R.EXPIRED),
    ("from the future, within leeway", times(NOW + LEEWAY, NOW + 120), None),
    ("from the future", times(NOW + LEEWAY + 1, NOW + 120), R.NOT_YET_VALID),
    ("nbf in the future, within leeway", {"nbf": NOW + LEEWAY}, None),
    ("nbf in the future", {"nbf": NOW + LEEWAY + 1}, R.NOT_YET_VALID),
    # audience (rows 34 and 35)
    *[
        (f"aud {str(aud)[:40]}", {"aud": aud}, R.WRONG_AUDIENCE)
        for aud in (
            ABSENT,
            None,
            "",
            [],
            [""],
            [WALLETS, LEDGER],
            [WALLETS, WALLETS],
            [WALLETS, 1],
            [[WALLETS]],
            {"0": WALLETS},
            7,
            WALLETS[:-1],
            WALLETS + ".evil.example",
            WALLETS.replace("wallets", "Wallets"),
            WALLETS + "/",
            WALLETS + ":443",
            LEDGER,
            WALLETS + " ",
            WALLETS + "\n",
            WALLETS + "\0",
            WALLETS.replace("https", "http"),
            WALLETS.replace("https://", ""),
            WALLETS + "/wallets",
            WALLETS + "?",
            WALLETS + "," + LEDGER,
            WALLETS + " " + LEDGER,
            WALLETS.replace("a", "\u0430", 1),
            WALLETS.replace(".", "\uff0e"),
            WALLETS.replace(".", "%2e"),
            "http" + "s://x@wallets.example.com",
            [LEDGER],
            [None],
            [WALLETS.encode().hex()],
            True,
            "*",
        )
    ],
    # issuer (rows 36 and 37)
    *[
        (f"iss {str(iss)[:40]!r}", {"iss": iss, "sub": iss, "client_id": iss}, R.UNKNOWN_ISSUER)
        for iss in (
            EDGE + "/",
            EDGE.replace("edge", "EDGE"),
            EDGE + ":443",
            EDGE.replace("https", "http"),
            EDGE.replace("edge", "%65dge"),
            EDGE.replace("https://", "https://good@"),
            EDGE + "\\@evil.example",
            EDGE + "@evil.example",
            EDGE + ":x@evil.example",
            EDGE + "#",
            EDGE + "?",
            EDGE + "/.",
            EDGE + "/../edge",
            EDGE + "/%2e%2e",
            EDGE + "%2e",
            EDGE + "%00",
            EDGE + "\t",
            " " + EDGE,
            "\ufeff" + EDGE,
            EDGE + "\u200b",
            EDGE.replace("edge.", "edge%2e"),
            EDGE.replace("edge", "\uff45dge"),
            EDGE.replace("example", "ex\u0430mple"),
            EDGE.replace("com", "c\u043em"),
            EDGE.replace("edge", "xn--dge-7kd"),
            EDGE.replace(".", "\u3002"),
            EDGE.replace("https://", "https:///"),
            EDGE.replace("https://", "https:"),
            EDGE.replace("https://", "//"),
            EDGE.replace("https://", "HTTPS://"),
            EDGE.replace("https://", ""),
            "https://169.254.169.254",
            "http://127.0.0.1",
            "file:///etc/passwd",
            EDGE.replace("e", "\u0435", 1),
            EDGE.replace(".", "\uff0e"),
            EDGE + " ",
            EDGE + "\n",
            EDGE + "\0",
            EDGE + ".evil.example",
            EDGE[:-1],
            "https://intruder.example.com",
            WALLETS,
            "",
        )
    ],
    *[(f"iss {iss}", {"iss": iss}, R.UNKNOWN_ISSUER) for iss in ([EDGE], {"a": EDGE}, None, 1, True, ABSENT)],
    # subject (rows 38 and 39)
    ("sub of another service", {"sub": LEDGER}, R.BAD_SUBJECT),
    ("sub missing", {"sub": ABSENT}, R.BAD_SUBJECT),
    *[
        (f"{member} {str(value)[:40]!r}", {member: value}, R.BAD_SUBJECT)
        for member in ("sub", "client_id")
        for value in (None, "", 1, True, [EDGE], {"sub": EDGE}, EDGE + "/", EDGE.upper(), WALLETS)
    ],
    ("sub and client_id of another service", {"sub": LEDGER, "client_id": LEDGER}, R.BAD_SUBJECT),
    ("neither sub nor client_id", {"sub": ABSENT, "client_id": ABSENT}, R.BAD_SUBJECT),
    ("azp in place of client_id", {"client_id": ABSENT, "azp": EDGE}, R.BAD_SUBJECT),
    ("act beside a sub that is right", {"act": {"sub": EDGE}}, R.BAD_USER),
    ("act that is a string", {"act": EDGE}, R.BAD_USER),
    ("act null", {"act": None}, R.BAD_USER),
    (
        "act of depth 5",
        {"act": {"sub": EDGE, "act": {"sub": "a", "act": {"sub": "b", "act": {"sub": "c", "act": {}}}}}},
        R.BAD_USER,
    ),
    ("sub of a user, without act", {"sub": "248289761001"}, R.BAD_SUBJECT),
    ("client_id of another service", {"client_id": LEDGER}, R.BAD_SUBJECT),
    ("client_id missing", {"client_id": ABSENT}, R.BAD_SUBJECT),
    ("act without a grant", {"sub": "u", "act": {"sub": EDGE}}, R.BAD_USER),
    ("act that is an array", {"act": [EDGE]}, R.BAD_USER),
    (
        "sub_id",
        {"sub_id": {"format": "iss_sub", "iss": "https://login.example.com/", "sub": "u"}},
        R.BAD_USER,
    ),
    # scope (row 41)
    *[
        (f"scope {scope!r}", {"scope": scope}, R.BAD_SCOPE)
        for scope in (
            ["cards:read"],
            7,
            None,
            "",
            " ",
            "a  b",
            " a",
            "a ",
            "a\tb",
            "a\nb",
            'a"b',
            "a\\b",
            "karten:öffnen",
            "cards:read\0",
            "cards:read\u00a0cards:write",
            "cards:read\u2003cards:write",
            {"cards:read": True},
            True,
            " ".join(map(str, range(101))),
        )
    ],
    # binding (row 42)
    ("cnf.jkt as a plain bearer", {"cnf": {"jkt": "AAAA"}}, R.PROOF_MISSING),
    ("cnf with a method nobody knows", {"cnf": {"foo": 1}}, R.PROOF_MISSING),
    ("cnf null", {"cnf": None}, R.PROOF_MISSING),
    ("cnf of a certificate", {"cnf": {"x5t#S256": "AAAA"}}, R.PROOF_MISSING),
    ("cnf with a key", {"cnf": {"jwk": {"kty": "EC"}}}, R.PROOF_MISSING),
    ("cnf that is empty", {"cnf": {}}, R.PROOF_MISSING),
    ("cnf that is a string", {"cnf": ""}, R.PROOF_MISSING),
    # jti (row 43)
    *[(f"jti {str(jti)[:10]!r}", {"jti": jti}, R.BAD_JTI) for jti in BAD_JTIS],
    ("jti of 256 characters", {"jti": "x" * 256}, None),
]


@pytest.mark.parametrize(("changes", "reason"), rows(ROWS))
def test_only_claims_that_obey_every_rule_are_let_in(
    receiver: Receiver, changes: dict[str, Any], reason: Reason | None
) -> None:
    """Each row is accepted, or refused with 401 and, in the log only, its one reason."""
    verdict = receiver.call(good(**changes))
    if reason is None:
        assert (verdict.status, verdict.reason) == (200, None)
        return
    assert (verdict.status, verdict.reason) == (401, reason.value)
    assert reason.value not in json.dumps(verdict.body)


ALIAS = "https://cards.example.com"
AS_LEDGER = {"iss": LEDGER, "sub": LEDGER, "client_id": LEDGER}
PAIRS: list[tuple[str, SigningKey, dict[str, Any], Reason | None]] = [
    ("edge, our name", key(), {}, None),
    ("edge, our alias", key(), {"aud": ALIAS}, None),
    ("ledger, our name", key(name="second"), AS_LEDGER, None),
    ("ledger, our alias", key(name="second"), {**AS_LEDGER, "aud": ALIAS}, R.PAIR_NOT_GRANTED),
    ("ledger, our alias in a list", key(name="second"), {**AS_LEDGER, "aud": [ALIAS]}, R.PAIR_NOT_GRANTED),
    ("ledger, both names", key(name="second"), {**AS_LEDGER, "aud": [WALLETS, ALIAS]}, R.WRONG_AUDIENCE),
    ("ledger's claims, edge's key", key(), {**AS_LEDGER, "aud": ALIAS}, R.PAIR_NOT_GRANTED),
    ("edge's claims, ledger's key", key(name="second"), {"aud": ALIAS}, R.UNKNOWN_KID),
]


@pytest.fixture(scope="module")
def aliased(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """`wallets` with an alias, under which only edge may call."""
    grant = f'[[allow]]\nissuer = "{EDGE}"\naudience = "{ALIAS}"\n'
    with frozen():
        made = Receiver(
            tmp_path_factory.mktemp("aliased"),
            edge_keys=[key()],
            ledger_keys=[key(name="second")],
            trust=grant,
            audiences=[ALIAS],
        )
        yield made
        made.close()


@pytest.mark.parametrize(("signer", "changes", "reason"), rows(PAIRS))
def test_a_pair_that_is_not_granted_is_refused_although_issuer_and_audience_are_both_known(
    aliased: Receiver, signer: SigningKey, changes: dict[str, Any], reason: Reason | None
) -> None:
    """Ledger may not call under an alias that only edge may call (row 35)."""
    verdict = aliased.call(good(signer, **changes))
    assert (verdict.status, verdict.reason) == ((200, None) if reason is None else (401, reason.value))


@pytest.mark.parametrize(
    ("scope", "effective"),
    [
        (ABSENT, ["cards:read", "cards:write"]),
        ("cards:read", ["cards:read"]),
        ("cards:read cards:admin", ["cards:read"]),
        ("cards:admin", []),
        ("Cards:read", []),
    ],
)
def test_effective_scopes_are_what_is_asked_for_and_granted(
    receiver: Receiver, scope: Any, effective: list[str]
) -> None:
    """A token asks, trust.toml grants; without a scope claim it asks for all that is granted."""
    assert receiver.call(good(scope=scope)).body["scopes"] == effective


def test_a_pair_without_scopes_grants_none(receiver: Receiver) -> None:
    """Ledger's grant names no scopes, so it has none, whatever it asks for."""
    token = good(key(name="second"), iss=LEDGER, sub=LEDGER, client_id=LEDGER)
    assert receiver.call(token).body == {"caller": LEDGER, "scopes": []}


def test_a_new_token_has_exactly_the_members_of_the_profile() -> None:
    """RFC 9068 section 2.2: sub and client_id are the service, times are whole seconds, jti has 128 bits."""
    built = claims_.build(issuer=EDGE, audience=WALLETS, scopes=["b", "a"], now=NOW + 0.9, life=120)
    again = claims_.build(issuer=EDGE, audience=WALLETS, scopes=None, now=NOW, life=120)
    assert built == {
        "iss": EDGE,
        "sub": EDGE,
        "client_id": EDGE,
        "aud": WALLETS,
        "iat": NOW,
        "exp": NOW + 120,
        "jti": built["jti"],
        "scope": "a b",
    }
    assert "scope" not in again
    assert len(built["jti"]) == 22
    assert built["jti"] != again["jti"]


@pytest.mark.parametrize("scopes", ["cards:read", [], ["a b"], [""], ['a"'], [7], ["é"], ["x"] * 101])
def test_scopes_that_no_token_could_carry_are_refused_before_signing(scopes: Any) -> None:
    """A bare string, an empty list, or characters outside RFC 6749 section 3.3 are configuration errors."""
    with pytest.raises(ConfigError):
        claims_.check_scopes(scopes)


def test_claims_are_checked_against_the_rules_of_their_own_issuer() -> None:
    """`validate` refuses a set whose issuer is not the one its rules are for."""
    rules = IssuerTrust(issuer=ServiceId(LEDGER), jwks_uri=f"{LEDGER}/jwks.json")
    with pytest.raises(TokenRejected) as refused:
        claims_.validate(good_claims(), rules, {WALLETS}, NOW)
    assert refused.value.reason is R.UNKNOWN_ISSUER


NUMBERS: list[tuple[str, str, Reason | None]] = [
    ("whole seconds", str(NOW + 120), None),
    *[
        (text[:20], text, R.BAD_JSON)
        for text in (
            "NaN",
            "Infinity",
            "-Infinity",
            "1e400",
            "-0.0",
            "1" + "0" * 30,
            "1" * 5000,
            "0x6b49d200",
            "01",
        )
    ],
    *[
        (text, text, R.BAD_TIME_CLAIM)
        for text in ("1.8e9", "1800000120.0", "1800000120.5", "-0", "0.0", "1e-400", "9007199254740992")
    ],
]


@pytest.mark.parametrize(("text", "reason"), rows(NUMBERS))
def test_a_time_that_json_parsers_read_differently_is_refused(
    receiver: Receiver, text: str, reason: Reason | None
) -> None:
    """Row 31: what is no JSON refuses the token before its claims are read; other numbers are no seconds."""
    payload = json.dumps(good_claims(exp=ABSENT))[:-1].encode() + b', "exp": ' + text.encode() + b"}"
    verdict = receiver.call(sign(good_header(key()), payload, key()))
    assert (verdict.status, verdict.reason) == ((200, None) if reason is None else (401, reason.value))
