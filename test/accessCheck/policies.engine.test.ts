// The live check reads the policies of an issuer with the real Pulumi CLI: `pulumi api`. Pulumi Cloud is a local server.

import assert from "node:assert/strict";
import { createServer, type IncomingMessage } from "node:http";
import { after, before, describe, test } from "node:test";
import { findChangedPolicies } from "../../accessCheck/changedByHand";
import type { DeployedStack, IssuerPolicy } from "../../accessCheck/deployedStack";
import type { ServiceAccount } from "../../accessCheck/serviceAccounts";
import { toolRunner } from "../../accessCheck/tools";
import { specificationOf } from "../support/cloudApi";
import { listen } from "../support/loopback";
import { missingCli } from "../support/pulumiCli";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const ISSUERS = "/api/orgs/acme/oidc/issuers";
const POLICIES = "/api/orgs/acme/auth/policies/oidcissuers/issuer-id";
const ISSUER_URL = "https://oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
const RULES = { '"kubernetes.io".namespace': "ci", '"kubernetes.io".serviceaccount.name': "deployer" };
const POLICY: IssuerPolicy = { decision: "allow", tokenType: "team", teamName: "ops", rules: RULES };
const ACCOUNT: ServiceAccount = {
  namespace: "ci",
  name: "deployer",
  tokenType: "team",
  tokenScope: "team:ops",
  audience: "urn:pulumi:org:acme",
  audienceRule: false,
  settings: {},
  role: undefined,
};

const SPECIFICATION = specificationOf({
  "/api/orgs/{orgName}/oidc/issuers": { get: "ListOrgsOidcIssuers" },
  "/api/orgs/{orgName}/auth/policies/oidcissuers/{issuerId}": { get: "GetAuthPolicy" },
});

describe("with the Pulumi CLI, the live check", { skip: missingCli }, () => {
  const home = temporaryDirectory({ after });
  let restore: () => void;
  let stack: DeployedStack;
  /** What the server answers; a number is the status of an error. */
  let answers: Record<string, object | number>;
  const requests: { path: string; authorization: string | undefined }[] = [];
  const server = createServer((request: IncomingMessage, response) => {
    const path = request.url ?? "";
    requests.push({ path, authorization: request.headers.authorization });
    const answer = answers[path] ?? 404;
    const status = typeof answer === "number" ? answer : 200;
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(typeof answer === "number" ? { code: answer, message: "an error" } : answer));
  });

  before(async () => {
    const pulumiCloudUrl = `http://127.0.0.1:${await listen(server)}`;
    restore = setVariables({
      PULUMI_HOME: home,
      PULUMI_ACCESS_TOKEN: ACCESS_TOKEN,
      PULUMI_SKIP_UPDATE_CHECK: "true",
      // The current backend is another one.
      PULUMI_BACKEND_URL: `file://${home}`,
    });
    stack = {
      name: "prod",
      issuerUrl: ISSUER_URL,
      organization: "acme",
      issuerId: "issuer-id",
      policies: [POLICY],
      serviceAccounts: {},
      podIdentities: [],
      configMaps: new Map(),
      clusterName: "my-cluster",
      pulumiCloudUrl,
      region: "us-west-2",
      stsUrl: undefined,
      awsOptions: [],
    };
    answers = {
      "/api/openapi/pulumi-spec.json": SPECIFICATION,
      "/api/user": { githubLogin: "alice", organizations: [{ githubLogin: "acme" }] },
      [ISSUERS]: { oidcIssuers: [{ id: "issuer-id", url: ISSUER_URL }] },
      [POLICIES]: { id: "policy", version: 1, policies: [{ ...POLICY, authorizedPermissions: [] }] },
    };
  });
  after(() => {
    restore();
    server.close();
  });

  const find = () => findChangedPolicies(stack, [ACCOUNT], toolRunner(new AbortController().signal));

  test("reads the issuers and the policies of the stack's Pulumi Cloud, and finds an added one", async () => {
    assert.deepEqual(await find(), []);
    const asked = requests.filter(({ path }) => path === ISSUERS || path === POLICIES);
    assert.deepEqual(
      asked.map(({ path }) => path),
      [ISSUERS, POLICIES],
    );
    assert.ok(asked.every(({ authorization }) => authorization === `token ${ACCESS_TOKEN}`));

    const added = { decision: "allow", tokenType: "personal", userLogin: "admin", rules: { sub: "*" } };
    answers[POLICIES] = { policies: [added, POLICY] };
    const [change, ...others] = await find();
    assert.deepEqual([change?.heading, others], ["A policy was added or changed by hand:", []]);
    assert.deepEqual(JSON.parse(change?.details[0] ?? ""), added);
  });

  for (const [path, status, message] of [
    [
      ISSUERS,
      403,
      /\/oidc\/issuers: server returned HTTP 403\nNo token was sent\. This needs the right oidc_issuers:read in organization acme, /,
    ],
    [POLICIES, 401, /\nNo token was sent\. .*\nTo sign in: pulumi login http:/],
    [ISSUERS, 500, /: server returned HTTP 500\nNo token was sent\./],
  ] satisfies [string, number, RegExp][]) {
    test(`says what it requires if ${path} returns HTTP ${status}`, async (t) => {
      const before = answers[path] ?? 404;
      t.after(() => {
        answers[path] = before;
      });
      answers[path] = status;
      await assert.rejects(find(), { message });
    });
  }
});
