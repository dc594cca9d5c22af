#!/usr/bin/env bash
# Prints the entries of `serviceAccounts` for the service accounts of Stacks, from the output of list-variables.sh on standard input. It
# names each team after its namespace. Entries for the service account `default` are left out, since every pod of the namespace could
# get their token.
#
# Usage: print-entries.sh FILE [LOGIN]
# FILE: a line for each Stack, with its namespace and its name
# LOGIN: a user, whose token the service accounts get instead of a team's
set -euo pipefail

login=${2:-}

awk 'NR == FNR { listed[$1, $2]; next } ($1, $2) in listed && $3 != "default" { print $1, $3 }' "$1" - | sort -u |
  while read -r namespace name; do
    cat <<ENTRY
    - namespace: $namespace
      name: $name
      createServiceAccount: false
      injectToken: false
ENTRY
    if [[ -n $login ]]; then
      printf '      tokenType: personal\n      userLogin: %s\n' "$login"
    else
      printf '      tokenType: team\n      teamName: %s\n' "$namespace"
    fi
  done
