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
  INJECTION,
  INSIDE,
  IRSA,
  ISSUER,
  ISSUER_URL,
  JOB,
  newPlan,
  POD_IDENTITY,
  PULUMI_CLOUD,
  READ_ONLY,
  remove,
  SECRET,
  SERVICE_ACCOUNT,
  set,
  setDeployed,
  UNKNOWN,
} from "./draft";

const ADMIN_POLICY = "arn:aws:iam::aws:policy/AdministratorAccess";
const ROLES = "arn:aws:iam::123456789012:role/";
const ADMIN_ROLE = `${ROLES}admin`;
const PROVIDER_ARN = `arn:aws:iam::123456789012:oidc-provider/${ISSUER_URL}`;
const ANYONE = { Effect: "Allow", Principal: "*", Action: "*" };
const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const OWN_URL = `https://${ISSUER_URL}`;
const OTHER_URL = "https://oidc.eks.eu-west-1.amazonaws.com/id/OTHER";
const OTHER_SPELLING =
  "HTTPS://OIDC.eks.us-west-2.amazonaws.com.:443//ID/EXAMPLE%44539D4633E53DE1B71EXAMPLE/";

const ATTACHMENT_TYPE = "aws:iam/rolePolicyAttachment:RolePolicyAttachment";
const ROLE_NAME = `pulumi-oidc-ci-deployer-${"0".repeat(26)}`;
const ROLE_ARN = `${ROLES}${ROLE_NAME}`;
const OTHER_ROLE = ROLE_NAME.replace("ci-deployer", "ops-drift");
const OPEN = "and what it must be is known after the update only.";
const FIRST =
  "What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.";
const NOT_CHOSEN =
  "which the component does not choose: the owner of this certificate could act as every service account.";
const NAME = '"kubernetes.io".serviceaccount.name';
const ADMISSION_POLICY = "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy";
const ROLE_ANNOTATION = "eks.amazonaws.com/role-arn";

const addIssuer = (name: string, inputs: object, type = "index:OidcIssuer") =>
  add(`pulumiservice:${type}`, name, { organization: "acme", ...inputs });
const addObject = (type: string, resource: string, name: string, state?: object) => {
  const annotations = { [ROLE_ANNOTATION]: "x" };
  return add(`kubernetes:${type}`, resource, { metadata: { namespace: "ci", name, annotations } }, state);
};

/** Returns an edit that replaces the trust policy by one that depends on it. */
const changeTrustPolicy = (change: (policy: string) => unknown): Edit => {
  return (draft) =>
    draft.edit(set(IRSA, "assumeRolePolicy", change(JSON.stringify(draft.get(IRSA, "assumeRolePolicy")))));
};

/** Returns an edit that adds to the end of a string. */
const addToExpression = (resource: string, path: string, end: string): Edit => {
  return (draft) => draft.edit(set(resource, path, `${draft.get(resource, path)}${end}`));
};

/** A plan, and the beginning of each sentence that is found in it. */
type Case = [what: string, edits: Edit[], found: string[], plan?: typeof newPlan];

/** A runner pool that the program creates: its ID is not known. */
const NEW_POOL = [
  set(COMPONENT, "serviceAccounts.3.runnerId", UNKNOWN),
  set(ISSUER, "policies.3.runnerID", UNKNOWN),
];

const PROVIDER = "urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:kubernetes::";
const addSameCluster: Edit = (draft) => {
  const kubeconfig = draft.get("kubernetes cluster", "kubeconfig");
  return draft.edit(add("pulumi:providers:kubernetes", "same", { kubeconfig }));
};
const addAssociation = (name: string, inputs: object) =>
  add("aws:eks/podIdentityAssociation:PodIdentityAssociation", name, {
    namespace: "ci",
    serviceAccount: "deployer",
    roleArn: "x",
    ...inputs,
  });

/** Returns an edit by which a resource does not exist yet. */
const create = (resource: string): Edit => {
  return (draft) => Object.assign(draft.step(resource), { op: "create", oldState: null });
};

