// Lets the service accounts of an EKS cluster exchange their own ID tokens for short-lived Pulumi Cloud access tokens.

import type * as pulumi from "@pulumi/pulumi";
import { getCluster, lookUpCluster } from "./cluster";
import { checkIssuer, readConfig } from "./config";
import { createPulumiCloudProvider } from "./oidcIssuer";
import { PulumiCloudAccess, withCluster } from "./pulumiCloudAccess";
import { knownOf } from "./settings/outputs";
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
  // Fail fast: everything is validated and looked up before a resource is registered.
  const config = readConfig();

  const awsRoles = config.access.serviceAccounts.map(({ awsRole }) => awsRole);
  const needs = {
    // Only for IRSA roles.
    oidcProvider: awsRoles.includes("irsa"),
    podIdentityAgent: awsRoles.includes("pod-identity"),
    admissionPolicies: config.access.injectToken,
  };
  const existing = await lookUpCluster(config.cluster, needs);
  if (existing) checkIssuer(config.access, existing.issuerUrl);

  // Pulumi Cloud: a stack stays where it was deployed, or the issuer that is registered there would remain in force.
  const pulumiCloudProvider = createPulumiCloudProvider("pulumi-cloud", config.access.pulumiApiUrl);
  await knownOf(pulumiCloudProvider.urn);

  // The cluster: the existing one, or a new one.
  const cluster = await getCluster("cluster", config.cluster, needs, existing);

  // Each service account: its role, its allow policy in Pulumi Cloud, its ConfigMap, and the Job that tests the exchange.
  const access = new PulumiCloudAccess(
    "access",
    withCluster(config.access, {
      issuerUrl: cluster.issuerUrl,
      oidcProviderArn: cluster.oidcProviderArn,
      clusterArn: cluster.arn,
    }),
    { providers: [cluster.kubernetesProvider, pulumiCloudProvider] },
  );

  return {
    issuerUrl: cluster.issuerUrl,
    oidcIssuerId: access.oidcIssuerId,
    serviceAccounts: access.serviceAccounts,
  };
};
