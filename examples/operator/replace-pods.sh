#!/usr/bin/env bash
# Replaces the pods of Stacks of the Pulumi Kubernetes Operator, each while its Stack is not updating, because killing an update orphans
# resources. Requires kubectl.
#
# Usage: replace-pods.sh NAMESPACE STACK...
set -euo pipefail
trap 'exit 255' ERR # ends xargs, too

if [[ $# -lt 2 ]]; then
  echo "Usage: replace-pods.sh NAMESPACE STACK..." >&2
  exit 64
fi
namespace=$1

for stack in "${@:2}"; do
  bash "$(dirname "$0")/wait-for-update.sh" "$namespace" "$stack"
  kubectl delete pod "$stack-workspace-0" --namespace "$namespace" --ignore-not-found
done
