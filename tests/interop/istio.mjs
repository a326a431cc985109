// Validates Istio resources, a JSON array on standard input, against the schemas that Istio publishes.
import { AuthorizationPolicy, RequestAuthentication } from "@kubernetes-models/istio/security.istio.io/v1";

const kinds = { AuthorizationPolicy, RequestAuthentication };
let text = "";
for await (const chunk of process.stdin) text += chunk;
for (const resource of JSON.parse(text)) {
  try {
    new kinds[resource.kind](resource).validate();
  } catch (why) {
    console.log(`${resource.kind}: ${why.message}`);
  }
}
