"""Tokens that other people's software makes, accepted by our services as far as a trust file names it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from s2s_mesh import Service, TokenRejected, TrustConfig
from s2s_mesh.errors import Reason
from s2s_mesh.trust import TrustFileError

from ..programs import http_server
from ..servers import free_port
from ..tokens import ABSENT, LEDGER, WALLETS
from .foreign import (
    PATIENCE,
    Authority,
    HTTPSIssuer,
    Receiver,
    authority,
    node_issuer,
    pem,
    receiver,
    rsa,
    signed,
)

SETTLEMENT = "https://settlement.example.com"
REPORTS = "https://reports.example.com"


def why(service: Receiver, token: str | bytes) -> Reason:
    """Why a token is refused."""
    with pytest.raises(TokenRejected) as refused:
        service.service.verify(token)
    return refused.value.reason


# -- oidc-provider ----------------------------------------------------------------------------------------


class Server:
    """A running oidc-provider."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def token(self, client: str = "settlement", *, resource: str = WALLETS, scope: str = "cards:read") -> str:
        """What it gives this client for that resource."""
        form = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        answer = httpx.post(
            f"{self.issuer}/token", data=form, auth=(client, f"secret-of-{client}"), timeout=PATIENCE
        )
        return str(answer.raise_for_status().json()["access_token"])

    def rotate(self) -> None:
        """Have it sign with a new key from now on."""
        httpx.get(f"{self.issuer}/test/rotate", timeout=PATIENCE).raise_for_status()

    @property
    def trust(self) -> str:
        """What a trust file says about it: nothing but where its keys are, and whom it means."""
        return f"""
[foreign_issuers."{self.issuer}"]
discovery = true
[[subject]]
issuer = "{self.issuer}"
subject = "settlement"
service = "{SETTLEMENT}"
[[allow]]
issuer = "{SETTLEMENT}"
audience = "{WALLETS}"
scopes = ["cards:read", "cards:write"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    told = {"clients": ["settlement", "reports"], "resources": [WALLETS, LEDGER], "ttl": 300}
    with node_issuer("access_tokens.mjs", json.dumps(told)) as said:
        yield Server(said["issuer"])


@pytest.mark.interop(program="oidc-provider", column="accept")
def test_an_authorization_servers_access_token_is_accepted(server: Server, tmp_path: Path) -> None:
    """JWT access tokens of the client-credentials grant, as RFC 9068 has them; no relaxation is needed."""
    with receiver(server.trust, tmp_path) as wallets:
        caller = wallets.service.verify(server.token(scope="cards:read openid"))
        assert (caller.issuer, caller.vouched_by) == (SETTLEMENT, server.issuer)
        assert caller.scopes == {"cards:read"}
        assert wallets.service.verify(server.token(scope="cards:write")).scopes == {"cards:write"}


@pytest.mark.interop(program="oidc-provider", column="wrong audience")
def test_its_tokens_for_others_are_refused(server: Server, tmp_path: Path) -> None:
    """For another service, of another client, and those that are changed on the way."""
    with receiver(server.trust, tmp_path) as wallets:
        assert why(wallets, server.token(resource=LEDGER)) is Reason.WRONG_AUDIENCE
        assert why(wallets, server.token("reports")) is Reason.BAD_SUBJECT
        head, payload, _ = server.token().split(".")
        assert why(wallets, f"{head}.{payload}.{server.token().split('.')[2]}") is Reason.BAD_SIGNATURE


@pytest.mark.interop(program="oidc-provider", column="expired")
def test_its_tokens_are_refused_once_they_have_expired(server: Server, tmp_path: Path) -> None:
    """Also one that was accepted before."""
    with receiver(server.trust, tmp_path) as wallets:
        token = server.token()
        assert wallets.service.verify(token).issuer == SETTLEMENT
        wallets.ahead = 331
        assert why(wallets, token) is Reason.EXPIRED


@pytest.mark.interop(program="oidc-provider", column="rotation")
def test_its_rotation_fails_no_call(server: Server, tmp_path: Path) -> None:
    """The new key is found when its first token comes, the old one stays good while it is published."""
    with receiver(server.trust, tmp_path) as wallets:
        old = server.token()
        kids = {wallets.service.verify(old).kid}
        server.rotate()
        for _ in range(5):
            kids.add(wallets.service.verify(server.token()).kid)
            assert wallets.service.verify(old).issuer == SETTLEMENT
        assert len(kids) == 2


# -- jose -------------------------------------------------------------------------------------------------


def jose_trust(issuer: str, algorithm: str) -> str:
    return f"""
