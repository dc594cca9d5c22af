// The Pulumi CLI in the pod of examples/esc-application.yaml, with an emulated Pulumi ESC.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ExamplesStack, podOf, startExamplesStack } from "../support/examples";
import { runPodSpecWithCli } from "../support/podSpec";
import { missingCli } from "../support/pulumiCli";

const FILE = "esc-application.yaml";
const SECRET = "correct horse";

/**
 * Returns what Pulumi ESC answers if it has one environment, `acme/shop/production`, with one variable.
 * https://www.pulumi.com/docs/reference/cloud-rest-api/environments/
 */
function answerOfEsc(endpoint: string): object | undefined {
  const path = "/api/esc/environments/acme/shop/production/open";
  if (endpoint.split("?")[0] === `POST ${path}`) return { id: "session" };
  if (endpoint !== `GET ${path}/session`) return undefined;
  // As ESC evaluates it: pulumi/pulumi, sdk/go/common/esc/environment.go and value.go.
  const variables = { DATABASE_PASSWORD: { value: SECRET, secret: true, trace: {} } };
  return { properties: { environmentVariables: { value: variables, trace: {} } } };
}

/** Starts a command, and stops it as the kubelet does: first with the preStop hook, `$1`, and then with SIGTERM. */
const STOP = `
  hook=$1
  shift
  "$@" &
  export PID=$!
  until [[ -s started ]]; do sleep 0.1; done
  bash -c "$hook"
  kill -TERM "$PID" 2>/dev/null
  wait "$PID"
  # What Kubernetes does to the rest of the container.
  kill -KILL "$(<started)" 2>/dev/null
  true`;

describe("the Pulumi CLI in the pod of esc-application.yaml", { skip: missingCli }, () => {
  let stack: ExamplesStack;
  before(async () => {
    stack = await startExamplesStack({ answer: answerOfEsc, runPod: runPodSpecWithCli });
  });
  after(() => stack.simulation.close());

  test("gives the application its secrets, and no access token", async () => {
    const { exchanges } = stack.simulation.pulumiCloud;
    const before = exchanges.length;
    const log = await stack.runPodOf(FILE, {
      command: applicationCommand(`[[ $DATABASE_PASSWORD == "${SECRET}" ]] && compgen -e`),
    });
    assert.match(log, /^DATABASE_PASSWORD$/m);
    assert.doesNotMatch(log, /PULUMI_ACCESS_TOKEN/);
    assert.deepEqual(exchanges.slice(before), [{ status: 200, reason: "team token, scope team:shop" }]);
  });

  test("hides the secrets in what the application prints", async () => {
    const command = applicationCommand("echo is $DATABASE_PASSWORD; echo is $DATABASE_PASSWORD >&2");
    assert.equal(await stack.runPodOf(FILE, { command }), "is [secret]\nis [secret]");
  });

  test("waits until the application has ended, with its preStop hook only", async () => {
    const { lifecycle } = podOf(FILE).container;
    const script = lifecycle.preStop.exec.command.at(-1) ?? "";
    // In the container, the CLI is process 1.
    const hook = script.split("\\t1'").join("\\t'$PID");
    assert.notEqual(hook, script);

    const application =
      "trap 'sleep 1; echo ended; exit' TERM; echo $$ >started; while true; do sleep 0.1; done";
    const stop = (preStop: string) => {
      const command = ["bash", "-c", STOP, "bash", preStop, ...applicationCommand(application)];
      return stack.runPodOf(FILE, { command });
    };
    assert.equal(await stop(hook), "ended");
    assert.equal(await stop(""), "");
  });

  /** Returns the container's command of esc-application.yaml with a Bash script as the application. */
  function applicationCommand(script: string): string[] {
    const { command } = podOf(FILE).container;
    return [...command.slice(0, command.indexOf("--") + 1), "bash", "-c", script];
  }
});
