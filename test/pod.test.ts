// The simulation's pod: only what its spec mounts is there, with the rights that its user would have.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { type PodOptions, type PodRun, type PodSpec, runPod } from "../simulator/pod";

const TOKEN_FOLDER = "/var/run/secrets/example/token";
const CAN_READ = ["bash", "-c", '[[ -r $0 ]] && echo "$(<"$0")" || echo absent'];

test("a script that is mounted with mode 0555 runs", async () => {
  assert.deepEqual(await run(script({ defaultMode: 0o555 })), { exitCode: 0, log: ["it ran"] });
});

for (const [mode, securityContext, why] of [
  [0o444, {}, "nobody may run it"],
  [0o700, {}, "root alone may run it"],
  [0o740, { fsGroup: 1000 }, "the pod's group may read it alone"],
  [0o700, { fsGroup: 1000 }, "the pod's group may read it alone"],
  [undefined, {}, "0644 is the mode of a ConfigMap"],
] satisfies [number | undefined, object, string][]) {
  const shown = mode === undefined ? "without a mode" : `with mode 0${mode.toString(8)}`;
  test(`a script that is mounted ${shown}${"fsGroup" in securityContext ? " and fsGroup" : ""} does not run: ${why}`, async () => {
    const { exitCode, log } = await run({ ...script({ defaultMode: mode }), securityContext });
    assert.equal(exitCode, 128);
    assert.match(log.join("\n"), /^the container cannot start: .*(EACCES|ENOENT)/);
  });
}

test("a script that is not mounted is not there", async () => {
  const { exitCode, log } = await run(pod({ command: ["/bin/entrypoint.sh"] }));
  assert.equal(exitCode, 128);
  assert.match(log.join("\n"), /^the container cannot start: .*ENOENT/);
});

test("a container that cannot start is over at once: nothing waits for its deadline", async () => {
  const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === "Timeout").length;
  const before = timers();
  await run(pod({ command: ["/bin/entrypoint.sh"] }));
  assert.equal(timers(), before);
});

test("a subPath that the volume does not have mounts nothing", async () => {
  const spec = pod({
    command: ["bash", "-c", "[[ -e $0 ]] || echo absent", "/etc/script/other.sh"],
    volumeMounts: [{ name: "script", mountPath: "/etc/script/other.sh", subPath: "other.sh" }],
    volumes: [{ name: "script", configMap: { name: "script" } }],
  });
  assert.deepEqual((await run(spec)).log, ["absent"]);
});

test("a volume that is mounted and not declared is refused", async () => {
  const spec = pod({ command: ["true"], volumeMounts: [{ name: "gone", mountPath: "/gone" }] });
  await assert.rejects(run(spec), /mounts a volume gone that it does not have/);
});

for (const securityContext of [
  {},
  { runAsUser: 1000 },
  { fsGroup: 1000 },
  { runAsUser: 1000, fsGroup: 1000 },
]) {
  test(`the pod reads its id token with ${JSON.stringify(securityContext)}`, async () => {
    const { log } = await run({ ...token([...CAN_READ, `${TOKEN_FOLDER}/token`]), securityContext });
    assert.deepEqual(log, ["an id token for urn:pulumi:org:acme"]);
  });
}

test("a file of a ConfigMap that the pod's user may not read is not there, but for its group", async () => {
  const spec = pod({
    command: [...CAN_READ, "/etc/script/entrypoint.sh"],
    volumeMounts: [{ name: "script", mountPath: "/etc/script" }],
    volumes: [{ name: "script", configMap: { name: "script", defaultMode: 0o600 } }],
  });
  assert.deepEqual((await run(spec)).log, ["absent"]);
  assert.match((await run({ ...spec, securityContext: { fsGroup: 1000 } })).log.join("\n"), /it ran/);
});

test("scratch space is an empty folder that can be written to", async () => {
  const spec = pod({
    command: ["bash", "-c", 'cd "$HOME" && ls -A && echo a >file && cat file'],
    env: [{ name: "HOME", value: "/tmp" }],
    volumeMounts: [{ name: "scratch", mountPath: "/tmp" }],
    volumes: [{ name: "scratch", emptyDir: {} }],
  });
  assert.deepEqual(await run(spec), { exitCode: 0, log: ["a"] });
});

