// What an answer of Pulumi Cloud says about each question of examples/trial, and where the questions are listed.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { missingJq } from "../support/programs";
import { ROOT, read, sectionOf } from "../support/project";

interface Question {
  id: string;
  question: string;
  required?: boolean;
  setting?: string;
}

const QUESTIONS: Question[] = JSON.parse(read("examples/trial/questions.json"));

interface Answer {
  ok: boolean;
  status: number;
  body?: unknown;
}

const yes = (body: unknown = null): Answer => ({ ok: true, status: 200, body });
const no = (status: number, body: unknown = { message: "reason" }): Answer => ({ ok: false, status, body });

const GRANTED = yes({ expires_in: 600 });
const DENIED = no(400, { error: "invalid_request", error_description: "reason" });
const UNAVAILABLE = no(503, "<html>");
const FORBIDDEN = no(403);
const tokens = (...ids: string[]) => yes({ tokens: ids.map((id) => ({ id })) });
const thumbprints = (...all: string[]) => yes({ thumbprints: all });
const events = (...auditLogEvents: object[]) => yes({ auditLogEvents });
const DENIAL = {
  event: "exchange-denied",
  authFailure: true,
  description: "system:serviceaccount:pulumi-trial:trial",
};
const GRANT = { event: "exchange", actorName: "system:serviceaccount:pulumi-trial:trial" };

/** A question, its answers, and the verdict with the beginning of the reason. */
const CASES: [id: string, answers: Answer[], verdict: string, why?: string][] = [
  ["own-token", [GRANTED], "held"],
  ["own-token", [DENIED], "not", "HTTP 400: reason"],
  ["own-token", [no(0, "")], "not asked", "no answer"],
  ["own-token", [no(200, "<html>")], "not asked", "HTTP 200: <html>"],
  ["own-token", [no(408)], "not asked", "HTTP 408"],
  ...["unlisted", "other-account", "aud-other", "wrong-role"].flatMap((id): typeof CASES => [
    [id, [GRANTED, DENIED], "held", "HTTP 400: reason"],
    [id, [GRANTED, FORBIDDEN], "held"],
    [id, [GRANTED, GRANTED], "not", "granted"],
    [id, [GRANTED, UNAVAILABLE], "not asked", "HTTP 503"],
    [id, [DENIED, DENIED], "not asked", "a token that it depends on is denied"],
  ]),
  ...["aud-list", "aud-none", "org-token", "org-role", "open-only", "job"].flatMap((id): typeof CASES => [
    [id, [GRANTED, GRANTED], "held"],
    [id, [GRANTED, DENIED], "not", "HTTP 400: reason"],
    [id, [GRANTED, no(404)], "not", "HTTP 404: reason"],
    [id, [GRANTED, no(429)], "not asked", "HTTP 429"],
    [id, [DENIED, GRANTED], "not asked", "a token that it depends on is denied"],
  ]),
  ["max-lifetime", [GRANTED, DENIED], "held", "denied: HTTP 400"],
  ["max-lifetime", [GRANTED, GRANTED], "held", "shortened to 600 s"],
  ["max-lifetime", [GRANTED, yes({ expires_in: 7200 })], "not", "granted for 7200 s"],
  ["max-lifetime", [GRANTED, yes({})], "not", "granted without a lifetime"],
  ["max-lifetime", [DENIED, DENIED], "not asked"],
  ["error-form", [DENIED], "held", "reason"],
  ["error-form", [no(400)], "not", "HTTP 400: reason"],
  ["error-form", [no(400, { error: "reason" })], "not", "HTTP 400: reason"],
  ["error-form", [no(401, DENIED.body)], "not", "HTTP 401: reason"],
  ["error-form", [no(400, "<html>")], "not", "HTTP 400: <html>"],
  ["error-form", [GRANTED], "not asked", "nothing was denied"],
  ["replaced", [yes({ policies: [{ decision: "allow" }, { decision: "allow" }] })], "held"],
  [
    "replaced",
    [yes({ policies: [{ decision: "deny" }, { decision: "allow" }] })],
    "not",
    "the issuer still has: deny",
  ],
  ["replaced", [FORBIDDEN], "not asked", "HTTP 403"],
  ...["stale-thumbprint", "same-name"].flatMap((id): typeof CASES => [
    [id, [yes()], "held"],
    [id, [no(400)], "not", "HTTP 400: reason"],
    [id, [FORBIDDEN], "not asked", "HTTP 403"],
  ]),
  ["no-thumbprint", [thumbprints("a"), yes(), thumbprints("a")], "held"],
  ["no-thumbprint", [thumbprints("a"), yes(), thumbprints()], "not", 'the issuer had ["a"], and then []'],
  ["no-thumbprint", [thumbprints("a"), yes(), yes({})], "not", 'the issuer had ["a"], and then null'],
  ["no-thumbprint", [thumbprints("a"), no(400), thumbprints("a")], "not", "HTTP 400: reason"],
  ["no-thumbprint", [thumbprints("a"), yes(), UNAVAILABLE], "not asked", "HTTP 503"],
  ["same-url", [no(409)], "held", "reason"],
  ["same-url", [no(400)], "not", "HTTP 400: reason"],
  ["same-url", [yes({ id: "1" })], "not", "HTTP 200"],
  ["same-url", [FORBIDDEN], "not asked", "HTTP 403"],
  ["token-list", [tokens("a"), tokens("b", "a")], "held"],
  ["token-list", [tokens("a", "b"), tokens("a")], "not", "no new token"],
  ["token-list", [FORBIDDEN, tokens()], "not asked", "HTTP 403"],
  ["audit-granted", [events(DENIAL, GRANT)], "held", "exchange, exchange-denied"],
  ["audit-granted", [events(DENIAL, { event: "exchange" })], "not", "only exchange, exchange-denied"],
  ["audit-granted", [no(404)], "not asked", "HTTP 404"],
  ["audit-denied", [events(DENIAL)], "held", "exchange-denied"],
  ["audit-denied", [events(GRANT)], "not", "only exchange"],
  ["audit-denied", [events()], "not", "no events"],
  ["audit-denied", [FORBIDDEN], "not asked", "HTTP 403"],
];

