// What exists of a stack, by a plan with a refresh: Pulumi's engine, and the objects of a real API server. AWS and Pulumi Cloud are
// emulated.

import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { startAws } from "../../simulator/emulators/aws";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type ApiServer, missingApiServer, startApiServer } from "../support/apiServer";
import { succeeded } from "../support/engineOutcome";
import { serveProvider } from "../support/provider";
import { type Cli, createProject, missingCli, openCli } from "../support/pulumiCli";
import { realKubernetes } from "../support/realKubernetes";
import { CLUSTER } from "../support/stack";
import { checkedExisting } from "./plans";

describe("the access check of what exists", { skip: missingApiServer || missingCli }, () => {
  let server: ApiServer;
  let pulumiCloud: PulumiCloud;
  let cli: Cli;
  let directory: string;

  before(async () => {
    server = await startApiServer();
    for (const namespace of ["ci", "ops"]) await server.createNamespace(namespace);
    pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0 });
    const aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
    const resources = { ...aws.resources, ...pulumiCloud.resources, ...realKubernetes(server) };
    cli = openCli(await serveProvider(() => ({ resources, calls: aws.calls })));
    const deployer = { tokenType: "personal", userLogin: "my-login", runJob: false, injectToken: true };
    const drift = { tokenType: "team", teamName: "ops", createServiceAccount: false };
    const serviceAccounts = [
      { namespace: "ci", name: "deployer", ...deployer, awsRole: "irsa" },
      { namespace: "ops", name: "drift", ...drift },
    ];
    await server.kubectl(["create", "serviceaccount", "drift", "--namespace=ops"]);
    const required = { "aws:region": "us-west-2", clusterName: CLUSTER.name, organization: "acme" };
    directory = await createProject(cli, { ...required, serviceAccounts });
    succeeded(await cli.pulumi(directory, "up", "--yes", "--skip-preview"));
  });
  after(async () => {
    await Promise.all([pulumiCloud?.close(), server?.close(), cli?.remove()]);
  });

  async function checked(t: TestContext) {
    const { stdout, ...others } = await checkedExisting(t, (...args) => cli.pulumi(directory, ...args));
    return { ...others, stdout: stdout.replaceAll(/\s+/g, " ") };
  }

  test("finds no change after an update", async (t) => {
    const { exitCode, stderr, stdout } = await checked(t);
    assert.equal(stderr, "");
    assert.match(stdout, / 2 service accounts: as the settings say\. /);
    assert.match(stdout, / No changes, as expected\. Compared with what exists, /);
    assert.equal(exitCode, 0);
  });

  test("does not count what the owner of an existing service account has annotated", async (t) => {
    const annotations = { "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/other" };
    await patch("serviceaccount/drift", { metadata: { annotations } }, "--namespace=ops");
    const { exitCode, stdout } = await checked(t);
    assert.match(
      stdout,
      /:ServiceAccount access\.ops\.drift \(ID: ops\/drift\) annotation eks\.amazonaws\.com\/role-arn: arn:/,
    );
    assert.equal(exitCode, 0);
  });

  test("finds what was added by hand, though the preview calls it unchanged", async (t) => {
    await patch("configmap/deployer-pulumi-token-exchange", { data: { more: "x" } }, "--namespace=ci");
    const policies = await server.kubectl(["get", "mutatingadmissionpolicy", "--output=name"]);
    const policy =
      policies.split("\n").find((name) => name.includes("access-inject-token")) ?? assert.fail(policies);
    const never = {
      op: "add",
      path: "/spec/matchConditions/-",
      value: { name: "never", expression: "false" },
    };
    await server.kubectl(["patch", policy, "--type=json", `--patch=${JSON.stringify([never])}`]);
    const { exitCode, stdout } = await checked(t);
    assert.match(
      stdout,
      / access\.ci\.deployer\.pulumi-token-exchange \(ci\/deployer-pulumi-token-exchange\) file more /,
    );
    assert.match(stdout, / spec\.matchConditions\.never: \{ "expression": "false", "name": "never" \} /);
    assert.match(stdout, / \d changes, none expected\. /);
    assert.equal(exitCode, 1);
  });

  test("finds what was changed by hand, also once the state has it", async (t) => {
    const data = { "exchange-token.sh": "curl example.com\u001b[2J", tokenScope: "user:mallory" };
    await patch("configmap/deployer-pulumi-token-exchange", { data }, "--namespace=ci");
    await patch("job/drift-token-exchange", { spec: { activeDeadlineSeconds: 9 } }, "--namespace=ops");
    const [issuer = assert.fail()] = pulumiCloud.list();
    const { policies = assert.fail() } = issuer.registration;
    const rules = { sub: "system:*" };
    const added = { decision: "allow", tokenType: "personal", userLogin: "admin", rules };
    await pulumiCloud.update(issuer.id, { policies: [...policies, added], maxExpirationSeconds: 90_000 });

    await assertChangesFound(t);
    succeeded(await cli.pulumi(directory, "refresh", "--yes", "--skip-preview"));
    await assertChangesFound(t);
  });

  async function assertChangesFound(t: TestContext): Promise<void> {
    const { exitCode, stderr, stdout } = await checked(t);
    for (const change of [
      / data\.exchange-token\.sh: another script → that of this clone /,
      / data\.tokenScope: "user:mallory" → "user:my-login" /,
      / spec\.activeDeadlineSeconds: 9 → /,
      / maxExpirationSeconds: 90000 → /,
      / policies\.2: \{ "decision": "allow", .*"userLogin": "admin" \} → none /,
    ]) {
      assert.match(stdout, change);
    }
    assert.deepEqual([exitCode, stderr], [1, ""]);
  }

  /** Changes an object as `kubectl edit` does. */
  async function patch(object: string, change: object, namespace: string): Promise<void> {
    await server.kubectl(["patch", object, namespace, "--type=merge", `--patch=${JSON.stringify(change)}`]);
  }
});
