// The stack's settings: the values that each one accepts, and its default. Pulumi.yaml describes them.

import * as v from "valibot";
import { isAdditionalClaim } from "./oidcIssuer";
import { INITIAL_NAMESPACES } from "./serviceAccount";

// YAML has changed such a value already: 0777 arrives as 511, and converting it back would grant a different team's token.
const notString = ({ input }: v.BaseIssue<unknown>) =>
  typeof input === "number" || typeof input === "boolean"
    ? `must be a string, but YAML reads it as a ${typeof input}`
    : "must be a string";

/** Returns a schema for strings that match a pattern. */
export const string = (pattern: RegExp, expected: string) => v.pipe(v.string(notString), v.regex(pattern, expected));

/** A boolean, which the engine passes as a string. */
const flag = v.pipe(
  v.union([v.boolean(), v.picklist(["true", "false"])], "must be true or false"),
  v.transform((value) => String(value) === "true"),
);

const INVALID_SECONDS = "must be a whole number of seconds, at least 1";

/** A duration in seconds, which the engine passes as a string. */
const seconds = v.pipe(
  v.union([v.number(), v.string()], INVALID_SECONDS),
  v.transform(String),
  v.regex(/^[1-9][0-9]{0,8}$/, INVALID_SECONDS),
  v.transform(Number),
);

// The engine passes lists and objects as JSON.
const json = v.pipe(v.unknown(), v.transform(parseJson));

/** Returns a schema for lists of elements that match another schema, with an example of a list. */
export const list = <Element extends v.GenericSchema>(element: Element, example = '["VALUE"]') =>
  v.pipe(json, v.array(element, `must be a list, such as ${example}`));

/** A schema for objects: Valibot's own object schema accepts lists. */
export const object = v.pipe(json, v.custom<Record<string, unknown>>(isObject, "must be an object"));

/** Returns the value of a JSON string, or the value itself if it is anything else. */
export function parseJson(value: unknown): unknown {
  try {
    return typeof value === "string" ? JSON.parse(value) : value;
  } catch {
    return value;
  }
}

/** Returns whether a value is an object with keys, as opposed to a list or a scalar. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names */
const kubernetesName = string(
  /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
  "must be 1 to 63 lowercase letters, digits, or hyphens, and must not begin or end with a hyphen",
);

const policyArn = string(
  /^arn:aws(-[a-z]+)*:iam::([0-9]{12}|aws):policy\/([\w+=,.@-]+\/)*[\w+=,.@-]+$/,
  "must be the ARN of an IAM policy",
);

const policyArns = v.pipe(
  list(policyArn),
  v.checkItems((arn, index, arns) => arns.indexOf(arn) === index, "must not be listed twice"),
);

// In a pattern of the allow policy `*` matches any characters, `?` zero or one, and `.` exactly one; none can be
// escaped: https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/
const teamName = string(
  /^[^\s:*?.]+$/,
  'must not contain spaces, ":", or the wildcards "*", "?", and ".", which also match other teams',
);

const audience = string(/^(?=.*[^.])[^\s*?]+$/, 'must not contain spaces, "*", or "?", or consist only of dots');

const image = v.pipe(
  string(/^[a-z0-9][^\s@]*(@sha256:[0-9a-f]{64})?$/, "must be the name of an image"),
  v.regex(/@|:(?!latest$)[\w][\w.-]*$/, 'must be pinned to a digest or to a tag other than "latest"'),
);

// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
// "*", "?", and "$" would be wildcards and variables in the pipeline's policies.
const rolePath = string(/^\/([\w+=,.@-]+\/)*$/, 'must be "/", or begin and end with "/", such as "/pulumi/"');

const command = v.pipe(
  list(string(/^[^\0]*$/, "must not contain a null character")),
  v.check(([program = ""]) => program !== "", 'must name a program, such as ["pulumi","whoami"]'),
);

const claim = v.custom<string>(
  isAdditionalClaim,
  'must be the path of a claim, such as "kubernetes.io".pod.name with its quotes, other than namespace, name, and aud',
);

// v.record drops these names, and the allow policy would then require less.
const RESERVED = ["__proto__", "prototype", "constructor"];

const policyRules = v.pipe(
  object,
  v.check((rules) => !RESERVED.some((name) => Object.hasOwn(rules, name)), `must not contain ${RESERVED.join(", ")}`),
  v.record(claim, string(/[^*?.]/, "must not consist only of wildcards")),
);

