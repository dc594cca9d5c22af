#!/usr/bin/env bash
# Sets up this repository on GitHub for the pipeline. Requires jq, and gh, logged in as an admin of the repository.
#
#   bash github.sh environment OWNER/NAME [REVIEWER…]   a reviewer is a login, or a team as ORGANIZATION/TEAM
#   bash github.sh check OWNER/NAME PREFIX              changes nothing; `pulumi up` runs it
#
# Stops at the first error. Each command can be run again.
set -euo pipefail

# The name of an environment is not case-sensitive.
readonly production='.environments[] | select(.name | ascii_downcase == "production")'

main() {
  case ${1:-} in
    environment) (($# >= 2)) || usage ;;
    check) (($# == 3)) || usage ;;
    *) usage ;;
  esac
  "$@"
}

usage() {
  echo "usage: bash github.sh environment OWNER/NAME [REVIEWER...] | check OWNER/NAME PREFIX" >&2
  exit 64
}

# Creates the environment `production`, or changes it, so that only the main branch can deploy to it. "Protected
# branches" is not enough: where no branch is protected, it allows every branch.
environment() {
  local repository=$1
  local path=repos/$repository/environments/production
  shift

  local prefix
  prefix=$(subject_prefix "$repository")

  local reviewers=() reviewer
  for reviewer in "$@"; do
    if [[ $reviewer == */* ]]; then
      reviewer=$(gh api "orgs/${reviewer%/*}/teams/${reviewer#*/}" --jq '{ type: "Team", id }')
    else
      reviewer=$(gh api "users/$reviewer" --jq '{ type: "User", id }')
    fi
    reviewers+=("$reviewer")
  done

  # A PUT replaces all of an environment's rules: those that exist are sent again.
  local existing body
  existing=$(gh api "repos/$repository/environments" --paginate --jq "$production"' | {
      can_admins_bypass,
      wait_timer: .protection_rules | map(.wait_timer // empty)[0],
      prevent_self_review: .protection_rules | map(.prevent_self_review // empty)[0],
      reviewers: .protection_rules | map(.reviewers // empty | map({ type, id: .reviewer.id }))[0]
    }')
  body=$(printf '%s\n' "${reviewers[@]}" | jq --slurp --argjson existing "${existing:-null}" '
    ($existing // {}) + if . == [] then {} else { reviewers: . } end
    | del(.[] | nulls)
    | .deployment_branch_policy = { protected_branches: false, custom_branch_policies: true }')
  gh api -X PUT "$path" --input - --silent <<<"$body"

  local allowed
  allowed=$(gh api "$path/deployment-branch-policies" --paginate \
    --jq '.branch_policies[] | "\(.id) \(.type // "branch") \(.name)"')
  if ! grep --quiet '^[0-9]* branch main$' <<<"$allowed"; then
    gh api "$path/deployment-branch-policies" -f name=main -f type=branch --silent
  fi

  local id kind name
  while read -r id kind name; do
    if [[ -n $id && "$kind $name" != "branch main" ]]; then
      gh api -X DELETE "$path/deployment-branch-policies/$id" --silent
      echo "Removed the $(visible "$kind $name") from those that can deploy to production."
    fi
  done <<<"$allowed"

  echo "Only the main branch can deploy to the production environment of $repository. Next:"
  echo "  pulumi config set repository $repository"
  echo "  pulumi config set subjectPrefix $(quoted "$prefix")"
}

# Prints the repository's ID, or everything that is wrong. Without the branch rule, any branch could use the identity that
# deploys. Without an approval, everyone with write access can change main. If workflows can approve pull requests, a pull
# request can approve itself.
check() {
  local repository=$1 expected=$2
  local path=repos/$repository
  local failed=0

  local id
  # gh follows redirects of renamed repositories, and GH_HOST. Another repository could have the name in AWS's trust policy.
  id=$(gh api "$path" --jq "select(.html_url == \"https://github.com/$repository\").id")
  if [[ -z $id ]]; then
    problem "$repository is not the name of a repository on github.com. To see its name:" "gh api $path --jq .html_url"
    failed=1
  fi

  local prefix
  prefix=$(subject_prefix "$repository") || failed=1
  if [[ -n $prefix && $prefix != "$expected" ]]; then
    problem "The sub claims of $repository begin with '$(visible "$prefix")', not with '$expected':" \
      "pulumi config set subjectPrefix $(quoted "$prefix")"
    failed=1
  fi

  local has_branch_list allowed="every branch"
  # https://docs.github.com/en/rest/deployments/environments and /branch-policies
  has_branch_list=$(gh api "$path/environments" --paginate \
    --jq "$production | .deployment_branch_policy.custom_branch_policies")
  if [[ $has_branch_list == true ]]; then
    allowed=$(gh api "$path/environments/production/deployment-branch-policies" --paginate \
      --jq '.branch_policies[] | "\(.type // "branch") \(.name)"')
    allowed=${allowed//$'\n'/, }
  fi
  if [[ $allowed != "branch main" ]]; then
    problem "The production environment of $repository must allow only the main branch, but allows \
$(visible "${allowed:-no branch}"). Identities that exist already still trust it. To change it:" \
      "bash github.sh environment $repository"
    failed=1
  fi

  local approvals
  # https://docs.github.com/en/rest/repos/rules: those of rulesets that are enforced, the organization's included.
  approvals=$(gh api "$path/rules/branches/main" --paginate \
    --jq '.[] | select(.type == "pull_request") | .parameters.required_approving_review_count | select(. > 0)')
  if [[ -z $approvals ]]; then
    problem "The main branch of $repository can be changed without an approval: no ruleset requires a pull request with \
one. Create a ruleset for main as in docs/pipeline.md, \"Protect main\":" "https://github.com/$repository/settings/rules"
    failed=1
  fi

  local can_approve
  # https://docs.github.com/en/rest/actions/permissions
  can_approve=$(gh api "$path/actions/permissions/workflow" --jq .can_approve_pull_request_reviews)
  if [[ $can_approve != false ]]; then
    problem "The workflows of $repository can approve pull requests, such as the one that changes the workflow. \
To turn it off:" "gh api -X PUT $path/actions/permissions/workflow -F can_approve_pull_request_reviews=false"
    failed=1
  fi

  ((failed)) || echo "$id"
  return "$failed"
}

# problem SENTENCE COMMAND
#
# Prints a problem, and the command that solves it. It is for the caller to fail.
problem() {
  printf '%s\n\n  %s\n\n' "$1" "$2" >&2
}

# Prints a value from GitHub with every byte escaped that is not printable ASCII: others can change what a terminal
# shows, or the order of the characters.
visible() {
  local LC_ALL=C
  local text=$1 byte index
  for ((index = 0; index < ${#text}; index++)); do
    byte=${text:index:1}
    if [[ $byte == [[:print:]] ]]; then
      printf '%s' "$byte"
    else
      printf '\\x%02x' $(($(printf '%d' "'$byte") & 0xff))
    fi
  done
}

# Prints a value from GitHub as a word for the shell, which is printable ASCII too.
quoted() {
  local LC_ALL=C
  printf '%s' "${1@Q}"
}

# Prints how the sub claims of the repository's ID tokens begin. Fails if the repository customizes them.
# https://docs.github.com/en/rest/actions/oidc
subject_prefix() {
  local repository=$1
  local path=repos/$repository/actions/oidc/customization/sub

  local subject is_default prefix
  subject=$(gh api "$path" --jq "\"\(.use_default) \(.sub_claim_prefix // \"repo:$repository\")\"") || return
  read -r is_default prefix <<<"$subject"
  if [[ $is_default != true ]]; then
    problem "$repository customizes the sub claim of its ID tokens. To use the default:" \
      "gh api -X PUT $path -F use_default=true"
    return 1
  fi
  echo "$prefix"
}

main "$@"
