// All that the pipeline's program registers and outputs: `npm run golden` writes it.

import { join } from "node:path";
import { test } from "node:test";
import { assertDocument } from "../core/document";
import { runPipeline, STACK } from "./pipeline";

test("two organizations, two regions, and a cluster of another AWS account", async () => {
  const run = await runPipeline({
    stacks: [
      { ...STACK, namespaces: ["a", "b"] },
      { ...STACK, stack: "globex.com/eks-pulumi-oidc/dev", namespaces: ["b", "c"] },
      { ...STACK, stack: "acme/eks-pulumi-oidc/prod", region: "us-east-1", directory: "prod" },
      { stack: "acme/eks-pulumi-oidc/elsewhere", directory: "prod" },
    ],
    environments: ["acme/app/prod"],
    rolePath: "/ci/",
  });
  await assertDocument(join(__dirname, "golden", "new.yaml"), run);
});

test("what exists already, another partition, and no access policy of EKS", async () => {
  const run = await runPipeline({
    stacks: [{ ...STACK, region: "us-gov-west-1" }],
    githubIssuer: "existing",
    githubOidcProvider: "existing",
    viewPolicy: false,
  });
  await assertDocument(join(__dirname, "golden", "existing.yaml"), run);
});
