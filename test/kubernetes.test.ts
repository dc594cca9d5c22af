// The simulation's Kubernetes: its objects, what the EKS webhook gives a pod, and what a Job says when it fails.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openCertificateAuthority } from "../simulator/certificates";
import { Unready } from "../simulator/emulator";
import { type ClusterIssuer, startIssuer } from "../simulator/issuer";
import { type Kubernetes, startKubernetes } from "../simulator/kubernetes";

const ROLE_ARN = "arn:aws:iam::123456789012:role/a";
const ANNOTATED = { "eks.amazonaws.com/role-arn": ROLE_ARN };
// The claims alone: no token belongs into a log.
const SHOW_CLAIMS = ["bash", "-c", 'cut -d. -f2 <"$AWS_WEB_IDENTITY_TOKEN_FILE"'];

let issuer: ClusterIssuer;
before(async () => {
  issuer = await startIssuer(await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY));
});
after(() => issuer.close());

test("the webhook gives the pod of an annotated service account role, region, and an id token for STS", async () => {
  const { cluster, log } = await start({ annotations: ANNOTATED });
  await runJob(cluster, ["bash", "-c", 'echo "$AWS_ROLE_ARN $AWS_REGION"; "$@"', "-", ...SHOW_CLAIMS]);
  assert.equal(log[0], `${ROLE_ARN} us-west-2`);
  const claims = claimsOf(log[1]);
  assert.equal(claims.iss, issuer.url);
  assert.equal(claims.sub, "system:serviceaccount:default:runner");
  assert.deepEqual(claims.aud, ["sts.amazonaws.com"]);
  assert.equal(claims["kubernetes.io"].pod.name, cluster.lastPod()?.name);
});

test("another audience in the annotation is the audience of the token", async () => {
  const annotations = { ...ANNOTATED, "eks.amazonaws.com/audience": "other" };
  const { cluster, log } = await start({ annotations });
  await runJob(cluster, SHOW_CLAIMS);
  assert.deepEqual(claimsOf(log[0]).aud, ["other"]);
});

test("a pod of a service account that is not annotated gets nothing from the webhook", async () => {
  const { cluster, log } = await start({ annotations: {} });
  await runJob(cluster, ["bash", "-c", "compgen -e AWS_ || echo none"]);
  assert.deepEqual(log, ["none"]);
  assert.deepEqual(cluster.lastPod()?.spec.volumes, undefined);
});

test("a pod whose service account does not exist yet is not made", async () => {
  const { cluster } = await start(undefined);
  await assert.rejects(
    runJob(cluster, ["true"]),
    /error looking up service account default\/runner: not found$/,
  );
  assert.equal(cluster.lastPod(), undefined);
});

test("a pod that Pod Security restricted refuses does not run", async () => {
  const { cluster } = await start({ annotations: ANNOTATED });
  await assert.rejects(
    runJob(cluster, ["true"], { container: { securityContext: {} } }),
    /is forbidden: violates PodSecurity "restricted:latest": .*allowPrivilegeEscalation/,
  );
  assert.equal(cluster.lastPod(), undefined);
});

test("a failed Job exists, and says its exit code alone", async () => {
  const { cluster } = await start({ annotations: ANNOTATED });
  await assert.rejects(runJob(cluster, ["bash", "-c", "echo why; exit 3"]), (error) => {
    assert.ok(error instanceof Unready);
    assert.match(error.resource.id, /^default\/runner-/);
    assert.ok(cluster.existing().includes(error.resource.id));
    assert.match(error.message, /container "runner" completed with exit code 3$/);
    return true;
  });
});

