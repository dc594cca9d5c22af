#!/usr/bin/env bash
# Replaces the pods of Stacks of the Pulumi Kubernetes Operator, each while its Stack is not updating, because killing an update orphans
# resources. Requires kubectl.
#
# Usage: replace-pods.sh NAMESPACE STACK...
set -euo pipefail

namespace=$1

# Waits until a Stack is not updating. Ends the script if that is unknown.
wait_for_update() {
  local update
  while true; do
    update=$(kubectl get stacks.pulumi.com "$1" --namespace "$namespace" --output jsonpath='{.status.currentUpdate.name}')
    if [[ -z $update ]]; then return; fi
    sleep 2
  done
}

for stack in "${@:2}"; do
  wait_for_update "$stack"
  kubectl delete pod "$stack-workspace-0" --namespace "$namespace" --ignore-not-found
done
