// Runs the program of index.ts, unchanged, with the mocks of Pulumi's SDK: what it registers exists nowhere else.

import * as pulumi from "@pulumi/pulumi";
import type { Resource } from "../policy/rule";
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
  resources: Resource[];
}

/** An entry of `serviceAccounts` with every default. */
export interface RegisteredAccount extends Account {
  /** `NAMESPACE/NAME` */
  id: string;
  /** The files of its ConfigMap. */
  files: Record<string, string>;
}

type Created = Pick<pulumi.runtime.MockResourceArgs, "type" | "name" | "inputs"> & { outputs: object };

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

  const registered: Created[] = [];
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
  const configMaps = inputsOf("kubernetes:core/v1:ConfigMap").map(({ metadata, data }) => {
    return [`${metadata.namespace}/${metadata.name}`, data] as const;
  });
  const filesOf = new Map<string, Record<string, string>>(configMaps);
  const accounts = (component?.serviceAccounts ?? []).map((account: Account): RegisteredAccount => {
    const id = `${account.namespace}/${account.name}`;
    return { ...account, id, files: filesOf.get(`${id}-pulumi-token-exchange`) ?? {} };
  });
  const resources = registered.map((created) => {
    const typeAndName = `${created.type}::${created.name}`;
    const urn = `urn:pulumi:${stack}::${project}::${typeAndName}`;
    return { ...created, urn, ignoreChanges: ignored.get(typeAndName) ?? [] };
  });
  // Without what is undefined, as the engine sends them.
  return { accounts, issuer, grants, warnings, resources: JSON.parse(JSON.stringify(resources)) };
}

/** Returns an AWS account with the cluster, and one store for every kind of resource. */
function mocksOf(region: string, issuer: string, registered: Created[]): pulumi.runtime.Mocks {
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
  const answers: Record<string, object> = {
    "aws:eks/getCluster:getCluster": cluster,
    "aws:index/getRegion:getRegion": { region },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": oidcProvider,
  };
  return {
    call: ({ token }) => answers[token] ?? {},
    newResource({ type, name, inputs, id }) {
      // What the program reads of a role, of a Stash, of a new cluster, and of its IAM OIDC provider.
      const read = {
        name,
        arn: `${iam}:role/${name}`,
        output: inputs.input,
        eksCluster: cluster,
        oidcProviderUrl: issuer,
      };
      const outputs = { ...read, ...(type.endsWith(":OpenIdConnectProvider") && oidcProvider), ...inputs };
      // What has an ID exists already, and is only read.
      if (!id) registered.push({ type, name, inputs, outputs });
      return { id: id || name, state: outputs };
    },
  };
}
