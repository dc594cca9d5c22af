// `npm start -- --live`: kubectl, aws, and pulumi are programs on PATH that answer from the emulators; STS and Pulumi Cloud
// are the emulators' HTTPS endpoints.

import assert from "node:assert/strict";
import { createServer, type Server } from "node:https";
import { createServer as createTcpServer } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, type TestContext, test } from "node:test";
import type { AuthPolicy } from "../simulator/authPolicy";
import { openCertificateAuthority } from "../simulator/certificates";
import { runProgram } from "../simulator/mocks";
import { type Simulation, startSimulation } from "../simulator/simulation";
import { respond, startEndpoint } from "./endpoint";
import { type LiveRun, type LiveStack, listen, type Outcome, runLive, TOOLS } from "./liveTools";

const SECRET_ACCESS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const ROLE = "arn:aws:iam::123456789012:role/admin";
const YELLOW = "\u001b[33m";

// One stack that is up, for all tests.
let simulation: Simulation;
let stack: LiveStack;
let server: Server;
const stsRequests: { authorization: string | undefined; form: URLSearchParams }[] = [];
/** A code and a message that STS answers with, instead of a decision. */
let stsError: string | undefined;

const sts = async () => {
  const authority = await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY);
  return createServer(await authority.issue({ hosts: ["127.0.0.1"] }), async (request, response) => {
    const form = new URLSearchParams(await text(request));
    stsRequests.push({ authorization: request.headers.authorization, form });
    const [role = "", token = ""] = ["RoleArn", "WebIdentityToken"].map((name) => form.get(name) ?? "");
    const { allowed, reason } = await simulation.aws.assumeRoleWithWebIdentity(role, token);
    const denial = reason.includes("trust policy") ? "AccessDenied" : "InvalidIdentityToken";
    const [code, message] = (stsError ?? `${denial}: Not authorized`).split(": ");
    const isGranted = allowed && !stsError;
    response.writeHead(isGranted ? 200 : code === "AccessDenied" ? 403 : 400, { "Content-Type": "text/xml" });
    // The worst that an answer could contain.
    const result = `<AssumeRoleWithWebIdentityResult>${SECRET_ACCESS_KEY}</AssumeRoleWithWebIdentityResult>`;
    const error = `<ErrorResponse><Error><Code>${code}</Code><Message>${message}: ${token}</Message></Error></ErrorResponse>`;
    response.end(isGranted ? result : error);
  });
};

before(async () => {
  simulation = await startSimulation({
    region: "us-west-2",
    cluster: { name: "my-cluster", hasOidcProvider: true },
    namespaces: ["ci", "ops"],
    registrationMilliseconds: 0,
  });
  const serviceAccounts = [
    { namespace: "ci", name: "deployer", userLogin: "my-login" },
    { namespace: "ci", name: "secrets", tokenType: "organization", tokenAudience: "api", createRole: false },
    { namespace: "ops", name: "drift", tokenType: "team", teamName: "ops" },
    { namespace: "ops", name: "operator", tokenType: "team", teamName: "ops" },
  ].map((entry) => ({ tokenType: "personal", ...entry }));
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
  await changeIssuer({ maxExpirationSeconds: 60 });
  server = await sts();
  stack = { simulation, config, outputs, registered, stsUrl: `https://127.0.0.1:${await listen(server)}` };
});
after(async () => {
  server.close();
  await simulation.close();
});

test("allows each of four service accounts only as itself, and answers the open questions", async () => {
  stsRequests.length = 0;
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
    "  Access is as intended: 4 service accounts, 17 callers, 29 answers.",
    "",
    "Answers that the documentation leaves open",
    "  Does a rule on aud match an element of a list? Yes: ci/secrets was allowed,",
    "    and denied with another audience.",
    "  How does Pulumi Cloud deny? HTTP 400 with error and error_description, such",
  ]);
  assert.ok(lines.every((line) => line.length <= 80));
  assert.equal(exitCode, 0);
  assert.equal(atOnce, 1);
  assert.deepEqual(left, []);

  const kubeconfig = calls.flatMap(({ args }) => args).find((arg) => arg.startsWith("--kubeconfig=")) ?? "";
  const options = ["--region=us-west-2", "--profile=prod", `--role-arn=${ROLE}`, `--assume-role-arn=${ROLE}`];
  const aws = calls.filter(({ tool }) => tool === "aws").map(({ args }) => args);
  assert.deepEqual(aws, [["eks", "update-kubeconfig", "--name=my-cluster", kubeconfig, ...options]]);
  const kubectl = calls.filter(({ tool }) => tool === "kubectl");
  assert.ok(kubectl.every(({ args }) => args.includes(kubeconfig)));
  const tokenRequests = kubectl.filter(({ args }) => args[1] === "token");
  assert.ok(tokenRequests.every(({ args }) => args.includes("--duration=600s")));
  for (const { authorization, form } of stsRequests) {
    const { WebIdentityToken, RoleArn, RoleSessionName, ...request } = Object.fromEntries(form);
    assert.deepEqual(request, {
      Action: "AssumeRoleWithWebIdentity",
      Version: "2011-06-15",
      DurationSeconds: "900",
    });
    assert.equal(authorization, undefined);
  }
});

