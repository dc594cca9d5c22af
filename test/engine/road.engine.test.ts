// The README's commands work in their order, in an empty directory, and those of docs/copy.md in a copy.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { succeeded } from "../environment/engineOutcome";
import {
  createRepository,
  LINK_PACKAGES,
  SETTINGS,
  startEngine,
  TEMPLATE_SETTINGS,
} from "../environment/engineStack";
import { type Cli, createProject, missingCli, pathOf } from "../environment/pulumiCli";
import { writePrograms } from "../support/programs";
import { blocksOf, codeIn, ROOT, read } from "../support/project";

/** What the README has to contain, in this order. */
const COMMANDS =
  /git clone.*npm ci && npm start.*pulumi new.*npm start.*pulumi up.*npm test.*pulumi destroy/s;

/** The complete file of a stack in the README. */
const STACK_FILE = codeIn(read("README.md"), "yaml").find((text) => /^config:/m.test(text)) ?? assert.fail();

/** The answers to `pulumi new`. All differ from the template's. */
const ANSWERS = { "aws:region": "eu-central-1", clusterName: "my-cluster" };

test("`pulumi new` asks for the region and the cluster; the simulator knows all that Pulumi.dev.yaml has", () => {
  const { config } = parse(read("Pulumi.yaml")).template;
  const settings = TEMPLATE_SETTINGS;
  assert.deepEqual(parse(read("Pulumi.dev.yaml")).config, settings);
  assert.deepEqual(Object.keys(config), ["aws:region", "clusterName"]);
  assert.equal(config["aws:region"].default, settings["aws:region"]);
});

test("the README's commands work from the clone to `pulumi destroy`", { skip: missingCli }, async (t) => {
  const { simulation, cli } = await startEngine(t);
  const repository = await createRepository(cli);
  const bin = join(cli.directory, "bin");
  await mkdir(bin);
  const path = writePrograms(bin, { pulumi: answeringPulumi(repository), npm: INSTALLING_AT_ONCE });

  const blocks = blocksOf(await readFile(join(repository, "README.md"), "utf8"));
  const commands = blocks.filter(({ info }) => info === "bash").map(({ text }) => text);
  assert.match(commands.join(""), COMMANDS);

  let directory = await mkdtemp(join(cli.directory, "road-"));
  let printed = "";
  for (const { info, text } of blocks) {
    if (text === STACK_FILE) {
      const file = join(directory, "Pulumi.dev.yaml");
      const created = await readFile(file, "utf8");
      assertAnswered(directory, created);
      await writeFile(file, edited(created, text));
    }
    if (info !== "bash") continue;

    const outcome = await runBlock(cli, path, directory, text);
    printed += outcome.printed;
    directory = outcome.directory;
  }
  assert.match(printed, /^Simulation of the sample stack: .*^Simulation of stack dev: /ms);
  const { kubernetes, pulumiCloud } = simulation.existing();
  assert.deepEqual(kubernetes.toSorted(), ["ops", "team-a"], "only namespaces stay");
  assert.deepEqual(pulumiCloud, []);
});

test("the README's commands for two YAML files create them, to be edited and deployed", {
  skip: missingCli,
}, async (t) => {
  const { cli } = await startEngine(t);
  const bin = join(cli.directory, "bin");
  await mkdir(bin);
  // The package is not published yet.
  const pulumi = `
    if [[ $1 != new ]]; then echo "pulumi $1"; exit; fi
    exec '${pathOf("pulumi")}' new "\${@:2:3}" '${ROOT}'/"\${5#*/tree/main/}" --yes`;
  const path = writePrograms(bin, { pulumi });

  const commands = codeIn(read("README.md"), "bash two-files").join("");
  const { directory, printed } = await runBlock(cli, path, bin, commands);
  assert.match(printed, /^pulumi stack\npulumi install\npulumi up$/m);
  const created = (file: string) => readFileSync(join(directory, file), "utf8");
  assert.match(created("Pulumi.dev.yaml"), /^ {2}clusterName: my-cluster$/m);
  assert.match(created("Pulumi.yaml"), /^ {4}type: eks-pulumi-oidc:PulumiCloudAccess$/m);
});

