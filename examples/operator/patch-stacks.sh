#!/usr/bin/env bash
# Patches Stacks of the Pulumi Kubernetes Operator, each after the update of the one before. It waits for running updates, and stops if
# one fails. Requires kubectl.
#
# Usage: patch-stacks.sh FILE NAMESPACE STACK...
# FILE: the patch, such as turn-off.yaml
set -euo pipefail

file=$1 namespace=$2

wait_for_update() {
  kubectl wait stacks.pulumi.com "$1" --namespace "$namespace" --for condition=Ready --timeout 1h
}

for stack in "${@:3}"; do
  wait_for_update "$stack"
  kubectl patch stacks.pulumi.com "$stack" --namespace "$namespace" --type merge --patch-file "$file"
  wait_for_update "$stack"
done
