// The patterns of allow policies, as documented: engine tests rely on what the emulated Pulumi Cloud denies by them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { canBothMatch } from "../../policy/patterns";

test("a pattern matches a whole value: * is any characters, ? zero or one, and . exactly one", () => {
  for (const [pattern, matching, others] of [
    ["runner-*", ["runner-", "runner-a.b\nc"], ["runner", "a-runner-"]],
    ["runner?", ["runner", "runners"], ["runnerss", "Runner"]],
    ["a.b", ["a.b", "a\u{1f511}b"], ["ab", "a--b"]],
    ["(a|b)+[c]^$\\", ["(a|b)+[c]^$\\"], ["ac", "a"]],
    ["a*", ["a*?"], ["*"]],
    // A regular expression would need hours.
    [`${"*?a".repeat(30)}b`, [`${"a".repeat(60)}b`], ["a".repeat(253)]],
  ] satisfies [string, string[], string[]][]) {
    for (const value of matching) assert.ok(canBothMatch(pattern, value), value);
    for (const value of others) assert.ok(!canBothMatch(pattern, value), value);
  }
});

test("two patterns match if there is a value that both match, with the wildcards that the second one has", () => {
  for (const [pattern, other, expected] of [
    ["team-?-*", "*-prod", true],
    ["*-dev", "*-prod", false],
    ["a.c", "a*", true],
    ["ab", "a.", false],
    ["", "*", true],
    [`${"*a".repeat(200)}`, `${"*b".repeat(200)}`, false],
  ] satisfies [string, string, boolean][]) {
    assert.equal(canBothMatch(pattern, other, "*"), expected, `${pattern} ${other}`);
  }
});
