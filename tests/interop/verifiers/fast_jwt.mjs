import { createVerifier } from "fast-jwt";
import buildGetJwks from "get-jwks";

// ttl: get-jwks' own choice is a minute; it asks at once for a kid that it does not know
export function verifier({ issuer, audience, algorithms, ttl = 60_000 }) {
  const keys = buildGetJwks({ issuersWhitelist: [issuer], ttl });
  return createVerifier({
    key: ({ header: { kid, alg } }) => keys.getPublicKey({ kid, alg, domain: issuer }),
    algorithms,
    allowedIss: issuer,
    allowedAud: audience,
    requiredClaims: ["iss", "aud", "exp"],
    checkTyp: "at+jwt",
  });
}
