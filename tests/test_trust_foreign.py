"""[foreign_issuers] and [[subject]] in a trust file: what is refused, what is warned of, who needs what."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from s2s_mesh import ConfigError
from s2s_mesh.settings import build
from s2s_mesh.trust import TrustConfig, TrustFileError
from s2s_mesh.trust_file import TrustFile
from s2s_mesh.trust_foreign import SubjectRule
from s2s_mesh.trust_relaxations import relaxations

from .tokens import EDGE, LEDGER, LOGIN, WALLETS

HUB = "https://hub.example.com/"
SETTLEMENT = "https://settlement.example.com"
GOOD = f"""version = 1
[defaults]
max_token_life = "5m"
[foreign_issuers."{HUB}"]
discovery = true
[[subject]]
issuer = "{HUB}"
subject = "settlement"
service = "{SETTLEMENT}"
claims = {{ idp = "github", verified = true }}
[[subject]]
issuer = "{HUB}"
subject = "settlement"
service = "{EDGE}"
claims = {{ idp = "gitlab" }}
[[allow]]
issuer = "{SETTLEMENT}"
audience = "{WALLETS}"
[[allow]]
issuer = "{EDGE}"
audience = "{LEDGER}"
"""
TABLE = "discovery = true"


def test_the_good_file() -> None:
    """The file that all rows below change is accepted without a warning."""
    config = TrustConfig.parse(GOOD)
    assert config.warnings == ()
    # what [defaults] says of the life of tokens is for services
    assert config.foreign_issuers[HUB].max_token_life == 900
    assert config.foreign_issuers[HUB].keys_url == f"{HUB}.well-known/openid-configuration"
    assert config.subjects[HUB, "settlement"] == (
        SubjectRule(
            issuer=HUB,
            subject="settlement",
            service=config.subjects[HUB, "settlement"][0].service,
            claims=((("idp",), "github"), (("verified",), True)),
        ),
        SubjectRule(
            issuer=HUB,
            subject="settlement",
            service=config.subjects[HUB, "settlement"][1].service,
            claims=((("idp",), "gitlab"),),
        ),
    )


def problems(old: str, new: str) -> tuple[str, ...]:
    assert old in GOOD
    with pytest.raises(TrustFileError) as refused:
        TrustConfig.parse(GOOD.replace(old, new, 1))
    return refused.value.problems


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            TABLE,
            "discover = true",
            f'foreign_issuers."{HUB}".discover: found an unknown member',
        ),
        (TABLE, "allow_missing_typ = 1", "found the integer 1; expected true or false"),
        (TABLE, 'profile = "asp"', 'profile: found "asp"; expected'),
        (TABLE, 'max_token_life = "25h"', 'expected a duration from "10s" to "24h"'),
        (TABLE, 'algorithms = ["EdDSA"]', 'did you mean "Ed25519"? An issuer whose tokens say EdDSA needs'),
        (TABLE, 'header_members = ["jku"]', 'header_members[0]: found "jku"; expected x5t or x5t#S256'),
        (TABLE, 'audiences = ["wallets"]', "audiences: found an array; expected tables such as"),
        (TABLE, 'audiences = { "a b" = "https://wallets.example.com" }', "expected an aud of its tokens"),
        (TABLE, 'audiences = { wallets = "wallets" }', "expected a service id"),
        (
            TABLE,
            'discovery = true\njwks_file = "keys.json"',
            "found both discovery and jwks_file; expected only one of them",
        ),
        (TABLE, 'jwks_uri = "http://hub.example.com/"', "jwks_uri: found"),
        (
            f'[foreign_issuers."{HUB}"]',
            f'[foreign_issuers."https://hub.example.com"]\n[foreign_issuers."{HUB}"]\njwks_file = ""',
            'found ""; expected the name of a file',
        ),
        (f'[foreign_issuers."{HUB}"]', '[foreign_issuers."https://hub.exmaple.com/"]', "did you mean"),
        (f'[foreign_issuers."{HUB}"]', '[foreign_issuers."a b"]', "expected the iss of its tokens, exactly"),
        (
            f'[foreign_issuers."{HUB}"]',
            '[foreign_issuers."http://hub.example.com/"]',
            "the scheme must be https",
        ),
        (
            f'[foreign_issuers."{HUB}"]\n{TABLE}',
            f'[foreign_issuers."{HUB}"]\n{TABLE}\n[foreign_issuers."robot@example.com"]',
            'foreign_issuers."robot@example.com": found no jwks_uri, and the issuer is no URL; expected '
            "jwks_uri or jwks_file, which say where its keys are",
        ),
        (
            f'[foreign_issuers."{HUB}"]\n{TABLE}',
            f'[foreign_issuers."{HUB}"]\n{TABLE}\n[foreign_issuers."spiffe://td"]\n{TABLE}',
            'foreign_issuers."spiffe://td".discovery: found true, and the issuer is no URL',
        ),
        (
            f'[foreign_issuers."{HUB}"]\n{TABLE}',
            f'[foreign_issuers."{HUB}"]\n{TABLE}\n[foreign_issuers."{EDGE}"]',
            f'foreign_issuers."{EDGE}": found an issuer that is also a service; expected either',
        ),
        *(
            (
                f'[foreign_issuers."{HUB}"]\n{TABLE}',
                f'[foreign_issuers."{HUB}"]\n{TABLE}\n[foreign_issuers."{service}/"]',
                f'foreign_issuers."{service}/": found an issuer that is also a service; expected either',
            )
            for service in (SETTLEMENT, EDGE, LEDGER, WALLETS)
        ),
        (
            f'[foreign_issuers."{HUB}"]',
            f'[foreign_issuers."{HUB.upper()}"]',
            f'found "{HUB.upper()}"; expected an issuer of users such as',
        ),
        (
            TABLE,
            f'{TABLE}\n[user_issuers."https://hub.example.com"]\naudiences = ["{WALLETS}"]',
            f'foreign_issuers."{HUB}": found an issuer that is also in [user_issuers]; expected either',
        ),
        (
            TABLE,
            f'{TABLE}\naudiences = {{ "{LEDGER}" = "{WALLETS}" }}',
            f'.audiences."{LEDGER}": found the id of another service; expected what this issuer calls '
            f'"{WALLETS}": a token for one service is none for another',
        ),
        (
            TABLE,
            f'{TABLE}\n[user_issuers."{HUB}"]\naudiences = ["{WALLETS}"]',
            f'foreign_issuers."{HUB}": found an issuer that is also in [user_issuers]; expected either',
        ),
        (
            f'[[subject]]\nissuer = "{HUB}"',
            '[[subject]]\nissuer = "https://hub.example.com"',
            'subject[0].issuer (row at line 6): found "https://hub.example.com"; expected an issuer that '
            f'[foreign_issuers] has; did you mean "{HUB}"?',
        ),
        ('subject = "settlement"', 'subject = "sett*"', "wildcards do not exist, list every subject"),
        (
            'subject = "settlement"',
            'subject = ""',
            "expected the sub of its tokens, exactly: a printable text",
        ),
        ('subject = "settlement"', "", "subject[0].subject (row at line 6): found nothing; expected a text"),
        (f'service = "{SETTLEMENT}"', 'service = "settlement"', "expected a service id"),
        ('{ idp = "github", verified = true }', '"github"', "claims (row at line 6): found"),
        (
            'idp = "github"',
            "idp = 1",
            "claims.idp (row at line 6): found the integer 1; expected a text such",
        ),
        ('idp = "github"', "idp = []", "claims.idp (row at line 6): found an empty array; expected a text"),
        ('idp = "github"', 'idp = ""', "claims.idp (row at line 6): found"),
        ('idp = "github"', '"" = "x"', "expected a printable text of 1 to 600 characters"),
        (
            'idp = "github"',
            "idp = {}",
            "claims.idp (row at line 6): found an empty table; expected at least one member",
        ),
        ('idp = "github"', "idp = { a = { b = 'x' } }", "found a table; expected a text, true or false: one"),
        (
            'idp = "gitlab"',
            'idp = "github"',
            'subject[1] (row at line 11): found "settlement" again, and one token could be meant by both '
            "rows; expected a claim for which this row and subject[0] want different values",
        ),
        ('claims = { idp = "gitlab" }', "", "subject[1] (row at line 11): found"),
        ('claims = { idp = "gitlab" }', 'claims = { azp = "gitlab" }', "subject[1] (row at line 11): found"),
        (
            TABLE,
            f'{TABLE}\nsubject_claims = ["connector"]',
            'subject[0].claims (row at line 7): found no "connector"; expected it, because the issuer\'s '
            "subject_claims lists it",
        ),
        (
            f"{TABLE}\n",
            f'{TABLE}\nsubject_claims = ["idp"]\n[[subject]]\nissuer = "{HUB}"\nsubject = "reports"\n'
            f'service = "{EDGE}"\nclaims = {{ idp = {{}} }}\n',
            "subject[0].claims.idp (row at line 7): found an empty table; expected at least one member",
        ),
        (
            "[[allow]]",
            f'[[txn]]\ntrust_domain = "https://example.com"\nissuer = "{EDGE}"\naudience = "{WALLETS}"\n'
            "[[allow]]",
            f'txn[0].issuer (row at line 16): found "{EDGE}", whose tokens a foreign issuer makes; expected '
            "an [issuers] table for it as well",
        ),
    ],
)
def test_what_does_not_fit_is_refused(old: str, new: str, words: str) -> None:
    """Each row changes one thing; the file is refused, with where, what was found and what is expected."""
    found = problems(old, new)
    assert any(words in line for line in found), found


def test_all_problems_are_told_at_once() -> None:
    """Of both tables and rows."""
    text = GOOD.replace(TABLE, 'typ = ["wit+jwt"]').replace('"gitlab"', '"github"')
    with pytest.raises(TrustFileError) as refused:
        TrustConfig.parse(text)
    assert len(refused.value.problems) == 2


def test_a_row_with_a_claim_that_is_unfit_is_compared_with_no_other() -> None:
    """What is left of its claims would be another row's."""
    (line,) = problems('idp = "github"', "idp = 1")
    assert "claims.idp (row at line 6): found the integer 1" in line


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            TABLE,
            f'{TABLE}\n[foreign_issuers."https://hab.example.com/"]',
            f'.example.com/": no [[subject]] row names this issuer; did you mean "{HUB}"?',
        ),
        (
            f'service = "{EDGE}"',
            'service = "https://egde.example.com"',
            'subject[1].service (row at line 11): no [[allow]] row has issuer "https://egde.example.com"; '
            f'did you mean "{EDGE}"?',
        ),
        (
            TABLE,
            f'{TABLE}\naudiences = {{ w = "https://walets.example.com" }}',
            '.audiences.w: no [[allow]] row has the audience "https://walets.example.com"; did you mean '
            f'"{WALLETS}"?',
        ),
        (TABLE, f"{TABLE}\nallow_missing_typ = true", "without effect: a token without typ counts as"),
        (
            TABLE,
            f"{TABLE}\neddsa = true",
            "eddsa: without effect: Ed25519 is not among the accepted algorithms",
        ),
        (
            "[[allow]]",
            f'[[route]]\naudience = "{WALLETS}"\npath = "/"\nmethods = ["GET"]\nproof = "wpt"\n[[allow]]',
            'route[0].proof (row at line 16): found "wpt", and every caller of this audience comes with '
            "tokens of a foreign issuer, which have no such proof: nobody can call this route",
        ),
        (
            f'issuer = "{EDGE}"\naudience = "{LEDGER}"',
            f'issuer = "{EDGE}"\naudience = "{LEDGER}"\nmay_act_for = ["{LOGIN}"]',
            "without effect: tokens of a foreign issuer carry no user",
        ),
    ],
)
def test_what_looks_like_a_mistake_is_a_warning(old: str, new: str, words: str) -> None:
    """The file is good nevertheless."""
    assert old in GOOD
    (warning,) = TrustConfig.parse(GOOD.replace(old, new, 1)).warnings
    assert words in warning


