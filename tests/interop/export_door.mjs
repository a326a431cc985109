// An HTTP server behind an exported module: `node export_door.mjs MODULE PORT`.
import http from "node:http";
import { pathToFileURL } from "node:url";

const { Refused, verify } = await import(pathToFileURL(process.argv[2]));

http
  .createServer(async (request, response) => {
    try {
      const { issuer } = await verify(request);
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ caller: { issuer, scopes: [] }, fields: ["s2s-caller", issuer] }));
    } catch (why) {
      if (!(why instanceof Refused)) console.error(why);
      response.writeHead(why.status ?? 500);
      response.end();
    }
  })
  .listen(Number(process.argv[3]), "127.0.0.1", () => console.log("ready"));
