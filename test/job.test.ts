// The pod as it is registered: what Pod Security would refuse of it, what it mounts, and what reaches its command.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import type { types } from "@pulumi/kubernetes";
import { Unready } from "../simulator/emulator";
import { runProgram } from "../simulator/mocks";
import { type Simulation, startSimulation } from "../simulator/simulation";

type JobInputs = types.output.batch.v1.Job;
type PodSpec = types.output.core.v1.PodSpec;
type Container = types.output.core.v1.Container;

let simulation: Simulation;
let job: JobInputs;
let configMap: types.output.core.v1.ConfigMap;
before(async () => {
  simulation = await start();
  ({ job, configMap } = await up(simulation, {}));
});
after(() => simulation.close());

test("the Job runs one pod once, and is not deleted behind the stack's back", () => {
  assert.equal(job.spec.backoffLimit, 0);
  assert.equal(job.spec.template.spec.restartPolicy, "Never");
  assert.equal(job.spec.activeDeadlineSeconds, 300);
  assert.equal(job.spec.ttlSecondsAfterFinished, undefined);
});

test("the pod runs as the annotated service account, without a token for the Kubernetes API", () => {
  assert.equal(podOf(job).serviceAccountName, "pulumi-service-account");
  assert.equal(podOf(job).automountServiceAccountToken, false);
});

test("the pod is no root and can read what its group may read", () => {
  assert.deepEqual(podOf(job).securityContext, {
    runAsNonRoot: true,
    runAsUser: 1000,
    runAsGroup: 1000,
    fsGroup: 1000,
    seccompProfile: { type: "RuntimeDefault" },
  });
});

test("the container gains no privilege and cannot write to its root", () => {
  assert.deepEqual(containerOf(job).securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  });
});

test("the container asks for what it needs of processor and memory, and gets no more than its limit", () => {
  const { requests, limits } = containerOf(job).resources;
  for (const amounts of [requests, limits]) assert.deepEqual(Object.keys(amounts), ["cpu", "memory"]);
});

test("the end of a failed pod's log becomes its message", () => {
  assert.equal(containerOf(job).terminationMessagePolicy, "FallbackToLogsOnError");
});

test("the image has a version, and an image with a digest is taken as it is", async (t) => {
  assert.equal(containerOf(job).image, "pulumi/pulumi-base:3.270.0");
  const image = `registry.example/pulumi@sha256:${"ab".repeat(32)}`;
  assert.equal(containerOf((await upElsewhere(t, { image })).job).image, image);
});

test("the script of the ConfigMap is the file, mounted alone where every user may run it and nobody may change it", async () => {
  const script = await readFile(join(__dirname, "..", "scripts", "exchange-token.sh"), "utf8");
  assert.deepEqual(configMap.data, { "entrypoint.sh": script });

  assert.deepEqual(mountOf(job, "/bin/entrypoint.sh"), {
    name: "script",
    mountPath: "/bin/entrypoint.sh",
    subPath: "entrypoint.sh",
    readOnly: true,
  });
  assert.equal(volumeOf(job, "script")?.configMap?.defaultMode, 0o555);
  assert.deepEqual(containerOf(job).command, ["/bin/entrypoint.sh"]);
});

test("all that the container can write is a limited folder in memory, where the CLI and the user have their homes", () => {
  const writable = containerOf(job).volumeMounts.filter(({ readOnly }) => !readOnly);
  assert.deepEqual(writable, [{ name: "scratch", mountPath: "/tmp" }]);
  const { emptyDir } = volumeOf(job, "scratch") ?? {};
  assert.equal(emptyDir?.medium, "Memory");
  assert.match(String(emptyDir?.sizeLimit), /^\d+Mi$/);
  assert.equal(variable(job, "HOME"), "/tmp");
  assert.equal(variable(job, "PULUMI_HOME"), "/tmp/.pulumi");
});

test("the pod mounts script and scratch space alone: the webhook brings the token", () => {
  const volumes = podOf(job).volumes.map(({ name }) => name);
  assert.deepEqual(volumes, ["script", "scratch"]);
  assert.equal(variable(job, "PULUMI_OIDC_TOKEN_FILE"), undefined);
});

test("an audience of its own mounts a token for it, for ten minutes and read-only, and the script reads that one", async (t) => {
  const { job, simulation } = await upElsewhere(t, { tokenAudience: "urn:pulumi:org:acme" });
  const file = variable(job, "PULUMI_OIDC_TOKEN_FILE") ?? "";
  const folder = file.replace(/\/token$/, "");
  assert.deepEqual(mountOf(job, folder), { name: "token", mountPath: folder, readOnly: true });
  const serviceAccountToken = { audience: "urn:pulumi:org:acme", expirationSeconds: 600, path: "token" };
  assert.deepEqual(volumeOf(job, "token")?.projected, { sources: [{ serviceAccountToken }] });
  assert.equal(simulation.pulumiCloud.exchanges[0]?.status, 200);
});