@pytest.mark.parametrize(
    ("proof", "more"),
    [
        ("mtls", ""),
        ("wpt", f'[issuers."{SETTLEMENT}"]\n'),
        ("wpt", f'[[allow]]\nissuer = "{LEDGER}"\naudience = "{WALLETS}"\n'),
    ],
)
def test_a_proof_that_some_caller_has_is_no_mistake(proof: str, more: str) -> None:
    """A certificate that a token is bound to; a service that signs for itself, too or alone."""
    route = f'[[route]]\naudience = "{WALLETS}"\npath = "/"\nmethods = ["GET"]\nproof = "{proof}"\n'
    assert TrustConfig.parse(GOOD + route + more).warnings == ()


@pytest.mark.parametrize(
    "row",
    [
        '[[subject]]\nissuer = "@/"\nsubject = "s"\nservice = "@"\n',
        '[[route]]\naudience = "@"\npath = "/"\nmethods = ["GET"]\n',
        '[[txn]]\ntrust_domain = "https://example.com"\nissuer = "@"\naudience = "https://w.example.com"\n',
        '[[txn]]\ntrust_domain = "https://example.com"\nissuer = "https://w.example.com"\naudience = "@"\n',
        '[issuers."@"]\n',
    ],
)
def test_a_service_is_one_wherever_the_file_names_it(row: str) -> None:
    """It is no user, and none of its names is a foreign issuer's."""
    named = "https://new.example.com"
    text = GOOD + row.replace("@", named)
    if "[[subject]]" not in row:
        assert named in TrustConfig.parse(text).services
    with pytest.raises(TrustFileError, match=r"\.com/\": found an issuer that is also a service"):
        TrustConfig.parse(f'{text}[foreign_issuers."{named}/"]\n')


