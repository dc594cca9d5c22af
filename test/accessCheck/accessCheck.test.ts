// The access check: which callers it knows, what it finds, and that each answer depends on the one rule that decides it.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  accessQuestions,
  audienceOf,
  liveQuestions,
  type Row,
  unexpected,
} from "../../accessCheck/questions";
import { accessLines, accessMarkdown } from "../../accessCheck/report";
import { idOf, type Role, readServiceAccounts, type ServiceAccount } from "../../accessCheck/serviceAccounts";
import { evaluatePodIdentityTrust } from "../../simulator/emulators/iamPolicy";
import type { PodIdentity, TokenOptions } from "../../simulator/emulators/issuer";
import type { Simulation } from "../../simulator/emulators/simulation";
import { runProgram } from "../../simulator/runProgram";
import { checkSimulatedAccess } from "../../simulator/simulatedAccess";
import { changePolicies, stackOf, startCluster } from "../support/stack";

const DEPLOYER = "ci/deployer";
const PLANNER = "ci/planner";
const SECRETS = "secrets/external-secrets";
const ENTRIES = [
  { namespace: "ci", name: "deployer", tokenType: "team", teamName: "ops", audienceRule: true },
  { namespace: "ci", name: "planner", tokenType: "personal", userLogin: "a", awsRole: "pod-identity" },
  {
    namespace: "secrets",
    name: "external-secrets",
    tokenType: "organization",
    audienceRule: true,
    awsRole: "none",
  },
].map((entry) => ({ ...entry, runJob: false }));

