#!/usr/bin/env bash
# Stops new exchanges for an owner of access tokens, in every OIDC issuer of an organization: docs/incidents.md. It needs neither a cluster
# nor a deployment. It turns the allow policies that can be for the owner into deny policies, also those with a pattern, and appends them
# to a file, from which `undo` turns back only these. Issued tokens keep working, and the script prints until when.
#
# An update of an access stack can undo it there: only `suspended: true` lasts.
#
# Requires the Pulumi CLI, signed in as an organization admin, and jq.
#
# Usage: stop-exchanges.sh ORGANIZATION OWNER
#        stop-exchanges.sh undo FILE
#
# OWNER is team:NAME, user:LOGIN, runner:ID, role:ID, organization (with and without roles), or issuer:NAME (all owners of one issuer).
set -euo pipefail

# Without a maximum, an issuer grants tokens for up to 25 hours.
readonly LONGEST_SECONDS=90000

# shellcheck disable=SC2016 # The variables are those of jq.
readonly FUNCTIONS='
  # In a pattern, "*" is any characters, "?" zero or one, and "." exactly one. Pulumi Cloud does not distinguish owners by case.
  def matches($pattern):
    ($pattern | gsub("(?<it>[\\\\^$+(){}|\\[\\]])"; "\\\(.it)") | gsub("\\?"; ".?") | gsub("\\*"; ".*")) as $expression
    | test("^\($expression)$"; "i");

  # Prints the owner of a policy, such as team:team-a; nothing for an unknown type of token.
  def owner:
    if .tokenType == "team" and (.teamName // "") != "" then "team:\(.teamName)"
    elif .tokenType == "personal" and (.userLogin // "") != "" then "user:\(.userLogin)"
    elif .tokenType == "runner" and (.runnerID // "") != "" then "runner:\(.runnerID)"
    elif .tokenType == "organization" and (.roleID // "") != "" then "role:\(.roleID)"
    elif .tokenType == "organization" then "organization"
    else empty end;

  def can_be_for($wanted):
    [owner] as [$owner]
    | ($wanted | startswith("issuer:"))
      or ($wanted == "organization" and .tokenType == "organization")
      or ($owner != null and ($wanted | matches($owner)));

  # A new issuer has such a policy, which denies everything. Pulumi Cloud rejects it in an update.
  def is_default: .decision == "deny" and any(.rules // {} | .[]; . == "");

  def to_send: map(select(is_default | not) | del(.id));
'

main() {
  if (($# == 2)) && [[ $1 == undo && -r $2 ]]; then
    undo "$2"
  elif (($# == 2)) && [[ $2 =~ ^((team|user|runner|role|issuer):.+|organization)$ ]]; then
    stop "$1" "$2"
  else
    sed -n '/^# Usage/,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 64
  fi
}

# Stops an owner ($2) in each issuer of an organization ($1).
stop() {
  local organization=$1 wanted=$2
  local issuers id name result file failed=0 stopped=()
  issuers=$(pulumi api "/api/orgs/$organization/oidc/issuers")
  file=$(mktemp "stopped-$(date -u +%Y-%m-%dT%H-%M-%S)-XXXX")
  while IFS=$'\t' read -r id name; do
    if [[ $wanted == issuer:* && $wanted != "issuer:$name" && $wanted != "issuer:$id" ]]; then
      continue
    fi
    if ! result=$(stop_in_issuer "$organization" "$wanted" "$id" "$name" "$file"); then
      failed=$((failed + 1))
      echo "NOT STOPPED in the issuer $name ($id)" >&2
    elif [[ -n $result ]]; then
      stopped+=("$id")
      echo "$result"
    fi
  done < <(jq --raw-output '.oidcIssuers[] | [.id, .name] | @tsv' <<<"$issuers")

  if [[ -s $file ]]; then
    echo "To undo this later: bash $0 undo $PWD/$file"
  else
    rm "$file"
  fi
  if ((failed > 0)); then
    echo "NOT STOPPED: $failed issuers may still grant tokens of $wanted. Run this again, or change them in Pulumi Cloud." >&2
    exit 1
  fi
  if ((${#stopped[@]} == 0)); then
    echo "NOT STOPPED: no issuer has a policy for $wanted. Check the spelling." >&2
    exit 1
  fi
  echo "Stopped: no issuer grants tokens of $wanted any more. Issued ones expire by $(last_expiration "$issuers" "${stopped[@]}")."
}

# Denies an owner ($2) in one issuer ($3, named $4) of an organization ($1), and appends what was allowed to a file ($5). Prints what
# is denied; nothing if no policy is for the owner. Fails if the issuer may still grant tokens, such as for an unknown type of token.
stop_in_issuer() {
  local organization=$1 wanted=$2 id=$3 name=$4 file=$5
  local policies plan
  policies=$(pulumi api "/api/orgs/$organization/auth/policies/oidcissuers/$id") || return
  plan=$(jq --compact-output --arg wanted "$wanted" --arg organization "$organization" --arg issuer "$id" "$FUNCTIONS"'
    (.policies // []) as $all
    | [$all[] | select((is_default | not) and can_be_for($wanted))] as $own
    | [$own[] | select(.decision != "deny")] as $allowing
    | {
        id,
        owners: ($own | map([owner] | first // "an unknown owner") | unique | join(", ")),
        unknown: ([$all[] | select([owner] == [] and .decision != "deny" and (can_be_for($wanted) | not)) | .tokenType]
          | unique | join(", ")),
        allowing: ($allowing | length),
        saved: { $organization, $issuer, policies: ($allowing | to_send) },
        body: { policies: ($all | to_send | map(if can_be_for($wanted) then .decision = "deny" else . end)) }
      }' <<<"$policies") || return

  if jq --exit-status '.allowing > 0' <<<"$plan" >/dev/null; then
    # Saved first, so that a lost answer loses nothing.
    jq --compact-output .saved <<<"$plan" >>"$file" || return
    replace_policies "$organization" "$plan" || return
  fi
  if jq --exit-status '.unknown != ""' <<<"$plan" >/dev/null; then
    jq --raw-output '"This script does not know whose tokens of the type \(.unknown) are."' <<<"$plan" >&2
    return 1
  fi
  jq --raw-output --arg name "$name" '
    select(.owners != "") | "\($name): denies \(.owners)\(if .allowing == 0 then ", as before" else "" end)"' <<<"$plan"
}

# Turns back the policies of a file ($1), as far as they are still there and denied.
undo() {
  local saved organization issuer policies plan failed=0
  while IFS= read -r saved; do
    organization=$(jq --raw-output .organization <<<"$saved")
    issuer=$(jq --raw-output .issuer <<<"$saved")
    if policies=$(pulumi api "/api/orgs/$organization/auth/policies/oidcissuers/$issuer") &&
      plan=$(jq --compact-output --argjson saved "$saved" "$FUNCTIONS"'
        def was_allowed: del(.decision) as $it | any($saved.policies[]; del(.decision) == $it);
        (.policies // [] | to_send) as $all
        | { id, restored: ($all | map(select(was_allowed)) | length),
            body: { policies: ($all | map(if was_allowed then .decision = "allow" else . end)) } }' <<<"$policies") &&
      { jq --exit-status '.restored == 0' <<<"$plan" >/dev/null || replace_policies "$organization" "$plan"; }; then
      jq --raw-output --arg issuer "$issuer" '"Policies restored in the issuer \($issuer): \(.restored)"' <<<"$plan"
    else
      failed=1
      echo "NOT RESTORED in the issuer $issuer. Run this again." >&2
    fi
  done <"$1"
  return "$failed"
}

# Replaces the policies of an issuer in an organization ($1) by those of a plan ($2).
replace_policies() {
  jq --compact-output .body <<<"$2" |
    pulumi api --method PATCH "/api/orgs/$1/auth/policies/$(jq --raw-output .id <<<"$2")" --input - >/dev/null
}

# Prints when the tokens that these issuers ($2…) of a list ($1) have granted until now expire at the latest.
last_expiration() {
  jq --raw-output --argjson longest "$LONGEST_SECONDS" '
    [.oidcIssuers[] | select(IN(.id; $ARGS.positional[])) | .maxExpiration | if (. // 0) > 0 then . else $longest end]
    | now + max | floor | todate' --args "${@:2}" <<<"$1"
}

main "$@"