test("asks as every other service account with --all-pairs", async () => {
  const { exitCode, stdout } = await runLive(stack, { accounts: 4, arguments: ["--all-pairs"] });
  assert.match(stdout, /Access is as intended: 4 service accounts, 25 callers, 43 answers\./);
  assert.equal(exitCode, 0);
});

test("exits 1 and marks the row if a policy is too wide", async (t) => {
  const name = '"kubernetes.io".serviceaccount.name';
  await changePolicies(t, ({ rules, ...policy }) =>
    rules[name] === "deployer" ? { ...policy, rules: { ...rules, [name]: "d*" } } : { ...policy, rules },
  );
  const environment = { NODE_OPTIONS: "--import=data:text/javascript,process.stdout.isTTY=true" };
  const { exitCode, lines, stdout } = await runLive(stack, { accounts: 2, environment });
  assert.match(stdout, /^ {2}To see what was changed by hand: pulumi preview --refresh --diff --stack prod$/m);
  assert.deepEqual(
    lines.filter((line) => line.startsWith(YELLOW)).map((line) => line.slice(YELLOW.length, -5)),
    [
      "  ci/deployer      allowed, 2 of 3 denied  allowed, 3 denied",
      "    ci/default: allowed by Pulumi Cloud. No setting allows this: check the allow",
      "      policy, which --policies prints.",
      "  1 unexpected answer: 2 service accounts, 9 callers, 13 answers.",
    ],
  );
  assert.equal(exitCode, 1);
});

test("exits 1 if an intended caller is denied, and leaves the question about aud open", async (t) => {
  await changePolicies(t, (policy) => ({ ...policy, rules: { ...policy.rules, aud: "someone-else" } }));
  const { exitCode, stdout } = await runLive(stack, { accounts: 2 });
  assert.match(stdout, /^ {4}itself: denied by Pulumi Cloud/m);
  assert.match(stdout, /match an element of a list\? Not shown\./);
  assert.equal(exitCode, 1);
});

test("stops before any token is sent if the kubeconfig leads to another cluster", async () => {
  const { otherIssuer } = simulation;
  const token = () => otherIssuer.token({ namespace: "ci", serviceAccount: "deployer" });
  const run = runLive(stack, { answer: (stdout, { args }) => (args[1] === "token" ? token() : stdout) });
  await assertNothingSent(run, `leads to another cluster: its issuer is ${otherIssuer.url}, and the stack's`);
});

test("stops before any token is sent if a ConfigMap names another Pulumi Cloud", async () => {
  const change = (stdout: string) => stdout.replace(simulation.pulumiCloud.url, "https://example.com");
  const run = runLive(stack, {
    answer: (stdout, { tool }) => (tool === "kubectl" ? change(stdout) : stdout),
  });
  await assertNothingSent(run, "The ConfigMap of ci/deployer names https://example.com instead of");
});

for (const tool of TOOLS) {
  test(`says how to install ${tool} if it is missing`, async () => {
    const run = runLive(stack, { tools: TOOLS.filter((other) => other !== tool) });
    await assertNothingSent(run, `There is no ${tool} on PATH. To install it: https://`);
  });
}

test("reports a denied TokenRequest with the command that checks the right", async () => {
  const denial =
    'error: failed to create token: serviceaccounts "deployer" is forbidden: User "me" cannot create resource "serviceaccounts/token" in API group "" in the namespace "ci"';
  const answer: LiveRun["answer"] = (stdout, { args }) => (args[1] === "token" ? denial : stdout);
  const advice = "To check your rights: kubectl auth can-i create serviceaccounts/token --namespace ci";
  await assertNothingSent(runLive(stack, { answer }), `${denial} ${advice}`);
});

test("sends no token to an AWS STS endpoint without TLS", async () => {
  const run = await runLive(stack, { environment: { AWS_ENDPOINT_URL_STS: "http://127.0.0.1:9" } });
  assert.equal(run.exitCode, 2);
  assert.match(run.errors, /AWS_ENDPOINT_URL_STS is http:.*Set it to an https URL/);
  assert.deepEqual(run.tokens, []);
});

