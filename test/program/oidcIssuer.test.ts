// The allow policy of a service account.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../config";
import { allowPolicy } from "../../oidcIssuer";
import { scopeOf } from "../../settings/tokenTypes";
import { rawConfigOf } from "../support/rawSettings";

const AUDIENCE = "urn:pulumi:org:acme";

/** Service accounts with every kind of token. */
const serviceAccounts = [
  { namespace: "ci", name: "app", tokenType: "personal", userLogin: "a.b" },
  { namespace: "ci", name: "ci", tokenType: "team", teamName: "ops", audienceRule: true },
  { namespace: "app", name: "ci", tokenType: "runner", runnerId: "id-1", runnerName: "pool" },
  {
    namespace: "app",
    name: "app-2",
    tokenType: "organization",
    organizationAdmin: false,
    audienceRule: true,
  },
  { namespace: "web", name: "app", tokenType: "organization", organizationAdmin: true },
];
const { config = assert.fail() } = parseConfig(rawConfigOf({ clusterName: "my-cluster", serviceAccounts }));
const ACCOUNTS = config.access.serviceAccounts;

test("a policy names the service account and the owner of the token that its exchange requests, and admin only on request", () => {
  const decision = "allow";
  const rules = (namespace: string, name: string, audience = {}) => ({
    rules: {
      '"kubernetes.io".namespace': namespace,
      '"kubernetes.io".serviceaccount.name': name,
      ...audience,
    },
  });
  assert.deepEqual(JSON.parse(JSON.stringify(ACCOUNTS.map(allowPolicy))), [
    { decision, tokenType: "personal", userLogin: "a.b", ...rules("ci", "app") },
    { decision, tokenType: "team", teamName: "ops", ...rules("ci", "ci", { aud: AUDIENCE }) },
    { decision, tokenType: "runner", runnerID: "id-1", ...rules("app", "ci") },
    // An empty list of permissions would show as drift.
    { decision, tokenType: "organization", ...rules("app", "app-2", { aud: AUDIENCE }) },
    { decision, tokenType: "organization", authorizedPermissions: ["admin"], ...rules("web", "app") },
  ]);
  assert.deepEqual(ACCOUNTS.map(scopeOf), ["user:a.b", "team:ops", "runner:pool", "", "admin"]);
});

test("policyRules adds rules, and replaces no built-in one", () => {
  const added = { '"kubernetes.io".pod.name': "runner-*" };
  for (const account of ACCOUNTS) {
    const { rules } = allowPolicy(account);
    const weaker = Object.fromEntries(Object.keys(rules).map((claim) => [claim, "*"]));
    const policy = allowPolicy({ ...account, policyRules: { ...weaker, ...added } });
    assert.deepEqual(policy.rules, { ...rules, ...added });
  }
});
