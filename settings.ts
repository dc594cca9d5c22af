// The stack's settings: the values that each one accepts, and its default. Pulumi.yaml describes them.

import * as v from "valibot";

/** What an error suggests to type: `element` is the place in a list or an object, `example` the value. */
type Help = { example: string; element: string };

export type Setting = v.SchemaWithPipe<readonly [v.GenericSchema<unknown>, v.MetadataAction<unknown, Help>]>;

/** Returns a schema that knows a value, or a placeholder for one, for `pulumi config set`. */
export const setting = <Schema extends v.GenericSchema>(schema: Schema, example: string, element = "") =>
  v.pipe(schema, v.metadata({ example, element }));

// YAML has changed such a value already: 0777 arrives as 511, and converting it back would grant another team.
const notString = ({ input }: v.BaseIssue<unknown>) =>
  typeof input === "number" || typeof input === "boolean"
    ? `must be a string, but YAML reads it as a ${typeof input}`
    : "must be a string";

/** Returns a schema for strings that match a pattern. */
export const string = (pattern: RegExp, expected: string) => v.pipe(v.string(notString), v.regex(pattern, expected));

/** A boolean, which the engine passes as a string. */
export const flag = v.pipe(
  v.union([v.boolean(), v.picklist(["true", "false"])], "must be true or false"),
  v.transform((value) => String(value) === "true"),
);

const INVALID_SECONDS = "must be a whole number of seconds, at least 1";

/** A duration in seconds, which the engine passes as a string. */
export const seconds = v.pipe(
  v.union([v.number(), v.string()], INVALID_SECONDS),
  v.transform(String),
  v.regex(/^[1-9][0-9]{0,8}$/, INVALID_SECONDS),
  v.transform(Number),
);

/** Returns a schema for lists, which the engine passes as JSON. */
export const list = <Element extends v.GenericSchema>(element: Element) =>
  v.pipe(v.unknown(), v.transform(parseJson), v.array(element, "must be a list"));

// v.record drops a key named `constructor` silently, and an allow policy would then require less.
const object = v.pipe(
  v.unknown(),
  v.transform(parseJson),
  v.custom<Record<string, unknown>>(isObject, "must be an object"),
);

function parseJson(value: unknown): unknown {
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
export const kubernetesName = string(
  /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
  "must be 1 to 63 lowercase letters, digits, or hyphens, and must not begin or end with a hyphen",
);

export const clusterName = string(/^[0-9A-Za-z][\w-]{0,99}$/, "must be the name of an EKS cluster");

export const organization = string(/^[0-9A-Za-z][\w-]*$/, "must be the name of a Pulumi organization");

export const policyArn = string(
  /^arn:aws(-[a-z]+)*:iam::([0-9]{12}|aws):policy\/([\w+=,.@-]+\/)*[\w+=,.@-]+$/,
  "must be the ARN of an IAM policy",
);

const POLICY_ARN = "arn:aws:iam::ACCOUNT:policy/NAME";

export const policyArns = v.pipe(
  list(policyArn),
  v.check((arns) => new Set(arns).size === arns.length, "must not contain the same policy twice"),
);

// In a pattern of the allow policy `*` matches any characters, `?` zero or one, and `.` exactly one; none can be
// escaped: https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/
const teamName = v.pipe(
  string(/^[^\s:]+$/, "must be the name of a team, without spaces and colons"),
  v.regex(/^[^*?.]+$/, 'must not contain "*", "?", or ".", which are wildcards that match other teams too'),
);

const audience = string(
  /^(?=.*[^.])[^\s*?]+$/,
  'must not contain spaces, "*", or "?", and must not consist only of dots',
);

const thumbprint = string(/^[0-9a-f]{64}$/, "must be a SHA-256: 64 lowercase hexadecimal digits, no colons");

const image = v.pipe(
  string(/^[a-z0-9][^\s@]*(@sha256:[0-9a-f]{64})?$/, "must be the name of an image"),
  v.regex(/@|:(?!latest$)[\w][\w.-]*$/, 'must be pinned to a digest or to a tag other than "latest"'),
);

// https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
// "*", "?", and "$" would be wildcards and variables in the pipeline's policies.
const rolePath = string(/^\/([\w+=,.@-]+\/)*$/, 'must be "/", or begin and end with "/", such as "/pulumi/"');

const command = v.pipe(
  list(string(/^[^\0]*$/, "must not contain a null character")),
  v.check(([program = ""]) => program !== "", "must name a program"),
);

// By the path of the claim, however it is quoted.
const BUILT_IN_RULES = new Map([
  ["kubernetes.io namespace", "namespace"],
  ["kubernetes.io serviceaccount name", "the service account's name"],
  ["aud", "audienceRule"],
]);

// A name that contains a dot is quoted; without the quotes it would be the path of another claim.
const CLAIM_PATH = /^(?!kubernetes\.io\.)("[^"]+"|[^".\s]+)(\.("[^"]+"|[^".\s]+))*$/;

