// What the access check finds in a plan: each case changes one thing of a component. breaks.test.ts changes the program.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  ASSOCIATION,
  ATTACHMENT,
  add,
  COMPONENT,
  CONFIG_MAP,
  Draft,
  deployedPlan,
  type Edit,
  INSIDE,
  IRSA,
  ISSUER,
  ISSUER_URL,
  newPlan,
  POD_IDENTITY,
  PULUMI_CLOUD,
  remove,
  SECRET,
  SERVICE_ACCOUNT,
  set,
  setDeployed,
  TEAM_A,
  UNKNOWN,
} from "./draft";

type Case = [what: string, edit: Edit | Edit[], found: RegExp];

const ADMIN_POLICY = "arn:aws:iam::aws:policy/AdministratorAccess";
const ADMIN_ROLE = "arn:aws:iam::123456789012:role/admin";
const PROVIDER_ARN = `arn:aws:iam::123456789012:oidc-provider/${ISSUER_URL}`;
const ANYONE = { Effect: "Allow", Principal: "*", Action: "*" };
const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const OTHER_URL = "https://oidc.eks.eu-west-1.amazonaws.com/id/OTHER";
const OTHER_SPELLING =
  "HTTPS://OIDC.eks.us-west-2.amazonaws.com.:443//id/EXAMPLE%44539D4633E53DE1B71EXAMPLE/";

const STATEMENT = "assumeRolePolicy.Statement.0";
const EQUAL = ["assumeRolePolicy", "Statement", 0, "Condition", "StringEquals"];
const NAME = '"kubernetes.io".serviceaccount.name';
const ROLE_ARN = ["metadata", "annotations", "eks.amazonaws.com/role-arn"];

const addStatement = (statement: object) => set(IRSA, "assumeRolePolicy.Statement.1", statement);
const addIssuer = (inputs: object, type = "pulumiservice:index:OidcIssuer") =>
  add(type, "other", { organization: "acme", ...inputs });

/** Returns an edit that replaces the trust policy by one that depends on it. */
const changeTrustPolicy = (change: (policy: string) => unknown): Edit => {
  return (draft) =>
    draft.edit(set(IRSA, "assumeRolePolicy", change(JSON.stringify(draft.get(IRSA, "assumeRolePolicy")))));
};

