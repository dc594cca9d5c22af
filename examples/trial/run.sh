#!/usr/bin/env bash
# Asks a real Pulumi Cloud what this project assumes: docs/trial.md. Deploys the program beside it into the cluster that kubectl uses,
# asks the questions of questions.json, prints a table in Markdown, and removes everything.
#
# Usage: run.sh [--yes] [--user LOGIN] [--stack STACK] [--api-url URL] [--other-issuer URL] ORGANIZATION
#
#   --yes           begin without a confirmation
#   --user          the user that a service account acts as, by default you
#   --stack         the stack with the state, by default ORGANIZATION/trial
#   --api-url       the Pulumi Cloud, by default https://api.pulumi.com
#   --other-issuer  another public OIDC issuer, which is registered for a moment, by default https://accounts.google.com
#
# Exit codes:
#
#   0   this project works as it is
#   1   it does not; below the table is whether a setting helps
#   2   not everything that this takes could be asked, or something is left
#   64  invalid arguments, or not confirmed
#
# Requires the Pulumi CLI, Node.js with the packages of the clone, kubectl, curl, and jq. No token is stored, printed, or part of an
# argument list.
set -euo pipefail

readonly name=pulumi-trial # of the namespace, the issuer, the role, and the project of the environment
readonly other_audience=sts.amazonaws.com
# At most: docs/requirements.md, "Cost", with two service accounts.
readonly billed_resources=19
# The answer of an update that has succeeded.
readonly succeeded='{"ok": true, "status": 200, "body": null}'

organization='' user='' stack='' api_url=https://api.pulumi.com other_issuer=https://accounts.google.com is_confirmed=''

# What `look_around` finds.
me='' context='' issuer_url='' versions='' issuers_path=''

# What exists, until `remove` removes it.
directory='' has_stack='' has_environment='' role_id=''

# What `deploy` knows of the issuer, and Pulumi Cloud's answer to the policy of the organization token.
issuer_id='' policy_id='' deployed_policies='' organization_policy=''

# What `ask_about_audiences` finds: whether the program's rule on the audience works; the policies without it, and an exchange with them,
# on which other questions depend.
audience_rule='' policies='' own_token=''

# The questions that were asked, as verdict.jq reads them.
asked=()

main() {
  read_arguments "$@"
  cd "$(dirname "${BASH_SOURCE[0]}")"
  directory=$(mktemp -d)
  trap 'rm -r "$directory"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  look_around
  announce
  confirm

  trap finish EXIT

  local started tokens
  printf -v started '%(%s)T' -1
  tokens=$(request GET /api/user/tokens?maxResults=1000)
  deploy
  progress 'Asking.'
  ask_about_audiences
  ask_about_tokens
  ask_about_roles
  ask_about_job
  ask_about_issuers
  ask_about_lists "$tokens" "$started"
}

read_arguments() {
  while (($# > 0)); do
    case $1 in
      --yes) is_confirmed=yes ;;
      --user | --stack | --api-url | --other-issuer)
        if (($# < 2)); then
          usage
        fi
        set_option "$1" "$2"
        shift
        ;;
      -*) usage ;;
      *)
        if [[ -n $organization ]]; then
          usage
        fi
        organization=$1
        ;;
    esac
    shift
  done
  if [[ -z $organization ]]; then
    usage
  fi
  stack=${stack:-$organization/trial}
  issuers_path=/api/orgs/$organization/oidc/issuers
}

set_option() {
  case $1 in
    --user) user=$2 ;;
    --stack) stack=$2 ;;
    --api-url) api_url=$2 ;;
    --other-issuer) other_issuer=$2 ;;
  esac
}

usage() {
  sed -n 's/^# \(Usage: .*\)/\1/p' "${BASH_SOURCE[0]}" >&2
  exit 64
}

# Reads what the trial needs, and changes nothing. Stops if something is there that the trial would create, and later remove.
look_around() {
  local program
  for program in pulumi node kubectl curl jq; do
    if ! command -v "$program" >/dev/null; then
      stop "$program is not on PATH."
    fi
  done
  if [[ ! -d ../../node_modules ]]; then
    stop 'The packages of the clone are missing: run npm ci.'
  fi

  me=$(required GET /api/user | jq --raw-output .githubLogin)
  user=${user:-$me}
  context=$(kubectl config current-context)
  issuer_url=$(kubectl get --raw /.well-known/openid-configuration | jq --raw-output .issuer)
  versions="Kubernetes $(kubectl version --output json | jq --raw-output .serverVersion.gitVersion), Pulumi CLI $(pulumi version)"

  local found
  found=$(existing_issuers)
  if [[ -n $found ]]; then
    stop "$organization has an issuer already that the trial would register: $found. If an earlier trial was killed, clean up: docs/trial.md."
  fi
  found=$(existing_namespace)
  if [[ -n $found ]]; then
    stop "The cluster has the namespace $name already. If an earlier trial was killed, clean up: docs/trial.md."
  fi
}

