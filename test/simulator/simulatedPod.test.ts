// What a simulated pod runs on this machine: the exchange script of this repository, and nothing that a stack file says.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import { inDirectory, type PodSpec, runContainer, runExchange } from "../../simulator/emulators/pod";
import type { Simulation } from "../../simulator/emulators/simulation";
import { CREDENTIAL_HELPER, VOLUME_NAME } from "../../tokenVolume";
import { writePrograms } from "../support/programs";
import { only, run, stackWith, startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const COMMAND = 'env; pulumi whoami; cd "$(dirname "$PULUMI_CREDENTIAL_HELPER")"; cat token';
const OTHER = { configMap: { name: "other" } };

let simulation: Simulation;
/** The pod that the program creates, and its parts. */
let spec: PodSpec;
let container: PodSpec["containers"][number];
let configMap: object;
let token: object;
const directory = temporaryDirectory({ after });
const log: string[] = [];

before(async () => {
  simulation = await startCluster({
    runPod: runExchange,
    command: ["bash", "-c", COMMAND],
    onLog: (line) => log.push(line),
  });
  const stack = await run(simulation, stackWith({}));
  spec = only<{ spec: { template: { spec: PodSpec } } }>(stack, "Job").inputs.spec.template.spec;
  [container = assert.fail()] = spec.containers;
  const { sources } = spec.volumes.find(({ name }) => name === VOLUME_NAME)?.projected ?? assert.fail();
  [configMap = assert.fail(), token = assert.fail()] = sources;

  const configMaps = simulation.resources["kubernetes:core/v1:ConfigMap"] ?? assert.fail();
  const { id, inputs } = only<{ data: object }>(stack, "ConfigMap");
  const data = { ...inputs.data, "exchange-token.sh": "#!/bin/sh\necho another script" };
  await configMaps.update(id, { ...inputs, data });
  const metadata = { namespace: "default", name: "other" };
  await configMaps.create("other", { metadata, data: { OF_ANOTHER_CONFIG_MAP: "1", organization: "other" } });
});
after(() => simulation.close());

function volume(...sources: object[]) {
  return { name: VOLUME_NAME, projected: { defaultMode: 0o555, sources } };
}

/** Runs a Job with these changes of its pod, and returns the log. */
async function runJob(changes: object = {}): Promise<string> {
  log.length = 0;
  const metadata = { namespace: "default", name: `job-${Math.random()}` };
  const job = { metadata, spec: { template: { spec: { ...spec, ...changes } } } };
  await simulation.resources["kubernetes:batch/v1:Job"]?.create("job", job);
  return log.join("\n");
}

test("runs the exchange script with a stand-in for the Pulumi CLI, and nothing else of the machine or the spec", async (t) => {
  const trace = join(directory, "trace");
  const touch = `touch '${trace}'`;
  t.after(setVariables({ PATH: writePrograms(directory, { program: touch, pulumi: touch }) }));
  const program = join(directory, "program");
  const names = "BASH_ENV ENV LD_PRELOAD PATH PROMPT_COMMAND NODE_OPTIONS".split(" ");
  const paths = [`/../../../../../../..${trace}`, trace, "/tmp/../../outside", "..", 5, undefined];
  const changed = {
    ...container,
    command: [program],
    args: [program],
    env: [
      ...container.env,
      ...names.map((name) => ({ name, value: program })),
      { name: "BASH_FUNC_curl%%", value: `() { . ${program}; }` },
      { name: CREDENTIAL_HELPER.name, value: program },
    ],
    envFrom: [{ configMapRef: { name: "other" } }],
    lifecycle: { postStart: { exec: { command: [program] } } },
    volumeMounts: [
      ...container.volumeMounts,
      ...paths.flatMap((mountPath) => [VOLUME_NAME, "other"].map((name) => ({ name, mountPath }))),
    ],
  };
  const printed = await runJob({
    initContainers: [{ name: "init", command: [program] }],
    containers: [{ name: "first", command: [program] }, changed, { ...changed, name: "sidecar" }],
    volumes: [volume(configMap, OTHER, token), { name: "other", projected: { sources: [OTHER] } }],
  });

  assert.match(printed, /^PULUMI_ACCESS_TOKEN=pul-/m);
  assert.match(printed, /^my-login$/m, "of pulumi whoami");
  assert.doesNotMatch(printed.replace(/^PATH=.*$/m, ""), RegExp(`${directory}|OF_ANOTHER_CONFIG_MAP`));
  assert.ok(!existsSync(trace));

  const [idToken = assert.fail(printed)] = /^eyJ\S+/m.exec(printed) ?? [];
  const { aud, iat = 0, exp = 0 } = decodeJwt(idToken);
  assert.deepEqual([aud, exp - iat], [["urn:pulumi:org:acme"], 600]);
});

test("the access token is valid for its lifetime", async (t) => {
  const [token] = /(?<=^PULUMI_ACCESS_TOKEN=).+$/m.exec(await runJob()) ?? [];
  const headers = { authorization: `token ${token}` };
  const status = async () => (await fetch(`${simulation.pulumiCloud.apiUrl}/api/user`, { headers })).status;
  assert.equal(await status(), 200);
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() + 2 * 60 * 60 * 1000 });
  assert.equal(await status(), 401);
});

test("reaches no host but the emulators", async () => {
  // A documentation address, at which nothing answers.
  const command = ["curl", "--disable", "--silent", "--show-error", "--max-time", "2", "https://192.0.2.1"];
  const { exitCode, log } = await inDirectory((root) => runContainer(command, root, {}, () => {}));
  assert.match(log.join("\n"), /127\.0\.0\.1 port 9\b/);
  assert.notEqual(exitCode, 0);
});
