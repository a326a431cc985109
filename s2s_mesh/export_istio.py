"""An audience's rules for Istio: RequestAuthentication for tokens, AuthorizationPolicy for who may what.

Istio enforces less than we do (`LIMITS`), whatever the trust file says; what the file asks for beyond the
defaults is refused, for a person would believe that it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from .export_plan import Caller, Feature, Opening, Plan, check
from .export_yaml import document
from .forward_auth import IDENTITY

CAN: frozenset[Feature] = frozenset({Feature.DISCOVERY})
LIMITS: tuple[str, ...] = (
    "typ: any kind of token of an issuer opens the door, if its claims fit",
    "algorithms: whatever the key set says",
    "max_token_life; and 60 s of leeway instead of 30 s",
    "the strict form of tokens: aud and client_id may name others too, members repeat, jti be missing",
    "a scope claim that is no text counts as none, which asks for all that is granted",
    "cnf, act and sub_id with other members than those of RFC 7800, 8693 and 9493",
    "paths: they are judged as meshConfig.pathNormalization rewrites them, and handed on like that",
    "fields with underscores: an application that takes S2S_Caller for S2S-Caller needs them refused",
    "discovery: the document may name any origin",
    "`s2s-mesh deny`, a policy of the application's own, a log line that says why somebody was refused",
)
_API = "security.istio.io/v1"
_LONGEST_NAME = 200  # of 253 that Kubernetes allows, with what is put before and behind
# what marks a token that is no bearer token of a service alone; a condition wants a text to compare
_MARKS = (
    *("cnf][jkt", "cnf][kid", "cnf][x5t#S256", "cnf][jwk][kty"),
    *("act][sub", "act][iss", "sub_id][format", "sub_id][sub"),
)
# what the application would believe of a caller; S2S-Caller is replaced
_OURS = IDENTITY[1:]


def istio(plan: Plan, labels: Mapping[str, str] | None = None) -> str:
    """Three resources: YAML.

    Args:
        plan: what is enforced.
        labels: of the workload; without, they hold for all workloads of the namespace.

    Raises:
        NotExportable: it asks for what these cannot enforce.
    """
    check(plan, "istio", CAN)
    selector = {"selector": {"matchLabels": dict(labels)}} if labels else {}
    name = _name(plan.audience)
    tokens = {"jwtRules": [_rule(plan, caller) for caller in plan.callers]}
    denied = [f"request.auth.claims[{mark}]" for mark in _MARKS] + [
        f"request.headers[{name}]" for name in _OURS
    ]
    bound = {"action": "DENY", "rules": [{"when": [{"key": key, "values": ["*"]}]} for key in denied]}
    allowed = {"action": "ALLOW", "rules": list(_rules(plan))}
    resources = (
        ("RequestAuthentication", name, tokens),
        ("AuthorizationPolicy", f"{name}-bearer-only", bound),
        ("AuthorizationPolicy", name, allowed),
    )
    documents = [
        {"apiVersion": _API, "kind": kind, "metadata": {"name": called}, "spec": {**selector, **spec}}
        for kind, called, spec in resources
    ]
    banner = plan.banner("Istio resources", LIMITS)
    return "---\n".join(document(() if index else banner, one) for index, one in enumerate(documents))


def _name(audience: str) -> str:
    """What the resources of an audience are called: no two have the same, or one would replace the other."""
    words = re.sub("[^a-z0-9]+", "-", audience.partition("://")[2].lower()).strip("-")
    return f"s2s-mesh-{words[:_LONGEST_NAME]}-{sha256(audience.encode()).hexdigest()[:8]}"


def _rule(plan: Plan, caller: Caller) -> dict[str, Any]:
    uri = {} if caller.trust.jwks_uri is None else {"jwksUri": caller.trust.jwks_uri}
    return {
        "issuer": caller.issuer,
        "audiences": [plan.audience],
        **uri,
        "fromHeaders": [{"name": "Authorization", "prefix": "Bearer "}],
        "outputClaimToHeaders": [{"header": IDENTITY[0], "claim": "iss"}],
    }


def _rules(plan: Plan) -> Iterator[dict[str, Any]]:
    """Who may what: one rule for a token that names the scopes, one for a token that leaves them out."""
    # the service's own documents, for the services that it calls
    yield {"to": [{"operation": {"methods": ["GET", "HEAD"], "paths": list(plan.public)}}]}
    openings = plan.openings if plan.routed else (None,)
    for opening in openings:
        for caller in plan.callers if opening is None else opening.callers:
            where = {} if opening is None else {"to": [{"operation": _operation(opening)}]}
            # no requestPrincipals: "iss/sub" of two URLs can be parted in several ways, and Istio does
            own = [
                *(_when(claim, caller.issuer) for claim in ("iss", "sub", "client_id")),
                {"key": "request.auth.audiences", "values": [plan.audience]},
            ]
            scopes = () if opening is None else opening.scopes
            if scopes:
                yield {**where, "when": [*own, *(_when("scope", scope) for scope in scopes)]}
                own.append({"key": "request.auth.claims[scope]", "notValues": ["*"]})
            yield {**where, "when": own}


def _when(claim: str, value: str) -> dict[str, Any]:
    return {"key": f"request.auth.claims[{claim}]", "values": [value]}


def _operation(opening: Opening) -> dict[str, Any]:
    parts = ["{*}" if segment is None else segment for segment in opening.template.segments]
    methods = list(opening.methods)
    if not opening.template.tail:
        return {"methods": methods, "paths": ["/" + "/".join(parts)]}
    folder = "/" + "".join(f"{part}/" for part in parts)
    # {**} also matches nothing, which {x:path} does not
    return {"methods": methods, "paths": [folder + "{**}"], "notPaths": [folder]}
