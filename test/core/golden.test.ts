// What the program registers, compared with documents that were written from the pages of AWS and Pulumi, without this code.
// golden/README.md has the source of each.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { SCRIPT_FILE } from "../../kubernetes/tokenVolume";
import { read } from "../support/project";
import { exchange, granted, ID_TOKEN } from "../support/script";
import { inputsOf, type Run, runStack } from "./program";
import { ENTRIES } from "./serviceAccounts";

/** A stack with all of them, and one that requires the audience, with EKS Pod Identity. */
let stack: Run;
let withAudience: Run;

before(async () => {
  const settings = { maxExpirationSeconds: 7200, audienceRule: false };
  stack = await runStack({ ...settings, serviceAccounts: Object.values(ENTRIES) });
  withAudience = await runStack({ serviceAccounts: [{ ...ENTRIES.team, awsRole: "pod-identity" }] });
});

test("the trust policy of IRSA", () => {
  assert.deepEqual(trustPolicyIn(stack), golden("irsa.trust"));
});

test("the trust policy of EKS Pod Identity", () => {
  assert.deepEqual(trustPolicyIn(withAudience), golden("pod-identity.trust"));
});

for (const [index, name] of Object.keys(ENTRIES).entries()) {
  test(`the allow policy: ${name}`, () => {
    assert.deepEqual(allowPoliciesIn(stack)[index], golden(`${name}.allow`));
  });
}

test("the allow policy: audience", () => {
  assert.deepEqual(allowPoliciesIn(withAudience), [golden("audience.allow")]);
});

for (const name of [
  "personal",
  "team",
  "organization",
  "organization-admin",
  "organization-role",
  "runner",
] as const) {
  test(`the request of the exchange script with the files in the ConfigMap: ${name}`, async () => {
    const { namespace, name: account } = ENTRIES[name];
    const { data } = inputsOf(stack, "ConfigMap").find(({ metadata }) => {
      return metadata.namespace === namespace && metadata.name === `${account}-pulumi-token-exchange`;
    });
    const { [SCRIPT_FILE]: script, apiUrl, ...files } = data;
    assert.equal(apiUrl, "https://api.pulumi.com");

    const { endpoint } = await exchange(granted, { script, files });
    const { subject_token, ...form } = Object.fromEntries(endpoint.requests[0]?.form ?? []);
    assert.deepEqual(form, golden(`${name}.request`));
    assert.equal(subject_token, ID_TOKEN);
  });
}

function golden(name: string): unknown {
  return JSON.parse(read(`test/core/golden/${name}.json`));
}

/** Returns the trust policy of the only role. */
function trustPolicyIn(run: Run): unknown {
  const [role, ...others] = inputsOf(run, "Role");
  assert.deepEqual(others, []);
  return role?.assumeRolePolicy;
}

function allowPoliciesIn(run: Run): object[] {
  return inputsOf(run, "OidcIssuer").flatMap(({ policies }) => policies);
}
