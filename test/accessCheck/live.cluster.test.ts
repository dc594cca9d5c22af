// `npm start -- --live` with the real kubectl and a real API server. `aws` and `pulumi` are programs on PATH that answer for
// the stack, and Pulumi Cloud is the emulator.

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { type ApiServer, assetPath, kubeconfigOf, missingApiServer, type User } from "../support/apiServer";
import { type RealStack, startRealStack } from "../support/realStack";
import { type LiveStack, startLive } from "./liveTools";

describe("npm start -- --live with the real kubectl", { skip: missingApiServer }, () => {
  let stack: RealStack;

  before(async () => {
    stack = await startRealStack({
      namespaces: ["ci", "ops"],
      settings: {
        serviceAccounts: [
          { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "my-login" },
          {
            namespace: "ops",
            name: "drift",
            tokenType: "team",
            teamName: "ops",
            audienceRule: true,
            awsRole: "none",
          },
        ],
      },
    });
    await allowReading(stack.server, "developer");
  });
  after(() => stack?.close());
  beforeEach(() => {
    stack.services.pulumiCloud.exchanges.length = 0;
  });

  /** Runs the check as a user of the API server. */
  function runAs(user: User) {
    const { server, services, config, outputs, registered } = stack;
    const apiVersion = "client.authentication.k8s.io/v1beta1";
    // As `aws eks update-kubeconfig` writes it.
    const exec = { apiVersion, command: "aws", args: ["eks", "get-token", "--cluster-name", "my-cluster"] };
    const aws = {
      kubeconfig: kubeconfigOf(server.url, { exec }),
      token: JSON.stringify({ apiVersion, kind: "ExecCredential", status: { token: server.tokenOf(user) } }),
    };
    const liveStack: LiveStack = { simulation: services, config, outputs, registered, aws };
    const realTools = { kubectl: assetPath("kubectl") };
    return startLive(liveStack, { accounts: 2, tools: ["aws", "pulumi"], realTools });
  }

  test("allows each service account only as itself", async () => {
    const { exitCode, errors, lines, calls, sentToSts } = await runAs("admin");
    assert.equal(errors, "");
    assert.deepEqual(lines.slice(lines.indexOf("Access check")).slice(0, 9), [
      "Access check",
      "  Service account  Access token   Gets the token  Gets the role",
      "  ci/deployer      user:my-login  only itself     only itself",
      "  ops/drift        team:ops       only itself     no role",
      "",
      "  ops/drift requests user:my-login: denied",
      "  ci/deployer requests team:ops: denied",
      "",
      "  14 of 14 checks passed (2 service accounts, 9 callers).",
    ]);
    assert.match(lines.join(" "), /a rule on aud match an element of a list\? Yes: ops\/drift was allowed/);
    assert.deepEqual([exitCode, sentToSts.length], [0, 5]);
    // kubectl asks the AWS CLI for its credential.
    assert.ok(calls.some(({ tool, args }) => tool === "aws" && args[1] === "get-token"));
  });

  test("stops before any token is sent if the user must not create tokens of service accounts", async () => {
    const { exitCode, errors, sentToSts } = await runAs("developer");
    assert.match(
      errors,
      /User "developer" cannot create resource "serviceaccounts\/token" in API group "" in the namespace "ci"/,
    );
    assert.match(
      errors,
      /To check your rights: kubectl auth can-i create serviceaccounts\/token --namespace ci$/,
    );
    assert.deepEqual([exitCode, sentToSts, stack.services.pulumiCloud.exchanges], [2, [], []]);
  });
});

/** Gives a user what the check requires, except the right to create tokens of service accounts. */
async function allowReading({ create }: ApiServer, user: User): Promise<void> {
  const apiGroup = "rbac.authorization.k8s.io";
  await create(`/apis/${apiGroup}/v1/clusterroles`, {
    metadata: { name: "reader" },
    rules: [{ apiGroups: [""], resources: ["configmaps", "serviceaccounts"], verbs: ["get", "list"] }],
  });
  await create(`/apis/${apiGroup}/v1/clusterrolebindings`, {
    metadata: { name: "reader" },
    roleRef: { apiGroup, kind: "ClusterRole", name: "reader" },
    subjects: [{ apiGroup, kind: "User", name: user }],
  });
}
