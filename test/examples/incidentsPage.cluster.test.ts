// The kubectl commands of docs/incidents.md on a real API server.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { type ApiServer, assetPath, missingApiServer, startApiServer } from "../support/apiServer";
import { exampleOf } from "../support/examples";
import { podObject } from "../support/pods";
import { writePrograms } from "../support/programs";
import { blocksOf, ROOT, read } from "../support/project";
import { defineStacks } from "../support/stackResources";
import { temporaryDirectory } from "../support/temporaryDirectory";

const PAGE = read("docs/incidents.md");
const BLOCKS = blocksOf(PAGE);

const MANIFESTS = ["deployment.yaml", "scheduled-update.yaml", "pulumi-operator.yaml"].flatMap(
  (file) => exampleOf(file).manifests,
);

const OWN_TOKEN = "PULUMI_ACCESS_TOKEN";
const STORED = { name: OWN_TOKEN, valueFrom: { secretKeyRef: { name: "break-glass", key: OWN_TOKEN } } };
const TURNED_OFF = { name: "PULUMI_CREDENTIAL_HELPER", value: "none" };

describe("breaking the glass, and cleaning a namespace", { skip: missingApiServer }, () => {
  const directory = temporaryDirectory({ after });
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
    const path = `examples/operator/${patch}`;
    assert.ok(PAGE.includes(`patch-stacks.sh ${path} team-a app`));
    const options = ["--namespace=team-a", "--type=merge", `--patch-file=${join(ROOT, path)}`];
    await server.kubectl(["patch", "stacks.pulumi.com", "app", ...options]);
    return (await specOf("/apis/pulumi.com/v1/namespaces/team-a/stacks/app")).envRefs;
  }

  /** Runs a command of the page. kubectl keeps its cache in HOME. */
  function run(command: string, input = ""): Promise<{ stdout: string }> {
    const PATH = writePrograms(directory, { kubectl: `exec '${assetPath("kubectl")}' "$@"` });
    const env = { PATH, HOME: directory, KUBECONFIG: server.kubeconfig };
    const running = promisify(execFile)("bash", ["-euo", "pipefail", "-c", command], { cwd: directory, env });
    running.child.stdin?.end(input);
    return running;
  }

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
    const [use = assert.fail(), undo = assert.fail()] = BLOCKS.filter(({ info }) => info === "bash glass");
    await run(commandWith("create secret generic break-glass"), "pul-temporary\n");
    await run(use.text);
    assert.deepEqual(await variables(), Array(2).fill([TURNED_OFF, STORED]));
    assert.deepEqual(await stackAfter("break-glass.yaml"), {
      [TURNED_OFF.name]: { type: "Literal", literal: { value: "none" } },
      [OWN_TOKEN]: { type: "Secret", secret: STORED.valueFrom.secretKeyRef },
    });

    for (const manifest of MANIFESTS) await apply(manifest);
    await run(undo.text);
    assert.deepEqual(await variables(), before);
    assert.ok(!(OWN_TOKEN in (await stackAfter("remove-token.yaml"))));
  });

  test("only the pods of the service account are deleted", async () => {
    const pods = "/api/v1/namespaces/team-a/pods";
    for (const name of ["app", "deployer"]) {
      await server.createServiceAccount("team-a", name);
      await server.create(pods, podObject({ serviceAccountName: name }, name));
    }
    await run(commandWith("kubectl get rolebindings"));
    await run(commandWith("kubectl delete pods"));
    const { body } = await server.request("GET", pods);
    assert.deepEqual(
      body.items.map(({ metadata }: { metadata: { name: string } }) => metadata.name),
      ["deployer"],
    );
  });
});

/** Returns the one command of the page that contains a string. */
function commandWith(text: string): string {
  const [found, ...others] = BLOCKS.filter((block) => block.info === "bash" && block.text.includes(text));
  assert.ok(found && others.length === 0, `one command must contain ${text}`);
  return found.text;
}
