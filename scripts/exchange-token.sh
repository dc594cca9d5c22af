#!/usr/bin/env bash
#
# Trades the pod's OIDC id token for a short-lived Pulumi Cloud access token, then becomes the command.
#
#   Usage: entrypoint.sh COMMAND [ARG...]
#
#   PULUMI_ORG                  the Pulumi organization
#   PULUMI_TOKEN_TYPE           personal, organization, team or runner
#   PULUMI_TOKEN_SCOPE          user:LOGIN, team:NAME or runner:NAME; for organization empty or admin
#   PULUMI_TOKEN_EXPIRATION     life of the access token, in seconds
#   PULUMI_BACKEND_URL          Pulumi Cloud; default https://api.pulumi.com
#   PULUMI_TOKEN_RETRY_SECONDS  how long to try for; default 60
#   PULUMI_OIDC_TOKEN_FILE      file of the id token; default AWS_WEB_IDENTITY_TOKEN_FILE, else where EKS mounts it
#
# The command finds the token in PULUMI_ACCESS_TOKEN and when it ends in PULUMI_ACCESS_TOKEN_EXPIRES_AT (RFC 3339;
# not set when the service does not say). No token is ever in an argument list, a log or a file of this script.
#
# Exit codes (sysexits.h): 64 usage or settings, 66 no id token, 69 service unreachable, 75 temporary failure,
# 76 an answer that is no token response, 77 refused. After that the command's own.
#
# Needs Bash 4.4, curl 7.84 and coreutils. The protocol is RFC 8693, as described at
# https://www.pulumi.com/docs/administration/access-identity/oidc-issuers/

set +o allexport # inherited, it would hand the functions below to the command

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  printf 'exchange-token: needs Bash 4.4 or later, and this is %s: choose another image\n' "$BASH_VERSION" >&2
  exit 64
fi

# exchange_token COMMAND [ARG...]: exports the access token and its expiry, or exits.
exchange_token() {
  # Options and variables end with this function: the command gets its environment as it was given.
  local -
  set +o xtrace +o verbose -Eeuo pipefail # an inherited xtrace would print tokens
  local LC_ALL=C

  local answer_limit=16384 # bytes with the headers; a token response has about one thousand
  local attempt_limit=20   # seconds
  local url=${PULUMI_BACKEND_URL-https://api.pulumi.com}
  local retry_seconds=${PULUMI_TOKEN_RETRY_SECONDS-60}
  local token_file=/var/run/secrets/eks.amazonaws.com/serviceaccount/token
  token_file=${PULUMI_OIDC_TOKEN_FILE-${AWS_WEB_IDENTITY_TOKEN_FILE-$token_file}}
  check_settings "$@"
  while [[ $url == */ ]]; do url=${url%/}; done

  # The first process of a container ignores signals that it does not handle, and Bash handles them between commands
  # or in `read` and `wait`: whatever takes time runs in the background as $!.
  trap 'stop 143' TERM
  trap 'stop 130' INT

  local +x id_token='' # or, exported under the same name, curl would inherit it
  local head='' body='' status='' problem='' asked_at=0 deadline=$((SECONDS + retry_seconds)) step=1
  while :; do
    read_id_token # on each attempt: the kubelet replaces it
    request
    case $status in
      2??)
        accept
        return
        ;;
      408 | 429 | 5??) pause 75 "$url answers HTTP $status" ;;
      4??) refuse ;;
      '') pause 69 "$url cannot be reached: $problem" ;;
      *) fail 76 "$url answers HTTP $status and no redirect is followed: set PULUMI_BACKEND_URL to the API itself" ;;
    esac
  done
}

