// What the access check finds in a plan: each case changes one thing of a deployed component, or what it says.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Draft, deployedPlan, ISSUER, newPlan, PROVIDER_ARN, READ_ONLY, UNKNOWN } from "./draft";

const SECRET = "[secret]";
const ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess";
const ANYONE = { Effect: "Allow", Principal: "*", Action: "*" };

const ISSUER_RESOURCE = "OidcIssuer access.oidc-issuer";
const IRSA = "Role access.ci.deployer";
const POD_IDENTITY = "Role access.ops.drift";
const ASSOCIATION = "PodIdentityAssociation access.ops.drift";
const CONFIG_MAP = "ConfigMap access.ci.deployer.pulumi-token-exchange";
const COMPONENT = "PulumiCloudAccess access";
const CONDITION = ["assumeRolePolicy", "Statement", 0, "Condition"];
const EQUAL = [...CONDITION, "StringEquals"];
const NAME = '"kubernetes.io".serviceaccount.name';

const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const IN_COMPONENT = {
  parent: "urn:pulumi:prod::eks-pulumi-oidc::eks-pulumi-oidc:index:PulumiCloudAccess::access",
};
const OTHER_SPELLING = `HTTPS://OIDC.eks.us-west-2.amazonaws.com.:443//id/EXAMPLE%44539D4633E53DE1B71EXAMPLE/`;

type Case = [what: string, edit: (draft: Draft) => Draft, found: RegExp];

const policies = (draft: Draft) => draft.get(ISSUER_RESOURCE, "policies") as object[];
const statements = (draft: Draft) => draft.get(IRSA, "assumeRolePolicy", "Statement") as object[];
const withStatement = (draft: Draft, statement: object) =>
  draft.set(IRSA, ["assumeRolePolicy", "Statement", 1], statement);

