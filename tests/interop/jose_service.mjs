// A service that is not Python and is its own issuer as ours are: it signs our profile with jose and serves its JWKS.
// Prints its id as a line of JSON when it listens. GET /token?aud=AUDIENCE answers with a token, GET /rotate signs
// with a new key from then on, GET /call?url=URL calls us, GET / wants one of our tokens.
//
// Arguments: the name of the algorithm as it writes it, and the id and JWKS of the one service that may call it.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { SignJWT, calculateJwkThumbprint, createRemoteJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';

const [alg, caller, jwks] = process.argv.slice(2);
const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const id = `http://127.0.0.1:${server.address().port}`;

const published = [];
let signing;
const rotate = async () => {
  const { publicKey, privateKey } = await generateKeyPair(alg);
  const jwk = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(jwk);
  published.push({ ...jwk, kid, alg, use: 'sig' });
  signing = { kid, privateKey };
};
await rotate();

const token = (audience) =>
  new SignJWT({ client_id: id, scope: 'cards:read' })
    .setProtectedHeader({ alg, kid: signing.kid, typ: 'at+jwt' })
    .setIssuer(id)
    .setSubject(id)
    .setAudience(audience)
    .setIssuedAt()
    .setExpirationTime('2m')
    .setJti(randomUUID())
    .sign(signing.privateKey);

const known = createRemoteJWKSet(new URL(jwks));
server.on('request', async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, id);
  const say = (status, body, type = 'text/plain') => {
    response.writeHead(status, { 'content-type': type });
    response.end(body);
  };
  if (pathname === '/.well-known/jwks.json') {
    return say(200, JSON.stringify({ keys: published }), 'application/jwk-set+json');
  }
  if (pathname === '/token') return say(200, await token(searchParams.get('aud')));
  if (pathname === '/rotate') return say(200, String(await rotate()));
  if (pathname === '/call') {
    const authorization = `Bearer ${await token(new URL(searchParams.get('url')).origin)}`;
    const answer = await fetch(searchParams.get('url'), { headers: { authorization } });
    return say(answer.status, await answer.text());
  }
  try {
    const sent = (request.headers.authorization ?? '').replace(/^Bearer /, '');
    const { payload } = await jwtVerify(sent, known, { issuer: caller, audience: id, typ: 'at+jwt' });
    return say(200, payload.sub);
  } catch (error) {
    return say(401, String(error.code));
  }
});
process.stdout.write(`${JSON.stringify({ id })}\n`);
process.stdin.resume().on('end', () => process.exit(0));
