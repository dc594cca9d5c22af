// The exchange script under the real Pulumi CLI, as its wrapper and as its credential helper.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { AuthPolicy } from "../simulator/authPolicy";
import { type CertificateAuthority, openCertificateAuthority } from "../simulator/certificates";
import { type ClusterIssuer, startIssuer } from "../simulator/issuer";
import { type PulumiCloud, startPulumiCloud } from "../simulator/pulumiCloud";
import { startServer } from "../simulator/server";
import { execute, missingCli } from "./pulumiCli";

const POD = { namespace: "default", serviceAccount: "deployer" };
const HELPER_ARGS = '["--credential-helper"]';
const PAGES = 12;
const SECONDS_PER_PAGE = 10;
const TOKEN_SECONDS = 40;
const DENIED = /Denied: the Pulumi CLI selected the backend '.*exit status 77/s;

describe("the Pulumi CLI", { skip: missingCli, concurrency: true }, () => {
  let authority: CertificateAuthority;
  let issuer: ClusterIssuer;
  let cloud: PulumiCloud;
  before(async () => {
    authority = await openCertificateAuthority();
    issuer = await startIssuer(authority);
    cloud = await startPulumiCloud(authority, { registrationMilliseconds: 0 });
    const rules = { sub: `system:serviceaccount:${POD.namespace}:${POD.serviceAccount}` };
    const policy: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules };
    await cloud.register({ organization: "acme", name: "eks", url: issuer.url, policies: [policy] });
  });
  after(() => Promise.all([issuer?.close(), cloud?.close()]));

  test("needs one exchange for a wrapped `pulumi whoami`", async (t) => {
    const { run, exchanges, reasons } = await start(t);
    assert.match(await run(["entrypoint.sh", "pulumi", "whoami"]), /^alice$/m);
    assert.deepEqual([exchanges(), await reasons()], [1, ["initial"]]);
  });

  test("works with the helper, and no wrapper", async (t) => {
    const { run, exchanges, reasons, path } = await start(t);
    const helper = { PULUMI_CREDENTIAL_HELPER: path("entrypoint.sh"), PULUMI_CREDENTIAL_HELPER_ARGS: HELPER_ARGS };
    // Only the name is printed: the CLI shows what a helper prints to standard error.
    assert.equal(await run(["pulumi", "whoami"], helper), "alice\n");
    assert.deepEqual([exchanges(), await reasons()], [1, ["initial"]]);
  });

  test("uses the backend that the helper names when none is selected", async (t) => {
    const { run, reasons, path, url } = await start(t);
    const args = JSON.stringify([`PULUMI_BACKEND_URL=${url}`, path("entrypoint.sh"), "--credential-helper"]);
    const helper = { PULUMI_CREDENTIAL_HELPER: "env", PULUMI_CREDENTIAL_HELPER_ARGS: args, PULUMI_BACKEND_URL: "" };
    assert.equal(await run(["pulumi", "whoami"], helper), "alice\n");
    assert.deepEqual(await reasons(), ["initial, no backend"]);
  });

  test(`renews a token of ${TOKEN_SECONDS} seconds in one command of ${PAGES * SECONDS_PER_PAGE} seconds`, async (t) => {
    const { run, responses, reasons, exchanges } = await start(t);
    const started = performance.now();
    const screen = await run(["entrypoint.sh", "pulumi", "stack", "ls", "--all", "--json"]);
    assert.ok(performance.now() - started > PAGES * SECONDS_PER_PAGE * 1000);
    assert.equal(screen.match(/"name": "acme\/project\/page-\d+"/g)?.length, PAGES);

    const [first, ...renewals] = await reasons();
    assert.equal(first, "initial");
    assert.ok(renewals.length >= 3 && renewals.every((reason) => reason === "expired"), String(renewals));
    assert.equal(exchanges(), 1 + renewals.length);
    assert.deepEqual(failures(responses), []);
  });

  test(`renews a token of ${TOKEN_SECONDS} seconds across commands of two minutes`, async (t) => {
    const { run, responses, exchanges } = await start(t);
    const loop = "for i in {1..9}; do pulumi whoami || exit; sleep 15; done";
    const screen = await run(["entrypoint.sh", "bash", "-c", loop]);
    assert.equal(screen.match(/^alice$/gm)?.length, 9);
    assert.ok(exchanges() >= 3, `${exchanges()} exchanges`);
    assert.deepEqual(failures(responses), []);
  });

  test("renews a token that is revoked in the middle of a command", async (t) => {
    const { run, responses, reasons } = await start(t, { revokeAfterPage: 2, secondsPerPage: 0 });
    await run(["entrypoint.sh", "pulumi", "stack", "ls", "--all", "--json"], { PULUMI_TOKEN_EXPIRATION: "7200" });
    assert.deepEqual(await reasons(), ["initial", "rejected"]);
    assert.deepEqual(failures(responses), [401]);
  });

  test("sends nothing to a foreign backend that a Pulumi.yaml selects", async (t) => {
    const { run, path, reasons } = await start(t);
    const foreign = await start(t);
    await writeFile(path("Pulumi.yaml"), `name: foreign\nruntime: nodejs\nbackend:\n  url: ${foreign.url}\n`);
    const command = ["entrypoint.sh", "env", "-u", "PULUMI_BACKEND_URL", "pulumi", "stack", "ls"];
    await assert.rejects(run(command), DENIED);
    assert.deepEqual([foreign.responses, await reasons()], [[], ["initial"]]);
  });

  test("sends nothing to a foreign backend that `pulumi login` selects", async (t) => {
    const { run, reasons } = await start(t);
    const foreign = await start(t);
    await assert.rejects(run(["entrypoint.sh", "pulumi", "login", foreign.url]), DENIED);
    assert.deepEqual([foreign.responses, await reasons()], [[], ["initial"]]);
  });

  /** Starts an API in front of the emulated Pulumi Cloud, and a directory to run the CLI in. */
  async function start(t: TestContext, options: ApiOptions = {}) {
    const directory = await mkdtemp(join(tmpdir(), "helper-"));
    const api = await startApi(authority, cloud, options);
    t.after(() => Promise.all([api.close(), rm(directory, { recursive: true, force: true })]));
    const path = (name: string) => join(directory, name);
    const log = path("requests.log");
    await writeFile(path("token"), await issuer.token(POD));
    const script = await readFile(join(__dirname, "../scripts/exchange-token.sh"), "utf8");
    // One more line records the requests of the CLI.
    const record = `[[ \${1-} != --credential-helper ]] || exec < <(tee -a '${log}')`;
    await writeFile(path("entrypoint.sh"), script.replace("\n", `\n${record}\n`), { mode: 0o555 });
    await writeFile(log, "");
    const ca = join(process.env.SIMULATOR_DIRECTORY ?? "", "ca.pem");
    const defaults: Record<string, string> = {
      PATH: `${directory}:${process.env.PATH}`,
      HOME: directory,
      PULUMI_HOME: path("home"),
      PULUMI_SKIP_UPDATE_CHECK: "true",
      SSL_CERT_FILE: ca,
      CURL_CA_BUNDLE: ca,
      PULUMI_ORG: "acme",
      PULUMI_TOKEN_TYPE: "personal",
      PULUMI_TOKEN_SCOPE: "user:alice",
      PULUMI_TOKEN_EXPIRATION: String(TOKEN_SECONDS),
      PULUMI_BACKEND_URL: api.url,
      PULUMI_OIDC_TOKEN_FILE: path("token"),
    };

    return {
      url: api.url,
      responses: api.responses,
      path,
      exchanges: () => api.responses.filter(({ path }) => path === "/api/oauth/token").length,
      async reasons() {
        const requests = (await readFile(log, "utf8")).match(/\{[^}]*\}/g) ?? [];
        const parsed = requests.map((request) => JSON.parse(request));
        return parsed.map(({ reason, selectedBackendUrl }) => (selectedBackendUrl ? reason : `${reason}, no backend`));
      },
      /** Runs a command and returns its output. Throws with the output when it fails. */
      async run([program = "", ...args]: string[], environment: Record<string, string> = {}): Promise<string> {
        const { exitCode, screen } = await execute(directory, { ...defaults, ...environment }, program, ...args);
        if (exitCode !== 0) throw new Error(screen);
        return screen;
      },
    };
  }
});