/** Returns an edit by which an input comes from these roles. */
const isOf = (resource: string, input: string, ...roles: string[]): Edit => {
  return (draft) =>
    Object.assign(draft.step(resource).newState?.propertyDependencies ?? {}, {
      [input]: roles.map((role) => draft.step(role).urn),
    });
};
/** Returns an edit that annotates a service account with a role that is not known yet. */
const addUnknownRole = (name: string, source: string): Edit => {
  return (draft) => {
    const propertyDependencies = { metadata: [draft.step(source).urn] };
    const annotations = { [ROLE_ANNOTATION]: UNKNOWN };
    const metadata = { namespace: "ci", name: "deployer", annotations };
    return draft.edit(
      add("kubernetes:core/v1:ServiceAccountPatch", name, { metadata }, { propertyDependencies }),
    );
  };
};
const OF_OTHER_ROLE =
  "has a role that is known after the update only, and that does not come from its own role.";

/** A cluster that the program creates, or replaces. */
const NEW_CLUSTER = [
  ...["issuerUrl", "oidcProviderArn", "clusterArn"].map((name) => set(COMPONENT, name, UNKNOWN)),
  ...["url", "thumbprints"].map((name) => set(ISSUER, name, UNKNOWN)),
  ...["region", "clusterName"].map((name) => set(ASSOCIATION, name, UNKNOWN)),
  ...[IRSA, POD_IDENTITY].map((role) => set(role, "assumeRolePolicy", UNKNOWN)),
];

/** A team and a permissions boundary that the program creates, for all that depends on them but an allow policy. */
const NEW_SETTINGS = [
  set(COMPONENT, "serviceAccounts.0.teamName", UNKNOWN),
  set(CONFIG_MAP, "data.tokenScope", UNKNOWN),
  set(COMPONENT, "permissionsBoundaryArn", UNKNOWN),
  ...[IRSA, POD_IDENTITY].map((role) => set(role, "permissionsBoundary", UNKNOWN)),
];

