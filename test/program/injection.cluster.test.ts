// The admission policy of injectToken on a real API server, by server-side dry run.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { types } from "@pulumi/kubernetes";
import type { InjectionArgs } from "../../injection";
import { EXPRESSION_LIMIT, longestExpression } from "../../kubernetes/injectionPolicy";
import { tokenExchangePod } from "../../kubernetes/jobPod";
import { CREDENTIAL_HELPER, DIRECTORY, tokenVolume, VOLUME_NAME } from "../../kubernetes/tokenVolume";
import { type ApiServer, missingApiServer, startApiServer } from "../environment/apiServer";
import { type Pod, podObject, policyTakesEffect } from "../environment/pods";
import { inject } from "../environment/realKubernetes";

type PodSpec = types.output.core.v1.PodSpec;

const LONG_NAME = `${"long-name-".repeat(6)}abc`;
const ODD_AUDIENCE = `https://x/?q='"\\n\${y} \\u0041 \t é 🙂`;
const ACCOUNTS: InjectionArgs["accounts"] = [
  { namespace: "team-a", name: "deployer", tokenAudience: "urn:pulumi:org:acme" },
  { namespace: "team-a", name: "reader", tokenAudience: "https://api.pulumi.com" },
  { namespace: "team-a", name: "odd", tokenAudience: ODD_AUDIENCE },
  { namespace: "team-a", name: LONG_NAME, tokenAudience: "urn:pulumi:org:acme" },
  { namespace: "team-b", name: "reader", tokenAudience: "urn:pulumi:org:acme" },
];

