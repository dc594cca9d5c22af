// The service accounts, annotated with their roles, and their namespaces.

import * as core from "@pulumi/kubernetes/core/v1";
import type * as pulumi from "@pulumi/pulumi";
import { idOf } from "./settings/account";

export interface ServiceAccountArgs {
  name: string;
  namespace: string;
  /** The IRSA role to annotate it with; undefined if its pods receive no role, or receive it from EKS Pod Identity. */
  irsaRoleArn?: pulumi.Input<string> | undefined;
}

/**
 * Creates the service account, annotated for the EKS webhook if it has an IRSA role:
 * https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
 *
 * @returns the service account.
 */
export function createServiceAccount(
  name: string,
  args: ServiceAccountArgs,
  options?: pulumi.CustomResourceOptions,
): core.ServiceAccount {
  const annotations = args.irsaRoleArn && { "eks.amazonaws.com/role-arn": args.irsaRoleArn };
  return new core.ServiceAccount(
    name,
    {
      metadata: { name: args.name, namespace: args.namespace, ...(annotations && { annotations }) },
      // Pods mount the ID token for the exchange as a separate volume. A pod that needs the Kubernetes API, such as the
      // operator's, says so itself.
      automountServiceAccountToken: false,
    },
    options,
  );
}

/**
 * Reads a service account, which must exist.
 *
 * @param account its namespace and name.
 * @returns the service account; undefined for the one that every namespace has.
 */
export function readServiceAccount(
  resourceName: string,
  account: { namespace: string; name: string },
  options?: pulumi.CustomResourceOptions,
): core.ServiceAccount | undefined {
  // In a new namespace, it would be read too early, but a pod waits for it:
  // https://github.com/kubernetes/kubernetes/blob/v1.36.0/plugin/pkg/admission/serviceaccount/admission.go
  if (account.name === "default") return undefined;
  return core.ServiceAccount.get(resourceName, idOf(account), options);
}

/**
 * Creates namespaces, with the Pod Security label `restricted`, and never deletes them.
 * https://kubernetes.io/docs/concepts/security/pod-security-standards/
 *
 * Deleting a namespace deletes everything in it: workloads and volumes of others, and objects of entries that are still in
 * this namespace. Helm does not delete the namespaces that it has created either:
 * https://helm.sh/docs/helm/helm_uninstall/
 *
 * @param prefix of the resources' names.
 * @param names of the namespaces.
 * @returns a map from each name to the namespace.
 */
export function createNamespaces(
  prefix: string,
  names: string[],
  options?: pulumi.CustomResourceOptions,
): Map<string, core.Namespace> {
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  // Not an object: a namespace can have the name of a method, such as constructor.
  const created = new Map<string, core.Namespace>();
  for (const name of names) {
    const namespace = new core.Namespace(
      `${prefix}.${name}`,
      { metadata: { name, labels } },
      { ...options, retainOnDelete: true },
    );
    created.set(name, namespace);
  }
  return created;
}
