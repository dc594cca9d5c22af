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
stage=${1%/} # as the shell completes the name of a directory
commit=$2

if [[ ! -e $stage/Pulumi.yaml ]]; then
  echo "$stage/Pulumi.yaml does not exist. STAGE must be a directory of this one, such as dev." >&2
  exit 64
fi
if [[ ! $commit =~ ^[0-9a-f]{40}$ ]]; then
  echo "\"$commit\" is not a commit, which has 40 hexadecimal digits." >&2
  exit 64
fi

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
