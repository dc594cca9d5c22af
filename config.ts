// The stack's settings: read once, validated as a whole, handed on as plain typed data.

import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { refusal } from "./refusal";

export type Settings = z.output<typeof stackSchema> & {
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
export type Token = z.output<typeof tokenSchema>;

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
  const { settings, problems } = parseSettings(config, pulumi.getProject(), stackOrganization());
  if (settings) return settings;

  const list = problems.map(({ setting, reason, remedy }) => `  ${setting}: ${reason}\n      ${remedy}\n`);
  const count = problems.length === 1 ? "One setting" : `${problems.length} settings`;
  throw refusal(
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

  const part = (ofToken: boolean) =>
    Object.fromEntries(
      Object.entries(given).filter(([key]) => Object.hasOwn(tokenSettings, key) === ofToken),
    );
  const stack = stackSchema.safeParse(part(false), { reportInput: true });
  const token = tokenSchema.safeParse({ tokenType: "personal", ...part(true) }, { reportInput: true });

  const issues = [...(stack.error?.issues ?? []), ...(token.error?.issues ?? [])];
  const problems = [...issues.flatMap((issue) => toProblems(issue, given)), ...conflicts(given)];
  if (!stack.success || !token.success || problems.length > 0) return { problems };

  const settings = {
    ...stack.data,
    token: token.data,
    tokenScope: scopeOf(token.data),
    issuerName: stack.data.issuerName ?? `eks-${stack.data.clusterName}`,
    audienceRule: stack.data.audienceRule ?? stack.data.tokenAudience !== STS_AUDIENCE,
    awsRegion: config["aws:region"],
    awsProfile: config["aws:profile"],
  };
  return { settings };
}

const STS_AUDIENCE = "sts.amazonaws.com";

// In a pattern of the allow policy `*` is any run of characters, `?` zero or one and `.` exactly one; none can be
// escaped: https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/
const NO_WILDCARDS = /^[^*?.]+$/;

const text = (pattern: RegExp, expected: string) => z.string("must be a text").regex(pattern, expected);

const flag = text(/^(true|false)$/, "must be true or false").transform((value) => value === "true");

const seconds = text(/^[1-9][0-9]{0,8}$/, "must be a whole number of seconds, at least 1").transform(Number);

const json = (expected: string) =>
  z.string().transform((value, context): unknown => {
    try {
      return JSON.parse(value);
    } catch {
      context.addIssue({ code: "custom", message: expected });
      return z.NEVER;
    }
  });

const list = (element: z.ZodType<string>) => json("must be a list").pipe(z.array(element, "must be a list"));

// https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
const kubernetesName = text(
  /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
  "must be at most 63 lower-case letters, digits and hyphens, no hyphen first or last",
);

const policyArn = text(
  /^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy\/[\w+=,.@/-]+$/,
  "must be the ARN of an IAM policy",
);

const audience = text(/^[^\s*?]+$/, "must be without spaces and the allow policy's wildcards * and ?");

const image = text(/^[a-z0-9][^\s@]*(@sha256:[0-9a-f]{64})?$/, "must be the name of an image").refine(
  (name) => /@|:(?!latest$)[\w][\w.-]*$/.test(name),
  "must end in a version or a digest; without one the pod runs whatever was pushed last",
);

const BUILT_IN_RULES = new Map([
  ['"kubernetes.io".namespace', "namespace"],
  ['"kubernetes.io".serviceaccount.name', "serviceAccountName"],
  ["aud", "audienceRule"],
]);

// A name that holds a dot is in quotes; without them it would be the path of another claim.
const CLAIM_PATH = /^(?!kubernetes\.io\.)("[^"]+"|[^".\s]+)(\.("[^"]+"|[^".\s]+))*$/;

const policyRules = json("must be an object").pipe(
  z.record(z.string(), z.unknown(), "must be an object").transform((rules, context) => {
    const refuse = (claim: string, message: string, remove = false) =>
      context.addIssue({ code: "custom", path: [claim], input: rules[claim], message, params: { remove } });

    const patterns: [string, string][] = [];
    for (const [claim, pattern] of Object.entries(rules)) {
      const setting = BUILT_IN_RULES.get(claim);
      if (setting) refuse(claim, `may not replace the built-in rule, which ${setting} sets`, true);
      else if (!CLAIM_PATH.test(claim))
        refuse(claim, 'is no path of a claim, such as "kubernetes.io".pod.name', true);
      else if (typeof pattern !== "string") refuse(claim, "must be a text");
      else if (!/[^*?.]/.test(pattern))
        refuse(claim, "must hold a literal part: wildcards alone are no pattern");
      else patterns.push([claim, pattern]);
    }
    return Object.fromEntries(patterns);
  }),
);

