// What each rule reports, as a table: changes of a program that the rules pass, and the violations. everyValue.test.ts changes the
// values that this table leaves out, and policy.engine.test.ts runs the pack on the engine.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { policies } from "../../policy/index";
import { type Fields, UNKNOWN } from "../../policy/values";
import {
  ASSOCIATION,
  ATTACHMENT,
  add,
  BINDING,
  COMPONENT,
  CONFIG_MAP,
  change,
  deployedStack,
  type Edit,
  INJECTION,
  INSIDE,
  IRSA,
  ISSUER,
  ISSUER_URL,
  JOB,
  keepOnly,
  newStack,
  POD_IDENTITY,
  PULUMI_CLOUD,
  READ_ONLY,
  SERVICE_ACCOUNT,
  set,
  setExisting,
  stackWith,
  useProvider,
} from "./draft";

const ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess";
const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const PROVIDER_ARN = `arn:aws:iam::123456789012:oidc-provider/${ISSUER_URL}`;
const OTHER_SPELLING =
  "HTTPS://OIDC.eks.us-west-2.amazonaws.com.:443//ID/EXAMPLE%44539D4633E53DE1B71EXAMPLE/";
const TOKEN = `pul-${"0".repeat(40)}`;
const CONTAINER = "spec.template.spec.containers.0";
const ROLE_POLICY = "aws:iam/rolePolicyAttachment:RolePolicyAttachment";
const RBAC = "kubernetes:rbac.authorization.k8s.io/v1";

/** Changes of a program, and what is reported. */
interface Case {
  of: string;
  edits: Edit[];
  reports: string[];
  /** Where all changes are, by default in what is deployed. */
  stack?: typeof newStack;
  level?: "advisory";
}

