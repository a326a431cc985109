"""What SDKs read, and what registers us: documents in other people's shapes, from checked values."""

from __future__ import annotations

import re

import pytest
import yaml

from s2s_mesh import ConfigError
from s2s_mesh.cloud_files import (
    exec_credential,
    executable_failure,
    executable_response,
    executable_source,
    external_account,
    file_source,
)
from s2s_mesh.cloud_registration import registration
from s2s_mesh.clouds import CLOUDS

from .test_clouds import AUDIENCES, POOL
from .tokens import EDGE, NOW

SUBJECT = "edge:prod"


def test_what_an_executable_says() -> None:
    """Version 1 of Google's format, good and bad; the token is a JWT."""
    assert executable_response("a.b.c", NOW) == {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": "a.b.c",
        "expiration_time": NOW,
    }
    failure = executable_failure("no_ring", "there is none")
    assert failure == {"version": 1, "success": False, "code": "no_ring", "message": "there is none"}


def test_what_an_exec_plugin_says() -> None:
    """An ExecCredential with the token and when it ends, as RFC 3339 has it."""
    assert exec_credential("a.b.c", 1_800_000_000) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "a.b.c", "expirationTimestamp": "2027-01-15T08:00:00Z"},
    }


def test_googles_configuration() -> None:
    """For a file or for a command; the audience is without a scheme there, and nothing is secret."""
    document = external_account(f"https:{POOL}", file_source("/run/edge/token"))
    assert document == {
        "type": "external_account",
        "audience": POOL,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": "/run/edge/token", "format": {"type": "text"}},
    }
    command = ["/opt/a b/s2s-mesh", "federate", "gcp"]
    source = external_account(POOL, executable_source(command))["credential_source"]["executable"]
    assert source == {"command": "'/opt/a b/s2s-mesh' federate gcp", "timeout_millis": 60000}


def test_a_service_account() -> None:
    """Tokens of Google's are then those of this account, and nothing else gets into the URL."""
    document = external_account(POOL, file_source("t"), "edge@project.iam.gserviceaccount.com")
    assert document["service_account_impersonation_url"] == (
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
        "edge@project.iam.gserviceaccount.com:generateAccessToken"
    )
    end = ".gserviceaccount.com"
    assert external_account(POOL, file_source("t"), f"{'e' * 63}@{'p' * 128}{end}")
    for bad in (
        "",
        "edge",
        "edge@example.com",
        f"a/../b@project.iam{end}",
        f"edge@a/../b{end}",
        f"edge@project.iam{end}:signJwt?",
        f"edge@project.iam{end}\n",
        f"{'e' * 64}@p{end}",
        f"e@{'p' * 129}{end}",
    ):
        with pytest.raises(ConfigError, match="is not a service account"):
            external_account(POOL, file_source("t"), bad)


@pytest.mark.parametrize("provider", CLOUDS)
def test_what_is_registered(provider: str) -> None:
    """Issuer, subject and audience of the tokens, byte by byte, and no quote that is not closed."""
    audience = AUDIENCES[provider]
    text = registration(CLOUDS[provider], issuer=EDGE, subject=SUBJECT, audience=audience)
    assert f'"{EDGE}"' in text
    assert SUBJECT in text
    assert all(part in text for part in ((audience,) if provider != "gcp" else ('"42"', '"mesh"', '"edge"')))
    assert all(line.count('"') % 2 == 0 for line in text.splitlines())
    assert text.count("{") == text.count("}")


def test_the_roles_policy_has_subject_and_audience() -> None:
    """The keys of AWS's conditions are the issuer without its scheme, path and all."""
    text = registration(CLOUDS["aws"], issuer=f"{EDGE}/team", subject=SUBJECT, audience="sts.amazonaws.com")
    conditions = re.findall(r'variable = "(.*)"\n +values   = \["(.*)"\]', text)
    assert conditions == [
        ("edge.example.com/team:aud", "sts.amazonaws.com"),
        ("edge.example.com/team:sub", SUBJECT),
    ]


def test_googles_condition_and_member() -> None:
    """One subject only; the member that roles are granted to is of the pool."""
    text = registration(CLOUDS["gcp"], issuer=EDGE, subject=SUBJECT, audience=f"https:{POOL}")
    assert f"assertion.sub == '{SUBJECT}'" in text
    pool = POOL.partition("/providers/")[0]
    assert f'"principal:{pool}/subject/{SUBJECT}"' in text
    assert re.findall(r'project += "(.*)"', text) == ["42", "42"]


def test_the_clusters_documents() -> None:
    """Both are YAML; the user of the binding is the one that the mapping makes."""
    text = registration(CLOUDS["k8s"], issuer=EDGE, subject=SUBJECT, audience=AUDIENCES["k8s"])
    authentication, binding = yaml.safe_load_all(text)
    (authenticator,) = authentication["jwt"]
    assert authenticator["issuer"] == {"url": EDGE, "audiences": [AUDIENCES["k8s"]]}
    assert authenticator["claimValidationRules"] == [{"claim": "sub", "requiredValue": SUBJECT}]
    prefix = authenticator["claimMappings"]["username"]["prefix"]
    assert [subject["name"] for subject in binding["subjects"]] == [prefix + SUBJECT]
    assert (binding["kind"], binding["roleRef"]["name"]) == ("ClusterRoleBinding", "view")


@pytest.mark.parametrize(
    ("issuer", "name"),
    [
        (EDGE, "edge-example-com"),
        ("https://1a.example.com/team/A", "at-1a-example-com-team-a"),
        ("https://" + "x" * 63 + ".example.com", "x" * 60),
        ("https://" + "x" * 59 + ".example.com", "x" * 59),
    ],
)
def test_names_of_resources(issuer: str, name: str) -> None:
    """They begin with a letter and are short enough for a role."""
    text = registration(CLOUDS["aws"], issuer=issuer, subject="s", audience="sts.amazonaws.com")
    assert re.findall(r'resource "aws_iam_role" "(.*)"', text) == [name]
    assert len(name) <= 64
