// The emulated Kubernetes cluster: what the EKS webhook adds to a pod, and how a Job fails.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openCertificateAuthority } from "../simulator/certificates";
import { Unready } from "../simulator/emulator";
import { type ClusterIssuer, startIssuer } from "../simulator/issuer";
import { type Kubernetes, startKubernetes } from "../simulator/kubernetes";

const ROLE_ARN = "arn:aws:iam::123456789012:role/a";
// Only the claims: a token does not belong into a log.
const PRINT_CLAIMS = 'echo "$AWS_ROLE_ARN"; cut -d. -f2 <"$AWS_WEB_IDENTITY_TOKEN_FILE"';
const RESTRICTED = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };

let issuer: ClusterIssuer;
before(async () => {
  issuer = await startIssuer(await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY));
});
after(() => issuer.close());

function start() {
  const log: string[] = [];
  const cluster = startKubernetes({
    issuer,
    region: "us-west-2",
    namespaces: ["default"],
    serviceAccounts: ["default/existing"],
    pulumiCloudUrl: "https://127.0.0.1:1",
    certificateAuthorityFile: join(String(process.env.SIMULATOR_DIRECTORY), "ca.pem"),
    onLog: (line) => log.push(line),
  });
  return { cluster, log };
}

function create(cluster: Kubernetes, type: string, metadata: object, more: object = {}) {
  return (cluster.resources[`kubernetes:${type}`] ?? assert.fail(type)).create("a", { metadata, ...more });
}

function runJob(cluster: Kubernetes, script: string, serviceAccountName: string, container = {}) {
  const securityContext = { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } };
  const command = ["bash", "-c", script];
  const containers = [{ name: "main", command, securityContext: RESTRICTED, ...container }];
  const spec = {
    activeDeadlineSeconds: 2,
    template: { spec: { serviceAccountName, securityContext, containers } },
  };
  return create(cluster, "batch/v1:Job", { namespace: "default", generateName: "job-" }, { spec });
}

test("the webhook mounts a role and an ID token only for an annotated service account", async () => {
  const { cluster, log } = start();
  const annotations = { "eks.amazonaws.com/role-arn": ROLE_ARN };
  await create(cluster, "core/v1:ServiceAccount", { namespace: "default", name: "annotated", annotations });
  await runJob(cluster, PRINT_CLAIMS, "annotated");
  const { iss, sub, aud, ...claims } = JSON.parse(Buffer.from(log[1] ?? "", "base64url").toString());
  assert.equal(log[0], ROLE_ARN);
  assert.deepEqual([iss, sub, aud], [issuer.url, "system:serviceaccount:default:annotated", ["sts.amazonaws.com"]]);
  assert.equal(claims["kubernetes.io"].pod.name, cluster.podOf("default", "annotated").pod);

  await runJob(cluster, "compgen -e AWS_ || echo none", "existing");
  assert.equal(log.at(-1), "none");
});

for (const [what, script, account, container, message] of [
  [
    "exits with an error and reports its log",
    "printf '%3000s\\n'; echo why; exit 3",
    "existing",
    { terminationMessagePolicy: "FallbackToLogsOnError" },
    /\[Pod job-\w+-\w+\]: \[Error\] {2045}\nwhy$/,
  ],
  ["exceeds its deadline", "exec sleep 60", "existing", {}, /exit code 137$/],
  ["has no service account", "true", "missing", {}, /service account default\/missing: not found$/],
  ["is not restricted", "true", "existing", { securityContext: {} }, /violates PodSecurity "restricted:latest": /],
] satisfies [string, string, string, object, RegExp][]) {
  test(`a Job whose pod ${what} exists and is not ready`, async () => {
    const { cluster } = start();
    await assert.rejects(runJob(cluster, script, account, container), (error) => {
      assert.ok(error instanceof Unready);
      assert.match(error.message, message);
      assert.deepEqual(cluster.existing(), [error.resource.id]);
      return true;
    });
  });
}

test("an object needs its namespace, and exists once", async () => {
  const { cluster } = start();
  const object = { metadata: { name: "a", namespace: "ci" } };
  const configMap = () => create(cluster, "core/v1:ConfigMap", object.metadata, { data: { a: "b" } });
  await assert.rejects(configMap, /^Error: namespaces "ci" not found$/);
  await create(cluster, "core/v1:Namespace", { name: "ci" });
  await configMap();
  assert.deepEqual(cluster.configMap("ci", "a"), { a: "b" });
  await assert.rejects(configMap, /ci\/a .*it already exists/);
});