const CASES: Case[] = [
  {
    of: "a component of another version, whatever else is different in it",
    edits: [set(COMPONENT, "sources", "0123456789abcdef"), set(ISSUER, "policies", [])],
    reports: [
      "same-version access: It is of another commit than this pack: the checksum of its source files is ",
    ],
  },
  {
    of: "resources of a component without inputs",
    edits: [change(COMPONENT, { inputs: {} }), keepOnly(COMPONENT, ISSUER)],
    reports: ["same-version access.oidc-issuer: access has no inputs, so nothing of it was compared. Unset "],
  },
  {
    of: "an admin, and tokens that live too long",
    edits: [
      set(COMPONENT, "serviceAccounts.2.organizationAdmin", true),
      set(COMPONENT, "maxExpirationSeconds", 43_200),
      set(ISSUER, "policies.2.authorizedPermissions", ["admin"]),
      set(ISSUER, "maxExpirationSeconds", 43_200),
      set("ConfigMap access.web.secrets.pulumi-token-exchange", "data.tokenScope", "admin"),
    ],
    reports: [
      'limits access: web/secrets gets the token of an admin. To allow it, add it to organizationAdmins of "limits".',
      "limits access: Access tokens live for up to 43200 s instead of 3600 s. To allow it, set maxExpirationSeconds of ",
    ],
  },
  {
    of: "an admin and an unlimited lifetime by values of other types",
    edits: [
      set(COMPONENT, "serviceAccounts.2.organizationAdmin", 1),
      set(COMPONENT, "maxExpirationSeconds", false),
      keepOnly(COMPONENT),
    ],
    reports: [
      'limits access: web/secrets gets the token of an admin. To allow it, add it to organizationAdmins of "limits".',
      "limits access: Access tokens live for up to false s instead of 3600 s. To allow it, set maxExpirationSeconds of ",
    ],
  },
  {
    of: "issuers of a service account whose name is written as a pattern",
    edits: ["system.serviceaccount.team-a.app", ".ystem:serviceaccount:team-a:app", ".".repeat(34)].map(
      (sub, index) =>
        add("pulumiservice:index:OidcIssuer", `other-${index}`, {
          url: `https://example.com/${index}`,
          policies: [{ decision: "allow", rules: { sub, aud: "urn:pulumi:org:acme" } }],
        }),
    ),
    reports: [0, 1, 2].map(
      (index) =>
        `service-accounts-have-component other-${index}: It grants access tokens to service accounts, and is in no component. `,
    ),
  },
  {
    of: "names and audiences that an allow policy reads as patterns",
    edits: [
      set(COMPONENT, "serviceAccounts.2.name", "secrets.x"),
      set(COMPONENT, "serviceAccounts.3.tokenAudience", "*"),
      keepOnly(COMPONENT),
    ],
    reports: [
      'literal-names access: The name "secrets.x" can be a pattern.',
      'literal-names access: The tokenAudience "*" can be a pattern.',
    ],
  },
  {
    of: "an issuer of something else that allows anyone",
    edits: [
      add("pulumiservice:index:OidcIssuer", "other", {
        url: "https://token.actions.githubusercontent.com",
        policies: [
          { decision: "allow", rules: { sub: "repo:acme/*", aud: "urn:pulumi:org:acme" } },
          { decision: "deny", rules: { sub: "*" } },
          { decision: "allow", rules: { sub: "repo:acme/a", aud: "urn:pulumi:org:acme" } },
        ],
      }),
      add("pulumiservice:index:OidcIssuer", "unknown", { url: "https://x", policies: UNKNOWN }),
    ],
    reports: [
      'literal-names other: An allow policy does not name a subject and an audience: {"decision":"allow","rules":{"sub":"repo:acme/*",',
      "literal-names unknown: Its allow policies are known after the update.",
    ],
  },
  {
    of: "an allow policy for another namespace, and one more",
    edits: [
      set(ISSUER, ["policies", 1, "rules", '"kubernetes.io".namespace'], "*"),
      set(ISSUER, "policies.4", { decision: "allow", tokenType: "organization", rules: {} }),
    ],
    reports: [
      "allow-policies access.oidc-issuer: ops/drift has 0 allow policies instead of 1.",
      'allow-policies access.oidc-issuer: An allow policy is for no service account of the settings: {"decision":"allow","rules":{',
      'allow-policies access.oidc-issuer: An allow policy is for no service account of the settings: {"decision":"allow","tokenType":"organizati',
    ],
  },
  {
    of: "another owner, and a rule that is missing",
    edits: [
      set(ISSUER, "policies.0.teamName", "b"),
      set(ISSUER, "policies.2.authorizedPermissions", ["admin"]),
      set(ISSUER, "policies.3.rules.aud"),
      set(ISSUER, "maxExpirationSeconds", 86_400),
    ],
    reports: [
      "allow-policies access.oidc-issuer: The issuer's maxExpirationSeconds is 86400 instead of 3600.",
      'allow-policies access.oidc-issuer: The allow policy of ci/deployer: teamName is "b" instead of "a".',
      'allow-policies access.oidc-issuer: The allow policy of web/secrets: authorizedPermissions is ["admin"] instead of missing.',
      'allow-policies access.oidc-issuer: The allow policy of web/runner: rules.aud is missing instead of "urn:pulumi:org:acme".',
    ],
  },
  {
    of: "a value that contains an access token, without the token",
    edits: [set(ISSUER, "policies.0.teamName", TOKEN)],
    reports: [
      'allow-policies access.oidc-issuer: The allow policy of ci/deployer: teamName is "pul-…" instead of "a".',
    ],
  },
  {
    of: "an unknown value whose setting is known, and not one whose setting is unknown",
    stack: newStack,
    edits: [
      set(ISSUER, "policies.0.teamName", UNKNOWN),
      set(COMPONENT, "serviceAccounts.3.runnerId", UNKNOWN),
      set(ISSUER, "policies.3.runnerID", UNKNOWN),
    ],
    reports: [
      'allow-policies access.oidc-issuer: The allow policy of ci/deployer: teamName is known after the update instead of "a".',
    ],
  },
  {
    of: "policies that are unknown as a whole",
    stack: newStack,
    edits: [set(ISSUER, "policies", UNKNOWN)],
    reports: [
      "allow-policies access.oidc-issuer: The allow policies are known after the update, and not a list.",
    ],
  },
  {
    of: "a second issuer of the URL, one of an unknown URL, and what replaces policies",
    edits: [
      // One spelling of many, and a name that another interface does not use.
      add("pulumiservice:api/auth:OidcIssuer", "again", { organization: "other", url: OTHER_SPELLING }),
      add("pulumiservice:api/auth:OidcIssuer", "unknown", { url: UNKNOWN }),
      add("pulumiservice:api/auth:Policy", "policies", { policyId: "x" }),
    ],
    reports: [
      `one-issuer again: "${OTHER_SPELLING}" is also the URL of the issuer access.oidc-issuer.`,
      "one-issuer unknown: Its URL is known after the update, and can be that of a component's issuer.",
      "one-issuer policies: It can replace the allow policies of an issuer.",
    ],
  },
  {
    of: "tokens for service accounts without settings, and what looks like a component",
    edits: [
      add("eks-pulumi-oidc:index:pulumiCloudAccess", "access2", { serviceAccounts: [] }),
      add("pulumiservice:index:OidcIssuer", "by-hand", {
        url: "https://x",
        policies: [
          { decision: "allow", tokenType: "team", rules: { sub: "system:serviceaccount:a:b", aud: "x" } },
        ],
      }),
      add("pulumiservice:index:OidcIssuer", "quoted", {
        url: "https://y",
        policies: [
          { decision: "allow", rules: { sub: "a", aud: "x", '"sub"': "system:serviceaccount:a:b" } },
        ],
      }),
    ],
    reports: [
      'service-accounts-have-component access2: Its type is "eks-pulumi-oidc:index:pulumiCloudAccess" instead of ',
      "service-accounts-have-component by-hand: It grants access tokens to service accounts, and is in no component. ",
      "service-accounts-have-component quoted: It grants access tokens to service accounts, and is in no component. ",
    ],
  },
  {
    of: "another URL for the token of the login",
    edits: [set(PULUMI_CLOUD, "apiUrl", "https://example.com")],
    reports: [
      'providers access.oidc-issuer: apiUrl of its provider is "https://example.com" instead of "https://api.pulumi.com".',
    ],
  },
  {
    of: "another provider of Pulumi Cloud for one resource, with another plugin",
    edits: [
      useProvider(ISSUER, "pulumi:providers:pulumiservice", "mine", {
        apiUrl: "https://api.pulumi.com/",
        pluginDownloadURL: "https://example.com",
      }),
    ],
    reports: [
      'providers access.oidc-issuer: pluginDownloadURL of its provider is "https://example.com" instead of missing.',
    ],
  },
  {
    of: "a provider of Pulumi Cloud that is not in the program",
    edits: [change(ISSUER, { provider: undefined })],
    reports: ["providers access.oidc-issuer: Its provider is not in the program."],
  },
  {
    of: "another token than that of the login",
    edits: [
      useProvider(ISSUER, "pulumi:providers:pulumiservice", "mine", {
        apiUrl: "https://api.pulumi.com",
        accessToken: "x",
      }),
    ],
    reports: [
      "providers access.oidc-issuer: Its provider has an accessToken, and sends that instead of the login's.",
    ],
  },
  {
    of: "the Kubernetes provider of another cluster for one resource",
    edits: [useProvider(JOB, "pulumi:providers:kubernetes", "mine", { kubeconfig: "{}" })],
    reports: [
      "providers access.ci.deployer: Its provider is urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:kubernetes::mine, and that of access.ops is urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:kubernetes::cluster.",
    ],
  },
  {
    of: "trust policies of the component",
    edits: [
      set(IRSA, "assumeRolePolicy.Statement.1", { Effect: "Allow", Principal: "*", Action: "*" }),
      set(
        POD_IDENTITY,
        [
          "assumeRolePolicy",
          "Statement",
          0,
          "Condition",
          "StringEquals",
          "aws:RequestTag/kubernetes-namespace",
        ],
        "*",
      ),
    ],
    reports: [
      'trust-policies access.ci.deployer: The trust policy of ci/deployer: Statement.1 is {"Effect":"Allow","Principal":"*","Action":"*"} instead of missing.',
      'trust-policies access.ops.drift: The trust policy of ops/drift: Statement.0.Condition.StringEquals.aws:RequestTag/kubernetes-namespace is "*" instead of "ops".',
    ],
  },
  {
    of: "an unknown trust policy, although the cluster is known",
    stack: newStack,
    edits: [set(IRSA, "assumeRolePolicy", UNKNOWN)],
    reports: [
      'trust-policies access.ci.deployer: The trust policy of ci/deployer is known after the update instead of {"Version":',
    ],
  },
  {
    of: "another role that every pod of the cluster can assume",
    edits: [
      role("open", PROVIDER_ARN, { StringLike: { [`${ISSUER_URL}:sub`]: "*" } }),
      role("narrow", PROVIDER_ARN, {
        StringEquals: {
          [`${ISSUER_URL}:sub`]: "system:serviceaccount:a:b",
          [`${ISSUER_URL}:aud`]: "sts.amazonaws.com",
        },
      }),
    ],
    reports: [
      'trust-policies open: Its trust policy does not require one value of ":sub" by StringEquals.',
      'trust-policies open: Its trust policy does not require one value of ":aud" by StringEquals.',
    ],
  },
  {
    of: "another role that every pod of the cluster can assume, registered before the component",
    edits: [
      role("open", PROVIDER_ARN, { StringEquals: { [`${ISSUER_URL}:aud`]: "sts.amazonaws.com" } }),
      ({ resources }) => resources.unshift(...resources.splice(-1)),
    ],
    reports: [
      'trust-policies access: The role open: Its trust policy does not require one value of ":sub" by StringEquals.',
    ],
  },
  {
    of: "a Job that no update waits for",
    edits: [
      set(JOB, "spec.suspend", true),
      set(JOB, ["metadata", "annotations", "pulumi.com/skipAwait"], "true"),
    ],
    reports: [
      "job access.ci.deployer: The Job of ci/deployer: suspend is true instead of missing.",
      'job access.ci.deployer: The Job of ci/deployer: pulumi.com/skipAwait is "true" instead of missing.',
    ],
  },
  {
    of: "another role that everyone of another OIDC provider can assume",
    level: "advisory",
    edits: [
      role("github", "arn:aws:iam::1:oidc-provider/token.actions.githubusercontent.com", {
        StringEquals: { "token.actions.githubusercontent.com:aud": "sts.amazonaws.com" },
        StringLike: { "token.actions.githubusercontent.com:sub": "repo:acme/*" },
      }),
    ],
    reports: [
      'other-trust-policies github: Its trust policy does not require one value of ":sub" by StringEquals.',
    ],
  },
  {
    of: "a role with other policies, or without its boundary",
    edits: [
      set(IRSA, "managedPolicyArns", [ADMIN]),
      set(IRSA, "inlinePolicies", []),
      set(POD_IDENTITY, "permissionsBoundary"),
      set(ATTACHMENT, "policyArn", ADMIN),
    ],
    reports: [
      "role-permissions access.ci.deployer: The role of ci/deployer: inlinePolicies is [] instead of missing.",
      `role-permissions access.ci.deployer: The role of ci/deployer: managedPolicyArns is ["${ADMIN}"] instead of missing.`,
      `role-permissions access.ci.deployer.${READ_ONLY}: The role of ci/deployer: policyArn is "${ADMIN}" instead of "${READ_ONLY}".`,
      `role-permissions access.ops.drift: The role of ops/drift: permissionsBoundary is missing instead of "${READ_ONLY}".`,
    ],
  },
  {
    of: "the role of someone else",
    edits: [
      set(ATTACHMENT, "role", "other"),
      set(ASSOCIATION, "roleArn", "arn:other"),
      set(SERVICE_ACCOUNT, ["metadata", "annotations", "eks.amazonaws.com/role-arn"], "arn:other"),
    ],
    reports: [
      'own-roles access.ci.deployer: It does not use the role of ci/deployer, but "arn:other".',
      `own-roles access.ci.deployer.${READ_ONLY}: It does not use the role of ci/deployer, but "other".`,
      'own-roles access.ops.drift: It does not use the role of ops/drift, but "arn:other".',
    ],
  },
  {
    of: "the role of someone else, whose name is unknown",
    stack: newStack,
    edits: [
      change(ATTACHMENT, { propertyDependencies: { role: ["urn:other"] } }),
      change(ASSOCIATION, { propertyDependencies: {} }),
    ],
    reports: [
      `own-roles access.ci.deployer.${READ_ONLY}: It does not use the role of ci/deployer, but that of urn:other.`,
      "own-roles access.ops.drift: It does not use the role of ops/drift, but that of no resource.",
    ],
  },
  {
    of: "an association of another service account",
    edits: [
      set(ASSOCIATION, "serviceAccount", "other"),
      set(ASSOCIATION, "targetRoleArn", "arn:other"),
      set(ASSOCIATION, "clusterName", "other"),
    ],
    reports: [
      'associations access.ops.drift: The association of ops/drift: clusterName is "other" instead of "my-cluster".',
      'associations access.ops.drift: The association of ops/drift: serviceAccount is "other" instead of "drift".',
      'associations access.ops.drift: The association of ops/drift: targetRoleArn is "arn:other" instead of missing.',
    ],
  },
  {
    of: "objects of another service account, and another identity",
    edits: [
      set("ServiceAccount access.web.secrets", "metadata.annotations", {
        "iam.gke.io/gcp-service-account": "x",
      }),
      set("ServiceAccount access.web.runner", "metadata.name", "default"),
      set("ServiceAccount access.ops.drift", "metadata.annotations", UNKNOWN),
      set(JOB, "metadata.namespace", "kube-system"),
      set("Namespace access.ops", "metadata.name", "web"),
    ],
    reports: [
      'own-objects access.ci.deployer: Its namespace is "kube-system" instead of "ci".',
      'own-objects access.ops: Its name is "web" instead of "ops".',
      "own-objects access.ops.drift: Its annotations are known after the update, and can be an identity.",
      'own-objects access.web.runner: Its name is "default" instead of "runner".',
      "own-objects access.web.secrets: The annotation iam.gke.io/gcp-service-account gives the pods of web/secrets another identity.",
    ],
  },
  {
    of: "another script, and another request",
    edits: [
      set(CONFIG_MAP, ["data", "exchange-token.sh"], "curl example.com"),
      set(CONFIG_MAP, "data.tokenExpirationSeconds", "86400"),
      set(CONFIG_MAP, "data.more", "confidential"),
      set(CONFIG_MAP, "binaryData", { "exchange-token.sh": "x" }),
    ],
    reports: [
      "exchange-request access.ci.deployer.pulumi-token-exchange: ci/deployer runs another exchange-token.sh: SHA-256 ",
      "exchange-request access.ci.deployer.pulumi-token-exchange: The request of ci/deployer: binaryData is set, which no setting requires.",
      "exchange-request access.ci.deployer.pulumi-token-exchange: The request of ci/deployer: more is set, which no setting requires.",
      'exchange-request access.ci.deployer.pulumi-token-exchange: The request of ci/deployer: tokenExpirationSeconds is "86400" instead of "3600".',
    ],
  },
  {
    of: "a Job that runs something else",
    edits: [
      set(JOB, `${CONTAINER}.command`, ["sh"]),
      set(JOB, `${CONTAINER}.image`, "example.com/image:1"),
      set(JOB, `${CONTAINER}.env.4`, { name: "LD_PRELOAD", value: "/tmp/x" }),
      set(JOB, "spec.template.spec.initContainers", [{ name: "first" }]),
      set(JOB, "spec.template.spec.volumes.1.projected.sources.0.configMap.name", "other"),
    ],
    reports: [
      'job access.ci.deployer: The pod of the Job of ci/deployer: containers.0.command.0 is "sh" instead of "/var/run/secrets/pulumi.com/exchange-token.sh".',
      "job access.ci.deployer: The pod of the Job of ci/deployer: containers.0.env.4 is set, which no setting requires.",
      'job access.ci.deployer: The pod of the Job of ci/deployer: containers.0.image is "example.com/image:1" instead of "pulumi/pulumi-base:3.274.1".',
      "job access.ci.deployer: The pod of the Job of ci/deployer: initContainers is set, which no setting requires.",
      'job access.ci.deployer: The pod of the Job of ci/deployer: volumes.1.projected.sources.0.configMap.name is "other" instead of "deployer-pulumi-token-exchange".',
    ],
  },
  {
    of: "an admission policy for other pods, that adds something else",
    edits: [
      set(INJECTION, "spec.matchConditions.0.expression", "true"),
      set(INJECTION, "spec.matchConstraints.namespaceSelector", {}),
      set(INJECTION, "spec.mutations.1", { patchType: "JSONPatch" }),
      set(BINDING, "spec.policyName", "other"),
      set(BINDING, "spec.paramRef", { name: "x" }),
    ],
    reports: [
      'injection access.inject-token: The admission policy: matchConditions.0.expression is "true" instead of "request.namespace + \'/\' ',
      "injection access.inject-token: The admission policy: matchConstraints.namespaceSelector.matchExpressions is missing instead of ",
      "injection access.inject-token: The admission policy: mutations.1 is set, which no setting requires.",
      'injection access.inject-token: The binding: policyName is "other" instead of "access-inject-token-9eb00901".',
      "injection access.inject-token: The binding: paramRef is set, which no setting requires.",
    ],
  },
  {
    of: "what no setting requires",
    edits: [
      add("aws:iam/rolePolicy:RolePolicy", "access.ci.deployer.more", { policy: "{}" }, INSIDE),
      add("aws:iam/role:Role", "access.web.secrets", { assumeRolePolicy: UNKNOWN }, INSIDE),
      add("command:local:Command", "anything", { create: "true" }, INSIDE),
    ],
    reports: [
      "nothing-else access.ci.deployer.more: No setting requires it.",
      "nothing-else access.web.secrets: No setting requires it.",
      "nothing-else anything: No setting requires it.",
      "role-permissions access.web.secrets: The role of web/secrets: permissionsBoundary is missing instead of ",
      "trust-policies access.web.secrets: The trust policy of web/secrets is known after the update instead of ",
    ],
  },
  {
    of: "changes that the program ignores",
    edits: [
      change(ISSUER, { ignoreChanges: ["thumbprints", "policies[0]"] }),
      change(IRSA, { ignoreChanges: ["assumeRolePolicy"] }),
    ],
    reports: [
      "nothing-ignored access.ci.deployer: It ignores changes of assumeRolePolicy.",
      "nothing-ignored access.oidc-issuer: It ignores changes of policies[0].",
    ],
  },
  {
    of: "stored tokens",
    level: "advisory",
    edits: [
      add("kubernetes:core/v1:Secret", "a", { data: { x: Buffer.from(TOKEN).toString("base64") } }),
      add("kubernetes:core/v1:Secret", "b", { stringData: { PULUMI_ACCESS_TOKEN: UNKNOWN } }),
      add("kubernetes:apps/v1:Deployment", "c", {
        spec: {
          template: { spec: { containers: [{ env: [{ value: "x", name: "PULUMI_ACCESS_TOKEN" }] }] } },
        },
      }),
      add("pulumiservice:index:OrgAccessToken", "d", { admin: true }),
    ],
    reports: [
      "no-stored-token a: It contains an access token.",
      "no-stored-token b: It gives a workload the variable PULUMI_ACCESS_TOKEN.",
      "no-stored-token c: It gives a workload the variable PULUMI_ACCESS_TOKEN.",
      "no-stored-token d: It is an access token, and stored in the state.",
    ],
  },
  {
    of: "policies that the program attaches to a role by its name, or that allow everything",
    level: "advisory",
    edits: [
      add(ROLE_POLICY, "by-name", { role: ROLE_NAME, policyArn: READ_ONLY }),
      add(ROLE_POLICY, "elsewhere", { role: "other", policyArn: ADMIN }),
      byOutput(ROLE_POLICY, "by-output", { role: UNKNOWN, policyArn: READ_ONLY }),
      byOutput(ROLE_POLICY, "admin", { role: UNKNOWN, policyArn: ADMIN }),
      byOutput("aws:iam/rolePolicy:RolePolicy", "all", {
        role: UNKNOWN,
        policy: '{"Statement":{"Action":"*"}}',
      }),
    ],
    reports: [
      `other-role-policies admin: The role of ops/drift also gets "${ADMIN}".`,
      'other-role-policies all: The role of ops/drift also gets {"Statement":{"Action":"*"}}.',
      `other-role-policies by-name: The role of ci/deployer also gets "${READ_ONLY}".`,
    ],
  },
  {
    of: "RBAC for the pods of a service account",
    level: "advisory",
    edits: [
      add(`${RBAC}:Role`, "exec", rules("ci", ["create"], ["pods/exec"])),
      add(`${RBAC}:Role`, "elsewhere", rules("other", ["create"], ["pods/exec"])),
      add(`${RBAC}:Role`, "view", rules("ci", ["get", "list", "watch"], ["pods", "configmaps"])),
      add(`${RBAC}:ClusterRole`, "impersonate", {
        rules: [{ verbs: ["impersonate"], resources: ["users"] }],
      }),
      add(`${RBAC}:RoleBinding`, "edit", {
        metadata: { namespace: "web" },
        roleRef: { kind: "ClusterRole", name: "edit" },
        subjects: [{ kind: "User", name: "mallory" }],
      }),
    ],
    reports: [
      'rbac edit: It binds the ClusterRole "edit" to "User" "mallory".',
      "rbac exec: It allows create of pods/exec.",
      "rbac impersonate: It allows impersonate of users.",
    ],
  },
  {
    of: "what others have added to what exists",
    level: "advisory",
    edits: [
      setExisting(IRSA, "inlinePolicies", [{ name: "by-hand", policy: "{}" }, {}]),
      setExisting(IRSA, "managedPolicyArns", [READ_ONLY, ADMIN]),
      setExisting(CONFIG_MAP, "data.more", "x"),
      setExisting("ServiceAccount access.web.secrets", "metadata.annotations", {
        "eks.amazonaws.com/role-arn": "arn:by-hand",
        "example.com/owner": "team-a",
      }),
      setExisting(INJECTION, "spec.matchConstraints.objectSelector", {}),
      setExisting(INJECTION, "spec.matchConditions.3", { name: "more", expression: "false" }),
      setExisting(BINDING, "spec.matchResources", { objectSelector: { matchLabels: { a: "b" } } }),
    ],
    reports: [
      `attached-policies access.ci.deployer: The role of ci/deployer also has "${ADMIN}".`,
      'beside-the-program access.ci.deployer.pulumi-token-exchange: It also has the file "more".',
      'beside-the-program access.ci.deployer: It also has the inline policy "by-hand".',
      'beside-the-program access.inject-token: It also has the element "spec.matchConditions.3".',
      'beside-the-program access.inject-token: It also has the element "spec.matchResources".',
      'beside-the-program access.web.secrets: It also has the annotation "eks.amazonaws.com/role-arn".',
    ],
  },
];

