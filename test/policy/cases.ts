// The cases of rules.test.ts, one for each branch of a rule and each way around it.

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

/** A resource. Its name is the last word of its type, if it needs no other one. */
function of(type: string, inputs: Fields, others: Partial<Resource> = {}): Resource {
  const name = others.name ?? type.split(/[:/]/).at(-1) ?? "";
  return { urn: `urn:${type}::${name}`, type, name, inputs, ...others };
}

const allow = (rules: Value, others: Fields = {}): Fields => {
  return { decision: "allow", tokenType: "team", teamName: "a", rules, ...others };
};
const issuer = (policies: Value | undefined, inputs: Fields = {}, others: Partial<Resource> = {}) => {
  const given = {
    organization: "acme",
    url: "https://k8s.example.com",
    maxExpirationSeconds: 3600,
    policies,
  };
  return of("pulumiservice:index:OidcIssuer", { ...given, ...inputs }, others);
};
/** An issuer of EKS that grants ci/deployer a token. */
const granting = issuer([allow({ ...NAMES, aud: AUD })], { url: `https://${EKS}` });
/** An issuer that is not known as that of a cluster, with an allow policy. */
const by = (rules: Fields, inputs: Fields = {}) => [issuer([allow({ aud: AUD, ...rules })], inputs)];
const github = (rules: Fields, policy: Fields = {}, inputs: Fields = {}) =>
  issuer([allow(rules, policy)], { url: `https://${GITHUB}`, maxExpirationSeconds: undefined, ...inputs });
const gitlab = (rules: Fields, policy: Fields = {}) =>
  github(rules, policy, { url: "https://gitlab.acme.com" });
const authPolicy = (...policies: Value[]) =>
  of("pulumiservice:api/auth:Policy", { orgName: "acme", policies });
const provider = (inputs: Fields) => of("pulumi:providers:pulumiservice", { version: "1.5.0", ...inputs });
const targeted = (resource: Resource, unaskedProvider: Resource) => ({ ...resource, unaskedProvider });

const role = (statements: Value, inputs: Fields = {}, others: Partial<Resource> = {}) => {
  const assumeRolePolicy = JSON.stringify({ Version: "2012-10-17", Statement: statements });
  return of("aws:iam/role:Role", { assumeRolePolicy, ...inputs }, others);
};
const oidc = (url: string, Condition?: Fields, others: Fields = {}): Fields => {
  const Federated = `arn:aws:iam::1:oidc-provider/${url}`;
  return {
    Effect: "Allow",
    Principal: { Federated },
    Action: "sts:AssumeRoleWithWebIdentity",
    Condition,
    ...others,
  };
};
const conditional = (operator: string, sub: Value, aud: Value = STS, url = EKS) =>
  oidc(url, {
    [operator]: { [`${url}:sub`]: sub },
    StringEquals: { [`${url}:aud`]: aud, ...(operator === "StringEquals" && { [`${url}:sub`]: sub }) },
  });
const exact = (sub: Value, aud: Value = STS, url = EKS) => conditional("StringEquals", sub, aud, url);
const like = (sub: Value) => conditional("StringLike", sub);
const assumed = (Principal: Value | undefined, others: Fields = {}): Fields => ({
  Effect: "Allow",
  Principal,
  Action: "sts:AssumeRole",
  ...others,
});

const CLUSTER_TAG = "aws:RequestTag/eks-cluster-arn";
const TAGS = {
  [CLUSTER_TAG]: "arn:aws:eks:us-west-2:1:cluster/demo",
  "aws:RequestTag/kubernetes-namespace": "ci",
  "aws:RequestTag/kubernetes-service-account": "deployer",
};
const tagged = (tags: Value): Fields =>
  assumed({ Service: "pods.eks.amazonaws.com" }, { Condition: { StringEquals: tags } });
const podRole = (tags: Value, outputs: Fields = { arn: "arn:role", name: "r" }) =>
  role([tagged(tags)], {}, { outputs });
