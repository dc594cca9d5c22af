// What scripts/exchange-token.sh requests, reports, and hands to a command or the CLI. faults.test.ts has every outcome.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, hang, respond, send } from "../support/endpoint";
import {
  ACCESS_TOKEN,
  callMain,
  callScript,
  curlOutput,
  exchange,
  granted,
  ID_TOKEN,
  idTokenOf,
  SCRIPT,
} from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";

const AT_ONCE = { concurrency: 8 };
const DIRECTORY = temporaryDirectory({ after });

/** Every lowercase word of the script: all names of its variables are among them. */
const INTERNAL_NAMES = [...new Set(SCRIPT.match(/\b[a-z][a-z0-9_]*\b/g))];

const busy = respond(503, "");

describe("the wrapped command", AT_ONCE, () => {
  test("receives the token, the backend, and otherwise the environment as given", async () => {
    const given = {
      ...Object.fromEntries(INTERNAL_NAMES.map((name) => [name, `own ${name}`])),
      "name.with-dots": "1",
      LC_ALL: "C.UTF-8",
      PULUMI_BACKEND_URL: "https://pulumi.example",
      TZ: "Asia/Tokyo",
      SHELLOPTS: "braceexpand:hashall:interactive-comments:xtrace",
    };
    const head = "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n";
    const truncated = send(`${head}{"access_token":"${ACCESS_TOKEN}"`);
    const run = await exchange([truncated, granted], { environment: given, command: ["env", "-0"] });
    assert.equal(run.curlCalls.length, 2);
    const seen = run.stdout.split("\0").map((entry) => entry.split(/=(.*)/s, 2));
    // Those of bash and of this test.
    const isExpected = /^(|_|PWD|OLDPWD|SHLVL|PATH|HOME|TMPDIR)$/;
    const added = seen.filter(([name = ""]) => !isExpected.test(name));
    const expected = { PULUMI_ACCESS_TOKEN: ACCESS_TOKEN, PULUMI_BACKEND_URL: run.endpoint.url };
    assert.deepEqual(Object.fromEntries(added), { ...given, ...expected });
  });

  test("does not inherit POSIX mode, in which bash before 5.1 cannot parse the script", async () => {
    const environment = { POSIXLY_CORRECT: "1" };
    const { stdout } = await exchange(granted, { environment, command: ["env"] });
    assert.doesNotMatch(stdout, /POSIXLY_CORRECT/);
  });

  test("replaces the script: arguments, process ID, standard input, open files, and signals", async () => {
    const words = ["a b", "", "*", "$(id)", "`id`", "line\nbreak", "-n", "--", "'\"\\", "ü"];
    const print = 'echo $$; printf "<%s>" "$@"; cat; echo /dev/fd/*; kill -TERM $$; sleep 5';
    const options = { command: ["bash", "-c", print, ...words], input: "a\nb\n" };
    const running = { pid: 0 };
    const run = await exchange([busy, granted], { ...options, running });
    const direct = await exchange(granted, { script: '#!/bin/bash\nexec "$@"', ...options });
    assert.equal(run.stdout, direct.stdout.replace(/^\d+/, String(running.pid)));
    assert.equal(run.signal, "SIGTERM");
  });
});

describe("the request", AT_ONCE, () => {
  test("is one POST, without a proxy, with the fields that RFC 8693 and Pulumi Cloud define", async () => {
    const proxy = "http://127.0.0.1:9";
    const { endpoint, curlCalls } = await exchange(granted, {
      files: {
        organization: "@acme&scope=admin",
        tokenType: "a=b%20c+d",
        tokenScope: "team:@/etc/passwd&b=c%20,d;e'",
        tokenExpirationSeconds: "1&expiration=2",
        token: `${ID_TOKEN}\n`,
      },
      environment: { http_proxy: proxy, ALL_PROXY: proxy },
    });
    assert.equal(endpoint.requests.length, 1);
    assert.match(endpoint.requests[0]?.head ?? "", /^POST \/api\/oauth\/token HTTP(?!.*authorization)/is);
    assert.deepEqual(Object.fromEntries(endpoint.requests[0]?.form ?? []), {
      audience: "urn:pulumi:org:@acme&scope=admin",
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      requested_token_type: "urn:pulumi:token-type:access_token:a=b%20c+d",
      scope: "team:@/etc/passwd&b=c%20,d;e'",
      expiration: "1&expiration=2",
      subject_token: ID_TOKEN,
    });
    assert.match(curlCalls[0] ?? "", /^--disable\n.*\n--proto\n=http\n/s);
  });

  test("times out after 10 seconds, or the time that is left, but not before 1 second", async () => {
    const code = `
      api_url=https://api.pulumi.com retry_seconds=50 elapsed=$1 SECONDS=0
      read_id_token() { SECONDS=$elapsed; }
      exec() { printf '%s ' "$@"; printf '\n0 200 |'; }
      fail() { echo "$answer_body"; exit; }
      exchange ignore`;
    const options = await callScript(code, [["0"], ["43"], ["50"], ["990"]]);
    // Without --noproxy: with HTTPS, a proxy sees only what is encrypted.
    const seconds = options.map(({ output }) => /^(?!.*noproxy).*--max-time (\d+) /.exec(output)?.[1]);
    assert.deepEqual(seconds, ["10", "7", "1", "1"]);
  });
});

