// `npm start -- --plan`: which plans it reads, and how it reports them. findings.test.ts has what it finds in one.

import assert from "node:assert/strict";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import { checkPlan, type PlanOptions } from "../../accessCheck/checkPlan";
import { temporaryDirectory } from "../support/temporaryDirectory";
import {
  add,
  COMPONENT,
  CONFIG_MAP,
  Draft,
  deployedPlan,
  type Edit,
  IRSA,
  ISSUER,
  ISSUER_URL,
  JOB,
  newPlan,
  READ_ONLY,
  set,
  setDeployed,
  setExisting,
} from "./draft";
import { check as checkText, planOf, refreshed } from "./plans";

const directory = temporaryDirectory({ after });

const OTHER_ACCOUNT = "ServiceAccount access.web.secrets";

/** Returns an edit of the operation of a resource. */
function op(resource: string, name: string): Edit {
  return (draft) => Object.assign(draft.step(resource), { op: name });
}

/** Checks a plan, or a file with this content. */
function check(plan: Draft | string, options: PlanOptions = {}) {
  return checkText(directory, typeof plan === "string" ? plan : planOf(plan.steps), options);
}

test("reports which settings change, who gets what, what the update does, and what was compared", async () => {
  const { exitCode, stdout, stderr } = await check(await newPlan());
  assert.match(stdout, /^Access check of a plan of stack dev: nothing is created outside this machine\.$/m);
  assert.match(stdout, /^Changed settings\n {2}new {6}the component {2}clusterArn:$/m);
  assert.match(stdout, /^ {2}web\/secrets +organization +none +as its settings say$/m);
  assert.match(stdout, /^ {2}4 service accounts: as the settings say, as far as they are known\.$/m);
  assert.match(stdout, /^What the update does\n {2}uses {7}pulumi:providers:pulumi$/m);
  assert.match(stdout, /^ {2}creates {4}23 resources of access, as its settings say$/m);
  assert.match(
    stdout,
    /\nCompared with the settings: nothing of this program is deployed yet\. .* belong\s+together\.$/s,
  );
  assert.deepEqual([exitCode, stderr], [0, ""]);
});