[issuers."{issuer}"]
{algorithm}
[[allow]]
issuer = "{issuer}"
audience = "{WALLETS}"
scopes = ["cards:read"]
"""


JOSE = [("ES256", ""), ("RS256", ""), ("Ed25519", 'algorithms = ["Ed25519"]')]
EDDSA = ("EdDSA", 'algorithms = ["Ed25519"]\neddsa = true')


@pytest.mark.parametrize(("alg", "said"), [*JOSE, EDDSA])
def test_a_service_that_signs_with_jose_is_an_issuer_as_any_other(
    alg: str, said: str, tmp_path: Path
) -> None:
    """It needs an [[allow]] row and, where it says EdDSA, one member; its rotation fails no call."""
    with (
        node_issuer("jose_service.mjs", alg, WALLETS, "http://127.0.0.1:9/none") as node,
        receiver(jose_trust(node["id"], said), tmp_path) as wallets,
    ):

        def token(audience: str) -> str:
            return httpx.get(f"{node['id']}/token", params={"aud": audience}, timeout=PATIENCE).text

        caller = wallets.service.verify(token(WALLETS))
        assert (caller.issuer, caller.vouched_by) == (node["id"], None)
        assert caller.scopes == {"cards:read"}
        assert why(wallets, token(LEDGER)) is Reason.WRONG_AUDIENCE
        httpx.get(f"{node['id']}/rotate", timeout=PATIENCE).raise_for_status()
        assert wallets.service.verify(token(WALLETS)).kid != caller.kid


def test_eddsa_needs_its_name(tmp_path: Path) -> None:
    """Without `eddsa = true` the older name is an algorithm that nobody accepts."""
    with (
        node_issuer("jose_service.mjs", "EdDSA", WALLETS, "http://127.0.0.1:9/none") as node,
        receiver(jose_trust(node["id"], JOSE[2][1]), tmp_path) as wallets,
    ):
        token = httpx.get(f"{node['id']}/token", params={"aud": WALLETS}, timeout=PATIENCE).text
        assert why(wallets, token) is Reason.BAD_ALGORITHM


async def who(request: Request) -> Response:
    return PlainTextResponse(request.user.issuer)


@pytest.mark.interop(program="jose", column="both directions")
@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
def test_a_service_with_jose_and_one_of_ours_call_each_other(alg: str) -> None:
    """Each by its own token over HTTP, verified with the keys that the other one publishes."""
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    with node_issuer("jose_service.mjs", alg, own, f"{own}/.well-known/jwks.json") as node:
        table = f'[issuers."{node["id"]}"]\nalgorithms = ["ES256", "Ed25519"]\neddsa = true\n'
        row = f'[[allow]]\nissuer = "{node["id"]}"\naudience = "{own}"\n'
        trust = TrustConfig.parse(f"version = 1\n[defaults]\nallow_loopback_http = true\n{table}{row}")
        service = Service(issuer=own, trust=trust, key_store="memory://")
        app = Starlette(routes=[*service.routes, Route("/who", who)], middleware=[service.middleware])
        with service, http_server(app, port):
            asked = httpx.get(f"{node['id']}/", auth=service.auth(node["id"]), timeout=PATIENCE)
            assert (asked.status_code, asked.text) == (200, own)
            assert (
                httpx.get(
                    f"{node['id']}/", auth=service.auth(LEDGER, origins=[node["id"]]), timeout=PATIENCE
                ).status_code
                == 401
            )
            answered = httpx.get(f"{node['id']}/call", params={"url": f"{own}/who"}, timeout=PATIENCE)
            assert (answered.status_code, answered.text) == (200, node["id"])


# -- shaped as others are: a cluster, a cloud, a hub ------------------------------------------------------

CLUSTER_SUB = "system:serviceaccount:payments:settlement"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def rows(issuer: str, subject: str, *tables: str, claims: str = "") -> str:
    """A trust file of one foreign issuer that means settlement."""
    condition = f"claims = {claims}" if claims else ""
    return f"""
