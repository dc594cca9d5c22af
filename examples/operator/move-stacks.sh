#!/usr/bin/env bash
# Moves the Stacks of a service account, all at the same time, and prints the result of each. It first waits for a running update, because
# deleting the pod of a Stack cancels its update. If a Stack fails, the others continue, and the exit code is 1. You can run it again.
# Requires kubectl and jq.
#
# Usage: move-stacks.sh ACTION NAMESPACE SERVICE_ACCOUNT [AUDIENCE]
# ACTION: replace-pods  after `injectToken` has changed
#         mount         mounts the exchange, where the cluster is older than Kubernetes 1.36
#         unmount       removes the mount
#         remove-token  removes `accessTokenSecret`, and PULUMI_ACCESS_TOKEN from `envRefs`, if the Stack uses the exchange
# AUDIENCE: the entry's tokenAudience, if it has one, for `mount`
#
# All actions except replace-pods change the Stacks, and wait until the update that this starts has ended.
set -euo pipefail

if [[ $# -lt 3 || ! $1 =~ ^(replace-pods|mount|unmount|remove-token)$ ]]; then
  echo "Usage: move-stacks.sh replace-pods|mount|unmount|remove-token NAMESPACE SERVICE_ACCOUNT [AUDIENCE]" >&2
  exit 64
fi
action=$1 namespace=$2 account=$3 audience=${4:-}
# Runs a program with the functions of stacks.jq.
jq() {
  command jq -L "$(dirname "$0")" --raw-output --arg action "$action" --arg account "$account" "${@:2}" "include \"stacks\"; $1"
}

# Prints a Stack, its Workspace, and its pod, by kind.
state() {
  kubectl get "stacks.pulumi.com/$1" "workspaces.auto.pulumi.com/$1" "pods/$1-workspace-0" --namespace "$namespace" \
    --ignore-not-found --output json | jq '.items | map({key: .kind, value: .}) | from_entries'
}

move() {
  local before old_pod old_update update announced="" login patch="" result="" late=false end
  while true; do
    before=$(state "$1")
    update=$(jq '.Stack.status.currentUpdate.name // ""' <<<"$before")
    [[ -n $update ]] || break
    [[ $update == "$announced" ]] || echo "$namespace/$1: waiting for the update $update" >&2
    announced=$update
    sleep 5
  done
  old_pod=$(jq '.Pod.metadata.uid // ""' <<<"$before")
  old_update=$(jq '.Stack.status.lastUpdate.name // ""' <<<"$before")
  login=$(jq 'login(.Workspace; .Pod)' <<<"$before")

  if [[ $action == remove-token && $login != exchange ]]; then
    echo "$namespace/$1: SKIPPED, because it does not use the exchange: $login"
    return 1
  elif [[ $action != replace-pods ]]; then
    patch=$(jq '.Stack | patch($action; $account; $audience)' --arg audience "$audience" <<<"$before")
  fi
  if [[ -z $old_pod$patch || ($action != replace-pods && -z $patch) ]]; then
    echo "$namespace/$1: nothing to do"
    return
  fi
  if [[ -n $patch ]]; then
    kubectl patch stacks.pulumi.com "$1" --namespace "$namespace" --type json --patch-file /dev/stdin <<<"$patch" >/dev/null
  fi
  # The operator tries to initialize a pod only once.
  if [[ $action == replace-pods || $login == no-pod ]]; then
    kubectl delete pod "$1-workspace-0" --namespace "$namespace" --ignore-not-found >/dev/null
  fi

  end=$((SECONDS + 900))
  while [[ -z $result ]]; do
    sleep 2
    ((SECONDS <= end)) || late=true
    result=$(state "$1" | jq 'outcome($action; $old_pod; $old_update; $late)' --arg old_pod "$old_pod" \
      --arg old_update "$old_update" --argjson late "$late")
  done
  echo "$namespace/$1: $result"
  [[ $result != FAILED* ]]
}

if [[ $action == mount && -z $audience ]]; then
  audience=urn:pulumi:org:$(kubectl get configmap "$account-pulumi-token-exchange" --namespace "$namespace" \
    --output jsonpath='{.data.organization}')
fi
names=$(kubectl get stacks.pulumi.com --namespace "$namespace" --output json | jq '.items[] | select(account == $account).metadata.name')
if [[ -z $names ]]; then
  echo "No Stack runs as $namespace/$account." >&2
  exit 1
fi

# Ctrl+C does not reach what runs in the background.
trap 'jobs -p | xargs kill 2>/dev/null || true' EXIT
jobs=() failed=()
for name in $names; do
  move "$name" &
  jobs+=("$! $name")
done
for job in "${jobs[@]}"; do
  wait "${job% *}" || failed+=("$namespace/${job#* }")
done
if ((${#failed[@]} > 0)); then
  echo "FAILED: ${failed[*]}" >&2
  exit 1
fi
