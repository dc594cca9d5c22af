// The policy pack on what exists: Pulumi's engine, and the objects of a real API server. AWS and Pulumi Cloud are emulated.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type ApiServer, missingApiServer, startApiServer } from "../environment/apiServer";
import { startAws } from "../environment/aws";
import { succeeded } from "../environment/engineOutcome";
import { serveProvider } from "../environment/provider";
import { publishedKeys } from "../environment/publishedKeys";
import { type Cli, createProject, missingCli, openCli } from "../environment/pulumiCli";
import { type PulumiCloud, startPulumiCloud } from "../environment/pulumiCloud";
import { realKubernetes } from "../environment/realKubernetes";
import { CLUSTER } from "../environment/stack";
import { ROOT } from "../support/project";
import { PACK, violationsIn } from "./pack";

const DRIFT = ["--policy-pack-config", join(ROOT, "policy", "drift.json")];
const CONFIG_MAP = "access.ci.deployer.pulumi-token-exchange";

describe("the policy pack on what exists", { skip: missingApiServer || missingCli }, () => {
  let server: ApiServer;
  let pulumiCloud: PulumiCloud;
  let cli: Cli;
  let directory: string;

  before(async () => {
    server = await startApiServer();
    for (const namespace of ["ci", "ops"]) await server.createNamespace(namespace);
    pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0, keysOf: publishedKeys });
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
    const updated = await cli.pulumi(directory, "up", "--yes", "--skip-preview", ...PACK);
    assert.deepEqual(violationsIn(succeeded(updated)), []);
  });
  after(async () => {
    await Promise.all([pulumiCloud?.close(), server?.close(), cli?.remove()]);
  });

  /** Runs the command of docs/policy.md. */
  function existing() {
    return cli.pulumi(directory, "preview", "--refresh", "--expect-no-changes", ...PACK, ...DRIFT);
  }

  test("reports nothing after an update", async () => {
    assert.deepEqual(violationsIn(succeeded(await existing())), []);
  });

  test("reports nothing of what the owner of an existing service account has annotated", async () => {
    const annotations = { "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/other" };
    await patch("serviceaccount/drift", { metadata: { annotations } }, "--namespace=ops");
    assert.deepEqual(violationsIn(succeeded(await existing())), []);
  });

  test("reports what was added by hand, though the preview calls it unchanged", async () => {
    await patch("configmap/deployer-pulumi-token-exchange", { data: { more: "x" } }, "--namespace=ci");
    const annotations = { "iam.gke.io/gcp-service-account": "x" };
    await patch("serviceaccount/deployer", { metadata: { annotations } }, "--namespace=ci");

    const outcome = await existing();
    assert.deepEqual(violationsIn(outcome).toSorted(), [
      `mandatory beside-the-program ${CONFIG_MAP}: It also has the files ["more"].`,
      'mandatory beside-the-program access.ci.deployer: It also has the annotations ["iam.gke.io/gcp-service-account"].',
    ]);
    assert.doesNotMatch(outcome.stdout, / (update|replace) \[diff/);
    assert.notEqual(outcome.exitCode, 0);
  });

  test("fails for what was changed by hand, which the preview shows", async () => {
    const data = { tokenScope: "user:mallory" };
    await patch("configmap/deployer-pulumi-token-exchange", { data }, "--namespace=ci");
    const { exitCode, screen } = await existing();
    assert.match(screen, /ConfigMap .* update \[diff: ~data\]/);
    assert.notEqual(exitCode, 0);
  });

  /** Changes an object as `kubectl edit` does. */
  async function patch(object: string, change: object, namespace: string): Promise<void> {
    await server.kubectl(["patch", object, namespace, "--type=merge", `--patch=${JSON.stringify(change)}`]);
  }
});
