"""Where users come in: the methods of `Service` for the service that browsers and apps talk to.

It verifies a user's own token once, and carries the user on: with that token as evidence (`user = "proven"`),
or with a transaction token of its own making (`user = "txn"`).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from typing import Any

import msgspec

from . import evidence, jws, txn_token, users
from .claims import check_scopes, split_scopes
from .drivers import drive, drive_async
from .effects import Answer, Effect
from .errors import ConfigError, Forbidden, NoUser, Reason, TokenRejected
from .identity import EndUser, ServiceId
from .life import ServiceLife
from .runtime import Runtime
from .signer import TokenKind


class UserDoor(ServiceLife):
    """What a `Service` does where users come in."""

    issuer: ServiceId

    def verify_user(
        self, token: str | bytes, *, audience: str | None = None, proved_key: str | None = None
    ) -> EndUser:
        """Verify a user's own token that was made out to this service; may wait for the provider's keys.

        Nothing of it is remembered: each call verifies anew.

        Args:
            token: the compact JWS, as the browser or app sent it.
            audience: what `aud` must be, where the provider knows this service by another name; one of those
                that the trust file accepts. None: an identifier of this service.
            proved_key: RFC 7638 thumbprint of the key for which the application has verified the user's proof
                (RFC 9449); a token that is bound to a key is refused without, and one that is not is with.

        Returns:
            The user, who holds the token as evidence: `on_behalf_of` it calls routes with `user = "proven"`.

        Raises:
            TokenRejected: it is refused; `reason` says why. Answer 401.
            Unavailable: nobody can tell just now. Answer 503.
        """
        runtime = self.awake(self.clock())
        return drive(_verification(self, runtime, token, audience, proved_key), runtime, self.clock)

    async def verify_user_async(
        self, token: str | bytes, *, audience: str | None = None, proved_key: str | None = None
    ) -> EndUser:
        """`verify_user` on the event loop, without blocking it."""
        runtime = self.awake(self.clock())
        return await drive_async(
            _verification(self, runtime, token, audience, proved_key), runtime, self.clock
        )

    def transaction(
        self,
        user: EndUser,
        *,
        trust_domain: str,
        scopes: Collection[str],
        user_scopes: Collection[str] | None = None,
        life: int = txn_token.DEFAULT_LIFE,
        tctx: Mapping[str, Any] | None = None,
        rctx: Mapping[str, Any] | None = None,
    ) -> EndUser:
        """Mint a transaction token for a user whom this service knows; may wait for the ring.

        Args:
            user: from `verify_user`, or made by an application that has logged the user in itself.
            trust_domain: within which it holds; receivers have a `[[txn]]` row that names it and this
                service.
            scopes: what the transaction is for, as narrowly as possible; no receiver lets it do more.
            user_scopes: what the user may do, where another source than the user's token says so. `scopes`
                must be among them; what is not known is never taken for everything (draft section 13.14).
            life: seconds until it expires, 900 at most; never later than what is known of the user.
            tctx, rctx: JSON objects for `tctx` (what must not change on the way) and `rctx` (the
                circumstances).

        Returns:
            The user with this token as its only evidence: the user's own token goes no further.

        Raises:
            Forbidden: the user did not grant one of the scopes (`MISSING_SCOPE`).
            ConfigError: an argument is not as described, or what the user may do is not known.
            NoUser: there is no user, or it has expired (`UserExpired`).
            KeyStoreError: there is no key to sign with.
        """
        if not isinstance(user, EndUser):
            raise NoUser("there is no user to begin a transaction for; expected an EndUser")
        users.check(user, self.clock())
        if user.txn_token is not None:
            raise ConfigError("this user came with a transaction token, which is handed on unchanged")
        domain = self.settings.check_audience(trust_domain)
        wanted = check_scopes(scopes)
        beyond = wanted - _granted(user, user_scopes)
        if beyond:
            raise Forbidden(
                Reason.MISSING_SCOPE,
                f"the user did not grant {' '.join(sorted(beyond))}, and scopes only shrink",
                scope=" ".join(sorted(wanted)),
            )
        if not 0 < life <= txn_token.MAX_LIFE:
            raise ConfigError(f"life must be 1 to {txn_token.MAX_LIFE} seconds")
        runtime = self.awake(self.clock())
        with runtime.signing() as (ring, now):
            users.check(user, now)  # the wait may have been long
            claims = txn_token.build(
                issuer=self.issuer,
                trust_domain=domain,
                user=user,
                scopes=wanted,
                now=now,
                life=life,
                tctx=tctx,
                rctx=rctx,
            )
            token, _ = runtime.signer.sign(ring, TokenKind.TRANSACTION, claims, now)
        return msgspec.structs.replace(
            user, mode="txn", txn=claims["txn"], expires_at=claims["exp"], user_token=None, txn_token=token
        )


def _verification(
    door: UserDoor, runtime: Runtime, token: str | bytes, audience: str | None, proved_key: str | None
) -> Generator[Effect, Answer, EndUser]:
    # what is not ASCII turns into "?", which no token holds
    raw = token.encode("ascii", "replace") if isinstance(token, str) else bytes(token)
    names = door.settings.audiences if audience is None else (audience,)
    proved = yield from evidence.verify_user_token(
        runtime.verifier, raw, door.clock(), audiences=names, proved_key=proved_key
    )
    return msgspec.structs.replace(proved.user, mode="proven", user_token=raw.decode())


def _granted(user: EndUser, user_scopes: Collection[str] | None) -> frozenset[str]:
    """What the user may do: as told, or as the user's own token says."""
    if user_scopes is not None:
        return check_scopes(user_scopes)
    if user.user_token is None:
        raise ConfigError("what this user may do is not known: it has no token of its own; pass user_scopes")
    claims = jws.decode(user.user_token.encode(), typ_required=False).claims
    try:
        return split_scopes(claims.get("scope"))
    except TokenRejected:
        raise ConfigError("the user's token does not say what it is for (scope); pass user_scopes") from None
