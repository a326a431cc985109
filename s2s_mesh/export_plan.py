"""What one audience of a trust file enforces, in the form from which every export is written.

An export is a copy of the rules for a program that is not ours. So what that program cannot enforce is named
here, row by row, and refused: a rule that was left out silently would be a door left open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import Enum

import msgspec

from . import spiffe_bundle
from .certificates import CLIENT_CERT, XFCC
from .errors import ConfigError
from .identity import ServiceId
from .routes import PathTemplate
from .trust import IssuerTrust, RouteRule, TrustConfig, TrustedPair
from .trust_issuers import Accepted
from .users import TXN_TOKEN_FIELD, USER_TOKEN_FIELD
from .wellknown import DOCUMENTS, absolute_paths

# what only a proxy may say that asks for certificates, which none of these does
CERTIFICATES: tuple[str, ...] = (CLIENT_CERT, "client-cert-chain", XFCC)
# what reaches no application: credentials beside Authorization, and what may name another method or path
STRIPPED: tuple[str, ...] = (
    *CERTIFICATES,
    *("workload-identity-token", "workload-proof-token", TXN_TOKEN_FIELD, USER_TOKEN_FIELD),
    *("x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"),
)
_USUAL = Accepted(issuer="")
# segments that every program reads as they stand; Envoy's URI templates, which Istio uses, know no others
_PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()+,:@-]+")


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An issuer that may call the audience.

    Attributes:
        trust: what is accepted from it.
        granted: the scopes that its pair grants.
    """

    trust: IssuerTrust
    granted: frozenset[str]

    @property
    def issuer(self) -> str:
        """Its id."""
        return str(self.trust.issuer)


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a route rule lets in.

    Attributes:
        template: its path.
        methods: every method as in the request line, HEAD beside GET; sorted.
        scopes: all of them are needed; sorted.
        callers: those whose grant covers the scopes, in the plan's order.
    """

    template: PathTemplate
    methods: tuple[str, ...]
    scopes: tuple[str, ...]
    callers: tuple[Caller, ...]

    @property
    def regex(self) -> str:
        """The template as RE2, PCRE and JavaScript write it; to be matched whole with a decoded path."""
        parts = ["[^/]+" if segment is None else literal(segment) for segment in self.template.segments]
        return "/" + "/".join([*parts, ".+"] if self.template.tail else parts)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one audience enforces. The same trust file always makes the same plan, in the same order.

    Attributes:
        audience: the service that is called.
        callers: by issuer.
        openings: in the order of the file; with `routed`, whatever is in none of them is denied.
        routed: whether the audience has route rules.
        source: the trust file's name.
        digest: SHA-256 of its bytes, hexadecimal.
        trust: the rows of this audience.
    """

    audience: str
    callers: tuple[Caller, ...]
    openings: tuple[Opening, ...]
    routed: bool
    source: str
    digest: str
    trust: TrustConfig

    @property
    def public(self) -> tuple[str, ...]:
        """The paths of its own documents, which everybody may GET and HEAD, whatever the rules."""
        return tuple(absolute_paths(ServiceId(self.audience), (*DOCUMENTS, spiffe_bundle.DOCUMENT)))

    def banner(self, what: str, limits: tuple[str, ...]) -> tuple[str, ...]:
        """The comment at the top of a generated file, a line each.

        Args:
            what: the file is.
            limits: what the program that reads it does not enforce, or not as we do.
        """
        return (
            f"{what} for {self.audience}: generated, do not edit.",
            f"Made from {self.source} (sha256 {self.digest})",
            "by `s2s-mesh trust export`; docs/export.md says what it enforces. Not in it:",
            *(f"- {limit}" for limit in limits),
        )


class Feature(Enum):
    """What a trust file may ask for that not every program can do; the value says what that is."""

    PROOF = 'proof = "wpt": a proof of possession for each request'
    OTHER_PROOF = 'proof = "mtls": the client certificate of the connection'
    ONCE = 'replay = "once": a memory of the tokens that were used'
    USER = "a route that wants an end user"
    MAY_ACT_FOR = "may_act_for: tokens that carry a user"
    TXN = "[[txn]]: transaction tokens"
    FOREIGN = "other people's tokens that stand for a service"
    LEGACY = "[[legacy]]: API keys and passwords"
    ED25519 = "the algorithm Ed25519 (RFC 9864)"
    ALGORITHMS = "a choice of algorithms: it takes what the key set says"
    TYP = "the header typ"
    LIFE = "max_token_life"
    LEEWAY = "leeway"
    JWKS_FILE = "jwks_file: give jwks_uri"
    RELATIVE_JWKS_FILE = "jwks_file with a relative name, which means another file elsewhere"
    CA_FILE = "ca_file"
    RELATIVE_CA_FILE = "ca_file with a relative name, which means another file elsewhere"
    DISCOVERY = "discovery: give jwks_uri"
    JWKS_ORIGINS = "jwks_origins"
    EDDSA = "eddsa: the older name of Ed25519"
    PATH = "a path with others than letters, digits and -._~!$&'()+,:@ of ASCII"
    OTHER = "which no export knows"


