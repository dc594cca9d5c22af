// Lets the pods of one service account on EKS trade their own OIDC token for a short-lived Pulumi access token.

import { connectCluster, getCluster } from "./cluster";
import { readSettings } from "./config";
import { createRole } from "./iam";
import { createJob } from "./job";
import { createOidcIssuer, getThumbprints } from "./oidcIssuer";
import { createServiceAccount } from "./serviceAccount";

export = async () => {
  // Whatever is wrong or missing stops the program here, before anything is registered.
  const settings = readSettings();
  const cluster = await getCluster(settings);
  const thumbprints = await getThumbprints(settings.thumbprints, cluster.issuerUrl);

  // AWS: the role trusts one service account of this cluster's issuer.
  const { provider, oidcProviderArn } = connectCluster(cluster);
  const { role, attachments } = createRole({
    issuerUrl: cluster.issuerUrl,
    oidcProviderArn,
    namespace: settings.namespace,
    serviceAccountName: settings.serviceAccountName,
    policyArns: settings.rolePolicyArns,
    permissionsBoundaryArn: settings.permissionsBoundaryArn,
  });

  // Kubernetes: the service account carries the role, and gives its pods an id token.
  const serviceAccount = createServiceAccount(
    {
      name: settings.serviceAccountName,
      namespace: settings.namespace,
      createNamespace: settings.createNamespace,
      roleArn: role.arn,
    },
    { provider },
  );

  // Pulumi Cloud: the organization trusts the issuer, and grants one access token to that service account.
  const oidcIssuer = createOidcIssuer({
    organization: settings.organization,
    name: settings.issuerName,
    url: cluster.issuerUrl,
    thumbprints,
    maxExpirationSeconds: settings.maxExpirationSeconds,
    policy: {
      token: settings.token,
      namespace: settings.namespace,
      serviceAccountName: settings.serviceAccountName,
      audience: settings.audienceRule ? settings.tokenAudience : undefined,
      rules: settings.policyRules,
    },
    apiUrl: settings.pulumiApiUrl,
  });

  // The pod: it exchanges the one token for the other, and runs the command. Its spec says nothing of the policies on
  // both sides, so that they have to trigger a new run.
  const job = createJob(
    {
      namespace: serviceAccount.metadata.namespace,
      serviceAccountName: serviceAccount.metadata.name,
      image: settings.image,
      command: settings.command,
      organization: settings.organization,
      tokenType: settings.token.tokenType,
      tokenScope: settings.tokenScope,
      tokenExpirationSeconds: settings.tokenExpirationSeconds,
      tokenAudience: settings.tokenAudience,
      apiUrl: settings.pulumiApiUrl,
    },
    {
      provider,
      dependsOn: [...attachments, serviceAccount, oidcIssuer],
      replacementTrigger: [oidcIssuer.id, oidcIssuer.policies, oidcIssuer.thumbprints, role.assumeRolePolicy],
    },
  );

  return {
    jobName: job.metadata.name,
    roleArn: role.arn,
    serviceAccount: serviceAccount.id,
    issuerUrl: cluster.issuerUrl,
    oidcIssuerId: oidcIssuer.id,
  };
};