const apiUrl = z.string().transform((value, context) => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const loopback = url && /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  const secure = url && (url.protocol === "https:" || (url.protocol === "http:" && loopback));
  if (secure && url.href === `${url.origin}/`) return url.origin;
  context.addIssue({ code: "custom", message: "must be https://HOST, or http://HOST on a loopback host" });
  return z.NEVER;
});

// What the README says of a setting, and what an error suggests: `example` is a value for `pulumi config set`,
// `element` the place in a list or object that it goes to.
const help = z.registry<{ description: string; example: string; element?: string }>();

const tokenSettings = {
  tokenType: z
    .enum(["personal", "organization", "team", "runner"], "must be personal, organization, team or runner")
    .default("personal")
    .register(help, {
      description: "Type of the access token: `personal`, `organization`, `team` or `runner`",
      example: "personal",
    }),
  userLogin: text(/^\w[\w.@+-]*$/, "must be the login of a Pulumi user").register(help, {
    description: "The user of a personal token",
    example: "LOGIN",
  }),
  teamName: text(/^[^\s:]+$/, "must be the name of a team, without spaces and colons")
    .regex(
      NO_WILDCARDS,
      "must not hold *, ? or .: the allow policy reads them as wildcards, and lets other teams in",
    )
    .register(help, { description: "The team of a team token", example: "TEAM" }),
  runnerId: text(/^[\w-]+$/, "must be the id of a deployment runner").register(help, {
    description: "The deployment runner of a runner token: its id, which the allow policy names",
    example: "ID",
  }),
  runnerName: text(
    /^[^\s:]+$/,
    "must be the name of a deployment runner, without spaces and colons",
  ).register(help, {
    description: "The deployment runner of a runner token: its name, which the scope names",
    example: "NAME",
  }),
  organizationAdmin: flag.default(false).register(help, {
    description: "Let an organization token hold admin permission",
    example: "true",
  }),
};

const tokenType = <Type extends string>(type: Type) => z.literal(type);

const tokenSchema = z.discriminatedUnion(
  "tokenType",
  [
    z.strictObject({ tokenType: tokenType("personal"), userLogin: tokenSettings.userLogin }),
    z.strictObject({
      tokenType: tokenType("organization"),
      organizationAdmin: tokenSettings.organizationAdmin,
    }),
    z.strictObject({ tokenType: tokenType("team"), teamName: tokenSettings.teamName }),
    z.strictObject({
      tokenType: tokenType("runner"),
      runnerId: tokenSettings.runnerId,
      runnerName: tokenSettings.runnerName,
    }),
  ],
  "must be personal, organization, team or runner",
);

const stackSettings = {
  clusterName: text(/^[0-9A-Za-z][\w-]{0,99}$/, "must be the name of an EKS cluster").register(help, {
    description: "The EKS cluster; with `createCluster`, the new one's name",
    example: "CLUSTER",
  }),
  createCluster: flag.default(false).register(help, {
    description: "Make a small EKS cluster instead of reading an existing one",
    example: "true",
  }),
  createOidcProvider: flag.default(false).register(help, {
    description: "Create the IAM OIDC provider that the existing cluster lacks; it stays when the stack goes",
    example: "true",
  }),
  namespace: kubernetesName.default("default").register(help, {
    description: "Namespace of the service account and the Job",
    example: "default",
  }),
  createNamespace: flag.default(false).register(help, {
    description: "Create the namespace, under Pod Security `restricted`",
    example: "true",
  }),
  // A service account's name may hold dots in Kubernetes; the allow policy would read them as wildcards.
  serviceAccountName: kubernetesName.default("pulumi-service-account").register(help, {
    description: "Name of the service account",
    example: "pulumi-service-account",
  }),
  rolePolicyArns: list(policyArn).default([]).register(help, {
    description: "IAM policies to attach to the role",
    example: "arn:aws:iam::ACCOUNT:policy/NAME",
    element: "[0]",
  }),
  permissionsBoundaryArn: policyArn.optional().register(help, {
    description: "Permissions boundary of the role",
    example: "arn:aws:iam::ACCOUNT:policy/NAME",
  }),
  organization: text(/^[0-9A-Za-z][\w-]*$/, "must be the name of a Pulumi organization").register(help, {
    description: "The Pulumi organization; empty: the stack's",
    example: "ORGANIZATION",
  }),
  issuerName: text(/^\S(.*\S)?$/, "must not begin or end with a space")
    .optional()
    .register(help, {
      description: "Name of the OIDC issuer in Pulumi Cloud; empty: `eks-` and the cluster's name",
      example: "NAME",
    }),
  maxExpirationSeconds: seconds.default(7200).register(help, {
    description: "The longest life of an access token from this issuer",
    example: "7200",
  }),
  thumbprints: list(
    text(/^[0-9a-f]{64}$/, "must be a SHA-256: 64 lower-case hexadecimal digits without colons"),
  )
    .default([])
    .register(help, {
      description: "SHA-256 of the issuer's serving certificates; empty: read from the issuer",
      example: "SHA256",
      element: "[0]",
    }),
  policyRules: policyRules.default({}).register(help, {
    description: "Further claims that the allow policy demands, with their patterns",
    example: "'runner-*'",
    element: '["\\"kubernetes.io\\".pod.name"]',
  }),
  tokenExpirationSeconds: seconds.default(7200).register(help, {
    description: "Life of the access token; at most `maxExpirationSeconds`",
    example: "7200",
  }),
  tokenAudience: audience.default(STS_AUDIENCE).register(help, {
    description: "Audience of the pod's token; another than the default mounts a token of its own",
    example: STS_AUDIENCE,
  }),
  audienceRule: flag.optional().register(help, {
    description: "Let the allow policy demand `tokenAudience`; empty: where it is not the default",
    example: "true",
  }),
  image: image.default("pulumi/pulumi-base:3.270.0").register(help, {
    description: "Image of the pod; it needs bash, curl and CA certificates",
    example: "pulumi/pulumi-base:3.270.0",
  }),
  command: list(text(/^[^\0]*$/, "must not hold a null character"))
    .refine(([program]) => program, "must name a program")
    .default(["pulumi", "whoami"])
    .register(help, {
      description: "What the pod runs, with the access token in `PULUMI_ACCESS_TOKEN`",
      example: "pulumi",
      element: "[0]",
    }),
  pulumiApiUrl: apiUrl.default("https://api.pulumi.com").register(help, {
    description: "Pulumi Cloud; a self-hosted one has a URL of its own",
    example: "https://api.pulumi.com",
  }),
};

