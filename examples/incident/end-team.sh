#!/usr/bin/env bash
# Ends the token exchanges of a Pulumi team in every cluster of an organization: docs/incidents.md. In every OIDC issuer, it replaces the
# team's allow policies by deny policies, because Pulumi Cloud accepts no empty list of policies. Issued tokens keep working.
#
# `pulumi up --refresh` in an access stack undoes it there, and so does any update that changes its list of service accounts.
#
# Usage: end-team.sh ORGANIZATION TEAM
set -euo pipefail

if (($# != 2)); then
  echo 'Usage: end-team.sh ORGANIZATION TEAM' >&2
  exit 64
fi
organization=$1 team=$2

# Prints the ID of the policies, and then what replaces them, if one is for the team. Pulumi Cloud does not distinguish names by case.
denying() {
  jq --raw-output --compact-output --arg team "$team" '
    def is_for_team: ((.teamName // "") | ascii_downcase) == ($team | ascii_downcase);
    select(any(.policies[]; is_for_team))
    | .id, { policies: .policies | map(del(.id) | if is_for_team then .decision = "deny" else . end) }'
}

# Prints the ID of an issuer if it has policies for the team.
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
    echo "FAILED: issuer $issuer may still grant the team's token." >&2
  fi
done
echo "$team is now denied by $denied issuers."
if ((failed > 0 || denied == 0)); then exit 1; fi