for (const [what, stack] of Object.entries({ deployed: deployedStack, new: newStack })) {
  test(`the rules report nothing of a ${what} stack with all features`, async () => {
    const draft = await stack();
    assert.deepEqual([...draft.report("mandatory"), ...draft.report("advisory")], []);
  });
}

test("the configuration allows an admin and a longer lifetime, and decides what is mandatory", async () => {
  const admin = {
    namespace: "ops",
    name: "admin",
    tokenType: "organization",
    organizationAdmin: true,
    awsRole: "irsa",
  };
  const draft = await stackWith({ serviceAccounts: [admin], maxExpirationSeconds: 43_200 });
  assert.equal(draft.report("mandatory").length, 2);
  const limits = { organizationAdmins: ["ops/admin"], maxExpirationSeconds: 43_200 };
  assert.deepEqual(draft.report("mandatory", { limits }), []);

  draft.edit(setExisting("Role access.ops.admin", "managedPolicyArns", [READ_ONLY, ADMIN]));
  const allowing = (...allowed: string[]) => ({
    limits,
    "attached-policies": { enforcementLevel: "mandatory", allowed },
  });
  assert.equal(draft.report("mandatory", allowing(READ_ONLY)).length, 1);
  assert.deepEqual(draft.report("mandatory", allowing(READ_ONLY, ADMIN)), []);
});

