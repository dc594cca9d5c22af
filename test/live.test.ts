// `npm start -- --live`: kubectl, aws, and pulumi are programs on PATH that answer from the emulators; STS and Pulumi Cloud
// are the emulators' HTTPS endpoints.

import assert from "node:assert/strict";
import type { Server } from "node:https";
import { after, before, test } from "node:test";
import { openCertificateAuthority } from "../simulator/emulators/certificates";
import type { Simulation } from "../simulator/emulators/simulation";
import { runProgram } from "../simulator/mocks";
import { type Answer, hang, respond, startEndpoint } from "./endpoint";
import {
  type LiveRun,
  type LiveStack,
  runLive,
  SECRET_ACCESS_KEY,
  type StsRequest,
  startSts,
  stsError,
  urlOf,
} from "./liveTools";
import { changePolicies, startCluster } from "./stack";

const ROLE = "arn:aws:iam::123456789012:role/admin";
const YELLOW = "\u001b[33m";

// A quarter of each time limit.
const HURRY = {
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(
    "const { timeout } = AbortSignal; AbortSignal.timeout = (milliseconds) => timeout.call(AbortSignal, milliseconds / 4);",
  )}`,
};

// One stack that is up, for all tests.
let simulation: Simulation;
let stack: LiveStack;
let server: Server;
const stsRequests: StsRequest[] = [];

before(async () => {
  simulation = await startCluster();
  const serviceAccounts = [
    { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "my-login" },
    { namespace: "ci", name: "secrets", tokenType: "organization", tokenAudience: "api", createRole: false },
    { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops" },
    { namespace: "ops", name: "operator", tokenType: "team", teamName: "ops" },
  ];
  const config = {
    "aws:region": "us-west-2",
    "aws:profile": "prod",
    "aws:assumeRoles": JSON.stringify([{ roleArn: ROLE }]),
    "project:clusterName": "my-cluster",
    "project:pulumiApiUrl": simulation.pulumiCloud.url,
    "project:runJob": "false",
    "project:serviceAccounts": JSON.stringify(serviceAccounts),
  };
  const program = { project: "project", stack: "prod", organization: "acme", config };
  const { outputs, registered } = await runProgram(simulation, program);
  // Access tokens with a longer lifetime are denied: the check requests the shortest.
  const { id } = simulation.pulumiCloud.list()[0] ?? assert.fail("no issuer is registered");
  await simulation.pulumiCloud.update(id, { maxExpirationSeconds: 60 });
  server = await startSts(simulation.aws, stsRequests);
  stack = { simulation, config, outputs, registered, stsUrl: urlOf(server) };
});
after(async () => {
  server.close();
  await simulation.close();
});

test("allows each of four service accounts only as itself, and answers the open questions", async () => {
  stsRequests.length = 0;
  const before = sent();
  const { exitCode, lines, errors, calls, atOnce, left } = await runLive(stack, { accounts: 4 });
  assert.equal(errors, "");
  assert.match(lines.join(" "), /audit logs .* serviceaccounts\/token, .* pull request's workflow/);
  assert.deepEqual(lines.slice(lines.indexOf("Access check")).slice(0, 15), [
    "Access check",
    "  Service account  Pulumi Cloud            IAM role",
    "  ci/deployer      allowed, 3 denied       allowed, 3 denied",
    "  ci/secrets       allowed, 4 denied       no role",
    "  ops/drift        allowed (+1), 2 denied  allowed, 3 denied",
    "  ops/operator     allowed, 3 denied       allowed, 3 denied",
    "",
    "  (+N): N other service accounts, which are granted the same access token.",
    "",
    "  All 29 answers are as expected (4 service accounts, 17 callers).",
    "",
    "Answers that the documentation leaves open",
    "  Does a rule on aud match an element of a list? Yes: ci/secrets was allowed,",
    "    and denied with another audience.",
    "  How does Pulumi Cloud deny? HTTP 400 with error and error_description, such",
  ]);
  assert.ok(lines.every((line) => line.length <= 80));
  assert.deepEqual([exitCode, atOnce, left], [0, 1, []]);
  // Nothing is asked twice.
  assert.deepEqual([sent() - before, stsRequests.length], [29, 12]);

  const kubeconfig = calls.flatMap(({ args }) => args).find((arg) => arg.startsWith("--kubeconfig=")) ?? "";
  const options = ["--region=us-west-2", "--profile=prod", `--role-arn=${ROLE}`, `--assume-role-arn=${ROLE}`];
  const aws = calls.filter(({ tool }) => tool === "aws").map(({ args }) => args);
  assert.deepEqual(aws, [["eks", "update-kubeconfig", "--name=my-cluster", kubeconfig, ...options]]);
  const kubectl = calls.filter(({ tool }) => tool === "kubectl");
  assert.ok(kubectl.every(({ args }) => args.includes(kubeconfig) && args.includes("--request-timeout=20s")));
  const tokenRequests = kubectl.filter(({ args }) => args[1] === "token");
  assert.ok(tokenRequests.every(({ args }) => args.includes("--duration=600s")));
  for (const { authorization, form } of stsRequests) {
    const { WebIdentityToken, RoleArn, RoleSessionName, ...request } = Object.fromEntries(form);
    const expected = { Action: "AssumeRoleWithWebIdentity", Version: "2011-06-15", DurationSeconds: "900" };
    assert.deepEqual([request, authorization], [expected, undefined]);
  }
});

test("asks as every other service account with --all-pairs", async () => {
  const { exitCode, stdout } = await runLive(stack, { accounts: 4, arguments: ["--all-pairs"] });
  assert.match(stdout, /All 43 answers are as expected \(4 service accounts, 25 callers\)\./);
  assert.equal(exitCode, 0);
});

test("exits 1 and marks the row if a policy is too wide", async (t) => {
  const name = '"kubernetes.io".serviceaccount.name';
  await changePolicies(t, simulation, ({ rules, ...policy }) =>
    rules[name] === "deployer" ? { ...policy, rules: { ...rules, [name]: "d*" } } : { ...policy, rules },
  );
  const environment = { NODE_OPTIONS: "--import=data:text/javascript,process.stdout.isTTY=true" };
  const { exitCode, lines, stdout } = await runLive(stack, { accounts: 2, environment });
  assert.match(stdout, /^ {2}To see what was changed by hand: pulumi preview --refresh --diff --stack prod$/m);
  assert.deepEqual(
    lines.filter((line) => line.startsWith(YELLOW)).map((line) => line.slice(YELLOW.length, -5)),
    [
      "  ci/deployer      allowed, 2 of 3 denied  allowed, 3 denied",
      "    ci/default: allowed by Pulumi Cloud. No setting allows this. Compare the",
      "      allow policy with npm start -- --policies.",
      "  1 of 13 answers is unexpected (2 service accounts, 9 callers).",
    ],
  );
  assert.equal(exitCode, 1);
});

test("exits 1 if an intended caller is denied, and leaves the question about aud open", async (t) => {
  await changePolicies(t, simulation, (policy) => ({ ...policy, rules: { ...policy.rules, aud: "someone-else" } }));
  const { exitCode, stdout } = await runLive(stack, { accounts: 2 });
  assert.match(stdout, /^ {4}itself: denied by Pulumi Cloud .*\bCheck\s+policyRules,/ms);
  assert.match(stdout, /answers are unexpected .* match an element of a list\? Unknown\./s);
  assert.equal(exitCode, 1);
});

const tokenOfOtherCluster = () => simulation.otherIssuer.token({ namespace: "ci", serviceAccount: "deployer" });
for (const [what, run, message] of [
  ["if a program is missing", { tools: ["aws", "pulumi"] }, "kubectl is not on PATH. To install it: https://"],
  [
    "if the stack is not deployed",
    { answer: (stdout, { args }) => (args[1] === "output" ? "{}" : stdout) },
    'Stack "prod" is not deployed. To deploy it: pulumi up --stack prod',
  ],
  [
    "if the kubeconfig points to a different cluster",
    { answer: (stdout, { args }) => (args[1] === "token" ? tokenOfOtherCluster() : stdout) },
    "points to a different cluster: its issuer is https://",
  ],
  [
    "if a ConfigMap names another Pulumi Cloud",
    {
      answer: (stdout, { tool }) =>
        tool === "kubectl" ? stdout.replace(simulation.pulumiCloud.url, "https://example.com") : stdout,
    },
    "The ConfigMap of ci/deployer names https://example.com instead of",
  ],
  [
    "if the AWS STS endpoint has no TLS",
    { environment: { AWS_ENDPOINT_URL_STS: "http://127.0.0.1:9" } },
    "AWS_ENDPOINT_URL_STS is http://127.0.0.1:9. Set it to an https URL",
  ],
  [
    "if the certificate of a service cannot be verified, whatever the environment says",
    { environment: { NODE_EXTRA_CA_CERTS: "", NODE_TLS_REJECT_UNAUTHORIZED: "0" } },
    "SELF_SIGNED_CERT_IN_CHAIN",
  ],
  [
    "after a minute if a program hangs",
    {
      environment: HURRY,
      answer: (stdout, { args }) => (args[1] === "configmap" ? new Promise<string>(() => {}) : stdout),
    },
    "Failed to run kubectl get configmap deployer-pulumi-token: no answer within 60 s",
  ],
] satisfies [string, LiveRun, string][]) {
  test(`stops before any token is sent ${what}`, async () => {
    const before = sent();
    const { exitCode, errors } = await runLive(stack, run);
    assert.ok(errors.includes(message), errors);
    assert.deepEqual([exitCode, sent() - before], [2, 0]);
  });
}

const throttled = stsError("Throttling", "Rate exceeded");
const unverified = stsError("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider");
for (const [what, answer, reason, services = ["Pulumi Cloud", "AWS STS"]] of [
  ["hangs", hang(), "no answer within 10 s"],
  ["redirects", "redirect", "unexpected redirect"],
  ["is not reachable", undefined, "ECONNREFUSED"],
  ["returns HTTP 503", respond(503, { message: "Service Unavailable" }), "HTTP 503"],
  ["returns a page", respond(200, "<html></html>"), "HTTP 200"],
  ["limits the rate", respond(400, throttled), "HTTP 400 Throttling: Rate exceeded", ["AWS STS"]],
  ["cannot read the keys", respond(400, unverified), "HTTP 400 InvalidIdentityToken: Couldn't", ["AWS STS"]],
] satisfies [string, Answer | "redirect" | undefined, string, string[]?][]) {
  test(`counts it neither as allowed nor as denied if ${services.join(" or ")} ${what}, and asks once`, async (t) => {
    const other = await startEndpoint(respond(200, {}));
    t.after(other.close);
    const redirect = respond(307, "", { Location: other.url });
    const certificate = await (await openCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });
    const { url, requests, close } = await startEndpoint(
      answer === "redirect" ? redirect : (answer ?? []),
      certificate,
    );
    if (answer) t.after(close);
    else await close();
    const hurry = what === "hangs" ? HURRY : {};
    for (const service of services) {
      requests.length = 0;
      const run: LiveRun =
        service === "AWS STS"
          ? { environment: { ...hurry, AWS_ENDPOINT_URL_STS: url } }
          : { environment: hurry, answer: (stdout) => stdout.replaceAll(simulation.pulumiCloud.url, url) };
      const { exitCode, errors } = await runLive(stack, run);
      assert.ok(errors.startsWith(`Failed to ask ${service} at ${url}: ${reason}`), errors);
      assert.deepEqual([exitCode, requests.length, other.connections()], [2, answer ? 1 : 0, 0]);
    }
  });
}

test("leaves no file behind when it is interrupted", async () => {
  const answer: LiveRun["answer"] = (stdout, { args }, interrupt) => {
    if (args[1] === "token") interrupt();
    return stdout;
  };
  const { exitCode, files, left } = await runLive(stack, { answer });
  assert.match(files, /^kubeconfig$/m);
  assert.deepEqual([exitCode, left], [130, []]);
});

test("shows no token in its output, in arguments, in environments, or in files", async () => {
  stsRequests.length = 0;
  const run = await runLive(stack, { accounts: 2, arguments: ["--verbose"] });
  assert.equal(run.exitCode, 0, run.errors);
  // The answer contained the token, and the files the kubeconfig.
  assert.match(run.stdout.replaceAll(/\s+/g, " "), /InvalidIdentityToken: Not authorized: \[redacted\]/);
  assert.match(run.files, /^kubeconfig$/m);
  const tokens = stsRequests.flatMap(({ form }) => form.get("WebIdentityToken")?.split(".") ?? []);
  const seen = [run.stdout, run.errors, run.files, JSON.stringify(run.calls)].join("\n");
  assert.ok(tokens.length > 0);
  for (const secret of [...run.tokens, ...tokens, SECRET_ACCESS_KEY]) assert.ok(!seen.includes(secret));
  assert.doesNotMatch(seen, /pul-[0-9a-f]{10}|eyJ[\w-]+/);
});

/** Returns how many tokens the services have received. */
function sent(): number {
  return simulation.pulumiCloud.exchanges.length + stsRequests.length;
}