class NotExportable(ConfigError):
    """The trust file asks for what the target cannot enforce.

    Attributes:
        problems: one line for each row or member, which it begins with.
    """

    def __init__(self, target: str, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{target} cannot enforce {problem}" for problem in problems))


def literal(text: str) -> str:
    """A regular expression that matches this text and no other."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def plan(trust: TrustConfig, audience: str, *, source: str, digest: str) -> Plan:
    """Read what `audience` enforces out of a trust file, once, for whatever is made of it.

    Args:
        trust: the whole file.
        audience: the service that is called.
        source, digest: see `Plan`.

    Raises:
        ConfigError: nobody may call it.
    """
    own = trust.for_audiences([audience])
    if not own.pairs:
        raise ConfigError(f"no [[allow]] row of {source} names the audience {audience}")
    pairs: list[TrustedPair] = sorted(own.pairs.values(), key=lambda pair: pair.issuer)
    callers = tuple(
        Caller(trust=own.issuers[pair.issuer], granted=pair.scopes)
        for pair in pairs
        if pair.issuer in own.issuers
    )
    return Plan(
        audience=audience,
        callers=callers,
        openings=tuple(_opening(rule, callers) for rule in own.routes),
        routed=bool(own.routes),
        # it goes into a comment, which a line break would end
        source="".join(char if char.isprintable() else "?" for char in source),
        digest=digest,
        trust=own,
    )


def check(found: Plan, target: str, can: frozenset[Feature]) -> None:
    """Refuse a plan that asks for what a target cannot do.

    Args:
        found: the plan.
        target: its name, for the message.
        can: what it can do.

    Raises:
        NotExportable: with every row and member that is in the way.
    """
    problems = tuple(f"{where}: {feature.value}" for where, feature in _wanted(found) if feature not in can)
    if problems:
        raise NotExportable(target, problems)


def _opening(rule: RouteRule, callers: tuple[Caller, ...]) -> Opening:
    methods = rule.methods | ({"HEAD"} if "GET" in rule.methods else set())
    return Opening(
        template=PathTemplate.parse(rule.path),
        methods=tuple(sorted(methods)),
        scopes=tuple(sorted(rule.scopes)),
        callers=tuple(caller for caller in callers if rule.scopes <= caller.granted),
    )


def _wanted(found: Plan) -> Iterator[tuple[str, Feature]]:
    """Everything that not every target can do, with the place in the trust file that asks for it."""
    for rule, opening in zip(found.trust.routes, found.openings, strict=True):
        where = f"[[route]] {' '.join(sorted(rule.methods))} {rule.path}"
        for wanted, feature in (
            (rule.proof == "wpt", Feature.PROOF),
            (rule.proof not in {"bearer", "wpt"}, Feature.OTHER_PROOF),
            (rule.replay != "allow", Feature.ONCE),
            (rule.user != "none", Feature.USER),
            (not all(map(_PLAIN.fullmatch, filter(None, opening.template.segments))), Feature.PATH),
        ):
            if wanted:
                yield where, feature
        yield from _unknown(rule, where + " ")
    for pair in found.trust.pairs.values():
        where = f"[[allow]] {pair.issuer}"
        if pair.may_act_for:
            yield where, Feature.MAY_ACT_FOR
        yield from _unknown(pair, where + " ")
    for txn in found.trust.transactions:
        yield f"[[txn]] {txn.issuer}", Feature.TXN
    for issuer in found.trust.foreign_issuers:
        yield f'[foreign_issuers."{issuer}"]', Feature.FOREIGN
    for row in found.trust.legacy:
        yield f"[[legacy]] {row.issuer}", Feature.LEGACY
    yield from _unknown(found.trust, "")
    for caller in found.callers:
        where = f'[issuers."{caller.issuer}"]'
        for feature, wants in _OF_ISSUERS.items():
            if wants(caller.trust):
                yield where, feature
        yield from _unknown(caller.trust, where + " ")


# what is looked at here, or is of no concern at the door; a member that came later is neither
_KNOWN = {
    TrustConfig: {
        *("issuers", "pairs", "routes", "user_issuers", "transactions", "services", "legacy"),
        *("foreign_issuers", "header_members", "subjects", "allow_loopback_http", "warnings"),
    },
    IssuerTrust: {
        *("issuer", "algorithms", "types", "leeway", "max_token_life", "jwks_uri", "jwks_file", "eddsa"),
        *("discovery", "jwks_origins", "ca_file", "allow_plain_http", "allow_loopback_http"),
    },
    TrustedPair: {"issuer", "audience", "scopes", "may_act_for"},
    RouteRule: {"audience", "path", "methods", "scopes", "user", "proof", "replay"},
}


def _unknown(entry: msgspec.Struct, where: str) -> Iterator[tuple[str, Feature]]:
    """Members that say something, of which nobody here has heard."""
    known = next(names for kind, names in _KNOWN.items() if isinstance(entry, kind))
    for field in msgspec.structs.fields(entry):
        if field.name not in known and getattr(entry, field.name) != field.default:
            yield where + field.name, Feature.OTHER


_OF_ISSUERS: dict[Feature, Callable[[IssuerTrust], bool]] = {
    Feature.ED25519: lambda trust: "Ed25519" in trust.algorithms,
    Feature.EDDSA: lambda trust: trust.eddsa,
    Feature.ALGORITHMS: lambda trust: trust.algorithms - {"Ed25519"} != _USUAL.algorithms,
    Feature.TYP: lambda trust: trust.types != _USUAL.types,
    Feature.LIFE: lambda trust: trust.max_token_life != _USUAL.max_token_life,
    Feature.LEEWAY: lambda trust: trust.leeway != _USUAL.leeway,
    Feature.JWKS_FILE: lambda trust: trust.jwks_file is not None,
    Feature.RELATIVE_JWKS_FILE: lambda trust: not (trust.jwks_file or "/").startswith("/"),
    Feature.CA_FILE: lambda trust: trust.ca_file is not None,
    Feature.RELATIVE_CA_FILE: lambda trust: not (trust.ca_file or "/").startswith("/"),
    Feature.DISCOVERY: lambda trust: trust.discovery,
    Feature.JWKS_ORIGINS: lambda trust: bool(trust.jwks_origins),
}