/** Applies a function of verdict.jq to a value. */
function judge(filter: string, input: unknown): string {
  const directory = join(ROOT, "examples", "trial");
  const program = `include "verdict"; ${filter}`;
  return execFileSync("jq", ["--raw-output", "--compact-output", "-L", directory, program], {
    input: JSON.stringify(input),
    encoding: "utf8",
  });
}

test("an answer to a question is that it held, or not, or that it was not asked", { skip: missingJq }, () => {
  const asked = CASES.map(([id, answers]) => ({ id, answers }));
  const verdicts: { verdict: string; why: string }[] = JSON.parse(judge("map(verdict)", asked));
  for (const [index, [id, answers, verdict, why = ""]] of CASES.entries()) {
    const found = verdicts[index];
    const what = `${id} ${JSON.stringify(answers)}: ${JSON.stringify(found)}`;
    assert.equal(found?.verdict, verdict, what);
    assert.ok(found.why.startsWith(why), what);
  }
});

test("each question can have each verdict", () => {
  for (const { id } of QUESTIONS) {
    const verdicts = CASES.filter(([ofCase]) => ofCase === id).map(([, , verdict]) => verdict);
    assert.deepEqual([...new Set(verdicts)].toSorted(), ["held", "not", "not asked"], id);
  }
  const known = QUESTIONS.map(({ id }) => id);
  assert.ok(CASES.every(([id]) => known.includes(id)));
});

test("a reason is a line of a table without tokens", { skip: missingJq }, () => {
  const secret = `pul-${"0a".repeat(20)}`;
  const body = {
    message: `a|b\n${secret}\u001b[2J eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl ${"x".repeat(300)}`,
  };
  const { why } = JSON.parse(judge("verdict", { id: "own-token", answers: [no(400, body)] }));
  assert.match(why, /^HTTP 400: a\/b \[redacted\]\?\[2J \[redacted\] x+$/);
  assert.ok(why.length <= 220);
});

for (const [what, verdicts, exitCode, conclusion] of [
  ["works if all that is required held", { job: "held", "same-name": "not" }, 0, /^$/],
  [
    "works with a setting",
    { "aud-list": "not", job: "held" },
    1,
    /^This project does not work here as it is \(aud-list\)\. It does with `audienceRule: false`\.$/,
  ],
  [
    "does not work if no setting helps",
    { "aud-list": "not", "max-lifetime": "not" },
    1,
    /^This project does not work here \(aud-list, max-lifetime\), and no setting helps\.$/,
  ],
  ["is not known to work if it was not asked", { job: "not asked", "aud-list": "held" }, 2, /^$/],
  [
    "works except for a token type, which needs a setting",
    { job: "held", "org-token": "not" },
    0,
    /^`org-token`: set `organizationRoleId` in each entry with `tokenType: organization`\.$/,
  ],
] as const) {
  test(`this project ${what}`, { skip: missingJq }, () => {
    const answered: Record<string, string> = verdicts;
    const input = QUESTIONS.map((it) => ({ ...it, verdict: answered[it.id] ?? "not asked", why: "" }));
    assert.equal(judge("exit_code", input).trim(), String(exitCode));
    const [, below = ""] = judge("report", input).split(/\n\n/);
    assert.match(below.trim(), conclusion);
  });
}

test("docs/trial.md has the table of the questions, and simulator/README.md what is assumed of each", () => {
  const rows = QUESTIONS.map(({ id, question }) => `| \`${id}\` | ${question} |`);
  assert.deepEqual(read("docs/trial.md").match(/^\| `[\w-]+` \|.*$/gm), rows);

  const assumed = sectionOf(read("simulator/README.md"), "## Assumed");
  const listed = [...assumed.matchAll(/^\| `([\w-]+)` \|/gm)].map(([, id]) => id);
  assert.deepEqual(
    listed,
    QUESTIONS.map(({ id }) => id),
  );
});

test("what the emulators assume names its question, or says that it has none", () => {
  const files = ["simulator/emulators", "test/support"].flatMap((directory) => {
    return readdirSync(join(ROOT, directory)).map((file) => read(join(directory, file)));
  });
  const mark = /\bAssumed\b(?!")(?: \(([\w, -]+)\)|(, without a question))?.*/g;
  const marks = files.flatMap((file) => [...file.matchAll(mark)]);
  assert.ok(marks.length >= 10);
  const known = QUESTIONS.map(({ id }) => id);
  for (const [text, ids, withoutQuestion] of marks) {
    const isNamed = ids?.split(", ").every((id) => known.includes(id));
    assert.ok(isNamed || withoutQuestion, text);
  }
});
