import { PulumiCloudAccess } from "@OWNER/eks-pulumi-oidc";
import * as aws from "@pulumi/aws";
import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

const app = {
  namespace: "team-a",
  name: "app",
  tokenType: "team",
  teamName: "team-a",
  awsRole: "irsa",
} as const;
const secrets = { namespace: "web", name: "secrets", tokenType: "organization" } as const;

// The service accounts of each cluster.
const clusters = {
  blue: [app, secrets],
  green: [app],
};

for (const [name, serviceAccounts] of Object.entries(clusters)) {
  const cluster = aws.eks.getClusterOutput({ name });
  const issuerUrl = cluster.identities.apply(issuerOf);

  new PulumiCloudAccess(
    name,
    {
      organization: pulumi.getOrganization(),
      issuerName: `eks-${name}`,
      issuerUrl,
      oidcProviderArn: aws.iam.getOpenIdConnectProviderOutput({ url: issuerUrl }).arn,
      serviceAccounts,
    },
    { providers: [kubernetesProvider(name, cluster, issuerUrl)] },
  );
}

/** Returns the OIDC issuer of a cluster, and fails if there is none. "undefined" would be another `clusterIdentifier`. */
function issuerOf([identity]: aws.types.output.eks.GetClusterIdentity[]): string {
  const issuer = identity?.oidcs[0]?.issuer;
  if (!issuer) throw new Error("The cluster has no OIDC issuer.");
  return issuer;
}

/** Returns a provider that connects to the cluster, as `aws eks update-kubeconfig` does. */
function kubernetesProvider(
  name: string,
  { endpoint, region, certificateAuthorities }: pulumi.Output<aws.eks.GetClusterResult>,
  clusterIdentifier: pulumi.Output<string>,
): kubernetes.Provider {
  const authority = certificateAuthorities.apply(([first]) => `${first?.data}`);
  const args = ["eks", "get-token", "--output", "json", "--cluster-name", name, "--region", region];
  const exec = { apiVersion: "client.authentication.k8s.io/v1beta1", command: "aws", args };
  const kubeconfig = pulumi.jsonStringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server: endpoint, "certificate-authority-data": authority } }],
    users: [{ name, user: { exec } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  });
  // Only another cluster replaces what is on it: not a renewed endpoint or certificate authority.
  return new kubernetes.Provider(name, { kubeconfig, clusterIdentifier, enableConfigMapMutable: true });
}
