// Who gets what, as the report says it.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { comparisonOf } from "../../accessCheck/compare";
import { isRemaining, type RemainingComponent, readComponents } from "../../accessCheck/components";
import { planFrom } from "../../accessCheck/plan";
import { accessLines, type Report } from "../../accessCheck/report";
import type { Settings } from "../support/stack";
import { COMPONENT, type Draft, IRSA, ISSUER, newPlan, newPlanOf, set, UNKNOWN } from "./draft";

const IN_TEAM = { namespace: "ns", tokenType: "team", teamName: "ops" };
const ORGANIZATION = { namespace: "ns", tokenType: "organization" };
const PERSONAL = { namespace: "ns", tokenType: "personal", userLogin: "alice" };

const ENTRIES: Settings[] = [
  ...["a", "b", "c", "d", "e", "f"].map((name) => ({ ...IN_TEAM, name })),
  { ...IN_TEAM, teamName: "Ops", name: "g" },
  { ...ORGANIZATION, name: "admin", organizationAdmin: true },
  { ...ORGANIZATION, name: "organization" },
  ...["role-a", "role-b"].map((name) => ({ ...ORGANIZATION, organizationRoleId: "reader", name })),
  { ...ORGANIZATION, organizationRoleId: "writer", name: "role-c" },
  { ...PERSONAL, name: "default", awsRole: "pod-identity", createServiceAccount: false },
  { ...PERSONAL, name: "helm", userLogin: "bob", awsRole: "irsa", createServiceAccount: false },
  { ...PERSONAL, name: "injected", userLogin: "carol", injectToken: true },
];

let component: RemainingComponent;
before(async () => {
  const serviceAccounts = ENTRIES.map((entry) => ({ ...entry, runJob: false }));
  component = componentIn(await newPlanOf({ serviceAccounts }));
});

function componentIn({ steps }: Pick<Draft, "steps">): RemainingComponent {
  return readComponents(planFrom(steps)).filter(isRemaining)[0] ?? assert.fail();
}

function reportOf(report: Partial<Report> = {}): string {
  const { unknown, unknownRoles } = comparisonOf(report.component ?? component);
  return accessLines({ component, findings: [], unknown, unknownRoles, ...report }).join("\n");
}

test("says whose token it is, who acts as the same owner, and which role it has", () => {
  const report = reportOf();
  assert.match(report, /^ {2}ns\/a +team:ops +none +as its settings say$/m);
  assert.match(report, /^ {2}Team permissions aren't checked\.$/m);
  // Names that differ in their case only are the same team.
  assert.match(
    report,
    /^ {2}These service accounts act as the same team:ops: ns\/a, ns\/b, ns\/c, ns\/d, ns\/e,\s+ns\/f, ns\/g\.$/m,
  );
  // Organization tokens have the same permissions if they have the same role.
  assert.match(report, /^ {2}ns\/role-a +organization \(role reader\)\s+none /m);
  assert.match(
    report,
    /^ {2}These service accounts act as the same organization \(role reader\): ns\/role-a,\s+ns\/role-b\.$/m,
  );
  assert.equal(report.split("These service").length, 3);
  assert.match(report, /^ {2}15 service accounts: as the settings say, as far as they are known\.$/m);
});

test("says what the token of an administrator can do", () => {
  assert.match(
    reportOf(),
    /^ {2}ns\/admin +organization \(admin\) .*\n {4}this token can do everything in the organization$/m,
  );
});

test("says that every pod of a namespace can have what its default service account is granted", () => {
  assert.match(
    reportOf(),
    /^ {2}ns\/default +user:alice +not known yet .*\n {4}every pod of ns that names no/m,
  );
});

test("prints notes of the simulation below a service account, and those on all of them at the end", () => {
  const report = reportOf({ notes: [{ account: "ns/helm", text: "assumed: x" }, { text: "of all" }] });
  assert.match(report, /^ {2}ns\/helm .*\n {4}annotate it yourself .*\n(?: {6}.*\n)? {4}assumed: x$/m);
  assert.match(report, /^\n {2}of all\n\n {2}15 service accounts/m);
});

for (const [what, account, verdicts] of [
  ["a service account", "ns/helm", ["see below", "as its settings say"]],
  ["all of them", undefined, ["see below", "see below"]],
] as const) {
  test(`says that nothing is as its settings say beside a finding about ${what}`, () => {
    const report = reportOf({ findings: [{ ...(account && { account }), text: "X." }] });
    for (const [index, name] of ["helm", "organization"].entries()) {
      assert.match(report, RegExp(`^ {2}ns/${name} .* ${verdicts[index]}$`, "m"));
    }
    assert.match(report, RegExp(`^ {${account ? 4 : 2}}X\\.$`, "m"));
    assert.equal(report.split("X.").length, 2);
    assert.match(report, /^ {2}1 finding, 15 service accounts: not as the settings say\.$/m);
  });
}

test("says what is not known yet", async () => {
  const draft = await newPlan(
    set(COMPONENT, "oidcProviderArn", UNKNOWN),
    set(IRSA, "assumeRolePolicy", UNKNOWN),
    ...[1, 2].flatMap((index) => [
      set(COMPONENT, `serviceAccounts.${index}.tokenType`, "personal"),
      set(COMPONENT, `serviceAccounts.${index}.userLogin`, UNKNOWN),
      set(ISSUER, `policies.${index}.userLogin`, UNKNOWN),
    ]),
  );
  const report = reportOf({ component: componentIn(draft) });
  assert.match(report, /^ {2}ci\/deployer +team:a +not known yet +not known yet$/m);
  assert.match(report, /^ {2}ops\/drift +personal:known after the update\s+not known yet +not known yet$/m);
  assert.match(report, /^ {2}web\/runner +runner:eks +none +as its settings say$/m);
  assert.match(report, /^ {2}not known yet: it is known after the update only\.$/m);
  assert.match(report, /^ {2}4 service accounts: as the settings say, as far as they are known\.$/m);
  // Two users that are not known can be different ones.
  assert.doesNotMatch(report, /act as the same/);
});

test("says what no Job tests, and what the user has to annotate", () => {
  const report = reportOf();
  assert.match(
    report,
    /^ {2}ns\/injected .*\n {4}injectToken adds the exchange to its pods, and no Job tests it$/m,
  );
  assert.match(report, /^ {2}ns\/helm .*\n {4}annotate it yourself with eks\.amazonaws\.com\/role-arn, or /m);
});

test("says that ID tokens can have any audience", async () => {
  const reportWith = async (rule: boolean) => {
    return reportOf({ component: componentIn(await newPlan(set(COMPONENT, "audienceRule", rule))) });
  };
  assert.match(await reportWith(false), /Any audience is accepted in the ID tokens: audienceRule is off\./);
  assert.doesNotMatch(await reportWith(true), /audience/);
});

test("shows characters that a terminal obeys or hides", async () => {
  const draft = await newPlan(set(COMPONENT, "serviceAccounts.0.teamName", "\u202Eo\u001b[2J\u200bps"));
  const report = reportOf({ component: componentIn(draft) });
  assert.ok(report.includes("team:\\u{202e}o\\u{1b}[2J\\u{200b}ps"));
});
