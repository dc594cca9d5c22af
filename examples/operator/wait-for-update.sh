#!/usr/bin/env bash
# Waits until a Stack of the Pulumi Kubernetes Operator is not updating, and fails if that is unknown. Requires kubectl.
#
# Usage: wait-for-update.sh NAMESPACE STACK
set -euo pipefail

announced=
while true; do
  update=$(kubectl get stacks.pulumi.com "$2" --namespace "$1" --output jsonpath='{.status.currentUpdate.name}')
  if [[ -z $update ]]; then exit; fi
  if [[ $update != "$announced" ]]; then echo "Waiting for the update $update of $1/$2" >&2; fi
  announced=$update
  sleep 2
done
