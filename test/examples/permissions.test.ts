// The AWS policy of those who deploy: what it allows, evaluated as IAM does.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as v from "valibot";
import { read } from "../support/project";

/** Without policy variables. */
const string = v.pipe(v.string(), v.excludes("${"));
const strings = v.union([string, v.array(string)]);
const statement = v.strictObject({
  Effect: v.literal("Allow"),
  Action: strings,
  Resource: strings,
  Condition: v.optional(v.strictObject({ StringEquals: v.record(v.string(), strings) })),
});
/** What `allows` evaluates, and nothing else. */
const policy = v.strictObject({ Version: v.literal("2012-10-17"), Statement: v.array(statement) });

const IAM = "arn:aws:iam::123456789012:";
const EKS = "arn:aws:eks:us-west-2:123456789012:";

const ROLE = `${IAM}role/pulumi-oidc-team-a-app-1a2b3c`;
const OTHER_ROLE = `${IAM}role/admin`;
const CLUSTER = `${EKS}cluster/my-cluster`;
const OTHER_CLUSTER = `${EKS}cluster/other`;
const ASSOCIATION = `${EKS}podidentityassociation/my-cluster/a-1`;
const OTHER_ASSOCIATION = `${EKS}podidentityassociation/other/a-1`;

/** The boundary that a role has, or gets by the request. */
const BOUNDARY = { "iam:PermissionsBoundary": `${IAM}policy/pulumi-oidc-boundary` };
const OTHER_BOUNDARY = { "iam:PermissionsBoundary": `${IAM}policy/other` };
const NONE = {};
const DENY_ALL = { "iam:PolicyARN": "arn:aws:iam::aws:policy/AWSDenyAll" };
const ADMINISTRATOR = { "iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess" };
const TO_PODS = { "iam:PassedToService": "pods.eks.amazonaws.com" };
const TO_EC2 = { "iam:PassedToService": "ec2.amazonaws.com" };

/** All of these know the permissions boundary. */
const CHANGE_ROLE =
  "CreateRole UpdateRole UpdateRoleDescription UpdateAssumeRolePolicy DeleteRole PutRolePermissionsBoundary " +
  "AttachRolePolicy DetachRolePolicy DeleteRolePolicy";
const READ_ROLE =
  "GetRole ListRolePolicies GetRolePolicy ListAttachedRolePolicies ListInstanceProfilesForRole TagRole UntagRole";
const OIDC_PROVIDER = "GetOpenIDConnectProvider CreateOpenIDConnectProvider TagOpenIDConnectProvider";
const CHANGE_ASSOCIATION =
  "DescribePodIdentityAssociation UpdatePodIdentityAssociation DeletePodIdentityAssociation TagResource UntagResource";

/** The actions of a service, the resource, the context of the request, and whether it is allowed. */
const REQUESTS: [service: string, actions: string, resource: string, context: object, isAllowed: boolean][] =
  [
    ["iam", CHANGE_ROLE, ROLE, BOUNDARY, true],
    ["iam", CHANGE_ROLE, ROLE, NONE, false],
    ["iam", CHANGE_ROLE, ROLE, OTHER_BOUNDARY, false],
    ["iam", CHANGE_ROLE, OTHER_ROLE, BOUNDARY, false],
    // To suspend an entry: also a role without the boundary.
    ["iam", "AttachRolePolicy DetachRolePolicy", ROLE, DENY_ALL, true],
    ["iam", "AttachRolePolicy DetachRolePolicy", ROLE, ADMINISTRATOR, false],
    ["iam", "AttachRolePolicy DetachRolePolicy", OTHER_ROLE, DENY_ALL, false],
    ["iam", "DeleteRole PutRolePermissionsBoundary", ROLE, DENY_ALL, false],
    ["iam", READ_ROLE, ROLE, NONE, true],
    ["iam", READ_ROLE, OTHER_ROLE, BOUNDARY, false],
    ["iam", "DeleteRolePermissionsBoundary PutRolePolicy", ROLE, BOUNDARY, false],
    ["iam", "CreatePolicyVersion SetDefaultPolicyVersion", BOUNDARY["iam:PermissionsBoundary"], NONE, false],
    ["iam", "CreateUser AttachUserPolicy CreateAccessKey", `${IAM}user/a`, BOUNDARY, false],
    ["iam", "PassRole", ROLE, TO_PODS, true],
    ["iam", "PassRole", ROLE, TO_EC2, false],
    ["iam", "PassRole", OTHER_ROLE, TO_PODS, false],
    ["sts", "AssumeRole", ROLE, NONE, false],
    ["iam", "ListOpenIDConnectProviders", `${IAM}oidc-provider/*`, NONE, true],
    ["iam", OIDC_PROVIDER, `${IAM}oidc-provider/oidc.eks.us-west-2.amazonaws.com/id/A`, NONE, true],
    ["iam", OIDC_PROVIDER, `${IAM}oidc-provider/oidc-eks.us-west-2.api.aws/id/A`, NONE, true],
    ["iam", OIDC_PROVIDER, `${IAM}oidc-provider/token.actions.githubusercontent.com`, NONE, false],
    ["eks", "DescribeCluster CreatePodIdentityAssociation", CLUSTER, NONE, true],
    ["eks", "DescribeCluster CreatePodIdentityAssociation", OTHER_CLUSTER, NONE, false],
    ["eks", CHANGE_ASSOCIATION, ASSOCIATION, NONE, true],
    ["eks", CHANGE_ASSOCIATION, OTHER_ASSOCIATION, NONE, false],
    ["eks", "TagResource UntagResource CreateAccessEntry", CLUSTER, NONE, false],
  ];

test("the deployer's policy allows changes only to roles with the boundary, which it never removes", () => {
  const { Statement: statements } = v.parse(policy, JSON.parse(read("examples/permissions/policy.json")));
  const allowed = new Set<string>();
  for (const [service, names, resource, context, isAllowed] of REQUESTS) {
    for (const action of names.split(" ").map((name) => `${service}:${name}`)) {
      const request = { action, resource, context };
      assert.equal(
        statements.some((it) => allows(it, request)),
        isAllowed,
        JSON.stringify(request),
      );
      if (isAllowed) allowed.add(action);
    }
  }
  // Every action of the policy is in the table.
  assert.deepEqual([...new Set(statements.flatMap(({ Action }) => Action))].sort(), [...allowed].sort());
});

/**
 * Returns whether a statement matches a request. A condition on a key that the request does not have is false:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
 *
 * @param context the keys of the action, as the Service Authorization Reference lists them:
 *   https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html
 */
function allows(
  { Action, Resource, Condition }: v.InferOutput<typeof statement>,
  { action, resource, context }: { action: string; resource: string; context: object },
): boolean {
  const values = new Map(Object.entries(context));
  return (
    [Action].flat().some((pattern) => isLike(action.toLowerCase(), pattern.toLowerCase())) &&
    [Resource].flat().some((pattern) => isLike(resource, pattern)) &&
    Object.entries(Condition?.StringEquals ?? {}).every(([key, expected]) =>
      [expected].flat().includes(values.get(key)),
    )
  );
}

/** Returns whether a string matches a pattern, in which `*` is any characters, and `?` exactly one. */
function isLike(value: string, pattern: string): boolean {
  const literal = pattern.replaceAll(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${literal.replaceAll("*", ".*").replaceAll("?", ".")}$`).test(value);
}
