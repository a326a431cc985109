"""login: an identity provider, such as somebody else runs; s2s_mesh is not in it.

It asks for no password: whoever says to be alice gets alice's token. Never put it anywhere but into a demo.
"""

import time
import uuid

import jwt
from jwcrypto.jwk import JWK
from starlette.applications import Starlette
from starlette.config import Config
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

LOGIN = Config()("LOGIN_URL", default="http://127.0.0.1:8105")
KEY = JWK.generate(kty="EC", crv="P-256", alg="ES256", use="sig", kid="login-1")
PEM = KEY.export_to_pem(private_key=True, password=None)


async def token(request: Request) -> PlainTextResponse:
    """A token of the user whom the query names, made out to the service that it names."""
    now = int(time.time())
    claims = {
        "iss": LOGIN,
        "sub": request.query_params["user"],
        "aud": request.query_params["aud"],
        "iat": now,
        "exp": now + 300,
        "auth_time": now,
        "jti": str(uuid.uuid4()),
    }
    return PlainTextResponse(jwt.encode(claims, PEM, "ES256", headers={"kid": KEY.key_id}))


async def configuration(_: Request) -> JSONResponse:
    """Where the keys are (OpenID Connect Discovery)."""
    return JSONResponse({"issuer": LOGIN, "jwks_uri": f"{LOGIN}/.well-known/jwks.json"})


async def keys(_: Request) -> JSONResponse:
    """The public key."""
    return JSONResponse({"keys": [KEY.export_public(as_dict=True)]})


app = Starlette(
    routes=[
        Route("/token", token, methods=["POST"]),
        Route("/.well-known/openid-configuration", configuration),
        Route("/.well-known/jwks.json", keys),
    ]
)
