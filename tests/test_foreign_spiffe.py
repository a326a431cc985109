"""A SPIFFE trust domain vouches for services: its bundle, its JWT-SVIDs, and everything that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s2s_mesh import Service, TokenRejected, TrustConfig
from s2s_mesh.errors import JWKSInvalid, Reason
from s2s_mesh.jwks import JWKSet
from s2s_mesh.resolver import JWKSCacheLimits, KeyResolver
from s2s_mesh.shared_sets import SharedSet, SharedSets
from s2s_mesh.trust import TrustFileError
from s2s_mesh.trust_relaxations import relaxations

from .command_line import make_terminal
from .hostile import rows
from .jwks_servers import Clock, JWKSServer, Wallets
from .spire import DOMAIN, KID, LATER_KID, SUBJECT, bundle, entry, signer, svid
from .tokens import ABSENT, LEDGER, NOW, WALLETS, frozen

R = Reason
SETTLEMENT = "https://settlement.example.com"
OTHER = "spiffe://other.example"
FILE = """
version = 1
[defaults]
allow_loopback_http = true
[foreign_issuers."spiffe://example.org"]
profile = "spiffe"
{source}
[foreign_issuers."spiffe://other.example"]
profile = "spiffe"
jwks_file = "other.json"
[[subject]]
issuer = "spiffe://example.org"
subject = "spiffe://example.org/ns/payments/sa/settlement"
service = "https://settlement.example.com"
[[subject]]
issuer = "spiffe://other.example"
subject = "spiffe://other.example/batch"
service = "https://batch.example.com"
[[allow]]
issuer = "https://settlement.example.com"
audience = "https://wallets.example.com"
scopes = ["cards:read"]
[[allow]]
issuer = "https://batch.example.com"
audience = "https://wallets.example.com"
"""
OTHERS_KEY = signer(name="other domain")


def trust(source: str = 'jwks_file = "bundle.json"') -> TrustConfig:
    return TrustConfig.parse(FILE.format(source=source))


@pytest.fixture(scope="module")
def accept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Ask `wallets`, with bundles that are pinned as files; a new service for each other table."""
    folder = tmp_path_factory.mktemp("spiffe")
    (folder / "bundle.json").write_bytes(bundle(entry(signer()), entry(signer("RS256"), LATER_KID)))
    (folder / "other.json").write_bytes(bundle(entry(OTHERS_KEY, "others")))
    made: dict[str, Service] = {}

    def ask(token: bytes, more: str = "") -> Any:
        if more not in made:
            path = folder / f"trust-{len(made)}.toml"
            path.write_text(FILE.format(source=f'jwks_file = "bundle.json"\n{more}'))
            made[more] = Service(issuer=WALLETS, trust=path, key_store=None)
        return made[more].verify(token)

    with frozen():
        yield ask
        for service in made.values():
            service.__exit__()


def test_the_caller_is_the_service_that_the_spiffe_id_stands_for(accept: Callable[..., Any]) -> None:
    """And the principal says which trust domain vouched, and under which name."""
    caller = accept(svid(WALLETS))
    assert (caller.issuer, caller.vouched_by, caller.subject) == (SETTLEMENT, DOMAIN, SUBJECT)
    assert caller.scopes == {"cards:read"}
    assert (caller.kid, caller.expires_at) == (KID, NOW + 300)


