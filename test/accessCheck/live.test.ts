// The live check. Its programs (kubectl, aws, and pulumi) are functions that answer from the emulators, and Pulumi Cloud is the
// emulator's HTTPS endpoint. What requires a new process is tested with `npm start -- --live` and programs on PATH; what Pulumi
// compares, in live.cluster.test.ts.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { redact, shellQuoted, shown } from "../../accessCheck/terminal";
import { toolRunner } from "../../accessCheck/tools";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { createCertificateAuthority, openCertificateAuthority } from "../../simulator/emulators/certificates";
import type { Simulation } from "../../simulator/emulators/simulation";
import { runProgram } from "../../simulator/runProgram";
import { type Answer, drip, hang, respond, startEndpoint } from "../script/endpoint";
import { changePolicies, stackOf, startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import {
  ALL,
  CHANGED,
  CONFIG_MAP,
  checkLive,
  type Edit,
  edit,
  ID_TOKEN,
  ISSUERS,
  type LiveRun,
  type LiveStack,
  POLICIES,
  PREVIEW,
  SECRET_ACCESS_KEY,
  STS,
  startLive,
  stsError,
} from "./liveTools";

const ROLE = "arn:aws:iam::123456789012:role/admin";
const ACCESS_TOKEN = `pul-${"0123456789".repeat(4)}`;

// One stack that is up, for all tests.
let simulation: Simulation;
let stack: LiveStack;

before(async () => {
  simulation = await startCluster();
  const serviceAccounts = [
    { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "my-login" },
    {
      namespace: "ci",
      name: "secrets",
      tokenType: "organization",
      tokenAudience: "api",
      audienceRule: true,
      awsRole: "none",
    },
    { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops" },
    { namespace: "ops", name: "operator", tokenType: "team", teamName: "ops" },
  ].map((entry) => ({ ...entry, runJob: false }));
  const program = stackOf({
    "aws:profile": "prod",
    "aws:assumeRoles": [{ roleArn: ROLE }],
    pulumiApiUrl: simulation.pulumiCloud.url,
    // Access tokens with a longer lifetime are denied: the check requests the shortest.
    maxExpirationSeconds: 60,
    serviceAccounts,
  });
  const { registered } = await runProgram(simulation, { ...program, stack: "prod" });
  stack = { simulation, config: program.config, registered };
});
after(() => simulation.close());

/** Returns how many ID tokens Pulumi Cloud has received. */
function exchanges(): number {
  return simulation.pulumiCloud.exchanges.length;
}

/** Returns text in one line. */
function inOneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ");
}

test("allows each of four service accounts only as itself, and answers the open questions", async () => {
  const before = exchanges();
  const { exitCode, lines, errors, calls, sentToSts, tokens, left } = await checkLive(stack);
  assert.equal(errors, "");
  assert.match(lines.join(" "), /audit logs .* serviceaccounts\/token, .* pull request's workflow/);
  assert.deepEqual(lines.slice(lines.indexOf("Differences from the program")).slice(0, 26), [
    "Differences from the program",
    "  pulumi preview --refresh shows none.",
    "",
    "Additions that no preview shows",
    "  There are none.",
    "",
    "  Asking as 17 callers.",
    "",
    "Access check",
    "  Service account  Access token   Gets the token  Gets the role",
    "  ci/deployer      user:my-login  only itself     only itself",
    "  ci/secrets       organization   only itself     no role",
    "  ops/drift        team:ops       itself (+1)     only itself",
    "    (+1) granted the same access token: ops/operator",
    "  ops/operator     team:ops       only itself     only itself",
    "",
    "  ci/secrets requests user:my-login: denied",
    "  ops/drift requests an organization token: denied",
    "  ops/default requests team:ops: denied",
    "",
    "  32 of 32 checks passed (4 service accounts, 17 callers).",
    "",
    "Answers that the documentation leaves open",
    "  Does a rule on aud match an element of a list? Yes: ci/secrets was allowed,",
    "    and denied with another audience.",
    "  How does Pulumi Cloud deny? HTTP 400 with error and error_description, such",
  ]);
  assert.ok(lines.every((line) => line.length <= 80));
  assert.deepEqual([exitCode, left], [0, []]);
  // Nothing is asked twice, and no ID token is requested twice.
  assert.deepEqual([exchanges() - before, sentToSts.length, new Set(tokens).size], [17, 15, tokens.length]);
  assert.equal(tokens.length, 16);

  const kubeconfig = calls.flatMap(({ args }) => args).find((arg) => arg.startsWith("--kubeconfig=")) ?? "";
  const options = ["--region=us-west-2", "--profile=prod", `--role-arn=${ROLE}`, `--assume-role-arn=${ROLE}`];
  const api = calls.filter(({ args }) => args[0] === "api");
  assert.equal(api.length, 2);
  for (const { environment } of api)
    assert.ok(environment.includes(`PULUMI_BACKEND_URL='${simulation.pulumiCloud.url}'`));

  const [connect, ...sts] = calls.filter(({ tool }) => tool === "aws");
  assert.deepEqual(connect?.args, ["eks", "update-kubeconfig", "--name=my-cluster", kubeconfig, ...options]);
  const kubectl = calls.filter(({ tool }) => tool === "kubectl");
  assert.ok(kubectl.every(({ args }) => args.includes(kubeconfig) && args.includes("--request-timeout=20s")));
  const tokenRequests = kubectl.filter(({ args }) => args[1] === "token");
  assert.ok(tokenRequests.every(({ args }) => args.includes("--duration=600s")));
  for (const { args, seconds } of sts) {
    assert.equal(seconds, 30);
    assert.match(args[2] ?? "", /^--role-arn=arn:aws:iam::\d{12}:role\/pulumi-oidc-/);
    assert.deepEqual([...args.slice(0, 2), ...args.slice(3)], STS_COMMAND);
  }
});

const STS_COMMAND = [
  "sts",
  "assume-role-with-web-identity",
  "--role-session-name=live-access-check",
  "--duration-seconds=900",
  "--web-identity-token=file:///dev/stdin",
  "--no-sign-request",
  "--region=us-west-2",
  "--cli-connect-timeout=10",
  "--cli-read-timeout=10",
  "--query=AssumedRoleUser.Arn",
  "--output=text",
];

test("asks at most eight questions at a time, and reports them in their order", async () => {
  // The later a question is asked, the sooner it is answered.
  let waiting = 40;
  const { lines, atOnce } = await checkLive(stack, {
    allPairs: true,
    verbose: true,
    async answer(stdout, { args }) {
      if (args[0] === "sts") {
        waiting -= 1;
        await sleep(waiting);
      }
      return stdout;
    },
  });
  assert.equal(atOnce, 8);
  assert.match(lines.join("\n"), /46 of 46 checks passed \(4 service accounts, 25 callers\)\./);
  const callers = lines.flatMap((line) => /^ {4}([\w /]+): .* by/.exec(line)?.[1] ?? []);
  const [other, defect] = ["other audience", "invalid signature"];
  assert.deepEqual(callers.slice(0, 6), ["itself", "itself", other, defect, defect, "ci/default"]);
});

test("shows its progress on a terminal, and erases it", async (t) => {
  const { isTTY } = process.stderr;
  const written: string[] = [];
  t.mock.method(process.stderr, "write", (text: string) => written.push(text));
  for (const terminal of [false, true]) {
    process.stderr.isTTY = terminal;
    await checkLive(stack).finally(() => {
      process.stderr.isTTY = isTTY;
    });
    if (!terminal) assert.deepEqual(written, []);
  }
  const progress = written.join("");
  assert.match(progress, /pulumi preview --refresh reads/);
  assert.match(progress, /1 of 32 answers.*32 of 32 answers/s);
  assert.ok(progress.endsWith("\r\u001b[K"));
});

test("runs the AWS CLI for AWS STS without the user's configuration, except for its certificate authorities", async () => {
  const environment = {
    AWS_ENDPOINT_URL_STS: "https://vpce-1.sts.us-west-2.vpce.amazonaws.com",
    AWS_ENDPOINT_URL: "https://example.com",
    AWS_PROFILE: "other",
    AWS_CONFIG_FILE: "/home/me/.aws/config",
    AWS_STS_REGIONAL_ENDPOINTS: "legacy",
    AWS_CA_BUNDLE: "/etc/ssl/private-ca.pem",
  };
  const { exitCode, calls } = await checkLive(stack, { environment });
  assert.equal(exitCode, 0);
  const [first, ...others] = calls.filter(({ args }) => args[0] === "sts");
  assert.ok(first && others.length > 0);
  for (const { args, environment } of [first, ...others]) {
    const own = environment.match(/^AWS_.*/gm)?.sort();
    assert.deepEqual(own, [
      "AWS_CA_BUNDLE='/etc/ssl/private-ca.pem'",
      "AWS_CONFIG_FILE='/dev/null'",
      "AWS_MAX_ATTEMPTS='1'",
      "AWS_SHARED_CREDENTIALS_FILE='/dev/null'",
      "AWS_STS_REGIONAL_ENDPOINTS='regional'",
    ]);
    assert.ok(args.includes("--endpoint-url=https://vpce-1.sts.us-west-2.vpce.amazonaws.com"));
  }
});

test("uses the region of the stack, then that of the environment, or names the command that sets it", async () => {
  const { "aws:region": _, ...config } = stack.config;
  const withoutRegion = { ...stack, config };
  const [one, two] = [{ AWS_REGION: "eu-west-1" }, { AWS_DEFAULT_REGION: "eu-west-2" }];
  for (const [checked, environment, region] of [
    [stack, { ...one, ...two }, "us-west-2"],
    [withoutRegion, { ...one, ...two }, "eu-west-1"],
    [withoutRegion, two, "eu-west-2"],
  ] as const) {
    const { calls } = await checkLive(checked, { environment });
    const regions = calls.filter(({ tool }) => tool === "aws").map(({ args }) => args.join(" "));
    for (const args of regions) assert.ok(args.includes(`--region=${region}`), args);
  }
  const { exitCode, errors } = await checkLive(withoutRegion);
  assert.equal(errors, "The region is not set. To set it: pulumi config set aws:region REGION --stack prod");
  assert.equal(exitCode, 2);
});

test("exits 1 if only the preview found a difference", async () => {
  const { exitCode, stdout } = await checkLive(stack, { answer: edit(PREVIEW, /^/g, CHANGED) });
  assert.match(stdout, /32 of 32 checks passed/);
  assert.match(stdout, /^ {2}To apply the program again: pulumi up --refresh --stack prod$/m);
  assert.equal(exitCode, 1);
});

test("exits 1 and marks the row and the policy if a policy is too wide", async (t) => {
  const name = '"kubernetes.io".serviceaccount.name';
  await changePolicies(t, simulation, ([first, ...others]) => [
    { ...first, rules: { ...first?.rules, [name]: "d*" } } as AuthPolicy,
    ...others,
  ]);
  const { isTTY } = process.stdout;
  process.stdout.isTTY = true;
  t.after(() => {
    process.stdout.isTTY = isTTY;
  });
  const { exitCode, lines } = await checkLive(stack, { environment: { NO_COLOR: "" } });
  const yellow = "\u001b[33m";
  const marked = lines.filter((line) => line.startsWith(yellow)).map((line) => line.slice(yellow.length, -5));
  assert.deepEqual(marked, [
    '  A policy is not the program\'s: { "decision": "allow", "rules": {',
    '    "\\"kubernetes.io\\".namespace": "ci",',
    '    "\\"kubernetes.io\\".serviceaccount.name": "d*" }, "tokenType": "personal",',
    '    "userLogin": "my-login" }',
    "  ci/deployer      user:my-login  1 unexpected    only itself",
    "    ci/default: allowed by Pulumi Cloud. No setting allows this. Compare the",
    "      allow policy with npm start -- --policies.",
    "  31 of 32 checks passed (4 service accounts, 17 callers).",
  ]);
  assert.equal(exitCode, 1);
});

// No preview shows them: every question is answered as intended.
const KEYS = '"jwks": { "keys": [{ "kty": "RSA", "n": "…", "e": "AQAB" }] }, "name":';
const SECOND = '"oidcIssuers": [{ "id": "another", "name": "x", "url": "ISSUER/" },';
const EVERY_POD = '"policies": [{ "decision": "allow", "rules": { "sub": "*" } },';
const ADDED = 'A policy is not the program\'s: { "decision": "allow", "rules": { "sub": "*" } }';
for (const [what, calls, pattern, replacement, finding] of [
  ["the issuer has keys", ISSUERS, '"name":', KEYS, "The issuer has its own keys in jwks. Their owner can"],
  [
    "its limit differs",
    ISSUERS,
    /(?<="maxExpiration": )60/g,
    "90",
    "maxExpiration is 90. The program says 60.",
  ],
  [
    "its issuer differs",
    ISSUERS,
    /(?<="issuer": )".*"/g,
    '"https://x/\\u202e"',
    "issuer is https://x/\\u{202e}. The",
  ],
  [
    "its URL differs",
    ISSUERS,
    /(?<="url": )".*"/g,
    '"https://x"',
    "issuer's url is https://x. The program says",
  ],
  ["its URL is registered again", ISSUERS, '"oidcIssuers": [', SECOND, "a second time, with the ID another."],
  [
    "it has another ID",
    ISSUERS,
    /(?<="id": )"[^"]+"/g,
    '"another"',
    "the ID another. The issuer with the ID ",
  ],
  ["a policy was added", POLICIES, '"policies": [', EVERY_POD, ADDED],
  // The provider does not read a role.
  ["a policy grants a role", POLICIES, '"userLogin"', '"roleID": "admin", "userLogin"', '"roleID": "admin"'],
  ["a policy contains a token", POLICIES, '"my-login"', `"${ACCESS_TOKEN}"`, '"userLogin": "[redacted]"'],
  [
    "a ConfigMap has a key",
    CONFIG_MAP,
    '{"data":{',
    '{"data":{"constructor":"x",',
    "has the key constructor,",
  ],
  [
    "a ConfigMap has binary data",
    CONFIG_MAP,
    '{"data"',
    '{"binaryData":{"\u202e":""},"data"',
    "key \\u{202e},",
  ],
] as const) {
  test(`exits 1 if ${what}, though every answer is the intended one`, async () => {
    const replaced = replacement.replace("ISSUER", simulation.issuer.url);
    const { exitCode, stdout, errors } = await checkLive(stack, { answer: edit(calls, pattern, replaced) });
    assert.equal(errors, "");
    const [, additions = ""] = /^Additions that no preview shows$(.*?)^ {2}Asking as/ms.exec(stdout) ?? [];
    assert.ok(inOneLine(additions).includes(finding), stdout);
    assert.ok(!stdout.includes(ACCESS_TOKEN));
    assert.match(stdout, /32 of 32 checks passed/);
    assert.equal(exitCode, 1);
  });
}

test("ignores a service account that is not deployed yet, whose Kubernetes objects do not exist", async () => {
  const { exitCode, stdout, calls } = await checkLive(stack, {
    answer: (events, { args }) =>
      args[0] === "preview"
        ? events.replace(
            /^.*"op":"(refresh|same)","urn":"[^"]*::access\.ops\.operator\.pulumi.*$/gm,
            (event) => (event.includes('"refresh"') ? "" : event.replace(/"old":.*(?="new")/, "")),
          )
        : events,
  });
  assert.match(stdout, /\(3 service accounts, \d+ callers\)/);
  assert.ok(!calls.some(({ args }) => args.includes("operator")));
  assert.equal(exitCode, 0);
});

