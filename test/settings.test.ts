// The settings and the exchange script accept the same strings: what the program accepts, every workload can request.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { problemsOf } from "./accounts";
import { scriptAccepts } from "./script";

const LONG = "n".repeat(100);
const NAMES = [
  ..."a A 7 _ - . @ a-b a_b a.b a@b a+b a%b a/b a,b a;b a#b a~b a&b a=b a!b a<b a'b -a @a .a".split(" "),
  ...[
    'a"b',
    "a\\b",
    "a:b",
    "a*b",
    "a?b",
    "a|[b-z]+",
    "a(b)",
    "a{2}",
    "a^b",
    "a$",
    "a b",
    " a",
    "a ",
    "a\tb",
    "a\nb",
    "a\n",
  ],
  ...[
    "\u00e9quipe",
    "\u0430",
    "a\u200bb",
    "a\u202eb",
    "a\u00a0b",
    "\u{1f600}",
    LONG,
    `${LONG}n`,
    "]",
    "[",
    "^",
  ],
];
const URLS = [
  ..."https://a.example https://a.example/ https://a.example:8443 https://A.example https://a-b.c_d.example".split(
    " ",
  ),
  ..."https://1.2.3.4 https://127.1 https://1.2.3 https://256.1.1.1 https://a.1 https://a:0 https://a:65536".split(
    " ",
  ),
  ..."http://localhost http://localhost:3000 http://127.8.9.1:81 http://[::1]:3000 http://127.1".split(" "),
  ..."http://a.example https://a/b https://a?b https://a#b https://a:b@c https://a..b https://.a https://a.".split(
    " ",
  ),
  ..."ftp://a HTTPS://a https:// https://[::2] http://127.0.0.1.example http://localhost@a".split(" "),
  ...[
    "https://a b",
    "https://a\n",
    "https://\u00e9",
    `https://${"a.".repeat(130)}a`,
    `https://${"a".repeat(64)}`,
  ],
];

/** How a string becomes a setting, and the files that the exchange script then reads. */
const USES = {
  organization: (value: string) => ({
    settings: { organization: value },
    files: { organization: value },
  }),
  userLogin: (value: string) => ({
    settings: accountWith({ tokenType: "personal", userLogin: value }),
    files: { tokenType: "personal", tokenScope: `user:${value}` },
  }),
  teamName: (value: string) => ({
    settings: accountWith({ tokenType: "team", teamName: value }),
    files: { tokenType: "team", tokenScope: `team:${value}` },
  }),
  runnerName: (value: string) => ({
    settings: accountWith({ tokenType: "runner", runnerId: "pool-1", runnerName: value }),
    files: { tokenType: "runner", tokenScope: `runner:${value}` },
  }),
  pulumiApiUrl: (value: string) => ({
    settings: { pulumiApiUrl: value },
    files: { apiUrl: value },
  }),
};

for (const [setting, use] of Object.entries(USES)) {
  test(`the exchange script accepts a string as ${setting} if and only if the settings do`, async () => {
    const values = setting === "pulumiApiUrl" ? URLS : NAMES;
    const accepted: string[] = [];
    const different: string[] = [];
    for (const value of values) {
      const { settings, files } = use(value);
      const inSettings = isAccepted(settings);
      if (inSettings) accepted.push(value);
      if (inSettings !== (await scriptAccepts(files))) different.push(value);
    }
    assert.deepEqual(different, []);
    assert.ok(accepted.length > 3 && accepted.length < values.length, accepted.join(" "));
  });
}

test("the exchange script accepts any name if and only if the settings do", async () => {
  const character = fc.oneof(
    fc.constantFrom(..."abz09_-.@+"),
    fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    fc.integer({ min: 1, max: 0x2fff }).map((code) => String.fromCharCode(code)),
  );
  const name = fc.array(character, { minLength: 1, maxLength: 6 }).map((characters) => characters.join(""));
  const use = fc.constantFrom(USES.organization, USES.userLogin, USES.teamName, USES.runnerName);
  const property = fc.asyncProperty(name, use, async (value, useOf) => {
    const { settings, files } = useOf(value);
    assert.equal(await scriptAccepts(files), isAccepted(settings));
  });
  await fc.assert(property, { numRuns: 40 });
});

test("the exchange script accepts every lifetime that the settings accept", async () => {
  for (const seconds of [1, 60, 999_999_999, 0, -1, 1.5, 1_000_000_000]) {
    const settings = accountWith({ tokenType: "organization", tokenExpirationSeconds: seconds });
    const inSettings = isAccepted({ ...settings, maxExpirationSeconds: 999_999_999 });
    assert.equal(
      await scriptAccepts({ tokenExpirationSeconds: String(seconds) }),
      inSettings,
      String(seconds),
    );
  }
});

function accountWith(settings: object) {
  return { serviceAccounts: [{ namespace: "ci", name: "deployer", ...settings }] };
}

function isAccepted(settings: object): boolean {
  return problemsOf({ ...accountWith({ tokenType: "organization" }), ...settings }).length === 0;
}
