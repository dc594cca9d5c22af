// Plans of the stack on Pulumi's engine: what each change of its settings shows. package.engine.test.ts has those of other programs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { succeeded } from "../support/engineOutcome";
import { emptyStack } from "../support/engineStack";
import { missingCli } from "../support/pulumiCli";
import { checkedPlan } from "./plans";

const READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const DEPLOYER = {
  namespace: "ci",
  name: "deployer",
  tokenType: "team",
  teamName: "a",
  awsRole: "irsa",
  injectToken: true,
};
const DRIFT = { namespace: "ops", name: "drift", tokenType: "team", teamName: "b", awsRole: "pod-identity" };
const SECRETS = { namespace: "web", name: "secrets", tokenType: "organization", awsRole: "none" };
const ENTRIES = [DEPLOYER, DRIFT, SECRETS];

const CHANGED_ENTRIES = [
  { ...DEPLOYER, teamName: "b", rolePolicyArns: [READ_ONLY], policyRules: { sub: "*:deployer" } },
  { ...SECRETS, organizationAdmin: true },
  { ...DRIFT, name: "more" },
];
const OF_DRIFT = `token: team:b
  awsRole: pod-identity
  command: pulumi whoami
  tokenExpirationSeconds: 3600`;
const CHANGES = `
changed ci/deployer
  token: team:a → team:b
  policyRules.sub: none → *:deployer
  rolePolicyArns: none → ${READ_ONLY}
changed web/secrets
  token: organization → organization (admin)
new ops/more
  ${OF_DRIFT}
removed ops/drift
  ${OF_DRIFT}`;

test("the plan of a stack that creates its cluster and a namespace grants each token as the settings say", {
  skip: missingCli,
}, async (t) => {
  const inNewNamespace = [DEPLOYER, { ...DRIFT, runJob: false }, { ...SECRETS, namespace: "ops" }];
  const created = { createCluster: true, createNamespaces: ["ci", "ops"] };
  const { pulumi } = await emptyStack(t, { serviceAccounts: inNewNamespace, ...created });
  const { exitCode, stdout } = await checkedPlan(t, pulumi);
  assert.match(stdout, /^ {2}3 service accounts: as the settings say, as far as they are known\.$/m);
  assert.equal(exitCode, 0, stdout);
});

// The parts of the test depend on those before them.
test("a plan of the real engine shows what it changes, and grants each token to its service account only", {
  skip: missingCli,
}, async (t) => {
  const { simulation, pulumi, set, up } = await emptyStack(t, { serviceAccounts: ENTRIES });
  const calls = Object.values(simulation.resources).flatMap((kind) =>
    (["create", "update", "delete"] as const).map((method) => t.mock.method(kind, method).mock),
  );
  const callCount = () => calls.reduce((count, call) => count + call.callCount(), 0);

  /** Checks the plan of these settings, with which everyone gets what these say. Returns those that change as one line. */
  async function changesWith(settings: Record<string, unknown>, ...options: string[]): Promise<string> {
    for (const [name, value] of Object.entries(settings)) await set(name, value);
    const before = callCount();
    const { exitCode, stdout, settings: changed } = await checkedPlan(t, pulumi, ...options);
    assert.equal(callCount(), before, "a preview changes nothing");
    assert.match(stdout, /^ {2}3 service accounts: as the settings say(, as far as they are known)?\.$/m);
    assert.equal(exitCode, 0, stdout);
    return oneLine(changed);
  }

  await t.test("of a new stack", async () => {
    const changes = await changesWith({});
    assert.match(changes, /^new the component .* new ci\/deployer .* new ops\/drift .* new web\/secrets /);
  });
  succeeded(await up());

  for (const options of [[], ["--refresh"]]) {
    await t.test(`of a deployed stack ${options}`, async () => {
      const unchanged = await changesWith({ serviceAccounts: ENTRIES }, ...options);
      assert.equal(unchanged, "None.");
      const changed = await changesWith({ serviceAccounts: CHANGED_ENTRIES }, ...options);
      assert.equal(changed, oneLine(CHANGES));
    });
  }

  // What depends on them knows their ARNs.
  await t.test("of roles that change", async () => {
    const permissionsBoundaryArn = "arn:aws:iam::123456789012:policy/boundary";
    const changes = await changesWith({ serviceAccounts: ENTRIES, permissionsBoundaryArn });
    assert.equal(changes, `changed the component permissionsBoundaryArn: none → ${permissionsBoundaryArn}`);
  });

  // Nothing knows the ARN of the new role.
  await t.test("of replaced roles", async () => {
    const changes = await changesWith({ permissionsBoundaryArn: "", rolePath: "/pulumi/" });
    assert.equal(changes, "changed the component rolePath: / → /pulumi/");
  });
});

function oneLine(changes: string): string {
  return changes.replaceAll(/\s+/g, " ").trim();
}