test("exits 1 if an intended caller is denied, and leaves the question about aud open", async (t) => {
  await changePolicies(t, simulation, (policies) => {
    return policies.map((policy) => ({ ...policy, rules: { ...policy.rules, aud: "someone-else" } }));
  });
  const { exitCode, stdout } = await checkLive(stack);
  assert.match(stdout, /^ {4}itself: denied by Pulumi Cloud .*\bCheck\s+policyRules,/ms);
  assert.match(stdout, /\d+ of \d+ checks passed .* match an element of a list\? Unknown\./s);
  assert.equal(exitCode, 1);
});

test("shows an example of each form of a denial, in the order of the answers", async (t) => {
  const url = await pulumiCloud(t, [
    respond(400, { error: "first" }),
    respond(403, { message: "second" }),
    respond(403, { message: "third" }),
  ]);
  const { stdout } = await checkLive(stack, { answer: pulumiCloudAt(url) });
  assert.deepEqual(stdout.match(/How does Pulumi Cloud deny\?[^?]*$/gm), [
    "How does Pulumi Cloud deny? HTTP 400 with error, such as: first",
    "How does Pulumi Cloud deny? HTTP 403 with message, such as: second",
  ]);
});

/** Starts a Pulumi Cloud that answers so, and returns its URL. */
async function pulumiCloud(t: TestContext, answers: Answer | Answer[]): Promise<string> {
  const certificate = await (await openCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });
  const { url, close } = await startEndpoint(answers, certificate);
  t.after(close);
  return url;
}

