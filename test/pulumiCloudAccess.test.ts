// The component's arguments: all problems at once, before anything is registered.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import { PulumiCloudAccess, type PulumiCloudAccessArgs } from "../pulumiCloudAccess";

const ENTRY = { namespace: "ci", name: "deployer", tokenType: "organization", awsRole: "none" } as const;
const ARGS: PulumiCloudAccessArgs = {
  organization: "acme",
  issuerName: "eks-prod",
  issuerUrl: pulumi.output("https://oidc.example/id/A"),
  serviceAccounts: [ENTRY],
};

let registered: string[] = [];

beforeEach(async () => {
  registered = [];
  await pulumi.runtime.setMocks({
    newResource({ type, name, inputs }) {
      registered.push(type);
      return { id: `${name}-id`, state: inputs };
    },
    call: () => ({}),
  });
});

test("reports every problem of the arguments at once, and registers nothing", async () => {
  const args = {
    ...ARGS,
    issuerUrl: undefined,
    issuerNmae: "a",
    maxExpirationSeconds: 0,
    serviceAccounts: [
      { ...ENTRY, awsRole: undefined, tokenExpirationSeconds: "a" },
      { ...ENTRY, name: "other", awsRole: "pod-identity", clusterName: "b" },
    ],
  };
  assert.equal(
    rejected(args, {}),
    `Invalid arguments of PulumiCloudAccess "access" (8 problems). Nothing was changed.

  issuerNmae: unknown setting; did you mean "issuerName"?
  issuerUrl: required
  serviceAccounts[0].tokenExpirationSeconds = "a": must be a whole number of seconds
  serviceAccounts[1].clusterName: unknown setting
  maxExpirationSeconds = 0: must be at least 1 second
  oidcProviderArn: required, because an awsRole is irsa, which is the default
  clusterArn: required, because an awsRole is pod-identity
  providers: this resource option must contain the Kubernetes provider of the cluster
`,
  );
  await new Promise(setImmediate);
  assert.deepEqual(registered, []);
});

test("requires an issuer with https, as far as its URL is known", () => {
  const options = { providers: [new Provider("cluster", { kubeconfig: "{}" })] };
  assert.match(
    rejected({ ...ARGS, issuerUrl: "oidc.example" }, options),
    /issuerUrl = "oidc.example": must begin with https/,
  );
  assert.match(rejected({ ...ARGS, issuerUrl: "" }, options), /issuerUrl: required/);
});

test("accepts no output and no secret in a setting, and does not print their values", () => {
  const token = `pul-${"0f".repeat(20)}`;
  const serviceAccounts = [
    { ...ENTRY, tokenAudience: pulumi.secret(token), policyRules: pulumi.output({ sub: "a*" }) },
  ];
  const reason = "must be a plain value, not an output or a secret";
  const provider = new Provider("cluster", { kubeconfig: "{}" });
  assert.equal(
    rejected({ ...ARGS, serviceAccounts }, { providers: [provider] }),
    `Invalid arguments of PulumiCloudAccess "access" (2 problems). Nothing was changed.

  serviceAccounts[0].tokenAudience: ${reason}
  serviceAccounts[0].policyRules: ${reason}
`,
  );
  assert.match(
    rejected({ ...ARGS, serviceAccounts: pulumi.output([ENTRY]) }, { providers: [provider] }),
    /\(1 problem\)/,
  );
});

test("takes the Kubernetes provider from any option that passes it on", (t) => {
  t.mock.method(pulumi.log, "warn", () => {});
  const provider = new Provider("cluster", { kubeconfig: "{}" });
  const parent = new pulumi.ComponentResource("test:index:Parent", "parent", {}, { providers: [provider] });
  for (const [name, options] of Object.entries({
    list: { providers: [provider] },
    map: { providers: { kubernetes: provider } },
    one: { provider },
    parent: { parent },
  })) {
    const args = { ...ARGS, serviceAccounts: [{ ...ENTRY, name }] };
    assert.ok(new PulumiCloudAccess(name, args, options).serviceAccounts[`ci/${name}`]);
  }
});

/** Returns the message with which the component is rejected. The engine prints only the message of such an error. */
function rejected(args: object, options: pulumi.ComponentResourceOptions): string {
  try {
    new PulumiCloudAccess("access", args as PulumiCloudAccessArgs, options);
  } catch (error) {
    assert.ok(pulumi.RunError.isInstance(error));
    // The SDK formats a stack even if it does not print it, which can take half a minute.
    assert.equal(error.stack, undefined);
    return error.message;
  }
  return assert.fail("the component accepts the arguments");
}
