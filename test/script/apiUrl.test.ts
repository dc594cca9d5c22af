// The settings, and the exchange script in every pod, accept the same URLs of Pulumi Cloud: the script sends tokens to no other.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as v from "valibot";
import { apiUrl } from "../../settings/names";
import { callMain } from "../support/script";

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

function wordsOf(text: string): string[] {
  return text.trim().split(/\s+/);
}

test("the settings accept these URLs, and no others", () => {
  const accepted = [...URLS, ...INVALID_URLS].filter((url) => v.safeParse(apiUrl, url).success);
  assert.deepEqual(accepted, URLS);
});

test("the exchange script accepts these URLs, and no others", async () => {
  const calls = [...URLS, ...INVALID_URLS].map((url) => ({ settings: { apiUrl: url }, curlPrints: [""] }));
  const exitCodes = (await callMain(calls)).map(({ exitCode }) => exitCode);
  // 69: the settings are valid, and curl prints nothing. 64: invalid settings.
  assert.deepEqual(exitCodes, [...URLS.map(() => 69), ...INVALID_URLS.map(() => 64)]);
});
