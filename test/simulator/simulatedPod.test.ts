// What a simulated pod runs on this machine: the exchange script of this repository, and nothing that a stack file says.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import { inDirectory, runContainer, runExchange } from "../../simulator/emulators/pod";
import type { Simulation } from "../../simulator/emulators/simulation";
import { CREDENTIAL_HELPER, SCRIPT_PATH, VOLUME_MOUNT, VOLUME_NAME } from "../../tokenVolume";
import { startCluster } from "../support/stack";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

type Spec = Record<string, unknown>;

let simulation: Simulation;
const directory = temporaryDirectory({ after });
const log: string[] = [];
before(async () => {
  simulation = await startCluster({
    runPod: runExchange,
    serviceAccounts: ["ci/runner"],
    command: [
      "bash",
      "-c",
      'env; pulumi whoami; cd "$(dirname "$PULUMI_CREDENTIAL_HELPER")"; cat token organization',
    ],
    onLog: (line) => log.push(line),
  });
  await create("ConfigMap", "runner-pulumi-token-exchange", {
    organization: "acme",
    tokenType: "organization",
    tokenScope: "",
    tokenExpirationSeconds: "60",
    apiUrl: "https://api.pulumi.com",
    "exchange-token.sh": "#!/bin/sh\necho another script",
  });
  await create("ConfigMap", "other", { OF_ANOTHER_CONFIG_MAP: "1" });
  const policy = { decision: "allow", tokenType: "organization", rules: { sub: "*:ci:runner" } };
  const { url } = simulation.issuer;
  await simulation.pulumiCloud.register({ organization: "acme", name: "eks", url, policies: [policy] });
});
after(() => simulation.close());

async function create(kind: string, name: string, data: object): Promise<void> {
  const object = { metadata: { namespace: "ci", name }, data };
  await simulation.resources[`kubernetes:core/v1:${kind}`]?.create(name, object);
}

/** What the program adds to the container `token-exchange`. */
const CONTAINER = {
  name: "token-exchange",
  command: [SCRIPT_PATH],
  args: ["pulumi", "whoami"],
  env: [CREDENTIAL_HELPER],
  volumeMounts: [VOLUME_MOUNT],
};
const CONFIG_MAP = { name: "runner-pulumi-token-exchange" };
const TOKEN = { audience: "urn:pulumi:org:acme", expirationSeconds: 600, path: "token" };
const SPEC = {
  serviceAccountName: "runner",
  containers: [CONTAINER],
  volumes: [volume({ configMap: CONFIG_MAP }, { serviceAccountToken: TOKEN })],
};

function volume(...sources: object[]) {
  return { name: VOLUME_NAME, projected: { defaultMode: 0o555, sources } };
}

/** Runs the pod of a Job, and returns its log. */
async function runPod(spec: Spec): Promise<string> {
  log.length = 0;
  const job = { metadata: { namespace: "ci", name: `job-${Math.random()}` }, spec: { template: { spec } } };
  await simulation.resources["kubernetes:batch/v1:Job"]?.create("job", job);
  return log.join("\n");
}

/** A program that leaves a file behind when it runs. */
async function trap(name: string): Promise<{ program: string; ran(): boolean }> {
  const [program, trace] = [join(directory, name), join(directory, `${name}.ran`)];
  await writeFile(program, `#!/bin/bash\ntouch '${trace}'\n`, { mode: 0o755 });
  return { program, ran: () => existsSync(trace) };
}

