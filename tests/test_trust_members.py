"""Every member of the format, one by one: what `trust diff` says of it, and whether it relaxes anything."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from s2s_mesh.trust import TrustConfig
from s2s_mesh.trust_diff import changes
from s2s_mesh.trust_format import (
    AllowRow,
    DefaultsTable,
    ForeignIssuerTable,
    IssuerTable,
    RouteRow,
    SubjectRow,
    Table,
    TxnRow,
    UserIssuerTable,
)
from s2s_mesh.trust_relaxations import relaxations

from .tokens import EDGE, LEDGER, LOGIN, WALLETS

HUB = "https://hub.example.com/"


class Sample(NamedTuple):
    """What a table says before and after one member is changed, and what that does."""

    before: str
    after: str
    effect: str  # of the change, on the one whom it concerns
    relaxed: bool = False  # whether `trust check` names the member afterwards, and not before


PLACE = 'jwks_uri = "https://keys.example.com/"\n'
FOUND = "discovery = true\n"
# what the tables of all issuers have in common
SOURCE = {
    "algorithms": Sample('algorithms = ["ES256"]', 'algorithms = ["ES256", "PS256"]', "gains"),
    "leeway": Sample("", 'leeway = "60s"', "gains", relaxed=True),
    "jwks_uri": Sample("", PLACE, "changes"),
    "jwks_file": Sample("", 'jwks_file = "keys.json"', "changes"),
    "ca_file": Sample("", 'ca_file = "ca.pem"', "changes"),
    "discovery": Sample("", FOUND, "changes"),
    "jwks_origins": Sample(FOUND, FOUND + 'jwks_origins = ["https://a.example.com"]', "gains", relaxed=True),
    "eddsa": Sample(
        'algorithms = ["Ed25519"]', 'algorithms = ["Ed25519"]\neddsa = true', "gains", relaxed=True
    ),
    "max_token_life": Sample("", 'max_token_life = "1h"', "gains", relaxed=True),
    "typ": Sample("", 'typ = ["at+jwt", "x+jwt"]', "gains", relaxed=True),
}
MULTI_AUD = Sample("", "multi_aud = true", "gains", relaxed=True)
JWT = 'typ = ["JWT"]\n'
TXN = f'trust_domain = "https://example.com"\nissuer = "{EDGE}"\naudience = "{WALLETS}"'
ALLOWED = f'issuer = "{LEDGER}"\naudience = "{WALLETS}"\n'
MEANT = f'issuer = "{HUB}"\nsubject = "s"\nservice = "{EDGE}"\n'
ROUTE = f'audience = "{WALLETS}"\npath = "/cards"\nmethods = ["GET"]\n'
SAMPLES: dict[type[Table], dict[str, Sample]] = {
    DefaultsTable: {
        "algorithms": SOURCE["algorithms"],
        "max_token_life": SOURCE["max_token_life"],
        "leeway": SOURCE["leeway"],
        "allow_loopback_http": Sample("", "allow_loopback_http = true", "gains"),
    },
    IssuerTable: {
        **SOURCE,
        "allow_plain_http": Sample(
            PLACE, PLACE.replace("https", "http") + "allow_plain_http = true", "gains", relaxed=True
        ),
    },
    ForeignIssuerTable: {
        **SOURCE,
        "profile": Sample(
            'jwks_file = "keys.json"',
            'profile = "asap"\nasap_key_servers = ["https://keys.example.com/"]',
            "changes",
            relaxed=True,
        ),
        "asap_key_servers": Sample(
            'profile = "asap"\nasap_key_servers = ["https://keys.example.com/"]',
            'profile = "asap"\nasap_key_servers = ["https://other.example.com/"]',
            "changes",
        ),
        "audiences": Sample("", f'audiences = {{ w = "{WALLETS}" }}', "gains", relaxed=True),
        "multi_aud": MULTI_AUD,
        "allow_missing_typ": Sample(JWT, f"{JWT}allow_missing_typ = true", "gains", relaxed=True),
        "allow_missing_jti": Sample("", "allow_missing_jti = true", "gains", relaxed=True),
        "header_members": Sample("", 'header_members = ["x5t"]', "gains", relaxed=True),
        "keys_without_alg": Sample("", "keys_without_alg = true", "gains", relaxed=True),
        "ignore_scope": Sample("", "ignore_scope = true", "gains", relaxed=True),
    },
    UserIssuerTable: {
        **SOURCE,
        "audiences": Sample(f'audiences = ["{EDGE}"]', f'audiences = ["{EDGE}", "{LEDGER}"]', "gains"),
        "multi_aud": MULTI_AUD,
        "max_token_life": Sample("", 'max_token_life = "2h"', "gains", relaxed=True),
        "typ": Sample("", 'typ = ["at+jwt", "JWT", "x+jwt"]', "gains", relaxed=True),
    },
    SubjectRow: {
        "issuer": Sample(MEANT.replace(HUB, f"{HUB}2"), MEANT, "gains"),
        "subject": Sample(MEANT, MEANT.replace('"s"', '"t"'), "gains"),
        "service": Sample(MEANT, MEANT.replace(EDGE, LEDGER), "gains"),
        "claims": Sample(MEANT, f'{MEANT}claims = {{ azp = "web" }}', "gains"),
    },
    AllowRow: {
        "issuer": Sample(ALLOWED, ALLOWED.replace(LEDGER, LOGIN[:-1]), "gains"),
        "audience": Sample(ALLOWED, ALLOWED.replace(WALLETS, EDGE), "gains"),
        "scopes": Sample(ALLOWED, f'{ALLOWED}scopes = ["cards:read"]', "gains"),
        "roles": Sample(ALLOWED, f'{ALLOWED}roles = ["reader"]', "gains"),
        "may_act_for": Sample(ALLOWED, f'{ALLOWED}may_act_for = ["https://users.example.com/"]', "gains"),
    },
    RouteRow: {
        "audience": Sample(ROUTE, ROUTE.replace(WALLETS, LEDGER), "gains"),
        "path": Sample(ROUTE, ROUTE.replace("/cards", "/card"), "gains"),
        "methods": Sample(ROUTE, ROUTE.replace('"GET"', '"GET", "PUT"'), "gains"),
        "scopes": Sample(f'{ROUTE}scopes = ["cards:read"]', ROUTE, "gains"),
        "user": Sample(ROUTE, f'{ROUTE}user = "asserted"', "changes"),
        "proof": Sample(f'{ROUTE}proof = "mtls"', ROUTE, "gains"),
        "replay": Sample(f'{ROUTE}replay = "once"', ROUTE, "gains"),
    },
    TxnRow: {
        "trust_domain": Sample(TXN, TXN.replace("example.com", "example.org", 1), "gains"),
        "issuer": Sample(TXN, TXN.replace(EDGE, LEDGER), "gains"),
        "audience": Sample(TXN, TXN.replace(WALLETS, LEDGER), "gains"),
    },
}
# it asks something of the rows of the same file, and of no token
SILENT = {(ForeignIssuerTable, "subject_claims")}
PAIR = f'[[allow]]\nissuer = "{EDGE}"\naudience = "{WALLETS}"\nscopes = ["cards:read"]\n'
HUBS = f'[foreign_issuers."{HUB}"]\n[foreign_issuers."{HUB}2"]\n'
OTHERS = "".join(
    f'[[route]]\naudience = "{audience}"\npath = "/other"\nmethods = ["GET"]\n'
    for audience in (WALLETS, LEDGER)
)
FILES: dict[type[Table], str] = {
    DefaultsTable: f"[defaults]\n@\n{PAIR}",
    IssuerTable: f'[issuers."{EDGE}"]\n@\n{PAIR}',
    ForeignIssuerTable: f'[foreign_issuers."{HUB}"]\n@\n[[subject]]\n{MEANT}{PAIR}',
    UserIssuerTable: f'[user_issuers."{LOGIN}"]\n@\n',
    SubjectRow: f"{HUBS}[[subject]]\n@\n{PAIR}",
    AllowRow: '[roles]\nreader = ["cards:read"]\n[[allow]]\n@\n',
    RouteRow: f"{PAIR}{OTHERS}[[route]]\n@\n",
    TxnRow: "[[txn]]\n@\n",
}
EVERY = [(table, member) for table, samples in SAMPLES.items() for member in samples]


def parsed(table: type[Table], sample: Sample, members: str) -> TrustConfig:
    if table is UserIssuerTable and "audiences" not in members:
        members = f'audiences = ["{EDGE}"]\n{members}'
    text = FILES[table].replace("@", members)
    if "asap" in sample.after:
        text = text.replace(HUB, "team/edge").replace('"s"', '"team/edge"')
    return TrustConfig.parse(f"version = 1\n{text}")


def relaxed(config: TrustConfig) -> set[str]:
    return {line.partition(": ")[0].rpartition(".")[2] for line in relaxations(config)}


def test_no_member_is_forgotten() -> None:
    """Whoever adds one says here what it does."""
    named = {(table, member) for table in SAMPLES for member in table.__struct_fields__}
    assert named == {*EVERY, *SILENT}


@pytest.mark.parametrize(("table", "member"), EVERY)
def test_a_change_of_a_member_is_a_difference(table: type[Table], member: str) -> None:
    """To be seen by whoever reviews it: as a gain where more is let pass, as a loss on the way back."""
    sample = SAMPLES[table][member]
    before, after = (parsed(table, sample, members) for members in (sample.before, sample.after))
    assert sample.effect in {change.effect.value for change in changes(before, after)}
    back = "loses" if sample.effect == "gains" else sample.effect
    assert back in {change.effect.value for change in changes(after, before)}


@pytest.mark.parametrize(("table", "member"), EVERY)
def test_a_member_that_lets_more_pass_is_listed(table: type[Table], member: str) -> None:
    """By its name, and only there; a grant, or another place for the keys, relaxes nothing."""
    sample = SAMPLES[table][member]
    before, after = (relaxed(parsed(table, sample, members)) for members in (sample.before, sample.after))
    assert (member in after - before) is sample.relaxed
