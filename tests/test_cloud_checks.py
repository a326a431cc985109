"""What `federate check` makes of our documents: values in, findings out."""

from __future__ import annotations

from typing import Any

import pytest

from s2s_mesh.cloud_checks import Seen, algorithms, discovery, issuer_url, keys, lead, subject
from s2s_mesh.clouds import CLOUDS
from s2s_mesh.findings import Finding, Verdict
from s2s_mesh.keyring import KeyRing
from s2s_mesh.keys import SigningKey
from s2s_mesh.rotation import RotationSchedule
from s2s_mesh.strict_json import decode_object
from s2s_mesh.wellknown import JWKS, OPENID_CONFIGURATION, WellKnown

from .key_pool import pool
from .tokens import EDGE, NOW, key

AWS, GCP, AZURE, K8S = (CLOUDS[name] for name in ("aws", "gcp", "azure", "k8s"))
CLOUD = RotationSchedule.CLOUD_FEDERATION


def ring(*generated: SigningKey) -> KeyRing:
    """A ring whose first keys are these."""
    left = list(generated)
    return KeyRing(EDGE, CLOUD).advance(NOW, generate=lambda: left.pop(0))


ES256 = ring(pool(1), pool(2))


def documents(of: KeyRing = ES256) -> tuple[Seen, Seen]:
    """What a service with this ring publishes."""
    from s2s_mesh.identity import ServiceId

    served = WellKnown(ServiceId(EDGE), CLOUD)

    def seen(document: str) -> Seen:
        answer = served.answer(document, of, NOW, method="GET")
        return Seen(place=EDGE + document, members=decode_object(answer.body))

    return seen(OPENID_CONFIGURATION), seen(JWKS)


def problem(finding: Finding, verdict: Verdict = Verdict.FAIL) -> str:
    """What a finding that something is to be done for says."""
    assert finding.verdict is verdict, finding
    assert finding.do
    return finding.found


@pytest.mark.parametrize("cloud", [AWS, GCP, K8S], ids=lambda cloud: cloud.name)
def test_a_service_in_order(cloud: Any) -> None:
    """What s2s_mesh publishes is good for all of them."""
    document, jwks = documents()
    found = [
        issuer_url(cloud, EDGE),
        subject(None, EDGE),
        lead(CLOUD),
        algorithms(cloud, ES256, NOW),
        discovery(EDGE, document, jwks),
        *keys(cloud, jwks, ES256, NOW),
    ]
    assert [finding.verdict for finding in found] == [Verdict.OK] * 8
    assert [finding.do for finding in found] == [""] * 8


@pytest.mark.parametrize(
    ("cloud", "issuer", "found"),
    [
        (AWS, EDGE, None),
        (AWS, f"{EDGE}/team/a", None),
        (AWS, f"{EDGE}:8443", "names port 8443"),
        (GCP, f"{EDGE}:8443", None),
        (AWS, "http://127.0.0.1", "not https; 127.0.0.1 is not a name on the internet"),
        (AZURE, "https://10.1.2.3", "10.1.2.3 is not"),
        (GCP, "https://edge.internal", "edge.internal is not"),
        (GCP, "https://edge", "edge is not"),
        (GCP, "https://8.8.8.8", None),
        (K8S, "https://edge.internal:8443", None),
        (K8S, "http://127.0.0.1:8000", "not https"),
        (GCP, "https://edge.home.arpa", "edge.home.arpa is not"),
        (GCP, "https://home.arpa", "home.arpa is not"),
        (AWS, "https://edge.localhost", "edge.localhost is not"),
        (AWS, "https://edge.local", "edge.local is not"),
        (AWS, "https://edge.test", "edge.test is not"),
        (AWS, "https://edge.invalid", "edge.invalid is not"),
        (AWS, "https://edge.flycast", "edge.flycast is not"),
        (AWS, "https://edge.lan", "edge.lan is not"),
        (AWS, f"{EDGE}/{'x' * 230}", None),
        (AWS, f"{EDGE}/{'x' * 231}", "256 characters"),
    ],
)
def test_the_issuers_name(cloud: Any, issuer: str, found: str | None) -> None:
    """https, on the internet where the provider fetches from there, no port for AWS."""
    finding = issuer_url(cloud, issuer)
    if found is None:
        assert (finding.verdict, finding.found) == (Verdict.OK, issuer)
    else:
        assert found in problem(finding)


