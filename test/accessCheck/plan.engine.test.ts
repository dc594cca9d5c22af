// Plans of the stack on Pulumi's engine: what each change of its settings shows. package.engine.test.ts has those of other programs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { succeeded } from "../support/engineOutcome";
import { emptyStack } from "../support/engineStack";
import { missingCli } from "../support/pulumiCli";
import { checkedPlan } from "./plans";

const READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const DEPLOYER = { namespace: "ci", name: "deployer", tokenType: "team", teamName: "a", awsRole: "irsa" };
const DRIFT = {
  namespace: "ops",
  name: "drift",
  tokenType: "team",
  teamName: "ops",
  awsRole: "pod-identity",
};
const SECRETS = { namespace: "web", name: "secrets", tokenType: "organization", awsRole: "none" };
const JOB = "Job: pulumi whoami, in pulumi/pulumi-base:3.274.1";
const TEAMS = [{ name: "a", stacks: [{ stack: "app/prod", permission: "edit" }] }];

// The parts of the test depend on those before them.
test("a plan of the real engine shows what it changes, and grants each token to its service account only", {
  skip: missingCli,
}, async (t) => {
  const settings = { userLogin: "", serviceAccounts: [DEPLOYER, DRIFT, SECRETS], teams: TEAMS };
  const { pulumi, set, up } = await emptyStack(t, settings);

  const created = await checkedPlan(t, pulumi);
  assert.match(created.changes, /^ {2}new {6}OIDC issuer .* {2}new {6}ci\/deployer .* {2}new {6}team a {2}/s);
  assert.match(created.stdout, /^ {2}3 service accounts: as the settings intend\.$/m);
  assert.equal(created.exitCode, 0);
  succeeded(await up());

  const MOVED = { ...DEPLOYER, teamName: "b" };
  for (const [what, serviceAccounts, changed] of [
    ["nothing", [DEPLOYER, DRIFT, SECRETS], ["Nothing changes who is granted what."]],
    [
      "a role's policy",
      [{ ...DEPLOYER, rolePolicyArns: [READ_ONLY] }, DRIFT, SECRETS],
      ["changed ci/deployer", `role policies: none → ${READ_ONLY}`],
    ],
    [
      "a claim rule",
      [{ ...DEPLOYER, policyRules: { '"kubernetes.io".pod.name': "app-*" } }, DRIFT, SECRETS],
      ["changed ci/deployer", 'further rules: none → "kubernetes.io".pod.name = app-*'],
    ],
    [
      "an admin",
      [DEPLOYER, DRIFT, { ...SECRETS, organizationAdmin: true }],
      ["changed web/secrets", "token: organization → organization (admin)"],
    ],
    [
      "a new entry",
      [DEPLOYER, DRIFT, SECRETS, { ...DRIFT, name: "more" }],
      ["new ops/more", "token: team:ops", "lifetime: 7200 s", "role: pod-identity", JOB],
    ],
    [
      "a removed entry",
      [DEPLOYER, SECRETS],
      ["removed ops/drift", "token: team:ops", "lifetime: 7200 s", "role: pod-identity", JOB],
    ],
    [
      "another team",
      [MOVED, DRIFT, SECRETS],
      [
        "changed ci/deployer",
        "token: team:a → team:b",
        "removed team a",
        "team: not deleted, and not of this program",
        "members 0: admin",
        "stack app/prod: edit",
      ],
    ],
  ] as const) {
    await t.test(`of ${what}`, async () => {
      await set("teams", serviceAccounts.some((it) => it === MOVED) ? [] : TEAMS);
      await set("serviceAccounts", serviceAccounts);
      for (const options of [[], ["--refresh"]]) {
        const { exitCode, stdout, changes } = await checkedPlan(t, pulumi, ...options);
        assert.equal(changes.replaceAll(/\s+/g, " ").trim(), changed.join(" "));
        assert.match(stdout, /^ {2}\d service accounts: as the settings intend\.$/m);
        assert.equal(exitCode, 0);
      }
    });
  }

  // Nothing knows the ARN of the new role.
  await t.test("of replaced roles", async () => {
    await set("teams", TEAMS);
    await set("serviceAccounts", [DEPLOYER, DRIFT, SECRETS]);
    await set("rolePath", "/pulumi/");
    const { exitCode, stdout, changes } = await checkedPlan(t, pulumi);
    for (const [id, ...details] of [
      ["ci/deployer", /service account metadata\.annotations\.\S+: "arn:\S+" → known after the update/],
      ["ops/drift", /association roleArn: "arn:\S+" → known after the update/],
    ] as const) {
      const [, change = ""] =
        RegExp(`changed ${id} (.*?)(changed|$)`).exec(changes.replaceAll(/\s+/g, " ")) ?? [];
      for (const detail of [...details, /role's inputs path: "\/" → "\/pulumi\/"/])
        assert.match(change, detail);
    }
    assert.equal(exitCode, 0, stdout);
  });
});
