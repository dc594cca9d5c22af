// The service account that carries the role to the pods, and its namespace where asked for.

import { Namespace, ServiceAccount } from "@pulumi/kubernetes/core/v1";
import type * as pulumi from "@pulumi/pulumi";

export interface ServiceAccountArgs {
  name: string;
  namespace: string;
  createNamespace: boolean;
  roleArn: pulumi.Input<string>;
}

/**
 * Creates the service account, annotated for the EKS pod identity webhook: a pod that runs as it gets an id token
 * and the role. https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html
 *
 * @returns the service account; its namespace exists before it does.
 */
export function createServiceAccount(
  args: ServiceAccountArgs,
  { provider }: { provider: pulumi.ProviderResource },
): ServiceAccount {
  const namespace = args.createNamespace && createNamespace(args.namespace, provider);

  return new ServiceAccount(
    "service-account",
    {
      metadata: {
        name: args.name,
        namespace: namespace ? namespace.metadata.name : args.namespace,
        annotations: { "eks.amazonaws.com/role-arn": args.roleArn },
      },
      // The id token is all that its pods need: none of them talks to the Kubernetes API.
      automountServiceAccountToken: false,
    },
    { provider },
  );
}

function createNamespace(name: string, provider: pulumi.ProviderResource): Namespace {
  return new Namespace(
    "namespace",
    { metadata: { name, labels: { "pod-security.kubernetes.io/enforce": "restricted" } } },
    { provider },
  );
}