test("$(NAME) is expanded in command, arguments and later variables, $$ is $, and what is not known stays", async () => {
  const spec = pod({
    command: ["printf", "%s\n"],
    args: ["$(B)", "$$(B)", "$(UNKNOWN)", "$B", "$$$$"],
    env: [
      { name: "A", value: "a" },
      { name: "B", value: "$(A)$(C)b" },
      { name: "C", value: "c" },
    ],
  });
  assert.deepEqual((await run(spec)).log, ["a$(C)b", "$(B)", "$(UNKNOWN)", "$B", "$$"]);
});

test("the call of Pulumi Cloud leads to that of the simulation, and no other is reachable", async () => {
  const spec = pod({
    command: ["bash", "-c", 'echo "$PULUMI_BACKEND_URL" "$https_proxy"'],
    env: [{ name: "PULUMI_BACKEND_URL", value: "https://api.pulumi.com" }],
  });
  assert.deepEqual((await run(spec)).log, ["https://127.0.0.1:1 http://127.0.0.1:9"]);
});

test("nothing of this machine's environment gets into the pod but PATH", async (t) => {
  process.env.CANARY = "of this machine";
  t.after(() => delete process.env.CANARY);
  const { log } = await run(
    pod({ command: ["bash", "-c", 'compgen -e | sort | grep -vE "^(PWD|SHLVL|_|OLDPWD)$"'] }),
  );
  assert.deepEqual(log, ["CURL_CA_BUNDLE", "PATH", "SSL_CERT_FILE", "https_proxy", "no_proxy"]);
});

test("the log has both streams, the exit code is the command's, and each line is told as it comes", async () => {
  const told: string[] = [];
  const spec = pod({ command: ["bash", "-c", "echo out; echo err >&2; exit 3"] });
  const { exitCode, log } = await run(spec, { onLog: (line) => told.push(line) });
  assert.equal(exitCode, 3);
  assert.deepEqual(log.toSorted(), ["err", "out"]);
  assert.deepEqual(told, log);
});

test("a pod that outlives its deadline is killed", async () => {
  const { exitCode } = await run(pod({ command: ["sleep", "60"] }), { deadlineSeconds: 0.2 });
  assert.equal(exitCode, 137);
});

test("nothing of the pod stays behind", async () => {
  const { log } = await run(pod({ command: ["pwd"] }));
  assert.match(String(log[0]), /pod-/);
  assert.equal(existsSync(String(log[0])), false);
});

test("a pod without a container is refused", async () => {
  await assert.rejects(run({ ...pod({ command: [] }), containers: [] }), /the pod has no container/);
});

type Container = PodSpec["containers"][number];
type Spec = Omit<PodSpec, "securityContext"> & { securityContext?: Partial<PodSpec["securityContext"]> };

/** A pod with one container, of what Kubernetes would fill in no more than is needed here. */
function pod({ volumes = [], ...container }: Parts): Spec {
  return { containers: [{ name: "runner", ...container } as Container], volumes } as Spec;
}

interface Parts {
  command: string[];
  args?: string[];
  env?: { name: string; value: string }[];
  volumeMounts?: { name: string; mountPath: string; subPath?: string }[];
  volumes?: object[];
}

function script({ defaultMode }: { defaultMode: number | undefined }): Spec {
  return pod({
    command: ["/bin/entrypoint.sh"],
    volumeMounts: [{ name: "script", mountPath: "/bin/entrypoint.sh", subPath: "entrypoint.sh" }],
    volumes: [
      { name: "script", configMap: { name: "script", ...(defaultMode !== undefined && { defaultMode }) } },
    ],
  });
}

function token(command: string[]): Spec {
  const serviceAccountToken = { audience: "urn:pulumi:org:acme", expirationSeconds: 600, path: "token" };
  return pod({
    command,
    volumeMounts: [{ name: "token", mountPath: TOKEN_FOLDER }],
    volumes: [{ name: "token", projected: { sources: [{ serviceAccountToken }] } }],
  });
}

function run(spec: Spec, options: Partial<PodOptions> = {}): Promise<PodRun> {
  return runPod({
    spec: spec as PodSpec,
    deadlineSeconds: 5,
    idToken: async (audience) => `an id token for ${audience}`,
    configMap: () => ({ "entrypoint.sh": "#!/usr/bin/env bash\necho it ran\n" }),
    pulumiCloudUrl: "https://127.0.0.1:1",
    certificateAuthorityFile: "/ca.pem",
    onLog: () => {},
    ...options,
  });
}
