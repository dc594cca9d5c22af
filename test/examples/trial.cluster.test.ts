// examples/trial/trial.ts on Pulumi's engine and a real API server. Pulumi Cloud is emulated, in two ways, so that the table says what the
// emulators assume, and not what is so.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { PodSpec } from "../../simulator/pod";
import {
  type ApiServer,
  assetPath,
  type KubernetesObject,
  missingApiServer,
  startApiServer,
} from "../environment/apiServer";
import { serveCloudApi } from "../environment/cloudApi";
import { type Emulator, Unready } from "../environment/emulator";
import { startOrganization } from "../environment/organization";
import { runPodSpec } from "../environment/podSpec";
import { serveProvider } from "../environment/provider";
import { publishedKeys } from "../environment/publishedKeys";
import { missingCli, openCli, pathOf } from "../environment/pulumiCli";
import { type PulumiCloudOptions, startPulumiCloud } from "../environment/pulumiCloud";
import { realKubernetes } from "../environment/realKubernetes";
import { verdictsIn } from "../environment/trial";
import { writePrograms } from "../support/programs";
import { copyProject, linkPackages, ROOT } from "../support/project";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";

let emulated: Pick<Emulator, "resources" | "calls"> = { resources: {}, calls: {} };
/** A process can serve providers only once. */
let debugProviders: Promise<string> | undefined;

const JOB = "kubernetes:batch/v1:Job";

describe("examples/trial/trial.ts", { skip: missingApiServer || missingCli }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
  });
  after(() => server?.close());

  for (const [what, options, failed, exitCode] of [
    ["what the emulators assume", {}, [], 0],
    ["a rule that matches no list", { matchesLists: false }, ["aud-list"], 3],
  ] as const) {
    test(`prints ${what}, keeps no token, and leaves nothing`, async (t) => {
      const { cloud, organization, cli, clone, programCalls } = await start(t, options);
      const { api } = cloud;
      const script = join(clone, "examples", "trial", "trial.ts");
      const compiler = ["--require", join(ROOT, "scripts", "compilerCache.cjs"), "--import", "tsx"];
      // A state in a file knows no organization.
      const args = [...compiler, script, "acme", "--yes", "--api-url", api.origin, "--stack", "trial"];
      const outcome = await cli.run(clone, process.execPath, ...args);

      const verdicts = Object.entries(verdictsIn(outcome.stdout));
      assert.equal(verdicts.length, 13, outcome.screen);
      const others = verdicts.filter(([, verdict]) => verdict !== "held");
      assert.deepEqual(
        others,
        failed.map((id) => [id, "not"]),
        outcome.screen,
      );
      assert.match(outcome.stdout, /^Nothing is left\.$/m);
      assert.equal(outcome.exitCode, exitCode);

      assert.deepEqual([cloud.existing(), organization.existing()], [[], []]);
      const { status } = await server.request("GET", "/api/v1/namespaces/pulumi-trial");
      assert.equal(status, 404);
      const files = (project: string) => readdirSync(join(project, "examples", "trial"));
      assert.deepEqual(files(clone), files(ROOT));
      const { stdout: stacks } = await cli.pulumi(clone, "stack", "ls", "--all");
      assert.doesNotMatch(stacks, /trial/);

      const token = `pul-[0-9a-f]{40}|${Buffer.from('{"alg":').toString("base64url").slice(0, -1)}`;
      assert.doesNotMatch(outcome.screen + readFileSync(programCalls, "utf8"), RegExp(token));
      const { stdout: stored } = await cli.run(cli.directory, "grep", "-rhoE", token, "state", "home", clone);
      // The CLI stores that of the administrator.
      assert.deepEqual(
        [...new Set(stored.trim().split("\n"))].filter((it) => it !== ACCESS_TOKEN && it !== ""),
        [],
      );
    });
  }

  /** Starts an organization without issuers, and a clone in which a trial can run. */
  async function start(t: TestContext, options: Partial<PulumiCloudOptions>) {
    const organization = startOrganization();
    const cloud = await startPulumiCloud({
      ...{
        registrationMilliseconds: 0,
        keysOf: publishedKeys,
        roles: organization.roleIds,
        answer: organization.open,
      },
      ...options,
    });
    const api = await serveCloudApi(cloud, organization);
    emulated = { resources: { ...cloud.resources, ...withPods(server, realKubernetes(server)) }, calls: {} };
    debugProviders ??= serveProvider(() => emulated);
    const logs = temporaryDirectory(t);
    const programCalls = join(logs, "arguments");
    const cli = openCli(await debugProviders, {
      PULUMI_API: api.origin,
      KUBECONFIG: server.kubeconfig,
      PATH: writePrograms(logs, loggingPrograms(programCalls)),
      TRIAL_WAIT_SECONDS: "5",
    });
    const end = endDeletions(server);
    t.after(() => Promise.all([cloud.close(), api.close(), cli.remove(), end()]));

    const clone = await copyProject(join(cli.directory, "clone"), ["test", ".ci", ".github", "docs"]);
    await linkPackages(clone);
    return { cloud: { ...cloud, api }, organization, cli, clone, programCalls };
  }
});

/** Returns programs that note their arguments, and then run the real ones. */
function loggingPrograms(log: string): Record<string, string> {
  const paths = { pulumi: pathOf("pulumi"), kubectl: assetPath("kubectl") };
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
