// `npm start -- --live` of a stack on Pulumi's engine, with the real Pulumi CLI, the real kubectl, and a real API server. `aws` is
// a program on PATH that answers from the emulators, and Pulumi Cloud is the emulator behind its REST API.

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
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
import { realKubernetes } from "../support/realKubernetes";
import { CLUSTER } from "../support/stack";
import { inOneLine, type Outcome, startLive } from "./liveTools";

const TOKEN = `pul-${"0123456789".repeat(4)}`;
const ISSUERS = "/api/orgs/acme/oidc/issuers";

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
    // What the check requires, except permission to create tokens of service accounts.
    const rules = ["--verb=get,list", "--resource=configmaps,serviceaccounts"];
    await server.kubectl(["create", "clusterrole", "reader", ...rules]);
    await server.kubectl([
      "create",
      "clusterrolebinding",
      "reader",
      "--clusterrole=reader",
      "--user=developer",
    ]);
    pulumiCloud = await startPulumiCloud({ registrationMilliseconds: 0 });
    api = await serveCloudApi(pulumiCloud);
    aws = startAws({ region: "us-west-2", cluster: CLUSTER, issuerUrl: server.url });
    const resources = { ...aws.resources, ...pulumiCloud.resources, ...realKubernetes(server) };
    // Go knows the emulators' authority by this variable.
    const { NODE_EXTRA_CA_CERTS: SSL_CERT_FILE = "" } = process.env;
    cli = await openCli(await serveProvider(() => ({ resources, calls: aws.calls })), { SSL_CERT_FILE });
    const readers = { tokenType: "team", teamName: "readers", awsRole: "none", runJob: false };
    const serviceAccounts = [
      { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "my-login", runJob: false },
      { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops", audienceRule: true },
      { namespace: "ops", name: "reader", ...readers },
    ];
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
    const simulation = { aws, pulumiCloud, issuer: { token: () => assert.fail("kubectl is real") } };
    const PATH = `${dirname(assetPath("kubectl"))}:${cli.environment.PATH}`;
    pulumiCloud.exchanges.length = 0;
    return startLive(
      { simulation, config: {}, registered: [], aws: answers },
      { directory, stack: "dev", environment: { ...cli.environment, ...environment, PATH }, tools: ["aws"] },
    );
  }

  test("allows each service account only as itself, and finds no difference", async () => {
    const { exitCode, errors, stdout, calls, sentToSts } = await runAs("admin");
    assert.equal(errors, "");
    assert.match(stdout, /^Differences from the program\n {2}pulumi preview --refresh shows none\.$/m);
    assert.match(stdout, /^Additions that no preview shows\n {2}There are none\.$/m);
    assert.match(stdout, /^ {2}ci\/deployer +user:my-login +only itself +only itself$/m);
    assert.match(stdout, /^ {2}ops\/drift +team:ops +only itself +only itself$/m);
    assert.match(stdout, /^ {2}ops\/reader +team:readers +only itself +no role$/m);
    assert.match(stdout, /a rule on aud match an element of a list\? Yes: ops\/drift was allowed/);
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
      (t) => {
        t.mock.method(rolesOf(aws), "read", async () => {
          throw new Error("reading IAM Role (x): AccessDenied: not authorized to perform iam:GetRole");
        });
        return runAs("admin");
      },
    ],
    [
      "the issuers cannot be read",
      /\/oidc\/issuers: server returned HTTP 403 No token was sent\. This needs the permission oidc_issuers:read /,
      (t) => {
        api.errors.set(ISSUERS, 403);
        t.after(() => api.errors.delete(ISSUERS));
        return runAs("admin");
      },
    ],
  ] satisfies [string, RegExp, (t: TestContext) => Promise<Outcome>][]) {
    test(`stops before any token is sent if ${what}`, async (t) => {
      const { exitCode, errors, sentToSts } = await run(t);
      assert.match(errors, error);
      assert.deepEqual([exitCode, sentToSts, pulumiCloud.exchanges], [2, [], []]);
    });
  }

  describe("after changes by hand", () => {
    const reports: Record<string, Outcome> = {};

    before(async () => {
      // Each change, at once: the preview shows them one below the other.
      const script = { "exchange-token.sh": "curl example.com\u001b[2J" };
      await patch("ci", "configmap/deployer-pulumi-token-exchange", {
        data: { ...script, constructor: "a", extra: "b" },
      });
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
        ["a scope of another field manager, redacted", /"user:\[redacted\]" => "team:ops"/],
        ["a removed setting", /\+ tokenType +: "team"/],
        ["a key that was added", /The ConfigMap of ci\/deployer has the key extra, which becomes a file\./],
        ["a key named constructor", /The ConfigMap of ci\/deployer has the key constructor, which becomes/],
        ["a changed Job", /~ activeDeadlineSeconds: 9 => /],
        ["a changed trust policy", /~ Principal.*?"arn:aws:iam::210987654321:root"/],
        ["a changed limit", /~ maxExpirationSeconds: 86400 => 7200 /],
        ["a widened policy", /~ "kubernetes\.io"\.serviceaccount\.name: "d\*" => "drift"/],
        ["an added policy", /- userLogin *: "admin"/],
        ["a removed policy", /\+ "kubernetes\.io"\.serviceaccount\.name: "reader"/],
      ] satisfies [string, RegExp][]) {
        test(`finds ${what}, ${when}`, () => {
          const { stdout } = reports[when] ?? assert.fail();
          assert.match(inOneLine(stdout), finding, stdout);
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
      await server.kubectl(["delete", "job", "drift-token-exchange", "--namespace=ops"]);
      await patch("ops", "configmap/drift-pulumi-token-exchange", { immutable: true });
      failed(await up(), /field is immutable/);

      for (const [namespace, name] of Object.entries({ ci: "deployer", ops: "drift" })) {
        const named = [`${name}-pulumi-token-exchange`, `--namespace=${namespace}`];
        await server.kubectl(["delete", "configmap", ...named]);
      }
      await applyAsOther("reader", { organization: "mallory" });
      succeeded(await up());
      const { exitCode, errors, stdout } = await runAs("admin");
      assert.deepEqual([exitCode, errors], [0, ""], stdout);
    });
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
    const id = aws.existing().find((it) => it.startsWith(`pulumi-oidc-${name}`)) ?? assert.fail();
    const role = JSON.parse(JSON.stringify(await rolesOf(aws).read(id)));
    role.assumeRolePolicy.Statement[0].Principal = { AWS: "arn:aws:iam::210987654321:root" };
    await rolesOf(aws).update(id, role);
  }
});

function rolesOf({ resources }: Aws) {
  return resources["aws:iam/role:Role"] ?? assert.fail();
}