const ROLE_URN = "urn:aws:iam/role:Role::Role";
const association = (inputs: Fields = {}, ...sources: string[]) => {
  const given = { clusterName: "demo", namespace: "ci", serviceAccount: "deployer", roleArn: "arn:role" };
  const propertyDependencies = { roleArn: sources };
  return of(
    "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    { ...given, ...inputs },
    { propertyDependencies },
  );
};
const object = (type: string, inputs: Fields, outputs?: Fields) =>
  of(`kubernetes:${type}`, inputs, outputs && { outputs });
const account = (annotations?: Fields, existing?: Fields) => {
  const metadata = { namespace: "ci", name: "deployer" };
  return object(
    "core/v1:ServiceAccount",
    { metadata: { ...metadata, annotations } },
    { metadata: { ...metadata, annotations: existing } },
  );
};
const configMap = (inputs: Fields, outputs: Fields, namespace = "ci") =>
  object("core/v1:ConfigMap", { metadata: { namespace }, ...inputs }, outputs);
const ROLE_ARN = "eks.amazonaws.com/role-arn";
const having = (outputs: Fields, inputs: Fields = {}) =>
  role([exact(DEPLOYER)], inputs, { outputs: { name: "r", ...outputs } });
const attachment = (type: string, inputs: Fields, others: Partial<Resource> = {}) =>
  of(`aws:iam/${type}:${type}`, inputs, others);
const BOUNDARY = { "permissions-boundary": { arns: ["arn:b"] } };

/** What it is, the resources, what is reported, and the configuration of the pack. */
export type Case = [what: string, program: Resource[], expected: string[], configuration?: Fields];

