// The allow policy of a service account. index.test.ts has one of every token type, and compares them with the access check's own.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../config";
import { allowPolicy } from "../../oidcIssuer";
import { rawConfigOf } from "../support/rawSettings";

const ENTRY = { namespace: "ci", name: "deployer", tokenType: "team", teamName: "ops", audienceRule: true };

test("requires the service account and its audience, and policyRules replaces no built-in rule", () => {
  const settings = { clusterName: "my-cluster", serviceAccounts: [ENTRY] };
  const { config = assert.fail() } = parseConfig(rawConfigOf(settings));
  const [account = assert.fail()] = config.access.serviceAccounts;
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
