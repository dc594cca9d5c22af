#!/usr/bin/env bash
# Exchanges a workload's OIDC ID token for a short-lived Pulumi Cloud access token (RFC 8693). Two ways to run it:
#
#   entrypoint.sh COMMAND [ARG...]     exports PULUMI_ACCESS_TOKEN, then becomes the command
#   entrypoint.sh --credential-helper  answers the Pulumi CLI, which asks again when its token expires or is rejected
#
# Environment:
#
#   PULUMI_ORG                  Pulumi organization
#   PULUMI_TOKEN_TYPE           personal, organization, team, or runner
#   PULUMI_TOKEN_SCOPE          user:LOGIN, team:NAME, or runner:NAME; for organization, empty or admin
#   PULUMI_TOKEN_EXPIRATION     lifetime of the access token, in seconds
#   PULUMI_OIDC_TOKEN_FILE      file with the ID token
#   PULUMI_BACKEND_URL          Pulumi Cloud; by default, https://api.pulumi.com
#   PULUMI_TOKEN_RETRY_SECONDS  how long to retry; by default, 50, since the CLI stops a credential helper after 60
#
# Exit codes:
#
#   64  invalid settings, or an unsupported request on standard input
#   66  no ID token
#   69  Pulumi Cloud is unreachable, or its TLS certificate could not be verified
#   75  temporary failure
#   76  invalid token response
#   77  denied
#
# After that, the exit code is the command's own.
#
# Requires bash 4.4, curl 7.84, and CA certificates. It runs no other program.
#
# Every variable is declared with `local +x`: one that the environment exports under the same name would otherwise stay
# exported, and curl would receive the token in its environment. The command receives its own variables unchanged.

# If inherited, this option would export the functions below to the command.
set +o allexport