describe("the rules report", () => {
  for (const { of, edits, reports, stack = deployedStack, level = "mandatory" } of CASES) {
    test(of, async () => {
      const draft = await stack(...edits);
      const reported = draft.report(level).sort();
      const expected = reports.toSorted();
      // What ends with a space or a quote is only the beginning.
      const begun = reported.map((it, index) => {
        return /[.]$/.test(expected[index] ?? "") ? it : it.slice(0, expected[index]?.length);
      });
      assert.deepEqual(begun, expected);
    });
  }
});

test("the table has a case for each rule, and no other one", () => {
  const inTable = CASES.flatMap(({ reports }) => reports.map((it) => it.split(" ")[0]));
  assert.deepEqual([...new Set(inTable)].sort(), policies.map(({ name }) => name).sort());
});

/** Returns an edit that adds a role that trusts an OIDC provider. */
function role(name: string, Federated: string, Condition: Fields): Edit {
  const statement = {
    Effect: "Allow",
    Principal: { Federated },
    Action: "sts:AssumeRoleWithWebIdentity",
    Condition,
  };
  return add("aws:iam/role:Role", name, { assumeRolePolicy: JSON.stringify({ Statement: statement }) });
}

/** Returns an edit that adds a resource that uses an output of a role. */
function byOutput(type: string, name: string, inputs: Fields): Edit {
  return (draft) => {
    add(type, name, inputs, { propertyDependencies: { role: [draft.find(POD_IDENTITY).urn] } })(draft);
  };
}

function rules(namespace: string, verbs: string[], resources: string[]): Fields {
  return { metadata: { namespace }, rules: [{ apiGroups: [""], verbs, resources }] };
}
