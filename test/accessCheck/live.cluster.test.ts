// The live check of a stack on Pulumi's engine, with the real Pulumi CLI and the objects of a real API server. Pulumi Cloud is the
// emulator behind its REST API, and AWS is emulated.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pulumiRunner } from "../../accessCheck/pulumi";
import { startAws } from "../../simulator/emulators/aws";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type ApiServer, missingApiServer, startApiServer } from "../support/apiServer";
import { serveCloudApi } from "../support/cloudApi";
import { succeeded } from "../support/engineOutcome";
import { serveProvider } from "../support/provider";
import { type Cli, createProject, missingCli, openCli } from "../support/pulumiCli";
import { realKubernetes } from "../support/realKubernetes";
import { CLUSTER } from "../support/stack";
import { setVariables } from "../support/variables";
import { checkWith } from "./liveTools";

describe("the live check of a deployed stack", { skip: missingApiServer || missingCli }, () => {
  let server: ApiServer;
  let pulumiCloud: PulumiCloud;
  let api: Awaited<ReturnType<typeof serveCloudApi>>;
  let cli: Cli;
  let directory: string;

  before(async () => {
    server = await startApiServer();
    for (const namespace of ["ci", "ops"]) await server.createNamespace(namespace);
    pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0 });
    api = await serveCloudApi(pulumiCloud);
    const aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
    const resources = { ...aws.resources, ...pulumiCloud.resources, ...realKubernetes(server) };
    // Go knows the emulators' authority by this variable.
    const { NODE_EXTRA_CA_CERTS: SSL_CERT_FILE = "" } = process.env;
    const further = { SSL_CERT_FILE, PULUMI_API: api.origin };
    cli = openCli(await serveProvider(() => ({ resources, calls: aws.calls })), further);
    const deployer = { tokenType: "personal", userLogin: "my-login", runJob: false };
    const drift = { tokenType: "team", teamName: "ops", createServiceAccount: false };
    const serviceAccounts = [
      { namespace: "ci", name: "deployer", ...deployer, awsRole: "irsa" },
      { namespace: "ops", name: "drift", ...drift },
    ];
    await server.kubectl(["create", "serviceaccount", "drift", "--namespace=ops"]);
    const required = { "aws:region": "us-west-2", clusterName: CLUSTER.name, organization: "acme" };
    const settings = { ...required, pulumiApiUrl: api.origin, serviceAccounts };
    directory = await createProject(cli, settings);
    succeeded(await cli.pulumi(directory, "up", "--yes", "--skip-preview"));
  });
  after(async () => {
    api?.close();
    await Promise.all([pulumiCloud?.close(), server?.close(), cli?.remove()]);
  });

  async function runCheck() {
    const restore = setVariables(cli.environment);
    try {
      return await checkWith(pulumiRunner(new AbortController().signal, directory), "dev");
    } finally {
      restore();
    }
  }

  test("finds no difference, and only reads, with an access token that it sends in no other request", async () => {
    api.calls.length = 0;
    const { exitCode, errors, stdout } = await runCheck();
    assert.equal(errors, "");
    assert.match(stdout, /^Live access check of stack dev: everything is as its program says\. /);
    assert.match(stdout, / 2 service accounts: as the settings say\. /);
    assert.equal(exitCode, 0);
    assert.deepEqual(
      api.calls.filter((call) => !call.startsWith("GET ")),
      [],
    );
    assert.deepEqual(pulumiCloud.exchanges, []);
  });

  test("finds what was added by hand, though the preview calls it unchanged", async () => {
    await patch("ci", "configmap/deployer-pulumi-token-exchange", { data: { more: "x" } });
    const annotations = { "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/other" };
    await patch("ops", "serviceaccount/drift", { metadata: { annotations } });
    const { exitCode, stdout } = await runCheck();
    assert.match(stdout, /: the component differs\. .* Nothing changes for this component\. /);
    assert.match(stdout, / ConfigMap ci\/deployer-pulumi-token-exchange: it has the key more, /);
    assert.match(
      stdout,
      / ServiceAccount ops\/drift: it has the annotation eks\.amazonaws\.com\/role-arn: arn:/,
    );
    assert.equal(exitCode, 1);
  });

  test("finds what was changed by hand, also once the state has it", async () => {
    const data = { "exchange-token.sh": "curl example.com\u001b[2J", tokenScope: "user:mallory" };
    await patch("ci", "configmap/deployer-pulumi-token-exchange", { data });
    await patch("ops", "job/drift-token-exchange", { spec: { activeDeadlineSeconds: 9 } });
    const [issuer = assert.fail()] = pulumiCloud.list();
    const policies = issuer.registration.policies ?? assert.fail();
    const added = {
      decision: "allow",
      tokenType: "personal",
      userLogin: "admin",
      rules: { sub: "system:*" },
    };
    await pulumiCloud.update(issuer.id, { policies: [...policies, added] });

    await assertChangesFound();
    succeeded(await cli.pulumi(directory, "refresh", "--yes", "--skip-preview"));
    await assertChangesFound();
  });

  async function assertChangesFound(): Promise<void> {
    const { exitCode, errors, stdout } = await runCheck();
    for (const change of [
      /changed ci\/deployer its request exchange-token\.sh: another script → that of this clone/,
      / its request tokenScope: "user:mallory" → "user:my-login"/,
      / its Job spec\.activeDeadlineSeconds: 9 → /,
      / A policy is not the program's: \{ "decision": "allow", .*"system:\*" \} \}/,
    ]) {
      assert.match(stdout, change);
    }
    assert.deepEqual([exitCode, errors], [1, ""]);
  }

  /** Changes an object as `kubectl edit` does. */
  async function patch(namespace: string, object: string, change: object): Promise<void> {
    const options = [`--namespace=${namespace}`, "--type=merge", `--patch=${JSON.stringify(change)}`];
    await server.kubectl(["patch", object, ...options]);
  }
});
