"""What a trust file lets pass that would be refused if it did not say so: for the person who reviews it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .trust import ForeignIssuer, TrustConfig
from .trust_issuers import Accepted
from .trust_report import member_path, shown
from .trust_values import ASAP, SPIFFE

_FLAGS = {
    "eddsa": "EdDSA is accepted as a name of Ed25519",
    "allow_plain_http": "its keys may be fetched without TLS",
    "multi_aud": "its tokens may be for others as well",
    "allow_missing_typ": "a token without typ counts as JWT",
    "allow_missing_jti": "its tokens need no jti",
    "keys_without_alg": "its keys need not say for which algorithm they are",
    "ignore_scope": "scope in its tokens takes nothing away from what is granted",
}


def relaxations(trust: TrustConfig) -> tuple[str, ...]:
    """One line for each, by issuer: key path, and what it lets pass."""
    tables = {
        "issuers": trust.issuers,
        "foreign_issuers": trust.foreign_issuers,
        "user_issuers": trust.user_issuers,
    }
    return tuple(
        f"{member_path(table, name)}.{member}: {what}"
        for table, entries in tables.items()
        for name, entry in entries.items()
        for member, what in of_issuer(entry)
    )


def of_issuer(entry: Accepted) -> Iterator[tuple[str, str]]:
    """Those of one issuer: the member, and what it lets pass."""
    usual = {field.name: field.default for field in msgspec.structs.fields(entry)}
    if entry.profile == SPIFFE:
        yield "profile", "its tokens need no iss and no iat: the trust domain of sub says whose they are"
    if entry.profile == ASAP:
        yield "profile", "its tokens need no sub: its issuer is whom they mean"
    if more := sorted(entry.types - usual["types"]):
        yield "typ", f"tokens of type {', '.join(more)} are accepted"
    if entry.max_token_life > usual["max_token_life"]:
        yield "max_token_life", f"its tokens may live for {entry.max_token_life:g} s"
    if entry.leeway > usual["leeway"]:
        yield "leeway", f"clocks may differ by {entry.leeway:g} s"
    if isinstance(entry, ForeignIssuer):
        for name, service in entry.audiences.items():
            yield "audiences", f"{shown(name)} in aud means {service}"
    for origin in sorted(entry.jwks_origins):
        yield "jwks_origins", f"its discovery document may name keys at {origin}"
    for name in sorted(entry.header_members):
        yield "header_members", f"{name} in the header of its tokens is not looked at"
    for member, what in _FLAGS.items():
        if getattr(entry, member, False):
            yield member, what
