// The exchange script in its volume: which files it reads, and what happens when the kubelet replaces them.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { exchange, granted, ID_TOKEN, INITIAL_REQUEST, idTokenOf, notRunning } from "../support/script";
import { type Answer, respond } from "./endpoint";

const AT_ONCE = { concurrency: 8 };

/** Arguments and input of the script for each way to run it. */
const WAYS = {
  wrapper: { command: ["true"] },
  "credential helper": { command: [], input: INITIAL_REQUEST },
};

/** Two versions of the settings of which no value is the same. */
const BEFORE = { organization: "before", tokenType: "team", tokenScope: "team:before" };
const AFTER = { organization: "after", tokenType: "runner", tokenScope: "runner:after" };

/** Returns what a request says about the version of its settings. */
function versionOf(form: URLSearchParams): string {
  const fields = ["audience", "requested_token_type", "scope"].map((name) => form.get(name));
  return fields.join(" ");
}

const IS_BEFORE = "urn:pulumi:org:before urn:pulumi:token-type:access_token:team team:before";
const IS_AFTER = "urn:pulumi:org:after urn:pulumi:token-type:access_token:runner runner:after";

describe("after the kubelet has replaced the volume", AT_ONCE, () => {
  for (const [way, options] of Object.entries(WAYS)) {
    test(`the next run uses the new settings: ${way}`, async () => {
      const running = notRunning();
      const renewed = idTokenOf({ sub: "renewed" });
      const replace: Answer = (...request) => {
        running.volume.replace({ ...AFTER, token: renewed });
        return granted(...request);
      };
      const twice = 'read -r input; "$@" <<<"$input" && "$@" <<<"$input"';
      const launcher = ["bash", "-c", twice, "bash"];
      const run = await exchange([replace, granted], {
        ...options,
        input: `${INITIAL_REQUEST}\n`,
        settings: BEFORE,
        launcher,
        running,
      });
      assert.equal(run.exitCode, 0, run.stderr);
      const sent = run.endpoint.requests.map(({ form }) => [versionOf(form), form.get("subject_token")]);
      assert.deepEqual(sent, [
        [IS_BEFORE, ID_TOKEN],
        [IS_AFTER, renewed],
      ]);
    });

    test(`a run that waits to retry ends undisturbed, with its own settings: ${way}`, async () => {
      const running = notRunning();
      const renewed = idTokenOf({ sub: "renewed" });
      // Bash reads a script while it runs it.
      const script = "#!/usr/bin/env bash\nexit 9\n".repeat(2000);
      const replace: Answer = (...request) => {
        const changes = { ...AFTER, apiUrl: "http://127.0.0.1:9", token: renewed };
        running.volume.replace({ ...changes, "exchange-token.sh": script });
        return respond(503, "")(...request);
      };
      const environment = { PULUMI_TOKEN_RETRY_SECONDS: "30" };
      const inVolume = { settings: BEFORE, environment, running };
      const run = await exchange([replace, granted], { ...options, ...inVolume });
      assert.equal(run.exitCode, 0, run.stderr);
      const sent = run.endpoint.requests.map(({ form }) => [versionOf(form), form.get("subject_token")]);
      assert.deepEqual(sent, [
        [IS_BEFORE, ID_TOKEN],
        [IS_BEFORE, renewed],
      ]);
    });
  }

  /**
   * Runs the script with a `read` that replaces the volume once, after it has read a variable.
   *
   * @param outcome what that `read` does last.
   */
  async function exchangeWithRead(variable: string, outcome: string) {
    const read = `() {
      builtin read "$@"
      local outcome=$?
      if [[ \${@: -1} == ${variable} && ! -e replaced ]]; then
        : >replaced
        volume=$(dirname "$0")
        old=$(readlink -f "$volume/..data")
        ln -s ..next "$volume/..data_tmp"
        mv -T "$volume/..data_tmp" "$volume/..data"
        rm -r "$old"
        ${outcome}
      fi
      return $outcome
    }`;
    const changes = Object.entries(AFTER).map(([file, content]) => `printf %s '${content}' >${file};`);
    const prepare = `(cd "$(dirname "$1")"; cp -r ..data/ ..next; cd ..next; chmod u+w *; ${changes.join(" ")})`;
    const run = await exchange(granted, {
      settings: BEFORE,
      environment: { "BASH_FUNC_read%%": read },
      launcher: ["bash", "-c", `${prepare}; exec "$@"`, "bash"],
    });
    assert.ok(run.files.some((file) => file.endsWith("/work/replaced")));
    assert.equal(run.exitCode, 0, run.stderr);
    return run.endpoint.requests[0]?.form ?? assert.fail("the script requested nothing");
  }

  for (const variable of ["organization", "token_type", "token_scope", "expiration", "api_url"]) {
    test(`a run that has just read ${variable} reads all settings again`, async () => {
      assert.equal(versionOf(await exchangeWithRead(variable, ":")), IS_AFTER);
    });
  }

  test("a run that finds no ID token meanwhile reads it again", async () => {
    const form = await exchangeWithRead("id_token", "id_token='' outcome=1");
    assert.equal(form.get("subject_token"), ID_TOKEN);
  });
});

describe("a bad volume", AT_ONCE, () => {
  test("may have an empty tokenScope for the token type organization, but not none", async () => {
    const empty = await exchange(granted, { settings: { tokenType: "organization", tokenScope: "" } });
    assert.equal(empty.exitCode, 0, empty.stderr);
    const settings = { tokenType: "organization", tokenScope: undefined };
    const none = await exchange(granted, { settings });
    assert.deepEqual([none.exitCode, none.endpoint.connections()], [64, 0]);
  });

  test("is the directory of a copied script, which does not find its files", async () => {
    for (const copy of ["cp", "ln -s"]) {
      const launcher = ["bash", "-c", `${copy} "$1" copy.sh && shift && exec ./copy.sh "$@"`, "bash"];
      const run = await exchange(granted, { launcher });
      assert.equal(run.exitCode, 64, run.stderr);
      assert.match(run.stderr, /The files are in \S+\/work\/\. It must be the volume pulumi-token-exchange/);
      assert.equal(run.endpoint.connections(), 0);
    }
  });
});

describe("the script finds its files", AT_ONCE, () => {
  const start: Record<string, string> = {
    "as `bash exchange-token.sh` in its own directory":
      'cd "$(dirname "$1")"; exec bash exchange-token.sh true',
    "as ./exchange-token.sh": 'cd "$(dirname "$1")"; exec ./exchange-token.sh true',
    "from the directory above": 'cd "$(dirname "$1")/.."; exec pulumi.com/exchange-token.sh true',
    "from the directory above, with CDPATH":
      'cd "$(dirname "$1")/.."; mkdir -p tmp/pulumi.com; CDPATH=tmp exec pulumi.com/exchange-token.sh true',
    "found on PATH": 'PATH=$(dirname "$1"):$PATH exec exchange-token.sh true',
    "in the directory that ..data leads to": 'exec "$(dirname "$1")/..data/exchange-token.sh" true',
    "in a plain directory": 'cp -rL "$(dirname "$1")" plain; exec plain/exchange-token.sh true',
  };
  for (const [how, command] of Object.entries(start)) {
    test(how, async () => {
      const run = await exchange(granted, { launcher: ["bash", "-c", command, "bash"] });
      assert.deepEqual([run.exitCode, run.endpoint.requests.length], [0, 1], run.stderr);
    });
  }
});
