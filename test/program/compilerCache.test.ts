// No way to run this project uses compiled code from the temporary directory, where another local user can leave some.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { parse } from "yaml";
import { ended } from "../support/childProcess";
import { ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const SDK = join(ROOT, "node_modules", "@pulumi", "pulumi");

/** Compiles a file as Pulumi's language host compiles a program. */
const COMPILE = `
  const { tsnodeRequire } = require("${SDK}/tsutils").typeScriptRequireStrings();
  require(tsnodeRequire).register({ transpileOnly: true });
  require("${ROOT}/settings/userError.ts");
`;

const TEST = 'require("node:test").test("does nothing", () => {});\n';

/** Every way to run this project, as a command and its directory. */
const WAYS: Record<string, string[]> = {
  "npm start": ["npm", "run", "--silent", "start", "--", "--help"],
  "npm test": ["npm", "run", "--silent", "test", "--", "TEST"],
  // A program that imports it loads the same file.
  "the component": ["node", join(SDK, "cmd", "run-plugin"), join(ROOT, "component")],
  "the stack": ["node", ...nodeArguments("Pulumi.yaml"), "--eval", COMPILE],
};

for (const [name, command] of Object.entries(WAYS)) {
  test(`${name} uses no compiled code from the temporary directory`, async (t) => {
    assert.deepEqual(await cachedBy(t, command), []);
  });
}

test("the stack stores compiled code in the directory that the environment names", async (t) => {
  const { "the stack": command = assert.fail() } = WAYS;
  const directory = temporaryDirectory(t);
  await screenOf(t, temporaryDirectory(t), command, { TS_NODE_CACHE_DIRECTORY: directory });
  assert.notDeepEqual(await readdir(directory), []);
});

/** Without protection: otherwise, the tests above would show nothing. */
const UNPROTECTED = {
  tsx: ["node", "--import", "tsx", "settings/userError.ts"],
  "ts-node": ["node", "--eval", COMPILE],
};

for (const [compiler, command] of Object.entries(UNPROTECTED)) {
  test(`${compiler} by itself stores compiled code in the temporary directory, which it then uses`, async (t) => {
    const cached = await cachedBy(t, command);
    assert.ok(
      cached.some((path) => path.includes(`/${compiler}-`)),
      String(cached),
    );
  });
}

/** Returns the arguments of Node.js in a project file. */
function nodeArguments(file: string): string[] {
  const { options } = parse(read(file)).runtime;
  return options?.nodeargs?.split(" ") ?? [];
}

/** Runs a command, and returns the files that a compiler has stored in the temporary directory: later, it would use them. */
async function cachedBy(t: TestContext, command: string[]): Promise<string[]> {
  const temporary = temporaryDirectory(t);
  const testFile = join(temporary, "empty.test.ts");
  await writeFile(testFile, TEST);
  const inserted = command.map((argument) => (argument === "TEST" ? testFile : argument));
  await screenOf(t, temporary, inserted);

  const entries = await readdir(temporary, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => /\/(tsx|ts-node)-/.test(path));
}

/** Runs a command, and returns what it has printed. */
async function screenOf(
  t: TestContext,
  temporary: string,
  command: string[],
  environment: Record<string, string> = {},
): Promise<string> {
  const [program = "", ...args] = command;
  const { PATH, HOME } = process.env;
  const child = spawn(program, args, {
    cwd: ROOT,
    env: {
      PATH,
      HOME,
      TMPDIR: temporary,
      PULUMI_NODEJS_TYPESCRIPT: "true",
      PULUMI_NODEJS_TRANSPILE_ONLY: "true",
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill());
  // A plugin prints its port, and waits for the engine.
  child.stdout.on("data", (data) => /^\d+\n$/.test(String(data)) && child.kill());
  const { stdout, stderr } = await ended(child);
  return stdout + stderr;
}
