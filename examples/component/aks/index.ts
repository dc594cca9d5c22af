// Clusters older than Kubernetes 1.34 need `--enable-oidc-issuer`. The issuer ends with a slash. If the registration or the
// exchange fails, try without it: https://learn.microsoft.com/en-us/azure/aks/use-oidc-issuer
//
// With Entra ID, you need kubelogin where you deploy, and AAD_LOGIN_METHOD=azurecli:
// https://azure.github.io/kubelogin/cli/get-token.html
// Without Entra ID, the kubeconfig contains the key of a cluster administrator.

import { PulumiCloudAccess } from "@OWNER/eks-pulumi-oidc";
import * as azure from "@pulumi/azure-native";
import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

// The cluster. EDIT
const cluster = { resourceGroupName: "prod", resourceName: "prod" };
const managed = azure.containerservice.getManagedClusterOutput(cluster);
// Ends with a slash, as the tokens' `iss` does.
const issuerUrl = managed.apply(({ oidcIssuerProfile }) => {
  if (!oidcIssuerProfile?.issuerURL) throw new Error("The cluster has no OIDC issuer.");
  return oidcIssuerProfile.issuerURL;
});
const { kubeconfigs } = azure.containerservice.listManagedClusterUserCredentialsOutput(cluster);
// It can contain a key, which azure-native doesn't mark as secret.
const kubeconfig = pulumi.secret(
  kubeconfigs.apply(([first]) => Buffer.from(`${first?.value}`, "base64").toString()),
);
const kubernetesProvider = new kubernetes.Provider("prod", {
  kubeconfig,
  clusterIdentifier: issuerUrl,
  enableConfigMapMutable: true,
  // Explicit, so that PULUMI_K8S_UPSERT_EXISTING_OBJECTS can't let the program adopt, and later delete, what exists.
  upsertExistingObjects: false,
});

const access = new PulumiCloudAccess(
  "access",
  {
    organization: pulumi.getOrganization(),
    issuerName: "aks-prod",
    issuerUrl,
    serviceAccounts: [{ namespace: "team-a", name: "app", tokenType: "team", teamName: "team-a" }],
  },
  { providers: [kubernetesProvider] },
);

export const oidcIssuerId = access.oidcIssuerId;
// Who gets what, for a reviewer.
export const grants = access.grants;
