// The allow policy of a service account. index.test.ts has one of every token type, and compares them with the access check's own.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../config";
import { allowPolicy } from "../../oidcIssuer";
import type { Account } from "../../settings/account";
import { rawConfigOf } from "../support/rawSettings";

/** Returns the service account of an entry, with every default filled in. */
function accountOf(token: object): Account {
  const serviceAccounts = [{ namespace: "ci", name: "deployer", ...token }];
  const { config } = parseConfig(rawConfigOf({ clusterName: "my-cluster", serviceAccounts }));
  return config?.access.serviceAccounts[0] ?? assert.fail();
}

test("requires the service account and its audience, and policyRules replaces no built-in rule", () => {
  const account = accountOf({ tokenType: "team", teamName: "ops", audienceRule: true });
  const builtIn = {
    '"kubernetes.io".namespace': "ci",
    '"kubernetes.io".serviceaccount.name': "deployer",
    aud: "urn:pulumi:org:acme",
  };
  const policy = { decision: "allow", tokenType: "team", teamName: "ops" };
  assert.deepEqual(allowPolicy(account), { ...policy, rules: builtIn });

  const added = { '"kubernetes.io".pod.name': "runner-*" };
  const weaker = Object.fromEntries(Object.keys(builtIn).map((claim) => [claim, "*"]));
  const changed = allowPolicy({ ...account, policyRules: { ...weaker, ...added } });
  assert.deepEqual(changed, { ...policy, rules: { ...added, ...builtIn } });
});

test("grants no permissions without organizationAdmin: an empty list would show as drift", () => {
  const policy = allowPolicy(accountOf({ tokenType: "organization", organizationAdmin: false }));
  assert.deepEqual(Object.keys(policy), ["decision", "tokenType", "rules"]);
});