const TRUST_POLICIES: Case[] = [
  [
    "a statement for anyone",
    (draft) => withStatement(draft, ANYONE),
    /^ci\/deployer: Its trust policy: Statement\.1 is \{ "Effect": "Allow", "Principal": "\*", "Action": "\*" \} instead of none\.$/,
  ],
  [
    "a statement for every AWS account",
    (draft) => withStatement(draft, { ...ANYONE, Principal: { AWS: "*" } }),
    /Statement\.1 is .* "AWS": "\*"/,
  ],
  [
    "every action without a condition",
    (draft) =>
      draft
        .set(IRSA, ["assumeRolePolicy", "Statement", 0, "Action"], "sts:*")
        .set(IRSA, CONDITION, undefined),
    /Statement\.0\.Action is "sts:\*" instead of "sts:AssumeRoleWithWebIdentity"\./,
  ],
  [
    "a second statement for the provider, without a condition",
    (draft) => withStatement(draft, { ...ANYONE, Principal: { Federated: PROVIDER_ARN }, Action: "sts:*" }),
    /Statement\.1 is .* "sts:\*"/,
  ],
  [
    "EKS Pod Identity without a condition",
    (draft) => draft.set(POD_IDENTITY, CONDITION, undefined),
    /^ops\/drift: Its trust policy: Statement\.0\.Condition is none instead of \{/,
  ],
  [
    "an operator with wildcards",
    (draft) => draft.set(IRSA, CONDITION, { StringLike: draft.get(IRSA, ...CONDITION, "StringEquals") }),
    /Condition\.StringLike is .* instead of none\./,
  ],
  [
    "its statement as an object",
    (draft) => draft.set(IRSA, ["assumeRolePolicy", "Statement"], statements(draft)[0]),
    /Statement is \{ .* instead of \[/,
  ],
  [
    "its statements as an object with their indexes",
    (draft) => draft.set(IRSA, ["assumeRolePolicy", "Statement"], { ...statements(draft) }),
    /Statement is \{ "0": .* instead of \[/,
  ],
  [
    "a string of JSON with a statement for anyone",
    (draft) => {
      const policy = { Version: "2012-10-17", Statement: [...statements(draft), ANYONE] };
      return draft.set(IRSA, ["assumeRolePolicy"], JSON.stringify(policy));
    },
    /Statement\.1 is .* "Principal": "\*"/,
  ],
  [
    "a string of JSON that has a key twice",
    (draft) => {
      const json = JSON.stringify(draft.get(IRSA, "assumeRolePolicy"));
      const twice = json.replace("{", `{"Statement":[${JSON.stringify(ANYONE)}],`);
      return draft.set(IRSA, ["assumeRolePolicy"], twice);
    },
    /Its trust policy is "\{.* instead of \{/,
  ],
  [
    "no known value",
    (draft) => draft.set(IRSA, ["assumeRolePolicy"], UNKNOWN),
    /Its trust policy is known after the update only, and must be \{/,
  ],
  [
    "a key of no known value",
    (draft) =>
      draft.set(IRSA, [...CONDITION, "StringEquals"], {
        [`${UNKNOWN}:sub`]: "system:serviceaccount:ci:deployer",
      }),
    /Condition\.StringEquals is known after the update only/,
  ],
  ["a secret", (draft) => draft.set(IRSA, ["assumeRolePolicy"], SECRET), /Its trust policy is secret/],
  [
    "another subject",
    (draft) => draft.set(IRSA, [...CONDITION, "StringEquals", `${ISSUER}:sub`], "system:serviceaccount:ci:*"),
    /:sub is "system:serviceaccount:ci:\*" instead of "system:serviceaccount:ci:deployer"\./,
  ],
  [
    "another cluster",
    (draft) => draft.set(POD_IDENTITY, [...CONDITION, "StringEquals", "aws:RequestTag/eks-cluster-arn"], "x"),
    /eks-cluster-arn is "x" instead of "arn:aws:eks:us-west-2:123456789012:cluster\/my-cluster"\./,
  ],
];

const ROLES: Case[] = [
  ["no role", (draft) => draft.delete(IRSA), /^ci\/deployer: It has no role, although awsRole is "irsa"\.$/],
  [
    "no association",
    (draft) => draft.delete(ASSOCIATION),
    /^ops\/drift: Its association with the role is none/,
  ],
  [
    "an association with another role",
    (draft) => draft.set(ASSOCIATION, ["roleArn"], "arn:aws:iam::123456789012:role/admin"),
    /Its association with the role: roleArn is ".*role\/admin" instead of "/,
  ],
  [
    "an association that leads to another role",
    (draft) => draft.set(ASSOCIATION, ["targetRoleArn"], "arn:aws:iam::123456789012:role/admin"),
    /targetRoleArn is ".*role\/admin" instead of none/,
  ],
  [
    "another permissions boundary",
    (draft) => draft.set(IRSA, ["permissionsBoundary"], ADMINISTRATOR),
    /Its permissions boundary is ".*AdministratorAccess" instead of ".*ReadOnlyAccess"/,
  ],
  [
    "another annotation",
    (draft) =>
      draft.set(
        "ServiceAccount access.ci.deployer",
        ["metadata", "annotations", "eks.amazonaws.com/role-arn"],
        "x",
      ),
    /^ci\/deployer: Its service account: eks\.amazonaws\.com\/role-arn is "x" instead of "arn:/,
  ],
  [
    "an annotation without a role",
    (draft) =>
      draft.set("ServiceAccount access.web.secrets", ["metadata", "annotations"], {
        "eks.amazonaws.com/role-arn": "x",
      }),
    /^web\/secrets: Its service account: eks\.amazonaws\.com\/role-arn is "x" instead of none/,
  ],
  [
    "managed policies in the role",
    (draft) => draft.set(IRSA, ["managedPolicyArns"], [ADMINISTRATOR]),
    /Its role has managedPolicyArns, which no setting names: \[ ".*AdministratorAccess" \]/,
  ],
  [
    "inline policies in the role",
    (draft) => draft.set(IRSA, ["inlinePolicies"], UNKNOWN),
    /Its role has inlinePolicies, which no setting names: known after the update/,
  ],
  [
    "a policy attachment that is not its own",
    (draft) =>
      draft.add(
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        "access.ci.deployer.more",
        { role: "x", policyArn: ADMINISTRATOR },
        IN_COMPONENT,
      ),
    /attaches the policy ".*AdministratorAccess", which rolePolicyArns does not list/,
  ],
  [
    "a policy attachment of another role",
    (draft) => draft.set(`RolePolicyAttachment access.ci.deployer.${READ_ONLY}`, ["role"], "x"),
    /Its policy ".*ReadOnlyAccess": role is "x" instead of "pulumi-oidc-ci-deployer-/,
  ],
  [
    "an inline policy inside the component",
    (draft) => draft.add("aws:iam/rolePolicy:RolePolicy", "access.ci.deployer", { role: "x" }, IN_COMPONENT),
    /^RolePolicy access\.ci\.deployer is inside the component, and no part of it\.$/,
  ],
  [
    "a role although awsRole is none",
    (draft) => draft.set(COMPONENT, ["serviceAccounts", 0, "awsRole"], "none"),
    /^ci\/deployer: It has a role, although awsRole is none\.$/,
  ],
  [
    "the IAM OIDC provider of another issuer",
    (draft) => {
      const other = PROVIDER_ARN.replace(/EXAMPLE$/, "OTHER");
      return draft
        .set(COMPONENT, ["oidcProviderArn"], other)
        .set(IRSA, ["assumeRolePolicy", "Statement", 0, "Principal", "Federated"], other);
    },
    /^oidcProviderArn is ".*OTHER", which is not the provider of issuerUrl/,
  ],
];

const ALLOW_POLICIES: Case[] = [
  [
    "a wildcard in a name",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 1, "rules", NAME], "d*"),
    /^ops\/drift: Its allow policy: rules\."kubernetes\.io"\.serviceaccount\.name is "d\*" instead of "drift"\.$/,
  ],
  [
    "no rule on the audience",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 0, "rules", "aud"], undefined),
    /^ci\/deployer: Its allow policy: rules\.aud is none instead of "urn:pulumi:org:acme"\.$/,
  ],
  [
    "a rule with the name __proto__",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 1, "rules", "__proto__"], "x"),
    /^ops\/drift: Its allow policy: rules\.__proto__ is "x" instead of none\.$/,
  ],
  [
    "a rule with a name that a provider of AWS adds",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 1, "rules", "__defaults"], "x"),
    /rules\.__defaults is "x"/,
  ],
  [
    "administrators",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 2, "authorizedPermissions"], ["admin"]),
    /^web\/secrets: Its allow policy: authorizedPermissions is \[ "admin" \] instead of none\.$/,
  ],
  [
    "a role of the organization",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 2, "roleID"], "x"),
    /^web\/secrets: Its allow policy: roleID is "x" instead of none\.$/,
  ],
  [
    "another team",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 0, "teamName"], "admins"),
    /^ci\/deployer: Its allow policy: teamName is "admins" instead of "a"\.$/,
  ],
  [
    "another policy, of no one",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 4], OTHER_POLICY),
    /^An allow policy is of no service account, or is the second one of a service account: .*"mallory"/,
  ],
  [
    "it twice",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 4], policies(draft)[0]),
    /is the second one of a service account: .*"deploy-\*"/,
  ],
  [
    "no known value",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies"], UNKNOWN),
    /^The allow policies are known after the update instead of a list/,
  ],
  [
    "one that is not known",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 1], UNKNOWN),
    /^ops\/drift: Its allow policy is known after the update only, and must be \{/,
  ],
  ["secrets", (draft) => draft.set(ISSUER_RESOURCE, ["policies"], SECRET), /^The allow policies are secret/],
  [
    "a name that is not known",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 1, "rules", NAME], UNKNOWN),
    /^ops\/drift: Its allow policy: rules\..*\.name is known after the update only, and must be "drift"\.$/,
  ],
  [
    "none of it",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 1], undefined),
    /^ops\/drift: Its allow policy is none instead of/,
  ],
  [
    "no policies at all",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies"], undefined),
    /^The allow policies are none instead of a list/,
  ],
];

