// 300 pods that start at once, against a token endpoint that is too busy for half of all requests: `npm run test:load`.

import { createHash } from "node:crypto";
import { type Answer, grant, respond, startEndpoint, type TokenRequest } from "./endpoint";
import { findLeaks, idTokenOf, runScript, type ScriptRun } from "./script";

const PODS = 300;
/** Long enough that nobody is out of luck: one in a billion is refused more often than this lasts. */
const SECONDS_TO_RETRY = 120;
const RETRY_AFTER_SECONDS = 1;
/** Pauses that differ by less than this are alike. */
const ALIKE_MILLISECONDS = 20;

interface Attempt extends TokenRequest {
  status: number;
  /** Whether the answer had a Retry-After header. */
  retryAfter: boolean;
}

main().then((failed) => {
  process.exitCode = failed === 0 ? 0 : 1;
});

async function main(): Promise<number> {
  const attempts = new Map<string, Attempt[]>();
  const endpoint = await startEndpoint(halfBusy(attempts));
  const idTokens = Array.from({ length: PODS }, (_, pod) =>
    idTokenOf({ sub: `system:serviceaccount:load:${pod}` }),
  );
  const runs = await Promise.all(
    idTokens.map((idToken) =>
      runScript({
        url: endpoint.url,
        idToken,
        environment: { PULUMI_TOKEN_RETRY_SECONDS: String(SECONDS_TO_RETRY) },
        command: ["bash", "-c", 'printf %s "$PULUMI_ACCESS_TOKEN" | sha256sum'],
      }),
    ),
  );
  await endpoint.close();

  const histories = idTokens.map((idToken) => attempts.get(idToken) ?? []);
  const rates = requestsPerSecond(histories.flat());
  const peak = Math.max(...rates);
  const late = rates.slice(rates.indexOf(peak) + 5);
  const busy = histories.flat().filter(({ status }) => status !== 200).length;
  const total = histories.flat().length;
  const delays = runs.map(announcedDelays);
  const longDelays = delays.filter((sequence) => sequence.length >= 2).map(String);
  const alike = mostAlike(delays.flat().map((seconds) => Number(seconds) * 1000));
  const tooEarly = histories.flatMap((history) =>
    history.filter((attempt, index) => cameTooEarly(attempt, history[index + 1])),
  );

  console.log(`pods                             ${PODS}`);
  console.log(`requests                         ${total}, of which ${busy} were answered 429 or 503`);
  console.log(`attempts of the unluckiest pod   ${Math.max(...histories.map(({ length }) => length))}`);
  console.log(`requests in each second          ${rates.join(" ")}`);
  console.log(`seconds until a token            ${percentiles(runs)}`);
  console.log(`pauses alike within ${ALIKE_MILLISECONDS} ms        ${alike} of ${busy} at most
`);

  const checks: [string, boolean][] = [
    [
      "every pod got its own token",
      runs.every((run, pod) => run.stdout === hashLine(accessTokenFor(idTokens[pod] ?? ""))),
    ],
    ["every script ended with 0", runs.every(({ exitCode }) => exitCode === 0)],
    ["half of all requests were refused", Math.abs(busy / total - 0.5) < 0.1],
    ["five seconds after the peak the rate is below a quarter of it", late.every((rate) => rate < peak / 4)],
    ["nobody comes back before Retry-After is over", tooEarly.length === 0],
    ["no two pods wait for the same times", new Set(longDelays).size === longDelays.length],
    ["pauses are spread, so that no wave of refusals comes back as one", alike < busy / 10],
    [
      "no token leaks",
      runs.every(
        (run, pod) =>
          findLeaks(run, [], [idTokens[pod] ?? "", accessTokenFor(idTokens[pod] ?? "")]).length === 0,
      ),
    ],
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
    const retryAfter = status === 429;
    attempts.set(idToken, [...(attempts.get(idToken) ?? []), { ...request, status, retryAfter }]);
    const headers: Record<string, string> = retryAfter ? { "Retry-After": String(RETRY_AFTER_SECONDS) } : {};
    const answer = status === 200 ? grant(accessTokenFor(idToken)) : respond(status, "", headers);
    await answer(socket, request);
  };
}

function accessTokenFor(idToken: string): string {
  return `pul-${createHash("sha1").update(idToken).digest("hex")}`;
}

function hashLine(text: string): string {
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

/** The pauses that a script announced, in seconds. */
function announcedDelays({ stderr }: ScriptRun): string[] {
  return Array.from(stderr.matchAll(/trying again in ([\d.]+) s/g), ([, seconds = ""]) => seconds);
}

function cameTooEarly(attempt: Attempt, next: Attempt | undefined): boolean {
  if (!attempt.retryAfter || !next) return false;
  return next.arrivedAt - attempt.arrivedAt < RETRY_AFTER_SECONDS * 1000;
}

function mostAlike(pauses: number[]): number {
  const within = (start: number) =>
    pauses.filter((pause) => pause >= start && pause < start + ALIKE_MILLISECONDS).length;
  return Math.max(0, ...pauses.map(within));
}

function percentiles(runs: ScriptRun[]): string {
  const seconds = runs.map(({ milliseconds }) => milliseconds / 1000).sort((a, b) => a - b);
  const at = (share: number) => (seconds[Math.ceil(seconds.length * share) - 1] ?? 0).toFixed(1);
  return `${at(0.5)} (median), ${at(0.9)} (90 %), ${at(1)} (all)`;
}