# check_settings COMMAND [ARG...]: exits with all that is wrong with the settings.
check_settings() {
  local problems=() scope=''
  local hosts='https://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])' loopback='http://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])'
  (($# > 0)) || problems+=('no command is given: entrypoint.sh COMMAND [ARG...]')
  type -P curl >/dev/null || problems+=('there is no curl: choose an image that has it')

  check PULUMI_ORG '^[A-Za-z0-9][A-Za-z0-9._-]*$' 'the name of a Pulumi organization'
  check PULUMI_TOKEN_TYPE '^(personal|organization|team|runner)$' 'personal, organization, team or runner'
  # OAuth separates scopes by spaces: one that holds a space would ask for more than its name says.
  case ${PULUMI_TOKEN_TYPE-} in
    personal) scope=user:LOGIN ;;
    team | runner) scope=$PULUMI_TOKEN_TYPE:NAME ;;
    organization) [[ ${PULUMI_TOKEN_SCOPE-} =~ ^(admin)?$ ]] || check PULUMI_TOKEN_SCOPE '^$' 'empty or admin' ;;
  esac
  [[ -z $scope ]] || check PULUMI_TOKEN_SCOPE "^${scope%:*}:[^[:space:][:cntrl:]]+\$" "$scope, without spaces"
  check PULUMI_TOKEN_EXPIRATION '^[1-9][0-9]{0,8}$' 'a positive whole number of seconds'
  [[ ! -v PULUMI_TOKEN_RETRY_SECONDS ]] ||
    check PULUMI_TOKEN_RETRY_SECONDS '^[1-9][0-9]{0,5}$' 'a positive whole number of seconds'
  [[ ! -v PULUMI_BACKEND_URL ]] ||
    check PULUMI_BACKEND_URL "^($hosts|$loopback)(:[0-9]{1,5})?/*\$" 'https://HOST, or http://HOST on a loopback host'

  ((${#problems[@]} == 0)) || fail 64 "${problems[@]}"
}

# check NAME PATTERN DESCRIPTION: adds to the caller's `problems` unless the variable NAME matches.
check() {
  if [[ ! -v $1 ]]; then
    problems+=("$1 is not set; it must be $3")
  elif [[ ! ${!1} =~ $2 ]]; then
    problems+=("$1 must be $3; it is '$(redacted "${!1/*@/...@}")'") # before @ there may be a password
  fi
}

# Reads the caller's `token_file` into its `id_token`, or exits.
read_id_token() {
  local name
  name="the id token's file '$(redacted "$token_file")'"
  [[ -e $token_file ]] || fail 66 "$name does not exist: the service account must be annotated before the pod is made"
  [[ -f $token_file ]] || fail 66 "$name is no regular file"
  [[ -r $token_file ]] || fail 66 "$name cannot be read by user $EUID: set the pod's fsGroup"
  id_token=''
  ! read -r -N "$answer_limit" id_token <"$token_file" || fail 66 "$name has more than $answer_limit bytes"
  id_token=${id_token%"${id_token##*[![:space:]]}"}
  [[ -n $id_token ]] || fail 66 "$name is empty"
  [[ $id_token =~ ^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$ ]] || fail 66 "$name holds no JWT"
}

# Asks for the token once. Sets the caller's `status`, `head` and `body`, or an empty `status` and the `problem`, and
# `asked_at` in seconds since 1970. Exits when asking again cannot help.
request() {
  local answer='' seconds=$((deadline - SECONDS)) exit_code=0 too_large=false
  seconds=$((seconds < 1 ? 1 : seconds > attempt_limit ? attempt_limit : seconds))
  local arguments=(
    --disable # no .curlrc
    --silent --show-error --no-buffer --globoff --include --suppress-connect-headers
    --proto "=${url%%:*}" --connect-timeout 10 --max-time "$seconds"
    --header 'Accept: application/json'
    --data-urlencode "audience=urn:pulumi:org:$PULUMI_ORG"
    --data-urlencode 'grant_type=urn:ietf:params:oauth:grant-type:token-exchange'
    --data-urlencode 'subject_token_type=urn:ietf:params:oauth:token-type:id_token'
    --data-urlencode "requested_token_type=urn:pulumi:token-type:access_token:$PULUMI_TOKEN_TYPE"
    --data-urlencode "scope=${PULUMI_TOKEN_SCOPE-}"
    --data-urlencode "expiration=$PULUMI_TOKEN_EXPIRATION"
    --data-urlencode subject_token@- # standard input: others can see arguments
  )
  [[ $url == https:* ]] || arguments+=(--noproxy '*') # a proxy would see the id token in clear

  printf -v asked_at '%(%s)T' -1
  # Bounded here, since curl's --max-filesize lets a chunked answer through.
  if read -r -t $((seconds + 2)) -N "$answer_limit" answer < <(
    exec curl "${arguments[@]}" "$url/api/oauth/token" 2>&1 < <(printf '%s' "$id_token")
  ); then
    too_large=true
    kill "$!" 2>/dev/null || true
  fi
  wait "$!" || exit_code=$?
  split_answer

  if [[ $too_large == true ]]; then
    [[ $status == [45]?? ]] || fail 76 "$url answers with more than $answer_limit bytes: no token response"
  elif ((exit_code != 0)) && [[ $status != [345]?? ]]; then
    status=''
    # Of a broken answer nothing is shown but what curl itself wrote behind it.
    local end=${answer:${#answer} > 500 ? ${#answer} - 500 : 0} marker="curl: ($exit_code) "
    problem="curl exit code $exit_code"
    if [[ $end == *"$marker"* ]]; then
      end=${end##*"$marker"}
      problem="$(redacted "${end%%$'\n'*}") ($problem)"
    fi
    case $exit_code in # curl's manual, "Exit codes"
      1 | 8) fail 76 "$url gives no HTTP answer: $problem" ;;
      51 | 60 | 77 | 83 | 90 | 91) fail 69 "$url cannot be trusted: $problem" ;;
      2 | 4 | 126 | 127) fail 69 "curl cannot do its work: $problem" ;;
    esac
  elif [[ $head == "$answer" ]]; then
    problem='the head of the answer breaks off'
  elif [[ -z $status ]]; then
    fail 76 "$url gives no HTTP answer"
  fi
}

# Splits the caller's `answer` into `head` and `body`, without interim answers, and reads the `status`.
split_answer() {
  answer=${answer//$'\r'/}
  while [[ $answer =~ ^HTTP/[0-9.]+\ 1[0-9][0-9] && $answer == *$'\n\n'* ]]; do answer=${answer#*$'\n\n'}; done
  head=${answer%%$'\n\n'*}
  body=${answer:${#head}+2}
  status=''
  [[ $head == "$answer" || ! $head =~ ^HTTP/[0-9.]+\ ([0-9]{3})([^0-9]|$) ]] || status=${BASH_REMATCH[1]}
}

# pause CODE REASON: waits before the next attempt, or exits with CODE when too little time remains.
# Exponential backoff; the random part, also on top of Retry-After, keeps many pods from coming back together.
pause() {
  local code=$1 reason=$2 asked milliseconds=$((step * 500)) remaining=$(((deadline - SECONDS) * 1000))
  asked=$(retry_after)
  if [[ -n $asked ]]; then
    milliseconds=$((asked * 1000))
    reason+=" and asks to wait $asked s"
  fi
  ((milliseconds < remaining)) || fail "$code" "$reason; gave up, since PULUMI_TOKEN_RETRY_SECONDS is $retry_seconds"
  remaining=$((remaining - milliseconds))
  milliseconds=$((milliseconds + RANDOM % (step * 1000 < remaining ? step * 1000 : remaining)))
  step=$((step < 4 ? step * 2 : 4)) # seconds

  local delay
  printf -v delay '%d.%03d' $((milliseconds / 1000)) $((milliseconds % 1000))
  log "$reason; trying again in $delay s"
  sleep "$delay" >/dev/null 2>&1 &
  wait "$!"
}

# Prints the seconds that the Retry-After header in the caller's `head` asks for (RFC 9110, section 10.2.3), if any.
retry_after() {
  local header=$'\nretry-after:[ \t]*([^\n]*[^ \t\n])' value
  local date='^[a-z]{3}, [0-9]{2} [a-z]{3} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} gmt$'
  [[ -n $status && ${head,,} =~ $header ]] || return 0
  value=${BASH_REMATCH[1]}
  if [[ $value =~ $date ]]; then
    value=$(date -u -d "$value" +%s 2>/dev/null) || return 0
    value=$((value > asked_at ? value - asked_at : 0))
  fi
  [[ ! $value =~ ^0*([0-9]{1,9})$ ]] || printf '%s' "$((10#${BASH_REMATCH[1]}))"
  [[ ! $value =~ ^0*[1-9][0-9]{9,}$ ]] || printf 999999999
}

# Exports the access token in the caller's `body`, or exits.
accept() {
  local -A json
  local expires='' visible='^"([!-~]+)$'
  parse_json "$body" || fail 76 "$url answers HTTP $status without a token: the answer is no JSON object"
  [[ ${json[/access_token]-} =~ $visible ]] ||
    fail 76 "$url answers HTTP $status without a token: access_token is missing or malformed$(server_message)"
  export PULUMI_ACCESS_TOKEN=${BASH_REMATCH[1]}

  unset PULUMI_ACCESS_TOKEN_EXPIRES_AT # an inherited one would belong to another token
  if [[ ${json[/expires_in]-} =~ ^[1-9][0-9]{0,9}$ ]]; then
    expires=$(timestamp "$((asked_at + BASH_REMATCH[0]))")
    export PULUMI_ACCESS_TOKEN_EXPIRES_AT=$expires
  fi
  local scope
  scope=$(printable "${PULUMI_TOKEN_SCOPE-}" 150)
  log "$PULUMI_ORG granted an access token ($PULUMI_TOKEN_TYPE${scope:+, scope $scope}), valid until ${expires:-an unknown time}"
}

# Exits with what was refused, and what the allow policy had to match; of all that Kubernetes keeps 2048 bytes.
refuse() {
  local -A json
  local message payload expires=none
  parse_json "$body" || true
  message=$(server_message)

  payload=${id_token#*.}
  payload=${payload%.*}
  while ((${#payload} % 4)); do payload+='='; done
  payload=${payload//-/+}
  read -r -t 10 -N "$answer_limit" payload < <(printf '%s' "${payload//_//}" | base64 -d 2>/dev/null) || true
  parse_json "$payload" || true
  [[ ! ${json[/exp]-} =~ ^[1-9][0-9]{0,10}$ ]] || expires=$(timestamp "${json[/exp]}")

  fail 77 "$(printable "$url" 100) refused the exchange: HTTP $status$message" \
    "  asked for: organization $(printable "$PULUMI_ORG" 60), $PULUMI_TOKEN_TYPE token, $PULUMI_TOKEN_EXPIRATION s," \
    "    scope '$(printable "${PULUMI_TOKEN_SCOPE-}" 100)'" \
    "  id token: iss $(claim /iss), sub $(claim /sub)," \
    "    aud $(claim /aud), namespace $(claim /kubernetes.io/namespace)," \
    "    service account $(claim /kubernetes.io/serviceaccount/name), expires $expires" \
    "  The allow policy of the OIDC issuer in $(printable "$PULUMI_ORG" 60) must match these;" \
    "  the stack's settings audienceRule and policyRules add rules on aud and other claims."
}

# claim POINTER: prints a value of the caller's `json` for a message, or all of a list as Kubernetes' `aud` is one.
claim() {
  local value=${json[$1]-} index=0
  while [[ -n ${json[$1/$index]+set} ]]; do
    value+=" ${json[$1/$index]#\"}"
    index=$((index + 1))
  done
  value=${value#[\" ]}
  printable "${value:-none}" 150
}

# Prints whatever error the caller's `json` holds: OAuth's two (RFC 6749, section 5.2) and Pulumi Cloud's `message`.
server_message() {
  local name text=''
  for name in error error_description message; do
    [[ ${json[/$name]-} != \"?* ]] || text+=": ${json[/$name]#\"}"
  done
  redacted "$text"
}

# redacted TEXT: prints it without anything that could be a token, printable, cut to 250 characters.
redacted() {
  local text=$1
  [[ -z ${id_token-} ]] || text=${text//"$id_token"/[redacted]}
  while [[ $text =~ [A-Za-z0-9_+=-]{40,} ]]; do text=${text//"${BASH_REMATCH[0]}"/[redacted]}; done
  printable "$text" 250
}

# printable TEXT LENGTH: prints one line of ASCII.
printable() {
  local text=${1//[^ -~]/?}
  if ((${#text} > $2)); then text="${text:0:$2}..."; fi
  printf '%s' "$text"
}

# timestamp SECONDS: prints seconds since 1970 by RFC 3339.
timestamp() {
  local -x TZ=UTC0
  printf '%(%Y-%m-%dT%H:%M:%SZ)T' "$1"
}

# parse_json TEXT: reads an object (RFC 8259) into the caller's associative array `json`: the pointer (RFC 6901) of each
# scalar -> its text, with a quote in front if it is a string. On anything else it fails and `json` is empty.
parse_json() {
  local rest=$1 token=''
  json=()
  if take ' *' && [[ $rest == '{'* ]] && parse_value '' && [[ -z $rest ]]; then return; fi
  json=()
  return 1
}

# parse_value POINTER: moves a value from the front of the caller's `rest` to its `json`.
parse_value() {
  local pointer=$1 index=0 key
  ((${#FUNCNAME[@]} < 64)) || return 1
  case ${rest:0:1} in
    '{')
      take '\{' && take '\}' && return
      while :; do
        take_string || return 1
        key=${token//'~'/'~0'}
        key=${key//'/'/'~1'}
        take : && parse_value "$pointer/$key" || return 1
        take , || break
      done
      take '\}'
      ;;
    '[')
      take '\[' && take '\]' && return
      while :; do
        parse_value "$pointer/$index" || return 1
        index=$((index + 1))
        take , || break
      done
      take '\]'
      ;;
    '"') take_string && [[ -z ${json[$pointer]+set} ]] && json[$pointer]=\"$token ;;
    *)
      take 'true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?' &&
        [[ -z ${json[$pointer]+set} ]] && json[$pointer]=$token
      ;;
  esac
}

# take PATTERN: moves a token, and the white space after it, from the front of the caller's `rest` to its `token`.
take() {
  [[ $rest =~ ^($1)[$' \t\n\r']* ]] || return 1
  token=${BASH_REMATCH[1]}
  rest=${rest:${#BASH_REMATCH[0]}}
}

# Moves a string from the front of the caller's `rest` to its `token`. A character beyond ASCII that is written as an
# escape becomes DEL: no message shows it, and no access token may hold it.
take_string() {
  local text='' piece='^([^"\[:cntrl:]]*)("|\\["\/bfnrt]|\\u[0-9a-fA-F]{4})'
  [[ $rest == \"* ]] || return 1
  rest=${rest:1}
  while [[ $rest =~ $piece ]]; do
    text+=${BASH_REMATCH[1]}
    rest=${rest:${#BASH_REMATCH[0]}}
    case ${BASH_REMATCH[2]} in
      '"')
        take ' *'
        token=$text
        return
        ;;
      \\u00[2-7]*) printf -v token '%b' "\\x${BASH_REMATCH[2]:4}" && text+=$token ;;
      \\[\"\\/]) text+=${BASH_REMATCH[2]:1} ;;
      *) text+=$'\x7f' ;;
    esac
  done
  return 1
}

log() {
  printf 'exchange-token: %s\n' "$@" >&2 || true
}

# fail CODE LINE...: prints the lines and exits.
fail() {
  log "${@:2}"
  exit "$1"
}

# stop CODE: ends whatever runs in the background, and the script.
stop() {
  [[ -z ${!:-} ]] || kill "$!" 2>/dev/null || true
  exit "$1"
}

exchange_token "$@"
exec "$@"
