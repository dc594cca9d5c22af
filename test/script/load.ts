// What only a large number shows: 100 pods whose token endpoint is too busy for half of all requests. `npm run test:load`.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { findLeaks, idTokenOf, runScript } from "../support/script";
import { type Answer, grant, respond, startEndpoint } from "./endpoint";

const PODS = 100;

test(`${PODS} pods at once spread their retries, and each receives its own token`, async () => {
  const endpoint = await startEndpoint(halfBusy);
  const idTokens = Array.from({ length: PODS }, (_, pod) =>
    idTokenOf({ sub: `system:serviceaccount:load:${pod}` }),
  );
  // Enough for some 30 attempts: that all of them fail for one of the pods happens once in millions of runs.
  const environment = { PULUMI_TOKEN_RETRY_SECONDS: "180" };
  const command = ["printenv", "PULUMI_ACCESS_TOKEN"];
  const runs = await Promise.all(
    idTokens.map((idToken) => runScript({ url: endpoint.url, idToken, environment, command })),
  );
  await endpoint.close();

  for (const [pod, run] of runs.entries()) {
    const idToken = idTokens[pod] ?? "";
    const accessToken = accessTokenFor(idToken);
    assert.equal(run.exitCode, 0, run.stderr);
    assert.equal(run.stdout, `${accessToken}\n`);
    assert.deepEqual(findLeaks({ ...run, stdout: "" }, [idToken, accessToken]), []);
  }
  const { requests } = endpoint;
  const start = Math.min(...requests.map(({ arrivedAt }) => arrivedAt));
  const arrivals = requests.map(({ arrivedAt }) => Math.floor((arrivedAt - start) / 1000));
  const length = Math.max(...arrivals) + 1;
  const rates = Array.from(
    { length },
    (_, second) => arrivals.filter((arrival) => arrival === second).length,
  );
  const peak = Math.max(...rates);
  const late = rates.slice(rates.indexOf(peak) + 15);
  assert.ok(Math.max(...late) < peak / 4, `requests per second: ${rates}`);
  const seconds = runs.map(({ milliseconds }) => milliseconds / 1000).toSorted((a, b) => a - b);
  console.log(`${requests.length} requests by ${PODS} pods, of which ${requests.length - PODS} were answered 429 or 503
requests per second: ${rates.join(" ")}
seconds until a token: ${seconds[PODS / 2]?.toFixed(1)} (median), ${seconds.at(-1)?.toFixed(1)} (all)`);
});

const halfBusy: Answer = (socket, request) => {
  const luck = Math.random();
  const busy = luck < 0.25 ? respond(503, "") : respond(429, "", { "Retry-After": "3" });
  const answer = luck < 0.5 ? busy : grant(accessTokenFor(request.form.get("subject_token") ?? ""));
  return answer(socket, request);
};

function accessTokenFor(idToken: string): string {
  return `pul-${createHash("sha1").update(idToken).digest("hex")}`;
}
