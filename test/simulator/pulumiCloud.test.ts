// The emulated Pulumi Cloud decides as documented: engine tests rely on what it denies.

import assert from "node:assert/strict";
import { test } from "node:test";
import { denialOf, matchesPattern } from "../../simulator/pulumiCloud";

test("a pattern matches a whole value: * is any characters, ? zero or one, and . exactly one", () => {
  for (const [pattern, matching, others] of [
    ["runner-*", ["runner-", "runner-a.b\nc"], ["runner", "a-runner-"]],
    ["runner?", ["runner", "runners"], ["runnerss", "Runner"]],
    ["a.b", ["a.b", "a\u{1f511}b"], ["ab", "a--b"]],
    ["(a|b)+[c]^$\\", ["(a|b)+[c]^$\\"], ["ac", "a"]],
    // A regular expression would need hours.
    [`${"*?a".repeat(30)}b`, [`${"a".repeat(60)}b`], ["a".repeat(253)]],
  ] satisfies [string, string[], string[]][]) {
    for (const value of matching) assert.ok(matchesPattern(pattern, value), value);
    for (const value of others) assert.ok(!matchesPattern(pattern, value), value);
  }
});

test("an allow policy grants the token of its owner, and no other token", () => {
  for (const [owner, granted, denied] of [
    [{ tokenType: "personal", userLogin: "alice" }, "user:alice", "user:alice-2"],
    [{ tokenType: "team", teamName: "ops" }, "team:ops", "team:ops-eu"],
    [{ tokenType: "organization" }, "", "admin"],
    [{ tokenType: "organization", authorizedPermissions: ["admin"] }, "admin", "user:alice"],
  ] as const) {
    const policy = {
      decision: "allow",
      ...owner,
      authorizedPermissions: [...(owner.authorizedPermissions ?? [])],
      rules: {},
    };
    const { tokenType } = owner;
    assert.equal(denialOf([policy], {}, { tokenType, scope: granted }), undefined);
    assert.notEqual(denialOf([policy], {}, { tokenType, scope: denied }), undefined);
    assert.notEqual(
      denialOf([{ ...policy, decision: "deny" }], {}, { tokenType, scope: granted }),
      undefined,
    );
  }
});