[foreign_issuers."{issuer}"]
{chr(10).join(tables)}
[[subject]]
issuer = "{issuer}"
subject = "{subject}"
service = "{SETTLEMENT}"
{condition}
[[allow]]
issuer = "{SETTLEMENT}"
audience = "{WALLETS}"
scopes = ["cards:read"]
"""


def cluster_claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """What a Kubernetes API server puts into a projected service account token."""
    now = int(time.time())
    bound = {
        "namespace": "payments",
        "node": {"name": "node-1", "uid": "5c0e8c1e-7f6b-4f3d-9d2c-0a3f0c2f4b11"},
        "pod": {"name": "settlement-6d4cf56db6-x2x5z", "uid": "0b8c5e0a-3a0e-4d1c-8d4d-2f5f3f0c9e77"},
        "serviceaccount": {"name": "settlement", "uid": "d8f1c7f4-4f0a-4a55-8b13-7e1ff3fdc5a3"},
        "warnafter": now + 3607,
    }
    return {
        "aud": [WALLETS],
        "exp": now + 3600,
        "iat": now,
        "iss": issuer,
        "jti": "c8d6b2a0-8f0b-4a2e-9f51-6b3a8a4a9a10",
        "kubernetes.io": bound,
        "nbf": now,
        "sub": CLUSTER_SUB,
        **changes,
    }


def test_a_clusters_service_account_is_accepted_as_the_service_that_it_stands_for(
    ca: Authority, tmp_path: Path
) -> None:
    """A projected token of an hour, without typ; what each of its peculiarities needs is named."""
    signer = rsa("cluster")
    kind = "application/jwk-set+json"
    with HTTPSIssuer(ca.server, "/openid/v1/jwks", signer, kind=kind) as cluster:
        issuer = cluster.url("")
        cluster.describe(
            issuer=issuer,
            jwks_uri=cluster.url("/openid/v1/jwks"),
            response_types_supported=["id_token"],
            subject_types_supported=["public"],
            id_token_signing_alg_values_supported=["RS256"],
        )

        def token(**changes: Any) -> bytes:
            return signed(signer, {}, cluster_claims(issuer, **changes))

        place = ["discovery = true", 'ca_file = "ca.pem"', 'algorithms = ["RS256"]']
        named = ['typ = ["JWT"]', "allow_missing_typ = true", 'max_token_life = "1h"']
        trust = rows(issuer, CLUSTER_SUB, *place, *named)
        with receiver(trust, tmp_path) as wallets:
            caller = wallets.service.verify(token())
            assert (caller.issuer, caller.vouched_by, caller.subject) == (SETTLEMENT, issuer, CLUSTER_SUB)
            assert caller.claims["kubernetes.io"]["pod"]["name"].startswith("settlement-")
            assert why(wallets, token(aud=["https://kubernetes.default.svc"])) is Reason.WRONG_AUDIENCE
            assert why(wallets, token(aud=[WALLETS, "vault"])) is Reason.WRONG_AUDIENCE
            assert why(wallets, token(sub="system:serviceaccount:payments:default")) is Reason.BAD_SUBJECT
            assert why(wallets, token(sub="system:serviceaccount:other:settlement")) is Reason.BAD_SUBJECT
            assert why(wallets, token(jti=ABSENT)) is Reason.BAD_JTI
            year = int(time.time()) + 365 * 86400
            assert (
                why(wallets, token(exp=year)) is Reason.LIFE_TOO_LONG
            )  # --service-account-extend-token-expiration
            made = token()
            wallets.ahead = 3631
            assert why(wallets, made) is Reason.EXPIRED
        for missing, reason in zip(
            named, (Reason.BAD_TYPE, Reason.BAD_TYPE, Reason.LIFE_TOO_LONG), strict=True
        ):
            with receiver(trust.replace(missing, ""), tmp_path) as wallets:
                assert why(wallets, token()) is reason
        with receiver(
            trust.replace("[[subject]]", "allow_missing_jti = true\n[[subject]]"), tmp_path
        ) as wallets:
            assert wallets.service.verify(token(jti=ABSENT)).issuer == SETTLEMENT


def test_a_cluster_rotates_its_keys(ca: Authority, tmp_path: Path) -> None:
    """The first token with the new key brings it, although the answer before was fresh for an hour."""
    old, new = rsa("cluster"), rsa("cluster 2")
    with HTTPSIssuer(ca.server, "/openid/v1/jwks", old) as cluster:
        place = [f'jwks_uri = "{cluster.url("/openid/v1/jwks")}"', 'ca_file = "ca.pem"']
        named = ['typ = ["JWT"]', "allow_missing_typ = true", 'max_token_life = "1h"']
        issuer = "https://kubernetes.default.svc.cluster.local"
        with receiver(rows(issuer, CLUSTER_SUB, *place, *named), tmp_path) as wallets:
            first, second = (signed(signer, {}, cluster_claims(issuer)) for signer in (old, new))
            assert wallets.service.verify(first).kid == old.kid
            cluster.publish(old, new)
            assert wallets.service.verify(second).kid == new.kid
            assert wallets.service.verify(first).kid == old.kid


ROBOT = "settlement@payments-prod.iam.gserviceaccount.com"


@pytest.mark.interop(program="google-auth", column="both directions")
def test_a_google_service_accounts_own_token_is_accepted(ca: Authority, tmp_path: Path) -> None:
    """Signed by google-auth itself: the issuer is an e-mail address, which is no URL; an hour, and no jti."""
    jwt = pytest.importorskip("google.auth.jwt")
    signer = rsa("robot")
    path = f"/service_accounts/v1/jwk/{ROBOT}"
    account = {
        "client_email": ROBOT,
        "private_key_id": signer.kid,
        "private_key": pem(signer),
        "token_uri": "https://oauth2.googleapis.com/token",
        "type": "service_account",
    }

    def token(audience: str) -> bytes:
        credentials = jwt.Credentials.from_service_account_info(account, audience=audience)
        credentials.refresh(None)
        made: bytes | str = credentials.token
        return made.encode() if isinstance(made, str) else made

    with HTTPSIssuer(ca.server, path, signer) as google:
        place = [f'jwks_uri = "{google.url(path)}"', 'ca_file = "ca.pem"', 'algorithms = ["RS256"]']
        named = ['typ = ["JWT"]', 'max_token_life = "1h"', "allow_missing_jti = true"]
        with receiver(rows(ROBOT, ROBOT, *place, *named), tmp_path) as wallets:
            caller = wallets.service.verify(token(WALLETS))
            assert (caller.issuer, caller.vouched_by, caller.subject) == (SETTLEMENT, ROBOT, ROBOT)
            assert why(wallets, token("https://pubsub.googleapis.com/")) is Reason.WRONG_AUDIENCE
            made = token(WALLETS)
            wallets.ahead = 3631
            assert why(wallets, made) is Reason.EXPIRED
        for missing, reason in zip(
            named, (Reason.BAD_TYPE, Reason.LIFE_TOO_LONG, Reason.BAD_JTI), strict=True
        ):
            with receiver(rows(ROBOT, ROBOT, *place, *named).replace(missing, ""), tmp_path) as wallets:
                assert why(wallets, token(WALLETS)) is reason


ACCOUNTS = "https://accounts.google.com"
ROBOT_ID = "113774264463038321964"


def id_token(**changes: Any) -> dict[str, Any]:
    """What Google's metadata server gives a workload that asks for an identity of audience wallets."""
    now = int(time.time())
    return {
        "aud": WALLETS,
        "azp": ROBOT_ID,
        "email": ROBOT,
        "email_verified": True,
        "exp": now + 3600,
        "iat": now,
        "iss": ACCOUNTS,
        "sub": ROBOT_ID,
        **changes,
    }