# Prints the issuers of the organization that the trial would register, or has registered.
existing_issuers() {
  required GET "$issuers_path" | jq --raw-output --arg name "$name" --arg url "$issuer_url" --arg other "$other_issuer" '
    .oidcIssuers // []
    | map(select(.name == $name or .url == $url or .url == $other) | "\(.name) (\(.url))")
    | join(", ")'
}

existing_namespace() {
  kubectl get namespace "$name" --ignore-not-found --output name
}

announce() {
  cat >&2 <<TEXT
This asks $api_url $(jq length questions.json) questions, in about 5 minutes. It creates, and removes at the end:

- in the organization $organization: the stack $stack; the OIDC issuer $name, with the URL $issuer_url;
  for a moment, an issuer with the URL $other_issuer; an environment and a custom role, both called $name
- in the cluster of the context $context: the namespace $name, in which one pod runs

Pulumi Cloud bills at most $billed_resources resources, at \$0.0005 an hour each (Pro): less than a cent. AWS bills nothing.
It issues about ten access tokens, which expire after 10 minutes, and keeps none. Until the end, anyone who can create tokens or pods in
this namespace can act as $user.

TEXT
}

confirm() {
  local answer=''
  if [[ -n $is_confirmed ]]; then
    return
  fi
  read -r -p 'Continue? [y/N] ' answer || true
  if [[ $answer != [yY]* ]]; then
    echo 'Nothing was created.' >&2
    exit 64
  fi
}