describe("in the simulation", () => {
  // One stack for all tests; each changes it and puts it back.
  let simulation: Simulation;
  let outputs: Record<string, unknown>;
  before(async () => {
    simulation = await startCluster();
    ({ outputs } = await runProgram(simulation, stackOf({ serviceAccounts: ENTRIES })));
  });
  after(() => simulation.close());

  /** The callers that are allowed as ci/deployer. */
  async function allowed(service: Row["service"]): Promise<string[]> {
    const rows = await checkSimulatedAccess(simulation, outputs);
    return rows
      .filter((row) => idOf(row.account) === DEPLOYER && row.service === service && row.allowed)
      .map(({ caller }) => caller.label);
  }

  test("each service account is allowed only as itself", async () => {
    const rows = await checkSimulatedAccess(simulation, outputs);
    assert.deepEqual(unexpected(rows), []);
    assert.deepEqual(
      rows
        .filter((row) => row.allowed)
        .map(({ account, caller, service }) => [idOf(account), caller.label, service]),
      [
        [DEPLOYER, "itself", "Pulumi Cloud"],
        [DEPLOYER, "itself", "IAM role"],
        [PLANNER, "itself", "Pulumi Cloud"],
        [PLANNER, "itself", "IAM role"],
        // As configured: it has no rule on aud.
        [PLANNER, "other audience", "Pulumi Cloud"],
        [SECRETS, "itself", "Pulumi Cloud"],
      ],
    );
  });

  test("each caller is denied for its own reason", async () => {
    const rows = await checkSimulatedAccess(simulation, outputs);
    for (const [label, pulumiCloud, role] of [
      ["other service account", /: \S+serviceaccount\.name is 'deployer-2', not 'deployer'$/, /another sub$/],
      ["other namespace", /: \S+namespace is 'ci-2', not 'ci'$/, /another sub$/],
      ["other audience", /: aud is \['urn:pulumi:org:acme-2'\], not '[^']+'$/, /"aud"/],
      ["expired token", /'exp'/, /"exp"/],
      ["invalid signature", /signature verification/, /signature verification/],
      ["other cluster", /has no OIDC issuer/, /no IAM OIDC provider for this issuer/],
      [PLANNER, /serviceaccount\.name is 'planner'/, /another sub$/],
      [SECRETS, /namespace is 'secrets'/, /another sub$/],
    ] satisfies [string, RegExp, RegExp][]) {
      const answers = rows.filter(
        ({ account, caller }) => idOf(account) === DEPLOYER && caller.label === label,
      );
      assert.match(answers[0]?.reason ?? "", pulumiCloud);
      assert.match(answers[1]?.reason ?? "", role);
    }
  });

  test("each caller is denied the role of EKS Pod Identity for its own reason", async () => {
    const rows = await checkSimulatedAccess(simulation, outputs);
    const answers = rows.filter(
      ({ account, service }) => idOf(account) === PLANNER && service === "IAM role",
    );
    for (const [label, reason] of [
      ["other service account", /^the trust policy requires another kubernetes-service-account$/],
      ["other namespace", /^the trust policy requires another kubernetes-namespace$/],
      ["other audience", /"aud"/],
      ["expired token", /"exp"/],
      ["invalid signature", /signature verification/],
      ["other cluster", /^the trust policy requires another eks-cluster-arn$/],
      [DEPLOYER, /^the trust policy requires another kubernetes-service-account$/],
    ] satisfies [string, RegExp][]) {
      assert.match(answers.find(({ caller }) => caller.label === label)?.reason ?? "", reason);
    }
  });

  test("finds that a service account is not associated with its role", async (t) => {
    const associations =
      simulation.resources["aws:eks/podIdentityAssociation:PodIdentityAssociation"] ?? assert.fail();
    const id = `my-cluster,${PLANNER}`;
    const inputs = associations.read(id) ?? assert.fail("there is no association");
    // The trust policy still names the service account.
    await associations.update(id, { ...inputs, roleArn: "arn:aws:iam::123456789012:role/another" });
    t.after(() => associations.update(id, inputs));
    const found = unexpected(await checkSimulatedAccess(simulation, outputs));
    assert.deepEqual(
      found.map(({ caller, service, reason }) => [caller.label, service, reason]),
      [["itself", "IAM role", "the service account is not associated with the role"]],
    );
  });

  test("AWS accepts no ID token that Pulumi Cloud receives", async () => {
    const rows = await checkSimulatedAccess(simulation, outputs);
    const others = rows.filter(
      ({ caller, service }) => caller.label === "other audience" && service === "IAM role",
    );
    assert.deepEqual(others.map(audienceOf), ["urn:pulumi:org:acme", "urn:pulumi:org:acme"]);
    assert.ok(others.every(({ allowed }) => !allowed));
  });

  test("finds a policy that also matches another service account of the stack", async (t) => {
    const rules = { '"kubernetes.io".namespace': "ci", '"kubernetes.io".pod.name': "*er-?????" };
    await changePolicies(t, simulation, (policies) => {
      return policies.map((policy) => (policy.tokenType === "team" ? { ...policy, rules } : policy));
    });
    assert.deepEqual(await allowed("Pulumi Cloud"), ["itself", "other audience", PLANNER]);
  });

  test("an expired token and an invalid signature are denied for that reason only", async (t) => {
    const { token } = simulation.issuer;
    t.mock.method(simulation.issuer, "token", (pod: PodIdentity, options: TokenOptions) =>
      token(pod, { ...options, expiresIn: 60 }),
    );
    // The signature stays as it is.
    t.mock.method(Uint8Array.prototype, "reverse", function (this: Uint8Array) {
      return this;
    });

    for (const service of ["Pulumi Cloud", "IAM role"] as const) {
      assert.deepEqual(await allowed(service), ["itself", "expired token", "invalid signature"]);
    }
  });
});

function account(id: string, tokenType: string, tokenScope: string, kind?: Role["kind"]): ServiceAccount {
  const [namespace = "", name = ""] = id.split("/");
  const token = { tokenType, tokenScope, audience: "a", audienceRule: false, settings: {} };
  return { namespace, name, ...token, role: kind && { arn: "arn", kind } };
}

test("a service account that is granted the same token is allowed as intended, but never to the role", () => {
  for (const [type, scope, otherScope, isShared] of [
    ["team", "team:a", "team:a", true],
    ["team", "team:a", "team:b", false],
    ["organization", "", "admin", true],
    ["organization", "admin", "", false],
  ] as const) {
    const questions = accessQuestions([
      account("a/a", type, scope, "irsa"),
      account("b/b", type, otherScope),
    ]);
    const intended = questions
      .filter(({ caller }) => caller.label === "b/b")
      .map((question) => question.intended);
    assert.deepEqual(intended, [isShared, false], `${type} ${scope} ${otherScope}`);
  }
});

test("a service account with the same token and a rule on another audience is denied as intended", async () => {
  const [a, b] = ["a/a", "b/b"].map((id) => ({
    ...account(id, "team", "team:a"),
    audienceRule: true,
    audience: id,
  }));
  assert.ok(a && b);
  const questions = accessQuestions([a, b, { ...b, name: "c", audienceRule: false }]);
  const intended = (label: string) =>
    questions.find((it) => it.account === a && it.caller.label === label)?.intended;
  assert.deepEqual([intended("b/b"), intended("b/c")], [false, true]);
});

