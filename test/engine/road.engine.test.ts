// The README's commands work in their order, in an empty directory, and those of docs/copy.md in a copy.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { appendFile, mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { succeeded } from "../environment/engineOutcome";
import { createRepository, LINK_PACKAGES, SETTINGS, startEngine } from "../environment/engineStack";
import { type Cli, createProject, missingCli, pathOf } from "../environment/pulumiCli";
import { writePrograms } from "../support/programs";
import { blocksOf, codeIn, ROOT, read } from "../support/project";
import { ACCESS_TOKEN } from "../support/script";

/** What the README has to contain, in this order. */
const COMMANDS =
  /git clone.*npm ci && npm start.*pulumi new.*npm start.*pulumi up.*npm test.*pulumi destroy/s;

/** The list of a stack file, as `pulumi new` writes it. */
const LIST = /^ {2}(?:[\w-]+:)?serviceAccounts:\n(?: {4}.*\n)+/m;

/** The answers to `pulumi new`. All differ from the template's. */
const ANSWERS = { "aws:region": "eu-central-1", clusterName: "my-cluster" };

const TEMPLATE = read("Pulumi.dev.yaml");

// In a copy, its owner has changed the file.
test("`pulumi new` asks for the region and the cluster, and the template has all else that a first preview needs", {
  skip: TEMPLATE.includes("sample-login") ? false : "Pulumi.dev.yaml is not the template's",
}, () => {
  const asked = parse(read("Pulumi.yaml")).template.config;
  const { serviceAccounts: _, ...settings } = parse(TEMPLATE).config;
  assert.deepEqual(Object.keys(asked), Object.keys(settings));
  assert.equal(asked["aws:region"].default, settings["aws:region"]);
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
  const run = async (text: string) => {
    const outcome = await runBlock(cli, path, directory, text);
    printed += outcome.printed;
    directory = outcome.directory;
  };
  const file = () => join(directory, "Pulumi.dev.yaml");
  for (const { info, text } of blocks) {
    if (info === "bash") await run(text);
    if (text.includes("pulumi new")) {
      const created = await readFile(file(), "utf8");
      assertAnswered(created);
      await writeFile(file(), edited(created));
    }
    if (info === "yaml") {
      const replaced = (await readFile(file(), "utf8")).replace(LIST, text);
      assert.ok(replaced.includes(text));
      await writeFile(file(), replaced);
    }
  }
  assert.match(printed, /^Simulation of simulator\/sample\.yaml: .*^Simulation of stack dev: /ms);
  assert.match(printed, /pulumi-test\/app: "user:my-machine-user, 3600 s"/);
  const { kubernetes, pulumiCloud } = simulation.existing();
  assert.deepEqual([kubernetes, pulumiCloud], [["pulumi-test"], []]);
});

test("the commands for two YAML files create them, to be edited and deployed", {
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

  const commands = codeIn(read("docs/component.md"), "bash two-files").join("");
  const { directory, printed } = await runBlock(cli, path, bin, commands);
  assert.match(printed, /^pulumi stack\npulumi install\npulumi up$/m);
  const created = (file: string) => readFileSync(join(directory, file), "utf8");
  assert.match(created("Pulumi.dev.yaml"), /^ {2}clusterName: my-cluster$/m);
  assert.match(created("Pulumi.yaml"), /^ {4}type: eks-pulumi-oidc:PulumiCloudAccess$/m);
});

