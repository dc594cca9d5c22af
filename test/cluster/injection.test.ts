// The admission policies of injectToken on a real API server, by server-side dry run.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:https";
import { text } from "node:stream/consumers";
import { after, before, describe, type TestContext, test } from "node:test";
import type { types } from "@pulumi/kubernetes";
import { createInjection, type InjectionArgs } from "../../injection";
import { openCertificateAuthority } from "../../simulator/emulators/certificates";
import { runProgram } from "../../simulator/mocks";
import { tokenExchangePod } from "../../tokenExchange";
import { listen } from "../liveTools";
import { type ApiServer, type KubernetesObject, missingApiServer, startApiServer } from "./apiServer";
import { eventually, type Pod, podObject, policiesTakeEffect, restrictedContainer } from "./pods";
import { realKubernetes } from "./realKubernetes";

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
    const { registered } = await runProgram(
      { resources, calls: {} },
      {
        project: "project",
        stack: "dev",
        organization: "acme",
        config: {},
        program: async () => {
          createInjection(name, { accounts });
          return {};
        },
      },
    );
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

  const SCRIPT_MOUNT = {
    name: "pulumi-token-exchange",
    mountPath: "/bin/entrypoint.sh",
    subPath: "entrypoint.sh",
    readOnly: true,
  };
  const TOKEN_MOUNT = {
    name: "pulumi-id-token",
    mountPath: "/var/run/secrets/pulumi.com/serviceaccount",
    readOnly: true,
  };
  const environmentOf = (name: string) => ({ configMapRef: { name: `${name}-pulumi-token` } });
  const scriptVolume = (name: string) => ({
    name: "pulumi-token-exchange",
    configMap: { name: `${name}-pulumi-token-exchange`, defaultMode: 0o555 },
  });
  const tokenVolume = (audience: string) => ({
    name: "pulumi-id-token",
    projected: {
      sources: [{ serviceAccountToken: { audience, expirationSeconds: 600, path: "token" } }],
      defaultMode: 0o644,
    },
  });

  test("add the environment, the script, and the ID token to a labeled pod, and change nothing else", async () => {
    const pod = { serviceAccountName: "deployer", containers: [{ name: "app" }] };
    const without = await admitted(pod);
    const { containers, volumes, ...others } = await admitted({ ...pod, labels: INJECT });

    const { containers: ownContainers, volumes: ownVolumes, ...ownOthers } = without;
    assert.deepEqual(others, ownOthers);
    assert.equal(ownVolumes, undefined);
    assert.deepEqual(volumes, [scriptVolume("deployer"), tokenVolume("urn:pulumi:org:acme")]);
    assert.deepEqual(containers, [
      {
        ...ownContainers[0],
        envFrom: [environmentOf("deployer")],
        volumeMounts: [SCRIPT_MOUNT, TOKEN_MOUNT],
      },
    ]);
  });

  test("add what tokenExchangePod adds, for the containers that it is given", async () => {
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
      environmentConfigMap: "reader-pulumi-token",
      scriptConfigMap: "reader-pulumi-token-exchange",
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
      assert.deepEqual(volumes, [scriptVolume(name), tokenVolume(String(tokenAudience))]);
      assert.deepEqual(containers[0]?.envFrom, [environmentOf(name)]);
    }
  });

  test("leave a pod unchanged that has everything already, also under other names", async () => {
    const once = await admitted({ labels: INJECT, serviceAccountName: "deployer" });
    assert.deepEqual(await admitted({ labels: INJECT, ...once }), once);

    const renamed = JSON.parse(
      JSON.stringify(once)
        .replaceAll('"name":"pulumi-id-token"', '"name":"own-token"')
        .replaceAll('"name":"pulumi-token-exchange"', '"name":"own-script"'),
    );
    assert.notDeepEqual(renamed, once);
    assert.deepEqual(await admitted({ labels: INJECT, ...renamed }), renamed);
  });

  test("let a pod's own variables, mounts, and volumes take precedence", async () => {
    const env = [{ name: "PULUMI_ORG", value: "other" }];
    const envFrom = [{ configMapRef: { name: "own" } }];
    const ownScript = { name: "own", mountPath: "/bin/entrypoint.sh", subPath: "own.sh" };
    const ownToken = {
      ...tokenVolume("own"),
      projected: { ...tokenVolume("own").projected, defaultMode: 0o400 },
    };
    const own = { name: "own", configMap: { name: "own", defaultMode: 0o444 } };
    const { containers, volumes } = await admitted({
      labels: INJECT,
      serviceAccountName: "deployer",
      containers: [{ name: "app", env, envFrom, volumeMounts: [ownScript] }],
      volumes: [own, ownToken],
    });
    assert.deepEqual(volumes, [own, ownToken]);
    const [container] = containers;
    assert.deepEqual(container?.env, env);
    // The last source of a variable takes precedence.
    assert.deepEqual(container?.envFrom, [environmentOf("deployer"), ...envFrom]);
    assert.deepEqual(container?.volumeMounts, [ownScript, TOKEN_MOUNT]);

    const elsewhere = { name: "pulumi-id-token", mountPath: "/elsewhere" };
    const moved = { labels: INJECT, serviceAccountName: "deployer", volumes: [ownToken] };
    const {
      containers: [other],
    } = await admitted({ ...moved, containers: [{ name: "app", volumeMounts: [elsewhere] }] });
    assert.deepEqual(other?.volumeMounts, [elsewhere, SCRIPT_MOUNT]);
  });

  test("change all containers and no init container", async () => {
    const { containers, initContainers } = await admitted({
      labels: INJECT,
      serviceAccountName: "deployer",
      containers: [{ name: "app" }, { name: "sidecar" }],
      initContainers: [{ name: "init" }],
    });
    assert.deepEqual(changed(containers), ["app", "sidecar"]);
    assert.deepEqual(changed(initContainers), []);
  });

  test("change the containers that the annotation names instead, which can be init containers", async () => {
    const pod = {
      labels: INJECT,
      serviceAccountName: "deployer",
      containers: [{ name: "app" }, { name: "sidecar" }],
      initContainers: [{ name: "init" }, { name: "other" }],
    };
    for (const [names, expected] of [
      ["app", [["app"], []]],
      [" sidecar ,init,", [["sidecar"], ["init"]]],
      ["init", [[], ["init"]]],
      ["", [["app", "sidecar"], []]],
    ] as const) {
      const annotations = { "eks-pulumi-oidc/containers": names };
      const { containers, initContainers, volumes } = await admitted({ ...pod, annotations });
      assert.deepEqual([changed(containers), changed(initContainers)], expected, names);
      assert.equal(volumes.length, 2);
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
    for (const name of ["unknown-pulumi-token", "unknown-pulumi-token-exchange"]) {
      await server.create("/api/v1/namespaces/team-a/configmaps", { metadata: { name }, data: {} });
    }
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
    assert.match(await patch("labeled", { metadata: { labels: { [LABEL]: "false" } } }), /pulumi-id-token/);
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
    assert.deepEqual((await admitted(unknown)).volumes, [scriptVolume("unknown"), tokenVolume("other")]);
    const { volumes } = await admitted({ ...unknown, serviceAccountName: "deployer" });
    assert.deepEqual(volumes, [scriptVolume("deployer"), tokenVolume("urn:pulumi:org:acme")]);

    await remove();
    await eventually("the policy has no effect", async () => (await submit(unknown)).pod === undefined);
    assert.equal(reason(await denied(unknown)), NO_STACK("team-a", "unknown"));
    assert.ok(await admitted({ ...unknown, serviceAccountName: "deployer" }));
  });
});

/** Returns the names of the containers that have everything; the others must have nothing of it. */
function changed(containers: Container[]): string[] {
  const names: string[] = [];
  for (const { name, envFrom = [], volumeMounts = [] } of containers) {
    const added = [...envFrom, ...volumeMounts.filter((mount) => mount.name.startsWith("pulumi-"))];
    assert.ok([0, 3].includes(added.length), `${name} has ${added.length} of 3 additions`);
    if (added.length > 0) names.push(name);
  }
  return names;
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
