// How the exchange script ends: each outcome with the settings, ID tokens, requests of the CLI, and answers of a server that
// cause it, and without a leak.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { respond, startEndpoint } from "../support/endpoint";
import {
  ACCESS_TOKEN,
  type Call,
  callMain,
  callScript,
  containsToken,
  curlOutput,
  exchange,
  granted,
  ID_TOKEN,
  idTokenOf,
  SETTINGS,
} from "../support/script";
import { authorityOfTests } from "../support/tls";

/** How the script can end: its exit code, and its last message or its answer to the CLI. */
const OUTCOMES = {
  granted: [0, /^exchange-token: acme granted an access token \(\w+(, scope \S+)?\), valid until \d\S+Z\n$/],
  "granted without an expiry": [0, /^exchange-token: acme granted .*, valid until an unknown time\n$/],
  "invalid settings": [64, /^exchange-token: Invalid settings:\n {2}/],
  "no ID token": [66, /^exchange-token: No ID token: \/.+\/token does not contain a JWT\. /],
  "missing ID token": [66, /^exchange-token: No ID token: \/.+ is not a file that user \d+ can read\. /],
  unreachable: [
    69,
    /^exchange-token: Failed to reach http\S+: .+ \(curl exit code \d+\)\. Giving up: another/,
  ],
  "not verified": [69, /^exchange-token: The TLS certificate could not be .* \(curl exit code \d+\)\.\n$/],
  "no result": [69, /^exchange-token: curl reported no result\. Use an image that contains curl 7\.84/],
  "temporary failure": [75, /^exchange-token: http\S+ returned HTTP \d+\. Giving up: another attempt/],
  "no token": [76, /^exchange-token: http\S+ returned (HTTP \d+, not a token: .*\n.*pulumiApiUrl|no valid)/],
  "too much": [76, /^exchange-token: http\S+ returned more than 65536 bytes, not a token\.\n$/],
  denied: [
    77,
    /^exchange-token: http\S+ denied the token exchange: HTTP 4\d\d: .*\n.*\n.*\n.*\n {2}Claims: .*\n$/,
  ],
  "answered, with the backend": [0, /^\{"version":1,"accessToken":"pul-1","backendUrl":"https:.+com"\}$/],
  answered: [0, /^\{"version":1,"accessToken":"pul-1"\}$/],
  declined: [0, /^\{\}$/],
  "declined with a reason": [0, /^exchange-token: No access token for the backend '.+': .* only \S+\n\{\}$/],
  "denied to another backend": [77, /^exchange-token: Denied: .* selected the backend '.+', and .* \S+\n$/],
  "denied to no backend": [77, /^exchange-token: Denied: .* selected no backend, and .* \S+\n$/],
  "unsupported request": [
    64,
    /^exchange-token: Unsupported request .*: '.{0,200}'\. Its? .*\.\n .*3\.274\.0.*\n$/,
  ],
} as const;
type Outcome = keyof typeof OUTCOMES;

const PASSWORD = "hunter2";

// If any part of the script evaluates this, a file appears.
const INJECTION = "$(: >injected)`: >injected`";
const HOSTILE = [INJECTION, "a[$(: >injected)]", "%s %n%d", "\u001b]0;title\u0007\u202e", "\n0 200 |\n"];

function assertOutcome(outcome: Outcome, exitCode: number | null, output: string, attack: string): void {
  const [expected, message] = OUTCOMES[outcome];
  assert.equal(exitCode, expected, `${attack}: ${output}`);
  const isRetried = ["granted", "unreachable", "temporary failure"].includes(outcome);
  const start = isRetried ? output.lastIndexOf("exchange-token: ") : 0;
  assert.match(output.slice(start), message, attack);
  assert.ok(isRetried || !/Retrying|Giving up/.test(output), attack);
  // Every line is printable, and the script's own.
  assert.match(output, /^((exchange-token:| ) [\x20-\x7e]*\n)*(\{.*\})?$/, attack);
  assert.ok(!containsToken(output) && !output.includes(PASSWORD), attack);
}

const API_URL = SETTINGS.apiUrl;
const FOREIGN_URL = `https://ada:${PASSWORD}@evil.example/\u001b[2J`;

// What curl prints, and calls of the script.
const status = (code: number) => curlOutput(code);
const grant = (token: unknown, expiresIn?: unknown) =>
  curlOutput(200, { access_token: token, expires_in: expiresIn });
/** The body contains a token, which must not be used. */
const failure = (code: number, http = 200) => curlOutput(http, { access_token: ACCESS_TOKEN }, { code });
const answers = (...printed: string[]): Call[] => printed.map((text) => ({ curlPrints: [text] }));
const each = (key: "idToken" | "retrySeconds", ...values: string[]): Call[] =>
  values.map((value) => ({ [key]: value }));
