#!/usr/bin/env bash
# Patches Stacks of the Pulumi Kubernetes Operator, one after the other. It waits for a running update before it patches a Stack, and
# then until the Stack is ready; if one is not ready within an hour, it stops. It skips a Stack whose containers or volumes the patch
# would replace. Requires kubectl and jq.
#
# Usage: patch-stacks.sh FILE NAMESPACE STACK...
# FILE: the patch, such as turn-off.yaml. In it, STACK and SERVICE_ACCOUNT are placeholders for the Stack and its service account.
set -Eeuo pipefail
trap 'exit 255' ERR # ends xargs, too

if [[ $# -lt 3 ]]; then
  echo "Usage: patch-stacks.sh FILE NAMESPACE STACK..." >&2
  exit 64
fi
file=$1 namespace=$2

# Without a change, the operator does not retry a failed update, or only hours later.
retry_failed() {
  local ready
  ready=$(kubectl get stacks.pulumi.com "$1" --namespace "$namespace" --output jsonpath='{.status.conditions[?(@.type=="Ready")].status}')
  if [[ $ready == True ]]; then return; fi
  kubectl annotate stacks.pulumi.com "$1" --namespace "$namespace" --overwrite "pulumi.com/reconciliation-request=$(date)"
}

# A patch replaces lists as a whole. Counts what it would remove from those of a Stack, besides the mount of the exchange.
count_removed() {
  if ! grep --quiet podTemplate "$file"; then
    echo 0
    return
  fi
  jq <<<"$1" '
    .spec.workspaceTemplate.spec.podTemplate.spec // {}
    | [.volumes[]?, (.containers[]? | .volumeMounts[]?, del(.volumeMounts))]
    | map(select(.name != "pulumi-token-exchange" and . != { name: "pulumi" })) | length'
}

for stack in "${@:3}"; do
  # A Stack whose last update has failed is not ready, but is patched, too: the patch can be the way back.
  bash "$(dirname "$0")/wait-for-update.sh" "$namespace" "$stack"
  current=$(kubectl get stacks.pulumi.com "$stack" --namespace "$namespace" --output json)
  removed=$(count_removed "$current")
  if ((removed > 0)); then
    echo "SKIPPED $namespace/$stack: edit it by hand, because $file would replace its containers or volumes." >&2
    continue
  fi
  account=$(jq --raw-output '.spec.serviceAccountName // "default"' <<<"$current")
  patch=$(sed "s/SERVICE_ACCOUNT/$account/; s/STACK/$stack/" "$file")
  patched=$(kubectl patch stacks.pulumi.com "$stack" --namespace "$namespace" --type merge --patch "$patch")
  echo "$patched"
  if [[ $patched == *'(no change)' ]]; then retry_failed "$stack"; fi
  kubectl wait stacks.pulumi.com "$stack" --namespace "$namespace" --for condition=Ready --timeout 1h
done
