// Compiled code that another local user has left in the temporary directory: no way to run this project executes it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { parse } from "yaml";

const ROOT = join(__dirname, "..");
const MARK = "executed code of another user";

const SDK = join(ROOT, "node_modules", "@pulumi", "pulumi");

/** Compiles a file as Pulumi's language host compiles a program. */
const COMPILE = `
  const { tsnodeRequire } = require("${SDK}/tsutils").typeScriptRequireStrings();
  require(tsnodeRequire).register({ transpileOnly: true });
  require("${ROOT}/userError.ts");
`;

const TEST = 'require("node:test").test("does nothing", () => {});\n';

const COMPONENT = ["node", "--eval", 'require("tsx/cjs"); require("./component/index.ts");'];

/** Without protection, these fill the cache of a compiler with all that the ways below compile. */
const UNPROTECTED: Record<string, string[]> = {
  tsx: ["node", "--import", "tsx", "simulator/start.ts", "--help"],
  "tsx in a test": ["node", "--import", "tsx", "test/run.ts", "TEST"],
  "tsx in the component": COMPONENT,
  "ts-node": ["node", "--eval", COMPILE],
};

const PIPELINE = join(ROOT, "pipeline");
const WAYS: Record<string, { command: string[]; directory?: string }> = {
  "npm start": { command: script("start", "--help") },
  "npm test": { command: script("test", "TEST") },
  "the component": { command: ["node", "--eval", 'require("./component");'] },
  "the component as a package": {
    command: ["node", join(SDK, "cmd", "run-plugin"), join(ROOT, "component")],
  },
  "the stack": { command: ["node", ...nodeArguments("Pulumi.yaml"), "--eval", COMPILE] },
  "the pipeline's program": {
    command: ["node", ...nodeArguments("pipeline/Pulumi.yaml"), "--eval", COMPILE],
    directory: PIPELINE,
  },
};

// What the other user has left there.
let shared: string;
before(async () => {
  shared = await mkdtemp(join(tmpdir(), "shared-"));
  await writeFile(join(shared, "empty.test.ts"), TEST);
  for (const command of Object.values(UNPROTECTED)) {
    const screen = await screenOf(shared, command, ROOT);
    assert.ok(!screen.includes(MARK));
  }
  assert.ok((await replaceCompiledCode(shared)) > 0, "the compilers have no cache there");
});
after(() => rm(shared, { recursive: true, maxRetries: 3 }));

for (const compiler of ["tsx", "ts-node"]) {
  test(`${compiler} executes compiled code from the temporary directory without protection`, async () => {
    const screen = await screenOf(shared, UNPROTECTED[compiler] ?? [], ROOT);
    assert.ok(screen.includes(MARK));
  });
}

for (const [name, { command, directory = ROOT }] of Object.entries(WAYS)) {
  test(`${name} executes no compiled code from the temporary directory`, async () => {
    const screen = await screenOf(shared, command, directory);
    assert.ok(!screen.includes(MARK));
  });
}

// TypeScript would otherwise reject the root that it infers: https://aka.ms/ts6 (TS5011).
test("Pulumi compiles the pipeline's program with the tsconfig.json that its project file names", async () => {
  const { tsconfig } = parse(readFileSync(join(ROOT, "pipeline", "Pulumi.yaml"), "utf8")).runtime.options;
  const program = `
    const { tsnodeRequire } = require("${SDK}/tsutils").typeScriptRequireStrings();
    require(tsnodeRequire).register({ project: "${tsconfig}", transpileOnly: true });
    require("./github.ts");
    console.log("compiled");
  `;
  const screen = await screenOf(shared, ["node", "--eval", program], PIPELINE);
  assert.equal(screen, "compiled\n");
});

/** Returns what `npm run` executes for a script of `package.json`. */
function script(name: string, argument: string): string[] {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  return [...scripts[name].split(" "), argument];
}

/** Returns the arguments of Node.js in a project file. */
function nodeArguments(file: string): string[] {
  const { options } = parse(readFileSync(join(ROOT, file), "utf8")).runtime;
  return options?.nodeargs?.split(" ") ?? [];
}

/** Replaces the compiled code in the directories of tsx and ts-node, and returns the number of files. */
async function replaceCompiledCode(temporary: string): Promise<number> {
  const entries = await readdir(temporary, { recursive: true, withFileTypes: true });
  const files = entries.filter(
    (entry) => entry.isFile() && /\/(tsx|ts-node)-/.test(join(entry.parentPath, "")),
  );
  for (const { parentPath, name } of files) {
    const file = join(parentPath, name);
    const content = await readFile(file, "utf8");
    const foreign = `console.error(${JSON.stringify(MARK)});`;
    // tsx stores the code as a string in JSON.
    const inserted = content.startsWith("{")
      ? JSON.stringify({ ...JSON.parse(content), code: foreign + JSON.parse(content).code })
      : `${foreign}${content}`;
    await writeFile(file, inserted);
  }
  return files.length;
}

/** Runs a command with a temporary directory, and returns what it has printed. */
async function screenOf(temporary: string, command: string[], cwd: string): Promise<string> {
  const [program = "", ...args] = command.map((word) =>
    word === "TEST" ? join(temporary, "empty.test.ts") : word,
  );
  const { PATH, HOME } = process.env;
  const child = spawn(program, args, {
    cwd,
    env: {
      PATH,
      HOME,
      TMPDIR: temporary,
      PULUMI_NODEJS_TYPESCRIPT: "true",
      PULUMI_NODEJS_TRANSPILE_ONLY: "true",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  // A plugin prints its port, and waits for the engine.
  child.stdout.on("data", (data) => /^\d+\n$/.test(String(data)) && child.kill());
  const closed = once(child, "close");
  const screen = (await Promise.all([text(child.stdout), text(child.stderr)])).join("");
  const [code, signal] = await closed;
  assert.ok(code === 0 || signal === "SIGTERM", screen);
  return screen;
}
