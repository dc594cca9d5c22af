// The exchange script as the credential helper of the real Pulumi CLI. In the Jobs of stack.engine.test.ts, it also wraps the CLI.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { emulatorCertificate, simulationDirectory } from "../../simulator/emulators/certificates";
import { type ClusterIssuer, startIssuer } from "../../simulator/emulators/issuer";
import { type PulumiCloud, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { type Reply, startServer } from "../../simulator/emulators/server";
import { forward } from "../support/cloudApi";
import { type Endpoint, respond, startEndpoint } from "../support/endpoint";
import { missingCli } from "../support/pulumiCli";
import { exchange, granted, SCRIPT } from "../support/script";

const POD = { namespace: "default", serviceAccount: "deployer" };

/** The CLI renews a token 30 seconds before it expires. */
const TOKEN_SECONDS = 40;
const SECONDS_UNTIL_RENEWAL = 10;

/** Starts a command with the script as its credential helper, as in the pods of workloads. */
const HELPER = ["bash", "-c", 'PULUMI_CREDENTIAL_HELPER=$0 exec "$@"'];

/** Returns the command that stores a login to a backend. */
const storeLogin = (url: string) =>
  `mkdir -p "$PULUMI_HOME" && printf '{"current":"%s","accessTokens":{"%s":"pul-old"}}' "${url}" "${url}" >"$PULUMI_HOME/credentials.json"`;

/** Writes a Pulumi.yaml that selects the foreign backend. */
const SELECT = `printf 'name: foreign\nruntime: nodejs\nbackend:\n  url: %s\n' "$FOREIGN" >Pulumi.yaml`;

/** The exit code of the CLI without a token that the backend accepts. */
const NO_LOGIN = 3;

describe("the Pulumi CLI", { skip: missingCli, concurrency: true }, () => {
  let issuer: ClusterIssuer;
  let cloud: PulumiCloud;
  let api: Awaited<ReturnType<typeof startServer>>;
  let foreign: Endpoint;
  let isRevoked = false;

  before(async () => {
    issuer = await startIssuer();
    cloud = await startPulumiCloud({ registrationMilliseconds: 0 });
    const rules = { sub: `system:serviceaccount:${POD.namespace}:${POD.serviceAccount}` };
    const policy: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules };
    await cloud.register({ organization: "acme", name: "eks", url: issuer.url, policies: [policy] });
    api = await startServer(await emulatorCertificate(), answer);
    foreign = await startEndpoint(respond(404, ""), await emulatorCertificate());
  });
  after(() => Promise.all([issuer, cloud, api, foreign].map((server) => server?.close())));

  /** Lists stacks on three pages. The first one takes until the token is renewed, and then that one is revoked. */
  async function answer(request: IncomingMessage): Promise<Reply> {
    const { pathname, searchParams } = new URL(request.url ?? "", "https://api");
    if (pathname !== "/api/user/stacks") return forward(request, cloud);

    const page = Number(searchParams.get("continuationToken") ?? 1);
    if (page === 1) await sleep(SECONDS_UNTIL_RENEWAL * 1000);
    if (page === 3 && !isRevoked) {
      isRevoked = true;
      return { status: 401, body: { code: 401, message: "Unauthorized" } };
    }
    request.url = "/api/user";
    const { status, body } = await forward(request, cloud);
    if (status !== 200) return { status, body };
    const stacks = [{ orgName: "acme", projectName: "project", stackName: `page-${page}` }];
    return { status, body: { stacks, ...(page < 3 && { continuationToken: String(page + 1) }) } };
  }

  test("asks the script, which names the backend, and again for a token that expires or is revoked", async () => {
    const { screen, curlCalls, reasons } = await run("pulumi stack ls --all --json");
    // Only the list is printed: the CLI shows what a helper prints to standard error.
    assert.equal(JSON.parse(screen).length, 3);
    assert.deepEqual([curlCalls.length, reasons], [3, ["initial, no backend", "expired", "rejected"]]);
  });

  test("is granted a token after an earlier login to the same backend, whatever token is stored", async () => {
    const { screen, reasons } = await run(`${storeLogin("$BACKEND")}; pulumi whoami`);
    assert.deepEqual([screen, reasons], ["alice\n", ["initial"]]);
  });

  for (const [what, command] of Object.entries({
    "a Pulumi.yaml selects": `${SELECT}; pulumi stack ls`,
    "`pulumi login` selects": 'pulumi login "$FOREIGN"',
    "an earlier login selected, in a home that is kept": `${storeLogin("$FOREIGN")}; pulumi whoami`,
    "a variable of the pod selects": 'PULUMI_BACKEND_URL="$FOREIGN" pulumi whoami',
  })) {
    test(`gets no token for a foreign backend that ${what}, and the reason`, async () => {
      const { screen, curlCalls, reasons } = await run(command, NO_LOGIN);
      assert.match(
        screen,
        /No access token for the backend '.*this credential helper serves only .*\nerror: /,
      );
      assert.deepEqual([curlCalls, reasons], [[], ["initial"]]);
    });
  }

  test("continues with the token that a pod has for another backend", async () => {
    const command = 'PULUMI_BACKEND_URL="$FOREIGN" PULUMI_ACCESS_TOKEN=pul-own pulumi whoami';
    const { screen, curlCalls } = await run(command, 1);
    assert.match(screen, /error: \[404\]/, "of the other backend");
    assert.deepEqual(curlCalls, []);
    const sent = foreign.requests.map(({ head }) => /^authorization: (.*?)\r?$/im.exec(head)?.[1]);
    assert.deepEqual(new Set(sent), new Set(["token pul-own"]));
  });

  test("uses its own token, and not the script, with the helper `none`", async () => {
    const command =
      'PULUMI_CREDENTIAL_HELPER=none PULUMI_ACCESS_TOKEN=pul-own PULUMI_BACKEND_URL="$FOREIGN" pulumi whoami';
    const { screen, reasons } = await run(command, 1);
    assert.match(screen, /error: \[404\]/, "of the other backend");
    assert.deepEqual(reasons, []);
  });

  test("uses a state file as without the script", async () => {
    const { screen, curlCalls, reasons } = await run(
      "pulumi login --local >log; pulumi stack ls --all --json",
    );
    assert.deepEqual([screen, curlCalls, reasons], ["[]\n", [], ["initial", "initial"]]);
  });

  test("keeps to the backend of a wrapped command, whatever a Pulumi.yaml selects", async () => {
    const { screen, reasons } = await run(`${SELECT}; "$PULUMI_CREDENTIAL_HELPER" pulumi whoami`);
    assert.match(screen, /^alice$/m);
    assert.deepEqual(reasons, ["initial"]);
  });

  /** Runs a command of the script, which finds the URLs of its backend and of a foreign one in BACKEND and FOREIGN. */
  async function run(command: string, expectedExitCode = 0) {
    const directory = simulationDirectory();
    const log = join(directory, randomUUID());
    // One more line records the requests of the CLI.
    const record = `(($# > 0)) || exec < <(tee -a '${log}')`;
    await writeFile(log, "");
    const ca = join(directory, "ca.pem");
    const { stdout, stderr, exitCode, curlCalls } = await exchange(granted, {
      idToken: await issuer.token(POD, { audience: ["urn:pulumi:org:acme"], expiresIn: 600 }),
      command: ["bash", "-c", command],
      launcher: HELPER,
      script: SCRIPT.replace("\n", `\n${record}\n`),
      settings: { apiUrl: api.origin, tokenExpirationSeconds: String(TOKEN_SECONDS) },
      environment: {
        BACKEND: api.origin,
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
    const screen = stdout + stderr;
    assert.equal(exitCode, expectedExitCode, screen);
    const requests = (await readFile(log, "utf8")).match(/\{[^}]*\}/g) ?? [];
    const reasons = requests.map((request) => {
      const { reason, selectedBackendUrl } = JSON.parse(request);
      return selectedBackendUrl ? reason : `${reason}, no backend`;
    });
    return { screen, curlCalls, reasons };
  }
});
