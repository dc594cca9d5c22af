// The attacks on the exchange script, each with what it must come to: `npm run test:faults` prints them as a table.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { createCertificateAuthority } from "../simulator/certificates";
import { type Answer, drip, grant, hang, reset, respond, send, startEndpoint } from "./endpoint";
import { findLeaks, ID_TOKEN, idTokenOf, runScript, type ScriptOptions, type ScriptRun } from "./script";

interface Fault {
  family: string;
  name: string;
  exitCode: number;
  /** What standard error must hold. */
  message: RegExp;
  /** What the endpoint answers; undefined: nobody listens. */
  answers: Answer | Answer[] | undefined;
  options: Partial<ScriptOptions>;
  certificate: { key: string; cert: string } | undefined;
  /** How many requests reach the endpoint, where that is certain. */
  requests: number | undefined;
  /** What the form holds, for attacks that must arrive unharmed. */
  form: Record<string, string>;
  stdout: string;
  signal: NodeJS.Signals | undefined;
}

const ACCESS_TOKEN = "pul-0123456789abcdef0123456789abcdef01234567";
const SECONDS_TO_RETRY = 2;
/** Beyond the seconds to retry: for starting on a machine that is busy with other cases. */
const GRACE_SECONDS = 6;
const CASES_AT_ONCE = 8;
/** The most that Kubernetes keeps of a log as the termination message. */
const TERMINATION_MESSAGE_BYTES = 2048;

// Whatever runs this leaves a file in a watched folder.
const INJECTION = "$(touch injected)`touch injected`";
const SUBSCRIPT_INJECTION = "a[$(touch injected)]";

const GRANTED = /^exchange-token: acme granted an access token \(.*\), valid until \S+/m;
const REFUSED = /refused the exchange: HTTP 4\d\d/;
const BUSY = /answers HTTP \d+.*; gave up, since PULUMI_TOKEN_RETRY_SECONDS is/;
const UNREACHABLE = /cannot be reached: .*curl exit code \d+\)?; gave up/;
const UNTRUSTED = /^exchange-token: https:\S+ cannot be trusted: .*certificate/;
const NO_TOKEN = /answers HTTP \d+ without a token/;
const REDIRECT = /answers HTTP 3\d\d and no redirect is followed/;
const TOO_LARGE = /answers with more than 16384 bytes/;
const TOKEN_FILE = /^exchange-token: the id token's file '/;

main().then((failed) => {
  process.exitCode = failed === 0 ? 0 : 1;
});

async function main(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "faults-"));
  await chmod(folder, 0o755);
  const elsewhere = await startEndpoint(grant(ACCESS_TOKEN));
  const plain = await startEndpoint(grant(ACCESS_TOKEN));
  try {
    const faults = [
      ...statuses(),
      ...connections(),
      ...answers(),
      ...accessTokens(),
      ...redirects(elsewhere.port),
      ...(await certificates(folder, elsewhere.port, plain.port)),
      ...retryAfter(),
      ...(await tokenFiles(folder)),
      ...(await settings(folder)),
      ...commands(),
    ];
    const rows: string[][] = [];
    const failures: string[] = [];
    await atOnce(CASES_AT_ONCE, faults, async (fault, index) => {
      const { run, problems } = await attack(fault);
      const [first = ""] = run.stderr.split("\n").slice(-2);
      const message = fault.exitCode === 77 ? (run.stderr.match(/^.*refused.*$/m)?.[0] ?? first) : first;
      rows[index] = [
        `${fault.family}: ${fault.name}`,
        String(run.exitCode ?? run.signal),
        (run.milliseconds / 1000).toFixed(1),
        message.replace("exchange-token: ", ""),
      ];
      if (problems.length > 0)
        failures.push(`${fault.family}: ${fault.name}: ${problems.join("; ")}\n${run.stderr}`);
    });
    if (elsewhere.connections() > 0)
      failures.push(`another host was reached ${elsewhere.connections()} times`);

    printTable([["case", "exit", "seconds", "message"], ...rows]);
    for (const failure of failures) console.log(`\nFAILED ${failure}`);
    console.log(`\n${faults.length - failures.length} passed, ${failures.length} failed`);
    return failures.length;
  } finally {
    await Promise.all([elsewhere.close(), plain.close()]);
    await rm(folder, { recursive: true });
  }
}

