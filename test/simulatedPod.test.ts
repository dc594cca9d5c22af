// What a simulated pod runs on this machine: the exchange script of this repository, and nothing that a stack file says.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import type { Simulation } from "../simulator/emulators/simulation";
import { startCluster } from "./stack";

type Spec = Record<string, unknown>;

let simulation: Simulation;
let directory: string;
const log: string[] = [];
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "pod-test-"));
  simulation = await startCluster({
    runsPodSpecs: false,
    serviceAccounts: ["ci/runner"],
    command: ["bash", "-c", 'env; cat "$PULUMI_OIDC_TOKEN_FILE"'],
    onLog: (line) => log.push(line),
  });
  await create("ConfigMap", "runner-pulumi-token", {
    PULUMI_ORG: "acme",
    PULUMI_TOKEN_TYPE: "organization",
    PULUMI_TOKEN_SCOPE: "",
    PULUMI_TOKEN_EXPIRATION: "60",
    PULUMI_BACKEND_URL: "https://api.pulumi.com",
    PULUMI_OIDC_TOKEN_FILE: "/var/run/secrets/pulumi.com/serviceaccount/token",
  });
  await create("ConfigMap", "runner-pulumi-token-exchange", {
    "entrypoint.sh": "#!/bin/sh\necho another script",
  });
  await create("ConfigMap", "other", { OF_ANOTHER_CONFIG_MAP: "1" });
  const policy = { decision: "allow", tokenType: "organization", rules: { sub: "*:ci:runner" } };
  const { url } = simulation.issuer;
  await simulation.pulumiCloud.register({ organization: "acme", name: "eks", url, policies: [policy] });
});
after(async () => {
  await simulation.close();
  await rm(directory, { recursive: true });
});

async function create(kind: string, name: string, data: object): Promise<void> {
  const object = { metadata: { namespace: "ci", name }, data };
  await simulation.resources[`kubernetes:core/v1:${kind}`]?.create(name, object);
}

/** What the program adds to the container `token-exchange`. */
const CONTAINER = {
  name: "token-exchange",
  command: ["/bin/entrypoint.sh"],
  args: ["pulumi", "whoami"],
  envFrom: [{ configMapRef: { name: "runner-pulumi-token" } }],
  volumeMounts: [
    {
      name: "pulumi-token-exchange",
      mountPath: "/bin/entrypoint.sh",
      subPath: "entrypoint.sh",
      readOnly: true,
    },
    { name: "pulumi-id-token", mountPath: "/var/run/secrets/pulumi.com/serviceaccount", readOnly: true },
  ],
};
const TOKEN = { audience: "urn:pulumi:org:acme", expirationSeconds: 600, path: "token" };
const SPEC = {
  serviceAccountName: "runner",
  containers: [CONTAINER],
  volumes: [
    {
      name: "pulumi-token-exchange",
      configMap: { name: "runner-pulumi-token-exchange", defaultMode: 0o555 },
    },
    { name: "pulumi-id-token", projected: { sources: [{ serviceAccountToken: TOKEN }] } },
  ],
};

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

test("runs the script of this repository, with what the program adds to a pod", async () => {
  const printed = await runPod(SPEC);
  assert.match(printed, /^PULUMI_ACCESS_TOKEN=pul-/m);
  assert.match(printed, /^PULUMI_ORG=acme$/m);
  assert.doesNotMatch(printed, /another script/);
});

test("mounts an ID token with the audience and the lifetime of the volume", async () => {
  for (const expirationSeconds of [600, 7200]) {
    const serviceAccountToken = { ...TOKEN, expirationSeconds };
    const volume = { name: "pulumi-id-token", projected: { sources: [{ serviceAccountToken }] } };
    const printed = await runPod({ ...SPEC, volumes: [SPEC.volumes[0], volume] });

    const [token = ""] = /^eyJ\S+$/m.exec(printed) ?? [];
    const { aud, exp = 0, iat = 0 } = decodeJwt(token);
    assert.deepEqual([aud, exp - iat], [[TOKEN.audience], expirationSeconds]);
  }
});

test("runs no other command, container, or script of the pod spec, and sets no other variable", async () => {
  const { program, ran } = await trap("command");
  const own = { name: "mine", configMap: { name: "other", defaultMode: 0o555 } };
  const others: Spec[] = [
    { ...SPEC, containers: [{ ...CONTAINER, command: [program], args: [program] }] },
    { ...SPEC, containers: [{ name: "first", command: [program] }, CONTAINER] },
    { ...SPEC, containers: [CONTAINER, { name: "sidecar", command: [program] }] },
    { ...SPEC, initContainers: [{ name: "init", command: [program] }] },
    { ...SPEC, containers: [{ ...CONTAINER, lifecycle: { postStart: { exec: { command: [program] } } } }] },
    { ...SPEC, volumes: [...SPEC.volumes, own] },
  ];
  for (const variable of ["BASH_ENV", "ENV", "LD_PRELOAD", "PATH", "PROMPT_COMMAND", "NODE_OPTIONS"]) {
    const env = [{ name: variable, value: program }];
    others.push({ ...SPEC, containers: [{ ...CONTAINER, env }] });
  }
  const envFrom = [...CONTAINER.envFrom, { configMapRef: { name: "other" } }];
  others.push({ ...SPEC, containers: [{ ...CONTAINER, envFrom }] });

  for (const spec of others) {
    const printed = await runPod(spec);
    assert.match(printed, /^PULUMI_ACCESS_TOKEN=pul-/m, JSON.stringify(spec));
    assert.doesNotMatch(printed, RegExp(`${program}|OF_ANOTHER_CONFIG_MAP`));
  }
  assert.ok(!ran());
});

test("rejects a path that could leave the directory of the pod, whatever is mounted there", async () => {
  const names = ["pulumi-token-exchange", "pulumi-id-token", "other"];
  const paths = [`/../../../../../../..${directory}/written`, "..", "/tmp/../../outside"];
  for (const mountPath of paths) {
    for (const name of names) {
      const mount = { name, mountPath, subPath: "entrypoint.sh" };
      const volumeMounts = [...CONTAINER.volumeMounts, mount];
      for (const containers of [
        [{ ...CONTAINER, volumeMounts }],
        [CONTAINER, { name: "sidecar", volumeMounts }],
      ]) {
        await assert.rejects(runPod({ ...SPEC, containers }), /could leave the directory of the pod/);
      }
    }
  }
  assert.ok(!existsSync(join(directory, "written")));
});

test("rejects a mount path that is not a string", async () => {
  for (const mountPath of [5, undefined]) {
    const volumeMounts = [...CONTAINER.volumeMounts, { name: "other", mountPath }];
    const message = `The mountPath of every volume mount must be a string, but one is ${mountPath}.`;
    await assert.rejects(runPod({ ...SPEC, containers: [{ ...CONTAINER, volumeMounts }] }), { message });
  }
});

test("fails as the cluster would if the pod does not mount what the exchange requires", async () => {
  const [script = assert.fail(), token = assert.fail()] = CONTAINER.volumeMounts;
  for (const [changes, reason] of [
    [{ volumeMounts: [token] }, /ENOENT/],
    [{ volumeMounts: [script] }, /No ID token/],
    [{ envFrom: [] }, /PULUMI_ORG/],
  ] satisfies [Spec, RegExp][]) {
    await assert.rejects(runPod({ ...SPEC, containers: [{ ...CONTAINER, ...changes }] }), reason);
  }
});