const CASES: Case[] = [
  [
    "each difference of a new admission policy in which pods it changes",
    [
      set(COMPONENT, "serviceAccounts.1.injectToken", true),
      set(INJECTION, "spec.matchConstraints.namespaceSelector", {}),
      set(INJECTION, "spec.matchConstraints.resourceRules.0.resources.0", "*/*"),
      addToExpression(INJECTION, "spec.matchConditions.0.expression", " || true"),
      set(INJECTION, "spec.variables", UNKNOWN),
    ],
    [
      "The admission policy of injection: matchConstraints.namespaceSelector.matchExpressions is none instead of [",
      'The admission policy of injection: matchConstraints.resourceRules.0.resources.0 is "*/*" instead of "pods".',
      `The admission policy of injection: service-account is "request.namespace + '/' + object.spec.?serviceAccountName.orValue('') in [\\n\\"ci/deployer\\"\\n] || true" instead of "`,
      "The admission policy of injection: audiences is known after the update only, and must be ",
    ],
    newPlan,
  ],
  [
    "statements of a trust policy, without a condition, or with another one",
    [
      set(IRSA, "assumeRolePolicy.Statement.0.Condition", { StringLike: {} }),
      set(IRSA, "assumeRolePolicy.Statement.1", ANYONE),
      set(IRSA, "assumeRolePolicy.Statement.2", { ...ANYONE, Principal: { AWS: "*" } }),
      set(IRSA, "assumeRolePolicy.Statement.3", { ...ANYONE, Principal: { Federated: PROVIDER_ARN } }),
    ],
    [
      "ci/deployer: Its trust policy: Statement.0.Condition.StringLike is {} instead of none.",
      "ci/deployer: Its trust policy: Statement.0.Condition.StringEquals is none instead of {",
      'ci/deployer: Its trust policy: Statement.1 is { "Effect": "Allow", "Principal": "*", "Action": "*" } instead of none.',
      'ci/deployer: Its trust policy: Statement.2 is { "Effect": "Allow", "Principal": { "AWS": "*" }, ',
      `ci/deployer: Its trust policy: Statement.3 is { "Effect": "Allow", "Principal": { "Federated": "${PROVIDER_ARN}" }, `,
    ],
  ],
  [
    "each difference of a role, and what the component has twice",
    [
      set(COMPONENT, "oidcProviderArn", "x"),
      set(IRSA, "path", "/x/"),
      set(IRSA, "managedPolicyArns", [ADMIN_POLICY]),
      set(IRSA, "inlinePolicies", UNKNOWN),
      set(ATTACHMENT, "role", "x"),
      add(ATTACHMENT_TYPE, "access.ops.drift.more", { policyArn: ADMIN_POLICY, role: OTHER_ROLE }, INSIDE),
      add("aws:iam/rolePolicy:RolePolicy", "access.ci.deployer", {}, INSIDE),
      set(ASSOCIATION, "targetRoleArn", ADMIN_ROLE),
      set(ASSOCIATION, "disableSessionTags", true),
      set(SERVICE_ACCOUNT, ["metadata", "annotations", ROLE_ANNOTATION], "x"),
      set("ServiceAccount access.web.secrets", "metadata.annotations", { [ROLE_ANNOTATION]: "x" }),
      add(ADMISSION_POLICY, "access.more", {}, INSIDE),
      add("kubernetes:core/v1:Namespace", "access.more", {}, INSIDE),
      add("pulumi:providers:pulumiservice", "access.more", {}, INSIDE),
      // The same name, below another parent.
      add("a:b:C$aws:iam/role:Role", "access.ci.deployer", {}, { ...INSIDE, type: "aws:iam/role:Role" }),
    ],
    [
      `oidcProviderArn is "x", which is not the provider of issuerUrl "${OWN_URL}".`,
      `ci/deployer: Its service account: ${ROLE_ANNOTATION} is "x" instead of "${ROLE_ARN}".`,
      `ci/deployer: Its policy "${READ_ONLY}": role is "x" instead of "${ROLE_NAME}".`,
      `ci/deployer: Its trust policy: Statement.0.Principal.Federated is "${PROVIDER_ARN}" instead of "x".`,
      'ci/deployer: Its role\'s path is "/x/" instead of "/".',
      "ci/deployer: Its role has inlinePolicies, which no setting names: known after the update",
      `ci/deployer: Its role has managedPolicyArns, which no setting names: [ "${ADMIN_POLICY}" ]`,
      `ops/drift: Its association with the role: targetRoleArn is "${ADMIN_ROLE}" instead of none.`,
      "ops/drift: Its association with the role: disableSessionTags is true instead of none.",
      `ops/drift: The component attaches the policy "${ADMIN_POLICY}", which rolePolicyArns does not list.`,
      `web/secrets: Its service account: ${ROLE_ANNOTATION} is "x" instead of none.`,
      "RolePolicy access.ci.deployer is inside the component, and no part of it.",
      "MutatingAdmissionPolicy access.more is inside the component, and no part of it.",
      "Namespace access.more is inside the component, and no part of it.",
      "pulumiservice access.more is inside the component, and no part of it.",
      "Role access.ci.deployer is inside the component, and no part of it.",
    ],
  ],
  [
    "each difference of an allow policy",
    [
      set(ISSUER, ["policies", 1, "rules", NAME], "d*"),
      set(ISSUER, "policies.2.authorizedPermissions", ["admin"]),
      set(ISSUER, "policies.2.rules.__proto__", "x"),
      // Providers of other packages add it.
      set(ISSUER, "policies.2.rules.__defaults", "x"),
      set(ISSUER, "policies.4", OTHER_POLICY),
      // A second one of the same service account.
      (draft) => draft.edit(set(ISSUER, "policies.5", draft.get(ISSUER, "policies.3"))),
    ],
    [
      `ops/drift: Its allow policy: rules.${NAME} is "d*" instead of "drift".`,
      'web/secrets: Its allow policy: rules.__proto__ is "x" instead of none.',
      'web/secrets: Its allow policy: rules.__defaults is "x" instead of none.',
      'web/secrets: Its allow policy: authorizedPermissions is [ "admin" ] instead of none.',
      'An allow policy is of no service account, or is the second one of a service account: { "decision": "allow", "tokenType": "personal", "userLogin": "mallory", "rules": { "sub": "x" } }',
      'An allow policy is of no service account, or is the second one of a service account: { "decision": "allow", "rules": { "\\"kubernetes.io\\".namespace": "web", "\\"kubernetes.io\\".serviceaccount.name": "runner" }, "runnerID": "id", "tokenType": "runner" }',
    ],
  ],
  [
    "each difference of an issuer, and each further issuer of the cluster",
    [
      // Only Node.js reads it as the URL of Pulumi Cloud.
      set(PULUMI_CLOUD, "apiUrl", "https:\\\\api.pulumi.com"),
      set(ISSUER, "jwks", { keys: [] }),
      set(ISSUER, "thumbprints", [SECRET, "0".repeat(64)]),
      setDeployed(ISSUER, "thumbprints", [SECRET]),
      add("pulumiservice:index:OidcIssuer", "inside", {}, INSIDE),
      addIssuer("spelling", { url: OTHER_SPELLING }),
      addIssuer("path", { organization: "x/../acme", url: OWN_URL }),
      addIssuer("secret", { url: SECRET }),
      addIssuer(
        "second-interface",
        { organization: undefined, orgName: "Acme", url: OWN_URL },
        "api/auth:OidcIssuer",
      ),
      addIssuer("policies", { policyId: "x", issuerId: "other" }, "api/auth:Policy"),
      addIssuer("not-known", {}, "v1/auth:Policy"),
    ],
    [
      'The provider of Pulumi Cloud: apiUrl is "https:\\\\\\\\api.pulumi.com" instead of "https://api.pulumi.com".',
      'The registered issuer: jwks is { "keys": [] } instead of none.',
      `The registered issuer has the thumbprint secret, ${NOT_CHOSEN}`,
      `The registered issuer has the thumbprint "${"0".repeat(64)}", ${NOT_CHOSEN}`,
      "OidcIssuer inside is inside the component, and no part of it.",
      `OidcIssuer spelling registers the cluster's issuer a second time, as "${OTHER_SPELLING}".`,
      `OidcIssuer path registers the cluster's issuer a second time, as "${OWN_URL}".`,
      "OidcIssuer secret registers an issuer whose URL is secret, so it cannot be compared.",
      `OidcIssuer second-interface registers the cluster's issuer a second time, as "${OWN_URL}".`,
      "Policy policies can replace the allow policies of any issuer. If it is",
      "Policy not-known can replace the allow policies of any issuer. If it is",
    ],
  ],
  [
    "each difference of a ConfigMap, a Job, and the settings",
    [
      set(CONFIG_MAP, "data.tokenScope", "team:admins"),
      set(CONFIG_MAP, ["data", "exchange-token.sh"], UNKNOWN),
      set(JOB, "spec.template.spec.serviceAccountName", "admin"),
      set(CONFIG_MAP, "binaryData", { token: "eA==" }),
      add("kubernetes:core/v1:ConfigMapPatch", "patch", {
        metadata: { name: "deployer-pulumi-token-exchange" },
      }),
      addObject("v1:ConfigMapPatch", "not-known", UNKNOWN),
      addObject("core/v1:ServiceAccountPatch", "patch", "deployer", { provider: `${PROVIDER}cluster::id` }),
      addSameCluster,
      addObject("core/v1:ServiceAccountPatch", "same-cluster", "deployer", {
        provider: `${PROVIDER}same::id`,
      }),
      addAssociation("patch", { clusterName: UNKNOWN }),
      add("pulumiservice:index:TeamAccessToken", "token", { orgName: "acme", teamName: "a" }, INSIDE),
      set(COMPONENT, "serviceAccounts.0.injectToken", false),
      set(COMPONENT, "serviceAccounts.0.runJob", false),
      set(COMPONENT, "serviceAccounts.0.createServiceAccount", false),
      set(COMPONENT, "serviceAccounts.0.rolePolicyArns.1", ADMIN_POLICY),
      remove("ServiceAccount access.web.secrets"),
      set(COMPONENT, "serviceAccounts.1.awsRole", "none"),
      set(SERVICE_ACCOUNT, "metadata.name", "x"),
      set("ConfigMap access.web.runner.pulumi-token-exchange", "metadata.namespace", "x"),
      (draft) => Object.assign(draft.step(JOB).newState ?? {}, { provider: `${PROVIDER}other::id` }),
      set(COMPONENT, "more", true),
    ],
    [
      "more is a setting of another version of this project, so it is not compared.",
      `The resources of the component have several providers of kubernetes: ${PROVIDER}cluster, ${PROVIDER}other.`,
      'ci/deployer: Its request: tokenScope is "team:admins" instead of "team:a".',
      "ci/deployer: Its exchange script differs from that of this clone. Check with a clone of the component's version.",
      'ci/deployer: Its ConfigMap has binaryData, which becomes files: { "token": "eA==" }',
      "ci/deployer: It has a Job, although runJob is false.",
      'ci/deployer: Its Job: serviceAccountName is "admin" instead of "deployer".',
      "ci/deployer: The component creates its service account, although createServiceAccount is false.",
      'ci/deployer: Its service account: name is "x" instead of "deployer".',
      `ci/deployer: Its role does not have the policy "${ADMIN_POLICY}".`,
      "ops/drift: It has a role, although awsRole is none.",
      "ops/drift: Its association with the role is {",
      "ops/drift: Its trust policy is {",
      "web/secrets: The component does not create its service account.",
      'web/runner: Its ConfigMap: namespace is "x" instead of "web".',
      "MutatingAdmissionPolicy access.inject-token is inside the component, and no part of it.",
      "MutatingAdmissionPolicyBinding access.inject-token is inside the component, and no part of it.",
      "TeamAccessToken token is inside the component, and no part of it.",
      "ci/deployer: ConfigMapPatch patch has the name of its ConfigMap, and can change its request.",
      "ci/deployer: ConfigMapPatch not-known has the name of its ConfigMap, and can change its request.",
      'ci/deployer: PodIdentityAssociation patch can give its pods the role "x".',
      'ci/deployer: ServiceAccountPatch patch can give its pods the role "x".',
      'ci/deployer: ServiceAccountPatch same-cluster can give its pods the role "x".',
    ],
  ],
  [
    "what is missing",
    [
      remove(IRSA),
      remove(ASSOCIATION),
      set(ISSUER, "policies.2"),
      set(PULUMI_CLOUD, "apiUrl"),
      remove("ServiceAccount access.web.secrets"),
    ],
    [
      'The provider of Pulumi Cloud: apiUrl is none instead of "https://api.pulumi.com". The environment of each update decides. Set apiUrl of the provider to "https://api.pulumi.com".',
      "web/secrets: Its allow policy is none instead of {",
      `ci/deployer: Its service account: ${ROLE_ANNOTATION} is "${ROLE_ARN}", ${OPEN}`,
      'ci/deployer: It has no role, although awsRole is "irsa".',
      `ci/deployer: Its policy "${READ_ONLY}": role is "${ROLE_NAME}" instead of `,
      "ops/drift: Its association with the role is none instead of {",
      "web/secrets: The component does not create its service account.",
    ],
  ],
  [
    "no provider of Pulumi Cloud",
    [
      ({ steps }) => {
        const states = steps.flatMap(({ newState }) => newState ?? []);
        for (const state of states) if (state.provider?.includes(":pulumiservice:")) delete state.provider;
      },
    ],
    ['The provider of Pulumi Cloud: apiUrl is none instead of "https://api.pulumi.com". The environment'],
  ],
  [
    "unknown and secret values",
    [
      set(IRSA, "assumeRolePolicy.Statement.0.Condition.StringEquals", { [`${UNKNOWN}:sub`]: "x" }),
      set(POD_IDENTITY, "assumeRolePolicy", {
        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
      }),
      set(ISSUER, "thumbprints", UNKNOWN),
      set("ServiceAccount access.web.secrets", "metadata", UNKNOWN),
      set(ISSUER, ["policies", 1, "rules", NAME], UNKNOWN),
      // What depends on a secret setting is not a second finding.
      set(COMPONENT, "serviceAccounts.0.teamName", SECRET),
    ],
    [
      "serviceAccounts.0.teamName is secret, so what depends on it cannot be compared.",
      `The registered issuer has the thumbprint known after the update, ${NOT_CHOSEN}`,
      `ops/drift: Its allow policy: rules.${NAME} is known after the update only, and must be "drift".`,
      "ci/deployer: Its trust policy: Statement.0.Condition.StringEquals is known after the update only, and must be {",
      "ops/drift: Its trust policy is secret, so it cannot be compared with {",
      'web/secrets: Its service account: namespace is known after the update only, and must be "web".',
      'web/secrets: Its service account: name is known after the update only, and must be "secrets".',
      "web/secrets: Its service account is known after the update only, and must be {}.",
    ],
  ],
  [
    "new roles that are those of other resources",
    [
      isOf(SERVICE_ACCOUNT, "metadata", IRSA, POD_IDENTITY),
      isOf(ATTACHMENT, "role", POD_IDENTITY),
      isOf(ASSOCIATION, "roleArn"),
      addUnknownRole("elsewhere", POD_IDENTITY),
    ],
    [
      `ci/deployer: Its service account ${OF_OTHER_ROLE}`,
      `ci/deployer: Its attachment access.ci.deployer.${READ_ONLY} ${OF_OTHER_ROLE}`,
      `ops/drift: Its association ${OF_OTHER_ROLE}`,
      "ci/deployer: ServiceAccountPatch elsewhere can give its pods the role known after the update.",
    ],
    newPlan,
  ],
  [
    "unknown values of a new component beside known settings",
    [set(IRSA, "assumeRolePolicy", UNKNOWN), set(ISSUER, "policies.1", UNKNOWN)],
    [
      "ops/drift: Its allow policy is known after the update only, and must be {",
      "ci/deployer: Its trust policy is known after the update only, and must be {",
    ],
    newPlan,
  ],
  [
    "unknown settings of a new component beside known or missing values",
    [
      set(COMPONENT, "issuerUrl", UNKNOWN),
      set(ISSUER, "thumbprints", ["0".repeat(64)]),
      ...NEW_SETTINGS,
      set(ISSUER, "policies.0", UNKNOWN),
    ],
    [
      `The registered issuer: url is "${OWN_URL}", ${OPEN}`,
      `The registered issuer has the thumbprint "${"0".repeat(64)}", ${NOT_CHOSEN}`,
      "ci/deployer: Its allow policy is known after the update only, and must be {",
      "ci/deployer: Its trust policy is {",
    ],
    newPlan,
  ],
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
    "a runner pool and an audience that the program creates for what is deployed",
    [
      ...NEW_POOL,
      set(COMPONENT, "serviceAccounts.0.tokenAudience", UNKNOWN),
      set(ISSUER, "policies.0.rules.aud", UNKNOWN),
      set(INJECTION, "spec.variables.0.expression", UNKNOWN),
    ],
    [
      `ci/deployer: serviceAccounts.0.tokenAudience is known after the update only. ${FIRST}`,
      `web/runner: serviceAccounts.3.runnerId is known after the update only. ${FIRST}`,
    ],
  ],
];

