"""Where users come in: their own tokens verified at a real identity provider, and transactions begun."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2s_mesh import EndUser, Service
from s2s_mesh.errors import ConfigError, Forbidden, JWKSUnavailable, NoUser, Reason, TokenRejected
from s2s_mesh.jwks import JWKSet
from s2s_mesh.jws import decode, token_hash
from s2s_mesh.trust import TrustConfig

from .carrying import DOMAIN, TXN, TXN_FIELD, CarryingReceiver, lines
from .hostile import rows
from .identity_provider import ALICE, DISCOVERY, IdentityProvider, idp_key, user_token
from .jwks_servers import answer, jwks
from .tokens import ABSENT, EDGE, LEDGER, NOW, WALLETS, frozen, key

LOGIN = "https://login.example.com/"
PORTAL = "https://portal.example.com"


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as made:
        yield made


@pytest.fixture
def edge(provider: IdentityProvider) -> Iterator[Service]:
    """`edge`, which finds the provider's keys by discovery."""
    with frozen():
        service = Service(issuer=EDGE, trust=trust_in(provider.issuer), key_store="memory://")
        yield service
        service.__exit__()


def trust_in(issuer: str, more: str = "discovery = true") -> TrustConfig:
    return TrustConfig.parse(
        f'version = 1\n[defaults]\nallow_loopback_http = true\n[user_issuers."{issuer}"]\n'
        f'audiences = ["{EDGE}", "{PORTAL}"]\n{more}\n'
        f'[[allow]]\nissuer = "{EDGE}"\naudience = "{LEDGER}"\n'
    )


def alice(**changes: Any) -> EndUser:
    """A user whom an application has logged in itself."""
    return EndUser(**{"issuer": LOGIN, "subject": ALICE, "expires_at": NOW + 600, **changes})


# -- the user's own token ----------------------------------------------------------------------------------


def test_a_users_token_is_verified_at_its_provider(edge: Service, provider: IdentityProvider) -> None:
    """Discovery, keys, signature, claims; the user holds the token as evidence, and shows it to nobody."""
    token = user_token(provider.issuer)
    user = edge.verify_user(token)
    assert user == EndUser(
        issuer=provider.issuer,
        subject=ALICE,
        expires_at=NOW + 1800,
        auth_time=NOW - 60,
        acr="urn:example:loa:2",
        amr=("pwd", "otp"),
        mode="proven",
        user_token=token.decode(),
    )
    assert token.decode() not in repr(user)
    assert [head.path for head in provider.heads] == [DISCOVERY, "/keys"]
    assert edge.verify_user(token.decode()) == user
    assert asyncio.run(edge.verify_user_async(token)) == user
    assert len(provider.heads) == 2


def test_a_users_token_is_never_a_service_token(edge: Service, provider: IdentityProvider) -> None:
    """It names no caller: neither `verify` nor the memory of verified tokens knows it."""
    token = user_token(provider.issuer, aud=EDGE)
    edge.verify_user(token)
    assert edge.running().verifier.cached(token, NOW) is None
    with pytest.raises(TokenRejected) as refusal:
        edge.verify(token)
    assert refusal.value.reason in (Reason.UNKNOWN_ISSUER, Reason.BAD_TYPE)


def test_a_new_key_of_the_provider_is_found(edge: Service, provider: IdentityProvider) -> None:
    """A key id that is not known yet has the document and the keys read again."""
    edge.verify_user(user_token(provider.issuer))
    new = idp_key("next")
    provider.publish(idp_key(), new)
    assert edge.verify_user(user_token(provider.issuer, new)).subject == ALICE
    assert [head.path for head in provider.heads] == [DISCOVERY, "/keys"] * 2


def test_keys_without_alg(provider: IdentityProvider) -> None:
    """Some providers leave `alg` out: it is the one accepted algorithm that goes with the key."""
    members = json.loads(jwks(idp_key()))["keys"][0]
    del members["alg"]
    members["x5c"] = ["MIIC"]
    provider.said["/keys"] = answer(json.dumps({"keys": [members]}).encode(), kind="application/json")
    with frozen(), Service(issuer=EDGE, trust=trust_in(provider.issuer), key_store=None) as service:
        assert service.verify_user(user_token(provider.issuer)).subject == ALICE


