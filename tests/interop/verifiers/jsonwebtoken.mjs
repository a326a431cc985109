import jwt from "jsonwebtoken";
import { JwksClient } from "jwks-rsa";

// cacheMaxAge: jwks-rsa's own choice is ten minutes; it asks at once for a kid that it does not know
export function verifier({ issuer, audience, algorithms, cacheMaxAge = 600_000, jwksRequestsPerMinute = 10 }) {
  const jwksUri = `${issuer}/.well-known/jwks.json`;
  const keys = new JwksClient({ jwksUri, cache: true, cacheMaxAge, rateLimit: true, jwksRequestsPerMinute });
  return async (token) => {
    const decoded = jwt.decode(token, { complete: true });
    if (decoded?.header.typ !== "at+jwt") throw new Error("not an access token");
    const key = await keys.getSigningKey(decoded.header.kid);
    return jwt.verify(token, key.getPublicKey(), { issuer, audience, algorithms });
  };
}