const stackSchema = z.strictObject(stackSettings);

const allSettings: Record<string, z.ZodType> = { ...stackSettings, ...tokenSettings };

/** Every setting as `Pulumi.yaml` and the README list it; `default` is undefined where there is none. */
export const declaredSettings = Object.entries(allSettings).map(([key, schema]) => ({
  key,
  description: help.get(schema)?.description,
  default: schema.safeParse(undefined).data,
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
  const expiration = stackSettings.tokenExpirationSeconds.safeParse(given.tokenExpirationSeconds).data;
  const maximum = stackSettings.maxExpirationSeconds.safeParse(given.maxExpirationSeconds).data;
  if (expiration && maximum && expiration > maximum) {
    problems.push({
      setting: `tokenExpirationSeconds = ${expiration}`,
      reason: `must be at most maxExpirationSeconds, which is ${maximum}`,
      remedy: `pulumi config set tokenExpirationSeconds ${maximum}`,
    });
  }
  if (given.createCluster === "true" && given.createOidcProvider === "true") {
    problems.push({
      setting: "createOidcProvider = true",
      reason: "is for an existing cluster; createCluster makes a provider of its own",
      remedy: "pulumi config rm createOidcProvider",
    });
  }
  return problems;
}

function toProblems(issue: z.core.$ZodIssue, given: Record<string, string>): Problem[] {
  const tokenType = given.tokenType ?? "personal";
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      setting: `${key} = ${JSON.stringify(given[key])}`,
      reason: Object.hasOwn(tokenSettings, key)
        ? `does not go with tokenType ${tokenType}`
        : `is no setting of this project, which has ${Object.keys(allSettings).join(", ")}`,
      remedy: `pulumi config rm ${key}`,
    }));
  }

  // A wrong type is an issue of the whole token.
  const input = issue.code === "invalid_union" ? given.tokenType : issue.input;
  const [key = "", ...steps] = issue.path.map((step) => (typeof step === "symbol" ? String(step) : step));
  const place = steps.map((step) => `[${JSON.stringify(step)}]`).join("");
  const schema = allSettings[key];
  const { example = "VALUE", element = "" } = (schema && help.get(schema)) ?? {};
  const missing = Object.hasOwn(tokenSettings, key)
    ? `is not set; tokenType ${tokenType} needs it`
    : "is not set";
  const remove = issue.code === "custom" && issue.params?.remove;
  const path = `${key}${place || element}`;
  return [
    {
      setting: input === undefined ? `${key}` : `${key}${place} = ${JSON.stringify(input)}`,
      reason: input === undefined ? missing : issue.message,
      remedy: remove
        ? `pulumi config rm --path '${path}'`
        : place || element
          ? `pulumi config set --type string --path '${path}' ${example}`
          : `pulumi config set ${path} ${example}`,
    },
  ];
}
