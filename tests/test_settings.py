"""Configuration: every variable, good and bad; refusals name what to mend and never show a secret."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.pretty import pretty_repr

from s2s_mesh import ConfigError, RotationSchedule, Service, TrustConfig
from s2s_mesh.settings import Settings
from s2s_mesh.store import KeyStore
from s2s_mesh.store.memory import MemoryStore
from s2s_mesh.trust_file import TrustFile

from .tokens import EDGE, WALLETS

TRUST = TrustConfig.parse("version = 1")
LOOPBACK_TRUST = TrustConfig.parse("version = 1\n[defaults]\nallow_loopback_http = true")
KEK = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"  # base64url of "secret-secret-secret-secret-secr"
KEK_2 = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"
LOOPBACK = "http://127.0.0.1:8001"
DEFAULT, FAST = RotationSchedule.DEFAULT, RotationSchedule.FAST_FOR_TESTS


def from_env(environ: Mapping[str, str], **overrides: Any) -> Settings:
    """What `Service.from_env` makes of an environment with issuer and store unless it says otherwise."""
    usual = {
        "S2S_MESH_ISSUER": EDGE,
        "S2S_MESH_KEY_STORE": "rediss://redis.example.com/0",
        "S2S_MESH_KEY_ENCRYPTION_KEY": KEK,
    }
    return Service.from_env({**usual, **environ}, **{"trust": TRUST, **overrides}).settings


def build(**arguments: Any) -> Settings:
    """What `Service(...)` makes of arguments."""
    return Service(**{"issuer": EDGE, "trust": TRUST, "key_store": "memory://", **arguments}).settings


def test_an_environment_is_all_that_a_service_needs(tmp_path: Path) -> None:
    """Every variable of the house page is read, and lands where it belongs."""
    trust = tmp_path / "rules.toml"
    trust.write_text("version = 1\n")
    service = Service.from_env(
        {
            "S2S_MESH_ISSUER": EDGE,
            "S2S_MESH_TRUST_FILE": str(trust),
            "S2S_MESH_KEY_STORE": "redis://redis.example.com:6380/3",
            "S2S_MESH_KEY_ENCRYPTION_KEY": f" {KEK}, {KEK_2} ",
            "S2S_MESH_ALGORITHM": "RS256",
            "S2S_MESH_AUDIENCES": f"https://old.example.com, {WALLETS},",
            "S2S_MESH_ROTATION": "cloud-federation",
            "REDIS_URL": "redis://elsewhere.example.com",
            "PATH": "/bin",
        },
        public_paths=["/health"],
    )
    settings = service.settings
    assert service.issuer == settings.issuer == EDGE
    assert settings.audiences == (EDGE, "https://old.example.com", WALLETS)
    assert isinstance(settings.trust, TrustFile)
    assert settings.trust.path == trust
    assert settings.key_store == "redis://redis.example.com:6380/3"
    assert settings.key_encryption_keys == (b"secret-secret-secret-secret-secr", b"A" * 32)
    assert settings.algorithm == "RS256"
    assert settings.schedule is RotationSchedule.CLOUD_FEDERATION
    assert settings.public_paths == {"/health"}
    assert settings.token_life == 120


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Service.from_env()` without arguments reads `os.environ`."""
    monkeypatch.setenv("S2S_MESH_ISSUER", WALLETS)
    assert Service.from_env(trust=TRUST, key_store=None).issuer == WALLETS


