// `npm start -- --plan`: what a plan changes, and who would be granted what. plan.engine.test.ts has plans of the real engine.

import assert from "node:assert/strict";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { checkPlan } from "../../simulator/checkPlan";
import { type Registration, runProgram } from "../../simulator/runProgram";
import type { ReportOptions } from "../../simulator/screen";
import { type Settings, stackOf, startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { inOneLine } from "./liveTools";
import { check as checkText, type PlanStep, planOf, stepsOf, UNKNOWN } from "./plans";

const directory = temporaryDirectory({ after });

const ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
const READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const DEPLOYER = { namespace: "ci", name: "deployer", tokenType: "team", teamName: "a", awsRole: "irsa" };
const DRIFT = { namespace: "ci", name: "drift", tokenType: "team", teamName: "ops", awsRole: "pod-identity" };
const SECRETS = { namespace: "web", name: "secrets", tokenType: "organization", awsRole: "none" };
const RUNNER = {
  namespace: "ci",
  name: "runner",
  tokenType: "runner",
  runnerId: "id",
  runnerName: "eks",
  awsRole: "none",
};

let deployed: Registration[];
before(async () => {
  deployed = await programWith([DEPLOYER, DRIFT, SECRETS]);
});

/** Returns what the program registers with these entries, on a cluster with this issuer and with the same names of roles. */
async function programWith(entries: Settings[], settings: Settings = {}): Promise<Registration[]> {
  const simulation = await startCluster();
  const serviceAccounts = entries.map((entry) => ({ ...entry, runJob: false }));
  const program = stackOf({ ...settings, serviceAccounts });
  const { registered } = await runProgram(simulation, program).finally(simulation.close);
  const json = JSON.stringify(registered).replaceAll(simulation.issuer.url.replace("https://", ""), ISSUER);
  return JSON.parse(json.replaceAll(/(?<=pulumi-oidc-[\w-]+-)[0-9a-f]{26}/g, "0".repeat(26)));
}

/** Checks a plan with these steps, or with this content. */
function check(plan: PlanStep[] | string, options: ReportOptions = {}) {
  return checkText(directory, typeof plan === "string" ? plan : planOf(plan), options);
}

/** Returns the steps in which the JSON of some states is edited. */
function edited(steps: PlanStep[], key: "oldState" | "newState", edit: (json: string) => string): PlanStep[] {
  const all = steps.map((step) => ({
    ...step,
    [key]: step[key] && JSON.parse(edit(JSON.stringify(step[key]))),
  }));
  assert.notDeepEqual(all, steps);
  return all;
}

/** Returns the steps of a refresh that finds what is deployed. */
function refreshesOf(registered: Registration[]): PlanStep[] {
  return stepsOf(registered).map(({ urn, oldState }) => ({
    op: "refresh",
    urn,
    oldState,
    newState: oldState,
  }));
}

test("shows a new component, and grants each of its service accounts its own token", async () => {
  const { exitCode, stdout, stderr, changes } = await check(stepsOf(deployed, []));
  assert.deepEqual(changes.split("\n"), [
    "  new      OIDC issuer  URL:",
    `                          https://${ISSUER}`,
    "                        organization: acme",
    "                        Pulumi Cloud: https://api.pulumi.com",
    "                        maximum lifetime: 7200 s",
    "  new      ci/deployer  token: team:a",
    "                        lifetime: 7200 s",
    "                        role: irsa",
    "  new      ci/drift     token: team:ops",
    "                        lifetime: 7200 s",
    "                        role: pod-identity",
    "  new      web/secrets  token: organization",
    "                        lifetime: 7200 s",
  ]);
  assert.match(stdout, /^ {2}ci\/deployer +team:a +only itself +only itself$/m);
  assert.match(stdout, /^ {2}(\d+) of \1 checks passed \(3 service accounts, 27 callers\)\.$/m);
  assert.deepEqual([exitCode, stderr], [0, ""]);
});

test("reads the steps, and the keys of a trust policy, in any order", async () => {
  // The AWS provider reads it as JSON.
  const read = edited(stepsOf(deployed), "oldState", (it) =>
    it.replace(/(?<="assumeRolePolicy":)\{(.*?),"Version":"2012-10-17"\}/, (_, statement) =>
      JSON.stringify(`{"Version":"2012-10-17",${statement}}`),
    ),
  );
  const { exitCode, changes } = await check(read.toReversed());
  assert.deepEqual([exitCode, changes], [0, "  Nothing changes who is granted what."]);
  const steps = stepsOf(await programWith([{ ...DEPLOYER, teamName: "b" }, DRIFT, SECRETS]), deployed);
  assert.match((await check([...steps, ...refreshesOf(deployed)])).changes, /token: team:a → team:b/);
});

for (const [what, entries, settings, expected] of [
  ["another team", [{ ...DEPLOYER, teamName: "b" }, DRIFT, SECRETS], {}, "token: team:a → team:b"],
  [
    "a lifetime",
    [{ ...DEPLOYER, tokenExpirationSeconds: 60 }, DRIFT, SECRETS],
    {},
    "lifetime: 7200 s → 60 s",
  ],
  ["a role", [{ ...DEPLOYER, awsRole: "none" }, DRIFT, SECRETS], {}, "role: irsa → none"],
  [
    "its policies",
    [{ ...DEPLOYER, rolePolicyArns: [READ_ONLY] }, DRIFT, SECRETS],
    {},
    `role policies: none → ${READ_ONLY}`,
  ],
  [
    "a claim",
    [{ ...DEPLOYER, policyRules: { sub: "*:deployer" } }, DRIFT, SECRETS],
    {},
    "further rules: none → sub = *:deployer",
  ],
  [
    "an audience rule",
    [{ ...DEPLOYER, audienceRule: true }, DRIFT, SECRETS],
    {},
    "required audience: none → urn:pulumi:org:acme",
  ],
  [
    "an audience",
    [{ ...DEPLOYER, tokenAudience: "b" }, DRIFT, SECRETS],
    {},
    "audience of its ID token: urn:pulumi:org:acme → b",
  ],
  [
    "an administrator",
    [DEPLOYER, DRIFT, { ...SECRETS, organizationAdmin: true }],
    {},
    "token: organization → organization (admin)",
  ],
  [
    "the limit",
    [DEPLOYER, DRIFT, SECRETS],
    { maxExpirationSeconds: 7201 },
    "maximum lifetime: 7200 s → 7201 s",
  ],
  [
    "the permissions boundary",
    [DEPLOYER, DRIFT, SECRETS],
    { permissionsBoundaryArn: READ_ONLY },
    `permissions boundary: none → ${READ_ONLY}`,
  ],
  ["a new entry", [DEPLOYER, DRIFT, SECRETS, RUNNER], {}, "new ci/runner token: runner:eks"],
  ["a removed entry", [DRIFT, SECRETS], {}, "removed ci/deployer token: team:a"],
  ["a removed list", [DRIFT], {}, "removed web/secrets token: organization"],
] satisfies [string, Settings[], Settings, string][]) {
  test(`shows the change of ${what}, and finds nothing wrong`, async () => {
    const { exitCode, stdout, changes } = await check(
      stepsOf(await programWith(entries, settings), deployed),
    );
    assert.ok(inOneLine(changes).includes(expected), changes);
    assert.match(stdout, /^ {2}(\d+) of \1 checks passed/m);
    assert.equal(exitCode, 0);
  });
}

test("shows the teams that the program creates, with what each may do, and whose they are", async () => {
  const entries = [DEPLOYER, DRIFT];
  const stack = { stack: "app/prod", permission: "read" };
  const environments = [{ environment: "app/prod", permission: "open" }];
  const before = await programWith(entries, { teams: [{ name: "a", stacks: [stack] }] });
  const stacks = [{ ...stack, permission: "admin" }];
  const after = await programWith(entries, { teams: [{ name: "a", stacks, environments }] });

  const { exitCode, stdout, changes } = await check(stepsOf(after, before));
  assert.deepEqual(changes.split("\n"), [
    "  changed  team a  stack app/prod: read → admin",
    "                   environment app/prod: none → open",
  ]);
  assert.match(
    stdout,
    /^ {2}ci\/deployer .*\n {4}a: admin on stack app\/prod, open on environment app\/prod$/m,
  );
  assert.match(stdout, /^ {2}ci\/drift .*\n {4}ops \(exists already\)$/m);
  assert.equal(exitCode, 0);
  const removed = (await check(stepsOf(await programWith(entries), after))).changes;
  assert.match(inOneLine(removed), /^ removed team a stack app\/prod: admin environment app\/prod: open$/);
});

test("shows a team only with the component that creates it, and with its organization", async () => {
  const team = (name: string) => ({ teams: [{ name }] });
  const blue = stepsOf(await programWith([DEPLOYER], team("a")));
  const greenEntry = { ...DEPLOYER, name: "green", teamName: "g" };
  const green = stepsOf(await programWith([greenEntry], { ...team("g"), organization: "other" }), []);
  const renamed: PlanStep[] = JSON.parse(JSON.stringify(green).replaceAll("::access", "::green"));
  const urn = "urn:pulumi:prod::eks-pulumi-oidc::pulumiservice:index:Team::b";
  const elsewhere = { op: "create", urn, newState: { inputs: { organizationName: "other", name: "b" } } };

  const { stdout } = await check([...blue, ...renamed, elsewhere]);
  const [, ofBlue = "", ofGreen = ""] = stdout.split(/^Component /m);
  assert.match(ofBlue, /^access\n.*Nothing changes who is granted what/s);
  assert.deepEqual(ofGreen.match(/team \w$/gm), ["team g"]);
});

test("shows a policy that the rest of the program attaches to a role", async () => {
  const role = deployed.find(({ name, type }) => name === "access.ci.deployer" && type.endsWith(":Role"))?.id;
  const urn =
    "urn:pulumi:prod::eks-pulumi-oidc::aws:iam/rolePolicyAttachment:RolePolicyAttachment::elsewhere";
  const attachment = { op: "create", urn, newState: { inputs: { role, policyArn: READ_ONLY } } };
  const { changes } = await check([...stepsOf(deployed), attachment]);
  assert.equal(inOneLine(changes), ` changed ci/deployer role policies: none → ${READ_ONLY}`);

  // The name of a new role is not known before the update.
  const steps = stepsOf(deployed, []);
  const newRole = steps.find((step) => step.urn.endsWith(":Role::access.ci.deployer"))?.urn;
  const propertyDependencies = { role: [newRole] };
  const ofNewRole = { inputs: { role: UNKNOWN, policyArn: READ_ONLY }, propertyDependencies };
  const created = await check([...steps, { op: "create", urn, newState: ofNewRole }]);
  assert.match(inOneLine(created.changes), RegExp(`ci/deployer .* role policies: ${READ_ONLY}`));
});

test("lets no name in a plan write Markdown", async () => {
  const hostile = edited(stepsOf(deployed, []), "newState", (it) =>
    it.replaceAll('"namespace":"web"', '"namespace":"`|<img>"'),
  ).map((step) => JSON.parse(JSON.stringify(step).replaceAll("access.web.", "access.`|<img>.")));
  const { stdout } = await check(hostile, { markdown: true });
  assert.match(stdout, /^\| &#96;&#124;&#60;img&#62;\/secrets \|/m);
  assert.doesNotMatch(stdout.replaceAll(/```json.*?```/gs, ""), /<img>/);
});

test("shows a component that the update deletes, and asks nothing about it", async () => {
  const { exitCode, stdout } = await check(stepsOf([], deployed));
  assert.match(stdout, /^ {2}removed {2}OIDC issuer .*^ {2}removed {2}web\/secrets +token: organization$/ms);
  assert.doesNotMatch(stdout, /Access check$/m);
  assert.equal(exitCode, 0);
});

const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const NAME = '\\"kubernetes.io\\".serviceaccount.name';
for (const [what, edit, found] of [
  [
    "an allow policy of a service account that no entry names",
    (it) => it.replace(`${NAME}":"drift"`, `${NAME}":"other"`),
    /of no service account.*"other"/,
  ],
  [
    "an allow policy with a wildcard",
    (it) => it.replace(`${NAME}":"drift"`, `${NAME}":"d*"`),
    /ci\/deployer: allowed by Pulumi Cloud.*of no service account.*"d\*"/,
  ],
  [
    "an allow policy of another type",
    (it) =>
      it.replace(
        '"teamName":"ops","tokenType":"team"}',
        '"tokenType":"organization","authorizedPermissions":["admin"]}',
      ),
    /grants another token: .*"admin"/,
  ],
  [
    "an allow policy of no service account, beside theirs",
    (it) => it.replace('"policies":[{', `"policies":[${JSON.stringify(OTHER_POLICY)},{`),
    /of no service account.*"mallory"/,
  ],
  [
    "a second allow policy of a service account",
    (it) => it.replace(/"policies":\[({.*?}}?),{/, '"policies":[$1,$1,{'),
    /is the second one of a service account, or grants another token: /,
  ],
  [
    "an allow policy with a rule on __proto__",
    (it) => it.replace(`"rules":{`, `"rules":{"__proto__":"x",`),
    /itself: denied by Pulumi Cloud \(.*__proto__ is absent, not 'x'/,
  ],
  [
    "an allow policy with escape codes",
    (it) => it.replace('"teamName":"a"', '"teamName":"\\u001b[2Ja"'),
    /"teamName": "\\u001b\[2Ja"/,
  ],
  [
    "a lifetime above the issuer's limit",
    (it) => it.replace('"tokenExpirationSeconds":"7200"', '"tokenExpirationSeconds":"7201"'),
    /itself: denied by Pulumi Cloud \(expiration 7201 exceeds the issuer's limit of 7200 seconds/,
  ],
  [
    "a role with another issuer's provider",
    (it) => it.replace(/(?<=oidc-provider\/[^"]*)EXAMPLE(?=")/g, "OTHER"),
    /does not name the IAM OIDC provider/,
  ],
  [
    "a role with another subject",
    (it) => it.replace(':sub":"system:serviceaccount:ci:deployer', ':sub":"system:serviceaccount:ci:other'),
    /itself: denied by IAM role/,
  ],
  [
    "a role with another provider",
    (it) => it.replace(/(?<="Federated":"[^"]*)EXAMPLE/g, "OTHER"),
    /does not name the IAM OIDC provider/,
  ],
  [
    "a role with another cluster",
    (it) => it.replace(/(?<=cluster-arn\\?":\\?"[^"]*)my-cluster/, "another"),
    /itself: denied by IAM role/,
  ],
  [
    "an association with another role",
    (it) => it.replace(/("roleArn":"[^"]*)"(?=,"s|})/, '$1x"'),
    /EKS Pod Identity association: changed .* itself: denied .* is not associated with the role/,
  ],
] satisfies [string, (json: string) => string, RegExp][]) {
  test(`finds ${what}`, async () => {
    const { exitCode, stdout } = await check(edited(stepsOf(deployed), "newState", edit));
    assert.match(inOneLine(stdout), found, stdout);
    assert.doesNotMatch(stdout, /Nothing changes/);
    assert.ok(!stdout.includes("\u001b"));
    assert.equal(exitCode, 1);
  });
}

test("is not misled by a resource elsewhere that has the name of the component's issuer", async () => {
  const own = "eks-pulumi-oidc:index:PulumiCloudAccess$";
  const issuers = stepsOf(deployed).filter(({ urn }) => urn.endsWith(":OidcIssuer::access.oidc-issuer"));
  const decoys = issuers.map((step) => {
    return { ...step, urn: step.urn.replace(own, ""), newState: { ...step.newState, parent: "other" } };
  });
  const steps = edited(stepsOf(deployed), "newState", (it) =>
    it.replace(`${NAME}":"drift"`, `${NAME}":"d*"`),
  );
  assert.match((await check([...decoys, ...steps])).stdout, /of no service account.*"d\*"/s);
});

test("asks only about what is known before the update", async () => {
  const steps = edited(stepsOf(deployed, []), "newState", (it) => {
    // The name of a new team, and the trust policy for a new IAM OIDC provider.
    const known = it.replaceAll(/"(team:)?a"/g, `"${UNKNOWN}"`);
    return known.includes(":deployer")
      ? known.replace(/"assumeRolePolicy":\{.*?"Version":"2012-10-17"\}/, `"assumeRolePolicy":"${UNKNOWN}"`)
      : known;
  });
  const { exitCode, stdout, stderr } = await check(steps);
  assert.match(
    stdout,
    /^ {2}ci\/deployer +team:known after the update +not known yet +not known yet$/m,
    stderr,
  );
  assert.match(stdout, /^ {2}ci\/drift +team:ops +only itself +only itself$/m);
  assert.ok(!stdout.includes(UNKNOWN));
  assert.equal(exitCode, 0);
});

test("compares what a refresh found with the program, and not what it read", async () => {
  const [urn, widened] = ["oidc-issuer", `${NAME}":"d*"`];
  const steps = edited(stepsOf(deployed), "oldState", (it) => it.replace(`${NAME}":"drift"`, widened));
  const found = steps
    .filter((step) => step.urn.includes(urn))
    .map(({ oldState, ...step }) => ({ ...step, op: "update", newState: oldState }));
  const { exitCode, changes } = await check([...refreshesOf(deployed), ...found, ...steps]);
  assert.match(inOneLine(changes), /^ removed policy .*"d\*".*$/);
  assert.equal(exitCode, 0);
});

test("reads the steps of a replacement as one resource", async () => {
  const steps = stepsOf(deployed).flatMap((step) => {
    const { newState: _, ...deleted } = step;
    return ["create-replacement", "replace", "delete-replaced"].map((op) => ({
      ...(op === "delete-replaced" ? deleted : step),
      op,
    }));
  });
  const { exitCode, stdout, changes } = await check(steps);
  assert.equal(changes, "  Nothing changes who is granted what.");
  assert.match(stdout, /^ {2}(\d+) of \1 checks passed \(3 service accounts/m);
  assert.equal(exitCode, 0);
});

test("reads standard input, for a file with the name -", async (t) => {
  t.mock.getter(process, "stdin", () => Readable.from([Buffer.from("{}")]));
  const errors: string[] = [];
  await checkPlan("-", {}, { log() {}, error: (line: string) => errors.push(line) });
  assert.match(errors.join(), /^\nStandard input is not what `pulumi preview --json/);
});

test("prints everything as Markdown, or the policies as JSON", async () => {
  const plan = stepsOf(await programWith([{ ...DEPLOYER, teamName: "b<c>" }]), deployed);
  const { stdout } = await check(plan, { markdown: true });
  assert.match(stdout, /^\| ci\/deployer \| changed \| token: team:a → team:b&#60;c&#62; \|$/m);
  assert.match(stdout, /^\| ci\/deployer \| team:b&#60;c&#62; \| only itself \| only itself \|$/m);
  const policies = JSON.parse((await check(plan, { policies: true })).stdout);
  assert.equal(policies.access["ci/deployer"].allowPolicy.teamName, "b<c>");
});

for (const [what, plan, message] of [
  [
    "another format",
    () => '{"version":3,"deployment":{}}',
    `${join(directory, "plan.json")} is not what \`pulumi preview --json --show-sames\` prints, or not all of it.`,
  ],
  ["a part of a plan", () => planOf([]).slice(0, -9), `${join(directory, "plan.json")} is not what `],
  [
    "a failed preview",
    () => JSON.stringify({ diagnostics: [{ severity: "error", message: "error: no \u001b[2J\n" }] }),
    "The preview failed: no \\u{1b}[2J",
  ],
  [
    "an interrupted preview",
    () => JSON.stringify({ steps: [] }),
    "The preview failed: its result has no changeSummary. Was it interrupted?",
  ],
  [
    "another program",
    () => planOf([]),
    "This plan has no PulumiCloudAccess. Preview all of the program: with --show-sames, and without --target.",
  ],
  [
    "a part of the component",
    () => planOf(stepsOf(deployed).filter(({ urn }) => !urn.includes("ConfigMap"))),
    'This plan has only a part of PulumiCloudAccess "access".',
  ],
  [
    "a trust policy without statements",
    () =>
      planOf(edited(stepsOf(deployed), "newState", (it) => it.replace('"Statement":[', '"Statements":['))),
    "The trust policy of access.ci.deployer has an unexpected form.",
  ],
  [
    "no inputs",
    () =>
      planOf(
        edited(stepsOf(deployed), "newState", (it) =>
          it.includes('index:PulumiCloudAccess",') ? it.replace(/"inputs":\{.*\}(?=,"p)/, '"inputs":{}') : it,
        ),
      ),
    'PulumiCloudAccess "access" has no inputs. Unset PULUMI_NODEJS_SKIP_COMPONENT_INPUTS',
  ],
] satisfies [string, () => string, string][]) {
  test(`exits 2 for ${what}, with what to do`, async () => {
    const { exitCode, stdout, stderr } = await check(plan());
    assert.ok(stderr.startsWith(message), stderr);
    // Nothing was asked.
    assert.doesNotMatch(stdout, /^(Access check$|Plan only)/m);
    assert.equal(exitCode, 2);
  });
}

test("reads 50 MB, and says why it cannot read a file, such as one with more than 200 MB", async () => {
  const padding = "x".repeat(50_000_000);
  const { exitCode } = await check(planOf(stepsOf(deployed), { "p:padding": padding }));
  assert.equal(exitCode, 0);
  const [large, missing] = [join(directory, "large.json"), join(directory, "missing.json")];
  await writeFile(large, "");
  await truncate(large, 201_000_000);
  const errors: string[] = [];
  for (const file of [large, missing]) {
    assert.equal(
      await checkPlan(file, {}, { log() {}, error: (line: string) => errors.push(line.trim()) }),
      2,
    );
  }
  assert.deepEqual(errors, [
    `Failed to read ${large}: it has more than 200 MB`,
    `Failed to read ${missing}: ENOENT: no such file or directory`,
  ]);
});