const scopes = (...pairs: string[]): Call[] =>
  pairs.map((pair) => {
    const [tokenType = "", tokenScope = ""] = pair.split(" ");
    return { settings: { tokenType, tokenScope } };
  });

/** Returns a request of the CLI for a backend, or for none. */
const ask = (reason: string, backend?: string): Call => {
  const selection = backend === undefined ? "" : `,"selectedBackendUrl":"${backend}"`;
  const request = `{"version":1,"reason":"${reason}"${selection}}`;
  return { request, curlPrints: [status(503), grant("pul-1")] };
};

const CALLS: Partial<Record<Outcome, Call[]>> = {
  granted: [
    ...answers(curlOutput(201, { access_token: ACCESS_TOKEN, expires_in: 600 })),
    ...scopes("organization ", "organization admin", "runner runner:a"),
    { retrySeconds: "999999" },
  ],
  "granted without an expiry": answers(
    curlOutput(200, `{"access_token": "${ACCESS_TOKEN}"} }{ ${INJECTION}`),
    ...["-n", "~root", "=", "a/b+c==", "x".repeat(8000)].map((token) => grant(token)),
    ...["7200", 0, 1.5, "a[$(: >injected)]", 1e12].map((expiresIn) => grant("pul-1", expiresIn)),
  ),
  "invalid settings": [
    ...Object.keys(SETTINGS).flatMap((name) =>
      [...HOSTILE, ID_TOKEN, "a b", "é"].map((text) => ({ settings: { [name]: text } })),
    ),
    ...["organization", "tokenType", "tokenExpirationSeconds", "apiUrl"].map((name) => {
      return { settings: { [name]: "" } };
    }),
    ...each("retrySeconds", "0", "007", "0x10", "1e3", "1.5", "-1", " 1", "1000000", ...HOSTILE),
  ],
  "no ID token": each(
    "idToken",
    ...["", " \n\t", "two.parts", "a..c", "a.+/=.c", `"${ID_TOKEN}"`, `\n${ID_TOKEN}`, ...HOSTILE],
    ...[".four", "&scope=admin", "a".repeat(16_384)].map((end) => ID_TOKEN + end),
  ),
  unreachable: answers(failure(6), failure(18), "\n18 099 |octal"),
  "too much": answers(`{"access_token":"${ACCESS_TOKEN}"}${" ".repeat(70_000)}`),
  "not verified": answers(failure(60), failure(77)),
  "no result": answers("", `{"access_token":"${ACCESS_TOKEN}"}`),
  "temporary failure": answers(...[408, 429, 500, 503, 599].map(status), failure(28, 503)),
  "no token": answers(
    ...[204, 300, 302, 304, 308, 402, 404, 407, 428, 499, 600, 999].map(status),
    ...[failure(0, 302), failure(56, 302)],
    ...[5, null, "", "a b", "é", 'a"b', "a\\b", INJECTION].map((token) => grant(token)),
    ...["", "<title>access_token</title>", '{"access_token":"pul-'].map((body) => curlOutput(200, body)),
    curlOutput(200, { Access_Token: ACCESS_TOKEN, data: `"access_token":"${ACCESS_TOKEN}"` }),
  ),
  denied: [
    ...answers(...[400, 401, 403].map(status), failure(28, 400)),
    ...answers(...[...HOSTILE, `${ID_TOKEN} `.repeat(60)].map((body) => curlOutput(400, body))),
    ...["a.a.a", ...[...HOSTILE, "x".repeat(5000)].map((sub) => idTokenOf({ sub }))].map((idToken) => {
      return { idToken, curlPrints: [status(403)] };
    }),
  ],
  "answered, with the backend": [ask("initial")],
  answered: ["initial", "expired", "rejected"].flatMap((reason) => [
    ask(reason, `${API_URL}/`),
    { ...ask(reason, API_URL), settings: { apiUrl: `${API_URL}/` } },
  ]),
  // The second, as the CLI writes "&".
  declined: ["file://~", "s3://state?a=b\\u0026c=d", "postgres://state", ""].map((url) =>
    ask("initial", url),
  ),
  "declined with a reason": [
    ...["https://evil.example", "http://127.0.0.1", "HTTP://evil.example", FOREIGN_URL].map((url) =>
      ask("initial", url),
    ),
    ...[".evil.example", "//", "\\u002f", '\\"}'].map((end) => ask("initial", API_URL + end)),
  ],
  "denied to another backend": [ask("expired", FOREIGN_URL), ask("rejected", "s3://state")],
  "denied to no backend": [ask("expired"), ask("rejected"), ask("rejected", "")],
  // requests.test.ts has more of them.
  "unsupported request": [
    ...HOSTILE.map((text) => ask(text)),
    ask("initial", "x".repeat(5000)),
    { request: `{"version":2,"reason":"initial","\u202enew":"token ${ACCESS_TOKEN}"}` },
    { request: `{"version":2,"token":"${INJECTION}` },
  ],
};

