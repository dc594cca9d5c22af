#!/usr/bin/env bash
# Sets up this repository on GitHub for the pipeline. Requires jq, and gh, logged in as an admin of the repository.
#
#   bash github.sh environment OWNER/NAME [REVIEWER…]   a reviewer is a login, or a team as ORGANIZATION/TEAM
#   bash github.sh protect OWNER/NAME
#   bash github.sh check OWNER/NAME PREFIX [REVIEWER…]  changes nothing; `pulumi up` runs it
#
# Stops at the first error. Each command can be run again.
set -euo pipefail
shopt -s inherit_errexit

# The name of an environment is not case-sensitive.
readonly production='.environments[] | select(.name | ascii_downcase == "production")'

# The rules of main, in GitHub's own words. App 15368 is GitHub Actions: no other one can report the check.
# https://docs.github.com/en/rest/repos/rules
readonly rules='[
  { "type": "deletion" },
  { "type": "non_fast_forward" },
  { "type": "pull_request", "parameters": {
    "required_approving_review_count": 1,
    "require_code_owner_review": true,
    "require_last_push_approval": true,
    "dismiss_stale_reviews_on_push": true,
    "required_review_thread_resolution": false
  } },
  { "type": "required_status_checks", "parameters": {
    "required_status_checks": [{ "context": "checks", "integration_id": 15368 }],
    "strict_required_status_checks_policy": false
  } }
]'

