"""The few lines that register this issuer with a cloud: Terraform, or YAML for Kubernetes. Pure text.

Every value was checked (`clouds.py`, `ServiceId`), so that nothing in it ends a quoted string or begins an
interpolation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .clouds import Cloud


def registration(cloud: Cloud, *, issuer: str, subject: str, audience: str) -> str:
    """What an administrator of the cloud applies.

    Args:
        cloud: the provider.
        issuer: ourselves.
        subject, audience: as the tokens have them, checked.
    """
    return _TEXTS[cloud.name](issuer, subject, audience)


def _aws(issuer: str, subject: str, audience: str) -> str:
    name, host = _name(issuer), issuer.partition("://")[2]
    return f"""\
resource "aws_iam_openid_connect_provider" "{name}" {{
  url            = "{issuer}"
  client_id_list = ["{audience}"]
}}

data "aws_iam_policy_document" "{name}" {{
  statement {{
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {{
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.{name}.arn]
    }}
    condition {{
      test     = "StringEquals"
      variable = "{host}:aud"
      values   = ["{audience}"]
    }}
    condition {{
      test     = "StringEquals"
      variable = "{host}:sub"
      values   = ["{subject}"]
    }}
  }}
}}

resource "aws_iam_role" "{name}" {{
  name               = "{name}"
  assume_role_policy = data.aws_iam_policy_document.{name}.json
}}
"""


def _gcp(issuer: str, subject: str, audience: str) -> str:
    name, parts = _name(issuer), audience.split("/")
    project, pool, provider = parts[4], parts[8], parts[10]
    return f"""\
resource "google_iam_workload_identity_pool" "{name}" {{
  project                   = "{project}"
  workload_identity_pool_id = "{pool}"
}}

resource "google_iam_workload_identity_pool_provider" "{name}" {{
  project                            = "{project}"
  workload_identity_pool_id          = google_iam_workload_identity_pool.{name}.workload_identity_pool_id
  workload_identity_pool_provider_id = "{provider}"
  attribute_mapping                  = {{ "google.subject" = "assertion.sub" }}
  attribute_condition                = "assertion.sub == '{subject}'"
  oidc {{
    issuer_uri = "{issuer}"
  }}
}}

# grant roles to this member
output "{name}_member" {{
  value = "principal:{audience.removeprefix("https:").partition("/providers/")[0]}/subject/{subject}"
}}
"""


def _azure(issuer: str, subject: str, audience: str) -> str:
    name = _name(issuer)
    return f"""\
resource "azuread_application_registration" "{name}" {{
  display_name = "{name}"
}}

resource "azuread_service_principal" "{name}" {{
  client_id = azuread_application_registration.{name}.client_id
}}

resource "azuread_application_federated_identity_credential" "{name}" {{
  application_id = azuread_application_registration.{name}.id
  display_name   = "{name}"
  issuer         = "{issuer}"
  subject        = "{subject}"
  audiences      = ["{audience}"]
}}
"""


def _k8s(issuer: str, subject: str, audience: str) -> str:
    return f"""\
# for kube-apiserver --authentication-config (v1 since Kubernetes 1.34, v1beta1 since 1.30)
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
  - issuer:
      url: "{issuer}"
      audiences: ["{audience}"]
    claimMappings:
      username:
        claim: sub
        prefix: "s2s-mesh:"
    claimValidationRules:
      - claim: sub
        requiredValue: "{subject}"
---
# for kubectl apply: what it may do
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: "{_name(issuer)}"
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: view
subjects:
  - apiGroup: rbac.authorization.k8s.io
    kind: User
    name: "s2s-mesh:{subject}"
"""


def _name(issuer: str) -> str:
    """A name that every one of them takes: `edge-example-com` for https://edge.example.com."""
    words = re.sub("[^a-z0-9]+", "-", issuer.partition("://")[2].lower())
    # Terraform's names begin with a letter, those of roles end after 64
    return ("" if words[:1].isalpha() else "at-") + words[:60].strip("-")


_TEXTS: Mapping[str, Callable[[str, str, str], str]] = {
    "aws": _aws,
    "gcp": _gcp,
    "azure": _azure,
    "k8s": _k8s,
}