// biome-ignore format: each case is a line
export const CASES: Record<string, Case[]> = {
  limits: [
    ...["1c4a061d-8072-4f0a-a4cb-0ff528b18fe7", "3eeb2bf0-c639-47a8-9e75-3b44932eb421", "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2", "030794c1-ac77-496b-92df-f27374a8bd58", "e48ece36-62e2-4504-bad9-02848725956a", "dd056dcd-154b-4c76-9bd3-c8f88648b5ff"].map((unknown): Case => [`not known yet: ${unknown}`, by(NAMES, { maxExpirationSeconds: unknown }), []]),
    ["a pattern with many stars", [github({ sub: "repo:a" }, { teamName: `${"*".repeat(40)}(` })], [], { limits: { forbidden: ["team:platform"] } }],
    ["nothing of other resources", [role([exact(DEPLOYER)]), authPolicy(allow({ sub: "repo:a" }))], [], { limits: { issuers: ["x"] } }],
    ["a longer one", by(NAMES, { maxExpirationSeconds: 3601 }), ["limits: is 3601 instead of at most 3600. To allow it, change maxExpirationSeconds of \"limits\""]],
    ["an unlimited one", by(NAMES, { maxExpirationSeconds: 0 }), ["limits: is 0 instead of"]],
    ...[EKS, "oidc-eks.us-west-2.api.aws/id/A", "container.googleapis.com/v1/projects/a/locations/b/clusters/c", "westeurope.oic.prod-aks.azure.com/a/b/"].map((url): Case => [`none of ${url}`, [issuer([], { url: `https://${url}`, maxExpirationSeconds: undefined })], ["limits: is missing instead of"]]),
    ["a longer one by api/auth", [of("pulumiservice:api/auth:OidcIssuer", { orgName: "acme", url: EKS, maxExpiration: 9000 })], ["limits: is 9000"]],
    ["one of a cluster that is not known yet", by(NAMES, { url: UNKNOWN, maxExpirationSeconds: 9000 }), []],
    ["an admin", [issuer([allow({ ...NAMES, aud: AUD }, { authorizedPermissions: ["admin"] })])], ['limits: "ci/deployer" is granted an admin\'s token. To allow it, change organizationAdmins of "limits".']],
    ["an admin who is allowed", [issuer([allow({ ...NAMES, aud: AUD }, { authorizedPermissions: ["admin"] })])], [], { limits: { organizationAdmins: ["ci/deployer"] } }],
    ["an admin of GitHub, in any case", [github({ sub: "repo:a" }, { authorizedPermissions: ["standard", "Admin"] })], ['limits: "repo:a"']],
    ["an admin without a subject", [github({ repository: "a" }, { authorizedPermissions: ["admin"] })], ["limits: repository"]],
    ["an admin who is denied", [github({ sub: "repo:a" }, { decision: "deny", authorizedPermissions: ["admin"] })], []],
    ["no admin", [github({ sub: "repo:a" }, { authorizedPermissions: ["standard", "billing-admin", "admins"] })], []],
    ...Object.entries({ teamName: "team:x", roleID: "role:x", userLogin: "user:x", runnerID: "runner:x" }).map(([input, token]): Case => [`a forbidden ${input}`, [github({ sub: "repo:a" }, { [input]: "X" })], [`limits: "repo:a" can be granted a forbidden token: "${token}"`], { limits: { forbidden: [token] } }]),
    ["a listed issuer", [granting], [], { limits: { issuers: ["https://gitlab.com", "https://oidc.eks.us-west-2.amazonaws.com/id/"] } }],
    ["an issuer that is not listed", [issuer([], { url: "https://oidc.eks.evil.com" })], ['limits: url is "https://oidc.eks.evil.com" instead'], { limits: { issuers: ["oidc.eks"] } }],
    ["a listed issuer that is not known yet", [issuer([], { url: UNKNOWN })], [], { limits: { issuers: ["x"] } }],
    ["nothing of an issuer that --target leaves out", [of("pulumiservice:index:OidcIssuer", {})], [], { limits: { issuers: ["x"] } }],
  ],
  "one-service-account": [
    ["patterns of claims that Kubernetes lacks", [gitlab({ repository: "acme/*" }), github({ repository: "x" }), issuer([allow({ repository: "*x" })], { url: "https://b" })], []],
    ["an issuer whose URL only ends like GitLab's", [issuer([allow({ aud: AUD })], { url: "https://evil-gitlab.com" })], ["one-service-account: names no single"]],
    ["an issuer of another package", ["my-pulumiservice:index:OidcIssuer", "pulumiservice:index:OidcIssuers"].map((type) => of(type, by({ sub: "*" })[0]?.inputs ?? {})), []],
    ["the sub", by({ sub: DEPLOYER }), []],
    ...[
      { ...NAMES, [NAMESPACE]: "*" }, { ...NAMES, [NAMESPACE]: "*", aud: UNKNOWN }, { ...NAMES, [NAME]: "deploy-?" }, { ...NAMES, [NAME]: "a.b" }, { [NAMESPACE]: "ci" }, { [NAME]: "deployer" }, { "kubernetes.io.namespace": "ci" },
      ...[`${DEPLOYER}*`, "system:serviceaccount:ci:*", "*", "sys*", "s?stem:serviceaccount:a:b", "s*:ci:deployer", ".".repeat(22)].map((sub) => ({ sub })),
      ...["system:serviceaccount:a:b:c", "system:serviceaccount:a", "(system):serviceaccount:a:b", "(System):ServiceAccount:a:b", "a|system:serviceaccount:a:b", "System:ServiceAccount:a:b"].map((sub) => ({ sub })),
      {}, { iss: "x" }, { jti: "*-*" }, { exp: "1*" }, { repository: "*" }, { repository: "x", [NAMESPACE]: "ci" }, { repository: "x", sub: "system:serviceaccount:ci:*" },
    ].map((rules): Case => [JSON.stringify(rules), by(rules), ["one-service-account: An allow policy names no single service account"]]),
    ["no rules", [issuer([{ decision: "allow" }])], ["one-service-account: An allow policy names no single service account", 'one-service-account: The aud of any service account is missing instead of one audience. To allow it, change requireAudience']],
    ...["urn:*", "urn:?", "*x", "...", `urn:${UNKNOWN}:*`].map((aud): Case => [`the audience ${aud}`, by({ ...NAMES, aud }), [`one-service-account: aud of ci/deployer is ${JSON.stringify(aud)}`]]),
    ["no audience, which is allowed", [issuer([allow(NAMES)])], [], { "one-service-account": { requireAudience: false } }],
    ["another subject of EKS", by({ sub: "x" }, { url: `https://${EKS}` }), ["one-service-account: names no single"]],
    ["another subject beside one of Kubernetes", [issuer([allow({ ...NAMES, aud: AUD }), allow({ sub: "x", aud: AUD })])], ['one-service-account: "x"']],
    ["anything of GitHub and gitlab.com", [github({ sub: "*" }), github({ aud: "x" }, {}, { url: "https://gitlab.com/" })], []],
    ["claims that only look like aud", [gitlab({ haud: "x" }), gitlab({ audx: "y" })].map((it, index) => ({ ...it, inputs: { ...it.inputs, organization: `${index}` } })), []],
    ["an issuer whose URL contains that of EKS", [gitlab({ sub: "x" }), github({ sub: "x" }, {}, { url: "https://x.com/oidc.eks.a" }), github({ sub: "x" }, {}, { url: "https://x-oidc.eks.com" })], []],
    ["anything by api/auth", [authPolicy(allow({ aud: AUD }))], ["one-service-account: names no single", "one-issuer: replaces"]],
    ["rules that are not known yet", [...by({ sub: UNKNOWN }), issuer([allow({ [NAMESPACE]: UNKNOWN, [NAME]: "*", aud: AUD })], { url: "https://b" }, { name: "b" })], []],
    ["policies that are not known yet, and none", [issuer(UNKNOWN), issuer(undefined, { url: "https://b" }, { name: "b" })], []],
  ],
  "one-issuer": [
    ...[`https://${EKS}/`, EKS, `HTTPS://${EKS.toUpperCase()}`, `https://${EKS.replace("/id", "//%69d")}`, `https://${EKS.replace(".com", ".com.:443")}`].map((url): Case => [url, [granting, issuer([], { url }, { name: "b" })], ['one-issuer: is also that of "OidcIssuer"']]),
    ["of api/auth", [granting, of("pulumiservice:api/auth:OidcIssuer", { orgName: "acme", url: EKS, maxExpiration: 60 })], ["one-issuer: is also that of"]],
    ["in an organization in another case", [granting, issuer([], { url: EKS, organization: "ACME" }, { name: "b" })], ["one-issuer: is also that of"]],
    ["in another organization", [granting, issuer([], { url: EKS, organization: "b" }, { name: "b" })], []],
    ["in an organization that is not known yet", ["a", "b"].map((name) => issuer([], { organization: UNKNOWN }, { name })), []],
    ["whose URLs are not known yet", ["a", "b"].map((name) => issuer([], { url: UNKNOWN }, { name })), []],
  ],
  login: [
    ["the login", [provider({ apiUrl: "https://api.pulumi.com/" })], []],
    ["no apiUrl, and an empty token", [provider({ accessToken: "" })], []],
    ...["https://evil.example.com", "http://api.pulumi.com", "https://api.pulumi.com.evil.com"].map((apiUrl): Case => [apiUrl, [provider({ apiUrl })], [`login: apiUrl is "${apiUrl}" instead of one of ["https://api.pulumi.com"]. To allow it, change apiUrls`]]),
    ["a listed apiUrl", [provider({ apiUrl: "https://p.example.com" })], [], { login: { apiUrls: ["https://api.pulumi.com", "https://p.example.com/"] } }],
    ["an apiUrl that is not known yet", [provider({ apiUrl: UNKNOWN })], []],
    ["its own token", [provider({ accessToken: TOKEN })], ["login: has an accessToken instead of the login's. To allow it, change allowAccessToken"]],
    ["its own token, which is allowed", [provider({ accessToken: TOKEN })], [], { login: { allowAccessToken: true } }],
    ["a provider that --target leaves out", [targeted(granting, provider({ apiUrl: "https://x" }))], ['login: "https://x"']],
  ],
  trust: [
    ["another spelling of the issuer's URL", [issuer([allow({ ...NAMES, aud: AUD })], { url: `HTTPS://${EKS.toUpperCase()}` }), role([like("system:serviceaccount:ci:*")])], ["trust: the sub"]],
    ["two of which one is granted a token, and someone else", [granting, role([exact([DEPLOYER, "system:serviceaccount:ci:b"]), assumed({ AWS: "arn:a" })])], ["trust: the sub"]],
    ["an organization beside a service account with a token", [granting, role([exact(DEPLOYER), assumed("*", { Condition: { StringEquals: { "aws:PrincipalOrgID": "o" } } })])], ['trust: shares its role with ["*"]']],
    ["roles of other packages", ["my-aws:iam/role:Role", "aws:iam/role:Roles"].map((type) => of(type, role([oidc(EKS)]).inputs)), []],
    ["one service account", [granting, role([exact(DEPLOYER)])], []],
    ["an object, of aws-native", [granting, of("aws-native:iam:Role", { assumeRolePolicyDocument: { Statement: oidc(EKS) } })], [`trust: requires the sub [] and the aud [] instead of one service account and "sts.amazonaws.com", by StringEquals of ${EKS}:sub and :aud.`]],
    ["a deny statement", [role([oidc(EKS, {}, { Effect: "Deny" })])], []],
    ...["*", "system:serviceaccount:*", "system:serviceaccount:*:x", "system:serviceaccount:c?:x", "sys*:ci:x"].map((sub): Case => [sub, [role([like(sub)])], [`trust: the sub ["${sub}"]`]]),
    ["a prefix before the subject", [role([exact(`x${DEPLOYER}`)])], ["trust: the sub"]],
    ["a colon more", [role([exact(`${DEPLOYER}:x`)])], ["trust: the sub"]],
    ["any beside one", [role([like([DEPLOYER, "*"])])], ["trust: the sub"]],
    ["a policy variable", [role([exact(`$\{${EKS}:sub}`)])], ["trust: the sub"]],
    ["keys of another provider", [role([oidc(EKS, { StringEquals: { "x:sub": DEPLOYER, "x:aud": STS } })])], ["trust: the sub []"]],
    ...["StringEqualsIfExists", "StringNotEquals", "ForAllValues:StringEquals"].map((operator): Case => [operator, [role([oidc(EKS, { [operator]: { [`${EKS}:sub`]: DEPLOYER, [`${EKS}:aud`]: STS } })])], ["trust: the sub []"]]),
    ...[AUD, [STS, AUD], []].map((aud): Case => [`the audience ${JSON.stringify(aud)}`, [granting, role([exact(DEPLOYER, aud)])], ["trust: the aud"]]),
    ["two without a token", [granting, role([exact(["system:serviceaccount:ci:a", "system:serviceaccount:ci:b"])])], []],
    ...[{ AWS: "arn:aws:iam::1:root" }, { Service: "ec2.amazonaws.com" }, { Service: "pods.eks.amazonaws.com" }].map((principal): Case => [`a second statement for ${JSON.stringify(principal)}`, [granting, role([assumed(principal), exact(DEPLOYER)])], ["trust: instead of no one. To allow it, change alsoTrusted"]]),
    ["a second statement that is allowed", [granting, role([exact(DEPLOYER), assumed({ AWS: ["arn:a", "arn:b"] })])], [], { trust: { alsoTrusted: ["arn:a", "arn:b"] } }],
    ["a second statement of which one principal is allowed", [granting, role([exact(DEPLOYER), assumed({ AWS: ["arn:a", "arn:b"] })])], ["trust: shares its role with"], { trust: { alsoTrusted: ["arn:a"] } }],
    ["a second statement for the same service account", [granting, issuer([allow({ ...NAMES, aud: AUD })], { url: `https://${EKS}2` }, { name: "b" }), podRole(TAGS), role([exact(DEPLOYER), exact(DEPLOYER, STS, `${EKS}2`), tagged(TAGS)], {}, { urn: "b" })], []],
    ["a second statement for the same name of a cluster that is granted nothing", [granting, role([exact(DEPLOYER), exact(DEPLOYER, STS, `${EKS}2`)])], [`other-trust: It trusts ["${EKS}2"], too.`]],
    ["before its issuer", [role([oidc("k8s.example.com")]), ...by(NAMES)], ["trust: The role Role: Its trust policy requires the sub []"]],
    ["before its issuer, and known already", [role([like("*")]), granting], ["trust: Its trust policy"]],
    ["GitHub, which is registered, too", [github({ sub: "repo:acme/*" }), role([oidc(GITHUB)])], []],
    ["not known yet", [of("aws:iam/role:Role", { assumeRolePolicy: UNKNOWN }), of("aws-native:iam:Role", { assumeRolePolicyDocument: { Statement: [oidc(UNKNOWN)] } })], []],
    ["anyone", [role(assumed("*"))], ["trust: Anyone can assume it"]],
    ["all but some", [role([{ Effect: "Allow", NotPrincipal: { AWS: "x" }, Action: "sts:AssumeRole" }])], ["trust: Anyone can assume it"]],
    ...[{ Action: "sts:assumerolewithwebidentity" }, { Action: "sts:AssumeRoleWithSAML" }, { Action: ["sts:TagSession", "sts:*"] }, { Action: undefined, NotAction: "x" }].map((action): Case => [`anyone with a condition by ${JSON.stringify(action)}`, [role([assumed("*", { Condition: { StringEquals: { a: "b" } }, ...action })])], ["trust: Anyone can assume it"]]),
    ["other roles", [role([oidc("saml")]), role([assumed({ Service: "ec2.amazonaws.com" })]), role([assumed({ Federated: "arn:aws:iam::1:saml-provider/x" })])], []],
  ],
  "other-trust": [
    ["a pattern beside one", [role([like(["system:serviceaccount:ci:a", "system:serviceaccount:ci:x*"])])], ["other-trust: the sub"]],
    ["a target role, too", [granting, podRole(TAGS), association({ targetRoleArn: "arn:t" })], ['other-trust: also uses "arn:t"']],
    ["a role of another program, by an annotation", [granting, account({ [ROLE_ARN]: "arn:other" })], ["other-trust: uses"]],
    ["a role of the program", [granting, having({ arn: "arn:role" }), account({ [ROLE_ARN]: "arn:role" })], []],
    ["a role that is not known yet", [granting, role([exact(DEPLOYER)]), account({ [ROLE_ARN]: UNKNOWN })], []],
    ["of a service account without a token", [object("core/v1:ServiceAccount", { metadata: { name: "x", annotations: { [ROLE_ARN]: "arn:other" } } })], []],
  ],
  "pod-identity": [
    ["associations of other packages", [granting, podRole({}), ...["my-aws:eks/podIdentityAssociation:PodIdentityAssociation", "aws:eks/podIdentityAssociation:PodIdentityAssociations"].map((type) => of(type, association().inputs))], []],
    ["the three tags", [granting, podRole(TAGS), association()], []],
    ["tags of a cluster that is not known yet", [granting, podRole(TAGS, {}), association({ roleArn: UNKNOWN, clusterName: UNKNOWN }, ROLE_URN)], []],
    ...Object.entries(TAGS).flatMap(([tag, value]): Case[] => [
      [`another ${tag}`, [granting, podRole({ ...TAGS, [tag]: "x" }), association()], ["pod-identity: The role of ci/deployer requires"]],
      [`no ${tag}`, [granting, podRole({ ...TAGS, [tag]: undefined }), association({ clusterName: UNKNOWN })], ["pod-identity: The role of ci/deployer requires"]],
      [`a list of ${tag}`, [granting, podRole({ ...TAGS, [tag]: [value, value.replace("demo", "x")] }), association()], ["pod-identity: The role of ci/deployer requires"]],
      [`a pattern of ${tag}`, [granting, podRole({ ...TAGS, [tag]: `*${value}` }), association()], ["pod-identity: The role of ci/deployer requires"]],
    ]),
    ["none, in a preview", [granting, podRole({}, {}), association({ roleArn: UNKNOWN }, ROLE_URN)], ["pod-identity: The role of ci/deployer"]],
    ["none, of an association of aws-native", [granting, podRole({}), of("aws-native:eks:PodIdentityAssociation", association().inputs)], ["pod-identity: The role of ci/deployer"]],
    ["none of a role that another uses", [granting, podRole({}, {}), association({ roleArn: UNKNOWN })], []],
    ["none, by IRSA", [granting, podRole({}), account({ [ROLE_ARN]: "arn:role" })], []],
    ["none, and no token", [podRole({}), association()], []],
    ["the three tags, and an account, which can set them", [granting, role([assumed({ Service: "pods.eks.amazonaws.com", AWS: "arn:aws:iam::999999999999:root" }, { Condition: { StringEquals: TAGS } })], {}, { outputs: { arn: "arn:role" } }), association()], ["trust: ci/deployer, which is granted a token, shares its role with [\"arn:aws:iam::999999999999:root\"]"]],
    ["none for another service", [granting, role([assumed({ Service: "x" })], {}, { outputs: { arn: "arn:role" } }), association()], []],
  ],
  "permissions-boundary": [
    ["a listed one", [role([exact(DEPLOYER)], { permissionsBoundary: "arn:b" })], [], BOUNDARY],
    ["none", [role([exact(DEPLOYER)])], ['permissions-boundary: is missing instead of one of ["arn:b"]. To allow it, change arns'], BOUNDARY],
    ["none of a role before its issuer", [role([exact(DEPLOYER, STS, "k8s.example.com")]), ...by(NAMES)], ["permissions-boundary: Role is missing"], BOUNDARY],
    ["not known yet", [role([exact(DEPLOYER)], { permissionsBoundary: UNKNOWN })], [], BOUNDARY],
    ["none of another role", [role([assumed({ Service: "ec2.amazonaws.com" })])], [], BOUNDARY],
  ],
  "not-ignored": [
    ...["policies", "policies[0].rules", '["url"]', "jwks", "maxExpirationSeconds", "maxExpiration", "*"].map((path): Case => [path, [{ ...granting, ignoreChanges: ["thumbprints", path] }], [`not-ignored: ignores changes of ${JSON.stringify(path)}`]]),
    ["thumbprints, and what only begins like policies", [{ ...granting, ignoreChanges: ["thumbprints", "policiesOf", "tags.url"] }], []],
    ["the trust policy of a role before its issuer", [{ ...role([exact(DEPLOYER, STS, "k8s.example.com")]), ignoreChanges: ["assumeRolePolicy"] }, ...by(NAMES)], ["not-ignored: Role ignores"]],
    ["policies of GitHub", [{ ...github({ sub: "repo:a" }), ignoreChanges: ["policies"] }], []],
    ...["assumeRolePolicy", "assumeRolePolicyDocument"].map((path): Case => [path, [{ ...podRole(TAGS), ignoreChanges: [path] }], ["not-ignored: ignores"]]),
  ],
  "no-stored-token": [
    ["resources of other packages", [of("my-pulumiservice:index:AccessToken", {  a: 1 }), of("pulumiservice:index:AccessTokens", { a: 1 }), of("pulumiservice:index:Environments", { yaml: "PULUMI_ACCESS_TOKEN: x" }), of("my-pulumiservice:index:Environment", { yaml: "PULUMI_ACCESS_TOKEN: x" })], []],
    ...["index:AccessToken", "index:TeamAccessToken", "index:OrgAccessToken", "index:AgentPool", "api/agents:Pool", "api/tokens:TeamToken"].map((type): Case => [type, [of(`pulumiservice:${type}`, { teamName: "a" })], ["no-stored-token: It has an access token"]]),
    ["in any resource", [of("pulumi:index:Stash", { input: TOKEN })], ["no-stored-token: contains an access token"]],
    ...["data", "binaryData"].map((files): Case => [`encoded in ${files}`, [object("core/v1:Secret", { [files]: { a: Buffer.from(TOKEN).toString("base64") } })], ["no-stored-token: contains"]]),
    ["as an example", [object("core/v1:ConfigMap", { data: { README: `pul-${"0".repeat(40)}` } })], []],
    ["as a variable", [object("apps/v1:Deployment", { spec: [{ name: "PULUMI_ACCESS_TOKEN", valueFrom: {} }] })], ["no-stored-token: It sets the variable"]],
    ["as an empty variable", [object("apps/v1:Deployment", { spec: [{ name: "PULUMI_ACCESS_TOKEN", value: "" }] })], []],
    ["as a key", [of("pulumiservice:index:DeploymentSettings", { env: { PULUMI_ACCESS_TOKEN: "x" } })], ["no-stored-token: It sets the variable"]],
    ["as an empty key", [object("core/v1:Secret", { stringData: { PULUMI_ACCESS_TOKEN: "" } })], []],
    ...["index", "api/esc"].map((module): Case => [`in an environment of ${module}`, [of(`pulumiservice:${module}:Environment`, { yaml: "PULUMI_ACCESS_TOKEN: x" })], ["no-stored-token: It sets the variable"]]),
    ["of the operator", [object("pulumi.com/v1:Stack", { spec: { accessTokenSecret: "a" } })], ["no-stored-token: accessTokenSecret"]],
    ["another object with an accessTokenSecret", [object("example.com/v1:Stack", { spec: { accessTokenSecret: "a" } })], []],
  ],
  "beside-the-program": [
    ["files where one of several has a token", [issuer([allow({ ...NAMES, aud: AUD }), allow({ sub: "system:serviceaccount:ops:a", aud: AUD })]), configMap({}, { data: { a: "" } })], ["beside-the-program: files"]],
    ["files", [granting, configMap({ data: { a: "" } }, { data: { a: "", b: "" }, binaryData: { c: "" } })], ['beside-the-program: It also has the files ["b","c"].']],
    ["files in another namespace", [granting, configMap({}, { data: { a: "" } }, "cicd")], []],
    ["files that are not known yet", [granting, configMap({ data: UNKNOWN }, { data: { b: "" } })], []],
    ["files of another object", [granting, object("core/v1:Secret", { metadata: { namespace: "ci" }, data: {} }, { data: { b: "" } })], []],
    ...[ROLE_ARN, "iam.amazonaws.com/role", "iam.gke.io/gcp-service-account", "azure.workload.identity/client-id", "azure.workload.identity/tenant-id"].map((annotation): Case => [annotation, [granting, account({}, { [annotation]: "x" })], [`beside-the-program: It also has the annotations ["${annotation}"]`]]),
    ["annotations that are no identity", [granting, account({}, { "eks.amazonaws.com/skip-containers": "x", [`x.${ROLE_ARN}`]: "x", [`${ROLE_ARN}s`]: "x" })], []],
    ["an identity of a service account without a token", [account({}, { [ROLE_ARN]: "x" })], []],
  ],
  "attached-policies": [
    ["by a resource of another package", [granting, having({ managedPolicyArns: ["arn:a"] }), of("my-aws:iam/policy:Policy", { role: "r", policyArn: "arn:a" })], ["attached-policies: arn:a"]],
    ["others", [granting, having({ managedPolicyArns: ["arn:a"], inlinePolicies: [{ name: "b" }, { name: "" }] })], ['attached-policies: It also has the policies ["arn:a","b"]. To allow it, change allowed']],
    ["others that are allowed", [granting, having({ managedPolicyArns: ["arn:a"] })], [], { "attached-policies": { allowed: ["arn:a"] } }],
    ["of the role itself", [granting, having({ managedPolicyArns: ["arn:a"], inlinePolicies: [{ name: "b" }] }, { managedPolicyArns: ["arn:a"], inlinePolicies: [{ name: "b" }] })], []],
    ["others with the name of an input, and of the role", [granting, having({ inlinePolicies: [{ name: "policyArn" }, { name: "r" }] }), attachment("rolePolicyAttachment", { role: "r", policyArn: "arn:a" })], ['attached-policies: ["policyArn","r"]']],
    ...["role", "roleName"].map((input): Case => [`by its name as ${input}`, [granting, having({ managedPolicyArns: ["arn:a"] }), attachment("rolePolicyAttachment", { [input]: "r", policyArn: "arn:a" })], []]),
    ["by its name in a list", [granting, having({ managedPolicyArns: ["arn:a"] }), attachment("policyAttachment", { roles: ["q", "r"], policyArn: "arn:a" })], []],
    ["by the source of its name", [granting, having({ inlinePolicies: [{ name: "b" }] }), attachment("rolePolicy", { role: UNKNOWN }, { outputs: { name: "b" }, propertyDependencies: { role: [ROLE_URN] } })], []],
    ["others of aws-native", [granting, of("aws-native:iam:Role", { assumeRolePolicyDocument: { Statement: [exact(DEPLOYER)] } }, { outputs: { policies: [{ policyName: "b" }] } })], ['attached-policies: ["b"]']],
    ["of a role without a token", [having({ managedPolicyArns: ["arn:a"] })], []],
  ],
};