deploy() {
  progress 'Deploying.'
  pulumi stack init "$stack" --non-interactive &>"$directory/log" || stop "$(<"$directory/log")"
  has_stack=yes
  organization_policy=$succeeded
  if ! update organization="$organization" issuerUrl="$issuer_url" context="$context" pulumiApiUrl="$api_url" userLogin="$user" \
    organizationToken=true runJob=false audienceRule=true; then
    # Pulumi Cloud can reject the policy of an organization token. Everything else can be asked without it.
    organization_policy=$(rejection '4[0-9]{2} API error.*') || stop "$(<"$directory/log")"
    update organizationToken=false || stop "$(<"$directory/log")"
  fi
  kubectl create serviceaccount unlisted --namespace "$name" >/dev/null

  issuer_id=$(pulumi stack output oidcIssuerId --stack "$stack")
  issuer_id=${issuer_id#*/}
  local answer
  answer=$(request GET "/api/orgs/$organization/auth/policies/oidcissuers/$issuer_id")
  answered replaced "$answer"
  if ! is_ok "$answer"; then
    stop "The policies could not be read: $answer"
  fi
  policy_id=$(jq --raw-output .body.id <<<"$answer")
  deployed_policies=$(jq --compact-output '.body.policies | map(select(.decision == "allow") | del(.id))' <<<"$answer")
}

# update SETTING=VALUE...: deploys the program with these settings, and those of earlier updates.
update() {
  pulumi up --stack "$stack" --yes --skip-preview --non-interactive "${@/#/--config=}" &>"$directory/log"
}

# rejection PATTERN: prints what the log of an update says of a rejection, as an answer. Fails if it says nothing.
rejection() {
  local reason
  reason=$(grep --only-matching --extended-regexp "$1" "$directory/log") || return
  jq --null-input --compact-output --arg reason "$reason" '{ok: false, status: 400, body: $reason}'
}

ask_about_audiences() {
  local own other changed
  own=$(exchange trial "$(audience)" personal "user:$user" 600)
  other=$(exchange trial "$other_audience" personal "user:$user" 600)
  answered aud-other "$own" "$other"
  audience_rule=$(jq .ok <<<"$own")

  # From here on, without the audience: the other questions do not depend on it.
  policies=$(jq --compact-output 'map(del(.rules.aud))' <<<"$deployed_policies")
  changed=$(replace_policies "$policies")
  if ! is_ok "$changed"; then
    stop "The policies could not be changed: $changed"
  fi
  own_token=$(exchange trial "$(audience)" personal "user:$user" 600)
  other=$(exchange trial "$other_audience" personal "user:$user" 600)
  answered own-token "$own_token"
  answered aud-list "$own_token" "$own"
  answered aud-none "$own_token" "$other"
}

ask_about_tokens() {
  local answer
  answer=$(exchange unlisted "$(audience)" personal "user:$user" 600)
  answered unlisted "$own_token" "$answer"
  answered error-form "$answer"
  answer=$(exchange trial "$(audience)" personal "user:$user" 7200)
  answered max-lifetime "$own_token" "$answer"

  if ! is_ok "$organization_policy"; then
    answered org-token "$own_token" "$organization_policy"
    not_asked other-account 'the policy of the other service account was rejected'
    return
  fi
  answer=$(exchange other "$(audience)" personal "user:$user" 600)
  answered other-account "$own_token" "$answer"
  answer=$(exchange other "$(audience)" organization '' 600)
  answered org-token "$own_token" "$answer"
}

# With a role that may open one environment, and not read it.
ask_about_roles() {
  local answer environment_id
  answer=$(request POST "/api/esc/environments/$organization" "{\"project\": \"$name\", \"name\": \"trial\"}")
  if is_ok "$answer"; then
    has_environment=yes
    answer=$(request GET "/api/esc/environments/$organization/$name/trial/metadata")
  fi
  if is_ok "$answer"; then
    environment_id=$(jq --raw-output .body.id <<<"$answer")
    answer=$(request POST "/api/orgs/$organization/roles" "$(role "$environment_id")")
  fi
  if ! is_ok "$answer"; then
    local question
    for question in org-role wrong-role open-only; do
      not_asked "$question" "no custom role could be created: $(jq --compact-output '.body | .message? // .' <<<"$answer")"
    done
    return
  fi
  role_id=$(jq --raw-output .body.id <<<"$answer")

  local of_role
  of_role=$(exchange_with_role "$role_id")
  answered org-role "$own_token" "$of_role"
  answer=$(open_environment)
  answered open-only "$of_role" "$answer"
  answer=$(exchange_with_role 00000000-0000-4000-8000-000000000000)
  answered wrong-role "$of_role" "$answer"
}

# role ENVIRONMENT_ID: prints a custom role, in the form of pulumi/pulumi-pulumiservice, provider/pkg/functions/role_permissions.go.
role() {
  jq --null-input --compact-output --arg name "$name" --arg id "$1" '{
    $name,
    resourceType: "global",
    uxPurpose: "role",
    details: {
      __type: "PermissionDescriptorCondition",
      condition: {
        __type: "PermissionExpressionEqual",
        left: {__type: "PermissionExpressionEnvironment"},
        right: {__type: "PermissionLiteralExpressionEnvironment", identity: $id}
      },
      subNode: {__type: "PermissionDescriptorAllow", permissions: ["environment:open"]}
    }
  }'
}

# exchange_with_role ROLE_ID: prints the answer to an exchange for an organization token with a role or, if Pulumi Cloud rejects the
# policy for it, the answer to that.
exchange_with_role() {
  local changed
  changed=$(replace_policies "$(jq --compact-output --arg id "$1" \
    'map(select(.tokenType == "personal") | ., (del(.userLogin) | . + {tokenType: "organization", roleID: $id}))' <<<"$policies")")
  if is_ok "$changed"; then
    exchange trial "$(audience)" organization '' 600
  else
    printf %s "$changed"
  fi
}

# Deploys the Job that tests the exchange, with the exchange script and the CLI in a pod, and with a rule on the audience if that works.
ask_about_job() {
  local restored answer
  restored=$(replace_policies "$deployed_policies")
  if ! is_ok "$restored"; then
    stop "The policies could not be restored: $restored"
  fi
  progress 'Running the Job.'
  if update runJob=true audienceRule="$audience_rule"; then
    answer=$succeeded
  else
    cat "$directory/log" >&2
    if ! answer=$(rejection 'exchange-token: .*'); then
      not_asked job "no pod has run the script: $(grep --only-matching --max-count 1 'error: .*' "$directory/log")"
      return
    fi
  fi
  answered job "$own_token" "$answer"
}