async function attack(fault: Fault): Promise<{ run: ScriptRun; problems: string[] }> {
  const endpoint = await startEndpoint(fault.answers ?? [], fault.certificate);
  if (fault.answers === undefined) await endpoint.close();
  const run = await runScript({
    url: endpoint.url,
    idToken: ID_TOKEN,
    ...fault.options,
    environment: { PULUMI_TOKEN_RETRY_SECONDS: String(SECONDS_TO_RETRY), ...fault.options.environment },
  });
  if (fault.answers !== undefined) await endpoint.close();

  const problems: string[] = [];
  const expect = (as: boolean, problem: string) => as || problems.push(problem);
  const exitCode = fault.signal ? null : fault.exitCode;
  expect(run.exitCode === exitCode, `exit code ${run.exitCode}, expected ${exitCode}`);
  if (fault.signal) expect(run.signal === fault.signal, `signal ${run.signal}, expected ${fault.signal}`);
  expect(fault.message.test(run.stderr), `no message as ${fault.message}`);
  expect(/^[\x20-\x7e\n]*$/.test(run.stderr), "a character that is not printable");
  if (fault.exitCode > 0 && fault.exitCode < 126) {
    expect(/^(exchange-token: .*\n)+$/.test(run.stderr), "a message of something else");
  }
  const lastMessage = run.stderr.split("\n").filter((line) => !line.includes("trying again"));
  expect(lastMessage.join("\n").length <= TERMINATION_MESSAGE_BYTES, "too long for a termination message");
  const limit = SECONDS_TO_RETRY + GRACE_SECONDS;
  expect(run.milliseconds < limit * 1000, `took more than ${limit} s`);
  const leaks = findLeaks(run, [], [ID_TOKEN, ACCESS_TOKEN]);
  expect(leaks.length === 0, `leaks by ${leaks.join(", ")}`);
  expect(run.stdout === fault.stdout, `standard output ${JSON.stringify(run.stdout)}`);
  const { length } = endpoint.requests;
  if (fault.requests !== undefined)
    expect(length === fault.requests, `${length} requests, expected ${fault.requests}`);
  for (const [name, value] of Object.entries(fault.form)) {
    const sent = endpoint.requests[0]?.form.get(name);
    expect(sent === value, `the form's ${name} is ${JSON.stringify(sent)}`);
  }
  return { run, problems };
}

/** Makes a function that makes the cases of a family. */
function ofFamily(family: string) {
  return (
    name: string,
    exitCode: number,
    message: RegExp,
    answers: Answer | Answer[] | undefined,
    further: Partial<Fault> = {},
  ): Fault => ({
    family,
    name,
    exitCode,
    message,
    answers,
    options: {},
    certificate: undefined,
    requests: undefined,
    form: {},
    stdout: "",
    signal: undefined,
    ...further,
  });
}

function statuses(): Fault[] {
  const fault = ofFamily("status");
  const body = { error: "invalid_request", error_description: `no ${INJECTION} %s%n` };
  const range = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => from + index);
  const clientErrors = [...range(400, 431), 451, 499].filter((status) => status !== 408 && status !== 429);
  return [
    ...clientErrors.map((status) => fault(`${status}`, 77, REFUSED, respond(status, body), { requests: 1 })),
    ...[408, 429, ...range(500, 511), ...range(520, 530), 599].map((status) =>
      fault(`${status}`, 75, BUSY, respond(status, body)),
    ),
    ...[204, 206, 299].map((status) =>
      fault(`${status}`, 76, NO_TOKEN, respond(status, ""), { requests: 1 }),
    ),
    ...[600, 999].map((status) => fault(`${status}`, 76, /HTTP \d+/, respond(status, ""), { requests: 1 })),
    fault("201 with a token", 0, GRANTED, respond(201, { access_token: ACCESS_TOKEN }), { requests: 1 }),
    fault("100, 103, then 200", 0, GRANTED, async (socket, request) => {
      socket.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
      await grant(ACCESS_TOKEN)(socket, request);
    }),
    fault("100 and no more", 69, UNREACHABLE, send("HTTP/1.1 100 Continue\r\n\r\n")),
    fault("busy twice, then a token", 0, GRANTED, [respond(500, ""), respond(429, ""), grant(ACCESS_TOKEN)], {
      requests: 3,
      options: { environment: { PULUMI_TOKEN_RETRY_SECONDS: "5" } },
    }),
  ];
}

