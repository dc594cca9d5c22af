// The contract of scripts/exchange-token.sh; faults.ts attacks it with malformed input of every kind.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createCertificateAuthority } from "../simulator/certificates";
import { type Answer, type Endpoint, grant, hang, reset, respond, startEndpoint } from "./endpoint";
import { findLeaks, ID_TOKEN, idTokenOf, runScript, type ScriptOptions, type ScriptRun } from "./script";

const ACCESS_TOKEN = "pul-0123456789abcdef0123456789abcdef01234567";
const SECRETS = [ID_TOKEN, ACCESS_TOKEN];
const AT_ONCE = { concurrency: 8 };
const DIRECTORY = process.env.SIMULATOR_DIRECTORY ?? "";
const IS_ROOT = process.getuid?.() === 0;

const granted = grant(ACCESS_TOKEN);
const busy = respond(503, "");
const retryAfter = (seconds: number) => respond(429, "", { "Retry-After": String(seconds) });

type Environment = Record<string, string | undefined>;

/** Runs the script against its own endpoint, with these answers. */
async function exchange(
  answers: Answer | Answer[],
  environment: Environment = {},
  options: Partial<ScriptOptions> & { certificate?: { key: string; cert: string } } = {},
): Promise<ScriptRun & { endpoint: Endpoint }> {
  const endpoint = await startEndpoint(answers, options.certificate);
  try {
    const run = await runScript({ url: endpoint.url, idToken: ID_TOKEN, environment, ...options });
    return { ...run, endpoint };
  } finally {
    await endpoint.close();
  }
}

/** Runs the script with a command that prints an expression of Bash. */
async function print(expression: string, environment: Environment = {}, answers: Answer | Answer[] = granted) {
  return exchange(answers, environment, { command: ["bash", "-c", `printf %s "${expression}"`] });
}