# The last questions about this issuer: a stale thumbprint can end its exchanges.
ask_about_issuers() {
  local path=$issuers_path/$issuer_id before after answer
  answer=$(request PATCH "$path" "{\"name\": \"$name\", \"thumbprints\": [\"$(printf '0%.0s' {1..64})\"]}")
  answered stale-thumbprint "$answer"
  before=$(request GET "$path")
  # As the provider sends it: provider/pkg/pulumiapi/oidc_issuer.go of pulumi/pulumi-pulumiservice.
  answer=$(request PATCH "$path" "{\"name\": \"$name\", \"thumbprints\": null}")
  after=$(request GET "$path")
  answered no-thumbprint "$before" "$answer" "$after"

  answer=$(register "$name-second" "$issuer_url")
  answered same-url "$answer"
  answer=$(register "$name" "$other_issuer")
  answered same-name "$answer"
}

# register NAME URL: registers an issuer, prints the answer, and removes the issuer at once.
register() {
  local answer id
  answer=$(request POST "$issuers_path" "{\"name\": \"$1\", \"url\": \"$2\", \"maxExpiration\": 600}")
  id=$(jq --raw-output '.body.id? // empty' <<<"$answer")
  if [[ -n $id ]]; then
    request DELETE "$issuers_path/$id" >/dev/null
  fi
  printf %s "$answer"
}

# ask_about_lists TOKENS STARTED: TOKENS are those of the user before the exchanges, STARTED the Unix time of the beginning.
ask_about_lists() {
  local answer attempt
  if [[ $user == "$me" ]]; then
    answer=$(request GET /api/user/tokens?maxResults=1000)
    answered token-list "$1" "$answer"
  else
    not_asked token-list "only $user can list the tokens"
  fi

  # Events can be late.
  for attempt in {1..6}; do
    answer=$(request GET "/api/orgs/$organization/auditlogs/v2?startTime=$2")
    if ((attempt == 6)) || ! is_ok "$answer" || jq --exit-status 'any(.body.auditLogEvents[]?; .authFailure)' <<<"$answer" >/dev/null; then
      break
    fi
    sleep 10
  done
  answered audit-granted "$answer"
  answered audit-denied "$answer"
}

# audience: prints the audience of the project's ID tokens.
audience() {
  printf %s "urn:pulumi:org:$organization"
}

# exchange SERVICE_ACCOUNT AUDIENCE TYPE SCOPE SECONDS: exchanges an ID token, and prints Pulumi Cloud's answer without the access token.
exchange() {
  request_token "$@" | without_token
}

request_token() {
  local oauth=urn:ietf:params:oauth
  kubectl create token "$1" --namespace "$name" --audience "$2" --duration 10m | tr -d '\n' |
    post "$api_url/api/oauth/token" \
      --data-urlencode "audience=urn:pulumi:org:$organization" \
      --data-urlencode "grant_type=$oauth:grant-type:token-exchange" \
      --data-urlencode "subject_token_type=$oauth:token-type:id_token" \
      --data-urlencode "requested_token_type=urn:pulumi:token-type:access_token:$3" \
      --data-urlencode "scope=$4" \
      --data-urlencode "expiration=$5" \
      --data-urlencode subject_token@-
}

# Opens the environment with the token of a role, and prints Pulumi Cloud's answer without what it contains.
open_environment() {
  request_token trial "$(audience)" organization '' 600 |
    jq --raw-input --slurp --raw-output 'split("\n")[0] | fromjson | "Authorization: token \(.access_token)"' |
    post "$api_url/api/esc/environments/$organization/$name/trial/open" --request POST --header @- |
    without_token
}

# post URL OPTION...: sends a request. Prints the body, and in a last line the status, 000 without an answer.
post() {
  # Without the user's .curlrc, which could print what is sent.
  curl --disable --silent --max-time 60 --write-out '\n%{http_code}' "${@:2}" "$1" || true
}

# Prints what `post` has printed as an answer. Of a success, only the lifetime is left.
without_token() {
  jq --raw-input --slurp --compact-output '
    split("\n")
    | (.[-1] | tonumber) as $status
    | (.[:-1] | join("\n") | . as $text | try fromjson catch $text) as $body
    | ($status == 200 and ($body | type) == "object") as $ok
    | {$ok, $status, body: (if $ok then $body | {expires_in} else $body end)}'
}

