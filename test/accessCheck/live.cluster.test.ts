// The live check of a stack on Pulumi's engine, with the real Pulumi CLI, the real kubectl, and a real API server, to which kubectl
// signs in as the program's kubeconfig says. `aws` answers from the emulators, and Pulumi Cloud is the emulator behind its REST API.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { after, before, describe, test } from "node:test";
import { toolRunner } from "../../accessCheck/tools";
import { type Aws, startAws } from "../../simulator/emulators/aws";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type ApiServer, assetPath, missingApiServer, startApiServer } from "../support/apiServer";
import { serveCloudApi } from "../support/cloudApi";
import { failed, succeeded } from "../support/engineOutcome";
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
  let aws: Aws;
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
    aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
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
    const readers = { tokenType: "team", teamName: "readers", runJob: false };
    const deployer = { tokenType: "personal", userLogin: "my-login", runJob: false };
    const drift = { tokenType: "team", teamName: "ops", audienceRule: true };
    const serviceAccounts = [
      { namespace: "ci", name: "deployer", ...deployer, awsRole: "irsa" },
      { namespace: "ops", name: "drift", ...drift, awsRole: "irsa" },
      { namespace: "ops", name: "reader", ...readers },
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

  function runCheck(environment: NodeJS.ProcessEnv = {}) {
    // `aws eks get-token`, which kubectl runs.
    const status = { token: server.developerToken };
    const credential = { apiVersion: "client.authentication.k8s.io/v1beta1", kind: "ExecCredential", status };
    writePrograms(programs, { aws: `[[ $* == "eks get-token "* ]] && echo '${JSON.stringify(credential)}'` });
    const PATH = `${programs}:${dirname(assetPath("kubectl"))}:${cli.environment.PATH}`;
    pulumiCloud.exchanges.length = 0;
    const real = { run: toolRunner(new AbortController().signal, directory), cwd: directory };
    return checkLive(
      { name: "dev", simulation: { pulumiCloud }, config: {}, steps: [], real },
      { environment: { ...cli.environment, ...environment, PATH } },
    );
  }

  test("allows each service account only as itself, and finds no difference", async () => {
    const { exitCode, errors, stdout, sentToSts } = await runCheck();
    assert.equal(errors, "");
    assert.match(stdout, /^ {2}Questions: 13 to Pulumi Cloud, 10 to AWS STS\.$/m);
    assert.match(stdout, /^ {2}There are none\.\n\n.*^ {2}3 service accounts: as the settings intend\.$/ms);
    assert.deepEqual([exitCode, sentToSts.length], [0, 10]);
  });

  test("stops before any token is sent if the login has expired", async () => {
    for (const [login, error] of [
      [{ PULUMI_BACKEND_URL: api.origin }, /^The preview failed, so no token was sent: Unauthorized: No /],
      [{}, /^Failed to run pulumi api [\w/]+: resolving [\w :]+: No credentials .* needs the permission /],
    ] as const) {
      const { exitCode, errors, sentToSts } = await runCheck({ ...login, PULUMI_ACCESS_TOKEN: "expired" });
      assert.match(errors, error);
      assert.deepEqual([exitCode, sentToSts, pulumiCloud.exchanges], [2, [], []]);
    }
  });

  test("finds what was changed by hand, also once the state has it, and asks nothing", async () => {
    const data = { "exchange-token.sh": "curl example.com\u001b[2J", constructor: "a" };
    await patch("ci", "configmap/deployer-pulumi-token-exchange", { data });
    await patch("ops", "configmap/reader-pulumi-token-exchange", { data: { tokenType: null } });
    await patch("ops", "job/drift-token-exchange", { spec: { activeDeadlineSeconds: 9 } });
    await applyAsOther("drift", { organization: "mallory", tokenScope: `user:${TOKEN}` });
    await changeTrustPolicy("ci-deployer");
    const [issuer = assert.fail()] = pulumiCloud.list();
    const [deployer, drift] = issuer.registration.policies ?? [];
    if (!deployer || !drift) assert.fail();
    const widened = { ...drift.rules, '"kubernetes.io".serviceaccount.name': "d*" };
    await pulumiCloud.update(issuer.id, {
      maxExpirationSeconds: 86_400,
      policies: [
        deployer,
        { ...drift, rules: widened },
        { decision: "allow", tokenType: "personal", userLogin: "admin", rules: { sub: "system:*" } },
      ],
      thumbprints: ["0b"],
    });
    const changed = [
      /ci\/deployer script: [0-9a-f]{12} → that of this clone/,
      /request organization: "mallory" → "acme"/,
      /ops\/drift token: team:user:\[redacted\] → team:ops/,
      /ops\/reader token: none:team:readers → team:readers/,
      /Job spec\.activeDeadlineSeconds: 9 → /,
      /Principal\.AWS: "arn:aws:iam::210987654321:root" → none/,
      /maximum lifetime: 86400 s → 7200 s/,
      /removed policy \{ [^}]* "\\"kubernetes\.io\\"\.serviceaccount\.name": "d\*"/,
      /removed policy \{ [^}]* \}, "tokenType": "personal", "userLogin": "admin" \}/,
      /ops\/reader token: .* allow policy grants: \{\} → this token/,
    ];
    await assertFound(...changed, /has the thumbprint "0b", which the component does not choose/);
    succeeded(await cli.pulumi(directory, "refresh", "--yes", "--skip-preview"));
    await assertFound(...changed);
  });

  async function assertFound(...findings: RegExp[]): Promise<void> {
    const { exitCode, errors, stdout, sentToSts } = await runCheck();
    for (const finding of findings) assert.match(inOneLine(stdout), finding, stdout);
    assert.match(stdout, /^ {2}To apply the program again: pulumi up --refresh --stack dev$/m);
    assert.ok(!stdout.includes(TOKEN));
    assert.deepEqual([exitCode, errors, sentToSts], [1, "", []]);
  }

  test("`pulumi up --refresh` undoes them, once the ConfigMaps with an added key or `immutable` are deleted", async () => {
    const up = () => cli.pulumi(directory, "up", "--yes", "--skip-preview", "--refresh");
    await server.kubectl(["delete", "job", "drift-token-exchange", "--namespace=ops"]);
    await patch("ops", "configmap/drift-pulumi-token-exchange", { immutable: true });
    failed(await up(), /field is immutable/);

    for (const [namespace, name] of Object.entries({ ci: "deployer", ops: "drift" })) {
      const named = [`${name}-pulumi-token-exchange`, `--namespace=${namespace}`];
      await server.kubectl(["delete", "configmap", ...named]);
    }
    await applyAsOther("reader", { organization: "mallory" });
    succeeded(await up());
  });

  test("finds an added key and another thumbprint, which no preview shows", async () => {
    await patch("ci", "configmap/deployer-pulumi-token-exchange", { data: { constructor: "a" } });
    const { exitCode, errors, stdout } = await runCheck();
    const [, additions = ""] = stdout.split("Additions that no preview shows");
    assert.match(
      inOneLine(additions),
      /^ The issuer has the thumbprint 0b, but its TLS certificate has [0-9a-f]{64}\. [^.]* The ConfigMap of ci\/deployer has the key constructor, which becomes a file\. Questions: 13 /,
    );
    assert.match(stdout, /^ {2}3 service accounts: as the settings intend\.$/m);
    assert.deepEqual([exitCode, errors], [1, ""]);
  });

  /** Changes an object as `kubectl edit` does. */
  async function patch(namespace: string, object: string, change: object): Promise<void> {
    const options = [`--namespace=${namespace}`, "--type=merge", `--patch=${JSON.stringify(change)}`];
    await server.kubectl(["patch", object, ...options]);
  }

  /** Changes a ConfigMap of namespace ops as a tool that takes over its fields. */
  async function applyAsOther(name: string, data: object): Promise<void> {
    const metadata = { namespace: "ops", name: `${name}-pulumi-token-exchange` };
    const options = ["--server-side", "--force-conflicts", "--field-manager=other", "--filename=-"];
    await server.kubectl(["apply", ...options], { apiVersion: "v1", kind: "ConfigMap", metadata, data });
  }

  /** Lets another account assume the role of a service account. */
  async function changeTrustPolicy(name: string): Promise<void> {
    const roles = aws.resources["aws:iam/role:Role"] ?? assert.fail();
    const id = aws.existing().find((it) => it.startsWith(`pulumi-oidc-${name}`)) ?? assert.fail();
    const role = JSON.parse(JSON.stringify(await roles.read(id)));
    role.assumeRolePolicy.Statement[0].Principal = { AWS: "arn:aws:iam::210987654321:root" };
    await roles.update(id, role);
  }
});
