// The admission policy of injectToken on a real API server, by server-side dry run.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { types } from "@pulumi/kubernetes";
import type { InjectionArgs } from "../../injection";
import { tokenExchangePod } from "../../tokenExchange";
import { tokenVolume } from "../../tokenVolume";
import { type ApiServer, eventually, missingApiServer, startApiServer } from "../support/apiServer";
import { type Pod, podObject, policyTakesEffect, restrictedContainer } from "../support/pods";
import { inject } from "../support/realKubernetes";

type PodSpec = types.output.core.v1.PodSpec;
type Container = PodSpec["containers"][number];

const LONG_NAME = `${"long-name-".repeat(6)}abc`;
const ODD_AUDIENCE = `https://x/?q='"\\n\${y} \\u0041 \t é 🙂`;
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

describe("the policy of injectToken on a real API server", { skip: missingApiServer }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
    const restricted = { "pod-security.kubernetes.io/enforce": "restricted" };
    for (const [namespace, labels] of [
      ["team-a", restricted],
      ["team-b", {}],
      ["team-c", restricted],
    ] as const) {
      await server.createNamespace(namespace, labels);
      for (const name of ["deployer", "reader", "odd", "other", LONG_NAME]) {
        await server.createServiceAccount(namespace, name);
      }
    }
    await inject(server, "access.inject-token", ACCOUNTS);
    await policyTakesEffect(server, "team-a", "deployer");
  });
  after(() => server?.close());

  /** Creates a pod by dry run, by default in a namespace with Pod Security `restricted`. Returns it, or why it is denied. */
  async function submit(pod: Pod, namespace = "team-a"): Promise<PodSpec | string> {
    const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`;
    const { status, body } = await server.request("POST", path, podObject(pod));
    return status < 300 ? body.spec : (body.message ?? "");
  }

  /** Returns a pod as the API server would store it. By default, the policy changes it. */
  async function admitted(pod: Pod = {}, namespace?: string): Promise<PodSpec> {
    const spec = await submit({ serviceAccountName: "deployer", ...pod }, namespace);
    return typeof spec === "string" ? assert.fail(spec) : spec;
  }

  /** Returns the same pod without the policy, as that of a service account that no policy contains. */
  async function unchanged(pod: Pod, namespace?: string): Promise<PodSpec> {
    const { serviceAccountName = "deployer" } = pod;
    const spec = await admitted({ ...pod, serviceAccountName: "other" }, namespace);
    return { ...spec, serviceAccountName, serviceAccount: serviceAccountName };
  }

  async function staysAsItIs(pod: Pod, namespace?: string): Promise<void> {
    assert.deepEqual(await admitted(pod, namespace), await unchanged(pod, namespace));
  }

  /** Returns the sum of the API server's metrics that match a pattern. */
  async function sumOf(pattern: RegExp): Promise<number> {
    const lines = (await server.kubectl(["get", "--raw=/metrics"])).split("\n");
    return lines
      .filter((line) => pattern.test(line))
      .reduce((sum, line) => sum + Number(/\S+$/.exec(line)), 0);
  }

  test("adds to a pod exactly what tokenExchangePod adds, for the containers that it is given", async () => {
    const pod = {
      serviceAccountName: "reader",
      containers: [
        { name: "app", env: [{ name: "A", value: "b" }], envFrom: [{ configMapRef: { name: "own" } }] },
        { name: "sidecar", volumeMounts: [{ name: "own", mountPath: "/own" }] },
      ],
      volumes: [{ name: "own", emptyDir: {} }],
    };
    const args = {
      serviceAccountName: "reader",
      configMap: "reader-pulumi-token-exchange",
      tokenAudience: "https://api.pulumi.com",
    };
    for (const containers of [undefined, ["sidecar"], ["app", "sidecar"]]) {
      const { containers: changed, ...others } = tokenExchangePod(pod, args);
      const isGiven = (name: string) => !containers || containers.includes(name);
      const byHand = {
        ...others,
        containers: pod.containers.map((it, index) => (isGiven(it.name) ? changed[index] : it)),
      };
      const injected = { ...pod, ...(containers && annotated(containers.join(", "))) };
      assert.deepEqual(await admitted(injected), await unchanged(byHand as Pod));
    }
  });

  test("mounts an ID token with the audience of each service account, whatever characters it contains", async () => {
    for (const { namespace, name, tokenAudience } of ACCOUNTS) {
      const { containers, volumes } = await admitted({ serviceAccountName: name }, namespace);
      assert.deepEqual(volumes, [volumeOf(name, String(tokenAudience))]);
      assert.deepEqual(changed(containers), ["app"]);
    }
  });

  test("changes all containers and no init container, or those that the annotation names", async () => {
    const containers = [{ name: "app" }, { name: "sidecar" }];
    const initContainers = [{ name: "init" }, { name: "other" }];
    for (const [names, expected] of [
      [undefined, [["app", "sidecar"], []]],
      ["app", [["app"], []]],
      [" sidecar ,init,", [["sidecar"], ["init"]]],
      ["init", [[], ["init"]]],
      ["", [["app", "sidecar"], []]],
    ] as const) {
      const pod = await admitted({
        containers,
        initContainers,
        ...(names !== undefined && annotated(names)),
      });
      assert.deepEqual([changed(pod.containers), changed(pod.initContainers)], expected, names);
      assert.equal(pod.volumes.length, 1);
    }
  });

  for (const [what, container, isChanged] of [
    ["its own variable", { env: [{ name: "PULUMI_CREDENTIAL_HELPER", value: "none" }] }, false],
    ["its own mount at the path", mountAt("/var/run/secrets/pulumi.com"), false],
    ["its own mount at the path with a slash", mountAt("/var/run/secrets/pulumi.com/"), false],
    ["its own mount in the directory", mountAt("/var/run/secrets/pulumi.com/token"), false],
    ["its own mount beside the directory", mountAt("/var/run/secrets/pulumi.company"), true],
  ] as const) {
    test(`${isChanged ? "changes" : "leaves"} a container with ${what}, and changes the others`, async () => {
      const containers = [{ name: "own", ...container }, { name: "app" }];
      const pod = { containers, volumes: [{ name: "own", emptyDir: {} }] };
      const [own, ...others] = (await admitted(pod)).containers;
      if (isChanged) assert.deepEqual(changed([own ?? assert.fail()]), ["own"]);
      else assert.deepEqual(own, (await unchanged(pod)).containers[0]);
      assert.deepEqual(changed(others), ["app"]);
    });
  }

  test("adds no volume to a pod whose containers it leaves", async () => {
    await staysAsItIs({ containers: [{ name: "app", env: [{ name: "PULUMI_CREDENTIAL_HELPER" }] }] });
  });

  const mounted = { name: "pulumi-token-exchange", mountPath: "/elsewhere" };
  for (const [what, pod] of [
    ["its own volume of this name", { volumes: [{ name: "pulumi-token-exchange", emptyDir: {} }] }],
    [
      "this volume elsewhere",
      {
        containers: [{ name: "app", volumeMounts: [mounted] }],
        volumes: [volumeOf("deployer", "urn:pulumi:org:acme")],
      },
    ],
    ["an annotation that names an unknown container", { ...annotated("app, ap") }],
    ["an annotation that names a container by its case", { ...annotated("App") }],
    ["an annotation of more than 1,024 characters", annotated("app".padEnd(1025))],
    ["more than 100 containers", podWithContainers(100)],
    ["more than 2,000 volumes, mounts, and variables", podWithElements(2001)],
  ] satisfies [string, Pod][]) {
    test(`leaves a pod with ${what} as it is`, () => staysAsItIs(pod));
  }

  test("changes a pod at each limit", async () => {
    assert.deepEqual(changed((await admitted(annotated("app".padEnd(1024)))).containers), ["app"]);
    assert.equal(changed((await admitted(podWithContainers(99))).containers).length, 99);
    assert.deepEqual(changed((await admitted(podWithElements(2000))).containers), ["app"]);
  });

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

  test("leaves Windows pods", async () => {
    const windows = { os: { name: "windows" }, securityContext: {} };
    const containers = [{ name: "app", securityContext: {} }];
    await staysAsItIs({ ...windows, containers, serviceAccountName: "reader" }, "team-b");
    const linux = await admitted(
      { os: { name: "linux" }, containers, serviceAccountName: "reader" },
      "team-b",
    );
    assert.deepEqual(changed(linux.containers), ["app"]);
  });

  test("leaves a pod that an expression fails for to the API server", async () => {
    const failed = await sumOf(FAILED);
    const path = "/api/v1/namespaces/team-a/pods?dryRun=All";
    const pod = podObject({ serviceAccountName: "deployer" });
    const { body } = await server.request("POST", path, { ...pod, spec: { ...pod.spec, containers: null } });
    assert.equal(body.message, 'Pod "app" is invalid: spec.containers: Required value');
    assert.notEqual(await sumOf(FAILED), failed);
  });

  // What a tenant can send to keep the API server busy, and the largest pod that is changed.
  const variables = { env: Array.from({ length: 17 }, (_, index) => ({ name: `V${index}` })) };
  const largest = containersOf(100).map((container) => ({ ...container, ...variables }));
  const names = largest.map(({ name }) => name).join(",");
  for (const [what, pod, count] of [
    ["an annotation of 60 KB", annotated(",".repeat(60 * 1024)), 0],
    [
      "512 names and 10,000 containers",
      { ...annotated("x,".repeat(512)), containers: containersOf(10_000) },
      0,
    ],
    ["the largest pod", { ...annotated(names.padEnd(1024, ",")), containers: largest }, 100],
  ] satisfies [string, Pod, number][]) {
    test(`answers to ${what} in about the time of the same pod without the policy`, async () => {
      assert.equal(changed((await admitted(pod)).containers).length, count);
      const without = await shortest(() => unchanged(pod, "team-c"));
      for (const serviceAccountName of ["deployer", "other"]) {
        const seconds = await shortest(() => admitted({ ...pod, serviceAccountName }));
        assert.ok(seconds < 0.5 + 3 * without, `${seconds} s instead of ${without} s`);
      }
    });
  }

  test("leaves the decisions of Pod Security as they are", async () => {
    const containers = [{ name: "app", securityContext: { privileged: true } }];
    const denial = await submit({ serviceAccountName: "deployer", containers });
    assert.equal(denial, await submit({ serviceAccountName: "other", containers }));
    assert.match(String(denial), /violates PodSecurity "restricted:latest": privileged/);
  });

  test("changes a pod only when it is created", async () => {
    const pods = "/api/v1/namespaces/team-a/pods";
    const patch = async (path: string, change: object): Promise<PodSpec> => {
      const type = "application/strategic-merge-patch+json";
      const { status, body } = await server.request("PATCH", `${pods}/${path}`, change, type);
      assert.equal(status, 200, body.message);
      return body.spec;
    };
    await server.create(pods, podObject({ serviceAccountName: "deployer" }, "injected"));
    const ephemeralContainers = [restrictedContainer({ name: "debugger" })];
    const debugged = await patch("injected/ephemeralcontainers", { spec: { ephemeralContainers } });
    assert.equal(debugged.ephemeralContainers.length, 1);
    assert.deepEqual(changed(debugged.ephemeralContainers as Container[]), []);

    await server.create(pods, podObject({ serviceAccountName: "other" }, "earlier"));
    const remove = await inject(server, "Later_Access", [
      { namespace: "team-a", name: "other", tokenAudience: "other" },
    ]);
    await policyTakesEffect(server, "team-a", "other");
    const earlier = await patch("earlier", { metadata: { labels: { changed: "true" } } });
    assert.doesNotMatch(JSON.stringify(earlier), /pulumi/);
    await remove();
  });

  test("lets two stacks use the same cluster, each for its own service accounts", async () => {
    const account = { namespace: "team-a", name: "other", tokenAudience: "other" };
    const remove = await inject(server, "access.inject-token", [account], "prod");
    await policyTakesEffect(server, "team-a", "other");
    const other = { serviceAccountName: "other" };
    assert.deepEqual((await admitted(other)).volumes, [volumeOf("other", "other")]);
    assert.deepEqual((await admitted()).volumes, [volumeOf("deployer", "urn:pulumi:org:acme")]);

    await remove();
    await eventually(
      "the policy has no effect",
      async () => changed((await admitted(other)).containers).length === 0,
    );
    assert.deepEqual(changed((await admitted()).containers), ["app"]);
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

function containersOf(count: number): { name: string }[] {
  return Array.from({ length: count }, (_, index) => ({ name: `c${index}` }));
}

/** Returns a pod with so many containers, and an init container. */
function podWithContainers(count: number): Pod {
  return { containers: containersOf(count), initContainers: [{ name: "init" }] };
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

/** Returns the names of the containers that have everything; the others must have nothing of it. */
function changed(containers: Container[]): string[] {
  const names: string[] = [];
  for (const { name, env = [], volumeMounts = [] } of containers) {
    const hasVariable = env.some((variable) => variable.name === "PULUMI_CREDENTIAL_HELPER");
    const hasMount = volumeMounts.some((mount) => mount.name === "pulumi-token-exchange");
    assert.equal(hasVariable, hasMount, `${name} has only one of variable and mount`);
    if (hasVariable) names.push(name);
  }
  return names;
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