test("the commands of docs/token-types.md keep the state in a backend of one's own, and deploy as the login of Pulumi Cloud", {
  skip: missingCli,
}, async (t) => {
  const { simulation, cli } = await startEngine(t);
  const repository = await createRepository(cli);
  const bin = join(cli.directory, "bin");
  const bucket = join(cli.directory, "bucket");
  for (const directory of [bin, bucket]) await mkdir(directory);
  const path = writePrograms(bin, { pulumi: signedInPulumi(repository), npm: INSTALLING_AT_ONCE });

  const page = read("docs/token-types.md");
  const commands = codeIn(page, "bash bucket")
    .join("")
    .replace(/s3:[^"]*/, `file://${bucket}`);
  const environment = "unset PULUMI_ACCESS_TOKEN PULUMI_BACKEND_URL PULUMI_CONFIG_PASSPHRASE\n";
  const { directory } = await runBlock(cli, path, bin, environment + commands);

  const file = join(directory, "Pulumi.dev.yaml");
  const [organization = ""] = codeIn(page, "yaml");
  const [list = ""] = codeIn(read("README.md"), "yaml");
  const created = (await readFile(file, "utf8")).replace(
    "clusterName: sample-cluster",
    "clusterName: my-cluster",
  );
  await writeFile(file, created.replace(LIST, list).replace(/^config:\n/m, `config:\n${organization}`));
  const { printed } = await runBlock(
    cli,
    path,
    directory,
    `${environment}export PULUMI_CONFIG_PASSPHRASE=\npulumi up\n`,
  );
  assert.match(printed, /pulumi-test\/app: "user:my-machine-user, 3600 s"/);
  assert.equal(simulation.existing().pulumiCloud.length, 1);
  assert.deepEqual(
    readdirSync(join(bucket, ".pulumi", "stacks", "eks-pulumi-oidc")).includes("dev.json"),
    true,
  );
});

test("the commands of docs/copy.md upgrade a copy whose stack file `pulumi new` rewrote", {
  skip: missingCli,
}, async (t) => {
  const { cli } = await startEngine(t);
  const repository = await createRepository(cli);
  const run = (directory: string, text: string) => runBlock(cli, process.env.PATH ?? "", directory, text);
  const author = "-c user.name=author -c user.email=author@example.com";
  const commit = `git init --quiet && git add --all && git ${author} commit --quiet --message commit`;

  const { printed } = await run(repository, "git rev-parse HEAD");
  await run(
    repository,
    `pulumi new ${repository} --dir=../copy --name=copy --stack=dev --yes --generate-only`,
  );
  const copy = join(cli.directory, "copy");
  await run(copy, commit);

  const changed = ["LICENSE", "Pulumi.dev.yaml"];
  for (const file of changed) await appendFile(join(repository, file), "# New\n");
  await run(repository, commit);

  const [block = ""] = codeIn(read("docs/copy.md"), "bash upgrade");
  const commands = block.replaceAll("YOUR_COPY", copy).replace("OLD", printed.trim());
  const { screen } = await cli.run(repository, "bash", "-c", commands);
  assert.match(screen, /^Applied patch to 'LICENSE' cleanly\.$/m);
  assert.match(await readFile(join(copy, "LICENSE"), "utf8"), /^# New$/m);
});

test("a copy without what docs/copy.md removes, and without Git, compiles, previews, and passes the tests that it still has", {
  skip: missingCli,
}, async (t) => {
  const { cli } = await startEngine(t);
  const directory = await createProject(cli, SETTINGS, []);
  succeeded(await cli.run(directory, "bash", "-c", LINK_PACKAGES));
  const stackFile = join(directory, "Pulumi.dev.yaml");
  // What an owner may change: docs/configuration.md has a complete file.
  const [complete = ""] = codeIn(read("docs/configuration.md"), "yaml").filter((text) =>
    /^config:/m.test(text),
  );
  const [salt = ""] = /^encryptionsalt: .*$/m.exec(await readFile(stackFile, "utf8")) ?? [];
  await writeFile(stackFile, `${edited(complete)}${salt}\n`);

  const [commands = ""] = codeIn(read("docs/copy.md"), "bash");
  await runBlock(cli, process.env.PATH ?? "", directory, commands);
  succeeded(await cli.run(directory, "npx", "biome", "check", "--error-on-warnings"));
});

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

/** Returns a `pulumi` that signs in to Pulumi Cloud without asking it. */
function signedInPulumi(repository: string): string {
  const pulumi = pathOf("pulumi");
  const url = "https://api.pulumi.com";
  const credentials = { current: url, accessTokens: { [url]: ACCESS_TOKEN }, accounts: {} };
  return `
    export PULUMI_OPTION_NON_INTERACTIVE=true
    case $1 in
      login) mkdir -p "$PULUMI_HOME" && echo '${JSON.stringify(credentials)}' >"$PULUMI_HOME/credentials.json" ;;
      new) shift; exec '${pulumi}' new --yes "\${@/*eks-pulumi-oidc*/${repository}}" ;;
      up) exec '${pulumi}' "$@" --yes ;;
      *) exec '${pulumi}' "$@" ;;
    esac`;
}

/** An `npm` that installs the packages of this checkout for `npm ci`. */
const INSTALLING_AT_ONCE = `
  [[ $1 == ci ]] || exec '${pathOf("npm")}' "$@"
  ${LINK_PACKAGES}`;

/** Asserts that the file of the new stack has the answers and the template's list, and keeps what a reader must know. */
function assertAnswered(created: string): void {
  const [, prefix] = /such as\s+`([\w-]+):clusterName`/.exec(read("docs/configuration.md")) ?? [];
  const { "aws:region": region, clusterName } = ANSWERS;
  assert.deepEqual(parse(created).config, {
    "aws:region": region,
    [`${prefix}:clusterName`]: clusterName,
    [`${prefix}:serviceAccounts`]: parse(TEMPLATE).config.serviceAccounts,
  });
  // The CLI drops every comment but the one above the first setting.
  assert.match(created, /^config:\n {2}# serviceAccounts lists (?:.*\n {2}#)+.*\n {2}aws:region:/m);
}

/** Returns a stack file with an organization, which a file-backed stack has not. */
function edited(stackFile: string): string {
  return stackFile.replace(/^config:$/m, "config:\n  organization: acme");
}
