import { createRemoteJWKSet, jwtVerify } from "jose";

// cacheMaxAge and cooldownDuration: jose's own choice is ten minutes and half a minute
export function verifier({ issuer, audience, algorithms, cacheMaxAge = 600_000, cooldownDuration = 30_000 }) {
  const jwks = new URL(`${issuer}/.well-known/jwks.json`);
  const keys = createRemoteJWKSet(jwks, { cacheMaxAge, cooldownDuration });
  return async (token) => {
    const { payload } = await jwtVerify(token, keys, { issuer, audience, algorithms, typ: "at+jwt" });
    return payload;
  };
}
