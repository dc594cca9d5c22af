#!/usr/bin/env bash
# Sets the commit of the component that a stage uses, and for the workflows, of its policy pack: docs/clusters.md. Run it at the root
# of the fleet's repository. A stack with `"policyPack": "none"` in .github/pipeline.json stays without a pack.
#
# Usage: upgrade.sh STAGE COMMIT
set -euo pipefail

if (($# != 2)); then
  echo 'Usage: upgrade.sh STAGE COMMIT' >&2
  exit 64
fi
stage=$1 commit=$2

sed -E -i.old "s/component@[0-9A-Za-z]+/component@$commit/" "$stage/Pulumi.yaml"
rm "$stage/Pulumi.yaml.old"

if [[ -e .github/pipeline.json ]]; then
  changed=$(jq --arg stage "$stage" --arg ref "$commit" '
    .policyPack as $common
    | (.stacks[] | select(.directory == $stage and (.policyPack // $common) != "none")).policyPack =
      { repository: "OWNER/eks-pulumi-oidc", ref: $ref }
  ' .github/pipeline.json)
  printf '%s\n' "$changed" >.github/pipeline.json
fi
