// oidc-provider as an authorization server whose JWT access tokens our services accept. Prints its issuer as a line
// of JSON when it listens. GET /test/rotate signs with a new key from then on, the old one stays in its JWKS.
//
// Arguments: a JSON object {clients, resources, ttl}; `clients` are ids, `resources` the audiences it knows.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { exportJWK, generateKeyPair } from 'jose';
import Provider, { errors } from 'oidc-provider';

const { clients, resources, ttl } = JSON.parse(process.argv[2]);
const SCOPE = 'cards:read cards:write openid';

const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const keys = [];
const provider = async () => {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  keys.unshift({ ...(await exportJWK(privateKey)), alg: 'RS256', use: 'sig', kid: `key-${keys.length}` });
  return new Provider(issuer, {
    clients: clients.map((client_id) => ({
      client_id,
      client_secret: `secret-of-${client_id}`,
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      scope: SCOPE,
    })),
    scopes: SCOPE.split(' '),
    jwks: { keys: [...keys] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, indicator) => {
          if (!resources.includes(indicator)) throw new errors.InvalidTarget();
          return {
            scope: SCOPE,
            audience: indicator,
            accessTokenFormat: 'jwt',
            accessTokenTTL: ttl,
            jwt: { sign: { alg: 'RS256', kid: keys[0].kid } },
          };
        },
      },
    },
  });
};
let answer = (await provider()).callback();
server.on('request', async (request, response) => {
  if (request.url === '/test/rotate') {
    answer = (await provider()).callback();
    response.end();
  } else answer(request, response);
});
process.stdout.write(`${JSON.stringify({ issuer })}\n`);
process.stdin.resume().on('end', () => process.exit(0));
