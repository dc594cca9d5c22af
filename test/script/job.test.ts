// How the Job runs the exchange script: as a workload does, but patient with a policy that takes effect a few seconds late.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DENIAL_RETRY_SECONDS, jobPod } from "../../kubernetes/jobPod";
import { type Answer, respond } from "../support/endpoint";
import { expand } from "../support/podSpec";
import { exchange, granted, type ScriptOptions } from "../support/script";

const denied = respond(401, { error: "access_denied", error_description: "unauthorized" });

test("the Job asks again after a denial, and runs its command once the exchange is granted", async () => {
  const command = ["bash", "-c", "echo ran; exit 77"];
  const { exitCode, stdout, stderr } = await runJob([denied, granted], command);
  assert.deepEqual([exitCode, stdout], [77, "ran\n"]);
  assert.match(stderr, /^exchange-token: acme granted an access token .*\n$/);
});

test("one grant is not enough for the Job: another replica of Pulumi Cloud can still deny it", async () => {
  const { exitCode, stdout } = await runJob([granted, denied, granted], ["echo", "ran"]);
  assert.deepEqual([exitCode, stdout], [0, "ran\n"]);
});

test("the Job ends at once if it is deleted while it waits", async () => {
  const running = { pid: 0 };
  let stoppedAt = Number.NaN;
  const stop: Answer = async (socket, request) => {
    await denied(socket, request);
    await sleep(500);
    process.kill(running.pid, "SIGTERM");
    stoppedAt = performance.now();
  };
  const { exitCode } = await runJob(stop, ["true"], { running });
  // Its own exit code: the first process of a container ignores a signal that it does not handle.
  assert.equal(exitCode, 143);
  assert.ok(performance.now() - stoppedAt < 1500);
});

test("a denial that stays ends the Job after half a minute, and is printed once", async () => {
  const elapsed = DENIAL_RETRY_SECONDS - 8;
  const { exitCode, stdout, stderr, endpoint } = await runJob(denied, ["echo", "ran"], { elapsed });
  assert.deepEqual([exitCode, stdout], [77, ""]);
  // It asks every three seconds, on a busy machine less often.
  assert.ok(endpoint.requests.length >= 2 && endpoint.requests.length <= 4, String(endpoint.requests.length));
  assert.equal(stderr.match(/denied the token exchange/g)?.length, 1);
});

test("what is not a denial ends the Job at once", async () => {
  const { exitCode, stderr, endpoint } = await runJob(respond(404, ""), ["true"]);
  assert.deepEqual([exitCode, endpoint.requests.length], [76, 1]);
  assert.match(stderr, /HTTP 404, not a token/);
});

test("the command arrives unchanged, though Kubernetes expands $(NAME) and $$", async () => {
  const words = [..."$(HOME) $$(HOME) $HOME $$ $$$ ' \" \\ `id` $(id)".split(" "), "a b", "", "\u00fc\n*"];
  const { stdout } = await runJob(granted, ["bash", "-c", 'printf "[%s]" "$@"', "-", ...words]);
  assert.equal(stdout, words.map((word) => `[${word}]`).join(""));
});

/** Runs the command of the Job's container. @param options `elapsed`: seconds that have passed since its pod started. */
function runJob(
  answers: Answer | Answer[],
  command: string[],
  { elapsed = 0, ...options }: Pick<ScriptOptions, "running"> & { elapsed?: number } = {},
) {
  const names = { serviceAccountName: "a", configMap: "a", tokenAudience: "a", image: "a" };
  const [container] = jobPod({ ...names, command, podSpec: {} }).containers;
  const [words = [], args = []] = [container?.command, container?.args].map((list) => {
    return (list as string[]).map((word) => expand(word, { HOME: "/home" }));
  });
  const environment = elapsed > 0 ? { SECONDS: String(elapsed) } : {};
  return exchange(answers, { ...options, launcher: words.slice(0, -1), command: args, environment });
}
