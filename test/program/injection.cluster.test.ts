// The admission policy of injectToken on a real API server, by server-side dry run.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { types } from "@pulumi/kubernetes";
import type { InjectionArgs } from "../../injection";
import { tokenExchangePod } from "../../tokenExchange";
import { CREDENTIAL_HELPER, DIRECTORY, tokenVolume, VOLUME_NAME } from "../../tokenVolume";
import { type ApiServer, eventually, missingApiServer, startApiServer } from "../support/apiServer";
import { type Pod, podObject, policyTakesEffect, restrictedContainer } from "../support/pods";
import { inject } from "../support/realKubernetes";

type PodSpec = types.output.core.v1.PodSpec;

const LONG_NAME = `${"long-name-".repeat(6)}abc`;
const ODD_AUDIENCE = `https://x/?q='"\\n\${y} \\u0041 \t é 🙂`;
const PODS_PATH = "/api/v1/namespaces/team-a/pods";
const ACCOUNTS: InjectionArgs["accounts"] = [
  { namespace: "team-a", name: "deployer", tokenAudience: "urn:pulumi:org:acme" },
  { namespace: "team-a", name: "reader", tokenAudience: "https://api.pulumi.com" },
  { namespace: "team-a", name: "odd", tokenAudience: ODD_AUDIENCE },
  { namespace: "team-a", name: LONG_NAME, tokenAudience: "urn:pulumi:org:acme" },
  { namespace: "team-b", name: "reader", tokenAudience: "urn:pulumi:org:acme" },
];