for (const [outcome, calls] of Object.entries(CALLS)) {
  test(`ends with the outcome: ${outcome}`, async () => {
    const results = await callMain(calls.map((call) => ({ retrySeconds: "4", ...call })));
    for (const [index, { exitCode, output }] of results.entries()) {
      assertOutcome(outcome as Outcome, exitCode, output, JSON.stringify(calls[index]));
    }
  });
}

test("heeds a Retry-After of seconds, and ignores any other", async () => {
  const date = new Date(Date.now() + 3_600_000).toUTCString();
  const ignored = ["0", "-1", "1.5", "08", "18446744073709555216", date, ...HOSTILE.slice(0, 3)];
  const values = ["3", "99999", ...ignored];
  const busy = values.map((retryAfter) => curlOutput(503, "", { retryAfter }));
  const results = await callMain(busy.map((output) => ({ curlPrints: [output, grant("pul-1")] })));
  const shown = results.map(({ output }) => /Retrying in \d|Giving up/.exec(output)?.[0]);
  assert.deepEqual(shown, ["Retrying in 3", "Giving up", ...ignored.map(() => "Retrying in 1")]);
});

test("retries for PULUMI_TOKEN_RETRY_SECONDS, by default 50, and as a credential helper at most 50", async () => {
  const { request = "" } = ask("initial");
  const curlPrints = [curlOutput(429, "", { retryAfter: "9999" })];
  const wrapped = ["", "600"].map((retrySeconds) => ({ retrySeconds, curlPrints }));
  const helpers = ["", "600", "7"].map((retrySeconds) => ({ request, retrySeconds, curlPrints }));
  const message = /exceed the limit of (\d+) s\. PULUMI_TOKEN_RETRY_SECONDS .* at most 50 s\.\n$/;
  const limits = (await callMain([...wrapped, ...helpers])).map(({ output }) => message.exec(output)?.[1]);
  assert.deepEqual(limits, ["50", "600", "50", "50", "7"]);
});

test("shows no quotation of curl, such as the URL of a proxy with its password", async () => {
  // In the last one, the password is after a second quotation mark, and before a third one.
  const withMark = "foo://ada:9'hun/ter2@proxy:9";
  for (const proxy of [
    "ada:hun ter2@proxy",
    "http://ada:hunt/er2@proxy:x",
    "foo://ada:hun'ter2@proxy",
    withMark,
  ]) {
    const files = { apiUrl: API_URL };
    const environment = { https_proxy: proxy, PULUMI_TOKEN_RETRY_SECONDS: "1" };
    const { exitCode, stderr } = await exchange(granted, { files, environment });
    assertOutcome("unreachable", exitCode, stderr, proxy);
    assert.match(stderr, /: Unsupported proxy \w+ (in|for) \(curl exit code \d\)\./);
  }
});

test("ends if no file descriptor is left", async () => {
  const launcher = ["timeout", "5", "bash", "-c", 'ulimit -n 4; exec "$@"', "bash"];
  const { exitCode, stderr } = await exchange(granted, { launcher });
  assert.equal(exitCode, 64, stderr.slice(0, 1000));
});

test("reports a missing curl, and needs no other program", async () => {
  const [result] = await callScript("PATH=/nonexistent; main true", [[]]);
  assertOutcome("no result", result?.exitCode ?? null, result?.output ?? "", "");
});

describe("a real request", { concurrency: true }, () => {
  test("verifies the host of the TLS certificate", async (t) => {
    const authority = await authorityOfTests();
    const endpoint = await startEndpoint(granted, await authority.issue("127.0.0.1"));
    t.after(() => endpoint.close());
    const files = { apiUrl: endpoint.url.replace("127.0.0.1", "localhost") };
    const environment = { CURL_CA_BUNDLE: authority.file };
    const { exitCode, stderr } = await exchange(granted, { files, environment });
    assertOutcome("not verified", exitCode, stderr, "");
  });

  test("follows no redirect", async () => {
    const redirect = respond(307, { access_token: ACCESS_TOKEN }, { Location: "/other" });
    const { exitCode, stderr } = await exchange([redirect, granted]);
    assertOutcome("no token", exitCode, stderr, "");
  });

  test("is not sent without an ID token", async () => {
    const { exitCode, stderr } = await exchange(granted, { files: { token: undefined } });
    assertOutcome("missing ID token", exitCode, stderr, "");
  });
});
