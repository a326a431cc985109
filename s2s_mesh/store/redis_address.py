"""Where a Redis is and how to get in: a parsed `redis://` URL or one of its relatives."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote

from ..errors import ConfigError

STANDALONE, SENTINEL, CLUSTER = "standalone", "sentinel", "cluster"

_TOPOLOGY = {
    "redis": STANDALONE,
    "rediss": STANDALONE,
    "redis+sentinel": SENTINEL,
    "rediss+sentinel": SENTINEL,
    "redis+cluster": CLUSTER,
    "rediss+cluster": CLUSTER,
}
REDIS_SCHEMES = tuple(_TOPOLOGY)
_DEFAULT_PORT = {STANDALONE: 6379, SENTINEL: 26379, CLUSTER: 6379}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_HOST = re.compile(r"(?!.*\.\.)(?:[A-Za-z0-9_-]{1,63}\.?)+|\[[0-9A-Fa-f:.]+\]", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def _refuse(scheme: str, problem: str) -> NoReturn:
    # `problem` never quotes the URL: an unescaped character moves a password into any part of it
    raise ConfigError(f"the {scheme}:// key store URL cannot be used: {problem}")


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """A parsed Redis URL.

    Attributes:
        topology: `STANDALONE`, `SENTINEL` or `CLUSTER`.
        tls: whether every connection is TLS; the certificate is verified unless the URL says otherwise.
        hosts: (host, port) of the server, of the Sentinels, or of some cluster nodes.
        username, password: of the Redis servers.
        db: number of the logical database; always 0 in a cluster.
        service: the name under which Sentinel knows the primary.
        sentinel_username, sentinel_password: of the Sentinels, where they want any.
        tls_files: `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile`, as far as given.
        verify_certificate: false only if the URL says `ssl_cert_reqs=none`.
        verify_hostname: false only if the URL says `ssl_check_hostname=false`, or with the above.
    """

    topology: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls_files: tuple[tuple[str, str], ...] = ()
    verify_certificate: bool = True
    verify_hostname: bool = True

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Take a URL with one of `REDIS_SCHEMES` apart.

        Raises:
            ConfigError: naming what is wrong with it, without quoting anything that could be a secret.
        """
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        topology = _TOPOLOGY[scheme]
        tls = scheme.startswith("rediss")
        rest, hash_sign, _ = rest.partition("#")
        rest, _, query = rest.partition("?")
        authority, _, path = rest.partition("/")
        if hash_sign or "@" in path or "@" in query:
            _refuse(scheme, "it holds an unescaped / ? # or @; in a password write %2F, %3F, %23 or %40")
        userinfo, _, hosts = authority.rpartition("@")
        username, _, password = userinfo.partition(":")
        db, service = _database(scheme, topology, path)
        return cls(
            topology=topology,
            tls=tls,
            hosts=_hosts(scheme, topology, hosts),
            username=unquote(username) or None,
            password=unquote(password) or None,
            db=db,
            service=service,
            **_options(scheme, query, tls=tls, sentinel=topology == SENTINEL),
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The passwords, to be kept out of texts."""
        return tuple(secret for secret in (self.password, self.sentinel_password) if secret)

    def __str__(self) -> str:
        """The URL without user, password and options."""
        suffix = "" if self.topology == STANDALONE else f"+{self.topology}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        service = f"/{self.service}" if self.service else ""
        db = f"/{self.db}" if self.db else ""
        return f"{'rediss' if self.tls else 'redis'}{suffix}://{hosts}{service}{db}"


def _hosts(scheme: str, topology: str, text: str) -> tuple[tuple[str, int], ...]:
    parts = text.split(",")
    if topology == STANDALONE and len(parts) > 1:
        _refuse(
            scheme,
            f"it names {len(parts)} hosts; several belong to {scheme}+sentinel:// or {scheme}+cluster://",
        )
    hosts = []
    for number, part in enumerate(parts, start=1):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, str(_DEFAULT_PORT[topology])
        if not _HOST.fullmatch(host):
            _refuse(scheme, f"host number {number} is not a host name; expected HOST:PORT")
        if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
            _refuse(scheme, f"the port of host number {number} is not a number from 1 to 65535")
        hosts.append((host.strip("[]"), int(port)))
    return tuple(hosts)


def _database(scheme: str, topology: str, path: str) -> tuple[int, str]:
    """Return the database number and, for Sentinel, the service name from the URL's path."""
    service = ""
    if topology == SENTINEL:
        service, _, path = path.partition("/")
        if not _SERVICE.fullmatch(service):
            _refuse(scheme, "the path names no service; expected HOST:PORT,HOST:PORT/SERVICE_NAME[/DB]")
    path = path or "0"
    if not _PORT.fullmatch(path):
        _refuse(scheme, "the last part of its path is not a database number, such as /0")
    if topology == CLUSTER and int(path):
        _refuse(scheme, "a cluster has only database 0; leave the path out")
    return int(path), service


def _options(scheme: str, query: str, *, tls: bool, sentinel: bool) -> dict[str, Any]:
    """Check the query parameters and return them as fields of `RedisAddress`."""
    known = [*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname"] if tls else []
    known += ["sentinel_username", "sentinel_password"] if sentinel else []
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known or name in found:
            # a name may be a piece of a password as well, so it is repeated only if it looks like a name
            shown = repr(name) if re.fullmatch(r"[a-z_]{1,40}", name) else "one of its query parameters"
            allowed = f"one each of {', '.join(known)}" if known else "none"
            _refuse(scheme, f"{shown} is unknown or repeated; allowed here: {allowed}")
        found[name] = value
    for name, values in (("ssl_cert_reqs", ("required", "none")), ("ssl_check_hostname", ("true", "false"))):
        if found.setdefault(name, values[0]) not in values:
            _refuse(scheme, f"{name} has to be one of {', '.join(values)}")
    if ("ssl_certfile" in found) != ("ssl_keyfile" in found):
        _refuse(scheme, "ssl_certfile and ssl_keyfile belong together: give both or neither")
    verify = found["ssl_cert_reqs"] == "required"
    return {
        "tls_files": tuple((name, found[name]) for name in _TLS_FILES if name in found),
        "verify_certificate": verify,
        "verify_hostname": verify and found["ssl_check_hostname"] == "true",
        "sentinel_username": found.get("sentinel_username"),
        "sentinel_password": found.get("sentinel_password"),
    }
