// The access check: which callers it knows, what it finds, and that each answer depends on the one rule that decides it.

import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { accessQuestions, findings, idOf, type Row, type ServiceAccount } from "../simulator/accessCheck";
import type { AuthPolicy } from "../simulator/authPolicy";
import type { PodIdentity, TokenOptions } from "../simulator/issuer";
import { runProgram } from "../simulator/mocks";
import { accessLines, verdict } from "../simulator/report";
import { checkSimulatedAccess } from "../simulator/simulatedAccess";
import { type Simulation, startSimulation } from "../simulator/simulation";

const DEPLOYER = "ci/deployer";
const PLANNER = "ci/planner";
const SECRETS = "secrets/external-secrets";
const POD = { '"kubernetes.io".pod.name': "planner-*" };
const EXISTING = { createServiceAccount: false, createRole: false, runJob: false, audienceRule: true };
const ENTRIES = [
  { namespace: "ci", name: "deployer", tokenType: "team", teamName: "ops", audienceRule: true },
  {
    namespace: "ci",
    name: "planner",
    tokenType: "personal",
    userLogin: "a",
    tokenAudience: "urn:x",
    policyRules: POD,
  },
  { namespace: "secrets", name: "external-secrets", tokenType: "organization", ...EXISTING },
];

describe("in the simulation", () => {
  // One stack for all tests; each changes it and puts it back.
  let simulation: Simulation;
  let outputs: Record<string, unknown>;
  before(async () => {
    simulation = await startSimulation({
      region: "us-west-2",
      cluster: { name: "my-cluster", hasOidcProvider: true },
      namespaces: ["ci", "secrets"],
      serviceAccounts: [SECRETS],
      registrationMilliseconds: 0,
    });
    const config = { "p:clusterName": "my-cluster", "p:serviceAccounts": JSON.stringify(ENTRIES) };
    const stack = { project: "p", stack: "dev", organization: "acme", config };
    ({ outputs } = await runProgram(simulation, stack));
  });
  after(() => simulation.close());

  /** The callers of a service account that are allowed. */
  async function allowed(account: string): Promise<{ pulumiCloud: string[]; role: string[] }> {
    const rows = (await checkSimulatedAccess(simulation, outputs)).filter((row) => idOf(row.account) === account);
    const labels = (of: (row: Row) => { allowed: boolean } | undefined) =>
      rows.filter((row) => of(row)?.allowed).map(({ caller }) => caller.label);
    return { pulumiCloud: labels((row) => row.pulumiCloud), role: labels((row) => row.role) };
  }

  async function changePolicies(t: TestContext, change: (policy: AuthPolicy) => AuthPolicy): Promise<void> {
    const [issuer] = simulation.pulumiCloud.list();
    assert.ok(issuer);
    const { id, registration } = issuer;
    const policies = registration.policies?.map(change) ?? [];
    assert.notDeepEqual(policies, registration.policies);
    await simulation.pulumiCloud.update(id, { ...registration, policies });
    t.after(() => simulation.pulumiCloud.update(id, registration));
  }

  async function changeTrustPolicies(t: TestContext, change: (policy: string) => string): Promise<void> {
    const roles = simulation.resources["aws:iam/role:Role"];
    assert.ok(roles);
    for (const id of simulation.existing().aws.filter((name) => name.startsWith("pulumi-oidc-"))) {
      const inputs = { ...roles.read(id) } as { assumeRolePolicy: object };
      const policy = JSON.stringify(inputs.assumeRolePolicy);
      assert.notEqual(change(policy), policy);
      await roles.update(id, { ...inputs, assumeRolePolicy: change(policy) });
      t.after(() => roles.update(id, inputs));
    }
  }

  test("each service account is allowed only as itself", async () => {
    const itself = ["itself"];
    assert.deepEqual(await allowed(DEPLOYER), { pulumiCloud: itself, role: itself });
    assert.deepEqual(await allowed(PLANNER), { pulumiCloud: itself, role: itself });
    assert.deepEqual(await allowed(SECRETS), { pulumiCloud: itself, role: [] });
  });

  test("each caller is denied for its own reason", async () => {
    const rows = (await checkSimulatedAccess(simulation, outputs)).slice(1, 9);
    const reasons: [string, RegExp, RegExp][] = [
      ["other service account", /serviceaccount\.name is 'deployer-2', not 'deployer'$/, /another sub$/],
      ["other namespace", /namespace is 'ci-2', not 'ci'$/, /another sub$/],
      ["other audience", /aud is \['sts\.amazonaws\.com-2'\]/, /does not list the audience/],
      ["expired token", /has expired/, /has expired/],
      ["invalid signature", /signature .* is invalid/, /signature is invalid/],
      ["other cluster", /has no OIDC issuer/, /no IAM OIDC provider for this issuer/],
      [PLANNER, /serviceaccount\.name is 'planner'/, /another sub$/],
      [SECRETS, /namespace is 'secrets'/, /another sub$/],
    ];
    for (const [index, [label, pulumiCloud, role]] of reasons.entries()) {
      const row = rows[index] ?? assert.fail(label);
      assert.equal(row.caller.label, label);
      assert.match(row.pulumiCloud.reason, pulumiCloud);
      assert.match(row.role?.reason ?? "", role);
    }
  });

  for (const [rule, callers] of [
    ['"kubernetes.io".namespace', ["other namespace"]],
    ['"kubernetes.io".serviceaccount.name', ["other service account", PLANNER]],
    ["aud", ["other audience"]],
  ] satisfies [string, string[]][]) {
    test(`without the rule ${rule}, Pulumi Cloud also allows: ${callers}`, async (t) => {
      await changePolicies(t, ({ rules: { [rule]: _, ...rules }, ...policy }) => ({ ...policy, rules }));
      assert.deepEqual((await allowed(DEPLOYER)).pulumiCloud, ["itself", ...callers]);
    });
  }

  test("a policy that another service account of the stack matches too is found", async (t) => {
    const rules = { '"kubernetes.io".namespace': "ci", '"kubernetes.io".serviceaccount.name': "*er" };
    await changePolicies(t, (policy) => (policy.tokenType === "team" ? { ...policy, rules } : policy));
    assert.ok((await allowed(DEPLOYER)).pulumiCloud.includes(PLANNER));
  });

  test("a rule of policyRules that its own pod does not match denies the service account itself", async (t) => {
    const [claim, pattern] = ['"kubernetes.io".pod.name', "other-*"];
    await changePolicies(t, (policy) => ({ ...policy, rules: { ...policy.rules, [claim]: pattern } }));
    assert.deepEqual((await allowed(DEPLOYER)).pulumiCloud, []);
    const [finding] = findings(await checkSimulatedAccess(simulation, outputs));
    assert.match(finding?.answer.reason ?? "", /pod\.name is 'deployer-[^']+', not 'other-\*'$/);
    assert.match(finding?.advice ?? "", /policyRules/);
  });

  test("without the condition on sub, the role allows every service account of the cluster", async (t) => {
    await changeTrustPolicies(t, (policy) => policy.replace(/,?"[^"]+:sub":"[^"]+"/, "").replace("{,", "{"));
    const callers = ["itself", "other service account", "other namespace", PLANNER, SECRETS];
    assert.deepEqual((await allowed(DEPLOYER)).role, callers);
  });

  test("an expired token and an invalid signature are denied for nothing else", async (t) => {
    const { token } = simulation.issuer;
    t.mock.method(simulation.issuer, "token", (pod: PodIdentity, options: TokenOptions = {}) =>
      token(pod, { ...options, expiresIn: 60, forged: false }),
    );
    const callers = ["itself", "expired token", "invalid signature"];
    assert.deepEqual(await allowed(DEPLOYER), { pulumiCloud: callers, role: callers });
  });
});

