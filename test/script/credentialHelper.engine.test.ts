// The exchange script under the real Pulumi CLI, as its wrapper and as its credential helper.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { emulatorCertificate, simulationDirectory } from "../../simulator/emulators/certificates";
import { type ClusterIssuer, startIssuer } from "../../simulator/emulators/issuer";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { startServer } from "../../simulator/emulators/server";
import { forward } from "../support/cloudApi";
import { missingCli } from "../support/pulumiCli";
import { EXCHANGE_SCRIPT, runScript } from "../support/script";

const POD = { namespace: "default", serviceAccount: "deployer" };
const LIST = "pulumi stack ls --all --json";
const PAGES = 12;
const SECONDS_PER_PAGE = 10;
const TOKEN_SECONDS = 40;

/** Starts a command with the script as its credential helper, as in the pods of workloads. */
const HELPER = ["bash", "-c", 'PULUMI_CREDENTIAL_HELPER=$0 exec "$@"'];

/** The same with the script around the command, as in the Job. */
const WRAPPED = { launcher: ["bash", "-c", 'PULUMI_CREDENTIAL_HELPER=$0 exec "$0" "$@"'] };

/** Returns the command that stores a login to a backend. */
const storeLogin = (url: string) =>
  `mkdir -p "$PULUMI_HOME" && printf '{"current":"%s","accessTokens":{"%s":"pul-old"}}' "${url}" "${url}" >"$PULUMI_HOME/credentials.json"`;

/** Writes a Pulumi.yaml that selects the foreign backend. */
const SELECT = `printf 'name: foreign\nruntime: nodejs\nbackend:\n  url: %s\n' "$FOREIGN" >Pulumi.yaml`;

interface RunOptions {
  launcher?: string[];
  exitCode?: number;
  tokenSeconds?: number;
  revokeAfterPage?: number;
  secondsPerPage?: number;
}