def test_an_issuer_may_call_a_service_by_its_id() -> None:
    """To say so is needless, and no mistake."""
    text = GOOD.replace(TABLE, f'{TABLE}\naudiences = {{ "{WALLETS}" = "{WALLETS}", w = "{WALLETS}" }}')
    assert TrustConfig.parse(text).warnings == ()


def test_a_service_gets_what_vouches_for_its_callers() -> None:
    """Rows, issuers and keys that are for other receivers stay away."""
    whole = TrustConfig.parse(GOOD)
    wallets = whole.for_audiences([WALLETS])
    assert {key: [rule.service for rule in rules] for key, rules in wallets.subjects.items()} == {
        (HUB, "settlement"): [SETTLEMENT]
    }
    assert set(wallets.key_sources) == {HUB}
    assert whole.for_audiences([EDGE]).key_sources == {}


def test_whom_others_vouch_for_signs_in_its_own_name_only_where_a_table_says_so() -> None:
    """So that nobody can who gets hold of a domain that publishes no keys."""
    assert TrustConfig.parse(GOOD).issuers == {}
    both = TrustConfig.parse(GOOD + f'[issuers."{EDGE}"]\n')
    assert set(both.issuers) == {EDGE}
    assert all(both.knows(name) for name in (EDGE, SETTLEMENT, HUB))
    assert not both.knows(LOGIN)