/** Returns the URL of a Pulumi Cloud that is not reachable. */
async function closedUrl(): Promise<string> {
  const { url, close } = await startEndpoint([]);
  await close();
  return url;
}

/** Makes another Pulumi Cloud that of the stack. */
function pulumiCloudAt(url: string): Edit {
  return (stdout) => stdout.replaceAll(simulation.pulumiCloud.url, url);
}

const RIGHT =
  "in organization acme, which the role Admin contains, and a login. To sign in: pulumi login https:";
// As the AWS provider reports it, behind the URN of the resource.
const REQUEST = `operation error IAM: GetRole, https response error StatusCode: 403, RequestID: ${"0".repeat(36)}`;
const READING = `refreshing urn:pulumi:prod::${"p".repeat(60)}::aws:iam/role:Role::access.ci.deployer: reading IAM Role (x): ${REQUEST}`;
const FORBIDDEN = `error:error: ${READING}, api error AccessDenied: \u001b[2J`;
const CONFIG = '"aws:region":"us-west-2"';
for (const [what, calls, pattern, replacement, message] of [
  [
    "the preview fails, such as without the right to read roles",
    ...[PREVIEW, ALL, FORBIDDEN],
    `The preview failed, so no token was sent: ${READING}, api error AccessDenied: \\u{1b}[2J To see all of it: pulumi preview --refresh --diff --stack prod`,
  ],
  [
    "the stack is not in the default organization, naming the option",
    ...[PREVIEW, ALL, "error:error: no stack named 'prod' found"],
    "no token was sent: no stack named 'prod' found Is it in another organization than your default one? npm start -- --live --stack ORGANIZATION/prod",
  ],
  ["the preview takes too long", PREVIEW, ALL, "error:", "so no token was sent: Failed to run pulumi"],
  [
    "the stack is not deployed",
    ...[PREVIEW, /"old":\{[^\n]*?"new":/g, '"new":'],
    'Stack "prod" is not deployed. To deploy it: pulumi up --stack prod',
  ],
  [
    "one ID token cannot be issued, naming the command that checks the right",
    ...[`${ID_TOKEN}operator`, ALL, "error:Error from server (Forbidden)"],
    "(Forbidden) To check your rights: kubectl auth can-i create serviceaccounts/token --namespace ops",
  ],
  [
    "the issuers cannot be read, naming the right",
    ...[ISSUERS, ALL, 'error:warning\n{ "error": { "code": "x", "message": "HTTP 403" } }'],
    `Failed to run pulumi api /api/orgs/acme/oidc/issuers: HTTP 403 No token was sent. This needs the right oidc_issuers:read ${RIGHT}`,
  ],
  [
    "the policies cannot be read, naming the right",
    ...[POLICIES, ALL, "error:unknown command"],
    `: Failed to run pulumi: unknown command No token was sent. This needs the right auth_policies:read ${RIGHT}`,
  ],
  [
    "the region would be another host",
    ...[PREVIEW, CONFIG, CONFIG.replace("us-west-2", "x.example.com/")],
    'The region is "x.example.com/", which is not the name of an AWS region.',
  ],
  [
    "the ID of the issuer in the state is a path",
    ...[PREVIEW, /"id":"acme\/(?=[\w-]+")/g, '"id":"acme/../'],
    "The ID of the OIDC issuer in the state is invalid: acme/../",
  ],
  ...["file:///etc/passwd", "https://example.com/", "arn:aws:iam::123456789012:user/me"].map((arn) => [
    `the state has the role ${arn}`,
    ...[PREVIEW, /(?<="arn":)"[^"]+"/g, JSON.stringify(arn)],
    `The ARN of an IAM role in the state is invalid: "${arn}". No token was sent.`,
  ]),
] as [string, string, RegExp | string, string, string][]) {
  test(`stops before any token is sent if ${what}`, () =>
    assertUnsent({ answer: edit(calls, pattern, replacement) }, message));
}