// An element without a name would replace the Job's own container and its restrictions.
const named = v.pipe(object, v.looseObject({ name: kubernetesName }, "required"));
const namedElements = v.optional(list(named, '[{"name":"NAME"}]'));

const jobPodSpec = v.pipe(
  object,
  v.looseObject({
    serviceAccountName: v.optional(v.never("must not be set: each Job runs as its own service account")),
    containers: namedElements,
    volumes: namedElements,
  }),
);

const apiUrl = v.pipe(
  string(
    /^(https:\/\/[\w.-]+|http:\/\/(localhost|127(\.\d+){3}|\[::1\]))(:\d+)?\/?$/,
    "must be https://HOST without a path; http:// is allowed only for a loopback host",
  ),
  v.check((url) => URL.canParse(url), "must be a URL"),
  v.transform((url) => new URL(url).origin),
);

export const STS_AUDIENCE = "sts.amazonaws.com";

const TOKEN_TYPE = 'must be "personal", "organization", "team", or "runner"';

/** Whose access token a service account is granted; `tokenSchema` defines which of these are valid together. */
export const tokenSettings = {
  tokenType: v.optional(v.picklist(["personal", "organization", "team", "runner"], TOKEN_TYPE), "personal"),
  userLogin: string(/^\w[\w.@+-]*$/, "must be the login of a Pulumi user"),
  teamName,
  runnerId: string(/^[\w-]+$/, "must be the ID of a runner pool"),
  runnerName: string(/^[^\s:]+$/, "must be the name of a runner pool, without spaces or colons"),
  organizationAdmin: v.optional(flag, false),
};

const { userLogin, organizationAdmin, runnerId, runnerName } = tokenSettings;
const required = (type: string) => `required with tokenType "${type}"`;

/** Returns the schemas that reject the settings of the other token types. */
function othersThan(type: string) {
  const other = v.optional(v.never(`not valid with tokenType "${type}"`));
  return { userLogin: other, teamName: other, runnerId: other, runnerName: other, organizationAdmin: other };
}

const tokenSchema = v.variant(
  "tokenType",
  [
    v.object({ ...othersThan("personal"), tokenType: v.literal("personal"), userLogin }, required("personal")),
    v.object({ ...othersThan("organization"), tokenType: v.literal("organization"), organizationAdmin }),
    v.object({ ...othersThan("team"), tokenType: v.literal("team"), teamName }, required("team")),
    v.object({ ...othersThan("runner"), tokenType: v.literal("runner"), runnerId, runnerName }, required("runner")),
  ],
  ({ received }) => (received === "undefined" ? "required, because this entry sets other token settings" : TOKEN_TYPE),
);

type Token = v.InferOutput<typeof tokenSchema>;

/** The settings of one service account: in the stack the default for all, in an entry of `serviceAccounts` its own. */
export const accountSettings = {
  namespace: v.optional(kubernetesName, "default"),
  createNamespace: v.optional(flag, false),
  // `serviceAccountName` in the stack. Kubernetes allows dots in it; the allow policy would read them as wildcards.
  name: v.optional(kubernetesName, "pulumi-service-account"),
  createServiceAccount: v.optional(flag, true),
  createRole: v.optional(flag, true),
  rolePolicyArns: v.optional(policyArns, []),
  tokenExpirationSeconds: v.optional(seconds, 7200),
  tokenAudience: v.optional(audience, STS_AUDIENCE),
  audienceRule: v.optional(flag),
  policyRules: v.optional(policyRules, {}),
  runJob: v.optional(flag, true),
  command: v.optional(command),
};

const maxExpirationSeconds = v.optional(seconds, 7200);

