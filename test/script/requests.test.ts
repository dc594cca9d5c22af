// Which requests of the Pulumi CLI the exchange script accepts as a credential helper, and what it answers.

import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
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

test("accepts random requests exactly as they are in JSON", async () => {
  const seed = Number(process.env.REQUEST_SEED ?? randomInt(2 ** 31));
  const random = randomFrom(seed);
  const requests = Array.from({ length: 200 }, () => randomRequest(random));
  const answers = await answersTo(requests);
  for (const [index, request] of requests.entries()) {
    assert.equal(answers[index], answerIn(request), `REQUEST_SEED=${seed}, request ${index}: ${request}`);
  }
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

/**
 * Returns the answer to a request by its JSON. A key counts at any depth.
 *
 * @param request whose version is written as a digit, and its own URL without an escape.
 */
function answerIn(request: string): Answer {
  if (Buffer.byteLength(request) > LONGEST) return "unsupported";
  const found: Record<string, unknown[]> = { version: [], reason: [], selectedBackendUrl: [] };
  let keys = 0;
  const value = parsed(request, (key, element) => {
    keys += 1;
    found[key]?.push(element);
  });
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "unsupported";

  // `JSON.parse` keeps one of several keys with the same name in an object. Outside of strings, a colon follows each key.
  const isAmbiguous = keys !== request.replaceAll(/"([^"\\]|\\.)*"/g, "").split(":").length - 1;
  const [versions, reasons, urls] = Object.values(found) as [unknown[], unknown[], unknown[]];
  const isReason = ["initial", "expired", "rejected"].some((reason) => reason === reasons[0]);
  if (isAmbiguous || versions.length !== 1 || versions[0] !== 1) return "unsupported";
  if (reasons.length !== 1 || !isReason) return "unsupported";
  if (urls.length > 1 || (urls.length === 1 && typeof urls[0] !== "string")) return "unsupported";

  const isInitial = reasons[0] === "initial";
  if (isInitial && urls.length === 0) return "token and backend";
  if (urls[0] === OWN || urls[0] === `${OWN}/`) return "token";
  return isInitial ? "declined" : "denied";
}

/** Returns what JSON contains, after a call for each key of its objects; undefined if it is none. */
function parsed(text: string, onKey: (key: string, value: unknown) => void): unknown {
  const visit = (value: unknown) => {
    if (typeof value !== "object" || value === null) return;
    for (const [key, element] of Object.entries(value)) {
      if (!Array.isArray(value)) onKey(key, element);
      visit(element);
    }
  };
  try {
    const value: unknown = JSON.parse(text);
    visit(value);
    return value;
  } catch {
    return undefined;
  }
}

/** Returns a number from 0 to 1, the next one of a sequence. */
type Random = () => number;

/** Returns the sequence of a seed: https://en.wikipedia.org/wiki/Linear_congruential_generator */
function randomFrom(seed: number): Random {
  let state = BigInt(seed);
  return () => {
    state = (state * 6364136223846793005n + 1442695040888963407n) % 2n ** 64n;
    return Number(state >> 32n) / 2 ** 32;
  };
}

const NAMES = ["version", "reason", "selectedBackendUrl"];

/** What a string can contain: names, what surrounds them in JSON, and what JSON escapes. */
const PIECES = [
  ...NAMES,
  '"',
  '":',
  ',"',
  ', "',
  "\\",
  '\\"',
  "{",
  "}",
  "[",
  "]",
  ":",
  ",",
  " ",
  "\n",
  "é",
  "\u202e",
  "&",
  "1",
];

/** Returns the text of a request that is often, but not always, valid. Most of its parts are likely to matter. */
function randomRequest(random: Random): string {
  const isLikely = (probability: number) => random() < probability;
  const pick = <Element>(elements: Element[]) => elements[Math.floor(random() * elements.length)] as Element;
  const several = <Element>(most: number, create: (index: number) => Element) =>
    Array.from({ length: Math.floor(random() * (most + 1)) }, (_, index) => create(index));

  const space = () => (isLikely(0.2) ? pick([" ", "\n", "\t", "\r\n", "  "]) : "");
  const spaced = (token: string) => space() + token + space();
  const text = () => several(5, () => pick(PIECES)).join("");
  const stringOf = (content: string) => {
    const json = JSON.stringify(content).replaceAll("&", "\\u0026");
    return isLikely(0.3) ? json.replaceAll("é", "\\u00e9").replaceAll("/", "\\/") : json;
  };

  function member(key: string, value: string): string {
    return `${spaced(JSON.stringify(key))}:${spaced(value)}`;
  }

  function value(depth: number): string {
    const scalars = ["null", "true", "0", "1", "-1.5e3", stringOf(text()), JSON.stringify(pick(NAMES))];
    if (depth === 0 || isLikely(0.6)) return pick(scalars);
    if (isLikely(0.4)) return `[${several(3, () => spaced(value(depth - 1))).join(",")}]`;
    return object(depth, []);
  }

  function object(depth: number, members: string[]): string {
    // The index makes the key the only one of its name.
    const others = several(3, (index) => member(`${text()}${index}`, value(depth - 1)));
    const nested = depth < 3 && isLikely(0.03) ? [member(pick(NAMES), value(0))] : [];
    const all = [...members, ...others, ...nested];
    const order = all.map((it) => [random(), it] as const).sort(([one], [other]) => one - other);
    return `{${order.map(([, it]) => it).join(",") || space()}}`;
  }

  const reason = isLikely(0.95) ? pick(["initial", "expired", "rejected"]) : text();
  const url = pick([OWN, `${OWN}/`, FOREIGN, "s3://state?a=b&c=d", "", text()]);
  const members = [
    ...(isLikely(0.95) ? [member("version", isLikely(0.95) ? "1" : pick(["2", '"1"', "11", value(2)]))] : []),
    ...(isLikely(0.95) ? [member("reason", isLikely(0.97) ? JSON.stringify(reason) : value(2))] : []),
    ...(isLikely(0.7) ? [member("selectedBackendUrl", isLikely(0.95) ? JSON.stringify(url) : value(2))] : []),
    ...(isLikely(0.05) ? [member(pick(NAMES), value(1))] : []),
  ];
  const request = spaced(object(3, members));
  if (isLikely(0.02)) return request.padEnd(LONGEST + pick([0, 1]));
  if (isLikely(0.02)) return `[${request}]`;
  return request;
}
