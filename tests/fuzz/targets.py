"""What is fuzzed, and what must hold of the outcome: our errors only, and nothing let in that is not good."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from s2s_mesh.errors import JWKSInvalid
from s2s_mesh.identity import ServiceId
from s2s_mesh.jwks import SVID_USE, JWKSet
from s2s_mesh.keys import ALGORITHMS, PRIVATE_MEMBERS, SigningKey
from s2s_mesh.trust import TrustConfig, TrustFileError
from tests.receiver import TRUST
from tests.tokens import EDGE, LEDGER, NOW, WALLETS, claims, encode, good, header, key, sign

from . import providers
from .door import Door, insist
from .mutate import (
    Change,
    header_field_change,
    json_change,
    segment_change,
    token_change,
    toml_change,
)


class Forgery(AssertionError):
    """Something was accepted that is not good."""


class Target(NamedTuple):
    """Something that takes bytes from a stranger.

    Attributes:
        name: on the command line.
        seeds: good inputs, and some bad ones.
        change: mutates by meaning.
        run: one execution; returns its verdict in a word or two, and raises only where there is a bug.
    """

    name: str
    seeds: Sequence[bytes]
    change: Change
    run: Callable[[bytes], str]


# -- through the door ---------------------------------------------------------------------------------------


def token_target(door: Door) -> Target:
    """A token, through the door: what is let in is one of the good tokens, to the byte."""

    def run(token: bytes) -> str:
        status, reason = door.answer([b"Bearer " + token])
        if (status == 200) is not (token in door.good):
            raise Forgery(f"status {status} for {token!r}")
        for part in token.split(b"."):
            insist(
                len(part) < 32 or part.decode("latin-1") not in door.last.text, "the log repeats the token"
            )
        return f"{status} {reason}"

    intruder = key(name="intruder")
    bad = [
        sign(header(intruder), claims(), intruder),
        sign(header(key(), alg="none"), claims(), intruder),
        good(exp=NOW - 1000, iat=NOW - 1100),
        b".".join([encode({"alg": "none"}), encode(claims()), b""]),
    ]
    return Target("token", [*sorted(door.good), *bad], token_change, run)


def header_target(door: Door) -> Target:
    """A header segment, signed for real as it stands: let in only if an independent reader finds it right."""
    signers: dict[str, SigningKey] = {pair.kid: pair for pair in (key(), key("Ed25519"))}
    payload = encode(claims())

    def run(segment: bytes) -> str:
        seen = _read_header(segment)
        signer = signers.get(str(seen.get("kid")), key())
        signing_input = segment + b"." + payload
        status, reason = door.answer([b"Bearer " + signing_input + b"." + encode(signer.sign(signing_input))])
        right = (
            seen.keys() == {"alg", "kid", "typ"}
            and (seen["kid"], seen["alg"]) == (signer.kid, signer.alg)
            and str(seen["typ"]).lower() in ("at+jwt", "application/at+jwt")
        )
        if (status == 200) is not right:
            raise Forgery(f"status {status} for the header {segment!r}, read as {seen}")
        return f"{status} {reason}"

    seeds = [encode(header(pair)) for pair in signers.values()]
    seeds += [encode(json.dumps(header(key(), typ="application/AT+jwt"), indent=2).encode())]
    twice = json.dumps(header(key()))[:-1] + f', "kid": "{key().kid}"}}'
    seeds += [encode(twice.encode()), encode(b"\xef\xbb\xbf" + twice.encode())]
    seeds += [encode(header(key(), crit=["exp"], jwk={"kty": "oct"}, b64=False))]
    return Target("header", seeds, segment_change, run)


def _read_header(segment: bytes) -> dict[str, Any]:
    """An independent reading of a header segment; empty where it is not good."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    try:
        raw = base64.b64decode(
            segment.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(segment) % 4), validate=True
        )
        if base64.urlsafe_b64encode(raw).rstrip(b"=") != segment or len(raw) > 2048:
            return {}
        seen = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
        json.dumps(seen, ensure_ascii=False).encode()  # no lone surrogate
    except (ValueError, RecursionError):
        return {}
    return seen if isinstance(seen, dict) else {}


