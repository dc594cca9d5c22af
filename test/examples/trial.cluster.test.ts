// examples/trial/run.sh on Pulumi's engine and a real API server. Pulumi Cloud is emulated, in two ways, so that the table says what the
// emulators assume, and not what is so.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { type Emulator, Unready } from "../../simulator/emulators/emulator";
import { startIssuer } from "../../simulator/emulators/issuer";
import type { PodSpec } from "../../simulator/emulators/pod";
import { type PulumiCloudOptions, startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import {
  type ApiServer,
  assetPath,
  type KubernetesObject,
  missingApiServer,
  startApiServer,
} from "../support/apiServer";
import { serveCloudApi } from "../support/cloudApi";
import { startOrganization } from "../support/organization";
import { runPodSpec } from "../support/podSpec";
import { missingJq, writePrograms } from "../support/programs";
import { copyProject, linkPackages, ROOT, read } from "../support/project";
import { serveProvider } from "../support/provider";
import { missingCli, type Outcome, openCli, pathOf } from "../support/pulumiCli";
import { realKubernetes } from "../support/realKubernetes";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";

const QUESTIONS: { id: string }[] = JSON.parse(read("examples/trial/questions.json"));

let emulated: Pick<Emulator, "resources" | "calls"> = { resources: {}, calls: {} };
/** A process can serve providers only once. */
let debugProviders: Promise<string> | undefined;

const JOB = "kubernetes:batch/v1:Job";

const REJECTED = "400 API error: Bad Request: authorizedPermissions or roleID is required";

describe("examples/trial/run.sh", { skip: missingApiServer || missingCli || missingJq }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
  });
  after(() => server?.close());

  /** Starts an organization without issuers. @returns what runs the script in it. */
  async function start(t: TestContext, options: PulumiCloudOptions = {}) {
    const organization = startOrganization();
    const cloud = await startPulumiCloud({
      ...{ registrationMilliseconds: 0, roles: organization.roleIds, answer: organization.open },
      ...options,
    });
    const [api, other] = [await serveCloudApi(cloud, organization), await startIssuer()];
    emulated = { resources: { ...cloud.resources, ...withPods(server, realKubernetes(server)) }, calls: {} };
    debugProviders ??= serveProvider(() => emulated);
    const logs = temporaryDirectory(t);
    const authority = process.env.NODE_EXTRA_CA_CERTS ?? "";
    const cli = openCli(await debugProviders, {
      ...{ PULUMI_API: api.origin, SSL_CERT_FILE: authority, CURL_CA_BUNDLE: authority },
      KUBECONFIG: server.kubeconfig,
      PATH: writePrograms(logs, loggingPrograms(join(logs, "arguments"))),
    });
    const end = endDeletions(server);
    t.after(() => Promise.all([cloud.close(), api.close(), other.close(), cli.remove(), end()]));

    const clone = await copyProject(join(cli.directory, "clone"), ["test", ".ci", ".github", "docs"]);
    await linkPackages(clone);
    const script = join(clone, "examples", "trial", "run.sh");
    // A state in a file knows no organization.
    const place = ["--api-url", api.origin, "--other-issuer", other.url, "--stack", "trial"];
    async function trial(...args: string[]) {
      const outcome = await cli.run(clone, "bash", script, ...place, ...args, "acme");
      return { ...outcome, answers: answersIn(outcome.stdout) };
    }

    /** Requires that nothing of a trial exists, and that no token was printed, an argument, or in a file. */
    async function assertNothingLeft({ screen }: Outcome) {
      assert.deepEqual([cloud.existing(), organization.existing()], [[], []]);
      const { status } = await server.request("GET", "/api/v1/namespaces/pulumi-trial");
      assert.equal(status, 404);
      assert.deepEqual(
        readdirSync(join(clone, "examples", "trial")),
        readdirSync(join(ROOT, "examples", "trial")),
      );
      const { stdout: stacks } = await cli.pulumi(clone, "stack", "ls", "--all");
      assert.doesNotMatch(stacks, /trial/);

      const token = `pul-[0-9a-f]{40}|${Buffer.from('{"alg":').toString("base64url").slice(0, -1)}`;
      assert.doesNotMatch(screen + readFileSync(join(logs, "arguments"), "utf8"), RegExp(token));
      const { stdout: stored } = await cli.run(cli.directory, "grep", "-rhoE", token, "state", "home", clone);
      // The CLI stores that of the administrator.
      assert.deepEqual(
        [...new Set(stored.trim().split("\n"))].filter((it) => it !== ACCESS_TOKEN && it !== ""),
        [],
      );
    }
    return { server, cloud, organization, trial, assertNothingLeft };
  }

  /** What the emulators assume. */
  const ASSUMED = {
    ...Object.fromEntries(QUESTIONS.map(({ id }) => [id, "held"])),
    ...{ "token-list": "not", "audit-granted": "not" },
  };

  test("prints what the emulators assume, keeps no token, and leaves nothing", async (t) => {
    const { trial, assertNothingLeft } = await start(t);
    const outcome = await trial("--yes");
    assert.deepEqual(outcome.answers, ASSUMED, outcome.screen);
    assert.match(outcome.stdout, /^Nothing is left: /m);
    assert.equal(outcome.exitCode, 0);
    await assertNothingLeft(outcome);
  });

  test("names the setting that this project needs where no rule matches the list in `aud`", async (t) => {
    const { trial, assertNothingLeft } = await start(t, { matchesLists: false });
    const outcome = await trial("--yes");
    const expected = { ...ASSUMED, "aud-list": "not", "aud-other": "not asked" };
    assert.deepEqual(outcome.answers, expected, outcome.screen);
    assert.match(
      outcome.stdout,
      /^This project does not work here as it is \(aud-list\)\. It does with `audienceRule: false`\.$/m,
    );
    assert.equal(outcome.exitCode, 1);
    await assertNothingLeft(outcome);
  });

  test("asks what it can where an organization token needs a role, and no role can be created", async (t) => {
    const { cloud, organization, trial } = await start(t);
    const issuers = cloud.resources["pulumiservice:index:OidcIssuer"] ?? assert.fail();
    emulated.resources["pulumiservice:index:OidcIssuer"] = {
      ...issuers,
      create(name, inputs: { policies: AuthPolicy[] }) {
        if (inputs.policies.some(isOfOrganization)) throw new Error(REJECTED);
        return issuers.create(name, inputs);
      },
    };
    organization.rejects("POST /api/orgs/acme/roles", "DELETE /api/esc/environments/acme/pulumi-trial/trial");
    const { screen, stdout, answers, exitCode } = await trial("--yes");
    const notAsked = ["other-account", "org-role", "wrong-role", "open-only"].map((id) => [id, "not asked"]);
    const expected = { ...ASSUMED, "org-token": "not", ...Object.fromEntries(notAsked) };
    assert.deepEqual(answers, expected, screen);
    assert.match(stdout, /^\| `org-token` .* HTTP 400: 400 API error: Bad Request: authorizedPermissions /m);
    assert.match(stdout, /^\| `org-role` .* no custom role could be created: .*rejected/m);

    assert.match(stdout, /^This is left\. .*\n\n- the environment pulumi-trial\/trial\n$/m);
    assert.deepEqual(organization.existing(), ["pulumi-trial/trial"]);
    assert.equal(exitCode, 2);
  });

  test("says what it creates, and creates nothing without a confirmation", async (t) => {
    const { cloud, trial, assertNothingLeft } = await start(t);
    const outcome = await trial();
    assert.match(outcome.screen, / It creates, and removes at the end:\n.*^Pulumi Cloud bills at most 19 /ms);
    assert.match(outcome.screen, /^Nothing was created\.$/m);
    assert.equal(outcome.exitCode, 64);
    assert.deepEqual(cloud.exchanges, []);
    await assertNothingLeft(outcome);
  });

  test("stops before it creates anything if the issuer is registered already", async (t) => {
    const { server, cloud, trial } = await start(t);
    await cloud.register({ organization: "acme", name: "eks-prod", url: server.url });
    const outcome = await trial("--yes");
    assert.match(
      outcome.screen,
      /^acme has an issuer already that the trial would register: eks-prod \(https:.*\)\. /m,
    );
    assert.equal(outcome.exitCode, 2);
    assert.deepEqual([cloud.existing().length, cloud.exchanges], [1, []]);
  });
});

