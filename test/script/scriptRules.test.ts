// The settings, and the exchange script in every pod, accept the same strings: those that follow the rules in this file.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { problemsOf } from "../support/accounts";
import { scriptAccepts } from "../support/script";

const OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const HOST_NAME = "([A-Za-z0-9_-]{1,63}\\.)*[A-Za-z][A-Za-z0-9_-]{0,62}";
const LOOPBACK = `(localhost|127(\\.${OCTET}){3}|\\[::1\\])`;
const PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";
const API_URL = RegExp(
  `^(?=.{1,255}$)(https://(${HOST_NAME}|${OCTET}(\\.${OCTET}){3})|http://${LOOPBACK})(:${PORT})?/?$`,
);

/** What is accepted for some of the names, and for none. */
const NAMES = [
  ..."acme alice A-z_0.9 7 _ - . @ .a -a _a @a a.b a@b a+b@c a%b a/b a,b a;b a#b a~b a&b a=b a!b a<b a>b a:b".split(
    " ",
  ),
  ..."'a' \"a\" a\\b a|[b-z]+ a* a? a(b) a{2} a^b a$ R&D a/b,c=d~e! `id` $(id) ~ ! # % & ; < > @ { } [ ] ^".split(
    " ",
  ),
  ..."admin user: team:a 0 1 équipe ａ \u0430 a\u200bb \u202ea \u{1f600}".split(" "),
  ...["", " ", "a b", " a", "a ", "a\n", "a\nb", "a\tb", "a\u00a0b"],
  ...[100, 101, 5000].map((length) => "n".repeat(length)),
];

const URLS = [
  ...`
    https://api.pulumi.com https://api.pulumi.com/ https://api.pulumi.com:443 https://A_b-c.example https://pulumi
    https://10.0.0.1:8443/ https://255.255.255.255 https://xn--p1ai https://example.com:1 https://example.com:65535
    http://localhost http://localhost:3000/ http://127.0.0.1 http://127.255.0.9:80 http://[::1]:8080/
    https://256.0.0.1 https://1.2.3 https://127.1 https://0x7f.1 https://1 https://a.1 https://127.0.0.010 https://[::1]
    https://example.com:0 https://example.com:65536 https://example.com:99999 https://example.com:080
    https://example.com: http://api.pulumi.com http://localhost.example.com http://127.0.0.1.example.com http://127.0.0
    http://10.0.0.1 http://128.0.0.1 http://[::2] http://127.1 http://localhost@a https://ada@example.com
    https://ada:pw@example.com https:// https:/// https://. https://a..b https://.a https://a. https://example.com//
    https://example.com/path https://example.com?x https://example.com#x https://example.com\\x https://{a,b}.example
    ftp://localhost file:///etc/passwd HTTPS://api.pulumi.com api.pulumi.com https://é.example http://2130706433
    https://example.com/%2e https://example.com/.. http://localhost@example.com http://0177.0.0.1 http://0x7f000001
    http://[::ffff:127.0.0.1] https://example.com\\@example.org
  `
    .trim()
    .split(/\s+/),
  ...["", "https://a b", "https://example.com\n"],
  ...[63, 64].map((length) => `https://${"a".repeat(length)}.example`),
  ...[122, 123].map((count) => `https://${"a.".repeat(count)}com`),
];

const SECONDS = "1 60 7200 999999999 0 007 -1 1.5 0x10 1e3 1000000000 a ١".split(" ");

/** A string in the settings, and in the files of the volume. */
interface Use {
  rule: RegExp;
  values: string[];
  inSettings(value: string): object;
  inFiles(value: string): Record<string, string>;
}

