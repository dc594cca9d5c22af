// examples/trial on Pulumi's engine and a real API server, with an emulated Pulumi Cloud: what a trial says where something is not as
// this project assumes. What is so, only a real Pulumi Cloud knows.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { stringify } from "yaml";
import type { AuthPolicy } from "../../simulator/pulumiCloud";
import {
  type ApiServer,
  type KubernetesObject,
  missingApiServer,
  startApiServer,
} from "../environment/apiServer";
import { type Emulator, type ResourceKind, storedKind, Unready } from "../environment/emulator";
import { failed, succeeded } from "../environment/engineOutcome";
import { serveProvider } from "../environment/provider";
import { missingCli, openCli } from "../environment/pulumiCli";
import { type PulumiCloudOptions, startPulumiCloud } from "../environment/pulumiCloud";
import { publishedKeys, realKubernetes } from "../environment/realKubernetes";
import { type PodSpec, runPodSpec } from "../support/podSpec";
import { copyProject, linkPackages } from "../support/project";

const JOB = "kubernetes:batch/v1:Job";
const ISSUER = "pulumiservice:index:OidcIssuer";

let resources: Emulator["resources"] = {};
/** A process can serve providers only once. */
let debugProviders: Promise<string> | undefined;

describe("examples/trial", { skip: missingApiServer || missingCli }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
  });
  after(() => server?.close());

  test("proves what it can ask, and once an entry is removed, that it is denied; nothing is left", async (t) => {
    const { up, outputs, pulumi, left } = await start(t, { name: "assumed", grant: { tokenType: "team" } });

    succeeded(await up());
    const proven = (ofTemporary: string) => [
      "listed-account-is-granted",
      "rule-on-aud-matches-its-list",
      "unlisted-account-is-denied",
      "another-accounts-token-is-denied",
      "another-audience-is-denied",
      ofTemporary,
      "listed-account-is-still-granted",
    ];
    const first = await outputs();
    assert.deepEqual(first.proven, proven("temporary-account-is-granted"));
    assert.deepEqual(Object.keys(first.notAsked), ["removed-account-is-denied"]);

    succeeded(await up("--config", "removed=true"));
    const second = await outputs();
    assert.deepEqual(second.proven, proven("removed-account-is-denied"));
    assert.deepEqual(Object.keys(second.notAsked), ["temporary-account-is-granted"]);

    succeeded(await pulumi("destroy", "--yes", "--remove"));
    assert.deepEqual(await left(), []);
  });

  test("is denied where rules match no list, and granted without a rule on aud", async (t) => {
    const settings = { name: "lists", grant: { tokenType: "personal", userLogin: "alice" } };
    const { up, outputs } = await start(t, settings, { matchesLists: false });

    failed(
      await up(),
      /trial-token-exchange.*denied the token exchange: HTTP 401: .*try audienceRule: false/s,
    );

    succeeded(await up("--config", "audienceRule=false"));
    const { proven, notAsked } = await outputs();
    assert.deepEqual(proven, [
      "listed-account-is-granted",
      "unlisted-account-is-denied",
      "temporary-account-is-granted",
      "listed-account-is-still-granted",
    ]);
    assert.deepEqual(Object.keys(notAsked).sort(), [
      "another-accounts-token-is-denied",
      "another-audience-is-denied",
      "removed-account-is-denied",
      "rule-on-aud-matches-its-list",
    ]);
  });

  test("fails where Pulumi Cloud grants everything", async (t) => {
    const settings = { name: "everything", grant: { tokenType: "organization" } };
    const { up } = await start(t, settings, { ignoresRules: true });

    const screen = failed(await up());
    for (const question of ["unlisted-account-is-denied", "another-audience-is-denied"]) {
      assert.match(screen, RegExp(`GRANTED, BUT MUST BE DENIED: ${question}\\.`));
    }
  });

  /** Starts an organization without issuers, and creates a stack of the trial. */
  async function start(
    t: TestContext,
    settings: { name: string; grant: object },
    { ignoresRules = false, ...options }: Partial<PulumiCloudOptions> & { ignoresRules?: boolean } = {},
  ) {
    const cloud = await startPulumiCloud({ registrationMilliseconds: 0, keysOf: publishedKeys, ...options });
    const teams = new Map<string, object>();
    const team = storedKind(teams, (_inputs, name) => `team ${name}`);
    const inCloud = {
      ...cloud.resources,
      ...(ignoresRules && { [ISSUER]: withoutRules(cloud.resources[ISSUER]) }),
      "pulumiservice:index:Team": team,
    };
    resources = { ...inCloud, ...withController(server, realKubernetes(server)) };
    debugProviders ??= serveProvider(() => ({ resources, calls: {} }));
    const cli = openCli(await debugProviders, { PULUMI_API: cloud.apiUrl });
    t.after(() => Promise.all([cloud.close(), cli.remove()]));

    const clone = await copyProject(join(cli.directory, "clone"), ["test", ".ci", ".github", "docs"]);
    await linkPackages(clone);
    const directory = join(clone, "examples", "trial");
    const required = { context: "context", issuerUrl: server.url, pulumiApiUrl: cloud.apiUrl };
    // A state in a file has no organization.
    const config = { ...required, organization: "acme", ...settings };
    await writeFile(join(directory, "Pulumi.trial.yaml"), stringify({ config }));
    const pulumi = (...args: string[]) => cli.pulumi(directory, ...args);
    succeeded(await pulumi("stack", "init", "trial"));

    return {
      pulumi,
      up: (...args: string[]) => pulumi("up", "--yes", ...args),
      outputs: async () => JSON.parse(succeeded(await pulumi("stack", "output", "--json")).stdout),
      /** Returns what exists. */
      async left() {
        const { body } = await server.request("GET", `/api/v1/namespaces/${settings.name}`);
        // No controller ends the deletion of a namespace here.
        const exists = body.metadata && !("deletionTimestamp" in body.metadata);
        const namespaces = exists ? [`namespace ${settings.name}`] : [];
        return [...cloud.existing(), ...teams.keys(), ...namespaces];
      },
    };
  }
});

