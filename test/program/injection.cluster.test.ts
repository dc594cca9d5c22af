// The admission policies of injectToken on a real API server, by server-side dry run.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { types } from "@pulumi/kubernetes";
import { createInjection, type InjectionArgs } from "../../injection";
import { runProgram } from "../../simulator/runProgram";
import { tokenExchangePod } from "../../tokenExchange";
import { tokenVolume } from "../../tokenVolume";
import { type ApiServer, eventually, missingApiServer, startApiServer } from "../support/apiServer";
import { type Pod, podObject, policiesTakeEffect, restrictedContainer } from "../support/pods";
import { realKubernetes } from "../support/realKubernetes";

type PodSpec = types.output.core.v1.PodSpec;
type Container = PodSpec["containers"][number];

const LABEL = "eks-pulumi-oidc/inject-token";
const INJECT = { [LABEL]: "true" };

const LONG_NAME = `${"long-name-".repeat(6)}abc`;
const ODD_AUDIENCE = `https://x/?q='"\\n\${y} \\u0041 \t é 🙂`;
const ACCOUNTS: InjectionArgs["accounts"] = [
  { namespace: "team-a", name: "deployer", tokenAudience: "urn:pulumi:org:acme" },
  { namespace: "team-a", name: "reader", tokenAudience: "https://api.pulumi.com" },
  { namespace: "team-a", name: "odd", tokenAudience: ODD_AUDIENCE },
  { namespace: "team-a", name: LONG_NAME, tokenAudience: "urn:pulumi:org:acme" },
];

const NO_STACK = (namespace: string, name: string) =>
  `No stack of eks-pulumi-oidc provides service account "${name}" in namespace "${namespace}" with a Pulumi token. ` +
  "Correct serviceAccountName, or remove the label eks-pulumi-oidc/inject-token, " +
  `or add {namespace: ${namespace}, name: ${name}} to serviceAccounts in the configuration of the stack and run pulumi up.`;
const OTHER_VALUE = (value: string) =>
  `The label eks-pulumi-oidc/inject-token is "${value}". Set it to "true" or "false".`;
const UNKNOWN = (names: string) =>
  `The annotation eks-pulumi-oidc/containers names containers that the pod does not have: ${names}. ` +
  'The pod has "app", "init". Correct the annotation, or remove it to change all containers.';
const OTHER_VOLUME =
  "These containers mount another volume than pulumi-token-exchange at /var/run/secrets/pulumi.com: " +
  '"sidecar", "init". Mount it elsewhere, or remove the label eks-pulumi-oidc/inject-token.';
const TOO_LONG =
  "The annotation eks-pulumi-oidc/containers has more than 1024 characters. " +
  "Shorten it, or remove it to change all containers.";
const TOO_LARGE =
  "The pod has more than 100 containers, or more than 2000 volumes, mounts, and variables. " +
  "Remove the label eks-pulumi-oidc/inject-token.";