test("the script is told what to ask for", async (t) => {
  const { job } = await upElsewhere(t, { tokenExpirationSeconds: "600" });
  const names = [
    "PULUMI_ORG",
    "PULUMI_TOKEN_TYPE",
    "PULUMI_TOKEN_SCOPE",
    "PULUMI_TOKEN_EXPIRATION",
    "PULUMI_BACKEND_URL",
  ];
  assert.deepEqual(
    names.map((name) => variable(job, name)),
    ["acme", "personal", "user:my-login", "600", "https://api.pulumi.com"],
  );
});

test("the command arrives letter by letter, though Kubernetes expands $(NAME) and $$", async (t) => {
  const words = [
    "$(HOME)",
    "$$(HOME)",
    "$HOME",
    "$$",
    "$$$",
    "'",
    '"',
    "\\",
    "`id`",
    "$(id)",
    "a b",
    "",
    "\u00fc\n*",
  ];
  const command = ["printf", "[%s]", ...words];
  const { log } = await upElsewhere(t, { command: JSON.stringify(command) });
  const printed = log.slice(log.findIndex((line) => line.startsWith("[")));
  assert.equal(printed.join("\n"), words.map((word) => `[${word}]`).join(""));
});

test("a setting that looks like a reference of Kubernetes arrives letter by letter too", async (t) => {
  const { log } = await upElsewhere(t, {
    tokenType: "team",
    userLogin: "",
    teamName: "$(PULUMI_ORG)$$",
    command: '["printenv","PULUMI_TOKEN_SCOPE"]',
  });
  assert.equal(log.at(-1), "team:$(PULUMI_ORG)$$");
});

