// What a simulated pod runs on this machine: the exchange script of this repository, and nothing that a stack file says.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import { inDirectory, runContainer, runExchange } from "../../simulator/emulators/pod";
import type { Simulation } from "../../simulator/emulators/simulation";
import { CREDENTIAL_HELPER, SCRIPT_PATH, VOLUME_MOUNT, VOLUME_NAME } from "../../tokenVolume";
import { writePrograms } from "../support/programs";
import { startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const AUDIENCE = "urn:pulumi:org:acme";
const COMMAND = 'env; pulumi whoami; cd "$(dirname "$PULUMI_CREDENTIAL_HELPER")"; cat token organization';

let simulation: Simulation;
const directory = temporaryDirectory({ after });
const log: string[] = [];
before(async () => {
  simulation = await startCluster({
    runPod: runExchange,
    serviceAccounts: ["ci/runner"],
    command: ["bash", "-c", COMMAND],
    onLog: (line) => log.push(line),
  });
  await createConfigMap("runner-pulumi-token-exchange", {
    organization: "acme",
    tokenType: "organization",
    tokenScope: "",
    tokenExpirationSeconds: "60",
    apiUrl: "https://api.pulumi.com",
    "exchange-token.sh": "#!/bin/sh\necho another script",
  });
  await createConfigMap("other", { OF_ANOTHER_CONFIG_MAP: "1" });
  const policy = { decision: "allow", tokenType: "organization", rules: { sub: "*:ci:runner" } };
  const { url } = simulation.issuer;
  await simulation.pulumiCloud.register({ organization: "acme", name: "eks", url, policies: [policy] });
});
after(() => simulation.close());

async function createConfigMap(name: string, data: object): Promise<void> {
  const object = { metadata: { namespace: "ci", name }, data };
  await simulation.resources["kubernetes:core/v1:ConfigMap"]?.create(name, object);
}

/** What the program adds to the container `token-exchange`. */
const CONTAINER = {
  name: "token-exchange",
  command: [SCRIPT_PATH],
  args: ["pulumi", "whoami"],
  env: [CREDENTIAL_HELPER],
  volumeMounts: [VOLUME_MOUNT],
};
const CONFIG_MAP = { configMap: { name: "runner-pulumi-token-exchange" } };
const OTHER = { configMap: { name: "other" } };
const TOKEN = { serviceAccountToken: { audience: AUDIENCE, expirationSeconds: 600, path: "token" } };
const SPEC = {
  serviceAccountName: "runner",
  containers: [CONTAINER],
  volumes: [volume(CONFIG_MAP, TOKEN)],
};

function volume(...sources: object[]) {
  return { name: VOLUME_NAME, projected: { defaultMode: 0o555, sources } };
}

/** Runs the pod of a Job with these changes, and returns its log. */
async function runPod(changes: object = {}): Promise<string> {
  log.length = 0;
  const spec = { template: { spec: { ...SPEC, ...changes } } };
  const job = { metadata: { namespace: "ci", name: `job-${Math.random()}` }, spec };
  await simulation.resources["kubernetes:batch/v1:Job"]?.create("job", job);
  return log.join("\n");
}

/** Runs the pod with these changes of its container. */
const runContainerWith = (changes: object) => runPod({ containers: [{ ...CONTAINER, ...changes }] });

test("runs no other command, container, or script of the pod spec, and sets no other variable", async () => {
  const trace = join(directory, "trace");
  writePrograms(directory, { program: `touch '${trace}'` });
  const program = join(directory, "program");
  const postStart = { exec: { command: [program] } };
  const runs = [
    () => runContainerWith({ command: [program], args: [program] }),
    () => runContainerWith({ lifecycle: { postStart } }),
    () => runContainerWith({ envFrom: [{ configMapRef: { name: "other" } }] }),
    () => runPod({ containers: [{ name: "first", command: [program] }, CONTAINER] }),
    () => runPod({ containers: [CONTAINER, { name: "sidecar", command: [program] }] }),
    () => runPod({ initContainers: [{ name: "init", command: [program] }] }),
    () => runPod({ volumes: [...SPEC.volumes, { name: "mine", ...OTHER }] }),
    () => runPod({ volumes: [volume(CONFIG_MAP, OTHER, TOKEN)] }),
  ];
  for (const name of "BASH_ENV ENV LD_PRELOAD PATH PROMPT_COMMAND NODE_OPTIONS BASH_FUNC_curl%%".split(" ")) {
    const value = name.startsWith("BASH_FUNC") ? `() { . ${program}; }` : program;
    runs.push(() => runContainerWith({ env: [...CONTAINER.env, { name, value }] }));
  }
  for (const value of [program, "relative"]) {
    const helper = { name: CREDENTIAL_HELPER.name, value };
    runs.push(() => runContainerWith({ env: [...CONTAINER.env, helper] }));
  }

  for (const run of runs) {
    const printed = await run();
    assert.match(printed, /^PULUMI_ACCESS_TOKEN=pul-/m, String(run));
    assert.doesNotMatch(printed, RegExp(`${program}|OF_ANOTHER_CONFIG_MAP`));
  }
  assert.ok(!existsSync(trace));
});

test("runs a stand-in for the Pulumi CLI, whatever `pulumi` is on PATH", async (t) => {
  const trace = join(directory, "pulumi.trace");
  t.after(setVariables({ PATH: writePrograms(directory, { pulumi: `touch '${trace}'` }) }));
  assert.match(await runPod(), /^acme$/m);
  assert.ok(!existsSync(trace));
});

test("has an ID token with the audience and the lifetime of its volume", async () => {
  const serviceAccountToken = { ...TOKEN.serviceAccountToken, expirationSeconds: 1234 };
  const printed = await runPod({ volumes: [volume(CONFIG_MAP, { serviceAccountToken })] });
  const [token = assert.fail(printed)] = /^eyJ\S+/m.exec(printed) ?? [];
  const { aud, iat = 0, exp = 0 } = decodeJwt(token);
  assert.deepEqual([aud, exp - iat], [[AUDIENCE], 1234]);
});

test("reaches no host but the emulators", async () => {
  // A documentation address, at which nothing answers.
  const command = ["curl", "--disable", "--silent", "--show-error", "--max-time", "2", "https://192.0.2.1"];
  const { exitCode, log } = await inDirectory((root) => runContainer(command, root, {}, () => {}));
  assert.match(log.join("\n"), /127\.0\.0\.1 port 9\b/);
  assert.notEqual(exitCode, 0);
});

test("writes nothing to a path of the pod spec, whatever is mounted there", async () => {
  const outside = join(directory, "written");
  const paths = [`/../../../../../../..${outside}`, outside, "..", "/tmp/../../outside", 5, undefined];
  for (const mountPath of paths) {
    for (const name of [VOLUME_NAME, "other"]) {
      const volumeMounts = [...CONTAINER.volumeMounts, { name, mountPath }];
      const containers = [
        { ...CONTAINER, volumeMounts },
        { name: "sidecar", volumeMounts },
      ];
      assert.match(await runPod({ containers }), /^PULUMI_ACCESS_TOKEN=pul-/m);
    }
  }
  assert.ok(!existsSync(outside));
});

test("fails as the cluster would if the pod does not mount what the exchange requires", async () => {
  for (const volumeMounts of [[], [{ ...VOLUME_MOUNT, mountPath: "/elsewhere" }]]) {
    await assert.rejects(runContainerWith({ volumeMounts }), /ENOENT/);
  }
  await assert.rejects(runPod({ volumes: [volume(TOKEN)] }), /ENOENT/);
  await assert.rejects(runPod({ volumes: [volume(CONFIG_MAP)] }), /No ID token/);
  await assert.rejects(runContainerWith({ env: [] }), /token: No such file/);
});

test("a failed Job reports at most the last 80 lines and 2,048 bytes of its log, as Kubernetes does", async (t) => {
  const lines = Array.from({ length: 81 }, (_, index) => `line ${index}`);
  for (const [log, message] of [
    [lines, /\[Error\] line 1\n(.*\n)*line 80$/],
    [["é".repeat(2000)], /\[Error\] é{1024}$/],
  ] satisfies [string[], RegExp][]) {
    const runPod = async () => ({ exitCode: 1, log });
    const { resources, close } = await startCluster({ runPod, serviceAccounts: ["ci/runner"] });
    t.after(close);
    const job = { metadata: { namespace: "ci", name: "job" }, spec: { template: { spec: SPEC } } };
    await assert.rejects(async () => resources["kubernetes:batch/v1:Job"]?.create("job", job), { message });
  }
});