test("stops after 10 seconds if a service hangs", async (t) => {
  const hanging = createTcpServer();
  t.after(() => hanging.close());
  const url = `https://127.0.0.1:${await listen(hanging)}`;
  const startedAt = Date.now();
  const answer = (stdout: string) => stdout.replaceAll(simulation.pulumiCloud.url, url);
  const runs = [{ answer }, { environment: { AWS_ENDPOINT_URL_STS: url } }].map((run) => runLive(stack, run));
  for (const [index, service] of ["Pulumi Cloud", "AWS STS"].entries()) {
    const { exitCode, errors } = (await runs[index]) ?? assert.fail();
    assert.match(errors, new RegExp(`^Failed to ask ${service} at ${url}: no answer within 10 s`));
    assert.equal(exitCode, 2);
  }
  assert.ok(Date.now() - startedAt < 40_000);
});

for (const error of [
  "Throttling: Rate exceeded",
  "IDPCommunicationError: Error communicating with the issuer",
  "InvalidIdentityToken: Couldn't retrieve verification key from your identity provider",
]) {
  test(`does not count ${error.split(":")[0]} as a denial if STS does not decide`, async (t) => {
    stsError = error;
    t.after(() => {
      stsError = undefined;
    });
    const { exitCode, errors } = await runLive(stack, {});
    assert.match(errors, new RegExp(`^Failed to ask AWS STS at \\S+: HTTP 400 ${error}: `));
    assert.equal(exitCode, 2);
  });
}

for (const [what, answer] of Object.entries({
  "HTTP 503": respond(503, { message: "Service Unavailable" }),
  "a page": respond(200, "<html></html>"),
})) {
  test(`counts ${what} from Pulumi Cloud neither as a denial nor as a token`, async (t) => {
    const authority = await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY);
    const certificate = await authority.issue({ hosts: ["127.0.0.1"] });
    const { url, requests, close } = await startEndpoint(answer, certificate);
    t.after(close);
    const change = (stdout: string) => stdout.replaceAll(simulation.pulumiCloud.url, url);
    await assertNothingSent(runLive(stack, { answer: change }), `Failed to ask Pulumi Cloud at ${url}: HTTP `);
    assert.equal(requests.length, 1);
  });
}

test("sends no token to a service with an unverified certificate, whatever the environment says", async () => {
  const environment = { NODE_EXTRA_CA_CERTS: "", NODE_TLS_REJECT_UNAUTHORIZED: "0" };
  await assertNothingSent(runLive(stack, { environment }), "SELF_SIGNED_CERT_IN_CHAIN");
});

test("leaves no file behind when it is interrupted", async () => {
  const answer: LiveRun["answer"] = (stdout, { args }, interrupt) => {
    if (args[1] === "token") interrupt();
    return stdout;
  };
  const { exitCode, files, left } = await runLive(stack, { answer });
  assert.match(files, /^kubeconfig$/m);
  assert.deepEqual(left, []);
  assert.equal(exitCode, 130);
});

test("shows no token in its output, in arguments, in environments, or in files", async () => {
  const run = await runLive(stack, { accounts: 2, arguments: ["--verbose"] });
  assert.equal(run.exitCode, 0, run.errors);
  // The answer contained the token, and the files the kubeconfig.
  assert.match(run.stdout, /InvalidIdentityToken: Not authorized:\s+\[redacted\]/);
  assert.match(run.files, /^kubeconfig$/m);
  const tokens = stsRequests.flatMap(({ form }) => form.get("WebIdentityToken")?.split(".") ?? []);
  const seen = [run.stdout, run.errors, run.files, JSON.stringify(run.calls)].join("\n");
  for (const secret of [...run.tokens, ...tokens, SECRET_ACCESS_KEY]) assert.ok(!seen.includes(secret));
  assert.doesNotMatch(seen, /pul-[0-9a-f]{10}|eyJ[\w-]+/);
});

async function assertNothingSent(run: Promise<Outcome>, message: string): Promise<void> {
  const sent = () => simulation.pulumiCloud.exchanges.length + stsRequests.length;
  const before = sent();
  const { exitCode, errors } = await run;
  assert.ok(errors.includes(message), errors);
  assert.equal(exitCode, 2);
  assert.equal(sent(), before);
}

async function changeIssuer(change: object): Promise<void> {
  const issuer = simulation.pulumiCloud.list()[0] ?? assert.fail("no issuer is registered");
  await simulation.pulumiCloud.update(issuer.id, { ...issuer.registration, ...change });
}

/** Changes the policies in Pulumi Cloud behind the stack's back, until the test ends. */
async function changePolicies(t: TestContext, change: (policy: AuthPolicy) => AuthPolicy): Promise<void> {
  const policies = simulation.pulumiCloud.list()[0]?.registration.policies ?? [];
  await changeIssuer({ policies: policies.map(change) });
  t.after(() => changeIssuer({ policies }));
}
