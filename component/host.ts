// Serves the package. The SDK's own host would construct the component before its outputs are checked: of an invalid one,
// it prints the message up to three times.

import type { ComponentResourceOptions, Inputs, ProviderResource } from "@pulumi/pulumi";
import { main } from "@pulumi/pulumi/provider";
import { ComponentProvider, getPulumiComponents } from "@pulumi/pulumi/provider/experimental/provider";
import { checkOutputs, type PulumiCloudAccessArgs } from "../pulumiCloudAccess";
import { knownOf } from "../settings/outputs";
import { recordOwner } from "../workloadIdentity";

/** The components by service account, by the URN of the Kubernetes provider: each call has its own object for it. */
const owners = new Map<string, Map<string, string>>();

class Host extends ComponentProvider {
  override async construct(name: string, type: string, inputs: Inputs, options: ComponentResourceOptions) {
    const args = inputs as PulumiCloudAccessArgs;
    await checkOutputs(name, args, options);

    const { kubernetes } = options.providers as Record<string, ProviderResource>;
    const cluster = kubernetes ? String((await knownOf(kubernetes.urn)).value) : "";
    for (const account of args.serviceAccounts) recordOwner(owners, cluster, account, name);

    return super.construct(name, type, inputs, options);
  }
}

const components = getPulumiComponents(require("./index.ts"));
main(new Host({ name: "eks-pulumi-oidc", dirname: __dirname, components }), process.argv.slice(2));
