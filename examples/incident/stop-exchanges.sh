#!/usr/bin/env bash
# Stops new exchanges for an owner of access tokens, in every cluster of an organization: docs/incidents.md. In every OIDC issuer, it
# replaces the owner's allow policies by deny policies, because Pulumi Cloud accepts no empty list of policies. Issued tokens keep working.
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
    select(any(.policies[]; is_for_owner))
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

issuers=$(pulumi api "/api/orgs/$organization/oidc/issuers" | jq --raw-output '.oidcIssuers[].id')
denied=0 failed=0
for issuer in $issuers; do
  if denied_issuer=$(deny_in_issuer "$issuer"); then
    [[ ! $denied_issuer ]] || denied=$((denied + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: issuer $issuer may still grant tokens of $owner." >&2
  fi
done
echo "$owner is now denied by $denied issuers."
if ((failed > 0 || denied == 0)); then exit 1; fi
