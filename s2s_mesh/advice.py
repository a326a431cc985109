"""What a person can change where a call is refused: one sentence for each reason."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import Reason

ADVICE: Mapping[Reason, str] = {
    Reason.TOKEN_TOO_LARGE: "the caller must send a smaller token; s2s_mesh never makes one this large",
    Reason.NOT_A_COMPACT_JWS: "send the token alone: no `Bearer`, no quotes, nothing cut off",
    Reason.BAD_BASE64: "the token was changed on its way, or its maker writes padded base64",
    Reason.BAD_JSON: "the token's maker must write each member once, in UTF-8 JSON",
    Reason.HEADER_MEMBER: "the token's maker must leave header members other than alg, kid and typ out; "
    "x5t may be allowed for a foreign issuer (header_members)",
    Reason.BAD_KID: "the token's maker must name its key in kid, as its JWKS does",
    Reason.BAD_ALGORITHM: "allow the algorithm for this issuer, or have the caller rotate to one that is",
    Reason.BAD_TYPE: "the caller sends another kind of token; allow its typ for this issuer if that is meant",
    Reason.WRONG_AUDIENCE: "the caller must ask for a token for this service: service.auth(AUDIENCE)",
    Reason.BAD_TIME_CLAIM: "the token's maker must write whole Unix seconds, with exp later than iat",
    Reason.LIFE_TOO_LONG: "the caller must mint shorter tokens, or set max_token_life for this issuer",
    Reason.EXPIRED: "the caller must mint a new token; if it is new, one of the two clocks is wrong",
    Reason.NOT_YET_VALID: "one of the two clocks is wrong: the token comes from the future",
    Reason.BAD_USER: "the token's maker must write sub_id and act as docs/users.md has it, itself outermost",
    Reason.USER_NOT_ACCEPTED: "the caller must leave on_behalf_of out; or set user in the [[route]] row",
    Reason.PROOF_MISSING: (
        'for routes with proof = "wpt" the caller must send with service.transport(AUDIENCE), for "mtls" '
        "with certificate=FILE as well; a service that has neither takes no token that is bound to a key"
    ),
    Reason.PROOF_MISMATCH: (
        "the token's maker must bind it by cnf.jkt or by cnf.x5t#S256, as the route wants, or not at all"
    ),
    Reason.BAD_SUBJECT: "the token's maker must set sub and client_id to its own id",
    Reason.BAD_JTI: "the token's maker must give each token a jti of 1 to 256 characters",
    Reason.BAD_SCOPE: "the token's maker must write scope as names with single spaces between",
    Reason.UNKNOWN_KID: "look for the kid in `s2s-mesh keys show` of the caller: revoked or another ring?",
    Reason.JWKS_UNAVAILABLE: "make the issuer's JWKS reachable from here; nothing is wrong with the token",
    Reason.KEY_MISMATCH: "the token's maker must sign with the algorithm that its JWKS names for the key",
    Reason.BAD_SIGNATURE: "the token was changed on its way, or somebody else signed it",
    Reason.USER_UNPROVEN: "the caller must send with service.transport(AUDIENCE, on_behalf_of=USER)",
    Reason.USER_MISMATCH: "the caller must carry the user whose evidence it sends, in the same transaction",
    Reason.BAD_USER_TOKEN: "the detail says why; fit the [user_issuers] table, or have the user log in again",
    Reason.BAD_TXN_TOKEN: "the detail says why; fit the [[txn]] rows, or begin a new transaction",
    Reason.BAD_PATH: "the caller must send a plain path: no empty, dot or encoded-slash segments",
}


# where the token's maker is none of ours, and the one who can change something is the receiver
FOREIGN_ADVICE: Mapping[Reason, str] = {
    Reason.BAD_SUBJECT: "if this caller is meant to call: add a [[subject]] row that says for which service "
    "this sub, with its claims, stands",
    Reason.WRONG_AUDIENCE: "have the issuer name this service in aud, and nobody else; or say in its table "
    "what it calls this service (audiences), or that aud may name others (multi_aud)",
    Reason.BAD_TYPE: "list its typ in this issuer's table, if it marks access tokens there",
    Reason.LIFE_TOO_LONG: "have the issuer make shorter tokens, or set max_token_life in its table",
    Reason.BAD_JTI: "have the issuer give each token a jti, or set allow_missing_jti in its table",
    Reason.BAD_SCOPE: "set ignore_scope in its table, if what its tokens say in scope is none of our scopes",
    Reason.BAD_USER: "a foreign issuer vouches for services only: the token must have neither act nor sub_id",
    Reason.PROOF_MISSING: (
        "have the issuer make tokens that are bound to no key, which nobody can prove here; one that is "
        "bound to the client certificate is good on its connection"
    ),
    Reason.BAD_ALGORITHM: "allow the algorithm in this issuer's table; eddsa = true if it is EdDSA",
}
