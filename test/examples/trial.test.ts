// The trial in docs/trial.md creates only what the page lists, and the form for its report names the Job.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "yaml";
import { codeIn, read } from "../support/project";
import { only, type Settings, up } from "../support/stack";

const FORM = read(".github/ISSUE_TEMPLATE/trial.yml");

test("the trial exchanges a token without an IAM OIDC provider, and creates one issuer and three objects", async (t) => {
  const [file = ""] = codeIn(read("docs/trial.md"), "yaml");
  const settings: Settings = parse(file).config;
  const cluster = { name: "my-cluster", hasOidcProvider: false };
  const stack = await up(t, settings, { runJobs: true, cluster });

  const types = stack.registered.map(({ type }) => type);
  assert.deepEqual(types.filter((type) => /^(aws|kubernetes|pulumiservice):/.test(type)).sort(), [
    "kubernetes:batch/v1:Job",
    "kubernetes:core/v1:ConfigMap",
    "kubernetes:core/v1:ServiceAccount",
    "pulumiservice:index:OidcIssuer",
  ]);
  assert.equal(only<{ policies: object[] }>(stack, "OidcIssuer").inputs.policies.length, 1);
  const job = only<{ metadata: { namespace: string; name: string } }>(stack, "Job").inputs.metadata;
  assert.ok(FORM.includes(`kubectl logs --namespace ${job.namespace} job/${job.name}`));
});
