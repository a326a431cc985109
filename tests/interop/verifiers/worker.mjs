import { createRemoteJWKSet, jwtVerify } from "jose";

let keys; // kept from one request to the next, as long as the Worker lives

export default {
  async fetch(request, { ISSUER, AUDIENCE, ALGORITHMS, JWKS_CACHE }) {
    keys ??= createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`), JWKS_CACHE);
    const [scheme, token] = (request.headers.get("authorization") ?? "").split(" ");
    try {
      if (scheme !== "Bearer") throw new Error("no bearer token");
      const expected = { issuer: ISSUER, audience: AUDIENCE, algorithms: ALGORITHMS, typ: "at+jwt" };
      const { payload } = await jwtVerify(token, keys, expected);
      return new Response(`hello, ${payload.iss}`);
    } catch (refusal) {
      console.log(`refused: ${refusal.message}`);
      return new Response(null, { status: 401, headers: { "www-authenticate": "Bearer" } });
    }
  },
};
