// `npm start -- --plan`: which plans it reads, and how it reports them. findings.test.ts has what it finds in one.

import assert from "node:assert/strict";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import { checkPlan } from "../../accessCheck/checkPlan";
import type { ReportOptions } from "../../accessCheck/screen";
import { temporaryDirectory } from "../support/temporaryDirectory";
import {
  add,
  COMPONENT,
  Draft,
  deployedPlan,
  type Edit,
  ISSUER,
  ISSUER_URL,
  JOB,
  newPlan,
  POD_IDENTITY,
  SECRET,
  set,
  setDeployed,
} from "./draft";
import { check as checkText, planOf } from "./plans";

const directory = temporaryDirectory({ after });

/** Checks a plan, or a file with this content. */
function check(plan: Draft | string, options: ReportOptions = {}) {
  return checkText(directory, typeof plan === "string" ? plan : planOf(plan.steps), options);
}

test("reports what changes, and who gets what", async () => {
  const { exitCode, stdout, stderr } = await check(await newPlan());
  assert.match(stdout, /^Access check of a plan of stack dev: nothing is created outside this machine\.$/m);
  assert.match(stdout, /^What the plan changes\n {2}new {6}the component {2}clusterArn:$/m);
  assert.match(stdout, /^ {2}ci\/deployer +team:a +by IRSA +as its settings say$/m);
  assert.match(stdout, /^ {2}4 service accounts: as the settings say\.$/m);
  assert.match(
    stdout,
    /^Elsewhere in the program\n {2}creates {3}pulumi:providers:pulumiservice pulumi-cloud$/m,
  );
  assert.match(stdout, /\nPlan only: it cannot tell .* belong together\.$/s);
  assert.deepEqual([exitCode, stderr], [0, ""]);
});

test("prints a finding below its service account, and ends with 1", async () => {
  const draft = await deployedPlan(set(ISSUER, "policies.0.teamName", "\u001b[2Jb"));
  const { exitCode, stdout } = await check(draft);
  assert.match(
    stdout,
    /^ {2}ci\/deployer +team:a +by IRSA +see below\n.*^ {4}Its allow policy: teamName is "\\u001b\[2Jb" instead of "a"\.$/ms,
  );
  assert.match(stdout, /^ {2}1 finding, 4 service accounts: not as the settings say\.$/m);
  assert.ok(!stdout.includes("\u001b"));
  assert.equal(exitCode, 1);
});

test("shows a component that the update deletes, and compares nothing of it", async () => {
  const draft = await deployedPlan();
  for (const step of draft.steps) Object.assign(step, { op: "delete", newState: null });
  const { exitCode, stdout } = await check(draft);
  assert.match(
    stdout,
    /^ {2}removed {2}the component .*^ {2}removed {2}web\/secrets +token: organization$/ms,
  );
  assert.doesNotMatch(stdout, /Access check$/m);
  assert.equal(exitCode, 0);
});

test("reads what a refresh found as what is deployed", async () => {
  const draft = await deployedPlan(setDeployed(ISSUER, "policies.1.rules.sub", "found"));
  const refreshes = draft.steps.map((it) => ({ ...it, op: "refresh", newState: it.oldState }));
  const found = { ...draft.step(ISSUER), op: "update", newState: draft.step(ISSUER).oldState };
  const { exitCode, changes } = await check(planOf([...refreshes, found, ...draft.steps]));
  assert.equal(changes, '  changed  ops/drift  its allow policy rules.sub: "found" → none');
  assert.equal(exitCode, 0);
});

test("reads the steps of a replacement as one resource, and lists it although its values stay", async () => {
  const draft = await deployedPlan();
  const replaced = [ISSUER, JOB].map((it) => draft.step(it).urn);
  const steps = draft.steps.flatMap((step) => {
    if (!replaced.includes(step.urn)) return step;
    return ["create-replacement", "replace", "delete-replaced"].map((op) => ({
      ...step,
      op,
      newState: op === "delete-replaced" ? null : step.newState,
    }));
  });
  const { exitCode, changes } = await check(planOf(steps));
  assert.equal(exitCode, 0);
  assert.deepEqual(changes?.split("\n"), [
    "  changed  OidcIssuer access.oidc-issuer  is replaced",
    "  changed  Job access.ci.deployer         is replaced",
  ]);
});

