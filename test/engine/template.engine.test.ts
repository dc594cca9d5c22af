// What `pulumi new` creates from this repository, before and after the clean-up that the README offers.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { TEMPLATE_SETTINGS } from "../../simulator/stackFile";
import { succeeded } from "../support/engineOutcome";
import { startEngine } from "../support/engineStack";
import { codeIn, read } from "../support/project";
import { type Cli, missingCli } from "../support/pulumiCli";
import { cloneOf, createRepository, LINK_PACKAGES } from "../support/repository";

const ANSWERS = ["aws:region=eu-central-1", "clusterName=my-cluster", "userLogin=carol", "organization=acme"];

const SAMPLE_CLUSTER = { cluster: { name: "sample-cluster", hasOidcProvider: true } };

/** Where a dependency is used that no file imports, and how. */
const USES: Record<string, [file: string, use: string]> = {
  "@biomejs/biome": ["package.json", "biome check"],
  "@types/node": ["tsconfig.json", '"types": \\["node"\\]'],
  tsx: ["component/index.js", 'require\\("tsx/'],
  typescript: ["package.json", '"tsc'],
};

describe("pulumi new", { skip: missingCli }, () => {
  test("asks for what Pulumi.dev.yaml has, which the simulator knows: region, cluster, and login", () => {
    const { template } = parse(read("Pulumi.yaml"));
    assert.deepEqual(Object.keys(template.config), ["aws:region", "clusterName", "userLogin"]);
    const shipped = parse(read("Pulumi.dev.yaml")).config;
    assert.deepEqual(Object.keys(shipped), Object.keys(template.config));
    assert.deepEqual(shipped, TEMPLATE_SETTINGS);
  });

  test("saves for a new stack the default of a question without an answer", async (t) => {
    const { directory } = await newProject(t, "prod", ["organization=acme"]);
    assert.deepEqual(savedSettings(directory, "prod"), {
      "aws:region": "us-west-2",
      "other:organization": "acme",
    });
  });

  test("a stack dev without answers has a sample in the simulation, and every preview names what it has from the template", async (t) => {
    const { cli, directory } = await newProject(t, "dev", [], SAMPLE_CLUSTER);
    const { stdout } = succeeded(await cli.run(directory, "npm", "start"));
    assert.match(
      stdout,
      /^Simulation of the sample stack: .*\n {2}Its settings are in simulator\/sample\.yaml\./m,
    );

    const set = async (...setting: string[]) =>
      succeeded(await cli.pulumi(directory, "config", "set", ...setting));
    await set("organization", "acme");
    const note =
      "Pulumi.dev.yaml still has the template's clusterName (sample-cluster) and userLogin (sample-login).";
    assert.ok(succeeded(await cli.pulumi(directory, "preview")).screen.includes(`warning: ${note}`));

    await set("userLogin", "carol");
    const { screen } = succeeded(await cli.pulumi(directory, "preview"));
    assert.match(screen, /template's clusterName \(sample-cluster\)\. Replace/);
  });

  test("saves the answers with the prefix that the README names, and keeps the sample entry below config:", async (t) => {
    const { directory } = await newProject(t, "dev", ANSWERS, {}, []);
    const [, prefix] = /as in `([\w-]+):clusterName`/.exec(read("README.md")) ?? [];
    assert.deepEqual(savedSettings(directory, "dev"), {
      "aws:region": "eu-central-1",
      [`${prefix}:clusterName`]: "my-cluster",
      [`${prefix}:userLogin`]: "carol",
      [`${prefix}:organization`]: "acme",
    });
    const file = readFileSync(join(directory, "Pulumi.dev.yaml"), "utf8");
    // Editors find the schema in the copy.
    const [, schema = ""] = /^# yaml-language-server: \$schema=(.*)\n/.exec(file) ?? [];
    assert.deepEqual(readFileSync(join(directory, schema), "utf8"), read("settings/stack.schema.json"));
    // The CLI moves a comment at the end of the file out of config:.
    assert.match(file, /^config:\n(?: {2}#.*\n)* {2}# serviceAccounts:\n(?: {2}#.*\n)+ {2}aws:region:/m);
  });

  test("the README's clean-up leaves no unused file, script, dependency, or link", async (t) => {
    const { cli, directory } = await newProject(t, "dev", ANSWERS);
    const readme = readFileSync(join(directory, "README.md"), "utf8");
    const cleanUps = codeIn(readme, "bash").filter((block) => block.startsWith("rm -rf "));
    const [template = "", component = "", pipeline = ""] = cleanUps;
    const before = await filesOf(cli, directory);

    for (const [cleanUp, file] of [
      [template, "simulator/start.ts"],
      [component, "component/index.ts"],
      [pipeline, "pipeline/index.ts"],
    ] as const) {
      succeeded(await cli.run(directory, "bash", "-ec", cleanUp));
      const after = await filesOf(cli, directory);
      const removed = [...before.keys()].filter((path) => !after.has(path));
      assert.ok(removed.includes(file), "the README has no such clean-up");
      assert.deepEqual(deadReferences(directory, after, removed), []);
      // road.engine.test.ts compiles what is left of all.
      succeeded(await cli.run(directory, "npx", "biome", "check", "--error-on-warnings"));
      succeeded(await cli.pulumi(directory, "preview"));
    }
  });
});

/** Lists what refers to a removed file, a missing script, or a missing page, and packages that nothing uses. */
function deadReferences(directory: string, files: Map<string, string>, removed: string[]): string[] {
  const { scripts, dependencies, devDependencies, allowScripts } = JSON.parse(
    files.get("package.json") ?? "{}",
  );
  const references = [...files].flatMap(([path, content]) => {
    // A workflow checks for the simulator and for .ci/run before it runs them.
    const text = content.replace(/- if: hashFiles\('.+?'\).*?(?=\n +- |$(?!\n))/gs, "");
    const commands = text.match(/\bnpm (run \w[\w:]*|start|test)\b/g) ?? [];
    const links = (path.endsWith(".md") && text.match(/(?<=\]\()(?!https?:)[^)#]+/g)) || [];
    return [
      ...removed.filter((name) => text.includes(name)),
      ...commands.filter((command) => !Object.hasOwn(scripts, command.split(" ").at(-1) ?? "")),
      ...links.filter((link) => !existsSync(join(directory, dirname(path), link))),
    ].map((reference) => `${path}: ${reference}`);
  });
  const unused = Object.keys({ ...dependencies, ...devDependencies }).filter((name) => {
    const [file, use] = USES[name] ?? [".ts", `"${name}["/]`];
    return ![...files].some(([path, text]) => path.endsWith(file) && RegExp(use).test(text));
  });
  const uninstalled = Object.keys(allowScripts).filter(
    (name) => !existsSync(join(directory, "node_modules", name)),
  );
  return [...references, ...unused, ...uninstalled];
}

/** Returns the content of each text file by its path, except what npm writes. */
async function filesOf(cli: Cli, directory: string): Promise<Map<string, string>> {
  const exclude = ["--exclude-dir=node_modules", "--exclude=package-lock.json"];
  const { stdout } = succeeded(await cli.run(directory, "grep", "-rIl", ...exclude, ""));
  const paths = stdout.trim().split("\n").sort();
  return new Map(paths.map((path) => [path, readFileSync(join(directory, path), "utf8")]));
}

/**
 * Creates a project as a user does: the template is a clone, which contains what git keeps. The packages are there already;
 * road.engine.test.ts installs them.
 */
async function newProject(
  t: TestContext,
  stack: string,
  answers: string[],
  options: Parameters<typeof startEngine>[1] = {},
  name = ["--name", "other"],
): Promise<{ cli: Cli; directory: string }> {
  const { cli } = await startEngine(t, options);
  const clone = await cloneOf(cli, await createRepository(cli));
  const directory = join(cli.directory, "new");
  await mkdir(directory);
  succeeded(await cli.run(directory, "bash", "-c", LINK_PACKAGES));
  const flags = ["--force", ...name, "--stack", stack, ...answers.flatMap((answer) => ["-c", answer])];
  succeeded(await cli.pulumi(directory, "new", clone, "--yes", ...flags));
  return { cli, directory };
}

function savedSettings(directory: string, stack: string): Record<string, unknown> {
  return parse(readFileSync(join(directory, `Pulumi.${stack}.yaml`), "utf8")).config;
}