const ISSUERS: Case[] = [
  [
    "another URL",
    (draft) => draft.set(ISSUER_RESOURCE, ["url"], "https://example.com"),
    /^The registered issuer: url is "https:\/\/example\.com" instead of "https:\/\/oidc\.eks/,
  ],
  [
    "another limit",
    (draft) => draft.set(ISSUER_RESOURCE, ["maxExpirationSeconds"], 86_400),
    /^The registered issuer: maxExpirationSeconds is 86400 instead of 7200\.$/,
  ],
  [
    "someone's thumbprints",
    (draft) => draft.set(ISSUER_RESOURCE, ["thumbprints", 1], "0".repeat(64)),
    /^The registered issuer has the thumbprint "0{64}", which the component does not choose/,
  ],
  [
    "keys of its own",
    (draft) => draft.set(ISSUER_RESOURCE, ["jwks"], { keys: [] }),
    /^The registered issuer: jwks is \{ "keys": \[\] \} instead of none\.$/,
  ],
  [
    "a second one inside the component",
    (draft) =>
      draft.add(
        "pulumiservice:index:OidcIssuer",
        "access.second",
        { url: "https://example.com" },
        IN_COMPONENT,
      ),
    /^OidcIssuer access\.second is inside the component, and no part of it\.$/,
  ],
  [
    "a second one elsewhere, with another spelling of the URL",
    (draft) =>
      draft.add("pulumiservice:index:OidcIssuer", "second", { organization: "acme", url: OTHER_SPELLING }),
    /^OidcIssuer second registers the cluster's issuer a second time, as "HTTPS:/,
  ],
  [
    "a second one elsewhere, whose URL is secret",
    (draft) => draft.add("pulumiservice:index:OidcIssuer", "second", { organization: "acme", url: SECRET }),
    /^OidcIssuer second registers an issuer whose URL is secret/,
  ],
  [
    "its policies by the second interface of the provider",
    (draft) =>
      draft.add("pulumiservice:api/auth:Policy", "second", { orgName: "acme", policyId: "p", policies: [] }),
    /^Policy second can replace the allow policies of the registered issuer\.$/,
  ],
  [
    "a second one by the second interface of the provider",
    (draft) =>
      draft.add("pulumiservice:api/auth:OidcIssuer", "second", {
        orgName: "Acme",
        url: `https://${ISSUER}`,
        jwks: {},
      }),
    /^OidcIssuer second registers the cluster's issuer a second time/,
  ],
  [
    "another Pulumi Cloud in the provider",
    (draft) => draft.set("pulumiservice pulumi-cloud", ["apiUrl"], "https://example.com"),
    /^The provider of Pulumi Cloud: apiUrl is "https:\/\/example\.com" instead of "https:\/\/api\.pulumi\.com"\.$/,
  ],
  [
    "the same Pulumi Cloud in the provider, in a spelling that Node.js reads as this host",
    (draft) => draft.set("pulumiservice pulumi-cloud", ["apiUrl"], "https:\\\\api.pulumi.com"),
    /^The provider of Pulumi Cloud: apiUrl is /,
  ],
  [
    "a provider that could be of another Pulumi Cloud",
    (draft) => draft.set("pulumiservice pulumi-cloud", ["apiUrl"], undefined),
    /^The provider of Pulumi Cloud: apiUrl is none .* Set apiUrl of the provider to "https:\/\/api\.pulumi\.com"\.$/,
  ],
];

