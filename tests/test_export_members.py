"""No member of a trust file is left out of an export silently: it is in the text, or it is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from s2s_mesh.errors import ConfigError
from s2s_mesh.export_plan import Feature, NotExportable
from s2s_mesh.trust import IssuerTrust, RouteRule, TrustConfig, TrustedPair
from s2s_mesh.trust_format import AllowRow, DefaultsTable, IssuerTable, RouteRow, TrustForm

from .test_export_plan import ALLOW, FOREIGN, ISSUER, LEGACY, TXN, USER, WRITERS, issuer, of, route
from .tokens import EDGE, LEDGER, LOGIN, WALLETS

# nginx is not among them: the gateway, which has the trust file itself, enforces all of it
TARGETS = ("envoy", "istio", "jose")
URI = 'jwks_uri = "https://keys.example.com/edge.json"'
READS, WRITES = 'scopes = ["cards:read"]', 'scopes = ["cards:write"]'
CALLER, ROUTE = issuer(URI), route(READS)
# the second route opens for nobody
BASE = ALLOW + CALLER + route(WRITES, path="/all") + ROUTE


def about(*members: str) -> str:
    """The base with other words about its caller."""
    return BASE.replace(URI, "\n".join(members))


def granted(members: str) -> str:
    """The base with members more in its [[allow]] row."""
    return BASE.replace(ALLOW, f"{ALLOW}{members}\n")


ROLES = granted('roles = ["writer"]\n[roles]\nwriter = ["cards:write"]')
# nobody signs for it any more, but for the foreign issuer
VOUCHED = BASE.replace(CALLER, FOREIGN)
# for each member of the format a trust file in which it says something else than in BASE
SAYS: dict[str, str] = {
    "defaults.algorithms": '[defaults]\nalgorithms = ["ES256"]\n' + BASE,
    "defaults.max_token_life": '[defaults]\nmax_token_life = "2m"\n' + BASE,
    "defaults.leeway": '[defaults]\nleeway = "0s"\n' + BASE,
    "defaults.allow_loopback_http": "[defaults]\nallow_loopback_http = true\n" + BASE,
    "issuers.algorithms": about(URI, 'algorithms = ["ES256", "RS256", "Ed25519"]'),
    "issuers.leeway": about(URI, 'leeway = "0s"'),
    "issuers.jwks_uri": about('jwks_uri = "https://other.example.com/edge.json"'),
    "issuers.jwks_file": about('jwks_file = "/keys/edge.json"'),
    "issuers.ca_file": about(URI, 'ca_file = "/keys/ca.pem"'),
    "issuers.discovery": about("discovery = true"),
    "issuers.jwks_origins": about("discovery = true", 'jwks_origins = ["https://keys.example.com"]'),
    "issuers.eddsa": about(URI, "eddsa = true"),
    "issuers.typ": about(URI, 'typ = ["JWT"]'),
    "issuers.max_token_life": about(URI, 'max_token_life = "2m"'),
    "issuers.allow_plain_http": about(URI, "allow_plain_http = true"),
    "allow.issuer": BASE.replace(EDGE, LEDGER),
    "allow.audience": BASE.replace(ALLOW, ALLOW.replace(WALLETS, LEDGER)),
    "allow.scopes": BASE.replace(ALLOW, ALLOW.replace(READS, WRITES)),
    "allow.roles": ROLES,
    "allow.may_act_for": granted(f'may_act_for = ["{LOGIN}"]'),
    "route.audience": BASE.replace(ROUTE, ROUTE.replace(WALLETS, LEDGER)),
    "route.path": BASE.replace(ROUTE, route(READS, path="/cards/{x}")),
    "route.methods": BASE.replace(ROUTE, ROUTE.replace("PUT", "GET")),
    "route.scopes": BASE.replace(ROUTE, route()),
    "route.user": BASE + 'user = "asserted"\n',
    "route.proof": BASE + 'proof = "wpt"\n',
    "route.replay": BASE + 'replay = "once"\n',
    "roles": ROLES.replace('writer = ["cards:write"]', 'writer = ["cards:write", "admin"]'),
    "legacy": BASE + LEGACY,
    "user_issuers": BASE + USER,
    "foreign_issuers": VOUCHED,
    "subject": VOUCHED,
    "txn": BASE + TXN,
}
TABLES: dict[str, type[msgspec.Struct]] = {
    "defaults": DefaultsTable,
    "issuers": IssuerTable,
    "allow": AllowRow,
    "route": RouteRow,
}
# what the program would do anyway, or the application does by itself: docs/export.md
NO_CONCERN = {"defaults.allow_loopback_http", "issuers.allow_plain_http", "user_issuers"}


def names(table: type[msgspec.Struct]) -> set[str]:
    """The members of a table."""
    return {field.name for field in msgspec.structs.fields(table)}


def test_every_member_of_the_format_is_here() -> None:
    """Whoever adds one decides what becomes of it in an export."""
    members = names(TrustForm) - TABLES.keys() - {"version"}
    for name, table in TABLES.items():
        members |= {f"{name}.{member}" for member in names(table)}
    assert members == SAYS.keys()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("member", SAYS)
def test_it_is_in_the_text_or_refused(member: str, target: str) -> None:
    """Whatever a member says, the export is another one, or there is none."""
    usual = WRITERS[target](of(BASE))
    try:
        said = WRITERS[target](of(SAYS[member]))
    except ConfigError:
        said = ""
    assert (said == usual) is (member in NO_CONCERN)


class LaterIssuer(IssuerTrust, frozen=True, kw_only=True):
    """A caller with a member that came after the exporters."""

    thumbs: tuple[str, ...] = ()


class LaterPair(TrustedPair, frozen=True, kw_only=True):
    """The same of a pair."""

    hours: str = "all"


class LaterRule(RouteRule, frozen=True, kw_only=True):
    """The same of a route rule."""

    per_minute: int | None = None


class LaterConfig(TrustConfig, frozen=True, kw_only=True):
    """The same of the whole file."""

    trees: tuple[str, ...] = ()


LATER: dict[type[msgspec.Struct], dict[str, Any]] = {
    LaterIssuer: {"thumbs": ("one",)},
    LaterPair: {"hours": "night"},
    LaterRule: {"per_minute": 0},
    LaterConfig: {"trees": ("oak",)},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", LATER)
@pytest.mark.parametrize("says", [True, False])
def test_what_came_later(kind: type[msgspec.Struct], says: bool, target: str) -> None:
    """A member that no exporter has heard of is refused by its place and name, where it says something."""
    found = of(ALLOW + route())

    def grown(entry: Any) -> Any:
        if not issubclass(kind, type(entry)):
            return entry
        return kind(**msgspec.structs.asdict(entry), **(LATER[kind] if says else {}))

    trust = msgspec.structs.replace(
        found.trust,
        pairs={name: grown(pair) for name, pair in found.trust.pairs.items()},
        routes=tuple(map(grown, found.trust.routes)),
    )
    callers = tuple(msgspec.structs.replace(one, trust=grown(one.trust)) for one in found.callers)
    found = msgspec.structs.replace(found, trust=grown(trust), callers=callers)
    if not says:
        assert WALLETS in WRITERS[target](found)
        return
    with pytest.raises(NotExportable) as refused:
        WRITERS[target](found)
    where = {
        LaterIssuer: f"{ISSUER} ",
        LaterPair: f"[[allow]] {EDGE} ",
        LaterRule: "[[route]] PUT /wallets/{x} ",
    }
    (name,) = LATER[kind]
    assert refused.value.problems == (f"{where.get(kind, '')}{name}: {Feature.OTHER.value}",)
