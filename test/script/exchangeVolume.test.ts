// The exchange script in its volume: which files it reads, and what happens when the kubelet replaces them.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { callScript, exchange, granted, ID_TOKEN, SCRIPT } from "../support/script";

describe("after the kubelet has replaced the volume", () => {
  test("a run that retries keeps its settings, and sends the new ID token", async () => {
    const code = `
      attempts=0
      request() {
        echo "$organization $id_token"
        printf other >organization
        printf a.b.renewed >token
        attempts=$((attempts + 1)) answer_curl_code=0 answer_status=503
      }
      wait_to_retry() { ((attempts < 2)) || exit; }
      main true`;
    const [result] = await callScript(code, [[]]);
    assert.equal(result?.output, `acme ${ID_TOKEN}\nacme a.b.renewed\n`);
  });

  test("a run that is reading the settings or the ID token reads again", async () => {
    // The kubelet replaces all just after one file is read.
    const code = `
      trap 'rm -r [1-3] ..data' EXIT
      mkdir 1 2 3
      ln -s 1 ..data
      read_file() {
        local version=$(readlink ..data)
        case $2 in
          apiUrl) printf -v "$1" https://v%d.example "$version" ;;
          token) printf -v "$1" a.b.%d "$version" ;;
          *) printf -v "$1" %d "$version" ;;
        esac
        case $version-$2 in
          1-tokenType) ln -sfn 2 ..data ;;
          2-token) ln -sfn 3 ..data ;;
        esac
      }
      request() { echo "$organization $api_url $id_token"; exit; }
      main true`;
    const [result] = await callScript(code, [[]]);
    assert.equal(result?.output, "2 https://v2.example a.b.3\n");
  });
});

test("the script finds its files in the layout of the kubelet, whatever the environment says", async () => {
  const environment = { PWD: "/tmp", CDPATH: "/:/tmp:.", BASH_SOURCE: "/tmp/a.sh", BASH_ARGV0: "/tmp/a.sh" };
  const mount = "cd $(dirname $1)/..; mkdir mount; mv pulumi.com mount/..data; cd mount; ln -s ..data/* .";
  const launcher = ["bash", "-c", `${mount}; exec $PWD/exchange-token.sh true`, "bash"];
  const { exitCode, stderr, endpoint } = await exchange(granted, { environment, launcher });
  assert.deepEqual([exitCode, endpoint.requests.length], [0, 1], stderr);
});

test("what cannot be read is a problem, even where its pattern would accept the reason", async () => {
  const script = SCRIPT.replaceAll("'[!-~]+'", "'.+'");
  assert.notEqual(script, SCRIPT);
  const { exitCode, endpoint } = await exchange(granted, { script, files: { organization: undefined } });
  assert.deepEqual([exitCode, endpoint.requests.length], [64, 0]);
});

test("a missing file is named, with its directory, and without a value to write into it", async () => {
  const { exitCode, stderr } = await exchange(granted, { files: { organization: undefined } });
  const [, problem, advice] = stderr.split("\n  ");
  assert.match(problem ?? "", /^organization is '\(no file that user \d+ can read\)'\.$/);
  assert.match(advice ?? "", /^The files are in \S+\/pulumi\.com\/\. /);
  assert.equal(exitCode, 64);
});
