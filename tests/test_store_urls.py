"""From a URL to a store, and what is said about a bad one."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from s2s_mesh.errors import ConfigError
from s2s_mesh.store import Notifier, open_store
from s2s_mesh.store.redis_address import RedisAddress

ISSUER = "https://wallets.example.com"
SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", "redis://localhost:6379"),
        ("REDIS://localhost", "redis://localhost:6379"),
        ("redis://localhost/", "redis://localhost:6379"),
        ("redis://user:secret@cache.internal:6380/3", "redis://cache.internal:6380/3"),
        ("redis://:secret@[::1]:6380", "redis://[::1]:6380"),
        ("rediss://[::1]", "rediss://[::1]:6379"),
        ("redis+sentinel://s1,s2:26380/wallets", "redis+sentinel://s1:26379,s2:26380/wallets"),
        ("rediss+sentinel://s1/my.primary-1/2", "rediss+sentinel://s1:26379/my.primary-1/2"),
        ("redis+cluster://n1:1,n2:2", "redis+cluster://n1:1,n2:2"),
        ("rediss+cluster://n1/0", "rediss+cluster://n1:6379"),
    ],
)
def test_every_form_of_redis_url_is_understood(url: str, expected: str) -> None:
    """Hosts, ports, database and service are taken from the URL; defaults fill the gaps."""
    assert str(RedisAddress.parse(url)) == expected
    assert expected in repr(open_store(url, issuer=ISSUER))


def test_user_and_password_are_percent_decoded() -> None:
    """A password may hold any character, percent-encoded."""
    address = RedisAddress.parse("redis://us%2Fer:p%40ss%3Aw%2Frd%25@h")
    assert (address.username, address.password) == ("us/er", "p@ss:w/rd%")


def test_tls_is_verified_unless_the_url_says_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    """`rediss://` checks certificate and host name; giving that up takes explicit words and is logged."""
    plain = RedisAddress.parse("rediss://h?ssl_ca_certs=%2Fca.pem&ssl_certfile=c.pem&ssl_keyfile=k.pem")
    assert plain.verify_certificate
    assert plain.verify_hostname
    assert dict(plain.tls_files) == {
        "ssl_ca_certs": "/ca.pem",
        "ssl_certfile": "c.pem",
        "ssl_keyfile": "k.pem",
    }
    open_store("rediss://h", issuer=ISSUER)
    assert not caplog.records

    nameless = RedisAddress.parse("rediss://h?ssl_check_hostname=false")
    assert nameless.verify_certificate
    assert not nameless.verify_hostname

    trusting = RedisAddress.parse("rediss://h?ssl_cert_reqs=none")
    assert not trusting.verify_certificate
    assert not trusting.verify_hostname
    open_store(f"rediss://u:{SECRET}@h?ssl_cert_reqs=none", issuer=ISSUER)
    assert "rediss://h:6379: ssl_cert_reqs=none" in caplog.text
    assert SECRET not in caplog.text


def test_sentinels_may_have_a_login_of_their_own() -> None:
    """The login in front of the hosts is the servers'; the Sentinels' own one is a parameter."""
    address = RedisAddress.parse("redis+sentinel://u:p@s/name?sentinel_username=a&sentinel_password=b%2Bc")
    assert (address.username, address.password) == ("u", "p")
    assert (address.sentinel_username, address.sentinel_password) == ("a", "b+c")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no scheme"),
        (f"user:{SECRET}@h:6379", "no scheme"),
        (f"{SECRET}", "no scheme"),
        ("http://h", "the scheme 'http'; expected one of redis://, rediss://, redis+sentinel://"),
        (f"postgres://u:{SECRET}@h", "the scheme 'postgres'"),
        ("unix:///run/redis.sock", "the scheme 'unix'"),
        ("memory:", "no scheme"),
        ("memory://somewhere", "memory:// and nothing behind it"),
        ("file://relative/path", "three slashes"),
        ("file://", "three slashes"),
        ("file:///keys?mode=1", "percent-encoded"),
        ("file:///keys%00", "absolute path"),
        ("redis://", "host number 1 is not a host name"),
        ("redis://a..b", "host number 1"),
        (f"redis://u:{SECRET}@", "host number 1"),
        (f"redis://u:{SECRET[:8]}/{SECRET[8:]}@h:6379", "%2F"),
        (f"redis://u:{SECRET}#x@h:6379", "%23"),
        (f"redis://u:{SECRET}?x@h:6379", "%3F"),
        (f"redis://h:{SECRET}", "the port of host number 1"),
        ("redis://h:0", "the port of host number 1"),
        ("redis://h:65536", "the port of host number 1"),
        ("redis://h1,h2", "2 hosts; several belong to redis+sentinel://"),
        (f"redis://h/{SECRET}", "database number"),
        ("redis://h/0/1", "database number"),
        ("redis+sentinel://h", "names no service"),
        ("redis+sentinel://h/name/x", "database number"),
        ("redis+cluster://h/1", "only database 0"),
        ("redis+cluster://h,,h2", "host number 2"),
        ("redis://h?ssl_ca_certs=/ca.pem", "'ssl_ca_certs' is unknown or repeated; allowed here: none"),
        ("rediss://h?ssl_cert_reqs=optional", "one of required, none"),
        ("rediss://h?ssl_check_hostname=no", "one of true, false"),
        ("rediss://h?ssl_ca_certs=a&ssl_ca_certs=b", "'ssl_ca_certs' is unknown or repeated"),
        ("rediss://h?ssl_certfile=c.pem", "belong together"),
        (f"rediss://h?{SECRET}=1", "one of its query parameters is unknown"),
        ("rediss://h?sentinel_password=x", "'sentinel_password' is unknown"),
    ],
)
def test_a_malformed_url_is_refused_in_plain_words(url: str, says: str) -> None:
    """The error names what was found and what is expected, and nothing that could be a password."""
    with pytest.raises(ConfigError) as refusal:
        open_store(url, issuer=ISSUER)
    assert says in str(refusal.value)
    for secret in (SECRET, SECRET[:8], SECRET[8:]):
        assert secret not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "Ring", "a/b", "..", "a" * 33])
def test_a_document_name_is_plain(name: str) -> None:
    """A document's name cannot reach outside of its directory or key."""
    with pytest.raises(ConfigError, match="document name"):
        open_store("memory://", issuer=ISSUER, name=name)