const OTHERS: Case[] = [
  [
    "another request in a ConfigMap",
    (draft) => draft.set(CONFIG_MAP, ["data", "tokenScope"], "team:admins"),
    /^ci\/deployer: Its request: tokenScope is "team:admins" instead of "team:a"\.$/,
  ],
  [
    "another file in a ConfigMap",
    (draft) => draft.set(CONFIG_MAP, ["binaryData"], { token: "eA==" }),
    /^ci\/deployer: Its ConfigMap has binaryData/,
  ],
  [
    "a ConfigMap that is patched elsewhere",
    (draft) =>
      draft.add("kubernetes:core/v1:ConfigMapPatch", "patch", {
        metadata: { namespace: "ci", name: "deployer-pulumi-token-exchange" },
      }),
    /^ci\/deployer: ConfigMapPatch patch has the name of its ConfigMap, and can change its request\.$/,
  ],
  [
    "a ServiceAccount that is annotated elsewhere",
    (draft) =>
      draft.add("kubernetes:core/v1:ServiceAccountPatch", "patch", {
        metadata: { namespace: "ci", name: "deployer", annotations: { "eks.amazonaws.com/role-arn": "x" } },
      }),
    /^ci\/deployer: ServiceAccountPatch patch: eks\.amazonaws\.com\/role-arn is "x" instead of "arn:/,
  ],
  [
    "a team that an entry names and the update deletes",
    (draft) => draft.delete("Team access.a", { retainOnDelete: false }),
    /^ci\/deployer: Its team "a" is deleted by this update\.$/,
  ],
  [
    "a setting of another version",
    (draft) => draft.set(COMPONENT, ["more"], true),
    /^more is a setting of another version of this project, so it is not compared\.$/,
  ],
  [
    "a secret setting",
    (draft) => draft.set(COMPONENT, ["serviceAccounts", 0, "teamName"], SECRET),
    /^serviceAccounts\.0\.teamName is secret, so what depends on it cannot be compared\.$/,
  ],
];