def test_a_google_id_token_of_a_service_account_is_accepted(ca: Authority, tmp_path: Path) -> None:
    """One issuer for everybody at Google: the row says whose sub, and further claims that must be there."""
    signer = rsa("google")
    with HTTPSIssuer(ca.server, "/oauth2/v3/certs", signer) as google:
        place = [f'jwks_uri = "{google.url("/oauth2/v3/certs")}"', 'ca_file = "ca.pem"']
        named = ['typ = ["JWT"]', 'max_token_life = "1h"', "allow_missing_jti = true"]
        claims = f'{{ azp = "{ROBOT_ID}", email = "{ROBOT}", email_verified = true }}'
        with receiver(rows(ACCOUNTS, ROBOT_ID, *place, *named, claims=claims), tmp_path) as wallets:

            def token(**changes: Any) -> bytes:
                return signed(signer, {"typ": "JWT"}, id_token(**changes))

            assert wallets.service.verify(token()).issuer == SETTLEMENT
            for change in (
                {"sub": "113774264463038321965"},
                {"azp": "32555940559.apps.googleusercontent.com"},
                {"azp": ABSENT},
                {"email": "else@payments-prod.iam.gserviceaccount.com"},
                {"email_verified": False},
                {"email_verified": "true"},
            ):
                assert why(wallets, token(**change)) is Reason.BAD_SUBJECT
            assert why(wallets, token(iss="accounts.google.com")) is Reason.UNKNOWN_ISSUER
            # without alg in the key set, which names it per key
            google.publish(signer, without="alg")
        with receiver(rows(ACCOUNTS, ROBOT_ID, *place, *named), tmp_path) as wallets:
            assert why(wallets, token()) is Reason.UNKNOWN_KID
        said = [*place, *named, "keys_without_alg = true", 'algorithms = ["RS256"]']
        with receiver(rows(ACCOUNTS, ROBOT_ID, *said), tmp_path) as wallets:
            assert wallets.service.verify(token()).issuer == SETTLEMENT