test("stops before any token is sent if the kubeconfig points to a different cluster, or AWS STS has no TLS", async () => {
  const identity = { namespace: "ci", serviceAccount: "deployer" };
  const token = await simulation.otherIssuer.token(identity, { audience: ["x"], expiresIn: 600 });
  await assertUnsent({ answer: edit(ID_TOKEN, ALL, token) }, "a different cluster: its issuer is https://");
  const environment = { AWS_ENDPOINT_URL_STS: "http://127.0.0.1:9" };
  await assertUnsent({ environment }, "AWS_ENDPOINT_URL_STS is http://127.0.0.1:9. Set it to an https URL");
});

async function assertUnsent(run: LiveRun, message: string): Promise<void> {
  const before = exchanges();
  const { exitCode, errors, sentToSts } = await checkLive(stack, run);
  assert.ok(errors.includes(message), errors);
  assert.deepEqual([exitCode, exchanges() - before, sentToSts], [2, 0, []]);
}

test("sends no token to a service whose certificate cannot be verified, whatever the environment says", async (t) => {
  const authority = await createCertificateAuthority();
  const endpoint = await startEndpoint(respond(200, {}), await authority.issue({ hosts: ["127.0.0.1"] }));
  t.after(endpoint.close);
  const { exitCode, errors } = await checkLive(stack, {
    answer: pulumiCloudAt(endpoint.url),
    environment: { NODE_TLS_REJECT_UNAUTHORIZED: "0" },
  });
  assert.match(
    errors,
    /^Failed to ask Pulumi Cloud at .*: UNABLE_TO_VERIFY_LEAF_SIGNATURE\. The check is incomplete/,
  );
  assert.deepEqual([exitCode, endpoint.requests], [2, []]);
});

