// IAM roles, without a stack.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as iam from "@pulumi/aws/iam";
import * as pulumi from "@pulumi/pulumi";
import { associateRole } from "../iam";
import { known } from "./stack";

test("an association is in the region of the cluster's ARN, whatever the AWS provider's region is", async () => {
  const newResource = ({ inputs }: pulumi.runtime.MockResourceArgs) => ({ id: "id", state: inputs });
  await pulumi.runtime.setMocks({ newResource, call: () => ({}) });
  const role = new iam.Role("role", { assumeRolePolicy: "{}" });
  const clusterArn = pulumi.output("arn:aws-cn:eks:cn-north-1:123456789012:cluster/own");
  const { region, clusterName } = associateRole("a", {
    clusterArn,
    namespace: "ci",
    serviceAccountName: "runner",
    role,
  });
  assert.deepEqual(await known([region, clusterName]), ["cn-north-1", "own"]);
});