def test_the_trust_file_has_a_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a variable it is `trust/trust.toml` in the working directory; the error names both."""
    monkeypatch.chdir(tmp_path)
    environ = {"S2S_MESH_ISSUER": EDGE}
    with pytest.raises(ConfigError, match=r"trust/trust\.toml does not exist.*S2S_MESH_TRUST_FILE"):
        Service.from_env(environ, key_store=None)
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "trust.toml").write_text("version = 1\n")
    assert Service.from_env(environ, key_store=None).issuer == EDGE


GOOD_VARIABLES: list[tuple[dict[str, str], str, object]] = [
    ({"S2S_MESH_JWKS_CACHE": "shared"}, "jwks_cache", "shared"),
    ({"S2S_MESH_ISSUER": f"  {WALLETS}\n"}, "issuer", WALLETS),
    ({"S2S_MESH_KEY_STORE": "", "REDIS_URL": "redis://r.example.com"}, "key_store", "redis://r.example.com"),
    ({"S2S_MESH_KEY_STORE": " ", "REDIS_URL": " redis://r/1 "}, "key_store", "redis://r/1"),
    ({"REDIS_URL": "redis://other"}, "key_store", "rediss://redis.example.com/0"),
    ({"S2S_MESH_KEY_STORE": "file:///var/keys"}, "key_store", "file:///var/keys"),
    ({"S2S_MESH_KEY_STORE": "redis+cluster://a:1,b:2"}, "key_store", "redis+cluster://a:1,b:2"),
    (
        {"S2S_MESH_KEY_STORE": "memory://", "S2S_MESH_ALLOW_MEMORY_STORE": "1"},
        "key_store",
        "memory://",
    ),
    ({"S2S_MESH_ALGORITHM": ""}, "algorithm", "ES256"),
    ({"S2S_MESH_ALGORITHM": "Ed25519"}, "algorithm", "Ed25519"),
    ({"S2S_MESH_AUDIENCES": ""}, "audiences", (EDGE,)),
    ({"S2S_MESH_AUDIENCES": " , "}, "audiences", (EDGE,)),
    ({"S2S_MESH_ROTATION": "default"}, "schedule", DEFAULT),
    ({"S2S_MESH_ROTATION": "fast-for-tests"}, "schedule", FAST),
    ({"S2S_MESH_ROTATION": ""}, "schedule", DEFAULT),
]


@pytest.mark.parametrize(("environ", "attribute", "value"), GOOD_VARIABLES)
def test_good_values(environ: dict[str, str], attribute: str, value: object) -> None:
    """Surrounding space is ignored, an empty variable is an unset one, `REDIS_URL` stands in."""
    assert getattr(from_env(environ), attribute) == value


def test_a_misspelt_variable_is_said_to_be_read_by_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """By its name; its value may be a secret. What is called otherwise is somebody else's."""
    from_env({"S2S_MESH_ISUER": SECRET, "S2S_MESH_ALGORITHMS": SECRET, "S2S_MESH_XYZ": "1", "S2S": ""})
    assert caplog.messages == [
        "nothing reads the variable 'S2S_MESH_ALGORITHMS'; did you mean S2S_MESH_ALGORITHM?",
        "nothing reads the variable 'S2S_MESH_ISUER'; did you mean S2S_MESH_ISSUER?",
    ]
    caplog.clear()
    from_env(dict.fromkeys(("S2S_MESH_AUDIENCES", "S2S_MESH_ALLOW_MEMORY_STORE", "ISUER"), ""))
    assert not caplog.messages


