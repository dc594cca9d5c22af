// The token exchange in pods: the Job, and the pods of other workloads.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import type { output } from "@pulumi/kubernetes/types";
import * as pulumi from "@pulumi/pulumi";
import { tokenExchangePod } from "../../kubernetes/jobPod";
import {
  CREDENTIAL_HELPER,
  DIRECTORY,
  SCRIPT_PATH,
  tokenVolume,
  VOLUME_MOUNT,
  VOLUME_NAME,
} from "../../kubernetes/tokenVolume";
import { runPodSpec } from "../environment/podSpec";
import { all, entry, known, only, type Stack, stackWith, up } from "../environment/stack";
import { setVariables } from "../support/variables";

type Job = output.batch.v1.Job;
type PodSpec = output.core.v1.PodSpec;

const CONFIG_MAP = "runner-pulumi-token-exchange";
const AUDIENCE = "urn:pulumi:org:acme";
const ARGS = { serviceAccountName: "runner", configMap: CONFIG_MAP, tokenAudience: AUDIENCE };
const APP = { name: "app", image: "app:1", command: ["app"] };

/** What a container has to exchange a token. */
const EXCHANGE = { env: [CREDENTIAL_HELPER], volumeMounts: [VOLUME_MOUNT] };

test("the Job's pod is as restricted as Pod Security requires, and more", async (t) => {
  const pod = podOf(await up(t));
  const [container = assert.fail()] = pod.containers;
  assert.deepEqual([pod.automountServiceAccountToken, pod.restartPolicy], [false, "Never"]);
  // manifests.cluster.test.ts asks a real API server.
  const user = { runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000 };
  assert.deepEqual(pod.securityContext, { ...user, seccompProfile: { type: "RuntimeDefault" } });
  assert.deepEqual(container.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  });
  assert.deepEqual([container.command.at(-1), container.args], [SCRIPT_PATH, ["pulumi", "whoami"]]);
  assert.equal(container.terminationMessagePolicy, "FallbackToLogsOnError");
  for (const amounts of Object.values(container.resources)) {
    assert.deepEqual(Object.keys(amounts), ["cpu", "memory"]);
  }
  // All that is writable is in memory, and is where the CLI and the user have their home directories.
  const writable = container.volumeMounts.filter(({ readOnly }) => !readOnly);
  assert.deepEqual(writable, [{ name: "tmp", mountPath: "/tmp" }]);
  assert.deepEqual(pod.volumes[0], { name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "128Mi" } });
  const environment = container.env.slice(0, -1).map(({ name, value }) => `${name}=${value}`);
  assert.deepEqual(environment, ["HOME=/tmp", "PULUMI_HOME=/tmp/.pulumi", "PULUMI_SKIP_UPDATE_CHECK=true"]);
});

test("the Job runs one pod once, is replaced if it failed, and has a name that fits into a label", async (t) => {
  const serviceAccounts = [48, 49].map((length) => entry({ name: "n".repeat(length) }));
  const [longest, shortened] = all<Job>(await up(t, { serviceAccounts }), "Job").map(({ inputs }) => inputs);
  const { metadata, spec } = longest ?? assert.fail();
  assert.deepEqual([spec.backoffLimit, spec.activeDeadlineSeconds], [0, 300]);
  assert.equal(metadata.annotations["pulumi.com/replaceUnready"], "true");
  assert.equal(metadata.name, `${"n".repeat(48)}-token-exchange`);
  assert.match(shortened?.metadata.name ?? "", /^[0-9a-f]{16}-token-exchange$/);
});

test("the Job runs again if the script or one of its settings changes", async (t) => {
  const stack = await up(t);
  const { data } = only<output.core.v1.ConfigMap>(stack, "ConfigMap").inputs;
  const { organization, tokenType, tokenScope, tokenExpirationSeconds, apiUrl, ...script } = data;
  assert.deepEqual(Object.keys(script), ["exchange-token.sh"]);
  const settings = { organization, tokenType, tokenScope, tokenExpirationSeconds, apiUrl };
  const checksum = createHash("sha256").update(JSON.stringify({ ...settings, ...script }));
  const { annotations } = jobOf(stack).spec.template.metadata;
  assert.equal(annotations["pulumi.com/token-exchange-checksum"], checksum.digest("hex"));
});

