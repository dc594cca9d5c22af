// No way to run this project uses compiled code from the temporary directory, where another local user can leave some.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { ended } from "../support/programs";
import { ROOT, read } from "../support/project";
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

for (const [name, args] of Object.entries({
  "the stack": [...parse(read("Pulumi.yaml")).runtime.options.nodeargs.split(" "), "--eval", COMPILE],
  // A program that imports it loads the same file. A copy can lack it.
  ...(existsSync(COMPONENT) && { "the component": [join(SDK, "cmd", "run-plugin"), COMPONENT] }),
  // The engine gives a pack the environment of whoever runs it.
  ...(existsSync(POLICY) && {
    "the policy pack as a directory": [RUN_PACK, "127.0.0.1:1", POLICY],
    "the policy pack as an executable": [join(POLICY, "start.js"), "127.0.0.1:1"],
  }),
})) {
  test(`${name} stores no compiled code in the temporary directory, and so uses none`, async (t) => {
    const TMPDIR = temporaryDirectory(t);
    const { PATH, HOME } = process.env;
    const compiling = { PULUMI_NODEJS_TYPESCRIPT: "true", PULUMI_NODEJS_TRANSPILE_ONLY: "true" };
    const child = spawn(process.execPath, args, { cwd: ROOT, env: { PATH, HOME, TMPDIR, ...compiling } });
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