def authorization_target(door: Door) -> Target:
    """Authorization fields, one a line (a first line with "?" is the query): one good token or nothing."""

    def run(data: bytes) -> str:
        fields = data.split(b"\n")
        query = fields.pop(0)[1:] if fields[0].startswith(b"?") else b""
        status, reason = door.answer(fields, query)
        is_good = len(fields) == 1 and fields[0][:7].lower() == b"bearer " and fields[0][7:] in door.good
        if status == 200 and not is_good:
            raise Forgery(f"let in by {data!r}")
        insist(status == 200 or not is_good or query, "one good token is refused")
        return f"{status} {reason}"

    tokens = sorted(door.good)
    seeds = [
        b"Bearer " + tokens[0],
        b"bearer " + tokens[1],
        b"Basic dXNlcjpwYXNz",
        b"Bearer " + tokens[0] + b"\nBasic eDp5",
        b"?access_token=" + tokens[0] + b"\nBearer " + tokens[0],
        b"",
    ]
    return Target("authorization", seeds, header_field_change, run)


# -- documents ----------------------------------------------------------------------------------------------


def jwks_target(parse: Callable[[bytes], JWKSet] = JWKSet.parse, *, use: str = "sig") -> Target:
    """The body of a JWKS: refused whole, or a set of strong public keys that is written and read the same.

    With another `parse`, of whatever it reads, where the keys have this `use`.
    """
    pairs = [key(alg) for alg in sorted(ALGORITHMS)]
    fits_anything = b"\1" + bytes(63)

    def run(body: bytes) -> str:
        try:
            parsed = parse(body)
        except JWKSInvalid as refused:
            return str(refused)
        entries = json.loads(body)["keys"]
        if any(PRIVATE_MEMBERS & entry.keys() or entry.get("kty") == "oct" for entry in entries):
            raise Forgery("a set with private keys was accepted")
        insist(len(parsed.keys) <= 20 and len(entries) <= 100, "too many keys")
        written = parsed.to_bytes()
        insist(JWKSet.parse(written).to_bytes() == written, "a set does not survive being served")
        for kid, found in parsed.keys.items():
            insist(found.kid == kid and found.alg in ALGORITHMS, "a key is not who it is")
            told = [entry for entry in entries if entry.get("kid") == kid and entry.get("use", "sig") == use]
            insist(bool(told), "a key out of nowhere")
            insist(not PRIVATE_MEMBERS & found.public_jwk.keys(), "a private member is kept")
            if any(found.verify(b"x", forged) for forged in (b"", bytes(64), fits_anything, bytes(384))):
                raise Forgery(f"{found!r} verifies anything")
        ignored = sorted({why.partition(": ")[2] for why in parsed.ignored})
        return f"{len(parsed.keys)} keys, ignored: {ignored}"

    seeds = [JWKSet(pair.public for pair in pairs).to_bytes(), b'{"keys":[]}']
    seeds += [JWKSet([pair.public]).to_bytes() for pair in pairs]
    seeds += [
        json.dumps(
            {"keys": [{**pairs[0].public.public_jwk, "key_ops": ["verify"], "x5c": ["MIIB"]}]}
        ).encode()
    ]
    seeds += [json.dumps({"keys": [{**pairs[0].public.public_jwk, **pairs[0].private_members()}]}).encode()]
    seeds = [seed.replace(b'"use":"sig"', f'"use":"{use}"'.encode()) for seed in seeds]
    return Target("jwks", seeds, json_change, run)