for (const [subject, cases] of [
  ["a trust policy with", TRUST_POLICIES],
  ["a service account with", ROLES],
  ["an allow policy with", ALLOW_POLICIES],
  ["an issuer with", ISSUERS],
  ["a plan with", OTHERS],
] as const) {
  describe(`finds ${subject}`, () => {
    for (const [what, edit, found] of cases) {
      test(what, async () => {
        const { findings } = edit(await deployedPlan()).check();
        assert.ok(
          findings.some((text) => found.test(text)),
          findings.join("\n"),
        );
      });
    }
  });
}

describe("finds in a new component", () => {
  for (const [what, edit, found] of [
    [
      "a trust policy that is not known beside known settings",
      (draft) => draft.set(IRSA, ["assumeRolePolicy"], UNKNOWN),
      /trust policy is known after the update only/,
    ],
    [
      "allow policies that are not known beside known settings",
      (draft) => draft.set(ISSUER_RESOURCE, ["policies"], UNKNOWN),
      /allow policies are known after/,
    ],
    [
      "an issuer with thumbprints",
      (draft) => draft.set(ISSUER_RESOURCE, ["thumbprints"], ["0".repeat(64)]),
      /has the thumbprint "0+"/,
    ],
    [
      "an allow policy of someone else beside one that is not known",
      (draft) =>
        draft
          .set(COMPONENT, ["serviceAccounts", 0, "teamName"], UNKNOWN)
          .set(CONFIG_MAP, ["data", "tokenScope"], UNKNOWN)
          .set(ISSUER_RESOURCE, ["policies", 0], UNKNOWN),
      /Its allow policy is known after the update only/,
    ],
    [
      "a value that is known although its setting is not",
      (draft) => draft.set(COMPONENT, ["issuerUrl"], UNKNOWN),
      /The registered issuer: url is "https:.*, and what it must be is known after the update only\.$/,
    ],
  ] satisfies Case[]) {
    test(what, async () => {
      const { findings } = edit(await newPlan()).check();
      assert.ok(
        findings.some((text) => found.test(text)),
        findings.join("\n"),
      );
    });
  }
});

/** What the program would register if one line of it were wrong. The simulator's tests run such a program. */
const BREAKS: Case[] = [
  [
    "IRSA without the audience",
    (draft) => draft.set(IRSA, [...EQUAL, `${ISSUER}:aud`], undefined),
    /:aud is none/,
  ],
  [
    "IRSA without the subject",
    (draft) => draft.set(IRSA, [...EQUAL, `${ISSUER}:sub`], undefined),
    /:sub is none/,
  ],
  [
    "IRSA with every action",
    (draft) => draft.set(IRSA, ["assumeRolePolicy", "Statement", 0, "Action"], "sts:*"),
    /Action is "sts:\*"/,
  ],
  [
    "EKS Pod Identity without the cluster",
    (draft) => draft.set(POD_IDENTITY, [...EQUAL, "aws:RequestTag/eks-cluster-arn"], undefined),
    /eks-cluster-arn is none/,
  ],
  [
    "EKS Pod Identity without the namespace",
    (draft) => draft.set(POD_IDENTITY, [...EQUAL, "aws:RequestTag/kubernetes-namespace"], undefined),
    /kubernetes-namespace is none/,
  ],
  [
    "an allow policy without the namespace",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 1, "rules", '"kubernetes.io".namespace'], undefined),
    /^ops\/drift: Its allow policy: rules\."kubernetes\.io"\.namespace is none instead of "ops"\.$/,
  ],
  [
    "an allow policy without the audience, although audienceRule",
    (draft) => draft.set(ISSUER_RESOURCE, ["policies", 0, "rules", "aud"], undefined),
    /rules\.aud is none/,
  ],
  [
    "an organization token as administrator",
    (draft) =>
      draft
        .set(ISSUER_RESOURCE, ["policies", 2, "authorizedPermissions"], ["admin"])
        .set("ConfigMap access.web.secrets.pulumi-token-exchange", ["data", "tokenScope"], "admin"),
    /^web\/secrets: Its request: tokenScope is "admin" instead of ""\.$/,
  ],
  [
    "the team of the first entry for all",
    (draft) =>
      draft
        .set(COMPONENT, ["serviceAccounts", 1, "tokenType"], "team")
        .set(COMPONENT, ["serviceAccounts", 1, "teamName"], "b")
        .set(ISSUER_RESOURCE, ["policies", 1, "teamName"], "a"),
    /^ops\/drift: Its allow policy: teamName is "a" instead of "b"\.$/,
  ],
];

