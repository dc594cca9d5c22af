// Runs the program of index.ts, unchanged, as the first preview of a stack: what it registers exists nowhere else.

import type { Resource } from "../policy/rule";
import type { Account } from "../settings/account";
import { ACCOUNT, clusterWith, inputsOf, runProgram as runWithMocks } from "../test/core/program";
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
  const oidcProvider = {
    arn: `arn:aws:iam::${ACCOUNT}:oidc-provider/${issuerUrl.replace("https://", "")}`,
  };
  const run = await runWithMocks(require("../index"), stack.config, {
    project: stack.project,
    stack: stack.name,
    secretKeys: stack.secretKeys,
    isPreview: true,
    answers: {
      ...clusterWith({ region, identities: [{ oidcs: [{ issuer: issuerUrl }] }] }),
      "aws:index/getRegion:getRegion": () => ({ region }),
      "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": () => oidcProvider,
    },
    outputs: {
      "Cluster eks-cluster": { oidcProviderUrl: issuerUrl },
      "OpenIdConnectProvider cluster": oidcProvider,
    },
    // The emulated Pulumi Cloud needs no login, and that of this machine can be for another one.
    loginUrl: stack.config[`${stack.project}:pulumiApiUrl`],
  });

  const idOf = ({ namespace, name }: { namespace: string; name: string }) => `${namespace}/${name}`;
  const files = Object.fromEntries(
    inputsOf(run, "ConfigMap").map(({ metadata, data }) => [idOf(metadata), data]),
  );
  const jobs = inputsOf(run, "Job").map(({ metadata: { name, namespace }, spec }) => {
    return [idOf({ namespace, name: spec.template.spec.serviceAccountName }), name];
  });
  const jobNames = Object.fromEntries(jobs);
  const [{ serviceAccounts }] = inputsOf(run, "PulumiCloudAccess");
  const accounts: RegisteredAccount[] = serviceAccounts.map((account: Account) => {
    const id = idOf(account);
    return { ...account, id, files: files[`${id}-pulumi-token-exchange`], jobName: jobNames[id] };
  });
  // What has an ID exists already, and is only read. Without what is undefined, as the engine sends them to a policy pack.
  const created = run.registered.filter(({ options }) => options.id === undefined);
  const resources: Resource[] = created.map(({ type, name, inputs, options: { ignoreChanges } }) => {
    return { urn: name, type, name, inputs: JSON.parse(JSON.stringify(inputs)), ignoreChanges };
  });
  const issuers: Omit<RegisteredIssuer, "keys">[] = inputsOf(run, "OidcIssuer");
  return { accounts, issuers, grants: run.outputs.grants, warnings: run.warnings, resources };
}
