// The contract of scripts/exchange-token.sh; faults.test.ts attacks it with malformed input of every kind.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ACCESS_TOKEN,
  callScript,
  EXCHANGE_SCRIPT,
  exchange,
  findLeaks,
  granted,
  ID_TOKEN,
  INITIAL_REQUEST,
  idTokenOf,
  imageWith,
  notRunning,
  runScript,
  SETTINGS,
} from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { type Answer, grant, hang, respond, send } from "./endpoint";

const AT_ONCE = { concurrency: 8 };
const DIRECTORY = temporaryDirectory({ after });
const IS_ROOT = process.getuid?.() === 0;

const SOURCE = readFileSync(EXCHANGE_SCRIPT, "utf8");

/** Every lowercase word of the script: all names of its variables are among them. */
const INTERNAL_NAMES = [...new Set(SOURCE.match(/\b[a-z][a-z0-9_]*\b/g))];

const within = (seconds: number | string) => ({ PULUMI_TOKEN_RETRY_SECONDS: String(seconds) });
const busy = respond(503, "");
const retryAfter = (seconds: number) => respond(429, "", { "Retry-After": String(seconds) });

describe("the wrapped command", AT_ONCE, () => {
  test("receives the token, the backend, and otherwise the environment as given", async () => {
    const given = {
      ...Object.fromEntries(INTERNAL_NAMES.map((name) => [name, `own ${name}`])),
      "name.with-dots": "1",
      LC_ALL: "C.UTF-8",
      PULUMI_BACKEND_URL: "https://pulumi.example",
      PULUMI_CREDENTIAL_HELPER: "/helper",
      TZ: "Asia/Tokyo",
      SHELLOPTS: "braceexpand:hashall:interactive-comments:xtrace",
    };
    const head = "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n";
    const truncated = send(`${head}{"access_token":"${ACCESS_TOKEN}"`);
    const run = await exchange([truncated, granted], { environment: given, command: ["env", "-0"] });
    const seen = run.stdout.split("\0").map((entry) => entry.split(/=(.*)/s, 2));
    const isExpected = /^(|_|PWD|OLDPWD|SHLVL|PATH|HOME|TMPDIR|PULUMI_TOKEN_RETRY_SECONDS)$/;
    const added = seen.filter(([name = ""]) => !isExpected.test(name));
    const expected = { PULUMI_ACCESS_TOKEN: ACCESS_TOKEN, PULUMI_BACKEND_URL: run.endpoint.url };
    assert.deepEqual(Object.fromEntries(added), { ...given, ...expected });
    // Nor does curl receive a token in a variable that the environment exports.
    assert.equal(run.curlCalls.length, 2);
    assert.deepEqual(findLeaks({ ...run, stdout: "" }), []);
  });

  for (const expires_in of [undefined, "7200", 0, 1.5, "a[$(id)]", 1e30]) {
    test(`starts without a known expiry when expires_in is ${JSON.stringify(expires_in)}`, async () => {
      const run = await exchange(grant(ACCESS_TOKEN, { expires_in }), { command: ["echo", "started"] });
      assert.equal(run.stdout, "started\n");
      assert.match(run.stderr, /valid until an unknown time\n$/);
    });
  }

  test("receives its arguments unchanged", async () => {
    const words = ["a b", "", "*", "$(id)", "`id`", "line\nbreak", "-n", "--", "'\"\\", "ü"];
    const run = await exchange(granted, { command: ["printf", "<%s>", ...words] });
    assert.equal(run.stdout, words.map((word) => `<${word}>`).join(""));
  });

  test("is not read as an option of the shell", async () => {
    const run = await exchange(granted, { command: ["-c", "env"] });
    assert.deepEqual([run.exitCode, run.stdout], [127, ""]);
  });

  test("replaces the script: process ID, exit code, standard input, and no open file", async () => {
    const running = notRunning();
    const command = ["bash", "-c", "echo $$; cat; echo /dev/fd/*; exit 42"];
    const input = "a\nb\n";
    const run = await exchange([busy, granted], { command, input, running });
    const direct = await runScript({ url: "", script: '#!/bin/bash\nexec "$@"', command, input });
    assert.equal(run.exitCode, 42);
    assert.equal(run.stdout, direct.stdout.replace(/^\d+/, String(running.pid)));
  });

  test("handles signals as if it had been started directly", async () => {
    const trap = 'trap "echo stopping; exit 7" TERM; kill -TERM $$; sleep 5';
    const own = await exchange(granted, { command: ["bash", "-c", trap] });
    assert.deepEqual([own.stdout, own.exitCode], ["stopping\n", 7]);
    const none = await exchange(granted, { command: ["bash", "-c", "kill -TERM $$; sleep 5"] });
    assert.equal(none.signal, "SIGTERM");
  });

  test("runs after one line on standard error, and also if standard error is closed", async () => {
    const { stderr, exitCode } = await exchange(granted);
    assert.equal(exitCode, 0);
    const line =
      /^exchange-token: acme granted an access token \(personal, scope user:alice\), valid until \S+Z\n$/;
    assert.match(stderr, line);
    const closed = await exchange(granted, { launcher: ["bash", "-c", '"$@" 2>&-', "bash"] });
    assert.equal(closed.exitCode, 0);
  });
});