/** The API server's count of expressions that failed: failurePolicy Ignore hides them. */
const FAILED =
  /^apiserver_(admission_match_condition_evaluation_errors_total|mutating_admission_policy_check_total\{error_type="(?!no_error)).*inject-token/;

const VOLUME = exchangeVolume("deployer", "urn:pulumi:org:acme");
const OWN_VOLUME = { name: "own", emptyDir: {} };
const OWN_VARIABLE = { env: [{ name: CREDENTIAL_HELPER.name, value: "none" }] };
const WITH_INIT = { containers: [{ name: "app" }, { name: "sidecar" }], initContainers: [{ name: "init" }] };
const WINDOWS = {
  os: { name: "windows" },
  securityContext: { runAsNonRoot: true },
  containers: [{ name: "app", securityContext: {} }],
};

/** A pod of the service account `deployer`, and the names of the containers that the policy changes. */
type PodCase = [behavior: string, pod: Pod, expected: string[]];

const PODS: PodCase[] = [
  ["changes all containers, and no init container", WITH_INIT, ["app", "sidecar"]],
  ["keeps other variables", podWithOwn({ env: [{ name: "A", value: "b" }] }), ["own", "app"]],
  ["leaves a container with its own variable", podWithOwn(OWN_VARIABLE), ["app"]],
  ["leaves a container with a mount at the path", podWithOwn(mountAt(DIRECTORY)), ["app"]],
  ["leaves a container with a mount in the directory", podWithOwn(mountAt(`${DIRECTORY}/token`)), ["app"]],
  ["keeps a mount beside the directory", podWithOwn(mountAt(`${DIRECTORY}pany`)), ["own", "app"]],
  ...["/run/secrets", "/run/secrets/", "/var/run/secrets", "/var/run/secrets/"].map(
    (path): PodCase => [`leaves a container with a mount at ${path}`, podWithOwn(mountAt(path)), ["app"]],
  ),
  ...["/run", "/var/run/", "/run/secrets/eks.amazonaws.com"].map(
    (path): PodCase => [`keeps a mount at ${path}`, podWithOwn(mountAt(path)), ["own", "app"]],
  ),
  ["leaves a pod without other containers", { containers: [{ name: "app", ...OWN_VARIABLE }] }, []],
  ["leaves a pod with a volume of this name", { volumes: [{ name: VOLUME_NAME, emptyDir: {} }] }, []],
  [
    "changes a pod with 100 containers",
    { containers: containersOf(100) },
    containersOf(100).map(({ name }) => name),
  ],
  ["leaves a pod with more containers", { containers: containersOf(101) }, []],
  ["changes a pod with 2,000 volumes, mounts, and variables", podWithElements(2000), ["app"]],
  ["leaves a pod with more of them", podWithElements(2001), []],
  ["leaves a pod for Windows", WINDOWS, []],
  ["leaves a pod for nodes with Windows", { nodeSelector: { "kubernetes.io/os": "windows" } }, []],
  ["changes a pod for other nodes", { nodeSelector: { pool: "ci" } }, ["app"]],
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
  async function unchanged(pod: Pod): Promise<PodSpec> {
    const spec = await admitted({ ...pod, serviceAccountName: "other" });
    return { ...spec, serviceAccountName: "deployer", serviceAccount: "deployer" };
  }

  test("mounts an ID token with the audience of each service account, whatever characters it contains", async () => {
    for (const { namespace, name, tokenAudience } of ACCOUNTS) {
      const { volumes } = await admitted({ serviceAccountName: name }, namespace);
      assert.deepEqual(volumes, [exchangeVolume(name, String(tokenAudience))]);
    }
  });

  for (const [behavior, pod, expected] of PODS) {
    test(behavior, async () => {
      assert.deepEqual(await admitted(pod), await unchanged(withExchange(pod, expected)));
    });
  }

  test("leaves pods of other service accounts, of nodes, and in other namespaces, and no expression fails", async () => {
    const mirror = { nodeName: "node", annotations: { "kubernetes.io/config.mirror": "checksum" } };
    const [byDefault, ofNode, elsewhere, inOther] = [
      await admitted({ serviceAccountName: undefined }),
      await admitted({ ...mirror, serviceAccountName: undefined }),
      await admitted({ serviceAccountName: "deployer" }, "team-b"),
      await admitted({ serviceAccountName: "reader" }, "team-c"),
    ];
    assert.doesNotMatch(JSON.stringify([byDefault, ofNode, elsewhere, inOther]), /pulumi/);
    const metrics = await server.kubectl(["get", "--raw=/metrics"]);
    const failures = metrics.split("\n").filter((line) => FAILED.test(line) && !line.endsWith(" 0"));
    assert.deepEqual(failures, []);
  });

  test("is accepted with the longest expression that settings can lead to, and rejected with a longer one", async () => {
    const account = { namespace: "team-c", name: "long" };
    const lengthWith = (tokenAudience: string) =>
      longestExpression([{ ...account, id: "team-c/long", tokenAudience }]);
    const injectWith = (tokenAudience: string) =>
      inject(server, "limit.inject-token", [{ ...account, tokenAudience }]);
    // Two code units each.
    const long = "🙂".repeat(50_000);
    const longest = long + "🙂".repeat(EXPRESSION_LIMIT - lengthWith(long));
    await injectWith(longest);
    await assert.rejects(injectWith(`${longest}a`), /exceeds limit/);
  });
});

function exchangeVolume(name: string, audience: string) {
  return tokenVolume(`${name}-pulumi-token-exchange`, audience);
}

function mountAt(mountPath: string) {
  return { volumeMounts: [{ name: "own", mountPath }] };
}

/** Returns a pod with a container that has something already, and another one. */
function podWithOwn(fields: object): Pod {
  return { containers: [{ name: "own", ...fields }, { name: "app" }], volumes: [OWN_VOLUME] };
}

function containersOf(count: number): { name: string }[] {
  return Array.from({ length: count }, (_, index) => ({ name: `c${index}` }));
}

/** Returns a pod with 500 volumes, 500 mounts, and as many variables as it has further elements. */
function podWithElements(count: number): Pod {
  const volumes = Array.from({ length: 500 }, (_, index) => ({ name: `v${index}`, emptyDir: {} }));
  const volumeMounts = volumes.map(({ name }) => ({ name, mountPath: `/${name}` }));
  const env = Array.from({ length: count - 1000 }, (_, index) => ({ name: `V${index}` }));
  return { containers: [{ name: "app", volumeMounts, env }], volumes };
}

/** Returns a pod of `deployer` whose containers of these names have what a manifest has by hand. */
function withExchange(pod: Pod, names: string[]): Pod {
  if (names.length === 0) return pod;
  const { containers = [{ name: "app" }], volumes = [] } = pod;
  const args = { serviceAccountName: "deployer", configMap: "", tokenAudience: "" };
  const byHand = tokenExchangePod({ containers: containers as { name: string }[] }, args).containers;
  const changed = byHand.map((container, index) => {
    return names.includes(String(container.name)) ? container : (containers[index] ?? {});
  });
  return { ...pod, containers: changed, volumes: [...volumes, VOLUME] };
}
