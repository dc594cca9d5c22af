// One service account, and the access token that it is granted: an entry of `serviceAccounts`.

import type * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import { isObject } from "../kubernetes/plainObject";
import { INVISIBLE, kubernetesName, policyArn } from "./names";
import type { Problem } from "./problems";
import {
  AUDIENCE_RULE,
  NAME_RULE,
  NAMESPACE_RULE,
  TOKEN_TYPES,
  type TokenSettings,
  tokenEntries,
  tokenProblems,
} from "./tokenTypes";
import {
  booleanSchema,
  duplicates,
  type Incomplete,
  inputSchema,
  listSchema,
  mapInput,
  plainSchema,
  schemasOf,
  stringSchema,
  textSchema,
} from "./validation";

/** How the pods of a service account receive an IAM role. */
export const AwsRole = {
  /** IAM roles for service accounts. Requires the cluster's IAM OIDC provider. */
  Irsa: "irsa",
  /** EKS Pod Identity. Requires its agent on the cluster. */
  PodIdentity: "pod-identity",
  /** No role, for workloads that do not use AWS. */
  None: "none",
} as const;
export type AwsRole = (typeof AwsRole)[keyof typeof AwsRole];

/** One service account, and the access token that it is granted. */
export interface ServiceAccount extends TokenSettings {
  /** Namespace of the service account. */
  namespace: string;
  /** Name of the service account. */
  name: string;
  /**
   * Lifetime of the access token in seconds, at most `maxExpirationSeconds`. Default: `3600`; `maxExpirationSeconds` if that is less.
   */
  tokenExpirationSeconds?: number;
  /** Audience of the ID token. Default: `urn:pulumi:org:ORGANIZATION`. */
  tokenAudience?: pulumi.Input<string>;
  /** Additional claims that the allow policy requires, with their patterns. Default: `{}`. */
  policyRules?: Record<string, pulumi.Input<string>>;
  /**
   * Create the service account. Set it to `false` for one that exists, such as a Helm chart's. If you change it to `false` later,
   * keep `runJob: true` in that update, or the service account is deleted. Default: `true`.
   */
  createServiceAccount?: boolean;
  /**
   * How its pods receive an IAM role: `irsa`, `pod-identity`, or `none`. Default: `none`; `irsa` if `rolePolicyArns` is
   * present.
   */
  awsRole?: AwsRole;
  /** IAM policies to attach to the role. Default: `[]`. */
  rolePolicyArns?: string[];
  /**
   * Add the token exchange to its new pods, so that no manifest changes. Requires Kubernetes 1.36, and permission to manage
   * admission policies in the whole cluster. Default: `false`.
   */
  injectToken?: boolean;
  /** Run the Job that tests the token exchange. Default: `true`. */
  runJob?: boolean;
  /** Command of the Job. Default: `["pulumi","whoami"]`; with a runner token, `["true"]`. */
  command?: string[];
  /**
   * Stop it, such as in an incident, until you remove this line: its access token is denied, and its IAM role can do nothing. The
   * Job does not run. Default: `false`.
   */
  suspended?: boolean;
}

/** A schema for lifetimes. */
export const seconds = v.pipe(
  v.number("must be a whole number of seconds"),
  v.integer("must be a whole number of seconds"),
  v.minValue(1, "must be at least 1 second"),
  v.maxValue(999_999_999, "must be at most 999999999 seconds"),
);

/** A token that leaks ends within the hour, and the Pulumi CLI renews it. */
const DEFAULT_EXPIRATION_SECONDS = 3600;

const audience = stringSchema(
  new RegExp(`^[^\\s*?${INVISIBLE}]+$`, "u"),
  'must not contain spaces, invisible characters, "*", or "?"',
);

// Terminals and job summaries show what is in a policy.
const noInvisible = v.regex(new RegExp(`^[^${INVISIBLE}]*$`, "u"), "must not contain invisible characters");

/** A schema for the pattern of a claim. */
const pattern = v.pipe(stringSchema(/[^*?.]/, "must not consist only of wildcards"), noInvisible);

// A name that contains a dot is quoted; without the quotes it would be the path of another claim.
const CLAIM_PATH = /^(?!kubernetes\.io\.)("[^"]+"|[^".\s]+)(\.("[^"]+"|[^".\s]+))*$/;
const BUILT_IN_RULES = [NAMESPACE_RULE, NAME_RULE, AUDIENCE_RULE].map(withoutQuotes);

const claim = v.pipe(
  stringSchema(CLAIM_PATH, 'must be the path of a claim, such as "kubernetes.io".pod.name with its quotes'),
  noInvisible,
  v.check((path) => !BUILT_IN_RULES.includes(withoutQuotes(path)), "must not replace a built-in rule"),
);

function withoutQuotes(path: string): string {
  return path.replaceAll('"', "");
}

// v.record drops these names, and the allow policy would then require less.
const RESERVED = ["__proto__", "prototype", "constructor"];

const policyRules = v.pipe(
  v.custom<Record<string, pulumi.Input<string>>>(isObject, "must be an object"),
  v.check(
    (rules) => !RESERVED.some((name) => Object.hasOwn(rules, name)),
    `must not contain ${RESERVED.join(", ")}`,
  ),
  v.record(claim, inputSchema(pattern)),
);

const command = v.pipe(
  listSchema(v.pipe(textSchema, v.regex(/^[^\0]*$/, "must not contain a null character"))),
  v.check(([program]) => Boolean(program), 'must name a program, such as ["pulumi","whoami"]'),
);

