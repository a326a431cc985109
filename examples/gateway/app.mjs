// An application that is not Python, behind nginx, Caddy, Traefik or Envoy and `s2s-mesh gateway`.
// Who calls stands in S2S-Caller and S2S-Scopes. Listen where only the proxy can reach it: whoever else can
// says what it likes in these fields.
import http from "node:http";

const [host, port] = (process.env.LISTEN ?? "127.0.0.1:3000").split(":");

function caller(request) {
  const { "s2s-caller": issuer, "s2s-scopes": scopes, "s2s-user": user, "s2s-user-issuer": at } = request.headers;
  if (!issuer) return null; // an anonymous caller of a public path; some proxies send the field empty
  return {
    issuer,
    scopes: scopes ? scopes.split(" ") : [],
    user: user ? { subject: decodeURIComponent(user), issuer: decodeURIComponent(at) } : null,
  };
}

// For calls of its own: a token from the gateway's --token-listen. Ask every time, it keeps them.
async function token(audience) {
  const address = process.env.S2S_MESH_TOKENS ?? "http://127.0.0.1:9001";
  const answer = await fetch(`${address}/token?audience=${encodeURIComponent(audience)}`, {
    headers: { "S2S-Mesh-Request": "true" },
  });
  if (!answer.ok) throw new Error(`no token for ${audience}: ${await answer.text()}`);
  return (await answer.json()).access_token;
}

http
  .createServer(async (request, response) => {
    let bytes = 0;
    for await (const chunk of request) bytes += chunk.length;
    const { method, url, rawHeaders: fields } = request;
    const told = { caller: caller(request), method, url, bytes, fields };
    if (request.url === "/statement" && process.env.LEDGER) {
      const authorization = `Bearer ${await token(process.env.LEDGER_ID ?? process.env.LEDGER)}`;
      told.ledger = await (await fetch(process.env.LEDGER, { headers: { authorization } })).json();
    }
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(told));
  })
  .listen(Number(port), host, () => console.log("ready"));