for (const [what, answer, reason] of [
  ["hangs", hang(), "no answer within 10 s"],
  ["redirects", respond(307, "", { Location: "https://127.0.0.1:9" }), "unexpected redirect"],
  ["is not reachable", undefined, "ECONNREFUSED"],
  ["returns HTTP 503", respond(503, { message: "Service Unavailable" }), "HTTP 503"],
  ["returns a page", respond(200, "<html></html>"), "HTTP 200"],
  [
    "never ends its answer",
    drip("HTTP/1.1 200 OK\r\n\r\n", "a".repeat(16_384), 1),
    "HTTP 200: the answer is longer than 64 KB. The check is incomplete",
  ],
] satisfies [string, Answer | undefined, string][]) {
  test(`counts it neither as allowed nor as denied if Pulumi Cloud ${what}`, async (t) => {
    const url = answer ? await pulumiCloud(t, answer) : await closedUrl();
    if (what === "hangs") hurry(t);
    const { exitCode, errors } = await checkLive(stack, { answer: pulumiCloudAt(url) });
    assert.ok(errors.startsWith(`Failed to ask Pulumi Cloud at ${url}: ${reason}`), errors);
    assert.equal(exitCode, 2);
  });
}

test("ends the other questions once one cannot be answered", async () => {
  const before = exchanges();
  const { exitCode } = await checkLive(stack, { answer: edit("role/pulumi-oidc-ci-deployer", ALL, "None") });
  await sleep(500);
  assert.ok(exchanges() - before < 12, `${exchanges() - before} of 17`);
  assert.equal(exitCode, 2);
});

