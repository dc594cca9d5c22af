// The emulated Pulumi Cloud decides as documented where no test of the program needs it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuthPolicy, denialOf } from "../../simulator/pulumiCloud";

test("a deny policy takes precedence over every allow policy, for its own owner and claims", () => {
  const allow: AuthPolicy = { decision: "allow", tokenType: "team", teamName: "a", rules: { sub: "b" } };
  const deny: AuthPolicy = { ...allow, decision: "deny" };
  const denial = (...policies: AuthPolicy[]) =>
    denialOf(policies, { sub: "b" }, { tokenType: "team", scope: "team:A" });
  assert.equal(denial(allow), undefined);
  assert.match(String(denial(allow, { ...deny, rules: { sub: "*b" } })), /^a deny policy for .* matches$/);
  assert.equal(denial({ ...deny, teamName: "c" }, { ...deny, rules: { sub: "c" } }, allow), undefined);
});