test("runs no other command, container, or script of the pod spec, and sets no other variable", async () => {
  const { program, ran } = await trap("command");
  const own = { name: "mine", configMap: { name: "other", defaultMode: 0o555 } };
  const other = { configMap: { name: "other" } };
  const others: Spec[] = [
    { ...SPEC, containers: [{ ...CONTAINER, command: [program], args: [program] }] },
    { ...SPEC, containers: [{ name: "first", command: [program] }, CONTAINER] },
    { ...SPEC, containers: [CONTAINER, { name: "sidecar", command: [program] }] },
    { ...SPEC, initContainers: [{ name: "init", command: [program] }] },
    { ...SPEC, containers: [{ ...CONTAINER, lifecycle: { postStart: { exec: { command: [program] } } } }] },
    { ...SPEC, volumes: [...SPEC.volumes, own] },
    { ...SPEC, volumes: [volume({ configMap: CONFIG_MAP }, other, { serviceAccountToken: TOKEN })] },
  ];
  for (const helper of [program, "relative"]) {
    const env = [...CONTAINER.env, { name: "PULUMI_CREDENTIAL_HELPER", value: helper }];
    others.push({ ...SPEC, containers: [{ ...CONTAINER, env }] });
  }
  for (const variable of ["BASH_ENV", "ENV", "LD_PRELOAD", "PATH", "PROMPT_COMMAND", "NODE_OPTIONS"]) {
    const env = [...CONTAINER.env, { name: variable, value: program }];
    others.push({ ...SPEC, containers: [{ ...CONTAINER, env }] });
  }
  const envFrom = [{ configMapRef: { name: "other" } }];
  others.push({ ...SPEC, containers: [{ ...CONTAINER, envFrom }] });

  for (const spec of others) {
    const printed = await runPod(spec);
    assert.match(printed, /^PULUMI_ACCESS_TOKEN=pul-/m, JSON.stringify(spec));
    assert.doesNotMatch(printed, RegExp(`${program}|OF_ANOTHER_CONFIG_MAP`));
  }
  assert.ok(!ran());
});

test("runs a stand-in for the Pulumi CLI, whatever `pulumi` is on PATH", async (t) => {
  const { program, ran } = await trap("pulumi");
  t.after(setVariables({ PATH: `${dirname(program)}${delimiter}${process.env.PATH}` }));
  assert.match(await runPod(SPEC), /^acme$/m);
  assert.ok(!ran());
});

test("has an ID token with the audience and the lifetime of its volume", async () => {
  const serviceAccountToken = { audience: "urn:pulumi:org:acme", expirationSeconds: 1234, path: "token" };
  const printed = await runPod({
    ...SPEC,
    volumes: [volume({ configMap: CONFIG_MAP }, { serviceAccountToken })],
  });
  const [token = assert.fail(printed)] = /^eyJ\S+/m.exec(printed) ?? [];
  const { aud, iat = 0, exp = 0 } = decodeJwt(token);
  assert.deepEqual([aud, exp - iat], [["urn:pulumi:org:acme"], 1234]);
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
  for (const mountPath of [
    `/../../../../../../..${outside}`,
    outside,
    "..",
    "/tmp/../../outside",
    5,
    undefined,
  ]) {
    for (const name of [VOLUME_NAME, "other"]) {
      const volumeMounts = [...CONTAINER.volumeMounts, { name, mountPath }];
      const sidecar = { name: "sidecar", volumeMounts };
      const containers = [{ ...CONTAINER, volumeMounts }, sidecar];
      assert.match(await runPod({ ...SPEC, containers }), /^PULUMI_ACCESS_TOKEN=pul-/m);
    }
  }
  assert.ok(!existsSync(outside));
});

test("fails as the cluster would if the pod does not mount what the exchange requires", async () => {
  for (const volumeMounts of [[], [{ ...VOLUME_MOUNT, mountPath: "/elsewhere" }]]) {
    const containers = [{ ...CONTAINER, volumeMounts }];
    await assert.rejects(runPod({ ...SPEC, containers }), /ENOENT/);
  }
  const withoutConfigMap = [volume({ serviceAccountToken: TOKEN })];
  await assert.rejects(runPod({ ...SPEC, volumes: withoutConfigMap }), /ENOENT/);
  const withoutToken = [volume({ configMap: CONFIG_MAP })];
  await assert.rejects(runPod({ ...SPEC, volumes: withoutToken }), /No ID token/);
});

for (const [what, log, message] of [
  [
    "80 lines",
    Array.from({ length: 81 }, (_, index) => `line ${index}`),
    /\[Error\] line 1\n(.*\n)*line 80$/,
  ],
  ["2,048 bytes", ["é".repeat(2000)], /\[Error\] é{1024}$/],
] satisfies [string, string[], RegExp][]) {
  test(`a failed Job reports at most the last ${what} of its log, as Kubernetes does`, async (t) => {
    const runPod = async () => ({ exitCode: 1, log });
    const { resources, close } = await startCluster({ runPod, serviceAccounts: ["ci/runner"] });
    t.after(close);
    const job = { metadata: { namespace: "ci", name: "job" }, spec: { template: { spec: SPEC } } };
    await assert.rejects(async () => resources["kubernetes:batch/v1:Job"]?.create("job", job), { message });
  });
}
