// What lists the types of access token without settings/tokenTypes.ts knows each of them, so that a new one is missing nowhere.

import assert from "node:assert/strict";
import { test } from "node:test";
import { limits } from "../../policy/issuers";
import { ask } from "../../policy/runRules";
import { TOKEN_TYPES, TokenType } from "../../settings/tokenTypes";
import { type AuthPolicy, denialOf } from "../../simulator/pulumiCloud";
import { read } from "../support/project";

const ISSUER = { urn: "issuer", name: "issuer", type: "pulumiservice:index:OidcIssuer" };

for (const tokenType of Object.values(TokenType)) {
  const { requires, accepts = [], grant, scope } = TOKEN_TYPES[tokenType];
  const settingsOf = (names: string[]) => ({
    tokenType,
    ...Object.fromEntries(names.map((it) => [it, "a"])),
  });
  const settings = settingsOf(requires);
  const policy = { decision: "allow", tokenType, ...grant(settings), rules: {} } as AuthPolicy;
  const every = settingsOf([...requires, ...accepts]);
  const owners = Object.keys(grant(every));

  test(`the simulated Pulumi Cloud grants a token of type ${tokenType}`, () => {
    assert.equal(denialOf([policy], {}, { tokenType, scope: String(scope(settings)) }), undefined);
  });

  test(`the guardrails can forbid each owner of a token of type ${tokenType}`, () => {
    const forbidden = ["team", "user", "runner", "role"].map((kind) => `${kind}:*`);
    const granted = { decision: "allow", tokenType, rules: { sub: "b" }, ...grant(every) };
    const inputs = JSON.parse(JSON.stringify({ url: "https://a.example", policies: [granted] }));
    const messages = ask(limits, { ...ISSUER, inputs }, { limits: { forbidden } });
    assert.equal(messages.length, owners.length, messages.join());
  });

  test(`stop-exchanges.sh and docs/token-types.md know a token of type ${tokenType}`, () => {
    const script = read("examples/incident/stop-exchanges.sh");
    for (const owner of owners) {
      assert.ok(script.includes(`.tokenType == "${tokenType}" and (.${owner} // "") != ""`), owner);
    }
    const rows = read("docs/token-types.md").match(/^\|.*`tokenType: (\w+)`.*/gm) ?? [];
    const ofType = rows.filter((row) => row.includes(`\`tokenType: ${tokenType}\``)).join("");
    assert.notEqual(ofType, "");
    for (const setting of requires) assert.ok(ofType.includes(`\`${setting}\``), setting);
  });
}
