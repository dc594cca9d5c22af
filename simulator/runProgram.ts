// Runs the program of index.ts, unchanged, with the mocks of Pulumi's SDK: what it registers exists nowhere else.

import * as pulumi from "@pulumi/pulumi";
import type { RegisteredResource } from "../policy/runRules";
import type { Account } from "../settings/account";
import type { AuthPolicy } from "./pulumiCloud";
import type { StackFile } from "./stackFile";

/** What the program has registered. */
export interface Run {
  accounts: RegisteredAccount[];
  issuer: { organization: string; maxExpirationSeconds: number; policies: AuthPolicy[] };
  /** What each service account is granted, by its ID: an output of the stack. */
  grants: Record<string, string>;
  warnings: string[];
  /** As the engine sends them to a policy pack. */
  resources: RegisteredResource[];
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
 * @param cluster the AWS region and the OIDC issuer of the cluster.
 * @throws the error of the program.
 */
export async function runProgram(
  { name: stack, project, config, secretKeys }: StackFile,
  { region, issuerUrl }: { region: string; issuerUrl: string },
): Promise<Run> {
  // The emulated Pulumi Cloud needs no login, and that of this machine can be for another one.
  for (const name of ["PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_API"]) delete process.env[name];
  process.env.PULUMI_CREDENTIALS_PATH = __dirname;

  const registered: Registered[] = [];
  await pulumi.runtime.setMocks(mocksOf(region, issuerUrl, registered), project, stack, true, ORGANIZATION);
  pulumi.runtime.setAllConfig(config, secretKeys);
  const ignored = new Map<string, string[]>();
  const warnings: string[] = [];
  let grants: Run["grants"] = {};
  const { warn } = console;
  // The SDK prints what the program warns of, with a prefix.
  console.warn = (text) => warnings.push(String(text).replace(/^warning: (\[runtime\] )?/, ""));
  try {
    await pulumi.runtime.runInPulumiStack(async () => {
      // Mocks see no options of resources.
      pulumi.runtime.registerStackTransformation(({ type, name, opts }) => {
        ignored.set(`${type}::${name}`, (opts as pulumi.CustomResourceOptions).ignoreChanges ?? []);
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

  const inputsOf = (type: string) => registered.filter((it) => it.type === type).map(({ inputs }) => inputs);
  const [component] = inputsOf("eks-pulumi-oidc:index:PulumiCloudAccess");
  const [issuer] = inputsOf("pulumiservice:index:OidcIssuer");
  if (!component || !issuer)
    throw new Error("The program registers no PulumiCloudAccess with an OIDC issuer.");
  const configMaps = inputsOf("kubernetes:core/v1:ConfigMap");
  const accounts = component.serviceAccounts.map((account: Account): RegisteredAccount => {
    const id = `${account.namespace}/${account.name}`;
    const { data = {} } =
      configMaps.find(({ metadata: it }) => `${it.namespace}/${it.name}` === `${id}-pulumi-token-exchange`) ??
      {};
    return { ...account, id, files: data };
  });
  const resources = registered.map(({ type, name, inputs, outputs }) => {
    const urn = `urn:pulumi:${stack}::${project}::${type}::${name}`;
    return { urn, type, name, inputs, outputs, ignoreChanges: ignored.get(`${type}::${name}`) ?? [] };
  });
  // Without what is undefined, as the engine sends them.
  return { accounts, issuer, grants, warnings, resources: JSON.parse(JSON.stringify(resources)) };
}

type Registered = pulumi.runtime.MockResourceArgs & { outputs: object };

/** Returns an AWS account with the cluster, and one store for every kind of resource. */
function mocksOf(region: string, issuerUrl: string, registered: Registered[]): pulumi.runtime.Mocks {
  const iam = "arn:aws:iam::123456789012";
  const oidcProviderArn = `${iam}:oidc-provider/${issuerUrl.replace("https://", "")}`;
  const cluster = {
    arn: `arn:aws:eks:${region}:123456789012:cluster/simulated`,
    endpoint: "https://127.0.0.1",
  };
  const certificateAuthority = { data: "YQ==" };
  const answers: Record<string, object> = {
    "aws:eks/getCluster:getCluster": {
      ...{ ...cluster, region, version: "1.36", certificateAuthorities: [certificateAuthority] },
      identities: [{ oidcs: [{ issuer: issuerUrl }] }],
    },
    "aws:index/getRegion:getRegion": { region },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": { arn: oidcProviderArn },
  };
  return {
    call: ({ token }) => answers[token] ?? {},
    newResource(args) {
      const { type, name, inputs, id } = args;
      // What the program reads of roles, of a Stash, and of a new cluster.
      const arn = type.endsWith(":OpenIdConnectProvider") ? oidcProviderArn : `${iam}:role/${name}`;
      const ofCluster = {
        eksCluster: { ...cluster, name, certificateAuthority },
        oidcProviderUrl: issuerUrl,
      };
      const outputs = { name, arn, output: inputs.input, ...ofCluster, ...inputs };
      // What has an ID exists already, and is only read.
      if (!id) registered.push({ ...args, outputs });
      return { id: id || name, state: outputs };
    },
  };
}
