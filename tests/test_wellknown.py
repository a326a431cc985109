"""What a service publishes about itself: bytes, headers, caching, and never a guess about who is asked."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from starlette.applications import Starlette

from s2s_mesh import RotationSchedule, Service, ServiceId, TrustConfig
from s2s_mesh.asap import KEYS
from s2s_mesh.jwks import JWKSet
from s2s_mesh.keyring import KeyRing
from s2s_mesh.spiffe_bundle import DOCUMENT as BUNDLE
from s2s_mesh.wellknown import AUTHORIZATION_SERVER, DOCUMENTS, JWKS, OPENID_CONFIGURATION, Answer, WellKnown

from .tokens import EDGE, NOW, key

FIRST, SECOND = key("ES256", "first"), key("Ed25519", "second")
SCHEDULE = RotationSchedule.DEFAULT
OPEN_TO_ALL = {"access-control-allow-origin": "*", "x-content-type-options": "nosniff"}
EVERY = (*DOCUMENTS, BUNDLE)
DISCOVERY = (OPENID_CONFIGURATION, AUTHORIZATION_SERVER)


def ring_at(now: float = NOW) -> KeyRing:
    """A ring that began at `now`: an ES256 key and its Ed25519 successor."""
    keys = iter([FIRST, SECOND])
    return KeyRing(EDGE, SCHEDULE).advance(now, generate=lambda: next(keys))


def well_known(
    issuer: str = EDGE, schedule: RotationSchedule = SCHEDULE, *, spiffe: bool = True
) -> WellKnown:
    """A replica's own instance."""
    return WellKnown(ServiceId.parse(issuer), schedule, spiffe=spiffe)


def get(
    served: WellKnown,
    ring: KeyRing | None,
    now: float = NOW,
    document: str = JWKS,
    *,
    method: str = "GET",
    etag: str | None = None,
) -> Answer:
    """Ask for a document."""
    return served.answer(document, ring, now, method=method, if_none_match=etag)


def kids(answer: Answer) -> list[str]:
    """The key ids in a JWKS answer, in its order."""
    return [entry["kid"] for entry in json.loads(answer.body)["keys"]]


def test_replicas_serve_identical_bytes() -> None:
    """Equal rings, however each replica came by its own, are one JWKS to the byte, sorted by kid (I-J1)."""
    ring = ring_at()
    half_a, half_b = (KeyRing(EDGE, SCHEDULE, [record]) for record in ring.records.values())
    answers = [
        get(well_known(), same)
        for same in (
            ring,
            KeyRing.parse(ring.to_bytes(), issuer=EDGE, schedule=SCHEDULE),
            half_b.merge(half_a).written(),
        )
    ]
    assert answers[0] == answers[1] == answers[2]
    assert kids(answers[0]) == sorted([FIRST.kid, SECOND.kid])
    assert JWKSet.parse(answers[0].body).keys.keys() == {FIRST.kid, SECOND.kid}


def test_a_jwks_holds_public_members_only() -> None:
    """Each key has exactly the members of I-J2, and nothing of a private half."""
    keys = json.loads(get(well_known(), ring_at()).body)["keys"]
    assert {entry["kty"]: sorted(entry) for entry in keys} == {
        "EC": sorted(["kty", "crv", "x", "y", "kid", "use", "alg"]),
        "OKP": sorted(["kty", "crv", "x", "kid", "use", "alg"]),
    }
    assert {entry["use"] for entry in keys} == {"sig"}


@pytest.mark.parametrize("document", EVERY)
def test_an_answer_may_be_cached_and_read_by_anybody(document: str) -> None:
    """Media type, `max-age` of the schedule, a strong entity tag, CORS and nosniff (I-R1, I-R2)."""
    answer = get(well_known(), ring_at(), document=document)
    assert answer.status == 200
    etag = answer.headers["etag"]
    assert etag.startswith('"')
    assert etag.endswith('"')
    assert len(etag) > 20
    assert answer.headers == {
        **OPEN_TO_ALL,
        "content-type": "application/jwk-set+json" if document == JWKS else "application/json",
        "cache-control": "public, max-age=300",
        "etag": etag,
        "content-length": str(len(answer.body)),
    }


@pytest.mark.parametrize(
    ("schedule", "max_age"),
    [
        (SCHEDULE, 300),
        (RotationSchedule(served_max_age=77.9), 77),
        (RotationSchedule(served_max_age=0.5), 1),
        (RotationSchedule.FAST_FOR_TESTS, 1),
    ],
)
def test_the_max_age_is_that_of_the_schedule(schedule: RotationSchedule, max_age: int) -> None:
    """Whole seconds, as RFC 9111 has them, rounded down and at least one."""
    answer = get(well_known(schedule=schedule), ring_at())
    assert answer.headers["cache-control"] == f"public, max-age={max_age}"


