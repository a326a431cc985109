"""Who verifies: each library set up as its own documentation says for speed, keys loaded and caches warm.

Everyone checks the signature, iss, aud, exp, nbf and iat where it knows how; `s2s_mesh` also all the rest
that it always checks. Peers are imported where they are used: one that is not installed is named in the
table.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import warnings
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import jwt.api_jwt
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jwt as jwcrypto_jwt

from s2s_mesh import Service
from s2s_mesh.drivers import drive

from .endpoint import Endpoint, pem_kid
from .material import EDGE, WALLETS, Material, jwks_document, receiver
from .rounds import Operation


class NotOffered(Exception):
    """The library cannot do this; the text says what."""


class Bench(NamedTuple):
    """What a contestant is given.

    Attributes:
        made: the key and its tokens.
        endpoint: publishes the key.
        folder: for files.
        cleanup: what is called at the end is put here.
    """

    made: Material
    endpoint: Endpoint
    folder: Path
    cleanup: list[Callable[[], object]]


class Contestant(NamedTuple):
    """One row of a table.

    Attributes:
        name: of the row.
        package: the distribution whose version is reported.
        make: prepares everything and returns the one call that is timed.
    """

    name: str
    package: str
    make: Callable[[Bench], Operation]


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that does not wait, without the price of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waited")


def _receiver(cache_size: int, bench: Bench) -> Service:
    file = bench.folder / f"{bench.made.kind}.jwks.json"
    file.write_bytes(jwks_document(bench.made))
    service = receiver(str(file), cache_size=cache_size)
    service.__enter__()
    bench.cleanup.append(service.__exit__)
    service.verify(bench.made.token())
    return service


def _ours(cache_size: int, bench: Bench) -> Operation:
    service, token = _receiver(cache_size, bench), bench.made.token().encode()
    return functools.partial(service.verify, token)


def _ours_inside(bench: Bench) -> Operation:
    service, token = _receiver(0, bench), bench.made.token().encode()
    runtime, now = service.running(), service.clock()
    return lambda: drive(runtime.verifier.verify(token, now), runtime.client, service.clock)


def _pyjwt(bench: Bench) -> Operation:
    key, token, alg = jwt.PyJWK(dict(bench.made.public_jwk)), bench.made.peer_token(), bench.made.peer_alg
    return lambda: jwt.decode(token, key, algorithms=[alg], audience=WALLETS, issuer=EDGE)


def _pyjwk_client(bench: Bench) -> Operation:
    client = jwt.PyJWKClient(bench.endpoint.url)
    token, alg = bench.made.peer_token(), bench.made.peer_alg

    def verify() -> object:
        key = client.get_signing_key_from_jwt(token)
        return jwt.decode(token, key, algorithms=[alg], audience=WALLETS, issuer=EDGE)

    return verify


def _jwcrypto(bench: Bench) -> Operation:
    key, token = jwcrypto_jwk.JWK(**bench.made.public_jwk), bench.made.peer_token()
    algs = [bench.made.peer_alg]
    checks: Mapping[str, Any] = {"iss": EDGE, "aud": WALLETS, "exp": None, "nbf": None}
    return lambda: json.loads(
        jwcrypto_jwt.JWT(jwt=token, key=key, algs=algs, check_claims=checks, expected_type="JWS").claims
    )


def _joserfc(bench: Bench) -> Operation:
    from joserfc import jwk
    from joserfc import jwt as joserfc_jwt

    warnings.filterwarnings("ignore", "EdDSA is deprecated")
    key, token, algs = (
        jwk.import_key(dict(bench.made.public_jwk)),
        bench.made.peer_token(),
        [bench.made.peer_alg],
    )
    registry = joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": EDGE},
        aud={"essential": True, "value": WALLETS},
        exp={"essential": True},
    )

    def verify() -> object:
        decoded = joserfc_jwt.decode(token, key, algs)
        registry.validate(decoded.claims)
        return decoded

    return verify


def authlib_jose() -> Any:
    """`authlib.jose`, without its saying that joserfc is its successor."""
    importlib.import_module("authlib.deprecate")  # switches its warnings on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("authlib.jose")


def _authlib(bench: Bench) -> Operation:
    jose = authlib_jose()
    decoder = jose.JsonWebToken([bench.made.peer_alg])
    key, token = jose.JsonWebKey.import_key(dict(bench.made.public_jwk)), bench.made.peer_token()
    options = {"iss": {"essential": True, "value": EDGE}, "aud": {"essential": True, "value": WALLETS}}

    def verify() -> object:
        decoded = decoder.decode(token, key, claims_options=options)
        decoded.validate()
        return decoded

    return verify


def _google(bench: Bench) -> Operation:
    from google.auth import jwt as google_jwt

    if bench.made.peer_alg == "EdDSA":
        raise NotOffered("no Ed25519")
    certificates = {bench.made.key.kid: bench.made.public_pem}
    token = bench.made.peer_token()
    return lambda: google_jwt.decode(token, certificates, audience=WALLETS)


def _atlassian(bench: Bench) -> Operation:
    import atlassian_jwt_auth
    from atlassian_jwt_auth.key import BasePublicKeyRetriever

    made = bench.made
    if made.peer_alg == "EdDSA":
        raise NotOffered("no Ed25519")
    pem = made.public_pem.decode()

    class Known(BasePublicKeyRetriever):  # type: ignore[misc,unused-ignore]
        def retrieve(self, *_: Any, **__: Any) -> str:
            return pem

    verifier = atlassian_jwt_auth.JWTAuthVerifier(Known())
    # its issuers are no URLs, and a kid begins with the issuer
    token = made.peer_token(kid=pem_kid(made), iss="edge", sub="edge", client_id="edge")
    return lambda: verifier.verify_jwt(token, WALLETS)


def _jwks_client(bench: Bench) -> Operation:
    from jwks_client import JWKSClient, JWTVerifier

    made = bench.made
    token = made.peer_token()
    client = JWKSClient(bench.endpoint.url)
    verifier = JWTVerifier(client, algorithms=[made.peer_alg], audience=WALLETS, issuer=EDGE)
    asyncio.run(verifier.verify(token))
    return lambda: finished(verifier.verify(token))


def _key_fetcher(bench: Bench) -> Operation:
    from pyjwt_key_fetcher import AsyncKeyFetcher
    from pyjwt_key_fetcher.http_client import HTTPClient

    made = bench.made

    class AtHand(HTTPClient):  # type: ignore[misc,unused-ignore]
        async def get_json(self, url: str) -> Any:  # noqa: ARG002
            return made.jwks

    fetcher = AsyncKeyFetcher(
        http_client=AtHand(), static_issuer_config={EDGE: {"jwks_uri": bench.endpoint.url}}
    )
    token, alg = made.peer_token(), made.peer_alg

    async def verify() -> object:
        key = await fetcher.get_key(token)
        return jwt.decode(token, **{**key, "algorithms": [alg]}, audience=WALLETS, issuer=EDGE)

    asyncio.run(verify())
    return lambda: finished(verify())


def fastapi_validator(url: str) -> Any:
    """fastapi-jwks's validator of these tokens."""
    from fastapi_jwks.models.types import JWKSConfig, JWTDecodeConfig
    from fastapi_jwks.validators import JWKSValidator
    from pydantic import BaseModel, ConfigDict

    class Payload(BaseModel):  # type: ignore[misc,unused-ignore]
        model_config = ConfigDict(extra="allow")

    made = JWKSValidator[Payload](
        decode_config=JWTDecodeConfig(audience=[WALLETS], issuer=EDGE, leeway=0.0),
        jwks_config=JWKSConfig(url=url),
    )
    JWKSValidator.jwks_data.cache.clear()  # one memory of one entry, whatever the validator
    return made


