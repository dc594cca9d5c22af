// The service accounts of the golden documents.

import type { TokenType } from "../../settings/tokenTypes";

/** By the names of the documents. Each token type has one. */
export const ENTRIES = {
  personal: {
    namespace: "default",
    name: "pulumi-service-account",
    tokenType: "personal",
    userLogin: "my-login",
    tokenExpirationSeconds: 7200,
  },
  team: { namespace: "team-a", name: "app", tokenType: "team", teamName: "team-a", awsRole: "irsa" },
  "other-team": { namespace: "team-b", name: "app", tokenType: "team", teamName: "team-b" },
  organization: {
    namespace: "ops",
    name: "reader",
    tokenType: "organization",
    tokenExpirationSeconds: 7200,
  },
  "organization-admin": {
    namespace: "ops",
    name: "admin",
    tokenType: "organization",
    organizationAdmin: true,
    tokenExpirationSeconds: 7200,
  },
  "organization-role": {
    namespace: "external-secrets",
    name: "external-secrets",
    tokenType: "organization",
    organizationRoleId: "b7c1d9a2-role",
  },
  runner: {
    namespace: "runners",
    name: "agent",
    tokenType: "runner",
    runnerId: "pool-1234",
    runnerName: "pool-a",
    tokenExpirationSeconds: 7200,
  },
  "further-rule": {
    namespace: "ops",
    name: "drift",
    tokenType: "team",
    teamName: "ops",
    policyRules: { '"kubernetes.io".node.name': "ip-10-0-*" },
  },
} satisfies Record<TokenType, object> & Record<string, object>;
