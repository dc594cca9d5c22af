// The settings accept the strings that the rules in this file allow, and the exchange script in every pod accepts those. It
// rejects other URLs, to which it would send tokens.

import assert from "node:assert/strict";
import { test } from "node:test";
import { accessEntries, accessRules } from "../../settings/access";
import { check, settingsSchema } from "../../settings/validation";
import { callMain, type SETTINGS } from "../support/script";

/** What is accepted for some of the names, and for none. */
const NAMES = [
  ..."\t\n !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u007f".split("").map((character) => `a${character}`),
  ..."A 7 a.b@c+d R&D [b-z]+ $(id) équipe \u0430 a\u200bb \u202ea \u{1f600}".split(" "),
  ...["", "a\nb", ...[100, 101].map((length) => "n".repeat(length))],
];

/** The rules of these names are stricter for the first character. */
const NAMES_WITH_START = [...NAMES, ..."-.+@!~/".split("").map((character) => `${character}a`)];

const URLS = wordsOf(`
  https://api.pulumi.com https://api.pulumi.com/ https://api.pulumi.com:443 https://A_b-c.example https://pulumi
  https://10.0.0.1:8443/ https://255.255.255.255 https://example.com:1 https://example.com:65535
  http://localhost http://127.0.0.1 http://127.255.0.9:80 http://[::1]:8080/ https://${"a".repeat(63)}.example
  https://${"a.".repeat(122)}com`);

const INVALID_URLS = [
  "",
  "https://a b",
  "https://a.example\n",
  ...wordsOf(`
  https://256.0.0.1 https://1.2.3 https://127.1 https://0x7f.1 https://127.0.0.010 https://[::1] https://a..b
  https://example.com:0 https://example.com:65536 https://example.com:080 https://example.com: https:// https://.
  http://api.pulumi.com http://127.0.0.1.example.com http://10.0.0.1 http://[::2] http://localhost@example.com
  https://ada:pw@example.com https://example.com// https://example.com/path https://example.com?x
  https://example.com#x https://example.com\\x https://{a,b}.example ftp://localhost HTTPS://api.pulumi.com
  api.pulumi.com https://é.example https://${"a".repeat(64)}.example https://${"a.".repeat(123)}com`),
];

/** The least that settings have. */
const REQUIRED = { organization: "acme", issuerName: "eks", ...accountWith({ tokenType: "organization" }) };

function wordsOf(text: string): string[] {
  return text.trim().split(/\s+/);
}

/** @param uses returns a value as it is in the settings, and as the script has it. */
function compare(
  setting: string,
  rule: RegExp | string[],
  values: string[],
  uses: (value: string) => [settings: object, script: Partial<typeof SETTINGS>],
): void {
  const valid = values.filter((value) => (Array.isArray(rule) ? rule.includes(value) : rule.test(value)));

  test(`the settings accept a string as ${setting} if and only if it follows the rule`, () => {
    const accepted = values.filter((value) => {
      const settings = { ...REQUIRED, ...uses(value)[0] };
      return check(settingsSchema(accessEntries), settings, accessRules).problems.length === 0;
    });
    assert.deepEqual(accepted, valid);
  });

  test(`the exchange script accepts every valid ${setting}`, async () => {
    const inScript = await exitCodes(valid.map((value) => uses(value)[1]));
    assert.deepEqual(new Set(inScript), new Set([VALID]));
  });
}

/** The exit code of the script if its settings are valid, and curl prints nothing. */
const VALID = 69;

async function exitCodes(all: Partial<typeof SETTINGS>[]): Promise<number[]> {
  const results = await callMain(all.map((settings) => ({ settings, curlPrints: [""] })));
  return results.map(({ exitCode }) => exitCode);
}

function accountWith(settings: object) {
  return { serviceAccounts: [{ namespace: "ci", name: "deployer", ...settings }] };
}

compare("organization", /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/, NAMES_WITH_START, (organization) => [
  { organization },
  { organization },
]);

compare("userLogin", /^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}$/, NAMES_WITH_START, (userLogin) => [
  accountWith({ tokenType: "personal", userLogin }),
  { tokenType: "personal", tokenScope: `user:${userLogin}` },
]);

compare("teamName", /^[A-Za-z0-9_!#%&',/;<=>@~-]{1,100}$/, NAMES, (teamName) => [
  accountWith({ tokenType: "team", teamName }),
  { tokenType: "team", tokenScope: `team:${teamName}` },
]);

compare("runnerName", /^[\]!#-9;-[^-~]{1,100}$/, NAMES, (runnerName) => [
  accountWith({ tokenType: "runner", runnerId: "pool-1", runnerName }),
  { tokenType: "runner", tokenScope: `runner:${runnerName}` },
]);

compare("pulumiApiUrl", URLS, [...URLS, ...INVALID_URLS], (url) => [{ pulumiApiUrl: url }, { apiUrl: url }]);

test("the exchange script sends no token to any other URL", async () => {
  const inScript = await exitCodes(INVALID_URLS.map((apiUrl) => ({ apiUrl })));
  assert.deepEqual(new Set(inScript), new Set([64]));
});

const LIFETIMES = wordsOf("1 7200 999999999 1000000000 0 -1 1.5 a");
compare("tokenExpirationSeconds", /^[1-9][0-9]{0,8}$/, LIFETIMES, (seconds) => [
  {
    ...accountWith({ tokenType: "organization", tokenExpirationSeconds: Number(seconds) || seconds }),
    maxExpirationSeconds: 999_999_999,
  },
  { tokenExpirationSeconds: seconds },
]);
