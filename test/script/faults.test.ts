// Attacks on the exchange script, each with its expected exit code and no leak.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { openCertificateAuthority, simulationDirectory } from "../../simulator/emulators/certificates";
import {
  ACCESS_TOKEN,
  exchange,
  findLeaks,
  granted,
  ID_TOKEN,
  idTokenOf,
  type ScriptOptions,
  SETTINGS,
} from "../support/script";
import { type Answer, drip, grant, hang, reset, respond, send, startEndpoint } from "./endpoint";

interface Fault extends Partial<ScriptOptions> {
  name: string;
  exitCode: number;
  answers: Answer | Answer[];
  certificate?: { key: string; cert: string };
  stdout?: string;
}

// If any part of the script evaluates this, a file appears in a watched directory.
const INJECTION = "$(touch injected)`touch injected`";
const SUBSCRIPT = "a[$(touch injected)]";
const FORMAT = "%s%n%d";
const TERMINAL = "\u001b]0;title\u0007\u001b[2J";

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
    "access token": accessTokens(),
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

async function attack({ exitCode, answers, stdout = "", ...options }: Fault): Promise<void> {
  const { endpoint, ...run } = await exchange(answers, options);
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
  // The 3 seconds to retry, and the time to start on a machine that is busy with other cases.
  assert.ok(run.milliseconds < 9000, `takes ${run.milliseconds} ms`);

  const isRetried = stderr.includes("Retrying") || [69, 75].includes(exitCode);
  const expected = [64, 66].includes(exitCode) ? 0 : 1;
  assert.ok(isRetried || endpoint.requests.length <= expected, `${endpoint.requests.length} requests`);
}

/** Returns one fault per answer, with the same exit code. */
function all(exitCode: number, answers: Record<string, Answer | Answer[]>): Fault[] {
  return Object.entries(answers).map(([name, answer]) => ({ name, exitCode, answers: answer }));
}

/** Returns one fault per value, under the name of the value. */
function each<Value>(values: Value[], fault: (value: Value) => Omit<Fault, "name">): Fault[] {
  return values.map((value) => ({
    name: (JSON.stringify(value) ?? "missing").slice(0, 80),
    ...fault(value),
  }));
}

/** @param elsewhere URL of another host. */
function statuses(elsewhere: string): Fault[] {
  const range = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => from + index);
  const exitCode = (status: number) => {
    if ([400, 401, 403].includes(status)) return 77;
    return [408, 429].includes(status) || (status >= 500 && status < 600) ? 75 : 76;
  };
  const body = `no ${INJECTION} ${FORMAT} ${ACCESS_TOKEN}`;
  const unusual = [200, 204, 205, 206, 451, 499, 599, 600, 999];
  return [
    ...each([...unusual, ...range(300, 308), ...range(400, 431), ...range(500, 511)], (status) => {
      return {
        exitCode: exitCode(status),
        answers: respond(status, status < 300 ? "" : body, { Location: elsewhere }),
      };
    }),
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
    ...all(77, { "503, then 403": [respond(503, ""), respond(403, "")] }),
  ];
}

