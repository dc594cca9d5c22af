// The admission policies of injectToken on a real API server, by server-side dry run.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:https";
import { text } from "node:stream/consumers";
import { after, before, describe, type TestContext, test } from "node:test";
import type { types } from "@pulumi/kubernetes";
import { createInjection, type InjectionArgs } from "../../injection";
import { openCertificateAuthority } from "../../simulator/emulators/certificates";
import { runProgram } from "../../simulator/runProgram";
import { tokenExchangePod } from "../../tokenExchange";
import { tokenVolume } from "../../tokenVolume";
import {
  type ApiServer,
  type KubernetesObject,
  missingApiServer,
  startApiServer,
} from "../support/apiServer";
import { listen } from "../support/loopback";
import { eventually, type Pod, podObject, policiesTakeEffect, restrictedContainer } from "../support/pods";
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

  interface Outcome {
    /** The pod as the API server would store it. */
    pod?: { metadata: KubernetesObject["metadata"]; spec: PodSpec };
    /** Why it denies it. */
    denial?: string;
  }

  /** Creates a pod by dry run, in a namespace with Pod Security `restricted` unless it says otherwise. */
  async function submit(pod: Pod, namespace = "team-a"): Promise<Outcome> {
    const { status, body } = await server.request(
      "POST",
      `/api/v1/namespaces/${namespace}/pods?dryRun=All`,
      podObject(pod),
    );
    return status < 300 ? { pod: body as Outcome["pod"] & object } : { denial: body.message ?? "" };
  }

  async function admitted(pod: Pod, namespace?: string): Promise<PodSpec> {
    const { pod: admitted, denial } = await submit(pod, namespace);
    return admitted?.spec ?? assert.fail(denial);
  }

  async function denied(pod: Pod, namespace?: string): Promise<string> {
    return (await submit(pod, namespace)).denial ?? assert.fail("the pod is admitted");
  }

  /** The API server answers in about the time that the same pod without the label takes. */
  async function assertAsFast(unlabeled: Pod, namespace?: string): Promise<void> {
    const without = await shorter(() => submit(unlabeled, namespace));
    const withLabel = await shorter(() => submit({ ...unlabeled, labels: INJECT }, namespace));
    assert.ok(withLabel < 0.5 + 3 * without, `${withLabel} s instead of ${without} s`);
  }

  const volumeOf = (name: string, audience: string) => tokenVolume(`${name}-pulumi-token-exchange`, audience);

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
      const byHand = tokenExchangePod(pod, containers ? { ...args, containers } : args);
      const annotations = containers && { "eks-pulumi-oidc/containers": containers.join(", ") };
      const labeled = { ...pod, labels: INJECT, ...(annotations && { annotations }) };
      assert.deepEqual(await admitted(labeled), await admitted(byHand as Pod));
    }
  });

  test("mount an ID token with the audience of each service account, whatever characters it contains", async () => {
    for (const { name, tokenAudience } of ACCOUNTS) {
      const { containers, volumes } = await admitted({ labels: INJECT, serviceAccountName: name });
      assert.deepEqual(volumes, [volumeOf(name, String(tokenAudience))]);
      assert.deepEqual(changed(containers), ["app"]);
    }
  });

  test("leave a pod unchanged that has everything already", async () => {
    const once = await admitted({ labels: INJECT, serviceAccountName: "deployer" });
    assert.deepEqual(await admitted({ labels: INJECT, ...once }), once);
  });

  test("let a pod's own variable, mount, and volume take precedence", async () => {
    const env = [{ name: "PULUMI_CREDENTIAL_HELPER", value: "none" }];
    const volumeMounts = [
      { name: "pulumi-token-exchange", mountPath: "/var/run/secrets/pulumi.com", subPath: "own" },
    ];
    const volumes = [volumeOf("own", "own")];
    const { containers, ...pod } = await admitted({
      labels: INJECT,
      serviceAccountName: "deployer",
      containers: [{ name: "app", env, volumeMounts }, { name: "sidecar" }],
      volumes,
    });
    assert.deepEqual(pod.volumes, volumes);
    assert.deepEqual([containers[0]?.env, containers[0]?.volumeMounts], [env, volumeMounts]);
    assert.deepEqual(changed(containers.slice(1)), ["sidecar"]);
  });

  test("also mount the volume at its path in a container that mounts it elsewhere", async () => {
    const elsewhere = { name: "pulumi-token-exchange", mountPath: "/elsewhere" };
    const { containers } = await admitted({
      labels: INJECT,
      serviceAccountName: "deployer",
      containers: [{ name: "app", volumeMounts: [elsewhere] }],
    });
    assert.deepEqual(
      containers[0]?.volumeMounts.map(({ mountPath }) => mountPath),
      ["/elsewhere", "/var/run/secrets/pulumi.com"],
    );
  });

  test("deny a labeled pod with another volume at the path, with the names of its containers", async () => {
    const mountAt = (mountPath: string) => [{ name: "own", mountPath }];
    const pod = {
      serviceAccountName: "deployer",
      containers: [
        { name: "app" },
        { name: "sidecar", volumeMounts: mountAt("/var/run/secrets/pulumi.com") },
      ],
      initContainers: [{ name: "init", volumeMounts: mountAt("/var/run/secrets/pulumi.com/") }],
      volumes: [{ name: "own", emptyDir: {} }],
    };
    assert.equal(
      reason(await denied({ ...pod, labels: INJECT })),
      "These containers mount another volume than pulumi-token-exchange at /var/run/secrets/pulumi.com: " +
        '"sidecar", "init". Mount it elsewhere, or remove the label eks-pulumi-oidc/inject-token.',
    );
    assert.ok(await admitted(pod));
    assert.ok(await admitted({ ...pod, labels: { [LABEL]: "false" } }));
  });

  test("change all containers and no init container, or those that the annotation names", async () => {
    const pod = {
      labels: INJECT,
      serviceAccountName: "deployer",
      containers: [{ name: "app" }, { name: "sidecar" }],
      initContainers: [{ name: "init" }, { name: "other" }],
    };
    for (const [names, expected] of [
      [undefined, [["app", "sidecar"], []]],
      ["app", [["app"], []]],
      [" sidecar ,init,", [["sidecar"], ["init"]]],
      ["init", [[], ["init"]]],
      ["", [["app", "sidecar"], []]],
    ] as const) {
      const annotations = names !== undefined && { annotations: { "eks-pulumi-oidc/containers": names } };
      const { containers, initContainers, volumes } = await admitted({ ...pod, ...annotations });
      assert.deepEqual([changed(containers), changed(initContainers)], expected, names);
      assert.equal(volumes.length, 1);
    }
  });

  test("deny an annotation that names unknown containers, with the names of the pod's own", async () => {
    const pod = { labels: INJECT, serviceAccountName: "deployer", initContainers: [{ name: "init" }] };
    for (const [names, quoted] of [
      ["app, ap, initt", '"ap", "initt"'],
      ["nothing", '"nothing"'],
      ["a\nb", '"a\\nb"'],
    ] as const) {
      const annotations = { "eks-pulumi-oidc/containers": names };
      assert.equal(
        reason(await denied({ ...pod, annotations })),
        `The annotation eks-pulumi-oidc/containers names containers that the pod does not have: ${quoted}. ` +
          'The pod has "app", "init". Correct the annotation, or remove it to change all containers.',
      );
    }
  });

  const TOO_LONG =
    "The annotation eks-pulumi-oidc/containers has more than 1024 characters. " +
    "Shorten it, or remove it to change all containers.";
  const TOO_LARGE =
    "The pod has more than 100 containers, or more than 2000 volumes, mounts, and variables. " +
    "Remove the label eks-pulumi-oidc/inject-token.";

  test("deny an annotation of more than 1,024 characters", async () => {
    const pod = { labels: INJECT, serviceAccountName: "deployer" };
    const annotated = (names: string) => ({ ...pod, annotations: { "eks-pulumi-oidc/containers": names } });
    assert.ok(await admitted(annotated("app".padEnd(1024))));
    assert.equal(reason(await denied(annotated("app".padEnd(1025)))), TOO_LONG);
  });

  test("deny a pod of more than 100 containers", async () => {
    const pod = { labels: INJECT, serviceAccountName: "deployer", initContainers: containersOf(1, "init") };
    const { containers } = await admitted({ ...pod, containers: containersOf(99) });
    assert.equal(changed(containers).length, 99);
    assert.equal(reason(await denied({ ...pod, containers: containersOf(100) })), TOO_LARGE);
  });

  test("deny a pod of more than 2,000 volumes, mounts, and variables", async () => {
    const volumes = Array.from({ length: 500 }, (_, index) => ({ name: `v${index}`, emptyDir: {} }));
    const volumeMounts = volumes.map(({ name }) => ({ name, mountPath: `/${name}` }));
    const env = (length: number) => Array.from({ length }, (_, index) => ({ name: `V${index}` }));
    const podWith = (variables: number) => ({
      labels: INJECT,
      serviceAccountName: "deployer",
      containers: [{ name: "app", volumeMounts, env: env(500) }],
      initContainers: [{ name: "init", env: env(variables) }],
      volumes,
    });
    // The policy adds one of each.
    assert.deepEqual(changed((await admitted(podWith(497))).containers), ["app"]);
    assert.equal(reason(await denied(podWith(498))), TOO_LARGE);
  });

  /** What a tenant can send to keep the API server busy. */
  const EXPENSIVE: Record<string, { pod: Pod; message: string }> = {
    "an annotation of 60 KB": {
      pod: { annotations: { "eks-pulumi-oidc/containers": ",".repeat(60 * 1024) } },
      message: TOO_LONG,
    },
    "512 names and 100 containers": {
      pod: {
        annotations: { "eks-pulumi-oidc/containers": "x,".repeat(512) },
        containers: containersOf(100),
      },
      message: "The annotation eks-pulumi-oidc/containers names containers that the pod does not have: ",
    },
    "512 names and 10,000 containers": {
      pod: {
        annotations: { "eks-pulumi-oidc/containers": "x,".repeat(512) },
        containers: containersOf(10_000),
      },
      message: TOO_LARGE,
    },
  };
  for (const [what, { pod, message }] of Object.entries(EXPENSIVE)) {
    test(`deny ${what} in about the time of the same pod without the label`, async () => {
      for (const namespace of ["team-a", "team-b"]) {
        const unlabeled = { serviceAccountName: "deployer", ...pod };
        assert.ok(reason(await denied({ ...unlabeled, labels: INJECT }, namespace)).startsWith(message));
        await assertAsFast(unlabeled, namespace);
      }
    });
  }

  test("change the largest pod that they admit in about the time of the same pod without the label", async () => {
    const containers = containersOf(100).map((container) => ({
      ...container,
      env: Array.from({ length: 17 }, (_, index) => ({ name: `V${index}` })),
    }));
    const names = containers.map(({ name }) => name).join(",");
    const unlabeled = {
      serviceAccountName: "deployer",
      containers,
      annotations: { "eks-pulumi-oidc/containers": names.padEnd(1024, ",") },
    };
    assert.equal(changed((await admitted({ ...unlabeled, labels: INJECT })).containers).length, 100);
    await assertAsFast(unlabeled);
  });

  test("do not compare a pod that is too large, even if it is invalid", async () => {
    const annotations = { "eks-pulumi-oidc/containers": "x,".repeat(512) };
    const containers = Array.from({ length: 2000 }, () => ({ name: "Not valid" }));
    const pod = { serviceAccountName: "deployer", annotations, containers };
    assert.match(await denied({ ...pod, labels: INJECT }), /^Pod "app" is invalid/);
    await assertAsFast(pod);
  });

  test("leave pods unchanged without the label, and with the value false", async () => {
    const plain = await admitted({ serviceAccountName: "deployer" });
    assert.doesNotMatch(JSON.stringify(plain), /pulumi/);
    assert.deepEqual(await admitted({ serviceAccountName: "deployer", labels: { [LABEL]: "false" } }), plain);
    // Also those of a service account that no stack provides.
    assert.doesNotMatch(JSON.stringify(await admitted({ serviceAccountName: "unknown" })), /pulumi/);
    assert.ok(await admitted({ serviceAccountName: "unknown", labels: { [LABEL]: "false" } }));
  });

  test("deny any other value of the label", async () => {
    for (const value of ["yes", "True", ""]) {
      assert.equal(
        reason(await denied({ labels: { [LABEL]: value }, serviceAccountName: "deployer" })),
        `The label eks-pulumi-oidc/inject-token is "${value}". Set it to "true" or "false".`,
      );
    }
  });

  test("deny a labeled pod of a service account that no stack provides", async () => {
    for (const [namespace, serviceAccountName] of [
      ["team-a", "unknown"],
      ["team-a", undefined],
      // The name of an account, in another namespace.
      ["team-b", "deployer"],
      ["kube-system", undefined],
    ] as const) {
      const denial = reason(await denied({ labels: INJECT, serviceAccountName }, namespace));
      assert.equal(denial, NO_STACK(namespace, serviceAccountName ?? "default"));
    }
    assert.ok(await admitted({}, "kube-system"));
  });

  test("add no service account for a ConfigMap that a tenant has created", async () => {
    const metadata = { name: "unknown-pulumi-token-exchange" };
    await server.create("/api/v1/namespaces/team-a/configmaps", { metadata, data: {} });
    assert.equal(
      reason(await denied({ labels: INJECT, serviceAccountName: "unknown" })),
      NO_STACK("team-a", "unknown"),
    );
  });

  test("leave the decisions of Pod Security as they are", async () => {
    const containers = [{ name: "app", securityContext: { privileged: true } }];
    const pod = { serviceAccountName: "deployer", containers };
    const denial = await denied({ ...pod, labels: INJECT });
    assert.equal(denial, await denied(pod));
    assert.match(denial, /violates PodSecurity "restricted:latest": privileged/);
  });

  test("change a pod only when it is created", async () => {
    await server.create(
      "/api/v1/namespaces/team-a/pods",
      podObject({ serviceAccountName: "deployer" }, "plain"),
    );
    await server.create(
      "/api/v1/namespaces/team-a/pods",
      podObject({ serviceAccountName: "deployer", labels: INJECT }, "labeled"),
    );
    const patch = async (path: string, change: object) => {
      const type = "application/strategic-merge-patch+json";
      const { status, body } = await server.request(
        "PATCH",
        `/api/v1/namespaces/team-a/pods/${path}`,
        change,
        type,
      );
      assert.equal(status, 200, body.message);
      return JSON.stringify(body.spec);
    };

    assert.doesNotMatch(await patch("plain", { metadata: { labels: INJECT } }), /pulumi/);
    assert.match(
      await patch("labeled", { metadata: { labels: { [LABEL]: "false" } } }),
      /pulumi-token-exchange/,
    );
    const debugged = await patch("labeled/ephemeralcontainers", {
      spec: { ephemeralContainers: [restrictedContainer({ name: "debugger" })] },
    });
    const { ephemeralContainers } = JSON.parse(debugged);
    assert.equal(ephemeralContainers.length, 1);
    assert.deepEqual(changed(ephemeralContainers), []);
  });

  test("do not change a sidecar that a webhook adds later", async (t) => {
    await startSidecarWebhook(t, server);
    const pod = { labels: { ...INJECT, sidecar: "true" }, serviceAccountName: "deployer" };
    const { containers } = await admitted(pod);
    assert.deepEqual(
      containers.map(({ name }) => name),
      ["app", "webhook-sidecar"],
    );
    assert.deepEqual(changed(containers), ["app"]);
  });

  test("let two stacks use the same cluster, each for its own service accounts", async () => {
    const account = { namespace: "team-a", name: "unknown", tokenAudience: "other" };
    const remove = await inject("Other_Access", [account]);
    await policiesTakeEffect(server, "team-a", "unknown");
    const unknown = { labels: INJECT, serviceAccountName: "unknown" };
    assert.deepEqual((await admitted(unknown)).volumes, [volumeOf("unknown", "other")]);
    const { volumes } = await admitted({ ...unknown, serviceAccountName: "deployer" });
    assert.deepEqual(volumes, [volumeOf("deployer", "urn:pulumi:org:acme")]);

    await remove();
    await eventually("the policy has no effect", async () => (await submit(unknown)).pod === undefined);
    assert.equal(reason(await denied(unknown)), NO_STACK("team-a", "unknown"));
    assert.ok(await admitted({ ...unknown, serviceAccountName: "deployer" }));
  });
});

