// The Pulumi CLI in the pods of examples/, with an emulated Pulumi Cloud and Pulumi ESC.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ExamplesStack, exampleOf, podOf, startExamplesStack } from "../support/examples";
import { runPodSpec } from "../support/podSpec";
import { missingCli } from "../support/pulumiCli";

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

describe("the Pulumi CLI in the pod of", { skip: missingCli }, () => {
  const lines: string[] = [];
  let stack: ExamplesStack;
  before(async () => {
    const onLog = (line: string) => lines.push(line);
    stack = await startExamplesStack({ answer: answerOfEsc, runPod: runPodSpec, onLog });
  });
  after(() => stack.simulation.close());

  /** Runs the pod of an example, as the pod of a Job, and returns its log and what its exchanges were granted. */
  async function run(file: string, command: string[]) {
    const { resources, pulumiCloud } = stack.simulation;
    const { spec, container } = podOf(file);
    const pod = { ...spec, restartPolicy: "Never", containers: [{ ...container, command }] };
    const metadata = { namespace: exampleOf(file).entry.namespace, name: `example-${Math.random()}` };
    const job = { metadata, spec: { activeDeadlineSeconds: 60, template: { spec: pod } } };
    const exchanges = pulumiCloud.exchanges.length;
    lines.length = 0;
    await resources["kubernetes:batch/v1:Job"]?.create("example", job);
    const granted = pulumiCloud.exchanges.slice(exchanges).map(({ reason }) => reason);
    return { log: lines.join("\n"), granted };
  }

  test("token-check.yaml prints the owner of the token, which it does not store", async () => {
    // With the files that contain an access token.
    const check = '"$@"; ! grep -rlE "pul-[0-9a-f]{8}" "$HOME"';
    const command = ["bash", "-c", check, "bash", ...podOf("token-check.yaml").container.command];
    const granted = ["team token, scope team:token-check"];
    assert.deepEqual(await run("token-check.yaml", command), { log: "team-account:token-check", granted });
  });

  /** Returns the container's command of esc-application.yaml with a Bash script as the application. */
  function applicationCommand(script: string): string[] {
    const { command } = podOf("esc-application.yaml").container;
    return [...command.slice(0, command.indexOf("--") + 1), "bash", "-c", script];
  }

  test("esc-application.yaml gives the application its secrets, hides them in the log, and gives it no access token", async () => {
    const script = `[[ $DATABASE_PASSWORD == "${SECRET}" ]] && compgen -e
      echo it is $DATABASE_PASSWORD; echo it is $DATABASE_PASSWORD >&2`;
    const { log, granted } = await run("esc-application.yaml", applicationCommand(script));
    assert.match(log, /^DATABASE_PASSWORD$/m);
    assert.doesNotMatch(log, /PULUMI_ACCESS_TOKEN/);
    assert.deepEqual(log.match(/^it is .*/gm), ["it is [secret]", "it is [secret]"]);
    assert.deepEqual(granted, ["team token, scope team:shop"]);
  });

  /** Starts a command, and stops it as the kubelet does: first with the preStop hook, `$1`, and then with SIGTERM. */
  const STOP = `
    hook=$1
    shift
    "$@" &
    export PID=$!
    until [[ -s started ]]; do sleep 0.1; done
    timeout 20 bash -c "$hook"
    kill -TERM "$PID" 2>/dev/null
    wait "$PID"
    # What Kubernetes does to the rest of the container.
    kill -KILL "$(<started)" 2>/dev/null
    true`;

  test("esc-application.yaml waits until the application has ended, with its preStop hook", async () => {
    const { lifecycle } = podOf("esc-application.yaml").container;
    const script = lifecycle.preStop.exec.command.at(-1) ?? "";
    // In the container, the CLI is process 1.
    const hook = script.split("\\t1'").join("\\t'$PID");
    assert.notEqual(hook, script);

    const application =
      "trap 'sleep 1; echo ended; exit' TERM; echo $$ >started; while true; do sleep 0.1; done";
    const command = ["bash", "-c", STOP, "bash", hook, ...applicationCommand(application)];
    assert.equal((await run("esc-application.yaml", command)).log, "ended");
  });
});
