// The live check of a stack on Pulumi's engine, with the real Pulumi CLI, the real kubectl, and a real API server, to which kubectl
// signs in as the program's kubeconfig says. `aws` answers from the emulators, and Pulumi Cloud is the emulator behind its REST API.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { after, before, describe, test } from "node:test";
import { toolRunner } from "../../accessCheck/tools";
import { startAws } from "../../simulator/emulators/aws";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type ApiServer, assetPath, missingApiServer, startApiServer } from "../support/apiServer";
import { serveCloudApi } from "../support/cloudApi";
import { succeeded } from "../support/engineOutcome";
import { writePrograms } from "../support/programs";
import { serveProvider } from "../support/provider";
import { type Cli, createProject, missingCli, openCli } from "../support/pulumiCli";
import { realKubernetes } from "../support/realKubernetes";
import { CLUSTER } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { checkLive, inOneLine } from "./liveTools";

const TOKEN = `pul-${"0123456789".repeat(4)}`;

describe("the live check of a deployed stack", { skip: missingApiServer || missingCli }, () => {
  let server: ApiServer;
  let pulumiCloud: PulumiCloud;
  let api: Awaited<ReturnType<typeof serveCloudApi>>;
  let cli: Cli;
  let directory: string;

  before(async () => {
    server = await startApiServer();
    for (const namespace of ["ci", "ops"]) await server.createNamespace(namespace);
    // What the check requires, and nothing else.
    for (const command of [
      "clusterrole check --verb=get,create --resource=configmaps,serviceaccounts/token",
      "clusterrolebinding check --clusterrole=check --user=developer",
    ]) {
      await server.kubectl(["create", ...command.split(" ")]);
    }
    pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0 });
    api = await serveCloudApi(pulumiCloud);
    const aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
    const resources = { ...aws.resources, ...pulumiCloud.resources, ...realKubernetes(server) };
    // Go knows the emulators' authority by this variable.
    const { NODE_EXTRA_CA_CERTS: SSL_CERT_FILE = "" } = process.env;
    const getCluster = "aws:eks/getCluster:getCluster";
    const authority = { data: readFileSync(SSL_CERT_FILE).toString("base64") };
    const connection = { endpoint: server.url, certificateAuthorities: [authority] };
    const answer = (inputs: object) => ({ ...aws.calls[getCluster]?.answer(inputs), ...connection });
    const calls = { ...aws.calls, [getCluster]: { answer } };
    cli = openCli(await serveProvider(() => ({ resources, calls })), {
      SSL_CERT_FILE,
      PULUMI_API: api.origin,
    });
    const deployer = { tokenType: "personal", userLogin: "my-login", runJob: false };
    const drift = { tokenType: "team", teamName: "ops", audienceRule: true };
    const serviceAccounts = [
      { namespace: "ci", name: "deployer", ...deployer, awsRole: "irsa" },
      { namespace: "ops", name: "drift", ...drift, awsRole: "irsa" },
    ];
    const required = { "aws:region": "us-west-2", clusterName: CLUSTER.name, organization: "acme" };
    const settings = { ...required, pulumiApiUrl: api.origin, serviceAccounts };
    directory = await createProject(cli, settings);
    succeeded(await cli.pulumi(directory, "up", "--yes", "--skip-preview"));
  });
  after(async () => {
    api?.close();
    await Promise.all([pulumiCloud?.close(), server?.close(), cli?.remove()]);
  });

  const programs = temporaryDirectory({ after });

  function runCheck() {
    // `aws eks get-token`, which kubectl runs.
    const status = { token: server.developerToken };
    const credential = { apiVersion: "client.authentication.k8s.io/v1beta1", kind: "ExecCredential", status };
    writePrograms(programs, { aws: `[[ $* == "eks get-token "* ]] && echo '${JSON.stringify(credential)}'` });
    const PATH = `${programs}:${dirname(assetPath("kubectl"))}:${cli.environment.PATH}`;
    pulumiCloud.exchanges.length = 0;
    const real = { run: toolRunner(new AbortController().signal, directory), cwd: directory };
    return checkLive(
      { name: "dev", simulation: { pulumiCloud }, config: {}, steps: [], real },
      { environment: { ...cli.environment, PATH } },
    );
  }

  test("allows each service account only as itself, and finds no difference", async () => {
    const { exitCode, errors, stdout, sentToSts } = await runCheck();
    assert.equal(errors, "");
    assert.match(stdout, /^ {2}Questions: 9 to Pulumi Cloud, 10 to AWS STS\.$/m);
    assert.match(stdout, /^ {2}There are none\.\n\n.*^ {2}2 service accounts: as the settings intend\.$/ms);
    assert.deepEqual([exitCode, sentToSts.length], [0, 10]);
  });

  test("finds what was changed by hand, also once the state has it, and asks nothing", async () => {
    const data = { "exchange-token.sh": "curl example.com\u001b[2J", tokenScope: `user:${TOKEN}` };
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
    const { exitCode, errors, stdout, sentToSts } = await runCheck();
    for (const change of [
      /ci\/deployer token: user:\[redacted\] → user:my-login/,
      /script: [0-9a-f]{12} → that of this clone/,
      /Job spec\.activeDeadlineSeconds: 9 → /,
      /removed policy \{ [^}]* \}, "tokenType": "personal", "userLogin": "admin" \}/,
    ]) {
      assert.match(inOneLine(stdout), change, stdout);
    }
    assert.match(stdout, /^ {2}To apply the program again: pulumi up --refresh --stack dev$/m);
    assert.ok(!stdout.includes(TOKEN));
    assert.deepEqual([exitCode, errors, sentToSts], [1, "", []]);
  }

  /** Changes an object as `kubectl edit` does. */
  async function patch(namespace: string, object: string, change: object): Promise<void> {
    const options = [`--namespace=${namespace}`, "--type=merge", `--patch=${JSON.stringify(change)}`];
    await server.kubectl(["patch", object, ...options]);
  }
});
