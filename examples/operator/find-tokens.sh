#!/usr/bin/env bash
# Lists what contains a stored access token in a cluster: kind, namespace, name, and key, never a value. Of tokens inside a string
# that is encoded in base64 as a whole, it finds about one in three. Requires kubectl and jq.
#
# Usage: find-tokens.sh [KIND...]
# KIND: further kinds whose spec can contain a token, such as applications.argoproj.io or helmreleases.helm.toolkit.fluxcd.io
set -euo pipefail

kinds=(secrets configmaps stacks.pulumi.com deployments statefulsets daemonsets cronjobs "$@")
kubectl get "$(IFS=,; echo "${kinds[*]}")" --all-namespaces --output json |
  jq --raw-output '
  .items[] as $it | $it
  | (.data // {} | if $it.kind == "Secret" then map_values(@base64d) else . end),
    (.binaryData // {} | map_values(@base64d)),
    {spec: (.spec | tostring)},
    (.metadata.annotations // {})
  | to_entries[] | select(.value | test("pul-[0-9a-f]{40}|cHVsL[TW][0-9A-Za-z+/]{52}"))
  | [$it.kind, $it.metadata.namespace, $it.metadata.name, .key] | @tsv'

# The releases of Helm, whose values and manifests are compressed.
kubectl get secrets --all-namespaces --field-selector type=helm.sh/release.v1 --output json |
  jq --raw-output '.items[] | [.metadata.namespace, .metadata.name, .data.release] | @tsv' |
  while read -r namespace name release; do
    if base64 --decode <<<"$release" | base64 --decode | gunzip |
      grep --extended-regexp --quiet 'pul-[0-9a-f]{40}|cHVsL[TW][0-9A-Za-z+/]{52}'; then
      printf 'Helm\t%s\t%s\n' "$namespace" "$name"
    fi
  done
