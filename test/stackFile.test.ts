// The settings of a stack file arrive as from the engine. test/stackFileEngine.test.ts asks the engine.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parse } from "yaml";
import { findStack, readStackFile, SAMPLE, TEMPLATE_SETTINGS } from "../simulator/stackFile";
import { exampleOf } from "./examples";
import { SCALARS, UNQUOTED } from "./scalars";

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "stack-file-"));
  await writeFile(join(directory, "Pulumi.yaml"), "name: p\nruntime: nodejs\n");
});
after(() => rm(directory, { recursive: true }));

/** Returns the configuration of a stack file with these lines. */
async function settings(...lines: string[]): Promise<Record<string, string>> {
  await writeFile(join(directory, "Pulumi.dev.yaml"), ["config:", ...lines, ""].join("\n"));
  const stack = findStack(directory, "dev") ?? assert.fail();
  return readStackFile(directory, stack).config;
}

test("passes every scalar as the engine does", async () => {
  const given = await settings(...SCALARS.map(([scalar], index) => `  key${index}: ${scalar}`));
  const arrived = SCALARS.map(([scalar], index) => [scalar, given[`p:key${index}`]]);
  assert.deepEqual(arrived, SCALARS);
});

test("reads the scalars in lists and objects by the same rules, and passes JSON", async () => {
  const given = await settings(
    "  list: [0777, '0777', 1_000, yes, ~, 1.50, .5]",
    '  object: {010: 010, quoted: "010", text: 1:30}',
    "  shared: &shared {a: 1}",
    "  merged: {<<: *shared, b: 0b11}",
    "  aws:assumeRoles: [{roleArn: 08}]",
  );
  assert.deepEqual(given, {
    "p:list": '[511,"0777",1000,"yes",null,1.5,0.5]',
    "p:object": '{"8":8,"quoted":"010","text":"1:30"}',
    "p:shared": '{"a":1}',
    "p:merged": '{"a":1,"b":3}',
    "aws:assumeRoles": '[{"roleArn":8}]',
  });
});

test("asks for quotes around what the engine would pass otherwise, with the line", async () => {
  for (const [scalar] of UNQUOTED) {
    const message = (prefix: string) =>
      RegExp(`^Error: Failed to read Pulumi\\.dev\\.yaml: line ${prefix}: .*Quote it`);
    await assert.rejects(settings(`  key: ${scalar}`), message("2"), scalar);
    await assert.rejects(settings("  list:", `    - ${scalar}`), message("3"), scalar);
    assert.deepEqual(await settings(`  key: "${scalar}"`), { "p:key": scalar });
  }
});

test("reports an encrypted setting of the project, also inside a list, without a command that replaces the list", async () => {
  const message =
    "serviceAccounts contains an encrypted value in Pulumi.dev.yaml, which the simulation cannot read. Settings are not secret: write the value in plaintext.";
  await assert.rejects(settings("  serviceAccounts: [{name: a, teamName: {secure: AAA}}]"), { message });
  await assert.rejects(
    settings("  p:issuerName: {secure: AAA}"),
    /^Error: p:issuerName contains .* Settings/,
  );
});

test("reports an encrypted setting of the AWS provider, and ignores those of other providers", async () => {
  for (const key of ["region", "secretKey", "assumeRoles"]) {
    const message = `aws:${key} contains an encrypted value in Pulumi.dev.yaml, which the simulation cannot read. Write it in plaintext, or use aws:profile instead of credentials.`;
    await assert.rejects(settings(`  aws:${key}: {secure: AAA}`), { message });
  }
  assert.deepEqual(await settings("  kubernetes:kubeconfig: {secure: AAA}"), {});
});

for (const [what, line] of [
  ["a key twice", "  a: 1\n  a: 2"],
  ["a tag that is not known", "  a: !mine 1"],
  ["a tag that changes a list", "  a: !!omap [b: 1]"],
  ["a tag that changes an object", "  a: !!set {b}"],
  ["a list that does not end", "  a: [1"],
] as const) {
  test(`rejects ${what}`, async () => {
    await assert.rejects(settings(line), /Failed to read Pulumi\.dev\.yaml: line \d: /);
  });
}

