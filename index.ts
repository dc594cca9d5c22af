// Lets the service accounts of an EKS cluster exchange their own ID tokens for short-lived Pulumi Cloud access tokens.

import type * as pulumi from "@pulumi/pulumi";
import { createCluster, findCluster, useCluster } from "./cluster";
import { readConfig } from "./config";
import { createPulumiCloudProvider } from "./oidcIssuer";
import { requireFirstPlace } from "./place";
import { PulumiCloudAccess } from "./pulumiCloudAccess";

/** Short, because Pulumi prints all of them below the reason of a failure, which must stay on the screen. */
type ServiceAccountSummary = Omit<
  PulumiCloudAccess["serviceAccounts"][string],
  "env" | "volume" | "volumeMount"
>;

interface StackOutputs {
  /** OIDC issuer of the cluster, with `https://`. */
  issuerUrl: pulumi.Input<string>;
  /** ID of the OIDC issuer in Pulumi Cloud. */
  oidcIssuerId: pulumi.Output<string>;
  /** What each service account is granted, by `NAMESPACE/NAME`. */
  grants: PulumiCloudAccess["grants"];
  /** What each service account has, by `NAMESPACE/NAME`. */
  serviceAccounts: Record<string, ServiceAccountSummary>;
}

export = async (): Promise<StackOutputs> => {
  // Fail fast: everything is validated and looked up before a resource is registered.
  const config = readConfig();

  const { serviceAccounts, pulumiApiUrl, organization } = config.settings;
  const { region, existing } = await findCluster(config.cluster, serviceAccounts);

  // A stack stays where it was deployed. The cluster waits too: a changed Kubernetes provider would replace everything on it.
  const dependsOn = requireFirstPlace("first-deployment", {
    pulumiApiUrl,
    organization,
    clusterName: config.cluster.clusterName,
    createCluster: config.cluster.createCluster,
    region,
    issuerUrl: existing?.issuerUrl,
  });

  const pulumiCloudProvider = createPulumiCloudProvider("pulumi-cloud", pulumiApiUrl, { dependsOn });
  const cluster = existing
    ? useCluster("cluster", config.cluster, existing, { dependsOn })
    : await createCluster("cluster", config.cluster, serviceAccounts, { dependsOn });

  // Each service account: its role, its allow policy in Pulumi Cloud, its ConfigMap, and the Job that tests the exchange.
  const pulumiCloudAccess = new PulumiCloudAccess(
    "access",
    {
      ...config.settings,
      issuerUrl: cluster.issuerUrl,
      oidcProviderArn: cluster.oidcProviderArn,
      clusterArn: cluster.clusterArn,
    },
    { providers: [cluster.kubernetesProvider, pulumiCloudProvider] },
  );

  return {
    issuerUrl: cluster.issuerUrl,
    oidcIssuerId: pulumiCloudAccess.oidcIssuerId,
    grants: pulumiCloudAccess.grants,
    serviceAccounts: summaryOf(pulumiCloudAccess.serviceAccounts),
  };
};

function summaryOf(serviceAccounts: PulumiCloudAccess["serviceAccounts"]): StackOutputs["serviceAccounts"] {
  const entries = Object.entries(serviceAccounts).map(([id, { env, volume, volumeMount, ...summary }]) => {
    return [id, summary];
  });
  return Object.fromEntries(entries);
}
