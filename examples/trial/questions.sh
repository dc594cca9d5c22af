#!/usr/bin/env bash
# Asks Pulumi Cloud for five access tokens, and prints its answers without the tokens: docs/trial.md. Only the first must be granted as
# it asks. Requires kubectl, curl, and jq, and permission to create `serviceaccounts/token` in the namespace pulumi-trial.
#
# Usage: questions.sh ORGANIZATION [TEAM [OTHER_TEAM]]
# TEAM, OTHER_TEAM: those in Pulumi.trial.yaml, by default pulumi-trial and pulumi-trial-other
set -euo pipefail

organization=$1 team=${2:-pulumi-trial} other=${3:-pulumi-trial-other}
own_audience=urn:pulumi:org:$organization

ask() { # NAME AUDIENCE SCOPE SECONDS TYPE
  kubectl create token "$1" --namespace pulumi-trial --audience "$2" | tr -d '\n' | curl --silent https://api.pulumi.com/api/oauth/token \
    --data "audience=urn:pulumi:org:$organization" --data "expiration=$4" --data "scope=$3" \
    --data grant_type=urn:ietf:params:oauth:grant-type:token-exchange --data "requested_token_type=urn:pulumi:token-type:access_token:$5" \
    --data subject_token_type=urn:ietf:params:oauth:token-type:id_token --data-urlencode subject_token@- |
    jq --compact-output 'if .access_token then "granted for \(.expires_in) s" else . end'
}
ask trial "$own_audience" "team:$team" 600 team    # granted
ask trial "$own_audience" "team:$other" 600 team   # another listed account's token
ask trial sts.amazonaws.com "team:$team" 600 team  # another audience: granted with audienceRule: false
ask trial "$own_audience" "team:$team" 7200 team   # longer than maxExpirationSeconds: shortened or denied
ask trial "$own_audience" "" 600 organization      # another type
