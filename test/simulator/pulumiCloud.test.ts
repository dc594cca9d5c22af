// The emulated Pulumi Cloud reads policies as documented: engine tests rely on what it denies.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type AuthPolicy, createIssuer, denialOf, exchange } from "../../simulator/pulumiCloud";

test("a deny policy takes precedence over every allow policy, for its own owner and claims", () => {
  const allow: AuthPolicy = { decision: "allow", tokenType: "team", teamName: "a", rules: { sub: "b" } };
  const deny: AuthPolicy = { ...allow, decision: "deny" };
  const denial = (...policies: AuthPolicy[]) =>
    denialOf(policies, { sub: "b" }, { tokenType: "team", scope: "team:A" });
  assert.equal(denial(allow), undefined);
  assert.match(String(denial(allow, { ...deny, rules: { sub: "*b" } })), /^a deny policy for .* matches$/);
  assert.equal(denial({ ...deny, teamName: "c" }, { ...deny, rules: { sub: "c" } }, allow), undefined);
});

test("the owner of a policy is a pattern", () => {
  const policy = { decision: "allow", rules: {} } as const;
  const denial = (owner: object, tokenType: string, scope: string) =>
    denialOf([{ ...policy, tokenType, ...owner } as AuthPolicy], {}, { tokenType, scope });
  assert.equal(denial({ teamName: "team-*" }, "team", "team:team-a"), undefined);
  assert.notEqual(denial({ teamName: "team-.b" }, "team", "team:team-b"), undefined);
  assert.equal(denial({ userLogin: "?lice" }, "personal", "user:alice"), undefined);
});

describe("the token exchange", () => {
  /** Exchanges an ID token of the organization acme, of which an issuer has this policy. */
  async function answerOf(decision: AuthPolicy["decision"], organization = "acme") {
    const { url, keys, token } = await createIssuer("https://oidc.example.com");
    const subject_token = await token({ namespace: "a", serviceAccount: "b" }, "urn:pulumi:org:acme");
    const policies: AuthPolicy[] = [{ decision, tokenType: "organization", rules: {} }];
    const issuer = { organization: "acme", url, keys, policies, maxExpirationSeconds: 600 };
    const form = new URLSearchParams({
      audience: `urn:pulumi:org:${organization}`,
      requested_token_type: "urn:pulumi:token-type:access_token:organization",
      expiration: "3600",
      subject_token,
    });
    const { status, body } = await exchange(form, [issuer]);
    return { status, ...body } as Record<string, unknown>;
  }

  test("reduces the lifetime to the issuer's limit", async () => {
    const { status, expires_in } = await answerOf("allow");
    assert.deepEqual([status, expires_in], [200, 600]);
  });

  test("does not say why it denies a token", async () => {
    const denied = { status: 401, error: "access_denied", error_description: "unauthorized" };
    assert.deepEqual(await answerOf("deny"), denied);
  });

  test("calls an organization without an issuer invalid", async () => {
    const description = "invalid organization other";
    const invalid = { status: 400, error: "invalid_request", error_description: description };
    assert.deepEqual(await answerOf("allow", "other"), invalid);
  });
});