SECRET = "hunter2"
# variables, and what the refusal must name
BAD_VARIABLES: list[tuple[dict[str, str], list[str]]] = [
    ({"S2S_MESH_ISSUER": ""}, ["S2S_MESH_ISSUER is not set", "https://wallets.example.com"]),
    ({"S2S_MESH_ISSUER": "edge"}, ["S2S_MESH_ISSUER", "'edge'", "https://HOST"]),
    ({"S2S_MESH_ISSUER": "https://edge.example.com/"}, ["S2S_MESH_ISSUER", "no trailing slash"]),
    ({"S2S_MESH_ISSUER": "http://edge.example.com"}, ["S2S_MESH_ISSUER", "must be https"]),
    ({"S2S_MESH_ISSUER": LOOPBACK}, ["S2S_MESH_ISSUER", "allow_loopback_http"]),
    ({"S2S_MESH_ISSUER": "https://Edge.example.com"}, ["S2S_MESH_ISSUER", "lower case"]),
    ({"S2S_MESH_KEY_STORE": ""}, ["S2S_MESH_KEY_STORE", "REDIS_URL", "file:///", "key_store=None"]),
    ({"S2S_MESH_KEY_STORE": f"mysql://u:{SECRET}@h"}, ["S2S_MESH_KEY_STORE", "mysql", "redis://"]),
    ({"S2S_MESH_KEY_STORE": f"u:{SECRET}@h:6379/0"}, ["S2S_MESH_KEY_STORE", "no scheme"]),
    ({"S2S_MESH_KEY_STORE": f"redis://u:{SECRET}/x@h"}, ["S2S_MESH_KEY_STORE", "cannot be used"]),
    ({"S2S_MESH_KEY_STORE": f"redis://u:{SECRET}@h/x"}, ["S2S_MESH_KEY_STORE", "cannot be used"]),
    ({"S2S_MESH_KEY_STORE": "", "REDIS_URL": f"redis://u:{SECRET}@h:x"}, ["REDIS_URL", "cannot be used"]),
    ({"S2S_MESH_KEY_STORE": "file://keys"}, ["S2S_MESH_KEY_STORE", "three slashes"]),
    ({"S2S_MESH_KEY_STORE": "memory://"}, ["S2S_MESH_KEY_STORE", "S2S_MESH_ALLOW_MEMORY_STORE=1", EDGE]),
    ({"S2S_MESH_KEY_STORE": "MEMORY://"}, ["S2S_MESH_KEY_STORE", "S2S_MESH_ALLOW_MEMORY_STORE=1"]),
    (
        {"S2S_MESH_KEY_STORE": "memory://", "S2S_MESH_ALLOW_MEMORY_STORE": "yes"},
        ["S2S_MESH_ALLOW_MEMORY_STORE=1"],
    ),
    ({"S2S_MESH_KEY_STORE": "", "REDIS_URL": "memory://"}, ["REDIS_URL is memory://"]),
    ({"S2S_MESH_KEY_ENCRYPTION_KEY": ""}, ["S2S_MESH_KEY_ENCRYPTION_KEY", "allow_unsealed_key_store=True"]),
    ({"S2S_MESH_KEY_ENCRYPTION_KEY": SECRET}, ["S2S_MESH_KEY_ENCRYPTION_KEY", "number 1 of 1"]),
    ({"S2S_MESH_KEY_ENCRYPTION_KEY": f"{KEK},{SECRET}+"}, ["S2S_MESH_KEY_ENCRYPTION_KEY", "number 2 of 2"]),
    ({"S2S_MESH_KEY_ENCRYPTION_KEY": f"{KEK},,"}, ["S2S_MESH_KEY_ENCRYPTION_KEY", "is empty"]),
    ({"S2S_MESH_KEY_ENCRYPTION_KEY": KEK[:-3]}, ["S2S_MESH_KEY_ENCRYPTION_KEY", "decodes to"]),
    ({"S2S_MESH_ALGORITHM": "HS256"}, ["S2S_MESH_ALGORITHM", "'HS256'", "ES256"]),
    ({"S2S_MESH_ALGORITHM": "none"}, ["S2S_MESH_ALGORITHM", "'none'", "ES256"]),
    ({"S2S_MESH_ALGORITHM": "es256"}, ["S2S_MESH_ALGORITHM", "'es256'", "ES256"]),
    ({"S2S_MESH_AUDIENCES": "https://a.example.com;b"}, ["S2S_MESH_AUDIENCES", "https://a.example.com;b"]),
    ({"S2S_MESH_AUDIENCES": f"{WALLETS},http://x.example.com"}, ["S2S_MESH_AUDIENCES", "must be https"]),
    ({"S2S_MESH_ROTATION": "monthly"}, ["S2S_MESH_ROTATION", "'monthly'", "cloud-federation"]),
]


@pytest.mark.parametrize(("environ", "named"), BAD_VARIABLES, ids=lambda row: str(row)[:60])
def test_a_bad_value_is_refused_by_name_and_no_secret_is_shown(
    environ: dict[str, str], named: list[str]
) -> None:
    """The text names the variable, what was found and what is expected; keys and passwords never appear."""
    with pytest.raises(ConfigError) as refusal:
        from_env(environ)
    shown = f"{refusal.value}{refusal.value!r}"
    assert [part for part in named if part not in shown] == []
    assert SECRET not in shown
    assert KEK not in shown
    assert refusal.value.__cause__ is None
    assert "\n" not in str(refusal.value)


def test_a_missing_trust_file_is_named(tmp_path: Path) -> None:
    """The text names the file and the variable."""
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=r"missing\.toml.*S2S_MESH_TRUST_FILE"):
        Service.from_env(
            {"S2S_MESH_ISSUER": EDGE, "S2S_MESH_TRUST_FILE": str(missing), "REDIS_URL": "redis://h"},
            key_encryption_key=KEK,
        )