describe("the Pulumi CLI", { skip: missingCli, concurrency: true }, () => {
  let issuer: ClusterIssuer;
  let cloud: PulumiCloud;
  before(async () => {
    issuer = await startIssuer();
    cloud = await startPulumiCloud({ registrationMilliseconds: 0 });
    const rules = { sub: `system:serviceaccount:${POD.namespace}:${POD.serviceAccount}` };
    const policy: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules };
    await cloud.register({ organization: "acme", name: "eks", url: issuer.url, policies: [policy] });
  });
  after(() => Promise.all([issuer?.close(), cloud?.close()]));

  test("asks the script, which names the backend", async () => {
    const { screen, curlCalls, reasons } = await run("pulumi whoami");
    // Only the name is printed: the CLI shows what a helper prints to standard error.
    assert.deepEqual([screen, curlCalls.length, reasons], ["alice\n", 1, ["initial, no backend"]]);
  });

  test("asks the script in a wrapped command too, whatever token the wrapper has exported", async () => {
    const twice = 'pulumi whoami && rm -r "$PULUMI_HOME" && PULUMI_ACCESS_TOKEN=pul-outdated pulumi whoami';
    const { screen, curlCalls, reasons } = await run(twice, WRAPPED);
    assert.equal(screen.match(/^alice$/gm)?.length, 2, screen);
    assert.deepEqual([curlCalls.length, reasons], [3, ["initial", "initial"]]);
  });

  // As an older CLI, which does not know the variable.
  test("uses the wrapper's token and backend if it asks no helper, whatever a Pulumi.yaml selects", async () => {
    const command = `${SELECT}; unset PULUMI_CREDENTIAL_HELPER; pulumi whoami`;
    const { screen, curlCalls, reasons, foreign } = await run(command, WRAPPED);
    assert.match(screen, /^alice$/m);
    assert.deepEqual([curlCalls.length, reasons, foreign], [1, [], []]);
  });

  test("is granted a token after an earlier login to the same backend, whatever token is stored", async () => {
    const { screen, reasons } = await run(`${storeLogin("$BACKEND")}; pulumi whoami`);
    assert.deepEqual([screen, reasons], ["alice\n", ["initial"]]);
  });

  test(`renews a token of ${TOKEN_SECONDS} seconds in one command of ${PAGES * SECONDS_PER_PAGE} seconds`, async () => {
    const { screen, milliseconds, curlCalls, reasons, failures } = await run(LIST);
    assert.ok(milliseconds > PAGES * SECONDS_PER_PAGE * 1000);
    assert.equal(screen.match(/"name": "acme\/project\/page-\d+"/g)?.length, PAGES);

    const [first, ...renewals] = reasons;
    assert.equal(first, "initial, no backend");
    assert.ok(renewals.length >= 3 && renewals.every((reason) => reason === "expired"), String(renewals));
    assert.deepEqual([curlCalls.length, failures], [1 + renewals.length, []]);
  });

  test("renews a token that is revoked in the middle of a command", async () => {
    const revoked = { tokenSeconds: 7200, revokeAfterPage: 2, secondsPerPage: 0 };
    const { reasons, failures } = await run(LIST, revoked);
    assert.deepEqual([reasons, failures], [["initial, no backend", "rejected"], [401]]);
  });

  for (const [what, command] of Object.entries({
    "a Pulumi.yaml selects": `${SELECT}; pulumi stack ls`,
    "`pulumi login` selects": 'pulumi login "$FOREIGN"',
    "an earlier login selected, in a home that is kept": `${storeLogin("$FOREIGN")}; pulumi whoami`,
    "a variable of the pod selects": 'PULUMI_BACKEND_URL="$FOREIGN" pulumi whoami',
  })) {
    test(`sends nothing to a foreign backend that ${what}`, async () => {
      const { screen, reasons, foreign } = await run(command, { exitCode: 1 });
      assert.match(screen, /Denied: the Pulumi CLI selected the backend '.*exit status 77/s);
      assert.deepEqual([foreign, reasons], [[], ["initial"]]);
    });
  }

  /** Runs a command of the script, which finds the URLs of its backend and of a foreign one in BACKEND and FOREIGN. */
  async function run(command: string, options: RunOptions = {}) {
    const [api, foreign] = [await startApi(options), await startApi(options)];
    const directory = simulationDirectory();
    const log = join(directory, randomUUID());
    // One more line records the requests of the CLI.
    const record = `(($# > 0)) || exec < <(tee -a '${log}')`;
    await writeFile(log, "");
    const script = await readFile(EXCHANGE_SCRIPT, "utf8");
    const ca = join(directory, "ca.pem");
    const { stdout, stderr, ...result } = await runScript({
      url: api.url,
      idToken: await issuer.token(POD, { audience: ["urn:pulumi:org:acme"], expiresIn: 600 }),
      command: ["bash", "-c", command],
      launcher: options.launcher ?? HELPER,
      script: script.replace("\n", `\n${record}\n`),
      settings: { tokenExpirationSeconds: String(options.tokenSeconds ?? TOKEN_SECONDS) },
      environment: {
        BACKEND: api.url,
        FOREIGN: foreign.url,
        // The CLI does not look for its home in HOME.
        PULUMI_HOME: `${log}.home`,
        PULUMI_SKIP_UPDATE_CHECK: "true",
        // As in pods: the default.
        PULUMI_TOKEN_RETRY_SECONDS: undefined,
        SSL_CERT_FILE: ca,
        CURL_CA_BUNDLE: ca,
      },
    });
    await Promise.all([api.close(), foreign.close()]);

    const screen = stdout + stderr;
    assert.equal(result.exitCode, options.exitCode ?? 0, screen);
    const requests = (await readFile(log, "utf8")).match(/\{[^}]*\}/g) ?? [];
    const reasons = requests.map((request) => {
      const { reason, selectedBackendUrl } = JSON.parse(request);
      return selectedBackendUrl ? reason : `${reason}, no backend`;
    });
    // 404 is the answer of APIs that are not emulated, such as the capabilities, which the CLI does not need.
    const failures = api.statuses.filter((status) => ![200, 404].includes(status));
    return { ...result, screen, reasons, failures, foreign: foreign.statuses };
  }

  /** Serves the pages of `pulumi stack ls`, and lets the emulated Pulumi Cloud answer all other requests. */
  async function startApi({ revokeAfterPage, secondsPerPage = SECONDS_PER_PAGE }: RunOptions) {
    const statuses: number[] = [];
    let revoked: string | undefined;

    const server = await startServer(await emulatorCertificate(), async (request) => {
      const { pathname, searchParams } = new URL(request.url ?? "", "https://api");
      const { authorization } = request.headers;
      const isList = pathname === "/api/user/stacks";
      if (isList) request.url = "/api/user";
      if (authorization === revoked) delete request.headers.authorization;
      const answer = await forward(request, cloud);
      statuses.push(answer.status);
      if (!isList || answer.status !== 200) return answer;

      const page = Number(searchParams.get("continuationToken") ?? 1);
      await sleep(secondsPerPage * 1000);
      if (page === revokeAfterPage) revoked = authorization;
      const stacks = [{ orgName: "acme", projectName: "project", stackName: `page-${page}` }];
      const next = page < PAGES && { continuationToken: String(page + 1) };
      return { status: 200, body: { stacks, ...next } };
    });
    return { url: server.origin, statuses, close: server.close };
  }
});
