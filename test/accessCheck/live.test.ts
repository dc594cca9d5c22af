// The live check. Its Pulumi CLI is a function that answers from the simulation; only how the check ends is tested with a process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import type { Simulation } from "../../simulator/emulators/simulation";
import { runProgram } from "../../simulator/runProgram";
import { ended, writePrograms } from "../support/programs";
import { ROOT } from "../support/project";
import { stackOf, startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import {
  add,
  Draft,
  type Inputs,
  type Key,
  set,
  setAt,
  setDeployed,
  setUnchanged,
  unchangedSteps,
} from "./draft";
import { checkLive, type Edit, inOneLine, type LiveStack, previewOf } from "./liveTools";

const READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess";

const CONFIG_MAP = "ConfigMap access.ops.drift.pulumi-token-exchange";
const SERVICE_ACCOUNT = "ServiceAccount access.ci.deployer";
const EXISTING_ACCOUNT = "ServiceAccount access.ci.secrets";
const ROLE = "Role access.ci.deployer";
const ISSUER = "OidcIssuer access.oidc-issuer";

// One stack that is up, for all tests.
let simulation: Simulation;
let stack: LiveStack & Pick<Draft, "steps">;

before(async () => {
  simulation = await startCluster({ serviceAccounts: ["ci/secrets"] });
  const secrets = { tokenType: "organization", tokenAudience: "api", audienceRule: true };
  const serviceAccounts = [
    {
      namespace: "ci",
      name: "deployer",
      tokenType: "personal",
      userLogin: "my-login",
      rolePolicyArns: [READ_ONLY],
    },
    { namespace: "ci", name: "secrets", ...secrets, createServiceAccount: false },
    { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops", awsRole: "irsa" },
    { namespace: "ops", name: "operator", tokenType: "team", teamName: "Gone", awsRole: "pod-identity" },
  ].map((entry) => ({ ...entry, runJob: entry.name === "secrets" }));
  const program = stackOf({ pulumiApiUrl: simulation.pulumiCloud.apiUrl, serviceAccounts });
  const { registered } = await runProgram(simulation, { ...program, stack: "prod" });
  const steps = unchangedSteps(registered);
  stack = { name: "prod", pulumiCloud: simulation.pulumiCloud, config: program.config, steps };
  // A simulation does not register what a program reads.
  const created = JSON.stringify(new Draft(steps).step(SERVICE_ACCOUNT))
    .replaceAll("deployer", "secrets")
    .replaceAll("eks.amazonaws.com/role-arn", "note");
  steps.push({ ...JSON.parse(created), op: "read" });
});
after(() => simulation.close());

/** Returns the stack with a changed preview. */
function changed(...edits: ((draft: Draft) => unknown)[]): LiveStack {
  return { ...stack, steps: new Draft(stack.steps).edit(...edits).steps };
}

/** Returns an edit of what exists, and the preview calls unchanged. */
function setExisting(resource: string, path: string | Key[], value: unknown) {
  return (draft: Draft) => {
    const { oldState } = draft.step(resource);
    assert.ok(oldState, resource);
    const outputs: Inputs = { ...structuredClone(oldState.outputs) };
    setAt(outputs, path, value);
    oldState.outputs = outputs;
  };
}

/** Returns an edit of what Pulumi Cloud answers at a path. */
function answering(path: string, change: (answer: Answer) => unknown): Edit {
  return (stdout, { args }) => {
    if (!args[1]?.includes(path)) return stdout;
    const answer: Answer = JSON.parse(stdout);
    change(answer);
    return JSON.stringify(answer);
  };
}

test("finds no difference, and says what it does not show", async () => {
  const { exitCode, stdout, errors } = await checkLive(stack);
  assert.equal(errors, "");
  assert.match(
    stdout,
    /^Live access check of stack prod: everything is as its program says\. Nothing was changed\. /,
  );
  assert.match(
    stdout,
    / Nothing changes for this component\. .* 4 service accounts: as the settings say\. .* Nothing changes elsewhere\. /,
  );
  assert.match(stdout, / Whether Pulumi Cloud and AWS decide as the policies say is what the Jobs and /);
  assert.equal(exitCode, 0);
});

test("runs one preview, and reads the API of the component's Pulumi Cloud", async () => {
  const { calls } = await checkLive(stack);
  const [preview, ...others] = calls.map(({ args }) => args.join(" "));
  assert.equal(preview, "preview --refresh --json --show-sames --non-interactive --stack=prod");
  const [issuer = assert.fail()] = simulation.pulumiCloud.list();
  const id = issuer.id.replace("acme/", "");
  assert.deepEqual(
    others,
    ["oidc/issuers", `auth/policies/oidcissuers/${id}`, "teams/ops", "teams/Gone"].map(
      (path) => `api /api/orgs/acme/${path} --non-interactive`,
    ),
  );
  for (const { environment } of calls.slice(1)) {
    assert.deepEqual(environment, { PULUMI_BACKEND_URL: simulation.pulumiCloud.apiUrl });
  }
});

for (const [what, edits, verdict, reported] of [
  [
    "a value that was changed by hand",
    [setDeployed(CONFIG_MAP, "data.organization", "mallory"), op(CONFIG_MAP, "update")],
    "the component differs.",
    / changes kubernetes:core\/v1:ConfigMap \S+ .* organization: "mallory" → "acme" /,
  ],
  [
    "a program that is not as its settings say",
    [set(ROLE, ["assumeRolePolicy", "Statement", 0, "Action"], "*"), op(ROLE, "same")],
    "the component differs.",
    / Its trust policy: .*"\*" /,
  ],
  [
    "a resource elsewhere in the program",
    [add("aws:eks/podIdentityAssociation:PodIdentityAssociation", "more", { namespace: "web" })],
    "the component is as its program says, other resources differ.",
    / creates aws:eks\/podIdentityAssociation:PodIdentityAssociation more \(namespace: web\) /,
  ],
  [
    "a service account that is read for the first time",
    [
      (draft: Draft) => {
        delete draft.step(EXISTING_ACCOUNT).oldState;
      },
    ],
    "the component differs.",
    / reads kubernetes:core\/v1:ServiceAccount access\.ci\.secrets /,
  ],
  [
    "a key of a ConfigMap, which Pulumi calls unchanged",
    [setExisting(CONFIG_MAP, "data.more\u202e", "x")],
    "the component differs.",
    / ConfigMap ops\/drift-pulumi-token-exchange: it has the key more\\u\{202e\}, which becomes a file in pods\. /,
  ],
  [
    "a binary key of a ConfigMap",
    [setExisting(CONFIG_MAP, "binaryData", { constructor: "" })],
    "the component differs.",
    /: it has the key constructor, /,
  ],
  [
    "an annotation with a role, which Pulumi calls unchanged",
    [setExisting(SERVICE_ACCOUNT, "metadata.annotations", { "iam.gke.io/gcp-service-account": "x@y" })],
    "the component differs.",
    / ServiceAccount ci\/deployer: it has the annotation iam\.gke\.io\/gcp-service-account: x@y\. /,
  ],
] as [string, ((draft: Draft) => unknown)[], string, RegExp][]) {
  test(`reports ${what}, and exits 1`, async () => {
    const { exitCode, stdout, errors } = await checkLive(changed(...edits));
    assert.equal(errors, "");
    assert.match(stdout, reported);
    assert.ok(stdout.startsWith(`Live access check of stack prod: ${verdict} Nothing was changed. `), stdout);
    assert.equal(exitCode, 1);
  });
}

function op(resource: string, name: string) {
  return (draft: Draft) => {
    draft.step(resource).op = name;
  };
}

/** What Pulumi Cloud answers: its registrations, or the policies of one. */
interface Answer {
  oidcIssuers: [Inputs, ...Inputs[]];
  policies: Inputs[];
}

const WIDE = { decision: "allow", tokenType: "personal", userLogin: "admin", rules: { sub: "system:*" } };
for (const [path, change, reported] of [
  [
    "oidc/issuers",
    ({ oidcIssuers: [own] }) => setAt(own, "jwks", { keys: [{}] }),
    /jwks is \{ "keys": \[ \{\} \] \} instead of none\./,
  ],
  [
    "oidc/issuers",
    ({ oidcIssuers: [own] }) => setAt(own, "maxExpiration", 9),
    /maxExpiration is 9 instead of 7200\./,
  ],
  [
    "oidc/issuers",
    ({ oidcIssuers: [own] }) => setAt(own, "issuer", "x"),
    /The issuer's issuer is x instead of /,
  ],
  ["oidc/issuers", ({ oidcIssuers: [own] }) => setAt(own, "url", "x"), /The issuer's url is x instead of /],
  ["oidc/issuers", ({ oidcIssuers }) => oidcIssuers.pop(), /The issuer with the ID \S+ is not registered\./],
  [
    "oidc/issuers",
    ({ oidcIssuers }) => oidcIssuers.push({ id: "B", url: `${String(oidcIssuers[0].url).toUpperCase()}/` }),
    /registered a second time, with the ID B\./,
  ],
  [
    "policies",
    ({ policies }) => policies.push(WIDE),
    /not the program's: \{ "decision": "allow", .* "system:\*" \} \}/,
  ],
  ["policies/", ({ policies }) => policies.pop(), /A policy of the program is not registered: \{ /],
] satisfies [string, (answer: Answer) => unknown, RegExp][]) {
  test(`reports what Pulumi Cloud has registered beyond the program: ${reported.source}`, async () => {
    const edit = answering(path, change);
    const { exitCode, lines, stdout } = await checkLive(stack, edit);
    assert.match(stdout, reported);
    assert.match(`${lines[0]}`, /the component differs\./);
    assert.equal(exitCode, 1);
  });
}

for (const [what, checked, edit, reported] of [
  [
    "says which policies a role has beside rolePolicyArns",
    () =>
      changed(
        setExisting(ROLE, "managedPolicyArns", [READ_ONLY, "arn:aws:iam::aws:policy/More"]),
        setExisting(ROLE, "inlinePolicies", [{ name: "inline", policy: "{}" }]),
      ),
    undefined,
    /Role \S+: it has the policy arn:aws:iam::aws:policy\/More, which is .* has the policy inline, which is not in rolePolicyArns\./,
  ],
  [
    "says which role an existing service account has",
    () =>
      changed(setExisting(EXISTING_ACCOUNT, "metadata.annotations", { "eks.amazonaws.com/role-arn": "arn" })),
    undefined,
    /ServiceAccount ci\/secrets: it has the annotation eks\.amazonaws\.com\/role-arn: arn\./,
  ],
  [
    "says how many thumbprints are registered, if there are several",
    () => stack,
    answering("oidc/issuers", ({ oidcIssuers: [own] }) => setAt(own, "thumbprints", ["a", "b"])),
    /The issuer has several thumbprints: a, b\. /,
  ],
  [
    "says what a team may do, and that another one does not exist",
    () => stack,
    undefined,
    /Team ops has edit on stack app\/prod, open on environment app\/prod, what its role says \(ID \[ "r" \]\)\. Team Gone does not exist\./,
  ],
] as [string, () => LiveStack, Edit | undefined, RegExp][]) {
  test(`${what}, and exits 0`, async () => {
    const { exitCode, stdout } = await checkLive(checked(), edit);
    assert.match(stdout, reported);
    assert.equal(exitCode, 0);
  });
}

test("takes no value for a difference that a refresh has added to what stays", async () => {
  const { exitCode } = await checkLive(
    changed(setUnchanged(ISSUER, "description", "a default of the service")),
  );
  assert.equal(exitCode, 0);
});

test("reports one component after the other, each with its registration", async () => {
  const other = JSON.stringify(stack.steps)
    .replaceAll("::access", "::a")
    .replaceAll('"name":"access', '"name":"a')
    .replaceAll(simulation.issuer.url.replace("https://", ""), "other.example");
  const { exitCode, stdout } = await checkLive({ ...stack, steps: [...stack.steps, ...JSON.parse(other)] });
  assert.match(
    stdout,
    / Component a What the plan changes .* The issuer's issuer is .* Component access What the plan changes .* as the settings say\. /,
  );
  assert.equal(exitCode, 1);
});

// As the AWS provider reports it, after the URN of the resource.
const REQUEST = `operation error IAM: GetRole, https response error StatusCode: 403, RequestID: ${"0".repeat(36)}`;
const READING = `refreshing urn:pulumi:prod::${"p".repeat(60)}::aws:iam/role:Role::access.ci.deployer: reading IAM Role (x): ${REQUEST}`;
const ADMIN =
  "in organization acme, which the role Admin contains, and a login. To sign in: pulumi login https:";
const CLOUD_ERROR = 'error:warning\n{ "error": { "code": "x", "message": "GET \\"x\\": 403" } }';
for (const [call, answer, message] of [
  ["preview", `error:error: ${READING}: \u001b[2J`, `Failed to run pulumi: error: ${READING}: \\u{1b}[2J`],
  ["oidc/issuers", CLOUD_ERROR, `GET "x": 403 This requires the permission oidc_issuers:read ${ADMIN}`],
  ["oidc/issuers", 'error:{"error":{"httpStatus": 404}}', "without a list oidcIssuers, so"],
  ["oidc/issuers", '{"oidcIssuers":["x"]}', "without a list oidcIssuers, so"],
  ["oidc/issuers", "<html></html>", "is not valid JSON"],
  ["policies", "{}", "without a list policies, so the OIDC issuer cannot be compared."],
  ["policies", "error:unknown", "unknown This requires the permission auth_policies:read"],
  ["teams", "error:unknown", "unknown This requires the permission team:read"],
] as const) {
  test(`exits 2 if something cannot be read: ${inOneLine(message).slice(0, 70)}`, async () => {
    const edit: Edit = (stdout, { args }) => (args.slice(0, 2).join(" ").includes(call) ? answer : stdout);
    const { exitCode, lines, errors } = await checkLive(stack, edit);
    assert.ok(errors.includes(message), errors);
    assert.deepEqual(lines, [
      "Live access check of stack prod: it could not be compared. Nothing was changed.",
    ]);
    assert.equal(exitCode, 2);
  });
}

test("exits 2 if the stack is not deployed", async () => {
  const steps = stack.steps.map(({ oldState: _, ...step }) => ({ ...step, op: "create" }));
  const { exitCode, errors } = await checkLive({ ...stack, steps });
  assert.match(errors, /"prod" is not deployed\. To deploy it: pulumi up --stack prod$/);
  assert.equal(exitCode, 2);
});

test("exits 2 if keys of a ConfigMap are secret", async () => {
  const { exitCode, errors } = await checkLive(changed(setExisting(CONFIG_MAP, "data", "[secret]")));
  assert.match(errors, /ConfigMap ops\/drift-pulumi-token-exchange: data is secret\./);
  assert.equal(exitCode, 2);
});

test("exits 2 if it is not known which Pulumi Cloud to read", async () => {
  const secret = set("PulumiCloudAccess access", "pulumiApiUrl", "[secret]");
  const { exitCode, errors, calls } = await checkLive(changed(secret));
  assert.match(errors, /The setting pulumiApiUrl is secret, or not known\./);
  assert.deepEqual([exitCode, calls.length], [2, 1]);
});

/** Runs `npm start -- --live` with a Pulumi CLI that previews the stack, and then does what comes `next`. */
async function startLive(t: TestContext, next: string) {
  const directory = temporaryDirectory(t);
  const plan = join(directory, "plan");
  await writeFile(plan, previewOf(stack));
  const pulumi = `if [ "$1" = preview ]; then exec cat '${plan}'; fi\n${next}`;
  const PATH = writePrograms(directory, { pulumi }, "/bin/sh");
  const start = ["--import", "tsx", "simulator/commandLine.ts", "--live", "--stack=prod"];
  const child = spawn(process.execPath, start, {
    cwd: ROOT,
    env: { ...process.env, PATH },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return ended(child);
}

const HANG = "exec sleep 60";
for (const [what, next, code, error] of [
  ["SIGINT", `kill -INT $PPID\n${HANG}`, 130, /^$/],
  ["SIGTERM", `kill -TERM $PPID\n${HANG}`, 130, /^$/],
  ["an error", "exit 1", 2, /^\nFailed to run pulumi api /],
] satisfies [string, string, number, RegExp][]) {
  test(`ends what it runs, and exits ${code} after ${what}`, async (t) => {
    const { exitCode, stderr } = await startLive(t, next);
    assert.match(stderr, error);
    assert.equal(exitCode, code);
  });
}
