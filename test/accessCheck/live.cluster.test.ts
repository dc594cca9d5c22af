// `npm start -- --live` of a stack on Pulumi's engine, with the real Pulumi CLI, the real kubectl, and a real API server. `aws` is
// a program on PATH that answers from the emulators, and Pulumi Cloud is the emulator behind its REST API.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Aws, startAws } from "../../simulator/emulators/aws";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import {
  type ApiServer,
  assetPath,
  kubeconfigOf,
  missingApiServer,
  startApiServer,
  type User,
} from "../support/apiServer";
import { type CloudApi, serveCloudApi } from "../support/cloudApi";
import { failed, succeeded } from "../support/engineOutcome";
import { serveProvider } from "../support/provider";
import { type Cli, createProject, missingCli, openCli } from "../support/pulumiCli";
import { realIssuer } from "../support/realIssuer";
import { realKubernetes } from "../support/realKubernetes";
import { CLUSTER } from "../support/stack";
import { type LiveStack, type Outcome, startLive } from "./liveTools";

const TOKEN = `pul-${"0123456789".repeat(4)}`;
const SCRIPT = "exchange-token.sh";

describe("npm start -- --live of a deployed stack", { skip: missingApiServer || missingCli }, () => {
  let server: ApiServer;
  let pulumiCloud: PulumiCloud;
  let api: CloudApi;
  let aws: Aws;
  let cli: Cli;
  let directory: string;

  before(async () => {
    server = await startApiServer();
    for (const namespace of ["ci", "ops"]) await server.createNamespace(namespace);
    await allowReading(server, "developer");
    pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0 });
    api = await serveCloudApi(pulumiCloud);
    aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
    const resources = { ...aws.resources, ...pulumiCloud.resources, ...realKubernetes(server) };
    // Go knows the emulators' authority by this variable.
    const { NODE_EXTRA_CA_CERTS: SSL_CERT_FILE = "" } = process.env;
    cli = await openCli(await serveProvider(() => ({ resources, calls: aws.calls })), { SSL_CERT_FILE });
    const serviceAccounts = [
      { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "my-login" },
      { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops", audienceRule: true },
      { namespace: "ops", name: "reader", tokenType: "team", teamName: "readers", awsRole: "none" },
    ].map((entry) => ({ ...entry, runJob: false }));
    const required = { "aws:region": "us-west-2", clusterName: CLUSTER.name, organization: "acme" };
    const settings = { ...required, pulumiApiUrl: api.url, serviceAccounts };
    directory = await createProject(cli, settings, ["test", ".ci", ".github", "pipeline"]);
    succeeded(await cli.pulumi(directory, "up", "--yes", "--skip-preview"));
  });
  after(async () => {
    api?.close();
    await Promise.all([pulumiCloud?.close(), server?.close(), cli?.remove()]);
  });

  /** Runs the check as a user of the API server. */
  function runAs(user: User, environment: NodeJS.ProcessEnv = {}) {
    const apiVersion = "client.authentication.k8s.io/v1beta1";
    // As `aws eks update-kubeconfig` writes it.
    const exec = { apiVersion, command: "aws", args: ["eks", "get-token", "--cluster-name", "my-cluster"] };
    const answers = {
      kubeconfig: kubeconfigOf(server.url, { exec }),
      token: JSON.stringify({ apiVersion, kind: "ExecCredential", status: { token: server.tokenOf(user) } }),
    };
    const kubernetes = { podOf: () => assert.fail(), configMap: () => assert.fail() };
    const simulation = { aws, pulumiCloud, kubernetes, issuer: realIssuer(server) };
    const stack: LiveStack = { simulation, config: {}, registered: [], aws: answers };
    pulumiCloud.exchanges.length = 0;
    return startLive(stack, {
      directory,
      stack: "dev",
      environment: { ...cli.environment, ...environment },
      tools: ["aws"],
      realTools: { kubectl: assetPath("kubectl") },
    });
  }

  test("allows each service account only as itself, and finds no difference", async () => {
    const { exitCode, errors, stdout, lines, calls, sentToSts } = await runAs("admin");
    assert.equal(errors, "");
    assert.match(stdout, /^Differences from the program\n {2}pulumi preview --refresh shows none\.$/m);
    assert.match(stdout, /^Additions that no preview shows\n {2}There are none\.$/m);
    assert.deepEqual(lines.slice(lines.indexOf("Access check")).slice(0, 5), [
      "Access check",
      "  Service account  Access token   Gets the token  Gets the role",
      "  ci/deployer      user:my-login  only itself     only itself",
      "  ops/drift        team:ops       only itself     only itself",
      "  ops/reader       team:readers   only itself     no role",
    ]);
    assert.match(lines.join(" "), /a rule on aud match an element of a list\? Yes: ops\/drift was allowed/);
    assert.deepEqual([exitCode, sentToSts.length], [0, 10]);
    // kubectl asks the AWS CLI for its credential, and Pulumi's asks the stack's Pulumi Cloud, not its own backend.
    assert.ok(calls.some(({ tool, args }) => tool === "aws" && args[1] === "get-token"));
    assert.equal(api.requests.filter((path) => path.startsWith("/api/orgs/acme/")).length, 2);
  });

  for (const [what, error, run] of [
    [
      "the user must not create tokens of service accounts",
      // Both namespaces are asked at once.
      /User "developer" cannot create resource "serviceaccounts\/token" in API group "" in the namespace "(ci|ops)" .*kubectl auth can-i create serviceaccounts\/token --namespace \1$/,
      () => runAs("developer"),
    ],
    [
      "the login has expired",
      /^The preview failed, so no token was sent: .*(logging in|log in|credentials)/i,
      () => runAs("admin", { PULUMI_BACKEND_URL: api.url, PULUMI_ACCESS_TOKEN: "expired" }),
    ],
    [
      "the preview must not read a role",
      /^The preview failed, so no token was sent: .*AccessDenied: not authorized to perform iam:GetRole To see all/,
      () => forbidRoles(() => runAs("admin")),
    ],
    [
      "the issuers cannot be read",
      /\/oidc\/issuers: server returned HTTP 403 No token was sent\. This needs the right oidc_issuers:read /,
      async () => {
        const path = "/api/orgs/acme/oidc/issuers";
        api.errors.set(path, 403);
        return runAs("admin").finally(() => api.errors.delete(path));
      },
    ],
  ] satisfies [string, RegExp, () => Promise<Outcome>][]) {
    test(`stops before any token is sent if ${what}`, async () => {
      const { exitCode, errors, sentToSts } = await run();
      assert.match(errors, error);
      assert.deepEqual([exitCode, sentToSts, pulumiCloud.exchanges], [2, [], []]);
    });
  }

  /** Lets AWS deny the reading of roles. */
  async function forbidRoles<Result>(run: () => Promise<Result>): Promise<Result> {
    const roles = aws.resources["aws:iam/role:Role"] ?? assert.fail();
    const { read } = roles;
    roles.read = async () => {
      throw new Error("reading IAM Role (x): AccessDenied: not authorized to perform iam:GetRole");
    };
    return run().finally(() => {
      roles.read = read;
    });
  }

  describe("after changes by hand", () => {
    const reports: Record<string, Outcome> = {};

    before(async () => {
      // Each change, at once: the preview shows them one below the other.
      await patch("ci", "deployer", { [SCRIPT]: "curl example.com\u001b[2J", constructor: "a", extra: "b" });
      await patch("ops", "reader", { tokenType: null });
      await applyAsOther("ops", "drift", { organization: "mallory", tokenScope: `user:${TOKEN}` });
      await changeTrustPolicy("ci.deployer");
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
      });

      reports["as they are"] = await runAs("admin");
      // The state then contains the changes.
      succeeded(await cli.pulumi(directory, "refresh", "--yes", "--skip-preview"));
      reports["after pulumi refresh"] = await runAs("admin");
    });

    for (const when of ["as they are", "after pulumi refresh"]) {
      for (const [what, finding] of [
        ["a changed script", /~ exchange-token\.sh +: *- curl example\.com\\u\{1b\}\[2J/],
        ["an organization of another field manager", /~ organization +: "mallory" => "acme"/],
        [
          "a scope of another field manager, without what could be a token",
          /"user:\[redacted\]" => "team:ops"/,
        ],
        ["a removed setting", /\+ tokenType +: "team"/],
        ["a key that was added", /The ConfigMap of ci\/deployer has the key extra, which becomes a file\./],
        ["a key named constructor", /The ConfigMap of ci\/deployer has the key constructor, which becomes/],
        ["a changed trust policy", /~ Principal.*?"arn:aws:iam::210987654321:root"/],
        ["a changed limit", /~ maxExpirationSeconds: 86400 => 7200 /],
        ["a widened policy", /~ "kubernetes\.io"\.serviceaccount\.name: "d\*" => "drift"/],
        ["an added policy", /- userLogin *: "admin"/],
        ["a removed policy", /\+ "kubernetes\.io"\.serviceaccount\.name: "reader"/],
      ] satisfies [string, RegExp][]) {
        test(`finds ${what}, ${when}`, () => {
          const { stdout } = reports[when] ?? assert.fail();
          assert.match(stdout.replaceAll(/\s+/g, " "), finding, stdout);
        });
      }

      test(`exits 1, and asks what the program says, ${when}`, () => {
        const { exitCode, errors, stdout } = reports[when] ?? assert.fail();
        assert.deepEqual([exitCode, errors], [1, ""]);
        assert.ok(!stdout.includes(TOKEN));
        // Neither the organization nor the scope is that of the changed ConfigMap.
        assert.match(stdout, /^ {2}ci\/deployer +user:my-login +only itself +\d unexpected$/m);
        assert.match(stdout, /^ {2}ops\/drift +team:ops +1 unexpected +only itself$/m);
        assert.match(stdout, /^ {4}ops\/default: allowed by Pulumi Cloud\. No setting allows this\./m);
        assert.match(stdout, /^ {2}To apply the program again: pulumi up --refresh --stack dev$/m);
      });
    }

    test("are undone by `pulumi up --refresh`, once the ConfigMaps with an added key or `immutable` are deleted", async () => {
      const up = () => cli.pulumi(directory, "up", "--yes", "--skip-preview", "--refresh");
      const configMaps = { ci: "deployer", ops: "drift" };
      const immutable = ["--namespace=ops", "--type=merge", '--patch={"immutable":true}'];
      await server.kubectl(["patch", "configmap", "drift-pulumi-token-exchange", ...immutable]);
      failed(await up(), /field is immutable/);

      for (const [namespace, name] of Object.entries(configMaps)) {
        const named = [`${name}-pulumi-token-exchange`, `--namespace=${namespace}`];
        await server.kubectl(["delete", "configmap", ...named]);
      }
      await applyAsOther("ops", "reader", { organization: "mallory" });
      succeeded(await up());
      const { exitCode, errors, stdout } = await runAs("admin");
      assert.deepEqual([exitCode, errors], [0, ""], stdout);
    });
  });

  /** Changes a ConfigMap as `kubectl edit` does. */
  async function patch(namespace: string, name: string, data: object): Promise<void> {
    const options = [`--namespace=${namespace}`, "--type=merge", `--patch=${JSON.stringify({ data })}`];
    await server.kubectl(["patch", "configmap", `${name}-pulumi-token-exchange`, ...options]);
  }

  /** Changes a ConfigMap as a tool that takes over its fields. */
  async function applyAsOther(namespace: string, name: string, data: object): Promise<void> {
    const metadata = { namespace, name: `${name}-pulumi-token-exchange` };
    const options = ["--server-side", "--force-conflicts", "--field-manager=other", "--filename=-"];
    await server.kubectl(["apply", ...options], { apiVersion: "v1", kind: "ConfigMap", metadata, data });
  }

  /** Lets another account assume the role of a service account. */
  async function changeTrustPolicy(name: string): Promise<void> {
    const roles = aws.resources["aws:iam/role:Role"] ?? assert.fail();
    const id =
      aws.existing().find((it) => it.startsWith(`pulumi-oidc-${name.replace(".", "-")}`)) ?? assert.fail();
    const role = JSON.parse(JSON.stringify(await roles.read(id)));
    role.assumeRolePolicy.Statement[0].Principal = { AWS: "arn:aws:iam::210987654321:root" };
    await roles.update(id, role);
  }
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
