// The exchange script under the real Pulumi CLI, as its wrapper and as its credential helper.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import {
  type CertificateAuthority,
  openCertificateAuthority,
  simulationDirectory,
} from "../../simulator/emulators/certificates";
import { type ClusterIssuer, startIssuer } from "../../simulator/emulators/issuer";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { startServer } from "../../simulator/emulators/server";
import { missingCli } from "../support/pulumiCli";
import { EXCHANGE_SCRIPT, runScript, type ScriptOptions } from "../support/script";

const POD = { namespace: "default", serviceAccount: "deployer" };
const LIST = ["pulumi", "stack", "ls", "--all", "--json"];
const PAGES = 12;
const SECONDS_PER_PAGE = 10;
const TOKEN_SECONDS = 40;

/** Starts a command with the script as its credential helper, as in the pods of workloads. */
const HELPER = ["bash", "-c", 'PULUMI_CREDENTIAL_HELPER=$0 exec "$@"'];

/** Starts a command with the script around it, and as its credential helper, as in the Job. */
const WRAPPER_WITH_HELPER = ["bash", "-c", 'PULUMI_CREDENTIAL_HELPER=$0 exec "$0" "$@"'];

/** Stores a login to the backend `$0`. */
const STORE_LOGIN = `mkdir -p "$PULUMI_HOME" && printf '{"current":"%s","accessTokens":{"%s":"pul-old"}}' "$0" "$0" >"$PULUMI_HOME/credentials.json"`;

/** Writes a Pulumi.yaml that selects the backend `$0`. */
const SELECT = `printf 'name: foreign\nruntime: nodejs\nbackend:\n  url: %s\n' "$0" >Pulumi.yaml`;

interface RunOptions extends Partial<ScriptOptions> {
  exitCode?: number;
  revokeAfterPage?: number;
  secondsPerPage?: number;
}

