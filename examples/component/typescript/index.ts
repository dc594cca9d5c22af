import { PulumiCloudAccess } from "@OWNER/eks-pulumi-oidc";
import * as aws from "@pulumi/aws";
import * as eks from "@pulumi/eks";
import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

// The program's own cluster, with its IAM OIDC provider.
const cluster = new eks.Cluster("prod", {
  name: "prod",
  authenticationMode: "API",
  createOidcProvider: true,
});

// The ConfigMaps of the component keep their names when they change.
const kubernetesProvider = new kubernetes.Provider(
  "prod",
  { kubeconfig: cluster.kubeconfigJson, enableConfigMapMutable: true },
  { dependsOn: cluster },
);

const access = new PulumiCloudAccess(
  "access",
  {
    organization: pulumi.getOrganization(),
    issuerName: "eks-prod",
    issuerUrl: cluster.oidcProviderUrl,
    oidcProviderArn: pulumi.interpolate`${cluster.oidcProviderArn}`,
    createNamespaces: ["team-a"],
    serviceAccounts: [
      { namespace: "team-a", name: "deployer", tokenType: "team", teamName: "platform" },
      { namespace: "team-a", name: "drift", tokenType: "organization", awsRole: "none" },
    ],
  },
  { providers: [kubernetesProvider] },
);

// What the deployer may do in AWS, by a policy of this program.
const policy = new aws.iam.Policy("read-reports", {
  policy: {
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Action: "s3:GetObject", Resource: "arn:aws:s3:::acme-reports/*" }],
  },
});
new aws.iam.RolePolicyAttachment("deployer-read-reports", {
  role: access.serviceAccounts.apply((accounts) => `${accounts["team-a/deployer"]?.roleName}`),
  policyArn: policy.arn,
});

export const oidcIssuerId = access.oidcIssuerId;
export const serviceAccounts = access.serviceAccounts;
