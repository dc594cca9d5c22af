#!/usr/bin/env bash
# Replaces the pods of Stacks of the Pulumi Kubernetes Operator, each while its Stack is not updating, because killing an update orphans
# resources. Requires kubectl.
#
# Usage: replace-pods.sh NAMESPACE STACK...
set -euo pipefail

namespace=$1

current_update() {
  kubectl get stacks.pulumi.com "$1" --namespace "$namespace" --output jsonpath='{.status.currentUpdate.name}'
}

for stack in "${@:2}"; do
  while [[ $(current_update "$stack") ]]; do sleep 2; done
  kubectl delete pod "$stack-workspace-0" --namespace "$namespace" --ignore-not-found
done