describe("finds", () => {
  for (const [what, edits, found, plan = deployedPlan] of CASES) {
    test(what, async () => {
      const { findings } = (await plan(...edits)).check();
      // What does not end with a period is only a beginning.
      const compared = findings.map((text, index) => {
        return found[index]?.endsWith(".") ? text : text.slice(0, found[index]?.length);
      });
      assert.deepEqual(compared, found);
    });
  }
});

test("finds allow policies that are not a list", async () => {
  for (const [plan, policies, words] of [
    [deployedPlan, undefined, "none"],
    [deployedPlan, SECRET, "secret"],
    [deployedPlan, UNKNOWN, "known after the update"],
    [newPlan, UNKNOWN, "known after the update"],
  ] as const) {
    const { findings } = (await plan(set(ISSUER, "policies", policies))).check();
    const text = `The allow policies are ${words} instead of a list, so they cannot be compared.`;
    assert.deepEqual(findings, [text]);
  }
});

describe("finds another trust policy:", () => {
  for (const [what, change] of [
    [
      "its statement as an object",
      (it) => ({ Version: "2012-10-17", Statement: JSON.parse(it).Statement[0] }),
    ],
    [
      "its statements by their indexes",
      (it) => ({ Version: "2012-10-17", Statement: { ...JSON.parse(it).Statement } }),
    ],
    ["JSON with a statement for anyone", (it) => it.replace("[", `[${JSON.stringify(ANYONE)},`)],
    ["JSON that has a key twice", (it) => it.replace("{", `{"Statement":[${JSON.stringify(ANYONE)}],`)],
  ] satisfies [string, (policy: string) => unknown][]) {
    test(what, async () => {
      const { findings } = (await deployedPlan(changeTrustPolicy(change))).check();
      assert.match(findings.join("\n"), /^ci\/deployer: Its trust policy.* is .* instead of /);
    });
  }
});

