// Which requests of the Pulumi CLI the exchange script accepts as a credential helper, and what it answers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { callMain, curlOutput, exchange, granted, SETTINGS } from "../support/script";

type Answer = "token" | "token and backend" | "declined" | "denied" | "unsupported";

const OWN = SETTINGS.apiUrl;
const FOREIGN = "https://evil.example";
const INITIAL = `"version":1,"reason":"initial"`;
const LONGEST = 4095;

/** Requests, each with the answer, as other versions of the CLI might write them. */
const SPELLINGS: [request: string, answer: Answer][] = [
  [`{${INITIAL}}`, "token and backend"],
  [`{"reason":"initial","version":1}`, "token and backend"],
  [` \n{ "version" : 1 ,\r\n\t"reason" : "initial" }\n`, "token and backend"],
  [`{"reason":"expired","selectedBackendUrl":"${OWN}","version":1}`, "token"],
  [`{${INITIAL} , "selectedBackendUrl" : "${OWN}/" }`, "token"],
  [`{${INITIAL}, "selectedBackendUrl" : "${FOREIGN}"}`, "declined"],
  [`{${INITIAL},"selectedBackendUrl":""}`, "declined"],
  [`{${INITIAL}}\n{"selectedBackendUrl":"${FOREIGN}"}`, "declined"],
  [`{${INITIAL},"more":null,"most":[{"a":[]},-1.5e9,true,"]}"]}`, "token and backend"],
  [`{"":{"":{}},"é\u202e":"é",${INITIAL}}`, "token and backend"],
  [`{"version":1,"reason":"rejected","selectedBackendUrl":"${OWN}","z":1}`, "token"],
  [`{"version":1,"reason":"rejected"}`, "denied"],
  [`{"context":{"reason":"expired"},"version":1}`, "denied"],

  // What looks like a key, and is not.
  [`{${INITIAL},"a":"version","b":["reason","selectedBackendUrl"]}`, "token and backend"],
  [`{${INITIAL},"a":"{\\"version\\":2, \\"reason\\" : 1,\\"selectedBackendUrl\\":5}"}`, "token and backend"],
  [`{${INITIAL},", \\"version":2,"\\\\":"\\\\","versions":2,"Version":2," version":2}`, "token and backend"],
  [`{"a":"\\"version\\":1",${INITIAL.replace("1", "2")}}`, "unsupported"],

  // A URL is compared as it is written.
  [`{${INITIAL},"selectedBackendUrl":"${OWN.replaceAll("/", "\\/")}"}`, "declined"],
  [`{${INITIAL},"selectedBackendUrl":"${OWN.replace("i", "\\u0069")}"}`, "declined"],
  [`{${INITIAL},"selectedBackendUrl":"${OWN}\\","a":"}`, "unsupported"],
  [`{${INITIAL},"selectedBackendUrl":"${OWN}\\",\\"selectedBackendUrl\\":\\"${OWN}"}`, "declined"],

  // Values
  ...["2", "10", "1.0", "1e0", "01", "-1", '"1"', "true", "null", "[1]", "{}"].map(
    (version): [string, Answer] => [`{"version":${version},"reason":"initial"}`, "unsupported"],
  ),
  ...['"renewed"', '"Initial"', '""', '" initial"', '"initial', "initial", "null", '["initial"]'].map(
    (reason): [string, Answer] => [`{"version":1,"reason":${reason}}`, "unsupported"],
  ),
  ...["null", "1", "[]", `["${OWN}"]`, `{"url":"${OWN}"}`, `"${OWN}\\"`].map((url): [string, Answer] => [
    `{${INITIAL},"selectedBackendUrl":${url}}`,
    "unsupported",
  ]),

  // Keys that are missing, or there twice
  ["{}", "unsupported"],
  [`{"version":1}`, "unsupported"],
  [`{"reason":"initial"}`, "unsupported"],
  [`{${INITIAL},"version":1}`, "unsupported"],
  [`{${INITIAL},"a":[{"reason":"initial"}]}`, "unsupported"],
  [`{${INITIAL},"selectedBackendUrl":"${OWN}","a":{ "selectedBackendUrl" :"${OWN}"}}`, "unsupported"],

  // Not an object
  ["", "unsupported"],
  [`[{${INITIAL}}]`, "unsupported"],
  [`{${INITIAL}`, "unsupported"],
  [`{${INITIAL}} x`, "unsupported"],
  [`x {${INITIAL}}`, "unsupported"],
  [`"{${INITIAL}}"`, "unsupported"],

  // Length
  [`{${INITIAL}}`.padEnd(LONGEST), "token and backend"],
  [`{${INITIAL}}`.padEnd(LONGEST + 1), "unsupported"],
  [`{${INITIAL},"a":"${"[".repeat(4000)}"}`, "token and backend"],
  [`{${INITIAL},"a":${"[".repeat(1900)}${"]".repeat(1900)}}`, "token and backend"],
];

test("accepts every object with a supported version and reason, and at most one selected backend", async () => {
  assert.deepEqual(
    await answersTo(SPELLINGS.map(([request]) => request)),
    SPELLINGS.map(([, answer]) => answer),
  );
});

test("rejects a request with a null character, and says what is wrong with one", async () => {
  const request = `{${INITIAL}\0}`;
  const { exitCode, stderr, endpoint } = await exchange(granted, { command: [], input: request });
  assert.deepEqual([exitCode, endpoint.requests.length], [64, 0]);
  assert.match(
    stderr,
    /^exchange-token: Unsupported request on .*'\. It must be a JSON object .* null character\.\n/,
  );
  const wrong: [request: string, problem: string][] = [
    [`{"version":2,"reasons":["initial"`, "Its version must be 1."],
    [`{"reason":"initial"}`, "It must have a version."],
    [`{"version":1,"reason":"renewed"}`, "Its reason must be initial, expired, or rejected."],
    [`{"version":1}`, "It must have a reason."],
    [`{${INITIAL},"selectedBackendUrl":null}`, "Its selectedBackendUrl must be a string."],
    [`{${INITIAL},"a":{"reason":"initial"}}`, "It must have only one reason."],
  ];
  const results = await callMain(wrong.map(([text]) => ({ request: text })));
  for (const [index, [text, problem]] of wrong.entries()) {
    const expected = `exchange-token: Unsupported request on standard input: '${text}'. ${problem}\n`;
    assert.ok(results[index]?.output.startsWith(expected), results[index]?.output);
  }
});

async function answersTo(requests: string[]): Promise<Answer[]> {
  const curlPrints = [curlOutput(200, { access_token: "pul-1" })];
  // An empty request would be a wrapped command.
  const results = await callMain(requests.map((request) => ({ request: request || " ", curlPrints })));
  return results.map(({ exitCode, output }) => {
    if (exitCode === 64) return "unsupported";
    if (exitCode === 77) return "denied";
    assert.equal(exitCode, 0, output);
    if (output.endsWith("{}")) return "declined";
    const { backendUrl, ...others } = JSON.parse(output);
    assert.deepEqual(others, { version: 1, accessToken: "pul-1" });
    return backendUrl === OWN ? "token and backend" : "token";
  });
}