# replace_policies POLICIES: replaces the policies of the issuer, and prints the answer.
replace_policies() {
  request PATCH "/api/orgs/$organization/auth/policies/$policy_id" "{\"policies\": $1}"
}

# request METHOD PATH [BODY]: asks Pulumi Cloud as you, and prints the answer.
request() {
  local printed
  if printed=$(PULUMI_BACKEND_URL=$api_url pulumi api --non-interactive --method "$1" "$2" ${3:+--body "$3"} 2>"$directory/error"); then
    printf %s "${printed:-null}" | jq --compact-output '{ok: true, status: 200, body: .}'
  else
    jq --raw-input --compact-output --slurp '
      (split("\n") | map(fromjson? | .error? // empty)[0]) as $error
      | {ok: false, status: ($error.httpStatus // 0), body: ($error.httpBody // $error.message // .)}' "$directory/error"
  fi
}

# required METHOD PATH: prints the body of an answer, and stops without one.
required() {
  local answer
  answer=$(request "$@")
  if ! is_ok "$answer"; then
    stop "$1 $2 has failed: $(jq --raw-output '.body | .message? // .' <<<"$answer")"
  fi
  jq .body <<<"$answer"
}

is_ok() {
  jq --exit-status .ok <<<"$1" >/dev/null
}

# answered QUESTION ANSWER...
answered() {
  asked+=("$(printf '%s\n' "${@:2}" | jq --slurp --compact-output --arg id "$1" '{$id, answers: .}')")
}

# not_asked QUESTION REASON
not_asked() {
  asked+=("$(jq --null-input --compact-output --arg id "$1" --arg reason "$2" '{$id, $reason}')")
}

# Prints the table, removes everything, and ends with the exit code.
finish() {
  local status=$? verdict=0
  trap '' INT TERM
  # Whatever fails here, everything is removed.
  set +o errexit
  if ((${#asked[@]} > 0)); then
    report
    verdict=$?
  fi
  if ((status == 0)); then
    status=$verdict
  fi
  remove || status=2
  rm -r "$directory"
  exit "$status"
}

# Prints the table, and returns the exit code for the answers.
report() {
  local verdicts commit
  commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
  verdicts=$(printf '%s\n' "${asked[@]}" | judge "verdicts(\$questions[0])")
  printf '%s, this project at %s\n\n' "$versions" "$commit"
  judge '.[] | report' <<<"$verdicts"
  return "$(judge '.[] | exit_code' <<<"$verdicts")"
}

# judge FILTER: applies functions of verdict.jq to a list of JSON documents.
judge() {
  jq --slurp --raw-output -L . --slurpfile questions questions.json "include \"verdict\"; $1"
}

# Removes what the trial has created, prints what is left, and fails if something is.
remove() {
  local left=()
  progress 'Removing.'
  # The issuer first, which can refer to the role.
  if [[ -n $has_stack ]]; then
    if ! pulumi destroy --stack "$stack" --yes --skip-preview --non-interactive --remove &>"$directory/log"; then
      cat "$directory/log" >&2
      left+=("the stack $stack")
    fi
    # A stack never deletes a namespace.
    kubectl delete namespace "$name" --ignore-not-found --timeout 3m >/dev/null
  fi
  if [[ -n $role_id ]] && ! is_ok "$(request DELETE "/api/orgs/$organization/roles/$role_id")"; then
    left+=("the custom role $name")
  fi
  if [[ -n $has_environment ]] && ! is_ok "$(request DELETE "/api/esc/environments/$organization/$name/trial")"; then
    left+=("the environment $name/trial")
  fi

  local issuers namespaces
  issuers=$(existing_issuers) || issuers='that could not be listed'
  if [[ -n $issuers ]]; then
    left+=("issuers: $issuers")
  fi
  namespaces=$(existing_namespace) || namespaces='that could not be listed'
  if [[ -n $namespaces ]]; then
    left+=("namespaces: $namespaces")
  fi
  if ((${#left[@]} > 0)); then
    printf '\nThis is left. To remove it: docs/trial.md.\n\n'
    printf -- '- %s\n' "${left[@]}"
    return 1
  fi
  printf '\nNothing is left: %s lists no issuer of the trial, and the cluster has no namespace %s.\n' "$organization" "$name"
}

progress() {
  printf '%s\n' "$*" >&2
}

# stop MESSAGE: ends without having asked everything.
stop() {
  printf '%s\n' "$*" >&2
  exit 2
}

main "$@"