NOT_MODIFIED = [
    ("the tag itself", "{etag}"),
    ("a weak one", "W/{etag}"),
    ("in a list", '"other", {etag}'),
    ("weak, in a list without spaces", '"other",W/{etag},"another"'),
    ("any", "*"),
    ("any, with spaces", " * "),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "header", [pytest.param(header, id=name.replace(" ", "-")) for name, header in NOT_MODIFIED]
)
def test_what_the_caller_has_is_not_sent_again(header: str, method: str) -> None:
    """If-None-Match compares weakly (RFC 9110 section 13.1.2); 304 renews the caching headers."""
    served, ring = well_known(), ring_at()
    full = get(served, ring)
    answer = get(served, ring, method=method, etag=header.format(etag=full.headers["etag"]))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers == {
        **OPEN_TO_ALL,
        "cache-control": full.headers["cache-control"],
        "etag": full.headers["etag"],
    }


@pytest.mark.parametrize("header", ['"other"', 'W/"other"', "", "{bare}", 'w/"{bare}"', '"*"', '"{bare}x"'])
def test_a_tag_of_another_content_gets_the_whole_document(header: str) -> None:
    """Only the very tag counts: unquoted, longer, or a quoted asterisk is something else."""
    served, ring = well_known(), ring_at()
    full = get(served, ring)
    bare = full.headers["etag"].strip('"')
    assert get(served, ring, etag=header.format(bare=bare)) == full


@pytest.mark.parametrize("document", EVERY)
def test_head_is_get_without_the_body(document: str) -> None:
    """HEAD has every header of GET, the length too (RFC 9110 section 9.3.2)."""
    served, ring = well_known(), ring_at()
    full = get(served, ring, document=document)
    head = get(served, ring, document=document, method="HEAD")
    assert (head.status, head.headers, head.body) == (200, full.headers, b"")


