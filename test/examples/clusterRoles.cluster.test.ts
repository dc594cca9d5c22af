// The ClusterRoles in examples/permissions/ on a real API server: what the administrator of an access stack may do with them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { type ApiServer, missingApiServer, startApiServer } from "../environment/apiServer";
import { read } from "../support/project";

const GROUP = "eks-pulumi-oidc-administrator";
const NAMESPACES = "/namespaces";
const POLICIES = "admissionregistration.k8s.io/mutatingadmissionpolicies";
const BINDINGS = "admissionregistration.k8s.io/mutatingadmissionpolicybindings";

const POLICY = "access-inject-token-0123abcd";

/** The verbs, the resource, the name of the object, and whether the file allows them. */
const REQUESTS: Record<string, [verbs: string, resource: string, name: string, isAllowed: boolean][]> = {
  "createNamespaces.yaml": [
    ["create get patch", NAMESPACES, "team-a", true],
    ["patch update delete", NAMESPACES, "kube-system", false],
    ["delete", NAMESPACES, "team-a", false],
    ["create patch delete", POLICIES, POLICY, false],
  ],
  "injectToken.yaml": [
    ["create get patch delete", POLICIES, POLICY, true],
    ["create get patch delete", BINDINGS, POLICY, true],
    ["patch update delete", POLICIES, "another", false],
    ["patch update delete", BINDINGS, "another", false],
    ["create patch", NAMESPACES, "team-a", false],
  ],
};

describe("the ClusterRoles of examples/permissions", { skip: missingApiServer }, () => {
  let server: ApiServer;
  before(async () => {
    server = await startApiServer();
  });
  after(() => server?.close());

  for (const [file, requests] of Object.entries(REQUESTS)) {
    test(`${file} allows what the program does, and changes nothing else`, async () => {
      const manifest = read(`examples/permissions/${file}`);
      for (const document of parseAllDocuments(manifest)) {
        await server.kubectl(["create", "--filename=-"], document.toJS());
      }
      for (const [verbs, path, name, isAllowed] of requests) {
        const [group, resource] = path.split("/");
        for (const verb of verbs.split(" ")) {
          const allowed = await server.isAllowed("a", [GROUP], { verb, group, resource, name });
          assert.equal(allowed, isAllowed, `${verb} ${path} ${name}`);
        }
      }
      await server.kubectl(["delete", "--filename=-"], parseAllDocuments(manifest)[1]?.toJS());
    });
  }
});
