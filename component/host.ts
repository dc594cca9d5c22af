// Serves the package. The SDK's own host would construct the component before its outputs are checked: of an invalid one,
// it prints the message up to three times.

import type { ComponentResourceOptions, Inputs } from "@pulumi/pulumi";
import { main } from "@pulumi/pulumi/provider";
import { ComponentProvider, getPulumiComponents } from "@pulumi/pulumi/provider/experimental/provider";
import { checkOutputs, type PulumiCloudAccessArgs } from "../pulumiCloudAccess";

class Host extends ComponentProvider {
  override async construct(name: string, type: string, inputs: Inputs, options: ComponentResourceOptions) {
    await checkOutputs(name, inputs as PulumiCloudAccessArgs, options);
    return super.construct(name, type, inputs, options);
  }
}

const components = getPulumiComponents(require("./index.ts"));
main(new Host({ name: "eks-pulumi-oidc", dirname: __dirname, components }), process.argv.slice(2));
