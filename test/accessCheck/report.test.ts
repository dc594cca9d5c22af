// Who gets what, as the report says it.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { PlannedComponent } from "../../accessCheck/components";
import type { Finding } from "../../accessCheck/findings";
import { planFrom } from "../../accessCheck/plan";
import { readComponents } from "../../accessCheck/readComponents";
import { accessLines, type Report } from "../../accessCheck/report";
import type { Settings } from "../support/stack";
import {
  add,
  COMPONENT,
  checkSteps,
  type Draft,
  deployedPlan,
  newPlan,
  newPlanOf,
  SECRET,
  set,
  UNKNOWN,
} from "./draft";

const IN_TEAM = { namespace: "ns", tokenType: "team", teamName: "ops" };
const ORGANIZATION = { namespace: "ns", tokenType: "organization" };
const PERSONAL = { namespace: "ns", tokenType: "personal", userLogin: "alice" };

const ENTRIES: Settings[] = [
  ...["a", "b", "c", "d", "e", "f", "g"].map((name) => ({ ...IN_TEAM, name })),
  { ...ORGANIZATION, name: "admin", organizationAdmin: true },
  { ...ORGANIZATION, name: "organization" },
  { ...PERSONAL, name: "default", awsRole: "pod-identity", createServiceAccount: false },
  { ...PERSONAL, name: "helm", userLogin: "bob", awsRole: "irsa", createServiceAccount: false },
];

let component: PlannedComponent;
before(async () => {
  const serviceAccounts = ENTRIES.map((entry) => ({ ...entry, runJob: false }));
  component = componentIn(await newPlanOf({ serviceAccounts }));
});

function componentIn({ steps }: Pick<Draft, "steps">): PlannedComponent {
  return readComponents(planFrom(steps))[0] ?? assert.fail();
}

function reportOf(report: Partial<Report> = {}): string {
  return accessLines({ component, findings: [], ...report }).join("\n");
}

test("says who else is granted the same token, but that each role has one service account", () => {
  const report = reportOf();
  assert.match(report, /^ {2}ns\/a +team:ops +itself \(\+6\) +no role$/m);
  assert.match(report, /^ {4}\(\+6\) .* same access token: ns\/b, ns\/c, ns\/d, ns\/e, ns\/f, and 1 more$/m);
  assert.match(report, /^ {2}11 service accounts: as the settings intend\.$/m);
});

test("counts an administrator among those who can have the token of the organization, and not the reverse", () => {
  assert.match(reportOf(), /^ {2}ns\/admin +organization \(admin\)\s+only itself/m);
  assert.match(reportOf(), /^ {2}ns\/organization +organization +itself \(\+1\)/m);
});

test("says that every pod of a namespace can have what its default service account is granted", () => {
  assert.match(reportOf(), /^ {2}ns\/default +user:alice +every pod +every pod$/m);
  assert.match(reportOf(), /^ {2}every pod: of the namespace, since a pod that names no service account/m);
});

test("says that the user has to annotate a service account that exists already", () => {
  assert.match(reportOf(), /^ {2}ns\/helm +user:bob +only itself +once annotated$/m);
  assert.match(reportOf(), /^ {2}once annotated: createServiceAccount is false/m);
});

test("prints notes of the simulation below a service account, and those on all of them at the end", () => {
  const report = reportOf({ notes: [{ account: "ns/helm", text: "assumed: x" }, { text: "of all" }] });
  assert.match(report, /^ {2}ns\/helm .*\n {4}assumed: x$/m);
  assert.match(report, /^\n {2}of all\n\n {2}11 service accounts/m);
});

for (const [what, finding, token, role] of [
  ["of a token", { account: "ns/helm", about: "token" }, "see below", "once annotated"],
  ["of a role", { account: "ns/helm", about: "role" }, "only itself", "see below"],
  ["of all tokens", { about: "token" }, "see below", "once annotated"],
  ["of nothing that is granted", {}, "only itself", "once annotated"],
] satisfies [string, Omit<Finding, "text">, string, string][]) {
  test(`does not say who gets it beside a finding ${what}`, () => {
    const report = reportOf({ findings: [{ ...finding, text: "X." }] });
    const indent = "account" in finding ? 4 : 2;
    assert.match(report, RegExp(`^ {2}ns/helm +user:bob +${token} +${role}$.*^ {${indent}}X\\.$`, "ms"));
    assert.equal(report.split("X.").length, 2);
    assert.match(report, /^ {2}1 finding, 11 service accounts: not as the settings intend\.$/m);
  });
}

test("says what is not known yet", async () => {
  const draft = await newPlan(
    set(COMPONENT, "oidcProviderArn", UNKNOWN),
    set(COMPONENT, "serviceAccounts.1.userLogin", UNKNOWN),
    set(COMPONENT, "serviceAccounts.2.tokenType", "personal"),
    set(COMPONENT, "serviceAccounts.2.userLogin", UNKNOWN),
  );
  const report = reportOf({ component: componentIn(draft) });
  assert.match(report, /^ {2}ci\/deployer +team:a +only itself +not known yet$/m);
  assert.match(report, /^ {2}ops\/drift +personal:known after the update\s+not known yet +only itself$/m);
  assert.match(report, /^ {2}not known yet: it depends on a setting that is known after the update only\.$/m);
  // Two users that are not known can be different ones.
  assert.doesNotMatch(report, /same access token/);
});

test("says what depends on a secret setting, and which ID tokens can have any audience", async () => {
  const draft = await newPlan(
    set(COMPONENT, "serviceAccounts.1.policyRules", SECRET),
    set(COMPONENT, "serviceAccounts.2.audienceRule", true),
  );
  const report = reportOf({ component: componentIn(draft) });
  assert.match(report, /^ {2}ops\/drift +user:alice +secret +only itself$/m);
  assert.match(report, /Any audience is accepted in the ID tokens of ops\/drift, web\/runner:/);
});

test("says which role the rest of the program gives to pods that have none of the component", async () => {
  const names = { namespace: "web", name: "secrets" };
  const draft = await deployedPlan(
    add("aws:eks/podIdentityAssociation:PodIdentityAssociation", "logs", {
      namespace: "web",
      serviceAccount: "secrets",
      roleArn: "arn",
    }),
    add("kubernetes:core/v1:ServiceAccountPatch", "more", {
      metadata: { ...names, annotations: { "eks.amazonaws.com/role-arn": "x" } },
    }),
  );
  const unchanged = draft.steps.map((step) => ({
    ...step,
    op: "same",
    oldState: step.oldState ?? step.newState,
  }));
  assert.deepEqual(checkSteps(unchanged), { findings: [], changes: [] });
  const report = reportOf({ component: componentIn({ steps: unchanged }) });
  assert.match(
    report,
    /^ {2}web\/secrets +organization +only itself +other role\n {4}PodIdentityAssociation logs can give its pods the role "arn"\.\n {4}ServiceAccountPatch more can give its pods the role "x"\.$/m,
  );
  assert.match(report, /^ {2}other role: awsRole is none, and the rest of the program can/m);
});

test("says that pods are injected", async () => {
  const report = reportOf({ component: componentIn(await newPlan()) });
  assert.match(report, /^ {4}its pods get the exchange when they are created$/m);
});

test("shows characters that a terminal obeys or hides", async () => {
  const draft = await newPlan(set(COMPONENT, "serviceAccounts.0.teamName", "\u202Eo\u001b[2J\u200bps"));
  const report = reportOf({ component: componentIn(draft) });
  assert.ok(report.includes("team:\\u{202e}o\\u{1b}[2J\\u{200b}ps"));
});
