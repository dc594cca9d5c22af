// What the guardrails stop, what they print for a reviewer, and what passes: a line for each. Each resource is judged by itself.

import type { Resource } from "../../policy/rule";
import { type Fields, UNKNOWN, type Value } from "../../policy/values";

const EKS = "oidc.eks.us-west-2.amazonaws.com/id/A1";
const GITHUB = "token.actions.githubusercontent.com";
const TOKEN = `pul-${"0123456789".repeat(4)}`;
const AUD = "urn:pulumi:org:acme";
const STS = "sts.amazonaws.com";
const NAMESPACE = '"kubernetes.io".namespace';
const NAME = '"kubernetes.io".serviceaccount.name';
const NAMES = { [NAMESPACE]: "ci", [NAME]: "deployer" };
const DEPLOYER = "system:serviceaccount:ci:deployer";
const base64 = (text: string) => Buffer.from(text).toString("base64");

const of = (type: string, inputs: Fields, others: Partial<Resource> = {}): Resource => {
  return { urn: `urn:${type}`, type, name: "it", inputs, ...others };
};

/** An issuer with one allow policy for each of these rules, for a team. */
const issuer = (url: string, rules: Value | Value[], policy: Fields = {}, inputs: Fields = {}) => {
  const grant = { decision: "allow", tokenType: "team", teamName: "app-dev", ...policy };
  const policies = [rules].flat().map((it) => ({ ...grant, rules: it }));
  const given = { organization: "acme", url: `https://${url}`, maxExpirationSeconds: 3600, policies };
  return of("pulumiservice:index:OidcIssuer", { ...given, ...inputs });
};
/** The issuer of an EKS cluster with an allow policy as it should be, and more or other rules. */
const eks = (rules: Fields = {}, policy: Fields = {}, inputs: Fields = {}) =>
  issuer(EKS, { ...NAMES, aud: AUD, ...rules }, policy, inputs);
/** The issuer of EKS with these rules only. */
const only = (rules: Fields) => issuer(EKS, { aud: AUD, ...rules });
const github = (rules: Fields = {}, policy: Fields = {}) =>
  issuer(GITHUB, { aud: AUD, sub: "repo:acme/app:ref:refs/heads/main", ...rules }, policy);
const authPolicy = (rules: Fields) =>
  of("pulumiservice:api/auth:Policy", { orgName: "acme", policies: [{ decision: "allow", rules }] });
const provider = (inputs: Fields) => of("pulumi:providers:pulumiservice", { version: "1.5.0", ...inputs });

const role = (Statement: Value, inputs: Fields = {}, others: Partial<Resource> = {}) => {
  const assumeRolePolicy = JSON.stringify({ Version: "2012-10-17", Statement });
  return of("aws:iam/role:Role", { assumeRolePolicy, ...inputs }, others);
};
const nativeRole = (Statement: Value) =>
  of("aws-native:iam:Role", { assumeRolePolicyDocument: { Statement } });
/** A statement for ID tokens. In the conditions, `:sub` and `:aud` are those of the issuer. */
const oidc = (url: string, Condition: Record<string, Fields> = {}, others: Fields = {}): Fields => {
  const keys = (fields: Fields) =>
    Object.fromEntries(
      Object.entries(fields).map(([key, it]) => [key.startsWith(":") ? url + key : key, it]),
    );
  const conditions = Object.entries(Condition).map(([operator, fields]) => [operator, keys(fields)]);
  return {
    Effect: "Allow",
    Principal: { Federated: `arn:aws:iam::1:oidc-provider/${url}` },
    Action: "sts:AssumeRoleWithWebIdentity",
    Condition: Object.fromEntries(conditions),
    ...others,
  };
};
const irsa = (sub: Value = DEPLOYER, aud: Value = STS, url = EKS) =>
  oidc(url, { StringEquals: { ":sub": sub, ":aud": aud } });
