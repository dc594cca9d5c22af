// The stack's settings: read once, validated as a whole, handed on as plain typed data.

import * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import { userError } from "./userError";

export type Settings = v.InferOutput<typeof stackSchema> & {
  token: Token;
  /** The scope that the token exchange asks for, such as `user:LOGIN`. */
  tokenScope: string;
  issuerName: string;
  audienceRule: boolean;
  /** The AWS provider's own settings, which the Kubernetes provider shares. */
  awsRegion: string | undefined;
  awsProfile: string | undefined;
};

/** Whose access token the pods get. */
export type Token = v.InferOutput<typeof tokenSchema>;

/** What is wrong with one setting, and the command that mends it. */
export interface Problem {
  setting: string;
  reason: string;
  remedy: string;
}

/**
 * Reads the settings of the current stack.
 *
 * @returns the settings with every default filled in; durations are in seconds.
 * @throws pulumi.RunError that lists every problem with the command that mends it.
 */
export function readSettings(): Settings {
  const config = pulumi.runtime.allConfig();
  const project = pulumi.getProject();
  const { settings, problems = [] } = parseSettings(config, project, stackOrganization());
  // Where the engine says which settings are encrypted; the SDK reads it, and keeps it to itself.
  const secrets: string[] = JSON.parse(process.env.PULUMI_CONFIG_SECRET_KEYS || "[]");
  for (const name of secrets.filter((name) => name.startsWith(`${project}:`))) {
    const setting = name.slice(project.length + 1);
    problems.push({
      setting,
      reason: "is a secret, and would stand in clear in the stack's state and in the pod's spec",
      remedy: `pulumi config set --plaintext ${setting} VALUE`,
    });
  }
  if (settings && problems.length === 0) return settings;

  const list = problems.map(({ setting, reason, remedy }) => `  ${setting}: ${reason}\n      ${remedy}\n`);
  const count = problems.length === 1 ? "One setting" : `${problems.length} settings`;
  throw userError(
    `${count} of stack ${pulumi.getStack()} must be mended; nothing was changed.\n\n${list.join("")}`,
  );
}

/**
 * Validates settings as the engine hands them over: a text for each `project:key`, JSON for lists and objects.
 * An empty text counts as not set, since a default in `Pulumi.yaml` has no other way to say so.
 *
 * @param config the settings of the project and of its providers.
 * @param project the project's name, which qualifies its keys.
 * @param organization the stack's organization, used where no setting names one.
 * @returns the settings, or every problem that they have. It throws nothing.
 */
export function parseSettings(
  config: Record<string, string>,
  project: string,
  organization: string | undefined,
): { settings: Settings; problems?: never } | { settings?: never; problems: Problem[] } {
  const given: Record<string, string> = organization ? { organization } : {};
  for (const [key, value] of Object.entries(config)) {
    if (key.startsWith(`${project}:`) && value !== "") given[key.slice(project.length + 1)] = value;
  }
  // The default, which reaches every token type, is no wish for another one.
  if (given.organizationAdmin === "false") delete given.organizationAdmin;

  const stack = v.safeParse(stackSchema, given);
  const token = v.safeParse(tokenSchema, { tokenType: "personal", ...given });

  const issues = [...(stack.issues ?? []), ...(token.issues ?? [])];
  const problems = [
    ...issues.map((issue) => toProblem(issue, given)),
    ...surplus(given),
    ...conflicts(given),
  ];
  if (!stack.success || !token.success || problems.length > 0) return { problems };

  const settings = {
    ...stack.output,
    token: token.output,
    tokenScope: scopeOf(token.output),
    issuerName: stack.output.issuerName ?? `eks-${stack.output.clusterName}`,
    audienceRule: stack.output.audienceRule ?? stack.output.tokenAudience !== STS_AUDIENCE,
    awsRegion: config["aws:region"],
    awsProfile: config["aws:profile"],
  };
  return { settings };
}

const STS_AUDIENCE = "sts.amazonaws.com";

// In a pattern of the allow policy `*` is any run of characters, `?` zero or one and `.` exactly one; none can be
// escaped: https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/
const NO_WILDCARDS = /^[^*?.]+$/;

const text = (pattern: RegExp, expected: string) =>
  v.pipe(v.string("must be a text"), v.regex(pattern, expected));

const flag = v.pipe(
  v.picklist(["true", "false"], "must be true or false"),
  v.transform((value) => value === "true"),
);

const seconds = v.pipe(
  text(/^[1-9][0-9]{0,8}$/, "must be a whole number of seconds, at least 1"),
  v.transform(Number),
);

const list = (element: v.GenericSchema<string>) =>
  v.pipe(v.string(), v.parseJson({}, "must be a list"), v.array(element, "must be a list"));