main() {
  case ${1:-} in
    environment) (($# >= 2)) || usage ;;
    protect) (($# == 2)) || usage ;;
    check) (($# >= 3)) || usage ;;
    *) usage ;;
  esac
  "$@"
}

usage() {
  cat >&2 <<'END'
usage: bash github.sh environment OWNER/NAME [REVIEWER...]
       bash github.sh protect OWNER/NAME
       bash github.sh check OWNER/NAME PREFIX [REVIEWER...]
END
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

  local reviewers
  reviewers=$(reviewers_of "$@")

  # A PUT replaces all of an environment's rules: those that exist are sent again.
  local existing body
  existing=$(gh api "repos/$repository/environments" --paginate --jq "$production"' | {
      can_admins_bypass,
      wait_timer: .protection_rules | map(.wait_timer // empty)[0],
      prevent_self_review: .protection_rules | map(.prevent_self_review // empty)[0],
      reviewers: .protection_rules | map(.reviewers // empty | map({ type, id: .reviewer.id }))[0]
    }')
  body=$(jq --argjson existing "${existing:-null}" '
    ($existing // {}) + if . == [] then {} else { reviewers: . } end
    | del(.[] | nulls)
    | .deployment_branch_policy = { protected_branches: false, custom_branch_policies: true }
  ' <<<"$reviewers")
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
  echo "  bash github.sh protect $repository"
  echo "  pulumi config set repository $repository"
  echo "  pulumi config set subjectPrefix $(quoted "$prefix")"
  if (($# > 0)); then
    echo "  pulumi config set reviewers $(quoted "$(jq --null-input --compact-output '$ARGS.positional' --args "$@")")"
  fi
}

# Prints reviewers as GitHub's API has them: the list of their types and IDs.
reviewers_of() {
  local reviewer
  for reviewer in "$@"; do
    if [[ $reviewer == */* ]]; then
      gh api "orgs/${reviewer%/*}/teams/${reviewer#*/}" --jq '{ type: "Team", id }'
    else
      gh api "users/$reviewer" --jq '{ type: "User", id }'
    fi
  done | jq --slurp --sort-keys unique
}

# Creates the ruleset `pipeline`, or resets it, so that main changes only by a pull request that passed its checks and that
# another person has approved. Then turns off that workflows approve, since a pull request could approve itself.
protect() {
  local repository=$1
  local path=repos/$repository

  local ruleset id
  ruleset=$(jq '{
    name: "pipeline",
    target: "branch",
    enforcement: "active",
    bypass_actors: [],
    conditions: { ref_name: { include: ["refs/heads/main"], exclude: [] } },
    rules: .
  }' <<<"$rules")
  id=$(gh api "$path/rulesets?includes_parents=false" --paginate --jq '.[] | select(.name == "pipeline").id')
  if [[ -n $id ]]; then
    gh api -X PUT "$path/rulesets/$id" --input - --silent <<<"$ruleset"
  else
    gh api "$path/rulesets" --input - --silent <<<"$ruleset"
  fi

  gh api -X PUT "$path/actions/permissions/workflow" -F can_approve_pull_request_reviews=false --silent
  echo "The main branch of $repository changes only by pull requests that code owners have approved. No one can bypass it."
}

# Prints the repository's ID, or everything that is wrong. Without the branch rule, any branch could use the identity that
# deploys. Without the rules of main, everyone with write access can change it. If workflows can approve pull requests, a
# pull request can approve itself.
check() {
  local repository=$1 expected=$2
  local path=repos/$repository
  local failed=0
  shift 2

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

  local environment allowed="every branch"
  # https://docs.github.com/en/rest/deployments/environments and /branch-policies
  environment=$(gh api "$path/environments" --paginate --jq "$production")
  if [[ $(jq .deployment_branch_policy.custom_branch_policies <<<"$environment") == true ]]; then
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

  local reviewers configured
  reviewers=$(jq '.protection_rules[].reviewers // empty | .[] | { type, id: .reviewer.id }' <<<"$environment" |
    jq --slurp --sort-keys unique)
  configured=$(reviewers_of "$@")
  if (($# > 0)) && [[ $reviewers != "$configured" ]]; then
    problem "The reviewers of the production environment of $repository are not those of the configuration. To change them:" \
      "bash github.sh environment $repository $*"
    failed=1
  fi

  local missing
  missing=$(missing_rules "$path")
  if [[ -n $missing ]]; then
    problem "The main branch of $repository is not protected: no ruleset that is enforced for it, and that no one can bypass, \
has ${missing//$'\n'/, }. To create one:" "bash github.sh protect $repository"
    failed=1
  fi

  local can_approve
  # https://docs.github.com/en/rest/actions/permissions
  can_approve=$(gh api "$path/actions/permissions/workflow" --jq .can_approve_pull_request_reviews)
  if [[ $can_approve != false ]]; then
    problem "The workflows of $repository can approve pull requests, such as the one that changes the workflow. \
To turn it off:" "bash github.sh protect $repository"
    failed=1
  fi

  ((failed)) || echo "$id"
  return "$failed"
}

# Prints what the effective rules of main lack, one rule or parameter a line. The organization's count too. Those that
# someone can bypass do not count, and neither do those whose bypass list GitHub shows only to people who can edit it.
missing_rules() {
  local path=$1

  local effective rulesets strict
  effective=$(gh api "$path/rules/branches/main" --paginate --jq '.[]')
  rulesets=$(jq .ruleset_id <<<"$effective" | sort --unique)
  strict=$(for id in $rulesets; do
    gh api "$path/rulesets/$id" --jq 'select(.bypass_actors == []).id'
  done | jq --slurp .)

  # In jq, null is less than false, and false is less than true.
  jq --slurp --raw-output --argjson required "$rules" --argjson strict "$strict" '
    def satisfies($required):
      if $required | type == "array" then $required - map({ context, integration_id }) == [] else . >= $required end;
    map(select(.ruleset_id | IN($strict[])))
    | group_by(.type)
    | map({ key: .[0].type, value: map(.parameters // {}) })
    | from_entries as $effective
    | $required[]
    | $effective[.type] as $alternatives
    | if $alternatives == null then .type
      else
        (.parameters // {}) | to_entries[] | . as { $key, $value }
        | select(any($alternatives[]; .[$key] | satisfies($value)) | not).key
      end
  ' <<<"$effective"
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