const like = (sub: Value, url = EKS) =>
  oidc(url, { StringLike: { ":sub": sub }, StringEquals: { ":aud": STS } });
const assumed = (Principal: Value, others: Fields = {}): Fields => {
  return { Effect: "Allow", Principal, Action: "sts:AssumeRole", ...others };
};
const podIdentity = assumed(
  { Service: "pods.eks.amazonaws.com" },
  { Action: ["sts:AssumeRole", "sts:TagSession"] },
);
const object = (type: string, inputs: Fields, outputs?: Fields) =>
  of(`kubernetes:${type}`, inputs, { outputs });
const exchange = (added: Fields, type = "ConfigMap") => {
  const data = { "exchange-token.sh": "#!" };
  return object(`core/v1:${type}`, { data }, { data: { ...data, ...added } });
};
const account = (annotation: string, given: Fields = {}) => {
  const existing = { metadata: { annotations: { ...given, [annotation]: "x" } } };
  return object("core/v1:ServiceAccount", { metadata: { annotations: given } }, existing);
};
const IDENTITY = "eks.amazonaws.com/role-arn";

const limits = (settings: Fields) => ({ limits: settings });
const BOUNDARY = { "permissions-boundary": { arns: ["arn:b"] } };
const STAGE = limits({ forbidden: ["team:*-prod", "user:*", "runner:*", "role:r1"] });
/** One that names a cluster of its own, such as kubeadm's. */
const LISTED = limits({ clusters: ["https://k8s.acme.com"] });

/** What it is, the resource, a part of the message, and the configuration of the pack. */
type Violation = [what: string, resource: Resource, message: string, configuration?: Fields];
/** What it is, its resources, and the configuration of the pack. */
type Program = [what: string, resources: Resource[], configuration?: Fields];

