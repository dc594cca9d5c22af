// The pod of the simulation: it has what its spec mounts and sets, and nothing of this machine.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type PodSpec, runPod } from "../simulator/pod";

const SCRIPT = { name: "script", mountPath: "/bin/entrypoint.sh", subPath: "entrypoint.sh" };

function run(command: string[], { defaultMode = 0o555, ...container }: { defaultMode?: number } & object = {}) {
  const serviceAccountToken = { audience: "urn:pulumi:org:acme", path: "token" };
  const volumeMounts = [SCRIPT, { name: "token", mountPath: "/token" }];
  const spec = {
    containers: [{ name: "main", command, volumeMounts, ...container }],
    volumes: [
      { name: "script", configMap: { name: "script", defaultMode } },
      { name: "token", projected: { sources: [{ serviceAccountToken }] } },
    ],
  };
  return runPod({
    spec: spec as object as PodSpec,
    idToken: async (audience) => `an ID token for ${audience}`,
    configMap: (name) =>
      name === "environment" ? { A: "a" } : { "entrypoint.sh": "#!/usr/bin/env bash\necho it ran\n" },
    pulumiCloudUrl: "https://127.0.0.1:1",
    onLog: () => {},
  });
}

test("a script runs only if it is mounted, with a mode that allows it", async () => {
  assert.deepEqual(await run(["/bin/entrypoint.sh"]), { exitCode: 0, log: ["it ran"] });
  for (const container of [{ defaultMode: 0o444 }, { volumeMounts: [] }]) {
    const { exitCode, log } = await run(["/bin/entrypoint.sh"], container);
    assert.equal(exitCode, 128);
    assert.match(log.join(), /^the container cannot start: .*(EACCES|ENOENT)/);
  }
});

test("the environment is only that of the spec, with variables expanded and Pulumi Cloud replaced", async () => {
  process.env.CANARY = "of this machine";
  const env = [
    { name: "A", value: "$(A)$(B)b" },
    { name: "PULUMI_BACKEND_URL", value: "https://api.pulumi.com" },
  ];
  const container = { env, envFrom: [{ configMapRef: { name: "environment" } }] };
  const script = 'cat /dev/stdin "$2" <<<"$1 $A $PULUMI_BACKEND_URL <$CANARY>"';
  const { log } = await run(["bash", "-c", script, "-", "$$(A) $(A)", "/token/token"], container);
  const line = "$(A) a$(B)b a$(B)b https://127.0.0.1:1 <>";
  assert.deepEqual(log, [line, "an ID token for urn:pulumi:org:acme"]);
});
