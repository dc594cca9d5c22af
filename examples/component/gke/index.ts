// Where you deploy, you need gke-gcloud-auth-plugin:
// https://docs.cloud.google.com/kubernetes-engine/docs/how-to/cluster-access-for-kubectl
//
// Destroy the access stack before you delete the cluster. The next cluster of that name in the same project and location has the
// same issuer URL, and its service accounts would get the old cluster's tokens.

import { PulumiCloudAccess } from "@OWNER/eks-pulumi-oidc";
import * as gcp from "@pulumi/gcp";
import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

// The cluster. EDIT
const [project, location, name] = ["acme", "us-central1", "prod"];
const issuerUrl = `https://container.googleapis.com/v1/projects/${project}/locations/${location}/clusters/${name}`;
const cluster = gcp.container.getClusterOutput({ project, location, name });
const server = pulumi.interpolate`https://${cluster.endpoint}`;
const authority = cluster.masterAuths.apply(([auth]) => `${auth?.clusterCaCertificate}`);
const exec = { apiVersion: "client.authentication.k8s.io/v1beta1", command: "gke-gcloud-auth-plugin" };
const kubeconfig = pulumi.jsonStringify({
  apiVersion: "v1",
  kind: "Config",
  clusters: [{ name, cluster: { server, "certificate-authority-data": authority } }],
  users: [{ name, user: { exec: { ...exec, provideClusterInfo: true } } }],
  contexts: [{ name, context: { cluster: name, user: name } }],
  "current-context": name,
});

// Identifies the cluster by the UID of kube-system: a later cluster of the same name has the same issuer URL.
// https://opentelemetry.io/docs/specs/semconv/resource/k8s/
const lookup = new kubernetes.Provider("lookup", { kubeconfig });
const system = kubernetes.core.v1.Namespace.get("kube-system", "kube-system", { provider: lookup });
const kubernetesProvider = new kubernetes.Provider(name, {
  kubeconfig,
  clusterIdentifier: system.metadata.uid,
  enableConfigMapMutable: true,
  // Explicit, so that PULUMI_K8S_UPSERT_EXISTING_OBJECTS can't let the program adopt, and later delete, what exists.
  upsertExistingObjects: false,
});

const access = new PulumiCloudAccess(
  "access",
  {
    organization: pulumi.getOrganization(),
    issuerName: `gke-${name}`,
    issuerUrl,
    serviceAccounts: [{ namespace: "team-a", name: "app", tokenType: "team", teamName: "team-a" }],
  },
  { providers: [kubernetesProvider] },
);

export const oidcIssuerId = access.oidcIssuerId;
// Who gets what, for a reviewer.
export const grants = access.grants;
