// All that the program registers, outputs, and warns of, for two stacks that together use every setting. A change of the program is a
// change of these documents, which `npm run golden` writes.

import { test } from "node:test";
import { jobName } from "../../job";
import { assertDocument, goldenPath } from "./document";
import { ACCOUNT, runStack } from "./program";

const POLICY = `arn:aws:iam::${ACCOUNT}:policy/app`;
const LONG = "n".repeat(63);
/** The longest name of a service account that is part of the name of its Job. */
const LONGEST = "m".repeat(63 - jobName("").length);

test("a cluster that exists, and nearly every default", async () => {
  const run = await runStack({
    createOidcProvider: true,
    serviceAccounts: [
      {
        ...{ namespace: "team-b", name: "app", tokenType: "team", teamName: "team-b" },
        ...{ rolePolicyArns: [POLICY, "arn:aws:iam::aws:policy/ReadOnlyAccess"], injectToken: true },
      },
      {
        ...{ namespace: "team-a", name: "app", tokenType: "personal", userLogin: "alice" },
        ...{ awsRole: "pod-identity", rolePolicyArns: [POLICY], injectToken: true },
      },
      // A namespace with the name of a method.
      { namespace: "constructor", name: "reader", tokenType: "organization", tokenExpirationSeconds: 1800 },
      {
        ...{ namespace: "kube-system", name: "idle", tokenType: "organization", organizationAdmin: false },
        ...{ injectToken: true, runJob: false, rolePolicyArns: [POLICY] },
        ...{ tokenAudience: "https://api.pulumi.com", tokenExpirationSeconds: 600 },
      },
      {
        ...{ namespace: "team-a", name: "default", createServiceAccount: false, runJob: false },
        ...{ tokenType: "organization", injectToken: true },
      },
      { namespace: "team-a", name: "pool", tokenType: "runner", runnerId: "id-1", runnerName: "pool-1" },
      {
        ...{ namespace: "team-b", name: "leaked", tokenType: "team", teamName: "team-c", suspended: true },
        ...{ rolePolicyArns: [POLICY], injectToken: true },
      },
      {
        ...{ namespace: "team-b", name: "stopped", tokenType: "organization", organizationAdmin: true },
        ...{ awsRole: "pod-identity", suspended: true },
      },
    ],
  });
  await assertDocument(goldenPath("existing-cluster"), run);
});

test("a new cluster, and another value for each setting", async () => {
  const pulumiApiUrl = "https://pulumi.example";
  const settings = {
    clusterName: "new",
    createCluster: true,
    "aws:region": "eu-central-1",
    "aws:profile": "ci",
    "aws:assumeRoles": [{ roleArn: `arn:aws:iam::${ACCOUNT}:role/deploy`, sessionName: "ci" }],
    organization: "globex",
    issuerName: "mine",
    pulumiApiUrl,
    maxExpirationSeconds: 9000,
    audienceRule: false,
    permissionsBoundaryArn: `arn:aws:iam::${ACCOUNT}:policy/boundary`,
    rolePath: "/pulumi/",
    image: "mirror/base:1",
    createNamespaces: [LONG],
    jobPodSpec: {
      nodeSelector: { pool: "ci" },
      containers: [
        {
          name: "token-exchange",
          env: [{ name: "HOME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } }],
          volumeMounts: [{ name: "scratch", mountPath: "/tmp" }],
        },
        {
          name: "proxy",
          env: [{ name: "PULUMI_CREDENTIAL_HELPER", value: "mine" }, { name: "A" }],
          volumeMounts: [
            { name: "mine", mountPath: "//var/run/secrets/pulumi.com/" },
            { name: "other", mountPath: "/other" },
          ],
        },
      ],
      initContainers: [{ name: "init" }],
      volumes: [
        { name: "tmp", hostPath: { path: "/scratch" } },
        { name: "pulumi-token-exchange", emptyDir: {} },
      ],
    },
    serviceAccounts: [
      { namespace: LONG, name: LONG, tokenType: "organization", organizationAdmin: true, awsRole: "irsa" },
      {
        namespace: "default",
        name: "default",
        createServiceAccount: false,
        tokenType: "team",
        teamName: "ops",
      },
      {
        ...{ namespace: "default", name: LONGEST, createServiceAccount: false, awsRole: "pod-identity" },
        ...{ tokenType: "organization", organizationRoleId: "role-1", policyRules: { sub: "a*" } },
        ...{ rolePolicyArns: [POLICY], command: ["echo", "$(HOME) $$"] },
      },
      {
        ...{ namespace: "default", name: "unread", createServiceAccount: false, runJob: false },
        ...{ tokenType: "personal", userLogin: "alice" },
      },
    ],
  };
  await assertDocument(goldenPath("new-cluster"), await runStack(settings, { loginUrl: pulumiApiUrl }));
});