GOOD = [
    ("RSA", svid(WALLETS, signer("RS256"), {"kid": LATER_KID}), ""),
    ("typ JOSE", svid(WALLETS, head={"typ": "JOSE"}), ""),
    ("no typ", svid(WALLETS, head={"typ": ABSENT}), ""),
    ("no iat", svid(WALLETS, iat=ABSENT), ""),
    ("aud a text", svid(WALLETS, aud=WALLETS), ""),
    ("with an issuer, which means nothing", svid(WALLETS, iss="https://oidc.example.org"), ""),
    ("with the trust domain as issuer", svid(WALLETS, iss=DOMAIN), ""),
    ("with an id", svid(WALLETS, jti="1"), ""),
    ("no iat, as long as may be", svid(WALLETS, iat=ABSENT, exp=NOW + 900), ""),
    (
        "our own SPIFFE ID as audience",
        svid("spiffe://mesh.example/wallets"),
        f'audiences = {{ "spiffe://mesh.example/wallets" = "{WALLETS}" }}',
    ),
    ("several audiences, where allowed", svid(WALLETS, aud=["x", WALLETS]), "multi_aud = true"),
]


@pytest.mark.parametrize(("token", "more"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_what_the_standard_leaves_open_is_accepted(
    accept: Callable[..., Any], token: bytes, more: str
) -> None:
    """`typ`, `iat`, `jti` may be missing, and `iss` decides nothing (JWT-SVID sections 2 and 3)."""
    assert accept(token, more).issuer == SETTLEMENT


HOSTILE: list[tuple[str, bytes, Reason | None]] = [
    ("a good one", svid(WALLETS), None),
    ("of another trust domain by this one's key", svid(WALLETS, sub=f"{OTHER}/batch"), R.UNKNOWN_KID),
    (
        "of another trust domain with its key id",
        svid(WALLETS, head={"kid": "others"}, sub=f"{OTHER}/batch"),
        R.BAD_SIGNATURE,
    ),
    ("by another domain's key", svid(WALLETS, OTHERS_KEY), R.BAD_SIGNATURE),
    ("by another domain's key, named", svid(WALLETS, OTHERS_KEY, {"kid": "others"}), R.UNKNOWN_KID),
    (
        "this domain's issuer, another's subject",
        svid(WALLETS, iss=DOMAIN, sub=f"{OTHER}/batch"),
        R.UNKNOWN_KID,
    ),
    ("of a trust domain that nobody lists", svid(WALLETS, sub="spiffe://example.com/x"), R.UNKNOWN_ISSUER),
    ("a longer trust domain", svid(WALLETS, sub="spiffe://example.org.evil/x"), R.UNKNOWN_ISSUER),
    ("a trust domain in capitals", svid(WALLETS, sub=SUBJECT.replace("org", "ORG")), R.UNKNOWN_ISSUER),
    ("a port", svid(WALLETS, sub="spiffe://example.org:443/x"), R.UNKNOWN_ISSUER),
    ("user info", svid(WALLETS, sub="spiffe://example.org@evil.example/x"), R.UNKNOWN_ISSUER),
    ("sub is a URL", svid(WALLETS, sub="https://example.org/ns"), R.UNKNOWN_ISSUER),
    ("sub is our service", svid(WALLETS, sub=SETTLEMENT), R.UNKNOWN_ISSUER),
    ("no sub", svid(WALLETS, sub=ABSENT), R.UNKNOWN_ISSUER),
    ("sub is a list", svid(WALLETS, sub=[SUBJECT]), R.UNKNOWN_ISSUER),
    ("iss is a list", svid(WALLETS, iss=[DOMAIN]), R.UNKNOWN_ISSUER),
    ("iss is null", svid(WALLETS, iss=None), R.UNKNOWN_ISSUER),
    ("sub is the trust domain", svid(WALLETS, sub=DOMAIN), R.BAD_SUBJECT),
    ("sub is the trust domain and a slash", svid(WALLETS, sub=f"{DOMAIN}/"), R.BAD_SUBJECT),
    ("sub with a trailing slash", svid(WALLETS, sub=f"{SUBJECT}/"), R.BAD_SUBJECT),
    ("sub with dots", svid(WALLETS, sub=f"{DOMAIN}/x/../ns/payments/sa/settlement"), R.BAD_SUBJECT),
    ("sub with an escape", svid(WALLETS, sub=SUBJECT.replace("/ns", "/n%73")), R.BAD_SUBJECT),
    ("sub with a query", svid(WALLETS, sub=f"{SUBJECT}?a"), R.BAD_SUBJECT),
    ("another workload", svid(WALLETS, sub=f"{DOMAIN}/ns/payments/sa/other"), R.BAD_SUBJECT),
    ("a part of the workload", svid(WALLETS, sub=f"{DOMAIN}/ns/payments"), R.BAD_SUBJECT),
    ("for somebody else", svid(LEDGER), R.WRONG_AUDIENCE),
    ("for our SPIFFE ID, which nobody named", svid("spiffe://mesh.example/wallets"), R.WRONG_AUDIENCE),
    ("for the whole trust domain", svid(DOMAIN), R.WRONG_AUDIENCE),
    ("for others as well", svid(WALLETS, aud=[WALLETS, LEDGER]), R.WRONG_AUDIENCE),
    ("for nobody", svid(WALLETS, aud=[]), R.WRONG_AUDIENCE),
    ("no aud", svid(WALLETS, aud=ABSENT), R.WRONG_AUDIENCE),
    ("no exp", svid(WALLETS, exp=ABSENT), R.BAD_TIME_CLAIM),
    ("neither exp nor iat", svid(WALLETS, exp=ABSENT, iat=ABSENT), R.BAD_TIME_CLAIM),
    ("exp is a text", svid(WALLETS, exp=str(NOW + 300), iat=ABSENT), R.BAD_TIME_CLAIM),
    ("exp is true", svid(WALLETS, exp=True, iat=ABSENT), R.BAD_TIME_CLAIM),
    ("iat is null", svid(WALLETS, iat=None), R.BAD_TIME_CLAIM),
    ("expired", svid(WALLETS, iat=NOW - 400, exp=NOW - 100), R.EXPIRED),
    ("expired, no iat", svid(WALLETS, iat=ABSENT, exp=NOW - 100), R.EXPIRED),
    ("too long a life", svid(WALLETS, exp=NOW + 901), R.LIFE_TOO_LONG),
    ("too long a life, no iat", svid(WALLETS, iat=ABSENT, exp=NOW + 901), R.LIFE_TOO_LONG),
    ("from tomorrow", svid(WALLETS, iat=NOW + 86400, exp=NOW + 86700), R.NOT_YET_VALID),
    ("a WIT-SVID", svid(WALLETS, head={"typ": "wit+jwt"}), R.BAD_TYPE),
    ("a service token", svid(WALLETS, head={"typ": "at+jwt"}), R.BAD_TYPE),
    ("no kid", svid(WALLETS, head={"kid": ABSENT}), R.BAD_KID),
    ("a jwk in the header", svid(WALLETS, head={"jwk": {}}), R.HEADER_MEMBER),
    ("an x5c in the header", svid(WALLETS, head={"x5c": []}), R.HEADER_MEMBER),
    ("crit", svid(WALLETS, head={"crit": ["exp"]}), R.HEADER_MEMBER),
    ("alg none", svid(WALLETS, head={"alg": "none"}), R.BAD_ALGORITHM),
    ("alg of another key", svid(WALLETS, head={"alg": "RS256"}), R.KEY_MISMATCH),
    ("alg that SPIFFE has not", svid(WALLETS, head={"alg": "Ed25519"}), R.BAD_ALGORITHM),
    ("bound to a key", svid(WALLETS, cnf={"jkt": "x"}), R.PROOF_MISSING),
    ("on behalf of a user", svid(WALLETS, act={"sub": SUBJECT}), R.BAD_USER),
    ("signed by nobody", svid(WALLETS, signer(name="nobody")), R.BAD_SIGNATURE),
]


@pytest.mark.parametrize(("token", "reason"), rows(HOSTILE))
def test_everything_else_is_refused(accept: Callable[..., Any], token: bytes, reason: Reason | None) -> None:
    """Each row changes one thing of a good JWT-SVID."""
    if reason is None:
        accept(token)
        return
    with pytest.raises(TokenRejected) as refused:
        accept(token)
    assert refused.value.reason is reason


def test_explain_says_by_what_the_issuer_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`trust explain` goes the same way, and names the row."""
    terminal = make_terminal(tmp_path, monkeypatch)
    for name in ("bundle.json", "other.json"):
        (tmp_path / name).write_bytes(bundle(entry(signer())))
    (tmp_path / "trust.toml").write_text(FILE.format(source='jwks_file = "bundle.json"'))
    terminal.environment |= {"S2S_MESH_ISSUER": WALLETS, "S2S_MESH_TRUST_FILE": "trust.toml"}
    with frozen():
        explained = terminal.call("trust", "explain", "-", stdin=svid(WALLETS))
    text = " ".join(explained.stdout.split())
    assert "✓ issuer the trust domain of sub, an issuer of [foreign_issuers] ✓" in text
    assert f"a [[subject]] row of this issuer: it stands for {SETTLEMENT}" in text
    assert explained.exit_code == 0


# -- bundles ------------------------------------------------------------------------------------------------

P256 = frozenset({"ES256", "RS256"})


def parse(*entries: dict[str, Any], **more: Any) -> JWKSet:
    return JWKSet.parse_bundle(bundle(*entries, **more), assumed=P256)


def test_a_bundle_holds_what_is_for_jwt_svids() -> None:
    """Keys without `alg` are for the one algorithm of their type; X.509 roots are passed over."""
    keys = parse(entry(signer()), entry(signer("RS256"), LATER_KID))
    assert {kid: known.alg for kid, known in keys.keys.items()} == {KID: "ES256", LATER_KID: "RS256"}
    assert keys.order == (7, 300)
    assert keys.ignored == ("keys[0]: use is not jwt-svid",)
    assert parse(entry(signer("Ed25519"), alg="EdDSA")).keys == {}


@pytest.mark.parametrize(
    "use", [ABSENT, "sig", "wit-svid", "x509-svid", "JWT-SVID", "", None, ["jwt-svid"], "new"]
)
def test_a_key_for_anything_else_is_ignored(use: Any) -> None:
    """Missing and unknown uses alike (Bundle section 4.2.2)."""
    keys = parse(entry(signer(), use=use), entry(signer(name="second"), LATER_KID))
    assert list(keys.keys) == [LATER_KID]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (bundle(entry(signer()), sequence="7"), "spiffe_sequence is not a whole number"),
        (bundle(entry(signer()), sequence=True), "spiffe_sequence is not a whole number"),
        (bundle(entry(signer()), sequence=None), "spiffe_sequence is not a whole number"),
        (bundle(entry(signer()), sequence=-1), "spiffe_sequence is not a whole number"),
        (bundle(entry(signer()), sequence=1.5), "spiffe_sequence is not a whole number"),
        (bundle(entry(signer()), hint="300"), "spiffe_refresh_hint is not a whole number"),
        (bundle(entry(signer(), d="AA")), "private or symmetric key material"),
        (bundle(entry(signer(), use="x509-svid", d="AA")), "private or symmetric key material"),
        (bundle(entry(signer(), kty="oct")), "private or symmetric key material"),
        (bundle(entry(signer(), kty="oct", use=ABSENT)), "private or symmetric key material"),
        (bundle(entry(signer()), entry(signer(name="second"))), "two different keys with the kid"),
        (b'{"keys": {}}', "expected"),
        (b"[]", "object"),
        (b'{"keys": []} ' + b" " * 65536, "more than 65536 bytes"),
        (json.dumps({"keys": [{}] * 101}).encode(), "at most 100"),
    ],
)
def test_a_bundle_that_must_not_be_used(body: bytes, words: str) -> None:
    """Not even in part; the last good one stays."""
    with pytest.raises(JWKSInvalid, match=words):
        JWKSet.parse_bundle(body, assumed=P256)


def test_a_bundle_need_not_say_when_it_changes() -> None:
    """Sequence and hint are optional; a hint of nought is none."""
    assert parse(sequence=ABSENT, hint=ABSENT).order == (None, None)
    assert parse(sequence=0, hint=0).order == (0, None)


def test_a_bundle_that_is_older_than_the_last_one_is_refused() -> None:
    """R15; the same number, a greater one, and a change from none to one are fine."""
    resolver = KeyResolver(JWKSCacheLimits())
    resolver.check_order(DOMAIN, parse(sequence=ABSENT))
    for sequence in (ABSENT, 7, 7, 9):
        newer = parse(entry(signer()), sequence=sequence)
        resolver.check_order(DOMAIN, newer)
        resolver.succeeded(DOMAIN, newer, NOW)
    resolver.succeeded(DOMAIN, None, NOW)  # not modified
    for sequence in (8, 0, ABSENT):
        with pytest.raises(JWKSInvalid, match="spiffe_sequence went back from 9 to"):
            resolver.check_order(DOMAIN, parse(sequence=sequence))
    with pytest.raises(JWKSInvalid):
        resolver.check_order(DOMAIN, JWKSet([]))
    assert resolver.jwks(DOMAIN).order == (9, 300)


def test_the_order_is_shared_with_the_keys() -> None:
    """Other processes of the service take it over with the set."""
    limits = JWKSCacheLimits()
    fetched = SharedSet(jwks=parse(entry(signer(), alg="ES256")), fetched_at=NOW, max_age=300, etag=None)
    stored = SharedSets().with_set(DOMAIN, "https://x/", fetched, NOW, limits).to_bytes()
    found = SharedSets.parse(stored).fresh(DOMAIN, "https://x/", NOW, limits)
    assert found is not None
    assert found.jwks.order == (7, 300)
    assert list(found.jwks.keys) == [KID]


# -- over the network ---------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_bundle_is_fetched_as_often_as_it_says(clock: Clock) -> None:
    """The refresh hint goes before `max-age`, within our own bounds, and holds for "not modified" too."""
    with JWKSServer(clock) as server, Wallets(clock, {}) as wallets:
        endpoint = server.endpoint("bundle")
        endpoint.cache_control = "max-age=3000"
        use(wallets, f'jwks_uri = "{endpoint.url}"')
        due: list[float] = []
        for hint in (600, 600, 5, 10**9, 0, ABSENT):
            endpoint.publish_document(bundle(entry(signer()), sequence=len(due), hint=hint))
            if due and hint == 600:
                endpoint.publish_document(bundle(entry(signer()), sequence=0, hint=hint))
            fetch(wallets)
            resolver = wallets.resolver
            due.append(resolver.stale_until(DOMAIN) - resolver.limits.stale_grace - clock())
            clock.now += 4000
        assert due == [600, 600, 60, 3600, 3000, 3000]
        assert wallets.verify(svid(WALLETS, exp=int(clock()) + 100, iat=int(clock()))).issuer == SETTLEMENT


def use(wallets: Wallets, place: str) -> None:
    """Have `wallets` trust the domain whose bundle is there."""
    config = trust(place).for_audiences([WALLETS])
    wallets.client.use(config)
    wallets.verifier.trust = config


def fetch(wallets: Wallets) -> None:
    """Refresh, and wait."""
    wallets.client.refresh_due()
    known = wallets.client.request(DOMAIN, "whatever")
    if known is not None:
        known.result(20)


def test_a_rotation_and_a_rollback(clock: Clock) -> None:
    """A new key is taken at once; the older bundle, which a revoked key is still in, is not."""
    first, second = entry(signer()), entry(signer(name="second"), LATER_KID)
    with JWKSServer(clock) as server, Wallets(clock, {}) as wallets:
        endpoint = server.endpoint("bundle")
        use(wallets, f'jwks_uri = "{endpoint.url}"')
        endpoint.publish_document(bundle(first, sequence=1))
        assert wallets.verify(svid(WALLETS)).kid == KID
        endpoint.publish_document(bundle(first, second, sequence=2))
        later = svid(WALLETS, signer(name="second"), {"kid": LATER_KID})
        assert wallets.verify(later).kid == LATER_KID
        endpoint.publish_document(bundle(second, sequence=3))
        clock.now += 300
        fetch(wallets)
        for document in (bundle(first, second, sequence=2), bundle(first, sequence=ABSENT)):
            endpoint.publish_document(document)
            clock.now += 30
            with pytest.raises(TokenRejected) as refused:
                wallets.verify(svid(WALLETS, exp=NOW + 600))
            assert refused.value.reason is R.UNKNOWN_KID
            assert "went back from 3" in wallets.resolver.last_error(DOMAIN)
            later = svid(WALLETS, signer(name="second"), {"kid": LATER_KID}, exp=NOW + 600)
            assert wallets.verify(later).kid == LATER_KID


def test_a_pinned_bundle_is_the_latest_whatever_its_number(clock: Clock, tmp_path: Path) -> None:
    """Who puts a file there says so (SPIFFE Federation section 4.2)."""
    pinned = tmp_path / "bundle.json"
    pinned.write_bytes(bundle(entry(signer()), sequence=3))
    with Wallets(clock, {}) as wallets:
        use(wallets, f'jwks_file = "{pinned}"')
        fetch(wallets)
        assert wallets.verify(svid(WALLETS, exp=NOW + 600)).vouched_by == DOMAIN
        pinned.write_bytes(bundle(entry(signer(name="second"), LATER_KID), sequence=2))
        clock.now += 60
        fetch(wallets)
        later = svid(WALLETS, signer(name="second"), {"kid": LATER_KID}, exp=NOW + 600)
        assert wallets.verify(later).kid == LATER_KID


def test_a_domain_that_becomes_an_ordinary_issuer_is_fetched_anew(clock: Clock) -> None:
    """A JWKS is read by other rules, so nothing is kept of the bundle."""
    with JWKSServer(clock) as server, Wallets(clock, {}) as wallets:
        endpoint = server.endpoint("bundle")
        endpoint.publish_document(bundle(entry(signer())))
        use(wallets, f'jwks_uri = "{endpoint.url}"')
        fetch(wallets)
        assert wallets.resolver.has_keys(DOMAIN, NOW)
        config = wallets.verifier.trust
        entry_of = config.foreign_issuers[DOMAIN]
        plain = msgspec.structs.replace(entry_of, profile="jwt")
        wallets.client.use(msgspec.structs.replace(config, foreign_issuers={DOMAIN: plain}))
        assert not wallets.resolver.has_keys(DOMAIN, NOW)


# -- the trust file -----------------------------------------------------------------------------------------

SUBJECT_ROW = '[[subject]]\nissuer = "{}"\nsubject = "{}"\nservice = "https://a.example.com"\n'
TABLE = '[foreign_issuers."{}"]\n{}\n'
PROBLEMS: list[tuple[str, str, str, str, str]] = [
    ("no profile", DOMAIN, 'jwks_file = "b"', SUBJECT, 'expected profile = "spiffe"'),
    ("another profile", DOMAIN, 'jwks_file = "b"\nprofile = "jwt"', SUBJECT, 'expected profile = "spiffe"'),
    ("no profile, in capitals", DOMAIN.upper(), 'jwks_file = "b"', SUBJECT, 'expected profile = "spiffe"'),
    ("no place", DOMAIN, 'profile = "spiffe"', SUBJECT, "expected jwks_uri or jwks_file"),
    (
        "a workload",
        SUBJECT,
        'profile = "spiffe"\njwks_file = "b"',
        SUBJECT,
        'expected a trust domain, such as "spiffe://example.org"',
    ),
    (
        "a URL",
        "https://example.org",
        'profile = "spiffe"\njwks_file = "b"',
        SUBJECT,
        "expected a trust domain",
    ),
    (
        "capitals",
        "spiffe://Example.org",
        'profile = "spiffe"\njwks_file = "b"',
        SUBJECT,
        "expected a trust domain",
    ),
    ("typ", DOMAIN, 'profile = "spiffe"\njwks_file = "b"\ntyp = ["JWT"]', SUBJECT, "which settles that"),
    (
        "allow_missing_typ",
        DOMAIN,
        'profile = "spiffe"\njwks_file = "b"\nallow_missing_typ = true',
        SUBJECT,
        "which settles that",
    ),
    (
        "header_members",
        DOMAIN,
        'profile = "spiffe"\njwks_file = "b"\nheader_members = ["x5t"]',
        SUBJECT,
        "which settles that",
    ),
    ("eddsa", DOMAIN, 'profile = "spiffe"\njwks_file = "b"\neddsa = true', SUBJECT, "which settles that"),
    *(
        (
            member,
            DOMAIN,
            f'profile = "spiffe"\njwks_file = "b"\n{member} = true',
            SUBJECT,
            f'{member}: found beside profile = "spiffe", which settles that',
        )
        for member in ("allow_missing_jti", "keys_without_alg", "discovery")
    ),
    (
        "key servers of ASAP",
        DOMAIN,
        'profile = "spiffe"\njwks_file = "b"\nasap_key_servers = ["https://keys.example.com/"]',
        SUBJECT,
        "asap_key_servers: found key servers and another profile",
    ),
    (
        "Ed25519",
        DOMAIN,
        'profile = "spiffe"\njwks_file = "b"\nalgorithms = ["ES256", "Ed25519"]',
        SUBJECT,
        "found Ed25519; SPIFFE has ES256, ES384, PS256, RS256 of ours",
    ),
    (
        "a subject of another domain",
        DOMAIN,
        'profile = "spiffe"\njwks_file = "b"',
        f"{OTHER}/batch",
        "expected the SPIFFE ID of a workload of this trust domain",
    ),
    (
        "a subject that is no SPIFFE ID",
        DOMAIN,
        'profile = "spiffe"\njwks_file = "b"',
        f"{SUBJECT}/",
        "expected the SPIFFE ID of a workload of this trust domain",
    ),
    ("plain http", DOMAIN, 'profile = "spiffe"\njwks_uri = "http://b.example.org/"', SUBJECT, "https"),
]


@pytest.mark.parametrize(
    ("issuer", "table", "subject", "words"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS]
)
def test_a_table_that_is_refused(issuer: str, table: str, subject: str, words: str) -> None:
    """With its key path and what is expected; nothing of the triple is guessed (Federation section 7.2)."""
    text = "version = 1\n" + TABLE.format(issuer, table) + SUBJECT_ROW.format(issuer, subject)
    with pytest.raises(TrustFileError) as refused:
        TrustConfig.parse(text)
    assert words in str(refused.value)


def test_what_the_profile_lets_pass_is_listed() -> None:
    """For `trust check`: each of its relaxations has a line."""
    lines = [line for line in relaxations(trust()) if "example.org" in line]
    path = 'foreign_issuers."spiffe://example.org"'
    assert [line.removeprefix(path + ".").partition(":")[0] for line in lines] == [
        *("profile", "typ", "allow_missing_typ", "allow_missing_jti", "keys_without_alg")
    ]


def test_algorithms_that_spiffe_has_not_are_not_taken_from_the_defaults(tmp_path: Path) -> None:
    """[defaults] may say what it likes for services."""
    text = FILE.format(source='jwks_file = "b.json"')
    config = TrustConfig.parse(text.replace("[defaults]", '[defaults]\nalgorithms = ["ES384", "Ed25519"]'))
    assert config.foreign_issuers[DOMAIN].algorithms == {"ES384"}
