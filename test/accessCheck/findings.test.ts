// What the access check finds in a plan: one sentence for each kind of finding. everyValue.test.ts changes each value of a component.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  ASSOCIATION,
  ATTACHMENT,
  add,
  addOwnProvider,
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
  setExisting,
  UNKNOWN,
} from "./draft";

const ANYONE = { Effect: "Allow", Principal: "*", Action: "*" };
const OTHER_POLICY = { decision: "allow", tokenType: "personal", userLogin: "mallory", rules: { sub: "x" } };
const OWN_URL = `https://${ISSUER_URL}`;
const OTHER_URL = "https://oidc.eks.eu-west-1.amazonaws.com/id/OTHER";
const OTHER_SPELLING =
  "HTTPS://OIDC.eks.us-west-2.amazonaws.com.:443//ID/EXAMPLE%44539D4633E53DE1B71EXAMPLE/";
const SET_API_URL =
  'Set apiUrl of the provider to "https://api.pulumi.com": without it, the environment of each update decides.';
const FIRST =
  "What is deployed cannot be compared with it. Deploy first what it comes from, and preview again.";
const NO_ONES = "0".repeat(64);
const ROLE_ANNOTATION = "eks.amazonaws.com/role-arn";
const OF_OTHER_ROLE = "is known after the update instead of an output of the component's own resource.";
const PROVIDER = "urn:pulumi:dev::eks-pulumi-oidc::pulumi:providers:kubernetes::";
const POD = "spec.template.spec";
const OTHER_JOB = "Job access.ops.drift";
const LAST_JOB = "Job access.web.secrets";
const OTHER_ACCOUNT = "ServiceAccount access.web.secrets";

/** Returns an edit that adds another issuer, by default to the organization of the component. */
const addIssuer = (name: string, inputs: object, type = "index:OidcIssuer") =>
  add(`pulumiservice:${type}`, name, { organization: "acme", ...inputs });

/** Returns an edit that replaces the trust policy by one that depends on it. */
const changeTrustPolicy = (change: (policy: string) => unknown): Edit => {
  return (draft) =>
    draft.edit(set(IRSA, "assumeRolePolicy", change(JSON.stringify(draft.get(IRSA, "assumeRolePolicy")))));
};

/** Returns an edit by which a resource does not exist yet. */
const create = (resource: string): Edit => {
  return (draft) => Object.assign(draft.step(resource), { op: "create", oldState: null });
};

/** Returns an edit by which the program only reads a resource. */
const read = (resource: string): Edit => {
  return (draft) => {
    const step = draft.step(resource);
    step.op = "read";
    Object.assign(step.newState ?? {}, { external: true, id: "other" });
  };
};

/** Returns an edit by which an input comes from these resources. */
const isOf = (resource: string, input: string, ...sources: string[]): Edit => {
  return (draft) =>
    Object.assign(draft.step(resource).newState?.propertyDependencies ?? {}, {
      [input]: sources.map((source) => draft.step(source).urn),
    });
};

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
  set("Stash access.oidc-issuer.place", "input.issuerUrl", UNKNOWN),
];

/** A team and a permissions boundary that the program creates, for all that depends on them but an allow policy. */
const NEW_SETTINGS = [
  set(COMPONENT, "serviceAccounts.0.teamName", UNKNOWN),
  set(CONFIG_MAP, "data.tokenScope", UNKNOWN),
  set(COMPONENT, "permissionsBoundaryArn", UNKNOWN),
  ...[IRSA, POD_IDENTITY].map((role) => set(role, "permissionsBoundary", UNKNOWN)),
];

/** A plan, and the sentences that are found in it: what does not end with a period is only a beginning. */
type Case = [what: string, edits: Edit[], found: string[], plan?: typeof newPlan];