TOKENS: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("a good one", {}, None),
    ("made for another service of the same provider", {"aud": PORTAL}, Reason.WRONG_AUDIENCE),
    ("bound to a key", {"cnf": {"jkt": "x"}}, Reason.PROOF_MISSING),
    ("expired", {"iat": NOW - 99, "exp": NOW - 31}, Reason.EXPIRED),
    ("of a service that poses as a user", {"sub": LEDGER}, Reason.BAD_USER),
    ("of another provider", {"iss": "https://evil.org/"}, Reason.UNKNOWN_ISSUER),
    ("signed by another", {"signer": key("RS256", "intruder")}, Reason.UNKNOWN_KID),
    ("forged", {"signer": key("RS256", "intruder"), "head": {"kid": idp_key().kid}}, Reason.BAD_SIGNATURE),
]


@pytest.mark.parametrize(("changes", "reason"), rows(TOKENS))
def test_tokens_at_the_edge(
    edge: Service, provider: IdentityProvider, changes: dict[str, Any], reason: Reason | None
) -> None:
    """`aud` must name this very service, whatever else the trust file accepts from the provider."""
    token = user_token(provider.issuer, **changes)
    if reason is None:
        assert edge.verify_user(token).subject == ALICE
        return
    with pytest.raises(TokenRejected) as refusal:
        edge.verify_user(token)
    assert refusal.value.reason is reason


def test_a_token_that_is_bound_to_a_key_of_the_user(edge: Service, provider: IdentityProvider) -> None:
    """It is good where the application has verified the proof of that key."""
    token = user_token(provider.issuer, cnf={"jkt": "key-1"})
    assert edge.verify_user(token, proved_key="key-1").subject == ALICE
    with pytest.raises(TokenRejected):
        edge.verify_user(token, proved_key="key-2")


def test_a_provider_that_knows_the_service_by_another_name(provider: IdentityProvider) -> None:
    """The application says under which, and the trust file accepts it; ids of others are not taken along."""
    name = "0e1d4a5c-2f6b-4f3e-9c55-5d6f0c1b7a11"
    trust = TrustConfig.parse(
        f'version = 1\n[defaults]\nallow_loopback_http = true\n[user_issuers."{provider.issuer}"]\n'
        f'audiences = ["{name}", "{PORTAL}", "{EDGE}"]\ndiscovery = true\n'
    )
    with frozen(), Service(issuer=EDGE, trust=trust, key_store=None) as service:
        token = user_token(provider.issuer, aud=name)
        assert service.verify_user(token, audience=name).subject == ALICE
        assert asyncio.run(service.verify_user_async(token, audience=name)).subject == ALICE
        for other, audience in ((token, None), (user_token(provider.issuer), name), (token, "nobody")):
            with pytest.raises(TokenRejected) as refusal:
                service.verify_user(other, audience=audience)
            assert refusal.value.reason is Reason.WRONG_AUDIENCE


@pytest.mark.hostile
@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://login.example.com/"},
        {"jwks_uri": "https://keys.example.com/keys"},
        {"jwks_uri": "http://169.254.169.254/keys"},
        {"jwks_uri": ABSENT},
    ],
)
def test_a_provider_that_cannot_be_believed(
    edge: Service, provider: IdentityProvider, change: dict[str, Any]
) -> None:
    """Nobody can tell whose the token is: not refused, and not let in; nothing else is asked for keys."""
    provider.describe(**change)
    with pytest.raises(JWKSUnavailable, match="discovery document"):
        edge.verify_user(user_token(provider.issuer))
    assert [head.path for head in provider.heads] == [DISCOVERY]


# -- transactions ------------------------------------------------------------------------------------------


def begun(edge: Service, user: EndUser, **changes: Any) -> EndUser:
    return edge.transaction(user, **{"trust_domain": DOMAIN, "scopes": ["cards:write"], **changes})


def test_a_transaction_takes_the_place_of_the_users_token(edge: Service, provider: IdentityProvider) -> None:
    """The user goes on with a transaction token of this service; its own token goes no further."""
    user = edge.verify_user(user_token(provider.issuer))
    carried = begun(edge, user, tctx={"card": "c-1"})
    assert (carried.issuer, carried.subject, carried.mode) == (provider.issuer, ALICE, "txn")
    assert (carried.user_token, carried.expires_at) == (None, NOW + 300)
    assert carried.txn_token is not None
    assert carried.txn_token not in repr(carried)
    token = decode(carried.txn_token.encode())
    ring = edge.running().ring
    assert ring is not None
    assert token.header.typ == "txntoken+jwt"
    assert token.header.kid in ring.jwks(NOW).keys
    assert token.claims["txn"] == carried.txn
    assert token.claims["tctx"] == {"card": "c-1"}
    assert user.user_token is not None
    assert user.user_token not in json.dumps(token.claims)


