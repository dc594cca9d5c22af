#!/usr/bin/env bash
# Sets up this repository on GitHub, before and after `pulumi up`. Requires gh, logged in as an admin of the repository.
#
#   bash github.sh environment OWNER/NAME [REVIEWER…]   a reviewer is a login, or a team as ORGANIZATION/TEAM
#   bash github.sh check OWNER/NAME PREFIX              changes nothing; `pulumi up` runs it
#   bash github.sh variables OWNER/NAME                 from the outputs of the selected stack
#
# Stops at the first error. Each command can be run again.
set -euo pipefail

main() {
  if (($# < 2)) || [[ ! $1 =~ ^(environment|check|variables)$ ]]; then
    echo "usage: bash github.sh environment OWNER/NAME [REVIEWER...] | variables OWNER/NAME | check OWNER/NAME PREFIX" >&2
    exit 64
  fi
  "$@"
}

# Creates the environment `production`, or changes it, so that only the main branch can deploy to it. "Protected
# branches" is not enough: where no branch is protected, it allows every branch.
environment() {
  local repository=$1 reviewers=() existing body policies prefix
  shift
  local path=repos/$repository/environments/production
  for reviewer in "$@"; do
    if [[ $reviewer == */* ]]; then
      reviewers+=("$(gh api "orgs/${reviewer%/*}/teams/${reviewer#*/}" --jq '{ type: "Team", id }')")
    else
      reviewers+=("$(gh api "users/$reviewer" --jq '{ type: "User", id }')")
    fi
  done

  # A PUT replaces all of an environment's rules: those that exist are sent again.
  existing=$(gh api --paginate "repos/$repository/environments" --jq '
    .environments[] | select(.name == "production") | .protection_rules | {
      wait_timer: map(.wait_timer // empty)[0],
      prevent_self_review: map(.prevent_self_review // empty)[0],
      reviewers: map(.reviewers // empty | map({ type, id: .reviewer.id }))[0]
    }')
  body=$(jq --null-input --argjson existing "${existing:-null}" \
    --argjson reviewers "$(printf '%s\n' "${reviewers[@]}" | jq --slurp .)" '
    ($existing // {}) + if $reviewers == [] then {} else { $reviewers } end
    | del(.[] | nulls)
    | .deployment_branch_policy = { protected_branches: false, custom_branch_policies: true }')
  gh api -X PUT "$path" --input - --silent <<<"$body"

  policies=$(gh api --paginate "$path/deployment-branch-policies" \
    --jq '.branch_policies[] | "\(.id) \(.type // "branch") \(.name)"')
  if ! grep --quiet '^[0-9]* branch main$' <<<"$policies"; then
    gh api "$path/deployment-branch-policies" -f name=main -f type=branch --silent
  fi
  while read -r id kind name; do
    if [[ -n $id && "$kind $name" != "branch main" ]]; then
      gh api -X DELETE "$path/deployment-branch-policies/$id" --silent
      echo "Removed the $kind $name, which could deploy to production."
    fi
  done <<<"$policies"

  echo "Only the main branch can deploy to the production environment of $repository. Next:"
  echo "  pulumi config set repository $repository"
  read -r _ prefix < <(subject_prefix "$repository")
  echo "  pulumi config set subjectPrefix $prefix"
}

# Prints the repository's ID, or everything that is wrong. Without the branch rule, any branch could use the identity that
# deploys.
check() {
  local repository=$1 expected=$2 path=repos/$1 failed=0 id use_default prefix has_branch_list branches=""
  id=$(gh api "$path" --jq .id)
  read -r use_default prefix < <(subject_prefix "$repository")
  if [[ $use_default != true ]]; then
    problem "$repository customizes the sub claim of its ID tokens. To use the default:" \
      "gh api -X PUT $path/actions/oidc/customization/sub -F use_default=true"
  elif [[ $prefix != "$expected" ]]; then
    problem "The sub claims of $repository begin with '$prefix', not with '$expected':" \
      "pulumi config set subjectPrefix '$prefix'"
  fi

  # https://docs.github.com/en/rest/deployments/environments and /branch-policies
  has_branch_list=$(gh api "$path/environments" --paginate --jq '
    .environments[] | select(.name == "production").deployment_branch_policy.custom_branch_policies')
  if [[ $has_branch_list == true ]]; then
    branches=$(gh api "$path/environments/production/deployment-branch-policies" --paginate --jq '
      .branch_policies | map("\(.type // "branch") \(.name)") | join(", ")')
  fi
  if [[ $branches != "branch main" ]]; then
    branches="must allow only the main branch, but allows ${branches:-every branch}"
    problem "The production environment of $repository $branches. To change it:" "bash github.sh environment $repository"
  fi
  ((failed)) || echo "$id"
  return "$failed"
}

problem() {
  failed=1
  printf '%s\n\n  %s\n\n' "$1" "$2" >&2
}

# Prints whether the sub claims of the repository's ID tokens have the default form, and how that begins.
# https://docs.github.com/en/rest/actions/oidc
subject_prefix() {
  gh api "repos/$1/actions/oidc/customization/sub" --jq "\"\(.use_default) \(.sub_claim_prefix // \"repo:$1\")\""
}

# Sets the variables that switch the workflows on.
variables() {
  local outputs
  outputs=$(pulumi stack output variables --json </dev/null)
  for name in $(jq --raw-output 'keys[]' <<<"$outputs"); do
    gh variable set "$name" --repo "$1" --body "$(jq --raw-output --arg name "$name" '.[$name]' <<<"$outputs")"
  done
}

main "$@"