const account = v.pipe(
  object,
  v.object({ ...accountSettings, maxExpirationSeconds, token: tokenSchema }),
  v.forward(
    v.partialCheck(
      [["tokenExpirationSeconds"], ["maxExpirationSeconds"]],
      (settings) => settings.tokenExpirationSeconds <= settings.maxExpirationSeconds,
      ({ input }) => `must be at most maxExpirationSeconds, which is ${input.maxExpirationSeconds}`,
    ),
    ["tokenExpirationSeconds"],
  ),
  v.rawCheck(({ dataset: { value: it }, addIssue }) => {
    // Also reached with invalid settings, which are as they were given.
    if (!isObject(it)) return;
    const { namespace, name, createServiceAccount, rolePolicyArns } = it;
    const hasNamespace = createServiceAccount === false || INITIAL_NAMESPACES.includes(String(namespace));
    if (it.createNamespace === true && hasNamespace) {
      const reason = "must be false for a namespace that exists on every cluster, or with an existing service account";
      addIssue(issueAt(true, reason, "createNamespace"));
    }
    if (createServiceAccount === true && name === "default") {
      addIssue(issueAt(true, 'must be false for "default", which exists in every namespace', "createServiceAccount"));
    }
    if (it.createRole === false && Array.isArray(rolePolicyArns) && rolePolicyArns.length > 0) {
      addIssue(issueAt(false, "must be true with rolePolicyArns", "createRole"));
    }
  }),
  v.transform(({ token, ...settings }) => ({
    ...settings,
    token,
    /** The scope that the token exchange requests, such as `user:LOGIN`. */
    tokenScope: scopeOf(token),
    audienceRule: settings.audienceRule ?? settings.tokenAudience !== STS_AUDIENCE,
    command: settings.command ?? (token.tokenType === "runner" ? ["true"] : ["pulumi", "whoami"]),
  })),
);

function scopeOf({ tokenType, userLogin, teamName, runnerName, organizationAdmin }: Token): string {
  if (tokenType === "organization") return organizationAdmin ? "admin" : "";
  return tokenType === "personal" ? `user:${userLogin}` : `${tokenType}:${teamName ?? runnerName}`;
}

const serviceAccounts = v.pipe(
  list(account, '[{"name":"NAME"}]'),
  // The last documented limit of policies per issuer: https://github.com/pulumi/docs/pull/15573
  v.maxLength(40, "must have at most 40 entries: an issuer has at most 40 policies"),
  v.rawCheck(({ dataset, addIssue }) => {
    const accounts = [dataset.value].flat().map((it) => (isObject(it) ? it : {}));
    const ids = accounts.map(({ namespace, name }) => `${namespace}/${name}`);
    for (const [index, { namespace, name, createServiceAccount, runJob }] of accounts.entries()) {
      const first = ids.indexOf(`${namespace}/${name}`);
      const reason = `service account ${ids[index]} is already configured by serviceAccounts[${first}]`;
      if (name && first < index) addIssue(issueAt(undefined, reason, index, "name"));
      const creator = accounts.find((it) => it.createNamespace === true && it.namespace === namespace);
      if (creator?.createServiceAccount === true && createServiceAccount === false && runJob === true) {
        addIssue(issueAt(true, "must be false, because this stack creates the namespace", index, "runJob"));
      }
    }
  }),
);

/** The settings of the whole stack. */
export const stackSettings = {
  clusterName: string(/^[0-9A-Za-z][\w-]{0,99}$/, "must be the name of an EKS cluster"),
  createCluster: v.optional(flag, false),
  createOidcProvider: v.optional(flag, false),
  organization: string(/^[0-9A-Za-z][\w-]*$/, "must be the name of a Pulumi organization"),
  issuerName: v.optional(string(/^\S(.*\S)?$/, "must not begin or end with a space")),
  maxExpirationSeconds,
  thumbprints: v.optional(list(string(/^[0-9a-f]{64}$/, "must be a SHA-256 hash: 64 lowercase hex digits")), []),
  permissionsBoundaryArn: v.optional(policyArn),
  rolePath: v.optional(rolePath, "/"),
  image: v.optional(image, "pulumi/pulumi-base:3.274.1"),
  jobPodSpec: v.optional(jobPodSpec, {}),
  pulumiApiUrl: v.optional(apiUrl, "https://api.pulumi.com"),
  serviceAccounts: v.optional(serviceAccounts, []),
};

/** The configuration of a stack, with what each entry of `serviceAccounts` inherits, and its token in `token`. */
export const stackSchema = v.pipe(
  v.object(stackSettings, ({ expected }) =>
    expected === '"organization"' ? "required, because the stack has no organization" : "required",
  ),
  v.rawCheck(({ dataset: { value: stack }, addIssue }) => {
    if (isObject(stack) && stack.createCluster === true && stack.createOidcProvider === true) {
      addIssue(issueAt(true, "must be false with createCluster, which creates one too", "createOidcProvider"));
    }
  }),
  v.transform((stack) => ({ ...stack, issuerName: stack.issuerName ?? `eks-${stack.clusterName}` })),
);

/** Returns an issue of a rule between settings, at the setting to change. */
function issueAt(value: unknown, message: string, ...keys: (string | number)[]) {
  const path = keys.map((key) => ({ type: "unknown", origin: "value", input: undefined, key, value }) as const);
  return { input: value, message, path: path as [v.IssuePathItem] };
}
