// Runs the program of index.ts, unchanged, with the mocks of Pulumi's SDK: what it registers exists nowhere else.

import * as pulumi from "@pulumi/pulumi";
import type { Resource } from "../policy/rule";
import type { Account } from "../settings/account";
import type { RegisteredIssuer } from "./pulumiCloud";
import type { StackFile } from "./stackFile";

export type Run = Awaited<ReturnType<typeof runProgram>>;

/** An entry of `serviceAccounts` with every default, its ID `NAMESPACE/NAME`, the files of its ConfigMap, and its Job. */
export type RegisteredAccount = Account & { id: string; files: Record<string, string>; jobName?: string };

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
export async function runProgram(stack: StackFile, region: string, issuerUrl: string) {
  // The emulated Pulumi Cloud needs no login, and that of this machine can be for another one.
  for (const name of ["PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_API"]) delete process.env[name];
  process.env.PULUMI_CREDENTIALS_PATH = __dirname;

  const registered: object[] = [];
  const ignored = new Map<string, string[]>();
  const urnOf = (type: string, name: string) => `urn:pulumi:${stack.name}::${type}::${name}`;
  const { cluster, oidcProvider } = emulatedAws(region, issuerUrl);
  const mocks: pulumi.runtime.Mocks = {
    // The program looks up the cluster, its region, and its IAM OIDC provider.
    call: ({ token }) => (token.includes("OpenIdConnect") ? oidcProvider : cluster),
    newResource({ type, name, inputs, id }) {
      const urn = urnOf(type, name);
      const role = { arn: `arn:aws:iam::123456789012:role/${name}` };
      const { arn } = type.includes("OpenIdConnect") ? oidcProvider : role;
      // Also those of a new cluster, and of a Stash.
      const read = { name, arn, eksCluster: cluster, oidcProviderUrl: issuerUrl, output: inputs.input };
      const outputs = { ...read, ...inputs };
      // What has an ID exists already, and is only read.
      if (!id) registered.push({ urn, type, name, inputs, outputs, ignoreChanges: ignored.get(urn) });
      return { id: id || name, state: outputs };
    },
  };
  await pulumi.runtime.setMocks(mocks, stack.project, stack.name, true, ORGANIZATION);
  pulumi.runtime.setAllConfig(stack.config, stack.secretKeys);

  /** What each service account is granted, by its ID: an output of the stack. */
  let grants: Record<string, string> = {};
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
        grants = lines;
      });
      return outputs;
    });
    await pulumi.runtime.disconnect();
  } finally {
    console.warn = warn;
  }

  // Without what is undefined, as the engine sends them to a policy pack.
  type Registered = Resource & Pick<pulumi.runtime.MockResourceArgs, "inputs">;
  const resources: Registered[] = JSON.parse(JSON.stringify(registered));
  const inputsOf = (type: string) => resources.filter((it) => it.type === type).map(({ inputs }) => inputs);
  const idOf = ({ namespace, name }: { namespace: string; name: string }) => `${namespace}/${name}`;
  const configMaps = inputsOf("kubernetes:core/v1:ConfigMap");
  const filesOf = (id: string) => configMaps.find(({ metadata }) => idOf(metadata) === id)?.data ?? {};
  const jobs = inputsOf("kubernetes:batch/v1:Job");
  const jobNameOf = (id: string) =>
    jobs.find(({ metadata: { namespace }, spec }) => {
      return idOf({ namespace, name: spec.template.spec.serviceAccountName }) === id;
    })?.metadata.name;
  const [{ serviceAccounts }] = inputsOf("eks-pulumi-oidc:index:PulumiCloudAccess");
  const accounts: RegisteredAccount[] = serviceAccounts.map((account: Account) => {
    const id = idOf(account);
    return { ...account, id, files: filesOf(`${id}-pulumi-token-exchange`), jobName: jobNameOf(id) };
  });
  const issuers: Omit<RegisteredIssuer, "keys">[] = inputsOf("pulumiservice:index:OidcIssuer");
  return { accounts, issuers, grants, warnings, resources };
}

/** Returns what the program reads of a cluster and its provider. */
function emulatedAws(region: string, issuer: string) {
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
  const oidcProvider = `arn:aws:iam::123456789012:oidc-provider/${issuer.replace("https://", "")}`;
  return { cluster, oidcProvider: { arn: oidcProvider } };
}
