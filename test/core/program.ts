// Runs the program as a preview, with the SDK's mocks: without an engine, a simulator, or a network.

import * as pulumi from "@pulumi/pulumi";

/** What the program registers. */
export interface Registered {
  type: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: each type has its own inputs.
  inputs: any;
}

const ACCOUNT = "123456789012";
/** The issuer of the cluster, as IAM names it. */
const ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";

/** What the program looks up. */
const CALLS: Record<string, object> = {
  "aws:eks/getCluster:getCluster": {
    arn: `arn:aws:eks:us-west-2:${ACCOUNT}:cluster/my-cluster`,
    region: "us-west-2",
    version: "1.36",
    endpoint: "https://example.com",
    certificateAuthorities: [{ data: "YQ==" }],
    identities: [{ oidcs: [{ issuer: `https://${ISSUER}` }] }],
  },
  "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
    arn: `arn:aws:iam::${ACCOUNT}:oidc-provider/${ISSUER}`,
  },
};

/**
 * Returns what the program registers for a stack of the organization acme.
 *
 * @param settings on top of the required ones. Lists and flags are written as JSON, as the engine passes them.
 * @throws Error with the message that the engine would print.
 */
export async function register(settings: Record<string, unknown>): Promise<Registered[]> {
  const registered: Registered[] = [];
  const mocks: pulumi.runtime.Mocks = {
    newResource({ type, name, inputs, id = name }) {
      registered.push({ type, name, inputs });
      const arn = `arn:aws:iam::${ACCOUNT}:role/${name}`;
      return { id, state: { ...inputs, name: inputs.name ?? name, arn, output: inputs.input } };
    },
    call: ({ token }) => CALLS[token] ?? {},
  };
  await pulumi.runtime.setMocks(mocks, "eks-pulumi-oidc", "dev", true, "acme");
  const required = { "aws:region": "us-west-2", clusterName: "my-cluster" };
  const config = Object.entries({ ...required, ...settings }).map(([key, value]) => [
    key.includes(":") ? key : `eks-pulumi-oidc:${key}`,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  pulumi.runtime.setAllConfig(Object.fromEntries(config));
  await pulumi.runtime.runInPulumiStack(require("../../index"));
  await pulumi.runtime.disconnect();
  return registered;
}

/** Returns the inputs of the resources of a type, such as `Role`. */
export function inputsOf(registered: Registered[], type: string): Registered["inputs"][] {
  return registered.filter((it) => it.type.endsWith(`:${type}`)).map(({ inputs }) => inputs);
}