function connections(): Fault[] {
  const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
  const token = `{"access_token":"${ACCESS_TOKEN}"`;
  const part = `${head}Content-Length: 900\r\n\r\n${token}`;
  const notHttp = ["SSH-2.0-OpenSSH_9.2\r\n", "\0\x01\x02", `${token}}`, "HTTP/1.1 2x0 OK\r\n\r\n"];
  return [
    {
      name: "no address",
      exitCode: 69,
      answers: [],
      settings: { apiUrl: "https://pulumi.invalid" },
    },
    ...each(notHttp, (bytes) => ({ exitCode: 69, answers: send(bytes) })),
    ...all(69, {
      "reset within the headers": reset(head),
      "reset within the body": reset(part),
      "closed before the answer": send(""),
      "closed within the status": send("HTTP/1.1 200 O"),
      "closed within the body": send(part),
      "closed within a chunk": send(`${head}Transfer-Encoding: chunked\r\n\r\nff\r\n{`),
      "100 and no more": send("HTTP/1.1 100 Continue\r\n\r\n"),
      "hangs before the answer": hang(),
      "hangs within the headers": hang(head),
      "hangs within the body": hang(part),
      "hangs after a token, without length": hang(`${head}\r\n${token}}`),
      "slow headers": drip("HTTP/1.1 200 OK\r\n", "X-Slow: 1\r\n", 100),
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
  const ok = "HTTP/1.1 200 OK\r\n\r\n";
  const token = JSON.stringify(ACCESS_TOKEN);
  const space = " ".repeat(0x4000);
  const bodies = [
    "",
    "<!doctype html><title>access_token</title>",
    "access_token=pul-1",
    "{'access_token':'pul-1'}",
    '{"access_token":"pul-',
    `{"Access_Token":${token}}`,
    `{"access\\u005ftoken":${token}}`,
    JSON.stringify({ data: `"access_token":${token}` }),
    JSON.stringify({ [INJECTION]: 1, [SUBSCRIPT]: { "@": [INJECTION] } }),
    "[".repeat(500),
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
  return [
    ...each(bodies, (body) => ({ exitCode: 76, answers: respond(200, body) })),
    ...each(denials, (body) => ({ exitCode: 77, answers: respond(400, body, { "Retry-After": "0 200 |" }) })),
    ...all(76, {
      "huge denial": respond(400, `a ${ACCESS_TOKEN}`.repeat(100_000)),
      "endless, in chunks": drip(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        `4000\r\n${space}\r\n`,
        1,
      ),
      "a token, then endless space": drip(`${ok}{"access_token":${token}}`, space, 1),
      "compressed without being asked": (socket) => {
        socket.write("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n");
        socket.end(gzipSync(`{"access_token":${token}}`));
      },
    }),
    ...all(0, { "a token, then garbage": send(`${ok}{"access_token": ${token}} }{ ${INJECTION}`) }),
  ];
}

function accessTokens(): Fault[] {
  const command = ["printenv", "PULUMI_ACCESS_TOKEN"];
  const invalid = [5, null, {}, ["a"], "", "a b", "a\nb", "a\0b", "é", 'a"b', "a\\b", INJECTION];
  return [
    ...each<unknown>(invalid, (value) => ({ exitCode: 76, answers: grant(value) })),
    ...each(["-n", "~root", "=", "a/b+c==", "x".repeat(8000)], (value) => {
      return { exitCode: 0, answers: grant(value), command, stdout: `${value}\n` };
    }),
  ];
}

async function certificates(): Promise<Fault[]> {
  const { issue } = await openCertificateAuthority();
  const file = join(simulationDirectory(), "ca.pem");
  const hosts = ["127.0.0.1"];
  const inAnHour = (hours: number) => new Date(Date.now() + hours * 3_600_000);
  const https = async (
    name: string,
    exitCode: number,
    request: Parameters<typeof issue>[0],
    bundle = file,
  ) => {
    const environment = { CURL_CA_BUNDLE: bundle };
    return { name, exitCode, answers: granted, environment, certificate: await issue(request) };
  };
  return Promise.all([
    https("valid", 0, { hosts }),
    https("of another host", 69, { hosts: ["api.pulumi.com"] }),
    https("expired", 69, { hosts, notAfter: inAnHour(-1) }),
    https("not yet valid", 69, { hosts, notBefore: inAnHour(1) }),
    https("without the file of authorities", 69, { hosts }, "/nonexistent"),
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
    ...each([...ignored, "1", " \t1 \t"], (value) => ({ exitCode: 0, answers: [busy(value), granted] })),
    ...each(["3", "99999"], (value) => ({ exitCode: 75, answers: busy(value) })),
  ];
}

function tokenFiles(): Fault[] {
  const [header, payload, signature] = ID_TOKEN.split(".");
  const contents = [
    undefined,
    "",
    " \n\t",
    "two.parts",
    `${ID_TOKEN}.four`,
    `${header}..${signature}`,
    `${header}.a+/=.${signature}`,
    `${header}. ${payload}.${signature}`,
    `${ID_TOKEN}&scope=admin`,
    `"${ID_TOKEN}"`,
    INJECTION,
    "\u0001\u00ff.\u0003.\u0004",
  ];
  const claims = [
    { iss: INJECTION, sub: SUBSCRIPT, aud: [FORMAT] },
    [],
    "x".repeat(5000),
    `\0\u202e\n${TERMINAL}`,
  ];
  const forbidden = respond(403, "");
  return [
    ...each(contents, (idToken) => ({ exitCode: 66, answers: granted, idToken })),
    ...each([`${ID_TOKEN}\n${ID_TOKEN}`, `${ID_TOKEN}\0`, ID_TOKEN.padEnd(1_000_000, "a")], (idToken) => {
      return { exitCode: 66, answers: granted, idToken };
    }),
    ...each(["/etc", "/dev/zero", "/dev/null", "/nonexistent", "token"], (link) => {
      return { exitCode: 66, answers: granted, settings: { token: { link } } };
    }),
    ...each([INJECTION, SUBSCRIPT, FORMAT, TERMINAL, "-e", "a\nb", "a b", "*"], (directory) => {
      return { exitCode: 0, answers: granted, directory };
    }),
    ...each([INJECTION, SUBSCRIPT, FORMAT, TERMINAL, "-e", "a\nb", "a b", "*"], (directory) => {
      return { exitCode: 66, answers: granted, directory, idToken: undefined };
    }),
    ...each([...claims.map((claim) => idTokenOf(claim)), "a.a.a"], (idToken) => ({
      exitCode: 77,
      answers: forbidden,
      idToken,
    })),
  ];
}

function settings(): Fault[] {
  // Which strings the script accepts is tested in scriptRules.test.ts.
  const hostile = [INJECTION, SUBSCRIPT, TERMINAL, ID_TOKEN];
  // What can go wrong with any file, whatever its setting.
  const damages = [
    undefined,
    "",
    "acme\0",
    "acme\nacme",
    "acme\n",
    "a".repeat(1_000_000),
    "\0".repeat(1_000_000),
  ];
  const links = ["/etc", "/dev/zero", "/dev/null", "/nonexistent", "organization"];
  const retrySeconds = [...hostile, " ", "0", "-1", "1.5", "1e3", "9".repeat(30), "1".repeat(100_000)];

  const files = Object.keys(SETTINGS).flatMap((file) =>
    [...hostile, ...damages, ...links.map((link) => ({ link }))].map((content) => {
      return { name: JSON.stringify({ [file]: content }).slice(0, 80), settings: { [file]: content } };
    }),
  );
  const variables = retrySeconds.map((value) => {
    const environment = { PULUMI_TOKEN_RETRY_SECONDS: value };
    return { name: JSON.stringify(environment).slice(0, 80), environment };
  });
  return [...files, ...variables].map((fault) => ({ ...fault, exitCode: 64, answers: granted }));
}