/** The blocks of commands of docs/copy.md, by the part that each removes. */
const [SIMULATOR = "", POLICY = "", COMPONENT = "", PIPELINE = "", CHECK = ""] = codeIn(
  read("docs/copy.md"),
  "bash",
);

const REMOVALS: { part: string; commands: string[] }[] = [
  { part: "the component and the pipeline", commands: [COMPONENT, PIPELINE] },
  { part: "all parts", commands: [SIMULATOR, POLICY, COMPONENT, PIPELINE] },
  { part: "the simulator and the tests", commands: [SIMULATOR] },
];

for (const { part, commands } of REMOVALS) {
  const name = `without ${part} and without Git, a copy compiles, previews, and passes the tests that it still has`;
  test(name, { skip: missingCli }, async (t) => {
    const { cli } = await startEngine(t);
    const directory = await createProject(cli, SETTINGS, []);
    succeeded(await cli.run(directory, "bash", "-c", LINK_PACKAGES));
    const stackFile = join(directory, "Pulumi.dev.yaml");
    await writeFile(stackFile, edited(await readFile(stackFile, "utf8"), STACK_FILE));

    await runBlock(cli, process.env.PATH ?? "", directory, [...commands, CHECK].join(""));
    succeeded(await cli.run(directory, "npx", "biome", "check", "--error-on-warnings"));
  });
}

/** Runs commands in a directory, and returns in which one they end. */
async function runBlock(cli: Cli, path: string, directory: string, commands: string) {
  const end = join(cli.directory, "end");
  const script = ["set -e", `PATH=${path}`, commands, `pwd >${end}`].join("\n");
  const { screen } = succeeded(await cli.run(directory, "bash", "-c", script));
  return { printed: screen, directory: (await readFile(end, "utf8")).trim() };
}

/** Returns a `pulumi` that answers what the CLI asks on a terminal, and finds the template at the URL of the README. */
function answeringPulumi(repository: string): string {
  const pulumi = pathOf("pulumi");
  const answers = Object.entries(ANSWERS).map(([key, answer]) => `--config=${key}=${answer}`);
  const options = ["--yes", "--stack=dev", ...answers];
  return `
    export PULUMI_OPTION_NON_INTERACTIVE=true
    case $1 in
      new) shift; exec '${pulumi}' new ${options.join(" ")} "\${@/*eks-pulumi-oidc*/${repository}}" ;;
      up | destroy) exec '${pulumi}' "$@" --yes ;;
      *) exec '${pulumi}' "$@" ;;
    esac`;
}

/** An `npm` that installs the packages of this checkout for `npm ci`. */
const INSTALLING_AT_ONCE = `
  [[ $1 == ci ]] || exec '${pathOf("npm")}' "$@"
  ${LINK_PACKAGES}`;

/** Asserts that the file of the new stack has the answers and the template's list, and keeps what a reader must know. */
function assertAnswered(directory: string, created: string): void {
  const [, prefix] = /such as `([\w-]+):clusterName`/.exec(read("README.md")) ?? [];
  const { "aws:region": region, clusterName } = ANSWERS;
  assert.deepEqual(parse(created).config, {
    "aws:region": region,
    [`${prefix}:clusterName`]: clusterName,
    [`${prefix}:serviceAccounts`]: TEMPLATE_SETTINGS.serviceAccounts,
  });
  // Editors find the schema in the copy.
  const [, schema = ""] = /^# yaml-language-server: \$schema=(.*)\n/.exec(created) ?? [];
  assert.equal(readFileSync(join(directory, schema), "utf8"), read("settings/stack.schema.json"));
  // The CLI drops every comment but the one above the first setting.
  assert.match(created, /^config:\n {2}# serviceAccounts lists (?:.*\n {2}#)+.*\n {2}aws:region:/m);
}

/** Replaces the settings of a stack, as a user does who edits its file. A file-backed stack has no organization. */
function edited(created: string, settings: string): string {
  const [salt = ""] = /^encryptionsalt: .*$/m.exec(created) ?? [];
  return `${settings.replace(/^config:$/m, "config:\n  organization: acme")}${salt}\n`;
}
