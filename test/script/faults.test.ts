// Attacks on the exchange script, each with its expected exit code and no leak.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { openCertificateAuthority, simulationDirectory } from "../../simulator/emulators/certificates";
import {
  ACCESS_TOKEN,
  exchange,
  findLeaks,
  granted,
  ID_TOKEN,
  idTokenOf,
  imageWith,
  type ScriptOptions,
  SETTINGS,
} from "../support/script";
import type { Files } from "../support/volume";
import { type Answer, drip, grant, hang, reset, respond, send, startEndpoint } from "./endpoint";

interface Attack extends Partial<ScriptOptions> {
  /** By default, a token. */
  answers?: Answer | Answer[];
  certificate?: { key: string; cert: string };
  stdout?: string;
}

interface Fault extends Attack {
  name: string;
  exitCode: number;
}

// If any part of the script evaluates this, a file appears in a watched directory.
const INJECTION = "$(: >injected)`: >injected`";
const SUBSCRIPT = "a[$(: >injected)]";
const FORMAT = "%s%n%d";
const TERMINAL = "\u001b]0;title\u0007\u001b[2J";

const LINKS = ["/etc", "/dev/zero", "/dev/null", "/nonexistent", "organization", "token"].map((link) => ({
  link,
}));

/** The script requires bash and curl only: the others are for the tests. */
const IMAGE = imageWith({ after }, ["bash", "curl", "env", "true", "printenv"]);

const MESSAGES: Record<number, RegExp> = {
  0: /^exchange-token: acme granted an access token \(.*\), valid until \S+/m,
  64: /^exchange-token: Invalid settings:\n {2}/,
  66: /exchange-token: No ID token: \/.*\/token (is not a file that user \d+ can read|does not contain a JWT)\. The volume/,
  69: /exchange-token: (The TLS certificate could not be verified\. )?Failed to reach http.* \(curl exit code \d+\)\./,
  75: /exchange-token: http\S+ returned HTTP \d+\. Giving up: another attempt would exceed the 3 s/,
  76: /exchange-token: http\S+ returned (HTTP \d+, not a token: .*\n.*pulumiApiUrl|no valid access token|more than)/,
  77: /^exchange-token: http\S+ denied the token exchange: HTTP 4\d\d: /m,
};

test("attacks on the exchange script", { concurrency: 8 }, async (t) => {
  const elsewhere = await startEndpoint(granted);
  t.after(elsewhere.close);
  const families = {
    status: statuses(elsewhere.url.replace("127.0.0.1", "localhost")),
    connection: connections(),
    answer: answers(),
    certificate: await certificates(),
    "Retry-After": retryAfter(),
    "token file": tokenFiles(),
    setting: settings(),
  };
  await Promise.all(
    Object.entries(families).flatMap(([family, faults]) =>
      faults.map((fault) => t.test(`${family}: ${fault.name}`, () => attack(fault))),
    ),
  );
  assert.equal(elsewhere.connections(), 0, "a redirect was followed");
});

async function attack({ exitCode, answers = granted, stdout = "", ...options }: Fault): Promise<void> {
  // Little time to retry if all attempts fail, and much if one succeeds: the machine may be busy with other cases.
  const seconds = exitCode === 0 ? "60" : "3";
  const environment = { PATH: IMAGE, PULUMI_TOKEN_RETRY_SECONDS: seconds, ...options.environment };
  const { endpoint, ...run } = await exchange(answers, { ...options, environment });
  const { stderr } = run;
  assert.equal(run.exitCode, exitCode, stderr);
  assert.deepEqual(findLeaks(run), []);
  assert.equal(run.stdout, stdout);
  assert.match(stderr, MESSAGES[exitCode] ?? assert.fail(`exit code ${exitCode}`));
  // A TLS failure is not retried: its message is the only one.
  if (options.certificate && exitCode === 69) assert.match(stderr, /^exchange-token: The TLS.*\n$/);
  // Printable, and of no other program.
  assert.match(stderr, /^((exchange-token:| ) [\x20-\x7e]*\n)+$/);
  const lastMessage = stderr.slice(stderr.lastIndexOf("exchange-token: "));
  assert.ok(lastMessage.length <= 2048, "does not fit into a termination message of Kubernetes");
  assert.ok(run.milliseconds < 9000, `takes ${run.milliseconds} ms`);

  const isRetried = stderr.includes("Retrying") || [69, 75].includes(exitCode);
  const expected = [64, 66].includes(exitCode) ? 0 : 1;
  assert.ok(isRetried || endpoint.requests.length <= expected, `${endpoint.requests.length} requests`);
}