function account(id: string, tokenType: string, tokenScope: string, roleArn?: string): ServiceAccount {
  const [namespace = "", name = ""] = id.split("/");
  return {
    namespace,
    name,
    tokenType,
    tokenScope,
    audience: "a",
    audienceRule: false,
    environment: {},
    roleArn,
  };
}

/** The answers of services that allow what the settings intend, and the given callers of the first account. */
function answered(accounts: ServiceAccount[], ...more: string[]): Row[] {
  return accessQuestions(accounts).map((question) => {
    const { account, caller, intended } = question;
    const isMore = account === accounts[0] && more.includes(caller.label);
    const answer = (allowed: boolean) => ({ allowed: allowed || isMore, reason: "because" });
    const role = account.roleArn ? answer(intended.role) : undefined;
    return { ...question, pulumiCloud: answer(intended.pulumiCloud), role };
  });
}

test("a service account whose settings grant the same token is allowed as intended, but never to the role", () => {
  for (const [type, scope, otherScope, isShared] of [
    ["team", "team:a", "team:a", true],
    ["team", "team:a", "team:b", false],
    ["organization", "", "admin", true],
    ["organization", "admin", "", false],
  ] as const) {
    const questions = accessQuestions([account("a/a", type, scope), account("b/b", type, otherScope)]);
    const { intended } = questions.find(({ caller }) => caller.label === "b/b") ?? assert.fail();
    assert.deepEqual(intended, { pulumiCloud: isShared, role: false }, `${type} ${scope} ${otherScope}`);
  }
});

