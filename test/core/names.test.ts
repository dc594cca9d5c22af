// Which names the settings accept, character by character. The exchange script sends them as they are.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settingsEntries, settingsProblems } from "../../settings/access";
import { check, settingsSchema } from "../../settings/validation";

/** What is accepted for some of the names, and for none. */
const NAMES = [
  ..."\t\n !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u007f".split("").map((character) => `a${character}`),
  ..."A 7 a.b@c+d R&D [b-z]+ $(id) équipe \u0430 a\u200bb \u202ea \u{1f600}".split(" "),
  ...["", "a\nb", ...[100, 101].map((length) => "n".repeat(length))],
];

/** The rules of these names are stricter for the first character. */
const NAMES_WITH_START = [...NAMES, ..."-.+@!~/".split("").map((character) => `${character}a`)];

/** The rule of logins is stricter for the last character, too, and requires three. */
const LOGINS = NAMES_WITH_START.flatMap((name) => [name, `${name}b`, `a${name}`]).concat(
  [3, 40, 41].map((length) => "n".repeat(length)),
);

/** The names that entries have, with the settings that they require. */
const RULES: [setting: string, rule: RegExp, names: string[], others: object][] = [
  ["userLogin", /^[A-Za-z0-9][A-Za-z0-9_-]{1,38}[A-Za-z0-9]$/, LOGINS, { tokenType: "personal" }],
  ["teamName", /^[A-Za-z0-9_!#%&',;<=>@~-]{1,100}$/, NAMES, { tokenType: "team" }],
  ["runnerName", /^[\]!#-9;-[^-~]{1,100}$/, NAMES, { tokenType: "runner", runnerId: "pool-1" }],
];

for (const [setting, rule, names, others] of RULES) {
  test(`accepts a string as ${setting} if and only if it follows the rule`, () => {
    assert.deepEqual(
      names.filter((name) => isAccepted({}, { ...others, [setting]: name })),
      names.filter((name) => rule.test(name)),
    );
  });
}

test("accepts a string as organization if and only if it follows the rule", () => {
  const rule = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/;
  assert.deepEqual(
    NAMES_WITH_START.filter((organization) => isAccepted({ organization }, { tokenType: "organization" })),
    NAMES_WITH_START.filter((name) => rule.test(name)),
  );
});

function isAccepted(settings: object, entry: object): boolean {
  const serviceAccounts = [{ namespace: "ci", name: "deployer", ...entry }];
  const all = { organization: "acme", issuerName: "eks", serviceAccounts, ...settings };
  return check(settingsSchema(settingsEntries), all, settingsProblems).problems.length === 0;
}