def test_the_subject() -> None:
    """What `federate` would refuse to put into a token."""
    assert subject("edge:prod", EDGE).found == "edge:prod (9 bytes)"
    assert "expected 1 to 127" in problem(subject("x" * 128, EDGE))
    assert "longer than the 127 bytes" in problem(subject(None, f"{EDGE}/{'x' * 120}"))


def test_the_lead() -> None:
    """Short of a day works until a cloud's cache is older than that."""
    assert "7200 s before it signs" in problem(lead(RotationSchedule.DEFAULT), Verdict.WARN)


@pytest.mark.parametrize(
    ("cloud", "of", "found", "do"),
    [
        (AZURE, ES256, "ES256 signs", "--algorithm RS256"),
        (GCP, ring(pool(1, "Ed25519"), pool(2, "Ed25519")), "Ed25519 signs", "--algorithm ES256"),
        (AWS, ring(pool(1), pool(2, "Ed25519")), "Ed25519 signs next", "S2S_MESH_ALGORITHM=ES256"),
    ],
)
def test_the_algorithm(cloud: Any, of: KeyRing, found: str, do: str) -> None:
    """Of the key that signs, and of the one after it."""
    finding = algorithms(cloud, of, NOW)
    assert problem(finding) == found
    assert do in finding.do


@pytest.mark.parametrize("of", [None, KeyRing(EDGE, CLOUD)])
def test_no_key_yet(of: KeyRing | None) -> None:
    """There is nothing to be said of it."""
    assert algorithms(AWS, of, NOW).verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"issuer": f"{EDGE}/"}, f"issuer is '{EDGE}/'"),
        ({"issuer": None}, "no issuer"),
        ({"jwks_uri": None}, "no jwks_uri"),
        ({"jwks_uri": "http://edge.example.com/jwks"}, "jwks_uri is not https"),
        ({"jwks_uri": 7}, "jwks_uri is not https"),
        ({"response_types_supported": None}, "no response_types_supported"),
        ({"subject_types_supported": None}, "no subject_types_supported"),
        ({"id_token_signing_alg_values_supported": ["RS256"]}, "and the keys are for ['ES256']"),
        ({"id_token_signing_alg_values_supported": None}, "is None, and the keys are for"),
        ({"authorization_endpoint": ""}, "authorization_endpoint is empty"),
        ({"grant_types_supported": []}, "grant_types_supported is empty"),
    ],
)
def test_the_discovery_document(changes: dict[str, Any], found: str) -> None:
    """A copy of it, or a proxy, that says something else."""
    document, jwks = documents()
    assert document.members is not None
    members = {name: value for name, value in {**document.members, **changes}.items() if value is not None}
    assert found in problem(discovery(EDGE, Seen(place=document.place, members=members), jwks))


def test_documents_that_do_not_come() -> None:
    """Why, and what may be the matter."""
    away = Seen(place=f"{EDGE}/x", error="answered 404, expected 200")
    assert problem(discovery(EDGE, away, away)) == f"{EDGE}/x: answered 404, expected 200"
    (finding,) = keys(AWS, away, ES256, NOW)
    assert problem(finding) == f"{EDGE}/x: answered 404, expected 200"
    assert discovery(EDGE, documents()[0], away).verdict is Verdict.OK


