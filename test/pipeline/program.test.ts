// The pipeline's program: what its workflows and manifests share with it, and what stops it. golden/new.yaml has what it registers.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseAllDocuments } from "yaml";
import { teamName } from "../../pipeline/pulumiCloud";
import { writeGolden } from "../core/document";
import { inputsOf, stopOf } from "../core/program";
import { read } from "../support/project";
import { ANSWERS, runPipeline, STACK } from "./pipeline";

test("the group that role.yaml names is the one of the workflows", async () => {
  const [entry] = inputsOf(await runPipeline(), "AccessEntry");
  const [, binding] = parseAllDocuments(read("pipeline/role.yaml")).map((document) => document.toJS());
  assert.deepEqual(
    entry.kubernetesGroups,
    binding.subjects.map(({ name }: { name: string }) => name),
  );
});

test("the team's name contains no wildcard of allow policies, and is not too long", () => {
  assert.equal(teamName("acme/a.b"), "a-b-preview");
  assert.equal(teamName(`acme/${"a".repeat(100)}`), `${"a".repeat(92)}-preview`);
});

test("the workflows read from their file what the program writes, and request what it grants", async () => {
  const run = await runPipeline();
  const [stack] = run.outputs.workflows.stacks;
  const [issuer] = inputsOf(run, "OidcIssuer");
  for (const name of ["drift", "preview"]) {
    const workflow = read(`.github/workflows/${name}.yml`);
    const names = new Set(workflow.match(/(?<=\bmatrix\.)\w+/g));
    // The file itself has the policy pack; the namespaces are for its readers.
    const { namespaces: _, ...used } = { ...stack, policyPack: {} };
    assert.deepEqual([...names].sort(), Object.keys(used).sort(), name);
    const tokenType = `requested-token-type: urn:pulumi:token-type:access_token:${issuer.policies[0].tokenType}\n`;
    assert.ok(workflow.includes(tokenType), name);
    assert.ok(workflow.includes(`token-expiration: ${issuer.maxExpirationSeconds}\n`), name);
  }
});

test("a pipeline stack without clusters needs no IAM OIDC provider", async () => {
  const stacks = [{ stack: "acme/eks-pulumi-oidc/elsewhere" }];
  const answers = { "pulumiservice:index:getCurrentUser": () => ({ username: "alice" }) };
  for (const githubOidcProvider of ["create", "existing"]) {
    const run = await runPipeline({ stacks, githubOidcProvider }, { answers });
    assert.deepEqual([inputsOf(run, "OpenIdConnectProvider"), inputsOf(run, "Role")], [[], []]);
    assert.equal(inputsOf(run, "OidcIssuer").length, 1);
  }
});

test("an invalid configuration is reported as a whole, without the value of an encrypted setting", async () => {
  const invalid = {
    repository: "",
    repositoryId: "acme",
    subjectPrefix: "repo:acme/*",
    stacks: [
      { ...STACK, stack: "dev", namespace: "default", namespaces: [] },
      { ...STACK, region: "Frankfurt" },
      STACK,
      { stack: "acme/a/b", clusterName: "a" },
    ],
    environments: ["acme/app"],
    githubIssuer: "maybe",
    rolePath: "s3cret",
    stack: STACK,
  };
  const message = await stopOf(runPipeline(invalid, { secretKeys: ["project:rolePath"] }));
  const path = join(__dirname, "golden", "rejected.txt");
  writeGolden(path, message);
  assert.equal(message, readFileSync(path, "utf8"));
});

test("a login that is not for pulumiApiUrl creates nothing", async () => {
  const message = await stopOf(runPipeline({}, { loginUrl: "https://other.example.com" }));
  assert.match(message, /pulumiApiUrl = .*\(PULUMI_API\) is https:\/\/other\.example\.com/);
});

test("everything that is missing is reported at once, and nothing is created", async () => {
  const old = { ...STACK, stack: "acme/eks-pulumi-oidc/old", clusterName: "old-cluster" };
  const stacks = [{ ...STACK, clusterName: "no" }, old];
  const fail = (message: string) => {
    throw Object.assign(new Error(), { details: `invoking: 1 error occurred:\n\t* ${message}\n\n` });
  };
  const answers = {
    "aws:eks/getCluster:getCluster": (inputs: Record<string, string>) => {
      if (inputs.name === "no") return fail("reading EKS Cluster (no): couldn't find resource");
      const cluster = ANSWERS["aws:eks/getCluster:getCluster"](inputs);
      return { ...cluster, accessConfigs: [{ authenticationMode: "CONFIG_MAP" }] };
    },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": () =>
      fail("finding IAM OIDC Provider: not found"),
  };
  assert.match(
    await stopOf(runPipeline({ stacks, githubOidcProvider: "existing" }, { answers })),
    /EKS Cluster \(no\).*"old-cluster" in us-west-2 has no access entries: .*IAM OIDC Provider/s,
  );
});