/** Returns issuers whose policies grant their tokens to everyone. */
function withoutRules(issuers: ResourceKind = assert.fail()): ResourceKind {
  return {
    ...issuers,
    create(name, inputs: { policies?: AuthPolicy[] }) {
      const policies = inputs.policies?.map((policy) => ({ ...policy, rules: {} }));
      return issuers.create(name, { ...inputs, policies });
    },
  };
}

/** Lets the pod of each Job run, which a node does in a cluster. */
function withController(server: ApiServer, kinds: Emulator["resources"]): Emulator["resources"] {
  const { [JOB]: jobs = assert.fail() } = kinds;

  async function createJob(
    name: string,
    inputs: { metadata: { namespace: string }; spec: { template: { spec: PodSpec } } },
  ) {
    const resource = await jobs.create(name, inputs);
    const { spec } = inputs.spec.template;
    const { namespace } = inputs.metadata;
    const { body } = await server.request("GET", `/api/v1/namespaces/${namespace}/configmaps`);
    const { exitCode, log } = await runPodSpec({
      spec,
      configMap: (wanted) =>
        body.items.find(({ metadata }: KubernetesObject) => metadata?.name === wanted).data,
      async idToken(audience, seconds) {
        const options = [`--namespace=${namespace}`, `--audience=${audience}`, `--duration=${seconds}s`];
        return (await server.kubectl(["create", "token", spec.serviceAccountName ?? "", ...options])).trim();
      },
    });
    if (exitCode !== 0) throw new Unready(`${resource.id} has failed: ${log.join("\n")}`, resource, "");
    return resource;
  }

  return { ...kinds, [JOB]: { ...jobs, create: createJob } };
}
