"""Service identifiers, principals and end users."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from starlette.authentication import BaseUser

from s2s_mesh.errors import ConfigError
from s2s_mesh.identity import EndUser, Principal, ServiceId, freeze

NAME = "https://wallets.example.com"


def problem(text: Any, **options: Any) -> str | None:
    """Why `text` is refused, or None."""
    try:
        ServiceId.parse(text, **options)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("text", "origin", "path"),
    [
        pytest.param(NAME, NAME, "", id="host"),
        pytest.param(f"{NAME}:8443", f"{NAME}:8443", "", id="port"),
        pytest.param(f"{NAME}/team", NAME, "/team", id="path"),
        pytest.param(f"{NAME}:8443/a/B/c.d_e~f-0", f"{NAME}:8443", "/a/B/c.d_e~f-0", id="port and path"),
        pytest.param(f"{NAME}/caf%C3%A9", NAME, "/caf%C3%A9", id="escaped path"),
        pytest.param(f"{NAME}/...", NAME, "/...", id="three dots are a name"),
        pytest.param("https://xn--80ak6aa92e.com", "https://xn--80ak6aa92e.com", "", id="punycode"),
        pytest.param("https://wallets", "https://wallets", "", id="one label"),
        pytest.param(
            f"https://{'a' * 63}.{'b' * 63}", f"https://{'a' * 63}.{'b' * 63}", "", id="long labels"
        ),
        pytest.param("https://1password.3com", "https://1password.3com", "", id="digits in labels"),
        pytest.param("https://10.0.0.5", "https://10.0.0.5", "", id="IPv4"),
        pytest.param("https://[2001:db8::5]", "https://[2001:db8::5]", "", id="IPv6"),
        pytest.param("https://[2001:db8::5]:8443/a", "https://[2001:db8::5]:8443", "/a", id="IPv6 with port"),
        pytest.param(f"{NAME}/{'a' * 484}", NAME, f"/{'a' * 484}", id="512 characters"),
        pytest.param(f"{NAME}:80", f"{NAME}:80", "", id="port 80 is not the default of https"),
    ],
)
def test_service_ids(text: str, origin: str, path: str) -> None:
    """A canonical https URL is a service id: a string equal to what was written, with its two parts."""
    name = ServiceId.parse(text)
    assert isinstance(name, ServiceId)
    assert name == text
    assert (name.origin, name.path) == (origin, path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(NAME, None, id="accepted"),
        # the form of the URL
        pytest.param("", "empty", id="empty"),
        pytest.param(None, "empty", id="not a string"),
        pytest.param(NAME.encode(), "empty", id="bytes"),
        pytest.param("wallets.example.com", "expected https://", id="no scheme"),
        pytest.param("//wallets.example.com", "expected https://", id="no scheme, slashes"),
        pytest.param("https:/wallets.example.com", "expected https://", id="one slash"),
        pytest.param("https:wallets.example.com", "expected https://", id="no slash"),
        pytest.param("HTTPS://wallets.example.com", "scheme in lower case", id="upper-case scheme"),
        pytest.param("https://", "not a host name", id="no host"),
        pytest.param("https:///wallets", "not a host name", id="no host, a path"),
        pytest.param("http://wallets.example.com", "the scheme must be https", id="http"),
        pytest.param("wss://wallets.example.com", "the scheme must be https", id="wss"),
        pytest.param("spiffe://example.com/wallets", "the scheme must be https", id="spiffe"),
        pytest.param("file:///etc/passwd", "not a host name", id="file"),
        pytest.param("unix:/var/run/wallets.sock", "expected https://", id="unix socket"),
        pytest.param(f"{NAME}/{'a' * 485}", "513 characters", id="513 characters"),
        # the characters
        pytest.param(f"{NAME} ", "printable ASCII", id="trailing space"),
        pytest.param(f" {NAME}", "printable ASCII", id="leading space"),
        pytest.param("https://wallets .example.com", "printable ASCII", id="space in the host"),
        pytest.param(f"{NAME}\n", "printable ASCII", id="newline"),
        pytest.param(f"{NAME}\r", "printable ASCII", id="carriage return"),
        pytest.param("https://wal\tlets.example.com", "printable ASCII", id="tab, which urlsplit deletes"),
        pytest.param(f"{NAME}\0", "printable ASCII", id="NUL"),
        pytest.param(f"{NAME}\x7f", "printable ASCII", id="DEL"),
        pytest.param("https://good.example\\@evil.example", "backslashes", id="backslash"),
        pytest.param("https://wallets.example.com\\", "backslashes", id="backslash at the end"),
        pytest.param("https://wallets.ex\u0430mple.com", "A-labels", id="Cyrillic a"),
        pytest.param("https://wallets\uff0eexample.com", "A-labels", id="fullwidth dot"),
        pytest.param("https://wallets\u3002example.com", "A-labels", id="ideographic dot"),
        pytest.param("https://wallets.example.com\u200b", "A-labels", id="zero-width space"),
        pytest.param("https://\u0661\u0662\u0667.0.0.1", "A-labels", id="Arabic digits"),
        pytest.param("https://b\u00fccher.example", "A-labels", id="IDN as written"),
        pytest.param("https://*.example.com", "wildcards", id="wildcard host"),
        pytest.param("*", "wildcards", id="wildcard"),
        pytest.param(f"{NAME}/*", "wildcards", id="wildcard path"),
        pytest.param(f"{NAME}?", "a query", id="empty query"),
        pytest.param(f"{NAME}?a=b", "a query", id="query"),
        pytest.param(f"{NAME}#", "a fragment", id="empty fragment"),
        pytest.param(f"{NAME}#a", "a fragment", id="fragment"),
        pytest.param("https://wallets.example.com@evil.example", "user info", id="user"),
        pytest.param("https://u:p@wallets.example.com", "user info", id="user and password"),
        pytest.param("https://@wallets.example.com", "user info", id="empty user"),
        # the host
        pytest.param("https://Wallets.example.com", "lower case: wallets.example.com", id="upper-case host"),
        pytest.param("https://wallets.example.com.", "not a host name", id="trailing dot"),
        pytest.param("https://.wallets.example.com", "not a host name", id="leading dot"),
        pytest.param("https://wallets..example.com", "not a host name", id="empty label"),
        pytest.param("https://-wallets.example.com", "not a host name", id="leading hyphen"),
        pytest.param("https://wallets-.example.com", "not a host name", id="trailing hyphen"),
        pytest.param("https://wallets_a.example.com", "not a host name", id="underscore"),
        pytest.param("https://wallets%2eexample.com", "not a host name", id="%2e in the host"),
        pytest.param("https://wallets,example.com", "not a host name", id="comma"),
        pytest.param(f"https://{'a' * 64}.com", "not a host name", id="label of 64"),
        pytest.param(f"https://{'a.' * 126}ab", "not a host name", id="host of 254"),
        pytest.param("https://2130706433", "disguised IP", id="decimal IP"),
        pytest.param("https://0x7f000001", "disguised IP", id="hexadecimal IP"),
        pytest.param("https://0x7f.0.0.0x1", "disguised IP", id="hexadecimal octets"),
        pytest.param("https://0177.0.0.1", "disguised IP", id="octal IP"),
        pytest.param("https://127.1", "disguised IP", id="short IP"),
        pytest.param("https://1.2.3.4.5", "disguised IP", id="five octets"),
        pytest.param("https://256.0.0.1", "disguised IP", id="octet of 256"),
        pytest.param("https://example.1", "disguised IP", id="numeric top-level domain"),
        pytest.param("https://0x", "disguised IP", id="0x is zero to inet_aton"),
        pytest.param("https://[2001:db8:0::5]", "write the host as [2001:db8::5]", id="long IPv6"),
        pytest.param("https://[2001:DB8::5]", "expected https://", id="upper-case IPv6"),
        pytest.param("https://[2001:db8::05]", "write the host as", id="IPv6 with a leading zero"),
        pytest.param("https://[2001:db8::5", "expected https://", id="IPv6 without its bracket"),
        pytest.param("https://[2001:db8::5]x", "expected https://", id="text after IPv6"),
        pytest.param("https://2001:db8::5", "expected https://", id="bare IPv6"),
        pytest.param("https://[fe80::1%25eth0]", "expected https://", id="IPv6 zone"),
        pytest.param("https://[:::]", "not an IPv6 address", id="no IPv6"),
        pytest.param("https://[]", "expected https://", id="empty brackets"),
        pytest.param("https://[10.0.0.5]", "not an IPv6 address", id="IPv4 in brackets"),
        pytest.param("https://[::ffff:7f00:1]", "disguised IP", id="IPv4 as IPv6"),
        pytest.param("https://[::ffff:127.0.0.1]", "disguised IP", id="IPv4 as IPv6, dotted"),
        # the port
        pytest.param(f"{NAME}:443", f"leave the default port out: {NAME}", id="default port"),
        pytest.param(
            "https://[::443]:443", "leave the default port out: https://[::443]", id="default port, IPv6"
        ),
        pytest.param(f"{NAME}:0443", "not a port number", id="leading zero"),
        pytest.param(f"{NAME}:0", "not a port number", id="port 0"),
        pytest.param(f"{NAME}:65536", "not a port number", id="port 65536"),
        pytest.param(f"{NAME}:{'9' * 400}", "not a port number", id="endless port"),
        pytest.param(f"{NAME}:", "expected https://", id="empty port"),
        pytest.param(f"{NAME}:https", "expected https://", id="named port"),
        pytest.param(f"{NAME}:-1", "expected https://", id="negative port"),
        pytest.param(f"{NAME}:80:80", "expected https://", id="two ports"),
        # the path
        pytest.param(f"{NAME}/", f"no trailing slash: {NAME}", id="trailing slash"),
        pytest.param(f"{NAME}/team/", f"no trailing slash: {NAME}/team", id="trailing slash after a path"),
        pytest.param(f"{NAME}//", "no trailing slash", id="two slashes"),
        pytest.param(f"{NAME}//team", "segment ''", id="empty segment"),
        pytest.param(f"{NAME}/./team", "segment '.'", id="dot segment"),
        pytest.param(f"{NAME}/../team", "segment '..'", id="dot dot segment"),
        pytest.param(f"{NAME}/%2E%2E/team", "segment '%2E%2E'", id="escaped dot dot segment"),
        pytest.param(f"{NAME}/%2e%2e/team", "segment '%2e%2e'", id="lower-case escapes"),
        pytest.param(f"{NAME}/te%61m", "segment 'te%61m'", id="lower-case letter escaped"),
        pytest.param(f"{NAME}/te%41m", "segment 'te%41m'", id="upper-case letter escaped"),
        pytest.param(f"{NAME}/team%", "segment 'team%'", id="half an escape"),
        pytest.param(f"{NAME}/team%4", "segment 'team%4'", id="short escape"),
        pytest.param(f"{NAME}/team;v=1", "segment 'team;v=1'", id="path parameter"),
        pytest.param(f"{NAME}/a:b", "segment 'a:b'", id="colon in the path"),
    ],
)
def test_one_spelling_of_a_service_id(text: Any, why: str | None) -> None:
    """A name with a second spelling, or that is no https URL, is refused with what is wrong about it."""
    found = problem(text)
    assert found is None if why is None else found is not None and why in found


@pytest.mark.parametrize(
    ("text", "allow", "why"),
    [
        pytest.param("http://127.0.0.1:8001", True, None, id="accepted"),
        pytest.param("http://[::1]:8001", True, None, id="IPv6"),
        pytest.param("http://localhost:8001/a", True, None, id="localhost"),
        pytest.param("https://127.0.0.1:8001", True, None, id="https"),
        pytest.param("http://127.0.0.1:443", True, None, id="the default port of https"),
        pytest.param(
            "http://127.0.0.1:8001", False, "needs allow_loopback_http = true", id="not switched on"
        ),
        pytest.param("http://127.0.0.2:8001", True, "the scheme must be https", id="other loopback address"),
        pytest.param("http://10.0.0.5:8001", True, "the scheme must be https", id="private address"),
        pytest.param(
            "http://localhost.evil.example", True, "the scheme must be https", id="localhost as a label"
        ),
        pytest.param("http://127.0.0.1:80", True, "leave the default port out", id="default port of http"),
        pytest.param("http://127.1:8001", True, "disguised IP", id="short address"),
        pytest.param("ftp://127.0.0.1:8001", True, "the scheme must be https", id="ftp"),
    ],
)
def test_loopback_http(text: str, allow: bool, why: str | None) -> None:
    """Plain http names a service only on this machine, and only where that is switched on."""
    found = problem(text, allow_loopback_http=allow)
    assert found is None if why is None else found is not None and why in found


def test_names_are_compared_byte_by_byte() -> None:
    """A service id equals the same string and no other spelling, prefix or extension of it."""
    name = ServiceId.parse(NAME)
    assert name == NAME
    assert hash(name) == hash(NAME)
    for other in (NAME + ".evil.example", NAME[:-1], NAME + "/", NAME.upper()):
        assert name != other


def principal(**changes: Any) -> Principal:
    facts: dict[str, Any] = {
        "issuer": NAME,
        "subject": NAME,
        "audience": "https://ledger.example.com",
        "scopes": frozenset({"cards:read"}),
        "kid": "k1",
        "expires_at": 1_800_000_000,
        "claims": freeze({"iss": NAME, "act": {"sub": "a"}, "list": [{"deep": [1, 2]}]}),
    }
    return Principal(**{**facts, **changes})


@pytest.mark.parametrize("name", ["issuer", "subject", "scopes", "claims", "user", "expires_at", "extra"])
def test_a_principal_never_changes(name: str) -> None:
    """No attribute of a principal can be set, and none can be added."""
    who = principal()
    with pytest.raises(AttributeError):
        setattr(who, name, "evil")
    assert who == principal()


def test_claims_never_change() -> None:
    """Frozen claims are mappings and tuples down to the last level, and lose nothing."""
    source: dict[str, Any] = {"iss": NAME, "n": 1, "none": None, "list": [{"deep": [1, {"deeper": True}]}]}
    claims = freeze(source)
    assert claims == {"iss": NAME, "n": 1, "none": None, "list": ({"deep": (1, {"deeper": True})},)}
    for mapping in (claims, claims["list"][0], claims["list"][0]["deep"][1]):
        with pytest.raises(TypeError):
            mapping["iss"] = "evil"
        with pytest.raises(TypeError):
            del mapping[next(iter(mapping))]
    for sequence in (claims["list"], claims["list"][0]["deep"]):
        with pytest.raises(TypeError):
            sequence[0] = "evil"
    source["list"][0]["deep"].append("evil")
    assert claims["list"][0]["deep"] == (1, {"deeper": True})


def test_starlette_user_protocol() -> None:
    """A principal is an authenticated user in Starlette's sense; its name is the issuer, not the subject."""
    who = principal(subject="somebody else")
    assert who.is_authenticated is True
    assert who.display_name == who.identity == NAME
    protocol = [name for name in vars(BaseUser) if not name.startswith("_")]
    assert all(hasattr(who, name) for name in protocol)


def test_end_users_are_no_callers() -> None:
    """A principal acts as itself unless it carries an end user, who is a pair of provider and subject."""
    user = EndUser(issuer="https://login.example.com/", subject="248289761001", expires_at=1_800_000_000)
    assert principal().user is None
    assert principal(user=user).user == user
    assert principal(user=user).identity == NAME
    assert user != msgspec.structs.replace(user, issuer="https://login.example.com")
    with pytest.raises(AttributeError):
        user.subject = "evil"  # type: ignore[misc]