// https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
const kubernetesName = text(
  /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
  "must be at most 63 lower-case letters, digits and hyphens, no hyphen first or last",
);

const policyArn = text(
  /^arn:aws(-[a-z]+)*:iam::([0-9]{12}|aws):policy\/([\w+=,.@-]+\/)*[\w+=,.@-]+$/,
  "must be the ARN of an IAM policy",
);

const policyArns = v.pipe(
  list(policyArn),
  v.check((arns) => new Set(arns).size === arns.length, "must not name a policy twice"),
);

const thumbprint = text(
  /^[0-9a-f]{64}$/,
  "must be a SHA-256: 64 lower-case hexadecimal digits without colons",
);

const command = v.pipe(
  list(text(/^[^\0]*$/, "must not hold a null character")),
  v.check(([program = ""]) => program !== "", "must name a program"),
);

const audience = text(
  /^(?=.*[^.])[^\s*?]+$/,
  "must be without spaces and the allow policy's wildcards * and ?, and more than dots",
);

const image = v.pipe(
  text(/^[a-z0-9][^\s@]*(@sha256:[0-9a-f]{64})?$/, "must be the name of an image"),
  v.regex(
    /@|:(?!latest$)[\w][\w.-]*$/,
    "must end in a version or a digest; without one the pod runs whatever was pushed last",
  ),
);

// By the claim's path, however it is spelled.
const BUILT_IN_RULES = new Map([
  ["kubernetes.io namespace", "namespace"],
  ["kubernetes.io serviceaccount name", "serviceAccountName"],
  ["aud", "audienceRule"],
]);

// A name that holds a dot is in quotes; without them it would be the path of another claim.
const CLAIM_PATH = /^(?!kubernetes\.io\.)("[^"]+"|[^".\s]+)(\.("[^"]+"|[^".\s]+))*$/;

const policyRules = v.pipe(
  v.string(),
  v.parseJson({}, "must be an object"),
  // v.record would drop a claim named `constructor` without a word, and the policy would demand less.
  v.custom<Record<string, unknown>>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "must be an object",
  ),
  v.rawTransform(({ dataset: { value: rules }, addIssue }) => {
    const patterns: [string, string][] = [];
    for (const [claim, pattern] of Object.entries(rules)) {
      const refuse = (origin: "key" | "value", message: string) =>
        addIssue({
          input: pattern,
          message,
          path: [{ type: "object", origin, input: rules, key: claim, value: pattern }],
        });
      const steps = [...claim.matchAll(/"([^"]+)"|([^".]+)/g)].map(([, quoted, bare]) => quoted ?? bare);
      const owner = BUILT_IN_RULES.get(steps.join(" "));
      if (owner) refuse("key", `may not replace the built-in rule, which ${owner} sets`);
      else if (!CLAIM_PATH.test(claim))
        refuse("key", 'is no path of a claim, such as "kubernetes.io".pod.name');
      else if (typeof pattern !== "string") refuse("value", "must be a text");
      else if (!/[^*?.]/.test(pattern))
        refuse("value", "must hold a literal part: wildcards alone are no pattern");
      else patterns.push([claim, pattern]);
    }
    return Object.fromEntries(patterns);
  }),
);

const apiUrl = v.pipe(
  v.string(),
  v.check(isApiUrl, "must be https://HOST, or http://HOST on a loopback host"),
  v.transform((url) => new URL(url).origin),
);

function isApiUrl(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, hostname, href, origin } = new URL(value);
  const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
  return href === `${origin}/` && (protocol === "https:" || (protocol === "http:" && loopback));
}

// What the README says of a setting, and what an error suggests: `example` is a value for `pulumi config set`,
// `element` the place in a list or object that it goes to.
type Help = { description: string; example: string; element?: string };

type Setting = v.SchemaWithPipe<readonly [v.GenericSchema<unknown>, v.MetadataAction<unknown, Help>]>;

const setting = <Schema extends v.GenericSchema<string | undefined, unknown>>(schema: Schema, help: Help) =>
  v.pipe(schema, v.metadata(help));

const tokenSettings = {
  // `tokenSchema` does the checking.
  tokenType: setting(v.optional(v.picklist(["personal", "organization", "team", "runner"]), "personal"), {
    description: "Type of the access token: `personal`, `organization`, `team` or `runner`",
    example: "TYPE",
  }),
  userLogin: setting(text(/^\w[\w.@+-]*$/, "must be the login of a Pulumi user"), {
    description: "The user of a personal token",
    example: "LOGIN",
  }),
  teamName: setting(
    v.pipe(
      text(/^[^\s:]+$/, "must be the name of a team, without spaces and colons"),
      v.regex(
        NO_WILDCARDS,
        "must not hold *, ? or .: the allow policy reads them as wildcards, and lets other teams in",
      ),
    ),
    { description: "The team of a team token", example: "TEAM" },
  ),
  runnerId: setting(text(/^[\w-]+$/, "must be the id of a deployment runner"), {
    description: "The deployment runner of a runner token: its id, which the allow policy names",
    example: "ID",
  }),
  runnerName: setting(
    text(/^[^\s:]+$/, "must be the name of a deployment runner, without spaces and colons"),
    {
      description: "The deployment runner of a runner token: its name, which the scope names",
      example: "NAME",
    },
  ),
  organizationAdmin: setting(v.optional(flag, "false"), {
    description: "Let an organization token hold admin permission",
    example: "false",
  }),
};