test("the command gets the access token and its end in its environment", async (t) => {
  const command = [
    "bash",
    "-c",
    '[[ $PULUMI_ACCESS_TOKEN == pul-* ]] && echo "until $PULUMI_ACCESS_TOKEN_EXPIRES_AT"',
  ];
  const { log } = await upElsewhere(t, { command: JSON.stringify(command) });
  assert.match(log.at(-1) ?? "", /^until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
});

// https://kubernetes.io/docs/concepts/security/pod-security-standards/, restricted and what it takes over from baseline.
const escalations: [string, (pod: PodSpec, container: Container) => void, RegExp][] = [
  ["uses the host's network", (pod) => Object.assign(pod, { hostNetwork: true }), /hostNetwork/],
  ["uses the host's processes", (pod) => Object.assign(pod, { hostPID: true }), /hostPID/],
  ["uses the host's IPC", (pod) => Object.assign(pod, { hostIPC: true }), /hostIPC/],
  [
    "sets a sysctl",
    (pod) => Object.assign(pod.securityContext, { sysctls: [{ name: "kernel.msgmax", value: "1" }] }),
    /sysctls/,
  ],
  [
    "mounts a folder of the host",
    (pod) => Object.assign(pod.volumes[1] ?? {}, { emptyDir: undefined, hostPath: { path: "/" } }),
    /volume scratch must not be of type .*hostPath/,
  ],
  [
    "does not set runAsNonRoot",
    (pod) => remove(pod.securityContext, "runAsNonRoot"),
    /must set runAsNonRoot/,
  ],
  [
    "unsets runAsNonRoot for the container",
    (_, container) => Object.assign(container.securityContext, { runAsNonRoot: false }),
    /must set runAsNonRoot/,
  ],
  ["runs as root", (pod) => Object.assign(pod.securityContext, { runAsUser: 0 }), /must not run as user 0/],
  [
    "runs its container as root",
    (_, container) => Object.assign(container.securityContext, { runAsUser: 0 }),
    /must not run as user 0/,
  ],
  ["has no seccomp profile", (pod) => remove(pod.securityContext, "seccompProfile"), /seccompProfile/],
  [
    "is unconfined by seccomp",
    (pod) => Object.assign(pod.securityContext, { seccompProfile: { type: "Unconfined" } }),
    /seccompProfile/,
  ],
  [
    "does not forbid to gain privileges",
    (_, container) => remove(container.securityContext, "allowPrivilegeEscalation"),
    /allowPrivilegeEscalation to false/,
  ],
  [
    "gains privileges",
    (_, container) => Object.assign(container.securityContext, { allowPrivilegeEscalation: true }),
    /allowPrivilegeEscalation to false/,
  ],
  ["keeps its capabilities", (_, container) => remove(container.securityContext, "capabilities"), /drop ALL/],
  [
    "drops some capabilities",
    (_, container) => Object.assign(container.securityContext.capabilities, { drop: ["NET_RAW"] }),
    /drop ALL/,
  ],
  [
    "adds a capability",
    (_, container) => Object.assign(container.securityContext.capabilities, { add: ["SYS_ADMIN"] }),
    /must not add capabilities/,
  ],
  [
    "is privileged",
    (_, container) => Object.assign(container.securityContext, { privileged: true }),
    /must not be privileged/,
  ],
  [
    "is unconfined by AppArmor",
    (_, container) => Object.assign(container.securityContext, { appArmorProfile: { type: "Unconfined" } }),
    /must not be unconfined by AppArmor/,
  ],
  [
    "sets a type of SELinux",
    (_, container) => Object.assign(container.securityContext, { seLinuxOptions: { type: "spc_t" } }),
    /must not set seLinuxOptions/,
  ],
  [
    "is a process of the host",
    (_, container) => Object.assign(container.securityContext, { windowsOptions: { hostProcess: true } }),
    /must not be a hostProcess/,
  ],
  [
    "unmasks /proc",
    (_, container) => Object.assign(container.securityContext, { procMount: "Unmasked" }),
    /must not set procMount/,
  ],
  [
    "listens on a port of the host",
    (_, container) => Object.assign(container, { ports: [{ containerPort: 80, hostPort: 80 }] }),
    /must not use host ports/,
  ],
  [
    "has an unrestricted second container",
    (pod) =>
      pod.containers.push(
        Object.assign(structuredClone(containerOf(job)), { name: "b", securityContext: {} }),
      ),
    /container b must drop ALL/,
  ],
];

test("Pod Security admits the pod as it is registered", async () => {
  await simulation.resources["kubernetes:batch/v1:Job"]?.create("again", job);
});

for (const [change, apply, reason] of escalations) {
  test(`Pod Security refuses the pod once it ${change}`, async () => {
    const changed = structuredClone(job);
    apply(podOf(changed), containerOf(changed));
    const jobs =
      simulation.resources["kubernetes:batch/v1:Job"] ?? assert.fail("the simulation keeps no Jobs");
    await assert.rejects(jobs.create("changed", changed), (error) => {
      assert.ok(error instanceof Unready);
      assert.match(error.message, /is forbidden: violates PodSecurity "restricted:latest": /);
      assert.match(error.message, reason);
      return true;
    });
  });
}

interface Up {
  simulation: Simulation;
  job: JobInputs;
  configMap: types.output.core.v1.ConfigMap;
}

function start(onLog: (line: string) => void = () => {}): Promise<Simulation> {
  return startSimulation({
    region: "us-west-2",
    cluster: { name: "my-cluster", hasOidcProvider: true },
    registrationMilliseconds: 0,
    onLog,
  });
}

/** Brings the stack up with these settings on top of the required ones. */
async function up(simulation: Simulation, settings: Record<string, string>): Promise<Up> {
  const config: Record<string, string> = {};
  for (const [key, value] of Object.entries({
    clusterName: "my-cluster",
    userLogin: "my-login",
    ...settings,
  })) {
    config[`project:${key}`] = value;
  }
  const stack = { project: "project", stack: "dev", organization: "acme", config };
  const { registered } = await runProgram(simulation, stack);
  const inputs = (type: string): object =>
    registered.find((registration) => registration.type === type)?.inputs ?? assert.fail(`no ${type}`);
  return {
    simulation,
    job: inputs("kubernetes:batch/v1:Job") as JobInputs,
    configMap: inputs("kubernetes:core/v1:ConfigMap") as Up["configMap"],
  };
}

/** Does so in its own simulation, and hears the pod. */
async function upElsewhere(
  t: TestContext,
  settings: Record<string, string>,
): Promise<Up & { log: string[] }> {
  const log: string[] = [];
  const elsewhere = await start((line) => log.push(line));
  t.after(() => elsewhere.close());
  return { ...(await up(elsewhere, settings)), log };
}

function podOf({ spec }: JobInputs): PodSpec {
  return spec.template.spec;
}

function containerOf(job: JobInputs): Container {
  return podOf(job).containers[0] ?? assert.fail("the pod has no container");
}

function mountOf(job: JobInputs, path: string) {
  return containerOf(job).volumeMounts.find(({ mountPath }) => mountPath === path);
}

function volumeOf(job: JobInputs, name: string) {
  return podOf(job).volumes.find((volume) => volume.name === name);
}

/** As Kubernetes expands it. */
function variable(job: JobInputs, name: string): string | undefined {
  return containerOf(job)
    .env.find((candidate) => candidate.name === name)
    ?.value.replaceAll("$$", "$");
}

function remove(from: object, field: string) {
  Reflect.deleteProperty(from, field);
}