const policyRules = v.pipe(
  object,
  v.rawTransform(({ dataset: { value: rules }, addIssue }) => {
    const patterns: [string, string][] = [];
    for (const [claim, pattern] of Object.entries(rules)) {
      const reject = (origin: "key" | "value", message: string) => addIssue(issueAt(rules, claim, message, origin));
      const steps = [...claim.matchAll(/"([^"]+)"|([^".]+)/g)].map(([, quoted, bare]) => quoted ?? bare);
      const owner = BUILT_IN_RULES.get(steps.join(" "));
      if (owner) reject("key", `must not replace the built-in rule, which ${owner} sets`);
      else if (!CLAIM_PATH.test(claim)) reject("key", 'must be a claim path, such as "kubernetes.io".pod.name');
      else if (typeof pattern !== "string") reject("value", "must be a string");
      else if (!/[^*?.]/.test(pattern)) reject("value", "must not consist only of wildcards");
      else patterns.push([claim, pattern]);
    }
    return Object.fromEntries(patterns);
  }),
);

const isNamed = (elements: unknown) =>
  !Array.isArray(elements) || elements.every((element) => isObject(element) && "name" in element);

const jobPodSpec = v.pipe(
  object,
  v.check((spec) => !("serviceAccountName" in spec), "must not contain serviceAccountName"),
  // An element without a name would replace the Job's own container and its restrictions.
  v.check(
    ({ containers = [], volumes = [] }) => [containers, volumes].every(isNamed),
    "must contain only containers and volumes with a name",
  ),
);

// The last documented limit of policies per issuer: https://github.com/pulumi/docs/pull/15573
const serviceAccounts = v.pipe(
  list(object),
  v.maxLength(40, "must have at most 40 entries: one issuer holds 40 policies"),
);

const apiUrl = v.pipe(
  v.string(notString),
  v.check(isApiUrl, "must be https://HOST, or http://HOST with a loopback host"),
  v.transform((url) => new URL(url).origin),
);

function isApiUrl(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, hostname, href, origin } = new URL(value);
  const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
  return href === `${origin}/` && (protocol === "https:" || (protocol === "http:" && loopback));
}

export const STS_AUDIENCE = "sts.amazonaws.com";

const INVALID_TOKEN_TYPE = 'must be "personal", "organization", "team", or "runner"';

/** Whose access token a service account is granted; `tokenSchema` says which of these belong together. */
export const tokenSettings = {
  tokenType: setting(
    v.optional(v.picklist(["personal", "organization", "team", "runner"], INVALID_TOKEN_TYPE), "personal"),
    "TYPE",
  ),
  userLogin: setting(string(/^\w[\w.@+-]*$/, "must be the login of a Pulumi user"), "LOGIN"),
  teamName: setting(teamName, "TEAM"),
  runnerId: setting(string(/^[\w-]+$/, "must be the ID of a runner pool"), "ID"),
  runnerName: setting(string(/^[^\s:]+$/, "must be the name of a runner, without spaces and colons"), "NAME"),
  organizationAdmin: setting(v.optional(flag, false), "true"),
};

const { userLogin, organizationAdmin, runnerId, runnerName } = tokenSettings;

export const tokenSchema = v.variant(
  "tokenType",
  [
    v.object({ tokenType: v.literal("personal"), userLogin }),
    v.object({ tokenType: v.literal("organization"), organizationAdmin }),
    v.object({ tokenType: v.literal("team"), teamName: tokenSettings.teamName }),
    v.object({ tokenType: v.literal("runner"), runnerId, runnerName }),
  ],
  INVALID_TOKEN_TYPE,
);

