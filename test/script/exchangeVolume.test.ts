// The exchange script in its volume: which files it reads, and what happens when the kubelet replaces them.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { callScript, exchange, granted, ID_TOKEN, idTokenOf, type Running } from "../support/script";
import { type Answer, type Endpoint, respond, startEndpoint } from "./endpoint";

const AT_ONCE = { concurrency: 8 };

const BEFORE = { organization: "before", tokenType: "team", tokenScope: "team:before" };
const AFTER = { organization: "after", tokenType: "runner", tokenScope: "runner:after" };

/** Returns the organization, the scope, and the ID token of each request. */
const sent = ({ requests }: Endpoint) =>
  requests.map(({ form }) => ["audience", "scope", "subject_token"].map((name) => form.get(name)));

describe("after the kubelet has replaced the volume", AT_ONCE, () => {
  test("a run that waits for Retry-After ends undisturbed, with its own settings and the new ID token", async () => {
    const running: Running = {};
    const renewed = idTokenOf({ sub: "renewed" });
    // Bash reads a script while it runs it.
    const script = "#!/usr/bin/env bash\nexit 9\n".repeat(2000);
    const replace: Answer = (...request) => {
      const files = { ...AFTER, apiUrl: "http://127.0.0.1:9", token: renewed, "exchange-token.sh": script };
      running.replaceFiles?.(files);
      return respond(503, "", { "Retry-After": "2" })(...request);
    };
    const run = await exchange([replace, granted], { settings: BEFORE, running });
    assert.equal(run.exitCode, 0, run.stderr);
    const expected = [ID_TOKEN, renewed].map((token) => ["urn:pulumi:org:before", "team:before", token]);
    assert.deepEqual(sent(run.endpoint), expected);
    const [first = 0, second = 0] = run.endpoint.requests.map(({ arrivedAt }) => arrivedAt);
    assert.ok(second - first >= 2000);
  });

  // The first time, each file is read just before the kubelet replaces them.
  const replaced = `
    trap 'rm -r v1 v2 ..data' EXIT
    mkdir v1 v2
    ln -s v1 ..data
    directory=$PWD
    read_file() {
      printf -v "$1" a.b.%s "$(readlink ..data)"
      if [[ $2 == tokenType || $2 == token ]]; then
        ln -sfn v2 ..data
      fi
    }`;
  for (const [what, code, shown] of [
    ["the settings", 'check_settings() { echo "$organization $api_url"; exit; }; main', "a.b.v2 a.b.v2\n"],
    ["the ID token", 'read_id_token; echo "$id_token"', "a.b.v2\n"],
  ] as const) {
    test(`a run that is reading ${what} reads again`, async () => {
      const [result] = await callScript(`${replaced}\n${code}`, [[]]);
      assert.equal(result?.output, shown);
    });
  }
});

describe("whatever the environment says, the script finds its files", AT_ONCE, () => {
  for (const [how, command] of Object.entries({
    "as `bash exchange-token.sh` in its own directory": "cd $volume; exec bash exchange-token.sh true",
    "from the directory above, with CDPATH":
      "cd $volume/..; mkdir -p tmp/pulumi.com; CDPATH=tmp exec pulumi.com/exchange-token.sh true",
    "in a plain directory": "cp -rL $volume plain; exec plain/exchange-token.sh true",
    "but not if it is copied": "cp $1 copy.sh; ./copy.sh true; (($? == 64)); exit 9",
  })) {
    test(how, async (t) => {
      const { url, connections, close } = await startEndpoint(granted);
      t.after(close);
      const environment = {
        ...{ PULUMI_BACKEND_URL: url, PULUMI_API: url, PULUMI_API_URL: url, PULUMI_CLOUD_URL: url },
        ...{ PULUMI_ORG: "evil", PULUMI_TOKEN_TYPE: "organization", PULUMI_TOKEN_SCOPE: "admin" },
        ...{ PULUMI_OIDC_TOKEN_FILE: "/nonexistent", AWS_WEB_IDENTITY_TOKEN_FILE: "/nonexistent" },
        ...{ CDPATH: "/:/tmp:.", OLDPWD: "/tmp", PWD: "/tmp", directory: "/tmp", api_url: url, apiUrl: url },
        ...{ BASH_REMATCH: "evil", BASH_SOURCE: "/tmp/a.sh", BASH_ARGV0: "/tmp/a.sh", organization: "evil" },
      };
      const launcher = ["bash", "-c", `volume=$(dirname $1); ${command}`, "bash"];
      const { exitCode, stderr, endpoint } = await exchange(granted, { environment, launcher });
      assert.equal(connections(), 0);
      if (/copy/.test(command)) return assert.match(stderr, /The files are in \S+\/work\/\.\/\. /);
      assert.deepEqual(
        [exitCode, sent(endpoint)],
        [0, [["urn:pulumi:org:acme", "user:alice", ID_TOKEN]]],
        stderr,
      );
    });
  }
});
