// The contract of scripts/exchange-token.sh; faults.test.ts attacks it with malformed input of every kind.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SCRIPT_FILE } from "../../tokenVolume";
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
  notRunning,
  runScript,
  type ScriptOptions,
  SETTINGS,
} from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { type Answer, grant, hang, respond, send, startEndpoint } from "./endpoint";

const AT_ONCE = { concurrency: 8 };
const DIRECTORY = temporaryDirectory({ after });
const IS_ROOT = process.getuid?.() === 0;

const SOURCE = readFileSync(EXCHANGE_SCRIPT, "utf8");

/** Every lowercase word of the script: all names of its variables are among them. */
const INTERNAL_NAMES = [...new Set(SOURCE.match(/\b[a-z][a-z0-9_]*\b/g))];

/** Starts the script as `bash exchange-token.sh` in its own directory. */
const IN_ITS_DIRECTORY = [
  "bash",
  "-c",
  'cd "$(dirname "$1")" && shift && exec bash exchange-token.sh "$@"',
  "bash",
];

const EXPECTED_FORM = {
  audience: "urn:pulumi:org:acme",
  grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
  subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
  requested_token_type: "urn:pulumi:token-type:access_token:personal",
  scope: "user:alice",
  expiration: "7200",
  subject_token: ID_TOKEN,
};

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
    const run = await exchange(granted, { environment: given, command: ["env", "-0"] });
    const seen = run.stdout.split("\0").map((entry) => entry.split(/=(.*)/s, 2));
    const isExpected = /^(|_|PWD|OLDPWD|SHLVL|PATH|HOME|TMPDIR|PULUMI_TOKEN_RETRY_SECONDS)$/;
    const added = seen.filter(([name = ""]) => !isExpected.test(name));
    const expected = { PULUMI_ACCESS_TOKEN: ACCESS_TOKEN, PULUMI_BACKEND_URL: run.endpoint.url };
    assert.deepEqual(Object.fromEntries(added), { ...given, ...expected });
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
    assert.equal(run.exitCode, 127);
    assert.equal(run.stdout, "");
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
    const { endpoint, curlCalls } = await exchange(granted, { environment });
    assert.equal(endpoint.connections(), 1);
    assert.match(endpoint.requests[0]?.head ?? "", /^POST \/api\/oauth\/token HTTP(?!.*authorization)/is);
    assert.deepEqual(Object.fromEntries(endpoint.requests[0]?.form ?? []), EXPECTED_FORM);
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
      const run = await exchange(granted, { settings: { apiUrl: `http://${host}:9/` } });
      assert.match(run.stderr, /^exchange-token: Failed to reach http:\S+:9: .* \(curl exit code 7\)/);
    });
  }

  test("is the same whatever the environment of the pod says", async (t) => {
    const elsewhere = await startEndpoint(granted);
    t.after(elsewhere.close);
    const variables = {
      PULUMI_BACKEND_URL: elsewhere.url,
      PULUMI_API: elsewhere.url,
      PULUMI_API_URL: elsewhere.url,
      PULUMI_CLOUD_URL: elsewhere.url,
      PULUMI_ORG: "evil",
      PULUMI_TOKEN_TYPE: "organization",
      PULUMI_TOKEN_SCOPE: "admin",
      PULUMI_TOKEN_EXPIRATION: "999",
      PULUMI_OIDC_TOKEN_FILE: "/nonexistent",
      PULUMI_ACCESS_TOKEN: "pul-of-the-pod",
      PULUMI_ACCESS_TOKEN_EXPIRES_AT: "9999999999",
      PULUMI_CREDENTIAL_HELPER_ARGS: '["--credential-helper"]',
      AWS_WEB_IDENTITY_TOKEN_FILE: "/nonexistent",
      CDPATH: "/:/tmp:.",
      OLDPWD: "/tmp",
      PWD: "/tmp",
      BASH_SOURCE: "/tmp/exchange-token.sh",
      BASH_ARGV0: "/tmp/exchange-token.sh",
      BASH_REMATCH: "evil",
      apiUrl: elsewhere.url,
      url: elsewhere.url,
      organization: "evil",
      directory: "/tmp",
    };
    for (const launcher of [[], IN_ITS_DIRECTORY]) {
      for (const command of [["printenv", "PULUMI_ACCESS_TOKEN"], []]) {
        const input = INITIAL_REQUEST;
        const run = await exchange(granted, { environment: variables, launcher, command, input });
        assert.equal(run.exitCode, 0, run.stderr);
        assert.deepEqual(run.stdout.match(/pul-[\w-]+/g), [ACCESS_TOKEN]);
        assert.deepEqual(Object.fromEntries(run.endpoint.requests[0]?.form ?? []), EXPECTED_FORM);
      }
    }
    assert.equal(elsewhere.connections(), 0);
  });
});