/** Plans that are right. */
const RIGHT: [what: string, plan: typeof newPlan, edits: Edit[]][] = [
  ["a new component", newPlan, []],
  ["a deployed component that does not change", deployedPlan, []],
  [
    "a new component of a cluster that does not exist yet",
    newPlan,
    [...NEW_CLUSTER, addIssuer("of-other-cluster", { url: OTHER_URL })],
  ],
  ["a new component with a runner pool that the program creates", newPlan, NEW_POOL],
  [
    "a new component whose settings come from new resources",
    newPlan,
    [...NEW_SETTINGS, set(ISSUER, "policies.0.teamName", UNKNOWN)],
  ],
  [
    "settings from new resources that decide nothing of what is compared",
    deployedPlan,
    [
      set(COMPONENT, "image", UNKNOWN),
      set(COMPONENT, "serviceAccounts.1.command", UNKNOWN),
      set(COMPONENT, "serviceAccounts.1.tokenAudience", UNKNOWN),
    ],
  ],
  [
    "a new service account with a runner pool that the program creates",
    deployedPlan,
    [...NEW_POOL, create("ConfigMap access.web.runner.pulumi-token-exchange")],
  ],
  [
    "a first role, with an IAM OIDC provider that the program creates",
    deployedPlan,
    [
      set(COMPONENT, "oidcProviderArn", UNKNOWN),
      create(IRSA),
      set(IRSA, "assumeRolePolicy", UNKNOWN),
      set(ATTACHMENT, "role", UNKNOWN),
      set(SERVICE_ACCOUNT, ["metadata", "annotations", ROLE_ANNOTATION], UNKNOWN),
    ],
  ],
  [
    "new roles that the rest of the program annotates service accounts with",
    newPlan,
    [addUnknownRole("by-role", IRSA), addUnknownRole("by-component", COMPONENT)],
  ],
  ["an issuer whose thumbprint a refresh has added", deployedPlan, [setDeployed(ISSUER, "thumbprints")]],
  [
    "a service account that exists already",
    deployedPlan,
    [
      set(COMPONENT, "serviceAccounts.2.createServiceAccount", false),
      (draft) => Object.assign(draft.step("ServiceAccount access.web.secrets"), { op: "read" }),
    ],
  ],
  [
    "an update from a version with other settings",
    deployedPlan,
    [
      setDeployed(COMPONENT, "more", []),
      setDeployed(COMPONENT, "image"),
      setDeployed(COMPONENT, "serviceAccounts.0.more", 1),
    ],
  ],
  [
    "an association that can be of another cluster, because the component has no clusterArn",
    deployedPlan,
    [
      set(COMPONENT, "clusterArn"),
      set(COMPONENT, "serviceAccounts.1.awsRole", "none"),
      remove(POD_IDENTITY),
      remove(ASSOCIATION),
      addAssociation("in-other-cluster", { clusterName: "other" }),
    ],
  ],
  [
    "what is of another cluster, issuer, or organization, or has another name",
    deployedPlan,
    [
      addIssuer("of-other-cluster", { url: OTHER_URL }),
      addIssuer("not-known", { url: UNKNOWN }),
      addIssuer("of-other-organization", { organization: "other", url: OWN_URL }),
      addIssuer("policies-of-other-organization", { organization: "other" }, "api/auth:Policy"),
      addAssociation("in-other-cluster", { clusterName: "other" }),
      addObject("core/v1:ConfigMapPatch", "in-other-cluster", "deployer-pulumi-token-exchange", {
        provider: "urn:other::id",
      }),
      addObject("core/v1:ConfigMapPatch", "other", "other"),
      addObject("core/v1:ConfigMap", "named-by-pulumi", UNKNOWN),
      add("kubernetes:core/v1:ServiceAccountPatch", "labels", {
        metadata: { namespace: "ci", name: "deployer" },
      }),
      // This entry has no role.
      add("kubernetes:core/v1:ServiceAccountPatch", "other-role", {
        metadata: { namespace: "web", name: "secrets", annotations: { [ROLE_ANNOTATION]: "x" } },
      }),
      addObject("core/v1:ServiceAccount", "elsewhere", "deployer", { provider: "urn:other::id" }),
    ],
  ],
  [
    "what providers add to the inputs",
    deployedPlan,
    [
      set(PULUMI_CLOUD, "apiUrl", "https://api.pulumi.com/"),
      (draft) =>
        draft.edit(set(ISSUER, "thumbprints.0", `${draft.get(ISSUER, "thumbprints.0")}`.toUpperCase())),
      set(ASSOCIATION, "__defaults", []),
      set("ServiceAccount access.web.secrets", "metadata.annotations", { team: "a" }),
      changeTrustPolicy((it) => JSON.stringify(JSON.parse(it), null, 2)),
      set(ASSOCIATION, "tagsAll", { team: "a" }),
      set(ASSOCIATION, "disableSessionTags", false),
      set(CONFIG_MAP, "__fieldManager", "pulumi-kubernetes"),
      set(ISSUER, "policies.2.authorizedPermissions", []),
    ],
  ],
];

describe("finds nothing in the plan of", () => {
  for (const [what, plan, edits] of RIGHT) {
    test(what, async () => {
      assert.deepEqual((await plan(...edits)).check().findings, []);
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
