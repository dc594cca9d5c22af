// The kubectl commands of docs/incidents.md on a real API server.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { policySpec } from "../../kubernetes/injectionPolicy";
import { type ApiServer, missingApiServer, startApiServer } from "../environment/apiServer";
import { exampleOf } from "../environment/examples";
import { podObject } from "../environment/pods";
import { defineStacks } from "../environment/stackResources";
import { codeIn, commandsWith, read } from "../support/project";

const PAGE = read("docs/incidents.md");
const blockOf = (mark: string) => codeIn(PAGE, `bash ${mark}`)[0] ?? assert.fail(mark);

const MANIFESTS = ["deployment.yaml", "scheduled-update.yaml", "pulumi-operator.yaml"].flatMap(
  (file) => exampleOf(file).manifests,
);

const OWN_TOKEN = "PULUMI_ACCESS_TOKEN";
const STORED = { name: OWN_TOKEN, valueFrom: { secretKeyRef: { name: "break-glass", key: OWN_TOKEN } } };
const TURNED_OFF = { name: "PULUMI_CREDENTIAL_HELPER", value: "none" };

const metadata = { name: "added", annotations: { "kubernetes.io/service-account.name": "app" } };
const JOB_POD = podObject({ serviceAccountName: "app", restartPolicy: "Never" }, "added");
const JOB = { spec: { template: { spec: JOB_POD.spec } } };
const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "edit" };
/** What gives an attacker access again. */
const ADDED = [
  { apiVersion: "batch/v1", kind: "CronJob", metadata, spec: { schedule: "@daily", jobTemplate: JOB } },
  { apiVersion: "v1", kind: "Secret", metadata, type: "kubernetes.io/service-account-token" },
  { apiVersion: "rbac.authorization.k8s.io/v1", kind: "RoleBinding", metadata, roleRef },
];

describe("breaking the glass, and cleaning a namespace", { skip: missingApiServer }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
    await defineStacks(server);
    await server.createNamespace("team-a");
    for (const manifest of MANIFESTS) await apply(manifest);
  });
  after(() => server?.close());

  const apply = (object: object) => server.kubectl(["apply", "--filename=-"], object);

  const run = (text: string, input?: string) => server.shell(commandsWith(PAGE, text), { input });

  async function specOf(path: string) {
    return (await server.request("GET", path)).body.spec;
  }

  /** Returns the variables of the Deployment, and of the CronJob, that decide which token the CLI uses. */
  async function variables() {
    const deployment = await specOf("/apis/apps/v1/namespaces/team-a/deployments/deployer");
    const cronJob = await specOf("/apis/batch/v1/namespaces/team-a/cronjobs/scheduled-update");
    return [deployment.template, cronJob.jobTemplate.spec.template].map(({ spec }) => {
      const { env }: { env: { name: string }[] } = spec.containers[0];
      return env.filter(({ name }) => [STORED.name, TURNED_OFF.name].includes(name));
    });
  }

  test("a stored token replaces the exchange in a Deployment, a CronJob, and a Stack, until it is removed", async () => {
    const before = await variables();
    const [use = assert.fail(), undo = assert.fail()] = codeIn(PAGE, "bash glass");
    await run("create secret generic break-glass", "pul-temporary\n");
    await server.shell(use);
    assert.deepEqual(await variables(), Array(2).fill([TURNED_OFF, STORED]));
    await server.shell(blockOf("stack"));
    assert.deepEqual((await specOf("/apis/pulumi.com/v1/namespaces/team-a/stacks/app")).envRefs, {
      [TURNED_OFF.name]: { type: "Literal", literal: { value: "none" } },
      [OWN_TOKEN]: { type: "Secret", secret: STORED.valueFrom.secretKeyRef },
    });

    await server.shell(undo);
    await server.shell(blockOf("stack-back"));
    const { envRefs } = await specOf("/apis/pulumi.com/v1/namespaces/team-a/stacks/app");
    assert.deepEqual(Object.keys(envRefs ?? {}), []);
    for (const manifest of MANIFESTS) await apply(manifest);
    assert.deepEqual(await variables(), before);
  });

  test("what an attacker with write access added is listed, and deleted", async () => {
    const list = async () => (await server.shell(blockOf("all"))).split("\n").filter(Boolean);
    const before = await list();
    for (const object of ADDED)
      await server.kubectl(["create", "--namespace=team-a", "--filename=-"], object);
    const added = (await list()).filter((object) => !before.includes(object));
    assert.deepEqual(added.toSorted(), [
      "cronjob.batch/added",
      "rolebinding.rbac.authorization.k8s.io/added",
      "secret/added",
    ]);
    for (const object of added) await server.shell(blockOf("added").replace("OBJECT", object));
    assert.deepEqual(await list(), before);
  });

  test("what a deployer can leave behind in AWS and the cluster is listed", async () => {
    const apiVersion = "admissionregistration.k8s.io/v1";
    const spec = { policyName: "left-behind" };
    const left = [
      {
        apiVersion,
        kind: "MutatingAdmissionPolicy",
        spec: policySpec([{ namespace: "team-b", id: "team-b/app" }], `{"team-b/app": "a"}`),
      },
      { apiVersion, kind: "MutatingAdmissionPolicyBinding", spec },
      { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRoleBinding", roleRef },
    ];
    for (const object of left) await apply({ ...object, metadata: { name: "left-behind" } });
    const printed = await server.shell(`aws() { echo "$@"; }\n${blockOf("left-behind")}`);
    for (const { kind } of left) assert.match(printed, RegExp(`^${kind}\\.\\S+/left-behind `, "im"));
  });

  test("only the pods of the service account are deleted", async () => {
    const pods = "/api/v1/namespaces/team-a/pods";
    for (const name of ["app", "deployer"]) {
      await server.createServiceAccount("team-a", name);
      await server.create(pods, podObject({ serviceAccountName: name }, name));
    }
    await run("kubectl get rolebindings");
    await run("kubectl delete pods");
    const { body } = await server.request("GET", pods);
    assert.deepEqual(
      body.items.map(({ metadata }: { metadata: { name: string } }) => metadata.name),
      ["deployer"],
    );
  });
});
