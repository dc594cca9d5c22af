#!/usr/bin/env bash
# Exchanges a workload's OIDC ID token for a short-lived Pulumi Cloud access token (RFC 8693). Two ways to run it:
#   entrypoint.sh COMMAND [ARG...]     exports PULUMI_ACCESS_TOKEN, then becomes the command
#   entrypoint.sh --credential-helper  answers the Pulumi CLI, which asks again when its token expires or is rejected
#
# PULUMI_ORG                  Pulumi organization
# PULUMI_TOKEN_TYPE           personal, organization, team, or runner
# PULUMI_TOKEN_SCOPE          user:LOGIN, team:NAME, or runner:NAME; for organization, empty or admin
# PULUMI_TOKEN_EXPIRATION     lifetime of the access token, in seconds
# PULUMI_BACKEND_URL          Pulumi Cloud; default https://api.pulumi.com
# PULUMI_TOKEN_RETRY_SECONDS  how long to retry; default 50, since the CLI stops a credential helper after 60
# PULUMI_OIDC_TOKEN_FILE      file with the ID token; default AWS_WEB_IDENTITY_TOKEN_FILE, else where EKS mounts it
#
# Exit codes: 64 invalid settings, 66 no ID token, 69 unreachable or TLS not verified, 75 temporary failure,
# 76 invalid token response, 77 denied; otherwise the command's own. Requires Bash 4.4, curl 7.84, and coreutils.
set +o allexport # if inherited, it would export the functions below to the command

# main ARG...: exports what the command needs, or answers the CLI and exits.
main() {
  local - LC_ALL=C TMOUT='' # until this function returns: the command gets its options and environment unchanged
  set +o xtrace -o errexit -o nounset
  trap 'exit 143' INT TERM # the first process of a container ignores a signal that it does not handle
  local url=${PULUMI_BACKEND_URL:-https://api.pulumi.com} retry_seconds=${PULUMI_TOKEN_RETRY_SECONDS:-50}
  local access_token='' expires_at='' requested token_file=/var/run/secrets/eks.amazonaws.com/serviceaccount/token
  token_file=${PULUMI_OIDC_TOKEN_FILE:-${AWS_WEB_IDENTITY_TOKEN_FILE:-$token_file}}
  check_settings "$@"
  url=${url%/} requested=$PULUMI_TOKEN_TYPE${PULUMI_TOKEN_SCOPE:+, scope $PULUMI_TOKEN_SCOPE}
  case $1 in --credential-helper) answer_cli ;; esac
  exchange log "$retry_seconds"
  log "$PULUMI_ORG granted an access token ($requested), valid until ${expires_at:-an unknown time}"
  export PULUMI_ACCESS_TOKEN=$access_token PULUMI_ACCESS_TOKEN_EXPIRES_AT=$expires_at
  [[ ${PULUMI_CREDENTIAL_HELPER-} != none ]] || return 0
  PULUMI_CREDENTIAL_HELPER=$(realpath -- "$0")
  export PULUMI_CREDENTIAL_HELPER PULUMI_CREDENTIAL_HELPER_ARGS='["--credential-helper"]'
}