function isOfOrganization({ tokenType }: AuthPolicy): boolean {
  return tokenType === "organization";
}

/** Returns the answer to each question in a table. */
function answersIn(table: string): Record<string, string> {
  const rows = [...table.matchAll(/^\| `([\w-]+)` \| .*? \| (held|not|not asked) \| .* \|$/gm)];
  return Object.fromEntries(rows.map(([, id, answer]) => [id, answer]));
}

/** Returns programs that note their arguments, and then run the real ones. */
function loggingPrograms(log: string): Record<string, string> {
  const paths = {
    curl: pathOf("curl"),
    jq: pathOf("jq"),
    pulumi: pathOf("pulumi"),
    kubectl: assetPath("kubectl"),
  };
  return Object.fromEntries(
    Object.entries(paths).map(([name, path]) => [name, `printf '%s ' "$@" >>'${log}'\nexec '${path}' "$@"`]),
  );
}

/** Lets the pod of each Job run, which a node does in a cluster. */
function withPods(server: ApiServer, resources: Emulator["resources"]): Emulator["resources"] {
  const jobs = resources[JOB] ?? assert.fail();
  async function create(
    name: string,
    inputs: { metadata: { namespace: string }; spec: { template: { spec: PodSpec } } },
  ) {
    const resource = await jobs.create(name, inputs);
    const { spec } = inputs.spec.template;
    const { namespace } = inputs.metadata;
    const { body } = await server.request("GET", `/api/v1/namespaces/${namespace}/configmaps`);
    const { exitCode, log } = await runPodSpec({
      spec,
      command: [],
      configMap: (wanted) =>
        body.items.find(({ metadata }: KubernetesObject) => metadata?.name === wanted).data,
      async idToken(audience, seconds) {
        const options = [`--namespace=${namespace}`, `--audience=${audience}`, `--duration=${seconds}s`];
        return (await server.kubectl(["create", "token", spec.serviceAccountName ?? "", ...options])).trim();
      },
      onLog: () => {},
    });
    if (exitCode !== 0) throw new Unready("the Job has failed", resource, log.join("\n"));
    return resource;
  }
  return { ...resources, [JOB]: { ...jobs, create } };
}

/** Ends the deletion of namespaces, which a controller does in a cluster, until the returned function is called. */
function endDeletions({ request }: ApiServer): () => Promise<void> {
  let isRunning = true;
  const running = (async () => {
    while (isRunning) {
      const { body } = await request("GET", "/api/v1/namespaces");
      for (const { metadata } of body.items ?? []) {
        if (!metadata.deletionTimestamp) continue;
        const path = `/api/v1/namespaces/${metadata.name}`;
        const jobs = path.replace("api/v1", "apis/batch/v1");
        for (const objects of [`${path}/serviceaccounts`, `${path}/configmaps`, `${jobs}/jobs`]) {
          await request("DELETE", `${objects}?propagationPolicy=Background`);
        }
        await request("PUT", `${path}/finalize`, { metadata, spec: { finalizers: [] } });
      }
      await sleep(100);
    }
  })();
  return () => {
    isRunning = false;
    return running;
  };
}