/** Each is reported by its guardrail, and by no other. */
// biome-ignore format: each case is a line
export const VIOLATIONS: Record<string, Violation[]> = {
  limits: [
    ["an admin", eks({}, { authorizedPermissions: ["admin"] }), '"ci/deployer" is granted an admin\'s token. To allow it, change organizationAdmins of "limits".'],
    ["an admin in another case, of an unknown token type", eks({}, { tokenType: "future", authorizedPermissions: ["standard", " Admin"] }), "admin's"],
    ["an admin of GitHub", github({}, { authorizedPermissions: ["admin"] }), '"repo:acme/app:ref:refs/heads/main" is granted'],
    ["an admin by a decision that is not deny", eks({}, { decision: "Allow", authorizedPermissions: ["admin"] }), "admin's"],
    ["an admin by a policy without a decision", eks({}, { decision: undefined, authorizedPermissions: ["admin"] }), "admin's"],
    ["an admin where another one is listed", eks({}, { authorizedPermissions: ["admin"] }), "admin's", limits({ organizationAdmins: ["ops/admin"] })],
    ["another stage's team", eks({}, { teamName: "app-prod" }), 'can be granted a forbidden token: "team:*-prod". To allow it, change forbidden', STAGE],
    ["another stage's team in another case", eks({}, { teamName: "App-PROD" }), '"team:*-prod"', STAGE],
    ["another stage's team by a pattern", eks({}, { teamName: "app-*" }), '"team:*-prod"', STAGE],
    ["another stage's team by a dot", eks({}, { teamName: "app.prod" }), '"team:*-prod"', STAGE],
    ["a user's token", eks({}, { tokenType: "personal", userLogin: "alice" }), '"user:*"', STAGE],
    ["a runner's token", eks({}, { tokenType: "runner", runnerID: "r" }), '"runner:*"', STAGE],
    ["a forbidden role", eks({}, { roleID: "r1" }), '"role:r1"', STAGE],
    ["a forbidden role in the case of another module", eks({}, { roleId: "r1" }), '"role:r1"', STAGE],
    ["GitHub is granted a forbidden team", github({}, { teamName: "app-prod" }), "forbidden", STAGE],
    ["tokens that live longer", eks({}, {}, { maxExpirationSeconds: 3601 }), "maxExpirationSeconds is 3601 instead of at most 3600. To allow it, change maxExpirationSeconds"],
    ["tokens without a limit", eks({}, {}, { maxExpirationSeconds: 0 }), "is 0 instead"],
    ["the limit of the organization", eks({}, {}, { maxExpirationSeconds: undefined }), "is missing instead"],
    ["two limits, of which one is longer", eks({}, {}, { maxExpiration: 9000 }), "[3600,9000]"],
    ["a longer one by api/auth", of("pulumiservice:api/auth:OidcIssuer", { url: `https://${EKS}`, maxExpiration: 9000 }), "is 9000"],
    ...["container.googleapis.com/v1/projects/a/locations/b/clusters/c", "oidc-eks.us-west-2.api.aws/id/A", "westeurope.oic.prod-aks.azure.com/a/b/", "usgovvirginia.oic.prod-aks.azure.us/a/", "chinaeast2.oic.prod-aks.azure.cn/a/", "oidc.prod-aks.azure.com/a/", `${EKS.toUpperCase()}/`, EKS.replace("/id", "//%69d"), `${EKS.replace(".com", ".com.:443")}`].map((url): Violation => [`a longer one of ${url}`, issuer(url, [], {}, { maxExpirationSeconds: 9000 }), "is 9000"]),
    ["a longer one of a listed cluster", issuer("k8s.acme.com", [], {}, { maxExpirationSeconds: 9000 }), "is 9000", LISTED],
    ["an issuer that is not listed", issuer("gitlab.com.evil", { sub: "x" }), 'url is "https://gitlab.com.evil" instead of one of', limits({ issuers: ["https://gitlab.com"] })],
    ["an issuer below another directory", issuer("x.com/ab", { sub: "x" }), "instead of one of", limits({ issuers: ["x.com/a"] })],
  ],
  "one-service-account": [
    ["Pulumi's guide, which requires no audience", issuer(EKS, NAMES), "The aud of ci/deployer is missing instead of one that is not AWS'. To allow it, change requireAudience"],
    ...["urn:*", "*x", "urn:?", "...", "", STS, `${STS}.cn`, "sts?amazonaws.com", `urn:${UNKNOWN}:*`].map((aud): Violation => [`the audience "${aud}"`, eks({ aud }), "The aud of ci/deployer is"]),
    ["AWS' audience where none is required to be Pulumi's", only({ sub: DEPLOYER, aud: STS }), "aud"],
    ["any namespace", eks({ [NAMESPACE]: "*" }), "names no single service account"],
    ["any name", eks({ [NAME]: "deploy-?" }), "names no single"],
    ["a dot in a name, which is a wildcard", eks({ [NAME]: "a.b" }), "names no single"],
    ["a namespace only", only({ [NAMESPACE]: "ci" }), "names no single"],
    ["a name only", only({ [NAME]: "deployer" }), "names no single"],
    ["two namespaces in place of a name", only({ [NAMESPACE]: ["ci", "x"] }), "names no single"],
    ["a claim without its quotes", only({ "kubernetes.io.namespace": "ci", "kubernetes.io.serviceaccount.name": "x" }), "names no single"],
    ...["*", `${DEPLOYER}*`, "system:serviceaccount:ci:*", "system:serviceaccount:ci", `${DEPLOYER}:x`, "System:ServiceAccount:ci:x"].map((sub): Violation => [`the sub ${sub}`, only({ sub }), "names no single"]),
    ["an audience only", only({}), "names no single"],
    ["another claim of EKS", only({ repository: "acme/app" }), "names no single"],
    ["one of two allow policies", issuer(EKS, [{ ...NAMES, aud: AUD }, { sub: "x", aud: AUD }]), 'account: {"sub":"x"'],
    ...["system:serviceaccount:ci:*", "s*:ci:deployer", "sys?em:serviceaccount:ci:x*", "x|system:serviceaccount:ci:x"].map((sub): Violation => [`an unknown issuer with the sub ${sub}`, issuer("x.com", { sub, aud: AUD }), "names no single"]),
    ...["kubernetes.io", "'kubernetes.io'", '"kubernetes"."io"', '"Kubernetes.IO"'].map((claim): Violation => [`an unknown issuer with the claim ${claim}`, issuer("x.com", { [`${claim}.namespace`]: "ci", aud: AUD }), "names no single"]),
    ["any of a listed cluster", issuer("K8S.acme.com/", { aud: AUD, sub: "x" }), "names no single", LISTED],
    ["a namespace by api/auth", authPolicy({ [NAMESPACE]: "ci", aud: AUD }), "names no single"],
  ],
  login: [
    ...["https://evil.example.com", "http://api.pulumi.com", "https://api.pulumi.com.evil.com", "https://api.pulumi.com@evil.com"].map((apiUrl): Violation => [apiUrl, provider({ apiUrl }), `The provider's apiUrl is "${apiUrl}" instead of one of ["https://api.pulumi.com"]. To allow it, change apiUrls`]),
    ["its own token", provider({ accessToken: TOKEN }), "has an accessToken instead of the login's. To allow it, change allowAccessToken"],
    ["a provider that --target leaves out", { ...eks(), unaskedProvider: provider({ apiUrl: "https://x" }) }, '"https://x"'],
  ],
  trust: [
    ["any service account", role(oidc(EKS, { StringEquals: { ":aud": STS } })), `Its trust policy requires the sub [] instead of "system:serviceaccount:NAMESPACE:NAME", by StringEquals of ${EKS}:sub.`],
    ["any service account, of aws-native", nativeRole(oidc(EKS)), "the sub []"],
    ...["*", "system:serviceaccount:*", "system:serviceaccount:*:x", "system:serviceaccount:c?:x", "sys*:ci:x", `x${DEPLOYER}`, `${DEPLOYER}:x`, `$\{${EKS}:sub}`].map((sub): Violation => [sub, role(like(sub)), `the sub ["${sub}"]`]),
    ["any beside one", role(like([DEPLOYER, "*"])), "the sub"],
    ["no sub in the list", role(like([])), "the sub []"],
    ["the sub of another provider", role(oidc(EKS, { StringEquals: { "x:sub": DEPLOYER, "x:aud": STS } })), "the sub []"],
    ...["StringEqualsIfExists", "StringNotEquals", "ForAllValues:StringEquals"].map((operator): Violation => [operator, role(oidc(EKS, { [operator]: { ":sub": DEPLOYER, ":aud": STS } })), "the sub []"]),
    ["any of a listed cluster", role(like("*", "k8s.acme.com")), "the sub", LISTED],
    ["any of GKE", role(like("*", "container.googleapis.com/v1/projects/a/locations/b/clusters/c")), "the sub"],
    ["anyone", role(assumed("*")), "Anyone can assume it"],
    ["any account of AWS", role(assumed({ AWS: ["arn:a", "*"] })), "Anyone can assume it"],
    ["all but some", role([{ Effect: "Allow", NotPrincipal: { AWS: "x" }, Action: "sts:AssumeRole" }]), "Anyone can assume it"],
    ...[{ Action: "sts:assumerolewithwebidentity" }, { Action: "sts:AssumeRoleWithSAML" }, { Action: ["sts:TagSession", "sts:*"] }, { Action: undefined, NotAction: "x" }].map((action): Violation => [`anyone with a condition by ${JSON.stringify(action)}`, role(assumed("*", { Condition: { StringEquals: { a: "b" } }, ...action })), "Anyone can assume it"]),
    ["an empty trust policy", role([], { assumeRolePolicy: "" }), "Its trust policy is invalid JSON."],
    ["a trust policy that is no JSON", role([], { assumeRolePolicy: "{" }), "Its trust policy is invalid JSON."],
  ],
  "permissions-boundary": [
    ["none", role(irsa()), 'Its permissionsBoundary is missing instead of one of ["arn:b"]. To allow it, change arns', BOUNDARY],
    ["another one", role(irsa(), { permissionsBoundary: "arn:other" }), '"arn:other"', BOUNDARY],
    ["none, by EKS Pod Identity", role(podIdentity), "missing", BOUNDARY],
  ],
  "not-ignored": [
    ...["policies", "policies[0].rules", '["url"]', "jwks", "maxExpirationSeconds", "maxExpiration", "*"].map((path): Violation => [path, { ...eks(), ignoreChanges: ["thumbprints", path] }, `It ignores changes of ${JSON.stringify([path])}`]),
    ["the policies of a listed cluster", { ...issuer("k8s.acme.com", []), ignoreChanges: ["policies"] }, "ignores", LISTED],
    ["a trust policy", role(irsa(), {}, { ignoreChanges: ["assumeRolePolicy"] }), "ignores"],
    ["a trust policy by EKS Pod Identity", { ...nativeRole(podIdentity), ignoreChanges: ["assumeRolePolicyDocument"] }, "ignores"],
  ],
  // From here on, they are only printed.
  "trust-patterns": [
    ["a pattern", role(like("system:serviceaccount:ci:app-*")), 'Its trust policy has a pattern: the sub ["system:serviceaccount:ci:app-*"]. To allow it, change allowed of "trust-patterns".'],
    ["a pattern beside one", role(like([DEPLOYER, "system:serviceaccount:ci:app-?"])), "a pattern"],
    ...[AUD, [STS, AUD], []].map((aud): Violation => [`the audience ${JSON.stringify(aud)}`, role(irsa(DEPLOYER, aud)), `the aud ${JSON.stringify([aud].flat())} instead of "${STS}"`]),
    ["no audience", role(oidc(EKS, { StringEquals: { ":sub": DEPLOYER } })), "the aud []"],
    ...[{ AWS: "arn:aws:iam::1:root" }, { Service: "ec2.amazonaws.com" }, { Federated: `arn:aws:iam::1:oidc-provider/${GITHUB}` }].map((principal): Violation => [`it also trusts ${JSON.stringify(principal)}`, role([irsa(), assumed(principal)]), "It also trusts"]),
    ["an account that can set the tags of EKS Pod Identity", role([podIdentity, assumed({ AWS: "arn:a" })]), 'It also trusts ["arn:a"]'],
  ],
  "open-issuer": [
    ["any repository of GitHub", issuer(GITHUB, { aud: AUD }), "Anyone with an ID token of it is granted an access token"],
    ["wildcards only", issuer(GITHUB, { aud: AUD, sub: "*", repository: "?*", jti: "x*" }), "Anyone"],
    ["any subject by api/auth, which has no URL", authPolicy({ sub: "*" }), "Anyone"],
    ["an issuer like a listed one", issuer("okta.acme.com.evil", { aud: AUD }), "Anyone", { "open-issuer": { issuers: ["okta.acme.com"] } }],
  ],
  "no-stored-token": [
    ...["index:AccessToken", "index:TeamAccessToken", "index:OrgAccessToken", "index:AgentPool", "api/agents:Pool", "api/tokens:TeamToken"].map((type): Violation => [type, of(`pulumiservice:${type}`, { teamName: "a" }), "It has an access token"]),
    ["in a string", of("pulumi:index:Stash", { input: [`\n${TOKEN}\n`] }), "It contains an access token"],
    ["after a letter", of("pulumi:index:Stash", { input: `token_${TOKEN}` }), "contains"],
    ["in base64", object("core/v1:Secret", { data: { a: base64(TOKEN) } }), "contains"],
    ["in base64 with line breaks", of("aws:ec2/instance:Instance", { userDataBase64: base64(`#!\nexport T=${TOKEN}\nrun`).replaceAll(/.{20}/g, "$&\n") }), "contains"],
    ["in base64 inside YAML", of("kubernetes:yaml/v2:ConfigGroup", { yaml: `data:\n  a: ${base64(TOKEN)}\n` }), "contains"],
    ["as a variable", object("apps/v1:Deployment", { spec: [{ name: "PULUMI_ACCESS_TOKEN", valueFrom: {} }] }), "It sets the variable"],
    ["as a key", of("pulumiservice:index:DeploymentSettings", { env: { PULUMI_ACCESS_TOKEN: "x" } }), "It sets the variable"],
    ...["index", "api/esc"].map((module): Violation => [`in an environment of ${module}`, of(`pulumiservice:${module}:Environment`, { yaml: "PULUMI_ACCESS_TOKEN: x" }), "It sets the variable"]),
    ["of the operator", object("pulumi.com/v1:Stack", { spec: { accessTokenSecret: "a" } }), "accessTokenSecret"],
  ],
  "beside-the-program": [
    ["files", exchange({ b: "" }), 'It also has the files ["b"].'],
    ...[IDENTITY, "iam.amazonaws.com/role", "iam.gke.io/gcp-service-account", "azure.workload.identity/client-id", "azure.workload.identity/tenant-id"].map((annotation): Violation => [annotation, account(annotation), `It also has the annotations ["${annotation}"]`]),
  ],
};