/** Returns one fault per answer, with the same exit code. */
function all(exitCode: number, answers: Record<string, Answer | Answer[]>): Fault[] {
  return Object.entries(answers).map(([name, answer]) => ({ name, exitCode, answers: answer }));
}

/** Returns one fault per value, under the name of the value, with the same exit code. */
function each<Value>(exitCode: number, values: Value[], attackWith: (value: Value) => Attack): Fault[] {
  return values.map((value) => {
    const name = JSON.stringify(value, (_, it) => (it === undefined ? "(missing)" : it)).slice(0, 80);
    return { name, exitCode, ...attackWith(value) };
  });
}

/** @param elsewhere URL of another host. */
function statuses(elsewhere: string): Fault[] {
  const body = `no ${INJECTION} ${FORMAT} ${ACCESS_TOKEN}`;
  const status = (code: number) => ({
    answers: respond(code, code < 300 ? "" : body, { Location: elsewhere }),
  });
  return [
    ...each(77, [400, 401, 403], status),
    ...each(75, [408, 429, 500, 503, 599], status),
    ...each(76, [200, 204, 300, 301, 302, 303, 304, 307, 308], status),
    ...each(76, [402, 404, 407, 409, 410, 428, 431, 451, 499, 600, 999], status),
    ...all(76, {
      "302 with a token": respond(302, { access_token: ACCESS_TOKEN }, { Location: elsewhere }),
      "302 to file:": respond(302, "", { Location: "file:///etc/passwd" }),
    }),
    ...all(0, {
      "201 with a token": respond(201, { access_token: ACCESS_TOKEN }),
      "100, 103, then 200": (socket, request) => {
        socket.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        return granted(socket, request);
      },
    }),
  ];
}

function connections(): Fault[] {
  const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
  const token = `{"access_token":"${ACCESS_TOKEN}"`;
  const part = `${head}Content-Length: 900\r\n\r\n${token}`;
  return [
    ...each(69, ["https://pulumi.invalid"], (apiUrl) => ({ settings: { apiUrl } })),
    ...each(69, ["", "SSH-2.0-OpenSSH_9.2\r\n", `${token}}`, "HTTP/1.1 2x0 OK\r\n\r\n"], (bytes) => ({
      answers: send(bytes),
    })),
    ...all(69, {
      "reset within the body": reset(part),
      "closed within the body": send(part),
      "closed within a chunk": send(`${head}Transfer-Encoding: chunked\r\n\r\nff\r\n{`),
      "hangs before the answer": hang(),
      "hangs after a token, without length": hang(`${head}\r\n${token}}`),
      "slow body": drip(`${head}\r\n`, " ", 100),
      "endless headers": drip(head, `X-Endless: ${"a".repeat(1000)}\r\n`, 1),
      "endless null characters": drip(`${head}\r\n`, Buffer.alloc(65_536), 10),
    }),
    ...all(0, { "reset once, then a token": [reset(), granted] }),
    ...all(77, { "slow body of a denial": drip("HTTP/1.1 400 Bad\r\n\r\n", " ", 100) }),
    ...all(75, { "slow body of a 503": drip("HTTP/1.1 503 Busy\r\n\r\n", " ", 100) }),
  ];
}

function answers(): Fault[] {
  const ok = "HTTP/1.1 200 OK\r\n";
  const token = JSON.stringify(ACCESS_TOKEN);
  const space = " ".repeat(0x4000);
  const bodies = [
    "<!doctype html><title>access_token</title>",
    "{'access_token':'pul-1'}",
    '{"access_token":"pul-',
    `{"Access_Token":${token}}`,
    `{"access\\u005ftoken":${token}}`,
    JSON.stringify({ data: `"access_token":${token}`, [INJECTION]: 1, [SUBSCRIPT]: { "@": [INJECTION] } }),
    "\0".repeat(5000),
  ];
  const denials = [
    INJECTION,
    SUBSCRIPT,
    FORMAT,
    TERMINAL,
    "\u202e",
    "\n0 200 |\n",
    `${ID_TOKEN} `.repeat(60),
  ];
  const [invalid, valid] = [
    [5, null, {}, ["a"], "", "a b", "a\nb", "a\0b", "é", 'a"b', "a\\b", INJECTION],
    ["-n", "~root", "=", "a/b+c==", "x".repeat(8000)],
  ];
  const command = ["printenv", "PULUMI_ACCESS_TOKEN"];
  return [
    ...each(76, bodies, (body) => ({ answers: respond(200, body) })),
    ...each(77, denials, (body) => ({ answers: respond(400, body, { "Retry-After": "0 200 |" }) })),
    ...each<unknown>(76, invalid, (value) => ({ answers: grant(value) })),
    ...each(0, valid, (value) => ({ answers: grant(value), command, stdout: `${value}\n` })),
    ...all(76, {
      "huge denial": respond(400, `a ${ACCESS_TOKEN}`.repeat(100_000)),
      "endless, in chunks": drip(`${ok}Transfer-Encoding: chunked\r\n\r\n`, `4000\r\n${space}\r\n`, 1),
      "a token, then endless space": drip(`${ok}\r\n{"access_token":${token}}`, space, 1),
      "compressed without being asked": (socket) => {
        socket.write(`${ok}Content-Encoding: gzip\r\n\r\n`);
        socket.end(gzipSync(`{"access_token":${token}}`));
      },
    }),
    ...all(0, { "a token, then garbage": send(`${ok}\r\n{"access_token": ${token}} }{ ${INJECTION}`) }),
  ];
}