const ATTACH_IT =
  "If the program creates the policy, attach it to roleName of the output serviceAccounts with a RolePolicyAttachment";

export const accountEntries = schemasOf<ServiceAccount>()({
  namespace: plainSchema(
    kubernetesName,
    "Write the name as a string. If the program creates the namespace, add it to dependsOn of this component",
  ),
  // Kubernetes allows dots in this name, but the allow policy would read them as wildcards.
  name: plainSchema(
    kubernetesName,
    "Write the name as a string. If the program creates the service account, set createServiceAccount to false, add it to " +
      "dependsOn of this component, and set runJob to false for the first update",
  ),
  ...tokenEntries,
  tokenExpirationSeconds: v.optional(seconds),
  tokenAudience: v.optional(inputSchema(audience)),
  policyRules: v.optional(plainSchema(policyRules, "Only its values can be outputs"), {}),
  createServiceAccount: v.optional(booleanSchema, true),
  awsRole: v.optional(v.picklist(Object.values(AwsRole), "must be irsa, pod-identity, or none")),
  rolePolicyArns: v.optional(plainSchema(listSchema(plainSchema(policyArn, ATTACH_IT)), ATTACH_IT)),
  injectToken: v.optional(booleanSchema, false),
  runJob: v.optional(booleanSchema, true),
  command: v.optional(command),
  suspended: v.optional(booleanSchema, false),
});

type ValidAccount = v.InferOutput<v.ObjectSchema<typeof accountEntries, undefined>>;

/** One service account with every default filled in; durations are in seconds. */
export interface Account extends ValidAccount {
  tokenExpirationSeconds: number;
  tokenAudience: pulumi.Input<string>;
  awsRole: AwsRole;
  rolePolicyArns: string[];
  command: string[];
}

/** Returns a valid entry with the defaults that depend on other settings. */
export function withAccountDefaults(
  account: ValidAccount,
  {
    organization,
    maxExpirationSeconds,
    suspended,
  }: { organization: pulumi.Input<string>; maxExpirationSeconds: number; suspended: boolean },
): Account {
  return {
    ...account,
    suspended: suspended || account.suspended,
    tokenExpirationSeconds:
      account.tokenExpirationSeconds ?? Math.min(DEFAULT_EXPIRATION_SECONDS, maxExpirationSeconds),
    tokenAudience: account.tokenAudience ?? defaultAudience(organization),
    awsRole: awsRoleOf(account),
    rolePolicyArns: account.rolePolicyArns ?? [],
    command: account.command ?? TOKEN_TYPES[account.tokenType].defaultCommand,
  };
}

/** Returns the audience of the ID tokens of an entry that does not name one. */
export function defaultAudience(organization: pulumi.Input<string>): pulumi.Input<string> {
  return mapInput(organization, (name) => `urn:pulumi:org:${name}`);
}

/** Returns how the pods of an entry receive a role. An empty list of policies still means a role. */
export function awsRoleOf({ awsRole, rolePolicyArns }: Incomplete<ServiceAccount>): AwsRole {
  return awsRole ?? (rolePolicyArns ? AwsRole.Irsa : AwsRole.None);
}

/** Returns a service account as `NAMESPACE/NAME`. */
export function idOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}

/**
 * Returns the problems of an entry whose settings are valid by themselves, but not together.
 *
 * @param access what all entries have in common; undefined where it is not valid.
 */
export function accountProblems(
  account: Incomplete<Account>,
  { maxExpirationSeconds, pulumiApiUrl }: { maxExpirationSeconds?: number; pulumiApiUrl?: string },
): Problem[] {
  const { awsRole, rolePolicyArns = [], tokenExpirationSeconds } = account;
  const problems = [
    ...tokenProblems(account),
    ...audienceProblems(account, pulumiApiUrl),
    ...duplicates(rolePolicyArns, (index) => ["rolePolicyArns", index]),
  ];
  const add = (key: keyof Account, reason: string, value?: unknown) => {
    problems.push({ path: [key], reason, value });
  };
  if (awsRole === "none" && rolePolicyArns.length > 0) {
    add("rolePolicyArns", "requires an IAM role, but awsRole is none");
  }
  // PULUMI_CREDENTIAL_HELPER would also override the token that Pulumi Cloud sends with each workflow.
  if (account.injectToken && account.tokenType === "runner") {
    const reason = "is not valid with tokenType runner: a runner exchanges its ID token itself";
    add("injectToken", reason, true);
  }
  if (Number(tokenExpirationSeconds) > Number(maxExpirationSeconds)) {
    const reason = `must be at most maxExpirationSeconds, which is ${maxExpirationSeconds}`;
    add("tokenExpirationSeconds", reason, tokenExpirationSeconds);
  }
  if (account.name === "default" && account.createServiceAccount) {
    // No value: the entry may not contain the setting.
    add("createServiceAccount", "must be false: every namespace has the service account default");
  }
  return problems;
}

/**
 * Returns a problem for an audience of another service. No service but Pulumi Cloud accepts its own audiences, so the ID token
 * cannot assume a role in AWS, or sign in to the cluster.
 *
 * @param apiUrl of Pulumi Cloud, which the External Secrets Operator uses as the audience.
 */
function audienceProblems({ tokenAudience: value }: Incomplete<Account>, apiUrl?: string): Problem[] {
  if (typeof value !== "string" || apiUrl === undefined) return [];
  if (value.startsWith("urn:pulumi:") || value === apiUrl) return [];
  return [{ path: ["tokenAudience"], value, reason: `must begin with urn:pulumi:, or be ${apiUrl}` }];
}
