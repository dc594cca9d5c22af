// The README's commands work in their order, in an empty directory.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse, stringify } from "yaml";
import { succeeded } from "../support/engineOutcome";
import { startEngine } from "../support/engineStack";
import { writePrograms } from "../support/programs";
import { blocksOf } from "../support/project";
import { type Cli, missingCli, pathOf, useWholeSdk } from "../support/pulumiCli";
import { createRepository, LINK_PACKAGES } from "../support/repository";

useWholeSdk();

describe("the README's commands, from the clone to `pulumi destroy`", { skip: missingCli }, () => {
  test("work with a stack dev, and the tests pass in the copy", async (t) => {
    const printed = await walk(t, "dev", { everything: true });
    assert.match(printed, /^Simulation of the sample stack: .*^Simulation of stack dev: /ms);
  });

  test("work with a stack prod", async (t) => {
    const printed = await walk(t, "prod", { everything: false });
    assert.match(printed, /^Simulation of the sample stack: .*^Simulation of stack prod: /ms);
  });
});

/**
 * Runs every command of the README, and writes its complete stack file where it says so.
 *
 * @param everything whether to run in the copy also what takes long: the real installation of `pulumi new`, `npm test` with
 * the copy's stack file, and `npx tsc`.
 * @returns what the commands print.
 */
async function walk(t: TestContext, stack: string, { everything }: { everything: boolean }): Promise<string> {
  const { simulation, cli } = await startEngine(t);
  const repository = await createRepository(cli);
  // git finds the repository at the URL of the README.
  const url = "https://github.com/OWNER/eks-pulumi-oidc.git";
  await writeFile(join(cli.directory, ".gitconfig"), `[url "${repository}"]\n\tinsteadOf = ${url}\n`);
  const bin = join(cli.directory, "bin");
  await mkdir(bin);
  const path = writePrograms(bin, {
    pulumi: answeringPulumi(stack, repository),
    npm: installingAtOnce(everything ? "-n ''" : "! -e node_modules"),
  });

  const blocks = blocksOf(await readFile(join(repository, "README.md"), "utf8"));
  const commands = blocks.filter(({ info }) => info === "bash").map(({ text }) => text);
  const order = [
    "git clone",
    "npm ci && npm start",
    "pulumi new",
    "pulumi up",
    "npm test",
    "rm -rf simulator",
  ];
  const further = ["rm -rf component", "rm -rf pipeline", "npx tsc", "pulumi preview", "pulumi destroy"];
  const found = [...order, ...further].map((command) => commands.join("\n").indexOf(command));
  assert.deepEqual(
    found,
    found.toSorted((a, b) => a - b),
    "the README has other commands",
  );
  assert.ok(!found.includes(-1), "the README lacks a command");

  const skipped = everything ? /^npm test\b.*$/m : /^(npm test|npx tsc)\b.*$/m;
  let directory = await mkdtemp(join(cli.directory, "road-"));
  let printed = "";
  for (const { info, text } of blocks) {
    if (info === "yaml" && /^config:/m.test(text)) await editStack(directory, stack, text);
    if (info !== "bash") continue;

    const outcome = await runBlock(cli, path, directory, text.replace(skipped, ""));
    printed += outcome.printed;
    directory = outcome.directory;
  }
  const { kubernetes, pulumiCloud } = simulation.existing();
  assert.deepEqual(
    [kubernetes.toSorted(), pulumiCloud],
    [["team-a", "web"], []],
    "more is left than namespaces",
  );
  return printed;
}

/** Runs commands in a directory, and returns in which one they end. */
async function runBlock(
  cli: Cli,
  path: string,
  directory: string,
  commands: string,
): Promise<{ printed: string; directory: string }> {
  const end = join(cli.directory, "end");
  const script = ["set -e", `PATH=${path}`, commands, `pwd >${end}`].join("\n");
  const { screen } = succeeded(await cli.run(directory, "bash", "-c", script));
  return { printed: screen, directory: (await readFile(end, "utf8")).trim() };
}

/** Returns a `pulumi` that answers what the CLI asks on a terminal, and finds the template at the URL of the README. */
function answeringPulumi(stack: string, repository: string): string {
  const pulumi = pathOf("pulumi");
  const answers = ["aws:region=us-west-2", "clusterName=my-cluster", "userLogin=carol"];
  const options = ["--yes", "--stack", stack, ...answers.flatMap((answer) => ["--config", answer])];
  return `
    export PULUMI_OPTION_NON_INTERACTIVE=true
    case $1 in
      new) shift; exec '${pulumi}' new ${options.join(" ")} "\${@/*eks-pulumi-oidc*/${repository}}" ;;
      up | destroy) exec '${pulumi}' "$@" --yes ;;
      *) exec '${pulumi}' "$@" ;;
    esac`;
}

/** Returns an `npm` that installs the packages of this checkout, for `npm ci` and under a condition of bash. */
function installingAtOnce(condition: string): string {
  return `
    [[ $1 == ci || ($1 == install && ${condition}) ]] || exec '${pathOf("npm")}' "$@"
    rm -rf node_modules
    ${LINK_PACKAGES}`;
}

/** Replaces the settings of a stack, as a user does who edits the file. A file-backed stack has no organization. */
async function editStack(directory: string, stack: string, text: string): Promise<void> {
  const file = join(directory, `Pulumi.${stack}.yaml`);
  const { config } = parse(text);
  const edited = { ...parse(await readFile(file, "utf8")), config: { organization: "acme", ...config } };
  await writeFile(file, stringify(edited));
}
