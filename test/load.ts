// 300 pods start at once, and the token endpoint is too busy for half of all requests: `npm run test:load`.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { type Answer, grant, respond, startEndpoint } from "./endpoint";
import { findLeaks, idTokenOf, runScript } from "./script";

const PODS = 300;
/** Enough for some 30 attempts: that all of them fail for one of the pods happens once in millions of runs. */
const SECONDS_TO_RETRY = 180;
const RETRY_AFTER_SECONDS = 3;

interface Attempt {
  status: number;
  /** In milliseconds since 1970. */
  arrivedAt: number;
}

test(`${PODS} pods at once spread their retries, and each receives its own token`, async () => {
  const attempts: Attempt[] = [];
  const endpoint = await startEndpoint(halfBusy(attempts));
  const idTokens = Array.from({ length: PODS }, (_, pod) => idTokenOf({ sub: `system:serviceaccount:load:${pod}` }));
  const environment = { PULUMI_TOKEN_RETRY_SECONDS: String(SECONDS_TO_RETRY) };
  const command = ["bash", "-c", 'printf %s "$PULUMI_ACCESS_TOKEN" | sha256sum'];
  const runs = await Promise.all(
    idTokens.map((idToken) => runScript({ url: endpoint.url, idToken, environment, command })),
  );
  await endpoint.close();

  for (const [pod, run] of runs.entries()) {
    const idToken = idTokens[pod] ?? "";
    const accessToken = accessTokenFor(idToken);
    assert.equal(run.exitCode, 0, run.stderr);
    assert.equal(run.stdout, `${createHash("sha256").update(accessToken).digest("hex")}  -\n`);
    assert.deepEqual(findLeaks(run, [], [idToken, accessToken]), []);
    assert.doesNotMatch(run.stderr, /HTTP 429\. Retrying in [0-2]\./, "earlier than Retry-After says");
  }
  const pauses = runs.map(({ stderr }) => String(stderr.match(/(?<=Retrying in )[\d.]+/g) ?? []));
  const long = pauses.filter((sequence) => sequence.includes(","));
  assert.equal(new Set(long).size, long.length, "two pods wait for the same times");

  const busy = attempts.filter(({ status }) => status !== 200).length;
  assert.ok(Math.abs(busy / attempts.length - 0.5) < 0.1, "half of all requests are answered 429 or 503");
  const rates = requestsPerSecond(attempts);
  const peak = Math.max(...rates);
  const late = rates.slice(rates.indexOf(peak) + 15);
  assert.ok(Math.max(...late) < peak / 4, `requests per second: ${rates}`);
  const seconds = runs.map(({ milliseconds }) => milliseconds / 1000).toSorted((a, b) => a - b);
  console.log(`${attempts.length} requests by ${PODS} pods, of which ${busy} were answered 429 or 503
requests per second: ${rates.join(" ")}
seconds until a token: ${seconds[PODS / 2]?.toFixed(1)} (median), ${seconds.at(-1)?.toFixed(1)} (all)`);
});

/** Returns the answer of a busy endpoint, which adds each attempt to the list. */
function halfBusy(attempts: Attempt[]): Answer {
  return async (socket, request) => {
    const idToken = request.form.get("subject_token") ?? "";
    const luck = Math.random();
    const status = luck < 0.5 ? 200 : luck < 0.75 ? 429 : 503;
    attempts.push({ status, arrivedAt: request.arrivedAt });
    const headers: Record<string, string> = status === 429 ? { "Retry-After": String(RETRY_AFTER_SECONDS) } : {};
    const answer = status === 200 ? grant(accessTokenFor(idToken)) : respond(status, "", headers);
    await answer(socket, request);
  };
}

function accessTokenFor(idToken: string): string {
  return `pul-${createHash("sha1").update(idToken).digest("hex")}`;
}

function requestsPerSecond(attempts: Attempt[]): number[] {
  const start = Math.min(...attempts.map(({ arrivedAt }) => arrivedAt));
  const rates: number[] = [];
  for (const { arrivedAt } of attempts) {
    const second = Math.floor((arrivedAt - start) / 1000);
    rates[second] = (rates[second] ?? 0) + 1;
  }
  return Array.from(rates, (rate) => rate ?? 0);
}
