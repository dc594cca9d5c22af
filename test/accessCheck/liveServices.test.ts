// How the live check asks: Pulumi Cloud, AWS STS, and the programs that it runs.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { type TestContext, test } from "node:test";
import { assumeRole } from "../../accessCheck/awsSts";
import { requestAccessToken } from "../../accessCheck/requestAccessToken";
import { printableJson, redact, shellQuoted, shown } from "../../accessCheck/terminal";
import { ToolError, toolRunner } from "../../accessCheck/tools";
import { emulatorCertificate } from "../../simulator/emulators/certificates";
import { type Answer, hang, respond, startEndpoint } from "../support/endpoint";
import { writePrograms } from "../support/programs";
import { ROOT } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";
import { stsError } from "./liveTools";

const ACCESS_TOKEN = `pul-${"0123456789".repeat(4)}`;

/** Divides every time limit by 50. */
function hurry(t: TestContext): void {
  const { timeout } = AbortSignal;
  t.mock.method(AbortSignal, "timeout", (milliseconds: number) =>
    timeout.call(AbortSignal, milliseconds / 50),
  );
}

const RUNNING = new AbortController().signal;

test("requests an access token of a minute", async (t) => {
  const granted = respond(200, { access_token: ACCESS_TOKEN });
  const { url, close, requests } = await startEndpoint(granted, await emulatorCertificate());
  t.after(close);
  const answer = await requestAccessToken(url, { tokenExpirationSeconds: "7200" }, "TOKEN", RUNNING);
  assert.deepEqual(answer, { allowed: true, reason: "granted" });
  assert.equal(requests[0]?.form.get("expiration"), "60");
});

for (const [what, answer, reason, stop = RUNNING] of [
  ["hangs", hang(), "no answer within 10 s"],
  ["is interrupted", hang(), "This operation was aborted", AbortSignal.abort()],
  ["redirects", respond(307, "", { Location: "https://127.0.0.1:9" }), "unexpected redirect"],
  ["is not reachable", (socket) => socket.destroy(), "UND_ERR_SOCKET"],
  ["returns HTTP 503", respond(503, { message: "Service Unavailable" }), "HTTP 503: Service Unavailable"],
  ["returns a page", respond(200, "<html></html>"), "HTTP 200: HTTP 200"],
] satisfies [string, Answer, string, AbortSignal?][]) {
  test(`counts a question neither as allowed nor as denied if Pulumi Cloud ${what}`, {
    timeout: 60_000,
  }, async (t) => {
    if (what === "hangs") hurry(t);
    const { url, close } = await startEndpoint(answer, await emulatorCertificate());
    t.after(close);
    await assert.rejects(requestAccessToken(url, {}, "TOKEN", stop), { message: reason });
  });
}

// awsSts.engine.test.ts asks with the AWS CLI that is installed. These are the messages of both versions.
const UNREACHABLE = 'Could not connect to the endpoint URL: "https://sts.us-west-2.amazonaws.com/"';
const NO_KEYS = "Couldn't retrieve verification key from your identity provider";
for (const [printed, isDenial, reason] of [
  [stsError("AccessDenied", "No").replace("An error", "aws: [ERROR]: An error"), true, "AccessDenied: No"],
  [stsError("IDPRejectedClaim", "No"), true, "IDPRejectedClaim: No"],
  [stsError("InvalidIdentityToken", "No"), true, "InvalidIdentityToken: No"],
  [stsError("InvalidIdentityToken", NO_KEYS), false, `InvalidIdentityToken: ${NO_KEYS}`],
  [`\naws: [ERROR]: ${UNREACHABLE}`, false, UNREACHABLE],
] as const) {
  test(`counts what AWS STS answers ${isDenial ? "as denied" : "neither as allowed nor as denied"}: ${reason}`, async () => {
    const run = () => Promise.reject(new ToolError("Failed to run aws", printed));
    const answer = assumeRole({ region: "us-west-2", stsUrl: undefined }, "arn", "TOKEN", run);
    if (isDenial) assert.deepEqual(await answer, { allowed: false, reason });
    else await assert.rejects(answer, { message: reason });
  });
}

test("ends a program after a minute or when it is interrupted, and says where to get one that is missing", async (t) => {
  const directory = temporaryDirectory(t);
  writePrograms(directory, { kubectl: `PATH='${process.env.PATH}'\nexec sleep 60` }, "/bin/sh");
  t.after(setVariables({ PATH: directory }));
  const stop = new AbortController();
  const run = toolRunner(stop.signal, ROOT);
  const startedAt = Date.now();

  // With the real time limit.
  const interrupted = run("kubectl", ["get", "pods"]);
  hurry(t);
  // Without its options, which name temporary files.
  await assert.rejects(run("kubectl", ["get", "configmap", "--kubeconfig=/tmp/x", "--", "settings"]), {
    message: "Failed to run kubectl get configmap settings: no answer within 60 s",
  });
  stop.abort();
  await assert.rejects(interrupted, /^Error: Failed to run kubectl get pods: .*aborted/);
  assert.ok(Date.now() - startedAt < 20_000);

  const missing = "pulumi is not on PATH. To install it: https://www.pulumi.com/docs/install/";
  await assert.rejects(toolRunner(RUNNING, ROOT)("pulumi", []), { message: missing });
});

test("quotes a word in a command for the shell, so that a name cannot run another command", () => {
  const words = ["prod", "a b", "it's", "'; id '", "$(id)", "-", ""];
  const printed = execFileSync("bash", ["-c", `printf '%s\\n' ${words.map(shellQuoted).join(" ")}`]);
  assert.deepEqual(printed.toString().split("\n"), [...words, ""]);
});

test("redacts access tokens, shows characters that a terminal obeys, and cuts an answer before a token is complete", () => {
  const role = `pulumi-oidc-${"r".repeat(52)}`;
  assert.equal(redact(`a ${ACCESS_TOKEN} b`), "a [redacted] b");
  assert.equal(redact(`role ${role}, ${"k".repeat(65)}`), `role ${role}, [redacted]`);
  assert.equal(redact("one\ntwo \u001b[2J\u202e\u00a0"), "one\ntwo \\u{1b}[2J\\u{202e}\\u{a0}");
  const pieces = Array.from({ length: 40 }, (_, index) => `${index}`.padEnd(38, "k")).join(" ");
  assert.equal(shown(pieces).length, 200);
  assert.equal(printableJson(["\u202e\u009b"]), '[\n  "\\u202e\\u009b"\n]');
  assert.equal(shown("a\nb"), "a b");
  assert.equal(shown("\u202e".repeat(100)).length, 200);
});