test("a failed Job whose message falls back to its log says the log's last lines, at most 2048 bytes of them", async () => {
  const { cluster } = await start({ annotations: ANNOTATED });
  const container = { terminationMessagePolicy: "FallbackToLogsOnError" };
  const command = ["bash", "-c", `printf '%3000s\\n'; echo why; exit 3`];
  await assert.rejects(runJob(cluster, command, { container }), ({ message }: Error) => {
    const [, said = ""] = /\[Pod runner-\w+-\w+\]: \[Error\] (.*)$/s.exec(message) ?? [];
    assert.match(said, /\nwhy$/);
    assert.equal(said.length, 2048);
    return true;
  });
});

test("a Job that outlives its deadline fails", async () => {
  const { cluster } = await start({ annotations: ANNOTATED });
  await assert.rejects(runJob(cluster, ["sleep", "60"], { deadline: 1 }), /completed with exit code 137$/);
});

test("an object without a name gets one of its own each time", async () => {
  const { cluster } = await start(undefined);
  const configMaps = kind(cluster, "core/v1:ConfigMap");
  const [first, second] = [await configMaps.create("script", {}), await configMaps.create("script", {})];
  assert.match(first.id, /^default\/script-[0-9a-f]{8}$/);
  assert.notEqual(first.id, second.id);
});

test("a namespace that does not exist takes no objects, and one that exists is not made again", async () => {
  const { cluster } = await start(undefined);
  const object = { metadata: { name: "a", namespace: "ci" } };
  await assert.rejects(
    kind(cluster, "core/v1:ConfigMap").create("script", object),
    /^Error: namespaces "ci" not found$/,
  );

  const namespaces = kind(cluster, "core/v1:Namespace");
  await namespaces.create("namespace", { metadata: { name: "ci" } });
  await kind(cluster, "core/v1:ConfigMap").create("script", object);
  await assert.rejects(namespaces.create("namespace", { metadata: { name: "ci" } }), /"ci" already exists/);
});

test("an object that exists is not made again, and once deleted it is gone", async () => {
  const { cluster } = await start({ annotations: {} });
  const serviceAccounts = kind(cluster, "core/v1:ServiceAccount");
  const again = () => serviceAccounts.create("a", { metadata: { name: "runner", namespace: "default" } });
  await assert.rejects(again, /default\/runner .*it already exists/);
  assert.deepEqual(cluster.existing(), ["default/runner"]);
  serviceAccounts.delete("default/runner");
  assert.deepEqual(cluster.existing(), []);
  assert.equal(serviceAccounts.read("default/runner"), undefined);
  await again();
});

/** A cluster with the service account `runner`, where one is given, and with what its pods log. */
async function start(serviceAccount: { annotations: Record<string, string> } | undefined) {
  const log: string[] = [];
  const cluster = startKubernetes({
    issuer,
    region: "us-west-2",
    namespaces: ["default"],
    pulumiCloudUrl: "https://127.0.0.1:1",
    certificateAuthorityFile: join(String(process.env.SIMULATOR_DIRECTORY), "ca.pem"),
    onLog: (line) => log.push(line),
  });
  if (serviceAccount) {
    const metadata = { name: "runner", namespace: "default", ...serviceAccount };
    await kind(cluster, "core/v1:ServiceAccount").create("runner", { metadata });
  }
  return { cluster, log };
}

function claimsOf(payload = "") {
  return JSON.parse(Buffer.from(payload, "base64url").toString());
}

function kind(cluster: Kubernetes, type: string) {
  return cluster.resources[`kubernetes:${type}`] ?? assert.fail(`the cluster keeps no ${type}`);
}

function runJob(cluster: Kubernetes, command: string[], { container = {}, deadline = 30 } = {}) {
  const securityContext = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
  return kind(cluster, "batch/v1:Job").create("runner", {
    metadata: { namespace: "default" },
    spec: {
      activeDeadlineSeconds: deadline,
      template: {
        spec: {
          serviceAccountName: "runner",
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 1000,
            fsGroup: 1000,
            seccompProfile: { type: "RuntimeDefault" },
          },
          containers: [{ name: "runner", command, securityContext, ...container }],
        },
      },
    },
  });
}
