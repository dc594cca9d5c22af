// Lets the service accounts of an EKS cluster exchange their own ID tokens for short-lived Pulumi Cloud access tokens.

import type * as pulumi from "@pulumi/pulumi";
import { getCluster } from "./cluster";
import { checkIssuer, readConfig } from "./config";
import { PulumiCloudAccess, withCluster } from "./pulumiCloudAccess";
import type { ServiceAccountAccess } from "./workloadIdentity";

interface StackOutputs {
  /** OIDC issuer of the cluster, with `https://`. */
  issuerUrl: pulumi.Input<string>;
  /** ID of the OIDC issuer in Pulumi Cloud. */
  oidcIssuerId: pulumi.Output<string>;
  /** The access of each service account, by `NAMESPACE/NAME`. */
  serviceAccounts: Record<string, ServiceAccountAccess>;
}

export = async (): Promise<StackOutputs> => {
  // Fail fast: everything is validated before a resource is registered.
  const config = readConfig();

  // The cluster: an existing one, or a new one. Its IAM OIDC provider is looked up only for IRSA roles.
  const awsRoles = config.access.serviceAccounts.map(({ awsRole }) => awsRole);
  const cluster = await getCluster("cluster", config.cluster, {
    oidcProvider: awsRoles.includes("irsa"),
    podIdentityAgent: awsRoles.includes("pod-identity"),
    admissionPolicies: config.access.injectToken,
    checkIssuer: (issuerUrl) => checkIssuer(config.access, issuerUrl),
  });

  // Each service account: its role, its allow policy in Pulumi Cloud, its ConfigMap, and the Job that tests the exchange.
  const access = new PulumiCloudAccess(
    "access",
    withCluster(config.access, {
      issuerUrl: cluster.issuerUrl,
      oidcProviderArn: cluster.oidcProviderArn,
      clusterArn: cluster.arn,
    }),
    { providers: [cluster.kubernetesProvider] },
  );

  return {
    issuerUrl: cluster.issuerUrl,
    oidcIssuerId: access.oidcIssuerId,
    serviceAccounts: access.serviceAccounts,
  };
};
