// The service accounts, annotated with their roles, and their namespaces.

import { Namespace, ServiceAccount } from "@pulumi/kubernetes/core/v1";
import type * as pulumi from "@pulumi/pulumi";

/** Every cluster has these: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/ */
export const INITIAL_NAMESPACES = ["default", "kube-system", "kube-public", "kube-node-lease"];

export interface ServiceAccountArgs {
  name: string;
  namespace: pulumi.Input<string>;
  /** The role to annotate it with; undefined if its pods do not use AWS. */
  roleArn?: pulumi.Input<string> | undefined;
}

/**
 * Creates the service account, annotated for the EKS pod identity webhook: a pod that uses it receives an ID token and
 * the role. https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
 *
 * @returns the service account.
 */
export function createServiceAccount(
  name: string,
  { roleArn, ...metadata }: ServiceAccountArgs,
  options?: pulumi.CustomResourceOptions,
): ServiceAccount {
  const annotations = roleArn && { "eks.amazonaws.com/role-arn": roleArn };
  return new ServiceAccount(
    name,
    {
      metadata: { ...metadata, ...(annotations && { annotations }) },
      // An ID token is all that its pods need: none of them calls the Kubernetes API.
      automountServiceAccountToken: false,
    },
    options,
  );
}

/**
 * Creates the namespaces that the stack owns, with the Pod Security label `restricted`.
 * https://kubernetes.io/docs/concepts/security/pod-security-standards/
 *
 * @param accounts the service accounts; a namespace is created once if any of them asks for it.
 * @returns the names of all namespaces, each of which is known once the namespace exists.
 */
export function createNamespaces(
  accounts: { namespace: string; createNamespace: boolean }[],
  options?: pulumi.CustomResourceOptions,
): Record<string, pulumi.Input<string>> {
  const names: Record<string, pulumi.Input<string>> = {};
  for (const { namespace } of accounts) names[namespace] = namespace;
  const owned = accounts.filter(({ createNamespace }) => createNamespace);
  for (const name of new Set(owned.map(({ namespace }) => namespace))) {
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    names[name] = new Namespace(name, { metadata: { name, labels } }, options).metadata.name;
  }
  return names;
}
