// What the program registers, compared with documents that were written from the pages of AWS and Pulumi, without this code.
// golden/README.md has the source of each.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { SCRIPT_FILE } from "../../kubernetes/tokenVolume";
import { runRules } from "../../policy/runRules";
import { asRegistered } from "../policy/draft";
import { read } from "../support/project";
import { exchange, granted, ID_TOKEN } from "../support/script";
import { only, run, type Stack, startCluster } from "../support/stack";

/** The issuer of the documents, as IAM names it. */
const ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";

/** The service accounts of the documents, by the names of those. */
const ENTRIES = {
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
};

/** A stack with all of them, and one that requires the audience, with EKS Pod Identity. */
let stack: Stack;
let withAudience: Stack;

before(async () => {
  const simulation = await startCluster();
  after(() => simulation.close());
  const settings = { maxExpirationSeconds: 7200, audienceRule: false };
  stack = await run(simulation, { ...settings, serviceAccounts: Object.values(ENTRIES) });
});

before(async () => {
  const simulation = await startCluster();
  after(() => simulation.close());
  const entry = { ...ENTRIES.team, awsRole: "pod-identity" };
  withAudience = await run(simulation, { serviceAccounts: [entry] });
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

for (const name of ["personal", "team", "organization", "organization-admin", "runner"] as const) {
  test(`the request of the exchange script with the files in the ConfigMap: ${name}`, async () => {
    const { namespace, name: account } = ENTRIES[name];
    const configMap = `access.${namespace}.${account}.pulumi-token-exchange`;
    const { data } = only<{ data: Record<string, string> }>(stack, "ConfigMap", configMap).inputs;
    const { [SCRIPT_FILE]: script, apiUrl, ...files } = data;
    assert.equal(apiUrl, "https://api.pulumi.com");
    const names = ["organization", "tokenExpirationSeconds", "tokenScope", "tokenType"];
    assert.deepEqual(Object.keys(files).sort(), names);

    const { endpoint } = await exchange(granted, { script, files });
    const { subject_token, ...form } = Object.fromEntries(endpoint.requests[0]?.form ?? []);
    assert.deepEqual(form, golden(`${name}.request`));
    assert.equal(subject_token, ID_TOKEN);
  });
}

// Each is compared with a document above. The rules build all of them a second time.
test("the policy pack requires these documents", () => {
  const limits = { organizationAdmins: ["ops/admin"], maxExpirationSeconds: 7200 };
  for (const { registered } of [stack, withAudience]) {
    assert.deepEqual(runRules(asRegistered(registered), { limits }), []);
  }
});

function golden(name: string): unknown {
  return JSON.parse(read(`test/program/golden/${name}.json`));
}

/** Returns the trust policy of the only role, with the issuer of the documents in place of the simulated one. */
function trustPolicyIn(stack: Stack): unknown {
  const { assumeRolePolicy } = only(stack, "Role").inputs;
  const simulated = stack.simulation.issuer.url.replace("https://", "");
  return JSON.parse(JSON.stringify(assumeRolePolicy).replaceAll(simulated, ISSUER));
}

function allowPoliciesIn(stack: Stack): object[] {
  return only<{ policies: object[] }>(stack, "OidcIssuer").inputs.policies;
}