/** Returns the names of the containers that have everything; the others must have nothing of it. */
function changed(containers: Container[]): string[] {
  const names: string[] = [];
  for (const { name, env = [], volumeMounts = [] } of containers) {
    const has = [
      env.some((variable) => variable.name === "PULUMI_CREDENTIAL_HELPER"),
      volumeMounts.some((mount) => mount.name === "pulumi-token-exchange"),
    ];
    assert.equal(has[0], has[1], `${name} has only one of variable and mount`);
    if (has[0]) names.push(name);
  }
  return names;
}

function containersOf(count: number, name = "c"): { name: string }[] {
  return Array.from({ length: count }, (_, index) => ({ name: `${name}${index}` }));
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
function reason(denial: string): string {
  return DENIAL.exec(denial)?.[1] ?? assert.fail(denial);
}

/** Registers a webhook that adds a sidecar to pods with the label `sidecar`, as service meshes do. */
async function startSidecarWebhook(t: TestContext, server: ApiServer): Promise<void> {
  const authority = await openCertificateAuthority();
  const tls = await authority.issue({ hosts: ["127.0.0.1"] });
  const webhook: Server = createServer(tls, async (request, response) => {
    const { request: review } = JSON.parse(await text(request));
    const patch = [
      { op: "add", path: "/spec/containers/-", value: restrictedContainer({ name: "webhook-sidecar" }) },
    ];
    const patched = { patchType: "JSONPatch", patch: Buffer.from(JSON.stringify(patch)).toString("base64") };
    response.setHeader("Content-Type", "application/json");
    response.end(
      JSON.stringify({
        apiVersion: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response: { uid: review.uid, allowed: true, ...patched },
      }),
    );
  });
  const port = await listen(webhook);
  const path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
  await server.create(path, {
    metadata: { name: "sidecar" },
    webhooks: [
      {
        name: "sidecar.example.com",
        admissionReviewVersions: ["v1"],
        sideEffects: "None",
        clientConfig: {
          url: `https://127.0.0.1:${port}/`,
          caBundle: Buffer.from(authority.certificate).toString("base64"),
        },
        objectSelector: { matchLabels: { sidecar: "true" } },
        rules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
      },
    ],
  });
  t.after(async () => {
    await server.request("DELETE", `${path}/sidecar`);
    webhook.close();
    webhook.closeAllConnections();
    await once(webhook, "close");
  });
  await eventually("the webhook is called", async () => {
    const pod = podObject({ labels: { sidecar: "true" } }, "probe");
    const { body } = await server.request("POST", "/api/v1/namespaces/team-a/pods?dryRun=All", pod);
    return body.spec?.containers.length === 2;
  });
}