/** The settings of one service account: in the stack the default for all, in an entry of `serviceAccounts` its own. */
export const accountSettings = {
  namespace: setting(v.optional(kubernetesName, "default"), "NAMESPACE"),
  createNamespace: setting(v.optional(flag, false), "false"),
  // `serviceAccountName` in the stack. Kubernetes allows dots in it; the allow policy would read them as wildcards.
  name: setting(v.optional(kubernetesName, "pulumi-service-account"), "NAME"),
  createServiceAccount: setting(v.optional(flag, true), "false"),
  createRole: setting(v.optional(flag, true), "true"),
  rolePolicyArns: setting(v.optional(policyArns, []), POLICY_ARN, "[0]"),
  tokenExpirationSeconds: setting(v.optional(seconds, 7200), "SECONDS"),
  tokenAudience: setting(v.optional(audience, STS_AUDIENCE), STS_AUDIENCE),
  audienceRule: setting(v.optional(flag), "true"),
  policyRules: setting(v.optional(policyRules, {}), "'runner-*'", '["\\"kubernetes.io\\".pod.name"]'),
  runJob: setting(v.optional(flag, true), "false"),
  command: setting(v.optional(command), "pulumi", "[0]"),
};

/** The settings of the whole stack. */
export const stackSettings = {
  clusterName: setting(clusterName, "CLUSTER"),
  createCluster: setting(v.optional(flag, false), "true"),
  createOidcProvider: setting(v.optional(flag, false), "false"),
  organization: setting(organization, "ORGANIZATION"),
  issuerName: setting(v.optional(string(/^\S(.*\S)?$/, "must not begin or end with a space")), "NAME"),
  maxExpirationSeconds: setting(v.optional(seconds, 7200), "SECONDS"),
  thumbprints: setting(v.optional(list(thumbprint), []), "SHA256", "[0]"),
  permissionsBoundaryArn: setting(v.optional(policyArn), POLICY_ARN),
  rolePath: setting(v.optional(rolePath, "/"), "/PATH/"),
  image: setting(v.optional(image, "pulumi/pulumi-base:3.274.1"), "pulumi/pulumi-base:3.274.1"),
  jobPodSpec: setting(v.optional(jobPodSpec, {}), "NAME", ".priorityClassName"),
  pulumiApiUrl: setting(v.optional(apiUrl, "https://api.pulumi.com"), "https://HOST"),
  serviceAccounts: setting(v.optional(serviceAccounts, []), "NAME", "[0].name"),
};

/** Every cluster has these: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/ */
export const INITIAL_NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"];

const stackObject = v.object(stackSettings);
const accountObject = v.object({
  ...accountSettings,
  maxExpirationSeconds: stackSettings.maxExpirationSeconds,
});

export const stackSchema = v.pipe(
  stackObject,
  v.rawCheck(({ dataset, addIssue }) => {
    const settings = dataset.value as v.InferOutput<typeof stackObject>;
    if (settings.createCluster === true && settings.createOidcProvider === true) {
      addIssue(issueAt(settings, "createOidcProvider", "must be false with createCluster, which creates one too"));
    }
  }),
);

export const accountSchema = v.pipe(
  accountObject,
  v.rawCheck(({ dataset, addIssue }) => {
    // Also reached with invalid settings, which are as they were given.
    const settings = dataset.value as v.InferOutput<typeof accountObject>;
    const { namespace, name, tokenExpirationSeconds, maxExpirationSeconds } = settings;
    const report = (key: keyof typeof settings, message: string) => addIssue(issueAt(settings, key, message));
    const areNumbers = typeof tokenExpirationSeconds === "number" && typeof maxExpirationSeconds === "number";
    if (areNumbers && tokenExpirationSeconds > maxExpirationSeconds) {
      report("tokenExpirationSeconds", `must be at most maxExpirationSeconds, which is ${maxExpirationSeconds}`);
    }
    if (settings.createNamespace === true && INITIAL_NAMESPACES.includes(namespace)) {
      report("createNamespace", `must be false for "${namespace}", which exists on every cluster`);
    } else if (settings.createNamespace === true && settings.createServiceAccount === false) {
      report("createNamespace", "must be false for a service account that exists: so does its namespace");
    }
    if (name === "default" && settings.createServiceAccount === true) {
      report("createServiceAccount", 'must be false for "default", which exists in every namespace');
    }
    if (settings.createRole === false && settings.rolePolicyArns.length > 0) {
      report("createRole", "must be true with rolePolicyArns");
    }
  }),
);

function issueAt(input: Record<string, unknown>, key: string, message: string, origin: "key" | "value" = "value") {
  const value = input[key];
  return {
    input: value,
    message,
    path: [{ type: "object" as const, origin, input, key, value }] as [v.IssuePathItem],
  };
}