function connections(): Fault[] {
  const fault = ofFamily("connection");
  const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
  const token = `{"access_token":"${ACCESS_TOKEN}"`;
  return [
    fault("refused", 69, UNREACHABLE, undefined),
    fault("host without an address", 69, UNREACHABLE, undefined, {
      options: { environment: { PULUMI_BACKEND_URL: "https://pulumi.invalid" } },
    }),
    fault("reset before the answer", 69, UNREACHABLE, reset()),
    fault("reset within the head", 69, UNREACHABLE, reset(head)),
    fault("reset within the body", 69, UNREACHABLE, reset(`${head}Content-Length: 900\r\n\r\n${token}`)),
    fault("reset once, then a token", 0, GRANTED, [reset(), grant(ACCESS_TOKEN)], { requests: 2 }),
    fault("closed before the answer", 69, UNREACHABLE, send("")),
    fault("closed within the head", 69, UNREACHABLE, send("HTTP/1.1 200 O")),
    fault("closed within the body", 69, UNREACHABLE, send(`${head}Content-Length: 900\r\n\r\n${token}`)),
    fault("closed within a chunk", 69, UNREACHABLE, send(`${head}Transfer-Encoding: chunked\r\n\r\nff\r\n{`)),
    fault("half-closed within the head", 69, /the head of the answer breaks off; gave up/, send(head)),
    fault("hangs before the answer", 69, UNREACHABLE, hang()),
    fault("hangs within the head", 69, UNREACHABLE, hang(head)),
    fault("hangs within the body", 69, UNREACHABLE, hang(`${head}Content-Length: 900\r\n\r\n${token}`)),
    fault("hangs after a whole token, without length", 69, UNREACHABLE, hang(`${head}\r\n${token}}`)),
    fault("slow head", 69, UNREACHABLE, drip("HTTP/1.1 200 OK\r\n", "X-Slow: 1\r\n", 100)),
    fault("slow body", 69, UNREACHABLE, drip(`${head}\r\n`, " ", 100)),
    fault("slow body of a refusal", 77, REFUSED, drip("HTTP/1.1 400 Bad\r\n\r\n", " ", 100), { requests: 1 }),
    fault("slow body of a 503", 75, BUSY, drip("HTTP/1.1 503 Busy\r\n\r\n", " ", 100)),
    fault("slow, but in time", 0, GRANTED, async (socket, request) => {
      await delay(800);
      await grant(ACCESS_TOKEN)(socket, request);
    }),
  ];
}

