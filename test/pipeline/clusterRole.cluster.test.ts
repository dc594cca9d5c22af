// pipeline/clusterRole.yaml on a real API server: what the GitHub workflows can read in a stack with `injectToken`.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { type ApiServer, missingApiServer, startApiServer } from "../environment/apiServer";
import { inject } from "../environment/realKubernetes";
import { read } from "../support/project";

const GROUP = "eks-pulumi-oidc-preview";
const AS_WORKFLOW = ["--as=workflow", `--as-group=${GROUP}`, "--as-group=system:authenticated"];

const skip = missingApiServer;
let server: ApiServer;
before(async () => {
  if (skip) return;
  server = await startApiServer();
  await inject(server, "access.inject-token", [{ namespace: "default", name: "app", tokenAudience: "api" }]);
});
after(() => server?.close());

test("the group of the workflows can read the policy of injectToken and its binding, and no Secret", {
  skip,
}, async () => {
  const kinds = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
  const names: string[] = [];
  for (const kind of kinds) names.push((await server.kubectl(["get", kind, "--output=name"])).trim());
  const readAll = () => Promise.all(names.map((name) => server.kubectl(["get", name, ...AS_WORKFLOW])));

  await assert.rejects(readAll(), /is forbidden/);
  for (const document of parseAllDocuments(read("pipeline/clusterRole.yaml"))) {
    await server.kubectl(["create", "--filename=-"], document.toJS());
  }
  await readAll();
  await assert.rejects(
    server.kubectl(["get", "secrets", "--namespace=default", ...AS_WORKFLOW]),
    /is forbidden/,
  );
  await assert.rejects(server.kubectl(["delete", String(names[1]), ...AS_WORKFLOW]), /is forbidden/);
});
