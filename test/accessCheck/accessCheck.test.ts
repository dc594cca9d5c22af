// The questions of the live check: which callers it knows, and how it reports their answers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { accessLines, accessMarkdown, type Result } from "../../accessCheck/answerReport";
import { accessQuestions } from "../../accessCheck/questions";
import { idOf, type Role, type ServiceAccount } from "../../accessCheck/serviceAccounts";

/** Returns a service account with the token of a team (`team:NAME`) or of the organization (`organization SCOPE`). */
function account(id: string, token: string, kind?: Role["kind"]): ServiceAccount {
  const [namespace = "", name = ""] = id.split("/");
  const [tokenType = "", scope = ""] = token.split(/[: ]/);
  const tokenScope = tokenType === "organization" ? scope : token;
  const role: Role | undefined = kind && { arn: "arn", kind, isAnnotatedByUser: false };
  const request = { tokenType, tokenScope, audience: "a", audienceRule: false, settings: {}, rules: {} };
  return { namespace, name, ...request, role, unknown: [] };
}

/** Returns the result if each service answers as intended. */
function intended(accounts: ServiceAccount[]): Result {
  const rows = accessQuestions(accounts).map((it) => ({ ...it, allowed: it.intended, reason: "" }));
  return { accounts, rows, foreign: [], isLive: false };
}

/** Returns the report of intended answers. */
function report(accounts: ServiceAccount[]): string {
  return accessLines(intended(accounts), false).join("\n");
}

test("a service account that is granted the same token is allowed as intended, but never to the role", () => {
  for (const [scope, other, isShared] of [
    ["team:a", "team:a", true],
    ["team:a", "team:b", false],
    ["organization", "organization admin", true],
    ["organization admin", "organization", false],
  ] as const) {
    const questions = accessQuestions([account("a/a", scope, "irsa"), account("b/b", other)]);
    const [token, role] = questions.filter(({ caller }) => caller.label === "b/b");
    assert.deepEqual([token?.intended, role?.intended], [isShared, false], `${scope}, ${other}`);
  }
});

test("a service account with the same token and a rule on another audience is denied as intended", () => {
  const [a, b] = ["a/a", "b/b"].map((id) => ({ ...account(id, "team:a"), audienceRule: true, audience: id }));
  assert.ok(a && b);
  const questions = accessQuestions([a, b, { ...b, name: "c", audienceRule: false }]);
  const intended = (label: string) =>
    questions.find((it) => it.account === a && it.caller.label === label)?.intended;
  assert.deepEqual([intended("b/b"), intended("b/c")], [false, true]);
});

test("the callers of other names are not service accounts of the stack", () => {
  const accounts = ["a/b", "a/b-2", "a-2/b"].map((id) => account(id, "team:a"));
  const [, name, namespace] = accessQuestions(accounts).map(({ caller }) => idOf(caller));
  assert.deepEqual([name, namespace], ["a/b-3", "a-3/b"]);
});

test("puts a name that is too long for its column on a separate line", () => {
  const id = `${"n".repeat(30)}/${"a".repeat(40)}`;
  const lines = report([account(id, "team:a", "irsa")]);
  assert.doesNotMatch(lines, /.{81}/);
  assert.ok(lines.includes(`\n  ${id}\n`));
  assert.match(lines, /^ +team:a +only itself +only itself$/m);
});

test("shows the token of each service account, and who else is granted it", () => {
  const sharing = ["a", "b", "c", "d", "e", "f", "g"].map((name) => account(`ns/${name}`, "team:ops"));
  const lines = report([...sharing, account("ns/x", "organization admin")]);
  assert.match(lines, /^ {2}ns\/a +team:ops +itself \(\+6\) +no role$/m);
  assert.match(lines, /^ {4}\(\+6\) .* same access token: ns\/b, ns\/c, ns\/d, ns\/e, ns\/f, and 1 more$/m);
  assert.match(lines, /^ {2}ns\/x +organization \(admin\) +only itself +no role$/m);
});

test("shows characters that a terminal obeys or hides, and nothing of a value becomes Markdown", () => {
  const accounts = [account("a/a", "team:\u202Eo\u001b[2J\u200bps|<img>*")];
  assert.ok(report(accounts).includes("team:\\u{202e}o\\u{1b}[2J\\u{200b}ps|<img>*"));
  const [, , row = ""] = accessMarkdown(intended(accounts)).split("\n");
  assert.doesNotMatch(row, /\p{Cc}|\p{Cf}|[<>*]|ps\|/u);
});

test("lists unexpected answers in Markdown, with what to check", () => {
  const result = intended([account("a/a", "organization")]);
  const rows = result.rows.map((row) => {
    return row.caller.label === "itself" ? { ...row, allowed: false } : row;
  });
  const advice = "Check policyRules, tokenType, and the settings of the token.";
  const answer = `- a/a, itself: **denied** by Pulumi Cloud. ${advice}`;
  assert.deepEqual(accessMarkdown({ ...result, rows }).match(/^- .*$/gm), [answer]);
});
