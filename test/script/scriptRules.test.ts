// The settings, and the exchange script in every pod, accept the same strings: those that the rules in this file allow.

import assert from "node:assert/strict";
import { test } from "node:test";
import { problemsOf } from "../support/accounts";
import { callScript, SETTINGS } from "../support/script";

const SPECIAL_CHARACTERS = [..."\t\n !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u007f"];

/** What is accepted for some of the names, and for none. */
const NAMES = [
  ...SPECIAL_CHARACTERS.flatMap((character) => [character, `${character}a`, `a${character}`]),
  ..."acme A-z_0.9 7 a.b@c+d R&D a/b,c=d~e! [b-z]+ $(id) user: équipe ａ \u0430 a\u200bb \u202ea \u{1f600}".split(
    " ",
  ),
  ...["", "a b", "a\nb"],
  ...[100, 101, 5000].map((length) => "n".repeat(length)),
];

const URLS = `
  https://api.pulumi.com https://api.pulumi.com/ https://api.pulumi.com:443 https://A_b-c.example https://pulumi
  https://10.0.0.1:8443/ https://255.255.255.255 https://xn--p1ai https://example.com:1 https://example.com:65535
  http://localhost http://localhost:3000/ http://127.0.0.1 http://127.255.0.9:80 http://[::1]:8080/
  https://${"a".repeat(63)}.example https://${"a.".repeat(122)}com`;

const INVALID_URLS = `
  https://256.0.0.1 https://1.2.3 https://127.1 https://0x7f.1 https://1 https://a.1 https://127.0.0.010 https://[::1]
  https://example.com:0 https://example.com:65536 https://example.com:99999 https://example.com:080
  https://example.com: http://api.pulumi.com http://localhost.example.com http://127.0.0.1.example.com http://127.0.0
  http://10.0.0.1 http://128.0.0.1 http://[::2] http://127.1 http://localhost@a https://ada@example.com
  https://ada:pw@example.com https:// https:/// https://. https://a..b https://.a https://a. https://example.com//
  https://example.com/path https://example.com?x https://example.com#x https://example.com\\x https://{a,b}.example
  ftp://localhost file:///etc/passwd HTTPS://api.pulumi.com api.pulumi.com https://é.example http://2130706433
  https://example.com/%2e https://example.com/.. http://localhost@example.com http://0177.0.0.1 http://0x7f000001
  http://[::ffff:127.0.0.1] https://example.com\\@example.org https://${"a".repeat(64)}.example
  https://${"a.".repeat(123)}com`;

const wordsOf = (text: string) => text.trim().split(/\s+/);

const SECONDS = "1 60 7200 999999999 0 007 -1 1.5 0x10 1e3 1000000000 a ١".split(" ");

/** A string in the settings, and in the files of the volume. */
interface Use {
  rule: { test(value: string): boolean };
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
    rule: { test: (url) => wordsOf(URLS).includes(url) },
    values: [...wordsOf(URLS), ...wordsOf(INVALID_URLS), "", "https://a b", "https://example.com\n"],
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

/** Replaces the settings, and runs the script until it would exchange. Nothing replaces the files meanwhile. */
const CHECK_SETTINGS = `
  for file in ${Object.keys(SETTINGS).join(" ")}; do
    printf %s "$1" >"$file"
    shift
  done
  from_one_version() { "$@"; }
  exchange() { exit 0; }
  main true`;

/** Returns for each volume, whose other settings are valid, whether the script accepts it. Nothing is sent. */
async function scriptAccepts(volumes: Partial<typeof SETTINGS>[]): Promise<boolean[]> {
  const inputs = volumes.map((files) => Object.values({ ...SETTINGS, ...files }));
  return (await callScript(CHECK_SETTINGS, inputs)).map(({ exitCode, output }) => {
    assert.ok(exitCode === 0 || exitCode === 64, output);
    return exitCode === 0;
  });
}

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
