// No way to run this project uses compiled code from the temporary directory, where another local user can leave some.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { ended } from "../support/programs";
import { filesWith, ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const SDK = join(ROOT, "node_modules", "@pulumi", "pulumi");

/** Compiles a file as Pulumi's language host compiles a program. */
const COMPILE = `
  const { tsnodeRequire } = require("${SDK}/tsutils").typeScriptRequireStrings();
  require(tsnodeRequire).register({ transpileOnly: true });
  require("${ROOT}/settings/userError.ts");
`;

const [COMPONENT, POLICY] = [join(ROOT, "component"), join(ROOT, "policy")];
const RUN_PACK = join(SDK, "cmd", "run-policy-pack");

interface Program {
  directory: string;
  /** Of Node.js, with which Pulumi starts it. */
  args: string[];
  how?: string;
}

/** All programs that Pulumi compiles. */
const PROGRAMS = filesWith(/(^|\/)Pulumi\.yaml$/).flatMap((file): Program[] => {
  const { runtime } = parse(read(file));
  if ((runtime.name ?? runtime) !== "nodejs") return [];
  // The old language host of .ci/pulumi-cli would ignore them.
  const nodeargs: string = runtime.options?.nodeargs ?? "";
  const args = [...nodeargs.split(" ").filter(Boolean), "--eval", COMPILE];
  return [{ directory: dirname(file), args }];
});
// A program that imports it loads the same file. A copy can lack it.
if (existsSync(COMPONENT)) {
  PROGRAMS.push({ directory: "component", args: [join(SDK, "cmd", "run-plugin"), COMPONENT] });
}
// The engine gives a pack the environment of the user.
if (existsSync(POLICY)) {
  PROGRAMS.push({ directory: "policy", args: [RUN_PACK, "127.0.0.1:1", POLICY] });
  PROGRAMS.push({
    directory: "policy",
    args: [join(POLICY, "start.js"), "127.0.0.1:1"],
    how: ", as an executable,",
  });
}

for (const { directory, args, how = "" } of PROGRAMS) {
  test(`the program in ${directory}${how} stores no compiled code in the temporary directory, and so uses none`, async (t) => {
    const TMPDIR = temporaryDirectory(t);
    const { PATH, HOME } = process.env;
    const compiling = { PULUMI_NODEJS_TYPESCRIPT: "true", PULUMI_NODEJS_TRANSPILE_ONLY: "true" };
    const env = { PATH, HOME, TMPDIR, ...compiling };
    const child = spawn(process.execPath, args, { cwd: join(ROOT, directory), env });
    t.after(() => child.kill());
    // A plugin prints its port, and waits for the engine.
    child.stdout.on("data", (data) => /^\d+\n$/.test(String(data)) && child.kill());
    const { stderr } = await ended(child);
    assert.equal(stderr, "");
    const entries = await readdir(TMPDIR, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    assert.deepEqual(files, []);
  });
}