const USES: Record<string, Use> = {
  organization: {
    rule: /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/,
    values: NAMES,
    inSettings: (organization) => ({ organization }),
    inFiles: (organization) => ({ organization }),
  },
  userLogin: {
    rule: /^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}$/,
    values: NAMES,
    inSettings: (userLogin) => accountWith({ tokenType: "personal", userLogin }),
    inFiles: (login) => ({ tokenType: "personal", tokenScope: `user:${login}` }),
  },
  teamName: {
    rule: /^[A-Za-z0-9_!#%&',/;<=>@~-]{1,100}$/,
    values: NAMES,
    inSettings: (teamName) => accountWith({ tokenType: "team", teamName }),
    inFiles: (name) => ({ tokenType: "team", tokenScope: `team:${name}` }),
  },
  runnerName: {
    rule: /^[\]!#-9;-[^-~]{1,100}$/,
    values: NAMES,
    inSettings: (runnerName) => accountWith({ tokenType: "runner", runnerId: "pool-1", runnerName }),
    inFiles: (name) => ({ tokenType: "runner", tokenScope: `runner:${name}` }),
  },
  pulumiApiUrl: {
    rule: API_URL,
    values: URLS,
    inSettings: (pulumiApiUrl) => ({ pulumiApiUrl }),
    inFiles: (apiUrl) => ({ apiUrl }),
  },
  tokenExpirationSeconds: {
    rule: /^[1-9][0-9]{0,8}$/,
    values: SECONDS,
    inSettings: (seconds) => ({
      ...accountWith({ tokenType: "organization", tokenExpirationSeconds: numberOf(seconds) }),
      maxExpirationSeconds: 999_999_999,
    }),
    inFiles: (tokenExpirationSeconds) => ({ tokenExpirationSeconds }),
  },
};

for (const [setting, { rule, values, inSettings, inFiles }] of Object.entries(USES)) {
  test(`the settings and the exchange script accept a string as ${setting} if and only if it follows the rule`, async () => {
    const inScript = await scriptAccepts(values.map(inFiles));
    const different = values.filter((value, index) => {
      const expected = rule.test(value);
      return isAccepted(inSettings(value)) !== expected || inScript[index] !== expected;
    });
    assert.deepEqual(different, []);
    assert.ok(inScript.includes(true) && inScript.includes(false));
  });
}

test("the exchange script accepts any name if and only if the settings do", async () => {
  const character = fc.oneof(
    fc.constantFrom(..."abz09_-.@+"),
    fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    fc.integer({ min: 1, max: 0x2fff }).map((code) => String.fromCharCode(code)),
  );
  const name = fc.array(character, { minLength: 1, maxLength: 6 }).map((characters) => characters.join(""));
  const { organization, userLogin, teamName, runnerName } = USES;
  const use = fc.constantFrom(organization, userLogin, teamName, runnerName);
  const samples = fc.sample(fc.tuple(name, use), 60);
  const inScript = await scriptAccepts(samples.map(([value, use]) => use?.inFiles(value) ?? {}));
  const inSettings = samples.map(([value, use]) => isAccepted(use?.inSettings(value) ?? {}));
  assert.deepEqual(inScript, inSettings, JSON.stringify(samples.map(([value]) => value)));
});

test("the exchange script accepts the scopes that belong to the token type", async () => {
  const scopes = ["", "admin", "user:a", "team:a", "runner:a", "Admin", "user:", "admin "];
  const volumes = ["personal", "organization", "team", "runner", "admin", ""].flatMap((tokenType) =>
    scopes.map((tokenScope) => ({ tokenType, tokenScope })),
  );
  const accepted = await scriptAccepts(volumes);
  assert.deepEqual(
    volumes.filter((_, index) => accepted[index]).map((it) => `${it.tokenType} ${it.tokenScope}`),
    ["personal user:a", "organization ", "organization admin", "team team:a", "runner runner:a"],
  );
});

/** Returns a number as YAML has it, and what is not one as it is. */
function numberOf(text: string): number | string {
  return /^-?[1-9.0-9]+$/.test(text) && !text.startsWith("00") ? Number(text) : text;
}

function accountWith(settings: object) {
  return { serviceAccounts: [{ namespace: "ci", name: "deployer", ...settings }] };
}

function isAccepted(settings: object): boolean {
  return problemsOf({ ...accountWith({ tokenType: "organization" }), ...settings }).length === 0;
}