def test_files_are_found_beside_the_trust_file(tmp_path: Path) -> None:
    """As for every other issuer."""
    path = tmp_path / "trust.toml"
    path.write_text(GOOD.replace(TABLE, 'jwks_file = "hub.jwks.json"\nca_file = "ca.pem"'))
    known = TrustFile(path).load().foreign_issuers[HUB]
    assert (known.jwks_file, known.ca_file) == (str(tmp_path / "hub.jwks.json"), str(tmp_path / "ca.pem"))


@pytest.mark.parametrize("issuer", ["https://hub.example.com/", "https://hub.example.com"])
def test_service_tokens_are_never_made_out_to_an_authorization_server(issuer: str) -> None:
    """There they would be client assertions."""
    trust = TrustConfig.parse(GOOD.replace(HUB, issuer))
    settings = build(issuer=WALLETS, trust=trust, key_store="memory://")
    with pytest.raises(ConfigError, match="service tokens are never made out to one"):
        settings.check_audience("https://hub.example.com")


def test_every_relaxation_has_a_line() -> None:
    """By key path; a strict file has none."""
    assert relaxations(TrustConfig.parse(GOOD)) == ()
    table = (
        'discovery = true\ntyp = ["JWT"]\nmax_token_life = "1h"\nleeway = "60s"\nmulti_aud = true\n'
        'eddsa = true\nalgorithms = ["Ed25519"]\nallow_missing_typ = true\nallow_missing_jti = true\n'
        'keys_without_alg = true\nheader_members = ["x5t"]\n'
        'ignore_scope = true\naudiences = { "api://w" = "https://wallets.example.com" }'
    )
    here = f'foreign_issuers."{HUB}".'
    more = (
        f'[issuers."{LEDGER}"]\nallow_plain_http = true\njwks_uri = "http://ledger.internal/"\n'
        f'[[allow]]\nissuer = "{LEDGER}"\naudience = "{WALLETS}"\n'
        f'[user_issuers."{LOGIN}"]\naudiences = ["{WALLETS}"]\nmax_token_life = "2h"\nmulti_aud = true\n'
    )
    assert relaxations(TrustConfig.parse(GOOD.replace(TABLE, table) + more)) == (
        f'issuers."{LEDGER}".allow_plain_http: its keys may be fetched without TLS',
        f"{here}typ: tokens of type jwt are accepted",
        f"{here}max_token_life: its tokens may live for 3600 s",
        f"{here}leeway: clocks may differ by 60 s",
        f'{here}audiences: "api://w" in aud means {WALLETS}',
        f"{here}header_members: x5t in the header of its tokens is not looked at",
        f"{here}eddsa: EdDSA is accepted as a name of Ed25519",
        f"{here}multi_aud: its tokens may be for others as well",
        f"{here}allow_missing_typ: a token without typ counts as JWT",
        f"{here}allow_missing_jti: its tokens need no jti",
        f"{here}keys_without_alg: its keys need not say for which algorithm they are",
        f"{here}ignore_scope: scope in its tokens takes nothing away from what is granted",
        f'user_issuers."{LOGIN}".max_token_life: its tokens may live for 7200 s',
        f'user_issuers."{LOGIN}".multi_aud: its tokens may be for others as well',
    )


def test_keys_are_shared_among_processes_that_read_them_alike() -> None:
    """A process whose trust file is stricter now does not take over what another read by the older one."""
    url = f"{HUB}.well-known/openid-configuration"

    def place(*members: str) -> str:
        text = GOOD.replace(TABLE, "\n".join([TABLE, *members]))
        return TrustConfig.parse(text).foreign_issuers[HUB].shared_place

    assert place() == url
    assert place("keys_without_alg = true") == f"{url} ES256 RS256"
    assert place('algorithms = ["Ed25519"]', "eddsa = true") == f"{url} eddsa"
    assert place('jwks_origins = ["https://a.example.com"]') == f"{url} https://a.example.com"
    assert place('ca_file = "authorities.pem"') == f"{url} authorities.pem"
    known = TrustConfig.parse(GOOD).foreign_issuers[HUB]
    assert msgspec.structs.replace(known, profile="other").shared_place == f"{url} other"
