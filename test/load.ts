// 300 pods start at once, and the token endpoint is too busy for half of all requests: `npm run test:load`.

import { createHash } from "node:crypto";
import { type Answer, grant, respond, startEndpoint, type TokenRequest } from "./endpoint";
import { findLeaks, idTokenOf, runScript, type ScriptRun } from "./script";

const PODS = 300;
/** Enough for some 30 attempts: that all of them fail for one of the pods happens once in millions of runs. */
const SECONDS_TO_RETRY = 180;
const RETRY_AFTER_SECONDS = 3;

interface Attempt extends TokenRequest {
  status: number;
}

main().then((failed) => {
  process.exitCode = failed === 0 ? 0 : 1;
});

async function main(): Promise<number> {
  const attempts = new Map<string, Attempt[]>();
  const endpoint = await startEndpoint(halfBusy(attempts));
  const idTokens = Array.from({ length: PODS }, (_, pod) => idTokenOf({ sub: `system:serviceaccount:load:${pod}` }));
  const environment = { PULUMI_TOKEN_RETRY_SECONDS: String(SECONDS_TO_RETRY) };
  const command = ["bash", "-c", 'printf %s "$PULUMI_ACCESS_TOKEN" | sha256sum'];
  const runs = await Promise.all(
    idTokens.map((idToken) => runScript({ url: endpoint.url, idToken, environment, command })),
  );
  await endpoint.close();

  const histories = idTokens.map((idToken) => attempts.get(idToken) ?? []);
  const rates = requestsPerSecond(histories.flat());
  const peak = Math.max(...rates);
  const late = rates.slice(rates.indexOf(peak) + 15);
  const total = histories.flat().length;
  const busy = histories.flat().filter(({ status }) => status !== 200).length;
  const pauses = runs.map(reportedPauses);
  const longPauses = pauses.filter((sequence) => sequence.length >= 2).map(String);
  const early = runs.filter(({ stderr }) => /HTTP 429\. Retrying in [0-2]\./.test(stderr));

  console.log(`pods                     ${PODS}
requests                 ${total}, of which ${busy} were answered 429 or 503
most attempts of a pod   ${Math.max(...histories.map(({ length }) => length))}
requests per second      ${rates.join(" ")}
seconds until a token    ${percentiles(runs)}
`);

  const accessTokens = idTokens.map(accessTokenFor);
  const leaks = runs.flatMap((run, pod) => findLeaks(run, [], [idTokens[pod] ?? "", accessTokens[pod] ?? ""]));
  const checks: [string, boolean][] = [
    ["every pod received its own token", runs.every((run, pod) => run.stdout === sha256Line(accessTokens[pod] ?? ""))],
    ["every script ended with 0", runs.every(({ exitCode }) => exitCode === 0)],
    ["half of all requests were answered 429 or 503", Math.abs(busy / total - 0.5) < 0.1],
    ["fifteen seconds after the peak the rate is below a quarter of it", late.every((rate) => rate < peak / 4)],
    ["no pod retries before Retry-After has passed", early.length === 0],
    ["no two pods wait for the same times", new Set(longPauses).size === longPauses.length],
    ["no token leaks", leaks.length === 0],
  ];
  for (const [name, passed] of checks) console.log(`${passed ? "ok    " : "FAILED"} ${name}`);
  const failed = checks.filter(([, passed]) => !passed).length;
  console.log(`\n${checks.length - failed} passed, ${failed} failed`);
  return failed;
}

function halfBusy(attempts: Map<string, Attempt[]>): Answer {
  return async (socket, request) => {
    const idToken = request.form.get("subject_token") ?? "";
    const luck = Math.random();
    const status = luck < 0.5 ? 200 : luck < 0.75 ? 429 : 503;
    attempts.set(idToken, [...(attempts.get(idToken) ?? []), { ...request, status }]);
    const headers: Record<string, string> = status === 429 ? { "Retry-After": String(RETRY_AFTER_SECONDS) } : {};
    const answer = status === 200 ? grant(accessTokenFor(idToken)) : respond(status, "", headers);
    await answer(socket, request);
  };
}

function accessTokenFor(idToken: string): string {
  return `pul-${createHash("sha1").update(idToken).digest("hex")}`;
}

function sha256Line(text: string): string {
  return `${createHash("sha256").update(text).digest("hex")}  -\n`;
}

function requestsPerSecond(requests: Attempt[]): number[] {
  const start = Math.min(...requests.map(({ arrivedAt }) => arrivedAt));
  const rates: number[] = [];
  for (const { arrivedAt } of requests) {
    const second = Math.floor((arrivedAt - start) / 1000);
    rates[second] = (rates[second] ?? 0) + 1;
  }
  return Array.from(rates, (rate) => rate ?? 0);
}

/** Returns the pauses that a script reported, in seconds. */
function reportedPauses({ stderr }: ScriptRun): string[] {
  return Array.from(stderr.matchAll(/Retrying in ([\d.]+) s/g), ([, seconds = ""]) => seconds);
}

function percentiles(runs: ScriptRun[]): string {
  const seconds = runs.map(({ milliseconds }) => milliseconds / 1000).sort((a, b) => a - b);
  const at = (share: number) => (seconds[Math.ceil(seconds.length * share) - 1] ?? 0).toFixed(1);
  return `${at(0.5)} (median), ${at(0.9)} (90 %), ${at(1)} (all)`;
}
