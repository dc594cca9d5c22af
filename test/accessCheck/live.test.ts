// The live check. Its programs (kubectl, aws, and pulumi) are functions that answer from the simulation, and Pulumi Cloud is the
// emulator's HTTPS endpoint. liveParts.test.ts has its parts; only how it ends is tested with a process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { createCertificateAuthority } from "../../simulator/emulators/certificates";
import type { Simulation } from "../../simulator/emulators/simulation";
import { runProgram } from "../../simulator/runProgram";
import { respond, startEndpoint } from "../support/endpoint";
import { ended, writePrograms } from "../support/programs";
import { ROOT } from "../support/project";
import { changePolicies, stackOf, startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { Draft, set, setDeployed, unchangedSteps } from "./draft";
import {
  checkLive,
  type Edit,
  inOneLine,
  type LiveRun,
  type LiveStack,
  optionOf,
  previewOf,
  stsError,
} from "./liveTools";

const ROLE = "arn:aws:iam::123456789012:role/admin";
const ACCESS_TOKEN = `pul-${"0123456789".repeat(4)}`;

// Some calls: the beginning of the command, or a part of it.
const PREVIEW = "pulumi preview ";
const ISSUERS = "/oidc/issuers ";
const POLICIES = "/auth/policies/oidcissuers/";
const CONFIG_MAP = "kubectl get configmap ";
const ID_TOKEN = "kubectl create token ";

/** Returns an edit that replaces the answers to some calls. */
function instead(calls: string, answer: string): Edit {
  return (stdout, { tool, args }) => (`${tool} ${args.join(" ")} `.includes(calls) ? answer : stdout);
}

// One stack that is up, for all tests.
let simulation: Simulation;
let stack: LiveStack & Pick<Draft, "steps">;

before(async () => {
  simulation = await startCluster();
  const secrets = { tokenType: "organization", tokenAudience: "api", audienceRule: true };
  const serviceAccounts = [
    { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "my-login", awsRole: "irsa" },
    { namespace: "ci", name: "secrets", ...secrets, createServiceAccount: false },
    { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops", awsRole: "irsa" },
    { namespace: "ops", name: "operator", tokenType: "team", teamName: "ops", awsRole: "pod-identity" },
  ].map((entry) => ({ ...entry, runJob: false }));
  const program = stackOf({
    "aws:profile": "prod",
    "aws:assumeRoles": [{ roleArn: ROLE }],
    pulumiApiUrl: simulation.pulumiCloud.apiUrl,
    serviceAccounts,
  });
  const { registered } = await runProgram(simulation, { ...program, stack: "prod" });
  stack = { name: "prod", simulation, config: program.config, steps: unchangedSteps(registered) };
});
after(() => simulation.close());

/** Returns the stack with a changed preview. */
function changed(change: (draft: Draft) => unknown): LiveStack {
  const draft = new Draft(stack.steps);
  change(draft);
  return { ...stack, steps: draft.steps };
}

const OTHER = "https://other.example";

/** Returns the stack with another component, which comes first, in another cluster with another issuer. A part of it can be changed. */
function withOther(change: (steps: string) => string = (steps) => steps): LiveStack {
  const other = JSON.stringify(stack.steps)
    .replaceAll("::access", "::a")
    .replaceAll('"name":"access', '"name":"a')
    .replaceAll("providers:kubernetes::cluster", "providers:kubernetes::other")
    // The endpoint of the cluster is in the kubeconfig.
    .replaceAll(/https:\/\/\w+\.gr7\.[\w.-]+/g, OTHER)
    .replaceAll(simulation.issuer.url.replace("https://", ""), OTHER.replace("https://", ""));
  return { ...stack, steps: [...stack.steps, ...JSON.parse(change(other))] };
}

/** Returns how many ID tokens Pulumi Cloud has received. */
function exchanges(): number {
  return simulation.pulumiCloud.exchanges.length;
}

test("asks for the access of four service accounts, each granted only what its settings say", async () => {
  const before = exchanges();
  const { exitCode, stdout, errors, calls, sentToSts, tokens, left } = await checkLive(stack);
  assert.equal(errors, "");
  for (const part of [
    / audit logs .* serviceaccounts\/token, .* pull request's workflow\. Differences .* shows none\. Additions /,
    / There are none\. Questions: 17 to Pulumi Cloud, 10 to AWS STS\. Access check Service account /,
    / ci\/deployer user:my-login by IRSA as its settings say ci\/secrets .* Not asked for the role of ops\/operator: /,
    / as the settings say\.$/,
  ]) {
    assert.match(inOneLine(stdout), part);
  }
  assert.ok(stdout.split("\n").every((line) => line.length <= 80));
  assert.deepEqual([exitCode, left], [0, []]);
  // Nothing is asked twice, and no ID token is requested twice.
  assert.deepEqual([exchanges() - before, sentToSts.length], [17, 10]);
  assert.deepEqual([tokens.length, new Set(tokens).size], [14, 14]);

  for (const { args, environment } of calls) {
    // Otherwise the CLI would ask the Pulumi Cloud of its login.
    const backend = JSON.stringify({ PULUMI_BACKEND_URL: simulation.pulumiCloud.apiUrl });
    if (args[0] === "api") assert.equal(environment, backend);
    if (args[1] === "token") assert.ok(args.includes("--duration=600s"));
  }
});

test("asks at most eight questions at a time, reports each answer, and shows its progress on a terminal", async (t) => {
  Object.assign(process.stderr, { isTTY: true });
  t.after(() => Object.assign(process.stderr, { isTTY: false }));
  const write = t.mock.method(process.stderr, "write", () => true);
  let [running, atOnce] = [0, 0];
  const { exitCode, stdout } = await checkLive(stack, {
    allPairs: true,
    verbose: true,
    async answer(stdout) {
      running += 1;
      atOnce = Math.max(atOnce, running);
      await sleep(40);
      running -= 1;
      return stdout;
    },
  });
  assert.deepEqual([exitCode, atOnce], [0, 8]);
  assert.match(stdout, /Questions: 25 to Pulumi Cloud, 14 to AWS STS\./);
  const callers = [...stdout.matchAll(/^ {4}As ([\w /]+): .* by/gm)].map(([, caller]) => caller);
  const [other, invalid] = ["itself with another audience", "itself with an invalid signature"];
  assert.deepEqual(callers.slice(0, 6), ["itself", "itself", other, invalid, invalid, "ci/default"]);
  const progress = write.mock.calls.map(({ arguments: [text] }) => text).join("");
  assert.match(progress, /pulumi preview --refresh reads .* 1 of 39 answers.* 39 of 39 answers/s);
  assert.ok(progress.endsWith("\r\u001b[K"));
});

test("asks each component's own cluster, and reports one after the other", async () => {
  const unsigned = ["{}", JSON.stringify({ iss: OTHER }), ""].map((it) =>
    Buffer.from(it).toString("base64url"),
  );
  const { exitCode, stdout, errors, calls } = await checkLive(withOther(), {
    async answer(stdout, call) {
      if (call.tool !== "kubectl" || call.args[0] !== "create") return stdout;
      const kubeconfig = await readFile(optionOf(call, "kubeconfig"), "utf8");
      return kubeconfig.includes(OTHER) ? unsigned.join(".") : stdout;
    },
  });
  // Each would have stopped at the other one's ID token.
  assert.equal(errors, "");
  const [, other = "", access = ""] = stdout.split(/^Component /m);
  assert.match(access, /^access\n.*^ {2}There are none\..* {2}4 service accounts: as the settings say\.$/ms);
  assert.match(
    inOneLine(other),
    /^a .* The issuer's TLS certificate could not be read, .* As itself: denied by Pulumi Cloud .* policyRules, audienceRule, and .*: not as the settings say\. $/,
  );
  assert.deepEqual([exitCode, calls.filter(({ args }) => args[1] === "token").length], [1, 28]);
});

test("requests no token of one component if another one cannot be checked", async () => {
  const secret = (steps: string) =>
    steps.replaceAll(/"kubeconfig":"(?:[^"\\]|\\.)*"/g, '"kubeconfig":"[secret]"');
  const before = exchanges();
  const { exitCode, errors, tokens } = await checkLive(withOther(secret));
  assert.match(errors, /"a" is secret or absent\. No token was sent\./);
  assert.deepEqual([exitCode, exchanges() - before, tokens], [2, 0, []]);
});

for (const [what, change, reported] of [
  [
    "lists what differs from the program",
    (draft) => {
      draft.edit(
        setDeployed("ConfigMap access.ops.drift.pulumi-token-exchange", ["data", "organization"], "mallory"),
      );
      draft.step("ConfigMap access.ops.drift.pulumi-token-exchange").op = "update";
    },
    / update: kubernetes:core\/v1:ConfigMap access\.ops\.drift\.pulumi-token-exchange changed ops\/drift its request organization: "mallory" → "acme" No token was requested: .* To see all of it: pulumi preview --refresh --diff --stack prod /,
  ],
  [
    "reports what is not as the settings say",
    (draft) => {
      draft.edit(set("Role access.ci.deployer", ["assumeRolePolicy", "Statement", 0, "Action"], "*"));
      draft.step("Role access.ci.deployer").op = "same";
    },
    / ci\/deployer user:my-login by IRSA see below Its trust policy: Statement\.0\.Action is "\*" .* No token was requested: the program must be as its settings say\.$/,
  ],
] satisfies [string, (draft: Draft) => unknown, RegExp][]) {
  test(`${what}, asks nothing, and exits 1`, async () => {
    const before = exchanges();
    const { exitCode, stdout, errors, calls } = await checkLive(changed(change));
    assert.match(inOneLine(stdout), reported);
    assert.deepEqual([exitCode, errors, exchanges() - before, calls.length], [1, "", 0, 1]);
  });
}

test("asks nothing as a service account that someone else creates later, and says so", async () => {
  const answer = instead(`${ID_TOKEN}secrets`, "error:Error from server (NotFound)");
  const { exitCode, stdout } = await checkLive(stack, { answer });
  assert.match(
    inOneLine(stdout),
    / Questions: 13 to .* Not asked as ci\/secrets: createServiceAccount is false, and it does not exist yet\. /,
  );
  assert.equal(exitCode, 0);
});

test("counts what differs elsewhere in the program, and asks", async () => {
  const elsewhere = changed((draft) => {
    draft.step("Stash pulumi-cloud.url").op = "update";
    // What is only read is no difference, and what a refresh adds is none.
    draft.step("Stash pulumi-cloud.place").op = "read";
    draft.edit(setDeployed("OidcIssuer access.oidc-issuer", "description", "a default of the service"));
  });
  const { exitCode, stdout } = await checkLive(elsewhere);
  assert.match(stdout, /shows none\.\n {2}Elsewhere in the program, 1 resource differs\.$/m);
  assert.match(stdout, /Questions: 17 to/);
  assert.equal(exitCode, 0);
});

test("exits 1 if a policy in Pulumi Cloud is too wide, with the policy and whom it allows", async (t) => {
  const name = '"kubernetes.io".serviceaccount.name';
  await changePolicies(t, simulation, ([first, ...others]) => [
    { ...first, rules: { ...first?.rules, [name]: "d*" } } as AuthPolicy,
    ...others,
  ]);
  const { exitCode, stdout } = await checkLive(stack);
  assert.match(
    inOneLine(stdout),
    / A policy is not the program's: .* "d\*" .* ci\/deployer user:my-login by IRSA see below As ci\/default: granted by Pulumi Cloud\. No setting allows this\. /,
  );
  assert.equal(exitCode, 1);
});

test("exits 1 if keys were added to a ConfigMap, though every answer is the intended one", async () => {
  // By the last one, the SDK marks a secret.
  const keys = ["tokenScope", "exchange-token.sh", "constructor", "4dabf18193072939515e22adb298388d"];
  const data = Object.fromEntries(keys.map((key) => [key, ""]));
  const configMap = JSON.stringify({ data, binaryData: { "\u202e": "" } });
  const answer = instead("-- deployer-pulumi-token-exchange ", configMap);
  const { exitCode, stdout } = await checkLive(stack, { answer });
  const sentence = /ConfigMap of ci\/deployer has the key (\S+), which becomes a file\./g;
  const added = Array.from(inOneLine(stdout).matchAll(sentence), ([, key]) => key);
  assert.deepEqual(added, [...keys.slice(2), "\\u{202e}"]);
  assert.match(stdout, / as the settings say\.$/);
  assert.equal(exitCode, 1);
});

test("exits 1 if only an answer is not the intended one", async () => {
  const denial = `error:${stsError("AccessDenied", "No")}`;
  const { exitCode, stdout } = await checkLive(stack, { answer: instead("aws sts ", denial) });
  assert.match(
    inOneLine(stdout),
    / There are none\. .* ci\/deployer user:my-login by IRSA see below As itself: denied by AWS STS \(AccessDenied: No\)\. .* Check the IAM OIDC provider/,
  );
  assert.equal(exitCode, 1);
});

/** Asserts that the check stops before it sends a token, and that its message contains none. */
async function assertUnsent(checked: LiveStack, run: LiveRun, message: string): Promise<void> {
  const before = exchanges();
  const { exitCode, stdout, errors, sentToSts } = await checkLive(checked, run);
  assert.ok(errors.includes(message), errors);
  // No heading without its text.
  assert.match(stdout, /\.$/);
  assert.ok(!errors.includes(ACCESS_TOKEN), errors);
  assert.deepEqual([exitCode, exchanges() - before, sentToSts], [2, 0, []]);
}

// As the AWS provider reports it, after the URN of the resource.
const REQUEST = `operation error IAM: GetRole, https response error StatusCode: 403, RequestID: ${"0".repeat(36)}`;
const READING = `refreshing urn:pulumi:prod::${"p".repeat(60)}::aws:iam/role:Role::access.ci.deployer: reading IAM Role (x): ${REQUEST}`;
const ADVICE = "To see all of it: pulumi preview --refresh --diff --stack prod";
const UNSENT = "No token was sent. This needs the permission";
const ADMIN =
  "in organization acme, which the role Admin contains, and a login. To sign in: pulumi login https:";
const CLOUD_ERROR = 'error:warning\n{ "error": { "code": "x", "message": "HTTP 403" } }';
for (const [calls, answer, message] of [
  [PREVIEW, `error:error: ${READING}: \u001b[2J`, `no token was sent: ${READING}: \\u{1b}[2J ${ADVICE}`],
  [PREVIEW, "error:error: no stack named 'x'", "one? npm start -- --live --stack ORGANIZATION/prod"],
  [PREVIEW, "error:", "so no token was sent: Failed to run pulumi"],
  [ISSUERS, CLOUD_ERROR, `HTTP 403 ${UNSENT} oidc_issuers:read ${ADMIN}`],
  [POLICIES, "error:unknown", `unknown ${UNSENT} auth_policies:read`],
  [CONFIG_MAP, `error:\nUnauthorized: ${ACCESS_TOKEN}`, "Unauthorized: [redacted]"],
  [`${ID_TOKEN}operator`, "error:(NotFound)", "can-i create serviceaccounts/token --namespace ops"],
  [`${ID_TOKEN}secrets`, "error:(Forbidden)", "can-i create serviceaccounts/token --namespace ci"],
  [ID_TOKEN, "e30.eyJpc3MiOiJodHRwczovL3gifQ.", "different cluster: its issuer is https://x, but the"],
] as const) {
  test(`stops before any token is sent: ${inOneLine(message).slice(0, 70)}`, () =>
    assertUnsent(stack, { answer: instead(calls, answer) }, message));
}

test("stops before any token is sent if it cannot read what the last component has", async () => {
  let read = 0;
  const answer: Edit = (stdout, { args }) => {
    if (args.join(" ").includes(POLICIES)) read += 1;
    return read === 2 ? "error:unknown" : stdout;
  };
  await assertUnsent(withOther(), { answer }, `unknown ${UNSENT} auth_policies:read`);
});

test("stops before any token is sent if the stack is not deployed", async () => {
  const created = stack.steps.map(({ oldState: _, ...step }) => ({ ...step, op: "create" }));
  const message = "not deployed. To deploy it: pulumi up --stack prod";
  await assertUnsent({ ...stack, steps: created }, {}, message);
});

test("sends no token to a service whose certificate cannot be verified, whatever the environment says", async (t) => {
  const authority = await createCertificateAuthority();
  const endpoint = await startEndpoint(respond(200, {}), await authority.issue({ hosts: ["127.0.0.1"] }));
  t.after(endpoint.close);
  const steps = JSON.stringify(stack.steps).replaceAll(simulation.pulumiCloud.apiUrl, endpoint.url);
  const environment = { NODE_TLS_REJECT_UNAUTHORIZED: "0" };
  const { exitCode, errors } = await checkLive({ ...stack, steps: JSON.parse(steps) }, { environment });
  const reason = "UNABLE_TO_VERIFY_LEAF_SIGNATURE. The check is incomplete; run it again.";
  assert.equal(errors, `Failed to ask Pulumi Cloud at ${endpoint.url}: ${reason}`);
  assert.deepEqual([exitCode, endpoint.requests], [2, []]);
});

test("shows no token in its output, in arguments, in environments, or in files, and no progress without a terminal", async (t) => {
  const progress = t.mock.method(process.stderr, "write", () => true);
  const check = await checkLive(stack, { verbose: true });
  const { exitCode, stdout, errors, files, calls, tokens, sentToSts } = check;
  assert.deepEqual([exitCode, errors, progress.mock.callCount()], [0, "", 0]);
  // The answer contained the token, and the files the kubeconfig.
  assert.match(inOneLine(stdout), /InvalidIdentityToken: Not authorized: \[redacted\]/);
  assert.ok(files.some((content) => content.includes('"kind":"Config"')));
  const seen = JSON.stringify([stdout, errors, files, calls.map(({ input, ...call }) => call)]);
  const parts = sentToSts.flatMap((token) => token.split("."));
  for (const secret of [...tokens, ...parts]) assert.ok(!seen.includes(secret));
  assert.doesNotMatch(seen, /pul-[0-9a-f]{10}|eyJ[\w-]+/);
});

/**
 * Pipes `npm start -- --live` into a reader, with a Pulumi CLI that previews the stack.
 *
 * @param next what the CLI runs for every other command.
 * @returns with `left`: the temporary files at the end.
 */
async function startLive(t: TestContext, next: string, reader: string) {
  const directory = temporaryDirectory(t);
  const [plan, TMPDIR] = [join(directory, "plan"), join(directory, "tmp")];
  await Promise.all([writeFile(plan, previewOf(stack)), mkdir(TMPDIR)]);
  const pulumi = `if [ "$1" = preview ]; then
  sleep 0.5 # until the reader has ended
  exec cat '${plan}'
fi
${next}`;
  const PATH = writePrograms(directory, { pulumi }, "/bin/sh");
  const start = [process.execPath, "--import", "tsx", "simulator/commandLine.ts", "--live", "--stack=prod"];
  const child = spawn("bash", ["-c", `"$@" | ${reader}; exit "\${PIPESTATUS[0]}"`, "bash", ...start], {
    cwd: ROOT,
    env: { ...process.env, PATH, TMPDIR },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return { ...(await ended(child)), left: await readdir(TMPDIR) };
}

const HANG = "exec sleep 60";
for (const [what, next, code, error, reader = "cat"] of [
  ["SIGINT", `kill -INT $PPID\n${HANG}`, 130, /^$/],
  ["SIGTERM", `kill -TERM $PPID\n${HANG}`, 130, /^$/],
  ["an error", "exit 1", 2, /^\nFailed to run pulumi api /],
  ["its reader stops reading", HANG, 130, /^$/, "head -n 1"],
] satisfies [string, string, number, RegExp, string?][]) {
  test(`ends everything, leaves no file behind, and exits ${code} after ${what}`, async (t) => {
    const { exitCode, stdout, stderr, left } = await startLive(t, next, reader);
    assert.match(stdout, /^Live access check of stack prod: /);
    assert.match(stderr, error);
    assert.deepEqual([exitCode, left], [code, []]);
  });
}
