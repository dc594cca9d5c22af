// The AWS policy of those who deploy makes no one an administrator. Which actions know the permissions boundary of a role:
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html

import assert from "node:assert/strict";
import { test } from "node:test";
import { read } from "../support/project";

interface Statement {
  Effect: string;
  Action: string | string[];
  Resource: string | string[];
  Condition?: object;
}

test("the deployer's policy attaches policies only to roles with the boundary, which it never removes", () => {
  const { Statement: statements }: { Statement: Statement[] } = JSON.parse(
    read("examples/permissions/policy.json"),
  );
  const isLimited = ({ Condition }: Statement) =>
    "iam:PermissionsBoundary" in Object(Object(Condition).StringEquals);
  assert.deepEqual(statements.filter(isLimited), [
    {
      Effect: "Allow",
      Action: ["iam:CreateRole", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"],
      Resource: "arn:aws:iam::123456789012:role/pulumi-oidc-*",
      Condition: {
        StringEquals: { "iam:PermissionsBoundary": "arn:aws:iam::123456789012:policy/pulumi-oidc-boundary" },
      },
    },
  ]);

  const others = statements.filter((statement) => !isLimited(statement)).flatMap(({ Action }) => Action);
  for (const action of others) assert.match(action, /^[a-z]+:[A-Za-z]+$/, "without wildcards");
  const dangerous = /^iam:(Add|Attach|Create|Put|Set|Upload|Delete\w+Boundary)/i;
  assert.deepEqual(
    others.filter((action) => dangerous.test(action)),
    ["iam:CreateOpenIDConnectProvider"],
  );
});