describe("the policies of injectToken on a real API server", { skip: missingApiServer }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
    await server.createNamespace("team-a", { "pod-security.kubernetes.io/enforce": "restricted" });
    for (const name of ["deployer", "reader", "odd", "unknown", LONG_NAME]) {
      await server.createServiceAccount("team-a", name);
    }
    await server.createNamespace("team-b");
    await server.createServiceAccount("team-b", "deployer");
    await server.createServiceAccount("kube-system", "default");
    // Any tenant can create it, and it adds no service account.
    const metadata = { name: "unknown-pulumi-token-exchange" };
    await server.create("/api/v1/namespaces/team-a/configmaps", { metadata, data: {} });
    await inject("access.inject-token", ACCOUNTS);
    await policiesTakeEffect(server, "team-a", "deployer");
  });
  after(() => server?.close());

  /** Creates the policies as the program does, and returns a function that deletes them in the engine's order. */
  async function inject(name: string, accounts: InjectionArgs["accounts"]): Promise<() => Promise<void>> {
    const resources = realKubernetes(server);
    const program = async () => {
      createInjection(name, { accounts });
      return {};
    };
    const stack = { project: "project", stack: "dev", organization: "acme", config: {} };
    const { registered } = await runProgram({ resources, calls: {} }, { ...stack, program });
    return async () => {
      for (const { type, id } of registered.toReversed()) await resources[type]?.delete(id);
    };
  }

  /** Creates a pod by dry run, by default in a namespace with Pod Security `restricted`. Returns it, or why it is denied. */
  async function submit(pod: Pod, namespace = "team-a"): Promise<PodSpec | string> {
    const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`;
    const { status, body } = await server.request("POST", path, podObject(pod));
    return status < 300 ? body.spec : (body.message ?? "");
  }

  /** Returns an unlabeled pod as the API server would store it. */
  async function stored(pod: Pod, namespace?: string): Promise<PodSpec> {
    const spec = await submit({ serviceAccountName: "deployer", ...pod }, namespace);
    return typeof spec === "string" ? assert.fail(spec) : spec;
  }

  /** Returns a labeled pod as the API server would store it. */
  function admitted(pod: Pod = {}): Promise<PodSpec> {
    return stored({ labels: INJECT, ...pod });
  }

  test("add to a labeled pod exactly what tokenExchangePod adds, for the containers that it is given", async () => {
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
      const labeled = { ...pod, ...(containers && annotated(containers.join(", "))) };
      assert.deepEqual(await admitted(labeled), await stored(byHand as Pod));
    }
  });

  test("mount an ID token with the audience of each service account, whatever characters it contains", async () => {
    for (const { name, tokenAudience } of ACCOUNTS) {
      const { containers, volumes } = await admitted({ serviceAccountName: name });
      assert.deepEqual(volumes, [volumeOf(name, String(tokenAudience))]);
      assert.deepEqual(changed(containers), ["app"]);
    }
  });

  test("let a pod's own variable, mount, and volume take precedence", async () => {
    const env = [{ name: "PULUMI_CREDENTIAL_HELPER", value: "none" }];
    const own = { name: "pulumi-token-exchange", mountPath: "/var/run/secrets/pulumi.com", subPath: "own" };
    const containers = [{ name: "app", env, volumeMounts: [own] }, { name: "sidecar" }];
    const volumes = [volumeOf("own", "own")];
    const { containers: found, ...pod } = await admitted({ containers, volumes });
    assert.deepEqual(pod.volumes, volumes);
    assert.deepEqual([found[0]?.env, found[0]?.volumeMounts], [env, [own]]);
    assert.deepEqual(changed(found.slice(1)), ["sidecar"]);
  });

  test("also mount the volume at its path in a container that mounts it elsewhere", async () => {
    const elsewhere = { name: "pulumi-token-exchange", mountPath: "/elsewhere" };
    const { containers } = await admitted({ containers: [{ name: "app", volumeMounts: [elsewhere] }] });
    const paths = containers[0]?.volumeMounts.map(({ mountPath }) => mountPath);
    assert.deepEqual(paths, ["/elsewhere", "/var/run/secrets/pulumi.com"]);
  });

  test("change all containers and no init container, or those that the annotation names", async () => {
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

  test("change a pod at each limit", async () => {
    assert.deepEqual(changed((await admitted(annotated("app".padEnd(1024)))).containers), ["app"]);
    assert.equal(changed((await admitted(podWithContainers(99))).containers).length, 99);
    // The policy adds one volume, one mount, and one variable.
    assert.deepEqual(changed((await admitted(podWithElements(1997))).containers), ["app"]);
  });

  const unknown = { serviceAccountName: "unknown" };
  const unnamed = { serviceAccountName: undefined };
  const init = { initContainers: [{ name: "init" }] };
  const mountAt = (mountPath: string) => ({ volumeMounts: [{ name: "own", mountPath }] });
  const mountingAnother = {
    containers: [{ name: "app" }, { name: "sidecar", ...mountAt("/var/run/secrets/pulumi.com") }],
    initContainers: [{ name: "init", ...mountAt("/var/run/secrets/pulumi.com/") }],
    volumes: [{ name: "own", emptyDir: {} }],
  };
  for (const [what, pod, reason, namespace] of [
    ["another value of the label", { labels: { [LABEL]: "True" } }, OTHER_VALUE("True")],
    ["no value of the label", { labels: { [LABEL]: "" } }, OTHER_VALUE("")],
    ["a service account that no stack provides", unknown, NO_STACK("team-a", "unknown")],
    ["no service account", unnamed, NO_STACK("team-a", "default")],
    ["one of this name in another namespace", {}, NO_STACK("team-b", "deployer"), "team-b"],
    ["a pod of kube-system", unnamed, NO_STACK("kube-system", "default"), "kube-system"],
    ["another volume at the path", mountingAnother, OTHER_VOLUME],
    ["names of unknown containers", { ...init, ...annotated("app, ap, initt") }, UNKNOWN('"ap", "initt"')],
    ["a name with a line break", { ...init, ...annotated("a\nb") }, UNKNOWN('"a\\nb"')],
    ["an annotation of more than 1,024 characters", annotated("app".padEnd(1025)), TOO_LONG],
    ["more than 100 containers", podWithContainers(100), TOO_LARGE],
    ["more than 2,000 volumes, mounts, and variables", podWithElements(1998), TOO_LARGE],
  ] satisfies [string, Pod, string, string?][]) {
    test(`deny ${what}, with the reason and the fix`, async () => {
      const denial = await submit({ labels: INJECT, serviceAccountName: "deployer", ...pod }, namespace);
      assert.equal(reasonOf(denial), reason);
    });
  }

  test("leave pods unchanged without the label, and with the value false", async () => {
    const disabled = { labels: { [LABEL]: "false" } };
    const plain = await stored({});
    assert.doesNotMatch(JSON.stringify(plain), /pulumi/);
    assert.deepEqual(await stored(disabled), plain);
    // Also those that would be denied with the label.
    for (const pod of [mountingAnother, unknown]) {
      assert.deepEqual(await stored({ ...pod, ...disabled }), await stored(pod));
    }
    assert.ok(await stored(unnamed, "kube-system"));
  });

  // What a tenant can send to keep the API server busy, and the largest pod that is changed.
  const variables = { env: Array.from({ length: 17 }, (_, index) => ({ name: `V${index}` })) };
  const largest = containersOf(100).map((container) => ({ ...container, ...variables }));
  const names = largest.map(({ name }) => name).join(",");
  const manyNames = annotated("x,".repeat(512));
  for (const [what, pod, denial] of [
    ["an annotation of 60 KB", annotated(",".repeat(60 * 1024)), TOO_LONG],
    ["512 names and 10,000 containers", { ...manyNames, containers: containersOf(10_000) }, TOO_LARGE],
    ["the largest pod", { ...annotated(names.padEnd(1024, ",")), containers: largest }, undefined],
  ] satisfies [string, Pod, string | undefined][]) {
    test(`answer to ${what} in about the time of the same pod without the label`, async () => {
      const unlabeled = { serviceAccountName: "deployer", ...pod };
      const answer = await submit({ ...unlabeled, labels: INJECT });
      if (denial) assert.ok(String(answer).includes(denial), JSON.stringify(answer));
      else assert.equal(typeof answer, "object", String(answer));
      for (const namespace of ["team-a", "team-b"]) {
        const without = await shorter(() => submit(unlabeled, namespace));
        const withLabel = await shorter(() => submit({ ...unlabeled, labels: INJECT }, namespace));
        assert.ok(withLabel < 0.5 + 3 * without, `${withLabel} s instead of ${without} s`);
      }
    });
  }

  test("leave the decisions of Pod Security as they are", async () => {
    const containers = [{ name: "app", securityContext: { privileged: true } }];
    const pod = { serviceAccountName: "deployer", containers };
    const denial = await submit({ ...pod, labels: INJECT });
    assert.equal(denial, await submit(pod));
    assert.match(String(denial), /violates PodSecurity "restricted:latest": privileged/);
  });

  test("change a pod only when it is created", async () => {
    const pods = "/api/v1/namespaces/team-a/pods";
    await server.create(pods, podObject({ serviceAccountName: "deployer" }, "plain"));
    await server.create(pods, podObject({ serviceAccountName: "deployer", labels: INJECT }, "labeled"));
    const patch = async (path: string, change: object): Promise<PodSpec> => {
      const type = "application/strategic-merge-patch+json";
      const { status, body } = await server.request("PATCH", `${pods}/${path}`, change, type);
      assert.equal(status, 200, body.message);
      return body.spec;
    };
    const plain = await patch("plain", { metadata: { labels: INJECT } });
    assert.doesNotMatch(JSON.stringify(plain), /pulumi/);
    const labeled = await patch("labeled", { metadata: { labels: { [LABEL]: "false" } } });
    assert.deepEqual(changed(labeled.containers), ["app"]);
    const ephemeralContainers = [restrictedContainer({ name: "debugger" })];
    const debugged = await patch("labeled/ephemeralcontainers", { spec: { ephemeralContainers } });
    assert.equal(debugged.ephemeralContainers.length, 1);
    assert.deepEqual(changed(debugged.ephemeralContainers as Container[]), []);
  });

  test("let two stacks use the same cluster, each for its own service accounts", async () => {
    const account = { namespace: "team-a", name: "unknown", tokenAudience: "other" };
    const remove = await inject("Other_Access", [account]);
    await policiesTakeEffect(server, "team-a", "unknown");
    assert.deepEqual((await admitted(unknown)).volumes, [volumeOf("unknown", "other")]);
    assert.deepEqual((await admitted()).volumes, [volumeOf("deployer", "urn:pulumi:org:acme")]);

    await remove();
    const labeled = { ...unknown, labels: INJECT };
    await eventually("the policy has no effect", async () => typeof (await submit(labeled)) === "string");
    assert.equal(reasonOf(await submit(labeled)), NO_STACK("team-a", "unknown"));
    assert.ok(await admitted());
  });
});

function volumeOf(name: string, audience: string) {
  return tokenVolume(`${name}-pulumi-token-exchange`, audience);
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

/** Returns the shorter of two durations, in seconds: other programs lengthen the other. */
async function shorter(run: () => Promise<unknown>): Promise<number> {
  let seconds = Number.POSITIVE_INFINITY;
  for (let count = 0; count < 2; count += 1) {
    const started = performance.now();
    await run();
    seconds = Math.min(seconds, (performance.now() - started) / 1000);
  }
  return seconds;
}

// With the resource's own name and Pulumi's random characters.
const DENIAL =
  /^pods "app" is forbidden: ValidatingAdmissionPolicy '[a-z-]*-[0-9a-f]{8}' with binding '[a-z-]*-[0-9a-f]{8}' denied request: (.*)$/s;

/** Returns the message of the policy, from the one of the API server. */
function reasonOf(denial: unknown): string {
  return DENIAL.exec(String(denial))?.[1] ?? assert.fail(JSON.stringify(denial));
}
