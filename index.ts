// Lets the service accounts of an EKS cluster exchange their own OIDC tokens for short-lived Pulumi Cloud access tokens.

import { connectCluster, getCluster } from "./cluster";
import { readConfig } from "./config";
import { allowPolicy, createOidcIssuer, getThumbprints } from "./oidcIssuer";
import { createNamespaces } from "./serviceAccount";
import { WorkloadIdentity } from "./workloadIdentity";

export = async () => {
  // Fail fast: validate everything before registering a resource.
  const config = readConfig();
  const cluster = await getCluster("eks-cluster", config);
  const thumbprints = await getThumbprints(config.thumbprints, cluster.issuerUrl);

  // The Kubernetes provider connects to the cluster whose issuer is trusted.
  const { provider, oidcProviderArn } = connectCluster("cluster", cluster);
  const namespaces = createNamespaces(config.serviceAccounts, { provider });

  // Pulumi Cloud: the organization trusts the issuer, with one allow policy for each service account.
  const accounts = config.serviceAccounts.map((account) => ({ account, policy: allowPolicy(account) }));
  const oidcIssuer = createOidcIssuer("oidc-issuer", {
    organization: config.organization,
    name: config.issuerName,
    url: cluster.issuerUrl,
    thumbprints,
    maxExpirationSeconds: config.maxExpirationSeconds,
    policies: accounts.map(({ policy }) => policy),
    apiUrl: config.pulumiApiUrl,
  });

  // Each service account: its role, its ConfigMaps, and the Job that tests the token exchange.
  const identities = accounts.map(
    ({ account, policy }) =>
      new WorkloadIdentity(
        `${account.namespace}.${account.name}`,
        {
          ...config,
          account,
          policy,
          oidcIssuer,
          oidcProviderArn,
          issuerUrl: cluster.issuerUrl,
          namespace: namespaces[account.namespace] ?? account.namespace,
        },
        { provider },
      ),
  );

  const [job] = identities.flatMap((identity) => identity.job ?? []);
  return {
    ...(job && { jobName: job.metadata.name }),
    issuerUrl: cluster.issuerUrl,
    oidcIssuerId: oidcIssuer.id,
    serviceAccounts: Object.fromEntries(identities.map(({ id, summary }) => [id, summary])),
  };
};
