// The Pulumi CLI in the pods of examples/deployment.yaml and examples/scheduled-update.yaml.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { emptyStack, succeeded } from "./engineStack";
import { type ExamplesStack, podOf, startExamplesStack } from "./examples";
import { missingCli } from "./pulumiCli";

const FILE = "deployment.yaml";
const ESC = "esc-application.yaml";
const SECRET = "correct horse";

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

const WHOAMI = ["bash", "-c", 'pulumi whoami || true; find "$PULUMI_HOME" -name credentials.json'];

describe("the Pulumi CLI in the pod of deployment.yaml", { skip: missingCli }, () => {
  let stack: ExamplesStack;
  before(async () => {
    stack = await startExamplesStack();
  });
  after(() => stack.simulation.close());

  test("receives a token from the credential helper, and does not store it", async () => {
    const { exchanges } = stack.simulation.pulumiCloud;
    const before = exchanges.length;
    assert.equal(await stack.runPodOf(FILE, { command: WHOAMI }), "acme");
    assert.deepEqual(exchanges.slice(before), [{ status: 200, reason: "team token, scope team:apps" }]);
  });

  test("prints the denial of the credential helper", async () => {
    const [scope] = structuredClone(podOf(FILE).container.env);
    assert.ok(scope);
    const env = [...podOf(FILE).container.env, { ...scope, name: "PULUMI_TOKEN_SCOPE", value: "team:other" }];
    const log = await stack.runPodOf(FILE, { command: WHOAMI, env });
    assert.match(log, /denied the token exchange/);
    assert.match(log, /team, scope team:other/);
    assert.match(log, /exit status 77$/m);
  });
});

describe("the Pulumi CLI in other pods", { skip: missingCli }, () => {
  let stack: ExamplesStack;
  before(async () => {
    stack = await startExamplesStack({ "acme/shop/production": { DATABASE_PASSWORD: SECRET } });
  });
  after(() => stack.simulation.close());

  test("of token-check.yaml prints the owner of the token", async () => {
    assert.equal(await stack.runPodOf("token-check.yaml", {}), "acme");
  });

  test("of token-check.yaml fails when the exchange is denied", async () => {
    const { pulumiCloud } = stack.simulation;
    const [issuer = assert.fail()] = pulumiCloud.list();
    await pulumiCloud.update(issuer.id, { policies: [] });
    const { command } = podOf("token-check.yaml").container;
    const log = await stack.runPodOf("token-check.yaml", {
      command: ["bash", "-c", '"$@" || echo "exit code $?"', "bash", ...command],
    });
    await pulumiCloud.update(issuer.id, issuer.registration);
    assert.match(log, /denied the token exchange/);
    assert.match(log, /^exit code [1-9]/m);
  });

  test("of esc-application.yaml gives the application its secrets, and no access token", async () => {
    const { exchanges } = stack.simulation.pulumiCloud;
    const before = exchanges.length;
    const log = await stack.runPodOf(ESC, {
      command: applicationCommand('[[ $DATABASE_PASSWORD == "correct horse" ]] && compgen -e'),
    });
    assert.match(log, /^DATABASE_PASSWORD$/m);
    assert.doesNotMatch(log, /PULUMI_ACCESS_TOKEN/);
    assert.deepEqual(exchanges.slice(before), [{ status: 200, reason: "team token, scope team:shop" }]);
  });

  test("of esc-application.yaml hides the secrets in what the application prints", async () => {
    const command = applicationCommand("echo is $DATABASE_PASSWORD; echo is $DATABASE_PASSWORD >&2");
    assert.equal(await stack.runPodOf(ESC, { command }), "is [secret]\nis [secret]");
  });

  test("of esc-application.yaml waits until the application has ended, with its preStop hook only", async () => {
    const { lifecycle } = podOf(ESC).container;
    const script = lifecycle.preStop.exec.command.at(-1) ?? "";
    // In the container, the CLI is process 1.
    const hook = script.split("\\t1'").join("\\t'$PID");
    assert.notEqual(hook, script);

    const application =
      "trap 'sleep 1; echo ended; exit' TERM; echo $$ >started; while true; do sleep 0.1; done";
    const stop = (preStop: string) => {
      const command = ["bash", "-c", STOP, "bash", preStop, ...applicationCommand(application)];
      return stack.runPodOf(ESC, { command });
    };
    assert.equal(await stop(hook), "ended");
    assert.equal(await stop(""), "");
  });

  /** Returns the container's command of esc-application.yaml with a Bash script as the application. */
  function applicationCommand(script: string): string[] {
    const { command } = podOf(ESC).container;
    return [...command.slice(0, command.indexOf("--") + 1), "bash", "-c", script];
  }
});

test("the CLI in scheduled-update.yaml finishes what it is creating when its pod is deleted", {
  skip: missingCli,
}, async (t) => {
  const { simulation, cli, directory, pulumi } = await emptyStack(t);
  const roles = simulation.resources["aws:iam/role:Role"] ?? assert.fail("no roles");
  const create = roles.create.bind(roles);
  const creation = t.mock.method(roles, "create", async (...args: Parameters<typeof create>) => {
    await writeFile(join(directory, "creating"), "");
    await setTimeout(3000);
    return create(...args);
  });

  const script = podOf("scheduled-update.yaml").container.command.at(-1) ?? "";
  const [update = assert.fail("no update")] = /^exec timeout .*/ms.exec(script) ?? [];
  const deletePod = "while [[ ! -e creating ]]; do sleep 0.1; done; kill -TERM $$";
  const outcome = await cli.run(
    directory,
    "bash",
    "-ec",
    `STACK=dev TIME_LIMIT=1h; (${deletePod}) & ${update}`,
  );

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