describe("finds, if the program breaks,", () => {
  for (const [what, edit, found] of BREAKS) {
    test(what, async () => {
      const { findings } = edit(await newPlan()).check();
      assert.ok(
        findings.some((text) => found.test(text)),
        findings.join("\n"),
      );
    });
  }
});

/** What a program registers for the second entry, with a token of a runner pool that it creates. */
const withNewPool = (draft: Draft) =>
  draft
    .set(COMPONENT, ["serviceAccounts", 3, "runnerId"], UNKNOWN)
    .set(ISSUER_RESOURCE, ["policies", 3, "runnerID"], UNKNOWN);

/** The same cluster, before it exists. */
const withNewCluster = (draft: Draft) =>
  draft
    .set(COMPONENT, ["issuerUrl"], UNKNOWN)
    .set(COMPONENT, ["oidcProviderArn"], UNKNOWN)
    .set(COMPONENT, ["clusterArn"], UNKNOWN)
    .set(ISSUER_RESOURCE, ["url"], UNKNOWN)
    .set(ISSUER_RESOURCE, ["thumbprints"], UNKNOWN)
    .set(IRSA, ["assumeRolePolicy"], UNKNOWN)
    .set(POD_IDENTITY, ["assumeRolePolicy"], UNKNOWN)
    .set(ASSOCIATION, ["region"], UNKNOWN)
    .set(ASSOCIATION, ["clusterName"], UNKNOWN);

const OTHER_URL = "https://oidc.eks.eu-west-1.amazonaws.com/id/OTHER";