def test_arguments_win_over_variables() -> None:
    """Every override replaces its variable, which is then not even looked at."""
    settings = from_env(
        {
            "S2S_MESH_ISSUER": "nonsense",
            "S2S_MESH_TRUST_FILE": "/nowhere",
            "S2S_MESH_KEY_STORE": "nonsense",
            "S2S_MESH_KEY_ENCRYPTION_KEY": "nonsense",
            "S2S_MESH_ALGORITHM": "nonsense",
            "S2S_MESH_AUDIENCES": "nonsense",
            "S2S_MESH_ROTATION": "nonsense",
        },
        issuer=EDGE,
        trust=TRUST,
        key_store="file:///keys",
        key_encryption_key=KEK_2,
        algorithm="ES384",
        audiences=[WALLETS],
        schedule=FAST,
        token_life=None,
        verified_cache_size=7,
    )
    assert (settings.issuer, settings.trust, settings.key_store) == (EDGE, TRUST, "file:///keys")
    assert (settings.key_encryption_keys, settings.algorithm) == ((b"A" * 32,), "ES384")
    assert (settings.audiences, settings.schedule) == ((EDGE, WALLETS), FAST)
    assert settings.verified_cache_size == 7


def test_none_as_an_override_is_an_answer() -> None:
    """`key_store=None` verifies only, whatever the environment has; `issuer=None` is refused by name."""
    assert from_env({}, key_store=None).key_store is None
    with pytest.raises(ConfigError, match="S2S_MESH_ISSUER"):
        from_env({"S2S_MESH_KEY_STORE": "memory://"}, issuer=None)


def test_memory_is_a_deliberate_choice_in_code() -> None:
    """Only the environment is suspected of meaning something else; loopback issuers may always."""
    assert build().key_store == "memory://"
    settings = from_env(
        {"S2S_MESH_ISSUER": LOOPBACK, "S2S_MESH_KEY_STORE": "memory://"}, trust=LOOPBACK_TRUST
    )
    assert settings.key_store == "memory://"
    from_env({"S2S_MESH_KEY_STORE": "", "REDIS_URL": "memory://", "S2S_MESH_ALLOW_MEMORY_STORE": " 1 "})


class SharedStore(MemoryStore):
    """A store of somebody's own that other processes can read."""

    shared = True


@pytest.mark.parametrize(
    "store", ["redis://h", "rediss://h", "file:///keys", SharedStore()], ids=lambda store: str(store)[:12]
)
def test_private_keys_of_an_https_issuer_lie_sealed_in_a_shared_store(store: str | KeyStore) -> None:
    """Without a key-encryption key it starts only if told so in so many words."""
    with pytest.raises(ConfigError, match=r"S2S_MESH_KEY_ENCRYPTION_KEY.*allow_unsealed_key_store=True"):
        build(key_store=store)
    assert build(key_store=store, key_encryption_key=KEK).key_encryption_keys
    assert build(key_store=store, allow_unsealed_key_store=True).key_encryption_keys == ()
    loopback = build(key_store=store, issuer=LOOPBACK, allow_loopback_http=True)
    assert (loopback.issuer, loopback.key_encryption_keys) == (LOOPBACK, ())


def test_what_no_other_process_can_read_needs_no_seal() -> None:
    """Memory, a store that says so, and no store at all."""
    for store in ("memory://", "MEMORY://", MemoryStore(), None):
        assert build(key_store=store).key_encryption_keys == ()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"issuer": ""}, ["issuer", "is empty"]),
        ({"issuer": LOOPBACK}, ["issuer", "allow_loopback_http"]),
        ({"issuer": LOOPBACK, "allow_loopback_http": False, "trust": LOOPBACK_TRUST}, ["allow_loopback"]),
        ({"audiences": WALLETS}, ["audiences must be a list"]),
        ({"audiences": [WALLETS, "x"]}, ["audiences", "'x'"]),
        ({"algorithm": "RS1"}, ["algorithm", "'RS1'", "ES256, ES384, Ed25519, PS256, RS256"]),
        ({"key_encryption_key": ""}, ["key_encryption_key", "is empty"]),
        ({"key_store": f"redis://:{SECRET}@h#x", "key_encryption_key": KEK}, ["key_store", "redis://"]),
        ({"token_life": 9}, ["token_life", "9", "10 to 900"]),
        ({"token_life": 901}, ["token_life", "901", "10 to 900"]),
        ({"token_life": 0}, ["token_life", "10 to 900"]),
        ({"token_life": 60.5}, ["token_life", "60.5", "whole seconds"]),
        ({"token_life": "60"}, ["token_life", "'60'", "whole seconds"]),
        ({"token_life": 601, "schedule": RotationSchedule(max_token_life=600)}, ["token_life", "10 to 600"]),
        ({"public_paths": "/health"}, ["public_paths must be a list"]),
        ({"public_paths": ["/a", "health"]}, ["public_paths", "slash"]),
        ({"public_paths": [""]}, ["public_paths", "slash"]),
    ],
    ids=str,
)
def test_a_bad_argument_is_refused_by_name(arguments: dict[str, Any], named: list[str]) -> None:
    """Arguments in code get the same care as the environment."""
    with pytest.raises(ConfigError) as refusal:
        build(**arguments)
    assert [part for part in named if part not in str(refusal.value)] == []
    assert SECRET not in str(refusal.value)