describe("the Pulumi CLI", { skip: missingCli, concurrency: true }, () => {
  let authority: CertificateAuthority;
  let issuer: ClusterIssuer;
  let cloud: PulumiCloud;
  before(async () => {
    authority = await openCertificateAuthority();
    issuer = await startIssuer();
    cloud = await startPulumiCloud({ registrationMilliseconds: 0 });
    const rules = { sub: `system:serviceaccount:${POD.namespace}:${POD.serviceAccount}` };
    const policy: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules };
    await cloud.register({ organization: "acme", name: "eks", url: issuer.url, policies: [policy] });
  });
  after(() => Promise.all([issuer?.close(), cloud?.close()]));

  test("asks the script, which names the backend", async () => {
    const { screen, curlCalls, reasons } = await run(["pulumi", "whoami"]);
    // Only the name is printed: the CLI shows what a helper prints to standard error.
    assert.deepEqual([screen, curlCalls.length, reasons], ["alice\n", 1, ["initial, no backend"]]);
  });

  test("asks the script in a wrapped command too, whatever token the wrapper has exported", async () => {
    const twice = 'pulumi whoami && rm -r "$PULUMI_HOME" && PULUMI_ACCESS_TOKEN=pul-outdated pulumi whoami';
    const { screen, curlCalls, reasons } = await run(["bash", "-c", twice], {
      launcher: WRAPPER_WITH_HELPER,
    });
    assert.equal(screen.match(/^alice$/gm)?.length, 2, screen);
    assert.deepEqual([curlCalls.length, reasons], [3, ["initial", "initial"]]);
  });

  // As an older CLI, which does not know the variable.
  test("uses the wrapper's token and backend if it asks no helper, whatever a Pulumi.yaml selects", async () => {
    const foreign = await startApi();
    const command = `${SELECT}; unset PULUMI_CREDENTIAL_HELPER; pulumi whoami`;
    const wrapped = run(["bash", "-c", command, foreign.url], { launcher: WRAPPER_WITH_HELPER });
    const { screen, curlCalls, reasons } = await wrapped.finally(foreign.close);
    assert.match(screen, /^alice$/m);
    assert.deepEqual([curlCalls.length, reasons, foreign.statuses], [1, [], []]);
  });

  test("is granted a token after an earlier login to the same backend, whatever token is stored", async () => {
    const { screen, reasons } = await run(["bash", "-c", `${STORE_LOGIN}; pulumi whoami`, "URL"]);
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
    const settings = { tokenExpirationSeconds: "7200" };
    const { reasons, failures } = await run(LIST, { settings, revokeAfterPage: 2, secondsPerPage: 0 });
    assert.deepEqual([reasons, failures], [["initial, no backend", "rejected"], [401]]);
  });

  // In each command, `$0` is the URL of the foreign backend.
  for (const [what, command] of Object.entries({
    "a Pulumi.yaml selects": `${SELECT}; pulumi stack ls`,
    "`pulumi login` selects": 'pulumi login "$0"',
    "an earlier login selected, in a home that is kept": `${STORE_LOGIN}; pulumi whoami`,
    "a variable of the pod selects": 'PULUMI_BACKEND_URL="$0" pulumi whoami',
  })) {
    test(`sends nothing to a foreign backend that ${what}`, async () => {
      const foreign = await startApi();
      const denied = run(["bash", "-c", command, foreign.url], { exitCode: 1 });
      const { screen, reasons } = await denied.finally(foreign.close);
      assert.match(screen, /Denied: the Pulumi CLI selected the backend '.*exit status 77/s);
      assert.deepEqual([foreign.statuses, reasons], [[], ["initial"]]);
    });
  }

  /** Runs a command of the script, with an API in front of the emulated Pulumi Cloud. */
  async function run(command: string[], options: RunOptions = {}) {
    const api = await startApi(options);
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
      command: command.map((word) => (word === "URL" ? api.url : word)),
      launcher: HELPER,
      script: script.replace("\n", `\n${record}\n`),
      ...options,
      settings: { tokenExpirationSeconds: String(TOKEN_SECONDS), ...options.settings },
      environment: {
        // The CLI does not look for its home in HOME.
        PULUMI_HOME: `${log}.home`,
        PULUMI_SKIP_UPDATE_CHECK: "true",
        // As in pods: the default.
        PULUMI_TOKEN_RETRY_SECONDS: undefined,
        SSL_CERT_FILE: ca,
        CURL_CA_BUNDLE: ca,
        ...options.environment,
      },
    });
    await api.close();

    const screen = stdout + stderr;
    assert.equal(result.exitCode, options.exitCode ?? 0, screen);
    const requests = (await readFile(log, "utf8")).match(/\{[^}]*\}/g) ?? [];
    const reasons = requests.map((request) => {
      const { reason, selectedBackendUrl } = JSON.parse(request);
      return selectedBackendUrl ? reason : `${reason}, no backend`;
    });
    // 404 is the answer of APIs that are not emulated, such as the capabilities, which the CLI does not need.
    const failures = api.statuses.filter((status) => ![200, 404].includes(status));
    return { ...result, screen, reasons, failures };
  }

  /** Serves the pages of `pulumi stack ls`, and forwards all other requests to the emulated Pulumi Cloud. */
  async function startApi({ revokeAfterPage, secondsPerPage = SECONDS_PER_PAGE }: RunOptions = {}) {
    const statuses: number[] = [];
    let revoked = "";

    const server = await startServer(await authority.issue({ hosts: ["127.0.0.1"] }), async (request) => {
      const { pathname, searchParams } = new URL(request.url ?? "", "https://api");
      const { authorization = "", "content-type": contentType = "" } = request.headers;
      const isList = pathname === "/api/user/stacks";
      const forwarded = await fetch(`${cloud.url}${isList ? "/api/user" : pathname}`, {
        method: request.method ?? "GET",
        headers: {
          authorization: authorization === revoked ? "" : authorization,
          "content-type": contentType,
        },
        ...(request.method === "POST" && { body: await text(request) }),
      });
      const { status } = forwarded;
      statuses.push(status);
      if (!isList || status !== 200) return { status, body: (await forwarded.json()) as object };

      const page = Number(searchParams.get("continuationToken") ?? 1);
      await sleep(secondsPerPage * 1000);
      if (page === revokeAfterPage) revoked = authorization;
      const stacks = [{ orgName: "acme", projectName: "project", stackName: `page-${page}` }];
      return { status, body: { stacks, ...(page < PAGES && { continuationToken: String(page + 1) }) } };
    });
    return { url: server.origin, statuses, close: server.close };
  }
});
