#!/usr/bin/env bash
# Adds this stack's allow policies to GitHub's issuer in an organization that has it already, or removes them:
#
#   bash policies.sh add ORGANIZATION
#   bash policies.sh remove ORGANIZATION     before `pulumi destroy`
#
# All other policies stay as they are. Only the default deny of a new issuer is removed, since the API rejects it. Requires jq,
# and the Pulumi CLI, logged in as an admin of the organization. Can be run again.
set -euo pipefail

main() {
  if (($# != 2)) || [[ $1 != add && $1 != remove ]]; then
    echo "usage: bash policies.sh add|remove ORGANIZATION" >&2
    exit 64
  fi
  local action=$1 organization=$2 url ours issuer policy body
  url=$(pulumi stack output githubIssuerUrl </dev/null)
  ours=$(pulumi stack output policies --json </dev/null | jq --arg organization "$organization" '.[$organization] // []')
  issuer=$(api "/api/orgs/$organization/oidc/issuers" |
    jq --raw-output --arg url "$url" '.oidcIssuers[] | select(.url == $url).id')
  if [[ $ours == "[]" ]]; then
    echo "No stack of the configuration belongs to $organization." >&2
    exit 1
  elif [[ -z $issuer ]]; then
    echo "$organization has no OIDC issuer $url: pulumi config set githubIssuer create" >&2
    exit 1
  fi
  policy=$(api "/api/orgs/$organization/auth/policies/oidcissuers/$issuer")

  # A PATCH replaces the whole list, which must not be empty: if no policy is left, this sends a deny that matches no token.
  body=$(jq --arg action "$action" --argjson ours "$ours" '
    def identity: { decision, tokenType, teamName, userLogin, rules };
    .policies
    | map(select(.rules.sub != "" and (identity as $policy | $ours | all(identity != $policy))))
    | if $action == "add" then . + $ours else . end
    | { policies: (if . == [] then [{ decision: "deny", tokenType: "organization", rules: { sub: "none" } }] else . end) }
  ' <<<"$policy")
  # What others wrote is shown in ASCII: other characters can change what a terminal shows, or their order.
  api -X PATCH "/api/orgs/$organization/auth/policies/$(jq --raw-output .id <<<"$policy")" --body "$body" |
    jq --ascii-output '.policies[] | "\(.decision) \(.tokenType) token: \(.rules.sub)"'
}

# `pulumi api` reads standard input: the terminal's next line, or the rest of a script.
api() {
  pulumi api "$@" --output=json </dev/null
}

main "$@"
