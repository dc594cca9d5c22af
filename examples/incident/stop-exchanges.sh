#!/usr/bin/env bash
# Stops new exchanges for an owner of access tokens, in every cluster of an organization: docs/incidents.md. In every OIDC issuer, it
# replaces the owner's allow policies by deny policies, because Pulumi Cloud accepts no empty list of policies. Issued tokens keep working,
# and the script prints until when. Requires the Pulumi CLI, signed in as an organization admin, and jq.
#
# `pulumi up --refresh` in an access stack undoes it there, and so does any update that changes its list of service accounts.
#
# Usage: stop-exchanges.sh ORGANIZATION OWNER
# The owner is team:NAME, user:LOGIN, runner:ID, or role:ID, or for organization tokens without a role, organization.
set -euo pipefail

if (($# != 2)) || [[ ! $2 =~ ^((team|user|runner|role):.+|organization)$ ]]; then
  echo 'Usage: stop-exchanges.sh ORGANIZATION (team:NAME | user:LOGIN | runner:ID | role:ID | organization)' >&2
  exit 64
fi
organization=$1 owner=$2

# Prints the ID of the policies, and then what replaces them, if one is for the owner. Pulumi Cloud does not distinguish names by case.
denying() {
  jq --raw-output --compact-output --arg owner "$owner" '
    def owner: if .teamName // "" != "" then "team:" + .teamName
      elif .userLogin // "" != "" then "user:" + .userLogin
      elif .runnerID // "" != "" then "runner:" + .runnerID
      elif .roleID // "" != "" then "role:" + .roleID
      else "organization" end;
    def is_for_owner: (owner | ascii_downcase) == ($owner | ascii_downcase);
    select(any(.policies[]?; is_for_owner))
    | .id, { policies: .policies | map(del(.id) | if is_for_owner then .decision = "deny" else . end) }'
}

# Prints the ID of an issuer if it has policies for the owner.
deny_in_issuer() {
  local policies changes id body
  policies=$(pulumi api "/api/orgs/$organization/auth/policies/oidcissuers/$1") || return
  changes=$(denying <<<"$policies") || return
  [[ $changes ]] || return 0
  { read -r id && read -r body; } <<<"$changes"
  pulumi api --method PATCH "/api/orgs/$organization/auth/policies/$id" --input - <<<"$body" >/dev/null || return
  echo "$1"
}

# Prints when the tokens that the given issuers granted until now expire at the latest.
last_expiration() {
  jq --raw-output '
    [.oidcIssuers[] | select(IN(.id; $ARGS.positional[])) | .maxExpiration]
    | if all then now + max | floor | todate else "unknown: an issuer has no maximum" end' --args "$@" <<<"$issuers"
}

issuers=$(pulumi api "/api/orgs/$organization/oidc/issuers")
ids=$(jq --raw-output '.oidcIssuers[].id' <<<"$issuers")
denying_issuers=() failed=0
for id in $ids; do
  if denying_issuer=$(deny_in_issuer "$id"); then
    [[ ! $denying_issuer ]] || denying_issuers+=("$denying_issuer")
  else
    failed=$((failed + 1))
    echo "FAILED: issuer $id may still grant tokens of $owner." >&2
  fi
done
echo "Issuers that deny $owner: ${#denying_issuers[@]}"
if ((failed > 0 || ${#denying_issuers[@]} == 0)); then exit 1; fi
echo "Its exchanged tokens expire by: $(last_expiration "${denying_issuers[@]}")"
