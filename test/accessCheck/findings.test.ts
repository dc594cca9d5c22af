// What the access check finds in a plan: each case changes one thing of a component.

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
const OPEN = "instead of known after the update.";
const FIRST =
  "What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.";
const NO_ONES = "0".repeat(64);
const NAME = '"kubernetes.io".serviceaccount.name';
const ADMISSION_POLICY = "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy";
const ROLE_ANNOTATION = "eks.amazonaws.com/role-arn";

const addIssuer = (name: string, inputs: object, type = "index:OidcIssuer") =>
  add(`pulumiservice:${type}`, name, { organization: "acme", ...inputs });
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
/** Returns an edit by which a resource does not exist yet. */
const create = (resource: string): Edit => {
  return (draft) => Object.assign(draft.step(resource), { op: "create", oldState: null });
};

/** Returns an edit by which a resource is what exists already. */
const read = (resource: string): Edit => {
  return (draft) => {
    const step = draft.step(resource);
    step.op = "read";
    Object.assign(step.newState ?? {}, { external: true, id: "other" });
  };
};

/** Returns an edit by which a new resource is one that exists outside of the component. */
const takeOver = (resource: string): Edit => {
  return (draft) => {
    const step = draft.step(resource);
    step.op = "update";
    step.oldState = { id: "other", inputs: {} };
  };
};

/** Returns an edit by which an input comes from these resources. */
const isOf = (resource: string, input: string, ...sources: string[]): Edit => {
  return (draft) =>
    Object.assign(draft.step(resource).newState?.propertyDependencies ?? {}, {
      [input]: sources.map((source) => draft.step(source).urn),
    });
};
const OF_OTHER_ROLE = "is known after the update instead of an output of the component's own resource.";

const POD = "spec.template.spec";
const OTHER_JOB = "Job access.ops.drift";
const ENV = "spec.template.spec.containers.0.env";
const LAST_JOB = "Job access.web.secrets";

/** A cluster that the program creates, or replaces. */
const NEW_CLUSTER = [
  ...["issuerUrl", "oidcProviderArn", "clusterArn"].map((name) => set(COMPONENT, name, UNKNOWN)),
  ...["url", "thumbprints"].map((name) => set(ISSUER, name, UNKNOWN)),
  ...["region", "clusterName"].map((name) => set(ASSOCIATION, name, UNKNOWN)),
  ...[IRSA, POD_IDENTITY].map((role) => set(role, "assumeRolePolicy", UNKNOWN)),
  set("Stash access.oidc-issuer.place", "input.issuerUrl", UNKNOWN),
];

/** A team and a permissions boundary that the program creates, for all that depends on them but an allow policy. */
const NEW_SETTINGS = [
  set(COMPONENT, "serviceAccounts.0.teamName", UNKNOWN),
  set(CONFIG_MAP, "data.tokenScope", UNKNOWN),
  set(COMPONENT, "permissionsBoundaryArn", UNKNOWN),
  ...[IRSA, POD_IDENTITY].map((role) => set(role, "permissionsBoundary", UNKNOWN)),
];

const BINDING = "MutatingAdmissionPolicyBinding access.inject-token";

