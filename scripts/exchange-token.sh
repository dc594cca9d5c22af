#!/usr/bin/env bash
# Exchanges a workload's OIDC ID token for a short-lived Pulumi Cloud access token (RFC 8693). Two ways to run it:
#
#   exchange-token.sh                   answers one request of the Pulumi CLI, as its credential helper
#   exchange-token.sh COMMAND [ARG...]  exports PULUMI_ACCESS_TOKEN and PULUMI_BACKEND_URL, then becomes the command
#
# It reads only files in its own directory, which is one volume of the pod:
#
#   token                   the ID token
#   organization            Pulumi organization
#   tokenType               personal, organization, team, or runner
#   tokenScope              user:LOGIN, team:NAME, or runner:NAME; for organization, empty or admin
#   tokenExpirationSeconds  lifetime of the access token
#   apiUrl                  URL of Pulumi Cloud
#
# PULUMI_TOKEN_RETRY_SECONDS says how long to retry. The default is 50. For the CLI, this is also the maximum: it stops a
# credential helper after 60 seconds.
#
# Exit codes, before the command's own:
#
#   64  invalid settings, an unsupported request, or a terminal instead of a request
#   66  no ID token
#   69  Pulumi Cloud is unreachable, or its TLS certificate could not be verified
#   75  temporary failure
#   76  invalid token response
#   77  denied
#
# Requires bash 4.4.19, curl 7.84, and CA certificates. It runs no other program.
#
# Variables that hold a token are declared with `local +x`: one that the environment exports under the same name would
# otherwise stay exported, and curl would receive the token in its environment.

# If inherited, these options would export all variables and functions, and change how the following lines are read: in POSIX
# mode, bash before 5.1 cannot parse <(…). Without it, bash also removes POSIXLY_CORRECT from the environment of the command.
set +o allexport +o keyword +o histexpand +o posix