const tokenSchema = v.variant(
  "tokenType",
  [
    v.object({ tokenType: v.literal("personal"), userLogin: tokenSettings.userLogin }),
    v.object({ tokenType: v.literal("organization"), organizationAdmin: tokenSettings.organizationAdmin }),
    v.object({ tokenType: v.literal("team"), teamName: tokenSettings.teamName }),
    v.object({
      tokenType: v.literal("runner"),
      runnerId: tokenSettings.runnerId,
      runnerName: tokenSettings.runnerName,
    }),
  ],
  "must be personal, organization, team or runner",
);

const stackSettings = {
  clusterName: setting(text(/^[0-9A-Za-z][\w-]{0,99}$/, "must be the name of an EKS cluster"), {
    description: "The EKS cluster; with `createCluster`, the new one's name",
    example: "CLUSTER",
  }),
  createCluster: setting(v.optional(flag, "false"), {
    description: "Make a small EKS cluster instead of reading an existing one",
    example: "false",
  }),
  createOidcProvider: setting(v.optional(flag, "false"), {
    description: "Create the IAM OIDC provider that the existing cluster lacks; it stays when the stack goes",
    example: "false",
  }),
  namespace: setting(v.optional(kubernetesName, "default"), {
    description: "Namespace of the service account and the Job",
    example: "NAMESPACE",
  }),
  createNamespace: setting(v.optional(flag, "false"), {
    description: "Create the namespace, under Pod Security `restricted`",
    example: "false",
  }),
  // A service account's name may hold dots in Kubernetes; the allow policy would read them as wildcards.
  serviceAccountName: setting(v.optional(kubernetesName, "pulumi-service-account"), {
    description: "Name of the service account",
    example: "NAME",
  }),
  rolePolicyArns: setting(v.optional(policyArns, "[]"), {
    description: "IAM policies to attach to the role",
    example: "arn:aws:iam::ACCOUNT:policy/NAME",
    element: "[0]",
  }),
  permissionsBoundaryArn: setting(v.optional(policyArn), {
    description: "Permissions boundary of the role",
    example: "arn:aws:iam::ACCOUNT:policy/NAME",
  }),
  organization: setting(text(/^[0-9A-Za-z][\w-]*$/, "must be the name of a Pulumi organization"), {
    description: "The Pulumi organization; empty: the stack's, which only Pulumi Cloud's stacks have",
    example: "ORGANIZATION",
  }),
  issuerName: setting(v.optional(text(/^\S(.*\S)?$/, "must not begin or end with a space")), {
    description: "Name of the OIDC issuer in Pulumi Cloud; empty: `eks-` and the cluster's name",
    example: "NAME",
  }),
  maxExpirationSeconds: setting(v.optional(seconds, "7200"), {
    description: "The longest life of an access token from this issuer",
    example: "7200",
  }),
  thumbprints: setting(v.optional(list(thumbprint), "[]"), {
    description: "SHA-256 of the issuer's serving certificates; empty: read from the issuer",
    example: "SHA256",
    element: "[0]",
  }),
  policyRules: setting(v.optional(policyRules, "{}"), {
    description: "Further claims that the allow policy demands, with their patterns",
    example: "'runner-*'",
    element: '["\\"kubernetes.io\\".pod.name"]',
  }),
  tokenExpirationSeconds: setting(v.optional(seconds, "7200"), {
    description: "Life of the access token; at most `maxExpirationSeconds`",
    example: "7200",
  }),
  tokenAudience: setting(v.optional(audience, STS_AUDIENCE), {
    description: "Audience of the pod's token; another than the default mounts a token of its own",
    example: STS_AUDIENCE,
  }),
  audienceRule: setting(v.optional(flag), {
    description: "Let the allow policy demand `tokenAudience`; empty: where it is not the default",
    example: "true",
  }),
  image: setting(v.optional(image, "pulumi/pulumi-base:3.270.0"), {
    description: "Image of the pod; it needs bash, curl and CA certificates",
    example: "pulumi/pulumi-base:3.270.0",
  }),
  command: setting(v.optional(command, '["pulumi","whoami"]'), {
    description: "What the pod runs, with the access token in `PULUMI_ACCESS_TOKEN`",
    example: "pulumi",
    element: "[0]",
  }),
  pulumiApiUrl: setting(v.optional(apiUrl, "https://api.pulumi.com"), {
    description: "Pulumi Cloud; a self-hosted one has a URL of its own",
    example: "https://HOST",
  }),
};

