// The types of access token, one row for each: its settings, its owner in the allow policy, its scope in the token exchange, and the
// default command of its Job. The emulated Pulumi Cloud has its own copy on purpose.

import type * as pulumi from "@pulumi/pulumi";
import * as v from "valibot";
import type { Problem } from "./problems";
import { booleanSchema, type Incomplete, inputSchema, mapInput, schemasOf, stringSchema } from "./validation";

/** The type of the access token that a service account is granted. */
export const TokenType = {
  /** A token of one user. */
  Personal: "personal",
  /** A token of the organization. */
  Organization: "organization",
  /** A token of a team. */
  Team: "team",
  /** A token of a runner pool. */
  Runner: "runner",
} as const;
export type TokenType = (typeof TokenType)[keyof typeof TokenType];

/** The settings of the access token. Each is valid only with its token type. */
export interface TokenSettings {
  /** Type of the access token: `personal`, `organization`, `team`, or `runner`. */
  tokenType: TokenType;
  /** User of a personal token. */
  userLogin?: pulumi.Input<string>;
  /** Team of a team token. It must exist. */
  teamName?: pulumi.Input<string>;
  /** ID of the pool of a runner token, for the allow policy. */
  runnerId?: pulumi.Input<string>;
  /** Name of this pool, for the token exchange. */
  runnerName?: pulumi.Input<string>;
  /** ID of the custom role of an organization token. Not valid with `organizationAdmin: true`. */
  organizationRoleId?: pulumi.Input<string>;
  /** Grant an organization token admin permissions. Default: `false`. */
  organizationAdmin?: boolean;
}

// The owner of a stack in pulumi/pulumi, pkg/backend/httpstate/client/client.go: "enforced by the Pulumi Service".
const userLogin = stringSchema(
  /^[A-Za-z0-9][\w-]{1,38}[A-Za-z0-9]$/,
  "must be the login of a Pulumi user: 3 to 40 letters, digits, hyphens, or underscores",
);

