"""An audience's rules as an ES module for Node and Workers, on top of npm `jose`.

The module's first part is data, made from the trust file; the rest is `PROGRAM`, always the same.
"""

from __future__ import annotations

import json

from .export_plan import Feature, Plan, check

CAN: frozenset[Feature] = frozenset(
    {
        Feature.ED25519,
        Feature.ALGORITHMS,
        Feature.TYP,
        Feature.LIFE,
        Feature.LEEWAY,
        Feature.PATH,
    }
)
LIMITS: tuple[str, ...] = (
    "`s2s-mesh deny`: a denied caller gets in until its keys or its row are gone",
    "key sets are read by jose's rules: it takes a key without alg",
    "a Worker is given a path that the runtime has tidied up; what it is given is judged",
)
PROGRAM = r"""
/** Why a request is refused: for the log, never for the answer, which is `status` and nothing else. */
export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

const keys = Object.fromEntries(
  Object.entries(pairs).map(([issuer, pair]) => [
    issuer,
    createRemoteJWKSet(new URL(pair.jwksUri), { cacheMaxAge: 300_000, cooldownDuration: 5_000 }),
  ]),
);
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gsu;
const SCOPE = /^[!#-[\]-~]+$/;
const NOT_A_PATH = /\/\/|[^!-~]|[\\;?#]|%(?![0-9A-Fa-f]{2})|%2[Ff]|%3[Bb]|%5[Cc]|%[01][0-9A-Fa-f]|%7[Ff]/;
const SCHEMELESS = /^https?:\/\/[^/?#]*/i;

// the key set cannot be had: not the caller's fault
const AWAY = new Set(["ERR_JWKS_TIMEOUT", "ERR_JWKS_INVALID", "ERR_JOSE_GENERIC"]);

const refuse = (status, reason) => {
  throw new Refused(status, reason);
};

/** JSON with one meaning: no member twice, no number that readers write differently, eight levels at most. */
function readObject(segment, limit) {
  const octets = base64url.decode(segment);
  if (base64url.encode(octets) !== segment) refuse(401, "not canonical base64url");
  if (octets.length > limit) refuse(401, "too large");
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(octets);
  const value = JSON.parse(text);
  if (value === null || typeof value !== "object" || Array.isArray(value)) refuse(401, "not an object");
  // JSON.parse found it to be JSON, so tokens are all that is left to look at
  const tokens = text.match(TOKEN);
  const open = [];
  const spelled = {};
  let name = null;
  for (const [at, token] of tokens.entries()) {
    const inside = open.at(-1);
    if (token === "{" || token === "[") {
      if (open.push(token === "{" ? new Set() : null) > 8) refuse(401, "nested too deep");
    } else if (token === "}" || token === "]") {
      open.pop();
    } else if (inside && token[0] === '"' && tokens[at + 1] === ":") {
      name = JSON.parse(token);
      if (inside.has(name)) refuse(401, "a member stands twice");
      inside.add(name);
    } else if (/^[-0-9]/.test(token)) {
      const number = Number(token);
      if (/[.eE]/.test(token) ? !Number.isFinite(number) || Object.is(number, -0) : /\d{17}/.test(token)) {
        refuse(401, "a number that readers write differently");
      }
      if (open.length === 1) spelled[name] = token;
    }
    if (token[0] === '"' && !JSON.parse(token).isWellFormed()) refuse(401, "a lone surrogate");
  }
  return [value, spelled];
}

const own = (object, name) => (Object.hasOwn(object, name) ? object[name] : undefined);

function checkClaims(claims, spelled, pair, issuer, now) {
  let aud = own(claims, "aud");
  if (Array.isArray(aud) && aud.length === 1) [aud] = aud;
  if (aud !== audience) refuse(401, "another audience");
  if (own(claims, "sub") !== issuer || own(claims, "client_id") !== issuer) refuse(401, "sub or client_id");
  for (const other of ["cnf", "act", "sub_id"]) {
    if (Object.hasOwn(claims, other)) refuse(401, `${other}: bound to a key, or for a user`);
  }
  const jti = own(claims, "jti");
  if (typeof jti !== "string" || jti === "" || [...jti].length > 256) refuse(401, "jti");
  const time = (member) => {
    const value = own(claims, member);
    const whole = typeof value === "number" && /^\d+$/.test(spelled[member]) && value > 0 && value < 2 ** 53;
    return whole ? value : refuse(401, member);
  };
  const [iat, exp] = [time("iat"), time("exp")];
  const nbf = Object.hasOwn(claims, "nbf") ? time("nbf") : iat;
  if (iat >= exp || exp - iat > pair.maxTokenLife) refuse(401, "its life");
  if (exp <= now - pair.leeway || Math.max(iat, nbf) > now + pair.leeway) refuse(401, "not its time");
}

/** What is granted, and asked for: a token without the claim asks for all. */
function effectiveScopes(claims, pair) {
  if (!Object.hasOwn(claims, "scope")) return pair.scopes;
  if (typeof claims.scope !== "string") refuse(401, "scope");
  const asked = claims.scope.split(" ");
  if (asked.length > 100 || !asked.every((scope) => SCOPE.test(scope))) refuse(401, "scope");
  return pair.scopes.filter((scope) => asked.includes(scope));
}

/** What an unverified token says, if it obeys the rules of the issuer that it names. */
function readToken(token, now) {
  try {
    const parts = token.split(".");
    if (token.length > 8192 || parts.length !== 3) refuse(401, "not a compact JWS");
    if (!parts.every((part) => /^[\w-]+$/.test(part))) refuse(401, "not base64url");
    const [header] = readObject(parts[0], 2048);
    const [claims, spelled] = readObject(parts[1], 8192);
    if (base64url.encode(base64url.decode(parts[2])) !== parts[2]) refuse(401, "not canonical base64url");
    const { alg, kid, typ } = header;
    if (Object.keys(header).length !== 3) refuse(401, "the header's members");
    if (typeof kid !== "string" || !/^[\w.~+/=:-]{1,200}$/.test(kid)) refuse(401, "kid");
    const issuer = own(claims, "iss");
    const pair = typeof issuer === "string" ? own(pairs, issuer) : undefined;
    if (pair === undefined) refuse(401, "an issuer that may not call");
    if (!pair.algorithms.includes(alg)) refuse(401, "alg");
    if (typeof typ !== "string" || !/^[!-~]+$/.test(typ)) refuse(401, "typ");
    if (!pair.types.includes(typ.toLowerCase().replace(/^application\//, ""))) refuse(401, "typ");
    checkClaims(claims, spelled, pair, issuer, now);
    return { issuer, scopes: effectiveScopes(claims, pair), claims };
  } catch (why) {
    // the message of a SyntaxError repeats what somebody sent
    throw why instanceof Refused ? why : new Refused(401, `not a token: ${why.name}`);
  }
}

/** The caller that a token names: `{ issuer, scopes, claims }`. Throws `Refused`. */
export async function verifyToken(token, now = Date.now() / 1000) {
  const caller = readToken(token, now);
  try {
    await compactVerify(token, keys[caller.issuer], { algorithms: pairs[caller.issuer].algorithms });
  } catch (why) {
    // fetch() throws a TypeError where nobody answers
    throw new Refused(AWAY.has(why.code) || why instanceof TypeError ? 503 : 401, String(why.message));
  }
  return caller;
}

/** The path as every router reads it. */
function externalPath(raw) {
  if (!raw.startsWith("/") || NOT_A_PATH.test(raw)) refuse(403, "a path that routers read differently");
  let path;
  try {
    path = decodeURIComponent(raw);
  } catch {
    refuse(403, "a path that is not UTF-8");
  }
  if (/[\u0080-\u009f]/.test(path) || path.split("/").some((part) => part === "." || part === "..")) {
    refuse(403, "a path that routers read differently");
  }
  return path;
}

function authorization(request) {
  const { headers, rawHeaders } = request;
  if (rawHeaders === undefined) return headers.get("authorization");
  // of several fields Node keeps the first, and says so nowhere else
  const values = rawHeaders.filter((_, at) => at % 2 && rawHeaders[at - 1].toLowerCase() === "authorization");
  if (values.length > 1) refuse(400, "more than one Authorization field");
  return values[0] ?? null;
}

function holdsToken(query) {
  if (!query.includes("%") && !query.includes("access_token=")) return false;
  const octet = (_, hex) => String.fromCharCode(Number.parseInt(hex, 16));
  const name = (pair) => pair.split("=")[0].replace(/%([0-9A-Fa-f]{2})/g, octet);
  return query.split("&").some((pair) => name(pair) === "access_token");
}

/**
 * The caller of a request, if it may do what it asks for: `{ issuer, scopes, claims }`. Throws `Refused`.
 *
 * `request` is Node's IncomingMessage, or a Request (Workers, Fetch).
 */
export async function verify(request, now = Date.now() / 1000) {
  const field = authorization(request);
  if (field === null) refuse(401, "no credential");
  if (!/^bearer /i.test(field)) refuse(401, "no bearer token");
  const target = request.url.replace(SCHEMELESS, "");
  const mark = target.indexOf("?");
  const [raw, query] = mark < 0 ? [target, ""] : [target.slice(0, mark), target.slice(mark + 1)];
  if (holdsToken(query)) refuse(400, "access_token in the query beside a credential");
  const caller = await verifyToken(field.slice(7), now);
  if (!routed) return caller;
  const path = externalPath(raw);
  const route = routes.find(({ methods, pattern }) => methods.includes(request.method) && pattern.test(path));
  if (route === undefined) refuse(403, "no route rule");
  if (!route.scopes.every((scope) => caller.scopes.includes(scope))) refuse(403, "a scope is missing");
  return caller;
}
"""


