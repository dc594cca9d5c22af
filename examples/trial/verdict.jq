# What Pulumi Cloud's answers say about a question of questions.json: `held`, `not`, or `not asked`, with the reason.
#
# A question is {id, answers}, or {id, reason} if it was not asked. An answer is {ok, status, body}: whether Pulumi Cloud did what was
# asked, the HTTP status (0 without an answer), and the body without a token.

def held($why): {verdict: "held", $why};
def not_held($why): {verdict: "not", $why};
def not_asked($why): {verdict: "not asked", $why};

# The beginning of a text, for a cell of a table, without what could be a token.
def excerpt:
  gsub("pul-[0-9a-f]{40}|eyJ[\\w.-]+"; "[redacted]") | gsub("\\s+"; " ") | gsub("[^ -~]"; "?") | gsub("\\|"; "/") | .[:200];

def message:
  .body
  | if type == "object" then .message // .error_description // .error // tojson else tostring end
  | excerpt;

def said:
  if .ok then "HTTP \(.status)"
  elif .status == 0 then "no answer"
  else "HTTP \(.status): \(message)" end;

# Neither yes nor no.
def failed: (.ok | not) and (.status < 400 or .status == 408 or .status == 429 or .status >= 500);

# In the answer to an exchange, this is a denial.
def unavailable: .status == 401 or .status == 403 or .status == 404;

# As the program beside this file sets it.
def max_expiration_seconds: 600;

def granted: if .ok then held("") else not_held(said) end;
def denied: if .ok then not_held("granted") else held(said) end;
def accepted: granted;

def limited:
  if .ok | not then held("denied: \(said)")
  elif .body.expires_in == null then not_held("granted without a lifetime")
  elif .body.expires_in <= max_expiration_seconds then held("shortened to \(.body.expires_in) s")
  else not_held("granted for \(.body.expires_in) s") end;

def oauth:
  if .ok then not_asked("nothing was denied")
  elif .status == 400 and (.body | type == "object" and has("error") and has("error_description")) then held(message)
  else not_held(said) end;

# What exchanges say of a question: the last one is about it, and the one before it must be granted, or the last one says nothing.
def exchange_verdict($id):
  .[-1] as $last
  | if any(failed) then not_asked(map(select(failed))[0] | said)
    elif any(.[:-1][]; .ok | not) then not_asked("a token that it depends on is denied, too")
    elif $id == "max-lifetime" then $last | limited
    elif $id == "error-form" then $last | oauth
    elif ["unlisted", "other-account", "aud-other", "wrong-role"] | index($id) then $last | denied
    else $last | granted end;

def replaced:
  (.body.policies | map(.decision) - ["allow"]) as $others
  | if $others == [] then held("") else not_held("the issuer still has: \($others | join(", "))") end;

def rejected_as_conflict: if .status == 409 then held(message) else not_held(said) end;

# The thumbprints before an update, the update, and the thumbprints after it.
def unchanged:
  . as [$before, $update, $after]
  | if $update.ok | not then not_held($update | said)
    elif $before.body.thumbprints == $after.body.thumbprints then held("")
    else not_held("the issuer had \($before.body.thumbprints | tojson), and then \($after.body.thumbprints | tojson)" | excerpt) end;

# The tokens before the exchanges, and after them.
def listed:
  map(.body.tokens | map(.id))
  | if .[1] - .[0] == [] then not_held("no new token") else held("") end;

# The events of the audit log since the trial began.
def logged(is_sought):
  (.body.auditLogEvents // [])
  | (map(.event) | unique | join(", ") | excerpt) as $names
  | if any(is_sought) then held($names)
    elif . == [] then not_held("no events")
    else not_held("only \($names)") end;

def names_account: .authFailure != true and (tojson | test("pulumi-trial[:/]trial"));

# What the answers to an administrator say of a question.
def request_verdict($id):
  .[0] as $first
  | if any(failed or unavailable) then not_asked(map(select(failed or unavailable))[0] | said)
    elif $id == "replaced" then $first | replaced
    elif $id == "no-thumbprint" then unchanged
    elif $id == "same-url" then $first | rejected_as_conflict
    elif $id == "token-list" then listed
    elif $id == "audit-granted" then $first | logged(names_account)
    elif $id == "audit-denied" then $first | logged(.authFailure == true)
    else $first | accepted end;

def requests:
  ["replaced", "stale-thumbprint", "no-thumbprint", "same-url", "same-name", "token-list", "audit-granted", "audit-denied"];

# The verdict about one question.
def verdict:
  .id as $id
  | if .reason then not_asked(.reason | excerpt)
    elif requests | index($id) then .answers | request_verdict($id)
    else .answers | exchange_verdict($id) end;

# The questions of questions.json with the verdict about each. Input: what was asked.
def verdicts($questions):
  . as $asked
  | $questions
  | map(.id as $id | . + ($asked | map(select(.id == $id))[0] // {reason: "the trial ended before"} | verdict));

# What the verdicts mean for this project.
def conclusion:
  map(select(.required and .verdict == "not"))
  | map(.id) as $ids
  | map(.setting // empty) as $settings
  | if $ids == [] then empty
    elif ($settings | length) == ($ids | length) then
      "This project does not work here as it is (\($ids | join(", "))). It does with `\($settings | join("`, `"))`."
    else "This project does not work here (\($ids | join(", "))), and no setting helps." end;

# A table in Markdown, and the conclusion.
def report:
  "| | question | answer | |",
  "| --- | --- | --- | --- |",
  (.[] | "| `\(.id)` | \(.question) | \(.verdict) | \(.why) |"),
  "",
  conclusion,
  (.[] | select(.verdict == "not" and .setting and (.required | not)) | "`\(.id)`: \(.setting)");

# 0: the project works as it is. 1: it does not. 2: not known.
def exit_code:
  if any(.required and .verdict == "not") then 1
  elif any(.id == "job" and .verdict == "held") then 0
  else 2 end;