def bundle_target() -> Target:
    """The same of a SPIFFE bundle; what it says of its own order are whole numbers or nothing."""

    def parse(body: bytes) -> JWKSet:
        parsed = JWKSet.parse_bundle(body, assumed=ALGORITHMS)
        insist(all(number is None or type(number) is int for number in parsed.order or ("",)), "no order")
        return parsed

    target = jwks_target(parse, use=SVID_USE)
    order = b'{"spiffe_sequence":7,"spiffe_refresh_hint":300,'
    seeds = [*target.seeds, *(seed.replace(b"{", order, 1) for seed in target.seeds)]
    return Target("bundle", seeds, target.change, target.run)


def trust_target() -> Target:
    """The text of a trust file: refused with an explanation in ASCII, or within every bound that there is."""
    shipped = (Path(__file__).parents[2] / "trust" / "trust.toml").read_bytes()

    def run(text: bytes) -> str:
        try:
            config = TrustConfig.parse(text)
        except TrustFileError as refused:
            told = str(refused)
            insist(told.isascii() and told.startswith("trust.toml: "), "an explanation that is none")
            return "; ".join(re.sub(r'"[^"]*"', "", line)[-60:] for line in refused.problems[:2])
        for (issuer, audience), pair in config.pairs.items():
            known = config.issuers[issuer]
            for name in (issuer, audience):
                ServiceId.parse(name, allow_loopback_http=config.allow_loopback_http)
            if "*" in "".join([issuer, audience, *pair.scopes]):
                raise Forgery("a wildcard is granted")
            insist(known.algorithms and known.algorithms <= ALGORITHMS, "an algorithm that is none of ours")
            insist(0 <= known.leeway <= 120 and 0 < known.max_token_life <= 3600, "beyond its bounds")
            places = (known.jwks_uri is not None, known.jwks_file is not None, known.discovery)
            insist(sum(places) == 1, "keys in two places, or none")
            if known.jwks_uri is not None and not known.jwks_uri.startswith("https://"):
                insist(known.allow_plain_http or config.allow_loopback_http, "keys in plain sight")
        return f"{len(config.pairs)} pairs, {len(config.routes)} routes, {len(config.warnings)} warnings"

    seeds = [shipped, _EVERYTHING.encode()]
    seeds.append(
        TRUST.format(
            edge=EDGE, wallets=WALLETS, ledger=LEDGER, algorithms='["ES256"]', may_act_for=[]
        ).encode()
    )
    return Target("trust", seeds, toml_change, run)


_EVERYTHING = f"""version = 1
[defaults]
algorithms = ["ES256", "RS256"]
max_token_life = "15m"
leeway = "30s"
[issuers."{EDGE}"]
jwks_uri = "http://edge.internal:8080/keys"
allow_plain_http = true
typ = ["at+jwt"]
[[allow]]
issuer = "{EDGE}"
audience = "{WALLETS}"
scopes = ["cards:read", "cards:write"]
may_act_for = ["https://login.example.com/"]
[[route]]
audience = "{WALLETS}"
path = "/wallets/{{wallet_id}}/card"
methods = ["PUT"]
scopes = ["cards:write"]
[user_issuers."https://login.example.com/"]
audiences = ["{WALLETS}"]
[[txn]]
trust_domain = "https://example.com"
issuer = "{EDGE}"
audience = "{WALLETS}"
"""
NAMES = ("token", "header", "jwks", "trust", "authorization", "user", "discovery", "bundle")
_DOCUMENTS: dict[str, Callable[[], Target]] = {
    "jwks": jwks_target,
    "bundle": bundle_target,
    "trust": trust_target,
    "user": lambda: Target("user", providers.CLAIMS, json_change, providers.read_claims),
    "discovery": lambda: Target("discovery", providers.DOCUMENTS, json_change, providers.read_document),
}


@contextlib.contextmanager
def target(name: str) -> Iterator[Target]:
    """The target of this name, while it lasts."""
    if name in _DOCUMENTS:
        yield _DOCUMENTS[name]()
        return
    makers = {"token": token_target, "header": header_target, "authorization": authorization_target}
    with contextlib.closing(Door()) as door:
        yield makers[name](door)