test("the callers of other names are not service accounts of the stack", () => {
  const accounts = ["a/b", "a/b-2", "a-2/b"].map((id) => account(id, "team", "team:a"));
  const [, name, namespace] = accessQuestions(accounts).map(({ caller }) => idOf(caller));
  assert.deepEqual([name, namespace], ["a/b-3", "a-3/b"]);
});

test("reports one line for each service account, and each unexpected answer with the setting that closes it", () => {
  const accounts = [account("a/a", "team", "team:a", "arn"), account("b/b", "team", "team:a")];
  assert.deepEqual(accessLines(answered(accounts), false), [
    "  Service account  Pulumi Cloud            IAM role",
    "  a/a              allowed (+1), 6 denied  allowed, 7 denied",
    "  b/b              allowed (+1), 6 denied  no role",
    "",
    "  (+N): N other service accounts, which are granted the same access token.",
    "",
    "  Access is as intended: 2 service accounts, 16 callers, 24 answers.",
  ]);

  const rows = answered(accounts, "other audience");
  const unexpected = accessLines(rows, false).slice(1, 5);
  assert.deepEqual(unexpected, [
    "  a/a              allowed (+1), 5 of 6 denied  allowed, 6 of 7 denied",
    "    other audience: allowed by Pulumi Cloud. To deny it, set audienceRule to",
    "      true.",
    "    other audience: allowed by IAM role. No setting allows this: check the trust",
  ]);
  assert.deepEqual(verdict(rows), {
    text: "2 unexpected answers: 2 service accounts, 16 callers, 24 answers.",
    isExpected: false,
  });
});

test("reports every answer with its reason on request, and names that are too long for a column on their own line", () => {
  const long = account(`${"n".repeat(30)}/${"a".repeat(40)}`, "team", "team:a", "arn");
  const [, ...lines] = accessLines(answered([long]), true);
  const itself = ["    itself", "      Pulumi Cloud: allowed: because", "      IAM role: allowed: because"];
  assert.deepEqual(lines.slice(1, 4), itself);
  const summary = accessLines(answered([long]), false).join("\n");
  assert.doesNotMatch(summary, /.{81}/);
  assert.ok(summary.includes(`\n  ${idOf(long)}\n`));
});