# main ARG...: exports what the command needs, or answers the CLI and exits.
main() {
  # The options below end with this function: the command gets its own.
  local -
  set +o xtrace -o errexit -o nounset

  # Characters are bytes, and [A-Z] means the same everywhere.
  local LC_ALL=C
  # Would end every `read` early.
  local TMOUT=''
  # The first process of a container ignores a signal that it does not handle.
  trap 'exit 143' INT TERM

  # Within a wrapped command, this is a token: curl must not receive it.
  export -n PULUMI_ACCESS_TOKEN

  if (($# == 0)) && [[ -t 0 ]]; then
    fail 64 'This is a credential helper: the Pulumi CLI sends it a request on standard input, here a terminal.'$'\n' \
      ' Set PULUMI_CREDENTIAL_HELPER to its path, and run the CLI.'$'\n' \
      ' To run another program with an access token, pass it as arguments: exchange-token.sh COMMAND [ARG...]'
  fi

  local script=$0
  if [[ $script != /* ]]; then
    script=$PWD/$script
  fi
  local directory=${script%/*}

  # The CLI stops a credential helper after 60 seconds.
  local cli_retry_seconds=50
  local retry_seconds=${PULUMI_TOKEN_RETRY_SECONDS:-$cli_retry_seconds}

  # What `read_file` says of a file that is not there.
  local no_file="(no file that user $EUID can read)"
  # Set by `read_settings`: the settings, and the files that could not be read.
  local unreadable=''
  local organization='' token_type='' token_scope='' expiration='' api_url=''
  read_settings
  local requested="$token_type${token_scope:+, scope $token_scope}"

  # Set by `exchange`: the access token, and when it expires (RFC 3339, empty if unknown).
  local +x granted_token='' granted_until=''

  if (($# == 0)); then
    answer_cli
    exit 0
  fi

  exchange log
  log "$organization granted an access token ($requested), valid until ${granted_until:-an unknown time}"
  export PULUMI_ACCESS_TOKEN=$granted_token
  # A CLI before 3.274.0 ignores PULUMI_CREDENTIAL_HELPER, and would send the token to its default backend.
  export PULUMI_BACKEND_URL=$api_url
}

# read_settings: sets the caller's settings, or exits.
read_settings() {
  from_one_version read_setting_files
  check_settings
  api_url=${api_url%/}
}

read_setting_files() {
  unreadable=''
  read_setting organization organization
  read_setting token_type tokenType
  read_setting token_scope tokenScope
  read_setting expiration tokenExpirationSeconds
  read_setting api_url apiUrl
}

# read_setting VARIABLE FILE: reads a setting into the caller's variable, or adds the file to the caller's `unreadable`.
read_setting() {
  if ! read_file "$1" "$2" 256; then
    unreadable+=" $2 "
  fi
}

# from_one_version COMMAND...: runs a command that reads files, and again if they were replaced meanwhile.
from_one_version() {
  local version=''
  while [[ $version != "$(volume_version)" ]]; do
    version=$(volume_version)
    "$@"
  done
}

# volume_version: prints the directory of the files. The kubelet replaces them all at once by changing the link ..data:
# https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/volume/util/atomic_writer.go
volume_version() {
  cd -P -- "$directory/..data" 2>/dev/null || cd -P -- "$directory/"
  printf %s "$PWD"
}

# read_file VARIABLE FILE LIMIT: reads a file with fewer bytes than the limit into the caller's variable. Fails with the reason in
# the variable.
read_file() {
  local file=$directory/$2
  if [[ ! -f $file || ! -r $file ]]; then
    printf -v "$1" %s "$no_file"
    return 1
  fi
  if IFS='' read -r -d '' -n "$3" "$1" 2>/dev/null <"$file"; then
    # `read` fails at the end of a file that is shorter.
    printf -v "$1" '(%d bytes or more, or a null character)' "$3"
    return 1
  fi
}

# check_settings: reports all problems at once and exits. It checks where tokens go, and that the request and messages can
# contain the other settings. The stack checks what those mean.
check_settings() {
  # 0 to 255, without leading zeros: some programs read those as octal.
  local octet='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
  # The last label begins with a letter, or the host would be an IP address in disguise, such as 127.1.
  local host_name='([A-Za-z0-9_-]{1,63}\.)*[A-Za-z][A-Za-z0-9_-]{0,62}'
  local loopback="(localhost|127(\.$octet){3}|\[::1\])"
  # 1 to 65535.
  local port='(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})'
  local api_url_pattern="(https://($host_name|$octet(\.$octet){3})|http://$loopback)(:$port)?/?"

  # Filled in by `check`.
  local problems=''
  # A space would add a scope (RFC 6749, section 3.3).
  local word='printable ASCII characters without spaces'
  check organization "$organization" '[!-~]+' "$word"
  check tokenType "$token_type" '[!-~]+' "$word"
  check tokenScope "$token_scope" '[!-~]*' "$word"
  check tokenExpirationSeconds "$expiration" '[!-~]+' "$word"
  check apiUrl "$api_url" "$api_url_pattern" 'https://HOST, or http://HOST with a loopback host'
  check 'The variable PULUMI_TOKEN_RETRY_SECONDS' "$retry_seconds" '[1-9][0-9]{0,5}' 'a number from 1 to 999999'

  if [[ -n $problems ]]; then
    fail 64 "Invalid settings:$problems"$'\n' \
      " The files are in $(excerpt "$directory/"). It must be the volume pulumi-token-exchange, from \"pulumi up\"."
  fi
}

# check NAME VALUE PATTERN DESCRIPTION: adds to the caller's `problems` unless the value was read, and the pattern matches all of it.
check() {
  if [[ $unreadable != *" $1 "* && $2 =~ ^($3)$ ]]; then
    return
  fi
  problems+=$'\n'"  $1 is '$(excerpt "$2")'."
  # Where there is no file, the end of the message says what to do.
  if [[ $2 != *"$no_file"* ]]; then
    problems+=" Set it to $4."
  fi
}

# answer_cli: answers one request of the CLI (pkg/auth/credentialhelper in pulumi/pulumi). It prints nothing else, since
# the CLI shows it to the user.
answer_cli() {
  # Set by `read_request`: why the CLI asks, and the URL of its backend in the quotes of JSON, empty if it has selected none.
  local reason='' selection=''
  read_request
  local selected_url=${selection#\"}
  selected_url=${selected_url%\"}

  local backend_field=''
  if [[ $reason == initial && -z $selection ]]; then
    # Without a selected backend, the first answer names it.
    backend_field=",\"backendUrl\":\"$api_url\""
  elif [[ ${selected_url%/} != "$api_url" ]]; then
    # `api_url` contains no character that JSON escapes: a URL with an escape is another one.
    answer_other_backend
    return
  fi

  retry_seconds=$((retry_seconds < cli_retry_seconds ? retry_seconds : cli_retry_seconds))
  exchange ignore

  local expiry_field=''
  if [[ -n $granted_until ]]; then
    expiry_field=",\"expiresAt\":\"$granted_until\""
  fi
  printf '{"version":1,"accessToken":"%s"%s%s}' "$granted_token" "$expiry_field" "$backend_field"
}

# read_request: reads the request of the CLI from standard input into the caller's `reason` and `selection`, or exits. Its keys
# are in any order, and the CLI may add others.
read_request() {
  local request='' is_whole=''
  # Fails at the end of the input. Otherwise, there is more of it, or a null character.
  IFS='' read -r -d '' -n 4096 request || is_whole=yes
  # Set by `find_value`.
  local value=''

  # First, since everything else can be different in another version.
  if ! find_value version 1 'must be 1'; then
    unsupported 'It must have a version.'
  fi

  local object='^[[:space:]]*\{.*\}[[:space:]]*$'
  if [[ -z $is_whole || ! $request =~ $object ]]; then
    unsupported 'It must be a JSON object with at most 4095 bytes, and without a null character.'
  fi

  if ! find_value reason '"(initial|expired|rejected)"' 'must be initial, expired, or rejected'; then
    unsupported 'It must have a reason.'
  fi
  reason=${value//\"/}

  # In a string of JSON, a backslash escapes the next character. The CLI escapes "&", for example, as \u0026.
  if find_value selectedBackendUrl '"([^"\]|\\.)*"' 'must be a string'; then
    selection=$value
  fi
}

# find_value KEY PATTERN RULE: sets the caller's `value` to the value of a key in the caller's `request`, as it is in JSON. Fails
# if there is no such key, and exits if there are several, or if the pattern does not match the whole value.
find_value() {
  # Within a string of JSON, a quotation mark is escaped. So these belong to a key, at any depth.
  local key="[{,[:space:]]\"$1\"[[:space:]]*:"
  if [[ ! $request =~ $key ]]; then
    return 1
  fi
  if [[ $request =~ $key.*$key ]]; then
    unsupported "It must have only one $1."
  fi
  local member="${key}[[:space:]]*($2)[[:space:]]*[,}]"
  if [[ ! $request =~ $member ]]; then
    unsupported "Its $1 $3."
  fi
  value=${BASH_REMATCH[1]}
}

# unsupported PROBLEM: exits, and shows the caller's `request`.
unsupported() {
  fail 64 "Unsupported request on standard input: '$(excerpt "$request")'. $1"$'\n' \
    ' This script supports version 1 of the credential helper protocol, of the Pulumi CLI 3.274.0 or later.' \
    'If a newer CLI sent this request, update this script. To wrap a command, pass it as arguments.'
}

# answer_other_backend: answers the caller's request for a backend that this script does not serve, or for none, without a
# token. A Pulumi.yaml or `pulumi login` can select any server, and the CLI would send the token there.
answer_other_backend() {
  if [[ $reason != initial ]]; then
    local selected='no backend'
    if [[ -n $selected_url ]]; then
      selected="the backend '$(excerpt "$selected_url")'"
    fi
    fail 77 "Denied: the Pulumi CLI selected $selected, and tokens are only for $api_url."
  fi
  # Another Pulumi Cloud can be a mistake. A state file, such as s3://, needs no token at all.
  if [[ $selected_url =~ ^[Hh][Tt][Tt][Pp][Ss]?: ]]; then
    log "No access token for the backend '$(excerpt "$selected_url")': this credential helper serves only $api_url."
  fi
  # Declines: the CLI continues as without a credential helper. Its pod may never have asked for this one.
  printf '{}'
}

# exchange REPORT: exchanges the ID token, with retries. Calls REPORT with a message before each retry. Sets the
# caller's `granted_token` and `granted_until`, or exits.
exchange() {
  local report=$1 started=$SECONDS backoff=1 asked_at=''
  # Set by `read_id_token`.
  local +x id_token=''
  # Set by `request`: the HTTP status (000 if there was no answer), the body, the seconds of Retry-After (0 if there are
  # none), the exit code of curl, and its message.
  local +x answer_body=''
  local answer_status='' answer_retry_after='' answer_curl_code='' answer_failure=''

  while true; do
    # Anew for each attempt, since the kubelet replaces the file.
    read_id_token
    printf -v asked_at '%(%s)T' -1
    request $((retry_seconds - (SECONDS - started)))

    case $answer_curl_code/$answer_status in
      0/2??) break ;;
      */400 | */401 | */403)
        # No claim is the reason: Pulumi Cloud answers so for an organization that does not exist, or has no OIDC issuer.
        if [[ $answer_body == *'invalid organization'* ]]; then
          fail 77 "$api_url denied the token exchange: HTTP $answer_status: $(excerpt "$answer_body")
  Correct the setting organization: $organization does not exist there, or has no OIDC issuer."
        fi
        fail 77 "$api_url denied the token exchange: HTTP $answer_status: $(excerpt "$answer_body")
  Requested from organization $organization: $requested, $expiration seconds.
  An allow policy of its OIDC issuer must match the request and the claims of this ID token.
  If no exchange of this access stack was ever granted, rules may not match lists such as aud: try audienceRule: false, and undo it if that does not help.
  Claims: $(claims)"
        ;;
      */408 | */429 | */5??) wait_to_retry 75 "$api_url returned HTTP $answer_status" ;;
      0/* | */[34]??)
        fail 76 "$api_url returned HTTP $answer_status, not a token: $(excerpt "$answer_body")"$'\n' \
          ' Set pulumiApiUrl to the Pulumi Cloud API. Redirects are not followed.'
        ;;
      # Exit codes of curl, not of this script: 60 is an invalid certificate, 77 that it found none of an authority.
      60/* | 77/*) fail 69 "The TLS certificate could not be verified. $answer_failure." ;;
      *) wait_to_retry 69 "$answer_failure" ;;
    esac
  done

  local token_pattern='"access_token": ?"([A-Za-z0-9._~+/=-]+)"'
  if [[ ! $answer_body =~ $token_pattern ]]; then
    fail 76 "$api_url returned no valid access token."
  fi
  granted_token=${BASH_REMATCH[1]}
  local expiry_pattern='"expires_in": ?([1-9][0-9]{0,8})[,}]'
  if [[ $answer_body =~ $expiry_pattern ]]; then
    TZ=UTC0 printf -v granted_until '%(%Y-%m-%dT%H:%M:%SZ)T' $((asked_at + BASH_REMATCH[1]))
  fi
}

# read_id_token: sets the caller's `id_token`, or exits.
read_id_token() {
  local file=$directory/token problem='does not contain a JWT'
  local is_read=true
  from_one_version read_token_file
  id_token=${id_token%$'\n'}
  if [[ $is_read == false || ! $id_token =~ ^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$ ]]; then
    if [[ ! -f $file || ! -r $file ]]; then
      problem="is not a file that user $EUID can read"
    fi
    fail 66 "No ID token: $(excerpt "$file") $problem. The volume pulumi-token-exchange must have a" \
      'serviceAccountToken as a source, with the path token. If all containers run as one user, only it can read this.'
  fi
}

read_token_file() {
  is_read=true
  if ! read_file id_token token 16384; then
    is_read=false
  fi
}

# request SECONDS: sends one request, which ends after these seconds. Sets the `answer_` variables of `exchange`.
request() {
  local scheme=${api_url%%:*}
  local seconds=$(($1 < 10 ? $1 : 10))
  seconds=$((seconds > 1 ? seconds : 1))
  local -a options=(
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
  local oauth=urn:ietf:params:oauth
  local -a fields=(
    --data-urlencode "audience=urn:pulumi:org:$organization"
    --data-urlencode "grant_type=$oauth:grant-type:token-exchange"
    --data-urlencode "subject_token_type=$oauth:token-type:id_token"
    --data-urlencode "requested_token_type=urn:pulumi:token-type:access_token:$token_type"
    --data-urlencode "expiration=$expiration"
    --data-urlencode "scope=$token_scope"
    # From standard input: every process of the node can see arguments.
    --data-urlencode subject_token@-
  )
  local +x answer=''
  # Limited here, since curl's --max-filesize accepts an answer in chunks of any length. `read` fails at the end of an
  # answer that is shorter.
  if read -r -N 65536 answer < <(send "${options[@]}" "${fields[@]}"); then
    fail 76 "$api_url returned more than 65536 bytes, not a token."
  fi

  local pattern=$'\n([0-9]+) ([0-9]+) ([^|\n]*)\\|([^\n]*)$'
  if [[ ! $answer =~ $pattern ]]; then
    fail 69 'curl reported no result. Use an image that contains curl 7.84 or later.'
  fi
  answer_body=${answer%"${BASH_REMATCH[0]}"}
  answer_curl_code=${BASH_REMATCH[1]}
  answer_status=${BASH_REMATCH[2]}
  answer_retry_after=${BASH_REMATCH[3]}
  local message=${BASH_REMATCH[4]}
  # Ends before a quotation mark: curl quotes the URL of a proxy, with its password. The apostrophe in "Couldn't" is not one.
  message=${message%%[!A-Za-z][\'\"]*}
  answer_failure="Failed to reach $api_url: $(excerpt "$message") (curl exit code $answer_curl_code)"
  # It can also be a date, which is ignored.
  if [[ ! $answer_retry_after =~ ^[1-9][0-9]{0,4}$ ]]; then
    answer_retry_after=0
  fi
}

# send OPTION...: becomes curl, which reads the caller's `id_token` and prints the answer.
send() {
  # A here-string would write the ID token to a file. `exec` leaves no shell that would keep the script's standard error
  # open after a signal.
  exec curl "$@" "$api_url/api/oauth/token" 2>/dev/null < <(printf %s "$id_token")
}

# wait_to_retry EXIT_CODE PROBLEM: waits at least as long as Retry-After says, or the `backoff` of `exchange` in
# seconds, which it doubles. Exits with this code if the time to retry would be exceeded.
wait_to_retry() {
  local wait=$((answer_retry_after > 0 ? answer_retry_after : backoff))
  # Keeps many pods from retrying at once, even after Retry-After.
  local milliseconds=$((wait * 1000 + RANDOM % (backoff * 1000)))
  if (((SECONDS - started) * 1000 + milliseconds >= retry_seconds * 1000)); then
    fail "$1" "$2. Giving up: another attempt would exceed the limit of $retry_seconds s." \
      "PULUMI_TOKEN_RETRY_SECONDS sets it, for the Pulumi CLI to at most $cli_retry_seconds s."
  fi

  local pause='' outcome=0
  printf -v pause '%d.%03d' $((milliseconds / 1000)) $((milliseconds % 1000))
  "$report" "$2. Retrying in $pause s."
  # Waits without another program, and ends at a signal: nothing arrives from this pipe, whose other end stays open too.
  # An exit code above 128 means that the time is over.
  read -r -t "$pause" _ <> <(:) || outcome=$?
  if ((outcome <= 128)); then
    fail "$1" "$2. Giving up: bash could not wait."
  fi
  backoff=$((backoff < 4 ? backoff * 2 : 4))
}

# claims: prints the beginning of the claims in the ID token, which are JSON in base64url.
claims() {
  local alphabet=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_
  local +x payload=${id_token#*.}
  payload=${payload%%.*}
  # What a message can contain, and not more: three bytes in four characters.
  payload=${payload:0:2720}
  local bits=0 bit_count=0 position=0 preceding='' byte='' bytes=''
  for ((position = 0; position < ${#payload}; position++)); do
    preceding=${alphabet%%"${payload:position:1}"*}
    bits=$((bits << 6 | ${#preceding}))
    bit_count=$((bit_count + 6))
    if ((bit_count >= 8)); then
      bit_count=$((bit_count - 8))
      printf -v byte '\\x%02x' $((bits >> bit_count & 255))
      bytes+=$byte
    fi
  done
  # A variable cannot contain a null character.
  printable "$(printf %b "${bytes//'\x00'/'\\x00'}")"
}

# excerpt TEXT: prints at most 200 printable characters, without secrets. The signature of an ID token is redacted. With RS256,
# as on EKS, it also has more characters than that.
excerpt() {
  local text=${1:0:200}
  # The value of a key such as "access_token" in JSON, whatever it consists of. It may be cut off.
  local member='([Tt](oken|OKEN)"[[:space:]]*:[[:space:]]*)"([^"\]|\\.)*"?'
  while [[ $text =~ $member ]]; do
    text=${text/"${BASH_REMATCH[0]}"/"${BASH_REMATCH[1]}[redacted]"}
  done
  # User names and passwords, which are between "//" and "@" in a URL; and tokens, or their parts between dots.
  local secret='//[^/@ ]+@|[A-Za-z0-9_+=-]{40,}'
  while [[ $text =~ $secret ]]; do
    text=${text/"${BASH_REMATCH[0]}"/'[redacted]'}
  done
  # What is cut off could be the beginning of one.
  if [[ ${#1} -gt 200 && $text =~ (//[^/@\ ]+|[A-Za-z0-9_+=-]+)$ ]]; then
    text=${text%"${BASH_REMATCH[0]}"}'[cut off]'
  fi
  text=$(printable "$text")
  printf %s "${text:0:200}"
}

# printable TEXT: prints a text with every byte escaped that is not printable ASCII. Control characters would change the
# terminal, and others, such as bidirectional ones, how the text reads.
printable() {
  local text=$1 code=''
  while [[ $text =~ [^\ -~] ]]; do
    printf -v code %02x "'${BASH_REMATCH[0]}"
    # The last two digits, since some C libraries add a constant to bytes that are not ASCII.
    text=${text//"${BASH_REMATCH[0]}"/"\\x${code: -2}"}
  done
  printf %s "$text"
}

# log TEXT...: prints a message. Kubernetes keeps the last 2,048 bytes of the log as the termination message.
log() {
  printf '%.1799s\n' "exchange-token: $*" >&2 || true
}

# ignore TEXT...: prints nothing, in place of `log`.
ignore() {
  :
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