# check_settings ARG...: reports all problems at once and exits.
check_settings() {
  local problems='' name='[!-~]{1,100}' # a space would separate two OAuth scopes
  local host='([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\])' loopback='(localhost|127(\.[0-9]{1,3}){3}|\[::1\])'
  (($# > 0)) || problems+=$'\n  No command. Usage: entrypoint.sh COMMAND [ARG...]'
  check PULUMI_ORG "${PULUMI_ORG-}" '[A-Za-z0-9][A-Za-z0-9._-]{0,99}' 'the name of a Pulumi organization'
  check 'PULUMI_TOKEN_TYPE with PULUMI_TOKEN_SCOPE' "${PULUMI_TOKEN_TYPE-} ${PULUMI_TOKEN_SCOPE-}" \
    "personal user:$name|team team:$name|runner runner:$name|organization (admin)?" \
    'personal with user:LOGIN, team with team:NAME, runner with runner:NAME, or organization with nothing or admin'
  check PULUMI_TOKEN_EXPIRATION "${PULUMI_TOKEN_EXPIRATION-}" '[1-9][0-9]{0,8}' 'a whole number of seconds'
  check PULUMI_TOKEN_RETRY_SECONDS "$retry_seconds" '[1-9][0-9]{0,5}' 'a whole number of seconds'
  check PULUMI_BACKEND_URL "$url" "(https://$host|http://$loopback)(:[0-9]{1,5})?/?" 'https://HOST'
  [[ -z $problems ]] || fail 64 "Invalid settings:$problems"
}

# check NAME VALUE PATTERN DESCRIPTION: adds to the caller's `problems` unless the pattern matches the whole value.
check() { [[ $2 =~ ^($3)$ ]] || problems+=$'\n'"  $1 is '$(excerpt "$2")'. Set it to $4."; }

# answer_cli: answers one request of the CLI (pkg/auth/credentialhelper in pulumi/pulumi) and exits.
answer_cli() {
  local request='' backend='' token="${PULUMI_ACCESS_TOKEN_EXPIRES_AT-} ${PULUMI_ACCESS_TOKEN-}"
  local pattern='^\{"version":1,"reason":"(initial|expired|rejected)"(,"selectedBackendUrl":"([^"\]*)")?\}[[:space:]]*$'
  read -r -N 4096 request || true
  [[ $request =~ $pattern ]] || fail 64 "Unknown request. Only the Pulumi CLI runs '--credential-helper'."
  local reason=${BASH_REMATCH[1]} selected=${BASH_REMATCH[3]}
  [[ $reason${BASH_REMATCH[2]} != initial ]] || selected=$url backend=",\"backendUrl\":\"$url\""
  # A Pulumi.yaml or `pulumi login` can select any server, and the CLI sends the token there.
  [[ ${selected%/} == "$url" ]] || fail 77 "Denied: the Pulumi CLI selected the backend '$(excerpt "$selected")'," \
    "and tokens are only for $url. Check 'backend.url' in Pulumi.yaml, and the URL of 'pulumi login'."
  pattern='^initial ([0-9T:-]{19}Z) ([A-Za-z0-9._~+/=-]+)$' # the token of a wrapped command, until the CLI asks again
  [[ "$reason $token" =~ $pattern && $token > $(date -u -d '30 seconds' +%FT%TZ) ]] &&
    expires_at=${BASH_REMATCH[1]} access_token=${BASH_REMATCH[2]}
  [[ -n $access_token ]] || exchange : $((retry_seconds < 50 ? retry_seconds : 50))
  printf '{"version":1,"accessToken":"%s"%s}' "$access_token" "${expires_at:+,\"expiresAt\":\"$expires_at\"}$backend"
  exit
}

# exchange LOG SECONDS: sets the caller's `access_token` and `expires_at`, or exits. LOG is called with each retry.
exchange() {
  # +x: a variable that the environment exports under the same name would reach curl.
  local +x id_token body answer status retry_after code problem asked_at seconds delay step end=$((SECONDS + $2))
  for ((step = 1; ; step = step < 4 ? step * 2 : 4)); do
    id_token='' # read on each attempt, since the kubelet replaces it
    [[ ! -f $token_file || ! -r $token_file ]] || read -r -n 16384 id_token <"$token_file" || true
    [[ $id_token =~ ^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}$ ]] || fail 66 "No ID token: user $EUID cannot read a JWT" \
      "from '$(excerpt "$token_file")'. Annotate the service account before creating the pod, and set fsGroup."
    request
    case $code/$status in
      0/2??) break ;;
      */400 | */401 | */403) deny ;;
      */408 | */429 | */5??) problem="$url returned HTTP $status" ;;
      0/* | */[34]??) fail 76 "$url returned HTTP $status, not a token: $(excerpt "$body")"$'\n' \
        ' Set PULUMI_BACKEND_URL to the Pulumi Cloud API. Redirects are not followed.' ;;
      60/* | 77/*) fail 69 "The TLS certificate could not be verified. $problem." ;;
    esac
    # The random part, also after Retry-After, keeps many pods from retrying at once.
    delay=$(((retry_after > 0 ? retry_after : step) + RANDOM % step)).$((RANDOM % 900 + 100))
    ((SECONDS + ${delay%.*} < end)) || fail $((status >= 400 ? 75 : 69)) "$problem. Giving up:" \
      "another attempt would exceed the $2 s of PULUMI_TOKEN_RETRY_SECONDS."
    "$1" "$problem. Retrying in $delay s."
    sleep "$delay" >/dev/null 2>&1 & # in the background, since `wait` ends at a signal
    wait "$!"
  done
  [[ $body =~ \"access_token\":\ ?\"([A-Za-z0-9._~+/=-]+)\" ]] || fail 76 "$url returned no valid access token."
  access_token=${BASH_REMATCH[1]}
  [[ ! $body =~ \"expires_in\":\ ?([1-9][0-9]{0,8})[,}] ]] ||
    expires_at=$(date -u -d "@$((asked_at + BASH_REMATCH[1]))" +%FT%TZ)
}

# request: sends one request. Sets the caller's `body`, `status` (000: no answer), `retry_after`, `code`, and `problem`.
request() {
  local plaintext=${url##https:*} oauth=urn:ietf:params:oauth result=$'\n([0-9]+) ([0-9]+) ([^|\n]*)\\|([^\n]*)$'
  asked_at=$(date +%s) seconds=$((end - SECONDS))
  # All processes can see arguments: the ID token goes to standard input. A proxy would see it in plaintext.
  # The answer is limited here, since curl's --max-filesize lets a chunked one through.
  read -r -N 65536 answer < <(
    curl --disable --silent --proto "=${url%%:*}" --max-time $((seconds < 1 ? 1 : seconds > 10 ? 10 : seconds)) \
      --write-out '\n%{exitcode} %{http_code} %header{retry-after}|%{errormsg}' ${plaintext:+--noproxy '*'} \
      "$url/api/oauth/token" --data "audience=urn:pulumi:org:$PULUMI_ORG&expiration=$PULUMI_TOKEN_EXPIRATION" \
      --data "grant_type=$oauth:grant-type:token-exchange&subject_token_type=$oauth:token-type:id_token" \
      --data "requested_token_type=urn:pulumi:token-type:access_token:$PULUMI_TOKEN_TYPE" 2>/dev/null \
      --data-urlencode "scope=${PULUMI_TOKEN_SCOPE-}" --data-urlencode subject_token@- < <(printf %s "$id_token")
  ) && fail 76 "$url returned more than 65536 bytes, not a token."
  [[ $answer =~ $result ]] || fail 69 'curl reported no result. Use an image that contains curl 7.84 or later.'
  body=${answer%"${BASH_REMATCH[0]}"} code=${BASH_REMATCH[1]} status=${BASH_REMATCH[2]}
  retry_after=${BASH_REMATCH[3]} problem="Failed to reach $url: $(excerpt "${BASH_REMATCH[4]}") (curl exit code $code)"
  [[ $retry_after =~ ^[1-9][0-9]{0,4}$ ]] || retry_after=0
}

# deny: exits with the answer, the request, and the claims that an allow policy must match.
deny() {
  local claims
  claims=$(printf %s "$id_token" | cut -d . -f 2 | basenc --base64url -d 2>/dev/null | tr -c ' -~' ' ')
  fail 77 "$url denied the token exchange: HTTP $status: $(excerpt "$body")
  Requested from organization $PULUMI_ORG: $requested, $PULUMI_TOKEN_EXPIRATION seconds.
  An allow policy of its OIDC issuer must match the request and the claims of this ID token: $claims"
}

# excerpt TEXT: prints the first 500 printable characters, without anything that could be a token or a password.
excerpt() {
  local text=${1//[^ -~]/ }
  while [[ $text =~ [A-Za-z0-9_+=-]{40,}|//[^/@\ ]+@ ]]; do
    text=${text//"${BASH_REMATCH[0]}"/[redacted]}
  done
  printf %s "${text:0:500}"
}

# log TEXT...: prints a message. Kubernetes keeps the last 2,048 bytes as the termination message.
log() { printf '%.2047s\n' "exchange-token: $*" >&2 || true; }
# fail CODE TEXT...: exits with a message.
fail() { log "${@:2}" && exit "$1"; }

# Grouped, since Bash otherwise continues with the next command after an arithmetic error.
{ main "$@"; exec -- "$@"; }