const CASES: Case[] = [
  [
    "a value that differs, and one that is added, missing, or known after the update only beside a known setting",
    [
      set(ISSUER, "maxExpirationSeconds", 9),
      set(IRSA, "path", "/x/"),
      set(IRSA, "assumeRolePolicy.Statement.1", ANYONE),
      set(CONFIG_MAP, "data.tokenScope"),
      set(OTHER_JOB, `${POD}.serviceAccountName`, UNKNOWN),
      set("Stash access.oidc-issuer.place", "input.organization", "other"),
    ],
    [
      'The place where the component stays: input.organization is "other" instead of "acme".',
      "The OIDC issuer: maxExpirationSeconds is 9 instead of ",
      'ci/deployer: Its trust policy: Statement.1 is { "Effect": "Allow", "Principal": "*", "Action": "*" } instead of none.',
      'ci/deployer: Its role: path is "/x/" instead of "/".',
      'ci/deployer: Its request: tokenScope is none instead of "team:a".',
      'ops/drift: Its Job: spec.template.spec.serviceAccountName is known after the update instead of "drift".',
    ],
    newPlan,
  ],
  [
    "an empty value that says something, in a role, a selector, and an allow policy",
    [
      set(IRSA, "managedPolicyArns", []),
      set(IRSA, "inlinePolicies", []),
      set(INJECTION, "spec.matchConstraints.objectSelector", {}),
      set(ISSUER, "policies.3.rules.sub", []),
    ],
    [
      "ci/deployer: Its role: managedPolicyArns is [] instead of none.",
      "ci/deployer: Its role: inlinePolicies is [] instead of none.",
      "The admission policy: spec.matchConstraints.objectSelector is {} instead of none.",
      "web/runner: Its allow policy: rules.sub is [] instead of none.",
    ],
  ],
  [
    "an annotation that gives an identity, and no other annotation, label, or tag",
    [
      set(OTHER_ACCOUNT, "metadata.annotations", { "azure.workload.identity/client-id": "x", team: "a" }),
      set(OTHER_ACCOUNT, "metadata.labels", { team: "a" }),
      set(IRSA, "tags", { team: "a" }),
    ],
    [
      'web/secrets: Its service account: metadata.annotations.azure.workload.identity/client-id is "x" instead of none.',
    ],
  ],
  [
    "what is missing",
    [remove(IRSA), set(ISSUER, "policies.2"), remove(OTHER_ACCOUNT)],
    [
      "ci/deployer: Its role is missing.",
      `ci/deployer: Its policy "${READ_ONLY}": role is "pulumi-oidc-ci-deployer-`,
      `ci/deployer: Its service account: metadata.annotations.${ROLE_ANNOTATION} is "arn:aws:iam::`,
      "web/secrets: Its service account is missing.",
      "web/secrets: Its allow policy is missing.",
    ],
  ],
  [
    "what is in the component, and no setting requires",
    [
      add("aws:iam/rolePolicy:RolePolicy", "access.ci.deployer", {}, INSIDE),
      add("kubernetes:core/v1:Namespace", "access.more", {}, INSIDE),
      add("pulumiservice:index:OidcIssuer", "inside", {}, INSIDE),
      // The same name, below another parent.
      add("a:b:C$aws:iam/role:Role", "access.ci.deployer", {}, { ...INSIDE, type: "aws:iam/role:Role" }),
      set(COMPONENT, "serviceAccounts.1.awsRole", "none"),
    ],
    [
      "ops/drift: Role access.ops.drift is in the component, and no setting requires it.",
      "ops/drift: PodIdentityAssociation access.ops.drift is in the component, and no setting requires it.",
      "ci/deployer: RolePolicy access.ci.deployer is in the component, and no setting requires it.",
      "Namespace access.more is in the component, and no setting requires it.",
      "OidcIssuer inside is in the component, and no setting requires it.",
      "ci/deployer: Role access.ci.deployer is in the component, and no setting requires it.",
    ],
  ],
  [
    "an allow policy with a pattern, with a rule that is not an own key, of no one, and a second one",
    [
      set(ISSUER, ["policies", 1, "rules", '"kubernetes.io".serviceaccount.name'], "d*"),
      set(ISSUER, "policies.2.rules.__proto__", "x"),
      set(ISSUER, "policies.4", OTHER_POLICY),
      (draft) => draft.edit(set(ISSUER, "policies.5", draft.get(ISSUER, "policies.3"))),
    ],
    [
      "ops/drift: Its allow policy is missing.",
      'web/secrets: Its allow policy: rules.__proto__ is "x" instead of none.',
      'Allow policy of ops/d* is in the component, and no setting requires it: { "decision": "allow", "rules": { "\\"kubernetes.io\\".namespace": "ops", "\\"kub',
      'Allow policy of no service account is in the component, and no setting requires it: { "decision": "allow", "tokenType": "personal", "userLogin": "mallory", "rules": { "sub": "x" } }',
      'web/runner: Allow policy of web/runner is in the component, and no setting requires it: { "decision": "allow", "rules": { "\\"kubernetes.io\\".namespace',
    ],
  ],
  [
    "any audience, with a setting to match",
    [
      set(COMPONENT, "serviceAccounts.1.tokenAudience", "*"),
      set(ISSUER, "policies.1.rules.aud", "*"),
      set(OTHER_JOB, `${POD}.volumes.1.projected.sources.1.serviceAccountToken.audience`, "*"),
    ],
    ['ops/drift: "*" is not valid: an allow policy could take it for a pattern.'],
  ],
  [
    "settings of another version, that are secret, that can be patterns, and that do not fit together",
    [
      set(COMPONENT, "more", true),
      set(COMPONENT, "serviceAccounts.0.teamName", SECRET),
      set(COMPONENT, "serviceAccounts.3.namespace", "*"),
      set(COMPONENT, "serviceAccounts.3.name", "r.nner"),
      set(COMPONENT, "oidcProviderArn", "x"),
    ],
    [
      "more is a setting of another version of this project, so it is not compared.",
      "ci/deployer: teamName is secret, so what depends on it cannot be compared.",
      '*/r.nner: "*" is not valid: an allow policy could take it for a pattern.',
      '*/r.nner: "r.nner" is not valid: an allow policy could take it for a pattern.',
      `oidcProviderArn is "x", which is not the provider of issuerUrl "${OWN_URL}".`,
      'ci/deployer: Its trust policy: Statement.0.Principal.Federated is "arn:aws:iam::',
      "*/r.nner: Its component is missing.",
      "*/r.nner: Its service account is missing.",
      "*/r.nner: Its ConfigMap is missing.",
      "*/r.nner: Its allow policy is missing.",
      'Allow policy of web/runner is in the component, and no setting requires it: { "decision": ',
      "WorkloadIdentity access.web.runner is in the component, and no setting requires it.",
      "ServiceAccount access.web.runner is in the component, and no setting requires it.",
      "ConfigMap access.web.runner.pulumi-token-exchange is in the component, and no setting requires it.",
    ],
  ],
  [
    "secret values",
    [
      set(POD_IDENTITY, "assumeRolePolicy", {
        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
      }),
      set(ISSUER, "thumbprints", [SECRET]),
    ],
    [
      "The OIDC issuer: thumbprints.0 is secret instead of ",
      'ops/drift: Its trust policy is secret instead of { "Version": "2012-10-17", "Statement": [ { "Effect": "Allow", "Principal": { "Se',
    ],
  ],
  [
    "two providers, and a provider of Pulumi Cloud with another URL, plugin, or variables",
    [
      (draft) => Object.assign(draft.step(JOB).newState ?? {}, { provider: `${PROVIDER}other::id` }),
      // Only Node.js reads it as the URL of Pulumi Cloud.
      set(PULUMI_CLOUD, "apiUrl", "https:\\\\api.pulumi.com"),
      set(PULUMI_CLOUD, "__internal", {
        name: "other",
        parameterization: "e30=",
        pluginDownloadURL: "https://example.com",
        envVarMappings: { PULUMI_ACCESS_TOKEN: "OTHER" },
      }),
    ],
    [
      `The resources of the component have several providers of kubernetes: ${PROVIDER}cluster, urn:pulumi`,
      `The provider of Pulumi Cloud: apiUrl is "https:\\\\\\\\api.pulumi.com" instead of "https://api.pulumi.com". ${SET_API_URL}`,
      'The provider of Pulumi Cloud: name is "other" instead of none.',
      'The provider of Pulumi Cloud: parameterization is "e30=" instead of none.',
      'The provider of Pulumi Cloud: pluginDownloadURL is "https://example.com" instead of none.',
      'The provider of Pulumi Cloud: envVarMappings is { "PULUMI_ACCESS_TOKEN": "OTHER" } instead of none.',
    ],
  ],
  [
    "another plugin of the provider of Pulumi Cloud, where the engine has noted none",
    [set(PULUMI_CLOUD, "pluginDownloadURL", "https://example.com")],
    ['The provider of Pulumi Cloud: pluginDownloadURL is "https://example.com" instead of none.'],
  ],
  [
    "another role, where the program has made the outputs of the component's own secret",
    [
      setExisting(POD_IDENTITY, "arn", SECRET),
      set(ASSOCIATION, "roleArn", "arn:aws:iam::123456789012:role/other"),
      setExisting(IRSA, "arn", SECRET),
      set(
        SERVICE_ACCOUNT,
        ["metadata", "annotations", ROLE_ANNOTATION],
        "arn:aws:iam::123456789012:role/other",
      ),
      setExisting(IRSA, "name", SECRET),
      set(ATTACHMENT, "role", "other"),
    ],
    [
      'ci/deployer: Its policy "arn:aws:iam::aws:policy/ReadOnlyAccess": role is "other" instead of an output of',
      `ci/deployer: Its service account: metadata.annotations.${ROLE_ANNOTATION} is "arn:aws:iam::123456789012:role/other" instead of an output of`,
      'ops/drift: Its association with the role: roleArn is "arn:aws:iam::123456789012:role/other" instead of an output of',
    ],
  ],
  [
    "a provider of Pulumi Cloud that has no URL, or that is not in the program",
    [
      ({ steps }) => {
        const states = steps.flatMap(({ newState }) => newState ?? []);
        for (const state of states) if (state.provider?.includes(":pulumiservice:")) delete state.provider;
      },
    ],
    [`The provider of Pulumi Cloud: apiUrl is none instead of "https://api.pulumi.com". ${SET_API_URL}`],
  ],
  [
    "what the program only reads, so that its inputs do not say what exists",
    [read(CONFIG_MAP)],
    ["ci/deployer: Its ConfigMap: external is true instead of none."],
    newPlan,
  ],
  [
    "each further issuer of the cluster, and what could replace its policies",
    [
      addIssuer("spelling", { url: OTHER_SPELLING }),
      addIssuer("path", { organization: "x/../acme", url: OWN_URL }),
      addIssuer("secret", { url: SECRET }),
      addIssuer("not-known", { url: UNKNOWN }),
      addIssuer(
        "second-interface",
        { organization: "other", orgName: "Acme", url: OWN_URL },
        "api/auth:OidcIssuer",
      ),
      addIssuer("policies", { policyId: "x", issuerId: "other" }, "api/auth:Policy"),
      addIssuer("other-policies", {}, "v1/auth:Policy"),
    ],
    [
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
    "outputs of other resources in place of the component's own role",
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
    "an unknown whole that contains no output of the component's own resource",
    [set(OTHER_ACCOUNT, "metadata", UNKNOWN), set(ISSUER, "policies.1", UNKNOWN)],
    [
      'web/secrets: Its service account: metadata is known after the update instead of { "annotations": {}, "labels": {}, "namespace": "web", "name": "secrets" }.',
      "ops/drift: Its allow policy is missing.",
      "Allow policy of no service account is in the component, and no setting requires it: known after the update",
    ],
    newPlan,
  ],
  [
    "unknown settings of a new component beside known values",
    [set(COMPONENT, "issuerUrl", UNKNOWN)],
    [
      `The place where the component stays: input.issuerUrl is "${OWN_URL}" instead of known after the update.`,
      `The OIDC issuer: url is "${OWN_URL}" instead of known after the update.`,
      'ci/deployer: Its trust policy is { "Statement": [ { "Action": "sts:AssumeRoleWithWebIdentity", "Condition": { "StringEquals": { "oidc.eks.us-west-2.am',
    ],
    newPlan,
  ],
  [
    "unknown values of a deployed component that grant something, whose settings are unknown, too",
    [...NEW_CLUSTER, ...NEW_POOL],
    [
      `The OIDC issuer: thumbprints is known after the update only. ${FIRST}`,
      `The OIDC issuer: url is known after the update only. ${FIRST}`,
      `ci/deployer: Its trust policy is known after the update only. ${FIRST}`,
      `ops/drift: Its trust policy is known after the update only. ${FIRST}`,
      `ops/drift: Its association with the role: clusterName is known after the update only. ${FIRST}`,
      `ops/drift: Its association with the role: region is known after the update only. ${FIRST}`,
      `web/runner: Its allow policy: runnerID is known after the update only. ${FIRST}`,
    ],
  ],
  [
    "a role that exists elsewhere, in a new component of a new cluster",
    [
      ...NEW_CLUSTER,
      (draft) => Object.assign(draft.step(IRSA), { op: "update", oldState: { id: "other", inputs: {} } }),
    ],
    [`ci/deployer: Its trust policy is known after the update only. ${FIRST}`],
    newPlan,
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
      set(COMPONENT, "audienceRule", false),
      ...[0, 1, 2, 3].map((index) => set(ISSUER, `policies.${index}.rules.aud`)),
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
      addOwnProvider(
        {
          __internal: { pluginDownloadURL: "", envVarMappings: {} },
          accessToken: UNKNOWN,
          version: "1.6.0",
        },
        {},
      ),
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

test("lists the thumbprints that an imported issuer has already, and does not find them", async () => {
  const draft = await newPlan(set(ISSUER, "thumbprints", [NO_ONES]));
  const { newState } = draft.step(ISSUER);
  Object.assign(draft.step(ISSUER), { op: "import", newState: { ...newState, importID: "acme/id" } });
  const { findings, rows } = draft.check();
  assert.deepEqual(findings, []);
  const [row = ""] = rows.filter((it) =>
    it.startsWith("imports OidcIssuer access.oidc-issuer (ID: acme/id, "),
  );
  assert.ok(row.endsWith(`; thumbprints.0: none → "${NO_ONES}"`), rows.join("\n"));
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
  const { findings, settings, rows } = new Draft(renamed).check();
  assert.deepEqual([findings, settings], [[], []]);
  assert.deepEqual(
    rows.filter((row) => !row.startsWith("moves ")),
    [],
  );
});

test("says that outputs of the component's own new role are not known yet, also as a whole", async () => {
  const whole = [set(SERVICE_ACCOUNT, "metadata", UNKNOWN), isOf(SERVICE_ACCOUNT, "metadata", IRSA)];
  const { findings, unknown, unknownRoles } = (await newPlan(...whole)).check();
  assert.deepEqual([findings, unknown], [[], []]);
  assert.deepEqual(unknownRoles, ["ci/deployer", "ops/drift"]);
});
