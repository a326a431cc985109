"""One error tree and the closed lists of reasons. Nothing here is ever built from a secret.

    MeshError
    ├── ConfigError         what a person wrote (trust file, environment, arguments) cannot be used
    ├── KeyStoreError       the ring cannot be read, written or used; carries a StoreReason
    │   └── StoreConflict   somebody else wrote first: load again and retry
    ├── JWKSInvalid         a JWKS document is refused whole; the last good one stays
    ├── Unavailable         nobody can tell just now: 503, never 401; carries a Reason
    │   ├── JWKSUnavailable no key can be had just now
    │   └── PolicyUnavailable a policy cannot decide just now
    ├── TokenRejected       the credential is refused: 400 or 401; carries a Reason
    │   └── ProofRejected   the proof beside the token is refused: 400
    ├── OAuthError          no access token of an authorization server is to be had just now
    ├── Forbidden           the caller is known and may not do this: 403; carries a Reason
    └── NoUser              nobody on whose behalf to call
        └── UserExpired     there was a user, and what is known of it holds no longer

A refusal's text is for the log and the operator; the HTTP answer never says why (RFC 6750 section 3.1,
`Refusal` in `refusal.py`).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Reason(str, Enum):
    """Why a request was refused: the closed vocabulary of logs, metrics and `trust explain`."""

    # the header field
    NO_CREDENTIAL = "no_credential"
    MALFORMED_HEADER = "malformed_header"
    SEVERAL_CREDENTIALS = "several_credentials"
    # the form of the token
    TOKEN_TOO_LARGE = "token_too_large"  # noqa: S105
    NOT_A_COMPACT_JWS = "not_a_compact_jws"
    BAD_BASE64 = "bad_base64"
    BAD_JSON = "bad_json"
    # its header
    HEADER_MEMBER = "header_member"
    BAD_ALGORITHM = "bad_algorithm"
    BAD_TYPE = "bad_type"
    BAD_KID = "bad_kid"
    # who and for whom
    UNKNOWN_ISSUER = "unknown_issuer"
    PAIR_NOT_GRANTED = "pair_not_granted"
    WRONG_AUDIENCE = "wrong_audience"
    BAD_SUBJECT = "bad_subject"
    # when
    BAD_TIME_CLAIM = "bad_time_claim"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    LIFE_TOO_LONG = "life_too_long"
    # other claims
    BAD_JTI = "bad_jti"
    BAD_SCOPE = "bad_scope"
    PROOF_MISSING = "proof_missing"
    # the end user in the token, and who may carry it
    BAD_USER = "bad_user"
    USER_NOT_GRANTED = "user_not_granted"
    # the proof of possession beside the token
    PROOF_FIELDS = "proof_fields"
    PROOF_MISMATCH = "proof_mismatch"
    BAD_WIT = "bad_wit"
    BAD_WPT = "bad_wpt"
    # what our own proxy says of the client's certificate
    CERTIFICATE_FIELD = "certificate_field"
    # the key and the signature
    UNKNOWN_KID = "unknown_kid"
    KEY_MISMATCH = "key_mismatch"
    BAD_SIGNATURE = "bad_signature"
    JWKS_UNAVAILABLE = "jwks_unavailable"
    # the old credential (API key, Basic) of a [[legacy]] row
    LEGACY_INVALID = "legacy_invalid"
    LEGACY_MISMATCH = "legacy_mismatch"
    LEGACY_OFF = "legacy_off"
    LEGACY_ENDED = "legacy_ended"
    LEGACY_REFUSED = "legacy_refused"
    LEGACY_TOO_WEAK = "legacy_too_weak"
    PASSWORD_CHECK_UNAVAILABLE = "password_check_unavailable"  # noqa: S105
    # denied now, or used before
    DENIED = "denied"
    DENY_LIST_UNAVAILABLE = "deny_list_unavailable"
    REPLAYED = "replayed"
    REPLAY_STORE_UNAVAILABLE = "replay_store_unavailable"
    # what the caller may do
    MISSING_SCOPE = "missing_scope"
    BAD_PATH = "bad_path"
    NO_ROUTE_RULE = "no_route_rule"
    USER_REQUIRED = "user_required"
    USER_NOT_ACCEPTED = "user_not_accepted"
    USER_UNPROVEN = "user_unproven"
    USER_MISMATCH = "user_mismatch"
    BAD_USER_TOKEN = "bad_user_token"  # noqa: S105
    BAD_TXN_TOKEN = "bad_txn_token"  # noqa: S105
    POLICY_DENIED = "policy_denied"
    POLICY_UNAVAILABLE = "policy_unavailable"
    # which request a proxy asks about
    FRONT_CONTRACT = "front_contract"


class StoreReason(str, Enum):
    """Why the key store could not be used."""

    UNREACHABLE = "unreachable"
    PERMISSIONS = "permissions"
    CONFLICT = "conflict"
    PLAINTEXT = "plaintext"
    MISSING_KEY_ENCRYPTION_KEY = "missing_key_encryption_key"
    WRONG_KEY_ENCRYPTION_KEY = "wrong_key_encryption_key"
    OTHER_ISSUER = "other_issuer"
    TRUNCATED = "truncated"
    TAMPERED = "tampered"
    UNREADABLE = "unreadable"
    NO_RING = "no_ring"
    NO_SIGNING_KEY = "no_signing_key"


class MeshError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(MeshError):
    """What a person configured cannot be used. The text says what was found, what is expected, what to do."""


class KeyStoreError(MeshError):
    """The key ring cannot be read, written or used.

    Attributes:
        reason: from the closed list `StoreReason`.
    """

    def __init__(self, reason: StoreReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StoreConflict(KeyStoreError):
    """The stored document is no longer the one that was loaded; nothing was written."""

    def __init__(self, message: str = "another writer was first; load again and retry") -> None:
        super().__init__(StoreReason.CONFLICT, message)


class JWKSInvalid(MeshError):
    """A JWKS document that must not be used, not even in part (RFC 7517; standards R9)."""


class Unavailable(MeshError):
    """What the verdict needs cannot be had just now. Try again: it says nothing about the token.

    Attributes:
        reason: from the closed list `Reason`.
        issuer: the trusted issuer that the token names.
        retry_after: whole seconds after which a new attempt makes sense.
    """

    def __init__(self, reason: Reason, issuer: str, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.reason = reason
        self.issuer = issuer
        self.retry_after = retry_after


class JWKSUnavailable(Unavailable):
    """No usable key set for this issuer just now."""

    def __init__(self, issuer: str, message: str, *, retry_after: int = 5) -> None:
        super().__init__(Reason.JWKS_UNAVAILABLE, issuer, f"{issuer}: {message}", retry_after=retry_after)


class PolicyUnavailable(Unavailable):
    """Raised by a policy that cannot decide just now, because what it asks does not answer.

    The caller gets 503 with Retry-After, never a way in.

    Args:
        message: for the log.
        retry_after: whole seconds.
    """

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(Reason.POLICY_UNAVAILABLE, "", message, retry_after=retry_after)


class TokenRejected(MeshError):
    """The credential is refused.

    Attributes:
        reason: from the closed list `Reason`.
        detail: what was found and expected, for the log; holds no token text.
        claimed_issuer: the trusted issuer that the token names, or None. Not authentic.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.claimed_issuer: str | None = None

    def claimed_by(self, issuer: str) -> Self:
        """The same, with `claimed_issuer`."""
        self.claimed_issuer = issuer
        return self