def test_a_schedule_that_breaks_an_inequality_cannot_be_made() -> None:
    """It is refused when it is written, before any service gets it."""
    with pytest.raises(ConfigError, match="lead"):
        RotationSchedule(lead=10)


@pytest.mark.parametrize(
    ("schedule", "life", "settled"),
    [
        (DEFAULT, None, 120),
        (DEFAULT, 10, 10),
        (DEFAULT, 900, 900),
        (FAST, None, 2),
        (RotationSchedule(max_token_life=60), None, 60),
        (RotationSchedule(max_token_life=60), 60, 60),
        (RotationSchedule(max_token_life=1000), 900, 900),
    ],
)
def test_the_life_of_tokens_fits_the_schedule(
    schedule: RotationSchedule, life: int | None, settled: int
) -> None:
    """Two minutes unless told, never longer than the keys are published after their last signature."""
    assert build(schedule=schedule, token_life=life).token_life == settled


def test_loopback_ids_follow_the_trust_file_unless_told() -> None:
    """The file's default holds for issuer and aliases; the argument overrides it."""
    assert build(issuer=LOOPBACK, trust=LOOPBACK_TRUST, audiences=["http://localhost:1"]).audiences == (
        LOOPBACK,
        "http://localhost:1",
    )
    assert build(issuer=LOOPBACK, allow_loopback_http=True).issuer == LOOPBACK


def test_the_cache_of_foreign_keys_follows_the_schedule() -> None:
    """A fast schedule needs fast receivers; the default one keeps the bounds of the standards page."""
    limits = build().cache_limits
    assert (limits.min_fresh, limits.default_fresh, limits.stale_grace) == (60, 300, 3600)
    fast = build(schedule=FAST).cache_limits
    assert (fast.min_fresh, fast.default_fresh, fast.stale_grace) == (0.2, 1, 1)


def test_tokens_are_never_made_out_to_an_identity_provider(tmp_path: Path) -> None:
    """There they would be client assertions, with or without the slash at the end (standards section 0)."""
    text = """
version = 1

[[allow]]
issuer = "https://edge.example.com"
audience = "https://wallets.example.com"

[user_issuers."https://login.example.com/"]
audiences = ["https://wallets.example.com"]

[user_issuers."https://id.example.com"]
audiences = ["https://wallets.example.com"]
"""
    trust = tmp_path / "trust.toml"
    trust.write_text(text)
    for source in (TrustConfig.parse(text), trust):
        service = Service(issuer=EDGE, trust=source, key_store="memory://")
        for provider in ("https://login.example.com", "https://id.example.com"):
            with pytest.raises(ConfigError, match="identity provider"):
                service.auth(provider)
        service.auth(WALLETS)
        with pytest.raises(ConfigError, match="not a service id"):
            service.auth("wallets")


def test_no_representation_shows_a_secret() -> None:
    """Neither `repr` nor a rich traceback of settings, service or store holds a key or a password."""
    service = Service(
        issuer=EDGE,
        trust=TRUST,
        key_store=f"redis://user:{SECRET}@redis.example.com",
        key_encryption_key=KEK,
    )
    console = Console(file=io.StringIO(), width=300)
    try:
        settings, store = service.settings, service.settings.open_key_store()
        raise ConfigError("for the traceback")
    except ConfigError:
        console.print_exception(show_locals=True)
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert "settings" in drawn
    shown = [drawn, *(f"{value!r} {value} {pretty_repr(value)}" for value in (settings, service, store))]
    for text in shown:
        for secret in (SECRET, KEK, "secret-secret"):
            assert secret not in text
    assert EDGE in repr(settings)