const stackSchema = v.object(stackSettings);

const allSettings: Record<string, Setting> = { ...stackSettings, ...tokenSettings };

/** Every setting as `Pulumi.yaml` and the README list it; `default` is undefined where there is none. */
export const declaredSettings = Object.entries(allSettings).map(([key, schema]) => ({
  key,
  description: v.getMetadata(schema).description,
  default: v.safeParse(schema, undefined).output,
}));

function scopeOf(token: Token): string {
  switch (token.tokenType) {
    case "personal":
      return `user:${token.userLogin}`;
    case "team":
      return `team:${token.teamName}`;
    case "runner":
      return `runner:${token.runnerName}`;
    case "organization":
      return token.organizationAdmin ? "admin" : "";
  }
}

// A file-backed stack has no organization and answers with this word.
const NO_ORGANIZATION = "organization";

function stackOrganization(): string | undefined {
  const organization = pulumi.getOrganization();
  return organization === NO_ORGANIZATION ? undefined : organization;
}

/** Settings that are right by themselves and wrong together. */
function conflicts(given: Record<string, string>): Problem[] {
  const problems: Problem[] = [];
  const expiration = v.safeParse(stackSettings.tokenExpirationSeconds, given.tokenExpirationSeconds);
  const maximum = v.safeParse(stackSettings.maxExpirationSeconds, given.maxExpirationSeconds);
  if (expiration.success && maximum.success && expiration.output > maximum.output) {
    problems.push({
      setting: `tokenExpirationSeconds = ${expiration.output}`,
      reason: `must be at most maxExpirationSeconds, which is ${maximum.output}`,
      remedy: `pulumi config set tokenExpirationSeconds ${maximum.output}`,
    });
  }
  if (given.createCluster === "true" && given.createOidcProvider === "true") {
    problems.push({
      setting: "createOidcProvider = true",
      reason: "is for an existing cluster; createCluster makes a provider of its own",
      remedy: "pulumi config rm createOidcProvider",
    });
  }
  const { namespace = "default" } = given;
  if (given.createNamespace === "true" && /^(default|kube-(system|public|node-lease))$/.test(namespace)) {
    problems.push({
      setting: "createNamespace = true",
      reason: `cannot create namespace ${namespace}, which every cluster has`,
      remedy: "pulumi config set namespace NAMESPACE",
    });
  }
  return problems;
}

/** Settings that do not belong: all of them, since `v.strictObject` stops at the first. */
function surplus(given: Record<string, string>): Problem[] {
  const { tokenType = "personal" } = given;
  // What goes with an unknown token type is unknown too.
  const kind = tokenSchema.options.find(({ entries }) => entries.tokenType.literal === tokenType);
  const known = { ...stackSettings, ...(kind ? kind.entries : tokenSettings) };
  return Object.entries(given)
    .filter(([key]) => !Object.hasOwn(known, key))
    .map(([key, value]) => ({
      setting: `${key} = ${JSON.stringify(value)}`,
      reason: Object.hasOwn(tokenSettings, key)
        ? `does not go with tokenType ${tokenType}`
        : `is no setting of this project, which has ${Object.keys(allSettings).join(", ")}`,
      remedy: `pulumi config rm ${key}`,
    }));
}

function toProblem(issue: v.BaseIssue<unknown>, { tokenType = "personal" }: Record<string, string>): Problem {
  const [first, ...steps] = issue.path ?? [];
  const key = String(first?.key);
  const place = steps.map((step) => `[${JSON.stringify(step.key)}]`).join("");
  const schema = allSettings[key];
  const { example = "VALUE", element = "" } = schema ? v.getMetadata(schema) : {};
  const missing = Object.hasOwn(tokenSettings, key)
    ? `is not set; tokenType ${tokenType} needs it`
    : key === "organization"
      ? "is not set, and the stack is of no organization"
      : "is not set";
  // A key inside a setting that is wrong itself has no better value.
  const remove = steps.at(-1)?.origin === "key";
  const path = `${key}${place || element}`;
  return {
    setting: issue.input === undefined ? key : `${key}${place} = ${JSON.stringify(issue.input)}`,
    reason: issue.input === undefined ? missing : issue.message,
    remedy: remove
      ? `pulumi config rm --path '${path}'`
      : place || element
        ? `pulumi config set --type string --path '${path}' ${example}`
        : `pulumi config set ${path} ${example}`,
  };
}