class ProofRejected(TokenRejected):
    """What proves possession of the token's key is refused: 400 without a challenge, because no scheme of the
    Authorization field would help (draft-ietf-wimse-wpt-02 section 2.1).
    """


class Forbidden(MeshError):
    """The caller is authenticated and may not do this.

    Attributes:
        reason: from the closed list `Reason`.
        detail: what was found and expected, for the log.
        scope: the scopes that would be needed, space-delimited, or None.
        caller: the issuer that may not, or None where that is not known yet.
    """

    def __init__(self, reason: Reason, detail: str = "", *, scope: str | None = None) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.scope = scope
        self.caller: str | None = None


class NoUser(MeshError):
    """There is no end user on whose behalf to call, and calling for nobody would be another thing."""


class UserExpired(NoUser):
    """What is known of the end user has expired; no new token can be made for it. The user logs in again."""


class OAuthError(MeshError):
    """There is no access token to call with: the authorization server gave none, and none is held.

    Attributes:
        issuer: the authorization server.
        code: its answer (RFC 6749 section 5.2), such as "invalid_client"; None where it did not answer so.
    """

    def __init__(self, issuer: str, message: str, *, code: str | None = None) -> None:
        super().__init__(f"no access token of {issuer}: {message}")
        self.issuer = issuer
        self.code = code