describe("the request", AT_ONCE, () => {
  test("is one POST, without a proxy, with the fields that RFC 8693 and Pulumi Cloud define", async () => {
    const proxy = "http://127.0.0.1:9";
    const environment = { http_proxy: proxy, ALL_PROXY: proxy };
    const idToken = `${ID_TOKEN}\n`;
    const { endpoint, curlCalls } = await exchange(granted, { environment, idToken });
    assert.equal(endpoint.connections(), 1);
    assert.match(endpoint.requests[0]?.head ?? "", /^POST \/api\/oauth\/token HTTP(?!.*authorization)/is);
    assert.deepEqual(Object.fromEntries(endpoint.requests[0]?.form ?? []), {
      audience: "urn:pulumi:org:acme",
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      requested_token_type: "urn:pulumi:token-type:access_token:personal",
      scope: "user:alice",
      expiration: "7200",
      subject_token: ID_TOKEN,
    });
    assert.match(curlCalls[0] ?? "", /^--disable\n.*\n--proto\n=http\n/s);
  });

  for (const given of [
    "personal user:a_b.c@d+e-f",
    "team team:@/etc/passwd",
    "team team:a&b=c%20,d;e'",
    "runner runner:@$(id)`id`'+",
    "organization admin",
    "organization ",
  ]) {
    test(`asks for a token of type and scope ${given}`, async () => {
      const [tokenType = "", tokenScope = ""] = given.split(" ");
      const run = await exchange(granted, { settings: { tokenType, tokenScope } });
      const form = run.endpoint.requests[0]?.form;
      assert.equal(form?.get("requested_token_type"), `urn:pulumi:token-type:access_token:${tokenType}`);
      assert.equal(form?.get("scope"), tokenScope);
    });
  }

  for (const host of ["localhost", "127.0.0.1", "[::1]"]) {
    test(`goes to ${host}, and drops a trailing slash`, async () => {
      const settings = { apiUrl: `http://${host}:9/` };
      const run = await exchange(granted, { settings, environment: within(1) });
      assert.match(run.stderr, /^exchange-token: Failed to reach http:\S+:9: .* \(curl exit code 7\)/);
    });
  }
});