// In a pattern of the allow policy `*` matches any characters, `?` zero or one, and `.` exactly one; none can be
// escaped: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/
// The other special characters of regular expressions are excluded, too.
const teamName = stringSchema(
  /^[\w!#%&',;<=>@~-]{1,100}$/,
  "must have at most 100 printable ASCII characters, without spaces, quotation marks, slashes, colons, backslashes, and " +
    'wildcards such as "*", "?", and ".", which also match other teams',
);

const runnerId = stringSchema(/^[\w-]{1,100}$/, "must be the ID of a runner pool");

const organizationRoleId = stringSchema(/^[\w-]{1,100}$/, "must be the ID of a custom role");

const runnerName = stringSchema(
  /^[\]!#-9;-[^-~]{1,100}$/,
  "must have at most 100 printable ASCII characters, without spaces, quotation marks, colons, and backslashes",
);

const typeNames = new Intl.ListFormat("en-US", { type: "disjunction" }).format(Object.values(TokenType));

export const tokenEntries = schemasOf<TokenSettings>()({
  tokenType: v.picklist(Object.values(TokenType), `must be ${typeNames}`),
  userLogin: v.optional(inputSchema(userLogin)),
  teamName: v.optional(inputSchema(teamName)),
  runnerId: v.optional(inputSchema(runnerId)),
  runnerName: v.optional(inputSchema(runnerName)),
  organizationRoleId: v.optional(inputSchema(organizationRoleId)),
  organizationAdmin: v.optional(booleanSchema),
});

/** The rules of every allow policy. The quotes keep the dot in a name from separating two names. */
export const NAMESPACE_RULE = '"kubernetes.io".namespace';
export const NAME_RULE = '"kubernetes.io".serviceaccount.name';
export const AUDIENCE_RULE = "aud";

/** Who is granted or denied an access token, and of which type. Every rule has to match. */
export interface AuthPolicy extends Grant {
  /** A deny policy takes precedence over every allow policy of its issuer. */
  decision: "allow" | "deny";
  /** The pattern of each claim. */
  rules: Record<string, pulumi.Input<string>>;
}

/** The part of a policy that says which access token it is for, and of which owner. */
interface Grant {
  tokenType: TokenType;
  userLogin?: pulumi.Input<string> | undefined;
  teamName?: pulumi.Input<string> | undefined;
  runnerID?: pulumi.Input<string> | undefined;
  authorizedPermissions?: "admin"[];
  /** ID of the custom role of an `organization` token. */
  roleID?: pulumi.Input<string>;
}

/** What distinguishes one type of access token from the others. */
interface TypeRules {
  /** The settings that are valid only with this type: those that it requires, and others. */
  requires: (keyof TokenSettings)[];
  accepts?: (keyof TokenSettings)[];
  /** The owner in a policy: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/ */
  grant(settings: TokenSettings): Omit<Grant, "tokenType">;
  /**
   * The scope that the token exchange requests; empty for the whole organization.
   * https://www.pulumi.com/docs/reference/cloud-rest-api/oauth-token-exchange/
   */
  scope(settings: TokenSettings): pulumi.Input<string>;
  defaultCommand: string[];
}

const WHOAMI = ["pulumi", "whoami"];

/** Returns a scope such as `team:NAME`. The setting is there: the type requires it. */
const scopeOf = (kind: string, name: pulumi.Input<string> = "") => mapInput(name, (it) => `${kind}:${it}`);

/** The types, by the value of `tokenType`. docs/token-types.md has them as a table. */
export const TOKEN_TYPES: Record<TokenType, TypeRules> = {
  personal: {
    requires: ["userLogin"],
    grant: ({ userLogin }) => ({ userLogin }),
    scope: ({ userLogin }) => scopeOf("user", userLogin),
    defaultCommand: WHOAMI,
  },
  organization: {
    requires: [],
    accepts: ["organizationRoleId", "organizationAdmin"],
    grant({ organizationRoleId: roleID, organizationAdmin }) {
      if (roleID !== undefined) return { roleID };
      // An empty list of permissions would read back as absent, and show as drift.
      return organizationAdmin ? { authorizedPermissions: ["admin"] } : {};
    },
    scope: ({ organizationAdmin }) => (organizationAdmin ? "admin" : ""),
    defaultCommand: WHOAMI,
  },
  team: {
    requires: ["teamName"],
    grant: ({ teamName }) => ({ teamName }),
    scope: ({ teamName }) => scopeOf("team", teamName),
    defaultCommand: WHOAMI,
  },
  runner: {
    requires: ["runnerId", "runnerName"],
    grant: ({ runnerId }) => ({ runnerID: runnerId }),
    scope: ({ runnerName }) => scopeOf("runner", runnerName),
    // The CLI does not accept its token, so the Job only exchanges.
    defaultCommand: ["true"],
  },
};

/** Returns a problem for each setting that the token type requires, and for each of another token type. */
export function tokenProblems(settings: Incomplete<TokenSettings>): Problem[] {
  const { tokenType } = settings;
  if (!tokenType) return [];

  const settingsOf = ({ requires, accepts = [] }: TypeRules) => [...requires, ...accepts];
  const own = TOKEN_TYPES[tokenType];
  const missing = own.requires.filter((key) => settings[key] === undefined);
  const foreign = Object.values(TOKEN_TYPES)
    .flatMap(settingsOf)
    .filter((key) => settings[key] !== undefined && !settingsOf(own).includes(key));

  const isRoleOfAdmin = settings.organizationAdmin && settings.organizationRoleId !== undefined;
  const ofAdmin = { path: ["organizationRoleId"], reason: "is not valid with organizationAdmin: true" };
  const reason = `is not valid with tokenType ${tokenType}`;
  return [
    ...(isRoleOfAdmin ? [ofAdmin] : []),
    ...missing.map((key) => ({ path: [key], reason: `required with tokenType ${tokenType}` })),
    ...foreign.map((key) => ({ path: [key], value: settings[key], reason })),
  ];
}