test("settings are all checked at once, before the ID token, and shown without a password", async () => {
  const settings = {
    organization: "a b",
    tokenType: "",
    tokenScope: "x".repeat(256),
    tokenExpirationSeconds: "2 h",
    apiUrl: "https://ada:secret@example.com",
  };
  const [result] = await callMain([{ settings, idToken: "", retrySeconds: "0" }]);
  assert.equal(result?.exitCode, 64);
  assert.deepEqual(result.output.match(/^ {2}\S.* is '.*?'(?=\. )/gm), [
    "  organization is 'a b'",
    "  tokenType is ''",
    "  tokenScope is '(256 bytes or more, or a null character)'",
    "  tokenExpirationSeconds is '2 h'",
    "  apiUrl is 'https:[redacted]example.com'",
    "  The variable PULUMI_TOKEN_RETRY_SECONDS is '0'",
  ]);
});

test("a temporary failure is retried after a random time that doubles up to 4 s", async () => {
  const runs = await callMain(Array.from({ length: 8 }, () => ({ curlPrints: [curlOutput(503)] })));
  const pauses = runs.map(({ output }) =>
    [...output.matchAll(/Retrying in (\S+) s/g)].map(([, seconds]) => Number(seconds)),
  );
  for (const [index, wait] of [1, 2, 4, 4].entries()) {
    const times = pauses.map((sequence) => sequence[index] ?? 0);
    assert.ok(Math.min(...times) >= wait && Math.max(...times) < 2 * wait, String(times));
    assert.ok(new Set(times).size > 2, "at random");
  }
});