/** Makes each time limit a fiftieth of itself. */
function hurry(t: TestContext): void {
  const { timeout } = AbortSignal;
  t.mock.method(AbortSignal, "timeout", (milliseconds: number) =>
    timeout.call(AbortSignal, milliseconds / 50),
  );
}

// What the AWS CLI prints, versions 1 and 2: awsSts.engine.test.ts.
const UNREACHABLE = 'Could not connect to the endpoint URL: "https://sts.us-west-2.amazonaws.com/"';
const KEY = "Couldn't retrieve verification key from your identity provider";
for (const [what, printed, reason] of [
  ["is not reachable", `error:\naws: [ERROR]: ${UNREACHABLE}`, UNREACHABLE],
  ["returns a page", "None", "the answer contains no session of the role"],
  ["cannot read the keys", stsError("InvalidIdentityToken", KEY), `InvalidIdentityToken: ${KEY}`],
  [
    "limits the rate",
    stsError("Throttling", "Rate exceeded").replace(" operation:", " operation (reached max retries: 0):"),
    "Throttling: Rate exceeded",
  ],
  [
    "returns what the AWS CLI cannot read, without showing its credentials",
    `error:\nUnable to parse response (unclosed token).\nb'<SecretAccessKey>${SECRET_ACCESS_KEY}'`,
    "Unable to parse response (unclosed token)..",
  ],
] satisfies [string, string, string][]) {
  test(`counts it neither as allowed nor as denied if AWS STS ${what}`, async () => {
    const { exitCode, stdout, errors } = await checkLive(stack, { answer: edit(STS, ALL, printed) });
    assert.ok(errors.startsWith(`Failed to ask AWS STS in us-west-2: ${reason}`), errors);
    assert.match(errors, /The check is incomplete; run it again\.$/);
    assert.ok(!`${stdout}${errors}`.includes(SECRET_ACCESS_KEY));
    assert.equal(exitCode, 2);
  });
}