/** Metrics of the API server: how many pods the policies compared, and how many expressions failed. */
const COMPARED = /^apiserver_admission_match_condition_evaluation_seconds_count\{.*inject-token/;
const FAILED =
  /^apiserver_(admission_match_condition_evaluation_errors_total|mutating_admission_policy_check_total\{error_type="(?!no_error)).*inject-token/;

const VOLUME = volumeOf("deployer", "urn:pulumi:org:acme");
const OWN_VOLUME = { name: "own", emptyDir: {} };
const OWN_VARIABLE = { env: [{ name: CREDENTIAL_HELPER.name, value: "none" }] };
const INIT = [{ name: "init" }, { name: "other" }];
const LINUX = { os: { name: "linux" } };
const WINDOWS = {
  os: { name: "windows" },
  securityContext: { runAsNonRoot: true },
  containers: [{ name: "app", securityContext: {} }],
};

/** Pods of the service account `deployer`, and the names of the containers that the policy changes. */
const PODS: [behavior: string, pod: Pod, expected: string[]][] = [
  ["changes all containers, and no init container", podAnnotated(undefined), ["app", "sidecar"]],
  ["changes the same with an empty annotation", podAnnotated(""), ["app", "sidecar"]],
  ["changes only the container that the annotation names", podAnnotated("app"), ["app"]],
  ["changes only the init container that the annotation names", podAnnotated("init"), ["init"]],
  ["ignores spaces and empty names", podAnnotated(" sidecar ,init,"), ["sidecar", "init"]],
  ["leaves a pod whose annotation names an unknown container", podAnnotated("app, ap"), []],
  ["leaves a pod whose annotation has another case", podAnnotated("App"), []],
  ["keeps other variables", podWithOwn({ env: [{ name: "A", value: "b" }] }), ["own", "app"]],
  ["leaves a container with its own variable", podWithOwn(OWN_VARIABLE), ["app"]],
  ["leaves a container with a mount at the path", podWithOwn(mountAt(DIRECTORY)), ["app"]],
  ["leaves one with a slash at its end", podWithOwn(mountAt(`${DIRECTORY}/`)), ["app"]],
  ["leaves a container with a mount in the directory", podWithOwn(mountAt(`${DIRECTORY}/token`)), ["app"]],
  ["keeps a mount beside the directory", podWithOwn(mountAt(`${DIRECTORY}pany`)), ["own", "app"]],
  ["leaves a pod without other containers", { containers: [{ name: "app", ...OWN_VARIABLE }] }, []],
  ["leaves a pod with a volume of this name", { volumes: [{ name: VOLUME_NAME, emptyDir: {} }] }, []],
  ["leaves a pod with this volume", { volumes: [VOLUME] }, []],
  ["changes a pod with an annotation of 1,024 characters", annotated("app".padEnd(1024)), ["app"]],
  ["leaves a pod with a longer annotation", annotated("app".padEnd(1025)), []],
  ["changes a pod with 100 containers", podWithContainers(100), namesOf(containersOf(98))],
  ["leaves a pod with more containers", podWithContainers(101), []],
  ["changes a pod with 2,000 volumes, mounts, and variables", podWithElements(2000), ["app"]],
  ["leaves a pod with more of them", podWithElements(2001), []],
  ["changes a pod for Linux", LINUX, ["app"]],
  ["leaves a pod for Windows", WINDOWS, []],
];

describe("the policy of injectToken on a real API server", { skip: missingApiServer }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
    const restricted = { "pod-security.kubernetes.io/enforce": "restricted" };
    for (const namespace of ["team-a", "team-b", "team-c"]) {
      await server.createNamespace(namespace, restricted);
      for (const name of ["deployer", "reader", "odd", "other", LONG_NAME]) {
        await server.createServiceAccount(namespace, name);
      }
    }
    await server.create(PODS_PATH, podObject({ serviceAccountName: "deployer" }, "earlier"));
    await inject(server, "My_Access.inject-token", ACCOUNTS);
    await policyTakesEffect(server, "team-a", "deployer");
  });
  after(() => server?.close());

  /** Creates a pod by dry run, by default one that the policy changes. Returns it as the API server would store it. */
  async function admitted(pod: Pod = {}, namespace = "team-a"): Promise<PodSpec> {
    const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`;
    return (await server.create(path, podObject({ serviceAccountName: "deployer", ...pod }))).spec;
  }

  /** Returns the same pod without the policy, as that of a service account that no policy contains. */
  async function unchanged(pod: Pod, namespace?: string): Promise<PodSpec> {
    const spec = await admitted({ ...pod, serviceAccountName: "other" }, namespace);
    return { ...spec, serviceAccountName: "deployer", serviceAccount: "deployer" };
  }

  /** Returns the sum of the API server's metrics that match a pattern. */
  async function sumOf(pattern: RegExp): Promise<number> {
    const lines = (await server.kubectl(["get", "--raw=/metrics"])).split("\n");
    return lines
      .filter((line) => pattern.test(line))
      .reduce((sum, line) => sum + Number(/\S+$/.exec(line)), 0);
  }

  test("mounts an ID token with the audience of each service account, whatever characters it contains", async () => {
    for (const { namespace, name, tokenAudience } of ACCOUNTS) {
      const { volumes } = await admitted({ serviceAccountName: name }, namespace);
      assert.deepEqual(volumes, [volumeOf(name, String(tokenAudience))]);
    }
  });

  for (const [behavior, pod, expected] of PODS) {
    test(behavior, async () => {
      assert.deepEqual(await admitted(pod), await unchanged(withExchange(pod, expected)));
    });
  }

  const mirror = { nodeName: "node", annotations: { "kubernetes.io/config.mirror": "checksum" } };
  for (const [what, pod, namespace] of [
    ["with the default service account", { serviceAccountName: undefined }, "team-a"],
    ["with the name of a service account elsewhere", { serviceAccountName: "deployer" }, "team-b"],
    ["of a node, which have no service account", { ...mirror, serviceAccountName: undefined }, "team-a"],
  ] satisfies [string, Pod, string][]) {
    test(`leaves pods ${what}, and no expression fails`, async () => {
      const failed = await sumOf(FAILED);
      assert.doesNotMatch(JSON.stringify(await admitted(pod, namespace)), /pulumi/);
      assert.equal(await sumOf(FAILED), failed);
    });
  }

  test("compares nothing in other namespaces", async () => {
    const compared = await sumOf(COMPARED);
    assert.ok(compared > 0);
    assert.doesNotMatch(JSON.stringify(await admitted({ serviceAccountName: "reader" }, "team-c")), /pulumi/);
    assert.equal(await sumOf(COMPARED), compared);
  });

  test("leaves a pod that an expression fails for to the API server", async () => {
    const failed = await sumOf(FAILED);
    const pod = podObject({ serviceAccountName: "deployer" });
    const { body } = await server.request("POST", `${PODS_PATH}?dryRun=All`, {
      ...pod,
      spec: { ...pod.spec, containers: null },
    });
    assert.equal(body.message, 'Pod "app" is invalid: spec.containers: Required value');
    assert.notEqual(await sumOf(FAILED), failed);
  });

  // What a tenant can send to keep the API server busy, and the largest pod that is changed.
  const variables = { env: Array.from({ length: 17 }, (_, index) => ({ name: `V${index}` })) };
  const largest = containersOf(100).map((container) => ({ ...container, ...variables }));
  for (const [what, pod, isChanged] of [
    ["an annotation of 60 KB", annotated(",".repeat(60 * 1024)), false],
    ["10,000 containers", { ...annotated("x,".repeat(512)), containers: containersOf(10_000) }, false],
    ["the largest pod", { ...annotated(",".repeat(1024)), containers: largest }, true],
  ] satisfies [string, Pod, boolean][]) {
    test(`answers to ${what} in about the time of the same pod without the policy`, async () => {
      assert.equal("volumes" in (await admitted(pod)), isChanged);
      const without = await shortest(() => unchanged(pod, "team-c"));
      for (const serviceAccountName of ["deployer", "other"]) {
        const seconds = await shortest(() => admitted({ ...pod, serviceAccountName }));
        assert.ok(seconds < 0.5 + 3 * without, `${seconds} s instead of ${without} s`);
      }
    });
  }

  test("leaves the decisions of Pod Security as they are", async () => {
    const containers = [{ name: "app", securityContext: { privileged: true } }];
    await assert.rejects(admitted({ containers }), /violates PodSecurity "restricted:latest": privileged/);
  });

  test("leaves a pod that exists, and its ephemeral containers", async () => {
    const patch = async (path: string, change: object): Promise<PodSpec> => {
      const type = "application/strategic-merge-patch+json";
      const { status, body } = await server.request("PATCH", `${PODS_PATH}/${path}`, change, type);
      assert.equal(status, 200, body.message);
      return body.spec;
    };
    const ephemeralContainers = [restrictedContainer({ name: "debugger" })];
    for (const patched of [
      await patch("earlier", { metadata: { labels: { changed: "true" } } }),
      await patch("earlier/ephemeralcontainers", { spec: { ephemeralContainers } }),
    ]) {
      assert.doesNotMatch(JSON.stringify(patched), /pulumi/);
    }
  });

  test("lets two stacks use the same cluster, each for its own service accounts", async () => {
    const account = { namespace: "team-a", name: "other", tokenAudience: "other" };
    const remove = await inject(server, "My_Access.inject-token", [account], "prod");
    await policyTakesEffect(server, "team-a", "other");
    const other = { serviceAccountName: "other" };
    assert.deepEqual((await admitted(other)).volumes, [volumeOf("other", "other")]);
    assert.deepEqual((await admitted()).volumes, [VOLUME]);

    await remove();
    await eventually("the policy has no effect", async () => !("volumes" in (await admitted(other))));
    assert.deepEqual((await admitted()).volumes, [VOLUME]);
  });
});

function volumeOf(name: string, audience: string) {
  return tokenVolume(`${name}-pulumi-token-exchange`, audience);
}

function mountAt(mountPath: string) {
  return { volumeMounts: [{ name: "own", mountPath }] };
}

function annotated(names: string): Pod {
  return { annotations: { "eks-pulumi-oidc/containers": names } };
}

/** Returns a pod with containers and init containers, and with the annotation, unless it is undefined. */
function podAnnotated(names: string | undefined): Pod {
  const containers = [{ name: "app" }, { name: "sidecar" }];
  return { containers, initContainers: INIT, ...(names !== undefined && annotated(names)) };
}

/** Returns a pod with a container that has something already, and another one. */
function podWithOwn(fields: object): Pod {
  return { containers: [{ name: "own", ...fields }, { name: "app" }], volumes: [OWN_VOLUME] };
}

/** Returns a pod with so many containers, two of which are init containers. */
function podWithContainers(count: number): Pod {
  return { containers: containersOf(count - 2), initContainers: INIT };
}

function containersOf(count: number): { name: string }[] {
  return Array.from({ length: count }, (_, index) => ({ name: `c${index}` }));
}

function namesOf(containers: { name: string }[]): string[] {
  return containers.map(({ name }) => name);
}

/** Returns a pod with 500 volumes, 500 mounts, and as many variables in two containers as it has further elements. */
function podWithElements(count: number): Pod {
  const volumes = Array.from({ length: 500 }, (_, index) => ({ name: `v${index}`, emptyDir: {} }));
  const volumeMounts = volumes.map(({ name }) => ({ name, mountPath: `/${name}` }));
  const env = Array.from({ length: count - 1000 }, (_, index) => ({ name: `V${index}` }));
  return {
    containers: [{ name: "app", volumeMounts, env: env.slice(500) }],
    initContainers: [{ name: "init", env: env.slice(0, 500) }],
    volumes,
  };
}

/** Returns a pod of `deployer` whose containers of these names have what a manifest has by hand. */
function withExchange(pod: Pod, names: string[]): Pod {
  if (names.length === 0) return pod;
  const { containers = [{ name: "app" }], initContainers = [], volumes = [] } = pod;
  const args = { serviceAccountName: "deployer", configMap: "", tokenAudience: "" };
  const changed = (all: object[]) =>
    tokenExchangePod({ containers: all as { name: string }[] }, args).containers.map((byHand, index) =>
      names.includes(String(byHand.name)) ? byHand : (all[index] ?? {}),
    );
  return {
    ...pod,
    containers: changed(containers),
    initContainers: changed(initContainers),
    volumes: [...volumes, VOLUME],
  };
}

/** Returns the shortest of three durations, in seconds: other programs lengthen the others. */
async function shortest(run: () => Promise<unknown>): Promise<number> {
  let seconds = Number.POSITIVE_INFINITY;
  for (let count = 0; count < 3; count += 1) {
    const started = performance.now();
    await run();
    seconds = Math.min(seconds, (performance.now() - started) / 1000);
  }
  return seconds;
}