test("the callers of other names are not service accounts of the stack", () => {
  const accounts = ["a/b", "a/b-2", "a-2/b"].map((id) => account(id, "team", "team:a"));
  const [, name, namespace] = accessQuestions(accounts).map(({ caller }) => idOf(caller));
  assert.deepEqual([name, namespace], ["a/b-3", "a-3/b"]);
});

test("reports every answer with its reason on request, and names that are too long for a column on their own line", () => {
  const long = account(`${"n".repeat(30)}/${"a".repeat(40)}`, "team", "team:a", "irsa");
  const rows = accessQuestions([long]).map((it) => ({ ...it, allowed: it.intended, reason: "because" }));
  const lines = accessLines(rows, true).join("\n");
  assert.doesNotMatch(lines, /.{81}/);
  assert.ok(lines.includes(`\n  ${idOf(long)}\n`));
  assert.match(lines, /^ +team:a +only itself +only itself\n {4}itself: allowed by Pulumi Cloud\.$/m);
  assert.match(lines, /^ {4}expired token: denied by IAM role \(because\)\.$/m);
});

/** Returns a row for each question, in which the service answers as intended. */
function intendedRows(accounts: ServiceAccount[]): Row[] {
  return accessQuestions(accounts).map((question) => ({
    ...question,
    allowed: question.intended,
    reason: "",
  }));
}

test("reads the service accounts in the order of the settings, whatever the order of the outputs", () => {
  const ids = ["b/b", "c/c", "a/a"];
  const policies = ids.map((id) => {
    const [namespace = "", name = ""] = id.split("/");
    return { rules: { '"kubernetes.io".namespace': namespace, '"kubernetes.io".serviceaccount.name': name } };
  });
  const volume = { projected: { sources: [{ serviceAccountToken: { audience: "urn:pulumi:org:acme" } }] } };
  const output = { tokenType: "organization", configMap: "", volume };
  const outputs = Object.fromEntries(ids.toSorted().map((id) => [id, output]));
  const accounts = readServiceAccounts(outputs, () => ({}), policies, []);
  assert.deepEqual(accounts.map(idOf), ids);
});

test("allows another audience as configured without audienceRule, and says so once", () => {
  const accounts = ["a/a", "b/b"].map((id) => account(id, "team", `team:${id}`, "irsa"));
  const rows = intendedRows(accounts);
  const other = rows.filter(({ caller }) => caller.defect === "other audience");
  assert.deepEqual(
    other.map(({ service, intended }) => [service, intended]),
    [
      ["Pulumi Cloud", true],
      ["IAM role", false],
      ["Pulumi Cloud", true],
      ["IAM role", false],
    ],
  );
  const report = accessLines(rows, false).join("\n");
  assert.deepEqual(report.match(/^.*audienceRule.*$/gm), [
    "  audienceRule is false, because Pulumi does not document how a rule matches a",
  ]);
  assert.match(
    accessLines(rows, true).join("\n"),
    /^ {4}other audience: allowed by Pulumi Cloud, as configured\.$/m,
  );

  const strict = intendedRows(accounts.map((it) => ({ ...it, audienceRule: true })));
  assert.doesNotMatch(accessLines(strict, true).join("\n"), /audienceRule|as configured/);
});

test("shows a denial of each service account, up to three, with another one of the stack first", () => {
  const denialsOf = (...accounts: ServiceAccount[]) =>
    accessLines(intendedRows(accounts), false).filter((line) => line.endsWith(": denied"));
  const one = account("a/a", "team", "team:a");
  assert.deepEqual(denialsOf(one), ["  a/a-2 requests team:a: denied"]);

  const secrets = account("b/secrets", "organization", "");
  assert.deepEqual(denialsOf(one, secrets), [
    "  b/secrets requests team:a: denied",
    "  a/a requests an organization token: denied",
  ]);
  const more = ["c", "d"].map((name) => account(`${name}/${name}`, "team", `team:${name}`));
  assert.equal(denialsOf(one, secrets, ...more).length, 3);
});