test("reads a denial of AWS STS as both versions of the AWS CLI print it, and shows its control characters", async () => {
  for (const code of ["AccessDenied", "IDPRejectedClaim", "InvalidIdentityToken"]) {
    const [one, two] = ["An error", "aws: [ERROR]: An error"];
    const denial = stsError(code, "No \u001b[2J").replace(one, code === "AccessDenied" ? two : one);
    const { exitCode, stdout, errors } = await checkLive(stack, {
      answer: edit(STS, ALL, denial),
      verbose: true,
    });
    assert.equal(errors, "");
    const row = `itself: denied by IAM role (${code}: No \\u{1b}[2J). Compare the trust policy`;
    assert.ok(inOneLine(stdout).includes(row), stdout);
    assert.equal(exitCode, 1);
  }
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`ends everything, leaves no file behind, and exits 130 after ${signal}`, async () => {
    let tokens = 0;
    const answer: Edit = (stdout, { args }, interrupt) => {
      if (args[1] === "token") tokens += 1;
      if (tokens === 1) interrupt();
      return stdout;
    };
    const { exitCode, files, left } = await startLive(stack, { answer, signal });
    assert.match(files, /^kubeconfig$/m);
    assert.deepEqual([exitCode, left], [130, []]);
  });
}

test("leaves no file behind when its reader stops reading", async () => {
  const { errors, left } = await startLive(stack, { stopsReading: true });
  assert.deepEqual([errors, left], ["", []]);
});

