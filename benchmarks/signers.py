"""Who signs: a new token each time, and the same token handed out again."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from typing import Any

import jwt
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jwt as jwcrypto_jwt

from .contestants import OURS, PYJWT, Bench, Contestant, NotOffered, authlib_jose
from .endpoint import pem_kid
from .material import EDGE, LIFE, SCOPE, WALLETS, Material, caller, claims
from .rounds import Operation

_SCOPES = frozenset(SCOPE.split())


def _ours(bench: Bench) -> Operation:
    service = caller(bench.made)
    service.__enter__()
    bench.cleanup.append(service.__exit__)

    def sign() -> object:
        service.forget_token(WALLETS)
        return service.token(WALLETS)

    return sign


def _ours_again(bench: Bench) -> Operation:
    service = caller(bench.made)
    service.__enter__()
    bench.cleanup.append(service.__exit__)
    service.token(WALLETS)
    return lambda: service.token(WALLETS)


def _ours_scoped(bench: Bench) -> Operation:
    service = caller(bench.made)
    service.__enter__()
    bench.cleanup.append(service.__exit__)
    service.token(WALLETS, scopes=_SCOPES)
    return lambda: service.token(WALLETS, scopes=_SCOPES)


def _head(made: Material) -> dict[str, str]:
    return {"alg": made.peer_alg, "kid": made.key.kid, "typ": "at+jwt"}


def _pyjwt(bench: Bench) -> Operation:
    made = bench.made
    head = {"kid": made.key.kid, "typ": "at+jwt"}
    return lambda: jwt.encode(claims(), made.private_key, algorithm=made.peer_alg, headers=head)


def _jwcrypto(bench: Bench) -> Operation:
    key, head = jwcrypto_jwk.JWK(**bench.made.private_jwk), _head(bench.made)

    def sign() -> object:
        token = jwcrypto_jwt.JWT(header=head, claims=claims())
        token.make_signed_token(key)
        return token.serialize()

    return sign


def _joserfc(bench: Bench) -> Operation:
    from joserfc import jwk
    from joserfc import jwt as joserfc_jwt

    warnings.filterwarnings("ignore", "EdDSA is deprecated")
    key, head, algs = jwk.import_key(dict(bench.made.private_jwk)), _head(bench.made), [bench.made.peer_alg]
    return lambda: joserfc_jwt.encode(head, claims(), key, algs)


def _authlib(bench: Bench) -> Operation:
    jose = authlib_jose()
    encoder, head = jose.JsonWebToken([bench.made.peer_alg]), _head(bench.made)
    key = jose.JsonWebKey.import_key(dict(bench.made.private_jwk))
    return lambda: encoder.encode(head, claims(), key)


def _google_signer(made: Material) -> Any:
    from google.auth import crypt

    if made.peer_alg == "EdDSA":
        raise NotOffered("no Ed25519")
    kind = crypt.RSASigner if made.peer_alg == "RS256" else crypt.EsSigner
    return kind.from_string(made.private_pem.decode(), made.key.kid)


def _google(bench: Bench) -> Operation:
    from google.auth import jwt as google_jwt

    signer = _google_signer(bench.made)
    return lambda: google_jwt.encode(signer, claims())


def _google_again(bench: Bench) -> Operation:
    from google.auth import jwt as google_jwt

    more = {"client_id": EDGE, "scope": SCOPE}
    credentials = google_jwt.OnDemandCredentials(
        _google_signer(bench.made), EDGE, EDGE, additional_claims=more, max_cache_size=10
    )
    headers: dict[str, str] = {}
    credentials.before_request(None, "GET", f"{WALLETS}/", headers)
    return lambda: credentials.before_request(None, "GET", f"{WALLETS}/", headers)


def _atlassian(bench: Bench, **options: Any) -> Operation:
    import atlassian_jwt_auth

    made = bench.made
    if made.peer_alg == "EdDSA":
        raise NotOffered("no Ed25519")
    signer = atlassian_jwt_auth.create_signer(
        "edge",
        pem_kid(made),
        made.private_pem,
        algorithm=made.peer_alg,
        lifetime=dt.timedelta(seconds=LIFE),
        **options,
    )
    more = {"client_id": "edge", "scope": SCOPE}
    return lambda: signer.generate_jwt(WALLETS, additional_claims=more)


def _atlassian_again(bench: Bench) -> Operation:
    operation = _atlassian(bench, reuse_jwts=True)
    operation()
    return operation


def _claims_alone(_: Bench) -> Operation:
    return lambda: json.dumps(claims())


OURS_AGAIN = f"{OURS}: service.token(audience)"
SIGN = (
    Contestant(OURS, "s2s-mesh", _ours),
    Contestant(PYJWT, "pyjwt", _pyjwt),
    Contestant("joserfc", "joserfc", _joserfc),
    Contestant("jwcrypto", "jwcrypto", _jwcrypto),
    Contestant("authlib", "authlib", _authlib),
    Contestant("google-auth", "google-auth", _google),
    Contestant("atlassian-jwt-auth", "atlassian-jwt-auth", _atlassian),
    Contestant("(the others' claims alone, as JSON)", "pyjwt", _claims_alone),
)
REUSE = (
    Contestant(OURS_AGAIN, "s2s-mesh", _ours_again),
    Contestant(f"{OURS}: the same with scopes=", "s2s-mesh", _ours_scoped),
    Contestant("google-auth OnDemandCredentials", "google-auth", _google_again),
    Contestant("atlassian-jwt-auth, reuse_jwts", "atlassian-jwt-auth", _atlassian_again),
)