describe("a denial", AT_ONCE, () => {
  test("shows answer, request, and claims in printable characters, and is not retried", async () => {
    const page = "<html>\r\n<h1>Forbidden\u001b[31m\u202eé</h1>";
    // In base64url this differs from base64, and its length is not a multiple of three.
    const idToken = idTokenOf('{"sub":"???>>>???>>>?>?>\n\u001b[31mé\u0000~"} ');
    // With LD_PRELOAD, curl prints a warning, which is not part of the body.
    const environment = { LC_ALL: "C.UTF-8", LD_PRELOAD: "/nonexistent.so" };
    const run = await exchange(respond(401, page), { files: { token: idToken }, environment });
    const { exitCode, endpoint } = run;
    const expected = `exchange-token: ${endpoint.url} denied the token exchange: HTTP 401: \
<html>\\x0d\\x0a<h1>Forbidden\\x1b[31m\\xe2\\x80\\xae\\xc3\\xa9</h1>
  Requested from organization acme: personal, scope user:alice, 7200 seconds.
  An allow policy of its OIDC issuer must match the request and the claims of this ID token.
  If no exchange of this access stack was ever granted, rules may not match lists such as aud: try audienceRule: false, and undo it if that does not help.
  Claims: {"sub":"???>>>???>>>?>?>\\x0a\\x1b[31m\\xc3\\xa9\\x00~"} 
`;
    const stderr = run.stderr.replace(/^ERROR: ld\.so: .*\n/gm, "");
    assert.deepEqual([exitCode, endpoint.requests.length, stderr], [77, 1, expected]);
  });

  test("of an organization that Pulumi Cloud calls invalid says to correct the setting", async () => {
    const body = { error: "invalid_request", error_description: "invalid organization acme" };
    const { exitCode, stderr } = await exchange(respond(400, body));
    assert.equal(exitCode, 77);
    assert.match(
      stderr,
      /HTTP 400: .*\n {2}Correct the setting organization: acme does not exist there, or /,
    );
    assert.doesNotMatch(stderr, /Claims/);
  });

  test("redacts a token that is cut off at any character, and a password", async () => {
    const positions = Array.from({ length: 48 }, (_, index) => 156 + index);
    // What precedes it takes little room when redacted.
    const tokens = positions.map((before) => `${"b".repeat(before - 1)} ${ACCESS_TOKEN} end`);
    const password = `${"text ".repeat(37)}a//ada:s3cr.et.word@host`;
    const results = await callScript(
      'LC_ALL=C; excerpt "$1"',
      [password, ...tokens].map((text) => [text]),
    );
    const [withoutPassword, ...others] = results.map(({ output }) => output);
    assert.equal(withoutPassword, `${"text ".repeat(37)}a[cut off]`);
    for (const text of others) {
      assert.match(text, /^\[redacted\] ?(\[redacted\]|\[cut off\])?( \[cut off\]| )?$/);
    }
  });

  test("redacts what a key for a token contains in JSON, whatever its characters are", async () => {
    const json = '{"access_token":"a/b.c~d","idToken" :\n"x\\"y","TOKEN":"","tokens":"1","token":2}';
    const [complete, cutOff] = await callScript('LC_ALL=C; excerpt "$1"', [
      [json],
      [`{"refresh_token": "${"a.".repeat(200)}`],
    ]);
    const shown =
      '{"access_token":[redacted],"idToken" :\\x0a[redacted],"TOKEN":[redacted],"tokens":"1","token":2}';
    assert.deepEqual([complete?.output, cutOff?.output], [shown, '{"refresh_token": [redacted]']);
  });

  test("shows the URL of an issuer of EKS, and a long host name", async () => {
    const issuer = "https://oidc.eks.ap-southeast-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF";
    const host = "pulumi-api.internal-platform.eu-west-1.example.com";
    assert.equal(host.length, 50);
    const text = `issuer ${issuer} not registered; could not resolve host: ${host}`;
    assert.equal((await callScript('LC_ALL=C; excerpt "$1"', [[text]]))[0]?.output, text);
  });

  test("fits into a termination message of Kubernetes, and keeps its beginning", async () => {
    const long = "long words ".repeat(300);
    const settings = { organization: "n".repeat(100), tokenScope: `user:${"n".repeat(100)}` };
    const curlPrints = [curlOutput(400, `${long}é`)];
    const [denied] = await callMain([{ settings, idToken: idTokenOf({ sub: long }), curlPrints }]);
    assert.match(
      denied?.output ?? "",
      /^exchange-token: http\S+ denied .*\n.*\n.*\n.* audienceRule: .*\n {2}Claims: \{"sub":"long words/,
    );
    assert.equal(denied?.output.length, 1800);
  });
});

describe("a signal during the exchange ends the script at once", AT_ONCE, () => {
  for (const [signal, moment, answer] of [
    ["SIGTERM", "in a request", hang()],
    ["SIGINT", "between attempts", respond(429, "", { "Retry-After": "30" })],
  ] as const) {
    test(`${signal} ${moment}`, async () => {
      const running = { pid: 0 };
      const stop: Answer = async (socket, request) => {
        await answer(socket, request);
        await sleep(200);
        process.kill(running.pid, signal);
      };
      const startedAt = performance.now();
      const { exitCode } = await exchange(stop, { running });
      // The script's own: the first process of a container ignores a signal that it does not handle.
      assert.equal(exitCode, 143);
      assert.ok(performance.now() - startedAt < 8000);
    });
  }
});

describe("the credential helper", AT_ONCE, () => {
  test("answers with a new token and its expiry in UTC, and with nothing of the environment's", async () => {
    const granting = respond(200, { access_token: "pul-new", expires_in: 600 });
    const late: Answer = (...request) => sleep(1500).then(() => granting(...request));
    const environment = { PULUMI_ACCESS_TOKEN: ACCESS_TOKEN, TZ: "JST-9" };
    const run = await exchange(late, { environment, command: [], input: '{"version":1,"reason":"initial"}' });
    const { expiresAt, ...others } = JSON.parse(run.stdout);
    assert.deepEqual(others, { version: 1, accessToken: "pul-new", backendUrl: run.endpoint.url });
    // Counted from before the request.
    const lifetime = Date.parse(expiresAt) - (run.endpoint.requests[0]?.arrivedAt ?? 0);
    assert.ok(lifetime > 540_000 && lifetime <= 600_000, expiresAt);
    assert.deepEqual([run.exitCode, run.stderr, run.curlCalls.length], [0, "", 1]);
  });
});

describe("tokens", AT_ONCE, () => {
  for (const environment of [
    { SHELLOPTS: "xtrace:verbose:allexport:keyword:history:histexpand", CURL_HOME: DIRECTORY },
    { SHELLOPTS: "errtrace:functrace:monitor:noclobber:noglob:physical:pipefail:posix:privileged" },
    { BASHOPTS: "extglob:failglob:localvar_inherit:nocasematch:nullglob:xpg_echo", BASH_COMPAT: "4.2" },
    { TMOUT: "1", SECONDS: "9223372036854775807" },
  ]) {
    test(`do not leak with ${JSON.stringify(environment).replace(DIRECTORY, "a .curlrc")} in the environment`, async () => {
      const curlrc = "verbose\ntrace-ascii = /dev/stderr\nproxy = 127.0.0.1:9\n";
      writeFileSync(join(DIRECTORY, ".curlrc"), curlrc);
      const late: Answer = (...request) => sleep(1200).then(() => granted(...request));
      const command = ["bash", "+x", "-c", "declare -F"];
      // With histexpand, "!#" is part of another pattern.
      const files = { tokenType: "team", tokenScope: "team:a!#b" };
      const run = await exchange([busy, late], { environment, command, files });
      assert.deepEqual([run.exitCode, run.stdout, run.curlCalls.length], [0, "", 2], run.stderr);
    });
  }
});