const TRUST_POLICIES: Case[] = [
  [
    "a statement for anyone",
    addStatement(ANYONE),
    /^ci\/deployer: Its trust policy: Statement\.1 is \{ "Effect": "Allow", "Principal": "\*", "Action": "\*" \} instead of none\.$/,
  ],
  [
    "a statement for every AWS account",
    addStatement({ ...ANYONE, Principal: { AWS: "*" } }),
    /Statement\.1 is .*"AWS": "\*"/,
  ],
  [
    "every action without a condition",
    [set(IRSA, `${STATEMENT}.Action`, "sts:*"), set(IRSA, `${STATEMENT}.Condition`)],
    /Action is "sts:\*" instead of "sts:AssumeRoleWithWebIdentity"\./,
  ],
  [
    "a second statement for the provider",
    addStatement({ ...ANYONE, Principal: { Federated: PROVIDER_ARN }, Action: "sts:*" }),
    /Statement\.1 is .*"sts:\*"/,
  ],
  [
    "no condition, for EKS Pod Identity",
    set(POD_IDENTITY, `${STATEMENT}.Condition`),
    /^ops\/drift: Its trust policy: Statement\.0\.Condition is none instead of \{/,
  ],
  [
    "an operator with wildcards",
    set(IRSA, `${STATEMENT}.Condition`, { StringLike: {} }),
    /Condition\.StringLike is \{\} instead of none\./,
  ],
  [
    "its statement as an object",
    changeTrustPolicy((it) => ({ Version: "2012-10-17", Statement: JSON.parse(it).Statement[0] })),
    /Statement is \{ .* instead of \[/,
  ],
  [
    "its statements by their indexes",
    changeTrustPolicy((it) => ({ Version: "2012-10-17", Statement: { ...JSON.parse(it).Statement } })),
    /Statement is \{ "0": .* instead of \[/,
  ],
  [
    "JSON with a statement for anyone",
    changeTrustPolicy((it) => it.replace("[", `[${JSON.stringify(ANYONE)},`)),
    /Statement\.0\.Principal is "\*"/,
  ],
  [
    "JSON that has a key twice",
    changeTrustPolicy((it) => it.replace("{", `{"Statement":[${JSON.stringify(ANYONE)}],`)),
    /Its trust policy is "\{.* instead of \{/,
  ],
  [
    "no known value",
    set(IRSA, "assumeRolePolicy", UNKNOWN),
    /Its trust policy is known after the update only, and must be \{/,
  ],
  [
    "no known key",
    set(IRSA, EQUAL, { [`${UNKNOWN}:sub`]: "system:serviceaccount:ci:deployer" }),
    /StringEquals is known after the update only/,
  ],
  ["a secret", set(IRSA, "assumeRolePolicy", SECRET), /Its trust policy is secret/],
  [
    "another subject",
    set(IRSA, [...EQUAL, `${ISSUER_URL}:sub`], "system:serviceaccount:ci:*"),
    /:sub is ".*:ci:\*" instead of ".*:ci:deployer"\./,
  ],
  [
    "another cluster",
    set(POD_IDENTITY, [...EQUAL, "aws:RequestTag/eks-cluster-arn"], "x"),
    /eks-cluster-arn is "x" instead of "arn:.*\/my-cluster"\./,
  ],
];

const ROLES: Case[] = [
  ["no role", remove(IRSA), /^ci\/deployer: It has no role, although awsRole is "irsa"\.$/],
  [
    "a role that no setting says",
    set(COMPONENT, "serviceAccounts.0.awsRole", "none"),
    /^ci\/deployer: It has a role, although awsRole is none\.$/,
  ],
  ["no association", remove(ASSOCIATION), /^ops\/drift: Its association with the role is none/],
  [
    "an association with another role",
    set(ASSOCIATION, "roleArn", ADMIN_ROLE),
    /association with the role: roleArn is ".*admin" instead of "/,
  ],
  [
    "an association that leads to another role",
    set(ASSOCIATION, "targetRoleArn", ADMIN_ROLE),
    /targetRoleArn is ".*admin" instead of none/,
  ],
  [
    "another permissions boundary",
    set(IRSA, "permissionsBoundary", ADMIN_POLICY),
    /Its permissions boundary is ".*AdministratorAccess" instead of ".*ReadOnlyAccess"/,
  ],
  [
    "another annotation",
    set(SERVICE_ACCOUNT, ROLE_ARN, "x"),
    /^ci\/deployer: Its service account: eks\.amazonaws\.com\/role-arn is "x" instead of "arn:/,
  ],
  [
    "an annotation without a role",
    set("ServiceAccount access.web.secrets", "metadata.annotations", { [`${ROLE_ARN[2]}`]: "x" }),
    /^web\/secrets: .*role-arn is "x" instead of none/,
  ],
  [
    "managed policies in the role",
    set(IRSA, "managedPolicyArns", [ADMIN_POLICY]),
    /Its role has managedPolicyArns, which no setting names: \[ ".*AdministratorAccess" \]/,
  ],
  [
    "inline policies in the role",
    set(IRSA, "inlinePolicies", UNKNOWN),
    /Its role has inlinePolicies, which no setting names: known after the update/,
  ],
  [
    "an attachment that is not its own",
    add(
      "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
      "access.ci.deployer.more",
      { policyArn: ADMIN_POLICY },
      INSIDE,
    ),
    /attaches the policy ".*AdministratorAccess", which rolePolicyArns does not list/,
  ],
  [
    "an attachment of another role",
    set(ATTACHMENT, "role", "x"),
    /Its policy ".*ReadOnlyAccess": role is "x" instead of "pulumi-oidc-ci-deployer-/,
  ],
  [
    "an inline policy inside the component",
    add("aws:iam/rolePolicy:RolePolicy", "access.ci.deployer", {}, INSIDE),
    /^RolePolicy access\.ci\.deployer is inside the component, and no part of it\.$/,
  ],
  [
    "the IAM OIDC provider of another issuer",
    [
      set(COMPONENT, "oidcProviderArn", `${PROVIDER_ARN}-2`),
      set(IRSA, `${STATEMENT}.Principal.Federated`, `${PROVIDER_ARN}-2`),
    ],
    /^oidcProviderArn is ".*-2", which is not the provider of issuerUrl/,
  ],
];

const ALLOW_POLICIES: Case[] = [
  [
    "a wildcard in a name",
    set(ISSUER, ["policies", 1, "rules", NAME], "d*"),
    /^ops\/drift: Its allow policy: rules\."kubernetes\.io"\.serviceaccount\.name is "d\*" instead of "drift"\.$/,
  ],
  [
    "a rule less",
    set(ISSUER, "policies.0.rules.aud"),
    /^ci\/deployer: Its allow policy: rules\.aud is none instead of "urn:pulumi:org:acme"\.$/,
  ],
  [
    "a rule with the name __proto__",
    set(ISSUER, "policies.1.rules.__proto__", "x"),
    /rules\.__proto__ is "x" instead of none\.$/,
  ],
  [
    "a rule with a name that a provider of AWS adds",
    set(ISSUER, "policies.1.rules.__defaults", "x"),
    /rules\.__defaults is "x"/,
  ],
  [
    "administrators",
    set(ISSUER, "policies.2.authorizedPermissions", ["admin"]),
    /^web\/secrets: Its allow policy: authorizedPermissions is \[ "admin" \] instead of none\.$/,
  ],
  [
    "a role of the organization",
    set(ISSUER, "policies.2.roleID", "x"),
    /^web\/secrets: Its allow policy: roleID is "x" instead of none\.$/,
  ],
  [
    "another team",
    set(ISSUER, "policies.0.teamName", "admins"),
    /^ci\/deployer: Its allow policy: teamName is "admins" instead of "a"\.$/,
  ],
  [
    "another one, of no one",
    set(ISSUER, "policies.4", OTHER_POLICY),
    /^An allow policy is of no service account, or is the second one of a service account: .*"mallory"/,
  ],
  [
    "itself, twice",
    (draft) => draft.edit(set(ISSUER, "policies.4", draft.get(ISSUER, "policies.0"))),
    /is the second one of a service account: .*"deploy-\*"/,
  ],
  [
    "no known value",
    set(ISSUER, "policies", UNKNOWN),
    /^The allow policies are known after the update instead of a list/,
  ],
  [
    "no known value beside others",
    set(ISSUER, "policies.1", UNKNOWN),
    /^ops\/drift: Its allow policy is known after the update only, and must be \{/,
  ],
  ["a secret", set(ISSUER, "policies", SECRET), /^The allow policies are secret/],
  [
    "a name that is not known",
    set(ISSUER, ["policies", 1, "rules", NAME], UNKNOWN),
    /\.name is known after the update only, and must be "drift"\.$/,
  ],
  ["nothing", set(ISSUER, "policies.1"), /^ops\/drift: Its allow policy is none instead of/],
  ["nothing, for all", set(ISSUER, "policies"), /^The allow policies are none instead of a list/],
];

const ISSUERS: Case[] = [
  [
    "another URL",
    set(ISSUER, "url", OTHER_URL),
    /^The registered issuer: url is ".*OTHER" instead of "https:\/\/oidc\.eks\.us-west-2/,
  ],
  [
    "another limit",
    set(ISSUER, "maxExpirationSeconds", 86_400),
    /^The registered issuer: maxExpirationSeconds is 86400 instead of 7200\.$/,
  ],
  [
    "someone's thumbprints",
    set(ISSUER, "thumbprints.1", "0".repeat(64)),
    /^The registered issuer has the thumbprint "0{64}", which the component does not choose/,
  ],
  [
    "a secret thumbprint beside a secret one",
    [set(ISSUER, "thumbprints.0", SECRET), setDeployed(ISSUER, "thumbprints.0", SECRET)],
    /^The registered issuer has the thumbprint secret/,
  ],
  [
    "keys of its own",
    set(ISSUER, "jwks", { keys: [] }),
    /^The registered issuer: jwks is \{ "keys": \[\] \} instead of none\.$/,
  ],
  [
    "a second one inside the component",
    add("pulumiservice:index:OidcIssuer", "access.second", {}, INSIDE),
    /^OidcIssuer access\.second is inside the component, and no part of it\.$/,
  ],
  [
    "a second one, with another spelling of the URL",
    addIssuer({ url: OTHER_SPELLING }),
    /^OidcIssuer other registers the cluster's issuer a second time, as "HTTPS:/,
  ],
  [
    "a second one, whose organization is a path",
    addIssuer({ organization: "x/../acme", url: `https://${ISSUER_URL}` }),
    /^OidcIssuer other registers the cluster's issuer a second time/,
  ],
  [
    "a second one, whose URL is secret",
    addIssuer({ url: SECRET }),
    /^OidcIssuer other registers an issuer whose URL is secret/,
  ],
  [
    "a second one, by the second interface",
    addIssuer(
      { organization: undefined, orgName: "Acme", url: `https://${ISSUER_URL}` },
      "pulumiservice:api/auth:OidcIssuer",
    ),
    /^OidcIssuer other registers the cluster's issuer a second time/,
  ],
  [
    "policies by the second interface",
    addIssuer({ policies: [] }, "pulumiservice:api/auth:Policy"),
    /^Policy other can replace the allow policies of the registered issuer\.$/,
  ],
  [
    "policies by the second interface of another version",
    addIssuer({ policies: [] }, "pulumiservice:v1/auth:Policy"),
    /^Policy other can replace the allow policies of the registered issuer\.$/,
  ],
  [
    "another Pulumi Cloud in the provider",
    set(PULUMI_CLOUD, "apiUrl", "https://example.com"),
    /^The provider of Pulumi Cloud: apiUrl is "https:\/\/example\.com" instead of "https:\/\/api\.pulumi\.com"\.$/,
  ],
  [
    "a URL that only Node.js reads as that of Pulumi Cloud",
    set(PULUMI_CLOUD, "apiUrl", "https:\\\\api.pulumi.com"),
    /^The provider of Pulumi Cloud: apiUrl is /,
  ],
  [
    "a provider that could be of another Pulumi Cloud",
    set(PULUMI_CLOUD, "apiUrl"),
    /apiUrl is none .* Set apiUrl of the provider to "https:\/\/api\.pulumi\.com"\.$/,
  ],
];

const metadata = (name: string) => ({
  metadata: { namespace: "ci", name, annotations: { [`${ROLE_ARN[2]}`]: "x" } },
});
const OTHERS: Case[] = [
  [
    "another request in a ConfigMap",
    set(CONFIG_MAP, "data.tokenScope", "team:admins"),
    /^ci\/deployer: Its request: tokenScope is "team:admins" instead of "team:a"\.$/,
  ],
  [
    "another file in a ConfigMap",
    set(CONFIG_MAP, "binaryData", { token: "eA==" }),
    /^ci\/deployer: Its ConfigMap has binaryData/,
  ],
  [
    "a ConfigMap that is patched elsewhere",
    add("kubernetes:core/v1:ConfigMapPatch", "patch", metadata("deployer-pulumi-token-exchange")),
    /^ci\/deployer: ConfigMapPatch patch has the name of its ConfigMap, and can change its request\.$/,
  ],
  [
    "a ConfigMap that is patched under a name that is not known",
    add("kubernetes:v1:ConfigMapPatch", "patch", metadata(UNKNOWN)),
    /^ci\/deployer: ConfigMapPatch patch has the name/,
  ],
  [
    "a ServiceAccount that is annotated elsewhere",
    add("kubernetes:core/v1:ServiceAccountPatch", "patch", metadata("deployer")),
    /^ci\/deployer: ServiceAccountPatch patch: eks\.amazonaws\.com\/role-arn is "x" instead of "arn:/,
  ],
  [
    "a team that an entry names and the update deletes",
    remove(TEAM_A, { retainOnDelete: false }),
    /^ci\/deployer: Its team "a" is deleted by this update\.$/,
  ],
  [
    "a token of a team inside the component",
    add(
      "pulumiservice:index:TeamAccessToken",
      "access.token",
      { organizationName: "acme", teamName: "a" },
      INSIDE,
    ),
    /^TeamAccessToken access\.token is inside the component, and no part of it\.$/,
  ],
  [
    "a Job although runJob is false",
    set(COMPONENT, "serviceAccounts.0.runJob", false),
    /^ci\/deployer: It has a Job, although runJob is false\.$/,
  ],
  [
    "a setting of another version",
    set(COMPONENT, "more", true),
    /^more is a setting of another version of this project, so it is not compared\.$/,
  ],
  [
    "a secret setting",
    set(COMPONENT, "serviceAccounts.0.teamName", SECRET),
    /^serviceAccounts\.0\.teamName is secret, so what depends on it cannot be compared\.$/,
  ],
];

const ofTeam = (...edits: Edit[]) => [
  set(COMPONENT, "serviceAccounts.0.teamName", UNKNOWN),
  set(CONFIG_MAP, "data.tokenScope", UNKNOWN),
  ...edits,
];
const IN_NEW: Case[] = [
  [
    "a trust policy that is not known beside known settings",
    set(IRSA, "assumeRolePolicy", UNKNOWN),
    /trust policy is known after the update only/,
  ],
  [
    "allow policies that are not known beside known settings",
    set(ISSUER, "policies", UNKNOWN),
    /allow policies are known after/,
  ],
  [
    "more that is not known than its setting",
    ofTeam(set(ISSUER, "policies.0", UNKNOWN)),
    /Its allow policy is known after the update only/,
  ],
  [
    "a value that is known although its setting is not",
    set(COMPONENT, "issuerUrl", UNKNOWN),
    /url is "https:.*, and what it must be is known after the update only\.$/,
  ],
  [
    "a rule less beside rules that are not known",
    [
      set(COMPONENT, "serviceAccounts.0.policyRules", UNKNOWN),
      set(ISSUER, ["policies", 0, "rules", '"kubernetes.io".pod.name']),
    ],
    /Its allow policy: rules is \{ .*, and what it must be is known after the update only\.$/,
  ],
  [
    "no rule for an audience where it is not known whether there must be one",
    [set(COMPONENT, "serviceAccounts.0.audienceRule", UNKNOWN), set(ISSUER, "policies.0.rules.aud")],
    /Its allow policy: rules is \{ .*, and what it must be is known after the update only\.$/,
  ],
  ["an issuer with thumbprints", set(ISSUER, "thumbprints", ["0".repeat(64)]), /has the thumbprint "0+"/],
];

for (const [where, plan, cases] of [
  ["a trust policy with", deployedPlan, TRUST_POLICIES],
  ["a service account with", deployedPlan, ROLES],
  ["an allow policy with", deployedPlan, ALLOW_POLICIES],
  ["an issuer with", deployedPlan, ISSUERS],
  ["a plan with", deployedPlan, OTHERS],
  ["a new component with", newPlan, IN_NEW],
] as const) {
  describe(`finds ${where}`, () => {
    for (const [what, edit, found] of cases) {
      test(what, async () => {
        const { findings } = (await plan(...[edit].flat())).check();
        assert.ok(
          findings.some((text) => found.test(text)),
          findings.join("\n"),
        );
      });
    }
  });
}

/** A runner pool that the program creates: its ID is not known. */
const NEW_POOL = [
  set(COMPONENT, "serviceAccounts.3.runnerId", UNKNOWN),
  set(ISSUER, "policies.3.runnerID", UNKNOWN),
];

/** A cluster that the program creates, or replaces. */
const NEW_CLUSTER = [
  ...["issuerUrl", "oidcProviderArn", "clusterArn"].map((name) => set(COMPONENT, name, UNKNOWN)),
  ...["url", "thumbprints"].map((name) => set(ISSUER, name, UNKNOWN)),
  ...["region", "clusterName"].map((name) => set(ASSOCIATION, name, UNKNOWN)),
  ...[IRSA, POD_IDENTITY].map((role) => set(role, "assumeRolePolicy", UNKNOWN)),
];

const NEW_BOUNDARY = [
  set(COMPONENT, "permissionsBoundaryArn", UNKNOWN),
  ...[IRSA, POD_IDENTITY].map((role) => set(role, "permissionsBoundary", UNKNOWN)),
];

describe("finds nothing in the plan of", () => {
  for (const [what, plan, edits] of [
    ["a new component", newPlan, []],
    ["a deployed component that does not change", deployedPlan, []],
    ["a new component of a cluster that does not exist yet", newPlan, NEW_CLUSTER],
    ["a new component with a runner pool that the program creates", newPlan, NEW_POOL],
    [
      "a new component whose settings come from new resources",
      newPlan,
      [...ofTeam(set(ISSUER, "policies.0.teamName", UNKNOWN)), ...NEW_BOUNDARY],
    ],
    [
      "an image that the update builds",
      deployedPlan,
      [
        set(COMPONENT, "image", UNKNOWN),
        set("Job access.web.secrets", "spec.template.spec.containers.0.image", UNKNOWN),
      ],
    ],
    [
      "an update from a version with other settings",
      deployedPlan,
      [
        setDeployed(COMPONENT, "createTeams", []),
        setDeployed(COMPONENT, "teams"),
        setDeployed(COMPONENT, "serviceAccounts.0.more", 1),
      ],
    ],
    ["an issuer whose thumbprint a refresh has added", deployedPlan, [setDeployed(ISSUER, "thumbprints")]],
    [
      "an issuer of another cluster, one whose URL is not known, and one of another organization",
      deployedPlan,
      [
        addIssuer({ url: OTHER_URL }),
        addIssuer({ url: UNKNOWN }),
        addIssuer({ organization: "other", url: `https://${ISSUER_URL}` }),
      ],
    ],
    [
      "objects with other names, and of another cluster",
      deployedPlan,
      [
        add("kubernetes:core/v1:ConfigMap", "other", metadata("other")),
        add("kubernetes:core/v1:ConfigMap", "named-by-pulumi", { metadata: { namespace: UNKNOWN } }),
        add("kubernetes:core/v1:ServiceAccount", "elsewhere", metadata("deployer"), {
          provider: "urn:other::id",
        }),
      ],
    ],
    [
      "what providers add to the inputs",
      deployedPlan,
      [
        set(IRSA, "__defaults", ["forceDetachPolicies"]),
        changeTrustPolicy((it) => JSON.stringify(JSON.parse(it), null, 2)),
        set(ASSOCIATION, "tagsAll", { team: "a" }),
        set(ASSOCIATION, "disableSessionTags", false),
        set(TEAM_A, "displayName", "a"),
        set(CONFIG_MAP, "__fieldManager", "pulumi-kubernetes"),
        set(ISSUER, "policies.2.authorizedPermissions", []),
      ],
    ],
    [
      "a team that leaves the program and is retained",
      deployedPlan,
      [remove(TEAM_A, { retainOnDelete: true })],
    ],
  ] satisfies [string, typeof newPlan, Edit[]][]) {
    test(what, async () => {
      assert.deepEqual((await plan(...edits)).check().findings, []);
    });
  }
});

const FIRST =
  "What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.";
describe("finds, with the reason,", () => {
  for (const [what, edits, found] of [
    [
      "a deployed component whose cluster is replaced",
      NEW_CLUSTER,
      [
        `clusterArn is known after the update only. ${FIRST}`,
        "issuerUrl is known after the update only. If the cluster's issuer becomes another one, the update stops, since a component stays where it was deployed.",
        `oidcProviderArn is known after the update only. ${FIRST}`,
      ],
    ],
    [
      "a deployed service account with a runner pool that the program creates",
      NEW_POOL,
      [`web/runner: serviceAccounts.3.runnerId is known after the update only. ${FIRST}`],
    ],
  ] satisfies [string, Edit[], string[]][]) {
    test(what, async () => {
      assert.deepEqual((await deployedPlan(...edits)).check().findings.sort(), found);
    });
  }
});

test("shows the thumbprints that an imported issuer has already, and does not find them", async () => {
  const draft = await newPlan(set(ISSUER, "thumbprints", ["0".repeat(64)]));
  draft.step(ISSUER).op = "import";
  const { findings, changes } = draft.check();
  assert.deepEqual(findings, []);
  assert.ok(changes.includes(`new OIDC issuer: thumbprints 0: ${"0".repeat(64)}`));
});

test("reads a component that an alias renames as one", async () => {
  const { steps } = await deployedPlan();
  const renamed = steps.map(({ oldState, ...step }) => {
    const now = JSON.parse(JSON.stringify(step).replaceAll(/(?<=[:"])access(?=[."])/g, "renamed"));
    return { ...now, ...(oldState && { oldState: { ...oldState, urn: step.urn } }) };
  });
  assert.deepEqual(new Draft(renamed).check(), { findings: [], changes: [] });
});
