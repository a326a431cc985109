// A Worker behind an exported module.
import { Refused, verify } from "./trust.mjs";

export default {
  async fetch(request) {
    try {
      const { issuer } = await verify(request);
      return Response.json({ caller: { issuer, scopes: [] }, fields: ["s2s-caller", issuer] });
    } catch (why) {
      return new Response(null, { status: why instanceof Refused ? why.status : 500 });
    }
  },
};
