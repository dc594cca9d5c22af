// What the exchange script promises to the pod that runs it, and to the organization whose tokens it carries.

import assert from "node:assert/strict";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createSecureServer } from "node:http2";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createCertificateAuthority } from "../simulator/certificates";
import {
  type Answer,
  drip,
  type Endpoint,
  grant,
  hang,
  reset,
  respond,
  send,
  startEndpoint,
} from "./endpoint";
import { findLeaks, ID_TOKEN, idTokenOf, runScript, type ScriptOptions, type ScriptRun } from "./script";

const ACCESS_TOKEN = "pul-0123456789abcdef0123456789abcdef01234567";

/** Runs the script against an endpoint of its own, which gives these answers. */
async function exchange(
  answers: Answer | Answer[],
  options: Partial<ScriptOptions> = {},
): Promise<ScriptRun & { endpoint: Endpoint }> {
  const endpoint = await startEndpoint(answers);
  try {
    return { ...(await runScript({ url: endpoint.url, idToken: ID_TOKEN, ...options })), endpoint };
  } finally {
    await endpoint.close();
  }
}

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "exchange-test-"));
  await chmod(folder, 0o755);
});
after(() => rm(folder, { recursive: true }));

describe("the command", { concurrency: 8 }, () => {
  const show = (expression: string) => ["bash", "-c", `printf %s "${expression}"`];

  test("finds the access token in PULUMI_ACCESS_TOKEN", async () => {
    const run = await exchange(grant(ACCESS_TOKEN), { command: show("$PULUMI_ACCESS_TOKEN") });
    assert.equal(run.stdout, ACCESS_TOKEN);
    assert.equal(run.exitCode, 0);
  });

  test("finds when the token ends in PULUMI_ACCESS_TOKEN_EXPIRES_AT, by RFC 3339", async () => {
    const run = await exchange(grant(ACCESS_TOKEN, { expires_in: 1800 }), {
      environment: { TZ: "Asia/Tokyo" },
      command: show("$PULUMI_ACCESS_TOKEN_EXPIRES_AT"),
    });
    assert.match(run.stdout, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    assert.ok(Math.abs(Date.parse(run.stdout) - Date.now() - 1_800_000) < 10_000, run.stdout);
  });

  test("inherits no expiry of another token when the service tells none", async () => {
    for (const expiresIn of [undefined, null, "7200", -1, 0, 1.5, "a[$(id)]", 1e30]) {
      const run = await exchange(grant(ACCESS_TOKEN, { expires_in: expiresIn }), {
        environment: { PULUMI_ACCESS_TOKEN_EXPIRES_AT: "2020-01-01T00:00:00Z" },
        command: show(`\${PULUMI_ACCESS_TOKEN_EXPIRES_AT-unset}`),
      });
      assert.equal(run.stdout, "unset", String(expiresIn));
    }
  });

  test("sees the environment of the pod as it was given, whatever its names", async () => {
    const given = {
      ...Object.fromEntries(
        ["id_token", "answer", "body", "head", "status", "url", "json", "rest", "token", "key", "step"].map(
          (name) => [name, `own ${name}`],
        ),
      ),
      "name.with-dots": "1",
      LC_ALL: "C.UTF-8",
      TZ: "Europe/Berlin",
      SHELLOPTS: "braceexpand:hashall:interactive-comments:xtrace",
    };
    const run = await exchange(grant(ACCESS_TOKEN), { environment: given, command: ["env", "-0"] });
    const seen = new Map(
      run.stdout
        .split("\0")
        .map((entry) => [entry.split("=", 1)[0] ?? "", entry.slice(entry.indexOf("=") + 1)]),
    );
    for (const [name, value] of Object.entries(given)) assert.equal(seen.get(name), value, name);

    const known = new Set([
      ...Object.keys(given),
      "PATH",
      "HOME",
      "TMPDIR",
      "",
      "_",
      "PWD",
      "OLDPWD",
      "SHLVL",
    ]);
    const added = [...seen.keys()].filter(
      (name) => !known.has(name) && !/^PULUMI_(ORG|TOKEN_|BACKEND|OIDC)/.test(name),
    );
    assert.deepEqual(added.sort(), ["PULUMI_ACCESS_TOKEN", "PULUMI_ACCESS_TOKEN_EXPIRES_AT"]);
  });

  test("gets its arguments unchanged", async () => {
    const words = ["a b", "", "*", "$(id)", "`id`", "line\nbreak", "-n", "--", "'\"\\", "ü"];
    const run = await exchange(grant(ACCESS_TOKEN), { command: ["printf", "<%s>", ...words] });
    assert.equal(run.stdout, words.map((word) => `<${word}>`).join(""));
  });

  test("has the script's process id, its exit code and all of standard output", async () => {
    let pid = 0;
    const run = await exchange(grant(ACCESS_TOKEN), {
      command: ["bash", "-c", 'printf %s "$$"; exit 42'],
      whileRunning: (scriptPid) => {
        pid = scriptPid;
      },
    });
    assert.equal(run.stdout, String(pid));
    assert.equal(run.exitCode, 42);
  });

  test("handles SIGTERM as if nothing had run before", async () => {
    const own = await exchange(grant(ACCESS_TOKEN), {
      command: ["bash", "-c", 'trap "echo stopping; exit 7" TERM; kill -TERM $$; sleep 5'],
    });
    assert.equal(own.stdout, "stopping\n");
    assert.equal(own.exitCode, 7);

    const none = await exchange(grant(ACCESS_TOKEN), { command: ["bash", "-c", "kill -TERM $$; sleep 5"] });
    assert.equal(none.signal, "SIGTERM");
  });

  test("has all of standard input", async () => {
    const run = await exchange([respond(503, ""), grant(ACCESS_TOKEN)], {
      command: ["cat"],
      input: "a\nb\n",
    });
    assert.equal(run.stdout, "a\nb\n");
  });

  test("inherits no open file", async () => {
    const run = await exchange(grant(ACCESS_TOKEN), { command: ["bash", "-c", "echo /dev/fd/*"] });
    const alone = await runScript({
      url: "",
      script: "/usr/bin/env",
      command: ["bash", "-c", "echo /dev/fd/*"],
    });
    assert.equal(run.stdout, alone.stdout);
  });

  test("that does not exist ends with the shell's own exit code", async () => {
    const run = await exchange(grant(ACCESS_TOKEN), { command: ["no-such-program"] });
    assert.equal(run.exitCode, 127);
  });
});

describe("the request", { concurrency: 8 }, () => {
  test("is one, a POST of the fields that RFC 8693 and Pulumi Cloud define", async () => {
    const { endpoint } = await exchange(grant(ACCESS_TOKEN));
    assert.equal(endpoint.connections(), 1);
    assert.match(endpoint.requests[0]?.head ?? "", /^POST \/api\/oauth\/token HTTP/);
    assert.doesNotMatch(endpoint.requests[0]?.head ?? "", /authorization/i);
    assert.deepEqual(Object.fromEntries(endpoint.requests[0]?.form ?? []), {
      audience: "urn:pulumi:org:acme",
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      requested_token_type: "urn:pulumi:token-type:access_token:personal",
      scope: "user:ada",
      expiration: "7200",
      subject_token: ID_TOKEN,
    });
  });

  for (const [type, scope] of [
    ["team", "team:a&b=c%20+d"],
    ["runner", "runner:$(id)`id`'\""],
    ["organization", "admin"],
    ["organization", ""],
    ["organization", undefined],
  ] as const) {
    test(`asks for a token of type ${type} with scope ${scope}`, async () => {
      const environment = { PULUMI_TOKEN_TYPE: type, PULUMI_TOKEN_SCOPE: scope };
      const { endpoint } = await exchange(grant(ACCESS_TOKEN), { environment });
      const form = endpoint.requests[0]?.form;
      assert.equal(form?.get("requested_token_type"), `urn:pulumi:token-type:access_token:${type}`);
      assert.equal(form?.get("scope"), scope ?? "");
    });
  }

  test("obeys neither a .curlrc nor, without TLS, a proxy", async () => {
    await writeFile(join(folder, ".curlrc"), `proxy = http://127.0.0.1:9\nuser-agent = curlrc\n`);
    const environment = {
      CURL_HOME: folder,
      http_proxy: "http://127.0.0.1:9",
      ALL_PROXY: "http://127.0.0.1:9",
    };
    const { endpoint, exitCode } = await exchange(grant(ACCESS_TOKEN), { environment });
    assert.equal(exitCode, 0);
    assert.doesNotMatch(endpoint.requests[0]?.head ?? "", /curlrc/);
  });
});

describe("settings", { concurrency: 8 }, () => {
  test("that are wrong are all told at once, before anything is sent", async () => {
    const { endpoint, ...run } = await exchange(grant(ACCESS_TOKEN), {
      environment: {
        PULUMI_ORG: undefined,
        PULUMI_TOKEN_TYPE: "admin",
        PULUMI_TOKEN_EXPIRATION: "2h",
        PULUMI_BACKEND_URL: "http://example.com",
        PULUMI_TOKEN_RETRY_SECONDS: "0",
      },
    });
    assert.equal(run.exitCode, 64);
    for (const name of ["ORG", "TOKEN_TYPE", "TOKEN_EXPIRATION", "BACKEND_URL", "TOKEN_RETRY_SECONDS"]) {
      assert.match(run.stderr, new RegExp(`^exchange-token: PULUMI_${name} `, "m"));
    }
    assert.equal(endpoint.connections(), 0);
    assert.equal(run.argumentLists.length, 0);
  });

  test("need a command", async () => {
    const run = await exchange(grant(ACCESS_TOKEN), { command: [] });
    assert.equal(run.exitCode, 64);
    assert.match(run.stderr, /no command/);
  });

  test("that are not loopback hosts get no id token without TLS", async () => {
    for (const url of [
      "http://127.0.0.1.example.com",
      "http://127.0.0.1@example.com",
      "http://localhost.example.com",
    ]) {
      const run = await exchange(grant(ACCESS_TOKEN), { environment: { PULUMI_BACKEND_URL: url } });
      assert.equal(run.exitCode, 64, url);
    }
  });

  test("never show a password that stands in a URL", async () => {
    const environment = { PULUMI_BACKEND_URL: "https://ada:secret@example.com" };
    const run = await exchange(grant(ACCESS_TOKEN), { environment });
    assert.equal(run.exitCode, 64);
    assert.doesNotMatch(run.stderr, /secret/);
  });
});

describe("the id token", { concurrency: 8 }, () => {
  test("may end in white space", async () => {
    const { endpoint, exitCode } = await exchange(grant(ACCESS_TOKEN), { idToken: `${ID_TOKEN} \n\n` });
    assert.equal(exitCode, 0);
    assert.equal(endpoint.requests[0]?.form.get("subject_token"), ID_TOKEN);
  });

  for (const [what, idToken] of [
    ["is missing", undefined],
    ["is empty", ""],
    ["is blank", " \n"],
    ["is no JWT", "not.a-jwt"],
    ["is too large", `${"a".repeat(9000)}.${"b".repeat(9000)}.c`],
    ["holds more than a JWT", `${ID_TOKEN}\n${ID_TOKEN}`],
  ] as const) {
    test(`that ${what} ends the script with 66`, async () => {
      const { endpoint, ...run } = await exchange(grant(ACCESS_TOKEN), { idToken });
      assert.equal(run.exitCode, 66);
      assert.match(run.stderr, /^exchange-token: the id token's file '.*\/token' .*\n$/);
      assert.equal(endpoint.connections(), 0);
    });
  }

  test("that cannot be read, or is a folder, ends the script with 66", async () => {
    const unreadable = join(folder, "unreadable");
    await writeFile(unreadable, ID_TOKEN, { mode: 0 });
    // Root reads everything.
    const launcher = process.getuid?.() === 0 ? ["setpriv", "--reuid=65534", "--clear-groups"] : [];
    for (const [file, message] of [
      [unreadable, /cannot be read/],
      [folder, /no regular file/],
    ] as const) {
      const run = await exchange(grant(ACCESS_TOKEN), {
        launcher,
        environment: { PULUMI_OIDC_TOKEN_FILE: file },
      });
      assert.equal(run.exitCode, 66);
      assert.match(run.stderr, message);
    }
  });

  test("is looked for where the EKS webhook says, unless PULUMI_OIDC_TOKEN_FILE says otherwise", async () => {
    const file = join(folder, "aws-token");
    await writeFile(file, ID_TOKEN);
    const environment = { PULUMI_OIDC_TOKEN_FILE: undefined, AWS_WEB_IDENTITY_TOKEN_FILE: file };
    const run = await exchange(grant(ACCESS_TOKEN), { idToken: undefined, environment });
    assert.equal(run.exitCode, 0);
  });

  test("that is replaced between two attempts is read again", async () => {
    const replacement = idTokenOf({ iss: "https://issuer" });
    let tokenFile = "";
    const replace: Answer = async (socket, request) => {
      await writeFile(join(folder, "replacement"), replacement);
      await rename(join(folder, "replacement"), tokenFile);
      await respond(503, "")(socket, request);
    };
    const { endpoint } = await exchange([replace, grant(ACCESS_TOKEN)], {
      whileRunning: (_, file) => {
        tokenFile = file;
      },
    });
    assert.deepEqual(
      endpoint.requests.map(({ form }) => form.get("subject_token")),
      [ID_TOKEN, replacement],
    );
  });
});

describe("a failure that may pass", { concurrency: 8 }, () => {
  for (const [what, answer] of [
    ["HTTP 408", respond(408, "")],
    ["HTTP 429", respond(429, "")],
    ["HTTP 500", respond(500, "<html>")],
    ["HTTP 503", respond(503, "")],
    ["a connection that breaks", reset()],
    ["an answer that breaks off", send("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{")],
    ["no answer at all", send("")],
  ] as const) {
    test(`is retried: ${what}`, async () => {
      const { endpoint, ...run } = await exchange([answer, grant(ACCESS_TOKEN)]);
      assert.equal(run.exitCode, 0, run.stderr);
      assert.equal(endpoint.requests.length, 2);
      assert.match(run.stderr, /trying again in \d\.\d{3} s/);
    });
  }

  test("waits as long as Retry-After says", async () => {
    const { endpoint } = await exchange([respond(429, "", { "Retry-After": "1" }), grant(ACCESS_TOKEN)]);
    const [first, second] = endpoint.requests.map(({ arrivedAt }) => arrivedAt);
    assert.ok(first && second && second - first >= 1000);
  });

  test("is retried after a time that is another one for every script", async () => {
    const runs = [1, 2, 3].map(() => exchange([respond(503, ""), grant(ACCESS_TOKEN)]));
    const pauses = (await Promise.all(runs)).map(({ stderr }) => /in (\S+) s/.exec(stderr)?.[1]);
    assert.ok(new Set(pauses).size > 1, String(pauses));
  });

  test("waits longer each time", async () => {
    const busy = respond(503, "");
    const { stderr } = await exchange([busy, busy, busy, grant(ACCESS_TOKEN)], {
      environment: { PULUMI_TOKEN_RETRY_SECONDS: "8" },
    });
    const pauses = [...stderr.matchAll(/trying again in (\S+) s/g)].map(([, seconds]) => Number(seconds));
    assert.equal(pauses.length, 3);
    for (const [index, least] of [0.5, 1, 2].entries())
      assert.ok((pauses[index] ?? 0) >= least, String(pauses));
  });

  test("ends with 75 when the service stays busy", async () => {
    const run = await exchange(respond(503, ""));
    assert.equal(run.exitCode, 75);
    assert.match(run.stderr, /HTTP 503; gave up, since PULUMI_TOKEN_RETRY_SECONDS is 3\n$/);
    assert.ok(run.milliseconds < 4500);
  });

  test("ends with 75 at once when Retry-After asks for more time than there is", async () => {
    for (const retryAfter of ["3600", "9".repeat(40), new Date(Date.now() + 3_600_000).toUTCString()]) {
      const run = await exchange(respond(429, "", { "Retry-After": retryAfter }));
      assert.equal(run.exitCode, 75);
      assert.match(run.stderr, /asks to wait \d+ s; gave up/);
      assert.ok(run.milliseconds < 2500);
    }
  });

  test("ends with 69 when nobody listens", async () => {
    const { url, close } = await startEndpoint(hang());
    await close();
    const run = await runScript({ url, idToken: ID_TOKEN });
    assert.equal(run.exitCode, 69);
    assert.match(run.stderr, /cannot be reached: Failed to connect/);
  });

  for (const [what, answer] of [
    ["the connection hangs", hang()],
    ["the answer trickles", drip("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", " ", 50)],
  ] as const) {
    test(`ends with 69 in time when ${what}`, async () => {
      const run = await exchange(answer, { environment: { PULUMI_TOKEN_RETRY_SECONDS: "2" } });
      assert.equal(run.exitCode, 69);
      assert.ok(run.milliseconds < 4500);
    });
  }
});

describe("a refusal", { concurrency: 8 }, () => {
  const refusal = { error: "invalid_grant", error_description: "no policy matched" };

  test("ends with 77 and is not retried", async () => {
    for (const status of [400, 401, 403, 404, 422]) {
      const { endpoint, exitCode } = await exchange(respond(status, refusal));
      assert.equal(exitCode, 77, String(status));
      assert.equal(endpoint.requests.length, 1);
    }
  });

  test("tells what was answered, what was asked for and what the policy had to match", async () => {
    const { stderr, endpoint } = await exchange(respond(400, refusal));
    for (const part of [
      `${endpoint.url} refused the exchange: HTTP 400: invalid_grant: no policy matched`,
      "organization acme, personal token, 7200 s",
      "scope 'user:ada'",
      "iss https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF",
      "sub system:serviceaccount:team-a:deployer",
      "aud sts.amazonaws.com",
      "namespace team-a",
      "service account deployer",
      "expires 2030-01-01T00:00:00Z",
      "audienceRule",
    ]) {
      assert.ok(stderr.includes(part), `${part}\n${stderr}`);
    }
  });

  test("reads claims whose base64url differs from base64", async () => {
    const sub = "???>>>???>>>?>?>";
    const idToken = idTokenOf({ sub });
    assert.match(idToken.split(".")[1] ?? "", /-.*_|_.*-/);
    const { stderr } = await exchange(respond(400, refusal), { idToken });
    assert.ok(stderr.includes(`sub ${sub}`), stderr);
  });

  test("fits into a termination message, whatever the service and the token say", async () => {
    const long = "long words ".repeat(200);
    const claims = { iss: long, sub: long, aud: [long, long], exp: 1, "kubernetes.io": { namespace: long } };
    const name = "n".repeat(1000);
    const { stderr } = await exchange(respond(400, { error: long, error_description: long, message: long }), {
      idToken: idTokenOf(claims),
      environment: { PULUMI_ORG: name, PULUMI_TOKEN_SCOPE: `user:${name}` },
    });
    assert.match(stderr, /refused/);
    assert.ok(stderr.length <= 2048, String(stderr.length));
  });

  test("shows no control character and no token that the service sends back", async () => {
    const message = `\u001b[31m\r\n\u0007\u009b ${ACCESS_TOKEN} ${ID_TOKEN} end`;
    const run = await exchange(respond(403, { message }));
    assert.match(run.stderr, /^[\x20-\x7e\n]*$/);
    assert.match(run.stderr, /\[redacted\] \[redacted\] end\n/);
    assert.deepEqual(findLeaks(run, [], [ACCESS_TOKEN, ID_TOKEN]), []);
  });
});

describe("an answer that is no token response", { concurrency: 8 }, () => {
  for (const [what, answer] of [
    ["empty", respond(200, "")],
    ["HTML", respond(200, "<html><body>access_token</body></html>")],
    ["cut off", respond(200, `{"access_token":"${ACCESS_TOKEN}"`)],
    ["followed by something", respond(200, `{"access_token":"${ACCESS_TOKEN}"}{}`)],
    ["a token in another object", respond(200, { token: { access_token: ACCESS_TOKEN } })],
    ["a token that is no text", grant(["a"])],
    ["an empty token", grant("")],
    ["a token with a space", grant("pul-1 pul-2")],
    ["a token with a line break", grant("pul-1\npul-2")],
    ["a token with a null character", grant("pul-1\0")],
    ["a token beyond ASCII", grant("pul-\u00e9")],
    ["two tokens", respond(200, `{"access_token":"a","access_token":"b"}`)],
    ["huge", grant("a".repeat(100_000))],
    [
      "endless",
      drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", `4000\r\n${" ".repeat(0x4000)}\r\n`, 1),
    ],
    ["not HTTP", send("SSH-2.0-OpenSSH_9.2\r\n")],
  ] as const) {
    test(`ends with 76: ${what}`, async () => {
      const { endpoint, ...run } = await exchange(answer);
      assert.equal(run.exitCode, 76, run.stderr);
      assert.equal(endpoint.requests.length, 1);
      assert.match(run.stderr, /^exchange-token: http:.*\n$/);
    });
  }

  test("ends with 76 when it is a redirect, which nobody follows", async (t) => {
    const elsewhere = await startEndpoint(grant(ACCESS_TOKEN));
    t.after(elsewhere.close);
    for (const status of [301, 302, 303, 307, 308]) {
      const { exitCode } = await exchange(respond(status, "", { Location: elsewhere.url }));
      assert.equal(exitCode, 76);
    }
    assert.equal(elsewhere.connections(), 0);
  });

  test("is told from one that escapes its token and surrounds it with decoys", async () => {
    const body = `\n{"a":{"access_token":"decoy"},"b":["\\"access_token\\":\\"decoy\\"",-1.5e3,true,null,{}, [ ]],
      "access\\u005ftoken" : "pul\\u002d\\/\\\\\\"+=$(id)\`id\`" , "expires_in":60}\n`;
    const run = await exchange(respond(200, body), {
      command: ["bash", "-c", 'printf %s "$PULUMI_ACCESS_TOKEN"'],
    });
    assert.equal(run.stdout, 'pul-/\\"+=$(id)`id`');
  });
});

describe("Pulumi Cloud over TLS", { concurrency: 8 }, () => {
  let trust: Record<string, string>;
  let certificate: { key: string; cert: string };
  before(async () => {
    const authority = await createCertificateAuthority();
    const file = join(folder, "tls-ca.pem");
    await writeFile(file, authority.certificate);
    trust = { SSL_CERT_FILE: file, CURL_CA_BUNDLE: file };
    certificate = await authority.issue({ hosts: ["127.0.0.1"] });
  });

  test("may speak HTTP/2", async (t) => {
    const server = createSecureServer(certificate, (request, response) => {
      request.resume();
      response.end(JSON.stringify({ access_token: ACCESS_TOKEN, version: request.httpVersion }));
    });
    t.after(() => server.close());
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as AddressInfo;
    const run = await runScript({ url: `https://127.0.0.1:${port}`, idToken: ID_TOKEN, environment: trust });
    assert.equal(run.exitCode, 0, run.stderr);
  });

  test("may be behind a proxy, which sees no token", async (t) => {
    const endpoint = await startEndpoint(grant(ACCESS_TOKEN), certificate);
    t.after(endpoint.close);
    let seen = "";
    const proxy = createServer((client) => {
      client.once("data", (head) => {
        seen += head;
        client.write("HTTP/1.1 200 Connection established\r\nX-Proxy: 1\r\n\r\n");
        const server = connect(endpoint.port, "127.0.0.1");
        client.on("data", (data) => {
          seen += data;
        });
        for (const socket of [client, server]) socket.on("error", () => socket.destroy());
        client.pipe(server).pipe(client);
      });
    });
    t.after(() => proxy.close());
    await once(proxy.listen(0, "127.0.0.1"), "listening");
    const { port } = proxy.address() as AddressInfo;
    const environment = { ...trust, https_proxy: `http://127.0.0.1:${port}` };
    const run = await runScript({ url: endpoint.url, idToken: ID_TOKEN, environment });
    assert.equal(run.exitCode, 0, run.stderr);
    assert.match(seen, /^CONNECT /);
    assert.deepEqual(findLeaks(run, [seen], [ID_TOKEN, ACCESS_TOKEN]), []);
  });
});

describe("a certificate that does not verify", () => {
  test("ends with 69 at once, and the id token is not sent", async (t) => {
    const authority = await createCertificateAuthority();
    const file = join(folder, "ca.pem");
    await writeFile(file, authority.certificate);
    const stranger = await createCertificateAuthority();
    for (const [expected, certificate] of [
      [0, await authority.issue({ hosts: ["127.0.0.1"] })],
      [69, await stranger.issue({ hosts: ["127.0.0.1"] })],
      [69, await authority.issue({ hosts: ["example.com"] })],
      [69, await authority.issue({ hosts: ["127.0.0.1"], notAfter: new Date(Date.now() - 60_000) })],
    ] as const) {
      const endpoint = await startEndpoint(grant(ACCESS_TOKEN), certificate);
      t.after(endpoint.close);
      const run = await runScript({
        url: endpoint.url,
        idToken: ID_TOKEN,
        environment: { SSL_CERT_FILE: file, CURL_CA_BUNDLE: file },
      });
      assert.equal(run.exitCode, expected, run.stderr);
      assert.equal(endpoint.requests.length, expected === 0 ? 1 : 0);
      if (expected !== 0) assert.match(run.stderr, /^exchange-token: https:.* cannot be trusted: .+\n$/);
    }
  });
});

describe("SIGTERM during the exchange", { concurrency: 8 }, () => {
  /** Sends SIGTERM a moment after the endpoint gave this answer. */
  async function stopAfter(answer: Answer): Promise<ScriptRun> {
    let pid = 0;
    const stop: Answer = async (socket, request) => {
      await answer(socket, request);
      setTimeout(() => process.kill(pid, "SIGTERM"), 200);
    };
    return exchange(stop, {
      environment: { PULUMI_TOKEN_RETRY_SECONDS: "60" },
      whileRunning: (scriptPid) => {
        pid = scriptPid;
      },
    });
  }

  for (const [when, answer] of [
    ["while a request hangs", hang()],
    ["while it waits for the next attempt", respond(503, "", { "Retry-After": "30" })],
  ] as const) {
    test(`ends the script at once ${when}`, async () => {
      const run = await stopAfter(answer);
      assert.equal(run.exitCode, 143);
      assert.ok(run.milliseconds < 2000, `${run.milliseconds} ms`);
    });
  }

  test("breaks off the request too", async (t) => {
    let pid = 0;
    let open = true;
    const endpoint = await startEndpoint((socket) => {
      socket.resume();
      socket.on("close", () => {
        open = false;
      });
      process.kill(pid, "SIGTERM");
    });
    t.after(endpoint.close);
    await runScript({
      url: endpoint.url,
      idToken: ID_TOKEN,
      environment: { PULUMI_TOKEN_RETRY_SECONDS: "60" },
      whileRunning: (scriptPid) => {
        pid = scriptPid;
      },
    });
    assert.equal(open, false);
  });
});

describe("tokens", { concurrency: 8 }, () => {
  /** Scripts that leak, each in one way: the detector must be able to see every one of them. */
  const leakingScripts = {
    "argument list": `curl -s -d "subject_token=$id_token" "$url" >/dev/null`,
    "standard error": `echo "trying with $id_token" >&2`,
    file: `echo "$id_token" >"$TMPDIR/token"; rm "$TMPDIR/token"`,
    "another host": `printf %s "$id_token" | curl -s --location --data-urlencode subject_token@- "$url" >/dev/null`,
  };

  /** Runs a script against an endpoint that redirects it to another host, and names the leaks. */
  async function leaksWhenRedirected(script?: string): Promise<string[]> {
    const elsewhere = await startEndpoint(grant(ACCESS_TOKEN));
    const run = await exchange(respond(307, "", { Location: `http://localhost:${elsewhere.port}/` }), {
      ...(script && { script }),
    });
    await elsewhere.close();
    const received = elsewhere.requests.map(({ head, form }) => `${head}${form}`);
    return findLeaks(run, received, [ID_TOKEN, ACCESS_TOKEN]);
  }

  for (const [place, line] of Object.entries(leakingScripts)) {
    test(`are seen by the leak detector when they leak: ${place}`, async () => {
      const script = join(folder, place);
      const lines = [
        "#!/usr/bin/env bash",
        'id_token=$(<"$PULUMI_OIDC_TOKEN_FILE")',
        "url=$PULUMI_BACKEND_URL",
        line,
      ];
      await writeFile(script, lines.join("\n"), { mode: 0o755 });
      assert.deepEqual(await leaksWhenRedirected(script), [place]);
    });
  }

  test("leave the script nowhere, whatever the service answers", async () => {
    assert.deepEqual(await leaksWhenRedirected(), []);
    for (const answer of [
      [respond(503, ""), grant(ACCESS_TOKEN)],
      respond(400, { message: `${ID_TOKEN} ${ACCESS_TOKEN}` }),
      respond(200, { access_token: [ACCESS_TOKEN], message: ID_TOKEN }),
    ]) {
      const run = await exchange(answer);
      assert.ok(run.argumentLists.length > 0, "the wrapper records");
      assert.deepEqual(findLeaks(run, [], [ID_TOKEN, ACCESS_TOKEN]), []);
    }
  });

  test("are not shown when curl dies in the middle of an answer", async () => {
    const token = "pul.first.second.third.fourth.fifth";
    const lines = ["#!/bin/sh", `printf 'HTTP/1.1 200 OK\\n\\n{"access_token":"${token}"'`, "exit 137"];
    await writeFile(join(folder, "curl"), lines.join("\n"), { mode: 0o755 });
    const run = await exchange(hang(), {
      environment: { PATH: `${folder}:${process.env.PATH}`, PULUMI_TOKEN_RETRY_SECONDS: "1" },
    });
    assert.match(run.stderr, /cannot be reached: curl exit code 137; gave up/);
    assert.deepEqual(findLeaks(run, [], [token]), []);
  });

  for (const environment of [
    { SHELLOPTS: "xtrace" },
    { SHELLOPTS: "verbose" },
    { SHELLOPTS: "allexport" },
    { id_token: "", answer: "", body: "", json: "", rest: "" },
    { POSIXLY_CORRECT: "1" },
    { BASHOPTS: "nocasematch:extglob:localvar_inherit", TMOUT: "1", SECONDS: "9223372036854775807" },
  ]) {
    test(`stay hidden with ${JSON.stringify(environment)} in the environment`, async () => {
      const run = await exchange([respond(503, ""), grant(ACCESS_TOKEN)], { environment });
      assert.equal(run.exitCode, 0, run.stderr);
      assert.deepEqual(findLeaks(run, [], [ID_TOKEN, ACCESS_TOKEN]), []);
    });
  }
});

test("the script is executable", async () => {
  const run = await runScript({ url: "https://127.0.0.1", idToken: undefined });
  assert.equal(run.exitCode, 66);
  assert.match(await readFile(join(__dirname, "../scripts/exchange-token.sh"), "utf8"), /\nexec "\$@"\n$/);
});