APP, API = "12121212-3434-5656-7878-909090909090", "66666666-7777-8888-9999-aaaaaaaaaaaa"


def test_an_entra_applications_access_token_is_accepted(ca: Authority, tmp_path: Path) -> None:
    """Version 2.0: x5t in the header, no jti, the API's id in aud, 87 minutes, keys without alg."""
    signer = rsa("tenant")
    with HTTPSIssuer(ca.server, "/common/discovery/v2.0/keys", signer) as entra:
        entra.publish(signer, without="alg")
        issuer = entra.url("/11111111-2222-3333-4444-555555555555/v2.0")
        place = [f'jwks_uri = "{entra.url("/common/discovery/v2.0/keys")}"', 'ca_file = "ca.pem"']
        named = {
            'typ = ["JWT"]': Reason.BAD_TYPE,
            'header_members = ["x5t"]': Reason.HEADER_MEMBER,
            'max_token_life = "2h"': Reason.LIFE_TOO_LONG,
            "allow_missing_jti = true": Reason.BAD_JTI,
            "keys_without_alg = true": Reason.UNKNOWN_KID,
            f'audiences = {{ "{API}" = "{WALLETS}" }}': Reason.WRONG_AUDIENCE,
        }
        now = int(time.time())
        payload = {
            "aud": API,
            "iss": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + 5219,
            "aio": "k2RgYGBQ",
            "azp": APP,
            "azpacr": "1",
            "oid": "bbbbbbbb-cccc-dddd-eeee-ffffffffffff",
            "roles": ["Cards.Read"],
            "sub": "bbbbbbbb-cccc-dddd-eeee-ffffffffffff",
            "tid": "11111111-2222-3333-4444-555555555555",
            "uti": "Yc3n8N",
            "ver": "2.0",
        }
        token = signed(signer, {"typ": "JWT", "x5t": signer.kid}, payload)
        said = [*place, 'algorithms = ["RS256"]', *named]
        trust = rows(issuer, str(payload["sub"]), *said, claims=f'{{ azp = "{APP}" }}')
        with receiver(trust, tmp_path) as wallets:
            assert wallets.service.verify(token).issuer == SETTLEMENT
            another = signed(signer, {"typ": "JWT", "x5t": "x"}, {**payload, "azp": API})
            assert why(wallets, another) is Reason.BAD_SUBJECT
        for missing, reason in named.items():
            with receiver(trust.replace(missing, ""), tmp_path) as wallets:
                assert why(wallets, token) is reason