const CASES: Case[] = [
  [
    "each difference of a new admission policy in which pods it changes",
    [
      set(COMPONENT, "serviceAccounts.1.injectToken", true),
      set(INJECTION, "spec.matchConstraints.namespaceSelector", {}),
      // Empty, it selects everything.
      set(INJECTION, "spec.matchConstraints.objectSelector", {}),
      set(INJECTION, "spec.matchConstraints.resourceRules.0.resources.0", "*/*"),
      addToExpression(INJECTION, "spec.matchConditions.0.expression", " || true"),
      set(INJECTION, "spec.variables", UNKNOWN),
    ],
    [
      "The admission policy: spec.matchConditions.service-account.expression is \"request.namespace + '/' + object.spec.?serviceAccountName.orValue('') in [\\n",
      'The admission policy: spec.matchConstraints.namespaceSelector.matchExpressions is none instead of [ { "key": "kubernetes.io/metadata.name", "operator": "In", "values": [ "ci", "ops" ] } ].',
      'The admission policy: spec.matchConstraints.resourceRules.0.resources.0 is "*/*" instead of "pods".',
      "The admission policy: spec.matchConstraints.objectSelector is {} instead of none.",
      'The admission policy: spec.variables is known after the update instead of [ { "name": "audiences", "expression": "{\\n\\"ci/deployer\\": \\"urn:pul',
    ],
    newPlan,
  ],
  [
    "statements of a trust policy, without a condition, or with another one",
    [
      set(IRSA, "assumeRolePolicy.Statement.0.Condition", { StringLike: { a: "*" } }),
      set(IRSA, "assumeRolePolicy.Statement.1", ANYONE),
      set(IRSA, "assumeRolePolicy.Statement.2", { ...ANYONE, Principal: { AWS: "*" } }),
      set(IRSA, "assumeRolePolicy.Statement.3", { ...ANYONE, Principal: { Federated: PROVIDER_ARN } }),
    ],
    [
      'ci/deployer: Its trust policy: Statement.0.Condition.StringLike is { "a": "*" } instead of none.',
      'ci/deployer: Its trust policy: Statement.0.Condition.StringEquals is none instead of { "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71E',
      'ci/deployer: Its trust policy: Statement.1 is { "Effect": "Allow", "Principal": "*", "Action": "*" } instead of none.',
      'ci/deployer: Its trust policy: Statement.2 is { "Effect": "Allow", "Principal": { "AWS": "*" }, "Action": "*" } instead of none.',
      'ci/deployer: Its trust policy: Statement.3 is { "Effect": "Allow", "Principal": { "Federated": "arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-we',
    ],
  ],
  [
    "each difference of a role, and what the component has twice",
    [
      set(COMPONENT, "oidcProviderArn", "x"),
      set(IRSA, "path", "/x/"),
      set(IRSA, "constructor", "x"),
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
      'ci/deployer: Its trust policy: Statement.0.Principal.Federated is "arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE',
      'ci/deployer: Its role: path is "/x/" instead of "/".',
      'ci/deployer: Its role: constructor is "x" instead of none.',
      `ci/deployer: Its role: managedPolicyArns is [ "${ADMIN_POLICY}" ] instead of none.`,
      "ci/deployer: Its role: inlinePolicies is known after the update instead of none.",
      `ci/deployer: Its policy "${READ_ONLY}": role is "x" instead of "${ROLE_NAME}".`,
      `ci/deployer: Its service account: metadata.annotations.${ROLE_ANNOTATION} is "x" instead of "${ROLE_ARN}".`,
      `ops/drift: Its association with the role: targetRoleArn is "${ADMIN_ROLE}" instead of none.`,
      "ops/drift: Its association with the role: disableSessionTags is true instead of none.",
      `web/secrets: Its service account: metadata.annotations.${ROLE_ANNOTATION} is "x" instead of none.`,
      "ops/drift: RolePolicyAttachment access.ops.drift.more is in the component, and no setting requires it.",
      "ci/deployer: RolePolicy access.ci.deployer is in the component, and no setting requires it.",
      "MutatingAdmissionPolicy access.more is in the component, and no setting requires it.",
      "Namespace access.more is in the component, and no setting requires it.",
      "pulumiservice access.more is in the component, and no setting requires it.",
      "ci/deployer: Role access.ci.deployer is in the component, and no setting requires it.",
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
      set(ISSUER, "policies.3.rules.sub", []),
      set(ISSUER, "policies.4", OTHER_POLICY),
      // A second one of the same service account.
      (draft) => draft.edit(set(ISSUER, "policies.5", draft.get(ISSUER, "policies.3"))),
    ],
    [
      "ops/drift: Its allow policy is missing.",
      'web/secrets: Its allow policy: rules.__proto__ is "x" instead of none.',
      'web/secrets: Its allow policy: rules.__defaults is "x" instead of none.',
      'web/secrets: Its allow policy: authorizedPermissions is [ "admin" ] instead of none.',
      "web/runner: Its allow policy: rules.sub is [] instead of none.",
      'Allow policy of ops/d* is in the component, and no setting requires it: { "decision": "allow", "rules": { "\\"kubernetes.io\\".namespace": "ops", "\\"kub',
      'Allow policy of no service account is in the component, and no setting requires it: { "decision": "allow", "tokenType": "personal", "userLogin": "mallory", "rules": { "sub": "x" } }',
      'web/runner: Allow policy of web/runner is in the component, and no setting requires it: { "decision": "allow", "rules": { "\\"kubernetes.io\\".namespace',
    ],
  ],
  [
    "each difference of an issuer, and each further issuer of the cluster",
    [
      // Only Node.js reads it as the URL of Pulumi Cloud.
      set(PULUMI_CLOUD, "apiUrl", "https:\\\\api.pulumi.com"),
      set(ISSUER, "jwks", { keys: [] }),
      set(ISSUER, "thumbprints", [SECRET, NO_ONES]),
      setDeployed(ISSUER, "thumbprints", [SECRET]),
      add("pulumiservice:index:OidcIssuer", "inside", {}, INSIDE),
      addIssuer("spelling", { url: OTHER_SPELLING }),
      addIssuer("path", { organization: "x/../acme", url: OWN_URL }),
      addIssuer("secret", { url: SECRET }),
      addIssuer("not-known", { url: UNKNOWN }),
      addIssuer(
        "second-interface",
        { organization: undefined, orgName: "Acme", url: OWN_URL },
        "api/auth:OidcIssuer",
      ),
      addIssuer("policies", { policyId: "x", issuerId: "other" }, "api/auth:Policy"),
      addIssuer("other-policies", {}, "v1/auth:Policy"),
    ],
    [
      'The provider of Pulumi Cloud: apiUrl is "https:\\\\\\\\api.pulumi.com" instead of "https://api.pulumi.com".',
      "The OIDC issuer: thumbprints.0 is secret instead of ",
      `The OIDC issuer: thumbprints.1 is "${NO_ONES}" instead of none.`,
      'The OIDC issuer: jwks is { "keys": [] } instead of none.',
      "OidcIssuer inside is in the component, and no setting requires it.",
      `OidcIssuer spelling registers the cluster's issuer a second time, as "${OTHER_SPELLING}".`,
      `OidcIssuer path registers the cluster's issuer a second time, as "${OWN_URL}".`,
      "OidcIssuer secret registers an issuer whose URL is secret, so it cannot be compared.",
      "OidcIssuer not-known registers an issuer whose URL is known after the update only, so it cannot be compared.",
      `OidcIssuer second-interface registers the cluster's issuer a second time, as "${OWN_URL}".`,
      "Policy policies can replace the allow policies of any issuer. If it is for another issuer, write them as policies of a pulumiservice.OidcIssuer instead.",
      "Policy other-policies can replace the allow policies of any issuer. If it is for another issuer, write them as policies of a pulumiservice.OidcIssuer instead.",
    ],
  ],
  [
    "each difference of a ConfigMap, a Job, and the settings",
    [
      set(CONFIG_MAP, "data.tokenScope", "team:admins"),
      set(CONFIG_MAP, ["data", "exchange-token.sh"], UNKNOWN),
      set(JOB, "spec.template.spec.serviceAccountName", "admin"),
      set(CONFIG_MAP, "binaryData", { token: "eA==" }),
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
      `The resources of the component have several providers of kubernetes: ${PROVIDER}cluster, urn:pulumi`,
      `ci/deployer: Its policy "${ADMIN_POLICY}" is missing.`,
      "ci/deployer: Its request: exchange-token.sh is known after the update instead of that of this clone.",
      'ci/deployer: Its request: tokenScope is "team:admins" instead of "team:a".',
      'ci/deployer: Its ConfigMap: binaryData is { "token": "eA==" } instead of none.',
      "web/secrets: Its service account is missing.",
      'web/runner: Its ConfigMap: metadata.namespace is "x" instead of "web".',
      "ops/drift: Role access.ops.drift is in the component, and no setting requires it.",
      "ci/deployer: ServiceAccount access.ci.deployer is in the component, and no setting requires it.",
      "ops/drift: PodIdentityAssociation access.ops.drift is in the component, and no setting requires it.",
      "ci/deployer: Job access.ci.deployer is in the component, and no setting requires it.",
      "MutatingAdmissionPolicy access.inject-token is in the component, and no setting requires it.",
      "MutatingAdmissionPolicyBinding access.inject-token is in the component, and no setting requires it.",
    ],
  ],
  [
    "a new Job in another namespace, or with another ConfigMap, audience, path, or service account",
    [
      set(JOB, "metadata.namespace", "other"),
      set(JOB, `${POD}.volumes.1.projected.sources.0.configMap.name`, "other"),
      set(OTHER_JOB, `${POD}.volumes.1.projected.sources.1.serviceAccountToken.audience`, "other"),
      set(OTHER_JOB, `${POD}.volumes.1.projected.sources.1.serviceAccountToken.path`, "other"),
      set(LAST_JOB, `${POD}.serviceAccountName`, "other"),
      // A variable can contain those before it.
      (draft) => draft.edit(set(LAST_JOB, ENV, [...(draft.get(LAST_JOB, ENV) as unknown[])].reverse())),
      set(LAST_JOB, `${POD}.volumes.1.projected.sources.0.configMap.name`, UNKNOWN),
    ],
    [
      'ci/deployer: Its Job: metadata.namespace is "other" instead of "ci".',
      'ci/deployer: Its Job: spec.template.spec.volumes.pulumi-token-exchange.projected.sources.0.configMap.name is "other" instead of "deployer-pulumi-token-exchange".',
      'ops/drift: Its Job: spec.template.spec.volumes.pulumi-token-exchange.projected.sources.1.serviceAccountToken.audience is "other" instead of "urn:pulumi:org:acme".',
      'ops/drift: Its Job: spec.template.spec.volumes.pulumi-token-exchange.projected.sources.1.serviceAccountToken.path is "other" instead of "token".',
      'web/secrets: Its Job: spec.template.spec.containers.token-exchange.env is [ { "name": "PULUMI_CREDENTIAL_HELPER", "value": "/var/run/secrets/pulumi.co',
      'web/secrets: Its Job: spec.template.spec.serviceAccountName is "other" instead of "secrets".',
      `web/secrets: Its Job: spec.template.spec.volumes.pulumi-token-exchange.projected.sources.0.configMap.name is known after the update instead of "secrets-pulumi-token-exchange".`,
    ],
    newPlan,
  ],
  [
    "a binding of another admission policy, and what a new role or service account has besides",
    [
      set(BINDING, "spec.policyName", "other"),
      set(IRSA, "maxSessionDuration", 43_200),
      // It only says what a provider has added.
      set(IRSA, "__defaults", ["maxSessionDuration"]),
      set(POD_IDENTITY, "maxSessionDuration", 3600),
      set(IRSA, "tags", { team: "a" }),
      set(SERVICE_ACCOUNT, ["metadata", "annotations", "iam.gke.io/gcp-service-account"], "x"),
      set(SERVICE_ACCOUNT, ["metadata", "labels"], { team: "a" }),
      set("ServiceAccount access.web.secrets", "metadata.annotations", {
        "azure.workload.identity/client-id": "x",
      }),
      set("ServiceAccount access.web.secrets", "automountServiceAccountToken", true),
    ],
    [
      "ci/deployer: Its role: maxSessionDuration is 43200 instead of 3600.",
      'ci/deployer: Its service account: metadata.annotations.iam.gke.io/gcp-service-account is "x" instead of none.',
      "web/secrets: Its service account: automountServiceAccountToken is true instead of false.",
      'web/secrets: Its service account: metadata.annotations.azure.workload.identity/client-id is "x" instead of none.',
      'The binding of the admission policy: spec.policyName is "other" instead of "access-inject-token-9eb00901".',
    ],
    newPlan,
  ],
  [
    "a binding that is known after the update only, and comes from another policy",
    [set(BINDING, "spec.policyName", UNKNOWN), isOf(BINDING, "spec", JOB)],
    [
      'The binding of the admission policy: spec.policyName is known after the update instead of "access-inject-token-9eb00901".',
    ],
    newPlan,
  ],
  [
    "a new binding that also comes from something else",
    [set(BINDING, "spec.policyName", UNKNOWN), isOf(BINDING, "spec", INJECTION, JOB)],
    [
      'The binding of the admission policy: spec.policyName is known after the update instead of "access-inject-token-9eb00901".',
    ],
    newPlan,
  ],
  [
    "names of deployed objects that are known after the update only",
    [
      set(BINDING, "spec.policyName", UNKNOWN),
      isOf(BINDING, "spec", INJECTION),
      set(JOB, `${POD}.volumes.1.projected.sources.0.configMap.name`, UNKNOWN),
      isOf(JOB, "spec", CONFIG_MAP),
    ],
    [
      'ci/deployer: Its Job: spec.template.spec.volumes.pulumi-token-exchange.projected.sources.0.configMap.name is known after the update instead of "deployer-pulumi-token-exchange".',
      'The binding of the admission policy: spec.policyName is known after the update instead of "access-inject-token-9eb00901".',
    ],
  ],
  [
    "what the program only reads, so that its inputs do not say what exists",
    [read(ISSUER), read(CONFIG_MAP)],
    [
      "The OIDC issuer: external is true instead of none.",
      "ci/deployer: Its ConfigMap: external is true instead of none.",
    ],
    newPlan,
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
      "ci/deployer: Its role is missing.",
      `ci/deployer: Its policy "${READ_ONLY}": role is "${ROLE_NAME}" instead of an output of the component's own resource.`,
      `ci/deployer: Its service account: metadata.annotations.${ROLE_ANNOTATION} is "arn:aws:iam::123456789012:role/pulumi-oidc-ci-deployer-000000000`,
      "ops/drift: Its association with the role is missing.",
      "web/secrets: Its allow policy is missing.",
      "web/secrets: Its service account is missing.",
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
    [
      'The provider of Pulumi Cloud: apiUrl is none instead of "https://api.pulumi.com". The environment of each update decides. Set apiUrl of the provider to "https://api.pulumi.com".',
    ],
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
      "ci/deployer: teamName is secret, so what depends on it cannot be compared.",
      "The OIDC issuer: thumbprints is known after the update instead of [ ",
      'ci/deployer: Its trust policy: Statement.0.Condition.StringEquals is known after the update instead of { "oidc.eks.us-west-2.amazonaws.com/id/E',
      "ops/drift: Its allow policy is missing.",
      'ops/drift: Its trust policy is secret instead of { "Version": "2012-10-17", "Statement": [ { "Effect": "Allow", "Principal": { "Se',
      'web/secrets: Its service account: metadata is known after the update instead of { "annotations": {}, "labels": {}, "namespace": "web", "name": "secrets" }.',
      'Allow policy of no service account is in the component, and no setting requires it: { "decision": "allow", "rules": { "\\"kubernetes.io\\".namespace": "',
    ],
  ],
  [
    "new roles that are those of other resources",
    [
      isOf(SERVICE_ACCOUNT, "metadata", IRSA, POD_IDENTITY),
      isOf(ATTACHMENT, "role", POD_IDENTITY),
      isOf(ASSOCIATION, "roleArn"),
    ],
    [
      `ci/deployer: Its policy "${READ_ONLY}": role ${OF_OTHER_ROLE}`,
      `ci/deployer: Its service account: metadata.annotations.${ROLE_ANNOTATION} ${OF_OTHER_ROLE}`,
      `ops/drift: Its association with the role: roleArn ${OF_OTHER_ROLE}`,
    ],
    newPlan,
  ],
  [
    "unknown values of a new component beside known settings",
    [set(IRSA, "assumeRolePolicy", UNKNOWN), set(ISSUER, "policies.1", UNKNOWN)],
    [
      'ci/deployer: Its trust policy is known after the update instead of { "Version": "2012-10-17", "Statement": [ { "Effect": "Allow", "Principal": ',
      "ops/drift: Its allow policy is missing.",
      'Allow policy of no service account is in the component, and no setting requires it: { "policy": "known after the update" }',
    ],
    newPlan,
  ],
  [
    "unknown settings of a new component beside known or missing values",
    [
      set(COMPONENT, "issuerUrl", UNKNOWN),
      set(ISSUER, "thumbprints", [NO_ONES]),
      ...NEW_SETTINGS,
      set(ISSUER, "policies.0", UNKNOWN),
    ],
    [
      `The place where the component stays: input.issuerUrl is "${OWN_URL}" ${OPEN}`,
      `The OIDC issuer: url is "${OWN_URL}" ${OPEN}`,
      `The OIDC issuer: thumbprints is [ "${NO_ONES}" ] ${OPEN}`,
      "ci/deployer: Its allow policy is missing.",
      'ci/deployer: Its trust policy is { "Statement": [ { "Action": "sts:AssumeRoleWithWebIdentity", "Condition": { "StringEquals": { "oidc.eks.us-west-2.am',
      'Allow policy of no service account is in the component, and no setting requires it: { "policy": "known after the update" }',
    ],
    newPlan,
  ],
  [
    "a deployed component whose cluster is replaced",
    NEW_CLUSTER,
    [
      `The OIDC issuer: thumbprints is known after the update only. ${FIRST}`,
      `The OIDC issuer: url is known after the update only. ${FIRST}`,
      `ci/deployer: Its trust policy is known after the update only. ${FIRST}`,
      `ops/drift: Its trust policy is known after the update only. ${FIRST}`,
      `ops/drift: Its association with the role: clusterName is known after the update only. ${FIRST}`,
      `ops/drift: Its association with the role: region is known after the update only. ${FIRST}`,
    ],
  ],
  [
    "a role that exists elsewhere, in a new component of a new cluster",
    [...NEW_CLUSTER, takeOver(IRSA)],
    [`ci/deployer: Its trust policy is known after the update only. ${FIRST}`],
    newPlan,
  ],
  [
    "a runner pool and an audience that the program creates for what is deployed",
    [
      ...NEW_POOL,
      set(COMPONENT, "serviceAccounts.0.tokenAudience", UNKNOWN),
      set(ISSUER, "policies.0.rules.aud", UNKNOWN),
      set(INJECTION, "spec.variables.0.expression", UNKNOWN),
      set(JOB, `${POD}.volumes.1.projected.sources.1.serviceAccountToken.audience`, UNKNOWN),
    ],
    [
      `ci/deployer: Its allow policy: rules.aud is known after the update only. ${FIRST}`,
      `web/runner: Its allow policy: runnerID is known after the update only. ${FIRST}`,
      `The admission policy: spec.variables.audiences.expression is known after the update only. ${FIRST}`,
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
  const missing = ["ci/deployer", "ops/drift", "web/secrets", "web/runner"].map(
    (account) => `${account}: Its allow policy is missing.`,
  );
  for (const [plan, policies, words] of [
    [deployedPlan, undefined, undefined],
    [deployedPlan, SECRET, "secret"],
    [deployedPlan, UNKNOWN, "known after the update"],
    [newPlan, UNKNOWN, "known after the update"],
  ] as const) {
    const { findings } = (await plan(set(ISSUER, "policies", policies))).check();
    const ofIssuer = findings.filter((it) =>
      it.startsWith(`The OIDC issuer: policies is ${words} instead of [ {`),
    );
    assert.equal(ofIssuer.length, words ? 1 : 0);
    assert.deepEqual(
      findings.filter((it) => !ofIssuer.includes(it)),
      missing,
    );
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
      set(COMPONENT, "serviceAccounts.1.tokenAudience", UNKNOWN),
      set(OTHER_JOB, `${POD}.volumes.1.projected.sources.1.serviceAccountToken.audience`, UNKNOWN),
      ...[JOB, OTHER_JOB, LAST_JOB].map((job) => set(job, `${POD}.containers.0.image`, UNKNOWN)),
    ],
  ],
  [
    "a new service account with a runner pool that the program creates",
    deployedPlan,
    [...NEW_POOL, setDeployed(ISSUER, "policies.3")],
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
    [setDeployed(COMPONENT, "createTeams", []), setDeployed(COMPONENT, "serviceAccounts.0.more", 1)],
  ],
  [
    "issuers of another cluster or organization",
    deployedPlan,
    [
      addIssuer("of-other-cluster", { url: OTHER_URL }),
      addIssuer("of-other-organization", { organization: "other", url: OWN_URL }),
      addIssuer("policies-of-other-organization", { organization: "other" }, "api/auth:Policy"),
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
  const draft = await newPlan(set(ISSUER, "thumbprints", [NO_ONES]));
  Object.assign(draft.step(ISSUER), { op: "import", oldState: { id: "acme/id", inputs: {} } });
  const { findings, changes } = draft.check();
  assert.deepEqual(findings, []);
  assert.ok(
    changes.includes("changed OidcIssuer access.oidc-issuer: takes over what exists already: acme/id"),
  );
  assert.ok(changes.includes(`new the component: the OIDC issuer thumbprints.0: none → "${NO_ONES}"`));
});

test("compares nothing if a component becomes something else, also beside another component", async () => {
  const draft = await deployedPlan();
  const ofComponent = draft.steps.filter(({ urn }) => urn.includes("PulumiCloudAccess"));
  const decoy = JSON.parse(
    JSON.stringify(ofComponent)
      .replaceAll(/(?<=[:"])access(?=[."])/g, "decoy")
      .replaceAll("EXAMPLED", "DECOYD"),
  );
  const changed = ofComponent.map(({ newState, ...step }) => {
    const now = JSON.stringify({ ...step, newState }).replaceAll(
      "eks-pulumi-oidc:index:PulumiCloudAccess",
      "acme:index:Other",
    );
    return { ...JSON.parse(now), oldState: step.oldState };
  });
  const others = draft.steps.filter((step) => !ofComponent.includes(step));
  const hostile = new Draft([...others, ...changed, ...decoy]);
  assert.throws(() => hostile.check(), {
    message: 'PulumiCloudAccess "access" becomes acme:index:Other, so nothing of it can be compared.',
  });
});

test("reads a component that an alias renames as one", async () => {
  const { steps } = await deployedPlan();
  const renamed = steps.map(({ oldState, ...step }) => {
    const now = JSON.parse(JSON.stringify(step).replaceAll(/(?<=[:"])access(?=[."])/g, "renamed"));
    return { ...now, ...(oldState && { oldState: { ...oldState, urn: step.urn } }) };
  });
  const { findings, changes } = new Draft(renamed).check();
  assert.deepEqual([findings, changes], [[], []]);
});