def jose(plan: Plan) -> str:
    """The module: JavaScript.

    Raises:
        NotExportable: it asks for what this cannot enforce.
    """
    check(plan, "jose", CAN)
    pairs = {
        caller.issuer: {
            "jwksUri": caller.trust.jwks_uri,
            "algorithms": sorted(caller.trust.algorithms),
            "types": sorted(caller.trust.types),
            "maxTokenLife": round(caller.trust.max_token_life),
            "leeway": round(caller.trust.leeway),
            "scopes": sorted(caller.granted),
        }
        for caller in plan.callers
    }
    lines = [
        f"// {line}".rstrip() for line in plan.banner("A module for Node and Workers, with the rules", LIMITS)
    ]
    lines.append('import { base64url, compactVerify, createRemoteJWKSet } from "jose";')
    lines += ["", f"export const audience = {_js(plan.audience)};"]
    lines.append(f"export const pairs = {json.dumps(pairs, indent=2)};")
    lines += [f"export const routed = {_js(plan.routed)};", "export const routes = ["]
    for opening in plan.openings:
        pattern = f"^{opening.regex}$"
        lines.append(
            f"  {{ path: {_js(opening.template.text)}, methods: {_js(opening.methods)}, "
            f'scopes: {_js(opening.scopes)}, pattern: new RegExp({_js(pattern)}, "su") }},'
        )
    return "\n".join([*lines, "];"]) + PROGRAM


def _js(value: object) -> str:
    return json.dumps(value)
