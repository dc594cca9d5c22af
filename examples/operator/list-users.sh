#!/usr/bin/env bash
# Lists the Stacks and workloads that name a Secret: KIND/NAME. Requires kubectl and jq.
#
# Usage: list-users.sh SECRET NAMESPACE
set -euo pipefail

kubectl get stacks.pulumi.com,pods,cronjobs,jobs,deployments,statefulsets,daemonsets --namespace "$2" --output json |
  jq --raw-output --arg secret "$1" '
    .items[]
    | select(any(.spec | .. | objects;
        [.name?, .secretName?, .accessTokenSecret?, .gitAuthSecret?, .envSecrets[]?] | index($secret)))
    | "\(.kind)/\(.metadata.name)"'
