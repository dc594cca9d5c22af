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

// The ConfigMaps of the component are updated in place, and only another cluster replaces what is on it.
const kubernetesProvider = new kubernetes.Provider(
  "prod",
  {
    kubeconfig: cluster.kubeconfigJson,
    clusterIdentifier: cluster.oidcProviderUrl,
    enableConfigMapMutable: true,
    // Explicit, so that PULUMI_K8S_UPSERT_EXISTING_OBJECTS can't let the program adopt, and later delete, what exists.
    upsertExistingObjects: false,
  },
  { dependsOn: cluster },
);

const namespace = new kubernetes.core.v1.Namespace(
  "team-a",
  { metadata: { name: "team-a" } },
  { provider: kubernetesProvider },
);

// The upper limit for the service accounts' roles.
const boundary = new aws.iam.Policy("boundary", {
  policy: { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "s3:*", Resource: "*" }] },
});

// In the SDKs' types, some outputs can be undefined. `interpolate` and the template string below turn them into strings.
const access = new PulumiCloudAccess(
  "access",
  {
    organization: pulumi.getOrganization(),
    issuerName: "eks-prod",
    issuerUrl: cluster.oidcProviderUrl,
    oidcProviderArn: pulumi.interpolate`${cluster.oidcProviderArn}`,
    permissionsBoundaryArn: boundary.arn,
    serviceAccounts: [
      {
        namespace: "team-a",
        name: "deployer",
        tokenType: "team",
        teamName: "team-a",
        awsRole: "irsa",
      },
      { namespace: "team-a", name: "app", tokenType: "team", teamName: "team-a" },
    ],
  },
  // Names are plain strings, so the component depends on the namespace as a whole.
  { providers: [kubernetesProvider], dependsOn: [namespace] },
);

// Grants the deployer AWS permissions.
const policy = new aws.iam.Policy("read-reports", {
  policy: {
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Action: "s3:GetObject", Resource: "arn:aws:s3:::acme-reports/*" }],
  },
});
new aws.iam.RolePolicyAttachment("deployer-read-reports", {
  role: roleNameOf("team-a/deployer"),
  policyArn: policy.arn,
});

/** Returns the name of a service account's role, and fails if there is none. */
function roleNameOf(serviceAccount: string): pulumi.Output<string> {
  return access.serviceAccounts.apply((accounts) => {
    const roleName = accounts[serviceAccount]?.roleName;
    if (roleName === undefined) throw new Error(`The component has no role for ${serviceAccount}.`);
    return roleName;
  });
}

export const oidcIssuerId = access.oidcIssuerId;
// Who gets what, for a reviewer.
export const grants = access.grants;
// With the names of the IAM roles, for an incident.
export const serviceAccounts = access.serviceAccounts;