test("shows no token in its output, in arguments, in environments, or in files, and no progress in a file", async () => {
  const before = exchanges();
  const run = await startLive(stack, { verbose: true });
  assert.deepEqual([run.exitCode, run.errors], [0, ""]);
  // The answer contained the token, and the files the kubeconfig.
  assert.match(inOneLine(run.stdout), /InvalidIdentityToken: Not authorized: \[redacted\]/);
  assert.match(run.files, /^kubeconfig$/m);
  assert.deepEqual([exchanges() - before, run.sentToSts.length, run.left], [17, 15, []]);
  const tokens = run.sentToSts.flatMap((token) => token.split("."));
  const calls = run.calls.map(({ input, ...call }) => call);
  const seen = [run.stdout, run.errors, run.files, JSON.stringify(calls)].join("\n");
  for (const secret of [...run.tokens, ...tokens, SECRET_ACCESS_KEY]) assert.ok(!seen.includes(secret));
  assert.doesNotMatch(seen, /pul-[0-9a-f]{10}|eyJ[\w-]+/);
});

test("redacts what could be a token in the error of a program", async () => {
  const { exitCode, errors } = await checkLive(stack, {
    answer: edit(CONFIG_MAP, ALL, `error:\nUnauthorized: ${ACCESS_TOKEN}`),
  });
  assert.match(errors, /Unauthorized: \[redacted\]/);
  assert.ok(!errors.includes(ACCESS_TOKEN));
  assert.equal(exitCode, 2);
});

test("prints an error on standard error and exits 2, such as the program that is missing and where to get it", async () => {
  const { exitCode, errors, stdout, tokens } = await startLive(stack, { tools: ["aws", "pulumi"] });
  const message = "kubectl is not on PATH. To install it: https://kubernetes.io/docs/tasks/tools/";
  assert.deepEqual([exitCode, errors, tokens], [2, message, []]);
  assert.ok(!stdout.includes(message));
});

test("ends a program after a minute, and names it without its options", async (t) => {
  const directory = temporaryDirectory(t);
  const program = `#!/bin/sh\nPATH='${process.env.PATH}'\nexec sleep 60\n`;
  await writeFile(join(directory, "kubectl"), program, { mode: 0o755 });
  t.after(setVariables({ PATH: directory }));
  hurry(t);
  const run = toolRunner(new AbortController().signal);
  const startedAt = Date.now();
  await assert.rejects(run("kubectl", ["get", "configmap", "--kubeconfig=/tmp/x", "--", "settings"]), {
    message: "Failed to run kubectl get configmap settings: no answer within 60 s",
  });
  assert.ok(Date.now() - startedAt < 20_000);
});

test("quotes a word in a command for the shell, so that a name cannot run another command", () => {
  for (const word of ["prod", "a b", "it's", "'; id '", "$(id)", "-", ""]) {
    const { stdout } = spawnSync("bash", ["-c", `printf %s ${shellQuoted(word)}`], { encoding: "utf8" });
    assert.equal(stdout, word);
  }
});

test("redacts access tokens, shows characters that a terminal obeys, and cuts an answer before a token is complete", () => {
  const role = `pulumi-oidc-${"r".repeat(52)}`;
  assert.equal(redact(`a ${ACCESS_TOKEN} b`), "a [redacted] b");
  assert.equal(redact(`role ${role}, ${"k".repeat(65)}`), `role ${role}, [redacted]`);
  assert.equal(redact("one\ntwo \u001b[2J\u202e\u00a0"), "one\ntwo \\u{1b}[2J\\u{202e}\\u{a0}");
  const pieces = Array.from({ length: 40 }, (_, index) => `${index}`.padEnd(38, "k")).join(" ");
  assert.equal(shown(pieces).length, 200);
  assert.equal(shown("a\nb"), "a b");
  assert.equal(shown("\u202e".repeat(100)).length, 200);
});