/** Nothing is reported. */
// biome-ignore format: each case is a line
export const LEGITIMATE: Program[] = [
  ["this project's issuer, with both kinds of roles", [eks(), role(irsa()), role(podIdentity), provider({ apiUrl: "https://api.pulumi.com/" })]],
  ["the sub in place of both claims", [only({ sub: DEPLOYER })]],
  ["Kubernetes that is not listed, as it should be", [issuer("k8s.acme.com", { ...NAMES, aud: AUD })]],
  ["two clusters with the same service account and one role", [eks(), issuer(`${EKS}2`, { ...NAMES, aud: AUD }), role([irsa(), irsa(DEPLOYER, STS, `${EKS}2`)])]],
  ["a role for IRSA and, during a move, for EKS Pod Identity", [role([irsa(), podIdentity])]],
  ["two service accounts with one role", [role(irsa([DEPLOYER, "system:serviceaccount:ci:b"]))]],
  ["a pattern beside an exact sub, as both are required", [role(oidc(EKS, { StringLike: { ":sub": "system:serviceaccount:*" }, StringEquals: { ":sub": DEPLOYER, ":aud": STS } }))]],
  ["keys in another case", [role(oidc(EKS, { StringEquals: { [`${EKS.toUpperCase()}:SUB`]: DEPLOYER, ":aud": STS } }))]],
  ["AWS in China", [role(irsa(DEPLOYER, `${STS}.cn`))]],
  ["add-ons of EKS", ["kube-system:ebs-csi-controller-sa", "kube-system:aws-node", "amazon-cloudwatch:cloudwatch-agent", "external-dns:external-dns"].map((it) => role(irsa(`system:serviceaccount:${it}`)))],
  ["EFS, whose sub has a pattern", [role(like("system:serviceaccount:kube-system:efs-csi-*"))], { "trust-patterns": { allowed: ["system:serviceaccount:kube-system:efs-csi-*"] } }],
  ["EMR on EKS, whose sub has patterns", [role(like("system:serviceaccount:spark:emr-containers-sa-*-*-1-abc"))], { "trust-patterns": { allowed: ["system:serviceaccount:spark:emr-containers-sa-*-*-1-abc"] } }],
  ["service accounts of several namespaces, which are listed", [role(like("system:serviceaccount:team-*:app"))], { trust: { allowed: ["system:serviceaccount:team-*:app"] } }],
  ["another principal, which is listed", [role([irsa(), assumed({ AWS: "arn:a" })])], { "trust-patterns": { allowed: ["arn:a"] } }],
  ["an IRSA role and a role that anyone of an organization can assume", [role(irsa()), role(assumed("*", { Condition: { StringEquals: { "aws:PrincipalOrgID": "o-1" } } }))]],
  ["roles of services, accounts, and SAML", [role(assumed({ Service: "ec2.amazonaws.com" })), role(assumed({ AWS: "arn:aws:iam::1:root" })), role(assumed({ Federated: "arn:aws:iam::1:saml-provider/x" }))]],
  ["a role that denies", [role([irsa(), oidc(EKS, {}, { Effect: "Deny" })])]],
  ["GitHub's role", [role(oidc(GITHUB, { StringLike: { ":sub": "repo:acme/*" } }))]],
  ["Pulumi Deployments' and ESC's role", [role(oidc("api.pulumi.com/oidc", { StringLike: { ":sub": "pulumi:deploy:org:acme:*" } }))]],
  ["GitHub with patterns and a longer lifetime", [issuer(GITHUB, [{ sub: "repo:acme/*", aud: AUD }, { sub: "*:ref:refs/heads/main", repository: "acme/app" }], {}, { maxExpirationSeconds: 86400 })]],
  ["GitHub, a repository about service accounts", [github({ sub: "repo:acme/serviceaccount:ref:main" }), github({ sub: "repo:kubernetes/kubernetes.io:*" })]],
  ["GitHub without an audience", [issuer(GITHUB, { repository: "acme/app" })]],
  ["GitLab", [issuer("gitlab.com", { sub: "project_path:acme/*", aud: "https://gitlab.com" }, {}, { maxExpirationSeconds: undefined })]],
  ["a GitLab of one's own, which is listed", [issuer("gitlab.acme.com", { namespace_path: "acme" })], limits({ issuers: ["HTTPS://gitlab.acme.com/", GITHUB] })],
  ["CircleCI", [issuer("oidc.circleci.com/org/1", { sub: "org/1/project/*", aud: "1" })]],
  ["Buildkite, with a subject that begins with an s", [issuer("agent.buildkite.com", { sub: "svc*", organization_slug: "acme" })]],
  ["Okta, all of whose users are meant", [issuer("okta.acme.com", { aud: AUD })], { "open-issuer": { issuers: ["https://okta.acme.com"] } }],
  ["Google's service accounts", [issuer("accounts.google.com", { sub: "1234567890", aud: AUD })]],
  ["URLs that contain those of EKS", ["x.com/oidc.eks.a", "x-oidc.eks.com", "container.googleapis.com/x"].map((url) => issuer(url, { sub: "*x" }))],
  ["an admin that is listed", [eks({}, { authorizedPermissions: ["admin"] })], limits({ organizationAdmins: ["ci/deployer"] })],
  ["no admin", [eks({}, { authorizedPermissions: ["standard", "billing-admin", "admins"] })]],
  ["a stage's own teams", [eks({}, { teamName: "app-dev", userLogin: "" }), github({}, { teamName: "prod-app" })], STAGE],
  ["a deny policy for anyone, and for an admin", [eks({ [NAME]: "*" }, { decision: "deny", authorizedPermissions: ["admin"] })]],
  ["no audience, which is allowed", [issuer(EKS, NAMES)], { "one-service-account": { requireAudience: false } }],
  ["an issuer without policies", [issuer(EKS, []), eks({}, {}, { policies: undefined })]],
  ["a longer lifetime, which is allowed", [eks({}, {}, { maxExpirationSeconds: 43200 })], limits({ maxExpirationSeconds: 43200 })],
  ["hosts in any case", [provider({ apiUrl: "https://API.Pulumi.com" }), provider({ apiUrl: "https://p.acme.com" })], { login: { apiUrls: ["https://api.pulumi.com", "https://P.acme.com/"] } }],
  ["a provider without an apiUrl, and with an empty token", [provider({ accessToken: "" }), provider({ apiUrl: "" })]],
  ["a provider's own token, which is allowed", [provider({ accessToken: TOKEN })], { login: { allowAccessToken: true } }],
  ["a listed boundary, and other roles without one", [role(irsa(), { permissionsBoundary: "arn:b" }), role(assumed({ Service: "ec2.amazonaws.com" }))], BOUNDARY],
  ["ignored changes of thumbprints, of GitHub's policies, and of what only begins like policies", [{ ...eks(), ignoreChanges: ["thumbprints", "policiesOf", "tags.url"] }, { ...github(), ignoreChanges: ["policies"] }, role(assumed({ Service: "x" }), {}, { ignoreChanges: ["assumeRolePolicy"] })]],
  ["resources of other packages", ["my-pulumiservice:index:OidcIssuer", "pulumiservice:index:OidcIssuers"] .map((type) => of(type, only({ sub: "*" }).inputs)) .concat(["my-aws:iam/role:Role", "aws:iam/role:Roles"].map((type) => of(type, role(oidc(EKS)).inputs)), ["my-pulumiservice:index:AccessToken", "pulumiservice:index:AccessTokens"].map((type) => of(type, { a: 1 })), ["pulumiservice:index:Environments", "my-pulumiservice:index:Environment"].map((type) => of(type, { yaml: "PULUMI_ACCESS_TOKEN: x" })), object("example.com/v1:Stack", { spec: { accessTokenSecret: "a" } }))],
  ["a placeholder for a token, a checksum, and an empty variable", [object("core/v1:ConfigMap", { data: { README: `pul-${"0".repeat(40)}`, sum: `pul-${"0123456789".repeat(5)}` } }), object("apps/v1:Deployment", { spec: [{ name: "PULUMI_ACCESS_TOKEN", value: "" }] }), object("core/v1:Secret", { stringData: { PULUMI_ACCESS_TOKEN: "" } })]],
  ["files that others add to other objects, and annotations that are no identity", [object("core/v1:ConfigMap", { data: { a: "" } }, { data: { a: "", b: "" } }), exchange({ b: "" }, "Secret"), account("eks.amazonaws.com/skip-containers"), account(`x.${IDENTITY}`), account(`${IDENTITY}s`), account(IDENTITY, { [IDENTITY]: "x" })]],
  ["what --target leaves out", [of("pulumiservice:index:OidcIssuer", {}), of("aws:iam/role:Role", {})], limits({ issuers: ["x"] })],
  ["what is not known yet", [eks({ [NAME]: UNKNOWN }), eks({ aud: UNKNOWN }), eks({}, { rules: UNKNOWN }), eks({}, {}, { policies: UNKNOWN }), only({ sub: `${UNKNOWN}` }), issuer(EKS, UNKNOWN), eks({}, {}, { url: UNKNOWN }), provider({ apiUrl: UNKNOWN }), role([], { assumeRolePolicy: UNKNOWN }), nativeRole([oidc(UNKNOWN)]), role(irsa(), { permissionsBoundary: UNKNOWN }), object("core/v1:ServiceAccount", { metadata: UNKNOWN }, { metadata: { annotations: { [IDENTITY]: "x" } } })], { ...BOUNDARY, ...limits({ issuers: ["https://oidc.eks.us-west-2.amazonaws.com"] }) }],
  ...["1c4a061d-8072-4f0a-a4cb-0ff528b18fe7", "3eeb2bf0-c639-47a8-9e75-3b44932eb421", "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2", "030794c1-ac77-496b-92df-f27374a8bd58", "e48ece36-62e2-4504-bad9-02848725956a", "dd056dcd-154b-4c76-9bd3-c8f88648b5ff"].map((unknown): Program => [`a limit that is not known yet: ${unknown}`, [eks({}, {}, { maxExpirationSeconds: unknown })]]),
];