describe("settings", AT_ONCE, () => {
  test("are all checked before anything is sent", async () => {
    const settings = {
      organization: undefined,
      tokenType: "admin",
      tokenExpirationSeconds: "2h",
      apiUrl: "https://ada:secret@example.com",
      token: undefined,
    };
    const environment = { PULUMI_TOKEN_RETRY_SECONDS: "0" };
    const { endpoint, ...run } = await exchange(granted, { settings, environment, command: [] });
    assert.equal(run.exitCode, 64);
    assert.deepEqual(run.stderr.match(/^ {2}\S.* is '.*?'(?=\. )/gm), [
      `  organization is '(no file that user ${process.getuid?.()} can read)'`,
      "  tokenType with tokenScope is 'admin user:alice'",
      "  tokenExpirationSeconds is '2h'",
      "  apiUrl is 'https:[redacted]example.com'",
      "  The variable PULUMI_TOKEN_RETRY_SECONDS is '0'",
    ]);
    assert.deepEqual([endpoint.connections(), run.curlCalls], [0, []]);
  });

  test("that are invalid are reported with their directory, escaped", async () => {
    const settings = { organization: "" };
    const { exitCode, stderr } = await exchange(granted, { settings, directory: "\u202edir\u001b[2J" });
    assert.match(stderr, /The files are in \S+\/\\xe2\\x80\\xaedir\\x1b\[2J\/\. /);
    assert.equal(exitCode, 64);
  });

  test("include one variable, the time to retry, which is 50 seconds by default", async () => {
    const environment = { PULUMI_TOKEN_RETRY_SECONDS: "" };
    const { stderr } = await exchange(retryAfter(100), { environment });
    assert.match(stderr, /exceed the 50 s of PULUMI_TOKEN_RETRY_SECONDS/);
  });
});

describe("the ID token", AT_ONCE, () => {
  test("is the file token beside the script, with or without a line break, whatever the directory's name", async () => {
    const directory = "'\"$(touch injected)&%\n a[$(touch injected)]";
    for (const idToken of [ID_TOKEN, `${ID_TOKEN}\n`]) {
      const run = await exchange(granted, { directory, idToken });
      assert.deepEqual([run.endpoint.requests[0]?.form.get("subject_token"), run.files], [ID_TOKEN, []]);
    }
  });

  test("is read anew for each attempt", async () => {
    const running = notRunning();
    const renewed = idTokenOf({ sub: "renewed" });
    const renew: Answer = (...request) => {
      running.volume.replace({ token: renewed });
      return busy(...request);
    };
    const { endpoint } = await exchange([renew, granted], { running });
    const sent = endpoint.requests.map(({ form }) => form.get("subject_token"));
    assert.deepEqual(sent, [ID_TOKEN, renewed]);
  });

  test("that is missing is an error that names the file, and what to add to the pod", async () => {
    // The script doesn't use the ID token of the EKS webhook, whose audience is AWS.
    const webhook = join(DIRECTORY, "aws");
    await writeFile(webhook, ID_TOKEN);
    const environment = { AWS_WEB_IDENTITY_TOKEN_FILE: webhook };
    const run = await exchange(granted, { idToken: undefined, directory: "\u202edir", environment });
    assert.equal(run.exitCode, 66);
    const path = run.path.replace("\u202e", String.raw`\xe2\x80\xae`).replace(SCRIPT_FILE, "token");
    assert.equal(
      run.stderr,
      `exchange-token: No ID token: ${path} is not a file that user ${process.getuid?.()} can read. ` +
        "The volume pulumi-token-exchange must have a serviceAccountToken as a source, with the path token. " +
        "If all containers run as one user, only it can read this.\n",
    );
  });

  test("that is unreadable is an error that names the user, and who can read it", async () => {
    // Root can read every file.
    const drop = IS_ROOT ? "setpriv --reuid=65534 --clear-groups" : "";
    const launcher = ["bash", "-c", `chmod 0 "\${1%/*}/token"; exec ${drop} "$@"`, "bash"];
    const run = await exchange(granted, { launcher });
    assert.equal(run.exitCode, 66);
    assert.match(
      run.stderr,
      /^exchange-token: No ID token: \S+\/token is not a file that user \d+ can read\. .* run as one user, only it can read this/,
    );
  });

  for (const idToken of ["hunter2", "(hunter2)"]) {
    test(`that is not a JWT is an error that does not show it: ${idToken}`, async () => {
      const run = await exchange(granted, { idToken });
      assert.equal(run.exitCode, 66);
      assert.match(run.stderr, /^exchange-token: No ID token: \S+\/token does not contain a JWT\. .*\n$/);
      assert.doesNotMatch(run.stderr, /hunter2/);
    });
  }
});

describe("a temporary failure", AT_ONCE, () => {
  test("is retried after at least as long as Retry-After says", async () => {
    const { endpoint } = await exchange([retryAfter(2), granted], {
      environment: { PULUMI_TOKEN_RETRY_SECONDS: "6" },
    });
    const [first, second] = endpoint.requests.map(({ arrivedAt }) => arrivedAt);
    assert.ok(first && second && second - first >= 2000);
  });

  test("is retried after a random time also with Retry-After", async () => {
    const attempt = () =>
      exchange([retryAfter(1), granted], { environment: { PULUMI_TOKEN_RETRY_SECONDS: "40" } });
    const runs = await Promise.all([attempt(), attempt(), attempt(), attempt()]);
    const pauses = runs.map(({ stderr }) => Number(/Retrying in (\S+) s/.exec(stderr)?.[1]));
    for (const pause of pauses) assert.ok(pause >= 1 && pause < 2, String(pauses));
    assert.ok(new Set(pauses).size > 1, String(pauses));
  });

  test("is retried after a random time that doubles with each attempt, up to 8 seconds", async () => {
    const attempt = () =>
      exchange([busy, busy, busy, busy, granted], { environment: { PULUMI_TOKEN_RETRY_SECONDS: "40" } });
    const runs = await Promise.all(Array.from({ length: 8 }, attempt));
    const pauses = runs.map(({ stderr }) =>
      [...stderr.matchAll(/Retrying in (\S+) s/g)].map(([, s]) => Number(s)),
    );
    for (const [index, least] of [1, 2, 4, 4].entries()) {
      const nth = pauses.map((sequence) => sequence[index] ?? 0);
      for (const pause of nth) assert.ok(pause >= least && pause < 2 * least, String(nth));
      // Two of 1,000 milliseconds are equal now and then; six of eight are not in a lifetime.
      assert.ok(new Set(nth).size > 2, String(nth));
    }
    // All but once in 65,536 runs, without a random part of whole seconds never.
    const varies = pauses.some(([, second = 0, third = 0]) => second > 3 || third > 5);
    assert.ok(varies, String(pauses));
    for (const { endpoint } of runs) {
      const arrivals = endpoint.requests.map(({ arrivedAt }) => arrivedAt);
      const total = (arrivals.at(-1) ?? 0) - (arrivals[0] ?? 0);
      assert.ok(total >= 11_000, `${total} ms for four pauses`);
    }
  });

  test("ends the script if bash cannot wait", async () => {
    const cannotWait = {
      PULUMI_TOKEN_RETRY_SECONDS: "40",
      "BASH_FUNC_read%%": '() { case "$*" in *-t*) return 1 ;; esac; builtin read "$@"; }',
    };
    const run = await exchange(busy, { environment: cannotWait });
    assert.deepEqual([run.exitCode, run.endpoint.requests.length], [75, 1]);
    assert.match(run.stderr, /Giving up: bash could not wait\.\n$/);
  });

  test("ends with a last attempt of one second, even when the machine was suspended meanwhile", async () => {
    const running = notRunning();
    const suspend: Answer = async (socket, request) => {
      await busy(socket, request);
      await sleep(300);
      process.kill(running.pid, "SIGSTOP");
      setTimeout(() => process.kill(running.pid, "SIGCONT"), 6000);
    };
    const environment = { PULUMI_TOKEN_RETRY_SECONDS: "5" };
    const run = await exchange([suspend, granted], { environment, running });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.match(run.curlCalls.join(), /--max-time\n1\n/);
  });

  test("is not retried if the attempts and the next pause together exceed the time to retry", async () => {
    const late: Answer = (...request) => sleep(3000).then(() => busy(...request));
    const environment = { PULUMI_TOKEN_RETRY_SECONDS: "4" };
    const run = await exchange([late, granted], { environment });
    assert.deepEqual([run.exitCode, run.endpoint.requests.length], [75, 1], run.stderr);
  });

  test("includes an attempt without an answer, which ends after 10 seconds", async () => {
    const run = await exchange([hang(), granted], { environment: { PULUMI_TOKEN_RETRY_SECONDS: "30" } });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.ok(run.milliseconds > 10_000 && run.milliseconds < 14_000, String(run.milliseconds));
  });
});

/** Returns what messages show of each text. */
async function excerpts(texts: string[]): Promise<string[]> {
  const results = await callScript(
    'LC_ALL=C; excerpt "$1"',
    texts.map((text) => [text]),
  );
  return results.map(({ output }) => output);
}

describe("a denial", AT_ONCE, () => {
  test("shows answer, request, and claims in printable characters, and is not retried", async () => {
    // In base64url this differs from base64, and its length is not a multiple of three.
    const idToken = idTokenOf('{"sub":"???>>>???>>>?>?>\n\u001b[31mé\u0000~"} ');
    const { stderr, exitCode, endpoint } = await exchange(respond(401, "no"), { idToken });
    const expected = `exchange-token: ${endpoint.url} denied the token exchange: HTTP 401: no
  Requested from organization acme: personal, scope user:alice, 7200 seconds.
  An allow policy of its OIDC issuer must match the request and the claims of this ID token: \
{"sub":"???>>>???>>>?>?>\\x0a\\x1b[31m\\xc3\\xa9\\x00~"} 
`;
    assert.deepEqual([exitCode, endpoint.requests.length, stderr], [77, 1, expected]);
  });

  test("shows the first 200 characters of any body on one printable line", async () => {
    const page = `<html>\r\n<h1>Forbidden\u001b[31m\u202eé</h1>${" text".repeat(200)}`;
    // With LD_PRELOAD, curl prints a warning, which is not part of the body.
    const environment = { LC_ALL: "C.UTF-8", LD_PRELOAD: "/nonexistent.so" };
    const { stderr } = await exchange(respond(403, page), { environment });
    const escaped = String.raw`<html>\x0d\x0a<h1>Forbidden\x1b[31m\xe2\x80\xae\xc3\xa9</h1>${" text".repeat(200)}`;
    assert.equal(/HTTP 403: (.*)\n/.exec(stderr)?.[1], escaped.slice(0, 200));
  });

  test("redacts what could be a token", async () => {
    const run = await exchange(respond(403, `a ${ACCESS_TOKEN} ${ID_TOKEN.slice(0, 140)}`));
    assert.match(run.stderr, /HTTP 403: a \[redacted\] \[redacted\]\.\[redacted\]\n/);
    assert.deepEqual(findLeaks(run), []);
  });

  test("redacts a token that is cut off, at every character", async () => {
    const positions = Array.from({ length: 48 }, (_, index) => 156 + index);
    // What precedes it takes little room when redacted.
    const shown = await excerpts(positions.map((before) => `${"b".repeat(before - 1)} ${ACCESS_TOKEN} end`));
    for (const text of shown) {
      assert.match(text, /^\[redacted\] ?(\[redacted\]|\[cut off\])?( \[cut off\]| )?$/);
      assert.doesNotMatch(text, /pul|[0-9]/);
    }
  });

  test("redacts a password that is cut off", async () => {
    const [shown] = await excerpts([`${"text ".repeat(37)}a//ada:s3cr.et.word@host`]);
    assert.equal(shown, `${"text ".repeat(37)}a[cut off]`);
  });

  test("shows too little to put a token together that is echoed in pieces", async () => {
    const idToken = idTokenOf({ sub: "system:serviceaccount:team-a:deployer" }, 256);
    const signature = idToken.split(".")[2] ?? "";
    assert.equal(signature.length, 342);
    const pieces = [signature, [...signature].toReversed().join("")].flatMap((echoed) =>
      [" ", ".", "/", '","', "\n"].map((separator) => echoed.match(/.{1,39}/g)?.join(separator) ?? ""),
    );
    for (const shown of await excerpts(pieces)) assert.ok(shown.length <= 200, shown);

    const run = await exchange(respond(403, pieces[0] ?? ""), { idToken });
    const [, shown = ""] = /HTTP 403: (.*)\n/.exec(run.stderr) ?? [];
    assert.deepEqual(await excerpts(pieces.slice(0, 1)), [shown]);
    assert.ok(run.stderr.includes('{"sub":"system:serviceaccount:team-a:deployer"}'), run.stderr);
    assert.deepEqual(findLeaks({ ...run, stderr: run.stderr.replace(shown, "") }, [idToken]), []);
  });

  test("with 64 KB of any text is shown at once", async () => {
    const word = "a".repeat(39);
    const parts = ["//a0@", "//", `${word}.`, `${word}a/`, "a", "\u001b", "[*?", "//b c"];
    const repeat = `LC_ALL=C; text=$1; while ((\${#text} < 60000)); do text+=$text; done; excerpt "$text"`;
    const startedAt = performance.now();
    const results = await callScript(
      repeat,
      parts.map((part) => [part]),
    );
    assert.ok(performance.now() - startedAt < 4000);
    for (const { output } of results) assert.ok(output.length > 0 && output.length <= 200, output);

    const run = await exchange(respond(403, "//a0@".repeat(12_000)));
    assert.equal(run.exitCode, 77, run.stderr);
    assert.ok(run.milliseconds < 4000, `${run.milliseconds} ms`);
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

/** Returns a PATH with these programs and no others. */
async function pathOf(...programs: string[]): Promise<string> {
  const bin = await mkdtemp(join(DIRECTORY, "bin-"));
  for (const program of programs) {
    const found = spawnSync("bash", ["-c", 'type -P "$1"', "bash", program], {
      encoding: "utf8",
    }).stdout.trim();
    await symlink(found, join(bin, program));
  }
  return bin;
}

describe("an image with bash, curl, and no other program", AT_ONCE, () => {
  const command = ["bash", "-c", "echo $PULUMI_ACCESS_TOKEN"];
  let environment = {};
  before(async () => {
    environment = { PATH: await pathOf("bash", "curl", "env") };
  });

  test("is enough for the wrapper, retries included", async () => {
    const run = await exchange([busy, granted], { environment, command });
    assert.deepEqual([run.exitCode, run.stdout], [0, `${ACCESS_TOKEN}\n`], run.stderr);
    assert.match(run.stderr, /^exchange-token: .*Retrying in .*\nexchange-token: acme granted .*Z\n$/);
  });

  test("is enough for the credential helper", async () => {
    const run = await exchange(granted, { environment, command: [], input: INITIAL_REQUEST });
    assert.deepEqual([run.exitCode, JSON.parse(run.stdout).accessToken, run.stderr], [0, ACCESS_TOKEN, ""]);
  });

  test("is enough to explain a denial", async () => {
    const run = await exchange(respond(403, "no"), { environment, command });
    assert.deepEqual([run.exitCode, run.stdout], [77, ""]);
    assert.match(
      run.stderr,
      /^exchange-token: http:\S+ denied .*\n.*\n.*"sub":"system:serviceaccount:team-a:deployer".*\n$/,
    );
  });
});

describe("the command does not run without a token, and the CLI gets none", AT_ONCE, () => {
  const commands = {
    "the command": { command: ["echo", "started"] },
    "the CLI": {
      command: [],
      input: '{"version":1,"reason":"expired","selectedBackendUrl":"URL"}',
    },
  };
  const noTime = {
    "BASH_FUNC_printf%%": '() { case "$*" in *"%("*) return 1 ;; esac; builtin printf "$@"; }',
  };

  for (const [who, options] of Object.entries(commands)) {
    test(`${who}: when curl is missing`, async () => {
      const run = await exchange(granted, { ...options, environment: { PATH: await pathOf("bash", "env") } });
      assert.deepEqual([run.exitCode, run.stdout], [69, ""]);
      assert.match(
        run.stderr,
        /^exchange-token: curl reported no result\. Use an image that contains curl 7\.84 or later\.\n$/,
      );
    });

    test(`${who}: when the time is unknown`, async () => {
      const run = await exchange(granted, { ...options, environment: noTime });
      assert.deepEqual([run.exitCode, run.stdout], [1, ""]);
    });

    // After an arithmetic error, bash continues with the next command of the script.
    test(`${who}: when the script itself fails`, async () => {
      const script = SOURCE.replace(/ granted_token=.*BASH_REMATCH.*\n/, ": $((08))\n");
      assert.notEqual(script, SOURCE);
      const run = await exchange(granted, { ...options, script });
      assert.equal(run.stdout, "");
      assert.notEqual(run.exitCode, 0);
    });

    for (const [what, exitCode, curl] of [
      ["curl fails before it reports a result", 69, `echo '{"access_token":"pul.first.second"}'; exit 2`],
      ["curl reports a status that is not a number for bash", 69, "printf '\\n18 099 |octal'"],
    ] as const) {
      test(`${who}: when ${what}`, async () => {
        const bin = await mkdtemp(join(DIRECTORY, "bin-"));
        await writeFile(join(bin, "curl"), `#!/bin/sh\n${curl}\n`, { mode: 0o755 });
        const environment = { PATH: `${bin}:${process.env.PATH}`, PULUMI_TOKEN_RETRY_SECONDS: "1" };
        const run = await exchange(granted, { ...options, environment });
        assert.deepEqual([run.exitCode, run.stdout], [exitCode, ""]);
      });
    }
  }
});

describe("a signal during the exchange ends the script at once", AT_ONCE, () => {
  const launchers = { "a process": [], "the first process of a container": ["unshare", "--pid", "--fork"] };
  for (const [signal, moment, answer] of [
    ["SIGTERM", "in a request", hang()],
    ["SIGINT", "between attempts", retryAfter(30)],
  ] as const) {
    for (const [role, launcher] of Object.entries(launchers)) {
      const skip =
        launcher.length > 0 && !IS_ROOT && "only root can start a process in a separate PID namespace";
      test(`${signal} ${moment}, as ${role}`, { skip }, async () => {
        const running = notRunning();
        const stop: Answer = async (socket, request) => {
          await answer(socket, request);
          await sleep(200);
          const children = readFileSync(`/proc/${running.pid}/task/${running.pid}/children`, "utf8");
          process.kill(launcher.length > 0 ? Number.parseInt(children, 10) : running.pid, signal);
        };
        const run = await exchange(stop, {
          environment: { PULUMI_TOKEN_RETRY_SECONDS: "60" },
          launcher,
          running,
        });
        assert.equal(run.exitCode, 143);
        assert.ok(run.milliseconds < 3000, `${run.milliseconds} ms`);
      });
    }
  }
});

describe("the credential helper", AT_ONCE, () => {
  const OTHER_TOKEN = "pul-fedcba9876543210fedcba9876543210fedcba98";

  /** Runs the script as the CLI does. The endpoint's URL replaces `URL` in the request. */
  async function ask(request: object | string, environment = {}, answers: Answer | Answer[] = granted) {
    const input = typeof request === "string" ? request : JSON.stringify({ version: 1, ...request });
    const run = await exchange(answers, { environment, command: [], input });
    return { ...run, answer: run.exitCode === 0 ? JSON.parse(run.stdout) : undefined };
  }

  /** Runs the script for each request, with the URL of the default settings. It fails if it would exchange. */
  function answersUntilExchange(requests: string[]) {
    const code = 'exchange() { exit 1; }; main < <(printf %s "$1")';
    return callScript(
      code,
      requests.map((request) => [request]),
    );
  }

  for (const reason of ["initial", "expired", "rejected"]) {
    test(`answers the reason ${reason} with a new token and its expiry, and prints nothing else`, async () => {
      const run = await ask({ reason, selectedBackendUrl: "URL/" });
      const { expiresAt, ...others } = run.answer;
      assert.deepEqual(others, { version: 1, accessToken: ACCESS_TOKEN });
      assert.ok(Math.abs(Date.parse(expiresAt) - Date.now() - 7_200_000) < 10_000, expiresAt);
      assert.deepEqual([run.stderr, run.endpoint.requests.length], ["", 1]);
      assert.deepEqual(findLeaks({ ...run, stdout: "" }), []);
    });
  }

  test("answers with an expiry in UTC, whatever the time zone of the environment", async () => {
    const { answer } = await ask({ reason: "initial", selectedBackendUrl: "URL" }, { TZ: "JST-9" });
    const difference = Date.parse(answer.expiresAt) - Date.now() - 7_200_000;
    assert.ok(Math.abs(difference) < 10_000, answer.expiresAt);
  });

  test("answers with the lifetime that Pulumi Cloud granted, not with the requested one", async () => {
    const shorter = grant(ACCESS_TOKEN, { expires_in: 60 });
    const { answer } = await ask({ reason: "initial", selectedBackendUrl: "URL" }, {}, shorter);
    assert.ok(Date.parse(answer.expiresAt) <= Date.now() + 60_000, answer.expiresAt);
  });

  test("counts the lifetime from before the request", async () => {
    const late: Answer = (...request) => sleep(1500).then(() => granted(...request));
    const { answer, endpoint } = await ask({ reason: "initial", selectedBackendUrl: "URL" }, {}, late);
    const [request = assert.fail("no request")] = endpoint.requests;
    assert.ok(Date.parse(answer.expiresAt) <= request.arrivedAt + 7_200_000, answer.expiresAt);
  });

  test("denies any other backend, whatever the reason, before any request", async () => {
    const { apiUrl: url } = SETTINGS;
    const backends = [
      "https://evil.example",
      `${url}.evil.example`,
      `${url}//`,
      `${url}/api`,
      `${url}x`,
      "",
      "file://~",
      // As the CLI writes "&".
      "s3://state?region=us-west-2\\u0026awssdk=v2",
      `${url}\\u002f`,
      `${url}\\"}`,
      `${url}\\\\`,
    ];
    const requests = ["initial", "expired", "rejected"].flatMap((reason) =>
      backends.map((backend) => `{"version":1,"reason":"${reason}","selectedBackendUrl":"${backend}"}`),
    );
    for (const { exitCode, output } of await answersUntilExchange(requests)) {
      assert.match(
        output,
        /^exchange-token: Denied: the Pulumi CLI selected the backend '.*backend\.url.*\n$/,
      );
      assert.equal(exitCode, 77);
    }
  });

  test("shows a denied backend escaped and without its password", async () => {
    const selected = "https://ada:hunter2@evil.example/\u001b[2J";
    const request = `{"version":1,"reason":"initial","selectedBackendUrl":"${selected}"}`;
    const [answer] = await answersUntilExchange([request]);
    assert.match(answer?.output ?? "", /selected the backend 'https:\[redacted\]evil\.example\/\\x1b\[2J', /);
  });

  test("names the backend in the first answer if none is selected, and in no other", async () => {
    const { answer, endpoint } = await ask({ reason: "initial" });
    assert.equal(answer.backendUrl, endpoint.url);
    assert.equal((await ask({ reason: "expired" })).exitCode, 77);
    assert.equal((await ask({ reason: "rejected" })).exitCode, 77);
  });

  test("names a selected backend in no answer", async () => {
    const { answer } = await ask({ reason: "initial", selectedBackendUrl: "URL" });
    assert.deepEqual(Object.keys(answer).toSorted(), ["accessToken", "expiresAt", "version"]);
  });

  test("omits an unknown expiry", async () => {
    const run = await ask(
      { reason: "initial", selectedBackendUrl: "URL" },
      {},
      grant("pul-1", { expires_in: null }),
    );
    assert.deepEqual(run.answer, { version: 1, accessToken: "pul-1" });
  });

  test("rejects every other request, before any exchange", async () => {
    const requests = [
      "",
      "{}",
      '{"version":2,"reason":"initial"}',
      '{"version":1,"reason":"renewed"}',
      '{"version":1,"reason":"initial","selectedBackendUrl":5}',
      '{"version":1,"reason":"initial","selectedBackendUrl":"https://api.pulumi.com","selectedBackendUrl":"https://evil.example"}',
      '{"version":1,"reason":"initial","selectedBackendUrl":"https://api.pulumi.com\\"}',
      '{"version":1,"reason":"initial","selected\\u0042ackendUrl":"https://evil.example"}',
      '{"version":1,"reason":"initial", "selectedBackendUrl" : "https://evil.example"}',
      '{"version":1,"reason":"initial"}\n{"selectedBackendUrl":"https://evil.example"}',
      `{"version":1,"reason":"initial","selectedBackendUrl":"${"x".repeat(5000)}"}`,
    ];
    for (const { exitCode, output } of await answersUntilExchange(requests)) {
      assert.match(
        output,
        /^exchange-token: Unsupported request on standard input: '.*version 1 .*3\.274\.0 or later.*\n$/s,
      );
      assert.equal(exitCode, 64, output);
    }
  });

  test("shows an unsupported request, escaped, redacted, and bounded", async () => {
    const token = `token ${ACCESS_TOKEN}`;
    const run = await ask(
      `{"version":2,"reason":"initial","\u202enew":"${token}","x":"${"long ".repeat(700)}"}`,
    );
    const shown = /: '(.*)'\.\n/.exec(run.stderr)?.[1] ?? "";
    assert.ok(
      shown.startsWith(
        String.raw`{"version":2,"reason":"initial","\xe2\x80\xaenew":"token [redacted]","x":"long`,
      ),
      shown,
    );
    assert.match(shown, /^.{0,191}\[cut off\]$/);
    assert.ok(run.stderr.length < 2048);
    assert.deepEqual(findLeaks(run), []);
  });

  test("reads no more of an endless request than it needs", async () => {
    const launcher = ["bash", "-c", 'head --bytes=200MB /dev/zero | tr "\\0" x | "$@"', "bash"];
    const run = await exchange(granted, { launcher, command: [] });
    assert.deepEqual([run.exitCode, run.stdout, run.endpoint.connections()], [64, "", 0]);
    assert.ok(run.milliseconds < 4000, `${run.milliseconds} ms`);
  });

  test("exchanges for each answer, whatever token the environment contains", async () => {
    const expiry = new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+/, "");
    const environment = { PULUMI_ACCESS_TOKEN: OTHER_TOKEN, PULUMI_ACCESS_TOKEN_EXPIRES_AT: expiry };
    const run = await ask({ reason: "initial", selectedBackendUrl: "URL" }, environment);
    assert.deepEqual([run.answer.accessToken, run.curlCalls.length], [ACCESS_TOKEN, 1]);
    // Nor does curl receive it.
    assert.deepEqual(findLeaks({ ...run, stdout: "" }, [ACCESS_TOKEN, ID_TOKEN, OTHER_TOKEN]), []);
  });

  test("retries silently, and for at most 50 seconds", async () => {
    const request = { reason: "initial", selectedBackendUrl: "URL" };
    const run = await ask(request, { PULUMI_TOKEN_RETRY_SECONDS: "600" }, [busy, granted]);
    assert.deepEqual([run.answer.accessToken, run.stderr], [ACCESS_TOKEN, ""]);
    for (const [given, limit] of Object.entries({ 600: 50, 7: 7 })) {
      const { stderr, stdout } = await ask(request, { PULUMI_TOKEN_RETRY_SECONDS: given }, [
        retryAfter(52),
        granted,
      ]);
      assert.match(
        stderr,
        RegExp(`^exchange-token: .* exceed the ${limit} s of PULUMI_TOKEN_RETRY_SECONDS\\.\\n$`),
      );
      assert.equal(stdout, "");
    }
  });
});

describe("tokens", AT_ONCE, () => {
  /** Scripts that leak, each in one way: the leak detector must find every one of them. */
  const leakingScripts = {
    "a call of curl": `curl -s -d "subject_token=$id_token" "$url" >/dev/null`,
    "standard error": `echo "trying with $id_token" >&2`,
    file: `echo "$id_token" >"$TMPDIR/token"; rm "$TMPDIR/token"`,
    "another host": `printf %s "$id_token" | curl -s --location --data-urlencode subject_token@- "$url" >/dev/null`,
  };

  /** Runs a script against an endpoint that redirects to another host, and returns the leaks. */
  async function leaksWhenRedirected(options: Partial<ScriptOptions>): Promise<string[]> {
    const elsewhere = await startEndpoint(granted);
    const location = elsewhere.url.replace("127.0.0.1", "localhost");
    const run = await exchange(respond(307, "", { Location: location }), options);
    await elsewhere.close();
    const received = elsewhere.requests.map(({ head, form }) => `${head}${form}`);
    return findLeaks(run, undefined, received);
  }

  for (const [place, line] of Object.entries(leakingScripts)) {
    test(`are found by the leak detector: ${place}`, async () => {
      const start = '#!/usr/bin/env bash\ncd "$(dirname "$0")"\nid_token=$(<token)\nurl=$(<apiUrl)\n';
      assert.deepEqual(await leaksWhenRedirected({ script: start + line }), [place]);
    });
  }

  test("do not leak on a redirect, which is not followed", async () => {
    assert.deepEqual(await leaksWhenRedirected({}), []);
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
      await writeFile(
        join(DIRECTORY, ".curlrc"),
        "verbose\ntrace-ascii = /dev/stderr\nproxy = 127.0.0.1:9\n",
      );
      const late: Answer = (...request) => sleep(1200).then(() => granted(...request));
      const given = { ...environment, PULUMI_TOKEN_RETRY_SECONDS: "9" };
      const command = ["bash", "+x", "-c", "declare -F"];
      const run = await exchange([busy, late], { environment: given, command });
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

  test("do not reach curl if the environment exports variables with the names of the script's", async () => {
    const environment = Object.fromEntries(INTERNAL_NAMES.map((name) => [name, `own ${name}`]));
    const head = "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n";
    const truncated = send(`${head}{"access_token":"${ACCESS_TOKEN}"`);
    for (const command of [["true"], []]) {
      const run = await exchange([truncated, granted], { environment, command, input: INITIAL_REQUEST });
      assert.equal(run.exitCode, 0, run.stderr);
      assert.equal(run.curlCalls.length, 2);
      assert.deepEqual(findLeaks({ ...run, stdout: "" }), []);
    }
  });
});