test("jobPodSpec is merged over the Job's pod spec by the keys of Kubernetes, and never changes the exchange", async (t) => {
  // Each has one of several sources, and must not have two.
  const home = { name: "HOME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } };
  const tmp = { name: "tmp", hostPath: { path: "/scratch" } };
  const mounts = [
    { name: "scratch", mountPath: "/tmp" },
    { name: "tmp", mountPath: "/cache" },
  ];
  const other = { command: ["true"], args: ["a"] };
  const jobPodSpec = {
    nodeSelector: { pool: "ci" },
    tolerations: [{ key: "ci" }],
    securityContext: { runAsUser: 2000 },
    containers: [
      { name: "token-exchange", env: [home], volumeMounts: mounts },
      { name: "proxy", ...other },
    ],
    volumes: [{ name: "cache", emptyDir: {} }, tmp],
  };
  const plain = podOf(await up(t));
  const pod = podOf(await up(t, { jobPodSpec, image: "mirror/base:1" }));
  assert.deepEqual(pod.nodeSelector, { "kubernetes.io/os": "linux", pool: "ci" });
  assert.deepEqual(pod.tolerations, jobPodSpec.tolerations);
  assert.deepEqual(pod.securityContext, { ...plain.securityContext, runAsUser: 2000 });
  const [main, proxy] = pod.containers;
  const env = [home, ...(plain.containers[0]?.env.slice(1) ?? [])];
  const volumeMounts = [...mounts, VOLUME_MOUNT];
  assert.deepEqual(main, { ...plain.containers[0], image: "mirror/base:1", env, volumeMounts });
  assert.deepEqual(proxy, { name: "proxy", ...other, ...EXCHANGE });
  assert.deepEqual(pod.volumes.slice(0, 2), [tmp, jobPodSpec.volumes[0]]);
  assert.equal(pod.volumes.at(2)?.name, VOLUME_NAME);
});

test("the command arrives unchanged, though Kubernetes expands $(NAME) and $$", async (t) => {
  const words = [..."$(HOME) $$(HOME) $HOME $$ $$$ ' \" \\ `id` $(id)".split(" "), "a b", "", "\u00fc\n*"];
  const log: string[] = [];
  const command = ["bash", "-c", 'printf "[%s]" "$CANARY" "$@"', "-", ...words];
  t.after(setVariables({ CANARY: "a variable of this machine, which no pod has" }));
  await up(t, stackWith({ command }), {
    async runPod(options) {
      const run = await runPodSpec(options);
      log.push(...run.log);
      return run;
    },
  });
  const printed = log.slice(log.findIndex((line) => line.startsWith("[")));
  assert.equal(printed.join("\n"), ["", ...words].map((word) => `[${word}]`).join(""));
});

test("every container of a pod gets the exchange, which wins over what has its names or its path, and nothing else changes", async () => {
  const proxy = { name: "proxy", image: "proxy:1" };
  const other = { name: "other", mountPath: "/other" };
  const app = {
    ...APP,
    env: [{ name: CREDENTIAL_HELPER.name, value: "none" }, { name: "A" }],
    // The second path is the same one.
    volumeMounts: [
      { name: "mine", mountPath: DIRECTORY },
      { name: "mine", mountPath: `/${DIRECTORY}/` },
      other,
    ],
  };
  const volumes = [{ name: VOLUME_NAME, configMap: { name: "mine" } }, { name: "other" }];
  const given = { containers: [app, proxy], initContainers: [proxy], volumes, hostname: pulumi.output("a") };
  const pod = await known<PodSpec>(tokenExchangePod(given, ARGS));
  assert.deepEqual(pod, {
    hostname: "a",
    serviceAccountName: "runner",
    initContainers: [{ name: "proxy", image: "proxy:1" }],
    containers: [
      { ...APP, env: [{ name: "A" }, CREDENTIAL_HELPER], volumeMounts: [other, VOLUME_MOUNT] },
      { ...proxy, ...EXCHANGE },
    ],
    volumes: [{ name: "other" }, tokenVolume(CONFIG_MAP, AUDIENCE)],
  });
});

function jobOf(stack: Stack): Job {
  return only<Job>(stack, "Job").inputs;
}

function podOf(stack: Stack): PodSpec {
  return jobOf(stack).spec.template.spec;
}