test("shows the token of each service account, and who else is granted it", () => {
  const sharing = ["a", "b", "c", "d", "e", "f", "g"].map((name) =>
    account(`ns/${name}`, "team", "team:ops"),
  );
  const others = [account("ns/x", "organization", "admin"), account("ns/y", "personal", "user:me")];
  const lines = accessLines(intendedRows([...sharing, ...others]), false);
  assert.match(lines[1] ?? "", /^ {2}ns\/a +team:ops +itself \(\+6\) +no role$/);
  assert.match(
    lines[2] ?? "",
    /^ {4}\(\+6\) granted the same access token: ns\/b, ns\/c, ns\/d, ns\/e, ns\/f, and 1 more$/,
  );
  assert.match(lines.join("\n"), /^ {2}ns\/x +organization \(admin\) +only itself +no role$/m);
  assert.match(lines.join("\n"), /^ {2}ns\/y +user:me +only itself +no role$/m);
});

test("shows characters that a terminal obeys or hides, and nothing of a value becomes Markdown", () => {
  const rows = intendedRows([account("a/a", "team", "team:\u202Eo\u001b[2J\u200bps|<img>*")]);
  const lines = accessLines(rows, true).join("\n");
  assert.ok(lines.includes("team:\\u{202e}o\\u{1b}[2J\\u{200b}ps|<img>*"));
  assert.doesNotMatch(accessMarkdown(rows).split("\n")[2] ?? "", /\p{Cc}|\p{Cf}|[<>*]|ps\|/u);
});

test("lists unexpected answers in Markdown, with what to compare", () => {
  const rows = intendedRows([account("a/a", "team", "team:a")]).map((row) => {
    const isChanged = ["itself", "expired token"].includes(row.caller.label);
    return { ...row, allowed: row.allowed !== isChanged };
  });
  assert.deepEqual(
    accessMarkdown(rows)
      .split("\n")
      .filter((line) => line.startsWith("- ")),
    [
      "- `a/a`, itself: **denied** by Pulumi Cloud. Check policyRules, tokenType, and the settings of the token.",
      "- `a/a`, expired token: **allowed** by Pulumi Cloud. No setting allows this. Compare the allow policy with npm start -- --policies.",
    ],
  );
});

test("asks the real services for no role of EKS Pod Identity, and says why", () => {
  const accounts = [
    account("a/a", "team", "team:a", "pod-identity"),
    account("b/b", "team", "team:b", "irsa"),
  ];
  const questions = liveQuestions(accounts, false);
  const roles = questions.filter(({ service }) => service === "IAM role");
  assert.ok(roles.length > 0 && roles.every((question) => question.account === accounts[1]));

  const rows = questions.map((question) => ({ ...question, allowed: question.intended, reason: "" }));
  const report = accessLines(rows, false);
  assert.match(report[1] ?? "", /^ {2}a\/a +team:a +only itself +not asked$/);
  assert.match(
    report.join(" ").replaceAll(/\s+/g, " "),
    /not asked: EKS Pod Identity issues the credentials of a role/,
  );
});

describe("a trust policy for EKS Pod Identity", () => {
  const tags = { "eks-cluster-arn": "arn", "kubernetes-namespace": "ci" };
  const statement = {
    Effect: "Allow",
    Principal: { Service: "pods.eks.amazonaws.com" },
    Action: ["sts:AssumeRole", "sts:TagSession"],
    Condition: {
      StringEquals: { "aws:RequestTag/eks-cluster-arn": "arn", "aws:RequestTag/kubernetes-namespace": "ci" },
    },
  };
  const isAllowed = (...statements: object[]) =>
    evaluatePodIdentityTrust({ Statement: statements.map((it) => ({ ...statement, ...it })) }, tags).allowed;

  test("allows both actions to this service, with every tag", () => {
    assert.ok(isAllowed({}));
  });

  for (const changes of [
    { Effect: "Deny" },
    { Action: ["sts:AssumeRole"] },
    { Action: ["sts:TagSession"] },
    { Principal: { Service: "ec2.amazonaws.com" } },
    { Condition: { StringEquals: { "aws:RequestTag/eks-cluster-arn": "another" } } },
    { Condition: { StringEquals: { "aws:PrincipalTag/eks-cluster-arn": "arn" } } },
    { Condition: { StringEquals: { "aws:RequestTag/unknown": "arn" } } },
  ]) {
    test(`denies with ${JSON.stringify(changes)}`, () => {
      assert.ok(!isAllowed(changes));
    });
  }

  test("denies what another statement allows", () => {
    assert.ok(!isAllowed({}, { Effect: "Deny" }));
  });
});
