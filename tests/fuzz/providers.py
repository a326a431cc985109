"""What identity providers say, fuzzed: the claims of a user's token, and a discovery document."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from s2s_mesh import discovery, user_token
from s2s_mesh.errors import JWKSInvalid, TokenRejected
from s2s_mesh.jws import decode
from s2s_mesh.trust import UserIssuer
from tests.identity_provider import idp_key, user_claims, user_header
from tests.tokens import EDGE, NOW, WALLETS, encode

from .door import insist

LOGIN = "https://login.example.com/"
_RULES = UserIssuer(
    issuer=LOGIN,
    audiences=frozenset({EDGE}),
    discovery=True,
    jwks_origins=frozenset({"https://keys.example.com"}),
)
_HEADER = encode(user_header(idp_key()))
CLAIMS = [
    json.dumps(user_claims(LOGIN, **changes)).encode()
    for changes in (
        {},
        {"aud": [EDGE], "iat": NOW - 0.5, "exp": NOW + 60.75, "nbf": NOW - 1},
        {"sub": WALLETS},
        {"act": {"sub": EDGE}, "cnf": {"jkt": "x"}},
        {"exp": 1e300, "amr": [1]},
    )
]
DOCUMENTS = [
    json.dumps({"issuer": LOGIN, "jwks_uri": uri, "scopes_supported": ["openid"]}).encode()
    for uri in (
        f"{LOGIN}keys",
        "https://keys.example.com/certs?v=1",
        "https://login.example.com@evil.example.org/keys",
        "http://169.254.169.254/keys",
    )
]


def read_claims(payload: bytes) -> str:
    """Claims are refused for a reason, or name a user as another reader of the same bytes finds it."""
    try:
        decoded = decode(_HEADER + b"." + encode(payload) + b".AAAA", typ_required=False)
        said = user_token.validate(
            decoded.claims, _RULES, NOW, audiences=_RULES.audiences, services={EDGE, WALLETS}
        )
    except TokenRejected as refused:
        return refused.reason.value
    seen = json.loads(payload)
    insist(seen["iss"] == LOGIN and seen["aud"] in (EDGE, [EDGE]), "another provider's, or for another")
    insist(said.user.subject == seen["sub"] not in (EDGE, WALLETS), "another user, or a service")
    insist(NOW - 30 < said.user.expires_at <= seen["exp"], "good for longer than it says")
    insist("act" not in seen, "somebody who acts for the user")
    return "a user"


def read_document(body: bytes) -> str:
    """A document is refused, or leads over TLS to one of the two origins."""
    try:
        uri = discovery.jwks_uri(body, _RULES)
    except JWKSInvalid as refused:
        return str(refused)[:60]
    parts = urlsplit(uri)
    insist(json.loads(body)["issuer"] == LOGIN, "another issuer's document")
    insist(parts.scheme == "https" and "@" not in parts.netloc, "not over TLS, or with user info")
    insist(parts.netloc in ("login.example.com", "keys.example.com"), "somewhere else")
    return "keys"
