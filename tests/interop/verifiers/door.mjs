// A small server around one of the verifiers beside this file: `node door.mjs MODULE PORT OPTIONS`. Options
// is JSON: of each algorithm what its verifier gets. `GET /ALGORITHM` with a bearer token answers 200 or 401.
import { createServer } from "node:http";

const [module, port, options] = process.argv.slice(2);
const { verifier } = await import(`./${module}`);
const verifiers = Object.entries(JSON.parse(options)).map(([name, settings]) => [name, verifier(settings)]);
const byPath = new Map(verifiers.map(([name, verify]) => [`/${name}`, verify]));

const server = createServer(async (request, response) => {
  const answer = (status, text) => response.writeHead(status).end(text);
  const verify = byPath.get(request.url);
  if (verify === undefined) return answer(request.url === "/" ? 200 : 404, "");
  try {
    const payload = await verify((request.headers.authorization ?? "").replace(/^Bearer /, ""));
    answer(200, payload.iss);
  } catch (refusal) {
    answer(401, String(refusal.message));
  }
});
server.listen(Number(port), "127.0.0.1");