function answers(): Fault[] {
  const fault = ofFamily("answer");
  const without = (name: string, body: string | Record<string, unknown>) =>
    fault(name, 76, NO_TOKEN, respond(200, body), { requests: 1 });
  const tooLarge = (name: string, answer: Answer) => fault(name, 76, TOO_LARGE, answer, { requests: 1 });
  const token = JSON.stringify(ACCESS_TOKEN);
  const chunk = `4000\r\n${" ".repeat(0x4000)}\r\n`;
  return [
    without("empty", ""),
    without("white space", " \n\t"),
    without("HTML", "<!doctype html><title>access_token</title>"),
    without("text", "access_token=pul-1"),
    without("no JSON in JSON's clothes", `{'access_token':${token}}`),
    without("truncated", `{"access_token":${token}`),
    without("truncated within the token", `{"access_token":"pul-`),
    without("two objects", `{"access_token":${token}}{"access_token":${token}}`),
    without("a comma too many", `{"access_token":${token},}`),
    without("no comma", `{"access_token":${token} "a":1}`),
    without("a comment", `{"access_token":${token}} // ok`),
    without("a byte order mark", `\ufeff{"access_token":${token}}`),
    without("NaN", `{"a":NaN,"access_token":${token}}`),
    without("a number with a leading zero", `{"a":01,"access_token":${token}}`),
    without("an unknown escape", `{"a":"\\x41","access_token":${token}}`),
    without("half an escape", `{"a":"\\u00g0","access_token":${token}}`),
    without("a raw line break in a string", `{"a":"\n","access_token":${token}}`),
    without("the token twice", `{"access_token":${token},"access_token":${token}}`),
    without("the token twice, once escaped", `{"access_token":${token},"access\\u005ftoken":${token}}`),
    without("a list", `[{"access_token":${token}}]`),
    without("a string", token),
    without("null", "null"),
    without("an empty object", {}),
    without("an error with status 200", { error: "invalid_grant", error_description: INJECTION }),
    without("the token in another object", { data: { access_token: ACCESS_TOKEN } }),
    without("the token in a string", { data: `"access_token":${token}` }),
    without("the token under another case", { Access_Token: ACCESS_TOKEN }),
    without("500 lists in one another", `{"a":${"[".repeat(500)}${"]".repeat(500)},"access_token":${token}}`),
    without("names that mean something to a shell", {
      [INJECTION]: 1,
      [SUBSCRIPT_INJECTION]: { "]": INJECTION, "@": [INJECTION], "*": "", "": "" },
    }),
    fault("compressed without being asked", 76, NO_TOKEN, (socket) => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n");
      socket.end(gzipSync(`{"access_token":${token}}`));
    }),
    fault("null characters", 76, NO_TOKEN, respond(200, "\0".repeat(5000))),
    tooLarge("huge", respond(200, { access_token: "a".repeat(13_000_000) })),
    tooLarge(
      "huge, chunked",
      send(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(800)}0\r\n\r\n`),
    ),
    tooLarge("endless, chunked", drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, 1)),
    tooLarge("endless, without length", drip("HTTP/1.1 200 OK\r\n\r\n", chunk, 1)),
    tooLarge(
      "a token, then endless space",
      drip(`HTTP/1.1 200 OK\r\n\r\n{"access_token":${token}}`, chunk, 1),
    ),
    tooLarge(
      "huge head",
      send(`HTTP/1.1 200 OK\r\nX-Huge: ${"a".repeat(50_000)}\r\n\r\n{"access_token":${token}}`),
    ),
    tooLarge("endless head", drip("HTTP/1.1 200 OK\r\n", `X-Endless: ${"a".repeat(1000)}\r\n`, 1)),
    fault(
      "endless null characters",
      69,
      UNREACHABLE,
      drip("HTTP/1.1 200 OK\r\n\r\n", Buffer.alloc(65_536), 10),
    ),
    fault("huge refusal", 77, REFUSED, respond(400, { message: "a ".repeat(1_000_000) }), { requests: 1 }),
    fault("huge 503", 75, BUSY, respond(503, "a".repeat(1_000_000))),
    fault("as many values as fit", 76, NO_TOKEN, respond(200, `{"a":[${"1,".repeat(8000)}1]}`)),
    fault("as many escapes as fit", 76, NO_TOKEN, respond(200, `{"a":"${"\\n".repeat(8000)}"}`)),
    ...["SSH-2.0-OpenSSH_9.2\r\n", "\0\x01\x02\x03", "220 mail ESMTP\r\n", `{"access_token":${token}}`].map(
      (bytes) =>
        fault(`not HTTP: ${JSON.stringify(bytes).slice(0, 16)}`, 76, /gives no HTTP answer/, send(bytes), {
          requests: 1,
        }),
    ),
    fault("a status that is no number", 76, /gives no HTTP answer/, send("HTTP/1.1 2x0 OK\r\n\r\n")),
    fault(
      "injection by header",
      77,
      REFUSED,
      respond(400, "", { [`X-${SUBSCRIPT_INJECTION.slice(0, 1)}`]: INJECTION }),
    ),
    ...[INJECTION, SUBSCRIPT_INJECTION, "%s%n%d", "\u001b]0;title\u0007\u001b[2J", "\u202e", "\\e[31m"].map(
      (text) =>
        fault(`message ${JSON.stringify(text)}`, 77, REFUSED, respond(400, { error: text, message: text }), {
          requests: 1,
        }),
    ),
    fault(
      "message with both tokens",
      77,
      /\[redacted\]/,
      respond(400, { message: `${ID_TOKEN} ${ACCESS_TOKEN}` }),
    ),
    ...[{ error: { message: "nested" } }, { message: 5, error: null }, [], "<html>"].map((body) =>
      fault(`refusal ${JSON.stringify(body)}`, 77, /HTTP 400\n/, respond(400, JSON.stringify(body)), {
        requests: 1,
      }),
    ),
  ];
}

function accessTokens(): Fault[] {
  const fault = ofFamily("access token");
  const hash = (text: string) => `${createHash("sha256").update(text).digest("hex")}  -\n`;
  const command = ["bash", "-c", 'printf %s "$PULUMI_ACCESS_TOKEN" | sha256sum'];
  const odd = [
    INJECTION.replaceAll(" ", "$IFS"),
    "-n",
    "'\"\\",
    "%s%n",
    "a&b=c;d|e>f",
    "*",
    "~root",
    "!!",
    "{a,b}",
    "=",
  ];
  return [
    ...[5, true, null, {}, ["a"], { access_token: ACCESS_TOKEN }].map((value) =>
      fault(JSON.stringify(value), 76, NO_TOKEN, grant(value), { requests: 1 }),
    ),
    ...[
      "",
      " ",
      "a b",
      "a\nb",
      "a\tb",
      "a\r\nX: 1",
      "a\0b",
      "\0",
      "a\x7f",
      "\u00e9",
      "\u2028",
      "\ud83d\ude00",
      " a",
    ].map((value) => fault(JSON.stringify(value), 76, NO_TOKEN, grant(value), { requests: 1 })),
    ...odd.map((value) =>
      fault(`${value} arrives as it is`, 0, GRANTED, grant(value), {
        stdout: hash(value),
        options: { command },
      }),
    ),
    fault("8000 characters", 0, GRANTED, grant("x".repeat(8000)), {
      stdout: hash("x".repeat(8000)),
      options: { command },
    }),
    fault(
      "every character escaped",
      0,
      GRANTED,
      respond(200, `{"access_token":"\\u0070\\u0075\\u006C\\/\\\\\\""}`),
      {
        stdout: hash('pul/\\"'),
        options: { command },
      },
    ),
    ...["7200", SUBSCRIPT_INJECTION, -1, 1e21, 0.5, null, [1], "08"].map((value) =>
      fault(
        `expires_in ${JSON.stringify(value)}`,
        0,
        /valid until an unknown time/,
        grant(ACCESS_TOKEN, { expires_in: value }),
      ),
    ),
  ];
}

