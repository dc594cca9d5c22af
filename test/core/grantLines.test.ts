// The output that says who gets what, where a document in golden/ cannot: with a changed program, and with what a preview does not know.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { unknown } from "@pulumi/pulumi/output";
import { grantLineOf, type Registered } from "../../settings/grants";
import { type AuthPolicy, NAME_RULE, NAMESPACE_RULE } from "../../settings/tokenTypes";

const COMMON = {
  organization: "acme",
  issuerUrl: "https://oidc.example",
  maxExpirationSeconds: 3600,
  image: "a:1",
  pulumiApiUrl: "https://api.pulumi.com",
};
const RULES = { [NAMESPACE_RULE]: "ci", [NAME_RULE]: "app", aud: "urn:pulumi:org:acme" };
const POLICY: AuthPolicy = { decision: "allow", tokenType: "team", teamName: "ops", rules: RULES };
const REGISTERED: Registered = {
  namespace: "ci",
  name: "app",
  policy: POLICY,
  request: { tokenScope: "team:ops", tokenExpirationSeconds: "3600" },
  injectToken: false,
};

function lineOf(policy: Partial<AuthPolicy>): Promise<string> {
  return grantLineOf({ ...REGISTERED, policy: { ...POLICY, ...policy } }, COMMON);
}

test("the line says if the allow policy is not limited to the service account", async () => {
  assert.equal(await lineOf({}), "team:ops, 3600 s");
  const { [NAME_RULE]: _, ...anyName } = RULES;
  assert.equal(
    await lineOf({ rules: anyName }),
    'team:ops, 3600 s, not limited to this service account, only with "kubernetes.io".namespace = ci',
  );
  assert.match(await lineOf({ rules: { ...RULES, [NAMESPACE_RULE]: "*" } }), /not limited .*namespace = \*/);
});

test("the line has what a preview knows, and says what it does not", async () => {
  const later = pulumi.output(Promise.resolve(unknown as unknown as string));
  assert.equal(await lineOf({ teamName: later }), "team:known after the update, 3600 s");
  assert.equal(await lineOf({ teamName: pulumi.output(Promise.resolve("b")) }), "team:b, 3600 s");
});
