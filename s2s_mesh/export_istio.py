"""An audience's rules for Istio: RequestAuthentication for tokens, AuthorizationPolicy for who may what.

Istio enforces less than we do (`LIMITS`), whatever the trust file says; what the file asks for beyond the
defaults is refused, for a person would believe that it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from .export_plan import Caller, Feature, Opening, Plan, check
from .export_yaml import document
from .forward_auth import IDENTITY
from .routes import PathTemplate

CAN: frozenset[Feature] = frozenset({Feature.DISCOVERY})
LIMITS: tuple[str, ...] = (
    "typ: any kind of token of an issuer opens the door, if its claims fit",
    "algorithms: whatever the key set says",
    "max_token_life; and 60 s of leeway instead of 30 s",
    "the strict form of tokens: aud may name others too, members may repeat, jti may be missing",
    "a scope claim that is no text counts as none, which asks for all that is granted",
    "cnf, act and sub_id with other members than those of RFC 7800, 8693 and 9493",
    "paths: they are judged as meshConfig.pathNormalization rewrites them, and handed on like that",
    "discovery: the document may name any origin",
    "`s2s-mesh deny`, a policy of the application's own, a log line that says why somebody was refused",
)
_API = "security.istio.io/v1"
# what marks a token that is no bearer token of a service alone; a condition wants a text to compare
_MARKS = (
    *("cnf][jkt", "cnf][kid", "cnf][x5t#S256", "cnf][jwk][kty"),
    *("act][sub", "act][iss", "sub_id][format", "sub_id][sub"),
)


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
    url = urlsplit(plan.audience)
    name = re.sub("[^a-z0-9]+", "-", f"s2s-mesh-{url.netloc}{url.path}".lower()).strip("-")
    tokens = {"jwtRules": [_rule(plan, caller) for caller in plan.callers]}
    bound = {"action": "DENY", "rules": [{"when": [_when(mark, "*")]} for mark in _MARKS]}
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
            who = {
                # iss and sub, which are the same where no user is carried
                "from": [{"source": {"requestPrincipals": [f"{caller.issuer}/{caller.issuer}"]}}],
                **where,
            }
            own = [
                {"key": "request.auth.audiences", "values": [plan.audience]},
                _when("client_id", caller.issuer),
            ]
            scopes = () if opening is None else opening.scopes
            if scopes:
                yield {**who, "when": [*own, *(_when("scope", scope) for scope in scopes)]}
                own.append({"key": "request.auth.claims[scope]", "notValues": ["*"]})
            yield {**who, "when": own}


def _when(claim: str, value: str) -> dict[str, Any]:
    return {"key": f"request.auth.claims[{claim}]", "values": [value]}


def _operation(opening: Opening) -> dict[str, Any]:
    return {"methods": list(opening.methods), "paths": [_path(opening.template)]}


def _path(template: PathTemplate) -> str:
    parts = ["{*}" if segment is None else segment for segment in template.segments]
    return "/" + "/".join([*parts, "{**}"] if template.tail else parts)