describe("the wrapped command", AT_ONCE, () => {
  test("receives token, expiry, and credential helper, and otherwise the environment as given", async () => {
    const names = ["id_token", "answer", "body", "status", "url", "token_file", "expires_at", "requested"];
    const given: Record<string, string> = {
      ...Object.fromEntries(names.map((name) => [name, `own ${name}`])),
      "name.with-dots": "1",
      LC_ALL: "C.UTF-8",
      TZ: "Asia/Tokyo",
      SHELLOPTS: "braceexpand:hashall:interactive-comments:xtrace",
    };
    const answer = grant(ACCESS_TOKEN, { expires_in: 1800 });
    const run = await exchange(answer, given, { command: ["env", "-0"] });
    const entries = run.stdout.split("\0").map((entry) => entry.split(/=(.*)/s, 2));
    const seen = new Map(entries.map(([name = "", value = ""]) => [name, value]));
    for (const [name, value] of Object.entries(given)) assert.equal(seen.get(name), value, name);

    const isExpected = /^(|_|PWD|OLDPWD|SHLVL|PATH|HOME|TMPDIR|PULUMI_(ORG|TOKEN|BACKEND|OIDC)_?\w*)$/;
    const added = [...seen].filter(([name]) => !(name in given) && !isExpected.test(name));
    const { PULUMI_ACCESS_TOKEN_EXPIRES_AT: expiry = "", ...others } = Object.fromEntries(added);
    assert.deepEqual(others, {
      PULUMI_ACCESS_TOKEN: ACCESS_TOKEN,
      PULUMI_CREDENTIAL_HELPER: run.path,
      PULUMI_CREDENTIAL_HELPER_ARGS: '["--credential-helper"]',
    });
    assert.match(expiry, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    assert.ok(Math.abs(Date.parse(expiry) - Date.now() - 1_800_000) < 10_000, expiry);
  });

  test("finds the credential helper by an absolute path, even if the script was started by a relative one", async () => {
    const launcher = ["bash", "-c", 'cd "$(dirname "$1")" && shift && ./entrypoint.sh "$@"', "bash"];
    const run = await exchange(granted, {}, { launcher, command: ["printenv", "PULUMI_CREDENTIAL_HELPER"] });
    assert.equal(run.stdout, `${run.path}\n`);
  });

  test("keeps PULUMI_CREDENTIAL_HELPER=none", async () => {
    const expression = `$PULUMI_CREDENTIAL_HELPER \${PULUMI_CREDENTIAL_HELPER_ARGS-unset}`;
    assert.equal((await print(expression, { PULUMI_CREDENTIAL_HELPER: "none" })).stdout, "none unset");
  });

  for (const expires_in of [undefined, null, "7200", -1, 0, 1.5, "a[$(id)]", 1e30]) {
    test(`receives an empty expiry when expires_in is ${JSON.stringify(expires_in)}`, async () => {
      const inherited = { PULUMI_ACCESS_TOKEN_EXPIRES_AT: "2020-01-01T00:00:00Z" };
      const run = await print("<$PULUMI_ACCESS_TOKEN_EXPIRES_AT>", inherited, grant(ACCESS_TOKEN, { expires_in }));
      assert.equal(run.stdout, "<>");
      assert.match(run.stderr, /valid until an unknown time\n$/);
    });
  }

  test("receives its arguments unchanged", async () => {
    const words = ["a b", "", "*", "$(id)", "`id`", "line\nbreak", "-n", "--", "'\"\\", "ü"];
    const run = await exchange(granted, {}, { command: ["printf", "<%s>", ...words] });
    assert.equal(run.stdout, words.map((word) => `<${word}>`).join(""));
  });

  test("is not read as an option of the shell", async () => {
    const run = await exchange(granted, {}, { command: ["-c", "env"] });
    assert.equal(run.exitCode, 127);
    assert.equal(run.stdout, "");
  });

  test("replaces the script: process ID, exit code, standard input, and no open file", async () => {
    const running = { pid: 0, tokenFile: "" };
    const command = ["bash", "-c", "echo $$; cat; echo /dev/fd/*; exit 42"];
    const input = "a\nb\n";
    const run = await exchange([busy, granted], {}, { command, input, running });
    const direct = await runScript({ url: "", script: '#!/bin/bash\nexec "$@"', command, input });
    assert.equal(run.exitCode, 42);
    assert.equal(run.stdout, direct.stdout.replace(/^\d+/, String(running.pid)));
  });

  test("handles signals as if nothing had run before it", async () => {
    const trap = 'trap "echo stopping; exit 7" TERM; kill -TERM $$; sleep 5';
    const own = await exchange(granted, {}, { command: ["bash", "-c", trap] });
    assert.deepEqual([own.stdout, own.exitCode], ["stopping\n", 7]);
    const none = await exchange(granted, {}, { command: ["bash", "-c", "kill -TERM $$; sleep 5"] });
    assert.equal(none.signal, "SIGTERM");
  });

  test("runs after one line on standard error, even if curl prints a warning, or standard error is closed", async () => {
    const { stderr, exitCode } = await exchange(granted);
    assert.equal(exitCode, 0);
    const line = /^exchange-token: acme granted an access token \(personal, scope user:ada\), valid until \S+Z\n$/;
    assert.match(stderr, line);
    const warned = await print("$PULUMI_ACCESS_TOKEN", { LD_PRELOAD: "/nonexistent.so" });
    assert.equal(warned.stdout, ACCESS_TOKEN);
    const denied = await exchange(respond(403, "no"), { LD_PRELOAD: "/nonexistent.so" });
    assert.match(denied.stderr, /HTTP 403: no\n/);
    const closed = await exchange(granted, {}, { launcher: ["bash", "-c", '"$@" 2>&-', "bash"] });
    assert.equal(closed.exitCode, 0);
  });
});

describe("the request", AT_ONCE, () => {
  test("is one POST with the fields that RFC 8693 and Pulumi Cloud define", async () => {
    const { endpoint, curlCalls } = await exchange(granted);
    assert.equal(endpoint.connections(), 1);
    assert.match(endpoint.requests[0]?.head ?? "", /^POST \/api\/oauth\/token HTTP(?!.*authorization)/is);
    assert.deepEqual(Object.fromEntries(endpoint.requests[0]?.form ?? []), {
      audience: "urn:pulumi:org:acme",
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      requested_token_type: "urn:pulumi:token-type:access_token:personal",
      scope: "user:ada",
      expiration: "7200",
      subject_token: ID_TOKEN,
    });
    assert.match(curlCalls[0] ?? "", /^--disable\n.*\n--proto\n=http\n/s);
  });

  for (const given of [
    "personal user:@/etc/passwd",
    "team team:a&b=c%20+d",
    "runner runner:$(id)`id`'\"",
    "organization admin",
    "organization ",
  ]) {
    test(`asks for a token of type and scope ${given}`, async () => {
      const [type, scope] = given.split(" ");
      const run = await exchange(granted, { PULUMI_TOKEN_TYPE: type, PULUMI_TOKEN_SCOPE: scope || undefined });
      const form = run.endpoint.requests[0]?.form;
      assert.equal(form?.get("requested_token_type"), `urn:pulumi:token-type:access_token:${type}`);
      assert.equal(form?.get("scope"), scope);
    });
  }

  test("uses no proxy without TLS", async () => {
    const proxy = "http://127.0.0.1:9";
    const run = await exchange(granted, { http_proxy: proxy, ALL_PROXY: proxy });
    assert.equal(run.exitCode, 0, run.stderr);
  });

  test("goes to a host by name or IP address, and drops a trailing slash", async () => {
    const { port, close } = await startEndpoint(hang());
    await close();
    for (const host of ["localhost", "127.0.0.1", "[::1]"]) {
      const run = await runScript({ url: `http://${host}:${port}/`, idToken: ID_TOKEN });
      assert.match(run.stderr, /^exchange-token: Failed to reach http:\S+\d: .* \(curl exit code 7\)/);
    }
  });
});

describe("settings", AT_ONCE, () => {
  test("are all checked before anything is sent", async () => {
    const environment = {
      PULUMI_ORG: undefined,
      PULUMI_TOKEN_TYPE: "admin",
      PULUMI_TOKEN_EXPIRATION: "2h",
      PULUMI_BACKEND_URL: "https://ada:secret@example.com",
      PULUMI_TOKEN_RETRY_SECONDS: "0",
    };
    const { endpoint, ...run } = await exchange(granted, environment, { command: [] });
    assert.equal(run.exitCode, 64);
    assert.deepEqual(run.stderr.match(/^.*?(?=\. )/gm), [
      "  No command",
      "  PULUMI_ORG is ''",
      "  PULUMI_TOKEN_TYPE with PULUMI_TOKEN_SCOPE is 'admin user:ada'",
      "  PULUMI_TOKEN_EXPIRATION is '2h'",
      "  PULUMI_TOKEN_RETRY_SECONDS is '0'",
      "  PULUMI_BACKEND_URL is 'https:[redacted]example.com'",
    ]);
    assert.deepEqual([endpoint.connections(), run.curlCalls], [0, []]);
  });

  test("have defaults: Pulumi Cloud, and 50 seconds to retry", async () => {
    const unset = { PULUMI_BACKEND_URL: undefined, https_proxy: "http://127.0.0.1:9" };
    const cloud = await exchange(granted, { ...unset, PULUMI_TOKEN_RETRY_SECONDS: "1" });
    assert.match(cloud.stderr, /^exchange-token: Failed to reach https:\/\/api\.pulumi\.com: /);
    const { stderr } = await exchange(retryAfter(100), { PULUMI_TOKEN_RETRY_SECONDS: "" });
    assert.match(stderr, /exceed the 50 s of PULUMI_TOKEN_RETRY_SECONDS/);
  });
});

describe("the ID token", AT_ONCE, () => {
  test("is read from where the EKS webhook says, unless PULUMI_OIDC_TOKEN_FILE is set", async () => {
    const file = join(DIRECTORY, "aws '\"$(touch injected)&%");
    await writeFile(file, `${ID_TOKEN} \nscope=admin\n`);
    const aws = await exchange(granted, { PULUMI_OIDC_TOKEN_FILE: "", AWS_WEB_IDENTITY_TOKEN_FILE: file });
    assert.deepEqual([aws.endpoint.requests[0]?.form.get("subject_token"), aws.files], [ID_TOKEN, []]);
    const eks = await exchange(granted, { PULUMI_OIDC_TOKEN_FILE: undefined });
    assert.match(eks.stderr, /'\/var\/run\/secrets\/eks\.amazonaws\.com\/serviceaccount\/token'/);
  });

  test("is read anew for each attempt", async () => {
    const running = { pid: 0, tokenFile: "" };
    const renewed = idTokenOf({ sub: "renewed" });
    const renew: Answer = async (socket, request) => {
      await writeFile(running.tokenFile, renewed);
      await busy(socket, request);
    };
    const { endpoint } = await exchange([renew, granted], {}, { running });
    const sent = endpoint.requests.map(({ form }) => form.get("subject_token"));
    assert.deepEqual(sent, [ID_TOKEN, renewed]);
  });

  test("that the user cannot read is an error that names the user and the fix", async () => {
    const file = join(DIRECTORY, "unreadable");
    await writeFile(file, ID_TOKEN, { mode: 0 });
    // Root can read every file.
    const launcher = IS_ROOT ? ["setpriv", "--reuid=65534", "--clear-groups"] : [];
    const run = await exchange(granted, { PULUMI_OIDC_TOKEN_FILE: file }, { launcher });
    assert.equal(run.exitCode, 66);
    assert.match(run.stderr, /^exchange-token: No ID token: user \d+ cannot read a JWT from '.*fsGroup\.\n$/);
  });
});

describe("a temporary failure", AT_ONCE, () => {
  test("is retried after at least as long as Retry-After says", async () => {
    const { endpoint } = await exchange([retryAfter(2), granted], { PULUMI_TOKEN_RETRY_SECONDS: "6" });
    const [first, second] = endpoint.requests.map(({ arrivedAt }) => arrivedAt);
    assert.ok(first && second && second - first >= 2000);
  });

  test("is retried after a random time that doubles with each attempt, up to 8 seconds", async () => {
    const attempt = () => exchange([busy, busy, busy, busy, granted], { PULUMI_TOKEN_RETRY_SECONDS: "30" });
    const runs = await Promise.all([attempt(), attempt(), attempt()]);
    const pauses = runs.map(({ stderr }) => [...stderr.matchAll(/Retrying in (\S+) s/g)].map(([, s]) => Number(s)));
    for (const [index, least] of [1, 2, 4, 4].entries()) {
      const nth = pauses.map((sequence) => sequence[index] ?? 0);
      for (const pause of nth) assert.ok(pause > least && pause < 2 * least, String(nth));
      assert.equal(new Set(nth).size, 3, String(nth));
    }
    const varies = pauses.some(([, second = 0, third = 0]) => second > 3 || third > 5);
    assert.ok(varies, String(pauses));
  });

  test("ends with a last attempt of one second, even when the machine was suspended meanwhile", async () => {
    const running = { pid: 0, tokenFile: "" };
    const suspend: Answer = async (socket, request) => {
      await busy(socket, request);
      await delay(300);
      process.kill(running.pid, "SIGSTOP");
      setTimeout(() => process.kill(running.pid, "SIGCONT"), 5000);
    };
    const run = await exchange([suspend, granted], {}, { running });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.match(run.curlCalls.join(), /--max-time\n1\n/);
  });

  test("includes an attempt without an answer, which ends after 10 seconds", async () => {
    const run = await exchange([hang(), granted], { PULUMI_TOKEN_RETRY_SECONDS: "30" });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.ok(run.milliseconds > 10_000 && run.milliseconds < 14_000, String(run.milliseconds));
  });
});

describe("a denial", AT_ONCE, () => {
  test("shows answer, request, and claims in printable characters, and is not retried", async () => {
    // In base64url this differs from base64.
    const idToken = idTokenOf('{"sub":"???>>>???>>>?>?>\n\u001b[31mé"}');
    const { stderr, exitCode, endpoint } = await exchange(respond(401, "no"), {}, { idToken });
    const expected = `exchange-token: ${endpoint.url} denied the token exchange: HTTP 401: no
  Requested from organization acme: personal, scope user:ada, 7200 seconds.
  An allow policy of its OIDC issuer must match the request and the claims of this ID token: \
{"sub":"???>>>???>>>?>?>  [31m  "}
`;
    assert.deepEqual([exitCode, endpoint.requests.length, stderr], [77, 1, expected]);
  });

  test("shows the first 500 characters of any body on one printable line", async () => {
    const page = `<html>\r\n<h1>Forbidden\u001b[31mé</h1>${" text".repeat(200)}`;
    const { stderr } = await exchange(respond(403, page), { LC_ALL: "C.UTF-8" });
    assert.match(stderr, /HTTP 403: (?=.{500}\n)<html> {2}<h1>Forbidden \[31m {2}<\/h1> text .* t\n/);
  });

  test("redacts what could be a token", async () => {
    const run = await exchange(respond(403, { message: `${ACCESS_TOKEN} ${ID_TOKEN} end` }));
    assert.match(run.stderr, /"\[redacted\] \[redacted\]\.\[redacted\]\.\[redacted\] end"/);
    assert.deepEqual(findLeaks(run, [], SECRETS), []);
  });

  test("fits into a termination message of Kubernetes, and keeps its beginning", async () => {
    const long = "long words ".repeat(300);
    const environment = { PULUMI_ORG: "n".repeat(100), PULUMI_TOKEN_SCOPE: `user:${"n".repeat(100)}` };
    const idToken = idTokenOf({ sub: long });
    const { stderr } = await exchange(respond(400, { message: long }), environment, { idToken });
    assert.match(stderr, /^exchange-token: http:\S+ denied .*\n.*\n.*\{"sub":"long words/);
    assert.equal(stderr.length, 2048);
  });
});

describe("the exit code", AT_ONCE, () => {
  const hourly = respond(503, "", { "Retry-After": "3600" });
  for (const [exitCode, what, answers, environment] of [
    [64, "http to another host", granted, { PULUMI_BACKEND_URL: "http://pulumi.example" }],
    [66, "no ID token", granted, { PULUMI_OIDC_TOKEN_FILE: "/nonexistent" }],
    [69, "a connection that is reset", reset(), { PULUMI_TOKEN_RETRY_SECONDS: "1" }],
    [75, "a Retry-After beyond the time to retry", hourly, {}],
    [76, "a redirect", respond(307, "", { Location: "/api/oauth/token/" }), {}],
    [76, "a status that is neither temporary nor a denial", respond(404, "404 page not found"), {}],
    [76, "a response without an access token", respond(200, "{}"), {}],
    [77, "HTTP 400", respond(400, ""), {}],
    [77, "HTTP 403", respond(403, ""), {}],
  ] as const) {
    test(`is ${exitCode} for ${what}, without a second request`, async () => {
      const run = await exchange(answers, environment);
      assert.equal(run.exitCode, exitCode, run.stderr);
      assert.equal(/allow policy|claims/.test(run.stderr), exitCode === 77, run.stderr);
      assert.ok(run.endpoint.connections() <= 1);
    });
  }

  test("is 69 for a TLS certificate that could not be verified, and nothing is sent", async () => {
    const certificate = await (await createCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });
    const run = await exchange(granted, {}, { certificate });
    assert.match(run.stderr, /^exchange-token: The TLS certificate could not be verified\. /);
    assert.deepEqual([run.exitCode, run.endpoint.requests], [69, []]);
  });
});

describe("the command does not run without a token", AT_ONCE, () => {
  for (const [what, exitCode, program, script] of [
    ["date fails", 1, "date", "exit 1"],
    ["curl fails before it reports a result", 69, "curl", `echo '{"access_token":"pul.first.second"}'; exit 2`],
    // After an arithmetic error, Bash continues with the next command of the script.
    ["curl reports a status that is not a number for Bash", 1, "curl", "printf '\\n18 099 |octal'"],
  ] as const) {
    test(`when ${what}`, async () => {
      const bin = await mkdtemp(join(DIRECTORY, "bin-"));
      await writeFile(join(bin, program), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      const environment = { PATH: `${bin}:${process.env.PATH}`, PULUMI_TOKEN_RETRY_SECONDS: "1" };
      const run = await exchange(granted, environment, { command: ["echo", "started"] });
      assert.deepEqual([run.exitCode, run.stdout], [exitCode, ""]);
    });
  }
});

describe("a signal during the exchange ends the script at once", AT_ONCE, () => {
  const launchers = { "a process": [], "the first process of a container": ["unshare", "--pid", "--fork"] };
  for (const [signal, moment, answer] of [
    ["SIGTERM", "in a request", hang()],
    ["SIGINT", "between attempts", retryAfter(30)],
  ] as const) {
    for (const [role, launcher] of Object.entries(launchers)) {
      const skip = launcher.length > 0 && !IS_ROOT && "only root can start a process in a separate PID namespace";
      test(`${signal} ${moment}, as ${role}`, { skip }, async () => {
        const running = { pid: 0, tokenFile: "" };
        const stop: Answer = async (socket, request) => {
          await answer(socket, request);
          await delay(200);
          const children = readFileSync(`/proc/${running.pid}/task/${running.pid}/children`, "utf8");
          process.kill(launcher.length > 0 ? Number.parseInt(children, 10) : running.pid, signal);
        };
        const run = await exchange(stop, { PULUMI_TOKEN_RETRY_SECONDS: "60" }, { launcher, running });
        assert.equal(run.exitCode, 143);
        assert.ok(run.milliseconds < 3000, `${run.milliseconds} ms`);
      });
    }
  }
});

describe("the credential helper", AT_ONCE, () => {
  const inSeconds = (seconds: number) => `${new Date(Date.now() + seconds * 1000).toISOString().slice(0, 19)}Z`;
  const wrapped = (seconds: number) => ({
    PULUMI_ACCESS_TOKEN: "pul-wrapped",
    PULUMI_ACCESS_TOKEN_EXPIRES_AT: inSeconds(seconds),
  });

  /** Runs the script as the CLI does. The endpoint's URL replaces `URL` in the request. */
  async function ask(request: object | string, environment: Environment = {}, answers: Answer | Answer[] = granted) {
    const input = typeof request === "string" ? request : JSON.stringify({ version: 1, ...request });
    const run = await exchange(answers, environment, { command: ["--credential-helper"], input });
    return { ...run, answer: run.exitCode === 0 ? JSON.parse(run.stdout) : undefined };
  }

  for (const reason of ["initial", "expired", "rejected"]) {
    test(`answers the reason ${reason} with a new token and its expiry, and prints nothing else`, async () => {
      const run = await ask({ reason, selectedBackendUrl: "URL/" });
      const { expiresAt, ...others } = run.answer;
      assert.deepEqual(others, { version: 1, accessToken: ACCESS_TOKEN });
      assert.ok(Math.abs(Date.parse(expiresAt) - Date.now() - 7_200_000) < 10_000, expiresAt);
      assert.deepEqual([run.stderr, run.endpoint.requests.length], ["", 1]);
      assert.deepEqual(findLeaks({ ...run, stdout: "" }, [], SECRETS), []);
    });

    test(`denies any other backend the reason ${reason}, before any request`, async () => {
      const others = ["https://evil.example", "URL.evil.example", "URL//", "URL/api", "URLx", "", "file://~"];
      for (const selectedBackendUrl of others) {
        const run = await ask({ reason, selectedBackendUrl }, wrapped(3600));
        assert.match(run.stderr, /^exchange-token: Denied: the Pulumi CLI selected the backend '.*backend\.url/);
        assert.deepEqual([run.exitCode, run.stdout, run.endpoint.connections()], [77, "", 0]);
      }
    });
  }

  test("names the backend in the first answer if none is selected, and in no other", async () => {
    const { answer, endpoint } = await ask({ reason: "initial" }, wrapped(3600));
    assert.equal(answer.backendUrl, endpoint.url);
    assert.equal((await ask({ reason: "expired" })).exitCode, 77);
    assert.equal((await ask({ reason: "rejected" })).exitCode, 77);
  });

  test("omits an unknown expiry", async () => {
    const run = await ask({ reason: "initial", selectedBackendUrl: "URL" }, {}, grant("pul-1", { expires_in: null }));
    assert.deepEqual(run.answer, { version: 1, accessToken: "pul-1" });
  });

  for (const request of [
    "",
    "{}",
    '{"version":2,"reason":"initial"}',
    '{"version":1,"reason":"renewed"}',
    '{"version":1,"reason":"initial","selectedBackendUrl":5}',
    '{"version":1,"reason":"initial","selectedBackendUrl":"URL","selectedBackendUrl":"https://evil.example"}',
    '{"version":1,"reason":"initial","selectedBackendUrl":"URL\\u002e\\"evil"}',
    '{"version":1,"reason":"initial","selected\\u0042ackendUrl":"https://evil.example"}',
    '{"version":1,"reason":"initial", "selectedBackendUrl" : "https://evil.example"}',
    '{"version":1,"reason":"initial"}\n{"selectedBackendUrl":"https://evil.example"}',
    `{"version":1,"reason":"initial","selectedBackendUrl":"${"x".repeat(5000)}"}`,
  ]) {
    test(`rejects the request ${JSON.stringify(request.slice(0, 80))}`, async () => {
      const run = await ask(request, wrapped(3600));
      assert.match(run.stderr, /^exchange-token: Unknown request\./);
      assert.deepEqual([run.exitCode, run.stdout, run.endpoint.connections()], [64, "", 0]);
    });
  }

  test("answers a first request with the wrapper's token while that is valid for more than 30 seconds", async () => {
    const environment = wrapped(35);
    const run = await ask({ reason: "initial", selectedBackendUrl: "URL" }, environment);
    const expiresAt = environment.PULUMI_ACCESS_TOKEN_EXPIRES_AT;
    assert.deepEqual(run.answer, { version: 1, accessToken: "pul-wrapped", expiresAt });
    assert.equal(run.endpoint.connections(), 0);
  });

  for (const [what, reason, seconds, changes] of [
    ["expires within 30 seconds", "initial", 29, {}],
    ["has no expiry", "initial", 60, { PULUMI_ACCESS_TOKEN_EXPIRES_AT: undefined }],
    ["has an expiry in another format", "initial", 60, { PULUMI_ACCESS_TOKEN_EXPIRES_AT: "tomorrow" }],
    ["is malformed", "initial", 60, { PULUMI_ACCESS_TOKEN: 'a","b":"' }],
    ["has expired for the CLI", "expired", 3600, {}],
    ["was rejected", "rejected", 3600, {}],
  ] as const) {
    test(`exchanges again when the wrapper's token ${what}`, async () => {
      const run = await ask({ reason, selectedBackendUrl: "URL" }, { ...wrapped(seconds), ...changes });
      assert.equal(run.answer.accessToken, ACCESS_TOKEN);
    });
  }

  test("retries silently, and for at most 50 seconds", async () => {
    const request = { reason: "initial", selectedBackendUrl: "URL" };
    const run = await ask(request, { PULUMI_TOKEN_RETRY_SECONDS: "600" }, [busy, granted]);
    assert.deepEqual([run.answer.accessToken, run.stderr], [ACCESS_TOKEN, ""]);
    for (const [given, limit] of Object.entries({ 600: 50, 7: 7 })) {
      const { stderr, stdout } = await ask(request, { PULUMI_TOKEN_RETRY_SECONDS: given }, retryAfter(52));
      assert.match(stderr, RegExp(`^exchange-token: .* exceed the ${limit} s of PULUMI_TOKEN_RETRY_SECONDS\\.\\n$`));
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
    const redirect = respond(307, "", { Location: `http://localhost:${elsewhere.port}/` });
    const run = await exchange(redirect, {}, options);
    await elsewhere.close();
    return findLeaks(
      run,
      elsewhere.requests.map(({ head, form }) => `${head}${form}`),
      SECRETS,
    );
  }

  for (const [place, line] of Object.entries(leakingScripts)) {
    test(`are found by the leak detector: ${place}`, async () => {
      const start = '#!/usr/bin/env bash\nid_token=$(<"$PULUMI_OIDC_TOKEN_FILE")\nurl=$PULUMI_BACKEND_URL\n';
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
    { id_token: "", answer: "", body: "", access_token: "" },
    { POSIXLY_CORRECT: "1" },
    { BASHOPTS: "nocasematch:extglob:localvar_inherit", TMOUT: "1", SECONDS: "9223372036854775807" },
  ]) {
    test(`do not leak with ${JSON.stringify(environment)} in the environment`, async () => {
      const late: Answer = async (socket, request) => {
        await delay(1200);
        await granted(socket, request);
      };
      const given = { ...environment, PULUMI_TOKEN_RETRY_SECONDS: "9" };
      const run = await exchange([busy, late], given, { command: ["bash", "+x", "-c", "declare -F"] });
      assert.deepEqual([run.exitCode, run.stdout, run.curlCalls.length], [0, "", 2], run.stderr);
      assert.deepEqual(findLeaks(run, [], SECRETS), []);
    });
  }
});