def hub_claims(issuer: str, connector: str, **changes: Any) -> dict[str, Any]:
    """What an identity hub says of a subject of one of its upstream providers."""
    now = int(time.time())
    return {
        "iss": issuer,
        "sub": "build-7",
        "aud": "wallets-api",
        "azp": "wallets-api",
        "exp": now + 600,
        "iat": now,
        "jti": f"{connector}-1",
        "federated_claims": {"connector_id": connector, "user_id": "build-7"},
        **changes,
    }


def test_one_hub_two_providers_and_the_same_sub(ca: Authority, tmp_path: Path) -> None:
    """Told apart by the claim that says which provider it was; a file that does not say it is refused."""
    signer = rsa("hub")
    with HTTPSIssuer(ca.server, "/keys", signer) as hub:
        issuer = hub.url("/dex")
        table = f"""
[foreign_issuers."{issuer}"]
jwks_uri = "{hub.url("/keys")}"
ca_file = "ca.pem"
typ = ["JWT"]
allow_missing_typ = true
subject_claims = ["federated_claims"]
audiences = {{ wallets-api = "{WALLETS}" }}
"""
        row = f'[[subject]]\nissuer = "{issuer}"\nsubject = "build-7"\nservice = "{{}}"\n{{}}\n'
        of = "claims = { federated_claims.connector_id = "
        allow = "".join(
            f'[[allow]]\nissuer = "{service}"\naudience = "{WALLETS}"\n' for service in (SETTLEMENT, REPORTS)
        )
        good = row.format(SETTLEMENT, f'{of}"gitlab" }}') + row.format(REPORTS, f'{of}"github" }}')
        with receiver(table + good + allow, tmp_path) as wallets:

            def token(connector: str, **changes: Any) -> bytes:
                return signed(signer, {}, hub_claims(issuer, connector, **changes))

            callers = [wallets.service.verify(token(name)).issuer for name in ("gitlab", "github")]
            assert callers == [SETTLEMENT, REPORTS]
            assert why(wallets, token("bitbucket")) is Reason.BAD_SUBJECT
            assert why(wallets, token("gitlab", federated_claims=ABSENT)) is Reason.BAD_SUBJECT
            assert why(wallets, token("gitlab", aud="another-client")) is Reason.WRONG_AUDIENCE
        for bad, words in (
            (row.format(SETTLEMENT, ""), 'found no "federated_claims"'),
            (good.replace('"github"', '"gitlab"'), "one token could be meant by both rows"),
        ):
            with pytest.raises(TrustFileError, match=words):
                TrustConfig.parse(f"version = 1\n[defaults]\nallow_loopback_http = true\n{table}{bad}{allow}")