def test_what_others_write_steers_no_terminal() -> None:
    """Short, and without control characters, wherever a name or a value of a document is repeated."""
    ugly = "\x1b]0;" + "x" * 1000
    bad = {**GOOD, "kid": ugly, "alg": ugly, "kty": ugly, "use": ugly}
    document, _ = documents()
    changed = {
        **(document.members or {}),
        "issuer": ugly,
        "jwks_uri": ugly,
        "id_token_signing_alg_values_supported": [ugly],
        ugly: "",
    }
    found = [
        discovery(
            EDGE, Seen(place=document.place, members=changed), Seen(place=EDGE, members={"keys": [bad]})
        ),
        *judged(GCP, bad, bad).values(),
        judged(GCP, GOOD, bad)["kinds of keys"],
    ]
    assert len(found) == 5
    for finding in found:
        assert finding.found.isprintable()
        assert len(finding.found) < 1000
        assert finding.do.isprintable()
    assert sum("u001b" in finding.found for finding in found) == 4


def judged(cloud: Any, *found: Any, of: KeyRing | None = None) -> dict[str, Finding]:
    """The findings about a JWKS of these keys, by check."""
    jwks = Seen(place=EDGE + JWKS, members={"keys": list(found)})
    return {finding.check: finding for finding in keys(cloud, jwks, of, NOW)}


GOOD = dict(pool(1).public.public_jwk)


def test_a_jwks_without_keys() -> None:
    """Or one that is none: one finding."""
    broken: list[dict[str, Any]] = [{"keys": []}, {"keys": "none"}, {"keys": 7}, {"keys": ["none"]}, {}]
    for members in broken:
        (finding,) = keys(AWS, Seen(place=EDGE, members=members), None, NOW)
        assert problem(finding) == "no keys"


def test_a_jwks_of_another_ring() -> None:
    """The key that signs is not published; two of one name; more than are read."""
    assert "signs and is not published there" in problem(judged(AWS, {**GOOD, "kid": "x"}, of=ES256)["JWKS"])
    assert problem(judged(AWS, GOOD, GOOD)["JWKS"]) == f"2 keys with the kid {GOOD['kid']}"
    many = [{**GOOD, "kid": str(number)} for number in range(101)]
    assert problem(judged(AZURE, *many)["JWKS"]) == "101 keys"
    assert judged(AZURE, *many[1:])["JWKS"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"kid": None}, "keys[0] has no kid"),
        ({"alg": None}, "has no alg"),
        ({"use": None}, "has no use"),
        ({"kty": None}, "has no kty"),
        ({"kty": 7}, "has no kty"),
        ({"use": "enc"}, "is not for signatures"),
        ({"key_ops": ["verify"]}, "has key_ops"),
        ({"x5c": ["MII"]}, "has x5c"),
        ({"x5t": "A"}, "has x5t"),
        ({"x5t#S256": "A"}, "has x5t#S256"),
        ({"x5u": "https://edge.example.com/chain"}, "has x5u"),
        ({"d": "AQAB"}, "has d"),
    ],
)
def test_members_that_break_keys(changes: dict[str, Any], found: str) -> None:
    """`key_ops` is what AWS was seen to stumble over."""
    changed = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    finding = judged(AWS, changed)["members of keys"]
    assert found in problem(finding)
    assert finding.do == "publish what `s2s-mesh jwks` prints, and nothing else"


def test_kinds_of_keys() -> None:
    """None that the cloud verifies is a failure; one more is skipped, and must not be uploaded to Google."""
    okp = dict(pool(1, "Ed25519").public.public_jwk)
    assert problem(judged(AZURE, GOOD)["kinds of keys"]) == "none for RS256"
    assert "--algorithm RS256" in judged(AZURE, GOOD)["kinds of keys"].do
    assert judged(AWS, GOOD, okp)["kinds of keys"].verdict is Verdict.OK
    finding = judged(GCP, GOOD, okp)["kinds of keys"]
    assert "Ed25519, which must not be in an uploaded JWKS" in problem(finding, Verdict.WARN)
    assert judged(AZURE, dict(key(alg="RS256").public.public_jwk))["kinds of keys"].verdict is Verdict.OK
