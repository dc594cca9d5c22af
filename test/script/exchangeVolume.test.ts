// The exchange script in its volume: which files it reads, and what happens when the kubelet replaces them.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { exchange, granted, ID_TOKEN, INITIAL_REQUEST, idTokenOf, notRunning } from "../support/script";
import { type Answer, type Endpoint, respond, startEndpoint } from "./endpoint";

const AT_ONCE = { concurrency: 8 };

const WAYS = {
  wrapper: { command: ["true"] },
  "credential helper": { command: [], input: INITIAL_REQUEST },
};

const BEFORE = { organization: "before", tokenType: "team", tokenScope: "team:before" };
const AFTER = { organization: "after", tokenType: "runner", tokenScope: "runner:after" };

const FORM_BEFORE = ["urn:pulumi:org:before", "urn:pulumi:token-type:access_token:team", "team:before"];
const FORM_AFTER = ["urn:pulumi:org:after", "urn:pulumi:token-type:access_token:runner", "runner:after"];

/** Returns the settings of each request, and the ID token. */
const sent = ({ requests }: Endpoint) =>
  requests.map(({ form }) =>
    ["audience", "requested_token_type", "scope", "subject_token"].map((name) => form.get(name)),
  );

describe("after the kubelet has replaced the volume", AT_ONCE, () => {
  for (const [way, options] of Object.entries(WAYS)) {
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
      const run = await exchange([replace, granted], { ...options, settings: BEFORE, running });
      assert.equal(run.exitCode, 0, run.stderr);
      const expected = [ID_TOKEN, renewed].map((idToken) => [...FORM_BEFORE, idToken]);
      assert.deepEqual(sent(run.endpoint), expected);
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
    return sent(run.endpoint);
  }

  for (const variable of ["organization", "token_type", "token_scope", "expiration", "api_url"]) {
    test(`a run that has just read ${variable} reads all settings again`, async () => {
      assert.deepEqual(await exchangeWithRead(variable, ":"), [[...FORM_AFTER, ID_TOKEN]]);
    });
  }

  test("a run that finds no ID token meanwhile reads it again", async () => {
    const requests = await exchangeWithRead("id_token", "id_token='' outcome=1");
    assert.equal(requests[0]?.at(-1), ID_TOKEN);
  });
});

describe("whatever the environment says, the script finds its files", AT_ONCE, () => {
  const start: Record<string, string> = {
    "as `bash exchange-token.sh` in its own directory": "cd $volume; exec bash exchange-token.sh true",
    "as ./exchange-token.sh": "cd $volume; exec ./exchange-token.sh true",
    "from the directory above, with CDPATH":
      "cd $volume/..; mkdir -p tmp/pulumi.com; CDPATH=tmp exec pulumi.com/exchange-token.sh true",
    "found on PATH": "PATH=$volume:$PATH exec exchange-token.sh true",
    "in the directory that ..data leads to": "exec $volume/..data/exchange-token.sh true",
    "in a plain directory": "cp -rL $volume plain; exec plain/exchange-token.sh true",
    "but not if it is copied": "cp $1 copy.sh; ./copy.sh true; (($? == 64))",
    "nor if it is linked": "ln -s $1 copy.sh; ./copy.sh true; (($? == 64))",
  };
  for (const [how, command] of Object.entries(start)) {
    test(how, async (t) => {
      const elsewhere = await startEndpoint(granted);
      t.after(elsewhere.close);
      const { url } = elsewhere;
      const variables = {
        ...{ PULUMI_BACKEND_URL: url, PULUMI_API: url, PULUMI_API_URL: url, PULUMI_CLOUD_URL: url },
        ...{ PULUMI_ORG: "evil", PULUMI_TOKEN_TYPE: "organization", PULUMI_TOKEN_SCOPE: "admin" },
        ...{ PULUMI_OIDC_TOKEN_FILE: "/nonexistent", AWS_WEB_IDENTITY_TOKEN_FILE: "/nonexistent" },
        ...{ CDPATH: "/:/tmp:.", OLDPWD: "/tmp", PWD: "/tmp", BASH_REMATCH: "evil", directory: "/tmp" },
        ...{ BASH_SOURCE: "/tmp/exchange-token.sh", BASH_ARGV0: "/tmp/exchange-token.sh" },
        ...{ apiUrl: url, api_url: url, organization: "evil" },
      };
      const launcher = ["bash", "-c", `volume=$(dirname $1); ${command}`, "bash"];
      const { exitCode, stderr, endpoint } = await exchange(granted, { environment: variables, launcher });
      assert.deepEqual([exitCode, elsewhere.connections()], [0, 0], stderr);
      if (/64/.test(command)) return assert.match(stderr, /The files are in \S+\/work\/(\.\/)?\. /);
      const expected = ["urn:pulumi:org:acme", "urn:pulumi:token-type:access_token:personal", "user:alice"];
      assert.deepEqual(sent(endpoint), [[...expected, ID_TOKEN]]);
    });
  }
});