function redirects(otherPort: number): Fault[] {
  const fault = ofFamily("redirect");
  const other = `http://localhost:${otherPort}/api/oauth/token`;
  return [
    ...[300, 301, 302, 303, 304, 305, 307, 308].map((status) =>
      fault(`${status} to another host`, 76, REDIRECT, respond(status, "", { Location: other }), {
        requests: 1,
      }),
    ),
    fault("308 to the same host", 76, REDIRECT, respond(308, "", { Location: "/api/oauth/token/" }), {
      requests: 1,
    }),
    fault(
      "302 with a token",
      76,
      REDIRECT,
      respond(302, { access_token: ACCESS_TOKEN }, { Location: other }),
    ),
    fault("302 without a location", 76, REDIRECT, respond(302, ""), { requests: 1 }),
    fault("302 to file:", 76, REDIRECT, respond(302, "", { Location: "file:///etc/passwd" }), {
      requests: 1,
    }),
    fault("503, then a redirect", 76, REDIRECT, [respond(503, ""), respond(307, "", { Location: other })]),
    fault(
      "200 with Refresh and Location",
      76,
      NO_TOKEN,
      respond(200, "", { Refresh: `0; url=${other}`, Location: other }),
    ),
  ];
}

async function certificates(folder: string, otherPort: number, plainPort: number): Promise<Fault[]> {
  const fault = ofFamily("certificate");
  const authority = await createCertificateAuthority();
  const stranger = await createCertificateAuthority();
  const file = join(folder, "ca.pem");
  await writeFile(file, authority.certificate);
  const trust = { environment: { CURL_CA_BUNDLE: file, SSL_CERT_FILE: file } };
  const hour = 3_600_000;
  const good = await authority.issue({ hosts: ["127.0.0.1"] });
  const https = (name: string, certificate: { key: string; cert: string }, further: Partial<Fault> = {}) =>
    fault(name, 69, UNTRUSTED, grant(ACCESS_TOKEN), { certificate, options: trust, requests: 0, ...further });
  const toHttp = respond(307, "", { Location: `http://127.0.0.1:${otherPort}/` });
  return [
    https("of a stranger's authority", await stranger.issue({ hosts: ["127.0.0.1"] })),
    https("of another host", await authority.issue({ hosts: ["api.pulumi.com"] }), {
      message: /cannot be trusted/,
    }),
    https("expired", await authority.issue({ hosts: ["127.0.0.1"], notAfter: new Date(Date.now() - hour) })),
    https(
      "not yet valid",
      await authority.issue({ hosts: ["127.0.0.1"], notBefore: new Date(Date.now() + hour) }),
    ),
    https("good, and a .curlrc that would accept any", await stranger.issue({ hosts: ["127.0.0.1"] }), {
      options: { environment: { ...trust.environment, CURL_HOME: await folderWithCurlrc(folder) } },
    }),
    https("with no authorities to check it", good, {
      message: /cannot be trusted|cannot do its work/,
      options: { environment: { CURL_CA_BUNDLE: "/nonexistent", SSL_CERT_FILE: "/nonexistent" } },
    }),
    https("good", good, { exitCode: 0, message: GRANTED, requests: 1 }),
    https("good, redirect from https to http", good, {
      exitCode: 76,
      message: REDIRECT,
      requests: 1,
      answers: toHttp,
    }),
    https("good, refusal", good, { exitCode: 77, message: REFUSED, requests: 1, answers: respond(400, "") }),
    https("good, closed before the answer", good, {
      exitCode: 69,
      message: UNREACHABLE,
      requests: undefined,
      answers: send(""),
    }),
    fault("handshake that hangs", 69, UNREACHABLE, grant(ACCESS_TOKEN), {
      options: {
        environment: { ...trust.environment, PULUMI_BACKEND_URL: `https://127.0.0.1:${plainPort}` },
      },
      answers: undefined,
    }),
  ];
}

async function folderWithCurlrc(folder: string): Promise<string> {
  await writeFile(join(folder, ".curlrc"), "insecure\nlocation\nverbose\n");
  return folder;
}

function retryAfter(): Fault[] {
  const fault = ofFamily("Retry-After");
  const busy = (value: string, status = 429) => respond(status, "", { "Retry-After": value });
  const date = (seconds: number) => new Date(Date.now() + seconds * 1000).toUTCString();
  const granted = (name: string, answer: Answer) =>
    fault(name, 0, GRANTED, [answer, grant(ACCESS_TOKEN)], {
      requests: 2,
      options: { environment: { PULUMI_TOKEN_RETRY_SECONDS: "5" } },
    });
  const absurd = (name: string, value: string) =>
    fault(name, 75, /asks to wait \d+ s; gave up/, busy(value, 503), { requests: 1 });
  const later =
    (seconds: number): Answer =>
    async (socket, request) =>
      busy(date(seconds))(socket, request);
  return [
    granted("0", busy("0")),
    granted("1", busy("1")),
    granted("001", busy("001")),
    granted("with space around it", busy(" \t1 \t")),
    granted("a date in a second", later(1)),
    granted("a date gone by", busy("Wed, 21 Oct 2015 07:28:00 GMT")),
    ...[
      "",
      "-1",
      "1.5",
      "1e3",
      "0x10",
      "soon",
      INJECTION,
      SUBSCRIPT_INJECTION,
      "Wed, 99 Foo 2015 99:99:99 GMT",
      "now",
      "tomorrow",
    ].map((value) => granted(`${JSON.stringify(value)} counts as none`, busy(value))),
    absurd("2, when that is all the time there is", "2"),
    absurd("an hour", "3600"),
    absurd("40 digits", "9".repeat(40)),
    absurd("a date in an hour", date(3600)),
    absurd("a date in the year 9999", "Fri, 31 Dec 9999 23:59:59 GMT"),
  ];
}