describe("settings", AT_ONCE, () => {
  test("are all checked before anything is sent", async () => {
    const settings = {
      organization: undefined,
      tokenType: "admin",
      tokenScope: "x".repeat(256),
      tokenExpirationSeconds: "2h",
      apiUrl: "https://ada:secret@example.com",
      token: undefined,
    };
    const options = { settings, environment: within(0), command: [], directory: "\u202edir\u001b[2J" };
    const { endpoint, ...run } = await exchange(granted, options);
    assert.equal(run.exitCode, 64);
    assert.deepEqual(run.stderr.match(/^ {2}\S.* is '.*?'(?=\. )/gm), [
      `  organization is '(no file that user ${process.getuid?.()} can read)'`,
      "  tokenType with tokenScope is 'admin (256 bytes or more, or a null character)'",
      "  tokenExpirationSeconds is '2h'",
      "  apiUrl is 'https:[redacted]example.com'",
      "  The variable PULUMI_TOKEN_RETRY_SECONDS is '0'",
    ]);
    assert.match(run.stderr, /The files are in \S+\/\\xe2\\x80\\xaedir\\x1b\[2J\/\. /);
    assert.deepEqual([endpoint.connections(), run.curlCalls], [0, []]);
  });

  test("include one variable, the time to retry, which is 50 seconds by default", async () => {
    const { stderr } = await exchange(retryAfter(100), { environment: within("") });
    assert.match(stderr, /exceed the 50 s of PULUMI_TOKEN_RETRY_SECONDS/);
  });
});

describe("an ID token", AT_ONCE, () => {
  const user = process.getuid?.();
  // Root can read every file.
  const drop = IS_ROOT ? "setpriv --reuid=65534 --clear-groups" : "";
  const launcher = ["bash", "-c", `chmod 0 "\${1%/*}/token"; exec ${drop} "$@"`, "bash"];

  for (const [how, options, problem] of [
    ["missing", { idToken: undefined }, `is not a file that user ${user} can read`],
    ["unreadable", { launcher }, `is not a file that user ${IS_ROOT ? 65534 : user} can read`],
    ["not a JWT", { idToken: "(hunter2)" }, "does not contain a JWT"],
  ] as const) {
    test(`that is ${how} is an error that names the file, and what to add to the pod`, async () => {
      const run = await exchange(granted, { directory: "\u202edir", ...options });
      const path = run.path.replace("\u202e", String.raw`\xe2\x80\xae`).replace(/[^/]+$/, "token");
      const expected =
        `exchange-token: No ID token: ${path} ${problem}. The volume pulumi-token-exchange must have a ` +
        "serviceAccountToken as a source, with the path token. If all containers run as one user, only it can read this.\n";
      assert.deepEqual([run.exitCode, run.stderr], [66, expected]);
    });
  }
});

describe("a temporary failure", AT_ONCE, () => {
  test("is retried after a random time that doubles with each attempt, and not before Retry-After", async () => {
    const attempt = () => exchange([busy, busy, busy, retryAfter(6), granted]);
    const runs = await Promise.all(Array.from({ length: 8 }, attempt));
    const pauses = runs.map(({ stderr }) =>
      [...stderr.matchAll(/Retrying in (\S+) s/g)].map(([, s]) => Number(s)),
    );
    for (const [index, [least, limit]] of (
      [
        [1, 2],
        [2, 4],
        [4, 8],
        [6, 10],
      ] as const
    ).entries()) {
      const nth = pauses.map((sequence) => sequence[index] ?? 0);
      for (const pause of nth) assert.ok(pause >= least && pause < limit, String(nth));
      // Two of 1,000 milliseconds are equal now and then; six of eight are not in a lifetime.
      assert.ok(new Set(nth).size > 2, String(nth));
    }
    // All but once in 65,536 runs, without a random part of whole seconds never.
    const varies = pauses.some(([, second = 0, third = 0]) => second > 3 || third > 5);
    assert.ok(varies, String(pauses));
    for (const { endpoint, curlCalls } of runs) {
      const arrivals = endpoint.requests.map(({ arrivedAt }) => arrivedAt);
      assert.ok((arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0) >= 13_000, String(arrivals));
      for (const call of curlCalls) assert.match(call, /\n--max-time\n10\n/);
    }
  });

  /** Replaces the pause between two attempts by a command. */
  const pauseWith = (command: string) => ({
    "BASH_FUNC_read%%": `() { case "$*" in *-t*) ${command} ;; esac; builtin read "$@"; }`,
  });

  test("ends the script if bash cannot wait", async () => {
    const run = await exchange(busy, { environment: pauseWith("return 1") });
    assert.deepEqual([run.exitCode, run.endpoint.requests.length], [75, 1]);
    assert.match(run.stderr, /Giving up: bash could not wait\.\n$/);
  });

  test("ends with a last attempt of one second, even when the machine was suspended meanwhile", async () => {
    const run = await exchange([busy, granted], { environment: pauseWith("SECONDS=1000; return 142") });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.match(run.curlCalls.join(), /--max-time\n1\n/);
  });

  test("is not retried if the attempts and the next pause together exceed the time to retry", async () => {
    const late: Answer = (...request) => sleep(1100).then(() => retryAfter(9)(...request));
    const run = await exchange([late, granted], { environment: within(10) });
    assert.deepEqual([run.exitCode, run.endpoint.requests.length], [75, 1], run.stderr);
  });
});

const inputsOf = (texts: string[]) => texts.map((text) => [text]);

/** Returns what messages show of each text. */
async function excerpts(texts: string[]): Promise<string[]> {
  const results = await callScript('LC_ALL=C; excerpt "$1"', inputsOf(texts));
  return results.map(({ output }) => output);
}

describe("a denial", AT_ONCE, () => {
  test("shows answer, request, and claims in printable characters, and is not retried", async () => {
    const page = `<html>\r\n<h1>Forbidden\u001b[31m\u202eé</h1>${" text".repeat(200)}`;
    // In base64url this differs from base64, and its length is not a multiple of three.
    const idToken = idTokenOf('{"sub":"???>>>???>>>?>?>\n\u001b[31mé\u0000~"} ');
    // With LD_PRELOAD, curl prints a warning, which is not part of the body.
    const environment = { LC_ALL: "C.UTF-8", LD_PRELOAD: "/nonexistent.so" };
    const run = await exchange(respond(401, page), { idToken, environment });
    const shown = String.raw`<html>\x0d\x0a<h1>Forbidden\x1b[31m\xe2\x80\xae\xc3\xa9</h1>${" text".repeat(200)}`;
    const { exitCode, endpoint } = run;
    const expected = `exchange-token: ${endpoint.url} denied the token exchange: HTTP 401: ${shown.slice(0, 200)}
  Requested from organization acme: personal, scope user:alice, 7200 seconds.
  An allow policy of its OIDC issuer must match the request and the claims of this ID token: \
{"sub":"???>>>???>>>?>?>\\x0a\\x1b[31m\\xc3\\xa9\\x00~"} 
`;
    const stderr = run.stderr.replace(/^ERROR: ld\.so: .*\n/gm, "");
    assert.deepEqual([exitCode, endpoint.requests.length, stderr], [77, 1, expected]);
  });

  test("redacts a token that is cut off at any character, and a password", async () => {
    const positions = Array.from({ length: 48 }, (_, index) => 156 + index);
    // What precedes it takes little room when redacted.
    const shown = await excerpts(positions.map((before) => `${"b".repeat(before - 1)} ${ACCESS_TOKEN} end`));
    for (const text of shown) {
      assert.match(text, /^\[redacted\] ?(\[redacted\]|\[cut off\])?( \[cut off\]| )?$/);
      assert.doesNotMatch(text, /pul|[0-9]/);
    }
    const [password] = await excerpts([`${"text ".repeat(37)}a//ada:s3cr.et.word@host`]);
    assert.equal(password, `${"text ".repeat(37)}a[cut off]`);
  });

  test("with 64 KB of any text is shown at once, and too little of it to put a token together", async () => {
    const word = "a".repeat(39);
    const parts = ["//a0@", "//", `${word}.`, `${word}a/`, "a", "\u001b", "[*?", "//b c"];
    const repeat = `LC_ALL=C; text=$1; while ((\${#text} < 60000)); do text+=$text; done; excerpt "$text"`;
    const startedAt = performance.now();
    const results = await callScript(repeat, inputsOf(parts));
    for (const { output } of results) assert.match(output, /^[ -~]{1,200}$/);
    assert.ok(performance.now() - startedAt < 10_000);
  });

  test("fits into a termination message of Kubernetes, and keeps its beginning", async () => {
    const long = "long words ".repeat(300);
    const settings = { organization: "n".repeat(100), tokenScope: `user:${"n".repeat(100)}` };
    const idToken = idTokenOf({ sub: long });
    const { stderr } = await exchange(respond(400, { message: `${long}é` }), { settings, idToken });
    assert.match(stderr, /^exchange-token: http:\S+ denied .*\n.*\n.*\{"sub":"long words/);
    assert.equal(stderr.length, 1800);
  });
});

describe("the command does not run without a token, and the CLI gets none", AT_ONCE, () => {
  const commands = {
    "the command": { command: ["echo", "started"] },
    "the CLI": { command: [], input: INITIAL_REQUEST },
  };
  const noTime = '() { case "$*" in *"%("*) return 1 ;; esac; builtin printf "$@"; }';
  // After an arithmetic error, bash continues with the next command of the script.
  const broken = SOURCE.replace(/ granted_token=.*BASH_REMATCH.*\n/, ": $((08))\n");
  const curl = async (source: string) => {
    const bin = await mkdtemp(join(DIRECTORY, "bin-"));
    await writeFile(join(bin, "curl"), `#!/bin/sh\n${source}\n`, { mode: 0o755 });
    return { environment: { ...within(1), PATH: `${bin}:${process.env.PATH}` } };
  };
  const noResult =
    /^exchange-token: curl reported no result\. Use an image that contains curl 7\.84 or later\.\n$/;

  for (const [when, options, exitCode, message] of [
    ["curl is missing", { environment: { PATH: imageWith({ after }, ["bash", "env"]) } }, 69, noResult],
    ["curl fails early", curl(`echo '{"access_token":"pul.first.second"}'; exit 2`), 69, noResult],
    ["curl reports an octal status", curl("printf '\\n18 099 |octal'"), 69, /octal/],
    ["the time is unknown", { environment: { "BASH_FUNC_printf%%": noTime } }, 1, /^$/],
    ["the script itself fails", { script: broken }, 1, /08/],
  ] as const) {
    for (const [who, ways] of Object.entries(commands)) {
      test(`${who}: when ${when}`, async () => {
        const run = await exchange(granted, { ...ways, ...(await options) });
        assert.deepEqual([run.exitCode, run.stdout], [exitCode, ""]);
        assert.match(run.stderr, message);
      });
    }
  }
});

describe("a signal during the exchange ends the script at once", AT_ONCE, () => {
  // Only root can start the first process of a container, which ignores signals that it does not handle.
  const launcher = IS_ROOT ? ["unshare", "--pid", "--fork"] : [];
  for (const [signal, moment, answer] of [
    ["SIGTERM", "in a request", hang()],
    ["SIGINT", "between attempts", retryAfter(30)],
  ] as const) {
    test(`${signal} ${moment}`, async () => {
      const running = notRunning();
      const stop: Answer = async (socket, request) => {
        await answer(socket, request);
        await sleep(200);
        const children = readFileSync(`/proc/${running.pid}/task/${running.pid}/children`, "utf8");
        process.kill(IS_ROOT ? Number.parseInt(children, 10) : running.pid, signal);
      };
      const run = await exchange(stop, { launcher, running });
      assert.equal(run.exitCode, 143);
      assert.ok(run.milliseconds < 8000, `${run.milliseconds} ms`);
    });
  }
});

describe("the credential helper", AT_ONCE, () => {
  const OTHER_TOKEN = "pul-fedcba9876543210fedcba9876543210fedcba98";
  const IMAGE = imageWith({ after }, ["bash", "curl", "env"]);

  /** Runs the script as the CLI does, in an image without other programs. */
  async function ask(request: object, environment = {}, answers: Answer | Answer[] = granted) {
    const input = JSON.stringify({ version: 1, ...request });
    const run = await exchange(answers, { environment: { PATH: IMAGE, ...environment }, command: [], input });
    return { ...run, answer: run.exitCode === 0 ? JSON.parse(run.stdout) : undefined };
  }

  /** Runs the script for each request, with the URL of the default settings. It fails if it would exchange. */
  function answersUntilExchange(requests: string[]) {
    return callScript('exchange() { exit 1; }; main < <(printf %s "$1")', inputsOf(requests));
  }

  for (const reason of ["initial", "expired", "rejected"]) {
    test(`answers the reason ${reason} with a new token, and with nothing of the environment's`, async () => {
      const environment = { PULUMI_ACCESS_TOKEN: OTHER_TOKEN };
      const run = await ask({ reason, selectedBackendUrl: "URL/" }, environment);
      const { expiresAt, ...others } = run.answer;
      assert.deepEqual(others, { version: 1, accessToken: ACCESS_TOKEN });
      assert.deepEqual([run.stderr, run.curlCalls.length], ["", 1]);
      assert.deepEqual(findLeaks({ ...run, stdout: "" }, [ACCESS_TOKEN, ID_TOKEN, OTHER_TOKEN]), []);
    });
  }

  test("answers with the granted lifetime, counted from before the request, in UTC", async () => {
    const answers = grant(ACCESS_TOKEN, { expires_in: 600 });
    const late: Answer = (...request) => sleep(1500).then(() => answers(...request));
    const { answer, endpoint } = await ask({ reason: "initial" }, { TZ: "JST-9" }, late);
    const lifetime = Date.parse(answer.expiresAt) - (endpoint.requests[0]?.arrivedAt ?? 0);
    assert.ok(lifetime > 540_000 && lifetime <= 600_000, answer.expiresAt);
  });

  test("names the backend if none is selected, and omits an unknown expiry", async () => {
    const { answer, endpoint } = await ask({ reason: "initial" }, {}, grant("pul-1", { expires_in: null }));
    assert.deepEqual(answer, { version: 1, accessToken: "pul-1", backendUrl: endpoint.url });
  });

  test("denies any other backend, whatever the reason, before any request", async () => {
    const { apiUrl: url } = SETTINGS;
    const backends = [
      "https://evil.example",
      "https://ada:hunter2@evil.example/\u001b[2J",
      `${url}.evil.example`,
      ...["//", "/api", "x", "\\u002f", '\\"}', "\\\\"].map((end) => url + end),
      "",
      "file://~",
      // As the CLI writes "&".
      "s3://state?region=us-west-2\\u0026awssdk=v2",
    ];
    const requests = ["initial", "expired", "rejected"].flatMap((reason) =>
      backends.map((backend) => `{"version":1,"reason":"${reason}","selectedBackendUrl":"${backend}"}`),
    );
    // Only a first request can be without a selected backend.
    requests.push('{"version":1,"reason":"expired"}', '{"version":1,"reason":"rejected"}');
    const denied = /^exchange-token: Denied: the Pulumi CLI selected the backend '[ -~]*'.*backend\.url.*\n$/;
    for (const { exitCode, output } of await answersUntilExchange(requests)) {
      assert.match(output, denied);
      assert.doesNotMatch(output, /hunter2/);
      assert.equal(exitCode, 77);
    }
  });

  test("rejects every other request, before any exchange, and shows the beginning of it", async () => {
    const url = SETTINGS.apiUrl;
    const requests = [
      "",
      "{}",
      '{"version":2,"reason":"initial"}',
      '{"version":1,"reason":"renewed"}',
      '{"version":1,"reason":"initial","selectedBackendUrl":5}',
      `{"version":1,"reason":"initial","selectedBackendUrl":"${url}","selectedBackendUrl":"https://evil.example"}`,
      `{"version":1,"reason":"initial","selectedBackendUrl":"${url}\\"}`,
      '{"version":1,"reason":"initial","selected\\u0042ackendUrl":"https://evil.example"}',
      '{"version":1,"reason":"initial", "selectedBackendUrl" : "https://evil.example"}',
      '{"version":1,"reason":"initial"}\n{"selectedBackendUrl":"https://evil.example"}',
      `{"version":1,"reason":"initial","selectedBackendUrl":"${"x".repeat(5000)}"}`,
      `{"version":2,"reason":"initial","\u202enew":"token ${ACCESS_TOKEN}"}`,
    ];
    const start = "exchange-token: Unsupported request on standard input:";
    const unsupported = RegExp(`^${start} '[ -~]{0,200}'\\.\\n .*version 1 .*3\\.274\\.0 or later.*\\n$`);
    for (const { exitCode, output } of await answersUntilExchange(requests)) {
      assert.match(output, unsupported);
      assert.doesNotMatch(output, /pul-/);
      assert.equal(exitCode, 64, output);
    }
  });

  test("reads no more of an endless request than it needs", async () => {
    const launcher = ["bash", "-c", 'head --bytes=200MB /dev/zero | tr "\\0" x | "$@"', "bash"];
    const run = await exchange(granted, { launcher, command: [] });
    assert.deepEqual([run.exitCode, run.stdout, run.endpoint.connections()], [64, "", 0]);
    assert.ok(run.milliseconds < 8000, `${run.milliseconds} ms`);
  });

  test("retries silently, and for at most 50 seconds", async () => {
    const request = { reason: "initial", selectedBackendUrl: "URL" };
    const run = await ask(request, within(600), [busy, granted]);
    assert.deepEqual([run.answer?.accessToken, run.stderr], [ACCESS_TOKEN, ""]);
    for (const [given, limit] of Object.entries({ 600: 50, 7: 7 })) {
      const { stderr, stdout } = await ask(request, within(given), retryAfter(52));
      assert.ok(stderr.endsWith(` exceed the ${limit} s of PULUMI_TOKEN_RETRY_SECONDS.\n`), stderr);
      assert.equal(stdout, "");
    }
  });
});

describe("tokens", AT_ONCE, () => {
  test("are found by the leak detector, wherever they leak", async () => {
    const script = `#!/usr/bin/env bash
cd "$(dirname "$0")"
id_token=$(<token)
curl -s -d "subject_token=$id_token" "$(<apiUrl)"
echo "$id_token" >&2
echo "$id_token" >"$TMPDIR/token"
rm "$TMPDIR/token"`;
    const places = ["a call of curl", "standard output", "standard error", "file"];
    assert.deepEqual(findLeaks(await exchange(granted, { script })), places);
  });

  for (const environment of [
    { SHELLOPTS: "xtrace" },
    { SHELLOPTS: "verbose" },
    { SHELLOPTS: "allexport" },
    { SHELLOPTS: "keyword" },
    { SHELLOPTS: "posix" },
    { SHELLOPTS: "history:histexpand" },
    { SHELLOPTS: "errtrace:functrace:monitor:noclobber:noglob:physical:pipefail:privileged" },
    { POSIXLY_CORRECT: "1" },
    { IFS: "/.:-_aeiou0123456789" },
    { BASHOPTS: "nocasematch:extglob:localvar_inherit", TMOUT: "1", SECONDS: "9223372036854775807" },
    { BASHOPTS: "dotglob:failglob:globstar:inherit_errexit:lastpipe:nullglob:xpg_echo", BASH_COMPAT: "4.2" },
    { CURL_HOME: DIRECTORY },
  ]) {
    test(`do not leak with ${JSON.stringify(environment).replace(DIRECTORY, "a .curlrc")} in the environment`, async () => {
      const curlrc = "verbose\ntrace-ascii = /dev/stderr\nproxy = 127.0.0.1:9\n";
      await writeFile(join(DIRECTORY, ".curlrc"), curlrc);
      const late: Answer = (...request) => sleep(1200).then(() => granted(...request));
      const command = ["bash", "+x", "-c", "declare -F"];
      const run = await exchange([busy, late], { environment, command });
      assert.deepEqual([run.exitCode, run.stdout, run.curlCalls.length], [0, "", 2], run.stderr);
      assert.deepEqual(findLeaks(run), []);
    });
  }

  for (const option of ["noexec", "onecmd"]) {
    test(`do not leak with SHELLOPTS=${option}, with which bash does not run the script`, async () => {
      const run = await exchange(granted, {
        environment: { SHELLOPTS: option },
        command: ["echo", "started"],
      });
      assert.deepEqual([run.stdout, run.endpoint.connections(), findLeaks(run)], ["", 0, []]);
    });
  }
});
