// Runs the program of index.ts, unchanged, with the mocks of Pulumi's SDK: what it registers exists nowhere else.

import * as pulumi from "@pulumi/pulumi";
import type { Resource } from "../policy/rule";
import type { Account } from "../settings/account";
import type { RegisteredIssuer } from "./pulumiCloud";
import type { StackFile } from "./stackFile";

/** What the program has registered. */
export interface Run {
  accounts: RegisteredAccount[];
  issuers: Omit<RegisteredIssuer, "keys">[];
  /** What each service account is granted, by its ID: an output of the stack. */
  grants: Record<string, string>;
  warnings: string[];
  /** As the engine sends them to a policy pack. */
  resources: Resource[];
}

/** An entry of `serviceAccounts` with every default. */
export interface RegisteredAccount extends Account {
  /** `NAMESPACE/NAME` */
  id: string;
  /** The files of its ConfigMap. */
  files: Record<string, string>;
}

/** What a stack has that does not set them. */
export const ORGANIZATION = "acme";
export const REGION = "us-west-2";

/**
 * Runs the program as the first preview of a stack.
 *
 * @param region of the cluster.
 * @param issuerUrl of the cluster.
 * @throws the error of the program.
 */
export async function runProgram(stack: StackFile, region: string, issuerUrl: string): Promise<Run> {
  // The emulated Pulumi Cloud needs no login, and that of this machine can be for another one.
  for (const name of ["PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_API"]) delete process.env[name];
  process.env.PULUMI_CREDENTIALS_PATH = __dirname;

  const registered: object[] = [];
  const ignored = new Map<string, string[]>();
  const urnOf = (type: string, name: string) =>
    `urn:pulumi:${stack.name}::${stack.project}::${type}::${name}`;
  const { lookUp, outputsOf } = emulatedAws(region, issuerUrl);
  const mocks: pulumi.runtime.Mocks = {
    call: lookUp,
    newResource({ type, name, inputs, id }) {
      const urn = urnOf(type, name);
      const outputs = outputsOf(type, name, inputs);
      // What has an ID exists already, and is only read.
      if (!id) registered.push({ urn, type, name, inputs, outputs, ignoreChanges: ignored.get(urn) });
      return { id: id || name, state: outputs };
    },
  };
  await pulumi.runtime.setMocks(mocks, stack.project, stack.name, true, ORGANIZATION);
  pulumi.runtime.setAllConfig(stack.config, stack.secretKeys);

  let grants: Run["grants"] = {};
  const warnings: string[] = [];
  const { warn } = console;
  // The SDK prints what the program warns of, with a prefix.
  console.warn = (text) => warnings.push(String(text).replace(/^warning: (\[runtime\] )?/, ""));
  try {
    await pulumi.runtime.runInPulumiStack(async () => {
      // Mocks see no options of resources.
      pulumi.runtime.registerStackTransformation(({ type, name, opts }) => {
        ignored.set(urnOf(type, name), (opts as pulumi.CustomResourceOptions).ignoreChanges ?? []);
        return undefined;
      });
      const outputs = await require("../index")();
      pulumi.output(outputs.grants).apply((lines) => {
        grants = lines as Run["grants"];
      });
      return outputs;
    });
    await pulumi.runtime.disconnect();
  } finally {
    console.warn = warn;
  }

  // Without what is undefined, as the engine sends them.
  const resources = JSON.parse(JSON.stringify(registered));
  const inputsOf = (type: string) => {
    return resources.filter((it: Resource) => it.type === type).map(({ inputs }: Resource) => inputs);
  };
  const [{ serviceAccounts }] = inputsOf("eks-pulumi-oidc:index:PulumiCloudAccess");
  const files = new Map<string, Record<string, string>>();
  for (const { metadata, data } of inputsOf("kubernetes:core/v1:ConfigMap")) {
    files.set(`${metadata.namespace}/${metadata.name}`, data);
  }
  const accounts = serviceAccounts.map((account: Account): RegisteredAccount => {
    const id = `${account.namespace}/${account.name}`;
    return { ...account, id, files: files.get(`${id}-pulumi-token-exchange`) ?? {} };
  });
  return { accounts, issuers: inputsOf("pulumiservice:index:OidcIssuer"), grants, warnings, resources };
}

/** Returns how an AWS account with the cluster answers the program. */
function emulatedAws(region: string, issuer: string) {
  const iam = "arn:aws:iam::123456789012";
  const oidcProvider = { arn: `${iam}:oidc-provider/${issuer.replace("https://", "")}` };
  const certificateAuthority = { data: "YQ==" };
  const cluster = {
    arn: `arn:aws:eks:${region}:123456789012:cluster/simulated`,
    name: "simulated",
    region,
    version: "1.36",
    endpoint: "https://127.0.0.1",
    identities: [{ oidcs: [{ issuer }] }],
    // Of a cluster that is looked up, and of a new one.
    certificateAuthorities: [certificateAuthority],
    certificateAuthority,
  };
  // The program looks up the cluster, its region, and its IAM OIDC provider.
  const lookUp = ({ token }: { token: string }) => (token.includes("OpenIdConnect") ? oidcProvider : cluster);
  const outputsOf = (type: string, name: string, inputs: Record<string, unknown>) => {
    const { arn } = type.includes("OpenIdConnect") ? oidcProvider : { arn: `${iam}:role/${name}` };
    // The last three are those of a new cluster, and of a Stash.
    return { name, arn, eksCluster: cluster, oidcProviderUrl: issuer, output: inputs.input, ...inputs };
  };
  return { lookUp, outputsOf };
}