async function tokenFiles(folder: string): Promise<Fault[]> {
  const fault = ofFamily("token file");
  const inFolder = (name: string) => join(folder, name);
  await mkdir(inFolder("a folder"));
  await symlink(inFolder("nowhere"), inFolder("dangling"));
  const odd = inFolder(`odd '"${"$"}(touch injected)\n&%`);
  await writeFile(odd, ID_TOKEN);
  await symlink(odd, inFolder("link"));
  await writeFile(inFolder("unreadable"), ID_TOKEN, { mode: 0 });
  const at = (path: string) => ({ environment: { PULUMI_OIDC_TOKEN_FILE: path } });
  const asNobody = process.getuid?.() === 0 ? ["setpriv", "--reuid=65534", "--clear-groups"] : [];
  const refused = (name: string, options: Partial<ScriptOptions>, message = TOKEN_FILE) =>
    fault(name, 66, message, grant(ACCESS_TOKEN), { options, requests: 0 });
  const sent = (name: string, idToken: string) =>
    fault(name, 0, GRANTED, grant(ACCESS_TOKEN), {
      options: { idToken },
      form: { subject_token: idToken.trim() },
    });
  const [header, payload, signature] = ID_TOKEN.split(".");

  /** Two attempts, and what happens to the file between them. */
  const whileRunning = (
    name: string,
    exitCode: number,
    message: RegExp,
    change: (path: string) => Promise<void>,
  ) => {
    let path = "";
    const first: Answer = async (socket, request) => {
      await change(path);
      await respond(503, "")(socket, request);
    };
    return fault(name, exitCode, message, [first, grant(ACCESS_TOKEN)], {
      options: {
        whileRunning: (_, tokenFile) => {
          path = tokenFile;
        },
      },
    });
  };
  const replaceBy = (content: string) => async (path: string) => {
    await writeFile(`${path}.new`, content);
    await rename(`${path}.new`, path);
  };

  return [
    refused("missing", { idToken: undefined }),
    refused("empty", { idToken: "" }),
    refused("white space", { idToken: " \n\t" }),
    refused("a folder", at(inFolder("a folder")), /is no regular file/),
    refused("a dangling link", at(inFolder("dangling"))),
    refused(
      "unreadable",
      { ...at(inFolder("unreadable")), launcher: asNobody },
      /cannot be read by user \d+/,
    ),
    refused("a device", at("/dev/zero")),
    refused("a socket of Bash", at("/dev/tcp/127.0.0.1/9")),
    refused("nameless", at("")),
    refused("one part", { idToken: "abc" }),
    refused("two parts", { idToken: "abc.def" }),
    refused("four parts", { idToken: `${ID_TOKEN}.x` }),
    refused("an empty part", { idToken: `${header}..${signature}` }),
    refused("base64 of the other alphabet", { idToken: `${header}.a+/=.${signature}` }),
    refused("a space within", { idToken: `${header}. ${payload}.${signature}` }),
    refused("a second field", { idToken: `${ID_TOKEN}&scope=admin` }),
    refused("a second line", { idToken: `${ID_TOKEN}\nscope=admin` }),
    refused("quotes", { idToken: `"${ID_TOKEN}"` }),
    refused("an injection", { idToken: INJECTION }),
    refused("bytes", { idToken: "\u0001\u0002\u00ff.\u0003.\u0004" }),
    refused("10 MB", { idToken: `${header}.${"a".repeat(10_000_000)}.${signature}` }),
    sent("a line break at the end", `${ID_TOKEN}\n`),
    sent("a Windows line break at the end", `${ID_TOKEN}\r\n`),
    sent("8000 characters", `${header}.${"a".repeat(7000)}.${"b".repeat(900)}`),
    fault("an odd name", 0, GRANTED, grant(ACCESS_TOKEN), { options: at(odd) }),
    fault("a link", 0, GRANTED, grant(ACCESS_TOKEN), { options: at(inFolder("link")) }),
    whileRunning("replaced while running", 0, GRANTED, replaceBy(idTokenOf({ iss: "new" }))),
    whileRunning("emptied while running", 66, /is empty/, replaceBy("")),
    whileRunning("no JWT any more while running", 66, /holds no JWT/, replaceBy(INJECTION)),
    whileRunning("removed while running", 66, /does not exist/, unlink),
    ...[
      { iss: INJECTION, sub: SUBSCRIPT_INJECTION, aud: [INJECTION, "\u001b[31m"], exp: SUBSCRIPT_INJECTION },
      { aud: "one", exp: 1e300, "kubernetes.io": "none" },
      { aud: { [INJECTION]: 1 }, "kubernetes.io": { namespace: ["x"], serviceaccount: null } },
      [],
      "text",
      "x".repeat(5000),
    ].map((claims) =>
      fault(`claims ${JSON.stringify(claims).slice(0, 24)}`, 77, REFUSED, respond(400, ""), {
        options: { idToken: idTokenOf(claims) },
      }),
    ),
    fault("claims that are no base64", 77, /iss none, sub none/, respond(400, ""), {
      options: { idToken: "a.a.a" },
    }),
  ];
}

