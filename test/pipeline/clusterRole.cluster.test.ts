// pipeline/clusterRole.yaml and role.yaml on a real API server: what the GitHub workflows can read.

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

test("with role.yaml, they can read in a namespace what a stack has there, and neither Secrets nor pods and their logs", {
  skip,
}, async () => {
  await server.createNamespace("team-a");
  const isAllowed = (resource: string, namespace: string, verb = "get") => {
    const [kind, subresource] = resource.split("/");
    const group = kind === "jobs" ? "batch" : "";
    const resourceAttributes = { verb, group, resource: kind, subresource, namespace, name: namespace };
    return server.isAllowed("workflow", [GROUP], resourceAttributes);
  };
  const readable = ["configmaps", "jobs", "serviceaccounts", "namespaces"];
  assert.equal(await isAllowed("configmaps", "team-a"), false);
  for (const document of parseAllDocuments(read("pipeline/role.yaml"))) {
    await server.kubectl(["create", "--namespace=team-a", "--filename=-"], document.toJS());
  }
  for (const resource of readable) {
    assert.equal(await isAllowed(resource, "team-a"), true, resource);
    assert.equal(await isAllowed(resource, "team-a", "patch"), false, resource);
    assert.equal(await isAllowed(resource, "default"), false, resource);
  }
  for (const resource of ["secrets", "pods", "pods/log"]) {
    assert.equal(await isAllowed(resource, "team-a"), false, resource);
  }
});