# main ARG...: exports what the command needs, or answers the CLI and exits.
main() {
  # The options below end with this function: the command gets its own.
  local -
  set +o xtrace
  set -o errexit
  set -o nounset

  # Characters are bytes, and [A-Z] means the same everywhere.
  local +x LC_ALL=C

  # Would end every `read` early.
  local +x TMOUT=''

  # The first process of a container ignores a signal that it does not handle.
  trap 'exit 143' INT TERM

  # A wrapped command has this token: curl must not.
  export -n PULUMI_ACCESS_TOKEN

  local +x organization=${PULUMI_ORG-}
  local +x token_type=${PULUMI_TOKEN_TYPE-}
  local +x token_scope=${PULUMI_TOKEN_SCOPE-}
  local +x expiration=${PULUMI_TOKEN_EXPIRATION-}
  local +x token_file=${PULUMI_OIDC_TOKEN_FILE-}
  local +x url=${PULUMI_BACKEND_URL:-https://api.pulumi.com}
  local +x retry_seconds=${PULUMI_TOKEN_RETRY_SECONDS:-50}
  check_settings "$@"
  url=${url%/}
  local +x requested="$token_type${token_scope:+, scope $token_scope}"

  # Set by `exchange`: the access token, and when it expires (RFC 3339, empty if unknown).
  local +x granted_token=''
  local +x granted_until=''

  if [[ $1 == --credential-helper ]]; then
    answer_cli
    exit 0
  fi
  exchange "$retry_seconds" log
  export_credentials
}

# check_settings ARG...: reports all problems at once and exits. Settings of the stack follow the same rules.
check_settings() {
  # Names are part of an OAuth scope: printable ASCII without space, '"', and '\' (RFC 6749, section 3.3). Pulumi Cloud
  # limits them to 100 characters.
  local +x organization_name='[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}'
  local +x login='[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}'
  # Allow policies contain the team's name as a pattern. Besides the documented wildcards '*', '?', and '.', this
  # excludes all other special characters of regular expressions.
  local +x team_name="[A-Za-z0-9_!#%&',/;<=>@~-]{1,100}"
  # All that a scope can contain, except ':'.
  local +x pool_name='[]!#-9;-[^-~]{1,100}'
  local +x scopes="personal user:$login|team team:$team_name|runner runner:$pool_name|organization (admin)?"

  # 0 to 255, without leading zeros: some programs read those as octal.
  local +x octet='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
  local +x address="$octet(\.$octet){3}"
  # The last label begins with a letter, or the host would be an IP address in disguise, such as 127.1.
  local +x host_name='([A-Za-z0-9_-]{1,63}\.)*[A-Za-z][A-Za-z0-9_-]{0,62}'
  local +x loopback="(localhost|127(\.$octet){3}|\[::1\])"
  # 1 to 65535.
  local +x port='(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})'
  local +x backend="(https://($host_name|$address)|http://$loopback)(:$port)?/?"

  # Filled in by `check`.
  local +x problems=''
  if (($# == 0)); then
    problems+=$'\n  No command. Usage: entrypoint.sh COMMAND [ARG...]'
  fi
  check PULUMI_ORG "$organization" "$organization_name" 'the name of a Pulumi organization, at most 100 characters'
  check 'PULUMI_TOKEN_TYPE with PULUMI_TOKEN_SCOPE' "$token_type $token_scope" "$scopes" \
    'personal with user:LOGIN, team with team:NAME, runner with runner:NAME, or organization with nothing or admin.
    A name has at most 100 printable ASCII characters, without spaces, ", \, or :. The name of a team also has none of
    the special characters of patterns, which are .*?+|^()[]{}$'
  check PULUMI_TOKEN_EXPIRATION "$expiration" '[1-9][0-9]{0,8}' 'a number of seconds from 1 to 999999999'
  check PULUMI_OIDC_TOKEN_FILE "$token_file" '/.+' 'the absolute path of the file with the ID token'
  check PULUMI_BACKEND_URL "$url" "$backend" 'https://HOST, or http://HOST with a loopback host'
  check PULUMI_TOKEN_RETRY_SECONDS "$retry_seconds" '[1-9][0-9]{0,5}' 'a number of seconds from 1 to 999999'

  if [[ -n $problems ]]; then
    fail 64 "Invalid settings:$problems"
  fi
}

# check NAME VALUE PATTERN DESCRIPTION: adds to the caller's `problems` unless the pattern matches the whole value.
check() {
  # In this order: a long value would keep the pattern busy.
  if ((${#2} > 255)) || [[ ! $2 =~ ^($3)$ ]]; then
    problems+=$'\n'"  $1 is '$(excerpt "$2")'. Set it to $4."
  fi
}

# export_credentials: exports the access token, and this script as the credential helper that replaces it.
export_credentials() {
  log "$organization granted an access token ($requested), valid until ${granted_until:-an unknown time}"
  export PULUMI_ACCESS_TOKEN=$granted_token
  export PULUMI_ACCESS_TOKEN_EXPIRES_AT=$granted_until

  # With "none", the CLI runs no credential helper.
  if [[ ${PULUMI_CREDENTIAL_HELPER-} == none ]]; then
    return
  fi
  if [[ $0 == /* ]]; then
    export PULUMI_CREDENTIAL_HELPER=$0
  else
    export PULUMI_CREDENTIAL_HELPER=$PWD/$0
  fi
  export PULUMI_CREDENTIAL_HELPER_ARGS='["--credential-helper"]'
}

# answer_cli: answers one request of the CLI (pkg/auth/credentialhelper in pulumi/pulumi). It prints nothing else, since
# the CLI shows it to the user.
answer_cli() {
  local +x backend='(,"selectedBackendUrl":"([^"\]*)")?'
  local +x pattern="^\{\"version\":1,\"reason\":\"(initial|expired|rejected)\"$backend\}[[:space:]]*\$"
  local +x request=''
  # Fails at the end of the input, which is shorter.
  read -r -N 4096 request || true
  if [[ ! $request =~ $pattern ]]; then
    fail 64 "Unsupported request on standard input: '$(excerpt "$request")'."$'\n' \
      ' This script supports version 1 of the credential helper protocol, as the Pulumi CLI 3.274.0 or later' \
      'speaks it: {"version":1,"reason":"initial","selectedBackendUrl":"URL"}.'$'\n' \
      ' If a newer CLI sent this request, use an earlier version, or update this script.'
  fi
  local +x reason=${BASH_REMATCH[1]}
  local +x selection=${BASH_REMATCH[2]}
  local +x selected_url=${BASH_REMATCH[3]}

  local +x backend_field=''
  if [[ $reason == initial && -z $selection ]]; then
    # Without a selected backend, the first answer names it.
    backend_field=",\"backendUrl\":\"$url\""
  elif [[ ${selected_url%/} != "$url" ]]; then
    # A Pulumi.yaml or `pulumi login` can select any server, and the CLI sends the token there.
    fail 77 "Denied: the Pulumi CLI selected the backend '$(excerpt "$selected_url")', and tokens are only for $url." \
      "Check 'backend.url' in Pulumi.yaml, and the URL of 'pulumi login'."
  fi

  if wrapped_token_is_valid "$reason"; then
    granted_token=$PULUMI_ACCESS_TOKEN
    granted_until=$PULUMI_ACCESS_TOKEN_EXPIRES_AT
  elif ((retry_seconds > 50)); then
    # The CLI stops a credential helper after 60 seconds.
    exchange 50 ignore
  else
    exchange "$retry_seconds" ignore
  fi

  local +x expiry_field=''
  if [[ -n $granted_until ]]; then
    expiry_field=",\"expiresAt\":\"$granted_until\""
  fi
  printf '{"version":1,"accessToken":"%s"%s%s}' "$granted_token" "$expiry_field" "$backend_field"
}

# wrapped_token_is_valid REASON: whether the token of a wrapped command answers the request. The CLI asks again 30
# seconds before a token expires, or when it was rejected.
wrapped_token_is_valid() {
  if [[ $1 != initial ]]; then
    return 1
  fi
  if [[ ! ${PULUMI_ACCESS_TOKEN-} =~ ^[A-Za-z0-9._~+/=-]+$ ]]; then
    return 1
  fi
  if [[ ! ${PULUMI_ACCESS_TOKEN_EXPIRES_AT-} =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$ ]]; then
    return 1
  fi
  local +x now=''
  now=$(seconds_since_1970)
  # Without the time, every token would appear valid.
  if [[ ! $now =~ ^[1-9][0-9]{9}$ ]]; then
    return 1
  fi
  local +x soon=''
  soon=$(rfc_3339 $((now + 30)))
  if ((${#soon} != 20)); then
    return 1
  fi
  # In this format, the alphabetic order is the order in time.
  [[ $PULUMI_ACCESS_TOKEN_EXPIRES_AT > $soon ]]
}

# exchange SECONDS REPORT: exchanges the ID token, with retries for that many seconds. Calls REPORT with a message
# before each retry. Sets the caller's `granted_token` and `granted_until`, or exits.
exchange() {
  local +x limit=$1
  local +x report=$2
  local +x started=$SECONDS
  local +x backoff=1
  # Set by `read_id_token`.
  local +x id_token=''
  # Set by `request`: the HTTP status (000 if there was no answer), the body, the seconds of Retry-After (0 if there are
  # none), the exit code of curl, and its message.
  local +x answer_status=''
  local +x answer_body=''
  local +x answer_retry_after=''
  local +x answer_curl_code=''
  local +x answer_curl_message=''
  local +x asked_at=''
  local +x failure=''
  local +x problem=''
  local +x exit_code=''

  while true; do
    # Anew for each attempt, since the kubelet replaces the file.
    read_id_token
    asked_at=$(seconds_since_1970)
    request $((limit - (SECONDS - started)))
    failure="Failed to reach $url: $(excerpt "$answer_curl_message") (curl exit code $answer_curl_code)"

    case $answer_curl_code/$answer_status in
      0/2??)
        break
        ;;
      */400 | */401 | */403)
        deny
        ;;
      */408 | */429 | */5??)
        exit_code=75
        problem="$url returned HTTP $answer_status"
        ;;
      0/* | */[34]??)
        fail 76 "$url returned HTTP $answer_status, not a token: $(excerpt "$answer_body")"$'\n' \
          ' Set PULUMI_BACKEND_URL to the Pulumi Cloud API. Redirects are not followed.'
        ;;
      60/* | 77/*)
        # 77: curl found no certificates of authorities.
        fail 69 "The TLS certificate could not be verified. $failure."
        ;;
      *)
        exit_code=69
        problem=$failure
        ;;
    esac

    wait_to_retry "$exit_code" "$problem"
    if ((backoff < 4)); then
      backoff=$((backoff * 2))
    fi
  done

  accept_token
}

# read_id_token: sets the caller's `id_token`, or exits.
read_id_token() {
  local +x mount=/var/run/secrets/pulumi.com/serviceaccount
  local +x file=''
  file=$(excerpt "$token_file")
  if [[ ! -e $token_file ]]; then
    fail 66 "No ID token: the file '$file' does not exist." \
      "Add the projected volume pulumi-id-token to the pod, and mount it in this container at $mount."
  fi
  if [[ ! -f $token_file || ! -r $token_file ]]; then
    fail 66 "No ID token: user $EUID cannot read the file '$file'. Set fsGroup in the pod's securityContext."
  fi

  id_token=''
  # Fails if the file does not end with a line break.
  read -r -n 16384 id_token <"$token_file" || true
  if [[ ! $id_token =~ ^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$ ]]; then
    fail 66 "No ID token: the file '$file' does not contain a JWT." \
      "Mount the projected volume pulumi-id-token in this container at $mount."
  fi
}

# request SECONDS: sends one request, which ends after these seconds. Sets the `answer_` variables of `exchange`.
request() {
  local +x scheme=${url%%:*}
  local +x seconds=$1
  if ((seconds > 10)); then
    seconds=10
  elif ((seconds < 1)); then
    seconds=1
  fi
  local +x -a options=(
    --disable # no .curlrc; works only as the first argument
    --silent
    --proto "=$scheme"
    --max-time "$seconds"
    --write-out '\n%{exitcode} %{http_code} %header{retry-after}|%{errormsg}'
  )
  if [[ $scheme == http ]]; then
    # A proxy would see the token in plaintext.
    options+=(--noproxy '*')
  fi
  local +x oauth=urn:ietf:params:oauth
  local +x -a fields=(
    --data "audience=urn:pulumi:org:$organization"
    --data "grant_type=$oauth:grant-type:token-exchange"
    --data "subject_token_type=$oauth:token-type:id_token"
    --data "requested_token_type=urn:pulumi:token-type:access_token:$token_type"
    --data "expiration=$expiration"
    --data-urlencode "scope=$token_scope"
    # From standard input: every process of the node can see arguments.
    --data-urlencode subject_token@-
  )

  local +x answer=''
  # Limited here, since curl's --max-filesize accepts an answer in chunks of any length. `read` fails at the end of an
  # answer that is shorter. A here-string would write the ID token to a file. `exec` leaves no shell that would keep the
  # script's standard error open after a signal.
  if read -r -N 65536 answer < <(
    exec curl "${options[@]}" "${fields[@]}" "$url/api/oauth/token" 2>/dev/null < <(printf %s "$id_token")
  ); then
    fail 76 "$url returned more than 65536 bytes, not a token."
  fi

  local +x pattern=$'\n([0-9]+) ([0-9]+) ([^|\n]*)\\|([^\n]*)$'
  if [[ ! $answer =~ $pattern ]]; then
    fail 69 'curl reported no result. Use an image that contains curl 7.84 or later.'
  fi
  answer_body=${answer%"${BASH_REMATCH[0]}"}
  answer_curl_code=${BASH_REMATCH[1]}
  answer_status=${BASH_REMATCH[2]}
  answer_retry_after=${BASH_REMATCH[3]}
  answer_curl_message=${BASH_REMATCH[4]}
  # It can also be a date, which is ignored.
  if [[ ! $answer_retry_after =~ ^[1-9][0-9]{0,4}$ ]]; then
    answer_retry_after=0
  fi
}

# wait_to_retry EXIT_CODE PROBLEM: waits at least as long as Retry-After says, or the `backoff` of `exchange` in
# seconds. Exits with this code if the limit of `exchange` would be exceeded.
wait_to_retry() {
  local +x exit_code=$1
  local +x problem=$2
  local +x wait=$backoff
  if ((answer_retry_after > 0)); then
    wait=$answer_retry_after
  fi
  # Keeps many pods from retrying at once, also after Retry-After.
  local +x jitter=$((RANDOM % (backoff * 1000)))
  local +x milliseconds=$((wait * 1000 + jitter))
  if (((SECONDS - started) * 1000 + milliseconds >= limit * 1000)); then
    fail "$exit_code" "$problem. Giving up:" \
      "another attempt would exceed the $limit s of PULUMI_TOKEN_RETRY_SECONDS."
  fi

  local +x pause=''
  printf -v pause '%d.%03d' $((milliseconds / 1000)) $((milliseconds % 1000))
  "$report" "$problem. Retrying in $pause s."
  # Waits without another program, and ends at a signal: nothing arrives from this pipe, whose other end stays open too.
  # An exit code above 128 means that the time is over.
  local +x outcome=0
  read -r -t "$pause" _ <> <(:) || outcome=$?
  if ((outcome <= 128)); then
    fail "$exit_code" "$problem. Giving up: bash could not wait."
  fi
}

# accept_token: sets the caller's `granted_token` and `granted_until` from the answer, or exits.
accept_token() {
  local +x token_pattern='"access_token": ?"([A-Za-z0-9._~+/=-]+)"'
  local +x expiry_pattern='"expires_in": ?([1-9][0-9]{0,8})[,}]'
  if [[ ! $answer_body =~ $token_pattern ]]; then
    fail 76 "$url returned no valid access token."
  fi
  granted_token=${BASH_REMATCH[1]}
  if [[ $answer_body =~ $expiry_pattern ]]; then
    granted_until=$(rfc_3339 $((asked_at + BASH_REMATCH[1])))
  fi
}

# deny: exits with the answer, the request, and the claims that an allow policy must match.
deny() {
  fail 77 "$url denied the token exchange: HTTP $answer_status: $(excerpt "$answer_body")
  Requested from organization $organization: $requested, $expiration seconds.
  An allow policy of its OIDC issuer must match the request and the claims of this ID token: $(claims)"
}

# claims: prints the beginning of the claims in the ID token, which are JSON in base64url.
claims() {
  local +x alphabet=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_
  local +x payload=${id_token#*.}
  payload=${payload%%.*}
  # What a message can contain, and not more: three bytes in four characters.
  payload=${payload:0:2720}
  local +x visible=''
  local +x bits=0
  local +x bit_count=0
  local +x position=0
  local +x preceding=''
  for ((position = 0; position < ${#payload}; position++)); do
    preceding=${alphabet%%"${payload:position:1}"*}
    bits=$((bits << 6 | ${#preceding}))
    bit_count=$((bit_count + 6))
    if ((bit_count >= 8)); then
      bit_count=$((bit_count - 8))
      add_visible $((bits >> bit_count))
      bits=$((bits & ((1 << bit_count) - 1)))
    fi
  done
  printf %s "$visible"
}

# excerpt TEXT: prints the beginning of a text in about 500 visible characters, without what could be a token or a
# password. It goes from left to right without regular expressions, so that no text takes long.
excerpt() {
  local +x rest=${1:0:4096}
  # What is cut off at the end may be the beginning of a secret.
  local +x is_cut=$((${#1} >= 4096))
  local +x text=''
  local +x word=''

  # User names and passwords, which are between "//" and "@" in a URL.
  while [[ $rest == *//* ]]; do
    text+=${rest%%//*}//
    rest=${rest#*//}
    # More slashes.
    word=${rest%%[!/]*}
    text+=$word
    rest=${rest:${#word}}

    word=${rest%%[/@ ]*}
    if [[ ${rest:${#word}:1} == @ ]]; then
      text+='[redacted]'
      rest=${rest:${#word}}
    elif ((is_cut && ${#word} == ${#rest})); then
      text+='[redacted]'
      rest=''
    fi
  done
  text+=$rest

  # Tokens, and their parts between dots.
  rest=$text
  text=''
  while [[ -n $rest ]]; do
    word=${rest%%[!A-Za-z0-9_+=-]*}
    rest=${rest:${#word}}
    if ((${#word} >= 40)); then
      text+='[redacted]'
    elif ((is_cut && ${#word} > 0 && ${#rest} == 0)); then
      text+='[redacted]'
    else
      text+=$word
    fi
    word=${rest%%[A-Za-z0-9_+=-]*}
    text+=$word
    rest=${rest:${#word}}
  done

  local +x visible=''
  local +x position=0
  local +x code=''
  for ((position = 0; position < ${#text} && ${#visible} < 500; position++)); do
    printf -v code %d "'${text:position:1}"
    add_visible "$code"
  done
  printf %s "$visible"
}

# add_visible BYTE: adds a byte to the caller's `visible`, escaped unless it is printable ASCII. Control characters
# would change the terminal, and others, such as bidirectional ones, how the text reads.
add_visible() {
  local +x character=''
  printf -v character '\\x%02x' "$1"
  if (($1 >= 32 && $1 <= 126)); then
    printf -v character %b "$character"
  fi
  visible+=$character
}

# seconds_since_1970: prints the time.
seconds_since_1970() {
  printf '%(%s)T' -1
}

# rfc_3339 SECONDS: prints a time since 1970, such as 2030-01-31T23:59:59Z.
rfc_3339() {
  TZ=UTC0 printf '%(%Y-%m-%dT%H:%M:%SZ)T' "$1"
}

# log TEXT...: prints a message. Kubernetes keeps the last 2,048 bytes as the termination message.
log() {
  printf '%.2047s\n' "exchange-token: $*" >&2 || true
}

# ignore TEXT...: reports nothing.
ignore() {
  return 0
}

# fail CODE TEXT...: exits with a message.
fail() {
  log "${@:2}"
  exit "$1"
}

# Grouped, since bash otherwise continues with the next command after an arithmetic error.
{
  main "$@"
  exec -- "$@"
}