interface ApiOptions {
  revokeAfterPage?: number;
  secondsPerPage?: number;
}

interface ApiResponse {
  path: string;
  status: number;
}

// 404 is the answer of APIs that are not emulated, such as the capabilities, which the CLI does not need.
function failures(responses: ApiResponse[]): number[] {
  return responses.map(({ status }) => status).filter((status) => ![200, 404].includes(status));
}

/** Serves the pages of `pulumi stack ls`, and forwards all other requests to the emulated Pulumi Cloud. */
async function startApi(
  authority: CertificateAuthority,
  cloud: PulumiCloud,
  { revokeAfterPage, secondsPerPage = SECONDS_PER_PAGE }: ApiOptions,
) {
  const responses: ApiResponse[] = [];
  let revoked = "";

  const server = await startServer(await authority.issue({ hosts: ["127.0.0.1"] }), async (request) => {
    const { pathname, searchParams } = new URL(request.url ?? "", "https://api");
    const { authorization = "", "content-type": contentType = "" } = request.headers;
    const isList = pathname === "/api/user/stacks";
    const forwarded = await fetch(`${cloud.url}${isList ? "/api/user" : pathname}`, {
      method: request.method ?? "GET",
      headers: { authorization: authorization === revoked ? "" : authorization, "content-type": contentType },
      ...(request.method === "POST" && { body: await text(request) }),
    });
    const { status } = forwarded;
    responses.push({ path: pathname, status });
    if (!isList || status !== 200) return { status, body: (await forwarded.json()) as object };

    const page = Number(searchParams.get("continuationToken") ?? 1);
    await delay(secondsPerPage * 1000);
    if (page === revokeAfterPage) revoked = authorization;
    const stacks = [{ orgName: "acme", projectName: "project", stackName: `page-${page}` }];
    return { status, body: { stacks, ...(page < PAGES && { continuationToken: String(page + 1) }) } };
  });
  return { url: server.origin, responses, close: server.close };
}