test("without --stack, finds the only stack, no stack, or asks which one", async (t) => {
  const project = await mkdtemp(join(tmpdir(), "stacks-"));
  t.after(() => rm(project, { recursive: true }));
  const find = (name?: string) => findStack(project, name)?.name;
  assert.equal(find(), undefined);
  assert.throws(
    () => find("prod"),
    /Pulumi\.prod\.yaml does not exist\. To add it: pulumi config set KEY VALUE$/,
  );

  await writeFile(join(project, "Pulumi.prod.yaml"), "");
  assert.deepEqual([find(), find("prod")], ["prod", "prod"]);
  await writeFile(join(project, "Pulumi.dev.yaml"), "");
  const list = "Stacks in this directory: dev, prod. To choose one: npm start -- --stack NAME";
  assert.throws(() => find(), { message: `This project has several stacks. ${list}` });
  assert.throws(() => find("staging"), { message: `Pulumi.staging.yaml does not exist. ${list}` });
  assert.equal(find("dev"), "dev");
});

test("without --stack, passes over a Pulumi.dev.yaml that has the settings of the template only", async (t) => {
  const project = await mkdtemp(join(tmpdir(), "stacks-"));
  t.after(() => rm(project, { recursive: true }));
  await writeFile(join(project, "Pulumi.yaml"), "name: p\nruntime: nodejs\n");
  const write = (stack: string, config: object) =>
    writeFile(join(project, `Pulumi.${stack}.yaml`), JSON.stringify({ config }));
  const find = (name?: string) => findStack(project, name)?.name;

  await write("dev", TEMPLATE_SETTINGS);
  assert.deepEqual([find(), find("dev")], [undefined, "dev"]);
  // `pulumi new` writes the name of the project in front of the keys, and keeps what has no answer.
  const { clusterName, userLogin, ...aws } = TEMPLATE_SETTINGS;
  await write("dev", { ...aws, "p:clusterName": clusterName, "p:userLogin": userLogin });
  assert.equal(find(), undefined);
  await write("prod", {});
  assert.equal(find(), "prod");
  await rm(join(project, "Pulumi.prod.yaml"));

  for (const changed of [
    { clusterName: "own" },
    { organization: "acme" },
    { "aws:region": { secure: "A" } },
  ]) {
    await write("dev", { ...TEMPLATE_SETTINGS, ...changed });
    assert.equal(find(), "dev", JSON.stringify(changed));
  }
  await write("dev", TEMPLATE_SETTINGS);
  await writeFile(join(project, "Pulumi.staging.yaml"), "");
  assert.equal(find(), "staging");
  await writeFile(join(project, "Pulumi.prod.yaml"), "");
  assert.throws(() => find(), /several stacks\. Stacks in this directory: dev, prod, staging\./);
});

test("the sample has two teams, an organization token, and roles, and is not a stack of a copy", async () => {
  const { config } = parse(await readFile(SAMPLE.file, "utf8"));
  const accounts: Record<string, unknown>[] = config.serviceAccounts;
  assert.deepEqual(
    accounts.map(({ tokenType, teamName }) => teamName ?? tokenType),
    ["team-a", "apps", "organization"],
  );
  assert.deepEqual(
    accounts.map(({ awsRole, rolePolicyArns }) => Boolean(rolePolicyArns) || awsRole),
    [true, true, "none"],
  );
  assert.doesNotMatch(SAMPLE.file, /Pulumi\.[^/]+\.yaml$/);
});

test("the sample's first entry is that of the Pulumi Kubernetes Operator's manifest", async () => {
  const { config } = parse(await readFile(SAMPLE.file, "utf8"));
  assert.deepEqual(config.serviceAccounts[0], exampleOf("pulumi-operator.yaml").entry);
});
