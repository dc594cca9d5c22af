// The Pulumi CLI in the pods of examples/, with an emulated Pulumi Cloud and Pulumi ESC.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { succeeded } from "../support/engineOutcome";
import { emptyStack } from "../support/engineStack";
import { type ExamplesStack, podOf, startExamplesStack } from "../support/examples";
import { runPodSpecWithCli } from "../support/podSpec";
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
  let stack: ExamplesStack;
  before(async () => {
    stack = await startExamplesStack({ answer: answerOfEsc, runPod: runPodSpecWithCli });
  });
  after(() => stack.simulation.close());

  /** Runs something, and returns what the exchanges meanwhile were granted. */
  async function grantedDuring(run: () => Promise<void>): Promise<string[]> {
    const { exchanges } = stack.simulation.pulumiCloud;
    const before = exchanges.length;
    await run();
    return exchanges.slice(before).map(({ status, reason }) => `${status} ${reason}`);
  }

  // With the files that contain an access token.
  const WHOAMI = ["bash", "-c", 'pulumi whoami || true; ! grep -rlE "pul-[0-9a-f]{8}" "$HOME"'];

  test("deployment.yaml receives a token from the credential helper, and does not store it", async () => {
    const granted = await grantedDuring(async () => {
      assert.equal(await stack.runPodOf("deployment.yaml", { command: WHOAMI }), "acme");
    });
    assert.deepEqual(granted, ["200 team token, scope team:apps"]);
  });

  test("deployment.yaml prints the denial of the credential helper", async () => {
    const metadata = { namespace: "apps", name: "deployer-pulumi-token-exchange" };
    const data = { ...stack.mountedBy("deployment.yaml"), tokenScope: "team:other" };
    const configMaps = stack.simulation.resources["kubernetes:core/v1:ConfigMap"];
    await configMaps?.update("apps/deployer-pulumi-token-exchange", { metadata, data });
    const log = await stack.runPodOf("deployment.yaml", { command: WHOAMI });
    assert.match(log, /denied the token exchange.*team, scope team:other.*exit status 77$/ms);
  });

  test("token-check.yaml prints the owner of the token, and fails when the exchange is denied", async () => {
    assert.equal(await stack.runPodOf("token-check.yaml", {}), "acme");

    const { pulumiCloud } = stack.simulation;
    const [{ id, registration } = assert.fail()] = pulumiCloud.list();
    await pulumiCloud.update(id, { policies: [] });
    const { command } = podOf("token-check.yaml").container;
    const reporting = ["bash", "-c", '"$@" || echo "exit code $?"', "bash", ...command];
    const log = await stack.runPodOf("token-check.yaml", { command: reporting });
    await pulumiCloud.update(id, registration);
    assert.match(log, /denied the token exchange.*^exit code [1-9]/ms);
  });

  /** Returns the container's command of esc-application.yaml with a Bash script as the application. */
  function applicationCommand(script: string): string[] {
    const { command } = podOf("esc-application.yaml").container;
    return [...command.slice(0, command.indexOf("--") + 1), "bash", "-c", script];
  }

  test("esc-application.yaml gives the application its secrets, and no access token", async () => {
    const command = applicationCommand(`[[ $DATABASE_PASSWORD == "${SECRET}" ]] && compgen -e`);
    const granted = await grantedDuring(async () => {
      const log = await stack.runPodOf("esc-application.yaml", { command });
      assert.match(log, /^DATABASE_PASSWORD$/m);
      assert.doesNotMatch(log, /PULUMI_ACCESS_TOKEN/);
    });
    assert.deepEqual(granted, ["200 team token, scope team:shop"]);
  });

  test("esc-application.yaml hides the secrets in what the application prints", async () => {
    const command = applicationCommand("echo is $DATABASE_PASSWORD; echo is $DATABASE_PASSWORD >&2");
    assert.equal(await stack.runPodOf("esc-application.yaml", { command }), "is [secret]\nis [secret]");
  });

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

  test("esc-application.yaml waits until the application has ended, with its preStop hook only", async () => {
    const { lifecycle } = podOf("esc-application.yaml").container;
    const script = lifecycle.preStop.exec.command.at(-1) ?? "";
    // In the container, the CLI is process 1.
    const hook = script.split("\\t1'").join("\\t'$PID");
    assert.notEqual(hook, script);

    const application =
      "trap 'sleep 1; echo ended; exit' TERM; echo $$ >started; while true; do sleep 0.1; done";
    const stop = (preStop: string) => {
      const command = ["bash", "-c", STOP, "bash", preStop, ...applicationCommand(application)];
      return stack.runPodOf("esc-application.yaml", { command });
    };
    assert.equal(await stop(hook), "ended");
    assert.equal(await stop(""), "");
  });

  test("scheduled-update.yaml finishes what it is creating when its pod is deleted", async (t) => {
    const { simulation, cli, directory, pulumi } = await emptyStack(t);
    const roles = simulation.resources["aws:iam/role:Role"] ?? assert.fail("no roles");
    const create = roles.create.bind(roles);
    const creation = t.mock.method(roles, "create", async (...args: Parameters<typeof create>) => {
      await writeFile(join(directory, "creating"), "");
      await setTimeout(3000);
      return create(...args);
    });

    const script = podOf("scheduled-update.yaml").container.command.at(-1) ?? "";
    const update = script.replace(/^git clone .*^pulumi install$/ms, "");
    assert.notEqual(update, script);
    // Twice: at a second SIGTERM, the CLI ends at once.
    const deletePod = `while [[ ! -e creating ]]; do sleep 0.1; done; kill -s TERM $$; sleep 1; kill -s TERM $$`;
    const command = `STACK=dev TIME_LIMIT=30; (${deletePod}) & ${update}`;
    const outcome = await cli.run(directory, "bash", "-euc", command);

    assert.match(outcome.screen, /SIGTERM received; cancelling/);
    assert.notEqual(outcome.exitCode, 0);
    const { deployment } = JSON.parse((await pulumi("stack", "export")).stdout);
    const created = deployment.resources.map(({ type }: { type: string }) => type);
    assert.ok(created.includes("aws:iam/role:Role"), outcome.screen);
    assert.ok(!created.includes("kubernetes:batch/v1:Job"), "an operation was started after the signal");
    assert.equal(deployment.pending_operations, undefined);

    succeeded(await pulumi("up", "--yes", "--skip-preview"));
    assert.equal(creation.mock.callCount(), 1);
  });
});