def test_a_store_shows_where_it_is_and_no_password() -> None:
    """`repr` of a store and of an address hold no secret."""
    url = f"redis+sentinel://u:{SECRET}@s/name?sentinel_password={SECRET}2"
    store = open_store(url, issuer=ISSUER)
    address = RedisAddress.parse(url)
    assert "redis+sentinel://s:26379/name" in repr(store)
    assert SECRET not in f"{store!r} {store} {address!r} {address}"


def test_opening_is_inert(tmp_path: Path) -> None:
    """`open_store` connects to nothing, starts no thread and makes no file."""
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        host = f"127.0.0.1:{server.getsockname()[1]}"
        for url in (
            f"redis://{host}",
            f"rediss://{host}",
            f"redis+sentinel://{host}/wallets",
            f"redis+cluster://{host}",
            f"file://{tmp_path}/keys",
            "memory://",
        ):
            open_store(url, issuer=ISSUER)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert threading.active_count() == threads
    assert not list(tmp_path.iterdir())


def test_only_redis_stores_are_notifiers(tmp_path: Path) -> None:
    """Whether a store can tell others about a change is seen by `isinstance`."""
    assert isinstance(open_store("redis://h", issuer=ISSUER), Notifier)
    assert not isinstance(open_store(f"file://{tmp_path}", issuer=ISSUER), Notifier)


def test_redis_py_is_loaded_only_for_a_redis() -> None:
    """A process that keeps its ring elsewhere does not pay for importing redis-py."""
    code = (
        "import sys; from s2s_mesh.store import open_store;"
        " open_store('memory://', issuer='https://a.example'); print('redis' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
