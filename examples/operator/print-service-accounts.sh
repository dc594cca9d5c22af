#!/usr/bin/env bash
# Prints a service account for each Stack of the Pulumi Kubernetes Operator, with the Stack's name, and with copies of what the service
# account of the Stack has now: EKS annotations, image pull secrets, and every role binding that lists it as a ServiceAccount, such as
# that to system:auth-delegator, which the operator requires. It skips a Stack that runs as this service account already, and fails if the
# service account exists from elsewhere. Requires kubectl and jq.
#
# Usage: print-service-accounts.sh NAMESPACE STACK...
set -euo pipefail
trap 'exit 255' ERR # ends xargs, too

if [[ $# -lt 2 ]]; then
  echo "Usage: print-service-accounts.sh NAMESPACE STACK..." >&2
  exit 64
fi
namespace=$1
bindings=$(kubectl get rolebindings,clusterrolebindings --all-namespaces --output json)

for stack in "${@:2}"; do
  current=$(kubectl get stacks.pulumi.com "$stack" --namespace "$namespace" --output jsonpath='{.spec.serviceAccountName}')
  current=${current:-default}
  if [[ $current == "$stack" ]]; then continue; fi

  # Its pods would get the Stack's token and permissions.
  existing=$(kubectl get serviceaccount "$stack" --namespace "$namespace" --ignore-not-found \
    --output jsonpath='{.metadata.name} {.metadata.labels.app\.kubernetes\.io/created-by}')
  if [[ -n $existing && $existing != "$stack print-service-accounts" ]]; then
    echo "Service account $namespace/$stack exists, but the Stack $stack does not use it. Delete it if no pod uses it," \
      "or remove the Stack from the list, and set its serviceAccountName by hand." >&2
    exit 255
  fi

  kubectl get serviceaccount "$current" --namespace "$namespace" --output json |
    jq --arg name "$stack" --slurpfile bindings <(printf '%s' "$bindings") '
    .metadata.namespace as $namespace | .metadata.name as $current
    | ({imagePullSecrets, automountServiceAccountToken} | with_entries(select(.value != null))) as $kept
    | {"app.kubernetes.io/created-by": "print-service-accounts"} as $labels
    | (.metadata.annotations // {} | with_entries(select(.key | startswith("eks.amazonaws.com/")))) as $annotations
    | {apiVersion: "v1", kind: "ServiceAccount", metadata: {namespace: $namespace, name: $name, $labels, $annotations}} + $kept,
      ($bindings[].items[]
        # Without a namespace, a subject of a RoleBinding is in that of the RoleBinding.
        | .metadata.namespace as $own
        | select(any(.subjects[]?;
            .kind == "ServiceAccount" and (.namespace // $own) == $namespace and .name == $current))
        | {
            apiVersion,
            kind,
            metadata: ({name: "\($namespace):\($name):\(.metadata.name)"} + (.metadata | {namespace} | map_values(values))),
            roleRef,
            subjects: [{kind: "ServiceAccount", namespace: $namespace, name: $name}]
          })'
done