def test_receivers_accept_what_is_minted(edge: Service, tmp_path: Path) -> None:
    """A transaction of edge opens a route with `user = "txn"`, bound to edge's own token."""
    user = begun(edge, alice(), user_scopes=["cards:read", "cards:write"])
    access = edge.running().token(WALLETS, None, user=user).encode()
    assert user.txn_token is not None
    evidence = user.txn_token.encode()
    assert decode(access).claims["tth"] == token_hash(evidence)
    receiver = CarryingReceiver(tmp_path, key_store=None)
    ring = edge.running().load_ring()
    (tmp_path / "edge.jwks.json").write_bytes(JWKSet(ring.jwks(NOW).keys.values()).to_bytes())
    verdict = receiver.ask(TXN, lines(access, (TXN_FIELD, evidence)))
    assert (verdict.status, verdict.reason) == (200, None)
    assert verdict.body["user"]["txn"] == user.txn
    assert receiver.get(TXN, lines(access)) == (403, Reason.USER_UNPROVEN.value)
    receiver.close()


def test_a_transaction_never_outlives_the_user(edge: Service) -> None:
    """What is known until half a minute from now is not known later (U4)."""
    assert begun(edge, alice(expires_at=NOW + 30.5), user_scopes=["cards:write"]).expires_at == NOW + 30
    with pytest.raises(NoUser):
        begun(edge, alice(expires_at=NOW), user_scopes=["cards:write"])
    with pytest.raises(NoUser):
        begun(edge, None, user_scopes=["cards:write"])  # type: ignore[arg-type]


def test_scopes_only_shrink(edge: Service, provider: IdentityProvider) -> None:
    """A transaction is for no more than the user granted; another source may say what that is, never less."""
    user = edge.verify_user(user_token(provider.issuer))
    assert begun(edge, user, scopes=["cards:read", "cards:write"]).txn is not None
    with pytest.raises(Forbidden, match="entries:write") as refusal:
        begun(edge, user, scopes=["cards:write", "entries:write"])
    assert refusal.value.reason is Reason.MISSING_SCOPE
    assert begun(edge, user, scopes=["entries:write"], user_scopes=["entries:write"]).txn is not None


@pytest.mark.parametrize("scope", [ABSENT, "", ["cards:write"], None])
def test_what_the_user_granted_is_never_guessed(
    edge: Service, provider: IdentityProvider, scope: Any
) -> None:
    """A token that does not say what it is for is not for everything (draft section 13.14)."""
    user = edge.verify_user(user_token(provider.issuer, scope=scope))
    with pytest.raises(ConfigError, match="pass user_scopes"):
        begun(edge, user)
    with pytest.raises(ConfigError, match="pass user_scopes"):
        begun(edge, alice())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scopes": []}, "scopes must be"),
        ({"scopes": ["a b"]}, "not a scope"),
        ({"user_scopes": "cards:write"}, "scopes must be"),
        ({"trust_domain": "example.com"}, "not a service id"),
        ({"trust_domain": LOGIN}, "trailing slash"),
        ({"life": 0}, "life must be"),
        ({"life": 901}, "life must be"),
    ],
)
def test_arguments(edge: Service, changes: dict[str, Any], words: str) -> None:
    """What is wrong is said before anything is minted."""
    with pytest.raises(ConfigError, match=words):
        begun(edge, alice(), **{"user_scopes": ["cards:write"], **changes})


def test_a_transaction_token_is_never_replaced(edge: Service) -> None:
    """It travels unchanged: a service behind the edge hands on what it got."""
    user = begun(edge, alice(), user_scopes=["cards:write"])
    with pytest.raises(ConfigError, match="handed on unchanged"):
        begun(edge, user, user_scopes=["cards:write"])


def test_a_service_without_keys_mints_nothing(provider: IdentityProvider) -> None:
    """It verifies users, and has no key to sign with."""
    with frozen(), Service(issuer=EDGE, trust=trust_in(provider.issuer), key_store=None) as service:
        user = service.verify_user(user_token(provider.issuer))
        with pytest.raises(ConfigError, match="key_store=None"):
            begun(service, user)
