// The kubectl commands of docs/incidents.md on a real API server.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ApiServer, missingApiServer, startApiServer } from "../support/apiServer";
import { exampleOf } from "../support/examples";
import { podObject } from "../support/pods";
import { codeIn, commandsWith, read } from "../support/project";
import { defineStacks, patchStack } from "../support/stackResources";

const PAGE = read("docs/incidents.md");

const MANIFESTS = ["deployment.yaml", "scheduled-update.yaml", "pulumi-operator.yaml"].flatMap(
  (file) => exampleOf(file).manifests,
);

const OWN_TOKEN = "PULUMI_ACCESS_TOKEN";
const STORED = { name: OWN_TOKEN, valueFrom: { secretKeyRef: { name: "break-glass", key: OWN_TOKEN } } };
const TURNED_OFF = { name: "PULUMI_CREDENTIAL_HELPER", value: "none" };

describe("breaking the glass, and cleaning a namespace", { skip: missingApiServer }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
    await defineStacks(server);
    await server.createNamespace("team-a");
    for (const manifest of MANIFESTS) await apply(manifest);
  });
  after(() => server?.close());

  const apply = (object: object) => server.kubectl(["apply", "--filename=-"], object);

  /** Applies a patch that the page names to its Stack, without the waits of the script, and returns the variables. */
  async function stackAfter(patch: string) {
    assert.ok(PAGE.includes(`patch-stacks.sh examples/operator/${patch} team-a app`));
    return (await patchStack(server, patch)).envRefs;
  }

  const run = (text: string, input?: string) => server.shell(commandsWith(PAGE, text), { input });

  async function specOf(path: string) {
    return (await server.request("GET", path)).body.spec;
  }

  /** Returns the variables of the Deployment, and of the CronJob, that decide which token the CLI uses. */
  async function variables() {
    const deployment = await specOf("/apis/apps/v1/namespaces/team-a/deployments/deployer");
    const cronJob = await specOf("/apis/batch/v1/namespaces/team-a/cronjobs/scheduled-update");
    return [deployment.template, cronJob.jobTemplate.spec.template].map(({ spec }) => {
      const { env }: { env: { name: string }[] } = spec.containers[0];
      return env.filter(({ name }) => [STORED.name, TURNED_OFF.name].includes(name));
    });
  }

  test("a stored token replaces the exchange in a Deployment, a CronJob, and a Stack, until it is removed", async () => {
    const before = await variables();
    const [use = assert.fail(), undo = assert.fail()] = codeIn(PAGE, "bash glass");
    await run("create secret generic break-glass", "pul-temporary\n");
    await server.shell(use);
    assert.deepEqual(await variables(), Array(2).fill([TURNED_OFF, STORED]));
    assert.deepEqual(await stackAfter("break-glass.yaml"), {
      [TURNED_OFF.name]: { type: "Literal", literal: { value: "none" } },
      [OWN_TOKEN]: { type: "Secret", secret: STORED.valueFrom.secretKeyRef },
    });

    for (const manifest of MANIFESTS) await apply(manifest);
    await server.shell(undo);
    assert.deepEqual(await variables(), before);
    assert.ok(!(OWN_TOKEN in (await stackAfter("remove-token.yaml"))));
  });

  test("only the pods of the service account are deleted", async () => {
    const pods = "/api/v1/namespaces/team-a/pods";
    for (const name of ["app", "deployer"]) {
      await server.createServiceAccount("team-a", name);
      await server.create(pods, podObject({ serviceAccountName: name }, name));
    }
    await run("kubectl get rolebindings");
    await run("kubectl delete pods");
    const { body } = await server.request("GET", pods);
    assert.deepEqual(
      body.items.map(({ metadata }: { metadata: { name: string } }) => metadata.name),
      ["deployer"],
    );
  });
});
