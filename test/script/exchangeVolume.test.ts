// The exchange script in its volume: which files it reads, and what happens when the kubelet replaces them.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Answer, type Endpoint, respond } from "../support/endpoint";
import { callScript, exchange, granted, ID_TOKEN, idTokenOf, type Running } from "../support/script";

const AT_ONCE = { concurrency: 8 };

/** Returns the organization, the scope, and the ID token of each request. */
const sent = ({ requests }: Endpoint) =>
  requests.map(({ form }) => ["audience", "scope", "subject_token"].map((name) => form.get(name)));

describe("after the kubelet has replaced the volume", AT_ONCE, () => {
  test("a run that waits for Retry-After ends undisturbed, with its own settings and the new ID token", async () => {
    const running: Running = {};
    const renewed = idTokenOf({ sub: "renewed" });
    const replace: Answer = (...request) => {
      running.replaceFiles?.({ organization: "other", apiUrl: "http://127.0.0.1:9", token: renewed });
      return respond(503, "", { "Retry-After": "2" })(...request);
    };
    const run = await exchange([replace, granted], { running });
    assert.equal(run.exitCode, 0, run.stderr);
    const expected = [ID_TOKEN, renewed].map((token) => ["urn:pulumi:org:acme", "user:alice", token]);
    assert.deepEqual(sent(run.endpoint), expected);
    const [first = 0, second = 0] = run.endpoint.requests.map(({ arrivedAt }) => arrivedAt);
    assert.ok(second - first >= 2000);
  });

  test("a run that is reading the settings or the ID token reads again", async () => {
    // The first time, the file is read just before the kubelet replaces all.
    const code = `
      trap 'rm -r initial after-* ..data' EXIT
      mkdir initial after-tokenType after-token
      ln -s initial ..data
      read_file() {
        printf -v "$1" a.b.%s "$(readlink ..data)"
        [[ ! -d after-$2 ]] || ln -sfn "after-$2" ..data
      }
      check_settings() { :; }
      request() { echo "$organization $api_url $id_token"; exit; }
      main true`;
    const [result] = await callScript(code, [[]]);
    assert.equal(result?.output, "a.b.after-tokenType a.b.after-tokenType a.b.after-token\n");
  });
});

describe("whatever the environment says, the script finds its files", AT_ONCE, () => {
  const url = "http://127.0.0.1:9";
  const environment = {
    ...{ PULUMI_BACKEND_URL: url, PULUMI_API: url, PULUMI_ORG: "evil" },
    ...{ PWD: "/tmp", OLDPWD: "/tmp", CDPATH: "/:/tmp:.", BASH_SOURCE: "/tmp/a.sh", BASH_ARGV0: "/tmp/a.sh" },
  };
  for (const [how, command, exitCode] of [
    ["as `bash exchange-token.sh` in its own directory", "cd $volume; exec bash exchange-token.sh true", 0],
    [
      "from the directory above, with CDPATH",
      "cd $volume/..; mkdir -p other/pulumi.com; CDPATH=other exec pulumi.com/exchange-token.sh true",
      0,
    ],
    ["in a plain directory", "cp -rL $volume ../plain; exec ../plain/exchange-token.sh true", 0],
    ["but not if it is copied without them", "cp $1 ../copy.sh; exec ../copy.sh true", 64],
  ] as const) {
    test(how, async () => {
      const launcher = ["bash", "-c", `volume=$(dirname $1); ${command}`, "bash"];
      const { exitCode: ended, stderr, endpoint } = await exchange(granted, { environment, launcher });
      assert.equal(ended, exitCode, stderr);
      if (exitCode !== 0) return assert.match(stderr, /The files are in \S+\/work\/\.\.\/\. /);
      assert.deepEqual(sent(endpoint), [["urn:pulumi:org:acme", "user:alice", ID_TOKEN]]);
    });
  }
});