def _fastapi_jwks(bench: Bench) -> Operation:
    validator = fastapi_validator(bench.endpoint.url)
    return functools.partial(validator.validate_token, bench.made.peer_token())


OURS = "s2s_mesh"
OURS_INSIDE = f"{OURS}, its Verifier alone"
PYJWT = "PyJWT (PyJWK prepared)"
FRESH = (
    Contestant(OURS, "s2s-mesh", functools.partial(_ours, 0)),
    Contestant(OURS_INSIDE, "s2s-mesh", _ours_inside),
    Contestant(PYJWT, "pyjwt", _pyjwt),
    Contestant("PyJWKClient (warm)", "pyjwt", _pyjwk_client),
    Contestant("joserfc", "joserfc", _joserfc),
    Contestant("jwcrypto", "jwcrypto", _jwcrypto),
    Contestant("authlib", "authlib", _authlib),
    Contestant("google-auth", "google-auth", _google),
    Contestant("atlassian-jwt-auth", "atlassian-jwt-auth", _atlassian),
    Contestant("jwks-client (warm)", "jwks-client", _jwks_client),
    Contestant("pyjwt-key-fetcher (warm)", "pyjwt-key-fetcher", _key_fetcher),
    Contestant("fastapi-jwks (warm)", "fastapi-jwks", _fastapi_jwks),
)
OURS_REPEATED = f"{OURS}, the same token again"
# no peer has a memory of verified tokens, so for them a repeated token is a fresh one
REPEATED = (Contestant(OURS_REPEATED, "s2s-mesh", functools.partial(_ours, 10_000)),)