test("prints a finding below its service account, and ends with 1", async () => {
  const draft = await deployedPlan(set(ISSUER, "policies.0.teamName", "\u001b[2Jb"));
  const { exitCode, stdout } = await check(draft);
  assert.match(
    stdout,
    /^ {2}ci\/deployer +team:a +by IRSA +see below\n {4}Its allow policy: teamName is "\\u001b\[2Jb" instead of "a"\.$/m,
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
  assert.match(stdout, /^ {2}The update deletes component access, so nothing of it is compared\.$/m);
  assert.doesNotMatch(stdout, /Access check$/m);
  assert.equal(exitCode, 0);
});

test("prints all names of a row, and all of its details, in lines that fit", async () => {
  const draft = await deployedPlan(
    ...Array.from({ length: 3 }, (_, index) =>
      add("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", `binding-${index}`, {
        metadata: { namespace: "kube-system", name: `name-${index}` },
      }),
    ),
    set(JOB, "spec.template.spec.containers.0.command", [
      "/bin/sh",
      "x".repeat(20),
      "y".repeat(20),
      "z".repeat(20),
    ]),
  );
  const { rows } = await check(draft);
  assert.equal(
    rows,
    [
      "  changes    kubernetes:batch/v1:Job access.ci.deployer",
      "               (ci/deployer-token-exchange)",
      "               spec.template.spec.containers.token-exchange.command.0:",
      '                 "/var/run/secrets/pulumi.com/exchange-token.sh" → "/bin/sh"',
      "               spec.template.spec.containers.token-exchange.command.1: none →",
      '                 "xxxxxxxxxxxxxxxxxxxx"',
      "               spec.template.spec.containers.token-exchange.command.2: none →",
      '                 "yyyyyyyyyyyyyyyyyyyy"',
      "               spec.template.spec.containers.token-exchange.command.3: none →",
      '                 "zzzzzzzzzzzzzzzzzzzz"',
      "  creates    kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
      "               binding-0 (kube-system/name-0), binding-1 (kube-system/name-1),",
      "               binding-2 (kube-system/name-2)",
    ].join("\n"),
  );
});

test("prints no access token and no ID token, and all of a name that begins like one", async () => {
  const header = Buffer.from('{"alg":"RS256"}').toString("base64url");
  const image = "eyJregistry.example.com/pulumi";
  const draft = await deployedPlan(
    set(JOB, "spec.template.spec.containers.0.args", [`pul-${"0".repeat(40)}`, `${header}.e30.c2ln`, image]),
  );
  const { stdout } = await check(draft);
  assert.ok(stdout.includes(`"${image}"`));
  assert.ok(!stdout.includes(header) && !stdout.includes("pul-0"));
  assert.match(stdout, /\[redacted\]/);
});

test("says whether it compares with the state or with what exists", async () => {
  const draft = await deployedPlan();
  const { stdout } = await check(draft);
  assert.match(
    stdout,
    /\nCompared with the state, which can differ from what exists: preview with\n--refresh/,
  );
  const { stdout: withRefresh } = await check(planOf(refreshed(draft.steps)));
  assert.match(withRefresh, /\nCompared with what exists, as the preview has read it\./);
});

/** Plans of a deployed stack after a refresh, and the exit code with --expect-no-changes. */
const EXPECTED: [what: string, edits: Edit[], exitCode: number, printed: RegExp][] = [
  ["nothing changes", [], 0, /^ {2}No changes, as expected\.$/m],
  [
    "a resource changes",
    [set(JOB, "spec.backoffLimit", 0), op(JOB, "update")],
    1,
    /^ {2}1 change, none expected\.$/m,
  ],
  [
    "only a setting changes",
    [setDeployed(COMPONENT, "serviceAccounts.1.command", ["x"]), op(COMPONENT, "same")],
    1,
    /^ {2}1 change, none expected\.$/m,
  ],
  ["something is new elsewhere", [add("a:b:C", "app", {})], 1, /^ {2}1 change, none expected\.$/m],
  [
    "a component is not as its settings say",
    [set(JOB, "spec.backoffLimit", 1), op(JOB, "same")],
    1,
    /^ {2}1 finding, /m,
  ],
  [
    "a key of a ConfigMap is beside the program",
    [setExisting(CONFIG_MAP, "data.more", "x")],
    1,
    /^ {2}1 change, none/m,
  ],
  [
    "another program attaches a policy to a role",
    [setExisting(IRSA, "managedPolicyArns", [READ_ONLY, "arn:aws:iam::aws:policy/More"])],
    0,
    /^ {2}has beside the program\n.*policy arn:aws:iam::aws:policy\/More\n.*No changes, as expected\.\n/ms,
  ],
  [
    "the owner of a service account that exists already annotates it",
    [
      set(COMPONENT, "serviceAccounts.2.createServiceAccount", false),
      setDeployed(COMPONENT, "serviceAccounts.2.createServiceAccount", false),
      op(COMPONENT, "same"),
      setExisting(OTHER_ACCOUNT, "metadata.annotations", { "eks.amazonaws.com/role-arn": "arn" }),
      (draft) => {
        const step = draft.step(OTHER_ACCOUNT);
        step.op = "read";
        for (const state of [step.oldState, step.newState])
          Object.assign(state ?? {}, { external: true, id: "web/secrets" });
      },
    ],
    0,
    /annotation eks\.amazonaws\.com\/role-arn: arn\n/,
  ],
];

for (const [what, edits, expected, printed] of EXPECTED) {
  test(`ends with ${expected} if no changes are expected and ${what}`, async () => {
    const { steps } = await deployedPlan(...edits);
    const { exitCode, stdout, stderr } = await check(planOf(refreshed(steps)), { expectNoChanges: true });
    assert.equal(stderr, "");
    assert.match(stdout, printed);
    assert.equal(exitCode, expected);
  });
}

test("ends with 2 if no changes are expected and the plan does not say what exists", async () => {
  const { exitCode, stderr } = await check(await deployedPlan(), { expectNoChanges: true });
  assert.match(stderr, /^This plan compares the program with the state, .* Preview it with --refresh\.$/);
  assert.equal(exitCode, 2);
});

test("reads what a refresh found as what exists", async () => {
  const draft = await deployedPlan(setDeployed(ISSUER, "policies.1.rules.sub", "found"));
  const found = { ...draft.step(ISSUER), op: "update", newState: draft.step(ISSUER).oldState };
  const steps = refreshed(draft.steps).filter(({ op, urn }) => op !== "refresh" || urn !== found.urn);
  const { exitCode, rows } = await check(planOf([found, ...steps]));
  assert.match(rows, /^ {15}policies\.ops\/drift\.rules\.sub: "found" → none$/m);
  assert.equal(exitCode, 0);
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

test("takes no replacement of an earlier update that could not be deleted for the resource", async () => {
  const draft = await deployedPlan();
  const { urn, oldState } = draft.step(IRSA);
  const undeleted = { op: "delete-replaced", urn, oldState: { ...oldState, id: "old", delete: true } };
  const { exitCode, rows } = await check(planOf([undeleted, ...draft.steps]));
  assert.equal(rows, "  still has  aws:iam/role:Role access.ci.deployer (ID: old)");
  assert.equal(exitCode, 0);
});

test("ends with 1 where the Markdown is longer than GitHub shows, with the number of lines that are left out", async () => {
  const many = Array.from({ length: 12_000 }, (_, index) =>
    add("a:b:C", `c-${index}-${"x".repeat(40)}`, {}, { deletedWith: `${index}` }),
  );
  const draft = await deployedPlan(...many);
  const { exitCode, stdout } = await check(draft, { markdown: true });
  assert.ok(stdout.length < 950_000);
  assert.match(stdout, /^\d+ more lines are not shown\. For all of them, run it without --markdown\.\n```$/m);
  assert.equal(exitCode, 1);
  assert.equal((await check(draft)).exitCode, 0);
});

test("checks each component by its own objects, also with the same names, and knows who acts as the same owner", async () => {
  const draft = await newPlan();
  const others = new Draft(draft.steps.filter(({ urn }) => urn.includes("PulumiCloudAccess")));
  const other = JSON.parse(
    JSON.stringify(others.steps)
      .replaceAll(/(?<=[:"])access(?=[."])/g, "other")
      .replaceAll("EXAMPLED", "OTHERD"),
  );
  const { exitCode, stdout } = await check(planOf([...other, ...draft.steps]));
  const [, ofAccess = "", ofOther = ""] = stdout.split(/^Component \w+$/m);
  assert.match(ofAccess, / act as the same team:a: ci\/deployer,\s+ci\/deployer\s+of\s+other\.$/m);
  assert.match(ofOther, / act as the same team:a: ci\/deployer\s+of\s+access,\s+ci\/deployer\.$/m);
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
    "a plan that only refreshes",
    async () => planOf(refreshed((await deployedPlan()).steps).filter(({ op }) => op === "refresh")),
    'This plan only refreshes PulumiCloudAccess "access". Preview the update: pulumi preview --refresh',
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
    assert.doesNotMatch(stdout, /^(Access check$|Compared)/m);
    assert.equal(exitCode, 2);
  });
}

test("reads a preview that succeeded, whatever its program has printed", async () => {
  const printed = { severity: "info#err", message: "Error: not the language host's\n" };
  const plan = { ...JSON.parse(planOf((await deployedPlan()).steps)), diagnostics: [printed] };
  assert.equal((await check(JSON.stringify(plan))).exitCode, 0);
});

test("reads a plan in UTF-16, as Windows PowerShell writes it", async () => {
  const text = planOf((await deployedPlan()).steps);
  const { exitCode, stderr } = await checkText(directory, Buffer.from(`\ufeff${text}`, "utf16le"));
  assert.deepEqual([exitCode, stderr], [0, ""]);
});

test("says why it cannot read a file", async () => {
  const errors: string[] = [];
  const missing = join(directory, "missing.json");
  const output = { log() {}, error: (line: string) => errors.push(line.trim()) };
  assert.equal(await checkPlan(missing, {}, output), 2);
  assert.deepEqual(errors, [`Failed to read ${missing}: ENOENT: no such file or directory`]);
});