async function settings(folder: string): Promise<Fault[]> {
  const fault = ofFamily("setting");
  const withoutCurl = join(folder, "bin");
  await mkdir(withoutCurl);
  const bash = process.env.PATH?.split(":")
    .map((path) => join(path, "bash"))
    .find((path) => existsSync(path));
  await symlink(bash ?? "/bin/bash", join(withoutCurl, "bash"));
  const odd = [
    "",
    " ",
    "a b",
    "'",
    '"',
    "a\nb",
    "a&b",
    "a%20b",
    INJECTION,
    SUBSCRIPT_INJECTION,
    "*",
    "-x",
    "@/etc/passwd",
    "a;b",
    "\u00e9",
    "x ".repeat(20_000),
  ];
  const shown = (value: string | undefined) =>
    value === undefined ? "missing" : JSON.stringify(value).slice(0, 30);
  const refused = (name: string, value: string | undefined, further: Record<string, string> = {}) =>
    fault(
      `${name} ${shown(value)}`,
      64,
      new RegExp(`^exchange-token: ${name} (must be|is not set)`, "m"),
      grant(ACCESS_TOKEN),
      {
        options: { environment: { ...further, [name]: value } },
        requests: 0,
      },
    );
  const accepted = (
    name: string,
    value: string | undefined,
    form: Record<string, string> = {},
    further = {},
  ) =>
    fault(`${name} ${shown(value)}`, 0, GRANTED, grant(ACCESS_TOKEN), {
      options: { environment: { ...further, [name]: value } },
      requests: 1,
      form,
    });
  const urls = [
    "http://example.com",
    "http://127.0.0.1.example.com",
    "http://127.0.0.1@example.com",
    "http://localhost.example.com",
    "https://ada@example.com",
    "https://ada:secret@example.com",
    "https://",
    "ftp://127.0.0.1",
    "file:///etc/passwd",
    "127.0.0.1",
    "https://example.com/path",
    "https://example.com?x=1",
    "https://example.com#x",
    "https://example.com\\@evil.example",
    "https://{a,b}.example.com",
    "https://example.com\nhttps://evil.example",
    "-K/etc/passwd",
    "http://[::1",
    "http://[::2]",
  ];
  return [
    ...[undefined, ...odd].map((value) => refused("PULUMI_ORG", value)),
    ...[undefined, ...odd, "Personal", "admin", "personal team"].map((value) =>
      refused("PULUMI_TOKEN_TYPE", value),
    ),
    ...[undefined, ...odd, "0", "-1", "1.5", "2h", "1e3", "0x10", "9".repeat(30)].map((value) =>
      refused("PULUMI_TOKEN_EXPIRATION", value),
    ),
    ...[...odd, "0", "-1", "1.5", "1e3", "9".repeat(30)].map((value) =>
      refused("PULUMI_TOKEN_RETRY_SECONDS", value),
    ),
    accepted("PULUMI_TOKEN_RETRY_SECONDS", undefined),
    ...[
      undefined,
      ...odd,
      "user:",
      "user: ",
      "user:a b",
      "user:a\nb",
      "user:a\tadmin",
      "team:a",
      "admin",
      "User:a",
    ].map((value) => refused("PULUMI_TOKEN_SCOPE", value)),
    refused("PULUMI_TOKEN_SCOPE", "user:a", { PULUMI_TOKEN_TYPE: "team" }),
    refused("PULUMI_TOKEN_SCOPE", "team:a", { PULUMI_TOKEN_TYPE: "runner" }),
    refused("PULUMI_TOKEN_SCOPE", "user:a", { PULUMI_TOKEN_TYPE: "organization" }),
    ...[
      "user:'\"",
      "user:a&scope=admin",
      "user:a%20b",
      `user:${INJECTION.replaceAll(" ", "")}`,
      "user:@/etc/passwd",
      "user:a=b+c",
      "user:\u00e9",
    ].map((scope) => accepted("PULUMI_TOKEN_SCOPE", scope, { scope })),
    ...["", "admin"].map((scope) =>
      accepted("PULUMI_TOKEN_SCOPE", scope, { scope }, { PULUMI_TOKEN_TYPE: "organization" }),
    ),
    ...[...odd, ...urls].map((value) => refused("PULUMI_BACKEND_URL", value)),
    fault("an image without curl", 64, /there is no curl/, grant(ACCESS_TOKEN), {
      options: { environment: { PATH: withoutCurl } },
    }),
    fault("PULUMI_BACKEND_URL missing", 69, /https:\/\/api\.pulumi\.com cannot be reached/, undefined, {
      options: { environment: { PULUMI_BACKEND_URL: undefined, https_proxy: "http://127.0.0.1:9" } },
    }),
    ...[undefined, ...odd].map((value) =>
      fault(`AWS_WEB_IDENTITY_TOKEN_FILE ${shown(value)}`, 66, TOKEN_FILE, grant(ACCESS_TOKEN), {
        options: { environment: { PULUMI_OIDC_TOKEN_FILE: undefined, AWS_WEB_IDENTITY_TOKEN_FILE: value } },
        requests: 0,
      }),
    ),
    ...odd.map((value) =>
      fault(`PULUMI_OIDC_TOKEN_FILE ${shown(value)}`, 66, TOKEN_FILE, grant(ACCESS_TOKEN), {
        options: { environment: { PULUMI_OIDC_TOKEN_FILE: value } },
        requests: 0,
      }),
    ),
  ];
}