async function certificates(): Promise<Fault[]> {
  const { issue } = await openCertificateAuthority();
  const hosts = ["127.0.0.1"];
  const inAnHour = (hours: number) => new Date(Date.now() + hours * 3_600_000);
  const https = async (name: string, exitCode: number, changes: object, file = "ca.pem") => ({
    name,
    exitCode,
    environment: { CURL_CA_BUNDLE: join(simulationDirectory(), file) },
    certificate: await issue({ hosts, ...changes }),
  });
  return Promise.all([
    https("valid", 0, {}),
    https("of another host", 69, { hosts: ["api.pulumi.com"] }),
    https("expired", 69, { notAfter: inAnHour(-1) }),
    https("not yet valid", 69, { notBefore: inAnHour(1) }),
    https("without the file of authorities", 69, {}, "missing.pem"),
  ]);
}

function retryAfter(): Fault[] {
  const busy = (value: string) => respond(503, "", { "Retry-After": value });
  const date = new Date(Date.now() + 3_600_000).toUTCString();
  const ignored = [
    "",
    "0",
    "-1",
    "1.5",
    "0x10",
    "08",
    "1|2",
    "18446744073709555216",
    date,
    INJECTION,
    SUBSCRIPT,
  ];
  return [
    ...each(0, [...ignored, " \t1 \t"], (value) => ({ answers: [busy(value), granted] })),
    ...each(75, ["3", "99999"], (value) => ({ answers: busy(value) })),
  ];
}

function tokenFiles(): Fault[] {
  const [header, payload, signature] = ID_TOKEN.split(".");
  const contents = [
    ...[undefined, "", " \n\t", "two.parts", `${header}..${signature}`, `${header}.a+/=.${signature}`],
    ...[`${header}. ${payload}.${signature}`, "\u0001\u00ff.\u0003.\u0004", `"${ID_TOKEN}"`, INJECTION],
    ...[".four", "&scope=admin", `\n${ID_TOKEN}`, "\0", "a".repeat(1_000_000)].map((end) => ID_TOKEN + end),
  ];
  const claims = [{ iss: INJECTION, sub: SUBSCRIPT, aud: [FORMAT] }, [], "x".repeat(5000), `\0\n${TERMINAL}`];
  const directories = [INJECTION, FORMAT, TERMINAL, SUBSCRIPT, "-e", "a\nb", "a b", "*"];
  return [
    ...each(66, contents, (idToken) => ({ idToken })),
    ...each(66, LINKS, (link) => ({ settings: { token: link } })),
    ...each(0, directories, (directory) => ({ directory })),
    ...each(66, directories.slice(0, 3), (directory) => ({ directory, idToken: undefined })),
    ...each(77, [...claims.map(idTokenOf), "a.a.a"], (idToken) => ({ answers: respond(403, ""), idToken })),
  ];
}

function settings(): Fault[] {
  // Which strings the script accepts is tested in scriptRules.test.ts.
  const hostile = [INJECTION, SUBSCRIPT, TERMINAL, ID_TOKEN];
  const contents = ["", "acme\0", "acme\nacme", "acme\n", "a".repeat(1_000_000), "\0".repeat(1_000_000)];
  const volumes: Files[] = [
    ...Object.keys(SETTINGS).flatMap((file) =>
      [...hostile, undefined].map((content) => ({ [file]: content })),
    ),
    ...[...contents, ...LINKS].map((organization) => ({ organization })),
    // It can be empty, but not missing.
    { tokenType: "organization", tokenScope: undefined },
  ];
  const retrySeconds = [...hostile, " ", "0", "-1", "1.5", "1e3", "9".repeat(30), "1".repeat(100_000)];
  return [
    ...each(64, volumes, (files) => ({ settings: files })),
    ...each(64, retrySeconds, (seconds) => ({ environment: { PULUMI_TOKEN_RETRY_SECONDS: seconds } })),
  ];
}
