#!/usr/bin/env bash
# Finds the access tokens that a cluster stores, without printing one, and what reads them. It also prints the entries of
# `serviceAccounts` for the service accounts of Stacks that have none yet. Of tokens inside a string that is encoded in base64 as a whole,
# it finds about one in three. Requires kubectl and jq.
#
#   # stores  KIND NAMESPACE NAME KEY     contains a token
#   # writes  KIND NAMESPACE NAME SECRET  copies one from another store
#   # reads   KIND NAMESPACE NAME SECRET  refers to a Secret or ConfigMap that contains one
#   # Stack   NAMESPACE NAME SERVICE_ACCOUNT USES CLI FIELD:SECRET...
#
# USES is what the workspace pod of a Stack uses now: the `stored` token, or the exchange although a token is stored (`both`). `no-pod`:
# it has no ready pod, such as with `workspaceReclaimPolicy: Delete`. CLI is its Pulumi CLI: for the exchange, 3.274.0 or later.
#
# Usage: find-tokens.sh [LOGIN]
# LOGIN: a machine user, whose token the service accounts get instead of a team's
set -euo pipefail

if [[ $# -gt 1 || ${1:-} == -* ]]; then
  echo "Usage: find-tokens.sh [LOGIN]" >&2
  exit 64
fi
readonly token='pul-[0-9a-f]{40}|cHVsL[TW][0-9A-Za-z+/]{52}'
list() { kubectl get "$1" --all-namespaces --output json "${@:2}"; }

# The releases of Helm, whose values and manifests are compressed.
list secrets --field-selector type=helm.sh/release.v1 |
  jq --raw-output '.items[] | [.metadata.namespace, .metadata.name, .data.release] | @tsv' |
  while read -r namespace name release; do
    if base64 --decode <<<"$release" | base64 --decode | gunzip | grep --extended-regexp --quiet "$token"; then
      printf '# stores\tHelm\t%s\t%s\n' "$namespace" "$name"
    fi
  done

kinds=secrets,configmaps,stacks.pulumi.com,workspaces.auto.pulumi.com,deployments,statefulsets,daemonsets,cronjobs
optional=({externalsecrets,secretstores,clustersecretstores}.external-secrets.io applications.argoproj.io
  helmreleases.helm.toolkit.fluxcd.io kustomizations.kustomize.toolkit.fluxcd.io)
for kind in $(kubectl get customresourcedefinitions "${optional[@]}" --ignore-not-found --output jsonpath='{.items[*].metadata.name}'); do
  kinds+=,$kind
done
{
  list "$kinds"
  list pods --selector auto.pulumi.com/component=workspace
} | jq -L "$(dirname "$0")" --raw-output --slurp --arg token "$token" --arg login "${1:-}" '
  include "stacks";
  def id: "\(.metadata.namespace)/\(.metadata.name)";
  def keyed(f): map({key: f, value: .}) | from_entries;
  def place: .kind, .metadata.namespace // "", .metadata.name;
  def keys_with_token:
    . as $it
    | (.data // {} | if $it.kind == "Secret" then map_values(@base64d) else . end),
      (.binaryData // {} | map_values(@base64d)),
      {spec: (.spec | tostring)},
      (.metadata.annotations // {})
    | to_entries[] | select(.value | test($token)) | .key;

  [.[].items[]] as $all
  | ($all | map(select(.kind == "Workspace")) | keyed(id)) as $workspaces
  | ($all | map(select(.kind == "Pod")) | keyed("\(.metadata.namespace)/\(.metadata.labels["auto.pulumi.com/workspace-name"])")) as $pods
  # Without what the operator creates from Stacks.
  | [$all[] | select(.kind != "Pod" and (any(.metadata.ownerReferences[]?; .kind == "Stack" or .kind == "Workspace") | not))] as $objects
  | [$objects[] | {kind, metadata, key: keys_with_token}] as $stores
  | ($stores | map(select(.kind == "Secret" or .kind == "ConfigMap")) | keyed(id)) as $stored
  | def reads: # the names of what contains a token, in the spec of an object
      .metadata.namespace as $own | [.spec | .. | strings] as $strings
      | [$stored[].metadata | select($own == null or .namespace == $own).name | select(IN($strings[]))] | unique;
    def fields: # where a Stack has its token
      reads as $reads
      | [ (.spec.envRefs.PULUMI_ACCESS_TOKEN | values | ["envRefs", .secret.name // .type]),
          (.spec.accessTokenSecret | values | ["accessTokenSecret", .]),
          (.spec.workspaceTemplate | .. | objects | select(.name == "PULUMI_ACCESS_TOKEN")
            | ["env", (.valueFrom // {} | .secretKeyRef // .configMapKeyRef | .name) // "Literal"]) ]
      | . + ($reads - map(.[1]) | map(["other", .])) | map(join(":"));

    [$objects[] | select(.kind == "Stack")
      | {metadata, account: account, fields: fields, login: login($workspaces[id]; $pods[id]), cli: ($workspaces[id] // {} | cli)}
      | select(.fields != [])] as $stacks

  | (($stores[] | ["# stores", place, .key]),
    ($objects[] | select(.kind == "ExternalSecret") | (.spec.target.name // .metadata.name) as $name
      | select($stored["\(.metadata.namespace)/\($name)"]) | ["# writes", place, $name]),
    ($objects[] | select(.kind | IN("Stack", "Secret", "ConfigMap", "ExternalSecret") | not) | . as $it
      | reads[] | ["# reads", ($it | place), .]),
    ($stacks[] | ["# Stack", .metadata.namespace, .metadata.name, .account, (.login | sub("exchange"; "both")), .cli] + .fields)
    | @tsv),
    ($stacks | group_by([.metadata.namespace, .account])[]
      | (map(.metadata.name) | join(", ")) as $names | .[0] | .metadata.namespace as $namespace
      # Every pod of the namespace that names no service account could get the token of `default`.
      | if .account == "default" then "# No entry for \($namespace)/default, which \($names) runs as"
        elif .account as $account | any($all[]; .kind == "ConfigMap" and id == "\($namespace)/\($account)-pulumi-token-exchange") then empty
        else
          "    - namespace: \($namespace)",
          "      name: \(.account) # \($names)",
          "      createServiceAccount: false",
          "      injectToken: false",
          if $login != "" then "      tokenType: personal", "      userLogin: \($login)"
          else "      tokenType: team", "      teamName: \($namespace)" end
        end)'