for (const op of ["discard-replaced", "remove-pending-replace"]) {
  test(`reads a resource with a new state, and another step ${op} without one`, async () => {
    const issuer = { organization: "acme", url: `https://${ISSUER_URL}`, name: "second" };
    const draft = await deployedPlan(add("pulumiservice:index:OidcIssuer", "second", issuer));
    const { urn, newState } = draft.step("OidcIssuer second");
    draft.steps.push({ op, urn, oldState: newState });
    const { exitCode, stdout } = await check(draft);
    assert.match(stdout, /^ {2}OidcIssuer second registers the cluster's issuer a second time/m);
    assert.equal(exitCode, 1);
  });
}

test("ends with 1 where the Markdown is longer than GitHub shows, with the number of lines that are left out", async () => {
  const secrets = Array.from({ length: 12_000 }, (_, index) =>
    add("kubernetes:core/v1:Secret", `secret-${index}-${"x".repeat(40)}`, {}),
  );
  const draft = await deployedPlan(...secrets);
  const { exitCode, stdout } = await check(draft, { markdown: true });
  assert.ok(stdout.length < 950_000);
  assert.match(stdout, /^\d+ more lines are not shown\. For all of them, run it without --markdown\.\n```$/m);
  assert.equal(exitCode, 1);
  assert.equal((await check(draft)).exitCode, 0);
});

test("checks each component by its own objects, also with the same names, and knows who shares a token", async () => {
  const draft = await newPlan();
  const others = new Draft(draft.steps.filter(({ urn }) => urn.includes("PulumiCloudAccess")));
  const other = JSON.parse(
    JSON.stringify(others.steps)
      .replaceAll(/(?<=[:"])access(?=[."])/g, "other")
      .replaceAll("EXAMPLED", "OTHERD"),
  );
  const { exitCode, stdout } = await check(planOf([...other, ...draft.steps]));
  const [, ofAccess = "", ofOther = ""] = stdout.split(/^Component \w+$/m);
  assert.match(ofAccess, /^ {4}\(\+1\) the same access token: ci\/deployer of other$/m);
  assert.match(ofOther, /^ {4}\(\+1\) the same access token: ci\/deployer of access$/m);
  assert.doesNotMatch(stdout, /OidcIssuer/);
  assert.equal(exitCode, 0, stdout);

  for (const [name, value] of [
    ["organization", "other"],
    ["pulumiApiUrl", "https://example.com"],
  ] as const) {
    const component = other.find(({ urn }: { urn: string }) => urn.endsWith("PulumiCloudAccess::other"));
    const inputs = { ...component.newState.inputs, [name]: value };
    const elsewhere = { ...component, newState: { ...component.newState, inputs } };
    const steps = [...other.map((it: unknown) => (it === component ? elsewhere : it)), ...draft.steps];
    assert.doesNotMatch((await check(planOf(steps))).stdout, /ci\/deployer of/);
  }
});

test("prints everything as one code block of Markdown, which no value ends", async () => {
  const draft = await newPlan(set(ISSUER, "policies.0.teamName", "a\n```\n<b>"));
  const { stdout } = await check(draft, { markdown: true });
  assert.match(stdout, /^```text\nAccess check of a plan.*belong\ntogether\.|^```text\nAccess check/s);
  assert.deepEqual(stdout.match(/```.*/g), ["```text", "```"]);
  assert.ok(stdout.endsWith("\n```"));
});

test("prints the policies as JSON, with words for what is not known", async () => {
  const plan = await newPlan(set(POD_IDENTITY, "assumeRolePolicy", SECRET));
  const { stdout } = await check(plan, { policies: true });
  const { access } = JSON.parse(stdout);
  assert.equal(access["ci/deployer"].allowPolicy.teamName, "a");
  assert.equal(access["ops/drift"].trustPolicy, "secret");
  assert.equal(access["web/secrets"].trustPolicy, null);
});

test("reads standard input, for a file with the name -", async (t) => {
  t.mock.getter(process, "stdin", () => Readable.from([Buffer.from("{}")]));
  const errors: string[] = [];
  await checkPlan("-", {}, { log() {}, error: (line: string) => errors.push(line) });
  assert.match(errors.join(), /^\nStandard input is not what `pulumi preview --json/);
});

const file = join(directory, "plan.json");
const NOT_A_PLAN = `${file} is not what \`pulumi preview --json --show-sames\` prints, or not all of it.`;
const WARNING = { severity: "warning", message: "warning: x" };
const FAILED = { diagnostics: [WARNING, { severity: "error", message: "error: no \u001b[2J\n" }] };
const PRINTED = [WARNING, { severity: "info#err", message: "\u001b[31mError\u001b[0m: a has no b\n\n" }];
const ALL = "Preview all of the program: with --show-sames, and without --target.";

/** Returns a plan with this change. */
const changed = async (edit: Edit) => planOf((await deployedPlan(edit)).steps);
const omit = (resource: string) => {
  return changed((draft) => draft.steps.splice(draft.steps.indexOf(draft.step(resource)), 1));
};

for (const [what, plan, message] of [
  ["an empty file", () => "", `${file} is empty. Did the preview fail?`],
  ["another format", () => '{"version":3,"deployment":{}}', NOT_A_PLAN],
  ["a part of a plan", () => planOf([]).slice(0, -9), NOT_A_PLAN],
  ["a failed preview", () => JSON.stringify(FAILED), "The preview failed: no"],
  [
    "the failed preview of a program in YAML, which lacks what follows the error",
    async () => JSON.stringify({ ...JSON.parse(planOf((await deployedPlan()).steps)), diagnostics: PRINTED }),
    "The preview failed: a has no b",
  ],
  [
    "an interrupted preview",
    () => '{"steps":[]}',
    "The preview failed: its result has no changeSummary. Was it interrupted?",
  ],
  [
    "another program",
    () => planOf([]),
    `This plan has no PulumiCloudAccess. Is this the right program's plan? ${ALL}`,
  ],
  [
    "a preview with --target",
    () => omit("ConfigMap access.web.secrets.pulumi-token-exchange"),
    `This plan has only a part of PulumiCloudAccess "access". ${ALL}`,
  ],
  [
    "no inputs",
    () => changed((draft) => Object.assign(draft.step(COMPONENT), { newState: {} })),
    'PulumiCloudAccess "access" has no inputs. Unset PULUMI_NODEJS_SKIP_COMPONENT_INPUTS',
  ],
  [
    "a list of service accounts in another form",
    () => changed(set(COMPONENT, "serviceAccounts.4", "x")),
    'PulumiCloudAccess "access" has inputs of another version of this project.',
  ],
] satisfies [string, () => string | Promise<string>, string][]) {
  test(`exits 2 for ${what}, with what to do`, async () => {
    const { exitCode, stdout, stderr } = await check(await plan());
    assert.ok(stderr.startsWith(message), stderr);
    // Nothing was compared.
    assert.doesNotMatch(stdout, /^(Access check$|Plan only)/m);
    assert.equal(exitCode, 2);
  });
}

test("says why it cannot read a file", async () => {
  const errors: string[] = [];
  const missing = join(directory, "missing.json");
  const output = { log() {}, error: (line: string) => errors.push(line.trim()) };
  assert.equal(await checkPlan(missing, {}, output), 2);
  assert.deepEqual(errors, [`Failed to read ${missing}: ENOENT: no such file or directory`]);
});