function commands(): Fault[] {
  const fault = ofFamily("command");
  const run = (name: string, command: string[], exitCode: number, further: Partial<Fault> = {}) =>
    fault(name, exitCode, GRANTED, grant(ACCESS_TOKEN), { options: { command }, requests: 1, ...further });
  /** Sends a signal to the script while it is at the exchange; with a launcher, to the child of that. */
  const stopped = (
    name: string,
    signal: NodeJS.Signals,
    exitCode: number,
    answer: Answer,
    launcher: string[] = [],
  ) => {
    let pid = 0;
    const stop: Answer = async (socket, request) => {
      await answer(socket, request);
      await delay(200);
      const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
      process.kill(launcher.length > 0 ? Number.parseInt(children, 10) : pid, signal);
    };
    const whileRunning = (scriptPid: number) => {
      pid = scriptPid;
    };
    return fault(name, exitCode, /^(exchange-token: .* trying again .*\n)?$/, stop, {
      options: { launcher, whileRunning, environment: { PULUMI_TOKEN_RETRY_SECONDS: "60" } },
      requests: 1,
    });
  };
  const waiting = respond(503, "", { "Retry-After": "30" });
  // A container's first process is not ended by a signal that it does not handle. Root alone may make one here.
  const asFirstProcess = ["unshare", "--pid", "--fork"];
  const firstProcess =
    process.getuid?.() === 0
      ? [
          run("as the first process", ["bash", "-c", 'printf %s "$$"'], 0, {
            stdout: "1",
            options: { launcher: asFirstProcess, command: ["bash", "-c", 'printf %s "$$"'] },
          }),
          stopped("SIGTERM to the first process in a request", "SIGTERM", 143, hang(), asFirstProcess),
          stopped("SIGTERM to the first process in a pause", "SIGTERM", 143, waiting, asFirstProcess),
        ]
      : [];
  return [
    ...[0, 1, 42, 64, 255].map((code) => run(`exit code ${code}`, ["bash", "-c", `exit ${code}`], code)),
    run("that does not exist", ["no-such-program"], 127),
    run("that is no program", ["/etc/passwd"], 126),
    run("that a signal ends", ["bash", "-c", "kill -TERM $$; sleep 5"], 0, { signal: "SIGTERM" }),
    run("that handles SIGTERM", ["bash", "-c", 'trap "exit 9" TERM; kill -TERM $$; sleep 5'], 9),
    run("arguments", ["printf", "<%s>", "a b", "", INJECTION, "-n", "\n", "*"], 0, {
      stdout: `<a b><><${INJECTION}><-n><\n><*>`,
    }),
    fault("none", 64, /no command is given/, grant(ACCESS_TOKEN), { options: { command: [] }, requests: 0 }),
    stopped("SIGTERM in a request", "SIGTERM", 143, hang()),
    stopped("SIGTERM in a pause", "SIGTERM", 143, waiting),
    stopped("SIGINT in a request", "SIGINT", 130, hang()),
    stopped("SIGINT in a pause", "SIGINT", 130, waiting),
    ...firstProcess,
  ];
}

async function atOnce<Item>(
  limit: number,
  items: Item[],
  work: (item: Item, index: number) => Promise<void>,
): Promise<void> {
  const entries = items.entries();
  const worker = async () => {
    for (const [index, item] of entries) await work(item, index);
  };
  await Promise.all(Array.from({ length: limit }, worker));
}

function printTable(rows: string[][]): void {
  const widths = [46, 7, 7, 100];
  for (const row of rows) {
    const cells = row.map((cell, column) => {
      const width = widths[column] ?? 0;
      return (cell.length > width ? `${cell.slice(0, width - 1)}…` : cell).padEnd(width);
    });
    console.log(cells.join("  ").trimEnd());
  }
}
