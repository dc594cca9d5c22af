// The pod of the simulation: only what its spec mounts exists, with the rights that its user has.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { type PodOptions, type PodSpec, runPod } from "../simulator/pod";

const SCRIPT = { name: "script", mountPath: "/bin/entrypoint.sh", subPath: "entrypoint.sh" };

function run(command: string[], { defaultMode = 0o555, container = {}, options = {}, ...spec }: Changes = {}) {
  const serviceAccountToken = { audience: "urn:pulumi:org:acme", path: "token" };
  const pod = {
    containers: [
      { name: "main", command, volumeMounts: [SCRIPT, { name: "token", mountPath: "/token" }], ...container },
    ],
    volumes: [
      { name: "script", configMap: { name: "script", defaultMode } },
      { name: "token", projected: { sources: [{ serviceAccountToken }] } },
    ],
    ...spec,
  };
  return runPod({
    spec: pod as object as PodSpec,
    deadlineSeconds: 5,
    idToken: async (audience) => `an ID token for ${audience}`,
    configMap: (name) =>
      name === "environment" ? { A: "a" } : { "entrypoint.sh": "#!/usr/bin/env bash\necho it ran\n" },
    pulumiCloudUrl: "https://127.0.0.1:1",
    certificateAuthorityFile: "/ca.pem",
    onLog: () => {},
    ...options,
  });
}

interface Changes {
  defaultMode?: number;
  container?: object;
  options?: Partial<PodOptions>;
  securityContext?: object;
}

for (const [defaultMode, securityContext, runs] of [
  [0o555, {}, true],
  [0o444, {}, false],
  [0o700, {}, false],
  [0o740, { fsGroup: 1000 }, false],
  [0o750, { fsGroup: 1000 }, true],
] satisfies [number, object, boolean][]) {
  test(`mode 0${defaultMode.toString(8)}${"fsGroup" in securityContext ? " and fsGroup" : ""} ${runs ? "lets" : "does not let"} the script run`, async () => {
    const { exitCode, log } = await run(["/bin/entrypoint.sh"], { defaultMode, securityContext });
    assert.equal(exitCode, runs ? 0 : 128);
    assert.match(log.join(), runs ? /^it ran$/ : /^the container cannot start: .*(EACCES|ENOENT)/);
  });
}

test("without a mount there is no script, and an undeclared volume is an error", async () => {
  const container = { volumeMounts: [] };
  assert.equal((await run(["/bin/entrypoint.sh"], { container })).exitCode, 128);
  const undeclared = { volumeMounts: [{ name: "gone", mountPath: "/gone" }] };
  await assert.rejects(run(["true"], { container: undeclared }), /mounts the volume gone/);
});

test("the environment is that of the spec, with variables expanded and Pulumi Cloud replaced", async () => {
  process.env.CANARY = "of this machine";
  const env = [
    { name: "A", value: "$(A)$(B)b" },
    { name: "PULUMI_BACKEND_URL", value: "https://api.pulumi.com" },
  ];
  const container = { env, envFrom: [{ configMapRef: { name: "environment" } }] };
  const script = 'cat /dev/stdin "$2" <<<"$1 $A $PULUMI_BACKEND_URL <$CANARY>"';
  const { log } = await run(["bash", "-c", script, "-", "$$(A) $(A)", "/token/token"], { container });
  const line = "$(A) a$(B)b a$(B)b https://127.0.0.1:1 <>";
  assert.deepEqual(log, [line, "an ID token for urn:pulumi:org:acme"]);
});

test("returns both streams and the exit code, and leaves nothing behind", async () => {
  const { exitCode, log } = await run(["bash", "-c", "pwd; echo error >&2; exit 3"]);
  assert.equal(exitCode, 3);
  const [directory = ""] = log.filter((line) => line !== "error");
  assert.match(directory, /pod-/);
  assert.equal(log.length, 2);
  assert.equal(existsSync(directory), false);
});
