// What `pulumi new` creates from this repository. road.engine.test.ts runs it with the real installation.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { TEMPLATE_SETTINGS } from "../../simulator/stackFile";
import { succeeded } from "../support/engineOutcome";
import { startEngine } from "../support/engineStack";
import { writePrograms } from "../support/programs";
import { ROOT, read } from "../support/project";
import { missingCli } from "../support/pulumiCli";
import { cloneOf, createRepository } from "../support/repository";

describe("pulumi new", { skip: missingCli }, () => {
  test("asks for what Pulumi.dev.yaml has, which the simulator knows: region, cluster, and login", () => {
    const { template } = parse(read("Pulumi.yaml"));
    assert.deepEqual(Object.keys(template.config), ["aws:region", "clusterName", "userLogin"]);
    const shipped = parse(read("Pulumi.dev.yaml")).config;
    assert.deepEqual(Object.keys(shipped), Object.keys(template.config));
    assert.deepEqual(shipped, TEMPLATE_SETTINGS);
  });

  test("creates a project", async (t) => {
    const { cli } = await startEngine(t, { cluster: { name: "sample-cluster", hasOidcProvider: true } });
    const clone = await cloneOf(cli, await createRepository(cli));
    const bin = join(cli.directory, "bin");
    await mkdir(bin);
    const path = writePrograms(bin, { npm: `ln -s '${ROOT}/node_modules' .` });

    /** Creates a project as a user does, and returns its directory: the template is a clone, which contains what git keeps. */
    async function create(project: string, stack: string, ...flags: string[]): Promise<string> {
      const directory = join(cli.directory, project);
      await mkdir(directory);
      const command = ["pulumi", "--non-interactive", "new", clone, "--yes", "--stack", stack, ...flags];
      succeeded(await cli.run(directory, "env", `PATH=${path}`, ...command));
      return directory;
    }

    await t.test("with the default of a question without an answer", async () => {
      const directory = await create("other", "prod", "--name=other", "-c=organization=acme");
      assert.deepEqual(parse(readFileSync(join(directory, "Pulumi.prod.yaml"), "utf8")).config, {
        "aws:region": "us-west-2",
        "other:organization": "acme",
      });
    });

    await t.test(
      "with the answers below the README's prefix, and the sample entry below config:",
      async () => {
        const answers = { "aws:region": "eu-central-1", clusterName: "my-cluster", userLogin: "carol" };
        const flags = Object.entries(answers).map(([key, answer]) => `-c=${key}=${answer}`);
        const directory = await create("own", "dev", ...flags);
        const file = readFileSync(join(directory, "Pulumi.dev.yaml"), "utf8");
        const [, prefix] = /as in `([\w-]+):clusterName`/.exec(read("README.md")) ?? [];
        assert.deepEqual(parse(file).config, {
          "aws:region": "eu-central-1",
          [`${prefix}:clusterName`]: "my-cluster",
          [`${prefix}:userLogin`]: "carol",
        });
        // Editors find the schema in the copy.
        const [, schema = ""] = /^# yaml-language-server: \$schema=(.*)\n/.exec(file) ?? [];
        assert.deepEqual(readFileSync(join(directory, schema), "utf8"), read("settings/stack.schema.json"));
        // The CLI moves a comment at the end of the file out of config:.
        assert.match(file, /^config:\n(?: {2}#.*\n)* {2}# serviceAccounts:\n(?: {2}#.*\n)+ {2}aws:region:/m);
      },
    );

    await t.test("whose stack dev without answers is a sample, which each preview says", async () => {
      const directory = await create("sample", "dev", "--name=sample");
      const { stdout } = succeeded(await cli.run(directory, "npm", "start"));
      assert.match(
        stdout,
        /^Simulation of the sample stack: .*\n {2}Its settings are in simulator\/sample\.yaml\./m,
      );
      succeeded(await cli.pulumi(directory, "config", "set", "organization", "acme"));
      const { screen } = succeeded(await cli.pulumi(directory, "preview"));
      const rest = "clusterName (sample-cluster) and userLogin (sample-login)";
      assert.ok(screen.includes(`warning: Pulumi.dev.yaml still has the template's ${rest}.`), screen);
    });
  });
});