describe("finds nothing in the plan of", () => {
  for (const [what, plan, edit] of [
    ["a new component", newPlan, (draft) => draft],
    ["a deployed component that does not change", deployedPlan, (draft) => draft],
    ["a new component of a cluster that does not exist yet", newPlan, withNewCluster],
    ["a new component with a runner pool that the program creates", newPlan, withNewPool],
    [
      "a new component whose settings come from new resources",
      newPlan,
      (draft) =>
        draft
          .set(COMPONENT, ["serviceAccounts", 0, "teamName"], UNKNOWN)
          .set(CONFIG_MAP, ["data", "tokenScope"], UNKNOWN)
          .set(ISSUER_RESOURCE, ["policies", 0, "teamName"], UNKNOWN)
          .set(COMPONENT, ["permissionsBoundaryArn"], UNKNOWN)
          .set(IRSA, ["permissionsBoundary"], UNKNOWN)
          .set(POD_IDENTITY, ["permissionsBoundary"], UNKNOWN),
    ],
    [
      "an image that the update builds",
      deployedPlan,
      (draft) =>
        draft
          .set(COMPONENT, ["image"], UNKNOWN)
          .set("Job access.web.secrets", ["spec", "template", "spec", "containers", 0, "image"], UNKNOWN),
    ],
    [
      "an update from a version with other settings",
      deployedPlan,
      (draft) =>
        draft
          .setDeployed(COMPONENT, ["createTeams"], [])
          .setDeployed(COMPONENT, ["teams"], undefined)
          .setDeployed(COMPONENT, ["serviceAccounts", 0, "more"], 1),
    ],
    [
      "an imported issuer that has thumbprints already",
      newPlan,
      (draft) => {
        const imported = draft.set(ISSUER_RESOURCE, ["thumbprints"], ["0".repeat(64)]);
        imported.step(ISSUER_RESOURCE).op = "import";
        return imported;
      },
    ],
    [
      "an issuer whose certificate could not be read, and whose thumbprint a refresh has added",
      deployedPlan,
      (draft) => draft.setDeployed(ISSUER_RESOURCE, ["thumbprints"], undefined),
    ],
    [
      "an issuer of another cluster, and one of another organization",
      deployedPlan,
      (draft) =>
        draft
          .add("pulumiservice:index:OidcIssuer", "other", { organization: "acme", url: OTHER_URL })
          .add("pulumiservice:index:OidcIssuer", "not-known", { organization: "acme", url: UNKNOWN })
          .add("pulumiservice:index:OidcIssuer", "elsewhere", {
            organization: "other",
            url: `https://${ISSUER}`,
          }),
    ],
    [
      "objects with other names, and of another cluster",
      deployedPlan,
      (draft) => {
        const metadata = {
          namespace: "ci",
          name: "deployer",
          annotations: { "eks.amazonaws.com/role-arn": "x" },
        };
        return draft
          .add("kubernetes:core/v1:ConfigMap", "other", { metadata: { namespace: "ci", name: "other" } })
          .add("kubernetes:core/v1:ConfigMap", "named-by-pulumi", { metadata: { namespace: UNKNOWN } })
          .add("kubernetes:core/v1:ServiceAccount", "elsewhere", { metadata }, { provider: "urn:other::id" });
      },
    ],
    [
      "what providers add to the inputs",
      deployedPlan,
      (draft) =>
        draft
          .set(IRSA, ["__defaults"], ["forceDetachPolicies"])
          .set(IRSA, ["assumeRolePolicy"], JSON.stringify(draft.get(IRSA, "assumeRolePolicy"), null, 2))
          .set(ASSOCIATION, ["tagsAll"], { team: "a" })
          .set(ASSOCIATION, ["disableSessionTags"], false)
          .set("Team access.a", ["displayName"], "a")
          .set("Team access.a", ["members"], ["admin"])
          .set(CONFIG_MAP, ["__fieldManager"], "pulumi-kubernetes"),
    ],
    [
      "a team that leaves the program and is retained",
      deployedPlan,
      (draft) => draft.delete("Team access.a", { retainOnDelete: true }),
    ],
  ] satisfies [string, () => Promise<Draft>, (draft: Draft) => Draft][]) {
    test(what, async () => {
      assert.deepEqual(edit(await plan()).check().findings, []);
    });
  }
});

describe("finds, with the reason,", () => {
  for (const [what, edit, found] of [
    [
      "a deployed component whose cluster is replaced",
      withNewCluster,
      [
        "clusterArn is known after the update only. What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.",
        "issuerUrl is known after the update only. If the cluster's issuer becomes another one, the update stops, since a component stays where it was deployed.",
        "oidcProviderArn is known after the update only. What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.",
      ],
    ],
    [
      "a deployed service account with a runner pool that the program creates",
      withNewPool,
      [
        "web/runner: serviceAccounts.3.runnerId is known after the update only. What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.",
      ],
    ],
  ] satisfies [string, (draft: Draft) => Draft, string[]][]) {
    test(what, async () => {
      assert.deepEqual(
        edit(await deployedPlan())
          .check()
          .findings.sort(),
        found,
      );
    });
  }
});

test("reads a component that an alias renames as one", async () => {
  const renamed = (text: string) => text.replaceAll(/(?<=[:"])access(?=[."])/g, "renamed");
  const { steps } = await deployedPlan();
  const draft = new Draft(
    steps.map(({ oldState, ...step }) => {
      const oldUrn = step.urn;
      const now = JSON.parse(renamed(JSON.stringify(step)));
      return { ...now, ...(oldState && { oldState: { ...oldState, urn: oldUrn } }) };
    }),
  );
  assert.deepEqual(draft.check(), { findings: [], changes: [] });
});
