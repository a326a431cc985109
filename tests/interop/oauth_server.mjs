// oidc-provider as an authorization server whose clients authenticate with their own keys, and a resource server
// (jose) that verifies the tokens. Prints one line of JSON with both addresses when they listen.
//
// Argument: a JSON object {clients, algorithms, ttl}; `clients` is a list of client metadata.
import { createServer } from 'node:http';
import { once } from 'node:events';
import { createRemoteJWKSet, exportJWK, generateKeyPair, jwtVerify } from 'jose';
import Provider, { errors as oidc } from 'oidc-provider';

const { clients, algorithms, ttl } = JSON.parse(process.argv[2]);
const RESOURCE = 'urn:cards';

// Both programs read the time here, so that a test can let hours pass.
const real = Date.now;
let ahead = 0;
Date.now = () => real() + ahead * 1000;

const authorization = createServer();
authorization.listen(0, '127.0.0.1');
await once(authorization, 'listening');
const issuer = `http://127.0.0.1:${authorization.address().port}`;

const { privateKey } = await generateKeyPair('ES256', { extractable: true });
const errors = [];
const provider = new Provider(issuer, {
  clients: clients.map((metadata) => ({
    // what it asks for where nobody logs in, and what the resource has
    id_token_signed_response_alg: 'ES256',
    response_types: [],
    redirect_uris: [],
    scope: 'cards:read cards:write',
    ...metadata,
  })),
  scopes: ['cards:read', 'cards:write'],
  clientAuthMethods: ['private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: algorithms },
  jwks: { keys: [{ ...(await exportJWK(privateKey)), alg: 'ES256', use: 'sig', kid: 'server' }] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, indicator) => {
        if (indicator !== RESOURCE) throw new oidc.InvalidTarget();
        return {
          scope: 'cards:read cards:write',
          audience: RESOURCE,
          accessTokenFormat: 'jwt',
          accessTokenTTL: ttl,
          jwt: { sign: { alg: 'ES256' } },
        };
      },
    },
  },
  // without its guard against addresses of this machine, where the clients' keys are here
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
});
provider.on('grant.error', (ctx, error) => errors.push(`${error.error_detail ?? error.error_description}`));
provider.on('server_error', (ctx, error) => errors.push(String(error.stack)));
authorization.on('request', provider.callback());

// a port of its own, for another origin
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
const revoked = new Set();
const resource = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const say = (status, body, fields = {}) => {
    response.writeHead(status, { 'content-type': 'application/json', ...fields });
    response.end(JSON.stringify(body));
  };
  if (pathname === '/ahead') {
    ahead = Number(searchParams.get('seconds'));
    return say(200, {});
  }
  if (pathname === '/errors') return say(200, errors.splice(0));
  const token = (request.headers.authorization ?? '').replace(/^Bearer /, '');
  if (pathname === '/revoke') revoked.add(token);
  try {
    if (revoked.has(token)) throw new Error('revoked');
    const { payload } = await jwtVerify(token, keys, { issuer, audience: RESOURCE, typ: 'at+jwt' });
    return say(200, { client: payload.client_id, scope: payload.scope, jti: payload.jti });
  } catch (error) {
    return say(401, {}, { 'www-authenticate': 'Bearer error="invalid_token"' });
  }
});
resource.listen(0, '127.0.0.1');
await once(resource, 'listening');
process.stdout.write(
  `${JSON.stringify({ issuer, resource: `http://127.0.0.1:${resource.address().port}` })}\n`,
);
process.stdin.resume().on('end', () => process.exit(0));