@pytest.mark.parametrize("ring", [ring_at(), None], ids=["loaded", "not-loaded"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", ""])
def test_other_methods_are_refused(method: str, ring: KeyRing | None) -> None:
    """405 names the methods there are (I-R3)."""
    answer = get(well_known(), ring, method=method)
    assert (answer.status, answer.body) == (405, b"")
    assert answer.headers == {**OPEN_TO_ALL, "allow": "GET, HEAD", "content-length": "0"}


@pytest.mark.parametrize("document", EVERY)
def test_before_a_ring_is_loaded_nothing_is_claimed(document: str) -> None:
    """503 that no cache keeps, and never an empty set, which would mean that all is revoked (I-K5)."""
    for etag in (None, "*"):
        answer = get(well_known(), None, document=document, etag=etag)
        assert answer.status == 503
        assert answer.headers == {
            **OPEN_TO_ALL,
            "retry-after": "1",
            "cache-control": "no-store",
            "content-type": "application/problem+json",
            "content-length": str(len(answer.body)),
        }
        assert json.loads(answer.body)["status"] == 503
        assert b"keys" not in answer.body.replace(b"key ring", b"")
    head = get(well_known(), None, document=document, method="HEAD")
    assert (head.status, head.headers, head.body) == (503, answer.headers, b"")


def test_the_document_changes_exactly_when_the_published_keys_do() -> None:
    """A key that begins or stops signing changes nothing; removing one changes body and tag at once."""
    served, ring = well_known(), ring_at()
    first, second = ring.records[FIRST.kid], ring.records[SECOND.kid]
    both, one = sorted([FIRST.kid, SECOND.kid]), [SECOND.kid]
    assert second.sign_from == first.sign_until
    times = [NOW - 60, NOW, second.sign_from - 0.001, second.sign_from, first.remove_at - 0.001]
    before = [get(served, ring, at) for at in times]
    after = [get(served, ring, at) for at in (first.remove_at, second.sign_until - 0.001)]
    assert all(answer == before[0] for answer in before)
    assert all(answer == after[0] for answer in after)
    assert (kids(before[0]), kids(after[0])) == (both, one)
    assert get(served, ring, first.remove_at, etag=before[0].headers["etag"]) == after[0]
    # a clock that goes back brings the older document back
    assert get(served, ring, first.remove_at - 1) == before[0]


def test_another_snapshot_is_served_at_once() -> None:
    """A revoked key is gone with the next answer, whatever was remembered."""
    served, ring = well_known(), ring_at()
    before = get(served, ring)
    after = get(served, ring.compromise(FIRST.kid, NOW))
    assert kids(after) == [SECOND.kid]
    assert after.headers["etag"] != before.headers["etag"]
    assert get(served, ring) == before


def test_an_empty_set_says_that_all_is_revoked() -> None:
    """A loaded ring whose keys are all revoked serves 200 and no key: that is what it means (I-K5)."""
    served, ring = well_known(), ring_at()
    for kid in ring.records:
        ring = ring.compromise(kid, NOW)
    answer = get(served, ring)
    assert (answer.status, answer.body) == (200, b'{"keys":[]}')
    metadata = json.loads(get(served, ring, document=OPENID_CONFIGURATION).body)
    assert "id_token_signing_alg_values_supported" not in metadata
    assert all(metadata.values())  # members without elements are left out (RFC 8414 section 3.2)


@pytest.mark.parametrize("issuer", [EDGE, "https://edge.example.com:8443/apis/edge"])
def test_discovery_is_the_minimum_that_relying_parties_read(issuer: str) -> None:
    """Both documents are one; the JWKS address is the issuer's own, the algorithms are sorted."""
    served = well_known(issuer)
    openid, oauth = (get(served, ring_at(), document=document) for document in DISCOVERY)
    assert openid == oauth
    assert json.loads(openid.body) == {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "Ed25519"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"],
        "scopes_supported": ["openid"],
    }


def test_an_algorithm_is_listed_as_long_as_one_of_its_keys_is_published() -> None:
    """Discovery follows the published keys, each algorithm once."""
    served, ring = well_known(), ring_at()
    for at, algorithms in ((NOW, ["ES256", "Ed25519"]), (ring.records[FIRST.kid].remove_at, ["Ed25519"])):
        metadata = json.loads(get(served, ring, at, OPENID_CONFIGURATION).body)
        assert metadata["id_token_signing_alg_values_supported"] == algorithms
    keys = iter([FIRST, key("ES256", "second")])
    twins = KeyRing(EDGE, SCHEDULE).advance(NOW, generate=lambda: next(keys))
    metadata = json.loads(get(served, twins, NOW, OPENID_CONFIGURATION).body)
    assert metadata["id_token_signing_alg_values_supported"] == ["ES256"]


def test_paths_on_the_host() -> None:
    """Below the issuer's path, and for RFC 8414 section 3.1 between host and path as well."""
    assert well_known(spiffe=False).absolute_paths == {
        "/.well-known/jwks.json": JWKS,
        "/.well-known/openid-configuration": OPENID_CONFIGURATION,
        "/.well-known/oauth-authorization-server": AUTHORIZATION_SERVER,
    }
    assert well_known("https://edge.example.com/apis/edge", spiffe=False).absolute_paths == {
        "/apis/edge/.well-known/jwks.json": JWKS,
        "/apis/edge/.well-known/openid-configuration": OPENID_CONFIGURATION,
        "/apis/edge/.well-known/oauth-authorization-server": AUTHORIZATION_SERVER,
        "/.well-known/oauth-authorization-server/apis/edge": AUTHORIZATION_SERVER,
    }


def test_paths_on_the_host_are_decoded_as_servers_hand_them_on() -> None:
    """An issuer whose path has an escape publishes its documents where its URLs lead."""
    issuer = ServiceId.parse("https://edge.example.com/apis%20old")
    served = WellKnown(issuer, SCHEDULE, asap_issuer="team/edge")
    for document in (*DOCUMENTS, KEYS + "/team/edge/kid"):
        assert served.document_at("/apis old" + document) == document
        assert served.document_at("/apis%20old" + document) is None
    assert served.document_at(AUTHORIZATION_SERVER + "/apis old") == AUTHORIZATION_SERVER


def test_the_spiffe_bundle_is_there_for_a_service_with_a_spiffe_id_only() -> None:
    """At its path on the host and below the issuer's; without the id nobody finds it."""
    named, nameless = (well_known("https://edge.example.com/apis", spiffe=spiffe) for spiffe in (True, False))
    assert (*nameless.documents, BUNDLE) == named.documents
    assert named.absolute_paths == {**nameless.absolute_paths, "/apis" + BUNDLE: BUNDLE}
    for path in (BUNDLE, "/apis" + BUNDLE):
        assert (named.document_at(path), nameless.document_at(path)) == (BUNDLE, None)
    assert named.document_at(BUNDLE + "/") is None


def test_the_spiffe_bundle_changes_with_the_keys() -> None:
    """Body and tag, at the instant of a removal and with a revocation; all revoked is an empty bundle."""
    served, ring = well_known(), ring_at()
    removal = ring.records[FIRST.kid].remove_at
    before, last, after = (get(served, ring, at, BUNDLE) for at in (NOW, removal - 0.001, removal))
    assert before == last != after
    assert (kids(before), kids(after)) == ([FIRST.kid], [])  # the other one is an Ed25519 key
    revoked = get(served, ring.compromise(FIRST.kid, NOW), document=BUNDLE)
    assert (revoked.status, kids(revoked)) == (200, [])
    numbers = [json.loads(answer.body)["spiffe_sequence"] for answer in (before, revoked, after)]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("document", EVERY)
def test_a_host_header_changes_nothing(document: str) -> None:
    """Documents are built from configuration, whatever Host and X-Forwarded-* say (I-R4)."""
    spiffe_id = "spiffe://edge.example.com/edge"
    trust = TrustConfig.parse("version = 1")
    service = Service(issuer=EDGE, trust=trust, key_store="memory://", spiffe_id=spiffe_id)
    app = Starlette(routes=service.routes)
    lies = {
        "host": "evil.example.com",
        "x-forwarded-host": "evil.example.com",
        "x-forwarded-proto": "http",
        "x-forwarded-prefix": "/evil",
        "forwarded": "host=evil.example.com",
    }

    async def ask() -> list[httpx.Response]:
        async with (
            service,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=EDGE) as http,
        ):
            return [await http.get(document, headers=headers) for headers in ({}, lies)]

    honest, lied_to = asyncio.run(ask())
    assert honest.status_code == 200
    assert (lied_to.content, lied_to.headers) == (honest.content, honest.headers)
    assert b"evil" not in lied_to.content
